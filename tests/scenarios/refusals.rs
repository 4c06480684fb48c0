//! Changes of the membership that nobody could make, or go on with: refused, and never proposed.

use std::cell::Cell;
use std::time::Duration;

use indelible::sim::Plan;
use indelible::sim::network::Fate;
use indelible::{ErrorKind, Membership, MembershipError, ReplicaId};

use super::membership::{change, join, settle, with_outsiders};
use super::support::{Cluster, TIMEOUT, for_seeds_of};

#[test]
fn a_change_that_the_present_voters_cannot_carry_is_refused() {
    // Two of three are gone: those to be would be enough, and nobody can agree to them.
    let refused = Cell::new(0);
    with_outsiders(3, 0, |cluster| {
        let (leader, [one, two]) = (cluster.leader, [cluster.others[0], cluster.others[1]]);
        [one, two].into_iter().for_each(|id| cluster.crash(id));
        let wanted = MembershipError::TooFewHeard { missing: cluster.others.clone() };
        let end = cluster.now() + TIMEOUT * 2;
        while cluster.now() < end {
            cluster.run_for(Duration::from_millis(10));
            if cluster.report(leader).unwrap().failures_tolerated.is_some() {
                // It does not know yet that they are gone, and might propose it.
                continue;
            }
            let edit = move |present: &Membership| present.without(one)?.without(two);
            let err = cluster.replica(leader).change_membership(edit).wait().unwrap_err();
            match err.kind() {
                ErrorKind::Unreachable => {
                    assert_eq!(err.membership_error(), Some(&wanted), "seed {}", cluster.seed());
                    refused.set(refused.get() + 1);
                }
                // Who hears too few of them leads no longer, sooner or later.
                kind => assert_eq!(kind, ErrorKind::NotLeader, "seed {}: {err}", cluster.seed()),
            }
        }
        assert_eq!(cluster.sim.leader(), None, "seed {}", cluster.seed());
        [one, two].into_iter().for_each(|id| cluster.reopen(id));
        settle(cluster);
        assert_eq!(cluster.sim.membership().unwrap().voters().len(), 3, "it was proposed");
    });
    // Where it learns at once that both are gone, it leads on for a while.
    assert!(refused.get() > 0, "it never led while it was asked");
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

/// Observer 4 is there, and one of three voters is away: where 4 is to vote, it is needed.
/// Returns who leads.
#[track_caller]
fn need_the_newcomer(cluster: &Cluster) -> ReplicaId {
    join(cluster, 4);
    let leader = cluster.sim.leader().unwrap();
    let away = (1..=3).map(ReplicaId).find(|id| *id != leader).unwrap();
    cluster.crash(away);
    cluster.run_timeouts(2);
    assert_eq!(cluster.sim.leader(), Some(leader), "seed {}", cluster.seed());
    leader
}

/// To promote 4 is given up, in time and before anything was proposed, and may be tried again.
#[track_caller]
fn expect_unanswered(cluster: &Cluster, leader: ReplicaId) {
    let (began, chosen) = (cluster.now(), cluster.slot_chosen(leader));
    let err = cluster.replica(leader).promote(4).wait().unwrap_err();
    let why = (err.kind(), err.membership_error());
    let wanted = (ErrorKind::Unreachable, Some(&MembershipError::NotAnswered));
    assert_eq!(why, wanted, "seed {}: {err}", cluster.seed());
    assert!(err.to_string().contains("too few of those who are to vote answered in time"), "{err}");
    assert!(err.is_retryable());
    let taken = cluster.now().since(began);
    assert!(TIMEOUT <= taken && taken < TIMEOUT * 2, "{taken:?}");
    assert_eq!(cluster.slot_chosen(leader), chosen, "something was proposed");
    assert_eq!(cluster.sim.leader(), Some(leader), "seed {}", cluster.seed());
    cluster.write_some(leader, 2);
}

#[test]
fn a_change_that_a_needed_voter_does_not_answer_is_given_up() {
    // It follows, and is heard both ways: only its promises do not arrive.
    with_outsiders(3, 1, |cluster| {
        let leader = need_the_newcomer(cluster);
        cluster.rule(Fate::Drop, |parcel| {
            parcel.link.from == ReplicaId(4) && parcel.message.name() == "Promise"
        });
        expect_unanswered(cluster, leader);
        cluster.heal();
        let promoted = cluster.replica(leader).promote(4).wait().unwrap();
        assert!(promoted.voter(ReplicaId(4)).is_some());
        settle(cluster);
    });
}

#[test]
fn a_voter_that_an_earlier_opening_binds_is_asked_in_vain_until_that_is_over() {
    // As far as its directory says it granted a lease before it was opened, and promises nothing
    // until that has passed.
    let lease = Duration::from_secs(2);
    let plan = Plan { outsiders: 1, read_lease: Some(lease), ..Plan::default() };
    for_seeds_of(&plan, |cluster| {
        let leader = need_the_newcomer(cluster);
        cluster.crash(4);
        let opened = cluster.now();
        cluster.reopen(ReplicaId(4));
        cluster.run_timeouts(1);
        expect_unanswered(cluster, leader);
        let promoted = change(cluster, |leader| leader.promote(4));
        assert!(promoted.voter(ReplicaId(4)).is_some());
        let waited = cluster.now().since(opened);
        assert!(lease <= waited, "seed {}: it voted after {waited:?}", cluster.seed());
        settle(cluster);
    });
}
