//! Every disk that stands in for the real one answers as the real one does, and refuses the same.
//!
//! What tests and simulations show holds for real directories only as far as that.

#![allow(clippy::unwrap_used, reason = "a test panics on what it does not expect")]

#[path = "support/faulty_disk.rs"]
mod faulty_disk;

use std::io;

use faulty_disk::FaultyDisk;
use indelible::journal::disk::RealDisk;
use indelible::journal::{Disk, File, MemoryDisk};
use indelible::sim::disk::SimDisk;

/// What was answered, in words.
type Answers = Vec<String>;

fn told<T>(what: &str, result: io::Result<T>, value: impl FnOnce(T) -> String) -> String {
    match result {
        Ok(result) => format!("{what}: {}", value(result)),
        Err(err) => format!("{what}: {}", err.kind()),
    }
}

fn done<T>(what: &str, result: io::Result<T>) -> String {
    told(what, result, |_| "done".into())
}

fn read(file: &impl File, offset: u64, count: usize) -> String {
    let mut buffer = vec![0xee; count];
    told("read", file.read_at(offset, &mut buffer), |count| format!("{:?}", &buffer[..count]))
}

fn list(disk: &impl Disk) -> String {
    told("list", disk.list(), |mut names| {
        names.sort();
        names.retain(|name| name != "lock");
        names.join(" ")
    })
}

fn names(disk: &impl Disk) -> Answers {
    let first = disk.create("first").unwrap();
    let answers = vec![
        list(disk),
        done("create again", disk.create("first")),
        done("open none", disk.open("none")),
        done("remove none", disk.remove("none")),
        done("rename none", disk.rename("none", "other")),
        list(disk),
    ];
    // One that another name is given to is gone; who has it open can still read it.
    let second = disk.create("second").unwrap();
    first.write_at(0, &[1]).unwrap();
    second.write_at(0, &[2]).unwrap();
    disk.rename("second", "first").unwrap();
    let found = disk.open("first").unwrap();
    let renamed = [list(disk), read(&first, 0, 9), read(&second, 0, 9), read(&found, 0, 9)];
    disk.remove("first").unwrap();
    let removed = [list(disk), read(&found, 0, 9), done("open removed", disk.open("first"))];
    let again = disk.create("first").unwrap();
    let anew = [read(&again, 0, 9), read(&found, 0, 9), done("sync", disk.sync_directory())];
    answers.into_iter().chain(renamed).chain(removed).chain(anew).collect()
}

fn content(disk: &impl Disk) -> Answers {
    let file = disk.create("file").unwrap();
    let other = disk.open("file").unwrap();
    let length = |file: &_| told("length", File::len(file), |length| length.to_string());
    let mut answers = vec![length(&file), read(&file, 0, 4), read(&file, 7, 4)];
    // A write behind the end leaves zeros before it, and all who have it open see it.
    file.write_at(3, &[1, 2, 3]).unwrap();
    answers.extend([length(&other), read(&other, 0, 9), read(&other, 4, 1), read(&other, 6, 1)]);
    other.write_at(0, &[9; 2]).unwrap();
    other.write_at(5, &[8; 2]).unwrap();
    answers.extend([read(&file, 0, 9), done("sync", file.sync())]);
    // What was cut off comes back as zeros.
    file.set_len(4).unwrap();
    answers.extend([length(&other), read(&other, 0, 9)]);
    other.set_len(8).unwrap();
    answers.extend([length(&file), read(&file, 0, 9), read(&file, u64::from(u32::MAX), 1)]);
    answers
}

fn locks(disk: &impl Disk) -> Answers {
    let lock = disk.lock().unwrap();
    let second = done("lock", disk.lock());
    drop(lock);
    vec![second, done("lock", disk.lock())]
}

/// What `ask` is told by each disk is what the real one tells.
#[track_caller]
fn agree(ask: fn(&RealDisk) -> Answers, others: [(&str, Answers); 3]) -> Answers {
    let directory = tempfile::tempdir().unwrap();
    let real = ask(&RealDisk::new(directory.path()).unwrap());
    for (name, answers) in others {
        assert_eq!(answers, real, "{name}");
    }
    real
}

#[test]
fn names_behave_alike() {
    let simulated = SimDisk::new().mount();
    let others = [
        ("memory", names(&MemoryDisk::new())),
        ("faulty", names(&FaultyDisk::default())),
        ("simulated", names(&simulated)),
    ];
    let answers = agree(names, others);
    assert_eq!(answers[1], "create again: entity already exists");
    assert!(answers[2..5].iter().all(|answer| answer.ends_with("entity not found")));
}

#[test]
fn content_behaves_alike() {
    let simulated = SimDisk::new().mount();
    let others = [
        ("memory", content(&MemoryDisk::new())),
        ("faulty", content(&FaultyDisk::default())),
        ("simulated", content(&simulated)),
    ];
    let answers = agree(content, others);
    assert!(answers.contains(&"read: [9, 9, 0, 1, 2, 8, 8]".to_owned()), "{answers:?}");
    assert!(answers.contains(&"read: [9, 9, 0, 1, 0, 0, 0, 0]".to_owned()), "{answers:?}");
}

#[test]
fn locks_behave_alike() {
    let simulated = SimDisk::new().mount();
    let others = [
        ("memory", locks(&MemoryDisk::new())),
        ("faulty", locks(&FaultyDisk::default())),
        ("simulated", locks(&simulated)),
    ];
    let answers = agree(locks, others);
    assert_eq!(answers, ["lock: operation would block", "lock: done"]);
}

#[test]
fn what_is_made_is_for_its_owner_only() {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("new").join("ledger");
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    let replica = indelible::Replica::open(&path).unwrap();
    replica.put(indelible::RawTable::<u64>::new("notes"), 1, b"text").wait().unwrap();
    replica.checkpoint().wait().unwrap();
    replica.close().unwrap();
    assert_eq!([mode(path.parent().unwrap()), mode(&path)], [0o700, 0o700]);
    let files = fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path());
    let files = files.collect::<Vec<_>>();
    assert!(files.len() >= 5, "lock, identity, two segments and a checkpoint: {files:?}");
    files.iter().for_each(|file| assert_eq!(mode(file), 0o600, "{}", file.display()));

    // One that is there is taken as it is.
    let is_private = || RealDisk::new(&path).unwrap().is_private().unwrap();
    assert!(is_private());
    for others in [0o755, 0o710, 0o702] {
        fs::set_permissions(&path, Permissions::from_mode(others)).unwrap();
        assert!(!is_private(), "{others:o}");
        assert_eq!(mode(&path), others);
    }
}

/// What this process has open of a directory.
#[cfg(target_os = "linux")]
fn open_files(directory: &std::path::Path) -> usize {
    let directory = directory.canonicalize().unwrap();
    let entries = std::fs::read_dir("/proc/self/fd").unwrap();
    let targets = entries.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
    targets.filter(|target| target.starts_with(&directory)).count()
}

#[cfg(target_os = "linux")]
#[test]
fn a_long_journal_does_not_take_all_files_that_may_be_open() {
    use indelible::{Config, Replica, Table, TxId};

    const NOTES: Table<u64, Vec<u8>> = Table::new("notes");
    let directory = tempfile::tempdir().unwrap();
    let config = || Config { segment_bytes: 64 * 1024, ..Config::default() };
    let replica = Replica::builder(directory.path()).config(config()).open().unwrap();
    replica.wait_ready(std::time::Duration::from_secs(60)).unwrap();
    for key in 0..200 {
        replica.put(NOTES, key, &vec![key as u8; 48 * 1024]).wait().unwrap();
    }
    let segments = || {
        let entries = std::fs::read_dir(directory.path()).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.starts_with("segment-")).count()
    };
    assert!(segments() > 190, "{} segments are too few to tell", segments());
    let read = |replica: &Replica| {
        let all = replica.transactions(TxId::ZERO);
        assert_eq!(all.filter(|it| it.is_ok()).count(), 200);
    };
    // 64 that rest, those of the segment in use and of the next one, the lock, the journal's own.
    let check = |when: &str| {
        let open = open_files(directory.path());
        assert!(open < 90, "{open} files are open {when}");
    };
    check("behind the writes");
    read(&replica);
    check("behind reading them");
    replica.close().unwrap();
    drop(replica);
    // A thread that has ended may take a moment to let go of the last of it.
    let until = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while open_files(directory.path()) > 0 {
        assert!(std::time::Instant::now() < until, "it is closed, and files are open");
        std::thread::yield_now();
    }
    let replica = Replica::builder(directory.path()).config(config()).open().unwrap();
    replica.wait_ready(std::time::Duration::from_secs(60)).unwrap();
    check("behind the opening");
    read(&replica);
    check("behind reading them again");
    replica.close().unwrap();
}
