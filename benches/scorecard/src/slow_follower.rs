//! Three processes, of which one follower stands still: what does that cost a commit?

use std::time::{Duration, Instant};

use crate::git_history::build_example;
use crate::ledger::addresses;
use crate::process::{Process, leader};
use crate::report::{Goal, Latencies, Result, Row};

const SLICE: Duration = Duration::from_secs(1);
const ROUNDS: usize = 10;

/// One caller at the leader, who waits for each commit. A follower is stopped for every second
/// slice, and catches up between them.
pub fn stopped() -> Result<Row> {
    let program = build_example("replica")?;
    let directory = tempfile::tempdir()?;
    let peers = addresses()?;
    let start = |id| Process::start(&program, directory.path(), id, &peers);
    let mut processes = peers.iter().map(|(id, _)| start(*id)).collect::<Result<Vec<_>>>()?;
    for process in &mut processes {
        process.expect("ready")?;
    }
    let led_by = leader(&mut processes)?;
    let place = processes.iter().position(|process| process.id == led_by).ok_or("who leads?")?;
    processes.swap(0, place);
    let (mut healthy, mut stopped) = (Latencies::new()?, Latencies::new()?);
    let mut written = 0;
    for round in 0..=ROUNDS {
        let healthy_now = write(&mut processes[0], &mut written)?;
        processes[2].signal("-STOP")?;
        let stopped_now = write(&mut processes[0], &mut written);
        processes[2].signal("-CONT")?;
        let stopped_now = stopped_now?;
        // It knows all that was acknowledged.
        processes[2].expect(&format!("get key{}", written - 1))?;
        if round > 0 {
            healthy.add(&healthy_now)?;
            stopped.add(&stopped_now)?;
        }
    }
    let stayed = leader(&mut processes)? == led_by;
    let note = format!(
        "p99 with one follower stopped (SIGSTOP), over p99 with all three, in slices of \
                        {SLICE:?} that take turns, {ROUNDS} each; three processes, one caller who \
                        waits for each commit; microseconds; default settings"
    );
    let ratio = stopped.quantile(0.99) / healthy.quantile(0.99);
    Ok(Row::new(ratio, "ratio", Goal::AtMost(1.5))
        .with("commits", (healthy.count() + stopped.count()) as f64)
        .with_latencies("healthy_", &healthy)
        .with_latencies("", &stopped)
        .demand(stayed)
        .note(note))
}

/// Writes for a slice, and says how long each commit took.
fn write(process: &mut Process, written: &mut u64) -> Result<Latencies> {
    let mut latencies = Latencies::new()?;
    let began = Instant::now();
    while began.elapsed() < SLICE {
        let asked = Instant::now();
        let answer = process.ask(&format!("put key{written} {}", "x".repeat(256)))?;
        latencies.push(asked.elapsed());
        if !answer.starts_with("ok ") {
            return Err(format!("a write failed: {answer}").into());
        }
        *written += 1;
    }
    Ok(latencies)
}
