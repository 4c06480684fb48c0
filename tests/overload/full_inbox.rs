//! A turn of a replica lasts: what comes meanwhile is bounded, and refused at once.

use std::io;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use indelible::journal::Journal;
use indelible::journal::memory::MemoryDisk;
use indelible::runtime::driver::Driver;
use indelible::runtime::handle::Handle;
use indelible::runtime::threads::{self, Start};
use indelible::runtime::turn::Options;
use indelible::transport::{Link, PeerCounters, Transport};
use indelible::types::hello::Hello;
use indelible::types::ids::{RequestId, SessionId, TxId};
use indelible::types::message::Envelope;
use indelible::types::time::Moment;
use indelible::{ErrorKind, Pending, ReplicaId, Result};

use crate::replica::{QUEUED_BYTES_MAX, options, propose};

/// A transport to nobody. It breaks the rule never to block, so that a turn lasts as long as the
/// test likes.
#[derive(Default)]
struct Blocking {
    stage: Mutex<Stage>,
    changed: Condvar,
}

#[derive(Default, PartialEq, Eq)]
enum Stage {
    /// No turn is held up.
    #[default]
    Free,
    /// The next one that sends something will be.
    Armed,
    /// One is.
    Holds,
}

impl Blocking {
    fn arm(&self) {
        *self.stage.lock().unwrap() = Stage::Armed;
    }

    fn wait_until_held(&self) {
        let stage = self.stage.lock().unwrap();
        drop(self.changed.wait_while(stage, |stage| *stage != Stage::Holds).unwrap());
    }

    fn free(&self) {
        *self.stage.lock().unwrap() = Stage::Free;
        self.changed.notify_all();
    }
}

impl Transport for Blocking {
    fn start(&self, _: Link) -> io::Result<()> {
        Ok(())
    }

    fn send(&self, _: Envelope) {}

    fn flush(&self) {
        let mut stage = self.stage.lock().unwrap();
        if *stage == Stage::Armed {
            *stage = Stage::Holds;
            self.changed.notify_all();
        }
        drop(self.changed.wait_while(stage, |stage| *stage == Stage::Holds).unwrap());
    }

    fn set_peers(&self, _: Vec<(ReplicaId, String)>) {}

    fn set_hello(&self, _: Hello) {}

    fn close(&self) {}

    fn counters(&self) -> Vec<PeerCounters> {
        Vec::new()
    }
}

/// One of three that never hears of the others, and asks for them again and again.
fn start(transport: &Arc<Blocking>) -> Handle {
    let voters = (1..=3).map(|id| (ReplicaId(id), String::new())).collect();
    let options = Options { request_timeout: Duration::from_millis(200), ..options(1, voters) };
    let journal = Journal::open(MemoryDisk::new(), Default::default(), ReplicaId(1)).unwrap();
    let driver = Driver::open(journal, options, Moment::ZERO).unwrap();
    let transport = Some(Arc::clone(transport) as Arc<dyn Transport>);
    threads::start(Start { driver, transport, close_timeout: Duration::from_secs(1) }).unwrap()
}

/// The answer is there already: nobody waited for the turn to end.
#[track_caller]
fn expect_busy<T>(mut call: Pending<T>) {
    let answer: Option<Result<T>> = call.wait_timeout(Duration::ZERO);
    let err = answer.expect("it is answered at once").err().expect("there is no room");
    assert_eq!(err.kind(), ErrorKind::Busy, "{err}");
    assert!(err.retry_after().is_some_and(|hint| Duration::ZERO < hint), "{err}");
}

#[test]
fn a_call_that_a_turn_has_no_room_for_is_refused_at_once() {
    let transport = Arc::new(Blocking::default());
    let handle = start(&transport);
    transport.arm();
    transport.wait_until_held();

    let value = vec![7; 1000];
    let mut taken = Vec::new();
    let refused = loop {
        let mut call = propose(&handle, &value);
        match call.wait_timeout(Duration::ZERO) {
            None => taken.push(call),
            Some(answer) => break answer.unwrap_err(),
        }
        assert!(taken.len() * value.len() <= QUEUED_BYTES_MAX, "nobody is refused");
    };
    assert_eq!(refused.kind(), ErrorKind::Busy, "{refused}");
    assert!(taken.len() * value.len() > QUEUED_BYTES_MAX / 2, "{} only", taken.len());
    // Small calls find what room was left, and no more.
    for _ in 0..16 {
        drop(handle.read(None));
    }
    let later = TxId::MAX;
    let request = RequestId { session: SessionId(1), sequence: 1 };
    expect_busy(propose(&handle, &value));
    expect_busy(handle.read(None));
    expect_busy(handle.wait_for(later));
    expect_busy(handle.resolve(request));
    expect_busy(handle.hand_over(ReplicaId(2)));
    expect_busy(handle.next_leader(None));

    // The turn ends, and there is room again. Nobody takes a transaction: there is no leader.
    transport.free();
    drop(handle.report());
    taken.push(propose(&handle, &value));
    for call in taken {
        let err = call.wait().unwrap_err();
        assert_eq!(err.kind(), ErrorKind::TimedOut, "{err}");
    }
    handle.close().unwrap();
}
