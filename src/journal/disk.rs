//! What the journal needs of a disk: named files in one directory, and nothing else.
//!
//! The operations are primitive on purpose. A simulator fails, tears or reorders each of them by
//! itself, and a crash can happen between any two; so no operation here combines two steps whose
//! order matters. Offsets are explicit, there is no cursor, and several threads may use one file.
//!
//! What the journal assumes of an implementation:
//! * After `sync` returned without an error, what was written to that file before it began
//!   survives a power cut. After an error nothing is known about it.
//! * A write that is lost after it returned is told to the next `sync` of every [`File`] that was
//!   open then, each once: what one of them was told is no news to the others.
//! * A file's name survives a power cut only after `sync_directory`. Where that failed, the next
//!   one that succeeds is for this name, too: file systems keep names in a journal of their own,
//!   and take no change any more where they could not write it (ext4, XFS, Btrfs, ZFS). For what is
//!   *in* a file that does not hold, as said above: so files are written anew, and names are not.
//! * Writes that were not synced survive in any subset, in pieces of any size.
//! * `lock` excludes every other holder, also in the same process, until the guard is dropped.
//!
//! Not here: caching, retries, the directory of the file system (`real_disk`), the one in memory
//! (`memory`).

use std::fmt;
use std::io;

pub use super::real_disk::{RealDisk, RealFile, RealLock};

/// A directory of files.
pub trait Disk: Send + Sync + 'static {
    /// An open file.
    type File: File;
    /// Holds the lock until it is dropped.
    type Lock: Send + Sync + fmt::Debug + 'static;

    /// The names of all files, in no order.
    ///
    /// # Errors
    ///
    /// Where the directory cannot be read.
    fn list(&self) -> io::Result<Vec<String>>;

    /// A new, empty file that only its owner may read.
    ///
    /// # Errors
    ///
    /// Where the name is taken, or the file cannot be made.
    fn create(&self, name: &str) -> io::Result<Self::File>;

    /// An existing file, to read and write. Opened twice, it is told of lost writes twice.
    ///
    /// # Errors
    ///
    /// Where there is none, or it cannot be opened.
    fn open(&self, name: &str) -> io::Result<Self::File>;

    /// Gives a file another name, in one step; a file that had that name is gone.
    ///
    /// # Errors
    ///
    /// Where it cannot be done; then nothing changed.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file. Whoever has it open can still read it, but for where it [rests](File::rest).
    ///
    /// # Errors
    ///
    /// Where there is none, or it cannot be removed.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Makes all names durable.
    ///
    /// # Errors
    ///
    /// Where the directory cannot be synced.
    fn sync_directory(&self) -> io::Result<()>;

    /// Takes the directory for this caller alone.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::WouldBlock`] where another one has it.
    fn lock(&self) -> io::Result<Self::Lock>;

    /// Random bytes, which name a new directory and each opening of it. The only randomness there
    /// is; a simulator makes its own.
    ///
    /// # Errors
    ///
    /// Where the system has none.
    fn entropy(&self) -> io::Result<[u8; 16]> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).map_err(|err| io::Error::other(err.to_string()))?;
        Ok(bytes)
    }
}

/// An open file.
#[allow(clippy::len_without_is_empty, reason = "nobody asks whether a file is empty")]
pub trait File: Send + Sync + 'static {
    /// Reads at `offset`; returns how many bytes, 0 at the end of the file.
    ///
    /// # Errors
    ///
    /// Where the medium or the system refuses.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize>;

    /// Writes all bytes at `offset`; the file grows as needed.
    ///
    /// # Errors
    ///
    /// Where it fails; any part may have been written.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Makes everything written so far durable, the length included.
    ///
    /// # Errors
    ///
    /// Where it fails; then nothing is known about what was written, and calling it again proves
    /// nothing.
    fn sync(&self) -> io::Result<()>;

    /// The length in bytes.
    ///
    /// # Errors
    ///
    /// Where the system refuses.
    fn len(&self) -> io::Result<u64>;

    /// Cuts the file, or lets it grow by zeros.
    ///
    /// # Errors
    ///
    /// Where the system refuses.
    fn set_len(&self, length: u64) -> io::Result<()>;

    /// From now on it is only read, and seldom: what holds it open may be closed meanwhile. Of one
    /// that is removed then, a read may say that it is not found.
    fn rest(&self) {}
}

/// The number that makes a file's name of `prefix`, as 16 hexadecimal digits; `None` where it is no
/// such name.
pub(super) fn number_behind(prefix: &str, name: &str) -> Option<u64> {
    let digits = name.strip_prefix(prefix)?;
    let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    if digits.len() != 16 || !digits.bytes().all(is_digit) {
        return None;
    }
    u64::from_str_radix(digits, 16).ok()
}

/// Reads from `offset` on until the buffer is full or the file ends; returns how many bytes. A
/// system may give fewer at a time.
pub(super) fn fill<F: File>(file: &F, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(offset + filled as u64, &mut buffer[filled..])? {
            0 => break,
            count => filled += count,
        }
    }
    Ok(filled)
}

/// The file whose lock stands for the directory.
pub const LOCK_FILE_NAME: &str = "lock";
