//! Who leads next, where somebody decides it: an operator, a leader that is closed, a slow disk.

use std::time::Duration;

use indelible::sim::Simulation;
use indelible::sim::network::{Fate, Weather};
use indelible::types::ids::Ballot;
use indelible::{ErrorKind, Leader, ReplicaId};

use super::support::{Cluster, TIMEOUT, for_seeds, is};

#[track_caller]
fn transfer(cluster: &Cluster, from: ReplicaId, to: ReplicaId) -> indelible::Result<()> {
    cluster.replica(from).transfer_leadership(to).wait()
}

#[test]
fn hand_over_fails_no_write() {
    // etcd's MoveLeader and Raft's leadership transfer (thesis, 3.10): who plans it loses nothing,
    // and nobody waits for a timeout.
    for_seeds(3, |cluster| {
        let mut leader = cluster.leader;
        for _ in 0..6 {
            let to = cluster.others[cluster.below(2) as usize];
            let to = if to == leader { cluster.leader } else { to };
            let ids = cluster.ids();
            let began = cluster.now();
            let writes = (0..12).map(|at| cluster.begin(ids[at % 3], 200)).collect::<Vec<_>>();
            cluster.run_for(Duration::from_micros(cluster.below(5000)));
            transfer(cluster, leader, to).unwrap();
            let late = (0..12).map(|at| cluster.begin(ids[at % 3], 200)).collect::<Vec<_>>();
            writes.into_iter().chain(late).for_each(|write| cluster.end(write).unwrap());
            let took = cluster.now().since(began);
            assert!(took < TIMEOUT, "seed {}: it took {took:?}", cluster.seed());
            assert_eq!(cluster.ballot().unwrap().leader, to);
            leader = to;
        }
        cluster.settle();
    });
}

#[test]
fn closed_leader_is_not_missed() {
    // Planned work on a machine is the most frequent reason for a change of the leader. TiKV and
    // CockroachDB move leases away before a node stops; nobody has to notice that it is gone.
    for_seeds(3, |cluster| {
        // What is late on its way would meet nobody any more, and its outcome be unknown.
        cluster.set_weather(Weather::default());
        let (a, b) = (cluster.leader, cluster.others[0]);
        let ballot = cluster.ballot().unwrap();
        let writes = (0..5).map(|_| cluster.begin(b, 100)).collect::<Vec<_>>();
        let asked = cluster.record(|parcel| parcel.message.name() == "TakeOver");
        cluster.begin_close(a, Duration::from_secs(5));
        let began = cluster.now();
        let another = |sim: &Simulation| sim.leader().is_some_and(|leader| leader != a);
        cluster.expect("another one leads", another);
        let led = cluster.now().since(began);
        assert!(led < TIMEOUT / 4, "seed {}: another one leads after {led:?}", cluster.seed());
        cluster.expect("it is closed", |sim| !sim.is_up(a));
        let closed = cluster.now().since(began);
        assert!(closed < TIMEOUT, "seed {}: closed in {closed:?}", cluster.seed());
        assert_eq!(asked.lock().unwrap().len(), 1, "one was asked, once");
        assert_eq!(cluster.ballot().unwrap().round, ballot.round + 1, "one campaign was enough");
        writes.into_iter().for_each(|write| cluster.end(write).unwrap());
        cluster.settle();
    });
}

#[test]
fn stalled_disk_leads_no_longer() {
    // etcd #11488, CockroachDB's disk stalls: a leader whose disk hangs goes on telling that it
    // leads, while every promise it would have to make is late.
    for_seeds(3, |cluster| {
        let (a, b) = (cluster.leader, cluster.others[0]);
        cluster.pause_disk(a);
        cluster.write_some(b, 3);
        cluster.expect("another one leads", |sim| sim.leader().is_some_and(|leader| leader != a));
        cluster.write_some(b, 3);
        // It does not come back before its disk does: it would have to promise first.
        cluster.run_timeouts(6);
        assert_ne!(cluster.ballot().unwrap().leader, a);
        cluster.settle();
    });
}

#[test]
fn leader_whose_disk_is_needed_stays() {
    // Of three, one is gone: without the leader's disk nothing can be chosen, whoever leads. And
    // reads, which need no disk, go on.
    for_seeds(3, |cluster| {
        let (a, b) = (cluster.leader, cluster.others[0]);
        let ballot = cluster.ballot();
        cluster.crash(cluster.others[1]);
        let asked = cluster.record(|parcel| parcel.message.name() == "TakeOver");
        cluster.pause_disk(a);
        let write = cluster.begin(b, 100);
        cluster.run_timeouts(6);
        assert_eq!(cluster.ballot(), ballot);
        assert!(asked.lock().unwrap().is_empty(), "nobody is asked to lead");
        cluster.replica(b).wait_ready(TIMEOUT).unwrap();
        cluster.resume_disk(a);
        cluster.end(write).unwrap();
        cluster.settle();
    });
}

#[test]
fn stalled_leader_whose_successor_stalls_leads_on() {
    // Of five, two disks hang, and the one is asked to take over from the other: the three that
    // work must not be kept from choosing.
    for_seeds(5, |cluster| {
        let (a, b) = (cluster.leader, cluster.others[0]);
        let client = cluster.others[3];
        cluster.pause_disk(a);
        cluster.write_some(client, 1);
        cluster.pause_disk(b);
        for _ in 0..20 {
            cluster.write_some(client, 1);
            cluster.run_timeouts(1);
        }
        let leader = cluster.leader().unwrap();
        assert!(leader != a && leader != b, "seed {}: {leader} leads", cluster.seed());
        cluster.settle();
    });
}

#[test]
fn closing_successor_keeps_what_came_back() {
    // A rolling restart that is in a hurry: whoever was just asked to take over is closed itself.
    // What it had forwarded comes back to it while it campaigns, and is not a peer's.
    for_seeds(3, |cluster| {
        cluster.set_weather(Weather::default());
        let (a, b) = (cluster.leader, cluster.others[0]);
        for (name, late) in [("Bounced", 10), ("Promise", 30)] {
            cluster.rule(Fate::Delay(Duration::from_millis(late)), move |parcel| {
                parcel.link.to == b && parcel.message.name() == name
            });
        }
        let moved = cluster.replica(a).transfer_leadership(b);
        let writes = (0..5).map(|_| cluster.begin(b, 100)).collect::<Vec<_>>();
        cluster.run_for(Duration::from_millis(5 + cluster.below(5)));
        cluster.begin_close(b, Duration::from_secs(2));
        cluster.expect("it is closed", |sim| !sim.is_up(b));
        for write in writes {
            // Its own callers are answered: what was forwarded is done, or its outcome is unknown.
            if let Err(err) = cluster.end(write) {
                assert_ne!(err.kind(), ErrorKind::Poisoned, "seed {}: {err}", cluster.seed());
            }
        }
        drop(moved);
        cluster.settle();
    });
}

#[test]
fn closing_leader_asks_another_one() {
    // Of five, two are to go, and their disks are not what they were: who closes is not kept by a
    // successor that cannot promise.
    for_seeds(5, |cluster| {
        let a = cluster.leader;
        let asked = cluster.record(|parcel| parcel.message.name() == "TakeOver");
        let stuck = cluster.ids().into_iter().find(|id| *id != a).unwrap();
        cluster.pause_disk(stuck);
        let began = cluster.now();
        cluster.begin_close(a, Duration::from_secs(5));
        let leads = |sim: &Simulation| sim.leader().is_some_and(|id| id != a && id != stuck);
        cluster.expect("another one leads", leads);
        let took = cluster.now().since(began);
        assert!(took < 3 * TIMEOUT, "seed {}: it took {took:?}", cluster.seed());
        cluster.expect("it is closed", |sim| !sim.is_up(a));
        let mut asked = asked.lock().unwrap().iter().map(|it| it.link.to).collect::<Vec<_>>();
        asked.dedup();
        assert!(asked.len() <= 2, "seed {}: it asked {asked:?}", cluster.seed());
        cluster.settle();
    });
}

#[test]
fn closing_where_every_disk_is_needed_drains_first() {
    // Of three, one is gone, and the leader closes: who waits for what was forwarded to it is
    // answered before.
    for_seeds(3, |cluster| {
        cluster.set_weather(Weather::default());
        let (a, b) = (cluster.leader, cluster.others[0]);
        cluster.crash(cluster.others[1]);
        cluster.run_timeouts(3);
        let writes = (0..20).map(|_| cluster.begin(b, 500)).collect::<Vec<_>>();
        cluster.run_for(Duration::from_millis(1 + cluster.below(3)));
        cluster.begin_close(a, Duration::from_secs(5));
        cluster.expect("it is closed", |sim| !sim.is_up(a));
        for write in writes {
            if let Err(err) = cluster.end(write) {
                assert_eq!(err.kind(), ErrorKind::TimedOut, "it is known: {err}");
            }
        }
        cluster.settle();
    });
}

#[test]
fn successor_that_reaches_too_few_leaves_it() {
    // A hub hands over to a replica that only it can reach: that one could not be elected, and does
    // not try.
    for_seeds(5, |cluster| {
        let (a, b) = (cluster.leader, cluster.others[0]);
        let ballot = cluster.ballot();
        for other in &cluster.others[1..] {
            cluster.cut(b, *other);
            cluster.cut(*other, b);
        }
        cluster.run_timeouts(2);
        let began = cluster.now();
        let err = transfer(cluster, a, b).unwrap_err();
        assert_eq!(err.kind(), ErrorKind::Unreachable, "{err}");
        let took = cluster.now().since(began);
        assert!(took < TIMEOUT, "seed {}: it says so after {took:?}", cluster.seed());
        assert_eq!(cluster.ballot(), ballot);
        cluster.write_some(cluster.others[2], 2);
        cluster.settle();
    });
}

#[test]
fn disk_that_is_slow_everywhere_moves_nobody() {
    // A leader that gives way to one that is no better moves for nothing, again and again.
    for_seeds(3, |cluster| {
        let ballot = cluster.ballot();
        cluster.ids().into_iter().for_each(|id| cluster.pause_disk(id));
        let write = cluster.begin(cluster.leader, 100);
        cluster.run_timeouts(4);
        assert_eq!(cluster.ballot(), ballot);
        cluster.ids().into_iter().for_each(|id| cluster.resume_disk(id));
        cluster.end(write).unwrap();
        cluster.settle();
    });
}

#[test]
fn successor_that_dies_costs_no_leader() {
    // Raft's thesis: "if leadership transfer does not complete after about an election timeout, the
    // prior leader aborts the transfer and resumes accepting client requests".
    for_seeds(3, |cluster| {
        let (a, b, c) = (cluster.leader, cluster.others[0], cluster.others[1]);
        match cluster.below(3) {
            0 => cluster.crash(b),
            1 => drop(cluster.rule(Fate::Drop, move |parcel| is(parcel, a, b, "TakeOver"))),
            _ => drop(cluster.rule(Fate::Drop, move |parcel| is(parcel, b, c, "Prepare"))),
        }
        let pending = cluster.replica(a).transfer_leadership(b);
        let write = cluster.begin(c, 100);
        cluster.run_for(Duration::from_micros(cluster.below(5000)));
        let dies = cluster.below(2) == 0 && cluster.is_up(b);
        if dies {
            cluster.crash(b);
        }
        if let Err(err) = pending.wait() {
            let may_be = [ErrorKind::TimedOut, ErrorKind::Unreachable];
            assert!(may_be.contains(&err.kind()), "{err}");
        }
        match cluster.end(write) {
            Err(err) if dies && err.is_outcome_unknown() => {}
            ended => ended.unwrap(),
        }
        cluster.settle();
    });
}

#[test]
fn hand_over_that_cannot_be_is_refused() {
    // Each with a reason of its own, and nothing happens.
    for_seeds(3, |cluster| {
        let (a, b, c) = (cluster.leader, cluster.others[0], cluster.others[1]);
        let ballot = cluster.ballot();
        let kind = |from, to| transfer(cluster, from, to).unwrap_err().kind();
        assert_eq!(kind(b, c), ErrorKind::NotLeader);
        assert_eq!(kind(a, ReplicaId(9)), ErrorKind::InvalidArgument);
        cluster.crash(c);
        cluster.run_timeouts(3);
        assert_eq!(kind(a, c), ErrorKind::Unreachable);
        transfer(cluster, a, a).unwrap();
        assert_eq!(cluster.ballot(), ballot);

        cluster.rule(Fate::Drop, move |parcel| is(parcel, a, b, "TakeOver"));
        let first = cluster.replica(a).transfer_leadership(b);
        cluster.reopen(c);
        cluster.run_for(TIMEOUT / 2);
        let second = cluster.replica(a).transfer_leadership(c);
        assert_eq!(second.wait().unwrap_err().kind(), ErrorKind::Busy);
        assert_eq!(first.wait().unwrap_err().kind(), ErrorKind::Unreachable);
        transfer(cluster, a, c).unwrap();
        cluster.settle();
    });
}

#[test]
fn nobody_misses_the_newest_leader() {
    // Chubby's sequencers, etcd's election API: who observes slowly may skip a leader, and must
    // never end with an old one; and a later leader has a greater token.
    for_seeds(3, |cluster| {
        let observer = cluster.replica(cluster.others[0]);
        let (mut leader, mut known) = (cluster.leader, None);
        for _ in 0..5 {
            for _ in 0..cluster.below(3) {
                let to = cluster.ids()[cluster.below(3) as usize];
                transfer(cluster, leader, to).unwrap();
                leader = to;
            }
            cluster.expect("it is ready", |sim| sim.leader() == Some(leader));
            let Ballot { round, leader: id } = cluster.ballot().unwrap();
            let newest = Leader { round, id };
            while known != Some(newest) {
                known = observer.next_leader(known).wait().unwrap();
            }
            let mut pending = observer.next_leader(known);
            let told = pending.wait_timeout(TIMEOUT);
            assert!(told.is_none(), "nothing is new after {known:?}, and {told:?} is told");
            let to = if leader == cluster.leader { cluster.others[1] } else { cluster.leader };
            transfer(cluster, leader, to).unwrap();
            leader = to;
            known = pending.wait().unwrap();
            assert!(known.is_none_or(|next| newest < next && newest.token() < next.token()));
        }
        cluster.settle();
    });
}
