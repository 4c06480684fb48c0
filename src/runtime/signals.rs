//! What the threads of a replica wait for: work, the time, and the end.
//!
//! Invariants:
//! * Each job is given to one thread, also those that were added before the end; or forgotten,
//!   where the directory is given back.
//! * Whoever waits learns of the end, whether it began to wait before or after.
//! * Once all threads have ended, whoever begins to work sees that the end has come.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::sync::atomic::{AtomicBool, AtomicUsize};
use crate::sync::thread::{self, ThreadId};
use crate::sync::{Condvar, Mutex};
use crate::types::time::Moment;

/// Jobs that wait for a thread.
#[derive(Debug)]
pub struct Jobs<J> {
    queue: Mutex<VecDeque<J>>,
    added: Condvar,
}

/// When the next turn is due.
#[derive(Debug, Default)]
pub struct Clock {
    wake_at: Mutex<Option<Moment>>,
    sooner: Condvar,
}

/// Which threads live, and whether they should.
#[derive(Debug, Default)]
pub struct Life {
    /// The driver takes events only to answer them with an error.
    stopped: AtomicBool,
    /// Threads end.
    ending: AtomicBool,
    threads: AtomicUsize,
    /// Those of them that write to the directory by themselves.
    writers: AtomicUsize,
    lock: Mutex<()>,
    changed: Condvar,
    /// Those of them that run and said so: who waits for the end does not wait for itself.
    running: Mutex<Vec<(ThreadId, Work)>>,
}

/// What a thread does for a replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// It does jobs: it writes to the directory.
    Jobs,
    /// Anything else; it may take turns.
    Else,
}

impl<J> Jobs<J> {
    /// No jobs.
    #[must_use]
    pub fn new() -> Self {
        Self { queue: Mutex::new(VecDeque::new()), added: Condvar::new() }
    }

    /// Adds jobs, and wakes a thread for each.
    pub fn add(&self, jobs: Vec<J>) {
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
    pub fn wait(&self, life: &Life) -> Option<J> {
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

    /// The first of the jobs that are `wanted`, if one waits.
    pub fn take_first(&self, wanted: impl Fn(&J) -> bool) -> Option<J> {
        let mut queue = self.queue.lock();
        let first = queue.iter().position(wanted)?;
        queue.remove(first)
    }

    /// Forgets all that wait.
    pub fn clear(&self) {
        self.queue.lock().clear();
    }

    /// Has all threads look whether they should end.
    pub fn wake_all(&self) {
        let _queue = self.queue.lock();
        self.added.notify_all();
    }
}

impl<J> Default for Jobs<J> {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock {
    /// The next turn is due at `wake_at`, whatever was said before.
    pub fn set(&self, wake_at: Option<Moment>) {
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
    pub fn wait(&self, life: &Life, now: impl Fn() -> Moment) -> bool {
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

    /// Has the thread look whether it should end.
    pub fn wake(&self) {
        let _wake_at = self.wake_at.lock();
        self.sooner.notify_all();
    }
}

impl Life {
    /// Whether the driver only answers with an error.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::SeqCst)
    }

    /// Whether threads should end.
    #[must_use]
    pub fn is_ending(&self) -> bool {
        self.ending.load(Ordering::SeqCst)
    }

    /// From now on the driver only answers with an error.
    pub fn set_stopped(&self) {
        let _lock = self.lock.lock();
        self.stopped.store(true, Ordering::SeqCst);
        self.changed.notify_all();
    }

    /// From now on threads should end.
    pub fn end(&self) {
        let _lock = self.lock.lock();
        self.ending.store(true, Ordering::SeqCst);
        self.changed.notify_all();
    }

    /// A thread begins to work for the replica, or one that does so already.
    pub fn thread_began(&self, work: Work) {
        self.threads.fetch_add(1, Ordering::SeqCst);
        self.writers.fetch_add(usize::from(work == Work::Jobs), Ordering::SeqCst);
    }

    /// It is the one that calls this.
    pub fn thread_runs(&self, work: Work) {
        self.running.lock().push((thread::current().id(), work));
    }

    /// It does no more.
    pub fn thread_ended(&self, work: Work) {
        let this = thread::current().id();
        let mut running = self.running.lock();
        if let Some(place) = running.iter().position(|it| *it == (this, work)) {
            running.swap_remove(place);
        }
        drop(running);
        self.leave(work);
    }

    /// It never ran.
    pub fn thread_failed(&self, work: Work) {
        self.leave(work);
    }

    fn leave(&self, work: Work) {
        let _lock = self.lock.lock();
        self.threads.fetch_sub(1, Ordering::SeqCst);
        self.writers.fetch_sub(usize::from(work == Work::Jobs), Ordering::SeqCst);
        self.changed.notify_all();
    }

    /// Whether a thread, other than this one, writes to the directory by itself, or may yet.
    #[must_use]
    pub fn may_write(&self) -> bool {
        let this = (thread::current().id(), Work::Jobs);
        let own = self.running.lock().iter().filter(|it| **it == this).count();
        self.writers.load(Ordering::SeqCst) > own
    }

    /// Waits until the driver has stopped, or for so long.
    pub fn wait_stopped(&self, timeout: Duration) {
        let mut lock = self.lock.lock();
        self.changed.wait_while_for(&mut lock, |()| !self.is_stopped(), timeout);
    }

    /// Whether all threads have ended in time, but for this one, if it is one of them: whoever it
    /// wakes may end the replica. This one may find jobs once more, which a turn added since: see
    /// `Engine::end`.
    #[must_use]
    pub fn wait_ended(&self, timeout: Duration) -> bool {
        let this = thread::current().id();
        let own = self.running.lock().iter().filter(|(id, _)| *id == this).count();
        let mut lock = self.lock.lock();
        let live = |_: &mut ()| self.threads.load(Ordering::SeqCst) > own;
        !self.changed.wait_while_for(&mut lock, live, timeout).timed_out()
    }
}
