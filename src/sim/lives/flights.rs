//! What is under way in a life: jobs are handed out, begun and done in any order, and left at any
//! moment.

use crate::journal::{Begun, Done, Job, Journal};
use crate::sim::disk::{Mount, SimDisk};
use crate::sim::rng::Rng;

/// What is under way.
#[derive(Default)]
pub(super) struct Flights {
    pub(super) jobs: Vec<Job<Mount>>,
    pub(super) begun: Vec<Begun<Mount>>,
    pub(super) done: Vec<Done<Mount>>,
}

impl Flights {
    /// Begins one of the jobs, if there are any.
    pub(super) fn begin_one(&mut self, rng: &mut Rng) {
        self.begun.extend(take(&mut self.jobs, rng).map(Job::begin));
    }

    /// One of those that are begun, to be finished.
    pub(super) fn take_begun(&mut self, rng: &mut Rng) -> Option<Begun<Mount>> {
        take(&mut self.begun, rng)
    }

    /// One of those that are done, to be told to the journal.
    pub(super) fn take_done(&mut self, rng: &mut Rng) -> Option<Done<Mount>> {
        take(&mut self.done, rng)
    }

    /// Syncs what was written. Where that `fails`, what is synced just after it is lost with it,
    /// sometimes.
    pub(super) fn finish(
        &mut self,
        begun: Begun<Mount>,
        disk: &SimDisk,
        fails: bool,
        rng: &mut Rng,
    ) {
        self.done.push(begun.finish());
        disk.disarm();
        if fails && rng.per_mille(500) {
            self.done.extend(self.begun.drain(..).map(Begun::finish));
        }
    }

    /// The life ends: some writes are done whose outcome nobody hears of.
    pub(super) fn leave(self, rng: &mut Rng) {
        for job in self.jobs {
            match rng.below(3) {
                0 => drop(job.run()),
                1 => drop(job.begin()),
                _ => {}
            }
        }
    }
}

/// Whoever was told of a failure writes nothing any more.
pub(super) fn check_poisoned(journal: &mut Journal<Mount>) {
    let refused = journal.next_job().is_err();
    assert!(refused, "D8: the journal writes after a failure");
}

/// Of what was not synced, a random part survives. Returns how much, of `bound` - 1.
pub(super) fn cut_power(disk: &SimDisk, rng: &mut Rng, bound: u64) -> u64 {
    let (pieces, keep) = (&mut rng.fork(), rng.below(bound));
    disk.power_cut(&mut |_| pieces.below(bound - 1) < keep);
    keep
}

fn take<T>(items: &mut Vec<T>, rng: &mut Rng) -> Option<T> {
    let count = items.len() as u64;
    (count > 0).then(|| items.swap_remove(rng.below(count.max(1)) as usize))
}
