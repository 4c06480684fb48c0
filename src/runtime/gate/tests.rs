//! Whom the gate lets in, and what it remembers.

use super::*;
use crate::types::ids::{Ballot, Boot, Lsn, Slot, SlotRange};
use crate::types::message::{Accepted, Message};
use crate::types::protocols::Protocols;

fn hello(replica: u64, boot: u64, frontier: u64) -> Hello {
    Hello {
        cluster: ClusterId(5),
        replica: ReplicaId(replica),
        receiver: ReplicaId(1),
        incarnation: Incarnation(u128::from(replica)),
        boot: Boot { sequence: boot, nonce: boot },
        frontier: Lsn(frontier),
        protocols: Protocols::SPOKEN,
        address: format!("host-{replica}:1"),
    }
}

fn standing(members: &[u64]) -> Standing {
    let members = members.iter().map(|id| Expected {
        id: ReplicaId(*id),
        incarnation: Some(Incarnation(u128::from(*id))),
        address: format!("host-{id}:1"),
    });
    let (hello, sightings) = (hello(1, 1, 0), Vec::new());
    Standing { hello, members: members.collect(), sightings }
}

fn gate() -> Gate {
    Gate::new(&standing(&[1, 2]))
}

fn admit(gate: &Gate, hello: &Hello) -> Result<(), Refusal> {
    gate.admit(hello, |_| ())
}

/// What a journal has of replica 2: its third opening, durable up to frame 10.
fn remembered() -> Vec<Sighting> {
    let mut sightings = Vec::new();
    assert_eq!(gate().admit(&hello(2, 3, 10), |it| sightings.push(it)), Ok(()));
    sightings
}

#[test]
fn who_is_not_the_member_is_refused_with_a_reason() {
    let gate = gate();
    assert_eq!(admit(&gate, &hello(2, 1, 0)), Ok(()));
    assert_eq!(admit(&gate, &hello(1, 1, 0)), Err(Refusal::SelfConnection));
    let stranger = Hello { receiver: ReplicaId(2), ..hello(2, 1, 0) };
    assert_eq!(admit(&gate, &stranger), Err(Refusal::WrongReceiver));
    let stranger = Hello { cluster: ClusterId(6), ..hello(2, 1, 0) };
    assert_eq!(admit(&gate, &stranger), Err(Refusal::WrongCluster));
    let stranger = Hello { incarnation: Incarnation(9), ..hello(2, 1, 0) };
    assert_eq!(admit(&gate, &stranger), Err(Refusal::WrongIncarnation));
}

#[test]
fn a_directory_that_was_set_back_or_copied_is_refused() {
    let gate = gate();
    assert_eq!(admit(&gate, &hello(2, 3, 10)), Ok(()));
    assert_eq!(admit(&gate, &hello(2, 3, 12)), Ok(()), "the same opening connects again");
    assert_eq!(admit(&gate, &hello(2, 2, 12)), Err(Refusal::Regressed));
    assert_eq!(admit(&gate, &hello(2, 4, 11)), Err(Refusal::Regressed));
    assert_eq!(admit(&gate, &hello(2, 4, 12)), Ok(()));
}

#[test]
fn two_openings_under_one_count_fence_both() {
    let gate = gate();
    assert_eq!(admit(&gate, &hello(2, 3, 10)), Ok(()));
    let copied = Hello { boot: Boot { sequence: 3, nonce: 99 }, ..hello(2, 3, 12) };
    let mut news = Vec::new();
    assert_eq!(gate.admit(&copied, |it| news.push(it)), Err(Refusal::Regressed));
    assert!(news[0].fenced, "it is to be remembered");
    assert_eq!(admit(&gate, &hello(2, 3, 10)), Err(Refusal::Regressed));
    assert_eq!(admit(&gate, &hello(2, 9, 99)), Err(Refusal::Regressed));
}

#[test]
fn what_is_remembered_outlives_the_gate() {
    let before = gate();
    let mut sightings = Vec::new();
    assert_eq!(before.admit(&hello(2, 3, 10), |it| sightings.push(it)), Ok(()));
    assert_eq!(before.admit(&hello(2, 3, 10), |it| sightings.push(it)), Ok(()));
    assert_eq!(sightings.len(), 1, "an opening is news once");
    let gate = Gate::new(&Standing { sightings, ..standing(&[1, 2]) });
    assert_eq!(admit(&gate, &hello(2, 2, 12)), Err(Refusal::Regressed));
    assert_eq!(admit(&gate, &hello(2, 4, 9)), Err(Refusal::Regressed));
    assert_eq!(admit(&gate, &hello(2, 4, 10)), Ok(()));
}

#[test]
fn a_directory_that_lost_what_it_acknowledged_is_refused() {
    let gate = gate();
    assert_eq!(admit(&gate, &hello(2, 3, 10)), Ok(()));
    let accepted = Accepted {
        ballot: Ballot::ZERO,
        incarnation: Incarnation(2),
        slots: SlotRange::default(),
        frontier: Lsn(20),
        slot_durable: Slot::ZERO,
    };
    let message = Message::Accepted(accepted);
    let boot = hello(2, 3, 10).boot;
    // What comes late of an earlier opening says nothing of this one.
    let late = hello(2, 2, 5).boot;
    for boot in [late, boot] {
        assert_eq!(admit(&gate, &hello(2, 3, 10)), Ok(()));
        let message = message.clone();
        gate.note(&Arrival::Message { from: ReplicaId(2), boot, message });
    }
    assert_eq!(admit(&gate, &hello(2, 3, 10)), Ok(()), "it said so when it was opened");
    assert_eq!(admit(&gate, &hello(2, 4, 19)), Err(Refusal::Regressed));
    assert_eq!(admit(&gate, &hello(2, 4, 20)), Ok(()));
}

fn strangers(gate: &Gate) -> Vec<u64> {
    gate.strangers().into_iter().map(|stranger| stranger.id.0).collect()
}

#[test]
fn a_stranger_must_know_the_cluster() {
    let gate = gate();
    let foreign = Hello { cluster: ClusterId(6), ..hello(3, 1, 0) };
    assert_eq!(admit(&gate, &foreign), Err(Refusal::WrongCluster));
    let blank = Hello { cluster: ClusterId::UNFORMED, ..hello(3, 1, 0) };
    assert_eq!(admit(&gate, &blank), Err(Refusal::UnknownReplica));
    assert_eq!(strangers(&gate), []);
    assert_eq!(gate.admit(&hello(3, 1, 0), |it| panic!("to be journaled: {it:?}")), Ok(()));
    let (id, address) = (ReplicaId(3), "host-3:1".to_owned());
    assert_eq!(gate.strangers(), [Member { id, incarnation: Incarnation(3), address }]);
}

#[test]
fn who_belongs_to_no_cluster_knows_no_stranger() {
    let blank = Hello { cluster: ClusterId::UNFORMED, ..hello(1, 1, 0) };
    let gate = Gate::new(&Standing { hello: blank.clone(), ..standing(&[1, 2]) });
    for cluster in [ClusterId::UNFORMED, ClusterId(5)] {
        let stranger = Hello { cluster, ..hello(3, 1, 0) };
        assert_eq!(admit(&gate, &stranger), Err(Refusal::UnknownReplica));
    }
}

#[test]
fn strangers_are_fenced_as_members_are() {
    let gate = gate();
    assert_eq!(admit(&gate, &hello(3, 3, 10)), Ok(()));
    assert_eq!(admit(&gate, &hello(3, 2, 12)), Err(Refusal::Regressed));
    assert_eq!(admit(&gate, &hello(3, 4, 9)), Err(Refusal::Regressed));
    assert_eq!(strangers(&gate), [3], "what was refused changes nothing");
    let copied = Hello { boot: Boot { sequence: 3, nonce: 99 }, ..hello(3, 3, 12) };
    assert_eq!(
        gate.admit(&copied, |it| panic!("to be journaled: {it:?}")),
        Err(Refusal::Regressed)
    );
    assert_eq!(admit(&gate, &hello(3, 9, 99)), Err(Refusal::Regressed));
    assert_eq!(strangers(&gate), [], "nobody knows which of the two is meant");
}

#[test]
fn who_becomes_a_member_keeps_what_was_seen_and_it_is_news() {
    let gate = gate();
    assert_eq!(admit(&gate, &hello(2, 3, 10)), Ok(()));
    assert_eq!(admit(&gate, &hello(3, 3, 10)), Ok(()));
    let other = Hello { incarnation: Incarnation(99), ..hello(4, 3, 10) };
    assert_eq!(admit(&gate, &other), Ok(()));
    let news = gate.update(&standing(&[1, 2, 3, 4]));
    assert_eq!(news.iter().map(|it| it.replica.0).collect::<Vec<_>>(), [3]);
    assert_eq!(strangers(&gate), []);
    for id in [2, 3] {
        assert_eq!(admit(&gate, &hello(id, 2, 12)), Err(Refusal::Regressed));
    }
    assert_eq!(admit(&gate, &other), Err(Refusal::WrongIncarnation));
    assert_eq!(admit(&gate, &hello(4, 1, 0)), Ok(()), "the other one was never seen");
    assert_eq!(gate.update(&standing(&[1, 2, 3, 4])), [], "it is news once");
}

#[test]
fn who_leaves_is_forgotten_and_may_come_back_as_a_stranger() {
    let gate = Gate::new(&standing(&[1, 2, 3]));
    assert_eq!(admit(&gate, &hello(3, 3, 10)), Ok(()));
    assert_eq!(gate.update(&standing(&[1, 2])), []);
    assert_eq!(strangers(&gate), []);
    let elsewhere = Hello { address: "elsewhere:2".into(), ..hello(3, 3, 10) };
    assert_eq!(admit(&gate, &elsewhere), Ok(()));
    assert_eq!(gate.strangers()[0].address, "elsewhere:2");
    let foreign = Hello { cluster: ClusterId(6), ..hello(3, 3, 10) };
    assert_eq!(admit(&gate, &foreign), Err(Refusal::WrongCluster));
}

#[test]
fn of_strangers_only_so_many_are_remembered_and_who_is_gone_is_forgotten_first() {
    let gate = gate();
    let last = 100 + STRANGERS_MAX as u64;
    for id in 101..=last {
        assert_eq!(admit(&gate, &hello(id, 3, 10)), Ok(()));
    }
    gate.note(&Arrival::Down { peer: ReplicaId(105) });
    assert!(!strangers(&gate).contains(&105));
    assert_eq!(admit(&gate, &hello(105, 2, 10)), Err(Refusal::Regressed), "it is remembered");
    assert_eq!(admit(&gate, &hello(last + 1, 3, 10)), Ok(()));
    assert_eq!(admit(&gate, &hello(101, 3, 10)), Ok(()), "the same opening, once more");
    assert_eq!(admit(&gate, &hello(last + 2, 3, 10)), Ok(()));
    let expected = (101..=last + 2).filter(|id| ![102, 105].contains(id)).collect::<Vec<_>>();
    assert_eq!(strangers(&gate), expected);
    for id in 1000..2000 {
        assert_eq!(admit(&gate, &hello(id, 3, 10)), Ok(()));
    }
    assert_eq!(gate.known.lock().strangers.len(), STRANGERS_MAX);
}

/// An opening that repairs what it lost may not know yet that somebody is a member.
#[test]
fn a_stranger_is_held_against_what_is_remembered_of_it() {
    let sightings = remembered();
    let gate = Gate::new(&Standing { sightings: sightings.clone(), ..standing(&[1]) });
    assert_eq!(admit(&gate, &hello(2, 2, 12)), Err(Refusal::Regressed));
    assert_eq!(admit(&gate, &hello(2, 4, 9)), Err(Refusal::Regressed));
    assert_eq!(gate.strangers(), [], "nobody was let in");
    assert_eq!(admit(&gate, &hello(2, 4, 11)), Ok(()));
    let news = gate.update(&Standing { sightings, ..standing(&[1, 2]) });
    assert_eq!(news.len(), 1);
    assert_eq!(news[0].boot.sequence, 4, "no earlier opening takes its place");
    assert_eq!(admit(&gate, &hello(2, 3, 10)), Err(Refusal::Regressed));
}

#[test]
fn another_directory_under_its_id_makes_nobody_forget_a_member() {
    let sightings = remembered();
    let wiped = Hello { incarnation: Incarnation(9), ..hello(2, 1, 0) };
    let gate = Gate::new(&Standing { sightings: sightings.clone(), ..standing(&[1]) });
    assert_eq!(admit(&gate, &wiped), Ok(()));
    assert_eq!(admit(&gate, &hello(2, 2, 12)), Err(Refusal::Regressed));
    assert_eq!(admit(&gate, &wiped), Ok(()));
    // It is the other one that is the member.
    let news = gate.update(&Standing { sightings, ..standing(&[1, 2]) });
    assert_eq!(news, []);
    assert_eq!(admit(&gate, &hello(2, 2, 12)), Err(Refusal::Regressed));
    assert_eq!(admit(&gate, &hello(2, 3, 10)), Ok(()));
}

#[test]
fn a_stranger_that_was_copied_stays_fenced() {
    let sightings = remembered();
    let gate = Gate::new(&Standing { sightings, ..standing(&[1]) });
    let copied = Hello { boot: Boot { sequence: 3, nonce: 99 }, ..hello(2, 3, 12) };
    assert_eq!(admit(&gate, &copied), Err(Refusal::Regressed));
    assert_eq!(admit(&gate, &hello(2, 4, 12)), Err(Refusal::Regressed));
    assert_eq!(gate.strangers(), [], "nobody is to take it in");
}
