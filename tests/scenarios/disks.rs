//! Disks that lose power, fail, hang and fill up: what is acknowledged stays.

use std::cell::Cell;
use std::time::Duration;

use indelible::ErrorKind;
use indelible::journal::Journal;
use indelible::sim::DiskSpeed;
use indelible::sim::disk::{DiskFault, SyncFailure, When};

use super::support::{Cluster, NOTES, for_seeds, nothing_survives};

/// Writes begin at the leader, and for some time nobody waits for them.
fn write_and_run(
    cluster: &Cluster,
    count: usize,
) -> Vec<(u64, Vec<u8>, indelible::Pending<indelible::Committed>)> {
    let leader = cluster.sim.leader().unwrap();
    let writes = (0..count).map(|_| cluster.begin(leader, 100 + cluster.below(9000) as usize));
    let writes = writes.collect();
    cluster.run_for(Duration::from_micros(cluster.below(8000)));
    writes
}

#[test]
fn torn_multi_tail() {
    // TigerBeetle #2345, etcd #5230, #6378, #6379: several writes are torn at once, and the power
    // goes again while that is sorted out.
    for_seeds(3, |cluster| {
        for _ in 0..4 {
            let writes = write_and_run(cluster, 8);
            for id in cluster.ids() {
                cluster.cut_power(id, &mut |_| cluster.below(2) == 0);
            }
            writes.into_iter().for_each(|write| drop(cluster.end(write)));
            for id in cluster.ids() {
                let disk = cluster.disk(id);
                disk.stop_at(disk.boundaries() + 1 + cluster.below(12));
                if !cluster.open(id) {
                    assert!(disk.is_stopped(), "{:?}", cluster.refusal(id));
                }
                cluster.cut_power(id, &mut |_| cluster.below(2) == 0);
                cluster.reopen(id);
            }
            cluster.expect("it is level", Cluster::is_level);
            cluster.check_state();
        }
        cluster.settle();
    });
}

#[test]
fn torn_tail_then_append() {
    // raft-engine #219, #319; qdrant #1329: what is appended behind a torn tail is read as a part
    // of it, or cut off with it.
    for_seeds(3, |cluster| {
        let c = cluster.others[1];
        for _ in 0..6 {
            let writes = write_and_run(cluster, 6);
            cluster.cut_power(c, &mut |_| cluster.below(3) > 0);
            cluster.reopen(c);
            writes.into_iter().for_each(|write| drop(cluster.end(write)));
            cluster.write_some(cluster.leader, 2);
        }
        cluster.expect("it is level", Cluster::is_level);
        cluster.power_cycle(c);
        // It has to do with one of the others only.
        cluster.crash(cluster.leader);
        cluster.expect("somebody leads", |sim| sim.leader().is_some());
        cluster.check_state();
        cluster.settle();
    });
}

#[test]
fn acknowledged_is_durable_on_a_quorum() {
    // hiqlite #361, d-engine #446, #6368 of etcd, ALICE: durability is reported before the sync,
    // or before the directory's. All machines lose power in the moment of an answer, and nothing
    // that was not synced survives, names included; segments are rolled meanwhile.
    for_seeds(3, |cluster| {
        for _ in 0..12 {
            let writer = cluster.ids()[cluster.below(3) as usize];
            cluster.end(cluster.begin(writer, 12_000)).unwrap();
            for id in cluster.ids() {
                cluster.cut_power(id, &mut nothing_survives);
            }
            cluster.ids().into_iter().for_each(|id| cluster.reopen(id));
            cluster.expect("it is level", Cluster::is_level);
            cluster.check_state();
        }
        cluster.settle();
    });
}

#[test]
fn rotate_without_dir_fsync() {
    // etcd #6368, ALICE: a new segment whose name is not durable takes what is acknowledged.
    for_seeds(3, |cluster| {
        let names = |id| cluster.disk(id).durable_names().len();
        let before = names(cluster.leader);
        while names(cluster.leader) < before + 3 {
            cluster.end(cluster.begin(cluster.leader, 10_000)).unwrap();
            for id in cluster.ids() {
                cluster.cut_power(id, &mut |piece| {
                    !matches!(piece.kind, indelible::sim::disk::PieceKind::Name)
                });
            }
            cluster.ids().into_iter().for_each(|id| cluster.reopen(id));
            cluster.expect("it is level", Cluster::is_level);
        }
        cluster.check_state();
        cluster.settle();
    });
}

#[test]
fn fsync_fails_once() {
    // fsyncgate of 2018, PostgreSQL, Rebello and others (ATC'20), rostam #94, raft-engine #131: a
    // sync fails, the next one says that all is well, and what was lost is vouched for.
    let failures = [SyncFailure::Keep, SyncFailure::Revert, SyncFailure::Late];
    for_seeds(3, |cluster| {
        let victim = cluster.ids()[cluster.below(3) as usize];
        let disk = cluster.disk(victim);
        let failure = failures[cluster.below(3) as usize];
        disk.fail_sync(When::after(cluster.below(4)), failure);
        for _ in 0..12 {
            drop(cluster.write(cluster.others[0]));
        }
        let report = cluster.report(victim).unwrap();
        let err = report.stopped.expect("a replica whose sync failed stops");
        assert_eq!(err.kind(), ErrorKind::Poisoned);
        assert_eq!(disk.take_after_failure(), [], "a failed sync is not tried again");
        cluster.expect("the others go on", |sim| sim.leader().is_some_and(|id| id != victim));
        let peer = cluster.ids().into_iter().find(|id| *id != victim).unwrap();
        cluster.write_some(peer, 3);

        match cluster.below(2) {
            0 => cluster.crash(victim),
            _ => cluster.cut_power(victim, &mut |_| cluster.below(2) == 0),
        }
        cluster.reopen(victim);
        cluster.expect("it is level", Cluster::is_level);
        cluster.power_cycle(victim);
        cluster.settle();
    });
}

#[test]
fn full_disk_mid_batch() {
    // etcd #2819, dqlite #605, tikv #15755, qdrant #9662: a full disk takes the replica down, or is
    // noticed in the middle of a write.
    for_seeds(3, |cluster| {
        let (a, b) = (cluster.leader, cluster.others[0]);
        cluster.disk(a).set_room(Some(cluster.below(40_000)));
        let mut written = 0;
        while !cluster.report(a).unwrap().storage_full {
            drop(cluster.end(cluster.begin(b, 6000)));
            written += 1;
            assert!(written < 200, "the disk never fills up");
        }
        assert!(cluster.is_up(a), "{:?}", cluster.report(a).unwrap().stopped);
        cluster.expect("another one leads", |sim| sim.leader().is_some_and(|id| id != a));
        let refused = cluster.write(a).expect_err("there is no room");
        assert!(refused.is_storage_full(), "{refused}");
        cluster.write_some(b, 3);
        let stale = cluster.replica(a).stale_snapshot();
        assert!(stale.get(NOTES, 0).unwrap().is_some(), "it serves what it has");
        cluster.disk(a).set_room(None);
        cluster.expect("it is level", Cluster::is_level);
        cluster.expect("it takes writes again", |sim| !sim.report(a).unwrap().storage_full);
        cluster.settle();
    });
}

#[test]
fn who_has_space_again_in_time_refuses_nothing() {
    // There was no space for the next segment, and is again before the one in use is full.
    let seen = Cell::new(0);
    for_seeds(3, |cluster| {
        let a = cluster.leader;
        let led = cluster.ballot();
        let missed = || cluster.disk(a).fired().of(DiskFault::NoSpace);
        cluster.disk(a).set_room(Some(0));
        let mut written = 0;
        while missed() == 0 {
            cluster.end(cluster.begin(a, 500)).unwrap();
            written += 1;
            assert!(written < 2000, "the disk never fills up");
        }
        let in_time = !cluster.report(a).unwrap().storage_full;
        cluster.disk(a).set_room(None);
        if !in_time {
            cluster.expect("there is space", |sim| !sim.report(a).unwrap().storage_full);
            return cluster.settle();
        }
        seen.set(seen.get() + 1);
        cluster.run_for(Duration::from_millis(cluster.below(2000)));
        for _ in 0..30 {
            cluster.end(cluster.begin(a, 6000)).unwrap();
            assert!(!cluster.report(a).unwrap().storage_full, "there is space");
        }
        assert_eq!(cluster.ballot(), led, "nobody had to lead instead");
        cluster.settle();
    });
    assert!(seen.get() > 3, "only in {} seeds there was room in the segment", seen.get());
}

#[test]
fn full_replica_refuses_reads_that_it_cannot_serve() {
    // A full replica cannot take in what the others agree on; who reads there waited in vain.
    for_seeds(3, |cluster| {
        let (a, b) = (cluster.others[0], cluster.leader);
        cluster.disk(a).set_room(Some(0));
        let mut written = 0;
        while !cluster.report(a).unwrap().storage_full {
            drop(cluster.end(cluster.begin(b, 6000)));
            written += 1;
            assert!(written < 200, "the disk never fills up");
        }
        cluster.write_some(b, 3);
        let begun = cluster.now();
        let refused = cluster.replica(a).get(NOTES, 0).wait().expect_err("it lags");
        assert!(refused.is_storage_full(), "{refused}");
        assert!(cluster.now() < begun + Duration::from_millis(2500), "it waited for its deadline");
        assert!(cluster.replica(b).get(NOTES, 0).wait().unwrap().is_some());
        cluster.disk(a).set_room(None);
        cluster.expect("it is level", Cluster::is_level);
        assert!(cluster.replica(a).get(NOTES, 0).wait().unwrap().is_some());
        cluster.settle();
    });
}

#[test]
fn who_is_alone_goes_on_being_read_when_its_disk_is_full() {
    // It knows what is newest, and nobody else can lead.
    for_seeds(1, |cluster| {
        let a = cluster.leader;
        cluster.disk(a).set_room(Some(cluster.below(40_000)));
        let mut writes = (0..200).map(|_| cluster.end(cluster.begin(a, 6000)));
        assert!(writes.any(|result| result.is_err_and(|err| err.is_storage_full())));
        let begun = cluster.now();
        assert!(cluster.replica(a).get(NOTES, 0).wait().unwrap().is_some());
        assert!(cluster.replica(a).snapshot().wait().is_ok());
        assert!(cluster.now() < begun + Duration::from_millis(500), "it waited for something");
        cluster.disk(a).set_room(None);
        cluster.expect("it takes writes again", |sim| !sim.report(a).unwrap().storage_full);
        cluster.write_some(a, 3);
        cluster.settle();
    });
}

#[test]
fn leader_with_hung_disk_is_replaced() {
    // tikv #6224, openraft #1651, pd #10746: a leader whose disk hangs says that it is there, and
    // nothing goes on.
    for_seeds(3, |cluster| {
        let (a, b) = (cluster.leader, cluster.others[0]);
        cluster.pause_disk(a);
        let stuck = (0..3).map(|_| cluster.begin(a, 64)).collect::<Vec<_>>();
        cluster.run_for(Duration::from_millis(cluster.below(100)));
        let other = cluster.begin(b, 64);
        stuck.into_iter().for_each(|write| drop(cluster.end(write)));
        drop(cluster.end(other));
        cluster.write_some(b, 3);
        cluster.resume_disk(a);
        cluster.settle();
    });
}

#[test]
fn syncs_that_end_in_any_order() {
    // openraft #1960: of two appends in flight the later one ends first, and the end of the other
    // is forgotten; then nothing more happens.
    for replicas in [1, 3] {
        for_seeds(replicas, |cluster| {
            for id in cluster.ids() {
                let sync = (Duration::from_micros(100), Duration::from_millis(20));
                cluster.set_disk_speed(id, DiskSpeed { sync, straggle: 200 });
            }
            for _ in 0..10 {
                let writes = (0..5).map(|_| {
                    let write = cluster.begin(cluster.leader, 5000);
                    cluster.run_for(Duration::from_micros(500));
                    write
                });
                let writes = writes.collect::<Vec<_>>();
                for write in writes {
                    cluster.end(write).unwrap();
                }
            }
            cluster.settle();
        });
    }
}

#[test]
fn directory_is_open_once() {
    // Two processes on one directory (fault model, identity): the second one is told, and the first
    // one goes on.
    for_seeds(3, |cluster| {
        let a = cluster.leader;
        let options = indelible::sim::Plan::default().journal;
        let err = Journal::open(cluster.disk(a).mount(), options, a).expect_err("it is open");
        assert_eq!(err.kind(), ErrorKind::Locked);
        cluster.write_some(a, 3);
        cluster.settle();
    });
}
