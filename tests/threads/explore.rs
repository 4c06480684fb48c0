//! Runs a body under many schedules: random ones, and those of PCT, which find any bug that needs
//! at most three preemptions with a probability that is known (Burckhardt et al., 2010).
//!
//! Each under both kinds of time; see `src/sync/explored.rs`.

use std::time::{Duration, Instant};

use indelible::sync;
use shuttle::scheduler::{PctScheduler, RandomScheduler, Schedule, Scheduler, Task, TaskId};
use shuttle::{Config, Runner};

/// When time passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Time {
    /// Only when all threads wait for it: a wait that somebody should have ended shows.
    Last,
    /// At any moment too, a few times: any timeout may end before anything else happens.
    Any,
}

/// Preemptions that a bug may need for PCT to find it.
const PCT_DEPTH: usize = 3;

/// The body is the first task, and what lets time pass the second.
const PASSER: usize = 1;

/// In one of so many steps time passes, where it passes at any moment; and so often at most, or the
/// turns that time alone brings about would keep out everybody else for ever.
const STEPS_OF_TIME: u64 = 8;
const EARLY_TIMEOUTS_MAX: usize = 10;

/// Schedules of a test with a share of 1, unless `SCHEDULES` says otherwise.
const SCHEDULES: usize = 1000;

/// Lets `body` run under `SCHEDULES` times `share` schedules.
pub fn explore(share: usize, body: impl Fn(Time) + Copy + Send + Sync + 'static) {
    let began = Instant::now();
    let schedules = number("SCHEDULES").unwrap_or(SCHEDULES).saturating_mul(share).div_ceil(4);
    let seed = number("SEED").unwrap_or(1) as u64;
    let mut explored = 0;
    for time in [Time::Last, Time::Any] {
        explored += run(time, body, RandomScheduler::new_from_seed(seed, schedules));
        explored += run(time, body, PctScheduler::new_from_seed(seed, PCT_DEPTH, schedules));
    }
    println!("{explored} schedules in {:.1?}", began.elapsed());
}

impl Time {
    /// Asserts that nobody was helped by a timeout of `timeout`.
    pub fn assert_below(self, timeout: Duration) {
        let elapsed = sync::elapsed();
        assert!(self == Self::Any || elapsed < timeout, "after {elapsed:?}: a wake-up was lost");
    }
}

fn number(name: &str) -> Option<usize> {
    Some(std::env::var(name).ok()?.parse().expect("a number"))
}

fn run<S: Scheduler + 'static>(
    time: Time,
    body: impl Fn(Time) + Send + Sync + 'static,
    inner: S,
) -> usize {
    let mut config = Config::new();
    config.stack_size = 256 * 1024;
    config.silence_warnings = true;
    let body = move || {
        // Detached: it lets time pass for as long as anybody else lives.
        drop(shuttle::future::spawn(sync::pass_time()));
        body(time);
    };
    Runner::new(Timed { inner, time, begun: 0, early: 0, random: 0 }, config).run(body)
}

/// A scheduler that decides what `inner` does, but for when time passes.
struct Timed<S> {
    inner: S,
    time: Time,
    /// Schedules so far, this one included.
    begun: usize,
    /// Timeouts that ended in this schedule while somebody could still run.
    early: usize,
    /// A number of its own: what `inner` decides is the same with and without it.
    random: u64,
}

impl<S: Scheduler> Scheduler for Timed<S> {
    fn new_execution(&mut self) -> Option<Schedule> {
        self.begun += 1;
        self.early = 0;
        self.inner.new_execution()
    }

    fn next_task(
        &mut self,
        runnable: &[&Task],
        current: Option<TaskId>,
        is_yielding: bool,
    ) -> Option<TaskId> {
        let passer = TaskId::from(PASSER);
        let others = runnable.iter().copied().filter(|task| task.id() != passer);
        let others = others.collect::<Vec<_>>();
        if !others.iter().any(|task| task.runnable()) {
            return Some(passer);
        }
        if others.len() < runnable.len() && self.is_early() {
            self.early += 1;
            return Some(passer);
        }
        self.inner.next_task(&others, current, is_yielding)
    }

    fn next_u64(&mut self) -> u64 {
        self.inner.next_u64()
    }
}

impl<S> Timed<S> {
    /// Whether time passes now, although somebody else can run.
    fn is_early(&mut self) -> bool {
        if self.time == Time::Last || self.early == EARLY_TIMEOUTS_MAX {
            return false;
        }
        // A linear congruential generator (Knuth's constants).
        let next = self.random.wrapping_mul(6_364_136_223_846_793_005);
        self.random = next.wrapping_add(1_442_695_040_888_963_407);
        (self.random >> 33).is_multiple_of(STEPS_OF_TIME)
    }
}

impl<S> Drop for Timed<S> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let (name, time) = (std::any::type_name::<S>(), self.time);
            println!("schedule {} of {name} failed, with time {time:?}", self.begun);
        }
    }
}
