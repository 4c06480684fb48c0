//! Reads under a lease, measured by the clock of this machine.

use std::time::{Duration, Instant};

use indelible::{Config, ErrorKind, Replica};

use crate::cluster::{Cluster, NOTES, PATIENCE, config, until};

/// A lease that outlives a pause of a busy machine.
#[cfg(target_os = "linux")]
fn leased() -> Config {
    Config { read_lease: Some(Duration::from_secs(2)), ..config() }
}

/// Reads without a round, as often as asked for in a row, once the lease is held.
#[cfg(target_os = "linux")]
fn read_without_a_round(replica: &Replica, wanted: &[u8]) {
    until("reads that need no round", || {
        let before = replica.status().read_rounds;
        for _ in 0..100 {
            let found = replica.get(NOTES, 1).wait().unwrap().unwrap();
            assert_eq!(*found.value, *wanted);
        }
        replica.status().read_rounds == before
    });
}

#[test]
#[cfg(target_os = "linux")]
fn a_leader_that_holds_a_lease_reads_without_a_round() {
    let cluster = Cluster::tcp_with(leased());
    let leader = cluster.leader();
    cluster.replica(leader).put(NOTES, 1, b"one").wait().unwrap();
    read_without_a_round(cluster.replica(leader), b"one");
    // A follower asks the leader, and nobody else is asked.
    let follower = cluster.follower();
    let found = cluster.replica(follower).get(NOTES, 1).wait().unwrap().unwrap();
    assert_eq!(*found.value, *b"one");
}

#[test]
#[cfg(target_os = "linux")]
fn the_lease_moves_with_the_leader() {
    let mut cluster = Cluster::in_process(leased());
    let leader = cluster.leader();
    cluster.replica(leader).put(NOTES, 1, b"one").wait().unwrap();
    read_without_a_round(cluster.replica(leader), b"one");
    let to = cluster.follower();
    // It is given up before: nobody waits for its end.
    let began = Instant::now();
    cluster.replica(leader).transfer_leadership(to).wait().unwrap();
    assert!(began.elapsed() < Duration::from_secs(2));
    let leader = cluster.leader();
    cluster.replica(leader).put(NOTES, 1, b"two").wait().unwrap();
    read_without_a_round(cluster.replica(leader), b"two");
    // One that is gone without a word is replaced when the lease is over.
    cluster.isolate(leader);
    let others = cluster.ids().into_iter().filter(|id| *id != leader).collect::<Vec<_>>();
    let bound = |id: &u64| cluster.status(*id).bound_for;
    // Who is lost granted nobody anything. The others granted it a lease, and 1.1 times that.
    assert_eq!(bound(&leader), Duration::ZERO);
    assert!(others.iter().all(|id| bound(id) <= Duration::from_millis(2200)));
    assert!(others.iter().any(|id| Duration::ZERO < bound(id)));
    let next = cluster.leader_among(&others);
    cluster.replica(next).put(NOTES, 1, b"three").wait().unwrap();
    cluster.heal(leader);
    let found = cluster.replica(leader).get(NOTES, 1).wait().unwrap().unwrap();
    assert_eq!(*found.value, *b"three");
    // Opened again, it knows that it may have granted one.
    cluster.close(leader);
    let names = std::fs::read_dir(cluster.path(leader)).unwrap();
    let mut names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert!(names.any(|name| name == "lease-00002000"));
    cluster.open(leader);
    cluster.replica(leader).wait_ready(PATIENCE).unwrap();
    cluster.settle();
}

#[test]
#[cfg(target_os = "linux")]
fn a_lone_replica_waits_for_no_lease() {
    let directory = tempfile::tempdir().unwrap();
    for _ in 0..2 {
        let config = Config { read_lease: Some(Duration::from_secs(3000)), ..config() };
        let replica = Replica::builder(directory.path()).config(config).open().unwrap();
        replica.put(NOTES, 1, b"text").wait().unwrap();
        assert!(replica.get(NOTES, 1).wait().unwrap().is_some());
        assert_eq!(replica.status().read_rounds, 0);
        replica.close().unwrap();
    }
}

#[test]
fn a_lease_that_cannot_be_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let lengths = [Duration::ZERO, Duration::from_millis(49), Duration::from_secs(3601)];
    for length in lengths {
        let config = Config { read_lease: Some(length), ..config() };
        let refused = Replica::builder(directory.path()).config(config).open().unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::InvalidArgument, "{refused}");
        assert!(refused.to_string().contains("read_lease"), "{refused}");
    }
}

#[test]
#[cfg(not(target_os = "linux"))]
fn without_such_a_clock_the_setting_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let config = Config { read_lease: Some(Duration::from_secs(1)), ..config() };
    let refused = Replica::builder(directory.path()).config(config).open().unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InvalidArgument, "{refused}");
}

/// A handle that outlives its replica takes nothing from the next opening.
#[test]
#[cfg(target_os = "linux")]
fn who_is_closed_forgets_no_lease_of_the_next_opening() {
    let mut cluster = Cluster::in_process(config());
    let id = cluster.follower();
    let old = cluster.open.remove(&id).unwrap();
    old.close().unwrap();
    cluster.config = leased();
    cluster.open(id);
    cluster.replica(id).wait_ready(PATIENCE).unwrap();
    let noted = || cluster.path(id).join("lease-00002000").exists();
    assert!(noted());
    drop(old);
    assert!(noted());
    cluster.settle();
}
