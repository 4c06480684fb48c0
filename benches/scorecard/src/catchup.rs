//! A state of 1 GiB in processes of their own: what does it cost commits to write a checkpoint of
//! it, and to send that to a replica that joins?

use std::thread;
use std::time::{Duration, Instant};

use crate::git_history::build_example;
use crate::ledger::addresses;
use crate::process::{Process, leader, signal};
use crate::report::{Goal, Latencies, Result, Row};

/// The state: so many values of so many bytes.
const VALUES: usize = 4096;
const VALUE_BYTES: usize = 256 * 1024;
/// How much of the journal is kept: less than a replica that joins would need.
const HISTORY: [&str; 2] = ["--history-bytes", "67108864"];
/// How long commits are measured without anything beside them, at a time.
const QUIET: Duration = Duration::from_secs(5);
/// How many checkpoints are taken, each behind such a time.
const ROUNDS: usize = 4;
/// A transfer goes on for so long, and then stands still for so long, by turns.
const GOES_ON: Duration = Duration::from_secs(2);
const STANDS_STILL: Duration = Duration::from_secs(1);
/// Between two looks at whether it is over.
const LOOK: Duration = Duration::from_millis(50);
/// How many callers there are beside the transfer.
const CALLERS: usize = 16;
/// What the answer begins with that comes whenever it comes.
const TAG: &str = "@checkpoint";
const LIMIT: Duration = Duration::from_secs(60);

/// Three processes with the state, the leader first.
struct Cluster {
    directory: tempfile::TempDir,
    peers: Vec<(u64, String)>,
    processes: Vec<Process>,
    written: u64,
    /// How many answers came that stand outside the order.
    tagged: u64,
}

impl Cluster {
    fn fill() -> Result<Self> {
        let program = build_example("replica")?;
        let directory = tempfile::tempdir()?;
        let peers = addresses()?;
        let start = |id| Process::start_with(&program, directory.path(), id, &peers, &HISTORY);
        let mut processes = peers.iter().map(|(id, _)| start(*id)).collect::<Result<Vec<_>>>()?;
        for process in &mut processes {
            process.expect("ready")?;
        }
        let led_by = leader(&mut processes)?;
        let place = processes.iter().position(|it| it.id == led_by).ok_or("who leads?")?;
        processes.swap(0, place);
        let mut cluster = Self { directory, peers, processes, written: 0, tagged: 0 };
        let value = "x".repeat(VALUE_BYTES);
        for number in 0..VALUES {
            cluster.processes[0].expect(&format!("put value{number} {value}"))?;
        }
        Ok(cluster)
    }

    /// Callers at the leader who each wait for their commit, until `is_over`; how long each took.
    fn write(
        &mut self,
        callers: usize,
        mut is_over: impl FnMut(&Process, u64) -> Result<bool>,
    ) -> Result<(Latencies, Duration)> {
        let (mut latencies, began) = (Latencies::new()?, Instant::now());
        let text = "y".repeat(256);
        let mut asked = Vec::new();
        let mut over = false;
        while !over || !asked.is_empty() {
            while !over && asked.len() < callers {
                self.processes[0].tell(&format!("put key{} {text}", self.written % 1000))?;
                self.written += 1;
                asked.push(Instant::now());
            }
            let answer = self.processes[0].hear()?;
            if answer.starts_with(TAG) {
                self.tagged += 1;
                continue;
            }
            if !answer.starts_with("ok ") {
                return Err(format!("a write failed: {answer}").into());
            }
            // Answers come in the order of the requests.
            latencies.push(asked.remove(0).elapsed());
            over = over || is_over(&self.processes[0], self.tagged)?;
        }
        Ok((latencies, began.elapsed()))
    }

    /// Starts a replica that nobody knows yet, and lets it join as an observer.
    fn join(&mut self) -> Result<Process> {
        let identity = self.processes[0].ask("cluster")?;
        let identity = identity.strip_prefix("ok ").ok_or("no cluster")?.to_owned();
        let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
        let own = (4, listener.local_addr()?.to_string());
        drop(listener);
        let mut peers = self.peers.clone();
        peers.push(own);
        let arguments = ["--join", &identity, HISTORY[0], HISTORY[1]];
        let (program, directory) = (build_example("replica")?, self.directory.path());
        let joined = Process::start_with(&program, directory, 4, &peers, &arguments)?;
        self.processes[0].expect("observe 4")?;
        Ok(joined)
    }

    fn write_for(&mut self, callers: usize, time: Duration) -> Result<(Latencies, Duration)> {
        let until = Instant::now() + time;
        self.write(callers, |_, _| Ok(Instant::now() >= until))
    }
}

/// One caller waits for each commit; the leader writes a checkpoint, or does not, by turns.
pub fn checkpoint() -> Result<Row> {
    let mut cluster = Cluster::fill()?;
    cluster.processes[0].expect("checkpoint")?;
    let (mut quiet, mut beside) = (Latencies::new()?, Latencies::new()?);
    let mut longest = Duration::ZERO;
    for round in 0..ROUNDS {
        quiet.add(&cluster.write_for(1, QUIET)?.0)?;
        cluster.processes[0].tell(&format!("{TAG} checkpoint"))?;
        let (latencies, took) = cluster.write(1, |_, tagged| Ok(tagged > round as u64))?;
        beside.add(&latencies)?;
        longest = longest.max(took);
    }
    let note = format!(
        "p99 of commits while a checkpoint of 1 GiB is taken, over p99 without; three processes, \
         one caller at the leader who waits for each commit, {ROUNDS} times {QUIET:?} without and \
         then as long as the checkpoint takes; seconds: the longest; microseconds"
    );
    Ok(Row::new(beside.quantile(0.99) / quiet.quantile(0.99), "ratio", Goal::AtMost(2.0))
        .with("seconds", longest.as_secs_f64())
        .with("commits", beside.count() as f64)
        .with_latencies("quiet_", &quiet)
        .with_latencies("", &beside)
        .demand(longest <= LIMIT)
        .note(note))
}

/// A replica joins, as an observer, under load, and gets the state as a checkpoint. It is stopped
/// now and then, which is when commits are measured that have nothing beside them.
pub fn send() -> Result<Row> {
    let mut cluster = Cluster::fill()?;
    for _ in 0..2 {
        for process in &mut cluster.processes {
            process.expect("checkpoint")?;
        }
        cluster.write_for(1, Duration::from_millis(200))?;
    }
    // Up to speed, before anything is measured.
    cluster.write_for(CALLERS, QUIET)?;
    let memory = cluster.processes[0].memory()?;
    let (alone, _) = cluster.write_for(CALLERS, QUIET)?;
    // What a commit leaves in memory: the versions of its key.
    let before = cluster.processes[0].memory()?;
    let each = before.saturating_sub(memory) as f64 / alone.count() as f64;

    let began = Instant::now();
    let mut joined = cluster.join()?;
    let number = joined.number();
    let watcher = thread::spawn(move || {
        let last = format!("get value{}", VALUES - 1);
        while !joined.ask(&last)?.contains("xxx") && began.elapsed() < 3 * LIMIT {
            thread::sleep(LOOK);
        }
        let took = began.elapsed();
        let trimmed = joined.field("trimmed")?;
        Ok::<_, Box<dyn std::error::Error + Send + Sync>>((took, trimmed, joined))
    });
    let (mut peak, mut count) = (before, 0_u64);
    let (mut beside, mut quiet) = (Pace::default(), Pace::default());
    let mut is_over = false;
    while !is_over {
        let until = Instant::now() + GOES_ON;
        beside.add(cluster.write(CALLERS, |leader, _| {
            count += 1;
            if count % 64 == 0 {
                peak = peak.max(leader.memory()?);
            }
            is_over = watcher.is_finished();
            Ok(is_over || until <= Instant::now())
        })?);
        if !is_over {
            signal(number, "-STOP")?;
            let stopped = cluster.write_for(CALLERS, STANDS_STILL);
            signal(number, "-CONT")?;
            quiet.add(stopped?);
            peak = peak.max(cluster.processes[0].memory()?);
        }
    }
    let (took, trimmed, _joined) = watcher.join().map_err(|_| "the watcher panicked")??;
    // Nothing of it happens while it stands still.
    let took = took.saturating_sub(quiet.time);
    let ratio = beside.per_second() / quiet.per_second();
    let growth = peak.saturating_sub(before) as f64 - each * (beside.count + quiet.count) as f64;
    let growth = growth.max(0.0) / f64::from(1 << 20);
    let note = format!(
        "seconds from the start of a replica that joins until it reads the last value of a state \
         of 1 GiB, which comes as a checkpoint, without those in which it is stopped (SIGSTOP): \
         {STANDS_STILL:?} after each {GOES_ON:?}; throughput: commits beside it, of those while \
         it is stopped, {CALLERS} callers at the leader; growth: MiB of the leader's memory at \
         its peak, without what its own commits leave there; four processes on one machine"
    );
    Ok(Row::new(took.as_secs_f64(), "seconds", Goal::AtMost(LIMIT.as_secs_f64()))
        .with("throughput", ratio)
        .with("commits_per_second", beside.per_second())
        .with("growth_mib", growth)
        .with("trimmed", trimmed as f64)
        .demand(ratio > 0.7 && growth < 64.0 && trimmed > 0)
        .note(note))
}

/// How many commits there were, in what time.
#[derive(Default)]
struct Pace {
    count: u64,
    time: Duration,
}

impl Pace {
    fn add(&mut self, (latencies, time): (Latencies, Duration)) {
        self.count += latencies.count();
        self.time += time;
    }

    fn per_second(&self) -> f64 {
        self.count as f64 / self.time.as_secs_f64()
    }
}
