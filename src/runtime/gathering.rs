//! Which calls their callers leave in the inbox: somebody else takes the turn that looks at them.
//!
//! A turn for each call costs more than the call, and brings nothing on where the call would only
//! wait. So commands are left while too few wait to fill an entry, and reads while a round of
//! confirmation is under way, which they came too late for: the turn in which it ends takes all of
//! them into the next one.
//!
//! Invariants:
//! * No call is left for long. The command that fills the entry takes a turn; so does the end of a
//!   batch in flight, or of the round. If none comes, the clock does: after a heartbeat interval
//!   for commands (`waking`), a retransmission interval for reads (`Paxos::wake_at`).
//! * A caller brings its call, then looks here; who takes a turn writes here, then looks at the
//!   inbox. A caller that still saw the old value had brought its call before, so the inbox shows
//!   it.

use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::journal::disk::Disk;
use crate::sync::atomic::{AtomicBool, AtomicUsize};

use super::driver::Driver;
use super::turn::Event;

/// The time that a read may take begins in the turn that looks at it. Who cannot wait so long takes
/// that turn.
const PATIENT: Duration = Duration::from_secs(1);

/// What the last turn left to say about calls.
#[derive(Debug, Default)]
pub(super) struct Gathering {
    /// Commands are left while fewer events than so many wait: events of all sorts, since a turn
    /// too early is cheaper than to count apart.
    commands: AtomicUsize,
    /// Reads are left.
    reads: AtomicBool,
}

impl Gathering {
    /// A turn ended so.
    pub(super) fn note<D: Disk>(&self, driver: &Driver<D>) {
        self.commands.store(driver.missing_commands(), Ordering::SeqCst);
        self.reads.store(driver.is_confirming(), Ordering::SeqCst);
    }

    /// No call is left from now on.
    pub(super) fn end(&self) {
        self.commands.store(0, Ordering::SeqCst);
        self.reads.store(false, Ordering::SeqCst);
    }

    /// Whether the call that was brought, with which so many events wait, is left to others.
    pub(super) fn leaves(&self, kind: Kind, waiting: usize) -> bool {
        match kind {
            Kind::Propose => waiting < self.commands.load(Ordering::SeqCst),
            Kind::Read => self.reads.load(Ordering::SeqCst),
            Kind::Other => false,
        }
    }
}

/// What a call is: read before the inbox has it, asked about after.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    Propose,
    Read,
    Other,
}

impl Kind {
    /// That of an event.
    pub(super) fn of<D: Disk>(event: &Event<D>) -> Self {
        match event {
            Event::Propose { .. } => Self::Propose,
            Event::Read { timeout, .. } if PATIENT <= *timeout => Self::Read,
            _ => Self::Other,
        }
    }
}
