//! Backups, and ledgers that are made of them, or of the one replica that is left.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use indelible::{Backup, ErrorKind, Network, Replica, ReplicaId, Restore, TxId};

use crate::cluster::{Cluster, NOTES, PATIENCE, addresses, config, ledger, until};
use crate::membership::Grown;

/// A replica with some notes, of which some were changed and one was deleted; and its backup.
fn written(path: &std::path::Path) -> (Replica, Vec<u8>, Backup) {
    let replica = Replica::builder(path).config(config()).open().unwrap();
    for key in 0..300 {
        replica.put(NOTES, key % 100, &[key as u8; 20]).wait().unwrap();
    }
    replica.delete(NOTES, 7).wait().unwrap();
    let mut bytes = Vec::new();
    let backup = replica.backup(&mut bytes).unwrap();
    (replica, bytes, backup)
}

fn notes(replica: &Replica) -> Vec<(u64, Vec<u8>, TxId)> {
    let range = replica.snapshot().wait().unwrap().range(NOTES, ..).map(Result::unwrap);
    range.map(|(key, note)| (key, note.value.to_vec(), note.version)).collect()
}

fn open(path: &std::path::Path) -> Replica {
    let replica = Replica::builder(path).config(config()).open().unwrap();
    replica.wait_ready(PATIENCE).unwrap();
    replica
}

#[test]
fn a_restored_ledger_holds_what_the_backup_holds_and_goes_on_above() {
    let directory = tempfile::tempdir().unwrap();
    let (replica, bytes, backup) = written(&directory.path().join("old"));
    let status = replica.status();
    assert_eq!((backup.txid, backup.digest), (status.txid, status.digest));
    assert_eq!((Some(backup.cluster), backup.replica), (replica.cluster(), ReplicaId(1)));
    assert_eq!(backup.bytes, bytes.len() as u64);
    assert_eq!(Backup::verify(&bytes[..]).unwrap(), backup);
    let before = notes(&replica);
    let lost = replica.put(NOTES, 1, b"behind the backup").wait().unwrap().at;

    let path = directory.path().join("new");
    let restored = Restore::into(&path).from_backup(&bytes[..]).unwrap();
    assert_eq!((restored.at, &restored.from), (TxId::from_number(1 << 44).unwrap(), &backup));
    assert_eq!((restored.presumed, restored.empty), (0, 0));
    // Both run: they are two clusters.
    let new = open(&path);
    assert_eq!(new.cluster(), Some(restored.cluster));
    assert_ne!(new.cluster(), replica.cluster());
    assert_eq!(notes(&new), before);
    assert_eq!(new.status().txid, restored.at);
    // What was written before is here, and what came behind the backup never will be.
    new.wait_for(backup.txid).wait().unwrap();
    let err = new.wait_for(lost).wait().unwrap_err();
    assert_eq!(err.kind(), ErrorKind::Lost, "{err}");
    let err = new.transactions(TxId::ZERO).next().unwrap().unwrap_err();
    assert_eq!(err.kind(), ErrorKind::Trimmed, "{err}");
    let next = new.put(NOTES, 7, b"again").wait().unwrap().at;
    assert_eq!((next.epoch(), next.counter()), (1, 1));
    assert_eq!(new.transactions(restored.at).count(), 1);
    // Who had read all that is in the backup goes on; who had read more is told.
    assert_eq!(new.transactions(backup.txid).map(Result::unwrap).count(), 1);
    let err = new.transactions(lost).next().unwrap().unwrap_err();
    assert_eq!(err.kind(), ErrorKind::Lost, "{err}");
    new.close().unwrap();

    // All of it is there when it is opened again, from a checkpoint of its own or from this one.
    for checkpoint in [false, true] {
        let new = open(&path);
        assert_eq!(new.get(NOTES, 7).wait().unwrap().unwrap().version, next);
        assert_eq!(new.wait_for(lost).wait().unwrap_err().kind(), ErrorKind::Lost);
        if checkpoint {
            new.checkpoint().wait().unwrap();
        }
        new.close().unwrap();
    }
    let new = open(&path);
    assert_eq!(new.wait_for(lost).wait().unwrap_err().kind(), ErrorKind::Lost);
    new.close().unwrap();
    replica.close().unwrap();
}

#[test]
fn a_request_that_is_in_the_backup_does_not_happen_again() {
    let directory = tempfile::tempdir().unwrap();
    let replica = open(&directory.path().join("old"));
    let mut edit = replica.transaction();
    edit.absent(NOTES, 1).put(NOTES, 1, b"text");
    let first = edit.commit().wait().unwrap();
    let request = replica.transactions(TxId::ZERO).next().unwrap().unwrap().request();
    let mut bytes = Vec::new();
    replica.backup(&mut bytes).unwrap();
    replica.close().unwrap();
    let path = directory.path().join("new");
    Restore::into(&path).from_backup(&bytes[..]).unwrap();
    let new = open(&path);
    let resolved = new.resolve(request).wait().unwrap();
    assert_eq!(resolved.committed().map(|it| it.at), Some(first.at));
    new.close().unwrap();
}

#[test]
fn a_backup_of_a_backup_knows_all_epochs() {
    let directory = tempfile::tempdir().unwrap();
    let (replica, mut bytes, backup) = written(&directory.path().join("0"));
    replica.close().unwrap();
    let mut lost = Vec::new();
    for round in 1..4 {
        let path = directory.path().join(round.to_string());
        let restored = Restore::into(&path).from_backup(&bytes[..]).unwrap();
        assert_eq!(restored.at.epoch(), round);
        let replica = open(&path);
        replica.put(NOTES, 1, b"kept").wait().unwrap();
        bytes.clear();
        replica.backup(&mut bytes).unwrap();
        lost.push(replica.put(NOTES, 1, b"lost").wait().unwrap().at);
        for lost in &lost[..lost.len() - 1] {
            assert_eq!(replica.wait_for(*lost).wait().unwrap_err().kind(), ErrorKind::Lost);
        }
        replica.wait_for(backup.txid).wait().unwrap();
        replica.close().unwrap();
    }
    // The first backup once more, above all that was there since.
    let path = directory.path().join("again");
    let restore = Restore::into(&path).above(lost[2]);
    let restored = restore.from_backup(&bytes[..]).unwrap();
    assert_eq!(restored.at.epoch(), 4);
}

#[test]
fn a_restored_ledger_grows() {
    let directory = tempfile::tempdir().unwrap();
    let (replica, bytes, _) = written(&directory.path().join("old"));
    let lost = replica.put(NOTES, 1, b"behind the backup").wait().unwrap().at;
    replica.close().unwrap();
    let path = |id: u64| directory.path().join(id.to_string());
    let (network, addresses) = (Network::new(), addresses(3));
    let restored = Restore::into(path(1)).from_backup(&bytes[..]).unwrap();
    let builder = |id: u64| Replica::builder(path(id)).id(id).config(config()).network(&network);
    let first = builder(1).peers(addresses[..1].to_vec()).open().unwrap();
    first.wait_ready(PATIENCE).unwrap();
    first.put(NOTES, 1000, b"new").wait().unwrap();
    let mut open = vec![first.clone()];
    for id in 2..=3 {
        let known = [addresses[0].clone(), addresses[id as usize - 1].clone()];
        let joined = builder(id).peers(known).join(restored.cluster).open().unwrap();
        // It is in another ledger as long as it has no state.
        let waits = joined.wait_for(lost);
        until("the leader knows who wants to join", || first.add_observer(id).wait().is_ok());
        joined.wait_ready(PATIENCE).unwrap();
        until("it has caught up", || first.promote(id).wait().is_ok());
        assert_eq!(waits.wait().unwrap_err().kind(), ErrorKind::Lost);
        open.push(joined);
    }
    for replica in &open {
        replica.wait_ready(PATIENCE).unwrap();
        assert_eq!(notes(replica), notes(&first));
        until("all have applied as much", || replica.status().digest == first.status().digest);
    }
    open.iter().for_each(|replica| replica.close().unwrap());
}

#[test]
fn a_ledger_goes_on_from_the_one_replica_that_is_left() {
    let mut cluster = Cluster::in_process(config());
    let leader = cluster.leader();
    let replica = cluster.replica(leader).clone();
    let acknowledged = replica.put(NOTES, 1, b"acknowledged").wait().unwrap().at;
    let left = cluster.ids().into_iter().find(|id| *id != leader).unwrap();
    let cluster_id = replica.cluster().unwrap();
    cluster.replica(left).wait_for(acknowledged).wait().unwrap();
    let forced = cluster.directory.path().join("forced");
    let err = Restore::into(&forced).from_survivor(cluster.path(left)).unwrap_err();
    assert_eq!(err.kind(), ErrorKind::Locked, "{err}");
    cluster.ids().into_iter().for_each(|id| cluster.close(id));

    let restore = Restore::into(&forced).id(9);
    let restored = restore.from_survivor(cluster.path(left)).unwrap();
    assert_eq!(restored.from.cluster, cluster_id);
    assert_eq!(restored.from.replica, ReplicaId(left));
    assert_ne!(restored.cluster, cluster_id);
    let replica = Replica::builder(&forced).id(9).config(config()).open().unwrap();
    let found = replica.get(NOTES, 1).wait().unwrap().unwrap();
    assert_eq!((found.version, &found.value[..]), (acknowledged, &b"acknowledged"[..]));
    assert!(replica.put(NOTES, 2, b"more").wait().unwrap().at > acknowledged);
    replica.close().unwrap();
    // The old one is as it was.
    cluster.open(left);
    assert_eq!(cluster.replica(left).cluster(), Some(cluster_id));
    cluster.close(left);
}

#[test]
fn what_is_no_backup_is_refused_and_nothing_is_written() {
    let directory = tempfile::tempdir().unwrap();
    let (replica, bytes, backup) = written(&directory.path().join("old"));
    replica.close().unwrap();
    let path = directory.path().join("new");
    let mut found = 0;
    let refused = |bytes: &[u8], why: &str| {
        let err = Restore::into(&path).from_backup(bytes).unwrap_err();
        assert_eq!(err.kind(), ErrorKind::Corrupt, "{why}: {err}");
        assert_eq!(Backup::verify(bytes).unwrap_err().to_string(), err.to_string());
        assert!(!path.exists(), "{why}");
    };
    refused(b"", "nothing");
    refused(&[7; 4096], "something else");
    refused(b"notes", "something else, and short");
    let err = Backup::verify(&b"# notes of mine"[..]).unwrap_err().to_string();
    assert!(err.contains("begins with \"# notes \""), "{err}");
    for end in [1, 127, 128, 200, bytes.len() / 2, bytes.len() - 1] {
        refused(&bytes[..end], "a part");
    }
    refused(&[&bytes[..], b"x"].concat(), "more");
    for at in (0..bytes.len()).step_by(97) {
        let mut bytes = bytes.clone();
        bytes[at] ^= 1;
        match Backup::verify(&bytes[..]) {
            Err(_) => {
                refused(&bytes, "a bit flipped");
                found += 1;
            }
            // What pads a block says nothing.
            Ok(found) => assert_eq!(found, backup),
        }
    }
    assert!(found > 10, "{found} flips were found");
}

#[test]
fn a_directory_that_is_not_blank_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let old = directory.path().join("old");
    let (replica, bytes, _) = written(&old);
    let err = Restore::into(&old).from_backup(&bytes[..]).unwrap_err();
    assert_eq!(err.kind(), ErrorKind::Locked, "{err}");
    replica.close().unwrap();
    let names = || {
        let mut names =
            fs::read_dir(&old).unwrap().map(|it| it.unwrap().file_name()).collect::<Vec<_>>();
        names.sort();
        names
    };
    let before = names();
    let err = Restore::into(&old).from_backup(&bytes[..]).unwrap_err();
    assert_eq!(err.kind(), ErrorKind::InvalidArgument, "{err}");
    assert_eq!(names(), before);
    let blank = directory.path().join("blank");
    let err = Restore::into(&blank).id(0).from_backup(&bytes[..]).unwrap_err();
    assert_eq!(err.kind(), ErrorKind::InvalidArgument, "{err}");
    let err = Restore::into(&blank).from_survivor(directory.path().join("none")).unwrap_err();
    assert_eq!(err.kind(), ErrorKind::InvalidArgument, "{err}");
    let blank = directory.path().join("nobody's");
    fs::create_dir(&blank).unwrap();
    let err = Restore::into(directory.path().join("new")).from_survivor(&blank).unwrap_err();
    assert_eq!(err.kind(), ErrorKind::InvalidArgument, "{err}");
}

/// Takes a few bytes, and then no more.
struct Full(usize);

impl Write for Full {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.0.checked_sub(bytes.len()) {
            Some(left) => self.0 = left,
            None => return Err(io::ErrorKind::StorageFull.into()),
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_backup_that_cannot_be_written_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let (replica, ..) = written(&directory.path().join("old"));
    let err = replica.backup(Full(1000)).unwrap_err();
    assert_eq!(err.kind(), ErrorKind::Io, "{err}");
    // Nothing else was disturbed by it.
    replica.put(NOTES, 1, b"text").wait().unwrap();
    let file = File::create(directory.path().join("backup")).unwrap();
    replica.backup(&file).unwrap();
    replica.close().unwrap();
    assert_eq!(replica.backup(Full(1000)).unwrap_err().kind(), ErrorKind::Closed);
}

/// What was acknowledged.
#[derive(Default)]
struct Acknowledged {
    count: AtomicU64,
    /// The digest of the state behind each transaction.
    digests: Mutex<BTreeMap<TxId, u128>>,
}

/// Takes each part only when more was acknowledged since the one before.
struct Slow<'a> {
    acknowledged: &'a Acknowledged,
    bytes: Vec<u8>,
    parts: u64,
}

impl Write for Slow<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // Without the lock, which a writer holds that waits.
        let acknowledged = || self.acknowledged.count.load(Ordering::SeqCst);
        let (before, deadline) = (acknowledged(), Instant::now() + PATIENCE);
        while acknowledged() < before + 3 {
            if deadline < Instant::now() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        self.parts += 1;
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes a large note, in turn with all who write, so that the state behind it is known.
fn write_one(through: &Replica, key: u64, acknowledged: &Acknowledged) -> TxId {
    let mut digests = acknowledged.digests.lock().unwrap();
    let at = through.put(NOTES, key, &vec![digests.len() as u8; 128 * 1024]).wait().unwrap().at;
    through.wait_for(at).wait().unwrap();
    let status = through.status();
    assert_eq!(status.txid, at, "nobody else writes");
    digests.insert(at, status.digest);
    acknowledged.count.fetch_add(1, Ordering::SeqCst);
    at
}

fn write_until(stop: &AtomicBool, through: &Replica, acknowledged: &Acknowledged) {
    for key in (0..8).cycle() {
        if stop.load(Ordering::SeqCst) {
            return;
        }
        write_one(through, key, acknowledged);
        // A lock is not handed on to who waits longest.
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// The notes behind the transaction `txid`, as the ledger tells them.
fn notes_at(replica: &Replica, txid: TxId) -> Vec<(u64, Vec<u8>, TxId)> {
    let mut notes = BTreeMap::new();
    for record in ledger(replica).iter().take_while(|record| record.txid() <= txid) {
        for change in record.changes().of(NOTES).map(Result::unwrap) {
            notes.insert(change.key, (change.value.unwrap().to_vec(), record.txid()));
        }
    }
    notes.into_iter().map(|(key, (value, txid))| (key, value, txid)).collect()
}

/// Stops the writers, also where the test fails.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Backs `replica` up while others write through it and through `leader`, and restores that.
fn backed_up_under_writers(replica: &Replica, leader: &Replica) {
    let (stop, acknowledged) = (AtomicBool::new(false), Acknowledged::default());
    let mut slow = Slow { acknowledged: &acknowledged, bytes: Vec::new(), parts: 0 };
    let (before, backup) = std::thread::scope(|scope| {
        let _stop = Stop(&stop);
        for through in [replica, leader] {
            scope.spawn(|| write_until(&stop, through, &acknowledged));
        }
        until("both have written", || acknowledged.count.load(Ordering::SeqCst) > 20);
        // The leader knows of it, and the other one not yet.
        let before = write_one(leader, 9, &acknowledged);
        (before, replica.backup(&mut slow))
    });
    let backup = backup.unwrap();
    assert!(slow.parts > 3, "{} parts", slow.parts);
    assert!(
        before <= backup.txid,
        "{before} was acknowledged before, and {} is in it",
        backup.txid
    );
    let digests = acknowledged.digests.lock().unwrap();
    assert_eq!(digests[&backup.txid], backup.digest);
    let behind = digests.range(backup.txid..).count() as u64;
    assert!(behind > 3 * slow.parts, "{behind} were acknowledged meanwhile");

    assert_eq!(backup.replica, replica.status().id);
    assert_eq!(Backup::verify(&slow.bytes[..]).unwrap(), backup);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("new");
    let restored = Restore::into(&path).from_backup(&slow.bytes[..]).unwrap();
    assert_eq!(restored.from, backup);
    let new = open(&path);
    assert_eq!(notes(&new), notes_at(replica, backup.txid));
    new.close().unwrap();
}

#[test]
fn a_follower_is_backed_up_under_writers() {
    let cluster = Cluster::in_process(config());
    let (leader, follower) = (cluster.leader(), cluster.follower());
    backed_up_under_writers(cluster.replica(follower), cluster.replica(leader));
    cluster.settle();
}

#[test]
fn an_observer_is_backed_up_under_writers() {
    let mut grown = Grown::begin(Some(Network::new()));
    grown.join(2);
    backed_up_under_writers(grown.replica(2), grown.first());
    grown.open.iter().for_each(|replica| replica.close().unwrap());
}
