//! What tells two cores apart for a model checker: the state that decides how they go on, and no
//! more. What is left out wrongly, a search never sees; what is told too much, it sees for ever.

#![allow(clippy::unwrap_used, reason = "a test panics on what it does not expect")]

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hasher as _};
use std::time::Duration;

use indelible::paxos::Paxos;
use indelible::paxos::step::{Input, Options, RoleName};
use indelible::types::edition::Edition;
use indelible::types::entry::{Entry, EntryBuilder};
use indelible::types::ids::{Ballot, Boot, Chain, Incarnation, ReplicaId, Slot, SlotRange};
use indelible::types::membership::{Member, Membership};
use indelible::types::message::{Accept, Accepted, Message, Promise};
use indelible::types::record::Recovered;
use indelible::types::time::{Moment, Time};

/// Replica 1 of three, as it was opened.
fn core(seed: u64) -> Paxos {
    opened(seed, Slot(1))
}

/// The same, where all below this slot is known to be chosen.
fn opened(seed: u64, slot_chosen: Slot) -> Paxos {
    let voters = (1..=3).map(|id| Member {
        id: ReplicaId(id),
        incarnation: Incarnation(u128::from(id)),
        address: format!("replica-{id}"),
    });
    let membership = Membership::majority(voters.collect()).unwrap();
    let chain = Chain::EMPTY.extend(Entry::membership(&membership).hash());
    let options = Options {
        id: ReplicaId(1),
        incarnation: Incarnation(1),
        boot: Boot { sequence: 1, nonce: 1 },
        membership,
        seed,
        heartbeat_interval: Duration::from_millis(50),
        election_timeout: Duration::from_millis(500),
        retransmit_interval: Duration::from_millis(100),
        priority: 0,
        knows: Edition::KNOWN,
        lease: Default::default(),
        inflight_slots_max: 64,
        inflight_bytes_max: usize::MAX,
        message_bytes_max: 1 << 20,
    };
    let recovered = Recovered { slot_chosen, chain, ..Recovered::default() };
    Paxos::new(options, recovered, Moment::ZERO)
}

/// The essence of a core of this seed behind these events.
fn essence(seed: u64, events: &[Input]) -> u64 {
    let mut core = core(seed);
    let _ = core.take_output();
    for event in events {
        core.step(Moment::ZERO, event.clone());
        let _ = core.take_output();
    }
    let mut hasher = DefaultHasher::new();
    core.hash_essence(&mut hasher);
    hasher.finish()
}

/// What decides whether the membership is established, of a leader that was opened at `slot` and
/// has had these votes.
fn established(slot: u64, votes: &[Input]) -> u64 {
    let mut core = opened(1, Slot(slot));
    let promise = Promise {
        ballot: BALLOT,
        incarnation: Incarnation(2),
        boot: Boot::default(),
        from: Slot(slot),
        part: 0,
        parts: 1,
        slot_chosen: Slot(slot),
        votes: vec![],
        abstained: vec![],
        frontier: Default::default(),
    };
    let own = Message::Promise(Promise { incarnation: Incarnation(1), ..promise.clone() });
    let leads = [Input::Campaign, from(1, own), from(2, Message::Promise(promise))];
    for event in leads.iter().chain(votes) {
        core.step(Moment::ZERO, event.clone());
        let _ = core.take_output();
    }
    assert_eq!(core.view().role, RoleName::Leader);
    let mut hasher = DefaultHasher::new();
    core.hash_established(&mut hasher);
    hasher.finish()
}

/// The ballot at which it leads.
const BALLOT: Ballot = Ballot { round: 1, leader: ReplicaId(1) };

/// A vote that tells how far its voter has the log durably.
fn vote(peer: u64, round: u64, slot_durable: u64) -> Input {
    let accepted = Accepted {
        ballot: Ballot { round, ..BALLOT },
        incarnation: Incarnation(u128::from(peer)),
        slots: SlotRange { first: Slot(1), end: Slot(2) },
        frontier: Default::default(),
        slot_durable: Slot(slot_durable),
    };
    from(peer, Message::Accepted(accepted))
}

fn from(peer: u64, message: Message) -> Input {
    Input::Message { from: ReplicaId(peer), message }
}

fn prepare(round: u64, leader: u64) -> Input {
    let ballot = Ballot { round, leader: ReplicaId(leader) };
    from(leader, Message::Prepare { ballot, from: Slot(1) })
}

fn accept(slot: u64, text: &str) -> Input {
    let mut builder = EntryBuilder::new(Time(0), text.len());
    builder.push(text.as_bytes());
    let accept = Accept {
        ballot: Ballot { round: 1, leader: ReplicaId(2) },
        first_slot: Slot(slot),
        entries: vec![builder.finish()],
        slot_chosen: Slot(1),
        chain: Chain::default(),
    };
    from(2, Message::Accept(accept))
}

#[test]
fn what_decides_a_future_tells_cores_apart() {
    let histories = [
        vec![],
        vec![prepare(1, 2)],
        vec![prepare(1, 3)],
        vec![prepare(2, 2)],
        vec![accept(1, "a")],
        vec![accept(1, "b")],
        vec![accept(2, "a")],
        vec![accept(1, "a"), accept(2, "b")],
        vec![Input::Writable(false)],
        vec![Input::Fenced],
        vec![Input::Read(1)],
        vec![Input::Campaign],
    ];
    let essences = histories.iter().map(|events| essence(1, events)).collect::<BTreeSet<_>>();
    assert_eq!(essences.len(), histories.len(), "two cores that go on differently look alike");
}

#[test]
fn what_decides_nothing_does_not() {
    let twice = [accept(1, "a"), accept(1, "a")];
    assert_eq!(essence(1, &twice), essence(1, &twice[..1]), "a vote that was cast already");
    let late = [prepare(2, 3), prepare(1, 2)];
    assert_eq!(essence(1, &late[..1]), essence(1, &late), "a ballot that is refused");
    let back = [Input::Writable(false), Input::Writable(true)];
    assert_eq!(essence(1, &[]), essence(1, &back), "space that was short and is not");
    assert_eq!(essence(1, &[]), essence(2, &[]), "random timeouts fire when they fire");
}

#[test]
fn what_decides_whether_a_membership_is_established_tells_leaders_apart() {
    let told = [
        vec![],
        vec![vote(1, 1, 1)],
        vec![vote(2, 1, 1)],
        vec![vote(3, 1, 1)],
        vec![vote(2, 1, 2)],
        vec![vote(2, 1, 1), vote(3, 1, 1)],
    ];
    let known = told[2..].iter().map(|votes| established(1, votes)).collect::<BTreeSet<_>>();
    assert_eq!(known.len(), told.len() - 2, "two leaders that go on differently look alike");
    assert!(!known.contains(&established(1, &[])), "nobody told anything");
    assert_eq!(established(1, &told[0]), established(1, &told[1]), "what it knew at its opening");
}

#[test]
fn what_cannot_establish_a_membership_tells_nobody_apart() {
    let once = established(3, &[vote(2, 1, 3)]);
    assert_eq!(once, established(3, &[vote(2, 1, 3), vote(2, 1, 3)]), "what was told already");
    assert_eq!(once, established(3, &[vote(2, 1, 3), vote(2, 1, 2)]), "less than what was told");
    assert_eq!(once, established(3, &[vote(2, 0, 3)]), "at whatever ballot");
    assert_eq!(established(3, &[]), established(3, &[vote(2, 1, 2)]), "what is below counts not");
    assert_eq!(established(3, &[]), established(3, &[vote(4, 1, 3)]), "who is no member");
}
