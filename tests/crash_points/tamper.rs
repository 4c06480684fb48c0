//! A simulated disk on which something happens at one boundary, whatever operation that is.
//!
//! The disk arms faults by kind of operation. Here they are armed by place: just before the
//! operation with a given number, and only for it.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use indelible::journal::{Disk, File};
use indelible::sim::disk::mount::{SimFile, SimLock};
use indelible::sim::disk::{Mount, Operation, SimDisk, SyncFailure, When};

/// What happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The operation fails and does nothing; of a sync, what waited is still read back.
    Fail,
    /// A write is done in part, and fails; of a sync, what waited is gone at once.
    FailOtherwise,
    /// From there on no file can grow.
    NoSpace,
}

/// What happens, and at which boundary.
#[derive(Debug)]
pub struct Plan {
    pub disk: SimDisk,
    pub at: u64,
    pub fault: Option<Fault>,
    stop: bool,
    happened: AtomicBool,
}

/// The disk in the hands of one process.
#[derive(Clone, Debug)]
pub struct Tampered {
    mount: Mount,
    plan: Arc<Plan>,
}

/// An open file of it.
#[derive(Debug)]
pub struct TamperedFile {
    file: SimFile,
    plan: Arc<Plan>,
}

impl Plan {
    pub fn new(disk: &SimDisk, at: u64, fault: Option<Fault>) -> Arc<Self> {
        Arc::new(Self::of(disk, at, fault))
    }

    fn of(disk: &SimDisk, at: u64, fault: Option<Fault>) -> Self {
        let happened = AtomicBool::new(false);
        Self { disk: disk.clone(), at, fault, stop: false, happened }
    }

    /// The power goes.
    pub fn power_cut(disk: &SimDisk, at: u64) -> Arc<Self> {
        let plan = Self { stop: true, ..Self::of(disk, at, None) };
        plan.begin_life();
        Arc::new(plan)
    }

    /// A process begins, perhaps after one that died. The plan is still the same.
    pub fn begin_life(&self) {
        if self.stop {
            self.disk.stop_at(self.at);
        }
    }

    /// Nothing happens.
    pub fn nothing(disk: &SimDisk) -> Arc<Self> {
        Self::new(disk, 0, None)
    }

    /// Whether the operation failed, or there was no space from it on.
    pub fn has_happened(&self) -> bool {
        self.happened.load(Ordering::Relaxed)
    }

    fn around<T>(
        &self,
        operation: Operation,
        bytes: usize,
        act: impl FnOnce() -> io::Result<T>,
    ) -> io::Result<T> {
        let Some(fault) = self.fault.filter(|_| self.disk.boundaries() == self.at) else {
            return act();
        };
        if fault == Fault::NoSpace {
            self.disk.set_room(Some(0));
            self.happened.store(true, Ordering::Relaxed);
            return act();
        }
        let before = self.disk.fired().total();
        arm(&self.disk, operation, bytes, fault == Fault::Fail);
        let result = act();
        self.disk.disarm();
        if self.disk.fired().total() > before {
            self.happened.store(true, Ordering::Relaxed);
        }
        result
    }
}

fn arm(disk: &SimDisk, operation: Operation, bytes: usize, first: bool) {
    let failure = if first { SyncFailure::Keep } else { SyncFailure::Revert };
    match operation {
        Operation::Write if first => disk.fail_write(When::NEXT, 0),
        // Not at the end of a sector.
        Operation::Write => disk.fail_write(When::NEXT, bytes / 2 + 100),
        Operation::Sync => disk.fail_sync(When::NEXT, failure),
        Operation::SyncDirectory => disk.fail_directory_sync(When::NEXT, failure),
        Operation::Create if first => disk.fail_create(When::NEXT),
        Operation::Rename if first => disk.fail_rename(When::NEXT),
        Operation::Remove if first => disk.fail_remove(When::NEXT),
        Operation::Resize if first => disk.fail_resize(When::NEXT),
        _ => {}
    }
}

impl Tampered {
    pub fn new(plan: &Arc<Plan>) -> Self {
        Self { mount: plan.disk.mount(), plan: Arc::clone(plan) }
    }

    fn file(&self, file: SimFile) -> TamperedFile {
        TamperedFile { file, plan: Arc::clone(&self.plan) }
    }
}

impl Disk for Tampered {
    type File = TamperedFile;
    type Lock = SimLock;

    fn list(&self) -> io::Result<Vec<String>> {
        self.mount.list()
    }

    fn create(&self, name: &str) -> io::Result<TamperedFile> {
        let file = self.plan.around(Operation::Create, 0, || self.mount.create(name))?;
        Ok(self.file(file))
    }

    fn open(&self, name: &str) -> io::Result<TamperedFile> {
        Ok(self.file(self.mount.open(name)?))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.plan.around(Operation::Rename, 0, || self.mount.rename(from, to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.plan.around(Operation::Remove, 0, || self.mount.remove(name))
    }

    fn sync_directory(&self) -> io::Result<()> {
        self.plan.around(Operation::SyncDirectory, 0, || self.mount.sync_directory())
    }

    fn lock(&self) -> io::Result<SimLock> {
        self.mount.lock()
    }

    fn entropy(&self) -> io::Result<[u8; 16]> {
        self.mount.entropy()
    }
}

impl File for TamperedFile {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.file.read_at(offset, buffer)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let act = || self.file.write_at(offset, bytes);
        self.plan.around(Operation::Write, bytes.len(), act)
    }

    fn sync(&self) -> io::Result<()> {
        self.plan.around(Operation::Sync, 0, || self.file.sync())
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.plan.around(Operation::Resize, 0, || self.file.set_len(length))
    }
}
