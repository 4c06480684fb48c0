//! Three processes, of which the leader is killed: how long until the next commit?

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use indelible::Config;

use crate::git_history::build_example;
use crate::ledger::addresses;
use crate::report::{Goal, Latencies, Result, Row};

const KILLS: u32 = 100;
const PATIENCE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(2);

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

/// The leader that all of them agree on.
fn leader(processes: &mut [Process]) -> Result<u64> {
    let until = Instant::now() + PATIENCE;
    while Instant::now() < until {
        let answers = processes
            .iter_mut()
            .map(|process| process.ask("leader"))
            .collect::<Result<Vec<_>>>()?;
        let first = answers[0].strip_prefix("ok ").and_then(|leader| leader.parse().ok());
        match first {
            Some(leader) if answers.iter().all(|answer| *answer == answers[0]) => {
                return Ok(leader);
            }
            _ => thread::sleep(PAUSE),
        }
    }
    Err("no leader that all agree on".into())
}

/// A replica in a process of its own. It is killed when it is dropped.
struct Process {
    id: u64,
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Process {
    fn start(program: &Path, directory: &Path, id: u64, peers: &[(u64, String)]) -> Result<Self> {
        let mut command = Command::new(program);
        command.arg("--dir").arg(directory.join(id.to_string())).args(["--id", &id.to_string()]);
        for (id, address) in peers {
            command.args(["--peer", &format!("{id}={address}")]);
        }
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let input = child.stdin.take().ok_or("no standard input")?;
        let output = BufReader::new(child.stdout.take().ok_or("no standard output")?);
        Ok(Self { id, child, input, output })
    }

    fn ask(&mut self, request: &str) -> Result<String> {
        writeln!(self.input, "{request}")?;
        let mut answer = String::new();
        self.output.read_line(&mut answer)?;
        if answer.is_empty() {
            return Err(format!("replica {} ended", self.id).into());
        }
        Ok(answer.trim_end().to_owned())
    }

    /// Asks until the answer is `ok`.
    fn expect(&mut self, request: &str) -> Result<()> {
        let until = Instant::now() + PATIENCE;
        loop {
            let answer = self.ask(request)?;
            if answer.starts_with("ok ") {
                return Ok(());
            }
            if Instant::now() > until {
                return Err(format!("replica {}: {request}: {answer}", self.id).into());
            }
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
