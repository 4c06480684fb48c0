//! What of the journal's front may go, and what becomes of who asks for it.
//!
//! A slot may be trimmed when nobody needs its entry any more:
//!
//! * two checkpoints here hold what it did, so that one of them may be damaged;
//! * no checkpoint that reaches less far is being sent to a peer, which will want to go on there;
//!   unless there is no space for the next segment;
//! * what is left of the journal has as many bytes as are to be kept for those who read the ledger.
//!
//! A member that lags further behind, or is away, holds up nobody: it gets a checkpoint
//! (`sending`).
//!
//! Before segments go, what else stands in them is said again: what is in doubt, and what was seen
//! of the peers.
//!
//! Invariants:
//! * Who asks for what is trimmed is told so; no slot is ever given out as one without an entry.
//!
//! Not here: the segments (`journal/segments.rs`).

use std::collections::BTreeMap;
use std::time::Duration;

use crate::journal::disk::Disk;
use crate::paxos::Paxos;
use crate::types::bugs::{self, Bug};
use crate::types::error::Result;
use crate::types::ids::{ReplicaId, Slot};
use crate::types::marks::reached;
use crate::types::message::{Envelope, Message};
use crate::types::record::Record;
use crate::types::time::Moment;

use super::driver::Driver;

/// How long to wait before something is removed again, where there was no space to write down that
/// it is.
const RETRY: Duration = Duration::from_secs(1);

/// What the peers trimmed.
#[derive(Debug, Default)]
pub(super) struct Trimming {
    /// Of each peer that said so: it has nothing below.
    trimmed: BTreeMap<ReplicaId, Slot>,
    /// There was no space to remove anything; when to try again.
    retry_at: Option<Moment>,
}

impl Trimming {
    pub(super) fn wake_at(&self) -> Option<Moment> {
        self.retry_at
    }

    /// A peer that has nothing below a slot which is wanted here, and that slot.
    fn trimmed_beyond(&self, wanted: Slot) -> Option<(ReplicaId, Slot)> {
        let mut beyond = self.trimmed.iter().filter(|(_, first)| wanted < **first);
        beyond.next().map(|(peer, first)| (*peer, *first))
    }
}

impl<D: Disk> Driver<D> {
    /// Every slot below was trimmed here.
    pub(super) fn slot_trimmed(&self) -> Slot {
        self.journal.slot_trimmed()
    }

    /// Removes what nobody needs any more.
    pub(super) fn trim_if_due(&mut self) -> Result<()> {
        if self.journal.take_trim_given_up() {
            reached!(TrimGivenUp);
            self.trimming.retry_at = Some(self.now + RETRY);
        }
        self.trimming.retry_at.take_if(|at| *at <= self.now);
        let older = self.journal.checkpoints().get(1).map(|older| older.header().slot);
        let (Some(mut limit), Some(_)) = (older, &self.paxos) else { return Ok(()) };
        if bugs::is_on(Bug::TrimBeyondCheckpoint) {
            limit = self.store.applied().slot;
        }
        // Where the disk is full, whoever goes on behind a checkpoint begins anew: what is kept for
        // it takes the space, and who crawls never comes to the end of that.
        let needed = self.sending.first().filter(|_| !self.journal.lacks_space());
        let limit = needed.map_or(limit, |needed| needed.min(limit));
        // What is read of the ledger for an image must stay until it is read.
        if self.journal.is_taking_checkpoint() || self.trimming.retry_at.is_some() {
            return Ok(());
        }
        // Segments that go all at once, or not at all, may be more than there is space for besides.
        let is_finite = self.options.history_bytes_min < u64::MAX;
        let is_in_need = self.journal.lacks_space() && self.journal.holds_damage() && is_finite;
        let bytes_min = if is_in_need { 0 } else { self.options.history_bytes_min };
        if self.journal.can_trim(limit, bytes_min) && !self.space.is_short() {
            self.say_again()?;
            self.journal.trim(limit, bytes_min);
        }
        let first = self.slot_trimmed();
        if self.store.ledger_first() < first {
            self.store.trim_ledger(first);
            self.give_up_missing(first);
        }
        Ok(())
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
            let lsn = self.journal.append_lazy(&records)?;
            self.fence.bind(lsn);
            self.appended_at = self.now;
            self.fence.recorded(self.journal.last_lsn(), self.now);
        }
        Ok(())
    }

    /// A peer that has trimmed what this replica would have to take in next, and up to where.
    pub(super) fn cut_off(&self) -> Option<(ReplicaId, Slot)> {
        self.trimming.trimmed_beyond(self.first_lacking()?)
    }

    /// What every slot below did is in a checkpoint here, and in the state in memory.
    pub(super) fn slot_whole(&self) -> Slot {
        self.slot_checkpointed().min(self.store.applied().slot)
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
        let others = self.others();
        let trimmed = &mut self.trimming.trimmed;
        trimmed.retain(|id, _| others.contains(id));
        if others.contains(&from) {
            let known = trimmed.entry(from).or_default();
            *known = first.max(*known);
        }
        let has = |id: &ReplicaId| self.trimming.trimmed.get(id).copied().unwrap_or_default();
        if let Some(gone) = others.iter().map(has).min() {
            // A checkpoint that a peer sent may have its name already, and not be taken in yet.
            self.give_up_missing(gone.min(self.slot_whole()));
        }
        self.receive_if_cut_off(from, first);
    }
}
