//! What threads wait for: each job is done once, the clock wakes in time, and the end reaches all.

use std::sync::Arc;
use std::time::Duration;

use indelible::runtime::signals::{Clock, Jobs, Life, Work};
use indelible::sync::{self, Mutex};
use indelible::types::time::Moment;
use shuttle::thread;

use crate::explore::{Time, explore};

/// Small: a schedule takes tens of microseconds.
const SHARE: usize = 30;
const MOMENT: Duration = Duration::from_millis(1);
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Default)]
struct Shop {
    jobs: Jobs<u8>,
    life: Life,
    done: Mutex<Vec<u8>>,
    /// Raised when the owner believes that all threads have ended.
    ended: Mutex<bool>,
}

impl Shop {
    /// What a writer thread does.
    fn work(&self) {
        while let Some(job) = self.jobs.wait(&self.life) {
            self.finish(job);
        }
        self.life.thread_ended(Work::Jobs);
    }

    /// What a caller does who helps.
    fn help(&self) {
        self.life.thread_began(Work::Jobs);
        if !self.life.is_ending()
            && let Some(job) = self.jobs.take_first(|job| job % 2 == 0)
        {
            self.finish(job);
        }
        self.life.thread_ended(Work::Jobs);
    }

    fn finish(&self, job: u8) {
        assert!(!*self.ended.lock(), "job {job} is done after the end");
        self.done.lock().push(job);
    }
}

#[test]
fn each_job_is_done_once() {
    explore(SHARE, |time| {
        let shop = Arc::new(Shop::default());
        let begin = |run: fn(&Shop)| {
            let shop = Arc::clone(&shop);
            thread::spawn(move || run(&shop))
        };
        shop.life.thread_began(Work::Jobs);
        shop.life.thread_began(Work::Jobs);
        let workers = [begin(Shop::work), begin(Shop::work)];
        let others = [
            begin(|shop| shop.jobs.add(vec![1, 2, 3])),
            begin(|shop| shop.jobs.add(vec![4])),
            begin(Shop::help),
        ];
        others.into_iter().for_each(|other| other.join().unwrap());
        shop.life.end();
        shop.jobs.wake_all();
        workers.into_iter().for_each(|worker| worker.join().unwrap());
        let mut done = shop.done.lock();
        done.sort_unstable();
        assert_eq!(*done, [1, 2, 3, 4]);
        time.assert_below(MOMENT);
    });
}

/// Jobs must not wait for the end, nor for each other: as many threads wake as there are jobs.
#[test]
fn jobs_do_not_wait_for_each_other() {
    explore(SHARE, |time| {
        let shop = Arc::new(Shop::default());
        // Two jobs that need each other: each ends only when both have begun.
        let meeting = Arc::new(shuttle::sync::Barrier::new(2));
        let workers = [0, 1].map(|_| {
            let (shop, meeting) = (Arc::clone(&shop), Arc::clone(&meeting));
            thread::spawn(move || {
                while shop.jobs.wait(&shop.life).is_some() {
                    meeting.wait();
                    shop.done.lock().push(0);
                    if shop.done.lock().len() == 2 {
                        shop.life.end();
                        shop.jobs.wake_all();
                    }
                }
            })
        });
        shop.jobs.add(vec![1, 2]);
        workers.into_iter().for_each(|worker| worker.join().unwrap());
        time.assert_below(MOMENT);
    });
}

#[test]
fn nobody_works_after_the_end() {
    explore(SHARE, |time| {
        let shop = Arc::new(Shop::default());
        shop.life.thread_began(Work::Jobs);
        let run = [Shop::work, Shop::help, Shop::help, |shop: &Shop| shop.jobs.add(vec![2, 4])];
        let threads = run.map(|run: fn(&Shop)| {
            let shop = Arc::clone(&shop);
            thread::spawn(move || run(&shop))
        });
        shop.life.end();
        shop.jobs.wake_all();
        let ended = shop.life.wait_ended(PATIENCE);
        *shop.ended.lock() = ended;
        assert!(ended || time == Time::Any, "the threads did not end");
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        time.assert_below(MOMENT);
    });
}

#[test]
fn the_clock_wakes_in_time() {
    explore(SHARE, |time| {
        let (clock, life) = (Arc::new(Clock::default()), Arc::new(Life::default()));
        let at = |millis| Moment::ZERO + Duration::from_millis(millis);
        let now = || Moment::ZERO + sync::elapsed();
        let waits = {
            let (clock, life) = (Arc::clone(&clock), Arc::clone(&life));
            thread::spawn(move || {
                let mut woken = Vec::new();
                while clock.wait(&life, now) {
                    woken.push(now());
                }
                woken
            })
        };
        // Later, then sooner, as one turn after the other would have it.
        clock.set(Some(at(9)));
        clock.set(Some(at(3)));
        let lock = Mutex::new(());
        sync::Condvar::new().wait_for(&mut lock.lock(), Duration::from_millis(20));
        life.end();
        clock.wake();
        let woken = waits.join().unwrap();
        assert!(woken.iter().all(|woken| *woken >= at(3)), "woken too early: {woken:?}");
        assert!(time == Time::Any || woken == [at(3)], "woken at {woken:?}");
    });
}

#[test]
fn the_end_of_the_clock_is_heard() {
    explore(SHARE, |time| {
        let (clock, life) = (Arc::new(Clock::default()), Arc::new(Life::default()));
        let waits = {
            let (clock, life) = (Arc::clone(&clock), Arc::clone(&life));
            thread::spawn(move || while clock.wait(&life, || Moment::ZERO + sync::elapsed()) {})
        };
        clock.set(Some(Moment::ZERO + PATIENCE));
        life.end();
        clock.wake();
        waits.join().unwrap();
        time.assert_below(PATIENCE);
    });
}

#[test]
fn the_stop_is_heard() {
    explore(SHARE, |time| {
        let life = Arc::new(Life::default());
        let waits = [0, 1].map(|_| {
            let life = Arc::clone(&life);
            thread::spawn(move || {
                life.wait_stopped(PATIENCE);
                assert!(time == Time::Any || life.is_stopped());
            })
        });
        life.set_stopped();
        waits.into_iter().for_each(|waits| waits.join().unwrap());
        time.assert_below(MOMENT);
    });
}
