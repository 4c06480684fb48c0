//! A running replica: no event is forgotten. Where time passes last, the clock shows if one was.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Wake, Waker};

use indelible::runtime::handle::Handle;
use indelible::sync::{Condvar, Mutex};
use shuttle::thread::{self, JoinHandle, ThreadId};

use crate::explore::{Time, explore};
use crate::replica::{self, Failing, HEARTBEAT, Writes, put};

/// Runs `call` on `count` threads, each with a handle of its own.
fn callers(
    handle: &Handle,
    count: usize,
    call: impl Fn(&Handle) + Copy + Send + 'static,
) -> Vec<JoinHandle<()>> {
    let begin = |_| {
        let handle = handle.clone();
        thread::spawn(move || call(&handle))
    };
    (0..count).map(begin).collect()
}

/// Lets `count` callers do `call`, and drops the last handle when they are done.
fn run(time: Time, writes: Writes, count: usize, call: impl Fn(&Handle) + Copy + Send + 'static) {
    let disk = Failing::new();
    let handle = replica::start(&disk, writes);
    callers(&handle, count, call).into_iter().for_each(|caller| caller.join().unwrap());
    time.assert_below(HEARTBEAT);
    drop(handle);
    time.assert_below(HEARTBEAT);
    disk.assert_given_up(time);
}

/// Any timeout may end first where time passes whenever it likes.
fn check<T>(time: Time, result: indelible::Result<T>) {
    if let Err(err) = result {
        assert!(time == Time::Any, "{err}");
    }
}

#[test]
fn callers_wait_one_after_the_other() {
    explore(2, |time| {
        run(time, Writes::Anybody, 3, move |handle| {
            check(time, put(handle).wait());
            check(time, put(handle).wait());
        });
    });
}

#[test]
fn writers_write_for_callers() {
    explore(2, |time| {
        run(time, Writes::Writers, 2, move |handle| {
            check(time, put(handle).wait());
            check(time, put(handle).wait());
        });
    });
}

/// Callers that have several calls under way are expected back: they leave commands in the inbox.
#[test]
fn commands_left_in_the_inbox_are_taken() {
    explore(2, |time| {
        run(time, Writes::Anybody, 3, move |handle| {
            let first = [put(handle), put(handle)];
            first.into_iter().for_each(|pending| check(time, pending.wait()));
            check(time, put(handle).wait());
        });
    });
}

#[test]
fn who_awaits_leaves_the_journal_to_the_writers() {
    explore(2, |time| {
        run(time, Writes::Anybody, 2, move |handle| {
            check(time, shuttle::future::block_on(put(handle)));
            check(time, shuttle::future::block_on(put(handle)));
        });
    });
}

#[test]
fn reads_and_reports_mix_with_writes() {
    explore(2, |time| {
        let disk = Failing::new();
        let handle = replica::start(&disk, Writes::Anybody);
        let mut threads = callers(&handle, 1, move |handle| check(time, put(handle).wait()));
        threads.extend(callers(&handle, 1, move |handle| {
            check(time, handle.read(None).wait());
        }));
        threads.extend(callers(&handle, 1, move |handle| {
            assert!(handle.report().0.stopped.is_none());
        }));
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        time.assert_below(HEARTBEAT);
    });
}

#[test]
fn waits_with_a_timeout_end_with_an_answer() {
    explore(2, |time| {
        run(time, Writes::Anybody, 2, move |handle| {
            let mut pending = put(handle);
            let result = loop {
                if let Some(result) = pending.wait_timeout(2 * HEARTBEAT) {
                    break result;
                }
            };
            check(time, result);
        });
    });
}

/// A waker that waits for another call to be answered, unless it runs on that caller's own thread.
#[derive(Default)]
struct Patient {
    caller: Mutex<Option<ThreadId>>,
    answered: Mutex<bool>,
    changed: Condvar,
}

impl Wake for Patient {
    fn wake(self: Arc<Self>) {
        if *self.caller.lock() == Some(thread::current().id()) {
            return;
        }
        let mut answered = self.answered.lock();
        while !*answered {
            self.changed.wait(&mut answered);
        }
    }
}

/// Its event may come while a turn is taken whose answer it is that wakes, so that only who took
/// that turn can take the next one.
#[test]
fn a_waker_waits_for_a_call_that_came_meanwhile() {
    explore(2, |time| {
        let handle = replica::start(&Failing::new(), Writes::Anybody);
        let patient = Arc::<Patient>::default();
        let waker = Waker::from(Arc::clone(&patient));
        let mut read = handle.read(None);
        let caller = {
            let (handle, patient) = (handle.clone(), Arc::clone(&patient));
            thread::spawn(move || {
                *patient.caller.lock() = Some(thread::current().id());
                check(time, put(&handle).wait());
                *patient.answered.lock() = true;
                patient.changed.notify_all();
            })
        };
        let _ = Pin::new(&mut read).poll(&mut Context::from_waker(&waker));
        check(time, handle.read(None).wait());
        caller.join().unwrap();
        time.assert_below(HEARTBEAT);
        check(time, handle.close());
    });
}
