//! Networks that are cut in part: whoever reaches a quorum both ways leads, and soon.

use std::cell::Cell;
use std::time::Duration;

use indelible::ReplicaId;
use indelible::sim::Simulation;
use indelible::sim::network::links_among;

use super::support::{BOUND, Cluster, TIMEOUT, for_seeds};

/// Only the links of `center` work.
fn star(cluster: &Cluster, center: ReplicaId) {
    for link in links_among(&cluster.ids()) {
        if link.from != center && link.to != center {
            cluster.cut(link.from, link.to);
        }
    }
}

/// How often somebody begins to lead meanwhile.
fn changes(cluster: &Cluster, time: Duration) -> u64 {
    let before = cluster.counts().leaders;
    cluster.run_for(time);
    cluster.counts().leaders - before
}

fn claims(sim: &Simulation, id: ReplicaId) -> bool {
    let view = sim.report(id).and_then(|report| report.view);
    view.is_some_and(|view| view.leader.is_some_and(|ballot| ballot.leader == id))
}

#[test]
fn quorum_loss_star() {
    // OmniPaxos, EuroSys 2023: the leader is alive and reaches nobody but one, who reaches all.
    for_seeds(5, |cluster| {
        let (a, b) = (cluster.leader, cluster.others[cluster.below(4) as usize]);
        star(cluster, b);
        cluster.expect("the center leads", |sim| sim.leader() == Some(b));
        cluster.expect("the old leader gives up", |sim| !claims(sim, a));
        let after = changes(cluster, TIMEOUT * 20);
        assert!(after <= 2, "{after} changes of the leader");
        assert_eq!(cluster.sim.leader(), Some(b));
        for id in cluster.ids() {
            cluster.write_some(id, 1);
        }
        cluster.settle();
    });
}

#[test]
fn constrained_election() {
    // OmniPaxos, EuroSys 2023: the only one who can lead is behind the others.
    for_seeds(5, |cluster| {
        let b = cluster.others[cluster.below(4) as usize];
        cluster.isolate(b);
        cluster.write_some(cluster.leader, 8);
        cluster.heal();
        star(cluster, b);
        cluster.expect("the center leads", |sim| sim.leader() == Some(b));
        cluster.write_some(b, 3);
        cluster.settle();
    });
}

#[test]
fn chained() {
    // OmniPaxos, EuroSys 2023, and #1: in a chain the ends take the lead from each other for ever.
    for_seeds(3, |cluster| {
        let (a, b) = (cluster.leader, cluster.others[0]);
        let c = cluster.others[1];
        cluster.cut(a, c);
        cluster.cut(c, a);
        for _ in 0..5 {
            cluster.cut(a, b);
            cluster.cut(b, a);
            cluster.run_for(Duration::from_millis(100 + cluster.below(900)));
            cluster.mend(a, b);
            cluster.mend(b, a);
            cluster.run_for(Duration::from_millis(100 + cluster.below(900)));
        }
        cluster.expect("somebody leads", |sim| sim.leader().is_some());
        cluster.run_for(BOUND);
        let after = changes(cluster, Duration::from_secs(60));
        assert!(after < 3, "{after} changes of the leader in a minute");
        cluster.write_some(b, 3);
        cluster.settle();
    });
}

#[test]
fn one_way_leader_that_only_sends() {
    // TigerBeetle, isolate primary, send-only; openraft t14_one_way_isolation: its heartbeats
    // arrive, so nobody else is elected.
    for_seeds(3, |cluster| {
        let (a, b) = (cluster.leader, cluster.others[0]);
        cluster.others.iter().for_each(|id| cluster.cut(*id, a));
        cluster.expect("it is replaced", |sim| sim.leader().is_some_and(|id| id != a));
        cluster.write_some(b, 3);
        let after = changes(cluster, TIMEOUT * 20);
        assert!(after <= 1, "{after} changes of the leader");
        cluster.settle();
    });
}

#[test]
fn one_way_leader_that_only_receives() {
    // TigerBeetle, isolate primary, receive-only: nothing that it decides may become data.
    for_seeds(3, |cluster| {
        let (a, b) = (cluster.leader, cluster.others[0]);
        cluster.others.iter().for_each(|id| cluster.cut(a, *id));
        let lost = cluster.begin(a, 64);
        cluster.expect("it is replaced", |sim| sim.leader().is_some_and(|id| id != a));
        cluster.write_some(b, 3);
        drop(cluster.end(lost));
        let after = changes(cluster, TIMEOUT * 20);
        assert!(after <= 1, "{after} changes of the leader");
        cluster.settle();
    });
}

#[test]
fn islander_with_high_ballot() {
    // TigerBeetle, "partitioned replica with higher view cannot lock out client"; Raft's PreVote:
    // who comes back after long disturbs at most once.
    for_seeds(3, |cluster| {
        let (a, c) = (cluster.leader, cluster.others[1]);
        cluster.isolate(c);
        cluster.run_for(Duration::from_secs(600));
        cluster.write_some(a, 3);
        cluster.heal();
        // It asks for a ballot, and the leader takes one above; each time that nobody leads counts.
        let counted = || (cluster.counts().leaders, cluster.ballot().map(|ballot| ballot.round));
        let (before, led, lost) = (counted(), Cell::new(true), Cell::new(0));
        cluster.run_until(TIMEOUT * 20, |sim| {
            let leads = sim.leader().is_some();
            lost.set(lost.get() + u64::from(led.replace(leads) && !leads));
            false
        });
        let after = counted();
        assert!(lost.get() <= 1, "the leader was lost {} times", lost.get());
        assert!(after.0 <= before.0 + 1, "{} began to lead", after.0 - before.0);
        assert!(after.1 <= before.1.map(|round| round + 2), "{before:?}, then {after:?}");
        cluster.write_some(c, 3);
        cluster.settle();
    });
}

#[test]
fn restarted_peer_at_the_same_address_is_heard() {
    // openraft #1770, #1723: a leader keeps writing to a peer that is gone, or waits for ever
    // longer before it tries again.
    for_seeds(3, |cluster| {
        let (a, c) = (cluster.leader, cluster.others[1]);
        for _ in 0..5 {
            cluster.crash(c);
            cluster.write_some(a, 2);
            cluster.run_for(Duration::from_millis(cluster.below(3000)));
            cluster.reopen(c);
            cluster.expect("it is level", Cluster::is_level);
            cluster.write_some(c, 1);
        }
        cluster.settle();
    });
}
