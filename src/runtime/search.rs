//! Whom to ask next for which of the entries that are missing.
//!
//! The peers are asked one after the other, in a circle. In one round all of them are asked for
//! what is missing first, since that is needed first; in the other for what is missing further on,
//! one slot each time, since nobody may have the first.
//!
//! Invariants:
//! * A search is at its end only when every peer was asked for every slot that is missing.
//!
//! Not here: what is missing, and what becomes of the answers (`repair.rs`).

use crate::types::ids::{ReplicaId, Slot};
use crate::types::slots::SlotSet;
use crate::types::time::Moment;

/// How far a search has come.
#[derive(Debug)]
pub(super) struct Search {
    /// Who was asked last.
    asked: ReplicaId,
    /// Whether this is a round for what is missing first.
    asks_for_first: bool,
    /// What the other rounds ask for, or what is missing next behind it; `None` before the first
    /// one since the search began.
    further: Option<Slot>,
    /// When the search began.
    begun_at: Moment,
    /// Whether every peer was asked for everything since.
    is_at_end: bool,
}

impl Search {
    pub(super) fn new(now: Moment) -> Self {
        Self {
            asked: ReplicaId::default(),
            asks_for_first: true,
            further: None,
            begun_at: now,
            is_at_end: false,
        }
    }

    /// Something came, or something else is missed: all of it is asked for once more.
    pub(super) fn begin_anew(&mut self, now: Moment) {
        (self.begun_at, self.is_at_end, self.further) = (now, false, None);
    }

    /// When the search began that is at its end; `None` while somebody is still to be asked.
    pub(super) fn in_vain_since(&self) -> Option<Moment> {
        self.is_at_end.then_some(self.begun_at)
    }

    /// Whom to ask now, and for what; `None` without peers, or where nothing is missing. The
    /// `peers` are in ascending order.
    pub(super) fn next(
        &mut self,
        peers: &[ReplicaId],
        missing: &SlotSet,
    ) -> Option<(ReplicaId, Slot)> {
        let first = missing.first()?;
        let behind = peers.iter().find(|id| self.asked < **id);
        let peer = behind.or(peers.first()).copied()?;
        self.asked = peer;
        if behind.is_none() {
            self.begin_round(missing, first);
        }
        let further = missing.first_from(self.further.unwrap_or_default());
        let slot = further.filter(|_| !self.asks_for_first).unwrap_or(first);
        Some((peer, slot))
    }

    fn begin_round(&mut self, missing: &SlotSet, first: Slot) {
        self.asks_for_first = !self.asks_for_first;
        if !self.asks_for_first {
            let further = missing.first_from(self.further.map_or(Slot::ZERO, Slot::next));
            self.is_at_end |= further.is_none();
            self.further = further.or(Some(first));
        }
    }

    /// Who gave something is asked for more, out of turn; the circle goes on behind.
    pub(super) fn note_asked(&mut self, peer: ReplicaId) {
        self.asked = peer;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::types::ids::SlotRange;

    fn peers(count: u64) -> Vec<ReplicaId> {
        (1..=count).map(ReplicaId).collect()
    }

    fn set(slots: &BTreeSet<u64>) -> SlotSet {
        let mut set = SlotSet::default();
        for slot in slots {
            set.insert(SlotRange { first: Slot(*slot), end: Slot(slot + 1) });
        }
        set
    }

    /// What happens between two questions.
    #[derive(Clone, Debug)]
    enum Event {
        Ask,
        /// What is missing first came from a peer, which is asked for more.
        Came(u64),
        /// Nobody needs what is below.
        GivenUp(u64),
        /// It is missing, too.
        Missed(u64),
    }

    fn event() -> impl Strategy<Value = Event> {
        prop_oneof![
            40 => Just(Event::Ask),
            1 => (1..=4u64).prop_map(Event::Came),
            1 => (0..12u64).prop_map(Event::GivenUp),
            1 => (0..12u64).prop_map(Event::Missed),
        ]
    }

    proptest! {
        #[test]
        fn a_search_ends_when_everyone_was_asked_for_everything(
            count in 1..=4u64,
            mut missing in proptest::collection::btree_set(0..12u64, 1..6),
            events in proptest::collection::vec(event(), 1..300),
        ) {
            let peers = peers(count);
            let mut search = Search::new(Moment::default());
            let mut asked = BTreeSet::new();
            for event in events {
                match event {
                    Event::Ask => {
                        let next = search.next(&peers, &set(&missing));
                        prop_assert_eq!(next.is_some(), !missing.is_empty());
                        if let Some((peer, slot)) = next {
                            prop_assert!(missing.contains(&slot.0), "asked for {slot}");
                            asked.insert((peer, slot.0));
                        }
                    }
                    Event::Came(peer) => {
                        if missing.pop_first().is_some() {
                            search.begin_anew(Moment::default());
                            search.note_asked(peers[(peer % count) as usize]);
                            asked.clear();
                        }
                    }
                    Event::GivenUp(below) => missing.retain(|slot| below <= *slot),
                    Event::Missed(slot) => {
                        if missing.insert(slot) {
                            search.begin_anew(Moment::default());
                            asked.clear();
                        }
                    }
                }
                if search.in_vain_since().is_some() {
                    for slot in &missing {
                        let by = |peer: &&ReplicaId| !asked.contains(&(**peer, *slot));
                        prop_assert_eq!(peers.iter().find(by), None, "not asked for {}", slot);
                    }
                }
            }
        }

        #[test]
        fn a_search_comes_to_its_end(
            count in 1..=4u64,
            missing in proptest::collection::btree_set(0..40u64, 1..12),
        ) {
            let peers = peers(count);
            let mut search = Search::new(Moment::default());
            let questions = 2 * (missing.len() + 1) * peers.len();
            for _ in 0..=questions {
                search.next(&peers, &set(&missing));
            }
            prop_assert!(search.in_vain_since().is_some());
        }
    }
}
