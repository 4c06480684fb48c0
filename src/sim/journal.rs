//! A journal in memory: what was not synced is lost in a crash, and what was can be damaged.
//!
//! Records become durable in the order in which they were appended, as in the real journal. With
//! each group it remembers, lazily, how far the log was known to be chosen; a crash may lose the
//! newest of these marks, and then the replica comes back knowing less than it once said.
//!
//! Damage is noticed at the next recovery, as in the real journal: by position. About a slot there
//! is no doubt where an intact record for it stands behind what was lost.

use std::collections::{BTreeMap, BTreeSet};

use crate::types::entry::Entry;
use crate::types::ids::{Ballot, Chain, Lsn, Slot, SlotRange};
use crate::types::record::{Doubts, DurableFrontier, Record, Recovered};
use crate::types::slots::SlotSet;

/// How far a doubt reaches that has no end: as far as the real journal holds slots.
const DOUBT_SLOTS: u64 = 1 << 20;

/// The records of one replica.
#[derive(Debug, Default)]
pub struct MemoryJournal {
    records: Vec<Record>,
    /// After how many records which `slot_chosen` was remembered.
    marks: Vec<(usize, Slot)>,
    /// After how many records a group ended. Those of an opening that was damaged since are gone.
    groups: Vec<usize>,
    synced: usize,
    /// Records that cannot be read any more.
    lost: BTreeSet<usize>,
    /// The entries of the slots that a state of a peer adds up to, which is durable by itself.
    state: Vec<Entry>,
    /// What stands before these positions is in doubt, where nothing behind speaks of the slot.
    gaps: Vec<(usize, Gap)>,
}

/// What is damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damage {
    /// The newest durable record for a slot. A later frame tells that it was durable.
    Slot(Slot),
    /// The same, and nothing is left that tells for which slot it was.
    Somewhere(Slot),
    /// The last group that was synced, though it cannot be told from one that was not. Of a promise
    /// one of its two copies is left.
    End,
    /// Both copies of the promise.
    Promise,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Gap {
    Slot(Slot),
    /// Of any slot from this one on.
    Somewhere(Slot),
    /// Of any slot from this one on, if anything is lost at all.
    Torn(Slot),
    Promise,
}

/// What is newest for a slot among the records that are left.
#[derive(Debug, Default)]
struct Newest {
    vote: Option<(Ballot, Entry)>,
    told: Option<Entry>,
    /// Behind how many records the newest of both stands.
    behind: usize,
}

impl MemoryJournal {
    /// Appends a group, and `remembers` how far the log is known to be chosen.
    pub fn append(&mut self, records: Vec<Record>, slot_chosen: Slot, remembers: bool) {
        let begin = self.records.len();
        if records.is_empty() {
            return;
        }
        self.records.extend(records);
        if remembers {
            self.marks.push((self.records.len(), slot_chosen));
        }
        // What a replica doubts depends on how far it knows the log: both are in one group.
        let new = begin..self.records.len();
        let noted = new.filter(|at| matches!(self.records[*at], Record::Doubts(_)));
        self.marks.extend(noted.map(|at| (at + 1, slot_chosen)));
    }

    /// A state that adds up to these entries, from slot 0 on, is durable.
    pub fn install(&mut self, entries: Vec<Entry>) {
        self.state = entries;
    }

    /// The position of the newest record.
    #[must_use]
    pub fn end(&self) -> Lsn {
        Lsn(self.records.len() as u64)
    }

    /// What is durable.
    #[must_use]
    pub fn frontier(&self) -> DurableFrontier {
        DurableFrontier::mint(Lsn(self.synced as u64))
    }

    /// Makes the oldest `count` of the volatile records durable, and returns them.
    pub fn sync(&mut self, count: usize) -> &[Record] {
        let before = self.synced;
        self.synced = self.records.len().min(before.saturating_add(count));
        if before < self.synced {
            self.groups.push(self.synced);
        }
        &self.records[before..self.synced]
    }

    /// How many records are volatile.
    #[must_use]
    pub fn volatile(&self) -> usize {
        self.records.len() - self.synced
    }

    /// Loses what is volatile. Where pieces of it are left, `torn`, it cannot be told from a group
    /// that was durable.
    pub fn crash(&mut self, torn: bool) {
        if torn && self.volatile() > 0 {
            self.gaps.push((self.synced, Gap::Torn(self.marked_before(self.synced))));
        }
        self.cut(self.synced);
    }

    fn cut(&mut self, end: usize) {
        self.records.truncate(end);
        self.marks.retain(|(at, _)| *at <= end);
        self.groups.retain(|at| *at <= end);
        self.lost.retain(|at| *at < end);
        self.synced = end;
        for (at, _) in &mut self.gaps {
            *at = end.min(*at);
        }
    }

    /// The slots of which `damage` would lose a durable record, and that no state holds. Empty,
    /// where there is nothing to damage.
    #[must_use]
    pub fn endangered(&self, damage: Damage) -> Vec<Slot> {
        // What a peer told stands for a vote that was lost before.
        let voted = |at: usize| match &self.records[at] {
            Record::Vote { slot, .. } | Record::Chosen { slot, .. } => Some(*slot),
            _ => None,
        };
        let mut slots: Vec<Slot> = match damage {
            Damage::Slot(slot) | Damage::Somewhere(slot) => {
                self.newest_at(slot).map(|_| slot).into_iter().collect()
            }
            Damage::End => (self.last_group()..self.synced).filter_map(voted).collect(),
            Damage::Promise => Vec::new(),
        };
        slots.retain(|slot| self.state.len() as u64 <= slot.0);
        slots
    }

    /// Damages what is durable. The replica is down, and nothing is volatile.
    pub fn damage(&mut self, damage: Damage) {
        let end = self.synced;
        match damage {
            Damage::Slot(slot) => {
                if let Some(at) = self.newest_at(slot) {
                    self.lost.insert(at);
                    self.gaps.push((at + 1, Gap::Slot(slot)));
                }
            }
            Damage::Somewhere(slot) => {
                if let Some(at) = self.newest_at(slot) {
                    let marked = self.marked_before(at);
                    self.lost.insert(at);
                    self.gaps.push((at + 1, Gap::Somewhere(marked)));
                    // It was repaired, so it was in doubt, and that stands further back.
                    if slot < marked {
                        self.gaps.push((at + 1, Gap::Slot(slot)));
                    }
                }
            }
            Damage::End => {
                let begin = self.last_group();
                if begin == end {
                    return;
                }
                let promised = self.records[begin..].iter().filter_map(promised).max();
                self.cut(begin);
                self.gaps.push((begin, Gap::Torn(self.marked_before(begin))));
                if let Some(ballot) = promised {
                    self.records.push(Record::Promise { ballot });
                    self.synced += 1;
                }
            }
            Damage::Promise => {
                let promise = |at: &usize| matches!(self.records[*at], Record::Promise { .. });
                self.lost.extend((0..end).rev().find(promise));
                self.gaps.push((end, Gap::Promise));
            }
        }
    }

    /// How far the first `end` records know the log to be chosen. A slot is journaled as chosen
    /// when all before it are known to be, and are journaled.
    fn marked_before(&self, end: usize) -> Slot {
        let marks = self.marks.iter().filter(|(at, _)| *at <= end).map(|(_, slot)| *slot);
        let chosen = (0..end).filter(|at| !self.lost.contains(at));
        let chosen = chosen.filter_map(|at| match &self.records[at] {
            Record::Chosen { slot, .. } => Some(slot.next()),
            _ => None,
        });
        let state = Slot(self.state.len() as u64);
        marks.chain(chosen).max().unwrap_or(Slot::ZERO.next()).max(state)
    }

    /// Where the last synced group begins.
    fn last_group(&self) -> usize {
        let before = self.groups.iter().rev().find(|end| **end < self.synced);
        // What an opening found and wrote down again is not at the end of the journal any more.
        before.copied().unwrap_or(self.synced)
    }

    fn newest_at(&self, wanted: Slot) -> Option<usize> {
        let intact = (0..self.synced).rev().filter(|at| !self.lost.contains(at));
        let mut intact = intact.map(|at| (at, &self.records[at]));
        let found = intact.find(|(_, record)| {
            matches!(record, Record::Vote { slot, .. } | Record::Chosen { slot, .. }
                if *slot == wanted)
        });
        found.map(|(at, _)| at)
    }

    /// What a core is told at its start, and the entries of the slots known to be chosen, but for
    /// those that are missing. `first` is the membership, which slot 0 holds.
    ///
    /// What is in doubt is written down, durably, as the real journal does: from then on the next
    /// damage adds to it.
    #[must_use]
    pub fn recover(&mut self, first: Entry) -> (Recovered, BTreeMap<Slot, Entry>) {
        let mut promised = Ballot::ZERO;
        let mut slots = BTreeMap::<Slot, Newest>::new();
        let mut noted = (0, Doubts::default());
        slots.insert(Slot::ZERO, Newest { told: Some(first), ..Newest::default() });
        let intact = self.records.iter().enumerate().filter(|(at, _)| !self.lost.contains(at));
        for (at, record) in intact {
            promised = promised.max(self::promised(record).unwrap_or_default());
            match record {
                Record::Vote { slot, ballot, entry } => {
                    let newest = slots.entry(*slot).or_default();
                    (newest.vote, newest.behind) = (Some((*ballot, entry.clone())), at);
                }
                Record::Chosen { slot, entry } => {
                    let newest = slots.entry(*slot).or_default();
                    (newest.told, newest.behind) = (Some(entry.clone()), at);
                }
                Record::Doubts(doubts) => noted = (at, doubts.clone()),
                Record::Promise { .. } | Record::Verdicts(_) | Record::Sightings(_) => {}
            }
        }
        slots.extend(self.of_state());
        let mut doubts = self.doubts(&slots, noted);
        let marked = self.marked_before(self.records.len());
        let (mut chosen, mut missing) = (BTreeMap::new(), SlotSet::default());
        let mut chain = Chain::EMPTY;
        let mut slot = Slot::ZERO;
        loop {
            // What a peer told outlives a vote for something else; otherwise the vote is it.
            let newest = slots.get(&slot).filter(|_| !doubts.contains(slot));
            let own = newest.and_then(|newest| newest.vote.as_ref()).filter(|_| slot < marked);
            let told = newest.and_then(|newest| newest.told.as_ref());
            match told.or(own.map(|(_, entry)| entry)) {
                Some(entry) => {
                    chain = chain.extend(entry.hash());
                    chosen.insert(slot, entry.clone());
                }
                None if slot < marked => {
                    missing.insert(SlotRange::one(slot));
                }
                None => break,
            }
            slot = slot.next();
        }
        doubts.settle(SlotRange { first: Slot::ZERO, end: slot });
        // While entries are missing, the opening is not over: the next one finds the same.
        if missing.is_empty() {
            self.note(&doubts);
        }
        let votes = slots.split_off(&slot).into_iter();
        let votes = votes.filter_map(|(slot, newest)| {
            let (ballot, entry) = newest.vote?;
            Some((slot, ballot, entry))
        });
        let votes = votes.collect();
        let slot_chosen = slot;
        let recovered = Recovered {
            promised,
            slot_chosen,
            chain,
            votes,
            missing,
            doubts,
            ..Recovered::default()
        };
        (recovered, chosen)
    }

    /// What a state tells of its slots. What the records say of them was never compared with it.
    fn of_state(&self) -> impl Iterator<Item = (Slot, Newest)> {
        let newest = |told| Newest { vote: None, told: Some(told), behind: usize::MAX };
        (0..).map(Slot).zip(self.state.iter().cloned().map(newest))
    }

    /// What was in doubt before and was not settled, and what is since.
    fn doubts(&self, slots: &BTreeMap<Slot, Newest>, (noted_at, noted): (usize, Doubts)) -> Doubts {
        // The slots of `range` about which nothing intact stands behind `position`.
        let unspoken = |range: SlotRange, position: usize| {
            let mut set = SlotSet::default();
            set.insert(range);
            for (slot, newest) in slots.range(range.first..range.end) {
                if position <= newest.behind {
                    set.remove_slot(*slot);
                }
            }
            set
        };
        let mut doubts = Doubts { promise_lost: noted.promise_lost, ..Doubts::default() };
        let mut add = |set: SlotSet, faulty: bool| {
            let Doubts { faulty: worse, uncertain, .. } = &mut doubts;
            let into = if faulty { worse } else { uncertain };
            set.ranges().iter().for_each(|range| into.insert(*range));
        };
        noted.faulty.ranges().iter().for_each(|range| add(unspoken(*range, noted_at), true));
        noted.uncertain.ranges().iter().for_each(|range| add(unspoken(*range, noted_at), false));
        let from = |first: Slot| SlotRange { first, end: first.plus(DOUBT_SLOTS) };
        let mut promise_lost = false;
        for (position, gap) in &self.gaps {
            match gap {
                Gap::Slot(slot) => {
                    add(unspoken(SlotRange::one(*slot), *position), true);
                }
                Gap::Somewhere(first) => add(unspoken(from(*first), *position), true),
                Gap::Torn(first) => add(unspoken(from(*first), *position), false),
                // A ballot that stands behind is not below what was lost.
                Gap::Promise => {
                    let later = &self.records[(*position).min(self.synced)..];
                    promise_lost |= !later.iter().any(|record| promised(record).is_some());
                }
            }
        }
        doubts.promise_lost |= promise_lost;
        for range in doubts.faulty.clone().ranges() {
            doubts.uncertain.remove(*range);
        }
        doubts
    }

    /// The opening writes its doubts down, behind everything that is left.
    fn note(&mut self, doubts: &Doubts) {
        if !self.gaps.is_empty() {
            self.records.push(Record::Doubts(doubts.clone()));
            self.synced = self.records.len();
            self.gaps.clear();
        }
        self.groups = vec![self.synced];
    }
}

fn promised(record: &Record) -> Option<Ballot> {
    match record {
        Record::Promise { ballot } | Record::Vote { ballot, .. } => Some(*ballot),
        Record::Chosen { .. } | Record::Verdicts(_) | Record::Doubts(_) | Record::Sightings(_) => {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::types::entry::EntryBuilder;
    use crate::types::ids::ReplicaId;
    use crate::types::time::Time;

    use super::*;

    fn entry(text: &str) -> Entry {
        let mut builder = EntryBuilder::new(Time(1), 100);
        builder.push(text.as_bytes());
        builder.finish()
    }

    #[test]
    fn a_repair_that_is_lost_lets_no_older_vote_pass() {
        let (slot, mut journal) = (Slot(1), MemoryJournal::default());
        let vote = |round, text| {
            let ballot = Ballot { round, leader: ReplicaId(1) };
            Record::Vote { slot, ballot, entry: entry(text) }
        };
        journal.append(vec![vote(1, "old")], Slot(1), false);
        journal.append(vec![vote(2, "new")], Slot(2), true);
        journal.sync(usize::MAX);
        let missing = |journal: &mut MemoryJournal| journal.recover(entry("first")).0.missing;
        assert!(missing(&mut journal).is_empty());
        journal.damage(Damage::Somewhere(slot));
        assert!(missing(&mut journal).contains(slot), "the newest vote is lost");
        journal.append(vec![Record::Chosen { slot, entry: entry("new") }], Slot(2), false);
        journal.sync(usize::MAX);
        assert!(missing(&mut journal).is_empty(), "it is repaired");
        journal.damage(Damage::Somewhere(slot));
        assert!(missing(&mut journal).contains(slot), "the repair is lost, too");
    }
}
