//! Operations that fail, or do something else, by script.
//!
//! Each fault waits for one kind of operation and says [`When`]: at the next one, at a later one,
//! or from then on at each. Where several are due at once, the one armed first acts, and the others
//! count on.
//!
//! Not here: damage to what lies on the medium (`damage`), crashes (`crash`).

use std::io;

use super::SimDisk;
use super::faults::DiskFault;
use super::state::{Fate, State};
use super::watch::Operation;

/// At which of the operations from now on a fault acts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct When {
    skip: u64,
    for_good: bool,
}

impl When {
    /// At the next one, once.
    pub const NEXT: Self = Self { skip: 0, for_good: false };

    /// At every one.
    pub const ALWAYS: Self = Self { skip: 0, for_good: true };

    /// After `count` more, once.
    #[must_use]
    pub fn after(count: u64) -> Self {
        Self { skip: count, for_good: false }
    }

    /// After `count` more, at every one.
    #[must_use]
    pub fn from(count: u64) -> Self {
        Self { skip: count, for_good: true }
    }
}

/// What becomes of what a failed sync should have made durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncFailure {
    /// It is read back until the next power cut, and never written again (ext4, XFS).
    Keep,
    /// What is on the medium is read back at once (Btrfs).
    Revert,
    /// As `Keep`; this sync is told that all is well, and the next one that it failed.
    Late,
}

/// A fault that waits for its operation.
#[derive(Clone, Copy, Debug)]
pub(super) struct Armed {
    operation: Operation,
    when: When,
    action: Action,
}

/// What happens instead of the operation.
#[derive(Clone, Copy, Debug)]
pub(super) enum Action {
    Fail,
    /// This many bytes are written, then it fails.
    WritePart(usize),
    Fate(Fate),
    Sync(SyncFailure),
    /// This many bytes are read.
    ReadPart(usize),
    /// The byte at this position, modulo the length, is changed by these bits.
    Flip(usize, u8),
}

impl SimDisk {
    /// A write fails; `written` of its bytes are written all the same, of a shorter one all but
    /// one.
    pub fn fail_write(&self, when: When, written: usize) {
        let action = if written == 0 { Action::Fail } else { Action::WritePart(written) };
        self.arm(Operation::Write, when, action);
    }

    /// A sync of a file fails.
    pub fn fail_sync(&self, when: When, failure: SyncFailure) {
        self.arm(Operation::Sync, when, Action::Sync(failure));
    }

    /// Whether only the first open file that syncs after a failure is told of it, as in Linux
    /// before 4.13. By default every one is.
    pub fn tell_failures_once(&self, once: bool) {
        self.lock().tells_once = once;
    }

    /// A sync of the directory fails.
    pub fn fail_directory_sync(&self, when: When, failure: SyncFailure) {
        self.arm(Operation::SyncDirectory, when, Action::Sync(failure));
    }

    /// A change of a length fails.
    pub fn fail_resize(&self, when: When) {
        self.arm(Operation::Resize, when, Action::Fail);
    }

    /// A rename fails.
    pub fn fail_rename(&self, when: When) {
        self.arm(Operation::Rename, when, Action::Fail);
    }

    /// A file cannot be made.
    pub fn fail_create(&self, when: When) {
        self.arm(Operation::Create, when, Action::Fail);
    }

    /// A file cannot be opened, though it is there.
    pub fn fail_open(&self, when: When) {
        self.arm(Operation::Open, when, Action::Fail);
    }

    /// The names cannot be listed.
    pub fn fail_list(&self, when: When) {
        self.arm(Operation::List, when, Action::Fail);
    }

    /// A file cannot be removed, though it is there.
    pub fn fail_remove(&self, when: When) {
        self.arm(Operation::Remove, when, Action::Fail);
    }

    /// A read fails.
    pub fn fail_read(&self, when: When) {
        self.arm(Operation::Read, when, Action::Fail);
    }

    /// A read returns at most `bytes`, and at least 1 where there is any.
    pub fn shorten_read(&self, when: When, bytes: usize) {
        self.arm(Operation::Read, when, Action::ReadPart(bytes.max(1)));
    }

    /// A read returns a byte wrong, by the bits of `mask`; the medium is as it was. The byte is
    /// the one at `position` modulo the number read.
    pub fn corrupt_read(&self, when: When, position: usize, mask: u8) {
        self.arm(Operation::Read, when, Action::Flip(position, mask));
    }

    /// A write succeeds, its syncs do, and it never reaches the medium. It is read back until the
    /// power goes or [`SimDisk::drop_caches`].
    pub fn lose_write(&self, when: When) {
        self.arm(Operation::Write, when, Action::Fate(Fate::Lost));
    }

    /// A write reaches the medium in another place: in the file that is now called `name`, at
    /// `offset`, as far as that file goes. Its own place keeps what it had. Returns whether there
    /// is such a file.
    pub fn misdirect_write(&self, when: When, name: &str, offset: usize) -> bool {
        let file = self.lock().names.get(name).copied();
        if let Some(file) = file {
            let fate = Fate::Misdirected { file, offset };
            self.arm(Operation::Write, when, Action::Fate(fate));
        }
        file.is_some()
    }

    /// Lets files grow by so many bytes more, all together; `None` for no bound. Removing and
    /// cutting files gives room back. What does not grow a file always succeeds.
    pub fn set_room(&self, bytes: Option<u64>) {
        self.lock().room = bytes;
    }

    /// Forgets all faults that wait. A crash forgets none.
    pub fn disarm(&self) {
        self.lock().armed.clear();
    }

    fn arm(&self, operation: Operation, when: When, action: Action) {
        self.lock().armed.push(Armed { operation, when, action });
    }
}

impl State {
    /// What happens instead of an operation that is about to be done.
    pub(super) fn due(&mut self, operation: Operation) -> Option<Action> {
        let mut due = None;
        self.armed.retain_mut(|armed| {
            if armed.operation != operation {
                return true;
            }
            if armed.when.skip > 0 {
                armed.when.skip -= 1;
                return true;
            }
            if due.is_some() {
                return true;
            }
            due = Some(armed.action);
            armed.when.for_good
        });
        due
    }

    /// As [`State::due`], where all that can happen is that the operation fails.
    pub(super) fn check(&mut self, operation: Operation, fault: DiskFault) -> io::Result<()> {
        match self.due(operation) {
            Some(_) => Err(self.fail(fault)),
            None => Ok(()),
        }
    }

    /// Counts a fault, and makes the error that it is told by.
    pub(super) fn fail(&mut self, fault: DiskFault) -> io::Error {
        self.fired.count(fault);
        match fault {
            DiskFault::NoSpace => io::Error::new(io::ErrorKind::StorageFull, fault.name()),
            _ => io::Error::other(fault.name()),
        }
    }
}
