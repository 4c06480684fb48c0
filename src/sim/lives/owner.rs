//! What the owner of a journal knows of it, whatever becomes of its disk; and the comparison of
//! that with what an opening found.

use std::collections::BTreeMap;

use crate::journal::Journal;
use crate::sim::disk::Mount;
use crate::types::entry::Entry;
use crate::types::ids::{Ballot, Lsn, Slot};
use crate::types::record::{Doubts, Recovered};
use crate::types::slots::SlotSet;

/// What the owner of the journal knows; it outlives crashes.
#[derive(Debug, Default)]
pub(super) struct Owner {
    pub(super) promised: Ballot,
    /// Promises and votes that were appended, and their frames.
    pub(super) promises: Vec<(Lsn, Ballot)>,
    pub(super) written: Vec<(Lsn, Slot, Ballot, Entry)>,
    pub(super) durable: Lsn,
    pub(super) durable_promise: Ballot,
    /// The newest durable entry of each slot, and its ballot.
    pub(super) entries: BTreeMap<Slot, (Ballot, Entry)>,
    pub(super) slot_chosen: Slot,
    /// What is chosen in each slot that was ever told to be. Nobody votes for anything else there,
    /// also where the journal does not know any more.
    pub(super) chosen: BTreeMap<Slot, Entry>,
    pub(super) slot_next: Slot,
    pub(super) boots: u64,
    /// What the journal says it lost, without what was durably appended since.
    pub(super) missing: SlotSet,
    pub(super) doubts: Doubts,
    /// Every vote that was ever appended.
    pub(super) cast: BTreeMap<(Slot, Ballot), Entry>,
    /// Whether the next vote needs a ballot of its own, after an opening that left doubts.
    pub(super) is_unsure: bool,
    /// Whether what was damaged since the last opening may have been all that spoke of the promise.
    pub(super) is_mute: bool,
    /// Whether it may have been all that told that the promise is lost.
    pub(super) may_forget: bool,
}

impl Owner {
    pub(super) fn settle(&mut self, slot: Slot) {
        self.missing.remove_slot(slot);
        self.doubts.faulty.remove_slot(slot);
        self.doubts.uncertain.remove_slot(slot);
    }

    /// Whether the journal says of itself that it cannot tell.
    pub(super) fn is_lost(&self, slot: Slot) -> bool {
        self.missing.contains(slot) || self.doubts.contains(slot)
    }

    /// The newest entry that was appended in the slot.
    pub(super) fn newest(&self, slot: Slot) -> Option<&Entry> {
        let written = self.written.iter().rev().find(|(_, written, ..)| *written == slot);
        let durable = || self.entries.get(&slot).map(|(_, entry)| entry);
        written.map(|(.., entry)| entry).or_else(durable)
    }

    /// Whether nothing else is chosen in the slot.
    pub(super) fn may_be_chosen(&self, slot: Slot, entry: &Entry) -> bool {
        self.chosen.get(&slot).is_none_or(|chosen| chosen == entry)
    }

    pub(super) fn cover(&mut self, frontier: Lsn) {
        assert!(frontier >= self.durable, "D1: the frontier went back to {frontier}");
        self.durable = frontier;
        self.promises.retain(|(lsn, ballot)| {
            if *lsn <= frontier {
                self.durable_promise = self.durable_promise.max(*ballot);
            }
            *lsn > frontier
        });
        for (lsn, slot, ballot, entry) in std::mem::take(&mut self.written) {
            if lsn <= frontier {
                self.settle(slot);
                self.entries.insert(slot, (ballot, entry));
            } else {
                self.written.push((lsn, slot, ballot, entry));
            }
        }
    }

    /// Compares what an opening found with what was acknowledged, and takes it over.
    pub(super) fn compare(&mut self, journal: &Journal<Mount>, recovered: Recovered) {
        let before = std::mem::take(&mut self.doubts);
        (self.missing, self.doubts) = (lost(&recovered), recovered.doubts.clone());
        let lost = recovered.doubts.promise_lost;
        let kept = lost || self.may_forget;
        assert!(!before.promise_lost || kept, "D4: that the promise is lost is forgotten");
        let (promised, durable) = (recovered.promised, self.durable_promise);
        assert!(
            promised >= durable || lost || self.is_mute,
            "D1: {durable} was promised durably, and {promised} is found"
        );
        // What an opening could not read any more, a later one may find all the same.
        let appended = self.cast.keys().next_back().map_or(Slot::ZERO, |(slot, _)| slot.next());
        let appended = appended.max(self.slot_next);
        assert!(recovered.slot_chosen <= appended, "D1: more is chosen than was appended");
        let boot = journal.identity().boot.sequence;
        assert!(boot > self.boots, "D1: boot {boot} after {}", self.boots);
        self.boots = boot;
        let found = journal.found_through();
        assert!(found >= self.durable, "D1: found through {found} of {}", self.durable);
        for (slot, (ballot, entry)) in &self.entries {
            if self.is_lost(*slot) || *slot < journal.slot_trimmed() {
                continue;
            }
            let read = read(journal, *slot);
            assert!(read.is_some(), "D1: slot {slot} is lost");
            if *slot < recovered.slot_chosen {
                let chosen = self.chosen.get(slot).unwrap_or(entry);
                assert!(read.as_ref() == Some(chosen), "D5: another entry in chosen slot {slot}");
                continue;
            }
            let vote = recovered.votes.iter().find(|(voted, ..)| voted == slot);
            let Some((_, at, voted)) = vote else { panic!("D1: the vote in slot {slot} is lost") };
            assert!(at >= ballot, "D1: the vote in slot {slot} is {at}, older than {ballot}");
            assert!(at > ballot || voted == entry, "D1: another vote in slot {slot} at {at}");
        }
        for slot in (journal.slot_trimmed().0..recovered.slot_chosen.0).map(Slot) {
            let read = read(journal, slot);
            let is_there = read.is_some();
            assert!(is_there != self.missing.contains(slot), "D1: slot {slot} there: {is_there}");
            // It may have been chosen by others before it was acknowledged here, and survive.
            let Some((entry, chosen)) = read.zip(self.chosen.get(&slot)) else { continue };
            assert!(entry == *chosen, "D5: another entry in chosen slot {slot}");
            let ballot = self.entries.get(&slot).map_or(Ballot::ZERO, |(ballot, _)| *ballot);
            self.entries.insert(slot, (ballot, entry));
        }
        for (slot, ballot, entry) in recovered.votes {
            let cast = self.cast.get(&(slot, ballot));
            assert!(cast == Some(&entry), "D1: nobody voted at {ballot} for that in slot {slot}");
            self.slot_next = self.slot_next.max(slot.next());
            // What survived without having been acknowledged is now as good as anything.
            if !self.is_lost(slot) {
                self.entries.insert(slot, (ballot, entry));
            }
        }
        // And what did not is gone.
        self.promised = promised;
        self.durable_promise = promised;
        self.slot_chosen = recovered.slot_chosen;
        self.slot_next = self.entries.keys().next_back().map_or(Slot::ZERO, |slot| slot.next());
        self.slot_next = self.slot_next.max(recovered.slot_chosen);
        self.promises.clear();
        self.written.clear();
        self.durable = journal.frontier().lsn();
        self.is_unsure = !self.doubts.is_empty();
        self.is_mute = false;
    }
}

/// The chosen slots whose entries an opening did not find.
pub(super) fn lost(recovered: &Recovered) -> SlotSet {
    let mut lost = recovered.missing.clone();
    recovered.unreadable.ranges().iter().for_each(|range| lost.insert(*range));
    lost
}

pub(super) fn read(journal: &Journal<Mount>, slot: Slot) -> Option<Entry> {
    let read = journal.reader().read(slot, slot.next(), 0);
    read.unwrap_or_else(|err| panic!("D5: slot {slot} cannot be read: {err}")).pop()
}
