//! A replica with a million keys, killed and opened again.

use std::collections::VecDeque;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use indelible::{Committed, Config, Pending, Replica};

use crate::ledger::{Caller, PATIENCE, VALUE_BYTES, key};
use crate::report::{Goal, Result, Row};

/// The first argument of the process that this row starts.
pub const CHILD: &str = "--reopen-child";

const KEYS: u64 = 1_000_000;
const OUTSTANDING: usize = 512;
const SECONDS_MAX: f64 = 3.0;
const RSS_RATIO_MAX: f64 = 2.5;

/// Fills a replica in a process, kills that with SIGKILL, and opens the replica in another one.
pub fn million() -> Result<Row> {
    let directory = tempfile::tempdir()?;
    let data = directory.path().join("data");
    run_child("fill", &data, true)?;
    let line = run_child("open", &data, false)?;
    let figures: Vec<f64> = line.split(' ').map(str::parse).collect::<Result<_, _>>()?;
    let [seconds, rss] = figures[..] else { return Err(format!("not figures: {line}").into()) };
    let raw = (KEYS * (key(0).len() + VALUE_BYTES) as u64) as f64;
    let note = format!(
        "{KEYS} distinct keys, one put each; opened, and the last one read, after \
                        SIGKILL; also demanded: rss_ratio <= {RSS_RATIO_MAX}"
    );
    Ok(Row::new(seconds, "s", Goal::AtMost(SECONDS_MAX))
        .with("rss_ratio", rss / raw)
        .with("rss_mib", rss / (1024.0 * 1024.0))
        .demand(rss / raw <= RSS_RATIO_MAX)
        .note(note))
}

/// Runs this program for one of the two parts, and returns the line that it prints. It is killed
/// then, or waited for.
fn run_child(part: &str, data: &Path, kill: bool) -> Result<String> {
    let mut command = Command::new(std::env::current_exe()?);
    let mut child = command.args([CHILD, part]).arg(data).stdout(Stdio::piped()).spawn()?;
    let mut line = String::new();
    if let Some(output) = child.stdout.take() {
        BufReader::new(output).read_line(&mut line)?;
    }
    if kill {
        child.kill()?; // SIGKILL: it has no chance to tidy up.
    }
    let status = child.wait()?;
    match line.trim() {
        "" => Err(format!("the process for {part} ended with {status}").into()),
        line => Ok(line.to_owned()),
    }
}

/// What the process does.
pub fn child(arguments: &[String]) -> Result<()> {
    match arguments {
        [part, data] if part == "fill" => fill(Path::new(data)),
        [part, data] if part == "open" => open(Path::new(data)),
        _ => Err(format!("{CHILD} needs a part and a directory").into()),
    }
}

/// Puts all keys, each by a transaction of its own, and waits to be killed.
fn fill(data: &Path) -> Result<()> {
    // As many entries as keys: no two puts share one.
    let config = Config { batch_transactions_max: 1, ..Config::default() };
    let replica = Replica::builder(data).config(config).open()?;
    replica.wait_ready(PATIENCE)?;
    let mut caller = Caller::new(replica);
    let mut waiting: VecDeque<Pending<Committed>> = VecDeque::with_capacity(OUTSTANDING);
    for _ in 0..KEYS {
        if waiting.len() == OUTSTANDING {
            waiting.pop_front().ok_or("nothing is outstanding")?.wait()?;
        }
        waiting.push_back(caller.put());
    }
    waiting.into_iter().try_for_each(|pending| pending.wait().map(drop))?;
    println!("filled");
    std::thread::park();
    Ok(())
}

/// Opens the replica, reads a key, and says how long that took and how much memory it has.
fn open(data: &Path) -> Result<()> {
    let began = Instant::now();
    let replica = Replica::open(data)?;
    replica.wait_ready(PATIENCE)?;
    let found = replica.get(crate::ledger::TABLE, &key(KEYS)).wait()?;
    let took = began.elapsed();
    if found.is_none_or(|found| found.value.len() != VALUE_BYTES) {
        return Err("an acknowledged key is not there".into());
    }
    println!("{} {}", took.as_secs_f64(), resident_bytes()?);
    replica.close()?;
    Ok(())
}

/// How much memory this process has at present, as Linux says.
fn resident_bytes() -> Result<u64> {
    let status = fs::read_to_string("/proc/self/statm")?;
    let pages: u64 = status.split(' ').nth(1).ok_or("no resident pages")?.parse()?;
    Ok(pages * rustix::param::page_size() as u64)
}
