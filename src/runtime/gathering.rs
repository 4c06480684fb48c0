//! Which calls their callers leave in the inbox: somebody else takes the turn that looks at them.
//!
//! A turn for each call costs more than the call, and brings nothing on where the call would only
//! wait. So commands are left while too few wait for an entry of their own, and reads while a round
//! of confirmation is under way, which they came too late for: the turn in which it ends takes all
//! of them into the next one.
//!
//! Invariants:
//! * What is left is looked at in time. Who fills the entry takes a turn, the end of a round does;
//!   and should neither come, the time of the core's next question, or of the next heartbeat, has
//!   come (`waking`).
//! * Who leaves a call looks here behind having brought it, and who takes a turn looks at the inbox
//!   behind having written here: where the one sees what was, the other sees the call.

use std::sync::atomic::Ordering;

use crate::journal::disk::Disk;
use crate::sync::atomic::{AtomicBool, AtomicUsize};

use super::driver::Driver;
use super::turn::Event;

/// What the last turn left to say about calls.
#[derive(Debug, Default)]
pub(super) struct Gathering {
    /// Commands are left while fewer events than so many wait.
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
            Kind::Command => waiting < self.commands.load(Ordering::SeqCst),
            Kind::Read => self.reads.load(Ordering::SeqCst),
            Kind::Other => false,
        }
    }
}

/// What a call is, as far as it matters here.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    Command,
    Read,
    Other,
}

impl Kind {
    /// That of an event.
    pub(super) fn of<D: Disk>(event: &Event<D>) -> Self {
        match event {
            Event::Propose { .. } => Self::Command,
            Event::Read { .. } => Self::Read,
            _ => Self::Other,
        }
    }
}
