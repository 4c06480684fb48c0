//! The votes of this replica in the slots that it does not know to be chosen.
//!
//! ```text
//!        first = slot_chosen                       end
//!          |                                        |
//!   chosen | vote 3.1 | vote 3.1 |  none  | vote 2.2 |
//!   (gone) |   "a"    |   "b"    |        |   "d"    |
//! ```
//!
//! A slot leaves when it is learned to be chosen; from then on the journal alone has its entry.
//!
//! Invariants:
//! * `first` equals the learner's `slot_chosen`.
//! * In one slot, ballots only rise, and one ballot has one entry (Voting.tla: OneVote).

use std::collections::VecDeque;

use crate::types::entry::Entry;
use crate::types::ids::{Ballot, Slot};

/// The newest vote for each slot from `first` on.
#[derive(Clone, Debug, Default, Hash)]
pub struct Log {
    first: Slot,
    places: VecDeque<Option<(Ballot, Entry)>>,
}

impl Log {
    /// A log without votes.
    #[must_use]
    pub fn new(first: Slot) -> Self {
        Self { first, places: VecDeque::new() }
    }

    /// The first slot behind the last vote.
    #[must_use]
    pub fn end(&self) -> Slot {
        self.first.plus(self.places.len() as u64)
    }

    /// The newest vote in `slot`.
    #[must_use]
    pub fn vote(&self, slot: Slot) -> Option<&(Ballot, Entry)> {
        if slot < self.first {
            return None;
        }
        self.places.get(self.first.count_to(slot) as usize)?.as_ref()
    }

    /// The last vote, and its slot.
    #[must_use]
    pub fn last(&self) -> Option<(Slot, &(Ballot, Entry))> {
        let vote = self.places.back()?.as_ref()?;
        Some((self.first.plus(self.places.len() as u64 - 1), vote))
    }

    /// The votes from `slot` on, in order of slots.
    pub fn votes_from(&self, slot: Slot) -> impl Iterator<Item = (Slot, &(Ballot, Entry))> {
        let skip = self.first.count_to(slot) as usize;
        let places = self.places.iter().enumerate().skip(skip);
        places.filter_map(|(index, vote)| Some((self.first.plus(index as u64), vote.as_ref()?)))
    }

    /// Notes a vote. The caller bounds how far `slot` lies ahead.
    ///
    /// # Panics
    ///
    /// Where the slot is known to be chosen, or the vote contradicts an earlier one.
    pub fn set_vote(&mut self, slot: Slot, ballot: Ballot, entry: Entry) {
        assert!(slot >= self.first, "vote in slot {slot}, which is chosen below {}", self.first);
        let index = self.first.count_to(slot) as usize;
        if index >= self.places.len() {
            self.places.resize(index + 1, None);
        }
        if let Some((earlier, voted)) = &self.places[index] {
            assert!(*earlier <= ballot, "vote regression in slot {slot}: {earlier} -> {ballot}");
            assert!(*earlier < ballot || *voted == entry, "two votes in slot {slot} at {ballot}");
        }
        self.places[index] = Some((ballot, entry));
    }

    /// Forgets the slots below `slot`, which were learned to be chosen.
    pub fn forget_below(&mut self, slot: Slot) {
        let count = usize::try_from(self.first.count_to(slot)).unwrap_or(usize::MAX);
        self.places.drain(..count.min(self.places.len()));
        self.first = slot;
    }

    /// Forgets the first slot, which was learned to be chosen; returns the vote in it.
    pub fn pop_first(&mut self) -> Option<(Ballot, Entry)> {
        self.first = self.first.next();
        self.places.pop_front().flatten()
    }
}
