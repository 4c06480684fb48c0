//! The ledger read back: what was committed, whole, in order, from any id, on every replica.

use indelible::{Expectation, Record, Replica, Table, Time, TxId};

use crate::cluster::{Cluster, NOTES, config, ledger};

const NAMES: Table<String, String> = Table::new("names");

/// What a test knows of a transaction that it committed.
#[derive(Debug, PartialEq)]
struct Told {
    txid: TxId,
    wanted: Vec<(u64, Expectation)>,
    notes: Vec<(u64, Option<Vec<u8>>)>,
}

fn told(record: &Record) -> Told {
    let key = |bytes: &[u8]| u64::from_be_bytes(bytes.try_into().unwrap());
    let wanted = record.requirements().iter().filter(|wanted| &*wanted.table == "notes");
    let notes = record.changes().of(NOTES).map(Result::unwrap);
    let mut notes: Vec<_> =
        notes.map(|change| (change.key, change.value.map(|value| value.to_vec()))).collect();
    notes.sort();
    Told {
        txid: record.txid(),
        wanted: wanted.map(|wanted| (key(&wanted.key), wanted.wanted)).collect(),
        notes,
    }
}

/// Commits transactions of all sorts on the given replicas in turn, and returns what must be told.
fn commit(replicas: &[&Replica], count: u64) -> Vec<Told> {
    let mut wanted = Vec::new();
    for round in 0..count {
        let replica = replicas[usize::try_from(round).unwrap() % replicas.len()];
        let key = round % 17;
        let current = replica.get(NOTES, key).wait().unwrap();
        let mut transaction = replica.transaction();
        let condition = match current.as_ref().map(|current| current.version) {
            None => {
                transaction.absent(NOTES, key);
                Expectation::Absent
            }
            Some(_) if round % 2 == 0 => {
                transaction.present(NOTES, key);
                Expectation::Present
            }
            Some(version) => {
                transaction.version(NOTES, key, version);
                Expectation::Version(version)
            }
        };
        let delete = current.is_some() && round % 3 == 0;
        let value = (!delete).then(|| vec![7; usize::try_from(round * 13 % 999).unwrap()]);
        match &value {
            Some(value) => transaction.put(NOTES, key, value),
            None => transaction.delete(NOTES, key),
        };
        let text = format!("round {round}");
        transaction.put(NOTES, 100 + round, b"").put(NAMES, &text, &text);
        let txid = transaction.commit().wait().unwrap().txid.unwrap();
        let notes = vec![(key, value), (100 + round, Some(Vec::new()))];
        wanted.push(Told { txid, wanted: vec![(key, condition)], notes });
        // Right after the write, the replica that acknowledged it tells it.
        let last = replica.transactions(TxId::ZERO).last().unwrap().unwrap();
        assert_eq!(last.txid(), txid);
        // Neither a refused transaction nor one without effect is told.
        let mut refused = replica.transaction();
        refused.absent(NOTES, 100 + round).put(NOTES, 5000, b"never");
        assert!(refused.commit().wait().unwrap_err().is_refused());
        assert_eq!(replica.delete(NOTES, 6000).wait().unwrap().txid, None);
    }
    wanted
}

fn compare(replica: &Replica, wanted: &[Told]) {
    replica.snapshot().wait().unwrap();
    let records = ledger(replica);
    let found = records.iter().map(told).collect::<Vec<_>>();
    assert_eq!(found, wanted);
    let mut time = Time(0);
    for record in &records {
        assert!(record.time() >= time && record.time() > Time(1_600_000_000_000));
        time = record.time();
        assert_eq!(record.changes().of(NAMES).count(), 1);
        assert_eq!(record.changes().iter().count(), 3);
    }
    for (place, record) in records.iter().enumerate().step_by(7) {
        let after = replica.transactions(record.txid()).map(Result::unwrap);
        assert!(after.map(|later| later.txid()).eq(records[place + 1..].iter().map(Record::txid)));
    }
    assert_eq!(replica.transactions(TxId::MAX).count(), 0);
}

#[test]
fn one_replica_tells_what_was_committed_also_after_opening_again() {
    let directory = tempfile::tempdir().unwrap();
    let mut wanted = Vec::new();
    for life in 0..3 {
        let replica = Replica::builder(directory.path()).config(config()).open().unwrap();
        if life == 0 {
            wanted = commit(&[&replica], 200);
        }
        compare(&replica, &wanted);
        replica.close().unwrap();
    }
}

#[test]
fn three_replicas_tell_the_same_ledger() {
    let mut cluster = Cluster::tcp();
    let replicas = cluster.open.values().collect::<Vec<_>>();
    let wanted = commit(&replicas, 100);
    replicas.iter().for_each(|replica| compare(replica, &wanted));
    cluster.settle();
    for id in 1..=3 {
        cluster.close(id);
        cluster.open(id);
        compare(cluster.replica(id), &wanted);
    }
    cluster.settle();
}

#[test]
fn the_ledger_is_whole_while_it_grows() {
    let cluster = Cluster::tcp();
    let replicas = cluster.open.values().cloned().collect::<Vec<_>>();
    std::thread::scope(|scope| {
        for (number, replica) in (0..).zip(&replicas) {
            scope.spawn(move || {
                let mut last = None;
                for round in 0..20 {
                    let puts = (0..20).map(|put| {
                        let key = number * 1000 + round * 20 + put;
                        replica.put(NOTES, key, &[0; 100])
                    });
                    for put in puts.collect::<Vec<_>>() {
                        last = last.max(put.wait().unwrap().txid);
                    }
                    let ids = ledger(replica).iter().map(Record::txid).collect::<Vec<_>>();
                    assert!(ids.last().copied() >= last, "acknowledged, but not told");
                    let dense = (1..).map(|counter| TxId::new(0, counter).unwrap());
                    assert!(ids.iter().copied().eq(dense.take(ids.len())), "a gap in the ledger");
                }
            });
        }
    });
    replicas.iter().for_each(|replica| replica.wait_ready(crate::cluster::PATIENCE).unwrap());
    let ledgers = replicas.iter().map(ledger).collect::<Vec<_>>();
    assert_eq!(ledgers[0].len(), 1200);
    assert!(ledgers.iter().all(|other| *other == ledgers[0]));
    cluster.settle();
}
