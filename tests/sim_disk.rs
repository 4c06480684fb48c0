//! The journal as it ships, on the simulated disk: crashes at every boundary and by chance, failed
//! syncs, and the damage that it must notice.

#![allow(clippy::unwrap_used, reason = "a test panics on what it does not expect")]

use indelible::journal::segment::segment_number;
use indelible::journal::{Journal, JournalError, Options};
use indelible::sim::disk::{DiskFault, Mount, Piece, SimDisk, SyncFailure, When};
use indelible::types::entry::{Entry, EntryBuilder};
use indelible::types::ids::{Ballot, Lsn, ReplicaId, Slot};
use indelible::types::membership::{Member, Membership};
use indelible::types::record::Record;
use indelible::types::time::Time;

const WHO: ReplicaId = ReplicaId(1);

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

fn entry(number: u64) -> Entry {
    let mut builder = EntryBuilder::new(Time(1), 0);
    builder.push(&vec![number as u8 + 1; 1500]);
    builder.finish()
}

fn open(disk: &SimDisk) -> Result<Journal<Mount>, JournalError> {
    let options = Options {
        segment_bytes: 64 * 1024,
        inflight_max: 2,
        group_bytes_max: 16 * 1024,
        received_sync_bytes: 8192,
    };
    let mut journal = Journal::open(disk.mount(), options, WHO)?;
    if !journal.identity().formed {
        let incarnation = journal.identity().incarnation;
        let voter = Member { id: WHO, incarnation, address: String::new() };
        journal.agree(&Membership::majority(vec![voter]).unwrap(), true)?;
    }
    Ok(journal)
}

/// Votes for the slots from `first` on, and does all I/O, until something fails. Returns how many
/// votes are durable.
fn vote(
    journal: &mut Journal<Mount>,
    mut promised: Ballot,
    first: u64,
    count: u64,
) -> (u64, Result<(), JournalError>) {
    let mut records = Vec::new();
    if promised == Ballot::ZERO {
        promised = promised.next_for(WHO).unwrap();
        records.push(Record::Promise { ballot: promised });
    }
    let mut lsns: Vec<Lsn> = Vec::new();
    let mut act = || {
        for slot in first..first + count {
            let (slot, entry) = (Slot(slot), entry(slot));
            records.push(Record::Vote { slot, ballot: promised, entry });
            lsns.push(journal.append(&records, Slot::ZERO)?);
            records.clear();
            while let Some(job) = journal.next_job()? {
                let _ = journal.complete(job.run())?;
            }
        }
        Ok(())
    };
    let result = act();
    let frontier = journal.frontier().lsn();
    (lsns.iter().filter(|lsn| **lsn <= frontier).count() as u64, result)
}

/// The votes for the first slots that an opening finds.
fn found(disk: &SimDisk) -> Result<u64, JournalError> {
    let mut journal = open(disk)?;
    let recovered = journal.recovered();
    for (slot, _, voted) in &recovered.votes {
        assert_eq!(*voted, entry(slot.0), "slot {slot}");
    }
    let slots = recovered.votes.iter().map(|(slot, ..)| slot.0);
    Ok(slots.zip(0..).take_while(|(slot, index)| slot == index).count() as u64)
}

/// The last segment that is in use; the one behind it is made, and all zeros.
fn last_segment(disk: &SimDisk) -> String {
    let in_use = |name: &String| {
        let bytes = disk.durable(name).unwrap_or_default();
        segment_number(name).is_some() && bytes.iter().any(|byte| *byte != 0)
    };
    disk.names().into_iter().rfind(in_use).unwrap()
}

#[test]
fn what_is_durable_is_found_after_a_power_cut_at_every_boundary() {
    let whole = SimDisk::new();
    let (durable, result) = vote(&mut open(&whole).unwrap(), Ballot::ZERO, 0, 40);
    result.unwrap();
    assert_eq!(durable, 40);
    assert!(whole.take_overwritten().is_empty(), "the journal writes over nothing");
    let boundaries = whole.boundaries();
    assert!(boundaries > 100, "{boundaries} boundaries, over more than one segment");
    for stop in 0..boundaries {
        for style in 0..3 {
            let disk = SimDisk::new();
            disk.stop_at(stop);
            let durable = match open(&disk) {
                Ok(mut journal) => vote(&mut journal, Ballot::ZERO, 0, 40).0,
                Err(_) => 0,
            };
            assert!(disk.is_stopped(), "boundary {stop} is reached");
            let mut random = Random(stop);
            disk.power_cut(&mut |_: &Piece<'_>| match style {
                0 => false,
                1 => true,
                _ => random.next().is_multiple_of(2),
            });
            let found = found(&disk).unwrap_or_else(|err| panic!("boundary {stop}: {err}"));
            assert!(found >= durable, "boundary {stop}: {found} of {durable}");
            assert_eq!(disk.fired().of(DiskFault::PowerCut), 1);
        }
    }
}

#[test]
fn an_opening_that_is_cut_short_anywhere_loses_nothing() {
    let before = SimDisk::new();
    vote(&mut open(&before).unwrap(), Ballot::ZERO, 0, 20).1.unwrap();
    before.power_cut(&mut |_| true);
    let image = before.image();
    let start = before.boundaries();
    assert_eq!(found(&before).unwrap(), 20);
    let mut torn = 0;
    for stop in 0..before.boundaries() - start {
        let disk = SimDisk::new();
        disk.restore(&image);
        disk.stop_at(stop);
        assert!(open(&disk).is_err(), "boundary {stop} is within the opening");
        let mut random = Random(stop);
        disk.power_cut(&mut |_| random.next().is_multiple_of(2));
        torn += disk.fired().of(DiskFault::TornWrite);
        assert_eq!(found(&disk).unwrap(), 20, "boundary {stop}");
    }
    assert!(torn > 0, "some write was torn");
}

#[test]
fn lives_on_a_bad_disk_end_with_everything_acknowledged() {
    for seed in 0..100 {
        let mut random = Random(seed);
        let disk = SimDisk::new();
        let mut durable = 0;
        for _life in 0..5 {
            let mut journal = open(&disk).unwrap_or_else(|err| panic!("seed {seed}: {err}"));
            let recovered = journal.recovered();
            let votes = recovered.votes.len() as u64;
            assert!(votes >= durable, "seed {seed}: {votes} of {durable}");
            let failure = [SyncFailure::Keep, SyncFailure::Revert][random.next() as usize % 2];
            let when = When::after(random.next() % 20);
            match random.next() % 4 {
                0 => disk.fail_sync(when, failure),
                1 => disk.fail_write(when, random.next() as usize % 5000),
                2 => disk.fail_directory_sync(when, failure),
                _ => {}
            }
            let before = journal.frontier();
            assert!(before.lsn() > Lsn::ZERO);
            let (more, result) = vote(&mut journal, recovered.promised, votes, random.next() % 30);
            durable = votes + more;
            if result.is_err() {
                assert!(disk.fired().total() > 0);
                assert!(journal.next_job().is_err(), "seed {seed}: no job after a failure");
            }
            drop(journal);
            assert_eq!(disk.take_after_failure(), [], "seed {seed}: writes after a failure");
            disk.disarm();
            match random.next() % 3 {
                0 => disk.process_crash(),
                keep => disk.power_cut(&mut |_| random.next() % 4 < keep),
            }
        }
    }
}

#[test]
fn a_job_that_outlives_its_process_writes_nothing() {
    let disk = SimDisk::new();
    let mut journal = open(&disk).unwrap();
    journal.append(&[Record::Promise { ballot: Ballot::ZERO }], Slot::ZERO).unwrap();
    let job = journal.next_job().unwrap().unwrap();
    disk.process_crash();
    let other = open(&disk).unwrap();
    let image = disk.image();
    let done = job.run();
    assert!(journal.complete(done).is_err());
    drop(journal);
    assert!(open(&disk).is_err(), "the lock is the new process's");
    drop(other);
    assert_eq!(disk.image(), image);
}

#[test]
fn rot_before_the_last_group_is_refused_or_survived_never_believed() {
    let disk = SimDisk::new();
    vote(&mut open(&disk).unwrap(), Ballot::ZERO, 0, 10).1.unwrap();
    disk.power_cut(&mut |_| true);
    let image = disk.image();
    let segment = last_segment(&disk);
    let length = disk.durable_length(&segment).unwrap();
    let (mut refused, mut changed) = (0, 0);
    for sector in 0..length / 512 {
        let disk = SimDisk::new();
        disk.restore(&image);
        if !disk.zero(&segment, sector * 512..(sector + 1) * 512) {
            continue;
        }
        changed += 1;
        match found(&disk) {
            Err(_) => refused += 1,
            Ok(found) => assert!(found >= 9, "sector {sector}: {found}"),
        }
        assert_eq!(disk.fired().of(DiskFault::ZeroedRange), 1, "sector {sector} was read");
    }
    assert!(changed > 20 && refused > 10, "{refused} of {changed} refused");
}

#[test]
fn a_directory_of_another_time_is_noticed_by_its_boot_sequence_only() {
    let disk = SimDisk::new();
    drop(open(&disk).unwrap());
    let image = disk.image();
    drop(open(&disk).unwrap());
    let newest = open(&disk).unwrap().identity().boot.sequence;
    disk.restore(&image);
    assert_eq!(open(&disk).unwrap().identity().boot.sequence, newest - 1);
    assert_eq!(disk.fired().of(DiskFault::SetBack), 1);
}
