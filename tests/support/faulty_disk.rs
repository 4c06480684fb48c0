//! A disk that forgets: what was not synced survives a crash only in part, and syncs can fail.
//!
//! Every file has what is read back now and what is on the medium. A write changes the first; a
//! sync copies it to the second. At a crash, of everything not synced a random part survives, in
//! pieces of 512 bytes. Names behave likewise: a random number of the first changes survives.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use indelible::journal::{Disk, File};
use parking_lot::Mutex;

pub const PIECE: usize = 512;

/// Cloning shares the disk.
#[derive(Clone, Default)]
pub struct FaultyDisk(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    files: Vec<Content>,
    names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    /// Changes to names since the last sync of the directory.
    renames: Vec<(String, Option<usize>)>,
    life: u64,
    locked: bool,
    /// How many operations still succeed.
    left: Option<u64>,
    fail_syncs: u64,
    syncs: u64,
    operations: u64,
    /// How many bytes all files together may have.
    space: Option<usize>,
    /// Of files whose names begin so none may be opened to be read.
    exhausted: Option<String>,
    /// Pieces of files that cannot be read.
    unreadable: BTreeSet<(usize, usize)>,
}

#[derive(Default, Clone)]
struct Content {
    now: Vec<u8>,
    medium: Vec<u8>,
    dirty: BTreeSet<usize>,
    /// How many syncs of it failed. As in Linux, every open file is told of each once.
    failed: u64,
}

/// A file of a [`FaultyDisk`]; dead after a crash.
pub struct FaultyFile {
    disk: FaultyDisk,
    file: usize,
    life: u64,
    /// The failures that this open file was told of.
    told: AtomicU64,
}

pub struct Guard(FaultyDisk, u64);

impl std::fmt::Debug for Guard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("guard")
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let mut state = self.0.0.lock();
        if state.life == self.1 {
            state.locked = false;
        }
    }
}

impl State {
    fn used(&self) -> usize {
        self.names.values().map(|file| self.files[*file].now.len()).sum()
    }

    fn step(&mut self) -> io::Result<()> {
        self.operations += 1;
        match &mut self.left {
            Some(0) => Err(io::Error::other("injected")),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }
}

#[allow(dead_code, reason = "no test program uses all of this")]
impl FaultyDisk {
    /// The process and the power are gone. `keep` says of each thing not synced whether it stays.
    pub fn crash(&self, keep: &mut dyn FnMut() -> bool) {
        let mut state = self.0.lock();
        let state = &mut *state;
        for content in &mut state.files {
            if keep() {
                let length = content.now.len();
                content.medium.resize(length, 0);
            }
            for piece in std::mem::take(&mut content.dirty) {
                let from = piece * PIECE;
                let end = (from + PIECE).min(content.medium.len()).min(content.now.len());
                if from < end && keep() {
                    content.medium[from..end].copy_from_slice(&content.now[from..end]);
                }
            }
            content.now = content.medium.clone();
        }
        for (name, file) in std::mem::take(&mut state.renames) {
            if !keep() {
                break;
            }
            match file {
                Some(file) => state.durable_names.insert(name, file),
                None => state.durable_names.remove(&name),
            };
        }
        state.names = state.durable_names.clone();
        state.life += 1;
        state.locked = false;
        state.left = None;
        state.fail_syncs = 0;
    }

    /// After this many operations every one fails.
    pub fn fail_after(&self, operations: u64) {
        self.0.lock().left = Some(operations);
    }

    /// The next syncs of files fail, and the kernel forgets that the blocks were dirty.
    pub fn fail_syncs(&self, count: u64) {
        self.0.lock().fail_syncs = count;
    }

    /// Files whose names begin so cannot be opened to be read, since too many are open; `None`:
    /// all can.
    pub fn exhaust(&self, names: Option<String>) {
        self.0.lock().exhausted = names;
    }

    /// All files together may have so many bytes; `None`: there is no limit.
    pub fn limit_space(&self, bytes: Option<usize>) {
        self.0.lock().space = bytes;
    }

    /// These bytes of a file cannot be read any more.
    pub fn make_unreadable(&self, name: &str, from: usize, count: usize) {
        let mut state = self.0.lock();
        let file = state.names[name];
        let pieces = from / PIECE..(from + count).div_ceil(PIECE);
        state.unreadable.extend(pieces.map(|piece| (file, piece)));
    }

    pub fn syncs(&self) -> u64 {
        self.0.lock().syncs
    }

    pub fn operations(&self) -> u64 {
        self.0.lock().operations
    }

    /// Changes bytes of a file as rot does: everywhere, and nobody is told.
    pub fn rot(&self, name: &str, change: impl Fn(&mut Vec<u8>)) {
        let mut state = self.0.lock();
        let file = state.names[name];
        change(&mut state.files[file].now);
        change(&mut state.files[file].medium);
    }

    /// The content of a file as it is read back.
    pub fn content(&self, name: &str) -> Vec<u8> {
        let state = self.0.lock();
        state.files[state.names[name]].now.clone()
    }

    /// Puts a file there, durably.
    pub fn plant(&self, name: &str, bytes: Vec<u8>) {
        let mut state = self.0.lock();
        let file = state.files.len();
        state.files.push(Content { now: bytes.clone(), medium: bytes, ..Content::default() });
        state.names.insert(name.to_owned(), file);
        state.durable_names.insert(name.to_owned(), file);
    }

    /// Takes a file away, durably.
    pub fn lose(&self, name: &str) {
        let mut state = self.0.lock();
        state.names.remove(name);
        state.durable_names.remove(name);
    }
}

impl Disk for FaultyDisk {
    type File = FaultyFile;
    type Lock = Guard;

    fn list(&self) -> io::Result<Vec<String>> {
        let mut state = self.0.lock();
        state.step()?;
        Ok(state.names.keys().cloned().collect())
    }

    fn create(&self, name: &str) -> io::Result<FaultyFile> {
        let mut state = self.0.lock();
        state.step()?;
        if state.names.contains_key(name) {
            return Err(io::Error::from(io::ErrorKind::AlreadyExists));
        }
        let file = state.files.len();
        state.files.push(Content::default());
        state.names.insert(name.to_owned(), file);
        state.renames.push((name.to_owned(), Some(file)));
        Ok(FaultyFile { disk: self.clone(), file, life: state.life, told: AtomicU64::new(0) })
    }

    fn open(&self, name: &str) -> io::Result<FaultyFile> {
        let mut state = self.0.lock();
        state.step()?;
        let file = *state.names.get(name).ok_or(io::ErrorKind::NotFound)?;
        let told = AtomicU64::new(state.files[file].failed);
        Ok(FaultyFile { disk: self.clone(), file, life: state.life, told })
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.0.lock();
        state.step()?;
        let file = state.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
        state.names.insert(to.to_owned(), file);
        // The new name first: a rename never leaves less than one of the two.
        state.renames.push((to.to_owned(), Some(file)));
        state.renames.push((from.to_owned(), None));
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.0.lock();
        state.step()?;
        state.names.remove(name).ok_or(io::ErrorKind::NotFound)?;
        state.renames.push((name.to_owned(), None));
        Ok(())
    }

    fn sync_directory(&self) -> io::Result<()> {
        let mut state = self.0.lock();
        state.step()?;
        state.renames.clear();
        state.durable_names = state.names.clone();
        Ok(())
    }

    fn lock(&self) -> io::Result<Guard> {
        let mut state = self.0.lock();
        if state.locked {
            return Err(io::Error::from(io::ErrorKind::WouldBlock));
        }
        state.locked = true;
        Ok(Guard(self.clone(), state.life))
    }
}

impl FaultyFile {
    fn with<T>(&self, act: impl FnOnce(&mut State, usize) -> io::Result<T>) -> io::Result<T> {
        let mut state = self.disk.0.lock();
        if state.life != self.life {
            return Err(io::Error::other("the machine was restarted"));
        }
        state.step()?;
        act(&mut state, self.file)
    }
}

impl File for FaultyFile {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.with(|state, file| {
            let bytes = &state.files[file].now;
            let from = (offset as usize).min(bytes.len());
            let count = buffer.len().min(bytes.len() - from);
            let pieces = (file, from / PIECE)..(file, (from + count).div_ceil(PIECE));
            let is_exhausted = |(name, at): (&String, &usize)| {
                *at == file && state.exhausted.as_ref().is_some_and(|it| name.starts_with(it))
            };
            if state.names.iter().any(is_exhausted) {
                return Err(io::Error::from_raw_os_error(EMFILE));
            }
            if count > 0 && state.unreadable.range(pieces).next().is_some() {
                return Err(io::Error::other("injected"));
            }
            buffer[..count].copy_from_slice(&bytes[from..from + count]);
            Ok(count)
        })
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.with(|state, file| {
            let (from, end) = (offset as usize, offset as usize + bytes.len());
            let grown = end.saturating_sub(state.files[file].now.len());
            if grown > 0 && state.space.is_some_and(|space| state.used() + grown > space) {
                return Err(io::Error::from(io::ErrorKind::StorageFull));
            }
            let content = &mut state.files[file];
            if content.now.len() < end {
                content.now.resize(end, 0);
            }
            content.now[from..end].copy_from_slice(bytes);
            content.dirty.extend(from / PIECE..end.div_ceil(PIECE));
            Ok(())
        })
    }

    fn sync(&self) -> io::Result<()> {
        self.with(|state, file| {
            state.syncs += 1;
            let content = &mut state.files[file];
            let dirty = std::mem::take(&mut content.dirty);
            if state.fail_syncs > 0 {
                state.fail_syncs -= 1;
                content.failed += 1;
            }
            if self.told.swap(content.failed, Ordering::SeqCst) != content.failed {
                return Err(io::Error::other("injected"));
            }
            content.medium.resize(content.now.len(), 0);
            for piece in dirty {
                let from = piece * PIECE;
                let end = (from + PIECE).min(content.now.len());
                if from < end {
                    content.medium[from..end].copy_from_slice(&content.now[from..end]);
                }
            }
            Ok(())
        })
    }

    fn len(&self) -> io::Result<u64> {
        self.with(|state, file| Ok(state.files[file].now.len() as u64))
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.with(|state, file| {
            state.files[file].now.resize(length as usize, 0);
            Ok(())
        })
    }
}

/// Too many open files.
const EMFILE: i32 = 24;
