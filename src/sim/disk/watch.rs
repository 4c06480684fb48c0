//! What a simulated disk saw: operations, and what whoever used it promised not to do.
//!
//! Two promises are watched. Bytes that are durable are not written over in place; zeros are no
//! bytes. And whoever was told that a write or a sync failed changes nothing any more: to go on, it
//! opens the directory anew, which is another mount.
//!
//! Not here: which of these is a mistake. A job that was handed out before the failure may run
//! behind it, and what an opening cuts off was never acknowledged: the checker knows that.

use std::collections::BTreeSet;
use std::fmt;
use std::ops::Range;

/// A kind of operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    /// The names were listed.
    List,
    /// A file was made.
    Create,
    /// A file was opened.
    Open,
    /// A file was renamed.
    Rename,
    /// A file was removed.
    Remove,
    /// The names were made durable.
    SyncDirectory,
    /// A file was read.
    Read,
    /// A file was written to.
    Write,
    /// A file was made durable.
    Sync,
    /// A length was asked for.
    Length,
    /// A file was cut or grew.
    Resize,
}

impl Operation {
    /// Whether it changes anything, so that a crash before it and one after it may differ.
    #[must_use]
    pub fn is_boundary(self) -> bool {
        !matches!(self, Self::List | Self::Open | Self::Read | Self::Length)
    }
}

/// How many operations a disk was asked for, those that failed included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Operations {
    /// Reads of files.
    pub reads: u64,
    /// Bytes that were read.
    pub bytes_read: u64,
    /// Writes to files.
    pub writes: u64,
    /// Bytes that were to be written.
    pub bytes_written: u64,
    /// Syncs of files.
    pub syncs: u64,
    /// Syncs of the directory.
    pub directory_syncs: u64,
    /// Files made, renamed, removed, cut or grown.
    pub changes: u64,
    /// Lists, openings and questions for a length.
    pub others: u64,
}

/// An operation that changed something, or was to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Boundary {
    /// Its number, from 0.
    pub number: u64,
    /// What was done.
    pub operation: Operation,
    /// To which file; `.` for the directory.
    pub name: String,
    /// From where on; for a change of the length, the new length.
    pub offset: u64,
    /// How many bytes.
    pub bytes: u64,
}

impl fmt::Display for Boundary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { number, operation, name, offset, bytes } = self;
        write!(f, "{number} {operation:?} {name}")?;
        match operation {
            Operation::Write => write!(f, " {offset}+{bytes}"),
            Operation::Resize => write!(f, " {offset}"),
            _ => Ok(()),
        }
    }
}

/// Durable bytes, not all zeros, that were written over or cut off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overwrite {
    /// The boundary at which it was done.
    pub number: u64,
    /// The name of the file.
    pub name: String,
    /// Which bytes.
    pub range: Range<usize>,
    /// Whether they were cut off, not written over.
    pub is_cut: bool,
}

/// A change that was tried on a mount that had been told of a failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AfterFailure {
    /// The number of the mount.
    pub mount: u64,
    /// What was tried.
    pub tried: Boundary,
}

#[derive(Debug, Default)]
pub(super) struct Watch {
    pub(super) operations: Operations,
    pub(super) boundaries: u64,
    /// `None` where no log is kept.
    pub(super) log: Option<Vec<Boundary>>,
    pub(super) overwritten: Vec<Overwrite>,
    pub(super) after_failure: Vec<AfterFailure>,
    /// The mounts that were told of a failure.
    failed: BTreeSet<u64>,
}

impl Watch {
    /// Takes note of an operation that begins; returns its number.
    pub(super) fn begin(&mut self, mount: u64, what: What<'_>) -> u64 {
        self.operations.count(what.operation, what.bytes);
        let number = self.boundaries;
        if !what.operation.is_boundary() {
            return number;
        }
        self.boundaries += 1;
        let has_failed = self.failed.contains(&mount);
        if has_failed || self.log.is_some() {
            let boundary = what.boundary(number);
            if has_failed {
                self.after_failure.push(AfterFailure { mount, tried: boundary.clone() });
            }
            if let Some(log) = &mut self.log {
                log.push(boundary);
            }
        }
        number
    }

    /// A mount was told that something it wrote may be lost.
    pub(super) fn told_failure(&mut self, mount: u64) {
        self.failed.insert(mount);
    }
}

/// An operation that begins.
#[derive(Clone, Copy)]
pub(super) struct What<'a> {
    pub(super) operation: Operation,
    pub(super) name: &'a str,
    pub(super) offset: u64,
    pub(super) bytes: usize,
}

impl What<'_> {
    fn boundary(self, number: u64) -> Boundary {
        let Self { operation, name, offset, bytes } = self;
        Boundary { number, operation, name: name.to_owned(), offset, bytes: bytes as u64 }
    }
}

impl Operations {
    fn count(&mut self, operation: Operation, bytes: usize) {
        match operation {
            Operation::Read => self.reads += 1,
            Operation::Write => {
                self.writes += 1;
                self.bytes_written += bytes as u64;
            }
            Operation::Sync => self.syncs += 1,
            Operation::SyncDirectory => self.directory_syncs += 1,
            Operation::Create | Operation::Rename | Operation::Remove | Operation::Resize => {
                self.changes += 1;
            }
            Operation::List | Operation::Open | Operation::Length => self.others += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::disk::{Disk, File};
    use crate::sim::disk::{SimDisk, SyncFailure, When};

    #[test]
    fn writing_over_durable_bytes_is_seen() {
        let disk = SimDisk::new();
        let file = disk.mount().create("a").unwrap();
        file.write_at(0, &[0; 8192]).unwrap();
        file.write_at(0, &[1; 10]).unwrap();
        file.write_at(5, &[2; 10]).unwrap();
        file.sync().unwrap();
        file.write_at(15, &[3; 4096]).unwrap();
        file.set_len(5000).unwrap();
        assert_eq!(disk.take_overwritten(), [], "only zeros, and bytes that were not durable");
        file.write_at(14, &[4; 2]).unwrap();
        file.sync().unwrap();
        file.set_len(4000).unwrap();
        let seen = disk.take_overwritten();
        let seen: Vec<_> = seen.iter().map(|seen| (seen.range.clone(), seen.is_cut)).collect();
        assert_eq!(seen, [(14..16, false), (4000..5000, true)]);
        assert_eq!(disk.take_overwritten(), []);
    }

    #[test]
    fn going_on_after_a_failure_is_seen() {
        let disk = SimDisk::new();
        let mount = disk.mount();
        let file = mount.create("a").unwrap();
        disk.fail_sync(When::NEXT, SyncFailure::Keep);
        file.write_at(0, b"a").unwrap();
        file.sync().unwrap_err();
        assert_eq!(file.len().unwrap(), 1);
        assert_eq!(disk.take_after_failure(), [], "reading is allowed");
        let other = disk.mount();
        other.open("a").unwrap().sync().unwrap();
        assert_eq!(disk.take_after_failure(), [], "another mount was told nothing");
        file.sync().unwrap();
        mount.create("b").unwrap();
        let tried: Vec<_> = disk.take_after_failure();
        let kinds: Vec<_> = tried.iter().map(|tried| tried.tried.operation).collect();
        assert_eq!(kinds, [Operation::Sync, Operation::Create]);
        assert_eq!((tried[0].mount, tried[0].tried.name.as_str()), (mount.number(), "a"));
    }

    #[test]
    fn operations_are_counted() {
        let disk = SimDisk::new();
        disk.record_log(true);
        let mount = disk.mount();
        let file = mount.create("a").unwrap();
        file.write_at(3, b"bytes").unwrap();
        file.sync().unwrap();
        mount.sync_directory().unwrap();
        file.read_at(0, &mut [0; 100]).unwrap();
        mount.list().unwrap();
        let expected = Operations {
            reads: 1,
            bytes_read: 8,
            writes: 1,
            bytes_written: 5,
            syncs: 1,
            directory_syncs: 1,
            changes: 1,
            others: 1,
        };
        assert_eq!(disk.operations(), expected);
        let log: Vec<String> = disk.log().iter().map(Boundary::to_string).collect();
        assert_eq!(log, ["0 Create a", "1 Write a 3+5", "2 Sync a", "3 SyncDirectory ."]);
    }
}
