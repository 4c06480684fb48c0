//! What a cluster proposes and chooses, as the owner of one of its journals comes to hear of it.
//!
//! In one slot and ballot there is one proposal. From the ballot on at which an entry is chosen,
//! nothing else is proposed; at lower ballots anything may have been, and may come late.

use std::collections::BTreeMap;

use crate::sim::rng::Rng;
use crate::types::entry::Entry;
use crate::types::ids::{Ballot, ReplicaId, Slot};

use super::draw_entry;

#[derive(Debug, Default)]
pub(super) struct Fates {
    proposed: BTreeMap<(Slot, Ballot), Entry>,
    chosen: BTreeMap<Slot, (Ballot, Entry)>,
}

impl Fates {
    /// What the leader of a ballot proposes in a slot.
    pub(super) fn proposal(&mut self, slot: Slot, ballot: Ballot, rng: &mut Rng) -> Entry {
        if let Some((at, entry)) = self.chosen.get(&slot)
            && *at <= ballot
        {
            return entry.clone();
        }
        let adopted = self.newest(slot).map(|(_, entry)| entry).filter(|_| rng.per_mille(400));
        let proposed = self.proposed.entry((slot, ballot));
        proposed.or_insert_with(|| adopted.unwrap_or_else(|| draw_entry(rng))).clone()
    }

    /// What is chosen in a slot: often the newest proposal there, or another one above it that the
    /// owner was never asked about.
    pub(super) fn choose(&mut self, slot: Slot, rng: &mut Rng) -> Entry {
        if let Some((_, entry)) = self.chosen.get(&slot) {
            return entry.clone();
        }
        let (ballot, entry) = match self.newest(slot) {
            Some(newest) if rng.per_mille(500) => newest,
            newest => {
                let at = newest.map_or(Ballot::ZERO, |(ballot, _)| ballot);
                let round = at.round + 1 + rng.below(6);
                (Ballot { round, leader: ReplicaId(1 + rng.below(3)) }, draw_entry(rng))
            }
        };
        self.chosen.insert(slot, (ballot, entry.clone()));
        entry
    }

    /// What is chosen in a slot, where that was ever told.
    pub(super) fn chosen(&self, slot: Slot) -> Option<&Entry> {
        self.chosen.get(&slot).map(|(_, entry)| entry)
    }

    fn newest(&self, slot: Slot) -> Option<(Ballot, Entry)> {
        let end = Ballot { round: u64::MAX, leader: ReplicaId(u64::MAX) };
        let mut proposed = self.proposed.range((slot, Ballot::ZERO)..=(slot, end));
        proposed.next_back().map(|((_, ballot), entry)| (*ballot, entry.clone()))
    }
}
