//! What earlier releases wrote, later ones open: the directories and backups under `tests/releases`
//! are committed as each release made them, and never change again.
//!
//! With `UPDATE_GOLDEN` set, those of this release are written where they are missing. Formats may
//! change until it is published: then remove them first.

#![allow(clippy::unwrap_used, reason = "a test panics on what it does not expect")]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use indelible::{
    Backup, Config, ErrorKind, Member, Network, Pending, RawTable, Replica, ReplicaId, RequestId,
    Restore, Status, Table, Transaction, TxId,
};

const PATIENCE: Duration = Duration::from_secs(30);
const RAW: RawTable<u64> = RawTable::new("raw");
/// What only clusters have that grew.
const MORE: RawTable<u64> = RawTable::new("more");
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

/// Asks again until the leader does it.
fn insist<T>(ask: impl Fn() -> Pending<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match ask().wait() {
            Ok(done) => return done,
            Err(err) if deadline < Instant::now() => panic!("{err}"),
            Err(_) => std::thread::sleep(Duration::from_millis(10)),
        }
    }
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

/// What the founder of a cluster wrote that was restored, was trimmed, and grew; and went on alone
/// afterwards.
fn write_grown(to: &Path) {
    let (scratch, network) = (tempfile::tempdir().unwrap(), Network::new());
    let path = |id: u64| scratch.path().join(id.to_string());
    let builder = |id: u64| {
        let config =
            Config { history_bytes_min: 0, read_lease: Some(Duration::from_secs(2)), ..config() };
        Replica::builder(path(id)).id(id).network(&network).config(config)
    };
    let backup = File::open(to.join("backup")).unwrap();
    let cluster = Restore::into(path(1)).from_backup(backup).unwrap().cluster;
    let first = builder(1).peers([(1, "a:1")]).open().unwrap();
    first.wait_ready(PATIENCE).unwrap();
    let mut all = vec![first.clone()];
    for (id, address) in [(2, "b:1"), (3, "c:1"), (4, "d:1"), (5, "e:1")] {
        let joins = builder(id).peers([(1, "a:1"), (id, address)]).join(cluster).open().unwrap();
        insist(|| first.add_observer(id));
        if id < 4 {
            insist(|| first.promote(id));
        }
        joins.wait_ready(PATIENCE).unwrap();
        joins.put(MORE, id, b"who joined").wait().unwrap();
        all.push(joins);
    }
    close(&all);

    // Who began alone grants no lease before its next opening.
    let all = [1, 2, 3, 4, 5].map(|id| builder(id).open().unwrap());
    let first = let_first_lead(&all);
    let request = all[1].put(MORE, 6, b"asked for later").wait().unwrap().request;
    trim(first, &path(1));
    insist(|| first.change_membership(|present| present.without(5)?.with_sessions_max(16)));
    let status = first.status();
    close(&all);
    copy(&path(1), &to.join("grown"));
    fs::write(to.join("grown.expected"), line(&status)).unwrap();

    let all = [1, 2, 3, 4].map(|id| builder(id).open().unwrap());
    let first = let_first_lead(&all);
    [4, 3, 2].into_iter().for_each(|id| drop(insist(|| first.remove(id))));
    trim(first, &path(1));
    insist(|| first.change_membership(|present| present.with_sessions_max(8)));
    first.put(MORE, 7, b"alone").wait().unwrap();
    let status = first.status();
    close(&all);
    copy(&path(1), &to.join("left_alone"));
    fs::write(to.join("left_alone.expected"), format!("{}{request}\n", line(&status))).unwrap();
}

/// Closes them, the first one first; who was removed has stopped by itself.
fn close(all: &[Replica]) {
    all.iter().for_each(|replica| drop(replica.close()));
}

fn let_first_lead(all: &[Replica]) -> &Replica {
    until("the first one leads", || {
        let leader = all.iter().find(|replica| replica.status().ready);
        leader.is_some_and(|leader| leader.transfer_leadership(1).wait().is_ok())
    });
    &all[0]
}

/// Writes until nothing is left of the journal but the segment in use and the one made ahead.
fn trim(replica: &Replica, path: &Path) {
    until("it is trimmed", || {
        replica.put(MORE, 1, b"trimmed").wait().unwrap();
        replica.checkpoint().wait().unwrap();
        count(path, "segment-") <= 2
    });
}

fn until(what: &str, mut seen: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !seen() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// How many files of this kind the directory has.
fn count(path: &Path, prefix: &str) -> usize {
    let names = fs::read_dir(path).unwrap().map(|file| file.unwrap().file_name());
    names.filter(|name| name.to_string_lossy().starts_with(prefix)).count()
}

/// What is the same of a cluster that grew and of who was left of it.
fn check_more(replica: &Replica, members: [&[u64]; 3]) {
    check(replica);
    let membership = replica.membership().unwrap();
    let ids = |members: &[Member]| members.iter().map(|it| it.id.0).collect::<Vec<_>>();
    let removed = membership.removed().iter().map(|id| id.0).collect::<Vec<_>>();
    assert_eq!([ids(membership.voters()), ids(membership.observers()), removed], members);
    assert_eq!(membership.member(ReplicaId(1)).unwrap().address, "a:1");
    let snapshot = replica.stale_snapshot();
    assert_eq!(&snapshot.get(MORE, 5).unwrap().unwrap().value[..], b"who joined");
    let status = replica.status();
    assert!(0 < status.slot_trimmed && status.txid.epoch() == 1, "{status}");
    let err = replica.transactions(TxId::ZERO).next().unwrap().unwrap_err();
    assert_eq!(err.kind(), ErrorKind::Trimmed, "{err}");
    let records = replica.transactions(status.txid_trimmed).map(|record| record.unwrap().txid());
    assert_eq!(records.last(), Some(status.txid));
}

fn check_grown(release: &Path, scratch: &Path) {
    let expected = |name: &str| fs::read_to_string(release.join(name)).unwrap();
    let path = scratch.join("grown");
    copy(&release.join("grown"), &path);
    let files = |path: &Path| ["lease-", "shared-", "alone-"].map(|prefix| count(path, prefix));
    assert_eq!(files(&path), [1, 1, 0]);
    let builder = Replica::builder(&path).id(1).network(&Network::new()).config(config());
    let replica = builder.open().unwrap();
    // What it may have granted before keeps it from campaigning.
    let bound_for = replica.status().bound_for;
    assert!(!bound_for.is_zero(), "{}", replica.status());
    check_more(&replica, [&[1, 2, 3], &[4], &[5]]);
    assert_eq!(replica.membership().unwrap().sessions_max(), 16);
    assert_eq!(line(&replica.status()), expected("grown.expected"));
    replica.close().unwrap();

    let path = scratch.join("left_alone");
    copy(&release.join("left_alone"), &path);
    assert_eq!(files(&path), [1, 0, 1]);
    let backup = Backup::verify(File::open(release.join("backup")).unwrap()).unwrap();
    let lost = TxId::from_number(backup.txid.get() + 1).unwrap();
    for again in 0..2 {
        let replica =
            Replica::builder(&path).network(&Network::new()).config(config()).open().unwrap();
        replica.wait_ready(PATIENCE).unwrap();
        check_more(&replica, [&[1], &[], &[2, 3, 4, 5]]);
        assert_eq!(replica.membership().unwrap().sessions_max(), 8);
        if again == 0 {
            let expected = expected("left_alone.expected");
            let (told, request) = expected.trim_end().split_once('\n').unwrap();
            assert_eq!(line(&replica.status()).trim_end(), told);
            let request = request.parse::<RequestId>().unwrap();
            let resolved = replica.resolve(request).wait().unwrap();
            let version = replica.get(MORE, 6).wait().unwrap().unwrap().version;
            assert_eq!(resolved.committed().unwrap().at, version);
        }
        assert_eq!(replica.wait_for(lost).wait().unwrap_err().kind(), ErrorKind::Lost);
        replica.wait_for(backup.txid).wait().unwrap();
        replica.put(MORE, 8, b"by this release").wait().unwrap();
        replica.checkpoint().wait().unwrap();
        replica.close().unwrap();
    }
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
    let writes =
        |name: &str| std::env::var_os("UPDATE_GOLDEN").is_some() && !this.join(name).exists();
    if writes("alone") {
        fs::create_dir_all(&this).unwrap();
        write_release(&this);
    }
    if writes("grown") {
        write_grown(&this);
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

        check_grown(&release, scratch.path());
    }
}
