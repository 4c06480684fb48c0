//! Crash points of a restore, exhaustively: at every boundary the power goes or a sync fails, and
//! what is left is opened. It is blank still, or it is refused, or it is the whole new ledger; and
//! where the restore said that it was done, it is that.

#![allow(clippy::unwrap_used, reason = "a test panics on what it does not expect")]

#[path = "support/power.rs"]
mod power;

use std::collections::BTreeMap;

use indelible::ErrorKind;
use indelible::journal::{Founding, Journal, Options};
use indelible::runtime::restoring::{Source, found, read_directory};
use indelible::sim::disk::{SimDisk, SyncFailure, When};
use indelible::store::Store;
use indelible::types::command::{Command, Key, KeyKind, Operation, TableUse, ValueCodec};
use indelible::types::entry::{Entry, EntryBuilder};
use indelible::types::error::Result;
use indelible::types::ids::{
    Chain, ClusterId, Incarnation, ReplicaId, RequestId, SessionId, Slot, TxId,
};
use indelible::types::membership::{Member, Membership};
use indelible::types::time::Time;
use power::cut;

const WHO: ReplicaId = ReplicaId(3);
const TABLE: TableUse<'static> =
    TableUse { name: "t", key_kind: KeyKind("bytes"), codec: ValueCodec::Raw };

fn put(sequence: u64) -> Entry {
    let key = sequence.to_be_bytes();
    let put = Operation::Put(Key { table: 0, bytes: &key }, &[7; 5000]);
    let request = RequestId { session: SessionId(1), sequence };
    let command = Command { tables: vec![TABLE], operations: vec![put], ..Command::of(request) };
    let mut builder = EntryBuilder::new(Time(sequence as i64), 0);
    builder.push(&command.encode());
    builder.finish()
}

/// What three replicas had written.
fn source() -> Source {
    let store = Store::new();
    let voter = |id| Member {
        id: ReplicaId(id),
        incarnation: Incarnation(id.into()),
        address: id.to_string(),
    };
    let membership = Membership::majority((1..=3).map(voter).collect()).unwrap();
    store.apply(Slot(0), &Entry::membership(&membership)).unwrap();
    for slot in 1..=100 {
        store.apply(Slot(slot), &put(slot)).unwrap();
    }
    Source {
        store,
        cluster: ClusterId(9),
        replica: ReplicaId(1),
        chain: Chain::EMPTY,
        bytes: 0,
        presumed: Vec::new(),
        empty: 0,
        torn: false,
    }
}

fn restore(disk: &SimDisk) -> Result<(ClusterId, TxId)> {
    found(Founding::begin(disk.mount(), WHO)?, Options::default(), source(), TxId::ZERO)
}

/// What is left of a restore.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Left {
    Blank,
    Refused,
    Whole,
}

fn left(disk: &SimDisk) -> Left {
    let names = disk.names();
    let mut journal = match Journal::open(disk.mount(), Options::default(), WHO) {
        Ok(journal) => journal,
        Err(err) => {
            assert_eq!(err.kind(), ErrorKind::Corrupt, "{err}");
            // It stays refused, and nothing is written.
            assert_eq!(disk.names(), names);
            return Left::Refused;
        }
    };
    if !journal.identity().formed {
        assert!(names.iter().all(|name| name == "lock"), "{names:?} passes for blank");
        return Left::Blank;
    }
    let recovered = journal.recovered();
    assert_eq!((recovered.slot_checkpointed, recovered.slot_chosen), (Slot(2), Slot(2)));
    assert!(recovered.votes.is_empty() && recovered.missing.is_empty());
    assert!(journal.is_alone());
    drop(journal);
    let state = read_directory(disk.mount(), Options::default()).unwrap().store;
    let expected = source().store;
    let at = state.applied().txid;
    assert_eq!((at.epoch(), at.counter()), (1, 0));
    for sequence in 1..=100_u64 {
        let found = state.get(&TABLE, &sequence.to_be_bytes(), at).unwrap().unwrap();
        let before = expected.applied().txid;
        let wanted = expected.get(&TABLE, &sequence.to_be_bytes(), before).unwrap().unwrap();
        assert_eq!(found, wanted);
    }
    Left::Whole
}

#[test]
fn power_goes_at_every_boundary() {
    let whole = SimDisk::new();
    restore(&whole).unwrap();
    let boundaries = whole.boundaries();
    assert_eq!(left(&whole), Left::Whole);
    let mut counts = BTreeMap::new();
    for boundary in 0..=boundaries {
        for survival in 0..8 {
            let disk = SimDisk::new();
            disk.stop_at(boundary);
            let done = restore(&disk).is_ok();
            assert_eq!(done, boundary == boundaries);
            cut(&disk, survival);
            let left = left(&disk);
            assert!(left == Left::Whole || !done, "it was said to be done: {left:?}");
            *counts.entry(left).or_insert(0) += 1;
        }
    }
    println!("{boundaries} boundaries, {counts:?}");
    assert!(counts.len() == 3 && boundaries > 10, "{boundaries} boundaries, {counts:?}");
}

#[test]
fn every_sync_fails_once() {
    let mut failed = 0;
    for failure in [SyncFailure::Keep, SyncFailure::Revert] {
        for number in 0..100 {
            let disk = SimDisk::new();
            disk.fail_sync(When::after(number), failure);
            if restore(&disk).is_ok() {
                break;
            }
            failed += 1;
            disk.disarm();
            cut(&disk, number % 4);
            left(&disk);
        }
    }
    // The header and all pieces have one, that of the directory behind the name another.
    assert!(failed >= 10, "{failed} syncs");
}
