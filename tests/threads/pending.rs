//! An answer that is waited for, awaited or given up, while it is given or lost.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use indelible::runtime::pending::{Completer, Helper};
use indelible::sync::{Condvar, Mutex};
use indelible::{ErrorKind, Pending};
use shuttle::thread;

use crate::explore::{Time, explore};

/// Small: a schedule takes microseconds.
const SHARE: usize = 40;
const MOMENT: Duration = Duration::from_millis(1);

#[test]
fn who_waits_has_the_answer() {
    explore(SHARE, |time| {
        let (pending, completer) = Pending::new();
        let answers = thread::spawn(move || completer.complete(Ok(7)));
        assert_eq!(pending.then(|value| Ok(value + 1)).wait().unwrap(), 8);
        answers.join().unwrap();
        time.assert_below(MOMENT);
    });
}

#[test]
fn who_waits_learns_that_nobody_answers() {
    explore(SHARE, |time| {
        let (pending, completer) = Pending::<()>::new();
        let loses = thread::spawn(move || drop(completer));
        assert_eq!(pending.wait().unwrap_err().kind(), ErrorKind::Poisoned);
        loses.join().unwrap();
        time.assert_below(MOMENT);
    });
}

#[test]
fn who_awaits_has_the_answer() {
    explore(SHARE, |time| {
        let (pending, completer) = Pending::new();
        let answers = thread::spawn(move || completer.complete(Ok(7)));
        assert_eq!(shuttle::future::block_on(pending).unwrap(), 7);
        answers.join().unwrap();
        time.assert_below(MOMENT);
    });
}

#[test]
fn who_awaits_learns_that_nobody_answers() {
    explore(SHARE, |time| {
        let (pending, completer) = Pending::<()>::new();
        let loses = thread::spawn(move || drop(completer));
        let result = shuttle::future::block_on(pending);
        assert_eq!(result.unwrap_err().kind(), ErrorKind::Poisoned);
        loses.join().unwrap();
        time.assert_below(MOMENT);
    });
}

/// Raises a flag that can be waited for.
#[derive(Default)]
struct Flag {
    up: Mutex<bool>,
    raised: Condvar,
}

impl Flag {
    fn wait(&self) {
        let mut up = self.up.lock();
        while !*up {
            self.raised.wait(&mut up);
        }
    }
}

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        *self.up.lock() = true;
        self.raised.notify_all();
    }
}

fn poll<T>(pending: &mut Pending<T>, flag: &Arc<Flag>) -> Poll<indelible::Result<T>> {
    let waker = Waker::from(Arc::clone(flag));
    Pin::new(pending).poll(&mut Context::from_waker(&waker))
}

#[test]
fn the_last_waker_is_woken() {
    explore(SHARE, |time| {
        let (mut pending, completer) = Pending::new();
        let answers = thread::spawn(move || completer.complete(Ok(7)));
        let (first, second) = (Arc::default(), Arc::default());
        let mut polled = poll(&mut pending, &first);
        if polled.is_pending() {
            // The task has moved to another executor.
            polled = poll(&mut pending, &second);
        }
        if polled.is_pending() {
            second.wait();
            polled = poll(&mut pending, &second);
        }
        assert!(matches!(polled, Poll::Ready(Ok(7))), "woken without an answer");
        answers.join().unwrap();
        time.assert_below(MOMENT);
    });
}

#[test]
fn a_timeout_and_the_answer_may_meet() {
    explore(SHARE, |time| {
        let (mut pending, completer) = Pending::new();
        let answers = thread::spawn(move || completer.complete(Ok(7)));
        let mut timeouts = 0;
        let result = loop {
            match pending.wait_timeout(MOMENT) {
                Some(result) => break result,
                None => timeouts += 1,
            }
        };
        assert_eq!(result.unwrap(), 7);
        assert!(pending.wait_timeout(MOMENT).unwrap().is_err(), "it was answered twice");
        answers.join().unwrap();
        assert!(time == Time::Any || timeouts == 0, "{timeouts} timeouts for nothing");
    });
}

#[test]
fn a_timeout_ends_without_an_answer() {
    explore(SHARE, |_| {
        let waits = [MOMENT, 2 * MOMENT].map(|timeout| {
            let (mut pending, completer) = Pending::<()>::new();
            thread::spawn(move || {
                let ended = pending.wait_timeout(timeout);
                assert!(ended.is_none() && indelible::sync::elapsed() >= timeout);
                completer.complete(Ok(()));
                assert!(pending.wait_timeout(timeout).unwrap().is_ok());
            })
        });
        waits.into_iter().for_each(|waits| waits.join().unwrap());
    });
}

/// Counts its own end.
struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn an_answer_that_nobody_takes_is_dropped_once() {
    explore(SHARE, |_| {
        let drops = Arc::new(AtomicUsize::new(0));
        let (pending, completer) = Pending::new();
        let value = Counted(Arc::clone(&drops));
        let answers = thread::spawn(move || completer.complete(Ok(value)));
        let flag = Arc::default();
        let mut pending = pending.then(Ok);
        let polled = poll(&mut pending, &flag);
        drop(pending);
        drop(polled);
        answers.join().unwrap();
        assert_eq!(drops.load(Ordering::SeqCst), 1);
    });
}

/// Work that whoever comes first does, and that answers.
struct Work(Mutex<Vec<Completer<u8>>>);

impl Helper for Work {
    fn help(&self) -> bool {
        let completer = self.0.lock().pop();
        let helps = completer.is_some();
        if let Some(completer) = completer {
            completer.complete(Ok(7));
        }
        helps
    }
}

#[test]
fn a_helper_takes_the_work_or_waits_for_it() {
    explore(SHARE, |time| {
        let (pending, completers): (Vec<_>, Vec<_>) = (0..2).map(|_| Pending::new()).unzip();
        let work = Arc::new(Work(Mutex::new(completers)));
        let works = Arc::clone(&work);
        let works = thread::spawn(move || while works.help() {});
        let waits = pending.into_iter().map(|pending| {
            let pending = pending.helped_by(Arc::clone(&work) as _);
            thread::spawn(move || assert_eq!(pending.wait().unwrap(), 7))
        });
        waits.collect::<Vec<_>>().into_iter().for_each(|waits| waits.join().unwrap());
        works.join().unwrap();
        time.assert_below(MOMENT);
    });
}
