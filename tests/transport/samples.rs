//! One message of each kind, and messages of a given size.

use indelible::RequestId;
use indelible::types::edition::Edition;
use indelible::types::entry::{Entry, EntryBuilder};
use indelible::types::hello::Hello;
use indelible::types::ids::{
    Ballot, Boot, Chain, ClusterId, Incarnation, Lsn, ReplicaId, SessionId, Slot, SlotRange,
};
use indelible::types::membership::{Member, Membership};
use indelible::types::message::{
    Abstention, Accept, Accepted, CheckpointPart, Chosen, Doubt, EncodedCommand, Forward,
    Heartbeat, Introduce, Message, Promise, TakeOver, Vote,
};
use indelible::types::protocols::Protocols;
use indelible::types::time::Time;

pub const CLUSTER: ClusterId = ClusterId(0x1234_5678_9abc_def0_0fed_cba9_8765_4321);

const BALLOT: Ballot = Ballot { round: 7, leader: ReplicaId(2) };
const BOOT: Boot = Boot { sequence: 3, nonce: 99 };
const SLOTS: SlotRange = SlotRange { first: Slot(4), end: Slot(9) };

pub fn hello(replica: u64) -> Hello {
    Hello {
        cluster: CLUSTER,
        replica: ReplicaId(replica),
        receiver: ReplicaId(0),
        incarnation: Incarnation(u128::from(replica)),
        boot: Boot { sequence: 1, nonce: replica },
        frontier: Lsn(17),
        protocols: Protocols::SPOKEN,
        address: String::new(),
    }
}

pub fn entry(commands: &[&[u8]]) -> Entry {
    let mut builder = EntryBuilder::new(Time(1000), 0);
    commands.iter().for_each(|command| builder.push(command));
    builder.finish()
}

/// A small message that says its number.
pub fn numbered(number: u64) -> Message {
    Message::Fetch { from: Slot(number) }
}

/// A message of the catch-up queue with one entry of about `bytes`.
pub fn bulky(number: u64, bytes: usize) -> Message {
    chosen(number, vec![entry(&[&vec![7; bytes]])])
}

/// A message whose frame has exactly `bytes` bytes, or so many that it must not be sent.
pub fn sized(bytes: usize) -> Message {
    let command = |length| EncodedCommand { request: request(), bytes: vec![5; length] };
    let forward = |length| {
        let commands = vec![command(length)];
        Message::Forward(Forward {
            incarnation: Incarnation(5),
            boot: BOOT,
            receiver: BOOT,
            attempt: 6,
            commands,
        })
    };
    let overhead = indelible::transport::wire::HEADER_BYTES
        + indelible::types::codec::encode(&forward(0)).unwrap().len();
    forward(bytes - overhead)
}

pub fn one_of_each() -> Vec<Message> {
    let membership = membership();
    vec![
        Message::Heartbeat(heartbeat()),
        Message::Prepare { ballot: BALLOT, from: Slot(3) },
        Message::Promise(promise()),
        Message::Accept(Accept {
            ballot: BALLOT,
            first_slot: Slot(12),
            entries: vec![entry(&[b"put a", b"put b"]), Entry::no_op()],
            slot_chosen: Slot(11),
            chain: Chain(77),
        }),
        Message::Accepted(Accepted {
            ballot: BALLOT,
            incarnation: Incarnation(5),
            slots: SLOTS,
            frontier: Lsn(40),
            slot_durable: Slot(11),
        }),
        Message::Reject { ballot: BALLOT, promised: Ballot { round: 8, leader: ReplicaId(3) } },
        numbered(6),
        chosen(12, vec![entry(&[b"put c"])]),
        Message::Confirm { ballot: BALLOT, nonce: 81 },
        Message::Confirmed { ballot: BALLOT, incarnation: Incarnation(6), nonce: 81 },
        Message::Barrier { boot: BOOT, read: 12 },
        Message::BarrierAt { boot: BOOT, read: 12, slot: Slot(500) },
        Message::Forward(Forward {
            incarnation: Incarnation(5),
            boot: BOOT,
            receiver: BOOT,
            attempt: 6,
            commands: vec![EncodedCommand { request: request(), bytes: b"put d".to_vec() }],
        }),
        Message::Bounced { boot: BOOT, attempts: vec![6, 8] },
        Message::Introduce(Introduce {
            incarnation: Incarnation(9),
            address: "replica-1:7000".into(),
            voters: vec![ReplicaId(1), ReplicaId(2)],
            addresses: vec!["replica-1:7000".into(), "replica-2:7000".into()],
            phase1: 2,
            phase2: 2,
        }),
        Message::Agreed { membership, formed: true },
        Message::Unsure { boot: BOOT, from: Slot(7) },
        Message::Settled { ballot: BALLOT, boot: BOOT, from: Slot(9) },
        Message::Fill { until: Slot(11) },
        Message::Leaving { slot: Slot(11) },
        Message::Dismissed { incarnation: Incarnation(5), slot: Slot(11) },
        Message::Lost { slot: Slot(12) },
        Message::Trimmed { first: Slot(13) },
        Message::FetchCheckpoint { slot: None, offset: 0 },
        Message::FetchCheckpoint { slot: Some(Slot(14)), offset: 4096 },
        Message::CheckpointPart(CheckpointPart {
            slot: Slot(14),
            offset: 4096,
            bytes_total: 5000,
            bytes: vec![5; 9],
        }),
        Message::TakeOver(TakeOver {
            ballot: BALLOT,
            sent: 4,
            stalled: false,
            slot_chosen: Slot(13),
            chain: Chain(78),
        }),
    ]
}

fn chosen(number: u64, entries: Vec<Entry>) -> Message {
    Message::Chosen(Chosen {
        first_slot: Slot(number),
        entries,
        slot_chosen: Slot(13),
        chain: Chain(78),
    })
}

fn heartbeat() -> Heartbeat {
    Heartbeat {
        incarnation: Incarnation(4),
        boot: BOOT,
        ballot: BALLOT,
        leads: true,
        hears_leader: true,
        priority: 3,
        knows: Edition(4),
        promised: BALLOT,
        slot_chosen: Slot(11),
        chain: Chain(77),
        frontier: Lsn(78),
        sent: 1234,
        echo: Some((BOOT, 1233)),
    }
}

fn promise() -> Promise {
    Promise {
        ballot: BALLOT,
        incarnation: Incarnation(5),
        boot: BOOT,
        from: Slot(3),
        part: 0,
        parts: 1,
        slot_chosen: Slot(4),
        votes: vec![Vote {
            slot: Slot(5),
            ballot: BALLOT,
            entry: Entry::membership(&membership()),
        }],
        abstained: vec![Abstention { slots: SLOTS, doubt: Doubt::Faulty }],
        frontier: Lsn(39),
    }
}

fn membership() -> Membership {
    let voter = |id: u64| Member {
        id: ReplicaId(id),
        incarnation: Incarnation(u128::from(id)),
        address: format!("replica-{id}:7000"),
    };
    Membership::majority((1..=3).map(voter).collect()).unwrap()
}

fn request() -> RequestId {
    RequestId { session: SessionId(11), sequence: 21 }
}
