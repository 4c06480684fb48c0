//! A replica takes in the state of another one: all that the other knows to be chosen, at once.
//!
//! In a schedule it may happen to whom and when it likes. What must hold does not depend on why:
//! the state is durable before the core hears of it, whatever becomes of the records.

use crate::paxos::step::{Input, Installed};
use crate::types::ids::{Chain, ReplicaId, Slot};
use crate::types::record::Record;

use super::cores::Cores;

impl Cores {
    /// The replica goes on behind what `from` knows to be chosen, if that is more, and it is up.
    /// Returns whether.
    pub fn install(&mut self, id: ReplicaId, from: ReplicaId) -> bool {
        let state = self.replica(from).chosen.clone();
        let known = self.replica(id).chosen.len();
        if self.replica(id).core.is_none() || state.len() <= known {
            return false;
        }
        for (at, entry) in state.iter().enumerate().skip(known) {
            self.checks.on_learned(id, at, Slot(at as u64), entry);
        }
        // It has them durably, whatever it lost of them.
        for (slot, entry) in (0..).map(Slot).zip(&state) {
            self.checks.on_durable(id, &Record::Chosen { slot, entry: entry.clone() });
        }
        let slot = Slot(state.len() as u64);
        let chain = state.iter().fold(Chain::EMPTY, |chain, entry| chain.extend(entry.hash()));
        self.tell(|cores| format!("{} installs chosen<{slot} of {from}", cores.name(id)));
        let replica = self.replica_mut(id);
        replica.journal.install(state.clone());
        replica.chosen = state;
        let membership = self.membership_of(id);
        self.step(id, Input::Install(Installed { slot, chain, membership }));
        true
    }

    /// The core of the replica is told of what `from` knows to be chosen, though that is no more
    /// than it knows itself, as by an owner that does not look. Returns whether it is so, and both
    /// are up.
    pub fn install_older(&mut self, id: ReplicaId, from: ReplicaId) -> bool {
        let state = &self.replica(from).chosen;
        let (slot, known) = (state.len(), self.replica(id).chosen.len());
        if self.replica(id).core.is_none() || slot == 0 || known < slot {
            return false;
        }
        let chain = state.iter().fold(Chain::EMPTY, |chain, entry| chain.extend(entry.hash()));
        let (slot, membership) = (Slot(slot as u64), self.membership_of(from));
        self.tell(|cores| format!("{} is told of chosen<{slot} of {from}", cores.name(id)));
        self.step(id, Input::Install(Installed { slot, chain, membership }));
        true
    }
}
