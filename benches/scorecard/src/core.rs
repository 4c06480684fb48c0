//! The protocol alone: three cores in one thread, without disks, sockets and other threads.

#[path = "../../support/pump.rs"]
mod pump;

use std::time::Instant;

use crate::report::{Goal, Result, Row, median};
use pump::Pump;

const OUTSTANDING: u64 = 1024;
const ENTRIES: u64 = 512 * 1024;
const ROUNDS: usize = 9;

/// Entries a second that all three learn, with 1,024 outstanding.
pub fn pump() -> Result<Row> {
    let mut pump = Pump::new();
    let mut rates = Vec::new();
    for round in 0..=ROUNDS {
        let began = Instant::now();
        pump.run(ENTRIES, OUTSTANDING);
        let rate = ENTRIES as f64 / began.elapsed().as_secs_f64();
        if round > 0 {
            rates.push(rate); // The first round is cold.
        }
    }
    let note = format!(
        "median of {ROUNDS} rounds of {ENTRIES} entries of one command, encoding included, \
         learned on all three; one thread"
    );
    Ok(Row::new(median(rates), "entries/s", Goal::AtLeast(1_000_000.0)).note(note))
}
