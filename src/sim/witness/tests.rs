//! Runs that cannot be, one for each invariant, event by event.

use crate::sim::durable::{Group, Seen};
use crate::types::entry::{Entry, EntryBuilder};
use crate::types::ids::{Boot, Incarnation};
use crate::types::membership::Member;
use crate::types::message::{Abstention, Doubt, Vote};
use crate::types::time::Time;

use super::*;

/// A witness of three replicas, and the numbers of the frames that their journals write next.
struct Run {
    witness: Witness,
    next: BTreeMap<ReplicaId, u64>,
}

const ONE: ReplicaId = ReplicaId(1);
const TWO: ReplicaId = ReplicaId(2);
const THREE: ReplicaId = ReplicaId(3);
const FOUR: ReplicaId = ReplicaId(4);

pub(super) fn member(id: ReplicaId) -> Member {
    let incarnation = Incarnation(u128::from(id.0));
    Member { id, incarnation, address: format!("replica-{id}:1") }
}

fn ballot(round: u64, leader: ReplicaId) -> Ballot {
    Ballot { round, leader }
}

fn entry(text: &str) -> Entry {
    let mut builder = EntryBuilder::new(Time(1), 100);
    builder.push(text.as_bytes());
    builder.finish()
}

fn vote(slot: u64, at: Ballot, text: &str) -> Seen {
    Seen::Vote { slot: Slot(slot), ballot: at, content: entry(text).hash() }
}

fn promise(ballot: Ballot) -> Seen {
    Seen::Promise { ballot }
}

impl Run {
    fn new() -> Self {
        Self { witness: Witness::of(&[ONE, TWO, THREE]), next: BTreeMap::new() }
    }

    /// These frames become durable at a replica, in a group of their own.
    fn durable(&mut self, id: ReplicaId, frames: &[Seen]) -> Result<(), Violation> {
        let next = self.next.entry(id).or_default();
        let first = Lsn(*next);
        *next += frames.len() as u64;
        let end = Lsn(*next);
        let group = Group { first, end, slot_chosen: Slot(0), frames: frames.to_vec() };
        self.witness.on_durable(id, group)
    }

    /// A run in which `text` is chosen in slot 1 at ballot 1.1, by the votes of 1 and 2.
    fn with_chosen(text: &str) -> Self {
        let mut run = Self::new();
        let at = ballot(1, ONE);
        for id in [ONE, TWO] {
            run.durable(id, &[promise(at), vote(1, at, text)]).unwrap();
        }
        run
    }

    fn chain(&self) -> Chain {
        *self.witness.chains.last().unwrap()
    }
}

fn told(ballot: Ballot, votes: Vec<Vote>, abstained: Vec<Abstention>) -> Message {
    Message::Promise(Promise {
        ballot,
        incarnation: Incarnation(1),
        boot: Boot::default(),
        from: Slot(1),
        part: 0,
        parts: 1,
        slot_chosen: Slot(1),
        votes,
        abstained,
        frontier: Lsn(0),
    })
}

fn proposal(ballot: Ballot, slot: u64, text: &str) -> Message {
    Message::Accept(Accept {
        ballot,
        first_slot: Slot(slot),
        entries: vec![entry(text)],
        slot_chosen: Slot(1),
        chain: Chain::EMPTY,
    })
}

#[track_caller]
fn breaks(result: Result<(), Violation>, invariant: &str) {
    match result {
        Err(violation) => assert_eq!(violation.invariant, invariant, "{violation}"),
        Ok(()) => panic!("{invariant} is not noticed"),
    }
}

#[test]
fn i1_a_second_entry_is_chosen() {
    let mut run = Run::with_chosen("a");
    let at = ballot(2, THREE);
    run.durable(THREE, &[promise(at), vote(1, at, "b")]).unwrap();
    breaks(run.durable(TWO, &[promise(at), vote(1, at, "b")]), "I1");
}

#[test]
fn i1_another_membership() {
    let mut run = Run::new();
    let voter = Member { id: ONE, incarnation: Incarnation(9), address: "elsewhere:1".into() };
    let other = Membership::majority(vec![voter]).unwrap();
    breaks(run.witness.form(ONE, &other), "I1");
}

#[test]
fn i3_two_entries_at_one_ballot() {
    let mut run = Run::new();
    let at = ballot(1, ONE);
    run.durable(ONE, &[promise(at), vote(1, at, "a")]).unwrap();
    breaks(run.witness.on_leave(ONE, &proposal(at, 1, "b")), "I3");
    breaks(run.durable(TWO, &[promise(at), vote(1, at, "b")]), "I3");
}

#[test]
fn i4_a_promise_goes_back() {
    let mut run = Run::new();
    run.durable(ONE, &[promise(ballot(3, ONE))]).unwrap();
    breaks(run.durable(ONE, &[vote(1, ballot(2, TWO), "a")]), "I4");
    breaks(run.durable(ONE, &[promise(ballot(2, TWO))]), "I4");
    let lower = Group {
        first: Lsn(0),
        end: Lsn(1),
        slot_chosen: Slot(0),
        frames: vec![promise(ballot(2, TWO))],
    };
    breaks(run.witness.on_opened(ONE, &[lower], &[]), "I4");
}

#[test]
fn i4_what_is_not_durable_is_told() {
    let mut run = Run::new();
    let at = ballot(1, ONE);
    let prepare = Message::Prepare { ballot: at, from: Slot(1) };
    breaks(run.witness.on_leave(ONE, &prepare), "I4");
    breaks(run.witness.on_leave(TWO, &told(at, Vec::new(), Vec::new())), "I4");
    let slots = SlotRange { first: Slot(1), end: Slot(2) };
    let accepted = Message::Accepted(Accepted {
        ballot: at,
        incarnation: Incarnation(2),
        slots,
        frontier: Lsn(2),
        slot_durable: Slot::ZERO,
    });
    breaks(run.witness.on_leave(TWO, &accepted), "I4");
    run.durable(TWO, &[promise(at), vote(1, at, "a")]).unwrap();
    run.witness.on_leave(TWO, &accepted).unwrap();
}

#[test]
fn i4_a_group_behind_one_that_is_not_durable_is_not_durable() {
    let mut run = Run::new();
    let at = ballot(1, ONE);
    let frames = vec![promise(at)];
    let early = Group { first: Lsn(5), end: Lsn(6), slot_chosen: Slot(0), frames };
    run.witness.on_durable(ONE, early).unwrap();
    breaks(run.witness.on_leave(ONE, &Message::Prepare { ballot: at, from: Slot(1) }), "I4");
}

#[test]
fn i5_what_is_not_chosen_is_learned() {
    let mut run = Run::new();
    let at = ballot(1, ONE);
    run.durable(ONE, &[promise(at), vote(1, at, "a")]).unwrap();
    let chain = run.chain().extend(entry("a").hash());
    breaks(run.witness.on_progress(ONE, Slot(2), chain), "I5");
    let content = entry("a").hash();
    breaks(run.durable(TWO, &[Seen::Chosen { slot: Slot(1), content }]), "I5");
}

#[test]
fn i6_a_proposal_against_what_is_chosen() {
    let mut run = Run::with_chosen("a");
    let higher = ballot(2, TWO);
    run.witness.on_leave(TWO, &proposal(higher, 1, "a")).unwrap();
    breaks(run.witness.on_leave(THREE, &proposal(ballot(2, THREE), 1, "b")), "I6");
}

#[test]
fn i7_a_vote_is_concealed() {
    let mut run = Run::with_chosen("a");
    let higher = ballot(2, THREE);
    run.durable(TWO, &[promise(higher)]).unwrap();
    breaks(run.witness.on_leave(TWO, &told(higher, Vec::new(), Vec::new())), "I7");
    let older = Vote { slot: Slot(1), ballot: Ballot::ZERO, entry: entry("a") };
    breaks(run.witness.on_leave(TWO, &told(higher, vec![older], Vec::new())), "I7");
    let whole = Vote { slot: Slot(1), ballot: ballot(1, ONE), entry: entry("a") };
    run.witness.on_leave(TWO, &told(higher, vec![whole], Vec::new())).unwrap();
    let slots = SlotRange { first: Slot(1), end: Slot(9) };
    let abstained = vec![Abstention { slots, doubt: Doubt::Faulty }];
    run.witness.on_leave(TWO, &told(higher, Vec::new(), abstained)).unwrap();
    // Once a leader settled that the vote cannot matter, it may be lost.
    run.witness.forget_cast(TWO, slots, higher);
    run.witness.on_leave(TWO, &told(higher, Vec::new(), Vec::new())).unwrap();
}

#[test]
fn i8_what_is_known_is_forgotten() {
    let mut run = Run::with_chosen("a");
    let chains = run.witness.chains.clone();
    run.witness.on_progress(ONE, Slot(2), chains[2]).unwrap();
    breaks(run.witness.on_progress(ONE, Slot(1), chains[1]), "I8");
}

/// Frames of votes for a membership.
fn change(slot: u64, at: Ballot, membership: &Membership) -> [Seen; 2] {
    let entry = Entry::membership(membership);
    let content = entry.hash();
    [Seen::Membership(entry), Seen::Vote { slot: Slot(slot), ballot: at, content }]
}

/// A run in which 4 joined in slot 1, by the votes of 1 and 2 at ballot 1.1, and replaces 1 in slot
/// 2 by theirs at ballot 2.1.
fn changed() -> Run {
    let mut run = Run::new();
    let first = run.witness.membership().unwrap().clone();
    let grown = first.with_observer(member(FOUR)).unwrap().following(&first);
    let next = grown.with_voter(FOUR).unwrap().without(ONE).unwrap().following(&grown);
    for (slot, at, membership) in [(1, ballot(1, ONE), &grown), (2, ballot(2, ONE), &next)] {
        for id in [ONE, TWO] {
            let [entry, vote] = change(slot, at, membership);
            run.durable(id, &[promise(at), entry, vote]).unwrap();
        }
    }
    assert_eq!(run.witness.governing(Slot(3)), Some(&next));
    assert_eq!(run.witness.memberships().count(), 3);
    run
}

#[test]
fn i5_the_votes_of_who_left_do_not_count() {
    let mut run = changed();
    let at = ballot(2, ONE);
    for id in [ONE, TWO] {
        run.durable(id, &[vote(3, at, "a")]).unwrap();
    }
    assert_eq!(run.witness.chosen(Slot(3)), None);
    let chain = run.chain().extend(entry("a").hash());
    breaks(run.witness.on_progress(ONE, Slot(4), chain), "I5");
    run.durable(FOUR, &[promise(at), vote(3, at, "a")]).unwrap();
    assert_eq!(run.witness.chosen(Slot(3)), Some(entry("a").hash()));
}

#[test]
fn i5_votes_from_before_a_membership_was_chosen_do_not_count() {
    let mut run = changed();
    for id in [TWO, FOUR] {
        let at = ballot(1, FOUR);
        let group = Group { first: Lsn(9), end: Lsn(10), slot_chosen: Slot(0), frames: Vec::new() };
        let frames = vec![vote(3, at, "a")];
        // Below what it promised since: who counted it before is asked no more.
        run.witness.replicas.entry(id).or_default().promised = at;
        run.witness.replicas.entry(id).or_default().next = group.first;
        run.witness.on_durable(id, Group { frames, ..group }).unwrap();
    }
    assert_eq!(run.witness.chosen(Slot(3)), None);
}

#[test]
fn i6_a_proposal_behind_a_change_that_is_chosen_late() {
    let mut run = Run::new();
    let (at, higher) = (ballot(1, ONE), ballot(2, TWO));
    let first = run.witness.membership().unwrap().clone();
    let grown = first.with_observer(member(FOUR)).unwrap().following(&first);
    let [membership, change] = change(1, at, &grown);
    run.durable(ONE, &[promise(at), membership.clone(), change.clone(), vote(2, at, "a")]).unwrap();
    run.durable(THREE, &[promise(at), vote(2, at, "a")]).unwrap();
    assert_eq!(run.witness.chosen(Slot(2)), None, "who decides there is not known yet");
    assert_eq!(run.witness.deciding_from(Slot(1)).len(), 2);
    run.witness.on_leave(TWO, &proposal(higher, 2, "b")).unwrap();
    breaks(run.durable(TWO, &[promise(at), membership, change]), "I6");
}

#[test]
fn i10_another_chain() {
    let mut run = Run::with_chosen("a");
    let other = run.witness.chains[1].extend(entry("b").hash());
    breaks(run.witness.on_progress(ONE, Slot(2), other), "I10");
}

#[test]
fn a2_another_state() {
    let mut run = Run::new();
    run.witness.on_state(ONE, Slot(2), (TxId::default(), 7)).unwrap();
    run.witness.on_state(TWO, Slot(2), (TxId::default(), 7)).unwrap();
    breaks(run.witness.on_state(THREE, Slot(2), (TxId::default(), 8)), "A2");
}
