//! Checkers: whether what clients were told, and what replicas say, apply and keep, can be right.
//!
//! Each tells the first event that cannot be, with the name of the invariant that it breaks. Those
//! of histories see nothing but a recorded run, and share no code with what they judge; the others
//! see each event of a run as it happens, beside the [`witness`](super::witness).
//!
//! | module | what it judges | invariants |
//! |---|---|---|
//! | [`validity`] | what is proposed | I2 |
//! | [`membership`] | what replicas take for their cluster | I9 |
//! | [`kept`] | what an opening finds | D1, I8 |
//! | [`overwrites`] | what is written over on a disk | D2 |
//! | [`twice`] | openings one behind the other | D3 |
//! | [`doubts`] | what a journal says that it lost | D4 |
//! | [`served`] | what is read and sent | D5 |
//! | [`names`] | the files of a directory | D7 |
//! | [`poison`] | what is written after a failure | D8 |
//! | [`watermark`] | what a journal counts as chosen | D9 |
//! | [`blocked`] | why a cluster stands still | V2 |
//! | [`calm`] | a cluster that nobody asks for anything | V3, V5, V6 |
//! | [`once`] | the final ledger, command by command | A3 |
//! | [`replay`] | a history against the final ledger, in order of the ids | L1, O1, O4, R1, R2 |
//! | [`search`] | a history alone; ids are mere names | L2 |
//! | [`occ`] | a history alone, one rule after the other | O1 to O5 |
//!
//! * **A1** ids are dense, rise, and are equal on all replicas. **A2** states are equal behind
//!   equal slots. **A3** a transaction takes effect once.
//! * **L1** every answer is that of a replay in order of the ids, and that order agrees with real
//!   time. **L2** some order explains every answer and agrees with real time.
//! * **O1** a transaction commits if and only if its conditions hold: of those that replace one
//!   version of a key, one wins. **O2** a key's versions rise, and are the ids of those who wrote
//!   them. **O3** a transaction is seen as a whole or not at all. **O4** a refusal names what the
//!   key held while the call was under way. **O5** what was deleted does not come back.
//! * **R1** a stale read is the state at an id, and for one client these ids do not go back. **R2**
//!   a client's stale reads contain what it had committed. **R3** who waited for an id reads no
//!   older state (`workload`).
//!
//! Not here: what is chosen, and what follows from it, ids and states included
//! ([`witness`](super::witness)); the same for protocol cores by themselves
//! ([`checks`](super::checks)).

use std::fmt;

pub mod history;
pub mod model;

pub mod occ;
pub mod once;
pub mod replay;
pub mod search;

pub mod blocked;
pub mod calm;
pub mod doubts;
pub mod kept;
pub mod membership;
pub mod names;
pub mod overwrites;
pub mod poison;
pub mod served;
pub mod twice;
pub mod validity;
pub mod watermark;

/// An event that cannot be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The name of the invariant that it breaks, such as `L1`.
    pub invariant: &'static str,
    /// The event: who, when, and what should have been.
    pub event: String,
}

impl Violation {
    /// `event` breaks `invariant`.
    #[must_use]
    pub fn new(invariant: &'static str, event: impl Into<String>) -> Self {
        Self { invariant, event: event.into() }
    }
}

/// How a check ended that found nothing wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "a check that could not be made has not passed"]
pub enum Conclusion {
    /// All is as it must be.
    Passed,
    /// It could not be judged, for this reason.
    Inconclusive(&'static str),
}

/// Fails with a violation of `invariant` unless `holds`.
fn ensure(
    holds: bool,
    invariant: &'static str,
    event: impl FnOnce() -> String,
) -> Result<(), Violation> {
    if holds { Ok(()) } else { Err(Violation { invariant, event: event() }) }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.invariant, self.event)
    }
}

impl std::error::Error for Violation {}
