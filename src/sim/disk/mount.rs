//! A simulated disk as one process sees it: [`Disk`] and [`File`].
//!
//! A mount, and every file that was opened through it, dies with the next crash: whatever is asked
//! of it fails and changes nothing, so that a job which outlived its process cannot write. To open
//! a journal anew, mount anew.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::MutexGuard;

use crate::journal::disk::{Disk, File};

use super::SimDisk;
use super::faults::DiskFault;
use super::inject::{Action, SyncFailure};
use super::state::{Change, Fate, FileId, NameChange, Pending, SimulatedFile, State};
use super::watch::{Operation, Overwrite, What};

/// The disk in the hands of one process. Clones are the same mount.
#[derive(Clone, Debug)]
pub struct Mount {
    disk: SimDisk,
    number: u64,
    life: u64,
}

/// An open file of a [`Mount`].
#[derive(Debug)]
pub struct SimFile {
    mount: Mount,
    file: FileId,
    /// The lost writes that it was told of.
    told: AtomicU64,
}

/// The lock on the directory.
#[derive(Debug)]
pub struct SimLock(Mount);

/// An operation that has begun.
#[derive(Clone, Copy)]
struct Begun {
    number: u64,
    /// The power goes while it is being done.
    is_last: bool,
}

impl Begun {
    /// What its caller is told.
    fn end<T>(self, value: T) -> io::Result<T> {
        if self.is_last { Err(gone("the power is gone")) } else { Ok(value) }
    }
}

fn gone(why: &str) -> io::Error {
    io::Error::other(why)
}

impl Mount {
    pub(super) fn new(disk: &SimDisk) -> Self {
        let mut state = disk.lock();
        state.mounts += 1;
        Self { disk: disk.clone(), number: state.mounts, life: state.life }
    }

    /// Its number, from 1, by which the disk's watch calls it.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Whether there was no crash since.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.disk.lock().life == self.life
    }

    /// The disk, where whoever asks is alive.
    fn enter(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = self.disk.lock();
        if state.life != self.life {
            return Err(gone("the process is gone"));
        }
        if state.is_stopped {
            return Err(gone("the power is gone"));
        }
        Ok(state)
    }

    /// Begins an operation on the directory.
    fn on_names(
        &self,
        operation: Operation,
        name: &str,
    ) -> io::Result<(MutexGuard<'_, State>, Begun)> {
        let mut state = self.enter()?;
        let what = What { operation, name, offset: 0, bytes: 0 };
        let number = state.watch.begin(self.number, what);
        let begun = state.begin(operation, number);
        Ok((state, begun))
    }

    fn file(&self, file: FileId, failures: u64) -> SimFile {
        SimFile { mount: self.clone(), file, told: AtomicU64::new(failures) }
    }
}

impl Disk for Mount {
    type File = SimFile;
    type Lock = SimLock;

    /// Not set back with the disk: two openings of one image are told apart, as on two machines.
    fn entropy(&self) -> io::Result<[u8; 16]> {
        let mut state = self.disk.lock();
        let (low, high) = (state.entropy.next_u64(), state.entropy.next_u64());
        Ok((u128::from(high) << 64 | u128::from(low)).to_le_bytes())
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let (mut state, _) = self.on_names(Operation::List, ".")?;
        state.check(Operation::List, DiskFault::ListFails)?;
        Ok(state.names.keys().cloned().collect())
    }

    fn create(&self, name: &str) -> io::Result<SimFile> {
        let (mut state, begun) = self.on_names(Operation::Create, name)?;
        state.check(Operation::Create, DiskFault::CreateFails)?;
        if state.names.contains_key(name) {
            return Err(io::Error::from(io::ErrorKind::AlreadyExists));
        }
        let file = state.file_next;
        state.file_next += 1;
        state.files.insert(file, SimulatedFile::default());
        state.change_names(begun.number, NameChange::Link { name: name.to_owned(), file });
        begun.end(self.file(file, 0))
    }

    fn open(&self, name: &str) -> io::Result<SimFile> {
        let (mut state, _) = self.on_names(Operation::Open, name)?;
        let file = *state.names.get(name).ok_or(io::ErrorKind::NotFound)?;
        state.check(Operation::Open, DiskFault::OpenFails)?;
        let failures = state.file_mut(file).failures;
        Ok(self.file(file, failures))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let (mut state, begun) = self.on_names(Operation::Rename, from)?;
        let file = *state.names.get(from).ok_or(io::ErrorKind::NotFound)?;
        state.check(Operation::Rename, DiskFault::RenameFails)?;
        if from != to {
            state.free_named(to);
            let (from, to) = (from.to_owned(), to.to_owned());
            state.change_names(begun.number, NameChange::Move { from, to, file });
        }
        begun.end(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let (mut state, begun) = self.on_names(Operation::Remove, name)?;
        if !state.names.contains_key(name) {
            return Err(io::Error::from(io::ErrorKind::NotFound));
        }
        state.check(Operation::Remove, DiskFault::RemoveFails)?;
        state.free_named(name);
        state.change_names(begun.number, NameChange::Unlink { name: name.to_owned() });
        begun.end(())
    }

    fn sync_directory(&self) -> io::Result<()> {
        let (mut state, begun) = self.on_names(Operation::SyncDirectory, ".")?;
        if begun.is_last {
            return begun.end(());
        }
        let is_told = std::mem::take(&mut state.directory_lost);
        let is_told = match state.due(Operation::SyncDirectory) {
            Some(Action::Sync(failure)) => state.lose_names(failure) || is_told,
            _ => {
                state.settle_names();
                is_told
            }
        };
        if !is_told {
            return Ok(());
        }
        state.watch.told_failure(self.number);
        Err(gone(DiskFault::DirectorySyncFails.name()))
    }

    fn lock(&self) -> io::Result<SimLock> {
        let mut state = self.enter()?;
        if state.is_locked {
            return Err(io::Error::from(io::ErrorKind::WouldBlock));
        }
        state.is_locked = true;
        Ok(SimLock(self.clone()))
    }
}

impl Drop for SimLock {
    fn drop(&mut self) {
        let mut state = self.0.disk.lock();
        if state.life == self.0.life {
            state.is_locked = false;
        }
    }
}

impl SimFile {
    /// Begins an operation on the file.
    fn begin(
        &self,
        operation: Operation,
        offset: u64,
        bytes: usize,
    ) -> io::Result<(MutexGuard<'_, State>, Begun)> {
        let mut guard = self.mount.enter()?;
        let state = &mut *guard;
        let name = &state.files.get(&self.file).expect("an open file is there").name;
        let what = What { operation, name, offset, bytes };
        let number = state.watch.begin(self.mount.number, what);
        let begun = state.begin(operation, number);
        Ok((guard, begun))
    }

    /// Fails, and remembers that whoever uses the mount knows.
    fn fail<T>(&self, state: &mut State, fault: DiskFault) -> io::Result<T> {
        // A full disk has lost nothing.
        if fault != DiskFault::NoSpace {
            state.watch.told_failure(self.mount.number);
        }
        Err(state.fail(fault))
    }
}

impl File for SimFile {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let (mut state, _) = self.begin(Operation::Read, offset, buffer.len())?;
        let offset = position(offset)?;
        let action = state.due(Operation::Read);
        if matches!(action, Some(Action::Fail)) {
            return Err(state.fail(DiskFault::ReadFails));
        }
        let state = &mut *state;
        let file = state.files.get_mut(&self.file).expect("an open file is there");
        let mut count = file.cache.read(offset, buffer);
        if !file.unreadable.is_empty() && file.is_unreadable(offset..offset + count) {
            return Err(state.fail(DiskFault::UnreadableSector));
        }
        match action {
            Some(Action::ReadPart(bytes)) if bytes < count => {
                count = bytes;
                state.fired.count(DiskFault::ShortRead);
            }
            Some(Action::Flip(at, mask)) if count > 0 && mask != 0 => {
                buffer[at % count] ^= mask;
                state.fired.count(DiskFault::CorruptRead);
            }
            _ => {}
        }
        if !file.scars.is_empty() {
            file.see(offset..offset + count, &mut state.fired);
        }
        state.watch.operations.bytes_read += count as u64;
        Ok(count)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let (mut state, begun) = self.begin(Operation::Write, offset, bytes.len())?;
        let offset = position(offset)?;
        if bytes.is_empty() {
            return begun.end(());
        }
        let (mut fate, mut length) = (Fate::Sound, bytes.len());
        let mut fault = None;
        match state.due(Operation::Write) {
            Some(Action::Fail) => return self.fail(&mut state, DiskFault::WriteFails),
            Some(Action::WritePart(part)) => {
                length = part.min(length - 1);
                fault = Some(DiskFault::WriteFailsPartly);
            }
            Some(Action::Fate(planned)) => fate = planned,
            _ => {}
        }
        let fits = state.take_room(self.file, offset, length);
        if fits < length {
            (length, fault) = (fits, Some(DiskFault::NoSpace));
        }
        if length > 0 {
            state.note_overwrite(begun.number, self.file, offset, length);
            state.file_mut(self.file).write(begun.number, offset, &bytes[..length], fate);
        }
        match fault {
            Some(fault) => self.fail(&mut state, fault),
            None => begun.end(()),
        }
    }

    fn sync(&self) -> io::Result<()> {
        let (mut state, begun) = self.begin(Operation::Sync, 0, 0)?;
        if begun.is_last {
            return begun.end(());
        }
        let failures = match state.due(Operation::Sync) {
            Some(Action::Sync(failure)) => state.lose(self.file, failure),
            _ => {
                state.settle(self.file);
                state.file_mut(self.file).failures
            }
        };
        // Also what another call met, or another open file, is news to this one, once.
        let told = self.told.swap(failures, Ordering::AcqRel);
        let told_any = std::mem::replace(&mut state.file_mut(self.file).told, failures);
        if failures == if state.tells_once { told_any } else { told } {
            return Ok(());
        }
        state.watch.told_failure(self.mount.number);
        Err(gone(state.file_mut(self.file).lost_by.name()))
    }

    fn len(&self) -> io::Result<u64> {
        let (mut state, _) = self.begin(Operation::Length, 0, 0)?;
        Ok(state.file_mut(self.file).cache.len() as u64)
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        let (mut state, begun) = self.begin(Operation::Resize, length, 0)?;
        let length = position(length)?;
        if state.due(Operation::Resize).is_some() {
            return self.fail(&mut state, DiskFault::ResizeFails);
        }
        let grown = length.saturating_sub(state.file_mut(self.file).cache.len());
        let granted = state.take_room(self.file, length - grown, grown);
        if granted < grown {
            state.give_room(granted);
            return self.fail(&mut state, DiskFault::NoSpace);
        }
        state.note_cut(begun.number, self.file, length);
        let file = state.file_mut(self.file);
        let cut = file.cache.len().saturating_sub(length);
        file.cache.resize(length);
        let change = Change::Resize(length);
        file.pending.push(Pending { number: begun.number, change, fate: Fate::Sound });
        state.give_room(cut);
        begun.end(())
    }
}

impl State {
    /// An operation begins that has this number.
    fn begin(&mut self, operation: Operation, number: u64) -> Begun {
        let is_last = operation.is_boundary() && self.stop_at.is_some_and(|stop| number >= stop);
        self.is_stopped |= is_last;
        Begun { number, is_last }
    }

    /// A sync fails: what waited is not written any more. Returns how many failures are told.
    fn lose(&mut self, file: FileId, failure: SyncFailure) -> u64 {
        let fault = match failure {
            SyncFailure::Keep => DiskFault::SyncFailsKeep,
            SyncFailure::Revert => DiskFault::SyncFailsRevert,
            SyncFailure::Late => DiskFault::SyncFailsLate,
        };
        let file = self.file_mut(file);
        let told = file.failures + u64::from(failure != SyncFailure::Late);
        let is_felt = failure != SyncFailure::Late || !file.pending.is_empty();
        file.failures += 1;
        file.lost_by = fault;
        file.pending.clear();
        if failure == SyncFailure::Revert {
            file.cache = file.medium.clone();
        }
        if is_felt {
            self.fired.count(fault);
        }
        told
    }

    /// A sync of the directory fails: what waited is not written any more. Returns whether its
    /// caller is told.
    fn lose_names(&mut self, failure: SyncFailure) -> bool {
        let is_told = failure != SyncFailure::Late;
        if is_told || !self.pending_names.is_empty() {
            self.fired.count(DiskFault::DirectorySyncFails);
        }
        self.directory_lost = !is_told;
        self.pending_names.clear();
        if failure == SyncFailure::Revert {
            self.names = self.durable_names.clone();
        }
        is_told
    }

    /// Takes room for a write; returns how many bytes of it there is room for.
    fn take_room(&mut self, file: FileId, offset: usize, length: usize) -> usize {
        let Some(room) = self.room else { return length };
        let now = self.file_mut(file).cache.len();
        let grown = (offset + length).saturating_sub(now);
        let granted = usize::try_from(room).unwrap_or(usize::MAX).min(grown);
        // A gap before the write needs room as well.
        let fits = (length + granted).saturating_sub(grown);
        if fits > 0 {
            self.room = Some(room - granted as u64);
        }
        fits
    }

    fn give_room(&mut self, bytes: usize) {
        if let Some(room) = &mut self.room {
            *room += bytes as u64;
        }
    }

    /// A name is about to be taken away from its file.
    fn free_named(&mut self, name: &str) {
        let freed = self.named(name).map_or(0, |file| file.cache.len());
        self.give_room(freed);
    }

    fn note_overwrite(&mut self, number: u64, file: FileId, offset: usize, length: usize) {
        let range = offset..offset + length;
        let file = self.file_mut(file);
        if file.medium.holds_data(range.clone()) {
            let name = file.name.clone();
            self.watch.overwritten.push(Overwrite { number, name, range, is_cut: false });
        }
    }

    fn note_cut(&mut self, number: u64, file: FileId, length: usize) {
        let file = self.file_mut(file);
        let range = length..file.medium.len();
        if length < file.medium.len() && file.medium.holds_data(range.clone()) {
            let name = file.name.clone();
            self.watch.overwritten.push(Overwrite { number, name, range, is_cut: true });
        }
    }
}

fn position(offset: u64) -> io::Result<usize> {
    // Far above every real file, and far below where sums overflow.
    let fits = usize::try_from(offset).ok().filter(|offset| *offset < 1 << 40);
    fits.ok_or_else(|| io::Error::from(io::ErrorKind::FileTooLarge))
}
