//! What the threads of a replica wait for: work, the time, and the end.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use crate::journal::Job;
use crate::journal::disk::Disk;
use crate::types::time::Moment;

/// Journal writes that wait for a thread.
pub(super) struct Jobs<D: Disk> {
    queue: Mutex<VecDeque<Job<D>>>,
    added: Condvar,
}

/// When the next turn is due.
#[derive(Default)]
pub(super) struct Clock {
    wake_at: Mutex<Option<Moment>>,
    sooner: Condvar,
}

/// Which threads live, and whether they should.
#[derive(Default)]
pub(super) struct Life {
    /// The driver takes no events any more but to answer them with an error.
    stopped: AtomicBool,
    /// Threads end.
    ending: AtomicBool,
    threads: AtomicUsize,
    lock: Mutex<()>,
    changed: Condvar,
}

impl<D: Disk> Jobs<D> {
    pub(super) fn new() -> Self {
        Self { queue: Mutex::new(VecDeque::new()), added: Condvar::new() }
    }

    pub(super) fn add(&self, jobs: Vec<Job<D>>) {
        if jobs.is_empty() {
            return;
        }
        let count = jobs.len();
        self.queue.lock().extend(jobs);
        (0..count).for_each(|_| {
            self.added.notify_one();
        });
    }

    /// The next job; `None` once the threads end.
    pub(super) fn wait(&self, life: &Life) -> Option<Job<D>> {
        let mut queue = self.queue.lock();
        loop {
            if let Some(job) = queue.pop_front() {
                return Some(job);
            }
            if life.is_ending() {
                return None;
            }
            self.added.wait(&mut queue);
        }
    }

    /// A write, if one waits. Preparing a segment takes long: that is left to the threads.
    pub(super) fn take_write(&self) -> Option<Job<D>> {
        let mut queue = self.queue.lock();
        let write = queue.iter().position(|job| !job.is_prepare())?;
        queue.remove(write)
    }

    pub(super) fn wake_all(&self) {
        let _queue = self.queue.lock();
        self.added.notify_all();
    }
}

impl Clock {
    pub(super) fn set(&self, wake_at: Option<Moment>) {
        let mut current = self.wake_at.lock();
        let sooner = match (wake_at, *current) {
            (Some(new), Some(old)) => new < old,
            (new, old) => new.is_some() && old.is_none(),
        };
        *current = wake_at;
        if sooner {
            self.sooner.notify_one();
        }
    }

    /// Waits until a turn is due; `false` once the threads end.
    pub(super) fn wait(&self, life: &Life, now: impl Fn() -> Moment) -> bool {
        let mut wake_at = self.wake_at.lock();
        loop {
            if life.is_ending() {
                return false;
            }
            match *wake_at {
                None => self.sooner.wait(&mut wake_at),
                Some(due) => {
                    let left = due.since(now());
                    if left.is_zero() {
                        *wake_at = None;
                        return true;
                    }
                    self.sooner.wait_for(&mut wake_at, left);
                }
            }
        }
    }

    pub(super) fn wake(&self) {
        let _wake_at = self.wake_at.lock();
        self.sooner.notify_all();
    }
}

impl Life {
    pub(super) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::SeqCst)
    }

    pub(super) fn is_ending(&self) -> bool {
        self.ending.load(Ordering::SeqCst)
    }

    pub(super) fn set_stopped(&self) {
        let _lock = self.lock.lock();
        self.stopped.store(true, Ordering::SeqCst);
        self.changed.notify_all();
    }

    pub(super) fn end(&self) {
        let _lock = self.lock.lock();
        self.ending.store(true, Ordering::SeqCst);
        self.changed.notify_all();
    }

    /// A thread begins to work for the replica, or one that does so already.
    pub(super) fn thread_began(&self) {
        self.threads.fetch_add(1, Ordering::SeqCst);
    }

    pub(super) fn thread_ended(&self) {
        let _lock = self.lock.lock();
        self.threads.fetch_sub(1, Ordering::SeqCst);
        self.changed.notify_all();
    }

    pub(super) fn wait_stopped(&self, timeout: Duration) {
        let mut lock = self.lock.lock();
        self.changed.wait_while_for(&mut lock, |()| !self.is_stopped(), timeout);
    }

    /// Whether all threads have ended in time.
    pub(super) fn wait_ended(&self, timeout: Duration) -> bool {
        let mut lock = self.lock.lock();
        let live = |_: &mut ()| self.threads.load(Ordering::SeqCst) > 0;
        !self.changed.wait_while_for(&mut lock, live, timeout).timed_out()
    }
}
