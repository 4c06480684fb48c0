//! Reads while leaders change, and while clocks say anything: never an old value.

use std::cell::Cell;
use std::time::Duration;

use indelible::sim::network::Fate;
use indelible::types::message::Message;
use indelible::{ErrorKind, TxId};

use super::support::{Cluster, NOTES, TIMEOUT, for_seeds, is, nothing_survives};

/// The key written last, which only the leader and `c` hold, and then the leader is gone and `b`
/// leads, without a slot of its own that is chosen.
fn lead_afresh(cluster: &Cluster) -> u64 {
    let (a, b, c) = (cluster.leader, cluster.others[0], cluster.others[1]);
    cluster.rule(Fate::Drop, move |parcel| {
        let carries = matches!(parcel.message, Message::Accept(_) | Message::Chosen(_));
        parcel.link.from == a && parcel.link.to == b && carries
    });
    let write = cluster.begin(a, 64);
    let key = write.0;
    cluster.end(write).unwrap();
    cluster.cut_power(a, &mut nothing_survives);
    cluster.rule(Fate::Drop, move |parcel| is(parcel, c, b, "Prepare"));
    // So it finds what was voted for, and cannot have it chosen anew.
    cluster.rule(Fate::Drop, move |parcel| is(parcel, c, b, "Accepted"));
    cluster.expect("the other one leads", |sim| {
        let view = sim.report(b).and_then(|report| report.view);
        view.is_some_and(|view| view.leader.is_some_and(|ballot| ballot.leader == b))
    });
    key
}

#[test]
fn fresh_leader_read() {
    // etcd #7331, TiKV #9239 and #6340, redisraft #22: a new leader answers before it knows what
    // was acknowledged under the old one.
    for_seeds(3, |cluster| {
        let (b, c) = (cluster.others[0], cluster.others[1]);
        let key = lead_afresh(cluster);
        let reads = [b, c].map(|id| cluster.replica(id).get(NOTES, key));
        cluster.run_timeouts(1);
        cluster.heal();
        for read in reads {
            match read.wait() {
                Ok(found) => assert!(found.is_some(), "what was acknowledged is not read"),
                Err(err) => assert_eq!(err.kind(), ErrorKind::TimedOut, "{err}"),
            }
        }
        cluster.settle();
    });
}

#[test]
fn fresh_leader_that_dies_answers_nothing_old() {
    // As above; the new leader dies with the reads that wait for it.
    for_seeds(3, |cluster| {
        let (b, c) = (cluster.others[0], cluster.others[1]);
        let key = lead_afresh(cluster);
        let [at_b, at_c] = [b, c].map(|id| cluster.replica(id).get(NOTES, key));
        cluster.run_for(Duration::from_millis(cluster.below(400)));
        cluster.crash(b);
        cluster.heal();
        for read in [at_b, at_c] {
            if let Ok(found) = read.wait() {
                assert!(found.is_some(), "what was acknowledged is not read");
            }
        }
        cluster.settle();
    });
}

#[test]
fn suspended_leader_reads_nothing_old() {
    // rust-lang #87906, jraft #34, TiKV #964, yugabyte #16, nebula #2723: a leader is suspended,
    // others are elected, and it goes on with a read in the same moment. Its clocks may say that no
    // time has passed, or much.
    for_seeds(3, |cluster| {
        let (a, b) = (cluster.leader, cluster.others[0]);
        cluster.pause(a);
        let stands_still = cluster.below(2) == 0;
        cluster
            .change_clock(a, |clock, now| clock.set_rate(now, if stands_still { 0 } else { 1000 }));
        cluster.expect("another one leads", |sim| sim.leader().is_some_and(|id| id != a));
        let write = cluster.begin(b, 64);
        let key = write.0;
        cluster.end(write).unwrap();
        let hour = 3_600_000 * (1 - 2 * cluster.below(2) as i64);
        cluster.change_clock(a, |clock, now| {
            clock.set_rate(now, 1000);
            clock.step_calendar(hour);
        });
        let read = cluster.replica(a).get(NOTES, key);
        cluster.resume(a);
        if let Ok(found) = read.wait() {
            assert!(found.is_some(), "what was acknowledged is not read");
        }
        cluster.settle();
    });
}

#[test]
fn a_calendar_that_was_wrong_for_a_while_is_forgotten() {
    // Once an entry bears a time, none behind it bears an earlier one. A machine that started with
    // a wrong calendar, and wrote nothing while it had that, must not stamp anything with it.
    const YEAR: i64 = 365 * 24 * 3_600_000;
    for_seeds(3, |cluster| {
        let leader = cluster.leader;
        let newest = || {
            let all = cluster.replica(leader).transactions(TxId::ZERO);
            all.map(|it| it.unwrap().time()).last().unwrap()
        };
        cluster.write_some(leader, 1);
        let before = newest();
        cluster.change_clock(leader, |clock, _| clock.step_calendar(YEAR));
        cluster.run_timeouts(4);
        cluster.change_clock(leader, |clock, _| clock.step_calendar(-YEAR));
        cluster.write_some(leader, 1);
        let after = newest();
        assert!(before <= after && after.0 - before.0 < YEAR / 2, "{before:?}, then {after:?}");
    });
}

#[test]
fn clocks_decide_nothing_but_when() {
    // d-engine #391, etcd #20418: rights that hang on a clock outlive their time.
    let (tried, wrote, read) = (Cell::new(0), Cell::new(0), Cell::new(0));
    let count = |counter: &Cell<u32>| counter.set(counter.get() + 1);
    for_seeds(3, |cluster| {
        for round in 0..8 {
            let id = cluster.ids()[cluster.below(3) as usize];
            let (rate, jump) = (cluster.below(1200), Duration::from_millis(cluster.below(5000)));
            cluster.change_clock(id, |clock, now| {
                clock.set_rate(now, 300 + rate);
                clock.jump(jump);
                clock.step_calendar(jump.as_millis() as i64 * 1_000_000 * (1 - 2 * (round % 2)));
            });
            let writer = cluster.ids()[cluster.below(3) as usize];
            let write = cluster.begin(writer, 64);
            let key = write.0;
            count(&tried);
            if cluster.end(write).is_ok() {
                count(&wrote);
                let reader = cluster.ids()[cluster.below(3) as usize];
                if let Ok(found) = cluster.replica(reader).get(NOTES, key).wait() {
                    count(&read);
                    assert!(found.is_some(), "what was acknowledged is not read");
                }
            }
        }
        for id in cluster.ids() {
            cluster.change_clock(id, |clock, now| clock.set_rate(now, 1000));
        }
        cluster.run_for(TIMEOUT);
        cluster.settle();
    });
    let [tried, wrote, read] = [&tried, &wrote, &read].map(Cell::get);
    assert!(read * 10 >= tried * 9, "of {tried}, {wrote} were acknowledged, and {read} read");
}

#[test]
fn who_waits_for_an_id_reads_it() {
    // ZooKeeper's `sync` and its zxid, MongoDB's causal tokens: who is told an id on one replica
    // reads its transaction on another one, without asking whoever leads.
    for_seeds(3, |cluster| {
        let (a, b) = (cluster.leader, cluster.others[0]);
        let slow = move |parcel: &indelible::sim::network::Parcel| parcel.link.to == b;
        cluster.rule(Fate::Delay(Duration::from_millis(5 + cluster.below(200))), slow);
        for _ in 0..3 {
            let written = cluster.replica(a).put(NOTES, 1 << 40, b"news").wait().unwrap();
            let txid = written.txid.unwrap();
            cluster.replica(b).wait_for(txid).wait().unwrap();
            let snapshot = cluster.replica(b).stale_snapshot();
            assert!(snapshot.txid() >= txid, "it waited for {txid}, and has {}", snapshot.txid());
            let found = snapshot.get(NOTES, 1 << 40).unwrap().unwrap();
            assert_eq!(found.version, txid);
            cluster.replica(a).delete(NOTES, 1 << 40).wait().unwrap();
        }
        // One that cannot come there, and one that was never given.
        cluster.isolate(b);
        let txid = cluster.replica(a).put(NOTES, 1 << 40, b"more").wait().unwrap().txid.unwrap();
        let waits = [(b, txid), (a, indelible::TxId::MAX)];
        for (id, wait) in waits.map(|(id, txid)| (id, cluster.replica(id).wait_for(txid))) {
            let err = wait.wait().unwrap_err();
            assert_eq!(err.kind(), ErrorKind::TimedOut, "replica {id}: {err}");
        }
        assert!(cluster.replica(b).stale_snapshot().txid() < txid);
        let mut wait = cluster.replica(b).wait_for(txid);
        assert!(wait.wait_timeout(TIMEOUT).is_none(), "it cannot know {txid}");
        cluster.heal();
        wait.wait().unwrap();
        assert!(cluster.replica(b).stale_snapshot().txid() >= txid);
        cluster.settle();
    });
}
