//! What a replica does while its disk is full: it takes nothing on, and waits for space.
//!
//! What is in flight when the disk is full is written in the room that is left. From then on
//! the replica neither votes, promises, campaigns nor leads, so that another one leads where there
//! is one; it refuses transactions, which did not happen, and still answers reads where it can.
//! Once a second it tries whether there is space again. It does so before the room that is left has
//! gone, too, if more and more rarely: who has space again in time refuses nothing. What others
//! agree on meanwhile it cannot take in, so a read that must see it is refused too, at the second
//! try that it waits for.
//!
//! Invariants:
//! * Nothing is acknowledged that is not durable, full or not.
//! * What it refuses for want of space did not and will not happen.

use std::time::Duration;

use crate::journal::disk::Disk;
use crate::paxos::Paxos;
use crate::paxos::step::Input;
use crate::types::error::{Error, ErrorKind};
use crate::types::marks::reached;
use crate::types::time::Moment;

use super::driver::Driver;

/// What callers are told.
pub(super) const FULL: &str = "the disk of this replica is full";

/// What readers are told who would have to wait for it.
const LAGS: &str = "the disk of this replica is full, and it cannot take in what is newest";

/// How long to wait before the disk is tried again; and how often that is doubled while there is
/// room in the segment in use: up to about a minute.
const RETRY: Duration = Duration::from_secs(1);
const DOUBLINGS_MAX: u32 = 6;

/// Whether there is space.
#[derive(Debug, Default)]
pub(super) struct Space {
    /// While there is none for the next segment: when to try again.
    retry_at: Option<Moment>,
    /// How often there was none, while there is room in the one in use.
    tries: u32,
    /// And there is little room in the one in use: it was tried once more since.
    tried_anew: bool,
    /// There was none then, either.
    short: bool,
    /// Whether the core was told to leave it to others.
    told: bool,
    /// The newest read that waited when the disk was tried last.
    newest_read: u64,
}

impl Space {
    /// Whether nothing more is taken on.
    pub(super) fn is_short(&self) -> bool {
        self.short
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
        let is_late = self.try_for_space();
        if !self.journal.is_full() {
            (self.space.short, self.space.tried_anew) = (false, false);
            self.space.newest_read = 0;
            if std::mem::take(&mut self.space.told) {
                reached!(DiskHealed);
                self.step(Input::Writable(true));
            }
            return;
        }
        if !std::mem::replace(&mut self.space.tried_anew, true) {
            // There may be space since the last try.
            self.space.retry_at = Some(self.now + RETRY);
            self.journal.retry_prepare();
        }
        if !self.space.short && !is_late && self.journal.is_making_segment() {
            return;
        }
        let tried = std::mem::replace(&mut self.space.short, true) && is_late;
        if tried {
            let lags = Error::new(ErrorKind::StorageFull, LAGS);
            let (newest, answers) = (self.space.newest_read, &mut self.effects.answers);
            self.requests.fail_lagging_reads(newest, &lags, answers);
            self.space.newest_read = self.requests.newest_read().unwrap_or(0);
        }
        // What is in flight may end first: there is room for it.
        let inflight = self.paxos.as_ref().map_or(0, Paxos::inflight_slots);
        // Who is alone has nobody to leave it to, and knows what is newest: it goes on being read.
        if !self.space.told && !self.is_only_voter() && (inflight == 0 || tried) {
            reached!(DiskFull);
            self.space.told = true;
            self.step(Input::Writable(false));
        }
    }

    /// Tries again to make the segment for which there was no space, where it is time to. Returns
    /// whether it was.
    fn try_for_space(&mut self) -> bool {
        if !self.journal.lacks_space() {
            (self.space.retry_at, self.space.tries) = (None, 0);
            return false;
        }
        if self.now < *self.space.retry_at.get_or_insert(self.now + RETRY) {
            return false;
        }
        let tries = if self.space.short { 0 } else { self.space.tries.min(DOUBLINGS_MAX) };
        self.space.retry_at = Some(self.now + RETRY * 2_u32.pow(tries));
        // A segment is made of all the space that there is, until there is none: a checkpoint would
        // find none either, and it is what makes room.
        let waits = self.journal.is_taking_checkpoint() || self.receiving.is_some();
        if waits && !self.space.short {
            return false;
        }
        self.space.tries += u32::from(!self.space.short);
        self.journal.retry_prepare();
        true
    }
}
