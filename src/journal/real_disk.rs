//! A directory of the file system, and its files.
//!
//! A journal may have thousands of segments, of which each is read now and then, and a process may
//! have a thousand files open, sockets included. So a file that rests is open only while it is one
//! of those that were read last ([`OPEN_MAX`]), and is opened again when it is read. Where no other
//! file of the directory may be opened, those that rest make place for it, one after the other.
//!
//! Not here: what the journal assumes of it (`disk`).

use std::collections::VecDeque;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};

use super::disk::{Disk, File, LOCK_FILE_NAME};
use super::error::is_exhausted;
use super::identity::IDENTITY_NAME;

/// A directory of the file system. Not for NFS: its locks and syncs promise less.
#[derive(Debug)]
pub struct RealDisk {
    path: PathBuf,
    /// Open for good: what syncs its names needs no further descriptor.
    directory: fs::File,
    resting: Arc<Resting>,
}

impl RealDisk {
    /// The directory at `path`, made with mode 0700 where there is none. A path that is not
    /// absolute is that from the present working directory, whatever that will be later.
    ///
    /// # Errors
    ///
    /// Where it cannot be made or is no directory.
    pub fn new(path: impl Into<PathBuf>) -> io::Result<Self> {
        // Each file is opened by its whole path, some of them much later.
        let path = std::path::absolute(path.into())?;
        if !path.exists() {
            DirBuilder::new().recursive(true).mode(0o700).create(&path)?;
        }
        if !fs::metadata(&path)?.is_dir() {
            return Err(io::Error::from(io::ErrorKind::NotADirectory));
        }
        let disk = Self { directory: fs::File::open(&path)?, path, resting: Arc::default() };
        if disk.is_blank()? {
            disk.sync_parents()?;
        }
        Ok(disk)
    }

    /// Whether no replica was ever kept here.
    fn is_blank(&self) -> io::Result<bool> {
        Ok(!self.list()?.iter().any(|name| name == IDENTITY_NAME))
    }

    /// Makes the name of the directory durable, and those of all above it: who made them may have
    /// been killed before it could sync any. Before the first file is there, so that a directory
    /// that has one has a name that lasts.
    fn sync_parents(&self) -> io::Result<()> {
        for parent in parents_on_device(&self.path)? {
            match fs::File::open(&parent).and_then(|directory| directory.sync_all()) {
                // What is in it was made by somebody else, long ago.
                Err(err) if err.kind() == io::ErrorKind::PermissionDenied && !is_ours(&parent) => {}
                synced => synced?,
            }
        }
        Ok(())
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

    fn file(&self, name: &str, options: &OpenOptions) -> io::Result<RealFile> {
        let path = self.path.join(name);
        let file = self.resting.make_place(|| options.open(&path))?;
        let held = RwLock::new(Some(Arc::new(file)));
        Ok(RealFile { path, held, resting: Arc::clone(&self.resting) })
    }
}

/// All directories above this one, the nearest first, as far up as one file system goes.
fn parents_on_device(path: &Path) -> io::Result<Vec<PathBuf>> {
    let path = fs::canonicalize(path)?;
    let device = fs::metadata(&path)?.dev();
    let mut parents = Vec::new();
    for parent in path.ancestors().skip(1) {
        if fs::metadata(parent)?.dev() != device {
            break;
        }
        parents.push(parent.to_owned());
    }
    Ok(parents)
}

/// Whether this process may make something in the directory.
fn is_ours(directory: &Path) -> bool {
    rustix::fs::access(directory, rustix::fs::Access::WRITE_OK).is_ok()
}

/// Files are private, and never reached through a symbolic link that somebody planted.
fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    let no_follow = rustix::fs::OFlags::NOFOLLOW.bits().cast_signed();
    options.read(true).write(true).mode(0o600).custom_flags(no_follow);
    options
}

impl Disk for RealDisk {
    type File = RealFile;
    type Lock = RealLock;

    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in self.resting.make_place(|| fs::read_dir(&self.path))? {
            // A name that is no UTF-8 is none of ours.
            names.extend(entry?.file_name().into_string().ok());
        }
        Ok(names)
    }

    fn create(&self, name: &str) -> io::Result<RealFile> {
        self.file(name, options().create_new(true))
    }

    fn open(&self, name: &str) -> io::Result<RealFile> {
        self.file(name, &options())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let (from, to) = (self.path.join(from), self.path.join(to));
        fs::rename(&from, &to)?;
        self.resting.forget(&from);
        self.resting.forget(&to);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let path = self.path.join(name);
        fs::remove_file(&path)?;
        self.resting.forget(&path);
        Ok(())
    }

    fn sync_directory(&self) -> io::Result<()> {
        self.directory.sync_all()
    }

    fn lock(&self) -> io::Result<RealLock> {
        let file = options().create(true).truncate(false).open(self.path.join(LOCK_FILE_NAME))?;
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

/// A file of a [`RealDisk`].
#[derive(Debug)]
pub struct RealFile {
    path: PathBuf,
    /// `None` while it rests.
    held: RwLock<Option<Arc<fs::File>>>,
    resting: Arc<Resting>,
}

impl RealFile {
    fn get(&self) -> io::Result<Arc<fs::File>> {
        match &*self.held.read() {
            Some(file) => Ok(Arc::clone(file)),
            None => self.resting.get(&self.path),
        }
    }
}

impl File for RealFile {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let file = self.get()?;
        loop {
            match file.read_at(buffer, offset) {
                Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
                result => return result,
            }
        }
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.get()?.write_all_at(bytes, offset)
    }

    /// `fdatasync` on Linux, which includes the length; a full flush of the drive on macOS.
    fn sync(&self) -> io::Result<()> {
        self.get()?.sync_data()
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.get()?.metadata()?.len())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.get()?.set_len(length)
    }

    fn rest(&self) {
        if let Some(file) = self.held.write().take() {
            self.resting.keep(&self.path, file);
        }
    }
}

/// Those of the files that rest which are open, the one that was read last in the end.
#[derive(Debug, Default)]
struct Resting(Mutex<VecDeque<(PathBuf, Arc<fs::File>)>>);

impl Resting {
    fn get(&self, path: &Path) -> io::Result<Arc<fs::File>> {
        if let Some(file) = self.take(path) {
            self.keep(path, Arc::clone(&file));
            return Ok(file);
        }
        let file = Arc::new(self.make_place(|| options().open(path))?);
        self.keep(path, Arc::clone(&file));
        Ok(file)
    }

    /// Opens something. Where no other file may be opened, one of those that rest makes place, and
    /// it is tried again, until none is left.
    fn make_place<T>(&self, open: impl Fn() -> io::Result<T>) -> io::Result<T> {
        loop {
            match open() {
                Err(err) if is_exhausted(&err) && self.close_one() => {}
                opened => return opened,
            }
        }
    }

    fn close_one(&self) -> bool {
        self.0.lock().pop_front().is_some()
    }

    fn keep(&self, path: &Path, file: Arc<fs::File>) {
        let mut open = self.0.lock();
        open.push_back((path.to_owned(), file));
        if open.len() > OPEN_MAX {
            open.pop_front();
        }
    }

    fn take(&self, path: &Path) -> Option<Arc<fs::File>> {
        let mut open = self.0.lock();
        let at = open.iter().position(|(other, _)| other == path)?;
        open.remove(at).map(|(_, file)| file)
    }

    /// The name is gone, or another file's.
    fn forget(&self, path: &Path) {
        while self.take(path).is_some() {}
    }
}

impl Drop for RealLock {
    fn drop(&mut self) {
        // Closing the file would not do: a process that this one is just starting has a copy of
        // the descriptor until it runs its own program, and with it the lock.
        let _ = self.file.unlock();
    }
}

/// How many files of a directory that rest are open at a time.
const OPEN_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_above_a_blank_directory_are_synced() {
        let temporary = tempfile::tempdir().unwrap();
        let path = temporary.path().join("a/b/c");
        let disk = RealDisk::new(&path).unwrap();
        let parents = parents_on_device(&path).unwrap();
        let made = [path.join(".."), path.join("../.."), path.join("../../..")];
        let made = made.map(|parent| fs::canonicalize(parent).unwrap());
        assert!(parents.starts_with(&made), "{parents:?}");
        // As long as there is no identity: who was killed meanwhile synced nothing, and a file of
        // somebody else says nothing about the names above.
        assert!(disk.is_blank().unwrap());
        let _lock = disk.lock().unwrap();
        disk.create("settings.toml").unwrap();
        assert!(disk.is_blank().unwrap());
        disk.create("identity").unwrap();
        assert!(!disk.is_blank().unwrap());
    }

    #[test]
    fn what_rests_makes_place_for_what_is_opened() {
        let temporary = tempfile::tempdir().unwrap();
        let disk = RealDisk::new(temporary.path()).unwrap();
        let rests = |name: &str| disk.create(name).unwrap().rest();
        let open_while_more_rest_than = |count: usize| {
            disk.resting.make_place(|| match disk.resting.0.lock().len() <= count {
                true => Ok(()),
                false => Err(io::Error::from(rustix::io::Errno::MFILE)),
            })
        };
        ["a", "b", "c"].into_iter().for_each(rests);
        open_while_more_rest_than(1).unwrap();
        assert_eq!(disk.resting.0.lock()[0].0, disk.path.join("c"), "it was read last");
        // Where nothing rests any more, it is told.
        let err = disk
            .resting
            .make_place(|| -> io::Result<()> { Err(io::Error::from(rustix::io::Errno::MFILE)) });
        assert!(is_exhausted(&err.unwrap_err()) && disk.resting.0.lock().is_empty());
        assert_eq!(disk.open("b").unwrap().len().unwrap(), 0);
    }

    #[test]
    fn a_relative_directory_has_parents() {
        let parents = parents_on_device(Path::new("src")).unwrap();
        assert_eq!(parents[0], std::env::current_dir().unwrap());
    }

    #[test]
    fn another_working_directory_is_no_other_disk() {
        let disk = RealDisk::new("src").unwrap();
        assert_eq!(disk.path, std::env::current_dir().unwrap().join("src"));
    }
}
