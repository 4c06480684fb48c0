//! Groups that are being written: which lanes are free, and what has become durable.
//!
//! When a sync counts. Two things can hide a failure from the sync that it concerns.
//!
//! *A failed write-back* is reported once for each open file description, to whichever sync on it
//! asks first (Rebello et al., *Can Applications Recover from fsync Failures?*, ATC'20; `errseq_t`
//! in Linux since 4.13). Two groups in flight on one description could so hide the failure of the
//! one behind the other. Therefore each lane has a description of its own, with one write at a
//! time.
//!
//! *A failed flush of the device* is reported only to the sync that asked for it. A device may drop
//! what it had cached, fail one flush, and let the next one succeed: then the group whose sync came
//! second is told that all is well. So a group counts only when every sync that overlapped its own
//! has succeeded too.
//!
//! Invariants:
//! * What is durable is a contiguous prefix of the groups handed out.
//! * After a failure nothing more becomes durable: the writer is poisoned.

use std::collections::VecDeque;

use crate::types::bugs::{self, Bug};
use crate::types::ids::{Lsn, Slot};
use crate::types::marks::reached;

/// Groups handed out, in order, until they count as durable.
#[derive(Default)]
pub(super) struct Flights {
    queue: VecDeque<Flight>,
    /// How many groups were handed out in all.
    handed_out: u64,
}

/// A group that is being written, or waits for one that is.
pub(super) struct Flight {
    number: u64,
    lane: usize,
    bytes: usize,
    written: bool,
    /// The writes that ran beside it and have not succeeded yet.
    overlaps: Vec<u64>,
    /// The last frame of the group.
    pub(super) last_lsn: Lsn,
    pub(super) segment: u64,
    /// The entries in it, and where they stand.
    pub(super) places: Vec<(Slot, Lsn, u64)>,
}

/// What is handed out.
pub(super) struct Departure {
    pub(super) lane: usize,
    pub(super) bytes: usize,
    pub(super) last_lsn: Lsn,
    pub(super) segment: u64,
    pub(super) places: Vec<(Slot, Lsn, u64)>,
}

impl Flights {
    /// A lane of `lanes` without a write on it.
    pub(super) fn free_lane(&self, lanes: usize) -> Option<usize> {
        let is_busy = |lane| self.queue.iter().any(|flight| flight.lane == lane && !flight.written);
        (0..lanes).find(|lane| !is_busy(*lane))
    }

    /// A group is handed out; returns its number.
    pub(super) fn depart(&mut self, departure: Departure) -> u64 {
        let Departure { lane, bytes, last_lsn, segment, places } = departure;
        self.handed_out += 1;
        let number = self.handed_out;
        let mut overlaps = Vec::new();
        for flight in self.queue.iter_mut().filter(|flight| !flight.written) {
            flight.overlaps.push(number);
            overlaps.push(flight.number);
        }
        self.queue.push_back(Flight {
            number,
            lane,
            bytes,
            written: false,
            overlaps,
            last_lsn,
            segment,
            places,
        });
        number
    }

    /// The write and the sync of a group succeeded.
    pub(super) fn land(&mut self, number: u64) {
        if self.queue.front().is_some_and(|first| first.number < number) {
            reached!(SyncOvertakes);
        }
        for flight in &mut self.queue {
            flight.written |= flight.number == number;
            flight.overlaps.retain(|other| *other != number);
        }
    }

    /// The next group that counts as durable.
    pub(super) fn pop_durable(&mut self) -> Option<Flight> {
        let counts = |flight: &Flight| {
            flight.written && (flight.overlaps.is_empty() || bugs::is_on(Bug::SyncAlone))
        };
        if self.queue.front().is_some_and(counts) { self.queue.pop_front() } else { None }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Bytes that are under way.
    pub(super) fn bytes(&self) -> usize {
        self.queue.iter().map(|flight| flight.bytes).sum()
    }
}
