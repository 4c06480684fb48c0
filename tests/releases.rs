//! What earlier releases wrote, later ones open: the directories and backups under `tests/releases`
//! are committed as each release made them, and never change again.
//!
//! With `UPDATE_GOLDEN` set, those of this release are written where they are missing. Formats may
//! change until it is published: then remove them first.

#![allow(clippy::unwrap_used, reason = "a test panics on what it does not expect")]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

use indelible::{
    Backup, Config, Network, RawTable, Replica, Restore, Status, Table, Transaction, TxId,
};

const PATIENCE: Duration = Duration::from_secs(30);
const RAW: RawTable<u64> = RawTable::new("raw");
const TYPED: Table<(String, u32), BTreeMap<String, Vec<u16>>> = Table::new("typed");

/// The release whose files are written.
const THIS: &str = concat!(env!("CARGO_PKG_VERSION_MAJOR"), ".", env!("CARGO_PKG_VERSION_MINOR"));

fn releases() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/releases")
}

fn config() -> Config {
    Config { segment_bytes: 64 * 1024, request_timeout: PATIENCE, ..Config::default() }
}

fn value(at: u32) -> BTreeMap<String, Vec<u16>> {
    (0..at % 4).map(|key| (format!("key {key}"), vec![at as u16; key as usize])).collect()
}

/// What every ledger here holds.
fn fill(replica: &Replica) {
    let commit = |edit: &mut Transaction| edit.commit().wait().unwrap().txid.unwrap();
    for at in 0..30_u32 {
        let mut both = replica.transaction();
        both.put(RAW, u64::from(at), &[at as u8; 40]).put(TYPED, ("a", at), &value(at));
        commit(&mut both);
    }
    replica.delete(RAW, 7).wait().unwrap();
    replica.checkpoint().wait().unwrap();
    let last = replica.get(RAW, 8).wait().unwrap().unwrap();
    let mut edit = replica.transaction();
    edit.version(RAW, 8, last.version).absent(RAW, 7).put(RAW, 7, b"behind the checkpoint");
    commit(&mut edit);
    let mut refused = replica.transaction();
    assert!(refused.present(RAW, 1000).put(RAW, 9, b"").commit().wait().is_err());
}

/// Whether all of it is there.
fn check(replica: &Replica) {
    let snapshot = replica.stale_snapshot();
    for at in 0..30_u32 {
        let found = snapshot.get(RAW, u64::from(at)).unwrap().unwrap();
        match at {
            7 => assert_eq!(&found.value[..], b"behind the checkpoint"),
            _ => assert_eq!(&found.value[..], [at as u8; 40]),
        }
        let found = snapshot.get(TYPED, ("a", at)).unwrap().unwrap();
        assert_eq!(found.value, value(at));
        assert_eq!(found.version.counter(), u64::from(at) + 1);
    }
    assert_eq!(snapshot.range(RAW, ..).count(), 30);
}

/// What must be the same as when it was written, in a line.
fn line(status: &Status) -> String {
    format!("{} {:032x} {}\n", status.txid, status.digest, status.slot_applied)
}

fn write_release(to: &Path) {
    let replica = Replica::builder(to.join("alone")).config(config()).open().unwrap();
    fill(&replica);
    let file = File::create(to.join("backup")).unwrap();
    replica.backup(&file).unwrap();
    let status = replica.status();
    replica.close().unwrap();
    fs::write(to.join("alone.expected"), line(&status)).unwrap();

    // One of three, which the two others follow.
    let network = Network::new();
    let voters = [(1, "a:1"), (2, "b:1"), (3, "c:1")];
    let scratch = tempfile::tempdir().unwrap();
    let open = |id: u64| {
        let path =
            if id == 1 { to.join("one_of_three") } else { scratch.path().join(id.to_string()) };
        let builder = Replica::builder(path).id(id).peers(voters).network(&network);
        builder.config(Config { priority: u32::from(id == 1), ..config() }).open().unwrap()
    };
    let replicas = [1, 2, 3].map(open);
    replicas.iter().for_each(|replica| replica.wait_ready(PATIENCE).unwrap());
    fill(&replicas[0]);
    let status = replicas[0].status();
    replicas.iter().for_each(|replica| replica.close().unwrap());
    fs::write(to.join("one_of_three.expected"), line(&status)).unwrap();
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for file in fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), to.join(file.file_name())).unwrap();
    }
}

#[test]
fn what_any_release_wrote_is_opened() {
    let this = releases().join(THIS);
    if std::env::var_os("UPDATE_GOLDEN").is_some() && !this.exists() {
        fs::create_dir_all(&this).unwrap();
        write_release(&this);
    }
    assert!(this.exists(), "release {THIS} has written nothing: run this with UPDATE_GOLDEN=1");
    for release in fs::read_dir(releases()).unwrap() {
        let release = release.unwrap().path();
        println!("{}", release.display());
        let scratch = tempfile::tempdir().unwrap();
        let expected = |name: &str| fs::read_to_string(release.join(name)).unwrap();

        let path = scratch.path().join("alone");
        copy(&release.join("alone"), &path);
        for again in 0..2 {
            let replica = Replica::builder(&path).config(config()).open().unwrap();
            replica.wait_ready(PATIENCE).unwrap();
            check(&replica);
            if again == 0 {
                assert_eq!(line(&replica.status()), expected("alone.expected"));
                assert_eq!(replica.transactions(TxId::ZERO).count(), 32);
            }
            replica.put(RAW, 1 << 40, b"by this release").wait().unwrap();
            replica.delete(RAW, 1 << 40).wait().unwrap();
            replica.checkpoint().wait().unwrap();
            replica.close().unwrap();
        }

        let path = scratch.path().join("one_of_three");
        copy(&release.join("one_of_three"), &path);
        let builder = Replica::builder(&path).id(1).network(&Network::new()).config(config());
        let replica = builder.open().unwrap();
        check(&replica);
        assert_eq!(line(&replica.status()), expected("one_of_three.expected"));
        replica.close().unwrap();

        let backup = Backup::verify(File::open(release.join("backup")).unwrap()).unwrap();
        let path = scratch.path().join("restored");
        let file = File::open(release.join("backup")).unwrap();
        let restored = Restore::into(&path).from_backup(file).unwrap();
        assert_eq!(restored.from, backup);
        let replica = Replica::builder(&path).config(config()).open().unwrap();
        replica.wait_ready(PATIENCE).unwrap();
        check(&replica);
        replica.close().unwrap();
    }
}
