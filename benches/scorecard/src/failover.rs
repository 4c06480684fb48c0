//! Three processes, of which the leader is killed: how long until the next commit?

use std::thread;
use std::time::{Duration, Instant};

use indelible::Config;

use crate::git_history::build_example;
use crate::ledger::addresses;
use crate::process::{PATIENCE, PAUSE, Process, leader};
use crate::report::{Goal, Latencies, Result, Row};

const KILLS: u32 = 100;

/// Kills the leader again and again, with default settings.
pub fn kill() -> Result<Row> {
    let program = build_example("replica")?;
    let directory = tempfile::tempdir()?;
    let peers = addresses()?;
    let start = |id| Process::start(&program, directory.path(), id, &peers);
    let mut processes = peers.iter().map(|(id, _)| start(*id)).collect::<Result<Vec<_>>>()?;
    for process in &mut processes {
        process.expect("ready")?;
    }
    let mut latencies = Latencies::new()?;
    let mut worst = Duration::ZERO;
    for kill in 0..KILLS {
        let leader = leader(&mut processes)?;
        let index =
            processes.iter().position(|process| process.id == leader).ok_or("who leads?")?;
        processes[index].expect(&format!("put before {kill}"))?;
        drop(processes.swap_remove(index)); // SIGKILL.
        let killed = Instant::now();
        let taken = first_commit(&mut processes, kill, killed)?;
        latencies.push(taken);
        worst = worst.max(taken);
        let mut back = start(leader)?;
        back.expect("ready")?;
        processes.push(back);
        thread::sleep(Duration::from_millis(200)); // It catches up, and hears the leader.
    }
    let timeout = Config::default().election_timeout.as_secs_f64() * 1e6;
    let note = format!(
        "p99 of {KILLS} kills; from SIGKILL to the first \
                        commit on either of the others; microseconds; default settings"
    );
    Ok(Row::new(latencies.quantile(0.99) / timeout, "election timeouts", Goal::AtMost(2.0))
        .with_latencies("", &latencies)
        .with("worst", worst.as_secs_f64() * 1e6)
        .with("election_timeout", timeout)
        .demand(timeout <= 500e3)
        .note(note))
}

/// How long after `killed` one of the others has committed something. Both are asked, each as soon
/// as it has answered, because either could be the new leader.
fn first_commit(processes: &mut [Process], kill: u32, killed: Instant) -> Result<Duration> {
    thread::scope(|scope| {
        let attempts: Vec<_> = processes
            .iter_mut()
            .map(|process| {
                scope.spawn(move || {
                    loop {
                        let answer = process.ask(&format!("put after{} {kill}", process.id))?;
                        if answer.starts_with("ok ") {
                            return Ok(killed.elapsed());
                        }
                        if killed.elapsed() > PATIENCE {
                            return Err(format!("no commit after a kill: {answer}").into());
                        }
                        thread::sleep(PAUSE);
                    }
                })
            })
            .collect();
        let mut fastest: Result<Duration> = Err("no process is left".into());
        for attempt in attempts {
            let taken = attempt.join().map_err(|_| "a caller panicked")?;
            fastest = match (fastest, taken) {
                (Ok(fastest), Ok(taken)) => Ok(fastest.min(taken)),
                (Ok(fastest), Err(_)) => Ok(fastest),
                (Err(_), taken) => taken,
            };
        }
        fastest
    })
}
