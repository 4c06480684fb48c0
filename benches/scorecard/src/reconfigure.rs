//! Members that come and go under writers that do not stop: how long does a write take then?

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use indelible::{Config, Error, ErrorKind, Membership, Pending, Replica, ReplicaId};

use crate::handover::{Writes, write};
use crate::ledger::{self, PATIENCE};
use crate::report::{Goal, Latencies, Result, Row};

const ROUNDS: u64 = 5;
const WRITERS: u64 = 64;
/// How long the membership rests after each change: some hundred commits.
const PAUSE: Duration = Duration::from_millis(50);

/// Three become five and three again, five times: two replicas join, are promoted, and leave. The
/// writers call the three that stay.
pub fn five_and_back() -> Result<Row> {
    let directory = tempfile::tempdir()?;
    let replicas = ledger::three(directory.path())?;
    let is_over = AtomicBool::new(false);
    let (writes, changes) = thread::scope(|scope| {
        let write = |number: u64| write(&replicas[(number % 3) as usize], number, &is_over);
        let writers: Vec<_> = (0..WRITERS).map(|it| scope.spawn(move || write(it))).collect();
        let changes = grow_and_shrink(&replicas, directory.path());
        is_over.store(true, Ordering::Relaxed);
        let mut writes = Writes::new()?;
        for writer in writers {
            writes.add(&writer.join().map_err(|_| "a writer panicked")??)?;
        }
        Ok::<_, Box<dyn std::error::Error + Send + Sync>>((writes, changes?))
    })?;
    replicas.iter().try_for_each(Replica::close)?;
    let timeout = Config::default().election_timeout;
    let note = format!(
        "longest write of all, from the call to its outcome, while three replicas become five and \
         three again, {ROUNDS} times; {WRITERS} writers, each of which waits for its write; \
         change: from the call until it counts and is known; microseconds; default settings"
    );
    let longest = writes.longest.as_secs_f64();
    Ok(Row::new(longest / timeout.as_secs_f64(), "election timeouts", Goal::AtMost(2.0))
        .with("writes", writes.latencies.count() as f64)
        .with("failed", writes.failed as f64)
        .with_latencies("", &writes.latencies)
        .with("longest", longest * 1e6)
        .with_latencies("change_", &changes)
        .demand(writes.failed == 0)
        .note(note))
}

/// Changes the membership again and again, and says how long each change took.
fn grow_and_shrink(replicas: &[Replica], directory: &Path) -> Result<Latencies> {
    let mut latencies = Latencies::new()?;
    let cluster = replicas[0].cluster().ok_or("the cluster is not formed")?;
    let members = replicas[0].membership().ok_or("the cluster is not formed")?;
    let first = &members.voters()[0];
    let known = (first.id.0, first.address.clone());
    for round in 0..ROUNDS {
        let ids = [0, 1].map(|place| 4 + 2 * round + place);
        let mut joined = Vec::new();
        for id in ids {
            let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
            let address = listener.local_addr()?.to_string();
            drop(listener);
            let path = directory.join(id.to_string());
            let builder = Replica::builder(path).id(id).peers([known.clone(), (id, address)]);
            joined.push(builder.join(cluster).open()?);
            changed(replicas, &mut latencies, |leader| leader.add_observer(id))?;
            changed(replicas, &mut latencies, |leader| leader.promote(id))?;
        }
        for (id, replica) in ids.into_iter().zip(&joined) {
            // They were voters, and may have come to lead.
            if replica.status().leader == Some(ReplicaId(id)) {
                replica.transfer_leadership(known.0).wait()?;
                replicas[0].wait_ready(PATIENCE)?;
            }
            changed(replicas, &mut latencies, |leader| leader.remove(id))?;
        }
        joined.iter().try_for_each(Replica::close)?;
    }
    Ok(latencies)
}

/// Asks whoever leads for a change, until it can be made.
fn changed(
    replicas: &[Replica],
    latencies: &mut Latencies,
    change: impl Fn(&Replica) -> Pending<Membership>,
) -> Result<()> {
    thread::sleep(PAUSE);
    let deadline = Instant::now() + PATIENCE;
    let not_yet = |err: &Error| {
        let passes = err.is_retryable() || err.kind() == ErrorKind::NotLeader;
        passes && Instant::now() < deadline
    };
    loop {
        let leads = |replica: &&Replica| replica.status().ready;
        let leader = replicas.iter().find(leads).unwrap_or(&replicas[0]);
        let began = Instant::now();
        match change(leader).wait() {
            Ok(_) => {
                latencies.push(began.elapsed());
                return Ok(());
            }
            Err(err) if not_yet(&err) => thread::sleep(Duration::from_millis(10)),
            Err(err) => return Err(err.into()),
        }
    }
}
