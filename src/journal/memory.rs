//! A disk in memory, for replicas that need not outlive their process.
//!
//! Clones share the directory: a journal opened on a clone of the same disk finds what the last
//! one left. Everything written counts as synced; a disk that can lose writes is a test's business.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::{Mutex, RwLock};

use super::disk::{Disk, File};

/// A directory in memory. Cloning shares it.
#[derive(Clone, Debug, Default)]
pub struct MemoryDisk {
    files: Arc<Mutex<BTreeMap<String, MemoryFile>>>,
    locked: Arc<AtomicBool>,
}

/// A file in memory. Cloning shares it.
#[derive(Clone, Debug, Default)]
pub struct MemoryFile(Arc<RwLock<Vec<u8>>>);

/// The lock on a [`MemoryDisk`].
#[derive(Debug)]
pub struct MemoryLock(Arc<AtomicBool>);

impl MemoryDisk {
    /// An empty directory.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

impl Disk for MemoryDisk {
    type File = MemoryFile;
    type Lock = MemoryLock;

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.files.lock().keys().cloned().collect())
    }

    fn create(&self, name: &str) -> io::Result<MemoryFile> {
        let mut files = self.files.lock();
        if files.contains_key(name) {
            return Err(io::Error::from(io::ErrorKind::AlreadyExists));
        }
        Ok(files.entry(name.to_owned()).or_default().clone())
    }

    fn open(&self, name: &str) -> io::Result<MemoryFile> {
        self.files.lock().get(name).cloned().ok_or_else(not_found)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut files = self.files.lock();
        let file = files.remove(from).ok_or_else(not_found)?;
        files.insert(to.to_owned(), file);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.files.lock().remove(name).map(|_| ()).ok_or_else(not_found)
    }

    fn sync_directory(&self) -> io::Result<()> {
        Ok(())
    }

    fn lock(&self) -> io::Result<MemoryLock> {
        if self.locked.swap(true, Ordering::AcqRel) {
            return Err(io::Error::from(io::ErrorKind::WouldBlock));
        }
        Ok(MemoryLock(Arc::clone(&self.locked)))
    }
}

impl Drop for MemoryLock {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

impl File for MemoryFile {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let bytes = self.0.read();
        let from = position(offset)?.min(bytes.len());
        let count = buffer.len().min(bytes.len() - from);
        buffer[..count].copy_from_slice(&bytes[from..from + count]);
        Ok(count)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let from = position(offset)?;
        let mut file = self.0.write();
        if file.len() < from + bytes.len() {
            file.resize(from + bytes.len(), 0);
        }
        file[from..from + bytes.len()].copy_from_slice(bytes);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.read().len() as u64)
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        let mut bytes = self.0.write();
        bytes.resize(position(length)?, 0);
        bytes.shrink_to_fit();
        Ok(())
    }
}

fn position(offset: u64) -> io::Result<usize> {
    usize::try_from(offset).map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge))
}

fn not_found() -> io::Error {
    io::Error::from(io::ErrorKind::NotFound)
}
