//! What the directory of the one replica that is left adds up to: everything that is known to be
//! chosen, and behind it what was voted for.

#![allow(clippy::unwrap_used, reason = "a test panics on what it does not expect")]

#[path = "support/formed.rs"]
mod formed;

use indelible::ErrorKind;
use indelible::journal::disk::File;
use indelible::journal::{Disk, Founding, Journal, MemoryDisk, Options};
use indelible::runtime::restoring::{Source, found, read_directory};
use indelible::types::command::{Command, Key, KeyKind, Operation, TableUse, ValueCodec};
use indelible::types::entry::{Entry, EntryBuilder};
use indelible::types::error::Result;
use indelible::types::ids::{Ballot, Chain, ReplicaId, RequestId, SessionId, Slot, TxId};
use indelible::types::record::Record;
use indelible::types::time::Time;

const WHO: ReplicaId = ReplicaId(1);
const BALLOT: Ballot = Ballot { round: 1, leader: WHO };
const TABLE: TableUse<'static> =
    TableUse { name: "t", key_kind: KeyKind("bytes"), codec: ValueCodec::Raw };

fn put(sequence: u64) -> Entry {
    let key = sequence.to_be_bytes();
    let put = Operation::Put(Key { table: 0, bytes: &key }, b"value");
    let request = RequestId { session: SessionId(1), sequence };
    let command = Command { tables: vec![TABLE], operations: vec![put], ..Command::of(request) };
    let mut builder = EntryBuilder::new(Time(1), 0);
    builder.push(&command.encode());
    builder.finish()
}

/// A directory of one of three replicas, which knows slots below `chosen`, and voted for more.
fn directory(chosen: u64, votes: &[u64]) -> MemoryDisk {
    let disk = MemoryDisk::new();
    let mut journal = Journal::open(disk.clone(), Options::default(), WHO).unwrap();
    let membership = formed::membership(journal.identity(), 3);
    journal.agree(&membership, true).unwrap();
    let first = Record::Chosen { slot: Slot(0), entry: Entry::membership(&membership) };
    journal.append(&[Record::Promise { ballot: BALLOT }, first], Slot(1)).unwrap();
    let vote = |slot| Record::Vote { slot: Slot(slot), ballot: BALLOT, entry: put(slot) };
    let known = (1..chosen).map(vote).collect::<Vec<_>>();
    journal.append(&known, Slot(chosen)).unwrap();
    let more = votes.iter().copied().map(vote).collect::<Vec<_>>();
    journal.append(&more, Slot(chosen)).unwrap();
    finish(&mut journal);
    disk
}

fn finish(journal: &mut Journal<MemoryDisk>) {
    while let Some(job) = journal.next_job().unwrap() {
        journal.complete(job.run()).unwrap();
    }
}

fn read(disk: &MemoryDisk) -> Result<Source> {
    read_directory(disk.clone(), Options::default())
}

/// Which keys are there.
fn keys(source: &Source) -> Vec<u64> {
    let at = source.store.applied().txid;
    let is_there = |key: &u64| source.store.get(&TABLE, &key.to_be_bytes(), at).unwrap().is_some();
    (0..100).filter(is_there).collect()
}

#[test]
fn what_is_chosen_is_there() {
    let source = read(&directory(5, &[])).unwrap();
    assert_eq!(keys(&source), [1, 2, 3, 4]);
    assert_eq!((source.presumed.len(), source.empty), (0, 0));
    assert_eq!(source.replica, WHO);
    assert_ne!(source.chain, Chain::EMPTY);
    assert_eq!(source.store.applied().txid, TxId::from_number(4).unwrap());
}

#[test]
fn what_was_voted_for_may_have_been_acknowledged() {
    let source = read(&directory(3, &[3, 4, 6, 9])).unwrap();
    assert_eq!(keys(&source), [1, 2]);
    assert_eq!((source.presumed.clone(), source.empty), ([3, 4, 6, 9].map(put).to_vec(), 3));
    // They have ids of the new epoch: which ones they had is not known.
    let target = Founding::begin(MemoryDisk::new(), ReplicaId(9)).unwrap();
    let (_, at) = found(target, Options::default(), source, TxId::ZERO).unwrap();
    assert_eq!((at.epoch(), at.counter()), (1, 4));
}

#[test]
fn votes_before_a_torn_end_are_not_given_up() {
    // Each vote in a group of its own, and a tear in the last: of the others it is known that they
    // were durable, and the opening doubts them all the same.
    let vote = |slot| Record::Vote { slot: Slot(slot), ballot: BALLOT, entry: put(slot) };
    expect_before_a_torn_end((5..9).map(vote), &[5, 6, 7], 0);
}

/// Behind slot 5 these records stand, each in a group of its own, the last of them about slot 8 and
/// torn: these slots are taken, and so many between them are empty.
#[track_caller]
fn expect_before_a_torn_end(
    records: impl IntoIterator<Item = Record>,
    presumed: &[u64],
    empty: u64,
) {
    let disk = directory(5, &[]);
    let mut journal = Journal::open(disk.clone(), Options::default(), WHO).unwrap();
    for record in records {
        journal.append(&[record], Slot(5)).unwrap();
        finish(&mut journal);
    }
    drop(journal);
    rot(&disk, 8);
    let presumed = presumed.iter().copied().map(put).collect::<Vec<_>>();
    // Also where somebody tried before.
    for again in 0..3 {
        let source = read(&disk).unwrap();
        assert!(source.torn);
        assert_eq!(source.presumed, presumed, "opened {again} times before");
        assert_eq!(source.empty, empty, "opened {again} times before");
    }
}

#[test]
fn what_was_told_before_a_torn_end_is_not_given_up() {
    // For slot 6 it voted for something else, before or after: what was told is chosen.
    let other = Record::Vote { slot: Slot(6), ballot: BALLOT, entry: put(60) };
    let told = |slot| Record::Chosen { slot: Slot(slot), entry: put(slot) };
    let last = Record::Vote { slot: Slot(8), ballot: BALLOT, entry: put(8) };
    // What is known of the second vote, if it is the last of what is whole, is written again.
    let lives = [
        vec![other.clone(), told(6), other.clone(), told(7), last.clone()],
        vec![other.clone(), told(7), told(6), other, last],
    ];
    for records in lives {
        // Slot 5 is empty.
        expect_before_a_torn_end(records, &[6, 7], 1);
    }
}

#[test]
fn who_left_its_cluster_is_no_survivor() {
    let disk = directory(5, &[]);
    let mut journal = Journal::open(disk.clone(), Options::default(), WHO).unwrap();
    let present = journal.identity().membership.clone().unwrap();
    let entry = Entry::membership(&present.without(WHO).unwrap().following(&present));
    let vote = Record::Vote { slot: Slot(5), ballot: BALLOT, entry };
    journal.append(&[vote], Slot(6)).unwrap();
    finish(&mut journal);
    drop(journal);
    let err = read(&disk).unwrap_err();
    assert_eq!(err.kind(), ErrorKind::InvalidArgument, "{err}");
    assert!(err.to_string().contains("no member"), "{err}");
}

#[test]
fn nothing_is_taken_from_a_directory_that_lacks_what_was_chosen() {
    let disk = directory(20, &[]);
    // It is written down that all of it is durable.
    let mut journal = Journal::open(disk.clone(), Options::default(), WHO).unwrap();
    let vote = Record::Vote { slot: Slot(20), ballot: BALLOT, entry: put(20) };
    journal.append(&[vote], Slot(20)).unwrap();
    finish(&mut journal);
    assert!(journal.seal().unwrap());
    finish(&mut journal);
    drop(journal);
    rot(&disk, 10);
    let err = read(&disk).unwrap_err();
    assert_eq!(err.kind(), ErrorKind::Corrupt, "{err}");
    assert!(err.to_string().contains("slot 10"), "{err}");
}

#[test]
fn a_torn_end_is_told() {
    let disk = directory(5, &[5, 6]);
    assert!(!read(&disk).unwrap().torn);
    let disk = directory(1, &[1, 2]);
    rot(&disk, 2);
    let source = read(&disk).unwrap();
    assert!(source.torn);
    assert_eq!(source.store.applied().slot, Slot(1));
}

/// A bit changes of the entry in this slot, wherever it stands.
fn rot(disk: &MemoryDisk, slot: u64) {
    let entry = put(slot);
    let names = disk.list().unwrap().into_iter().filter(|name| name.starts_with("segment"));
    for name in names {
        let file = disk.open(&name).unwrap();
        let mut bytes = vec![0; 64 * 1024];
        let count = file.read_at(0, &mut bytes).unwrap();
        let mut windows = bytes[..count].windows(entry.bytes().len());
        if let Some(at) = windows.position(|it| it == entry.bytes()) {
            file.write_at(at as u64, &[bytes[at] ^ 1]).unwrap();
        }
    }
}

#[test]
fn nobody_survives_in_a_blank_directory() {
    let disk = MemoryDisk::new();
    assert_eq!(read(&disk).unwrap_err().kind(), ErrorKind::InvalidArgument);
    // One that never formed a cluster has nothing that was acknowledged.
    drop(Journal::open(disk.clone(), Options::default(), WHO).unwrap());
    assert_eq!(read(&disk).unwrap_err().kind(), ErrorKind::InvalidArgument);
}
