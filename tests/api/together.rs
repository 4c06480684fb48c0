//! Three replicas: reads from everywhere, writes from everywhere, each once.

use std::collections::BTreeMap;
use std::thread;

use indelible::{Edition, Replica, Role, TxId};

use crate::cluster::{Cluster, NOTES, PATIENCE, config, ledger, until};

/// Writes on one replica and reads on the others at once, round and round.
fn write_here_read_there(cluster: &Cluster, rounds: u64, salt: u64) {
    let ids = cluster.ids();
    for round in 0..rounds {
        let writer = cluster.replica(ids[usize::try_from(round).unwrap() % ids.len()]);
        let value = (salt + round).to_le_bytes();
        let txid = writer.put(NOTES, 1, &value).wait().unwrap().txid.unwrap();
        for id in &ids {
            let found = cluster.replica(*id).get(NOTES, 1).wait().unwrap().unwrap();
            assert_eq!((found.version, &*found.value), (txid, &value[..]), "on replica {id}");
            let snapshot = cluster.replica(*id).snapshot().wait().unwrap();
            assert!(snapshot.txid() >= txid, "on replica {id}");
        }
    }
}

#[test]
fn reads_are_linearizable_from_every_replica_over_tcp() {
    let mut cluster = Cluster::tcp();
    write_here_read_there(&cluster, 60, 0);
    let leader = cluster.leader();
    cluster.close(leader);
    cluster.leader();
    write_here_read_there(&cluster, 40, 1000);
    cluster.open(leader);
    cluster.replica(leader).wait_ready(PATIENCE).unwrap();
    write_here_read_there(&cluster, 60, 2000);
    cluster.settle();
}

#[test]
fn reads_that_come_while_a_round_is_under_way_are_answered() {
    // Their callers leave them to whoever ends it, so that they share rounds.
    let cluster = Cluster::in_process(config());
    let leader = cluster.leader();
    let read_on = |replica: &Replica, count: usize| {
        let txid = replica.put(NOTES, 1, b"text").wait().unwrap().txid.unwrap();
        let reads = (0..count).map(|_| replica.get(NOTES, 1)).collect::<Vec<_>>();
        for read in reads {
            assert!(txid <= read.wait().unwrap().unwrap().version, "read from the past");
        }
    };
    thread::scope(|scope| {
        for count in [1, 1, 7, 64] {
            let replica = cluster.replica(leader).clone();
            scope.spawn(move || (0..50).for_each(|_| read_on(&replica, count)));
        }
    });
    let (rounds, reads) = (cluster.replica(leader).status().read_rounds, 50 * (1 + 1 + 7 + 64));
    assert!(rounds < reads, "{rounds} rounds for {reads} reads");
    // No round ends while the leader is alone: its next question, or the next leader, ends it.
    cluster.isolate(leader);
    let replica = cluster.replica(leader);
    let reads = (0..5).map(|_| replica.get(NOTES, 1)).collect::<Vec<_>>();
    cluster.heal(leader);
    reads.into_iter().for_each(|read| assert!(read.wait().unwrap().is_some()));
    cluster.settle();
}

#[test]
fn reads_are_linearizable_after_a_deposed_leader_returns() {
    let cluster = Cluster::in_process(config());
    for round in 0..4 {
        let old = cluster.leader();
        let others = cluster.ids().into_iter().filter(|id| *id != old).collect::<Vec<_>>();
        cluster.isolate(old);
        // It may still believe that it leads. A read from it must not be answered from the past.
        let stale = cluster.replica(old).get(NOTES, 1);
        let new = cluster.leader_among(&others);
        let value = [round; 3];
        let txid = cluster.replica(new).put(NOTES, 1, &value).wait().unwrap().txid.unwrap();
        let late = cluster.replica(old).get(NOTES, 1);
        cluster.heal(old);
        assert_eq!(late.wait().unwrap().unwrap().version, txid, "read from the past");
        stale.wait().unwrap();
        write_here_read_there(&cluster, 9, u64::from(round) * 100);
    }
    cluster.settle();
}

#[test]
fn writers_on_all_replicas_are_each_committed_once() {
    for cluster in [Cluster::tcp(), Cluster::in_process(config())] {
        let writer = |id: u64, thread: u64| {
            let replica = cluster.replica(id);
            let mut told = Vec::new();
            for batch in 0..10_u64 {
                let puts = (0..25_u64).map(|put| {
                    // One in three goes to a key for which all compete.
                    let own = id * 1_000_000 + thread * 10_000 + batch * 100 + put;
                    let key = if put % 3 == 0 { put } else { own };
                    (own, replica.put(NOTES, key, &own.to_le_bytes()))
                });
                for (own, put) in puts.collect::<Vec<_>>() {
                    let committed = put.wait().unwrap();
                    told.push((committed.txid.unwrap(), own, committed.request));
                }
            }
            told
        };
        let writer = &writer;
        let told = std::thread::scope(|scope| {
            let threads = (1..=3).flat_map(|id| (0..3).map(move |thread| (id, thread)));
            let threads = threads.map(|(id, thread)| scope.spawn(move || writer(id, thread)));
            let threads = threads.collect::<Vec<_>>();
            let told = threads.into_iter().flat_map(|thread| thread.join().unwrap());
            told.map(|(txid, own, request)| (txid, (own, request))).collect::<BTreeMap<_, _>>()
        });
        assert_eq!(told.len(), 9 * 250, "an id was given twice");
        cluster.settle();
        for id in cluster.ids() {
            let found = ledger(cluster.replica(id)).into_iter().map(|record| {
                let value = record.changes().of(NOTES).next().unwrap().unwrap().value.unwrap();
                let own = u64::from_le_bytes((*value).try_into().unwrap());
                (record.txid(), (own, record.request()))
            });
            assert_eq!(found.collect::<BTreeMap<_, _>>(), told, "replica {id}");
        }
    }
}

#[test]
fn conditions_race_across_replicas() {
    let cluster = Cluster::tcp();
    replicas_increment(&cluster, 40);
    cluster.settle();
}

/// Three counters' worth of increments on one key, each conditional on the version that it read.
fn replicas_increment(cluster: &Cluster, each: u64) {
    let mut zero = cluster.replica(1).transaction();
    zero.absent(NOTES, 0).put(NOTES, 0, &0_u64.to_le_bytes());
    zero.commit().wait().unwrap();
    std::thread::scope(|scope| {
        for replica in cluster.open.values() {
            scope.spawn(move || {
                let mut done = 0;
                while done < each {
                    let now = replica.get(NOTES, 0).wait().unwrap().unwrap();
                    let next = u64::from_le_bytes((*now.value).try_into().unwrap()) + 1;
                    let mut transaction = replica.transaction();
                    transaction.version(NOTES, 0, now.version).put(NOTES, 0, &next.to_le_bytes());
                    match transaction.commit().wait() {
                        Ok(_) => done += 1,
                        Err(err) => assert!(err.conflict().unwrap().found > Some(now.version)),
                    }
                }
            });
        }
    });
    let total = cluster.replica(2).get(NOTES, 0).wait().unwrap().unwrap();
    assert_eq!(*total.value, (3 * each).to_le_bytes());
}

#[test]
fn much_from_a_follower_at_once_is_committed_or_refused_as_busy() {
    let cluster = Cluster::tcp();
    let follower = cluster.replica(cluster.follower());
    let value = vec![5; 1024 * 1024];
    let puts = (0..48).map(|key| follower.put(NOTES, key, &value)).collect::<Vec<_>>();
    for put in puts {
        if let Err(err) = put.wait() {
            assert_eq!(err.kind(), indelible::ErrorKind::Busy, "{err}");
        }
    }
    cluster.settle();
}

#[test]
fn a_cluster_tells_about_itself() {
    let mut cluster = Cluster::tcp();
    let leader = cluster.leader();
    (0..20).for_each(|key| drop(cluster.replica(1).put(NOTES, key, b"x")));
    cluster.replica(1).put(NOTES, 20, b"x").wait().unwrap();
    cluster.settle();
    until("all hear each other", || {
        cluster.ids().iter().all(|id| {
            let status = cluster.status(*id);
            status.peers.iter().all(|peer| peer.heard && peer.connected)
                && status.failures_tolerated == Some(1)
        })
    });
    let round = cluster.status(leader).round;
    for id in cluster.ids() {
        let status = cluster.status(id);
        let role = if id == leader { Role::Leader } else { Role::Follower };
        assert_eq!((status.id.0, status.role, status.ready), (id, role, id == leader));
        assert_eq!((status.leader.map(|leader| leader.0), status.round), (Some(leader), round));
        assert_eq!(status.txid, TxId::new(0, 21).unwrap());
        let peers = status.peers.iter().map(|peer| peer.id.0).collect::<Vec<_>>();
        assert_eq!(peers, (1..=3).filter(|other| *other != id).collect::<Vec<_>>());
        assert!(status.peers.iter().all(|peer| peer.garbage == 0 && peer.refused.is_none()));
        assert!(status.peers.iter().all(|peer| peer.knows == Edition::KNOWN), "{status:?}");
        assert_eq!((status.waiting, status.queued_bytes), (0, 0));
        assert!(status.trouble.is_none(), "{status}");
        let line = status.to_string();
        assert!(line.contains(&format!("replica {id} {role} leader={leader}")), "{line}");
    }
    let gone = cluster.follower();
    cluster.close(gone);
    until("the loss is noticed", || {
        let status = cluster.status(leader);
        status.failures_tolerated == Some(0) && status.peers.iter().any(|peer| !peer.heard)
    });
    let lost = || {
        let mut peers = cluster.status(leader).peers.into_iter();
        peers.find(|peer| peer.id.0 == gone).unwrap()
    };
    let before = lost();
    assert!(!before.heard && !before.connected);
    until("what is for it is dropped", || before.dropped < lost().dropped);
    assert_eq!(lost().queued_bytes, 0);
}
