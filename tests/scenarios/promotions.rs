//! Observers that are to vote: only who knows about as much as the others does.

use indelible::sim::Plan;
use indelible::types::limits::ALPHA;
use indelible::{ErrorKind, MembershipError, ReplicaId};

use super::membership::{change, join};
use super::support::{Cluster, for_few_seeds_of};

#[test]
fn an_observer_that_is_heard_and_lags_does_not_vote() {
    // As many slots as anybody may propose ahead take long.
    let plan = Plan { outsiders: 1, ..Plan::default() };
    for_few_seeds_of(2, &plan, |cluster| {
        join(cluster, 4);
        let observer = ReplicaId(4);
        let leader = cluster.sim.leader().unwrap();
        // It says how far it knows the log, and hears nothing.
        (1..=3).for_each(|id| cluster.cut(id, observer));
        let lag = || cluster.slot_chosen(leader).0 - cluster.slot_chosen(observer).0;
        while lag() < ALPHA {
            cluster.write_some(leader, 1);
        }
        cluster.run_timeouts(2);
        let report = cluster.report(leader).unwrap();
        assert!(report.peers.iter().any(|peer| peer.id == observer && peer.heard));

        let chosen = cluster.slot_chosen(leader);
        let wanted = MembershipError::NotCaughtUp { id: observer, lag: Some(ALPHA) };
        for asked in [
            cluster.replica(leader).promote(observer),
            cluster.replica(leader).replace(cluster.others[0], observer),
        ] {
            let err = asked.wait().unwrap_err();
            assert_eq!(
                (err.kind(), err.membership_error()),
                (ErrorKind::NotCaughtUp, Some(&wanted))
            );
            assert!(err.to_string().contains(&format!("lags by {ALPHA} slots")), "{err}");
            assert!(err.is_retryable());
        }
        assert_eq!(cluster.slot_chosen(leader), chosen, "something was proposed");

        // Once it hears the others it catches up, and votes.
        cluster.heal();
        cluster.expect("it is level", Cluster::is_level);
        let promoted = change(cluster, |leader| leader.promote(observer));
        assert!(promoted.voter(observer).is_some());
        cluster.settle();
    });
}
