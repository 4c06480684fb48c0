//! What of the journal's front may go, and what becomes of who asks for it.
//!
//! A slot may be trimmed when nobody needs its entry any more:
//!
//! * two checkpoints here hold what it did, so that one of them may be damaged;
//! * every other member has said the same of itself, in its heartbeats: it will not ask for it;
//! * what is left of the journal has as many bytes as are to be kept for those who read the ledger.
//!
//! So nobody is cut off from what it lacks. The price: a member that is away for long, or takes no
//! checkpoints, holds all others back, and their journals grow. There is no other way for it to get
//! what it lacks than slot by slot, so this is as it must be; who it is, [`Report`] tells.
//!
//! Before segments go, what else stands in them is said again: what is in doubt, and what was seen
//! of the peers.
//!
//! Invariants:
//! * What a replica said of itself holds for good: a lower number that comes later is an old one.
//! * Who asks for what is trimmed is told so; no slot is ever given out as one without an entry.
//!
//! Not here: the segments (`journal/segments.rs`).
//!
//! [`Report`]: super::report::Report

use std::collections::BTreeMap;

use crate::journal::disk::Disk;
use crate::paxos::Paxos;
use crate::types::bugs::{self, Bug};
use crate::types::error::Result;
use crate::types::ids::{ReplicaId, Slot};
use crate::types::marks::reached;
use crate::types::message::{Envelope, Message};
use crate::types::record::Record;

use super::driver::Driver;

/// What is known of who needs which slots.
#[derive(Debug, Default)]
pub(super) struct Trimming {
    /// Of each peer that said so: it has nothing below.
    trimmed: BTreeMap<ReplicaId, Slot>,
}

impl Trimming {
    /// A peer that has nothing below a slot which is wanted here, and that slot.
    pub(super) fn is_cut_off(&self, wanted: Slot) -> Option<(ReplicaId, Slot)> {
        let mut beyond = self.trimmed.iter().filter(|(_, first)| wanted < **first);
        beyond.next().map(|(peer, first)| (*peer, *first))
    }
}

impl<D: Disk> Driver<D> {
    /// Every slot below was trimmed here.
    pub(super) fn slot_trimmed(&self) -> Slot {
        self.journal.slot_trimmed()
    }

    /// Tells the others what is not needed here any more, and removes what nobody needs.
    pub(super) fn trim_if_due(&mut self) -> Result<()> {
        let older = self.journal.checkpoints().get(1).map(|older| older.header().slot);
        let (Some(mut limit), Some(paxos)) = (older, &mut self.paxos) else { return Ok(()) };
        paxos.note_kept(limit);
        if bugs::is_on(Bug::TrimBeyondCheckpoint) {
            limit = self.store.applied().slot;
        }
        let others = self.last_to_keep().map(|(_, slot)| slot);
        let others = others.filter(|_| !bugs::is_on(Bug::TrimUnheard));
        let limit = others.map_or(limit, |others| others.min(limit));
        // What is read of the ledger for an image must stay until it is read.
        if self.journal.is_taking_checkpoint() {
            return Ok(());
        }
        let bytes_min = self.options.history_bytes_min;
        if self.journal.can_trim(limit, bytes_min) && !self.space.is_short() {
            self.say_again()?;
            self.journal.trim(limit, bytes_min);
        }
        let first = self.slot_trimmed();
        if self.store.ledger_first() < first {
            self.store.trim_ledger(first);
        }
        Ok(())
    }

    /// The member that has least in two checkpoints, as heard from here, and below which slot.
    fn last_to_keep(&self) -> Option<(ReplicaId, Slot)> {
        let paxos = self.paxos.as_ref()?;
        let peers = paxos.peers().into_iter().map(|peer| (peer, paxos.peer_kept(peer)));
        peers.min_by_key(|(_, slot)| *slot)
    }

    /// The member that keeps the journal's front from being removed here, if one does.
    pub(super) fn trimming_held_by(&self) -> Option<ReplicaId> {
        let own = self.journal.checkpoints().get(1)?.header().slot;
        let (peer, slot) = self.last_to_keep()?;
        let bytes_min = self.options.history_bytes_min;
        let holds =
            self.journal.can_trim(own, bytes_min) && !self.journal.can_trim(slot, bytes_min);
        holds.then_some(peer)
    }

    /// What only old frames may tell is written once more.
    fn say_again(&mut self) -> Result<()> {
        let mut records = Vec::new();
        let doubts = self.paxos.as_ref().map(Paxos::doubts).filter(|doubts| !doubts.is_empty());
        records.extend(doubts.cloned().map(Record::Doubts));
        let sightings = self.fence.sightings();
        if !sightings.is_empty() {
            records.push(Record::Sightings(sightings));
        }
        if !records.is_empty() {
            self.journal.append_lazy(&records)?;
            self.appended_at = self.now;
            self.fence.recorded(self.journal.last_lsn(), self.now);
        }
        Ok(())
    }

    /// A peer that has trimmed what this replica would have to take in next, and up to where.
    pub(super) fn cut_off(&self) -> Option<(ReplicaId, Slot)> {
        let known = self.view().map(|view| view.slot_chosen);
        let wanted = self.repair.first().or(known)?;
        self.trimming.is_cut_off(wanted)
    }

    /// A peer wants what is trimmed here.
    pub(super) fn tell_trimmed(&mut self, to: ReplicaId) {
        reached!(TrimmedTold);
        let message = Message::Trimmed { first: self.slot_trimmed() };
        self.effects.sends.push(Envelope { to, message });
    }

    /// A peer has not what this replica wants. What none of them has, is not waited for, where the
    /// state is whole without it.
    pub(super) fn on_trimmed(&mut self, from: ReplicaId, first: Slot) {
        let known = self.trimming.trimmed.entry(from).or_default();
        *known = first.max(*known);
        let has = |id: ReplicaId| self.trimming.trimmed.get(&id).copied().unwrap_or_default();
        if let Some(gone) = self.others().into_iter().map(has).min() {
            self.repair.give_up(gone.min(self.slot_checkpointed()));
        }
    }
}
