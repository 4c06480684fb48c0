//! Answers on their way: waited for, awaited, timed out, dropped.

use std::cell::RefCell;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::{Duration, Instant};

use indelible::{
    Builder, Committed, Config, Error, ErrorKind, Network, Pending, Record, Replica, Snapshot,
    Status, Table, Transaction, Transactions,
};

use crate::cluster::{Cluster, NOTES, PATIENCE, config, until};

/// The smallest executor: parks the thread until it is woken.
struct Unpark(Thread, AtomicUsize);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.1.fetch_add(1, Ordering::SeqCst);
        self.0.unpark();
    }
}

fn block_on<F: Future>(future: F) -> F::Output {
    let unpark = Arc::new(Unpark(std::thread::current(), AtomicUsize::new(0)));
    let waker = Waker::from(Arc::clone(&unpark));
    let mut future = pin!(future);
    let deadline = Instant::now() + PATIENCE;
    let mut seen = 0;
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return output;
        }
        while unpark.1.load(Ordering::SeqCst) == seen {
            assert!(Instant::now() < deadline, "was never woken");
            std::thread::park_timeout(Duration::from_secs(1));
        }
        seen = unpark.1.load(Ordering::SeqCst);
    }
}

#[test]
fn types_cross_threads() {
    fn shared<T: Send + Sync + 'static>() {}
    fn sent<T: Send + 'static>() {}
    fn cloned<T: Clone + Send + Sync + 'static>() {}
    cloned::<Replica>();
    cloned::<Builder>();
    cloned::<Config>();
    cloned::<Network>();
    cloned::<Snapshot>();
    cloned::<Error>();
    cloned::<Status>();
    cloned::<Record>();
    cloned::<Table<u64, std::rc::Rc<u8>>>();
    shared::<Pending<Committed>>();
    shared::<Pending<Snapshot>>();
    sent::<Transaction>();
    sent::<Transactions>();
}

#[test]
fn a_call_can_be_awaited_on_any_executor() {
    let directory = tempfile::tempdir().unwrap();
    let replica = Replica::builder(directory.path()).config(config()).open().unwrap();
    let cluster = Cluster::tcp();
    let follower = cluster.replica(cluster.follower()).clone();
    for replica in [replica, follower] {
        let one = async |key: u64| {
            let written = replica.put(NOTES, key, &key.to_le_bytes()).await?;
            let found = replica.get(NOTES, key).await?.expect("written above");
            assert_eq!(Some(found.version), written.txid);
            let snapshot = replica.snapshot().await?;
            assert!(snapshot.txid() >= found.version);
            let mut transaction = replica.transaction();
            transaction.absent(NOTES, key).put(NOTES, key, b"never");
            assert!(transaction.commit().await.is_err_and(|err| err.is_refused()));
            Ok::<(), indelible::Error>(())
        };
        std::thread::scope(|scope| {
            let one = &one;
            for thread in 0..4 {
                scope.spawn(move || {
                    for round in 0..25 {
                        block_on(one(thread * 100 + round)).unwrap();
                    }
                });
            }
        });
    }
}

#[test]
fn many_answers_can_be_polled_from_one_thread() {
    let replica = Replica::in_memory().unwrap();
    let puts = (0..500).map(|key| replica.put(NOTES, key, b"x")).collect::<Vec<_>>();
    block_on(async {
        for put in puts {
            put.await.unwrap();
        }
    });
    replica.close().unwrap();
}

#[test]
fn an_answer_may_be_taken_by_another_thread_than_polled() {
    let replica = Replica::in_memory().unwrap();
    let idle = Waker::noop();
    for key in 0..200 {
        let mut put = replica.put(NOTES, key, b"x");
        // Polled with a waker that nobody listens to, then handed over and waited for.
        let first = std::pin::Pin::new(&mut put).poll(&mut Context::from_waker(idle));
        match first {
            Poll::Ready(result) => result.unwrap(),
            Poll::Pending => std::thread::spawn(move || put.wait()).join().unwrap().unwrap(),
        };
    }
    replica.close().unwrap();
}

#[test]
fn waiting_for_a_while_can_be_repeated() {
    // A leader that was deposed meanwhile knows nothing before this deadline.
    let impatient = Config { request_timeout: Duration::from_secs(2), ..config() };
    let cluster = Cluster::in_process(impatient);
    let leader = cluster.leader();
    cluster.isolate(leader);
    let mut put = cluster.replica(leader).put(NOTES, 1, b"x");
    for _ in 0..3 {
        assert!(put.wait_timeout(Duration::from_millis(5)).is_none());
    }
    assert!(put.wait_timeout(Duration::ZERO).is_none());
    cluster.heal(leader);
    let result = put.wait_timeout(Duration::MAX).unwrap();
    assert!(result.is_ok() || result.unwrap_err().is_outcome_unknown());
    let again = put.wait_timeout(Duration::MAX).unwrap().unwrap_err();
    assert_eq!(again.kind(), ErrorKind::InvalidArgument, "it was taken");
}

#[test]
fn dropping_an_answer_does_not_cancel() {
    let directory = tempfile::tempdir().unwrap();
    let alone = Replica::builder(directory.path()).config(config()).open().unwrap();
    let cluster = Cluster::tcp();
    for replica in [&alone, cluster.replica(cluster.leader()), cluster.replica(cluster.follower())]
    {
        for key in 0..100 {
            drop(replica.put(NOTES, 10_000 + key, b"dropped"));
        }
        until("all were written", || {
            let snapshot = replica.snapshot().wait().unwrap();
            snapshot.range(NOTES, 10_000..).count() == 100
        });
        for key in 0..100 {
            replica.delete(NOTES, 10_000 + key).wait().unwrap();
        }
    }
}

/// Lets go of the last handle where it is woken, and tells how long that took.
struct LetsGo(std::sync::Mutex<Option<Replica>>, std::sync::mpsc::Sender<Duration>);

impl Wake for LetsGo {
    fn wake(self: Arc<Self>) {
        let began = Instant::now();
        drop(self.0.lock().unwrap().take());
        self.1.send(began.elapsed()).unwrap();
    }
}

#[test]
fn a_waker_may_let_go_of_the_last_handle() {
    let directory = tempfile::tempdir().unwrap();
    let open = || Replica::builder(directory.path()).config(config()).open();
    let (told, took) = std::sync::mpsc::channel();
    let lets_go = Arc::new(LetsGo(std::sync::Mutex::new(None), told));
    let waker = Waker::from(Arc::clone(&lets_go));
    let mut replica = open().unwrap();
    let mut write = loop {
        let mut write = Box::pin(replica.put(NOTES, 1, b"one"));
        *lets_go.0.lock().unwrap() = Some(replica);
        // Whoever writes the journal, a thread of the replica, wakes; unless it was faster.
        match write.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Pending => break write,
            Poll::Ready(_) => replica = lets_go.0.lock().unwrap().take().unwrap(),
        }
    };
    let took = took.recv_timeout(PATIENCE).unwrap();
    assert!(took < Duration::from_secs(2), "it waited {took:?} for itself");
    assert!(matches!(write.as_mut().poll(&mut Context::from_waker(&waker)), Poll::Ready(Ok(_))));
    open().expect("nobody writes to the directory any more");
}

/// Asks for the status where it is woken, and panics then.
struct Asks(Replica, std::sync::mpsc::Sender<Status>);

impl Wake for Asks {
    fn wake(self: Arc<Self>) {
        self.1.send(self.0.status()).unwrap();
        panic!("it is nobody's business");
    }
}

#[test]
fn who_waits_no_longer_may_be_woken_and_disturbs_nobody() {
    let replica = Replica::in_memory().unwrap();
    replica.wait_ready(PATIENCE).unwrap();
    let leader = replica.next_leader(None).wait().unwrap();
    let (told, asked) = std::sync::mpsc::channel();
    let waker = Waker::from(Arc::new(Asks(replica.clone(), told)));
    let mut waits = Box::pin(replica.next_leader(leader));
    assert!(waits.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    drop(waits);
    // Whoever begins to wait makes room: the one that is gone is forgotten.
    let mut next = replica.next_leader(leader);
    asked.recv_timeout(PATIENCE).expect("the driver is free when it asks");
    assert!(next.wait_timeout(Duration::from_millis(50)).is_none());
    replica.put(NOTES, 1, b"one").wait().unwrap();
    replica.close().unwrap();
}

thread_local! {
    static KEPT: RefCell<Option<Replica>> = const { RefCell::new(None) };
}

#[test]
fn a_replica_may_go_with_its_thread() {
    // What a thread keeps for itself goes when it ends, in the opposite order of its first use: a
    // replica that is kept so goes behind whatever its own calls keep there. A panic would abort.
    for closes in [false, true] {
        let ended = std::thread::spawn(move || {
            KEPT.with(|kept| {
                let replica = kept.borrow_mut().insert(Replica::in_memory().unwrap()).clone();
                replica.put(NOTES, 1, b"kept").wait().unwrap();
                if closes {
                    replica.close().unwrap();
                }
            });
        });
        ended.join().unwrap();
    }
}
