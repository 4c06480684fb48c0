//! What a member of a cluster must not forget, whatever becomes of its disk; and the comparison of
//! that with what an opening found.
//!
//! Facts are *written* when they are appended, and *durable* when a frontier covers them, or when
//! an opening found them: that one wrote them again. What was written and is not durable may be
//! found, or not.

use std::collections::{BTreeMap, BTreeSet};

use crate::journal::Journal;
use crate::sim::disk::Mount;
use crate::types::entry::Entry;
use crate::types::ids::{Ballot, Lsn, Slot, SlotRange};
use crate::types::record::{Doubts, Record, Recovered};

use super::fates::Fates;
use super::owner::{lost, read};

/// A fact that is not durable yet.
#[derive(Debug)]
enum Fact {
    Promise(Ballot),
    Vote(Slot, Vote),
    /// Everything below is chosen.
    Chosen(Slot),
}

/// A vote that is not to be forgotten.
#[derive(Clone, Copy, Debug)]
struct Vote {
    ballot: Ballot,
    /// It was cast behind what had been told of its slot, by who did not know that any more. So the
    /// slot was chosen without it.
    is_behind_told: bool,
}

#[derive(Debug, Default)]
pub(super) struct Memory {
    written: Vec<(Lsn, Fact)>,
    durable: Lsn,
    promised: Ballot,
    /// The newest durable vote of each slot, but for those of which a leader said since that they
    /// do not matter.
    votes: BTreeMap<Slot, Vote>,
    slot_chosen: Slot,
    /// Slots of which it was ever told, and wrote down, what is chosen there.
    told: BTreeSet<Slot>,
    /// Every vote that was ever written.
    cast: BTreeMap<(Slot, Ballot), Entry>,
    /// Below, the owner knew every slot to be chosen, at some time.
    known: Slot,
    boots: u64,
    /// What the newest opening doubted, without what was settled since; and the votes since.
    doubts: Doubts,
    since: BTreeSet<(Slot, Ballot)>,
    /// The medium was damaged, ever, and since the last opening.
    damaged: bool,
    damaged_since: bool,
    /// What was damaged since the last opening may have been all that spoke of the promise.
    is_mute: bool,
}

impl Memory {
    /// Records were appended, and end with `last`.
    pub(super) fn write(&mut self, records: &[Record], last: Lsn, slot_chosen: Slot) {
        for record in records {
            match record {
                Record::Promise { ballot } => self.written.push((last, Fact::Promise(*ballot))),
                Record::Vote { slot, ballot, entry } => {
                    self.cast.insert((*slot, *ballot), entry.clone());
                    self.since.insert((*slot, *ballot));
                    let is_behind_told = self.told.contains(slot);
                    let vote = Vote { ballot: *ballot, is_behind_told };
                    self.written.push((last, Fact::Vote(*slot, vote)));
                }
                Record::Chosen { slot, .. } => drop(self.told.insert(*slot)),
                _ => {}
            }
        }
        // Without records nothing is written for it; a later group may say it.
        if !records.is_empty() {
            self.written.push((last, Fact::Chosen(slot_chosen)));
        }
        self.known = self.known.max(slot_chosen);
    }

    /// Somebody knows every slot below to be chosen, and sends a state that says so.
    pub(super) fn hear(&mut self, slot_chosen: Slot) {
        self.known = self.known.max(slot_chosen);
    }

    /// Votes from `first` on that are in doubt do not matter any more, a leader says.
    pub(super) fn settle(&mut self, first: Slot) {
        let doubts = &self.doubts;
        self.votes.retain(|slot, _| *slot < first || !doubts.contains(*slot));
        self.doubts.settle(SlotRange { first, end: Slot(u64::MAX) });
    }

    pub(super) fn cover(&mut self, frontier: Lsn) {
        assert!(frontier >= self.durable, "D1: the frontier went back to {frontier}");
        self.durable = frontier;
        for (lsn, fact) in std::mem::take(&mut self.written) {
            match fact {
                fact if frontier < lsn => self.written.push((lsn, fact)),
                Fact::Promise(ballot) => self.promised = self.promised.max(ballot),
                Fact::Vote(slot, vote) => drop(self.votes.insert(slot, vote)),
                Fact::Chosen(slot) => self.slot_chosen = self.slot_chosen.max(slot),
            }
        }
    }

    pub(super) fn promised(&self) -> Ballot {
        self.promised
    }

    /// Compares what an opening found with what must not be forgotten, and takes it over.
    pub(super) fn compare(
        &mut self,
        journal: &Journal<Mount>,
        recovered: &Recovered,
        fates: &Fates,
    ) {
        let (promised, lost) = (recovered.promised, recovered.doubts.promise_lost);
        assert!(
            promised >= self.promised || lost || self.is_mute,
            "D1: {} was promised durably, and {promised} is found",
            self.promised
        );
        // Of a promise that nobody can know to be lost, neither can it know what it voted at that.
        self.votes.retain(|_, vote| lost || vote.ballot <= promised);
        let boot = journal.identity().boot.sequence;
        assert!(boot > self.boots, "D1: boot {boot} after {}", self.boots);
        let found = journal.found_through();
        assert!(found >= self.durable, "D1: found through {found} of {}", self.durable);
        self.compare_chosen(journal, recovered, fates);
        self.compare_votes(recovered);
        self.compare_doubts(recovered);
        self.forget_needless(recovered.slot_chosen, fates);
        // What survived without having been acknowledged is as good as anything now.
        for (slot, ballot, _) in &recovered.votes {
            if !recovered.doubts.contains(*slot) {
                let is_behind_told = self.told.contains(slot);
                self.votes.insert(*slot, Vote { ballot: *ballot, is_behind_told });
            }
        }
        (self.boots, self.promised) = (boot, promised);
        self.slot_chosen = recovered.slot_chosen;
        self.doubts = recovered.doubts.clone();
        self.since.clear();
        self.written.clear();
        self.durable = journal.frontier().lsn();
        (self.is_mute, self.damaged_since) = (false, false);
    }

    /// The medium was damaged; what is left may tell of the promise, or not.
    pub(super) fn damage(&mut self, is_promise_known: bool) {
        (self.damaged, self.damaged_since) = (true, true);
        self.is_mute |= !is_promise_known;
    }

    /// An opening that knows a slot to be chosen, as it was told, need not keep a vote that had no
    /// part in that: for something else, or cast later.
    pub(super) fn forget_needless(&mut self, slot_chosen: Slot, fates: &Fates) {
        let (told, cast) = (&self.told, &self.cast);
        self.votes.retain(|slot, Vote { ballot, is_behind_told }| {
            let is_chosen = cast.get(&(*slot, *ballot)) == fates.chosen(*slot);
            slot_chosen <= *slot || !told.contains(slot) || is_chosen && !*is_behind_told
        });
    }

    /// What is chosen is what stands there, or it is missing.
    fn compare_chosen(&self, journal: &Journal<Mount>, recovered: &Recovered, fates: &Fates) {
        let (chosen, missing) = (recovered.slot_chosen, lost(recovered));
        assert!(chosen <= self.known, "D1: more is chosen than was known: {chosen}");
        let (kept, whole) = (self.slot_chosen <= chosen, missing.is_empty());
        assert!(kept || self.damaged, "D1: {chosen} are chosen, and were {}", self.slot_chosen);
        assert!(whole || self.damaged, "D1: missing is {missing:?}");
        for slot in (journal.slot_trimmed().0..chosen.0).map(Slot) {
            let read = read(journal, slot);
            let is_there = read.is_some();
            assert!(is_there != missing.contains(slot), "D1: slot {slot} there: {is_there}");
            let is_right = read.is_none() || read.as_ref() == fates.chosen(slot);
            assert!(is_right, "D5: another entry in chosen slot {slot}");
        }
    }

    /// No slot is answered as if nothing had been voted for there, or something older.
    fn compare_votes(&self, recovered: &Recovered) {
        let vote = |slot| recovered.votes.iter().find(|(voted, ..)| *voted == slot);
        for (slot, ballot, entry) in &recovered.votes {
            let cast = self.cast.get(&(*slot, *ballot));
            assert!(cast == Some(entry), "D1: nobody voted at {ballot} for that in slot {slot}");
        }
        for (slot, Vote { ballot, .. }) in self.votes.range(recovered.slot_chosen..) {
            if recovered.doubts.contains(*slot) {
                continue;
            }
            let Some((_, at, _)) = vote(*slot) else {
                panic!("D1: the vote at {ballot} in slot {slot} is lost")
            };
            assert!(at >= ballot, "D1: the vote in slot {slot} is {at}, older than {ballot}");
        }
    }

    /// A doubt about a slot that was voted for ends with a vote, or when the slot is known to be
    /// chosen; and is never called less. Of what is UNCERTAIN nothing is left but what was written
    /// down; where that rots, at least what was durable stays in doubt.
    fn compare_doubts(&self, recovered: &Recovered) {
        let Doubts { promise_lost, faulty, uncertain } = &recovered.doubts;
        assert!(self.damaged || faulty.is_empty(), "D4: FAULTY without damage: {faulty:?}");
        assert!(self.damaged || self.is_mute || !promise_lost, "D4: the promise is lost");
        let votes = recovered.votes.iter().map(|(slot, ballot, _)| (*slot, *ballot));
        let since = votes.filter(|vote| self.since.contains(vote)).map(|(slot, _)| slot);
        let since = since.collect::<BTreeSet<_>>();
        let slots = |ranges: &[SlotRange]| {
            let slots = ranges.iter().flat_map(|range| (range.first.0..range.end.0).map(Slot));
            let behind = slots.filter(|slot| *slot >= recovered.slot_chosen);
            let doubted = behind.filter(|slot| !since.contains(slot) && self.is_cast(*slot));
            doubted.collect::<Vec<_>>()
        };
        for slot in slots(self.doubts.faulty.ranges()) {
            assert!(faulty.contains(slot), "D4: slot {slot} is not FAULTY any more");
        }
        let uncertain_before =
            if self.damaged_since { &[] } else { self.doubts.uncertain.ranges() };
        for slot in slots(uncertain_before) {
            let is_in_doubt = faulty.contains(slot) || uncertain.contains(slot);
            assert!(is_in_doubt, "D4: slot {slot} is not UNCERTAIN any more");
        }
    }

    /// Whether a vote was ever written in a slot.
    fn is_cast(&self, slot: Slot) -> bool {
        self.cast.range((slot, Ballot::ZERO)..(slot.next(), Ballot::ZERO)).next().is_some()
    }
}
