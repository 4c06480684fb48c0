//! Changes of the membership that nobody could make, or go on with: refused, and never proposed.

use indelible::{ErrorKind, Membership, MembershipError, ReplicaId};

use super::membership::{change, join, settle, with_outsiders};

#[test]
fn a_change_that_the_present_voters_cannot_carry_is_refused() {
    // Two of three are gone: those to be would be enough, and nobody can agree to them.
    with_outsiders(3, 0, |cluster| {
        let (leader, [one, two]) = (cluster.leader, [cluster.others[0], cluster.others[1]]);
        [one, two].into_iter().for_each(|id| cluster.crash(id));
        cluster.run_timeouts(2);
        let edit = move |present: &Membership| present.without(one)?.without(two);
        let err = cluster.replica(leader).change_membership(edit).wait().unwrap_err();
        // Who hears too few of them leads no longer, sooner or later.
        let is_refused = matches!(err.kind(), ErrorKind::NotLeader | ErrorKind::Unreachable);
        assert!(is_refused, "{err}");
        [one, two].into_iter().for_each(|id| cluster.reopen(id));
        settle(cluster);
        assert_eq!(cluster.sim.membership().unwrap().voters().len(), 3, "it was proposed");
    });
}

#[test]
fn a_refusal_names_the_voters_to_be_that_are_not_heard() {
    // Of three, one is away: to remove one of the others would leave two that are both needed.
    with_outsiders(3, 0, |cluster| {
        let (leader, away, left) = (cluster.leader, cluster.others[0], cluster.others[1]);
        cluster.crash(away);
        cluster.run_timeouts(2);
        assert_eq!(cluster.sim.leader(), Some(leader), "seed {}", cluster.seed());
        let err = cluster.replica(leader).remove(left).wait().unwrap_err();
        let wanted = MembershipError::TooFewHeard { missing: vec![away] };
        assert_eq!((err.kind(), err.membership_error()), (ErrorKind::Unreachable, Some(&wanted)));
        assert!(err.to_string().ends_with(&format!("not replica {away}")), "{err}");
        let err = cluster.replica(leader).transfer_leadership(away).wait().unwrap_err();
        assert!(err.to_string().contains("is not heard"), "{err}");
        cluster.write_some(leader, 2);
        assert!(cluster.replica(leader).membership().is_some_and(|it| it.voters().len() == 3));
    });
}

#[test]
fn those_who_can_choose_can_replace_those_who_are_gone() {
    // Two votes are enough, and four promises were had. They would not be had again.
    with_outsiders(5, 1, |cluster| {
        change(cluster, |leader| leader.change_membership(|present| present.with_quorums(4, 2)));
        join(cluster, 6);
        cluster.expect("somebody leads", |sim| sim.leader().is_some());
        let leader = cluster.sim.leader().unwrap();
        let gone = (1..=5).map(ReplicaId).filter(|id| *id != leader).take(2).collect::<Vec<_>>();
        gone.iter().for_each(|id| cluster.crash(*id));
        cluster.run_timeouts(2);
        assert_eq!(cluster.sim.leader(), Some(leader), "seed {}", cluster.seed());
        cluster.replica(leader).replace(gone[0], 6).wait().unwrap();
        cluster.write_some(leader, 2);
        cluster.reopen(gone[1]);
        settle(cluster);
    });
}
