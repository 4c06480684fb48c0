//! The trace: one line for each event, and the hash of all events.
//!
//! The hash is always computed, of numbers; lines are made only where they are wanted, since they
//! take longer than what they tell. Two runs with equal hashes saw the same events in one order.

use std::collections::VecDeque;

use crate::types::time::Moment;

/// The events of a run.
#[derive(Debug, Default)]
pub struct Trace {
    hash: u64,
    /// How many of the newest lines are kept; none are made where this is zero.
    keep: usize,
    lines: VecDeque<String>,
}

/// The kinds of events that go into the hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Note {
    /// A message is let in.
    Arrive = 1,
    /// A write ends.
    Written,
    /// A replica leads, follows, campaigns or learns.
    Role,
    /// A replica knows more of the log to be chosen.
    Progress,
    /// A connection ends.
    Down,
    /// Callers brought something.
    Called,
    /// A hello is refused.
    Refused,
    /// An opening ends.
    Opened,
    /// A replica dies.
    Died,
}

impl Trace {
    /// From now on the newest `count` lines are kept.
    pub fn keep(&mut self, count: usize) {
        self.keep = count;
        self.lines.drain(..self.lines.len().saturating_sub(count));
    }

    /// An event happened: its kind, and two numbers that tell it from others of its kind.
    pub fn note(&mut self, now: Moment, kind: Note, one: u64, other: u64) {
        for word in [now.0, (kind as u64) << 32 | one, other] {
            // FxHash with a finish: fast, and nobody attacks it.
            self.hash = (self.hash.rotate_left(5) ^ word).wrapping_mul(0x517c_c1b7_2722_0a95);
        }
        self.hash ^= self.hash >> 29;
    }

    /// The line of an event.
    pub fn line(&mut self, now: Moment, line: impl FnOnce() -> String) {
        if self.keep == 0 {
            return;
        }
        if self.lines.len() == self.keep {
            self.lines.pop_front();
        }
        let (seconds, micros) = (now.0 / 1_000_000_000, now.0 / 1000 % 1_000_000);
        self.lines.push_back(format!("{seconds}.{micros:06} {}", line()));
    }

    /// The hash of all events so far.
    #[must_use]
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// The lines that were kept, oldest first.
    #[must_use]
    pub fn take_lines(&mut self) -> Vec<String> {
        self.lines.drain(..).collect()
    }
}
