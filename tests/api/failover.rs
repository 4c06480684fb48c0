//! Leaders that go, replicas that come back, and what must be as it was.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use indelible::{Config, Replica, TxId};

use crate::cluster::{Cluster, NOTES, PATIENCE, config, ledger, until};

/// Writes on, over any failure, until it is committed.
fn insist(replica: &Replica, key: u64, value: &[u8]) -> TxId {
    let deadline = std::time::Instant::now() + PATIENCE;
    loop {
        match replica.put(NOTES, key, value).wait() {
            Ok(committed) => return committed.txid.unwrap(),
            Err(err) => {
                assert!(err.is_retryable() || err.is_outcome_unknown(), "{err}");
                assert!(std::time::Instant::now() < deadline, "{err}");
            }
        }
    }
}

#[test]
fn the_others_go_on_when_the_leader_closes_and_it_catches_up() {
    let mut cluster = Cluster::tcp();
    let mut model = BTreeMap::new();
    for round in 0..4_u64 {
        for key in 0..40 {
            let replica = cluster.replica(1 + (key + round) % 3);
            insist(replica, key, &[u8::try_from(round).unwrap(); 50]);
            model.insert(key, round);
        }
        let leader = cluster.leader();
        cluster.close(leader);
        for key in 40..300 {
            let ids = cluster.ids();
            let replica = cluster.replica(ids[usize::try_from(key).unwrap() % 2]);
            insist(replica, key, &[u8::try_from(round).unwrap(); 500]);
            model.insert(key, round);
        }
        cluster.open(leader);
        cluster.replica(leader).wait_ready(PATIENCE).unwrap();
        cluster.settle();
        let snapshot = cluster.replica(leader).snapshot().wait().unwrap();
        let found = snapshot.range(NOTES, ..).map(Result::unwrap);
        let found = found.map(|(key, found)| (key, u64::from(found.value[0])));
        assert_eq!(found.collect::<BTreeMap<_, _>>(), model);
    }
    let ledgers = cluster.open.values().map(ledger).collect::<Vec<_>>();
    assert!(ledgers[0] == ledgers[1] && ledgers[1] == ledgers[2]);
}

#[test]
fn writes_go_on_while_every_replica_is_closed_and_opened_in_turn() {
    let mut cluster = Cluster::tcp();
    let stop = AtomicBool::new(false);
    let mut acknowledged = BTreeMap::new();
    for id in [1, 2, 3, 1, 2, 3] {
        let others = cluster.ids().into_iter().filter(|other| *other != id);
        let others = others.map(|id| cluster.replica(id).clone()).collect::<Vec<_>>();
        stop.store(false, Ordering::SeqCst);
        let base = acknowledged.len() as u64;
        let written = std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                let mut written = Vec::new();
                while !stop.load(Ordering::SeqCst) || written.len() < 50 {
                    let key = 1_000_000 * id + base + written.len() as u64;
                    let replica = &others[written.len() % 2];
                    written.push((insist(replica, key, &key.to_le_bytes()), key));
                }
                written
            });
            cluster.close(id);
            cluster.open(id);
            cluster.replica(id).wait_ready(PATIENCE).unwrap();
            stop.store(true, Ordering::SeqCst);
            writer.join().unwrap()
        });
        acknowledged.extend(written);
    }
    cluster.settle();
    for replica in cluster.open.values() {
        let ledger = ledger(replica);
        let found = ledger
            .iter()
            .map(|record| (record.txid(), record.changes().of(NOTES).next().unwrap().unwrap().key));
        let found = found.collect::<BTreeMap<_, _>>();
        for (txid, key) in &acknowledged {
            assert_eq!(found.get(txid), Some(key), "{txid} was acknowledged");
        }
    }
}

#[test]
fn a_follower_that_was_cut_off_catches_up_with_thousands_of_writes() {
    let cluster = Cluster::in_process(config());
    let away = cluster.follower();
    let leader = cluster.leader();
    let network = cluster.network.clone().unwrap();
    for round in 0..2_u64 {
        cluster.isolate(away);
        for batch in 0..10_u64 {
            let puts = (0..300).map(|key| {
                let key = round * 3000 + batch * 300 + key;
                cluster.replica(leader).put(NOTES, key, &[9; 700])
            });
            for put in puts.collect::<Vec<_>>() {
                put.wait().unwrap();
            }
        }
        let behind = cluster.status(away).slot_applied;
        assert!(behind < cluster.status(leader).slot_applied);
        // At first only what the leader says comes through.
        network.heal(leader, away);
        network.heal(away, leader);
        cluster.settle();
        cluster.heal(away);
        let count = cluster.replica(away).snapshot().wait().unwrap().range(NOTES, ..).count();
        assert_eq!(count as u64, (round + 1) * 3000);
    }
    cluster.settle();
}

#[test]
fn a_link_that_works_one_way_only_does_not_stop_the_others() {
    // A forwarded write may be lost on the link that is cut: that ends soon, and as unknown.
    let impatient = Config { request_timeout: Duration::from_secs(1), ..config() };
    let cluster = Cluster::in_process(impatient);
    let network = cluster.network.clone().unwrap();
    for (from, to) in [(1, 2), (2, 1), (1, 3), (3, 1), (2, 3), (3, 2)] {
        network.cut(from, to);
        until("somebody leads", || {
            let put = cluster.open.values().map(|replica| replica.put(NOTES, 1, b"x"));
            put.collect::<Vec<_>>().into_iter().any(|put| put.wait().is_ok())
        });
        network.heal(from, to);
        cluster.leader();
    }
    cluster.settle();
}

#[test]
fn all_closed_at_once_and_opened_again_go_on() {
    let mut cluster = Cluster::tcp();
    let mut last = TxId::ZERO;
    for round in 0..3_u64 {
        for key in 0..100 {
            let txid = insist(cluster.replica(1 + key % 3), round * 100 + key, b"x");
            assert!(txid > last);
            last = txid;
        }
        let open = std::mem::take(&mut cluster.open);
        std::thread::scope(|scope| {
            for replica in open.into_values() {
                scope.spawn(move || replica.close().unwrap());
            }
        });
        (1..=3).for_each(|id| cluster.open(id));
        cluster.open.values().for_each(|replica| replica.wait_ready(PATIENCE).unwrap());
    }
    cluster.settle();
    assert_eq!(cluster.status(1).txid, last);
    assert_eq!(ledger(cluster.replica(2)).len(), 300);
}
