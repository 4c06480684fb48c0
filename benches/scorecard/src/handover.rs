//! Planned changes of the leader, under writers that do not stop: how long does a write take then?

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use indelible::{Config, Replica};

use crate::ledger::{self, PATIENCE, TABLE, VALUE_BYTES, key};
use crate::report::{Goal, Latencies, Result, Row};

const HAND_OVERS: u64 = 100;
const WRITERS: u64 = 64;
/// How long each leader leads before it hands over: some hundred commits.
const PAUSE: Duration = Duration::from_millis(50);

/// The leader hands over to the next replica, a hundred times. A third of the writers calls each
/// replica.
pub fn planned() -> Result<Row> {
    let directory = tempfile::tempdir()?;
    let replicas = ledger::three(directory.path())?;
    let is_over = AtomicBool::new(false);
    let (writes, hand_overs) = thread::scope(|scope| {
        let write = |number: u64| write(&replicas[(number % 3) as usize], number, &is_over);
        let writers: Vec<_> = (0..WRITERS).map(|it| scope.spawn(move || write(it))).collect();
        let hand_overs = hand_over(&replicas);
        is_over.store(true, Ordering::Relaxed);
        let mut writes = Writes::new()?;
        for writer in writers {
            writes.add(&writer.join().map_err(|_| "a writer panicked")??)?;
        }
        Ok::<_, Box<dyn std::error::Error + Send + Sync>>((writes, hand_overs?))
    })?;
    replicas.iter().try_for_each(Replica::close)?;
    let timeout = Config::default().election_timeout;
    let note = format!(
        "longest write of all, from the call to its outcome, while the leader changes \
                        {HAND_OVERS} times; {WRITERS} writers, each of which waits for its write; \
                        hand_over: from the call until the other leads; microseconds; default \
                        settings"
    );
    let longest = writes.longest.as_secs_f64();
    Ok(Row::new(longest / timeout.as_secs_f64(), "election timeouts", Goal::AtMost(1.0))
        .with("writes", writes.latencies.count() as f64)
        .with("failed", writes.failed as f64)
        .with_latencies("", &writes.latencies)
        .with("longest", longest * 1e6)
        .with_latencies("hand_over_", &hand_overs)
        .demand(writes.failed == 0)
        .note(note))
}

/// What came of writes.
pub struct Writes {
    /// How long they took.
    pub latencies: Latencies,
    /// The longest.
    pub longest: Duration,
    /// How many failed.
    pub failed: u64,
}

impl Writes {
    /// None yet.
    pub fn new() -> Result<Self> {
        Ok(Self { latencies: Latencies::new()?, longest: Duration::ZERO, failed: 0 })
    }

    /// Takes in those of another writer.
    pub fn add(&mut self, other: &Self) -> Result<()> {
        self.longest = self.longest.max(other.longest);
        self.failed += other.failed;
        self.latencies.add(&other.latencies)
    }
}

/// Writes until it is over.
pub fn write(replica: &Replica, writer: u64, is_over: &AtomicBool) -> Result<Writes> {
    let mut writes = Writes::new()?;
    for count in 0.. {
        if is_over.load(Ordering::Relaxed) {
            break;
        }
        let began = Instant::now();
        let outcome = replica.put(TABLE, &key(writer << 32 | count), &[0xa5; VALUE_BYTES]).wait();
        let taken = began.elapsed();
        writes.longest = writes.longest.max(taken);
        writes.latencies.push(taken);
        writes.failed += u64::from(outcome.is_err());
    }
    Ok(writes)
}

/// Hands over from each leader to the next replica, and says how long each time took.
fn hand_over(replicas: &[Replica]) -> Result<Latencies> {
    let mut latencies = Latencies::new()?;
    for number in 0..HAND_OVERS as usize {
        thread::sleep(PAUSE);
        let (from, to) = (&replicas[number % 3], &replicas[(number + 1) % 3]);
        let began = Instant::now();
        from.transfer_leadership(to.status().id).wait()?;
        latencies.push(began.elapsed());
        to.wait_ready(PATIENCE)?;
    }
    Ok(latencies)
}
