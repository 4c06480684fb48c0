//! Leaders that move because somebody wants it, and who hears of it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use indelible::{Config, ErrorKind, Replica};

use crate::cluster::{Cluster, NOTES, PATIENCE, config, until};

/// Makes `to` the leader, whoever leads now. On a busy machine a replica may not answer in time.
fn move_to(cluster: &Cluster, to: u64) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match cluster.replica(cluster.leader()).transfer_leadership(to).wait() {
            Ok(()) => return,
            Err(err) => {
                let may_be = [ErrorKind::TimedOut, ErrorKind::NotLeader, ErrorKind::Unreachable];
                assert!(may_be.contains(&err.kind()), "{err}");
                assert!(Instant::now() < deadline, "{err}");
            }
        }
    }
}

/// Stops the writers.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[test]
fn the_leader_moves_and_no_write_fails() {
    let cluster = Cluster::tcp();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // Also where the test panics: else its writers would be waited for for ever.
        let stopped = Stop(&stop);
        let write = |id: u64| {
            let (replica, stop) = (cluster.replica(id).clone(), &stop);
            move || {
                let mut written = 0_u64;
                while !stop.load(Ordering::SeqCst) {
                    replica.put(NOTES, id << 32 | written, b"text").wait().unwrap();
                    written += 1;
                }
                written
            }
        };
        let writers = [1, 2, 3].map(|id| scope.spawn(write(id)));
        for to in [1, 2, 3, 2, 1, 3] {
            move_to(&cluster, to);
            std::thread::sleep(Duration::from_millis(20));
        }
        drop(stopped);
        let written = writers.map(|writer| writer.join().unwrap());
        assert!(written.iter().all(|count| *count > 0), "{written:?}");
    });
}

#[test]
fn who_observes_hears_who_leads_in_the_end() {
    let mut cluster = Cluster::in_process(config());
    let observer = cluster.ids().into_iter().find(|id| *id != cluster.leader()).unwrap();
    let mut known = None;
    let mut wait_for = |replica: &Replica, id: u64| {
        let deadline = Instant::now() + PATIENCE;
        while known.is_none_or(|leader: indelible::Leader| leader.id.0 != id) {
            assert!(Instant::now() < deadline, "it knows of {known:?}, and {id} leads");
            if let Some(next) = replica.next_leader(known).wait_timeout(Duration::from_millis(50)) {
                let before = std::mem::replace(&mut known, next.unwrap());
                assert_ne!(known, before);
            }
        }
        known
    };
    let first = wait_for(cluster.replica(observer), cluster.leader());
    move_to(&cluster, observer);
    let second = wait_for(cluster.replica(observer), observer);
    assert!(first < second, "{first:?}, then {second:?}");

    // One that is closed hands over, and whoever observes there is told that it is closed.
    let replica = cluster.replica(observer).clone();
    let waiting = replica.next_leader(second);
    cluster.close(observer);
    match waiting.wait() {
        Ok(next) => assert_ne!(next, second, "it handed over before"),
        Err(err) => assert_eq!(err.kind(), ErrorKind::Closed, "{err}"),
    }
    assert_eq!(replica.next_leader(None).wait().unwrap_err().kind(), ErrorKind::Closed);
    until("another one leads", || cluster.ids().iter().any(|id| cluster.status(*id).ready));
}

#[test]
fn who_has_the_id_waits_for_the_transaction() {
    let cluster = Cluster::in_process(config());
    for round in 0..20_u64 {
        let (writer, reader) = (1 + round % 3, 1 + (round + 1) % 3);
        let written = cluster.replica(writer).put(NOTES, round, b"text").wait().unwrap();
        let txid = written.txid.unwrap();
        cluster.replica(reader).wait_for(txid).wait().unwrap();
        let found = cluster.replica(reader).stale_snapshot().get(NOTES, round).unwrap();
        assert_eq!(found.unwrap().version, txid);
    }
}

#[test]
fn the_preferred_replica_comes_to_lead() {
    let config = Config {
        heartbeat_interval: Duration::from_millis(25),
        election_timeout: Duration::from_millis(200),
        ..config()
    };
    let mut cluster = Cluster::in_process(config);
    let preferred = cluster.follower();
    cluster.close(preferred);
    cluster.config.priority = 7;
    cluster.open(preferred);
    until("the preferred one leads", || cluster.status(preferred).ready);
    assert_eq!(cluster.leader(), preferred);
    assert_eq!(cluster.status(preferred).priority, 7);
    for id in cluster.ids().into_iter().filter(|id| *id != preferred) {
        let status = cluster.status(id);
        assert_eq!(status.priority, 0);
        let peer = status.peers.iter().find(|peer| peer.id.0 == preferred).unwrap();
        assert_eq!(peer.priority, 7);
        assert!(status.to_string().contains("(priority 7)"), "{status}");
    }
}
