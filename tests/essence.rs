//! What tells two cores apart for a model checker: the state that decides how they go on, and no
//! more. What is left out wrongly, a search never sees; what is told too much, it sees for ever.

#![allow(clippy::unwrap_used, reason = "a test panics on what it does not expect")]

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hasher as _};
use std::time::Duration;

use indelible::paxos::Paxos;
use indelible::paxos::step::{Input, Options};
use indelible::types::edition::Edition;
use indelible::types::entry::{Entry, EntryBuilder};
use indelible::types::ids::{Ballot, Boot, Chain, Incarnation, ReplicaId, Slot};
use indelible::types::membership::{Member, Membership};
use indelible::types::message::{Accept, Message};
use indelible::types::record::Recovered;
use indelible::types::time::{Moment, Time};

/// Replica 1 of three, as it was opened.
fn core(seed: u64) -> Paxos {
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
    let recovered = Recovered { slot_chosen: Slot(1), chain, ..Recovered::default() };
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
