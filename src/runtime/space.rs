//! What a replica does while its disk is full: it takes nothing on, and waits for space.
//!
//! What is in flight when the disk is full is written in the room that is left. From then on
//! the replica neither votes, promises, campaigns nor leads, so that another one leads where there
//! is one; it refuses transactions, which did not happen, and still answers reads where it can.
//! Once a second it tries whether there is space again.
//!
//! Invariants:
//! * Nothing is acknowledged that is not durable, full or not.
//! * What it refuses for want of space did not and will not happen.

use std::time::Duration;

use crate::journal::disk::Disk;
use crate::paxos::Paxos;
use crate::paxos::step::Input;
use crate::types::marks::reached;
use crate::types::time::Moment;

use super::driver::Driver;

/// What callers are told.
pub(super) const FULL: &str = "the disk of this replica is full";

/// How long to wait before the disk is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// Whether there is space.
#[derive(Debug, Default)]
pub(super) struct Space {
    /// While there is none: when to try again.
    retry_at: Option<Moment>,
    /// Whether the core was told to leave it to others.
    told: bool,
}

impl Space {
    /// Whether nothing more is taken on.
    pub(super) fn is_short(&self) -> bool {
        self.retry_at.is_some()
    }

    pub(super) fn wake_at(&self) -> Option<Moment> {
        self.retry_at
    }

    /// There is a core now that was told nothing.
    pub(super) fn core_begins(&mut self) {
        self.told = false;
    }
}

impl<D: Disk> Driver<D> {
    /// Notices that the disk is full, or is no longer.
    pub(super) fn look_for_space(&mut self) {
        if !self.journal.is_full() {
            self.space.retry_at = None;
            if std::mem::take(&mut self.space.told) {
                reached!(DiskHealed);
                self.step(Input::Writable(true));
            }
            return;
        }
        let retry_at = *self.space.retry_at.get_or_insert(self.now + RETRY);
        let late = retry_at <= self.now;
        if late {
            self.space.retry_at = Some(self.now + RETRY);
            self.journal.retry_prepare();
        }
        // What is in flight may end first: there is room for it.
        let inflight = self.paxos.as_ref().map_or(0, Paxos::inflight_slots);
        if !self.space.told && (inflight == 0 || late) {
            reached!(DiskFull);
            self.space.told = true;
            self.step(Input::Writable(false));
        }
    }
}
