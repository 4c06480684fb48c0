//! Memberships that cannot be.

use std::time::Duration;

use indelible::{
    Config, Edition, Error, ErrorKind, Incarnation, Member, Membership, MembershipError, Pending,
    Replica, ReplicaId,
};

use crate::cluster::{Cluster, NOTES, addresses, config};

type Edited = Result<Membership, MembershipError>;

/// What is asked for, how it is made, and why it is refused.
type Case = (&'static str, Box<dyn FnOnce(&Membership) -> Edited + Send>, MembershipError);

fn case(
    what: &'static str,
    edit: impl FnOnce(&Membership) -> Edited + Send + 'static,
    why: MembershipError,
) -> Case {
    (what, Box::new(edit), why)
}

/// Somebody whom nobody heard.
fn silent(id: u64, address: &str) -> Member {
    Member { id: ReplicaId(id), incarnation: Incarnation(id.into()), address: address.into() }
}

/// So many of them, as observers.
fn crowded(present: &Membership, ids: std::ops::Range<u64>) -> Edited {
    let mut ids = ids.into_iter();
    ids.try_fold(present.clone(), |next, id| next.with_observer(silent(id, &format!("h:{id}"))))
}

/// Three voters, the silent observer 4, and 5, which was removed; nobody writes.
fn idle() -> Cluster {
    // Nobody takes the lead from who has it.
    let config = Config { election_timeout: Duration::from_secs(3), ..config() };
    let cluster = Cluster::in_process(config);
    let leader = cluster.replica(cluster.leader());
    let edit = |present: &Membership| crowded(present, 4..6)?.without(5);
    leader.change_membership(edit).wait().unwrap();
    leader.put(NOTES, 1, b"text").wait().unwrap();
    cluster.settle();
    cluster
}

/// Ids and addresses; `taken` is that of replica 1.
fn names(taken: &str) -> Vec<Case> {
    use MembershipError::*;
    let address = taken.to_owned();
    let same = address.clone();
    let (one, two, six) = (ReplicaId(1), ReplicaId(2), ReplicaId(6));
    let long = format!("{}:1", "h".repeat(254));
    vec![
        case("a voter's id", |it| it.with_observer(silent(2, "h:2")), DuplicateId(two)),
        case("an observer's", |it| it.with_observer(silent(4, "h:9")), DuplicateId(ReplicaId(4))),
        case("a removed id", |it| it.with_observer(silent(5, "h:5")), RemovedId(ReplicaId(5))),
        case("id 0", |it| it.with_observer(silent(0, "h:9")), ZeroId),
        case(
            "a newcomer at an address that is taken",
            move |it| it.with_observer(silent(6, &address)),
            DuplicateAddress(taken.into()),
        ),
        case(
            "a move to an address that is taken",
            move |it| it.with_address(2, &same),
            DuplicateAddress(taken.into()),
        ),
        case("no port", |it| it.with_observer(silent(6, "h")), AddressPort(six, "h".into())),
        case("port 0", |it| it.with_address(1, "h:0"), AddressPort(one, "h:0".into())),
        case("no host", |it| it.with_address(1, ":1"), AddressPort(one, ":1".into())),
        case("no address", |it| it.with_address(1, ""), AddressLength(one, 0)),
        case("a long address", move |it| it.with_address(1, &long), AddressLength(one, 256)),
    ]
}

/// How many, and who.
fn numbers() -> Vec<Case> {
    use MembershipError::*;
    let quorums = |phase1, phase2| Quorums { phase1, phase2, voters: 3 };
    let (three, seven) = (ReplicaId(3), ReplicaId(7));
    let none = |it: &Membership| it.without(1)?.without(2)?.without(3);
    let many = |it: &Membership| {
        let voters = crowded(it, 10..71)?;
        (10..71).try_fold(voters, |next, id| next.with_voter(id))
    };
    // With 5, one more than a membership can tell of.
    let gone = |it: &Membership| {
        (100..4196).try_fold(it.clone(), |next, id| {
            next.with_observer(silent(id, &format!("h:{id}")))?.without(id)
        })
    };
    let voters = |it: &Membership| it.voters().to_vec();
    vec![
        case("no voters", none, VoterCount(0)),
        case("64 voters", many, VoterCount(64)),
        case("64 observers", |it| crowded(it, 10..73), ObserverCount(64)),
        case("4,097 who were removed", gone, RemovedCount(4097)),
        case("quorums 1 and 2", |it| it.with_quorums(1, 2), quorums(1, 2)),
        case("quorums 2 and 1", |it| it.with_quorums(2, 1), quorums(2, 1)),
        case("quorums 3 and 0", |it| it.with_quorums(3, 0), quorums(3, 0)),
        case("quorums 4 and 1", |it| it.with_quorums(4, 1), quorums(4, 1)),
        case("to promote who is none", |it| it.with_voter(7), NoObserver(seven)),
        case("to remove who is none", |it| it.without(7), NoMember(seven)),
        case("to remove who was", |it| it.without(5), NoMember(ReplicaId(5))),
        case("to move who is none", |it| it.with_address(7, "h:7"), NoMember(seven)),
        case("to replace who is none", |it| it.with_replaced(7, 4), NoMember(seven)),
        case("to replace by a voter", |it| it.with_replaced(2, 3), NoObserver(three)),
        case("no sessions", |it| it.with_sessions_max(0), SessionsMax(0)),
        case("65,537 sessions", |it| it.with_sessions_max(65_537), SessionsMax(65_537)),
        case(
            "edition 0",
            |it| it.with_edition(indelible::Edition(0)),
            Edition(indelible::Edition(0)),
        ),
        case(
            "another alpha",
            move |it| Membership::flexible(voters(it), 2, 2, it.alpha() + 1),
            Alpha(4097),
        ),
        case(
            "to forget who was removed",
            move |it| Membership::majority(voters(it)),
            Forgotten(ReplicaId(5)),
        ),
        case(
            "a voter who was no member",
            move |it| Membership::majority([voters(it), vec![silent(6, "h:6")]].concat()),
            NoObserver(ReplicaId(6)),
        ),
        case(
            "a voter's other directory",
            move |it| {
                let mut voters = voters(it);
                voters[2].incarnation = Incarnation(3);
                Membership::majority(voters)
            },
            OtherIncarnation(three),
        ),
    ]
}

#[test]
fn each_change_that_cannot_be_proposes_nothing() {
    let cluster = idle();
    let leader = cluster.replica(cluster.leader());
    let (before, present) = (leader.status(), leader.membership().unwrap());
    let refused = |what: &str, asked: Pending<Membership>, kind, why: Option<&MembershipError>| {
        let err: Error = asked.wait().unwrap_err();
        assert_eq!((err.kind(), err.membership_error()), (kind, why), "{what}: {err}");
    };
    for (what, edit, why) in names(&cluster.addresses[0].1).into_iter().chain(numbers()) {
        let kind = ErrorKind::InvalidArgument;
        refused(what, leader.change_membership(edit), kind, Some(&why));
    }

    // What could be, and cannot be now.
    let [four, seven] = [4, 7].map(ReplicaId);
    let not_heard = MembershipError::NotHeard(seven);
    let unreachable = ErrorKind::Unreachable;
    refused("a stranger", leader.add_observer(7), unreachable, Some(&not_heard));
    let lags = MembershipError::NotCaughtUp { id: four, lag: None };
    refused("to promote the silent", leader.promote(4), ErrorKind::NotCaughtUp, Some(&lags));
    refused("to replace by the silent", leader.replace(2, 4), ErrorKind::NotCaughtUp, Some(&lags));
    let wanted = indelible::Edition(9);
    let unknown = MembershipError::UnknownEdition { id: four, knows: Edition(0), wanted };
    let later = leader.change_membership(move |present| present.with_edition(wanted));
    refused("edition 9", later, ErrorKind::Outdated, Some(&unknown));
    let follower = cluster.replica(cluster.follower());
    refused("to ask a follower", follower.remove(4), ErrorKind::NotLeader, None);

    for status in cluster.open.values().map(Replica::status) {
        assert_eq!(status.slot_chosen, before.slot_chosen, "something was proposed: {status}");
    }
    assert_eq!(leader.status().round, before.round, "somebody else led meanwhile");
    assert_eq!(leader.membership(), Some(present));
    leader.put(NOTES, 1, b"all the same").wait().unwrap();
    assert_eq!(leader.status().slot_chosen, before.slot_chosen + 1);
}

#[test]
fn what_is_so_already_is_proposed_no_more() {
    let cluster = idle();
    let leader = cluster.replica(cluster.leader());
    let (before, present) = (leader.status(), leader.membership().unwrap());
    assert_eq!(leader.remove(5).wait().unwrap(), present);
    assert_eq!(leader.promote(2).wait().unwrap(), present);
    assert_eq!(leader.add_observer(4).wait().unwrap(), present);
    assert_eq!(leader.upgrade().wait().unwrap(), present);
    assert_eq!(leader.status().slot_chosen, before.slot_chosen);
}

#[test]
fn quorums_that_cannot_be_are_refused_where_a_replica_is_opened() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("data");
    let builder = Replica::builder(&path).peers(addresses(3)).config(config());
    let err = builder.quorums(2, 1).open().unwrap_err();
    let why = MembershipError::Quorums { phase1: 2, phase2: 1, voters: 3 };
    assert_eq!((err.kind(), err.membership_error()), (ErrorKind::InvalidArgument, Some(&why)));
    assert!(!path.exists(), "the directory was made");
}
