//! Peers that are none, are not what they were, or say what nobody understands.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use indelible::{ErrorKind, MembershipError, Replica, ReplicaId, Role, Status};

use crate::cluster::{Cluster, NOTES, PATIENCE, addresses, config, until};

/// What a client sends that is no replica.
fn garbage() -> Vec<Vec<u8>> {
    let frame = |version: u16, kind: u8, length: u32| {
        let mut header = b"IDLP".to_vec();
        header.extend_from_slice(&version.to_le_bytes());
        header.extend_from_slice(&[kind, 0]);
        header.extend_from_slice(&length.to_le_bytes());
        header.resize(32, 0);
        let checksum = crc32(&header);
        header.extend_from_slice(&checksum.to_le_bytes());
        header
    };
    let noise = (0..8192_u32).map(|byte| (byte.wrapping_mul(2_654_435_761) >> 13) as u8);
    vec![
        b"GET / HTTP/1.1\r\nHost: localhost\r\nAccept: everything, please\r\n\r\n".to_vec(),
        noise.collect(),
        vec![0; 4096],
        frame(1, 1, u32::MAX),
        frame(1, 1, 4097),
        frame(1, 3, 100),
        frame(1, 9, 10),
        frame(2, 1, 10),
        [frame(1, 1, 100), vec![0xff; 100]].concat(),
    ]
}

fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg());
        }
    }
    !crc
}

/// Whether the other side ends the connection.
fn is_ended(socket: &mut TcpStream) -> bool {
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    match socket.read(&mut [0; 1024]) {
        Ok(0) => true,
        Ok(_) => is_ended(socket),
        Err(err) => err.kind() == std::io::ErrorKind::ConnectionReset,
    }
}

#[test]
fn garbage_ends_its_connection_is_counted_and_nothing_else() {
    let cluster = Cluster::tcp();
    let round = cluster.status(cluster.leader()).round;
    let sent = garbage();
    for (key, bytes) in (0..).zip(&sent) {
        for (_, address) in &cluster.addresses {
            let mut socket = TcpStream::connect(address).unwrap();
            let _ = socket.write_all(bytes);
            assert!(is_ended(&mut socket), "garbage {key} is listened to");
        }
        cluster.replica(1 + key % 3).put(NOTES, key, b"x").wait().unwrap();
    }
    // Many that say nothing, or half of something, at once.
    let silent = cluster.addresses.iter().flat_map(|(_, address)| {
        (0..80).map(move |_| {
            let mut socket = TcpStream::connect(address).unwrap();
            let _ = socket.write_all(b"IDLP");
            socket
        })
    });
    let silent = silent.collect::<Vec<_>>();
    for replica in cluster.open.values() {
        replica.put(NOTES, 100, b"x").wait().unwrap();
        until("it is counted", || replica.status().strangers_garbage >= sent.len() as u64);
        let line = replica.status().to_string();
        assert!(line.contains("garbage"), "{line}");
    }
    drop(silent);
    cluster.settle();
    assert_eq!(cluster.status(cluster.leader()).round, round, "the leader was not disturbed");
    for status in cluster.open.values().map(Replica::status) {
        assert!(status.peers.iter().all(|peer| peer.garbage == 0 && peer.heard), "{status}");
    }
}

/// The peer's row.
fn refused(status: &Status, peer: u64) -> Option<String> {
    status.peers.iter().find(|row| row.id.0 == peer).unwrap().refused.clone()
}

#[test]
fn a_wiped_replica_does_not_join_and_says_why() {
    let mut cluster = Cluster::tcp();
    for key in 0..20 {
        cluster.replica(1).put(NOTES, key, b"x").wait().unwrap();
    }
    cluster.settle();
    let wiped = cluster.follower();
    cluster.close(wiped);
    fs::remove_dir_all(cluster.path(wiped)).unwrap();
    let others = cluster.ids();
    cluster.open(wiped);
    for key in 0..50 {
        let replica = cluster.replica(others[key as usize % 2]);
        replica.put(NOTES, 100 + key, b"goes on").wait().unwrap();
    }
    until("the others say why", || {
        let told = |id: &u64| refused(&cluster.status(*id), wiped);
        others.iter().all(|id| told(id).is_some_and(|why| why.contains("directory")))
    });
    until("it says why itself", || {
        let line = cluster.status(wiped).to_string();
        line.contains("wiped") || line.contains("not the one that the membership names")
    });
    let status = cluster.status(wiped);
    assert_eq!((status.role, status.slot_applied), (Role::Forming, 0), "{status}");
    // With it, there is no majority of two: it must not vote.
    cluster.close(others[0]);
    let left = cluster.replica(others[1]);
    let mut put = left.put(NOTES, 1000, b"never");
    assert!(put.wait_timeout(Duration::from_secs(2)).is_none(), "{}", left.status());
    cluster.open(others[0]);
    let _ = put.wait();
    cluster.replica(others[0]).wait_ready(PATIENCE).unwrap();
    assert_eq!(cluster.status(wiped).role, Role::Forming);
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

/// Starts a copy of a follower's directory beside the follower itself, `boots` times, and returns
/// the last of them.
fn start_copy(cluster: &mut Cluster, boots: u64) -> (u64, Replica) {
    cluster.replica(1).put(NOTES, 1, b"x").wait().unwrap();
    cluster.settle();
    let twice = cluster.follower();
    let path = cluster.directory.path().join("copy");
    cluster.close(twice);
    copy(&cluster.path(twice), &path);
    cluster.open(twice);
    cluster.replica(twice).wait_ready(PATIENCE).unwrap();
    // What the copy does not know.
    for key in 0..20 {
        cluster.replica(twice).put(NOTES, key, b"x").wait().unwrap();
    }
    for boot in 1..=boots {
        let listen = addresses(1)[0].1.clone();
        let builder = Replica::builder(&path).id(twice).peers(cluster.addresses.clone());
        let copy = builder.listen(listen).config(config()).open().unwrap();
        if boot == boots {
            return (twice, copy);
        }
        copy.close().unwrap();
    }
    unreachable!("the last boot returns");
}

/// What is said of a directory that is a copy, by others and by the replica itself.
const COPIED: &str = "directory is a copy, or was set back";

/// All others refuse one of two replicas with the same id, and say why; so does one of the two.
fn expect_copied(cluster: &Cluster, twice: u64, copy: &Replica) {
    until("all others refuse one of the two", || {
        let others = cluster.ids().into_iter().filter(|id| *id != twice);
        let mut told = others.map(|id| refused(&cluster.status(id), twice));
        told.all(|told| told.is_some_and(|why| why.contains(COPIED)))
    });
    until("it says so itself", || copy.status().trouble.is_some_and(|it| it.contains(COPIED)));
    let line = copy.status().to_string();
    assert!(line.contains(COPIED), "{line}");
}

#[test]
fn a_copied_directory_that_is_started_beside_the_original_is_fenced() {
    let mut cluster = Cluster::tcp();
    let (twice, copy) = start_copy(&mut cluster, 1);
    expect_copied(&cluster, twice, &copy);
    let status = copy.status();
    assert!(!status.ready && status.leader.is_none(), "{status}");
    for key in 100..150 {
        cluster.replica(1 + key % 3).put(NOTES, key, b"x").wait().unwrap();
    }
    cluster.settle();
    copy.close().unwrap();
}

#[test]
fn a_copied_directory_that_is_started_twice_is_fenced() {
    let mut cluster = Cluster::tcp();
    let (twice, copy) = start_copy(&mut cluster, 2);
    expect_copied(&cluster, twice, &copy);
    let mut ready = copy.snapshot();
    assert!(ready.wait_timeout(Duration::from_secs(2)).is_none(), "{}", copy.status());
    copy.close().unwrap();
}

#[test]
fn whom_it_cannot_reach_is_told_with_address_and_reason() {
    let directory = tempfile::tempdir().unwrap();
    let peers = addresses(2);
    let path = directory.path().join("1");
    let replica = Replica::builder(path).id(1).peers(peers.clone()).config(config()).open();
    let replica = replica.unwrap();
    let told = format!("cannot connect to replica 2 at {}: ", peers[1].1);
    until("it says whom it cannot reach", || {
        replica.status().trouble.is_some_and(|trouble| trouble.contains(&told))
    });
    let err = replica.wait_ready(Duration::from_millis(1)).unwrap_err().to_string();
    assert!(err.contains("waiting for replica 2") && err.contains(&told), "{err}");
    assert!(replica.status().peers[0].unreached.is_some(), "{}", replica.status());
    // Once it is there, nothing is left of that.
    let path = directory.path().join("2");
    let other = Replica::builder(path).id(2).peers(peers).config(config()).open().unwrap();
    replica.wait_ready(PATIENCE).unwrap();
    until("it is reached", || replica.status().peers[0].unreached.is_none());
    assert_eq!(replica.status().trouble, None);
    drop(other);
}

#[test]
fn who_was_told_other_addresses_forms_nothing_and_says_why() {
    let directory = tempfile::tempdir().unwrap();
    let peers = addresses(2);
    let mut others = peers.clone();
    others[0].1 = others[0].1.replace("127.0.0.1", "localhost");
    let open = |id: u64, peers: &[(u64, String)]| {
        let path = directory.path().join(id.to_string());
        Replica::builder(path).id(id).peers(peers.to_vec()).config(config()).open().unwrap()
    };
    let (one, two) = (open(1, &peers), open(2, &others));
    for replica in [&one, &two] {
        until("it says what differs", || {
            let trouble = replica.status().trouble;
            trouble.is_some_and(|it| it.contains("1=127.0.0.1") && it.contains("1=localhost"))
        });
        assert_eq!(replica.status().role, Role::Forming);
    }
    two.close().unwrap();
    let two = open(2, &peers);
    two.wait_ready(PATIENCE).unwrap();
    one.wait_ready(PATIENCE).unwrap();
}

#[test]
fn who_joins_under_a_removed_founders_id_stops_and_says_why() {
    let directory = tempfile::tempdir().unwrap();
    let peers = addresses(2);
    let path = directory.path().join("founder");
    let founder = Replica::builder(path).id(1).peers(peers[..1].to_vec()).config(config());
    let founder = founder.open().unwrap();
    founder.wait_ready(PATIENCE).unwrap();
    let cluster = founder.cluster().unwrap();
    let path = directory.path().join("second");
    let second = Replica::builder(path).id(2).peers(peers.clone()).join(cluster);
    let second = second.config(config()).open().unwrap();
    until("it is a member", || founder.add_observer(2).wait().is_ok());
    until("it votes", || founder.promote(2).wait().is_ok());
    until("it leads", || founder.transfer_leadership(2).wait().is_ok());
    until("the founder is removed", || second.remove(1).wait().is_ok());
    drop(founder.close());
    let path = directory.path().join("taken");
    let taken = Replica::builder(path).id(1).peers(peers).join(cluster).config(config());
    let taken = taken.open().unwrap();
    until("it stops", || taken.status().role == Role::Stopped);
    let err = taken.wait_ready(PATIENCE).unwrap_err();
    assert_eq!(err.kind(), ErrorKind::Removed, "{err}");
}

#[test]
fn who_gives_a_wrong_address_of_its_own_is_told_of_with_the_reason() {
    let directory = tempfile::tempdir().unwrap();
    let peers = addresses(3);
    let path = directory.path().join("founder");
    let founder = Replica::builder(path).id(1).peers(peers[..1].to_vec()).config(config());
    let founder = founder.open().unwrap();
    founder.wait_ready(PATIENCE).unwrap();
    let join = |own: &str| {
        let path = directory.path().join("joins");
        let builder = Replica::builder(path).id(2).join(founder.cluster().unwrap());
        let builder = builder.peers([(1, peers[0].1.as_str()), (2, own)]);
        builder.listen(&peers[1].1).config(config()).open().unwrap()
    };
    // Nothing listens where it says that it is to be reached.
    let joins = join(&peers[2].1);
    let told = format!("replica 2 at {}: ", peers[2].1);
    until("it says whom it cannot reach", || {
        let status = founder.status();
        status.strangers_unreached.is_some_and(|it| it.starts_with(&told))
            && founder.status().to_string().contains(&format!("stranger not reached: {told}"))
    });
    let before = founder.status().slot_chosen;
    let err = founder.add_observer(2).wait().unwrap_err();
    assert_eq!(err.kind(), ErrorKind::Unreachable, "{err}");
    match err.membership_error() {
        Some(MembershipError::NotReached { id: ReplicaId(2), why }) => {
            assert!(why.starts_with(&peers[2].1), "{why}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(founder.status().slot_chosen, before, "nothing is proposed");
    assert!(founder.status().applicants.is_empty());
    joins.close().unwrap();
    // With the right address it is taken in.
    let joins = join(&peers[1].1);
    until("it is a member", || founder.add_observer(2).wait().is_ok());
    joins.wait_ready(PATIENCE).unwrap();
    until("nothing is left of that", || founder.status().strangers_unreached.is_none());
    drop(founder);
}
