//! A disk in memory that forgets, fails and rots on demand, for the journal as it ships.
//!
//! ```text
//! journal -> Mount, SimFile -> cache -> sync -> medium      SimDisk: faults, crashes, damage, and
//!            dies in a crash   read back        survives    a look at everything
//! ```
//!
//! A write goes to the cache, which all reads see, and waits there for a sync of its file; a name
//! waits for a sync of the directory. [`SimDisk::power_cut`] lets a chosen part of what waits
//! survive, in pieces of 512 bytes. Everything else that disks do is injected
//! ([`inject`]) or done to the medium directly ([`damage`]), and counted by kind when it
//! acted ([`DiskFault`]).
//!
//! ```
//! use indelible::journal::{Disk, File};
//! use indelible::sim::disk::{DiskFault, SimDisk};
//!
//! let disk = SimDisk::new();
//! let mount = disk.mount();
//! let file = mount.create("a")?;
//! file.write_at(0, b"durable")?;
//! file.sync()?;
//! mount.sync_directory()?;
//! file.write_at(0, b"in vain")?;
//! disk.power_cut(&mut |_| false);
//! assert_eq!(disk.durable("a").as_deref(), Some(&b"durable"[..]));
//! assert_eq!(disk.fired().of(DiskFault::UnsyncedWriteLost), 1);
//! assert!(file.write_at(0, b"too late").is_err());
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! Invariants:
//! * The same calls give the same disk: there is no time and no chance in it.
//! * A fault that was not asked for does not happen.
//!
//! Not here: how long an operation takes (whoever runs the jobs decides), and chance.

mod content;

mod state;

pub mod mount;

pub mod inject;

pub mod damage;

pub mod crash;

pub mod faults;

pub mod watch;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, btree_map};
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};

pub use crash::{Chooser, Piece, PieceKind};
pub use faults::{DiskFault, Fired};
pub use inject::{SyncFailure, When};
pub use mount::{Mount, SimFile, SimLock};
pub use state::PIECE_BYTES;
pub use watch::{AfterFailure, Boundary, Operation, Operations, Overwrite};

use super::exclusive::enter;
use super::rng::Rng;

use content::Content;
use state::{Change, FileId, SimulatedFile, State};

/// A simulated disk, in the hands of whoever simulates. Cloning shares it.
#[derive(Clone, Default)]
pub struct SimDisk(Arc<Mutex<State>>);

/// What is on the medium of a disk. Cheap to take, to keep and to clone.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Image(BTreeMap<String, Content>);

/// A write or a change of length that was not synced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsynced {
    /// The name of the file.
    pub name: String,
    /// The bytes written; for a change of length, the empty range at the new length.
    pub range: Range<usize>,
    /// The boundary at which it was made.
    pub number: u64,
}

impl SimDisk {
    /// A blank disk.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A blank disk. What journals draw from it as random follows from `seed`.
    #[must_use]
    pub fn seeded(seed: u64) -> Self {
        let disk = Self::default();
        disk.lock().entropy = Rng::new(seed);
        disk
    }

    /// The disk for a process that starts. It dies with the next crash.
    #[must_use]
    pub fn mount(&self) -> Mount {
        Mount::new(self)
    }

    /// Whether changes to names that were not synced survive a power cut in any combination. By
    /// default the first ones do, as in a file system with a journal.
    pub fn let_names_survive_in_any_order(&self, any: bool) {
        self.lock().names_in_any_order = any;
    }

    /// Whether older versions of files are kept from now on. Turning it off forgets them.
    pub fn record_history(&self, on: bool) {
        let mut state = self.lock();
        state.is_recording = on;
        if !on {
            state.former_names.clear();
            state.files.values_mut().for_each(|file| file.history.clear());
        }
    }

    /// What is on the medium now.
    #[must_use]
    pub fn image(&self) -> Image {
        let state = self.lock();
        let content = |(name, file): (&String, &FileId)| {
            Some((name.clone(), state.files.get(file)?.medium.clone()))
        };
        Image(state.durable_names.iter().filter_map(content).collect())
    }

    /// Makes the disk what it was when the image was taken, or another disk was; every mount dies.
    /// Sectors that could not be read can be read again.
    pub fn restore(&self, image: &Image) {
        let fault = if *image == Image::default() { DiskFault::Wiped } else { DiskFault::SetBack };
        let differs = self.image() != *image;
        let mut state = self.lock();
        state.replace(image);
        if differs {
            state.fired.count(fault);
        }
    }

    /// Makes the disk blank; every mount dies.
    pub fn wipe(&self) {
        self.restore(&Image::default());
    }

    /// The power goes at the boundary with this number: that operation is told that it failed,
    /// and whatever it changes waits like everything else that was not synced. A sync then has
    /// done nothing yet. Every later operation fails and does nothing, until the crash.
    pub fn stop_at(&self, number: u64) {
        self.lock().stop_at = Some(number);
    }

    /// Whether the power went at the boundary of [`SimDisk::stop_at`].
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.lock().is_stopped
    }

    /// How many operations there were so far between which a crash can happen.
    #[must_use]
    pub fn boundaries(&self) -> u64 {
        self.lock().watch.boundaries
    }

    /// How many operations of each kind there were so far.
    #[must_use]
    pub fn operations(&self) -> Operations {
        self.lock().watch.operations
    }

    /// Whether the operations that change something are written down from now on.
    pub fn record_log(&self, on: bool) {
        self.lock().watch.log = on.then(Vec::new);
    }

    /// The operations that were written down.
    #[must_use]
    pub fn log(&self) -> Vec<Boundary> {
        self.lock().watch.log.clone().unwrap_or_default()
    }

    /// Durable bytes that were written over or cut off, and forgets them. The journal never writes
    /// over any, and cuts off only what an opening gives up.
    #[must_use]
    pub fn take_overwritten(&self) -> Vec<Overwrite> {
        std::mem::take(&mut self.lock().watch.overwritten)
    }

    /// What was tried on a mount after it was told that a write or a sync failed, and forgets it.
    #[must_use]
    pub fn take_after_failure(&self) -> Vec<AfterFailure> {
        std::mem::take(&mut self.lock().watch.after_failure)
    }

    /// How often each fault acted.
    #[must_use]
    pub fn fired(&self) -> Fired {
        self.lock().fired.clone()
    }

    /// The names as they are listed.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.lock().names.keys().cloned().collect()
    }

    /// The names that are listed, for who only looks at them.
    pub(in crate::sim) fn with_names<T>(
        &self,
        look: impl FnOnce(btree_map::Keys<'_, String, FileId>) -> T,
    ) -> T {
        look(self.lock().names.keys())
    }

    /// The names on the medium.
    #[must_use]
    pub fn durable_names(&self) -> Vec<String> {
        self.lock().durable_names.keys().cloned().collect()
    }

    /// The names on the medium, for who only looks at them.
    pub(in crate::sim) fn with_durable_names<T>(
        &self,
        look: impl FnOnce(btree_map::Keys<'_, String, FileId>) -> T,
    ) -> T {
        look(self.lock().durable_names.keys())
    }

    /// What a power cut from which nothing else survived would leave in the file that has this
    /// name on the medium.
    #[must_use]
    pub fn durable(&self, name: &str) -> Option<Vec<u8>> {
        let state = self.lock();
        let file = state.files.get(state.durable_names.get(name)?)?;
        Some(file.medium.bytes(0..usize::MAX))
    }

    /// What is read back from the file that is listed by this name.
    #[must_use]
    pub fn cached(&self, name: &str) -> Option<Vec<u8>> {
        self.lock().named(name).map(|file| file.cache.bytes(0..usize::MAX))
    }

    /// The length of the file that is listed by this name, on the medium.
    #[must_use]
    pub fn durable_length(&self, name: &str) -> Option<usize> {
        self.lock().named(name).map(|file| file.medium.len())
    }

    /// The writes and changes of length that wait for a sync, file by file, each in order.
    #[must_use]
    pub fn unsynced(&self) -> Vec<Unsynced> {
        let state = self.lock();
        let waiting = state.files.values().flat_map(|file| {
            file.pending.iter().map(|pending| {
                let range = match &pending.change {
                    Change::Write(patch) => patch.range.clone(),
                    Change::Resize(length) => *length..*length,
                };
                Unsynced { name: file.name.clone(), range, number: pending.number }
            })
        });
        waiting.collect()
    }

    /// How many changes to the names wait for a sync of the directory.
    #[must_use]
    pub fn unsynced_names(&self) -> usize {
        self.lock().pending_names.len()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        enter(&self.0, "SimDisk")
    }
}

impl State {
    fn replace(&mut self, image: &Image) {
        self.files.clear();
        self.names.clear();
        self.pending_names.clear();
        self.former_names.clear();
        self.directory_lost = false;
        for (name, content) in &image.0 {
            let file = SimulatedFile {
                name: name.clone(),
                cache: content.clone(),
                medium: content.clone(),
                ..Default::default()
            };
            self.files.insert(self.file_next, file);
            self.names.insert(name.clone(), self.file_next);
            self.file_next += 1;
        }
        self.durable_names = self.names.clone();
        self.end_life();
    }
}

impl fmt::Debug for SimDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.lock();
        f.debug_struct("SimDisk")
            .field("names", &state.names.keys())
            .field("boundaries", &state.watch.boundaries)
            .finish_non_exhaustive()
    }
}
