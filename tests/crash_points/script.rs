//! One replica's life, in 50 operations on its journal, and how it is run.
//!
//! There are two: that of a replica which is alone, and that of one of three. Both form a cluster,
//! write in groups of several sizes, sync two lanes out of order, pass over segments, seal, die
//! with writes under way, and open again.

use std::sync::Arc;

use indelible::journal::{Begun, Journal, JournalError, Options};
use indelible::sim::disk::SimDisk;
use indelible::types::entry::{Entry, EntryBuilder};
use indelible::types::ids::{Ballot, ReplicaId, Slot, SlotRange, TxId};
use indelible::types::record::{Doubts, Record, Recovered, Verdicts};
use indelible::types::slots::SlotSet;
use indelible::types::time::Time;

use crate::formed;

use super::model::Log;
use super::tamper::{Fault, Plan, Tampered};

/// An operation of a script.
#[derive(Clone, Copy, Debug)]
pub enum Step {
    /// Opens the directory, and forms the cluster where that was not done.
    Open,
    /// Appends records; so many slots are chosen then.
    Append(&'static [What], u64),
    /// Begins the next job: a group is written, or a segment made.
    Begin,
    /// Syncs the write that was begun first, or second.
    End(usize),
    /// Writes down that all is durable.
    Seal,
    /// The process dies; what was written is read back, and nothing more is synced.
    Die,
}

/// A record: slots, rounds, and bytes.
#[derive(Clone, Copy, Debug)]
pub enum What {
    Promise(u64),
    Vote(u64, u64, usize),
    Chosen(u64, usize),
    Verdicts(u64, u64),
    /// A faulty slot, and one that is uncertain.
    Doubts(u64, u64),
    NoDoubts,
}

use Step::{Append, Begin, Die, End, Open, Seal};
use What::{Chosen, NoDoubts, Promise, Vote};

/// The life of a replica that is alone.
pub const ALONE: [Step; 50] = [
    Open,
    Append(&[Promise(1), Vote(0, 1, 600), Vote(1, 1, 3000)], 0),
    Begin,
    End(0),
    Append(&[Vote(2, 1, 5000)], 1),
    Begin,
    Append(&[Vote(3, 1, 100), Vote(4, 1, 4100)], 2),
    Begin,
    End(1),
    End(0),
    Append(&[], 5),
    Append(&[What::Verdicts(0, 5)], 5),
    Begin,
    Begin,
    End(0),
    Seal,
    Begin,
    End(0),
    Append(&[Vote(5, 1, 20_000), Vote(6, 1, 15_000)], 5),
    Begin,
    End(1),
    Append(&[Vote(7, 1, 9000), Vote(8, 1, 800)], 7),
    End(0),
    Begin,
    Begin,
    End(0),
    Append(&[Promise(3), Vote(8, 3, 700)], 8),
    Begin,
    Append(&[Vote(9, 3, 2000)], 8),
    Begin,
    Die,
    Open,
    Append(&[Promise(4), Vote(9, 4, 1500), Vote(10, 4, 30_000)], 9),
    Begin,
    Begin,
    End(1),
    End(0),
    Append(&[Vote(11, 4, 14_000), Vote(12, 4, 14_500)], 11),
    Begin,
    Begin,
    End(0),
    End(0),
    Begin,
    Begin,
    End(0),
    Seal,
    Begin,
    Die,
    Open,
    Append(&[Vote(13, 4, 512)], 13),
];

/// The life of one of three replicas.
pub const MEMBER: [Step; 50] = [
    Open,
    Append(&[Chosen(0, 200), Promise(1)], 0),
    Begin,
    End(0),
    Append(&[Vote(1, 1, 5000), Vote(2, 1, 300)], 1),
    Begin,
    Append(&[Vote(3, 1, 4100)], 1),
    Begin,
    End(1),
    End(0),
    Append(&[What::Doubts(4, 6), Vote(5, 1, 900)], 2),
    Begin,
    Append(&[Vote(4, 1, 2500)], 2),
    Begin,
    End(0),
    End(0),
    Append(&[Chosen(4, 2500), Vote(6, 1, 700)], 4),
    Begin,
    End(0),
    Seal,
    Begin,
    End(0),
    Append(&[Vote(7, 1, 20_000), Vote(8, 1, 15_000)], 5),
    Begin,
    Begin,
    End(0),
    Append(&[Vote(9, 1, 15_500), Promise(2), Vote(8, 2, 640)], 8),
    Begin,
    End(0),
    Begin,
    Begin,
    End(0),
    Append(&[NoDoubts, Chosen(10, 3000), Chosen(11, 100)], 9),
    Begin,
    Append(&[Promise(5), Vote(12, 5, 5000)], 10),
    Begin,
    Die,
    Open,
    Append(&[Vote(13, 5, 8000), What::Doubts(15, 20)], 12),
    Begin,
    Begin,
    End(1),
    Append(&[Chosen(14, 400), Vote(15, 5, 30)], 14),
    Begin,
    End(0),
    End(0),
    Begin,
    Begin,
    Die,
    Open,
];

/// A script, being run.
pub struct Life {
    plan: Arc<Plan>,
    voters: u64,
    journal: Option<Journal<Tampered>>,
    writes: Vec<Begun<Tampered>>,
    /// Where the disk is full, the run ends before the process dies.
    pub heals: bool,
    pub log: Log,
}

/// The journal's options: the smallest segments there are, two lanes.
const OPTIONS: Options = Options {
    segment_bytes: 64 * 1024,
    inflight_max: 2,
    group_bytes_max: 16 * 1024,
    received_sync_bytes: 8192,
};

const WHO: ReplicaId = ReplicaId(1);

/// Opens the journal, and forms the cluster where that was not done.
pub fn open(plan: &Arc<Plan>, voters: u64) -> Result<Journal<Tampered>, JournalError> {
    let mut journal = Journal::open(Tampered::new(plan), OPTIONS, WHO)?;
    if !journal.identity().formed {
        let membership = formed::membership(journal.identity(), voters);
        if journal.identity().membership.is_none() {
            journal.agree(&membership, false)?;
        }
        journal.agree(&membership, true)?;
    }
    Ok(journal)
}

/// The script for so many voters.
pub fn script(voters: u64) -> &'static [Step; 50] {
    if voters == 1 { &ALONE } else { &MEMBER }
}

impl Life {
    pub fn new(plan: Arc<Plan>, voters: u64) -> Self {
        let (journal, writes, log) = (None, Vec::new(), Log::default());
        Self { plan, voters, journal, writes, heals: false, log }
    }

    /// Runs the script up to its end, to what fails, or until the power is gone: not every step
    /// notices.
    pub fn run(&mut self) -> Result<(), JournalError> {
        for step in script(self.voters) {
            // Behind a failure that the process did not live to hear of, what the script says to be
            // chosen need not be.
            let is_other = self.heals || self.plan.fault != Some(Fault::NoSpace);
            let ends = is_other && self.plan.has_happened() && matches!(step, Die);
            if self.plan.disk.is_stopped() || ends {
                break;
            }
            self.step(*step)?;
        }
        Ok(())
    }

    fn step(&mut self, step: Step) -> Result<(), JournalError> {
        match step {
            Open => return self.open(),
            Die => self.die(),
            Append(whats, slot_chosen) => {
                let records: Vec<Record> = whats.iter().map(|what| what.record()).collect();
                return self.append(&records, Slot(slot_chosen));
            }
            Begin => return self.begin(),
            End(number) => return self.end(number),
            Seal => drop(self.journal().seal()?),
        }
        Ok(())
    }

    fn open(&mut self) -> Result<(), JournalError> {
        let mut journal = open(&self.plan, self.voters)?;
        let (found, count) = self.log.check(&mut journal);
        self.log.go_on(&journal, &found, count);
        self.log.formed(&journal);
        self.journal = Some(journal);
        Ok(())
    }

    pub fn die(&mut self) {
        self.writes.clear();
        self.journal = None;
        self.plan.disk.process_crash();
        self.plan.begin_life();
    }

    fn journal(&mut self) -> &mut Journal<Tampered> {
        self.journal.as_mut().expect("the script opens the journal first")
    }

    pub fn append(&mut self, records: &[Record], slot_chosen: Slot) -> Result<(), JournalError> {
        let lsn = self.journal().append(records, slot_chosen)?;
        self.log.append(records, lsn, slot_chosen);
        Ok(())
    }

    fn begin(&mut self) -> Result<(), JournalError> {
        let Some(job) = self.journal().next_job()? else { return Ok(()) };
        let is_prepare = job.is_background();
        let begun = job.begin();
        if is_prepare {
            return self.finish(begun);
        }
        self.writes.push(begun);
        Ok(())
    }

    fn end(&mut self, number: usize) -> Result<(), JournalError> {
        match self.writes.len() {
            0 => Ok(()),
            count => {
                let begun = self.writes.remove(number.min(count - 1));
                self.finish(begun)
            }
        }
    }

    fn finish(&mut self, begun: Begun<Tampered>) -> Result<(), JournalError> {
        let frontier = self.journal().complete(begun.finish())?;
        self.log.acknowledge(frontier.lsn());
        Ok(())
    }

    /// There is space again: everything ends well, without an opening.
    pub fn heal(&mut self) -> Result<(), JournalError> {
        self.journal().retry_prepare();
        for _ in 0..100 {
            while !self.writes.is_empty() {
                self.end(0)?;
            }
            self.begin()?;
        }
        assert!(self.journal().is_idle(), "what was appended is not written, and there is space");
        assert!(!self.journal().is_full());
        assert!(self.log.is_all_acknowledged());
        Ok(())
    }

    pub fn is_open(&self) -> bool {
        self.journal.is_some()
    }

    /// After a failure nothing more is acknowledged or handed out, whatever ends meanwhile.
    pub fn check_poisoned(&mut self, run_the_rest: bool) {
        let writes = std::mem::take(&mut self.writes);
        let Some(journal) = &mut self.journal else { return };
        let frontier = journal.frontier();
        assert!(journal.next_job().is_err(), "a job after a failure");
        assert!(journal.append(&[], Slot(99)).is_err(), "appended after a failure");
        assert!(journal.seal().is_err(), "sealed after a failure");
        for begun in writes.into_iter().filter(|_| run_the_rest) {
            assert!(journal.complete(begun.finish()).is_err(), "completed after a failure");
        }
        assert_eq!(journal.frontier(), frontier, "acknowledged after a failure");
        assert_eq!(frontier.lsn(), self.log.frontier());
    }
}

/// Opens and checks; returns what was found.
pub fn reopen(plan: &Arc<Plan>, voters: u64, log: &Log) -> Result<Recovered, JournalError> {
    let mut journal = open(plan, voters)?;
    Ok(log.check(&mut journal).0)
}

/// A disk as it was when `image` was taken.
pub fn disk_of(image: &indelible::sim::disk::Image) -> SimDisk {
    let disk = SimDisk::new();
    disk.restore(image);
    disk
}

impl What {
    fn record(self) -> Record {
        match self {
            Self::Promise(round) => Record::Promise { ballot: ballot(round) },
            Self::Vote(slot, round, bytes) => {
                let entry = entry(slot, round, bytes);
                Record::Vote { slot: Slot(slot), ballot: ballot(round), entry }
            }
            Self::Chosen(slot, bytes) => {
                Record::Chosen { slot: Slot(slot), entry: entry(slot, 1, bytes) }
            }
            Self::Verdicts(first, end) => {
                let slots = SlotRange { first: Slot(first), end: Slot(end) };
                Record::Verdicts(Verdicts { slots, after: TxId::ZERO, took_id: vec![3] })
            }
            Self::Doubts(faulty, uncertain) => {
                let one = |slot: u64| {
                    let mut set = SlotSet::default();
                    set.insert(SlotRange { first: Slot(slot), end: Slot(slot + 1) });
                    set
                };
                let (faulty, uncertain) = (one(faulty), one(uncertain));
                Record::Doubts(Doubts { promise_lost: false, faulty, uncertain })
            }
            Self::NoDoubts => Record::Doubts(Doubts::default()),
        }
    }
}

fn ballot(round: u64) -> Ballot {
    Ballot { round, leader: WHO }
}

fn entry(slot: u64, round: u64, bytes: usize) -> Entry {
    let mut builder = EntryBuilder::new(Time(1), 0);
    builder.push(&vec![(slot * 8 + round) as u8; bytes]);
    builder.finish()
}
