//! Which replica is to lead, where an operator says so beforehand.

use indelible::ReplicaId;
use indelible::sim::Plan;

use super::support::{Cluster, TIMEOUT, for_seeds_of};

fn of(priorities: &[u32]) -> Plan {
    Plan { replicas: priorities.len() as u64, priorities: priorities.to_vec(), ..Plan::default() }
}

/// Waits so many election timeouts until a replica leads.
#[track_caller]
fn expect_leader(cluster: &Cluster, id: ReplicaId, timeouts: u32) {
    let leads = cluster.run_until(TIMEOUT * timeouts, |sim| sim.leader() == Some(id));
    assert!(leads, "seed {}: {id} does not lead", cluster.seed());
}

#[test]
fn preferred_replica_comes_to_lead_and_stays() {
    // MongoDB's member priority: the leader is to be near its writers. It moves without a failed
    // write, once; and comes back once when the replica does.
    for_seeds_of(&of(&[0, 1, 2]), |cluster| {
        let (middle, high) = (ReplicaId(2), ReplicaId(3));
        let writes = (0..6).map(|at| cluster.begin(cluster.ids()[at % 3], 200)).collect::<Vec<_>>();
        expect_leader(cluster, high, 15);
        writes.into_iter().for_each(|write| cluster.end(write).unwrap());
        let ballot = cluster.ballot();
        for _ in 0..15 {
            cluster.run_timeouts(2);
            cluster.write_some(ReplicaId(1), 1);
        }
        assert_eq!(cluster.ballot(), ballot, "seed {}: it stays", cluster.seed());

        cluster.crash(high);
        expect_leader(cluster, middle, 15);
        let ballot = cluster.ballot();
        cluster.reopen(high);
        cluster.run_timeouts(9);
        assert_eq!(cluster.ballot(), ballot, "seed {}: not so soon", cluster.seed());
        expect_leader(cluster, high, 5);
        let rounds = cluster.ballot().unwrap().round - ballot.unwrap().round;
        assert_eq!(rounds, 1, "seed {}: one campaign was enough", cluster.seed());
        cluster.settle();
    });
}

#[test]
fn preferred_that_cannot_be_elected_moves_nobody() {
    // It reaches the leader, and nobody else: each time that it is asked it refuses at once, and it
    // is asked less and less.
    for_seeds_of(&of(&[0, 0, 0, 0, 1]), |cluster| {
        let (high, client) = (ReplicaId(5), ReplicaId(4));
        if cluster.leader == high {
            cluster.replica(high).transfer_leadership(1).wait().unwrap();
        }
        let leader = cluster.leader().unwrap();
        for other in cluster.ids().into_iter().filter(|id| *id != leader && *id != high) {
            cluster.cut(high, other);
            cluster.cut(other, high);
        }
        let ballot = cluster.ballot();
        let asked = cluster.record(|parcel| parcel.message.name() == "TakeOver");
        let mut times = Vec::new();
        for time in 0..240 {
            let before = asked.lock().unwrap().len();
            cluster.run_timeouts(1);
            // A question that is late, or its answer, is asked again.
            let same = times.last().is_some_and(|last| time - last <= 1);
            if asked.lock().unwrap().len() > before && !same {
                times.push(time);
            }
            if time % 8 == 0 {
                cluster.write_some(client, 1);
            }
        }
        assert_eq!(cluster.ballot(), ballot, "seed {}: nobody moves", cluster.seed());
        let waits = times.windows(2).map(|pair| pair[1] - pair[0]).collect::<Vec<_>>();
        let longer = waits.iter().zip([20, 40, 80, 80]).all(|(wait, least)| *wait >= least - 1);
        assert!(longer && times.len() >= 4, "seed {}: asked at {times:?}", cluster.seed());
        cluster.settle();
    });
}

#[test]
fn equal_priorities_move_nobody() {
    for_seeds_of(&of(&[3, 3, 3]), |cluster| {
        let ballot = cluster.ballot();
        for _ in 0..60 {
            cluster.run_timeouts(1);
            cluster.write_some(cluster.others[0], 1);
        }
        assert_eq!(cluster.ballot(), ballot, "seed {}", cluster.seed());
        cluster.settle();
    });
}

#[test]
fn preferred_that_falls_again_and_again_leads_less_and_less() {
    // A machine that crashes under the load of a leader: whoever prefers it must not make the
    // cluster crash with it for ever.
    for_seeds_of(&of(&[0, 0, 1]), |cluster| {
        let (high, client) = (ReplicaId(3), ReplicaId(1));
        let end = cluster.now() + TIMEOUT * 400;
        let mut led = 0;
        while cluster.now() < end {
            cluster.run_until(TIMEOUT * 400, |sim| sim.leader() == Some(high) || end <= sim.now());
            if cluster.leader() == Some(high) {
                led += 1;
                cluster.crash(high);
                cluster.run_timeouts(3);
                cluster.write_some(client, 1);
                cluster.reopen(high);
            }
        }
        // Each of the others handed over after 10, 20, 40 and 80 timeouts.
        assert!((4..=12).contains(&led), "seed {}: it led {led} times", cluster.seed());
        cluster.settle();
    });
}
