//! Crash points of taking checkpoints and of trimming, exhaustively: at every boundary of a life in
//! which three are taken, beside commits, the power goes or the operation fails; what is left is
//! opened, with another crash at every boundary of that opening, and opened again. Found is the
//! newest checkpoint that was told to be taken, or the one that was just being taken; it is whole,
//! and so is all that was acknowledged.

#![allow(clippy::unwrap_used, reason = "a test panics on what it does not expect")]

#[path = "support/formed.rs"]
mod formed;
#[path = "support/power.rs"]
mod power;

use indelible::journal::{Journal, JournalError, Options};
use indelible::sim::disk::{Mount, SimDisk, SyncFailure, When};
use indelible::types::bugs::{self, Bug};
use indelible::types::entry::{Entry, EntryBuilder};
use indelible::types::ids::{Ballot, Chain, ReplicaId, Slot};
use indelible::types::record::Record;
use indelible::types::time::Time;
use power::cut;

const WHO: ReplicaId = ReplicaId(1);
const BALLOT: Ballot = Ballot { round: 1, leader: WHO };
const OPTIONS: Options = Options {
    segment_bytes: 64 * 1024,
    inflight_max: 2,
    group_bytes_max: 32 * 1024,
    received_sync_bytes: 8192,
};

/// The slots of which checkpoints are taken, one after the other.
const CHECKPOINTS: [u64; 3] = [3, 5, 9];

/// What the owner of the journal was told.
#[derive(Clone, Copy, Debug, Default)]
struct Told {
    /// The slot of the newest checkpoint that counts, and of the one that is taken.
    checkpoint: u64,
    taking: u64,
    /// Every slot below is durable.
    durable: u64,
    /// Every slot below is trimmed, and was to be.
    trimmed: u64,
    limit: u64,
    formed: bool,
}

struct Life {
    disk: SimDisk,
    voters: u64,
    told: Told,
    /// Every slot below is appended.
    appended: u64,
}

fn entry(slot: u64) -> Entry {
    let mut builder = EntryBuilder::new(Time(1), 0);
    // Three of them fill a segment.
    builder.push(&[slot as u8; 14_000]);
    builder.finish()
}

/// The image of the state below a slot, and its chain.
fn image(slot: u64) -> Vec<Vec<u8>> {
    (1..=3).map(|piece| vec![(slot * 16 + piece) as u8; 900 * piece as usize]).collect()
}

fn chain(slot: u64) -> Chain {
    Chain(u128::from(slot) << 64 | 5)
}

fn open(mount: Mount, voters: u64) -> Result<Journal<Mount>, JournalError> {
    let mut journal = Journal::open(mount, OPTIONS, WHO)?;
    if !journal.identity().formed {
        let membership = formed::membership(journal.identity(), voters);
        journal.agree(&membership, true)?;
    }
    Ok(journal)
}

impl Life {
    fn new(voters: u64) -> Self {
        Self { disk: SimDisk::new(), voters, told: Told::default(), appended: 0 }
    }

    /// Appends one entry after the other, does one job after the other, and begins a checkpoint
    /// whenever all that it is to hold is appended.
    fn run(&mut self) -> Result<(), JournalError> {
        let mut journal = open(self.disk.mount(), self.voters)?;
        self.told.formed = true;
        let mut wanted = CHECKPOINTS.into_iter().peekable();
        for slot in 0..12 {
            let mut records =
                vec![Record::Vote { slot: Slot(slot), ballot: BALLOT, entry: entry(slot) }];
            if slot == 0 {
                records.insert(0, Record::Promise { ballot: BALLOT });
            }
            journal.append(&records, Slot(slot))?;
            self.appended = slot + 1;
            let is_due = |at: &u64| *at <= slot + 1 && !journal.is_taking_checkpoint();
            if let Some(at) = wanted.next_if(is_due) {
                let image = image(at).into_iter();
                journal.begin_checkpoint(Slot(at), chain(at), Box::new(image));
                self.told.taking = at;
            }
            for _ in 0..3 {
                self.work(&mut journal)?;
            }
        }
        while self.work(&mut journal)? {}
        Ok(())
    }

    fn work(&mut self, journal: &mut Journal<Mount>) -> Result<bool, JournalError> {
        let Some(job) = journal.next_job()? else { return Ok(false) };
        let frontier = journal.complete(job.run())?;
        if frontier.lsn() == journal.last_lsn() {
            self.told.durable = self.appended;
        }
        self.told.checkpoint =
            journal.checkpoint().map_or(0, |checkpoint| checkpoint.header().slot.0);
        self.told.trimmed = journal.slot_trimmed().0;
        if let Some(older) = journal.checkpoints().get(1).map(|older| older.header().slot)
            && journal.can_trim(older, 0)
        {
            self.told.limit = older.0;
            journal.trim(older, 0);
        }
        Ok(true)
    }

    /// Opens what is left, and compares it with what was told.
    fn check(&self) -> (u64, usize) {
        let mut journal = open(self.disk.mount(), self.voters).unwrap();
        let recovered = journal.recovered();
        let Told { checkpoint, taking, durable, trimmed, limit, .. } = self.told;
        let first = journal.slot_trimmed().0;
        assert!(first <= limit, "told {:?}, found {first} trimmed", self.told);
        // The readers are told before the identity is.
        assert!(first == 0 || first == trimmed || limit > trimmed, "{:?}, {first}", self.told);
        let found = recovered.slot_checkpointed.0;
        let fits = checkpoint <= found && [0, checkpoint, taking].contains(&found);
        assert!(fits, "told {:?}, found a checkpoint of {found}", self.told);
        assert!(journal.checkpoints().len() <= 2);
        for checkpoint in journal.checkpoints() {
            let header = checkpoint.header();
            assert_eq!(header.chain, chain(header.slot.0));
            let pieces = checkpoint.pieces().map(Result::unwrap).collect::<Vec<_>>();
            assert_eq!(pieces, image(header.slot.0));
        }
        if found > 0 {
            assert_eq!(recovered.chain, chain(found));
        }
        assert!(found <= recovered.slot_chosen.0);
        assert!(recovered.missing.is_empty() && recovered.unreadable.is_empty());
        let known = recovered.slot_chosen.0 as usize + recovered.votes.len();
        assert!(durable as usize <= known, "told {:?}, found {known} slots", self.told);
        assert!(first == 0 || 1 < journal.checkpoints().len(), "trimmed with {found} alone");
        for slot in first..durable {
            if let Some(vote) = recovered.votes.iter().find(|(voted, ..)| voted.0 == slot) {
                assert_eq!(vote.2, entry(slot), "slot {slot}");
                continue;
            }
            let read = journal.reader().read(Slot(slot), Slot(slot + 1), 0).unwrap();
            assert_eq!(read, [entry(slot)], "slot {slot}, told {:?}", self.told);
        }
        let names = self.disk.names();
        let checkpoints = names.iter().filter(|name| name.starts_with("checkpoint"));
        assert!(checkpoints.clone().count() <= 2, "{names:?}");
        assert!(!names.iter().any(|name| name == "checkpoint.new"), "{names:?}");
        (found, known)
    }
}

fn boundaries(voters: u64) -> u64 {
    let mut life = Life::new(voters);
    life.run().unwrap();
    assert_eq!(life.told.checkpoint, 9, "all checkpoints are taken");
    assert_eq!(life.told.durable, 12);
    assert!(life.told.trimmed > 0, "some are trimmed");
    life.disk.boundaries()
}

/// Tries the boundary; returns how many states were opened.
fn crash(voters: u64, boundary: u64, survival: u64) -> u64 {
    let mut life = Life::new(voters);
    life.disk.stop_at(boundary);
    let _ = life.run();
    cut(&life.disk, survival);
    let image = life.disk.image();
    let before = life.disk.boundaries();
    let first = life.check();
    let count = life.disk.boundaries() - before;
    for again in 0..count {
        let disk = SimDisk::new();
        disk.restore(&image);
        disk.stop_at(again);
        assert!(open(disk.mount(), voters).is_err());
        cut(&disk, survival);
        life.disk = disk;
        assert_eq!(life.check(), first, "boundary {boundary}, again at {again}");
    }
    1 + count
}

#[test]
fn power_goes_at_every_boundary() {
    let mut states = 0;
    for voters in [1, 3] {
        for boundary in 0..boundaries(voters) {
            for survival in 0..6 {
                states += crash(voters, boundary, survival);
            }
        }
    }
    println!("{states} states");
    assert!(states > 20_000, "{states} states");
}

#[test]
fn every_sync_fails_once() {
    for failure in [SyncFailure::Keep, SyncFailure::Revert] {
        let mut failed = 0;
        for number in 0..200 {
            let mut life = Life::new(3);
            life.disk.fail_sync(When::after(number), failure);
            if life.run().is_ok() {
                break;
            }
            failed += 1;
            life.disk.disarm();
            cut(&life.disk, number % 4);
            life.check();
        }
        assert!(failed > 20, "{failed} syncs");
    }
}

#[test]
fn seeded_mistakes_are_noticed() {
    for bug in [Bug::CheckpointNotSynced, Bug::SkipDirectorySync, Bug::TrimBeforeIdentity] {
        let count = boundaries(3);
        bugs::switch(Some(bug));
        let noticed = (0..count).any(|boundary| {
            let tried = || (0..3).map(|survival| crash(3, boundary, survival)).sum::<u64>();
            std::panic::catch_unwind(tried).is_err()
        });
        bugs::switch(None);
        assert!(noticed, "nobody notices {}", bug.name());
    }
}
