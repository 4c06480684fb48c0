//! One durable replica: tables, transactions, snapshots, ranges, opening and closing.

use std::collections::BTreeMap;
use std::sync::{Arc, Barrier};

use indelible::{
    ErrorKind, Expectation, Prefix, RawTable, Replica, Role, Snapshot, Table, TableRef, TxId,
};
use serde::{Deserialize, Serialize};

use crate::cluster::{NOTES, PATIENCE, addresses, config, ledger, until};

#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
struct Account {
    owner: String,
    cents: i64,
}

const ACCOUNTS: Table<u64, Account> = Table::new("accounts");
const CITIES: Table<(String, i32), u32> = Table::new("cities");

fn open(path: &std::path::Path) -> Replica {
    let replica = Replica::builder(path).config(config()).open().unwrap();
    replica.wait_ready(PATIENCE).unwrap();
    replica
}

#[test]
fn what_was_committed_keeps_no_replica_open() {
    let directory = tempfile::tempdir().unwrap();
    let replica = Replica::open(directory.path()).unwrap();
    let mut transaction = replica.transaction();
    transaction.put(NOTES, 1, b"text").commit().wait().unwrap();
    let mut other = replica.transaction();
    drop(replica);
    let err = Replica::open(directory.path()).unwrap_err();
    assert_eq!(err.kind(), ErrorKind::Locked, "{err}");
    // With it the replica stops: it may happen, or not.
    let _ended = other.put(NOTES, 2, b"text").commit().wait();
    let replica = Replica::open(directory.path()).unwrap();
    assert!(replica.get(NOTES, 1).wait().unwrap().is_some());
    let err = transaction.commit().wait().unwrap_err();
    assert_eq!(err.kind(), ErrorKind::InvalidArgument, "{err}");
    replica.close().unwrap();
}

#[test]
fn opening_again_finds_everything() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("made").join("by").join("open");
    let mut model = BTreeMap::new();
    let mut last = TxId::ZERO;
    for life in 0..5_u64 {
        let replica = open(&path);
        for (key, (version, value)) in &model {
            let found = replica.get(NOTES, *key).wait().unwrap().unwrap();
            assert_eq!((found.version, &*found.value), (*version, &*Vec::from(*value)));
        }
        assert_eq!(replica.status().txid, last);
        for key in life * 50..life * 50 + 100 {
            let value: [u8; 8] = (key * 1000 + life).to_le_bytes();
            let txid = replica.put(NOTES, key, &value).wait().unwrap().txid.unwrap();
            assert!(txid > last);
            last = txid;
            model.insert(key, (txid, value));
        }
        let gone = life * 50;
        last = replica.delete(NOTES, gone).wait().unwrap().txid.unwrap();
        model.remove(&gone);
        assert!(replica.get(NOTES, gone).wait().unwrap().is_none());
        assert_eq!(replica.snapshot().wait().unwrap().range(NOTES, ..).count(), model.len());
        replica.close().unwrap();
    }
}

#[test]
fn one_that_is_told_where_it_is_reached_listens() {
    let directory = tempfile::tempdir().unwrap();
    let address = addresses(1)[0].1.clone();
    let builder = || Replica::builder(directory.path()).config(config());
    let listens = |builder: indelible::Builder| {
        let replica = builder.open().unwrap();
        replica.wait_ready(PATIENCE).unwrap();
        replica.put(NOTES, 1, b"x").wait().unwrap();
        let listens = std::net::TcpStream::connect(&address).is_ok();
        replica.close().unwrap();
        listens
    };
    assert!(!listens(builder()), "nobody was told where");
    assert!(listens(builder().listen(&address)));
    // What was formed without an address may be given one.
    assert!(listens(builder().peers([(1, &address)])));
    assert!(listens(builder().peers([(1, "name.invalid:1")]).listen(&address)));
    assert!(!listens(builder()));
    let err = builder().peers([(1, "no port")]).open().unwrap_err();
    assert_eq!(err.kind(), ErrorKind::InvalidArgument, "{err}");
    let err = builder().peers([(1, &address), (2, &"b:1".into())]).open().unwrap_err();
    assert_eq!(err.kind(), ErrorKind::MembershipMismatch, "{err}");

    // One that was formed with an address keeps to it, where it is given no other.
    let directory = tempfile::tempdir().unwrap();
    let builder = || Replica::builder(directory.path()).config(config());
    for builder in [builder().peers([(1, &address)]), builder()] {
        assert!(listens(builder));
    }
    let other = addresses(1)[0].1.clone();
    assert!(!listens(builder().peers([(1, &other)])));
    assert!(listens(builder()));
}

#[test]
fn a_closed_replica_can_be_opened_again_beside_its_old_handles() {
    let directory = tempfile::tempdir().unwrap();
    let old = open(directory.path());
    let clone = old.clone();
    let put = old.put(NOTES, 1, b"one");
    let records = old.transactions(TxId::ZERO);
    old.close().unwrap();
    let new = open(directory.path());
    assert_eq!(&*new.get(NOTES, 1).wait().unwrap().unwrap().value, b"one");
    assert_eq!(clone.get(NOTES, 1).wait().unwrap_err().kind(), ErrorKind::Closed);
    put.wait().unwrap();
    drop((clone, records));
    old.close().unwrap();
    new.put(NOTES, 2, b"two").wait().unwrap();
    new.close().unwrap();
}

#[test]
fn a_version_is_the_id_of_the_transaction_that_wrote() {
    let replica = Replica::in_memory().unwrap();
    let mut last = TxId::ZERO;
    for round in 0..20_u64 {
        let written = replica.put(NOTES, 1, &round.to_le_bytes()).wait().unwrap();
        assert_eq!(written.txid, Some(written.at));
        let found = replica.get(NOTES, 1).wait().unwrap().unwrap();
        assert_eq!(Some(found.version), written.txid);
        assert!(found.version > last);
        last = found.version;
    }
    let deleted = replica.delete(NOTES, 1).wait().unwrap();
    assert!(deleted.txid.unwrap() > last);
    let nothing = replica.delete(NOTES, 1).wait().unwrap();
    assert_eq!((nothing.txid, Some(nothing.at)), (None, deleted.txid));
    assert!(replica.get(NOTES, 1).wait().unwrap().is_none());
    replica.close().unwrap();
}

#[test]
fn a_refusal_says_which_condition_and_what_was_found() {
    let replica = Replica::in_memory().unwrap();
    let one = replica.put(NOTES, 1, b"one").wait().unwrap().txid.unwrap();
    let stale = one;
    let newer = replica.put(NOTES, 1, b"newer").wait().unwrap().txid.unwrap();
    let before = replica.status().txid;

    let mut transaction = replica.transaction();
    transaction
        .present(NOTES, 1)
        .absent(NOTES, 2)
        .version(NOTES, 1, stale)
        .put(NOTES, 2, b"never")
        .delete(NOTES, 1);
    let err = transaction.commit().wait().unwrap_err();
    assert!(err.is_refused() && !err.is_retryable() && !err.is_outcome_unknown());
    let conflict = err.conflict().unwrap();
    assert_eq!((conflict.condition, &*conflict.table), (2, "notes"));
    assert_eq!(conflict.key, 1_u64.to_be_bytes());
    assert_eq!((conflict.wanted, conflict.found), (Expectation::Version(stale), Some(newer)));
    assert!(err.request().is_some());
    assert!(err.to_string().contains("notes"), "{err}");

    let mut transaction = replica.transaction();
    transaction.absent(NOTES, 1).put(NOTES, 3, b"never");
    let err = transaction.commit().wait().unwrap_err();
    let conflict = err.conflict().unwrap();
    assert_eq!((conflict.condition, conflict.wanted), (0, Expectation::Absent));
    assert_eq!(conflict.found, Some(newer));

    let mut transaction = replica.transaction();
    transaction.put(NOTES, 3, b"never").present(NOTES, 9);
    let err = transaction.commit().wait().unwrap_err();
    let conflict = err.conflict().unwrap();
    assert_eq!((conflict.condition, conflict.wanted), (0, Expectation::Present));
    assert_eq!(conflict.found, None);

    assert_eq!(replica.status().txid, before, "a refusal takes no id");
    let keys = replica.snapshot().wait().unwrap().range(NOTES, ..).count();
    assert_eq!(keys, 1, "all or nothing");
    assert_eq!(ledger(&replica).len(), 2, "what was refused is not in the ledger");
    replica.close().unwrap();
}

#[test]
fn all_of_a_transaction_has_one_id_across_tables() {
    let replica = Replica::in_memory().unwrap();
    let ada = Account { owner: "Ada".into(), cents: 100 };
    replica.put(ACCOUNTS, 7, &ada).wait().unwrap();
    let mut transaction = replica.transaction();
    transaction.present(ACCOUNTS, 7).delete(ACCOUNTS, 7);
    for key in 0..100 {
        transaction.put(NOTES, key, b"first").put(NOTES, key, b"second");
    }
    transaction.put(CITIES, ("Ulm", -1), &89).put(NOTES, 5, b"x").delete(NOTES, 5);
    let txid = transaction.commit().wait().unwrap().txid.unwrap();
    let snapshot = replica.snapshot().wait().unwrap();
    assert!(snapshot.get(ACCOUNTS, 7).unwrap().is_none());
    assert_eq!(snapshot.get(CITIES, ("Ulm", -1)).unwrap().unwrap().version, txid);
    assert!(snapshot.get(NOTES, 5).unwrap().is_none(), "the later operation stands");
    for entry in snapshot.range(NOTES, ..) {
        let (_, found) = entry.unwrap();
        assert_eq!((found.version, &*found.value), (txid, &b"second"[..]));
    }
    assert_eq!(snapshot.range(NOTES, ..).count(), 99);
    let empty = replica.transaction().commit().wait().unwrap();
    assert_eq!(empty.txid, None);
    replica.close().unwrap();
}

#[test]
fn of_two_racing_conditional_writers_one_wins() {
    let replica = Replica::in_memory().unwrap();
    for round in 0..200_u64 {
        let barrier = Arc::new(Barrier::new(2));
        let race = |who: u8| {
            let (replica, barrier) = (replica.clone(), Arc::clone(&barrier));
            std::thread::spawn(move || {
                let mut transaction = replica.transaction();
                transaction.absent(NOTES, round).put(NOTES, round, &[who]);
                barrier.wait();
                transaction.commit().wait()
            })
        };
        let threads = [race(0), race(1)];
        let results = threads.map(|thread| thread.join().unwrap());
        let winner = results.iter().position(Result::is_ok).unwrap();
        let found = replica.get(NOTES, round).wait().unwrap().unwrap();
        assert_eq!(&*found.value, [u8::try_from(winner).unwrap()]);
        let lost = results[1 - winner].as_ref().unwrap_err();
        assert_eq!(lost.conflict().unwrap().found, Some(found.version));
    }
    replica.close().unwrap();
}

#[test]
fn a_snapshot_stands_still() {
    let directory = tempfile::tempdir().unwrap();
    let replica = open(directory.path());
    let mut snapshots: Vec<(Snapshot, BTreeMap<u64, u64>)> = Vec::new();
    let mut model = BTreeMap::new();
    for round in 0..60_u64 {
        for key in 0..20 {
            match (key + round) % 3 {
                0 => {
                    model.insert(key, round);
                    replica.put(NOTES, key, &round.to_le_bytes()).wait().unwrap();
                }
                1 => {
                    model.remove(&key);
                    replica.delete(NOTES, key).wait().unwrap();
                }
                _ => {}
            }
        }
        snapshots.push((replica.snapshot().wait().unwrap(), model.clone()));
    }
    replica.close().unwrap();
    drop(replica);
    for (snapshot, model) in &snapshots {
        let found = snapshot.range(NOTES, ..).map(Result::unwrap);
        let found =
            found.map(|(key, found)| (key, u64::from_le_bytes((*found.value).try_into().unwrap())));
        assert_eq!(found.collect::<BTreeMap<_, _>>(), *model);
    }
}

#[test]
fn ranges_prefixes_limits_and_reverse_agree_with_a_sorted_map() {
    let replica = Replica::in_memory().unwrap();
    let mut model = BTreeMap::new();
    let mut transaction = replica.transaction();
    for (place, city) in
        ["Aachen", "Aa", "A", "", "Ulm", "Uli", "Ul\0", "Zz\u{10ffff}"].iter().enumerate()
    {
        for year in [-5, i32::MIN, 0, 7, 300, i32::MAX] {
            let people = u32::try_from(place).unwrap();
            transaction.put(CITIES, (*city, year), &people);
            model.insert(((*city).to_owned(), year), people);
        }
    }
    transaction.commit().wait().unwrap();
    let snapshot = replica.snapshot().wait().unwrap();
    let told = |entry: indelible::Result<((String, i32), indelible::Versioned<u32>)>| {
        let (key, found) = entry.unwrap();
        (key, found.value)
    };
    let all = snapshot.range(CITIES, ..).map(told).collect::<Vec<_>>();
    assert_eq!(all, model.clone().into_iter().collect::<Vec<_>>());
    let reversed = snapshot.range(CITIES, ..).rev().map(told).collect::<Vec<_>>();
    assert_eq!(reversed, model.clone().into_iter().rev().collect::<Vec<_>>());
    let (from, to) = (("Aa", 0), ("Uli", 7));
    let owned = |(city, year): (&str, i32)| (city.to_owned(), year);
    let part = snapshot.range(CITIES, from..to).map(told).collect::<Vec<_>>();
    let wanted = model.range(owned(from)..owned(to)).map(|(key, people)| (key.clone(), *people));
    assert_eq!(part, wanted.clone().collect::<Vec<_>>());
    let part = snapshot.range(CITIES, from..=to).rev().take(4).map(told).collect::<Vec<_>>();
    let wanted = model.range(owned(from)..=owned(to)).rev().take(4);
    assert_eq!(part, wanted.map(|(key, people)| (key.clone(), *people)).collect::<Vec<_>>());
    assert_eq!(snapshot.range(CITIES, to..from).count(), 0, "an upside-down range is empty");
    let ulm = snapshot.prefix(CITIES, Prefix(("Ul",)));
    assert_eq!(ulm.count(), 0, "a prefix of a pair is a whole element");
    let ulm = snapshot.prefix(CITIES, Prefix(("Ulm",))).map(told).map(|(key, _)| key.1);
    assert_eq!(ulm.collect::<Vec<_>>(), [i32::MIN, -5, 0, 7, 300, i32::MAX]);
    let mut ends = snapshot.range(CITIES, ..);
    let (mut front, mut back) = (Vec::new(), Vec::new());
    while let Some(entry) = ends.next() {
        front.push(told(entry));
        back.extend(ends.next_back().map(told));
    }
    front.extend(back.into_iter().rev());
    assert_eq!(front, all, "both ends meet in the middle");
    replica.close().unwrap();
}

#[test]
fn a_table_keeps_its_types() {
    const AS_TEXT: Table<u64, String> = Table::new("accounts");
    const AS_BYTES: RawTable<u64> = RawTable::new("accounts");
    const BY_TEXT: Table<String, Account> = Table::new("accounts");
    let directory = tempfile::tempdir().unwrap();
    let ada = Account { owner: "Ada".into(), cents: -3 };
    let replica = open(directory.path());
    replica.put(ACCOUNTS, 1, &ada).wait().unwrap();
    replica.close().unwrap();
    drop(replica);
    let replica = open(directory.path());
    let mismatch = |err: indelible::Error, table: &str| {
        assert_eq!(err.kind(), ErrorKind::TableMismatch, "{err}");
        assert!(err.to_string().contains(table), "{err}");
    };
    mismatch(replica.put(AS_BYTES, 1, b"x").wait().unwrap_err(), "accounts");
    mismatch(replica.put(BY_TEXT, "1", &ada).wait().unwrap_err(), "accounts");
    mismatch(replica.delete(AS_BYTES, 1).wait().unwrap_err(), "accounts");
    mismatch(replica.get(AS_BYTES, 1).wait().unwrap_err(), "accounts");
    mismatch(replica.get(BY_TEXT, "1").wait().unwrap_err(), "accounts");
    let snapshot = replica.snapshot().wait().unwrap();
    mismatch(snapshot.range(BY_TEXT, ..).next().unwrap().unwrap_err(), "accounts");
    let mut both = replica.transaction();
    both.put(NOTES, 1, b"never").put(AS_BYTES, 1, b"x");
    mismatch(both.commit().wait().unwrap_err(), "accounts");
    assert!(replica.get(NOTES, 1).wait().unwrap().is_none(), "nothing of it happened");
    // Both are serde values: what the bytes mean is not told apart, but garbage is never returned.
    let other = replica.get(AS_TEXT, 1).wait();
    assert!(other.as_ref().is_err_and(|err| err.kind() == ErrorKind::Encoding), "{other:?}");
    let record = ledger(&replica).remove(0);
    mismatch(record.changes().of(AS_BYTES).next().unwrap().unwrap_err(), "accounts");
    assert_eq!(record.changes().of(ACCOUNTS).next().unwrap().unwrap().value, Some(ada.clone()));
    assert_eq!(replica.get(ACCOUNTS, 1).wait().unwrap().unwrap().value, ada);
    assert_eq!(TableRef::name(ACCOUNTS), "accounts");
    replica.close().unwrap();
}

#[test]
fn a_lone_replica_tells_about_itself() {
    let directory = tempfile::tempdir().unwrap();
    let replica = Replica::builder(directory.path()).id(7).config(config()).open().unwrap();
    replica.wait_ready(PATIENCE).unwrap();
    for key in 0..10 {
        replica.put(NOTES, key, b"x").wait().unwrap();
    }
    let status = replica.status();
    assert_eq!((status.id.0, status.role, status.ready), (7, Role::Leader, true));
    assert_eq!(status.leader, Some(status.id));
    assert_eq!(status.failures_tolerated, Some(0));
    assert_eq!(status.txid.counter(), 10);
    assert!(status.slot_applied <= status.slot_chosen && status.slot_applied > 0);
    assert!(status.peers.is_empty() && status.trouble.is_none());
    assert_eq!((status.waiting, status.queued_bytes), (0, 0));
    assert!(status.journal_bytes >= 64 * 1024);
    let line = status.to_string();
    assert!(!line.contains('\n') && line.contains("replica 7 leader"), "{line}");
    replica.close().unwrap();
    let status = replica.status();
    assert_eq!((status.role, status.ready), (Role::Stopped, false));
    assert!(status.trouble.is_some_and(|trouble| trouble.contains("closed")));
}

#[test]
fn dropping_every_clone_releases_the_directory() {
    let directory = tempfile::tempdir().unwrap();
    for round in 0..3_u64 {
        let replica = open(directory.path());
        let clone = replica.clone();
        let puts = (0..50).map(|key| replica.put(NOTES, round * 50 + key, b"x"));
        let puts = puts.collect::<Vec<_>>();
        drop(replica);
        clone.put(NOTES, 1000 + round, b"the clone lives").wait().unwrap();
        drop(clone);
        until("the directory can be opened", || {
            let opened = Replica::builder(directory.path()).config(config()).open();
            match opened {
                Ok(replica) => replica.close().is_ok(),
                Err(err) => {
                    assert_eq!(err.kind(), ErrorKind::Locked, "{err}");
                    false
                }
            }
        });
        for put in puts {
            put.wait().unwrap();
        }
    }
    let replica = open(directory.path());
    assert_eq!(replica.snapshot().wait().unwrap().range(NOTES, ..).count(), 153);
    replica.close().unwrap();
}
