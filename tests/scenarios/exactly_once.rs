//! Each transaction once, whatever is lost, and its outcome told for good.

use std::time::Duration;

use indelible::sim::network::Fate;
use indelible::sim::{Plan, Simulation};
use indelible::types::limits::SESSIONS_MAX;
use indelible::types::marks::{self, Mark};
use indelible::{Committed, Error, ErrorKind, Pending, ReplicaId, RequestId, Resolution, Result};

use super::checkpoints::leave_behind;
use super::support::{BOUND, Cluster, NOTES, TIMEOUT, for_seeds, for_seeds_of};

const KEY: u64 = 1 << 40;

/// A transaction that happens once only if nobody does it a second time: it is refused then.
fn create(cluster: &Simulation, id: ReplicaId, key: u64) -> Pending<Committed> {
    let mut transaction = cluster.replica(id).transaction();
    transaction.absent(NOTES, key).put(NOTES, key, b"created");
    transaction.commit()
}

#[track_caller]
fn request_of(err: &Error) -> RequestId {
    assert_eq!(err.kind(), ErrorKind::OutcomeUnknown, "{err}");
    // As it would be kept over a restart of the process.
    let text = err.request().expect("an unknown outcome names its transaction").to_string();
    text.parse().unwrap()
}

#[track_caller]
fn resolve(cluster: &Simulation, id: ReplicaId, request: RequestId) -> Result<Resolution> {
    loop {
        match cluster.replica(id).resolve(request).wait() {
            Err(err) if err.is_retryable() => {}
            resolution => return resolution,
        }
    }
}

/// How often each key that was created is in the ledger.
fn times(cluster: &Cluster, id: ReplicaId, key: u64) -> usize {
    let records = cluster.replica(id).transactions(indelible::TxId::ZERO).map(Result::unwrap);
    let created = records.filter(|record| {
        record.changes().of(NOTES).any(|change| change.is_ok_and(|change| change.key == key))
    });
    created.count()
}

#[test]
fn leader_that_dies_leaves_no_outcome_unknown() {
    // curvine #676, OmniPaxos: a command that was forwarded to a leader that dies was lost, or
    // tried again by its client and done twice. Here it is neither, though nobody can know whether
    // the leader had it chosen.
    for_seeds(3, |cluster| {
        let (a, b) = (cluster.leader, cluster.others[0]);
        let creates = (0..8).map(|at| create(cluster, b, KEY + at)).collect::<Vec<_>>();
        cluster.run_for(Duration::from_micros(cluster.below(9000)));
        cluster.crash(a);
        for (at, create) in (0..).zip(creates) {
            let created = create.wait().unwrap_or_else(|err| panic!("{at}: {err}"));
            assert!(created.txid.is_some());
            assert_eq!(times(cluster, b, KEY + at), 1);
        }
        cluster.reopen(a);
        cluster.settle();
    });
}

#[test]
fn lost_forward_is_sent_again() {
    // The design of etcd and OmniPaxos leaves it to the client: what is lost on its way to the
    // leader is an unknown outcome. Here its loss costs a timeout.
    for_seeds(3, |cluster| {
        let (a, b) = (cluster.leader, cluster.others[0]);
        let lost = cluster.rule(Fate::Drop, move |parcel| {
            parcel.message.name() == "Forward" && parcel.link.from == b
        });
        let created = create(cluster, b, KEY);
        // Others are not held up by it.
        cluster.run_for(TIMEOUT / 2);
        cluster.write_some(a, 2);
        cluster.drop_held(lost);
        cluster.heal();
        let began = cluster.now();
        cluster.write_some(b, 2);
        assert!(created.wait().unwrap().txid.is_some());
        assert!(cluster.now().since(began) < TIMEOUT * 2);
        assert_eq!(times(cluster, b, KEY), 1);
        cluster.settle();
    });
}

#[test]
fn what_happened_unseen_is_told_later() {
    // FoundationDB's commit_unknown_result: the transaction happens, and its answer is lost. Its
    // caller is restarted, and asks with what it kept.
    for_seeds(3, |cluster| {
        let (a, b) = (cluster.leader, cluster.others[0]);
        // Whatever would tell it what is chosen is lost.
        cluster.rule(Fate::Drop, move |parcel| {
            parcel.link.to == b && parcel.message.name() != "Heartbeat"
        });
        let request = request_of(&create(cluster, b, KEY).wait().expect_err("nobody tells it"));
        cluster.crash(b);
        cluster.heal();
        cluster.reopen(b);
        let other = cluster.ids()[cluster.below(3) as usize];
        let told = resolve(cluster, other, request).unwrap();
        let committed = told.committed().expect("it was forwarded, and the leader had a quorum");
        assert_eq!(committed.request, request);
        let found = cluster.replica(a).get(NOTES, KEY).wait().unwrap().unwrap();
        assert_eq!(committed.txid, Some(found.version));
        // However often, and wherever.
        for id in cluster.ids() {
            assert_eq!(resolve(cluster, id, request).unwrap(), told);
        }
        assert_eq!(times(cluster, a, KEY), 1);
        cluster.settle();
    });
}

#[test]
fn what_is_resolved_never_happens_later() {
    // A deposed leader keeps a proposal that nobody saw. Its caller is told that the outcome is
    // unknown; who resolves it rules it out, and the old proposal comes too late.
    for_seeds(3, |cluster| {
        let (a, b) = (cluster.leader, cluster.others[0]);
        cluster.isolate(a);
        let request = request_of(&create(cluster, a, KEY).wait().expect_err("nobody hears it"));
        cluster.expect("another one leads", |sim| sim.leader().is_some_and(|leader| leader != a));
        assert_eq!(resolve(cluster, b, request).unwrap(), Resolution::Burned);
        cluster.heal();
        cluster.write_some(a, 2);
        assert_eq!(times(cluster, a, KEY), 0);
        for id in cluster.ids() {
            assert_eq!(resolve(cluster, id, request).unwrap(), Resolution::Burned);
        }
        cluster.settle();
    });
}

#[test]
fn refusal_is_told_as_it_was() {
    for_seeds(3, |cluster| {
        let (a, b) = (cluster.leader, cluster.others[0]);
        let first = create(cluster, a, KEY).wait().unwrap().txid;
        cluster.rule(Fate::Drop, move |parcel| {
            parcel.link.to == b && parcel.message.name() != "Heartbeat"
        });
        let request = request_of(&create(cluster, b, KEY).wait().expect_err("nobody tells it"));
        cluster.heal();
        cluster.replica(a).delete(NOTES, KEY).wait().unwrap();
        let told = resolve(cluster, a, request).unwrap();
        assert_eq!(told, Resolution::Refused { condition: 0, found: first });
        cluster.settle();
    });
}

/// A cluster that remembers few sessions.
fn forgetful(seed: u64) -> Simulation {
    let sim = Simulation::switched_off(seed, &Plan { sessions_max: 2, ..Plan::default() });
    sim.ids().into_iter().for_each(|id| assert!(sim.open(id)));
    assert!(sim.run_until(BOUND, |sim| sim.leader().is_some()));
    sim
}

#[test]
fn forgotten_session_is_told_as_such() {
    // Raft's thesis, 6.3: a server that forgets a session must not take its client for a new one.
    for seed in 0..5 {
        let sim = forgetful(seed);
        let a = sim.leader().unwrap();
        let others = sim.ids().into_iter().filter(|id| *id != a).collect::<Vec<_>>();
        let (b, c) = (others[0], others[1]);
        create(&sim, b, KEY).wait().unwrap();
        sim.rule(Fate::Drop, move |parcel| {
            parcel.link.to == b && parcel.message.name() != "Heartbeat"
        });
        let request = request_of(&create(&sim, b, KEY + 1).wait().expect_err("nobody tells it"));
        // Two others use their sessions meanwhile, and there is no room for three.
        create(&sim, a, KEY + 2).wait().unwrap();
        create(&sim, c, KEY + 3).wait().unwrap();
        let err = resolve(&sim, a, request).expect_err("it is forgotten");
        assert!(err.is_session_expired() && err.is_outcome_unknown(), "{err}");
        assert_eq!(err.request(), Some(request));
        sim.heal();
        // Its replica goes on under another session by itself.
        for key in 4..8 {
            create(&sim, b, KEY + key).wait().unwrap();
            create(&sim, c, KEY + 10 + key).wait().unwrap();
            create(&sim, a, KEY + 20 + key).wait().unwrap();
        }
        assert!(sim.replica(b).get(NOTES, KEY).wait().unwrap().is_some());
    }
}

/// Clusters that keep no history, and callers that wait until all is over.
fn for_patient(sessions_max: u32, scenario: impl Fn(&Cluster)) {
    let plan = Plan {
        history_bytes_min: 0,
        checkpoint_bytes: u64::MAX,
        request_timeout: BOUND * 12,
        sessions_max,
        ..Plan::default()
    };
    for_seeds_of(&plan, scenario);
}

/// A leader proposes what creates the key, and hears no more of anybody; the others hear of that or
/// not. They go on, and trim what it lacks.
fn propose_and_fall_behind(cluster: &Cluster, is_heard: bool) -> Pending<Committed> {
    let (a, b) = (cluster.leader, cluster.others[0]);
    let known = cluster.slot_chosen(a);
    cluster
        .rule(Fate::Drop, move |parcel| parcel.link.to == a || parcel.link.from == a && !is_heard);
    let created = create(cluster, a, KEY);
    cluster.expect("it is proposed", |sim| sim.unfinished(a).unwrap().proposals == 1);
    cluster.run_timeouts(1);
    cluster.isolate(a);
    cluster.expect("another one leads", |sim| sim.leader().is_some_and(|leader| leader != a));
    leave_behind(cluster, a, known);
    assert_eq!(cluster.slot_chosen(a), known, "seed {}", cluster.seed());
    let found = cluster.replica(b).get(NOTES, KEY).wait().unwrap();
    assert_eq!(found.is_some(), is_heard, "seed {}", cluster.seed());
    created
}

#[test]
fn a_retry_behind_a_state_that_was_taken_in_is_told_its_outcome() {
    // Who waits for a slot, and gets a state in its place, learns from that neither that it
    // happened nor that it did not. Others chose it, or something else in its slot.
    for_patient(SESSIONS_MAX, |cluster| {
        let (a, b) = (cluster.leader, cluster.others[0]);
        let is_heard = cluster.below(2) == 0;
        let created = propose_and_fall_behind(cluster, is_heard);
        let first = cluster.replica(b).get(NOTES, KEY).wait().unwrap().map(|found| found.version);
        if is_heard {
            // Were it done a second time, nothing would stand in its way.
            cluster.replica(b).delete(NOTES, KEY).wait().unwrap();
        }
        drop(marks::take());
        cluster.heal();
        let told = created.wait().unwrap();
        assert_eq!(marks::take()[Mark::RetriedBehindState as usize], 1);
        let now = cluster.replica(a).get(NOTES, KEY).wait().unwrap().map(|found| found.version);
        assert_eq!((told.txid, now), if is_heard { (first, None) } else { (now, told.txid) });
        assert!(told.txid.is_some());
        for id in cluster.ids() {
            let again = resolve(cluster, id, told.request).unwrap();
            assert_eq!(again, Resolution::Committed(told), "replica {id}");
        }
        cluster.settle();
        assert_eq!(cluster.replica(b).get(NOTES, KEY).wait().unwrap().is_some(), !is_heard);
    });
}

#[test]
fn a_retry_behind_a_state_that_forgot_its_session_is_not_done_under_another() {
    // As above, and the session is forgotten. That it certainly did not happen is not known here.
    for_patient(2, |cluster| {
        let (a, b, c) = (cluster.leader, cluster.others[0], cluster.others[1]);
        let is_heard = cluster.below(2) == 0;
        let created = propose_and_fall_behind(cluster, is_heard);
        for id in [b, c] {
            cluster.replica(id).delete(NOTES, KEY).wait().unwrap();
        }
        drop(marks::take());
        cluster.heal();
        let err = created.wait().expect_err("it is forgotten");
        assert_eq!(marks::take()[Mark::RetriedBehindState as usize], 1);
        assert!(err.is_session_expired() && err.is_outcome_unknown(), "{err}");
        let told = resolve(cluster, a, err.request().unwrap()).expect_err("it is forgotten");
        assert!(told.is_session_expired(), "{told}");
        cluster.settle();
        assert!(cluster.replica(a).get(NOTES, KEY).wait().unwrap().is_none());
    });
}
