//! Changes of the membership that the voters to be are too unhealthy for, and that are forced.

use std::time::Duration;

use indelible::{ErrorKind, Membership, Pending, ReplicaId, Result};

use super::membership::{ids, join, replaced, with_outsiders};
use super::support::{BOUND, Cluster};

/// The answer, as soon as there is one.
#[track_caller]
fn end(cluster: &Cluster, mut pending: Pending<Membership>) -> Result<Membership> {
    let end = cluster.now() + BOUND * 2;
    loop {
        if let Some(answer) = pending.wait_timeout(Duration::ZERO) {
            return answer;
        }
        assert!(cluster.now() < end, "seed {}: no answer", cluster.seed());
        cluster.run_for(Duration::from_millis(10));
    }
}

#[test]
fn a_forced_change_lets_one_vote_that_is_away() {
    with_outsiders(3, 1, |cluster| {
        join(cluster, 4);
        cluster.crash(ReplicaId(4));
        cluster.run_timeouts(2);
        cluster.expect("somebody leads", |sim| sim.leader().is_some());
        let leader = cluster.replica(cluster.sim.leader().unwrap());
        let lost = cluster.sim.ids().into_iter().find(|id| Some(*id) != cluster.sim.leader());
        let lost = lost.unwrap();
        cluster.crash(lost);
        let edit = move |present: &Membership| present.with_replaced(lost, 4);
        let err = leader.change_membership(edit).wait().unwrap_err();
        assert_eq!(err.kind(), ErrorKind::NotCaughtUp, "{err}");
        let changed = leader.force_membership(edit).wait().unwrap();
        assert!(changed.voter(ReplicaId(4)).is_some() && changed.voter(lost).is_none());
        cluster.reopen(ReplicaId(4));
        cluster.write_some(ReplicaId(4), 2);
    });
}

#[test]
fn a_forced_change_waits_for_the_voters_that_it_needs() {
    with_outsiders(3, 2, |cluster| {
        let away = ids(&[4, 5]);
        away.iter().for_each(|id| join(cluster, id.0));
        away.iter().for_each(|id| cluster.crash(*id));
        cluster.run_timeouts(2);
        cluster.expect("somebody leads", |sim| sim.leader().is_some());
        let leader = cluster.sim.leader().unwrap();
        let gone = cluster.sim.ids().into_iter().filter(|id| id.0 < 4 && *id != leader);
        let (gone, come) = (gone.collect::<Vec<_>>(), away.clone());
        let edit = move |present: &Membership| replaced(present, &gone, &come);
        let force = || cluster.replica(leader).force_membership(edit.clone());
        // Two of the three that are to vote are away: nothing is proposed, and all goes on.
        let before = cluster.replica(leader).membership();
        let err = end(cluster, force()).unwrap_err();
        assert_eq!(err.kind(), ErrorKind::TimedOut, "{err}");
        cluster.write_some(leader, 2);
        assert_eq!(cluster.replica(leader).membership(), before);
        // One comes back while it is tried.
        let pending = force();
        cluster.run_timeouts(3);
        cluster.reopen(away[0]);
        // Whoever leads no longer when it counts is not told.
        if let Err(err) = end(cluster, pending) {
            assert_eq!(err.kind(), ErrorKind::TimedOut, "{err}");
        }
        cluster.expect("it counts", |sim| {
            let chosen = sim.membership();
            let voters = |it: &Membership| it.voters().iter().map(|it| it.id).collect::<Vec<_>>();
            chosen.as_ref().map(voters) == Some([vec![leader], away.clone()].concat())
        });
        cluster.write_some(ReplicaId(4), 2);
    });
}
