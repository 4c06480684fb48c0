//! Measures each named row, or all of them, and prints one line of JSON for each.
//!
//! ```text
//! cargo run --release --manifest-path benches/scorecard/Cargo.toml -- [ROW..]
//! ```
//!
//! Where the goal of a row is a ratio, the raw floor and the ledger are measured in slices that
//! take turns within the same run, because a disk drifts by a quarter from one minute to the next.
//! `value` is what the goal speaks of. Run it on an otherwise idle machine; data goes to the
//! directory for temporary files (set `TMPDIR` to choose the disk: a file system in memory measures
//! nothing).

mod catchup;
mod core;
mod failover;
mod floor;
mod git_history;
mod handover;
mod latency;
mod ledger;
mod process;
mod reconfigure;
mod reopen;
mod report;
mod slow_follower;
mod throughput;

use std::process::ExitCode;

use report::{Result, Row};

/// Measures one row.
type Measure = fn() -> Result<Row>;

/// All rows, in the order in which they are measured.
const ROWS: &[(&str, Measure)] = &[
    ("one.latency", latency::one),
    ("three.latency", latency::three),
    ("three.throughput64", throughput::three),
    ("get.linearizable", throughput::reads),
    ("get.leased", throughput::leased_reads),
    ("core.pump1024", core::pump),
    ("reopen.1e6", reopen::million),
    ("failover.p99", failover::kill),
    ("handover", handover::planned),
    ("slow_follower", slow_follower::stopped),
    ("reconfigure", reconfigure::five_and_back),
    ("checkpoint.p99", catchup::checkpoint),
    ("catchup.1g", catchup::send),
    ("git_history", git_history::five_thousand),
];

fn main() -> ExitCode {
    let mut named: Vec<String> = std::env::args().skip(1).collect();
    // What a row starts as a process of its own.
    if named.first().is_some_and(|name| name == reopen::CHILD) {
        return exit(reopen::child(&named[1..]));
    }
    if named.is_empty() {
        named = ROWS.iter().map(|(name, _)| (*name).to_owned()).collect();
    }
    let mut failed = false;
    for name in named {
        let Some((name, measure)) = ROWS.iter().find(|(row, _)| *row == name) else {
            let known: Vec<_> = ROWS.iter().map(|(name, _)| *name).collect();
            eprintln!("no row {name}; there are {}", known.join(" "));
            return ExitCode::FAILURE;
        };
        match measure() {
            Ok(row) => println!("{}", row.json(name)),
            Err(err) => {
                eprintln!("{name}: {err}");
                failed = true;
            }
        }
    }
    ExitCode::from(u8::from(failed))
}

fn exit(result: Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(err) => {
            eprintln!("{err}");
            ExitCode::FAILURE
        }
    }
}
