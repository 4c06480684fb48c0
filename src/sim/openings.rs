//! How replicas stop, what happens to their journals meanwhile, and how they come back.
//!
//! A replica that lost entries of which it knows that they are chosen does not come back before it
//! has them again from others, as with the real driver. It gives away what it has meanwhile.

use crate::paxos::Paxos;
use crate::paxos::step::{Input, RoleName};
use crate::types::ids::{ReplicaId, Slot};
use crate::types::record::{Doubts, Record};

use super::cores::Cores;
use super::journal::Damage;
use super::lines;

impl Cores {
    /// The replica stops: what is volatile is lost.
    pub fn crash(&mut self, id: ReplicaId) {
        self.stop(id, false);
    }

    /// The replica's machine loses power: of what is volatile pieces are left.
    pub fn cut_power(&mut self, id: ReplicaId) {
        self.stop(id, true);
    }

    fn stop(&mut self, id: ReplicaId, torn: bool) {
        self.tell(|cores| {
            format!("{} {}", cores.name(id), if torn { "loses power" } else { "crashes" })
        });
        let replica = self.replica_mut(id);
        replica.core = None;
        replica.journal.crash(torn);
        replica.held.clear();
        replica.serves.clear();
        replica.chosen.clear();
        replica.repairing = None;
        replica.wake_at = None;
        // As in the real driver, the next opening counts from the beginning.
        replica.reads = 0;
        self.checks.on_crash(id);
    }

    /// The slots of which `damage` would lose a durable record of the replica.
    #[must_use]
    pub fn endangered(&self, id: ReplicaId, damage: Damage) -> Vec<Slot> {
        self.replica(id).journal.endangered(damage)
    }

    /// The journal of the replica, which is down, is damaged.
    ///
    /// # Panics
    ///
    /// Where the replica is up.
    pub fn damage(&mut self, id: ReplicaId, damage: Damage) {
        assert!(self.replica(id).core.is_none(), "replica {id} is up");
        for slot in self.endangered(id, damage) {
            self.checks.on_lost(id, slot);
        }
        self.replica_mut(id).journal.damage(damage);
        self.tell(|_| format!("{id} loses {}", lines::damage(damage)));
    }

    /// The replica comes back with what is left, in a new opening.
    pub fn restart(&mut self, id: ReplicaId) {
        if self.replica(id).core.is_some() {
            return;
        }
        let first = self.first.clone();
        let (recovered, chosen) = self.replica_mut(id).journal.recover(first);
        let missing = recovered.missing.clone();
        if !missing.is_empty() {
            self.replica_mut(id).repairing = Some(chosen);
            let slots = missing.ranges().iter().flat_map(|range| range.first.0..range.end.0);
            if self.repair(id, slots.map(Slot).collect()) {
                self.restart(id);
            }
            return;
        }
        let now = self.now;
        let replica = self.replica_mut(id);
        replica.repairing = None;
        replica.openings += 1;
        replica.chosen = chosen.into_values().collect();
        replica.role = Some(RoleName::Follower);
        let openings = replica.openings;
        let told = (recovered.promised, recovered.slot_chosen, recovered.votes.len());
        let doubts = recovered.doubts.clone();
        let core = Paxos::new(self.options(id, openings), recovered, now);
        self.replica_mut(id).core = Some(core);
        if openings > 1 {
            let (promised, chosen, votes) = told;
            let doubts = lines::doubts(&doubts);
            self.tell(|_| {
                format!("{id} restarts promised={promised} chosen<{chosen} votes={votes}{doubts}")
            });
        }
        self.step(id, Input::Tick);
    }

    /// Journals the entries of `missing` that others know to be chosen. Returns whether all.
    fn repair(&mut self, id: ReplicaId, missing: Vec<Slot>) -> bool {
        let mut all = true;
        for slot in missing {
            let found = self.replicas.values().find_map(|other| {
                let learned = other.chosen.get(slot.0 as usize);
                learned.or_else(|| other.repairing.as_ref()?.get(&slot)).cloned()
            });
            let Some(entry) = found else {
                self.tell(|_| format!("{id} waits for slot={slot}"));
                all = false;
                continue;
            };
            self.tell(|_| format!("{id} repairs slot={slot} {}", lines::entry(&entry)));
            let record = Record::Chosen { slot, entry };
            self.checks.on_durable(id, &record);
            let journal = &mut self.replica_mut(id).journal;
            journal.append(vec![record], slot.next(), false);
            journal.sync(usize::MAX);
        }
        all
    }

    /// What the replica cannot tell of itself; `None` while it is down.
    #[must_use]
    pub fn doubts(&self, id: ReplicaId) -> Option<&Doubts> {
        self.replica(id).core.as_ref().map(Paxos::doubts)
    }
}
