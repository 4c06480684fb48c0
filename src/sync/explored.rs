//! Stand-ins for `parking_lot` and the clock, for shuttle. Compiled under `--cfg shuttle` only.
//!
//! Shuttle has no time. Here, time is a number that moves when somebody's patience ends: whoever
//! waits with a timeout leaves a timer, and a task of its own ([`pass_time`]) takes the earliest
//! timer, sets the clock to it and wakes its owner. It never moves otherwise. *When* that task runs
//! is up to the scheduler:
//!
//! * Where it runs whenever it is picked, any timeout may end before anything else happens.
//! * Where it runs only when nobody else can, time passes only if all threads wait for it. A test
//!   may then tell from the clock that a wake-up was lost: whoever was rescued by a timeout shows.
//!
//! Invariants:
//! * Each operation can be preempted before it takes effect, and a wait between letting go of its
//!   lock and sleeping.
//! * Nobody wakes without a notification or a timer of its own: no spurious wake-up hides a lost
//!   one. Whom `notify_one` wakes is up to the scheduler; a timed-out waiter takes no notification.
//! * A panic does not poison a lock, as in `parking_lot`.
//!
//! The standard locks in here are held for a few statements without a preemption in between.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, PoisonError};
use std::task::{Poll, Waker};
use std::time::Duration;

use shuttle::future::batch_semaphore::{BatchSemaphore, Fairness};
use shuttle::rand::Rng;

shuttle::lazy_static! {
    /// The clock of one execution.
    static ref TIME: std::sync::Mutex<Time> = std::sync::Mutex::new(Time::default());
}

#[derive(Default)]
struct Time {
    now: Duration,
    timers: BTreeMap<(Duration, u64), Arc<Waiter>>,
    timers_made: u64,
    /// The task that lets time pass.
    passer: Option<Waker>,
}

/// A moment on the clock of this execution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Instant(Duration);

/// See `parking_lot::Mutex`.
#[derive(Default)]
pub struct Mutex<T> {
    inner: shuttle::sync::Mutex<T>,
    /// Those who wait for the lock with a timeout.
    patient: Waiters,
}

/// See `parking_lot::MutexGuard`.
pub struct MutexGuard<'a, T> {
    mutex: &'a Mutex<T>,
    /// `None` only while it waits for a condition, and while it is dropped.
    inner: Option<shuttle::sync::MutexGuard<'a, T>>,
}

/// See `parking_lot::Condvar`.
#[derive(Debug, Default)]
pub struct Condvar(Waiters);

/// Whether a wait ended by its timeout.
#[derive(Clone, Copy, Debug)]
pub struct WaitTimeoutResult(bool);

#[derive(Default)]
struct Waiters(std::sync::Mutex<Vec<Arc<Waiter>>>);

/// A thread that sleeps until somebody wakes it; the first to do so counts.
struct Waiter {
    state: AtomicU8,
    woken: BatchSemaphore,
}

/// Whoever waits until then waits for something else: no clock comes that far.
const NEVER: Duration = Duration::from_secs(365 * 24 * 60 * 60);

const ASLEEP: u8 = 0;
const NOTIFIED: u8 = 1;
const TIMED_OUT: u8 = 2;

/// Lets time pass for ever, one timer each time it is picked. To be spawned as a task, detached.
pub fn pass_time() -> impl Future<Output = ()> + Send {
    std::future::poll_fn(|context| {
        let due = with_time(|time| {
            let due = time.timers.pop_first();
            time.now = due.as_ref().map_or(time.now, |((at, _), _)| time.now.max(*at));
            time.passer = Some(context.waker().clone());
            due
        });
        if let Some((_, waiter)) = due {
            waiter.wake(TIMED_OUT);
        }
        if with_time(|time| !time.timers.is_empty()) {
            context.waker().wake_by_ref();
        }
        Poll::Pending
    })
}

/// How much time has passed in this execution.
#[must_use]
pub fn elapsed() -> Duration {
    with_time(|time| time.now)
}

fn with_time<R>(run: impl FnOnce(&mut Time) -> R) -> R {
    run(&mut TIME.lock().unwrap_or_else(PoisonError::into_inner))
}

/// Somebody else may run here.
fn preempt() {
    shuttle::thread::sleep(Duration::ZERO);
}

impl Instant {
    /// The present.
    #[must_use]
    pub fn now() -> Self {
        Self(elapsed())
    }

    /// The time since then.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        elapsed().saturating_sub(self.0)
    }
}

impl Waiter {
    fn wake(&self, why: u8) -> bool {
        let first = self.state.compare_exchange(ASLEEP, why, Ordering::SeqCst, Ordering::SeqCst);
        if first.is_ok() {
            self.woken.release(1);
        }
        first.is_ok()
    }
}

impl Waiters {
    fn add(&self) -> Arc<Waiter> {
        let woken = BatchSemaphore::new(0, Fairness::Unfair);
        let waiter = Arc::new(Waiter { state: AtomicU8::new(ASLEEP), woken });
        self.with(|waiters| waiters.push(Arc::clone(&waiter)));
        waiter
    }

    /// Sleeps until woken, or until the clock stands at `deadline`; returns whether it was that.
    fn sleep(&self, waiter: &Arc<Waiter>, deadline: Option<Duration>) -> bool {
        let timer = deadline.filter(|deadline| *deadline < NEVER);
        let timer = timer.map(|deadline| set_timer(waiter, deadline));
        waiter.woken.acquire_blocking(1).expect("it is never closed");
        self.forget(waiter);
        if let Some(timer) = timer {
            with_time(|time| time.timers.remove(&timer));
        }
        waiter.state.load(Ordering::SeqCst) == TIMED_OUT
    }

    fn forget(&self, waiter: &Arc<Waiter>) {
        self.with(|waiters| waiters.retain(|other| !Arc::ptr_eq(other, waiter)));
    }

    fn wake_one(&self) -> bool {
        loop {
            let waiter = self.with(|waiters| {
                waiters.retain(|waiter| waiter.state.load(Ordering::SeqCst) == ASLEEP);
                match waiters.len() {
                    0 => None,
                    1 => waiters.pop(),
                    // A random number costs the scheduler a step; so only where there is a choice.
                    more => {
                        Some(waiters.swap_remove(shuttle::rand::thread_rng().gen_range(0..more)))
                    }
                }
            });
            match waiter {
                None => return false,
                Some(waiter) if waiter.wake(NOTIFIED) => return true,
                Some(_) => {}
            }
        }
    }

    fn wake_all(&self) -> usize {
        let waiters = self.with(std::mem::take);
        waiters.iter().filter(|waiter| waiter.wake(NOTIFIED)).count()
    }

    fn with<R>(&self, run: impl FnOnce(&mut Vec<Arc<Waiter>>) -> R) -> R {
        run(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn set_timer(waiter: &Arc<Waiter>, deadline: Duration) -> (Duration, u64) {
    let (timer, passer) = with_time(|time| {
        time.timers_made += 1;
        let timer = (deadline, time.timers_made);
        time.timers.insert(timer, Arc::clone(waiter));
        (timer, time.passer.take())
    });
    if let Some(passer) = passer {
        passer.wake();
    }
    timer
}

impl<T> Mutex<T> {
    /// See `parking_lot`.
    pub fn new(value: T) -> Self {
        Self { inner: shuttle::sync::Mutex::new(value), patient: Waiters::default() }
    }

    /// See `parking_lot`.
    pub fn lock(&self) -> MutexGuard<'_, T> {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        MutexGuard { mutex: self, inner: Some(inner) }
    }

    /// See `parking_lot`.
    pub fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        let inner = match self.inner.try_lock() {
            Ok(inner) => inner,
            Err(std::sync::TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(std::sync::TryLockError::WouldBlock) => return None,
        };
        Some(MutexGuard { mutex: self, inner: Some(inner) })
    }

    /// See `parking_lot`.
    pub fn try_lock_for(&self, timeout: Duration) -> Option<MutexGuard<'_, T>> {
        let deadline = elapsed().saturating_add(timeout);
        loop {
            // Before the attempt: who lets go after it wakes this one.
            let waiter = self.patient.add();
            if let Some(guard) = self.try_lock() {
                self.patient.forget(&waiter);
                return Some(guard);
            }
            if self.patient.sleep(&waiter, Some(deadline)) {
                return self.try_lock();
            }
        }
    }
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.inner.as_ref().expect("it is locked")
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.inner.as_mut().expect("it is locked")
    }
}

impl<T> Drop for MutexGuard<'_, T> {
    fn drop(&mut self) {
        self.inner = None;
        self.mutex.patient.wake_all();
    }
}

impl Condvar {
    /// See `parking_lot`.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// See `parking_lot`.
    pub fn wait<T>(&self, guard: &mut MutexGuard<'_, T>) {
        self.wait_until(guard, None);
    }

    /// See `parking_lot`.
    pub fn wait_for<T>(
        &self,
        guard: &mut MutexGuard<'_, T>,
        timeout: Duration,
    ) -> WaitTimeoutResult {
        let deadline = elapsed().saturating_add(timeout);
        WaitTimeoutResult(self.wait_until(guard, Some(deadline)))
    }

    /// See `parking_lot`.
    pub fn wait_while_for<T>(
        &self,
        guard: &mut MutexGuard<'_, T>,
        mut condition: impl FnMut(&mut T) -> bool,
        timeout: Duration,
    ) -> WaitTimeoutResult {
        let deadline = elapsed().saturating_add(timeout);
        let mut timed_out = false;
        while condition(guard) {
            if timed_out {
                return WaitTimeoutResult(true);
            }
            timed_out = self.wait_until(guard, Some(deadline));
        }
        WaitTimeoutResult(false)
    }

    /// See `parking_lot`.
    pub fn notify_one(&self) -> bool {
        preempt();
        self.0.wake_one()
    }

    /// See `parking_lot`.
    pub fn notify_all(&self) -> usize {
        preempt();
        self.0.wake_all()
    }

    fn wait_until<T>(&self, guard: &mut MutexGuard<'_, T>, deadline: Option<Duration>) -> bool {
        // What was looked at before may change here, unless the lock keeps it.
        preempt();
        let waiter = self.0.add();
        guard.inner = None;
        guard.mutex.patient.wake_all();
        let timed_out = self.0.sleep(&waiter, deadline);
        guard.inner = guard.mutex.lock().inner.take();
        timed_out
    }
}

impl WaitTimeoutResult {
    /// See `parking_lot`.
    #[must_use]
    pub fn timed_out(&self) -> bool {
        self.0
    }
}

impl<T> fmt::Debug for Mutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mutex").finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for MutexGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MutexGuard").finish_non_exhaustive()
    }
}

impl fmt::Debug for Waiters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Waiters").finish_non_exhaustive()
    }
}
