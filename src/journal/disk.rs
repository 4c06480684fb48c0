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
//! * A file's name survives a power cut only after `sync_directory`.
//! * Writes that were not synced survive in any subset, in pieces of any size.
//! * `lock` excludes every other holder, also in the same process, until the guard is dropped.
//!
//! Not here: caching, retries, the in-memory disk (`memory`).

use std::fmt;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

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

    /// Removes a file. Whoever has it open can still read it.
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
}

/// A directory of the file system. Not for NFS: its locks and syncs promise less.
#[derive(Debug)]
pub struct RealDisk {
    path: PathBuf,
}

impl RealDisk {
    /// The directory at `path`, made with mode 0700 where there is none.
    ///
    /// # Errors
    ///
    /// Where it cannot be made or is no directory.
    pub fn new(path: impl Into<PathBuf>) -> io::Result<Self> {
        let path = path.into();
        if !path.exists() {
            DirBuilder::new().recursive(true).mode(0o700).create(&path)?;
            // A new directory is durable only once its parent is, up to the root; one step is what
            // is needed here, since the parents of an existing directory were somebody else's.
            match path.parent() {
                Some(parent) if parent != Path::new("") => fs::File::open(parent)?.sync_all()?,
                _ => fs::File::open(".")?.sync_all()?,
            }
        }
        if !fs::metadata(&path)?.is_dir() {
            return Err(io::Error::from(io::ErrorKind::NotADirectory));
        }
        Ok(Self { path })
    }

    /// Whether nobody but the owner may read or write in the directory. One that existed before is
    /// taken as it is; the owner of this value decides whether to warn or to refuse.
    ///
    /// # Errors
    ///
    /// Where the directory cannot be looked at.
    pub fn is_private(&self) -> io::Result<bool> {
        Ok(fs::metadata(&self.path)?.permissions().mode() & 0o077 == 0)
    }

    /// Files are private, and never reached through a symbolic link that somebody planted.
    fn options(&self) -> OpenOptions {
        let mut options = OpenOptions::new();
        let no_follow = rustix::fs::OFlags::NOFOLLOW.bits().cast_signed();
        options.read(true).write(true).mode(0o600).custom_flags(no_follow);
        options
    }
}

impl Disk for RealDisk {
    type File = fs::File;
    type Lock = RealLock;

    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            // A name that is no UTF-8 is none of ours.
            names.extend(entry?.file_name().into_string().ok());
        }
        Ok(names)
    }

    fn create(&self, name: &str) -> io::Result<fs::File> {
        self.options().create_new(true).open(self.path.join(name))
    }

    fn open(&self, name: &str) -> io::Result<fs::File> {
        self.options().open(self.path.join(name))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path.join(from), self.path.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path.join(name))
    }

    fn sync_directory(&self) -> io::Result<()> {
        fs::File::open(&self.path)?.sync_all()
    }

    fn lock(&self) -> io::Result<RealLock> {
        let file =
            self.options().create(true).truncate(false).open(self.path.join(LOCK_FILE_NAME))?;
        // The lock belongs to the open file, not to the process, so that a second open within this
        // process is refused as well.
        file.try_lock()?;
        Ok(RealLock { file })
    }
}

/// The lock on a [`RealDisk`]; it ends when this is dropped, or when the process does.
#[derive(Debug)]
pub struct RealLock {
    file: fs::File,
}

impl File for fs::File {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match FileExt::read_at(self, buffer, offset) {
                Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
                result => return result,
            }
        }
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        FileExt::write_all_at(self, bytes, offset)
    }

    /// `fdatasync` on Linux, which includes the length; a full flush of the drive on macOS.
    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        fs::File::set_len(self, length)
    }
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

impl Drop for RealLock {
    fn drop(&mut self) {
        // Closing the file would not do: a process that this one is just starting has a copy of
        // the descriptor until it runs its own program, and with it the lock.
        let _ = self.file.unlock();
    }
}

/// The file whose lock stands for the directory.
pub const LOCK_FILE_NAME: &str = "lock";
