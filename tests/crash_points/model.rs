//! What the owner of a journal knows, and what an opening may find: exactly the state behind some
//! number of records, none of which is missing, and which hold everything acknowledged.

use std::collections::{BTreeMap, BTreeSet};

use indelible::journal::{Disk, Journal};
use indelible::types::entry::Entry;
use indelible::types::ids::{Ballot, Incarnation, Lsn, Slot};
use indelible::types::membership::Membership;
use indelible::types::record::{Doubts, Record, Recovered};

/// A record that was appended, or only the word that more slots are chosen.
#[derive(Clone, Debug)]
struct Line {
    lsn: Lsn,
    record: Option<Record>,
    slot_chosen: Slot,
}

/// Everything that was handed to the journal, in order, and what was acknowledged of it.
#[derive(Clone, Debug, Default)]
pub struct Log {
    lines: Vec<Line>,
    frontier: Lsn,
    slot_chosen: Slot,
    /// Of the last opening that succeeded.
    boot: u64,
    incarnation: Option<Incarnation>,
    membership: Option<Membership>,
    formed: bool,
}

/// What a journal holds after some records.
#[derive(Clone, Debug, Default)]
struct State {
    promised: Ballot,
    slot_chosen: Slot,
    /// The newest entry of each slot.
    entries: BTreeMap<Slot, Entry>,
    votes: BTreeMap<Slot, (Ballot, Entry)>,
    chosen: BTreeSet<Slot>,
    doubts: Doubts,
}

impl Log {
    /// Records are about to be appended, and will end with `lsn`.
    pub fn append(&mut self, records: &[Record], lsn: Lsn, slot_chosen: Slot) {
        for (at, record) in records.iter().enumerate() {
            let is_last = at + 1 == records.len();
            let slot_chosen = if is_last { slot_chosen } else { self.slot_chosen };
            self.lines.push(Line { lsn, record: Some(record.clone()), slot_chosen });
        }
        if records.is_empty() {
            self.lines.push(Line { lsn: Lsn(u64::MAX), record: None, slot_chosen });
        }
        self.slot_chosen = slot_chosen;
    }

    /// Everything up to `frontier` was acknowledged.
    pub fn acknowledge(&mut self, frontier: Lsn) {
        assert!(frontier >= self.frontier, "the frontier went back");
        self.frontier = frontier;
    }

    pub fn frontier(&self) -> Lsn {
        self.frontier
    }

    /// The cluster was agreed to, and is formed.
    pub fn formed<D: Disk>(&mut self, journal: &Journal<D>) {
        self.formed = true;
        self.membership.clone_from(&journal.identity().membership);
    }

    /// Whether everything that was appended is acknowledged.
    pub fn is_all_acknowledged(&self) -> bool {
        self.lines.iter().all(|line| line.record.is_none() || line.lsn <= self.frontier)
    }

    /// How many lines are acknowledged: all up to the last one that is.
    fn acknowledged(&self) -> usize {
        self.lines.iter().rposition(|line| line.lsn <= self.frontier).map_or(0, |last| last + 1)
    }

    /// Checks an opening. Returns what it found, and how many lines that is.
    pub fn check<D: Disk>(&self, journal: &mut Journal<D>) -> (Recovered, usize) {
        self.check_identity(journal);
        let found = journal.recovered();
        let (least, most) = (self.acknowledged(), self.lines.len());
        let mut state = State::default();
        self.lines[..least].iter().for_each(|line| state.take(line));
        let mut matching = None;
        for count in least..=most {
            if count > least {
                state.take(&self.lines[count - 1]);
            }
            if state.is_like(&found) {
                matching = Some((count, state.clone()));
            }
        }
        let Some((count, state)) = matching else {
            panic!("no prefix of {least} to {most} records is what was found: {found:?}");
        };
        let promises = self.lines.iter().filter_map(|line| match &line.record {
            Some(Record::Promise { ballot }) => Some(*ballot),
            _ => None,
        });
        let highest = promises.max().unwrap_or_default();
        assert!(found.promised <= highest, "promise {} was never written", found.promised);
        state.check_entries(journal);
        (found, count)
    }

    fn check_identity<D: Disk>(&self, journal: &Journal<D>) {
        let identity = journal.identity();
        assert!(identity.boot.sequence > self.boot, "the boot sequence went back");
        if let Some(incarnation) = self.incarnation {
            assert_eq!(identity.incarnation, incarnation);
        }
        if self.formed {
            assert!(identity.formed, "a formed cluster is not formed any more");
            assert_eq!(identity.membership, self.membership);
        }
        let (found, before) = (journal.found_through(), self.frontier);
        assert!(found >= before, "the frontier went back from {before} to {found}");
    }

    /// The owner goes on from what an opening found.
    pub fn go_on<D: Disk>(&mut self, journal: &Journal<D>, found: &Recovered, count: usize) {
        self.lines.truncate(count);
        let lsn = journal.frontier().lsn();
        for line in &mut self.lines {
            line.lsn = line.lsn.min(lsn);
        }
        let record = Some(Record::Promise { ballot: found.promised });
        self.lines.push(Line { lsn, record, slot_chosen: found.slot_chosen });
        self.slot_chosen = found.slot_chosen;
        self.boot = journal.identity().boot.sequence;
        self.incarnation = Some(journal.identity().incarnation);
        self.acknowledge(lsn);
    }
}

impl State {
    fn take(&mut self, line: &Line) {
        match &line.record {
            Some(Record::Promise { ballot }) => self.promised = self.promised.max(*ballot),
            Some(Record::Vote { slot, ballot, entry }) => {
                self.votes.insert(*slot, (*ballot, entry.clone()));
                self.entries.insert(*slot, entry.clone());
                self.doubts.faulty.remove_slot(*slot);
                self.doubts.uncertain.remove_slot(*slot);
            }
            Some(Record::Chosen { slot, entry }) => {
                self.entries.insert(*slot, entry.clone());
                self.chosen.insert(*slot);
            }
            Some(Record::Doubts(doubts)) => self.doubts = doubts.clone(),
            Some(Record::Verdicts(_) | Record::Sightings(_)) | None => {}
        }
        self.slot_chosen = self.slot_chosen.max(line.slot_chosen);
        // A slot of which a peer told, and all before it are chosen.
        while self.chosen.remove(&self.slot_chosen) {
            self.slot_chosen = self.slot_chosen.next();
        }
        let slot_chosen = self.slot_chosen;
        self.votes.retain(|slot, _| *slot >= slot_chosen);
        self.doubts.faulty.remove_below(slot_chosen);
        self.doubts.uncertain.remove_below(slot_chosen);
    }

    /// Whether an opening that found this state would tell what was found. The promise may be
    /// higher, from a group that was cut; and what is cut leaves slots uncertain.
    fn is_like(&self, found: &Recovered) -> bool {
        let votes = self.votes.iter().map(|(slot, (ballot, entry))| (*slot, *ballot, entry));
        let faulty = &self.doubts.faulty;
        self.promised <= found.promised
            && self.slot_chosen == found.slot_chosen
            && votes.eq(found.votes.iter().map(|(slot, ballot, entry)| (*slot, *ballot, entry)))
            && found.missing.is_empty()
            && !found.doubts.promise_lost
            && found.doubts.faulty == *faulty
            && self.doubts.uncertain.ranges().iter().all(|range| {
                (range.first.0..range.end.0).all(|slot| found.doubts.uncertain.contains(Slot(slot)))
            })
    }

    /// What is known to be chosen can be read, and is what was chosen.
    fn check_entries<D: Disk>(&self, journal: &Journal<D>) {
        let reader = journal.reader();
        for slot in (0..self.slot_chosen.0).map(Slot) {
            let read = reader.read(slot, slot.next(), 0).unwrap();
            assert_eq!(read.first(), self.entries.get(&slot), "slot {slot}");
        }
    }
}
