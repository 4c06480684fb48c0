//! What callers are told: one outcome each, in time, and the state moves with it.

use std::time::Duration;

use indelible::sim::network::Fate;
use indelible::{Committed, Error, Pending, TxId};

use super::support::{BOUND, Cluster, NOTES, for_seeds, nothing_survives};

const KEY: u64 = 1 << 40;

/// A write of `KEY` on the condition that it has this version.
fn swap(
    cluster: &Cluster,
    id: indelible::ReplicaId,
    version: TxId,
    value: &[u8],
) -> Pending<Committed> {
    let mut transaction = cluster.replica(id).transaction();
    transaction.version(NOTES, KEY, version).put(NOTES, KEY, value);
    transaction.commit()
}

#[test]
fn apply_atomicity() {
    // etcd #13766, #14685, #17780; openraft #1246, #883; d-engine #228: a crash between the state
    // and the mark of how far it goes applies an entry twice, or never.
    for_seeds(3, |cluster| {
        let mut newest = TxId::ZERO;
        for _ in 0..8 {
            let writer = cluster.ids()[cluster.below(3) as usize];
            let writes = (0..4).map(|_| cluster.begin(writer, 500)).collect::<Vec<_>>();
            cluster.run_for(Duration::from_micros(cluster.below(12_000)));
            let victim = cluster.ids()[cluster.below(3) as usize];
            match cluster.below(2) {
                0 => cluster.crash(victim),
                _ => cluster.cut_power(victim, &mut nothing_survives),
            }
            cluster.reopen(victim);
            writes.into_iter().for_each(|write| drop(cluster.end(write)));
            cluster.expect("it is level", Cluster::is_level);
            let txid = cluster.replica(victim).stale_snapshot().txid();
            assert!(newest <= txid, "{newest}, then {txid}");
            newest = txid;
            cluster.check_state();
        }
        cluster.settle();
    });
}

#[test]
fn lone_replica_applies_once() {
    // openraft #1246, 97d92771; tsoracle #224: after a restart nothing is applied twice, nothing is
    // missing, and no id is given again.
    for_seeds(1, |cluster| {
        let a = cluster.leader;
        for _ in 0..6 {
            cluster.write_some(a, 3);
            let before = cluster.replica(a).status();
            match cluster.below(2) {
                0 => cluster.crash(a),
                _ => cluster.cut_power(a, &mut nothing_survives),
            }
            cluster.reopen(a);
            cluster.expect("it leads", |sim| sim.leader().is_some());
            let after = cluster.replica(a).status();
            assert_eq!((before.txid, before.digest), (after.txid, after.digest));
            let next = cluster.replica(a).put(NOTES, KEY, b"next").wait().unwrap();
            assert_eq!(next.txid.map(TxId::counter), Some(before.txid.counter() + 1));
        }
        cluster.settle();
    });
}

/// What a conditional write came to, where nobody may know.
fn outcome(result: Result<Committed, Error>) -> Option<Result<TxId, Option<TxId>>> {
    match result {
        Ok(committed) => Some(Ok(committed.txid.unwrap())),
        Err(err) if err.is_refused() => Some(Err(err.conflict().unwrap().found)),
        Err(_) => None,
    }
}

#[test]
fn unknown_outcome_cas() {
    // FoundationDB's commit_unknown_result, etcd's robustness model, curvine #676: a conditional
    // write is proposed, its leader dies, and it is tried again, or another client is faster.
    for_seeds(3, |cluster| {
        let (a, b, c) = (cluster.leader, cluster.others[0], cluster.others[1]);
        let first = cluster.replica(a).put(NOTES, KEY, b"first").wait().unwrap().txid.unwrap();
        let kind = ["Accept", "Accepted"][cluster.below(2) as usize];
        cluster.rule(Fate::Drop, move |parcel| {
            parcel.message.name() == kind && (parcel.link.from == a || parcel.link.to == a)
        });
        let lost = swap(cluster, a, first, b"lost");
        cluster.run_for(Duration::from_millis(50));
        cluster.cut_power(a, &mut |piece| piece.number % 2 == 0);
        let err = lost.wait().expect_err("nobody could know");
        assert!(err.is_outcome_unknown(), "{err}");
        cluster.heal();
        cluster.reopen(a);
        cluster.expect("somebody leads", |sim| sim.leader().is_some());

        let retries = [swap(cluster, b, first, b"again"), swap(cluster, c, first, b"other")];
        let outcomes = retries.map(|retry| outcome(retry.wait()));
        let found = cluster.replica(b).get(NOTES, KEY).wait().unwrap().unwrap();
        let winners = outcomes.iter().filter(|it| matches!(it, Some(Ok(_)))).count();
        assert!(winners <= 1, "{outcomes:?}");
        assert!(found.version > first, "{outcomes:?}: somebody wrote");
        for (value, outcome) in [&b"again"[..], b"other"].into_iter().zip(outcomes) {
            match outcome {
                Some(Ok(version)) => {
                    assert_eq!((&found.value[..], found.version), (value, version))
                }
                Some(Err(faster)) => assert_eq!(faster, Some(found.version)),
                None => {}
            }
        }
        cluster.settle();
    });
}

#[test]
fn one_of_many_conditional_writes_succeeds() {
    // d-engine #371: two conditional writes in one batch saw the same state, and both succeeded.
    for_seeds(3, |cluster| {
        let mut version = cluster.replica(1).put(NOTES, KEY, b"0").wait().unwrap().txid.unwrap();
        for round in 0..5_u8 {
            let swaps = (0..6).map(|place| {
                let id = match round % 2 {
                    0 => cluster.leader,
                    _ => cluster.ids()[place % 3],
                };
                swap(cluster, id, version, &[round, place as u8])
            });
            let swaps = swaps.collect::<Vec<_>>();
            let outcomes = swaps.into_iter().map(|it| outcome(it.wait())).collect::<Vec<_>>();
            let won = outcomes.iter().flatten().filter_map(|it| it.ok()).collect::<Vec<_>>();
            assert_eq!(won.len(), 1, "{outcomes:?}");
            let lost = outcomes.iter().flatten().filter_map(|it| it.err());
            assert!(lost.clone().all(|found| found == Some(won[0])), "{outcomes:?}");
            assert_eq!(lost.count(), 5, "{outcomes:?}");
            version = won[0];
        }
        cluster.settle();
    });
}

#[test]
fn every_call_ends() {
    // openraft 1d5cc706, dd29c2e9; hiqlite, 14 places; tsoracle #354; omnipaxos #136: somebody
    // waits for ever for a replica that is gone, or for a message that was lost.
    for_seeds(3, |cluster| {
        let mut writes = Vec::new();
        let mut reads = Vec::new();
        for id in cluster.ids() {
            writes.extend((0..3).map(|_| cluster.begin(id, 64)));
            reads.push(cluster.replica(id).get(NOTES, 0));
        }
        cluster.run_for(Duration::from_micros(cluster.below(4000)));
        for id in cluster.ids() {
            match cluster.below(5) {
                0 => cluster.crash(id),
                1 => cluster.cut_power(id, &mut nothing_survives),
                2 => cluster.close_now(id),
                3 => cluster.isolate(id),
                _ => cluster.pause_disk(id),
            }
        }
        // The request timeout, and what a turn may be late by.
        cluster.run_for(BOUND + Duration::from_millis(100));
        let before = cluster.now();
        writes.into_iter().for_each(|write| drop(cluster.end(write)));
        reads.into_iter().for_each(|read| drop(read.wait()));
        assert_eq!(cluster.now(), before, "everybody was answered already");
        cluster.settle();
    });
}

#[test]
fn proposal_of_a_deposed_leader_ends() {
    // omnipaxos #136, OmniPaxos O2: a leader proposes, is deposed before anyone hears of it, and
    // comes back; then nothing more is asked of anybody.
    for_seeds(3, |cluster| {
        let a = cluster.leader;
        cluster.rule(Fate::Drop, move |parcel| {
            parcel.link.from == a && parcel.message.name() == "Accept"
        });
        let begun = cluster.now();
        let write = cluster.begin(a, 64);
        cluster.run_for(Duration::from_millis(30));
        cluster.isolate(a);
        cluster.expect("another one leads", |sim| sim.leader().is_some_and(|id| id != a));
        cluster.heal();
        drop(cluster.end(write));
        assert!(cluster.now() < begun + BOUND * 9 / 10, "only the deadline ended it");
        cluster.settle();
    });
}
