//! Many commits outstanding, against three files that are synced in groups; and many reads, against
//! the commits.

use std::time::Duration;

use indelible::{Config, Replica};

use crate::floor::ThreeSyncs;
use crate::ledger::{self, Caller};
use crate::report::{Goal, Latencies, Result, Row, median};

const SLICE: Duration = Duration::from_millis(500);
const ROUNDS: usize = 9;
const OUTSTANDING: usize = 64;

/// Longer than a busy machine stands still.
const LEASE: Duration = Duration::from_secs(2);

/// Three replicas with 64 commits outstanding.
pub fn three() -> Result<Row> {
    let directory = tempfile::tempdir()?;
    let mut floor = ThreeSyncs::create(directory.path())?;
    let replicas = ledger::three(directory.path())?;
    let mut caller = Caller::new(replicas[0].clone());
    let mut latencies = Latencies::new()?;
    let (mut ratios, mut floors, mut ours) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..=ROUNDS {
        let mut latencies_now = Latencies::new()?;
        let floor_now = floor.throughput(SLICE, OUTSTANDING)?;
        let ours_now = caller.throughput(SLICE, OUTSTANDING, &mut latencies_now)?;
        if round == 0 {
            continue; // Both sides are cold.
        }
        ratios.push(ours_now / floor_now);
        floors.push(floor_now);
        ours.push(ours_now);
        latencies.add(&latencies_now)?;
    }
    replicas.iter().try_for_each(Replica::close)?;
    let note = format!(
        "median of {ROUNDS} rounds; per second; floor: three pre-written files, \
                        groups of {OUTSTANDING} records, two of three synced"
    );
    Ok(Row::new(median(ratios), "ratio", Goal::AtLeast(0.25))
        .with("commits_per_second", median(ours))
        .with("floor_per_second", median(floors))
        .with_latencies("", &latencies)
        .note(note))
}

/// The leader of three, with 64 linearizable reads outstanding. No clock is trusted: the others
/// confirm each round of reads.
pub fn reads() -> Result<Row> {
    let directory = tempfile::tempdir()?;
    let replicas = ledger::three(directory.path())?;
    let mut caller = Caller::new(replicas[0].clone());
    let mut latencies = Latencies::new()?;
    let (mut ratios, mut commits, mut reads) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..=ROUNDS {
        let (mut ignored, mut latencies_now) = (Latencies::new()?, Latencies::new()?);
        let commits_now = caller.throughput(SLICE, OUTSTANDING, &mut ignored)?;
        let reads_now = caller.reads(SLICE, OUTSTANDING, &mut latencies_now)?;
        if round == 0 {
            continue; // Both sides are cold.
        }
        ratios.push(reads_now / commits_now);
        commits.push(commits_now);
        reads.push(reads_now);
        latencies.add(&latencies_now)?;
    }
    replicas.iter().try_for_each(Replica::close)?;
    let note = format!(
        "median of {ROUNDS} rounds; reads at the leader with {OUTSTANDING} outstanding, over \
                        commits there with as many outstanding, as in three.throughput64; per \
                        second; no lease"
    );
    Ok(Row::new(median(ratios), "ratio", Goal::AtLeast(5.0))
        .with("reads_per_second", median(reads))
        .with("commits_per_second", median(commits))
        .with_latencies("", &latencies)
        .note(note))
}

/// As [`reads`], with a lease: the row is how many rounds of confirmation there were.
pub fn leased_reads() -> Result<Row> {
    let directory = tempfile::tempdir()?;
    let config = Config { read_lease: Some(LEASE), ..Config::default() };
    let replicas = ledger::three_with(directory.path(), config)?;
    let mut caller = Caller::new(replicas[0].clone());
    let (mut latencies, mut reads) = (Latencies::new()?, Vec::new());
    // What is read must be there.
    caller.throughput(SLICE, OUTSTANDING, &mut Latencies::new()?)?;
    let mut before = 0;
    for round in 0..=ROUNDS {
        let mut latencies_now = Latencies::new()?;
        let reads_now = caller.reads(SLICE, OUTSTANDING, &mut latencies_now)?;
        if round == 0 {
            // Both sides are cold, and the lease may have been asked for just now.
            before = replicas[0].status().read_rounds;
            continue;
        }
        reads.push(reads_now);
        latencies.add(&latencies_now)?;
    }
    let rounds = replicas[0].status().read_rounds - before;
    replicas.iter().try_for_each(Replica::close)?;
    let note = format!(
        "rounds of confirmation in {ROUNDS} rounds of reads at the leader with {OUTSTANDING} \
                        outstanding, under a lease of {LEASE:?}"
    );
    Ok(Row::new(rounds as f64, "rounds", Goal::AtMost(0.0))
        .with("reads_per_second", median(reads))
        .with_latencies("", &latencies)
        .note(note))
}
