//! Directories that must not be opened. Each is refused by its own kind, names the file, and is
//! left as it was, to the byte.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use indelible::{Error, ErrorKind, Replica};
use tempfile::TempDir;

use crate::child::Process;
use crate::cluster::{Cluster, NOTES, config, until};

/// Every file with its content and when it was written.
type Content = BTreeMap<PathBuf, (Vec<u8>, SystemTime)>;

fn content(path: &Path) -> Content {
    let files = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path());
    let read = |path: PathBuf| {
        let modified = fs::metadata(&path).unwrap().modified().unwrap();
        let bytes = fs::read(&path).unwrap();
        (path, (bytes, modified))
    };
    files.map(read).collect()
}

/// A directory in which a lone replica lived three times.
fn lived() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    for life in 0..3_u64 {
        let replica = Replica::builder(directory.path()).config(config()).open().unwrap();
        for key in 0..20 {
            replica.put(NOTES, life * 100 + key, &[5; 300]).wait().unwrap();
        }
        replica.close().unwrap();
    }
    directory
}

/// The segments in use: not those that are only prepared.
fn segments(path: &Path) -> Vec<PathBuf> {
    let files = content(path).into_iter();
    let used = files.filter(|(_, (bytes, _))| bytes.starts_with(b"indelSEG"));
    used.map(|(path, _)| path).collect()
}

fn name(path: &Path) -> String {
    path.file_name().unwrap().to_string_lossy().into_owned()
}

/// Opens, which must be refused, twice, and leave everything as it was.
fn refused(path: &Path, kind: ErrorKind, words: &[&str]) {
    refused_as(Replica::builder(path).config(config()), path, kind, words);
}

fn refused_as(builder: indelible::Builder, path: &Path, kind: ErrorKind, words: &[&str]) {
    let before = content(path);
    for _ in 0..2 {
        let err: Error = builder.clone().open().unwrap_err();
        assert_eq!(err.kind(), kind, "{err}");
        let told = err.to_string();
        assert!(words.iter().all(|word| told.contains(word)), "{told}: lacks one of {words:?}");
    }
    let after = content(path);
    assert!(before.keys().eq(after.keys()), "files came or went: {:?}", after.keys());
    for (file, was) in &before {
        assert!(*was == after[file], "{} was written", name(file));
    }
}

fn change(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).unwrap();
    change(&mut bytes);
    fs::write(path, bytes).unwrap();
}

#[test]
fn what_is_no_directory() {
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("data");
    fs::write(&path, "a letter").unwrap();
    let err = Replica::open(&path).unwrap_err();
    assert_eq!(err.kind(), ErrorKind::Io, "{err}");
    assert!(err.to_string().contains(path.to_str().unwrap()), "{err}");
    assert_eq!(cause(&err).kind(), io::ErrorKind::NotADirectory);
    assert_eq!(fs::read(&path).unwrap(), b"a letter");
}

/// What the system said is to be had: a program decides by it, not by the words.
#[test]
fn a_directory_that_cannot_be_locked() {
    let directory = tempfile::tempdir().unwrap();
    let lock = directory.path().join("lock");
    fs::create_dir(&lock).unwrap();
    let err = Replica::open(directory.path()).unwrap_err();
    assert_eq!(err.kind(), ErrorKind::Io, "{err}");
    assert!(err.to_string().contains("cannot lock"), "{err}");
    assert_eq!(cause(&err).kind(), io::ErrorKind::IsADirectory);
    fs::remove_dir(&lock).unwrap();
    Replica::open(directory.path()).unwrap().close().unwrap();
}

/// The error of the system at the end of a chain.
fn cause(err: &Error) -> &io::Error {
    let mut last: &(dyn std::error::Error + 'static) = err;
    while let Some(next) = last.source() {
        last = next;
    }
    last.downcast_ref().expect("the system refused")
}

/// The usual thing, and the one where the directory that it is made in has no name.
#[test]
fn a_relative_path_is_below_the_working_directory() {
    let directory = tempfile::tempdir().unwrap();
    let mut process = Process::start_in(directory.path(), &["data"]);
    assert_eq!(process.line().unwrap(), "open");
    assert!(directory.path().join("data").join("identity").exists());
    process.kill();
    Replica::open(directory.path().join("data")).unwrap().close().unwrap();
}

#[test]
fn another_replica() {
    let directory = lived();
    let builder = Replica::builder(directory.path()).id(2).config(config());
    refused_as(builder, directory.path(), ErrorKind::IdentityMismatch, &["replica 1", "2"]);
}

#[test]
fn segments_of_another_cluster() {
    let (here, there) = (lived(), lived());
    let (own, foreign) = (segments(here.path()), segments(there.path()));
    assert_eq!(own.len(), foreign.len());
    for (own, foreign) in own.iter().zip(&foreign) {
        let kept = fs::read(own).unwrap();
        fs::copy(foreign, own).unwrap();
        refused(here.path(), ErrorKind::WrongCluster, &[&name(own)]);
        fs::write(own, kept).unwrap();
    }
    Replica::open(here.path()).unwrap().close().unwrap();
}

#[test]
fn open_already_in_this_process() {
    let directory = lived();
    let replica = Replica::open(directory.path()).unwrap();
    let err = Replica::open(directory.path()).unwrap_err();
    assert_eq!(err.kind(), ErrorKind::Locked);
    replica.put(NOTES, 1, b"unharmed").wait().unwrap();
    replica.close().unwrap();
}

#[test]
fn open_already_in_another_process() {
    let directory = lived();
    let mut process = Process::start(&[directory.path().to_str().unwrap()]);
    assert_eq!(process.line().unwrap(), "open");
    // It prepares a segment and seals in its own time: let it hold still, and keep the lock.
    let stopped = Command::new("kill").args(["-STOP", &process.child.id().to_string()]).status();
    assert!(stopped.unwrap().success());
    until("nothing is written", || {
        let before = content(directory.path());
        let err = Replica::open(directory.path()).unwrap_err();
        assert_eq!(err.kind(), ErrorKind::Locked);
        before == content(directory.path())
    });
    refused(directory.path(), ErrorKind::Locked, &["open already"]);
    process.kill();
    Replica::open(directory.path()).unwrap().close().unwrap();
}

#[test]
fn an_unknown_format() {
    let directory = lived();
    let mut files = segments(directory.path());
    files.push(directory.path().join("identity"));
    for file in files {
        let kept = fs::read(&file).unwrap();
        change(&file, |bytes| bytes[8..10].copy_from_slice(&77_u16.to_le_bytes()));
        refused(directory.path(), ErrorKind::UnsupportedFormat, &[&name(&file), "77"]);
        fs::write(&file, kept).unwrap();
    }
    Replica::open(directory.path()).unwrap().close().unwrap();
}

#[test]
fn a_missing_segment() {
    let directory = lived();
    for segment in segments(directory.path()) {
        let kept = fs::read(&segment).unwrap();
        fs::remove_file(&segment).unwrap();
        refused(directory.path(), ErrorKind::MissingSegment, &[&name(&segment)]);
        fs::write(&segment, kept).unwrap();
    }
    let all = segments(directory.path());
    let last = name(all.last().unwrap());
    all.iter().for_each(|segment| fs::remove_file(segment).unwrap());
    refused(directory.path(), ErrorKind::MissingSegment, &[&last]);
}

#[test]
fn a_file_with_a_number_that_no_segment_has() {
    let directory = lived();
    for number in [(1_u64 << 31) - 1, 1 << 31, 1 << 40] {
        let stray = directory.path().join(format!("segment-{number:016x}"));
        fs::write(&stray, []).unwrap();
        refused(directory.path(), ErrorKind::Corrupt, &[&name(&stray), "a number"]);
        fs::remove_file(&stray).unwrap();
    }
    // An opening that did not end can have left this one: it is removed.
    let left = directory.path().join("segment-0000000000000400");
    fs::write(&left, []).unwrap();
    drop(Replica::builder(directory.path()).config(config()).open().unwrap());
    assert!(!left.exists());
}

#[test]
fn a_missing_or_damaged_identity() {
    let directory = lived();
    let identity = directory.path().join("identity");
    let kept = fs::read(&identity).unwrap();
    for place in [0, 10, 16, 40, 50, 60, 70, kept.len() - 1] {
        change(&identity, |bytes| bytes[place] ^= 0x10);
        refused(directory.path(), ErrorKind::Corrupt, &["identity"]);
        fs::write(&identity, &kept).unwrap();
    }
    fs::write(&identity, b"").unwrap();
    refused(directory.path(), ErrorKind::Corrupt, &["identity"]);
    fs::remove_file(&identity).unwrap();
    refused(directory.path(), ErrorKind::Corrupt, &["identity", "missing"]);
    fs::write(&identity, &kept).unwrap();
    Replica::open(directory.path()).unwrap().close().unwrap();
}

#[test]
fn a_flipped_byte_in_the_acknowledged_middle() {
    let directory = lived();
    let segments = segments(directory.path());
    let (segment, all) = (&segments[0], segments.len());
    assert!(all >= 3);
    let kept = fs::read(segment).unwrap();
    // Bytes of frames, not the padding between: nothing but zeros is ever there. And not those of a
    // promise, of which there are two copies, so that one may be lost.
    let is_promise = |place: usize| {
        let frame =
            (0..=place - place % 8).rev().step_by(8).find(|at| kept[*at..].starts_with(b"iLfr"));
        frame.is_some_and(|at| kept[at + 6] == 2)
    };
    let used = (4096..kept.len()).filter(|place| kept[*place] != 0 && !is_promise(*place));
    let used = used.collect::<Vec<_>>();
    for place in used.iter().copied().step_by(used.len() / 25) {
        change(segment, |bytes| bytes[place] ^= 0x04);
        let builder = Replica::builder(directory.path()).config(config());
        match builder.open() {
            Ok(replica) => panic!("{place} is not noticed: {:?}", replica.close()),
            Err(_) => refused(directory.path(), ErrorKind::Corrupt, &[&name(segment), "offset"]),
        }
        fs::write(segment, &kept).unwrap();
    }
    change(segment, |bytes| bytes.truncate(8192));
    refused(directory.path(), ErrorKind::Corrupt, &[&name(segment), "offset"]);
    fs::write(segment, &kept).unwrap();
    Replica::open(directory.path()).unwrap().close().unwrap();
}

#[test]
fn other_peers_than_the_ledger_names() {
    let mut cluster = Cluster::tcp();
    cluster.replica(1).put(NOTES, 1, b"x").wait().unwrap();
    cluster.settle();
    cluster.close(2);
    let path = cluster.path(2);
    let own = cluster.addresses.clone();
    let others = crate::cluster::addresses(3);
    let mut moved = own.clone();
    moved[0].1.clone_from(&others[0].1);
    let mut more = own.clone();
    more.push((4, others[1].1.clone()));
    let fewer = own[1..].to_vec();
    let alone = vec![own[1].clone()];
    for wrong in [moved, more, fewer, alone] {
        let builder = Replica::builder(&path).id(2).peers(wrong.clone()).config(config());
        let words = own.iter().chain(&wrong).map(|(id, address)| format!("{id}={address}"));
        let words = words.collect::<Vec<_>>();
        let words = words.iter().map(String::as_str).collect::<Vec<_>>();
        refused_as(builder, &path, ErrorKind::MembershipMismatch, &words);
    }
    let replica = Replica::builder(&path).id(2).config(config()).open().unwrap();
    replica.wait_ready(crate::cluster::PATIENCE).unwrap();
    replica.close().unwrap();
}

#[test]
fn one_of_several_is_no_ledger_of_its_own_before_they_have_formed() {
    // The others are down. By itself it would take writes that none of them ever hears of.
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("2");
    let peers = crate::cluster::addresses(3);
    let own = peers[1].clone();
    let several = || Replica::builder(&path).id(2).peers(peers.clone());
    several().open().unwrap().close().unwrap();
    let before = content(&path);
    let words = ["replica 2", "one of several", "wanted all of them"];
    let refused = |builder| refused_as(builder, &path, ErrorKind::MembershipMismatch, &words);
    refused(Replica::builder(&path).id(2));
    refused(Replica::builder(&path).id(2).peers([own]));
    assert!(content(&path) == before, "it was changed");
    several().open().unwrap().close().unwrap();
}

#[test]
fn a_damaged_member_of_a_cluster_is_still_refused_where_files_are_gone() {
    let mut cluster = Cluster::tcp();
    for key in 0..20 {
        cluster.replica(1).put(NOTES, key, &[5; 300]).wait().unwrap();
    }
    cluster.settle();
    cluster.close(2);
    let path = cluster.path(2);
    let builder = || Replica::builder(&path).id(2).config(config());
    for segment in segments(&path) {
        let kept = fs::read(&segment).unwrap();
        fs::remove_file(&segment).unwrap();
        refused_as(builder(), &path, ErrorKind::MissingSegment, &[&name(&segment)]);
        fs::write(&segment, kept).unwrap();
    }
    let identity = path.join("identity");
    let kept = fs::read(&identity).unwrap();
    change(&identity, |bytes| bytes[50] ^= 0x10);
    refused_as(builder(), &path, ErrorKind::Corrupt, &["identity"]);
    fs::write(&identity, kept).unwrap();
    let replica = builder().open().unwrap();
    replica.wait_ready(crate::cluster::PATIENCE).unwrap();
    replica.close().unwrap();
}
