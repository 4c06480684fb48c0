//! Every call is answered within its deadline, and as what it is.

use std::future::Future;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::task::{Context, Wake, Waker};
use std::time::{Duration, Instant};

use indelible::{Config, ErrorKind, Pending, Replica, TxId};

use crate::cluster::{Cluster, NOTES, PATIENCE, config, until};

const TIMEOUT: Duration = Duration::from_millis(600);
/// What a busy machine may add to a deadline.
const SLACK: Duration = Duration::from_secs(5);

fn impatient() -> Config {
    Config { request_timeout: TIMEOUT, close_timeout: TIMEOUT, ..config() }
}

/// How a call ended, which must be in time.
fn kind<T: std::fmt::Debug>(began: Instant, pending: Pending<T>) -> ErrorKind {
    let err = pending.wait().unwrap_err();
    assert!(began.elapsed() < TIMEOUT + SLACK, "{err}: after {:?}", began.elapsed());
    assert_eq!(err.is_outcome_unknown(), err.kind() == ErrorKind::OutcomeUnknown);
    assert!(!err.is_outcome_unknown() || err.request().is_some(), "{err}");
    err.kind()
}

#[test]
fn without_a_leader_nothing_is_proposed_and_all_time_out() {
    let directory = tempfile::tempdir().unwrap();
    let peers = crate::cluster::addresses(3);
    let builder = Replica::builder(directory.path()).id(2).peers(peers).config(impatient());
    let replica = builder.open().unwrap();
    let began = Instant::now();
    let (put, get) = (replica.put(NOTES, 1, b"x"), replica.get(NOTES, 1));
    let snapshot = replica.snapshot();
    assert_eq!(kind(began, put), ErrorKind::TimedOut);
    assert_eq!(kind(began, get), ErrorKind::TimedOut);
    assert_eq!(snapshot.wait().unwrap_err().kind(), ErrorKind::TimedOut);
    let began = Instant::now();
    let ready = replica.wait_ready(Duration::from_millis(50)).unwrap_err();
    assert!(began.elapsed() < SLACK && ready.is_retryable(), "{ready}");
    let status = replica.status();
    let trouble = status.trouble.clone().unwrap();
    assert!(trouble.contains('1') && trouble.contains('3'), "names whom it waits for: {trouble}");
    assert_eq!((status.leader, status.failures_tolerated), (None, None));
    assert_eq!(replica.stale_snapshot().txid(), TxId::ZERO);
    assert_eq!(replica.transactions(TxId::ZERO).count(), 0);
    replica.close().unwrap();
}

/// Waits for another call of the replica where it is woken.
struct Waits(Replica, Sender<ErrorKind>);

impl Wake for Waits {
    fn wake(self: Arc<Self>) {
        let err = self.0.put(NOTES, 2, b"y").wait().unwrap_err();
        self.1.send(err.kind()).unwrap();
    }
}

/// Nothing but the clock answers where there is no leader, and it must not wait for itself.
#[test]
fn a_waker_that_waits_for_another_call_holds_up_no_deadline() {
    let directory = tempfile::tempdir().unwrap();
    let peers = crate::cluster::addresses(3);
    let builder = Replica::builder(directory.path()).id(2).peers(peers).config(impatient());
    let replica = builder.open().unwrap();
    let (told, woken) = channel();
    let waker = Waker::from(Arc::new(Waits(replica.clone(), told)));
    let mut put = Box::pin(replica.put(NOTES, 1, b"x"));
    assert!(put.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    let kind = woken.recv_timeout(PATIENCE).expect("the deadline of the second call comes too");
    assert_eq!(kind, ErrorKind::TimedOut);
    assert!(put.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready());
    replica.close().unwrap();
}

#[test]
fn an_isolated_leader_does_not_know_what_became_of_its_proposals() {
    let cluster = Cluster::in_process(impatient());
    let old = cluster.leader();
    let leader = cluster.replica(old);
    leader.put(NOTES, 0, b"before").wait().unwrap();
    cluster.isolate(old);
    let began = Instant::now();
    let puts = (1..50).map(|key| leader.put(NOTES, key, b"x")).collect::<Vec<_>>();
    let get = leader.get(NOTES, 0);
    // It proposed the first at once: it did not know yet.
    let kinds = puts.into_iter().map(|put| kind(began, put)).collect::<Vec<_>>();
    assert_eq!(kinds[0], ErrorKind::OutcomeUnknown);
    let known = [ErrorKind::OutcomeUnknown, ErrorKind::TimedOut];
    assert!(kinds.iter().all(|kind| known.contains(kind)), "{kinds:?}");
    assert_eq!(kind(began, get), ErrorKind::TimedOut);
    until("it notices", || cluster.status(old).leader.is_none());
    let began = Instant::now();
    assert_eq!(kind(began, leader.put(NOTES, 99, b"never")), ErrorKind::TimedOut);
    assert_eq!(cluster.status(old).failures_tolerated, None);
    assert_eq!(cluster.status(old).waiting, 0);
    cluster.heal(old);
    cluster.leader();
    cluster.settle();
    let snapshot = cluster.replica(old).snapshot().wait().unwrap();
    assert!(snapshot.get(NOTES, 99).unwrap().is_none(), "a definite error did happen");
    for (key, kind) in (1..).zip(kinds) {
        let happened = snapshot.get(NOTES, key).unwrap().is_some();
        assert!(!happened || kind == ErrorKind::OutcomeUnknown, "{key}: {kind:?} did happen");
    }
}

#[test]
fn a_follower_cut_off_between_forwarding_and_the_answer_never_says_that_it_did_not_happen() {
    let cluster = Cluster::in_process(impatient());
    let network = cluster.network.as_ref().unwrap();
    for key in 1..20 {
        let (leader, follower) = (cluster.leader(), cluster.follower());
        let began = Instant::now();
        let mut put = cluster.replica(follower).put(NOTES, key, b"x");
        // It is on its way. What follows arrives at nobody, or some of it does.
        network.cut(leader, follower);
        let ended = put.wait_timeout(PATIENCE).unwrap();
        assert!(began.elapsed() < TIMEOUT + SLACK);
        network.heal(leader, follower);
        let other = cluster.replica(cluster.leader()).get(NOTES, key).wait().unwrap();
        match ended {
            Ok(committed) => assert_eq!(Some(other.unwrap().version), committed.txid),
            Err(err) if err.is_outcome_unknown() => assert!(err.request().is_some()),
            Err(err) => assert!(err.is_retryable() && other.is_none(), "{err}, but {other:?}"),
        }
    }
    cluster.settle();
}

#[test]
fn closing_answers_everything() {
    let cluster = Cluster::in_process(impatient());
    let old = cluster.leader();
    let leader = cluster.replica(old).clone();
    cluster.isolate(old);
    let puts = (0..20).map(|key| leader.put(NOTES, key, b"x")).collect::<Vec<_>>();
    let reads = (0..20).map(|key| leader.get(NOTES, key)).collect::<Vec<_>>();
    let began = Instant::now();
    leader.close().unwrap();
    assert!(began.elapsed() < TIMEOUT + SLACK);
    for put in puts {
        let kind = kind(began, put);
        let known = [ErrorKind::OutcomeUnknown, ErrorKind::Closed, ErrorKind::TimedOut];
        assert!(known.contains(&kind), "{kind:?}");
    }
    for read in reads {
        let kind = kind(began, read);
        assert!([ErrorKind::Closed, ErrorKind::TimedOut].contains(&kind), "{kind:?}");
    }
}

#[test]
fn closing_drains_what_was_proposed() {
    let directory = tempfile::tempdir().unwrap();
    let open = || Replica::builder(directory.path()).config(config()).open().unwrap();
    let replica = open();
    replica.wait_ready(PATIENCE).unwrap();
    replica.put(NOTES, 0, b"first").wait().unwrap();
    let puts = (1..500).map(|key| replica.put(NOTES, key, &[1; 100])).collect::<Vec<_>>();
    replica.close().unwrap();
    let mut committed = vec![0];
    for (key, put) in (1..).zip(puts) {
        match put.wait() {
            Ok(_) => committed.push(key),
            Err(err) => assert_eq!(err.kind(), ErrorKind::Closed, "{err}"),
        }
    }
    // All of them may have been taken in together with the close: then none was proposed.
    let replica = open();
    let snapshot = replica.snapshot().wait().unwrap();
    let found = snapshot.range(NOTES, ..).map(|entry| entry.unwrap().0).collect::<Vec<_>>();
    assert_eq!(found, committed, "what was answered is what happened");
    replica.close().unwrap();
}

#[test]
fn calls_on_a_closed_replica_fail_at_once() {
    let cluster = Cluster::tcp();
    let alone = Replica::in_memory().unwrap();
    for replica in [&alone, cluster.replica(1)] {
        replica.put(NOTES, 1, b"x").wait().unwrap();
        let clone = replica.clone();
        replica.close().unwrap();
        replica.close().unwrap();
        clone.close().unwrap();
        let began = Instant::now();
        let mut transaction = clone.transaction();
        transaction.put(NOTES, 1, b"y");
        let errors = [
            clone.put(NOTES, 2, b"x").wait().unwrap_err(),
            clone.delete(NOTES, 2).wait().unwrap_err(),
            transaction.commit().wait().unwrap_err(),
            clone.get(NOTES, 1).wait().unwrap_err(),
            clone.snapshot().wait().map(|_| ()).unwrap_err(),
            clone.wait_ready(PATIENCE).unwrap_err(),
        ];
        for err in errors {
            assert!(err.kind() == ErrorKind::Closed && err.is_stopped(), "{err}");
        }
        assert!(began.elapsed() < SLACK);
        // What needs nobody still answers.
        assert!(clone.stale_snapshot().get(NOTES, 1).unwrap().is_some());
        assert_eq!(clone.transactions(TxId::ZERO).count(), 1);
    }
}

#[test]
fn closing_from_many_threads_while_others_write() {
    for _ in 0..5 {
        let directory = tempfile::tempdir().unwrap();
        let replica = Replica::builder(directory.path()).config(config()).open().unwrap();
        std::thread::scope(|scope| {
            for thread in 0..3 {
                let replica = replica.clone();
                scope.spawn(move || {
                    for key in 0.. {
                        match replica.put(NOTES, thread * 100_000 + key, b"x").wait() {
                            Ok(_) => {}
                            Err(err) => {
                                assert!(err.is_stopped(), "{err}");
                                break;
                            }
                        }
                    }
                });
            }
            until("some were written", || replica.status().txid.counter() > 20);
            for _ in 0..3 {
                let replica = replica.clone();
                scope.spawn(move || replica.close().unwrap());
            }
        });
    }
}

#[test]
fn too_much_at_once_is_busy() {
    let config = Config { queued_bytes_max: 64 * 1024, ..config() };
    let cluster = Cluster::in_process(config);
    let old = cluster.leader();
    let others = cluster.ids().into_iter().filter(|id| *id != old).collect::<Vec<_>>();
    // A follower that knows no leader can only queue.
    cluster.isolate(others[0]);
    until("it knows no leader", || cluster.status(others[0]).leader.is_none());
    let replica = cluster.replica(others[0]);
    let puts = (0..10).map(|key| replica.put(NOTES, key, &[3; 10_000])).collect::<Vec<_>>();
    let queued = cluster.status(others[0]).queued_bytes;
    assert!(queued > 50_000 && queued <= 64 * 1024, "{queued}");
    let mut puts = puts.into_iter();
    let waiting = puts.by_ref().take(6).collect::<Vec<_>>();
    for put in puts {
        let err = put.wait().unwrap_err();
        assert!(err.kind() == ErrorKind::Busy && err.is_retryable(), "{err}");
    }
    cluster.heal(others[0]);
    for put in waiting {
        put.wait().unwrap();
    }
    cluster.settle();
    assert_eq!(replica.snapshot().wait().unwrap().range(NOTES, ..).count(), 6);
}

#[test]
fn timeouts_may_be_as_long_as_a_duration() {
    let config = Config {
        request_timeout: Duration::MAX,
        close_timeout: Duration::MAX,
        seal_after: Duration::MAX,
        ..config()
    };
    let directory = tempfile::tempdir().unwrap();
    let replica = Replica::builder(directory.path()).config(config).open().unwrap();
    replica.wait_ready(Duration::MAX).unwrap();
    let mut put = replica.put(NOTES, 1, b"x");
    put.wait_timeout(Duration::MAX).unwrap().unwrap();
    replica.close().unwrap();
}
