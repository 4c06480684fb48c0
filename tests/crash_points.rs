//! Crash points, exhaustively: at every boundary of a script of 50 operations the power goes, an
//! operation fails, or the disk is full from there on; what is left is opened, with another crash
//! at every boundary of that opening, and opened again. What is found is what was written, and all
//! of it that was acknowledged.
//!
//! `STRIDE=1 cargo test --release --test crash_points -- --nocapture` runs all of it, and says how
//! much that was. Without `STRIDE`, each 15th boundary is tried.

#![allow(clippy::unwrap_used, reason = "a test panics on what it does not expect")]

#[path = "crash_points/explore.rs"]
mod explore;
#[path = "support/formed.rs"]
mod formed;
#[path = "crash_points/model.rs"]
mod model;
#[path = "crash_points/script.rs"]
mod script;
#[path = "crash_points/survival.rs"]
mod survival;
#[path = "crash_points/tamper.rs"]
mod tamper;

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use explore::{Counts, Point};
use indelible::sim::disk::{Operation, SimDisk};
use script::Life;
use tamper::{Fault, Plan};

/// How many threads explore.
const THREADS: usize = 2;

/// What a full run comes to, at least.
const STATES_MIN: u64 = 200_000;

fn stride() -> usize {
    std::env::var("STRIDE").map_or(15, |text| text.parse().expect("STRIDE is a number"))
}

/// How many boundaries the whole script has; it is checked on the way that it does what it should.
fn boundaries(voters: u64) -> u64 {
    let disk = SimDisk::new();
    disk.record_log(true);
    let mut life = Life::new(Plan::nothing(&disk), voters);
    life.run().unwrap();
    let count = |operation| disk.log().iter().filter(|it| it.operation == operation).count();
    assert!(count(Operation::Write) > 30 && count(Operation::Sync) > 30);
    let segments = disk
        .log()
        .into_iter()
        .filter(|it| it.operation == Operation::Create && it.name.starts_with("segment-"));
    assert!(segments.count() >= 6, "the script passes over segments");
    let cut_off = disk.take_overwritten();
    assert!(cut_off.iter().all(|overwrite| overwrite.is_cut), "{cut_off:?}");
    disk.boundaries()
}

/// Does `act` for each of the boundaries that are tried, on several threads.
fn explore(act: impl Fn(&mut Point) + Sync) -> Counts {
    let begun = Instant::now();
    let all: Vec<(u64, u64)> = [1, 3]
        .into_iter()
        .flat_map(|voters| (0..boundaries(voters)).map(move |boundary| (voters, boundary)))
        .collect();
    let tried: Vec<(u64, u64)> = all.iter().copied().step_by(stride()).collect();
    let (next, done) = (AtomicUsize::new(0), Mutex::new((BTreeSet::new(), Counts::default())));
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                while let Some(&(voters, boundary)) =
                    tried.get(next.fetch_add(1, Ordering::Relaxed))
                {
                    let mut point = Point::new(voters, boundary);
                    act(&mut point);
                    let mut done = done.lock().unwrap();
                    done.0.insert((voters, boundary));
                    done.1.add(point.counts);
                }
            });
        }
    });
    let (covered, counts) = done.into_inner().unwrap();
    assert_eq!(covered.len(), all.len().div_ceil(stride()), "every boundary is covered");
    println!(
        "{} of {} boundaries, {} states in {:.1?}: {counts:?}",
        covered.len(),
        all.len(),
        counts.states(),
        begun.elapsed()
    );
    counts
}

#[test]
fn nothing_acknowledged_is_lost_at_any_boundary() {
    let counts = explore(|point| {
        point.crash();
        point.failure(Fault::Fail);
        point.failure(Fault::FailOtherwise);
        point.no_space();
    });
    assert!(counts.states() >= STATES_MIN / stride() as u64, "{counts:?}");
    assert!(counts.failed > counts.cannot_fail && counts.healed > 0, "{counts:?}");
}
