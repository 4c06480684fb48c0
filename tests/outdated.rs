//! Whole replicas, one thread: what a later release lays out, as only that one knows, stops a
//! replica of this one with the reason. It is no garbage, and nothing is lost.

#[path = "support/faulty_disk.rs"]
#[allow(dead_code, reason = "other test programs use the rest")]
mod faulty_disk;
#[path = "support/replicas.rs"]
#[allow(dead_code, missing_docs, reason = "other test programs use the rest")]
mod replicas;

use std::time::Duration;

use indelible::transport::Arrival;
use indelible::types::edition::Edition;
use indelible::types::entry::{Entry, EntryKind};
use indelible::types::ids::{Chain, Slot};
use indelible::types::message::{CheckpointPart, Chosen, Message};
use indelible::{Error, ErrorKind, ReplicaId};

use replicas::{Event, World};

const LATER: Edition = Edition(Edition::KNOWN.0 + 1);

/// An entry of which this build knows the first byte.
fn later() -> Entry {
    let mut bytes = vec![0xa5; 40];
    bytes[0] = LATER.0;
    let entry = Entry::decode(bytes).expect("it is kept as it came");
    assert_eq!((entry.kind(), entry.edition()), (EntryKind::Later, LATER));
    entry
}

fn arrived(message: Message) -> Event {
    Event::Arrived(Arrival::Message { from: ReplicaId(1), message })
}

fn stopped(world: &World, id: u64) -> Error {
    world.report(id).stopped.expect("it stopped")
}

#[test]
fn what_only_later_builds_can_read_is_kept_and_not_applied() {
    let mut world = World::of(3);
    world.commit_some(1, 3);
    world.run(500);
    let before = world.digests();
    [1, 2].iter().for_each(|id| world.kill(*id));
    let store = world.drivers[&3].store();
    let (first_slot, membership) = (store.applied().slot, store.membership().unwrap());
    let raised = Entry::membership(&membership.with_edition(LATER).unwrap());
    let chosen = |first_slot: Slot, entries: Vec<Entry>| {
        let slot_chosen = first_slot.plus(entries.len() as u64);
        Message::Chosen(Chosen { first_slot, entries, slot_chosen, chain: Chain::EMPTY })
    };
    // All in one message: the first says that the others are laid out otherwise.
    let message = chosen(first_slot, vec![raised, later(), later()]);
    world.turn(3, vec![arrived(message)]);
    let err = stopped(&world, 3);
    assert_eq!(err.kind(), ErrorKind::Outdated, "{err}");
    assert!(err.to_string().contains("edition 2"), "{err}");
    let (slot, _, _) = world.drivers[&3].store().digest();
    assert_eq!(slot, first_slot.next(), "nothing behind the membership is applied");
    assert_ne!(world.digests().last(), before.last(), "the membership is");
}

#[test]
fn a_checkpoint_of_a_later_version_says_so() {
    let mut world = World::with_one_cut_off();
    world.open(3);
    // Until the first part is under way.
    let part = 'found: loop {
        world.now = world.now + Duration::from_millis(10);
        (1..=3).for_each(|id| world.turn(id, Vec::new()));
        while let Some((id, event)) = world.events.pop_front() {
            if let Event::Arrived(Arrival::Message {
                from,
                message: Message::CheckpointPart(part),
            }) = event
            {
                break 'found (from, part);
            }
            world.turn(id, vec![event]);
        }
    };
    let (from, CheckpointPart { slot, offset, bytes_total, mut bytes }) = part;
    assert_eq!(offset, 0);
    bytes[8..10].copy_from_slice(&2_u16.to_le_bytes());
    let checksum = crc32fast::hash(&bytes[..CHECKSUM_AT]);
    bytes[CHECKSUM_AT..CHECKSUM_AT + 4].copy_from_slice(&checksum.to_le_bytes());
    let message = Message::CheckpointPart(CheckpointPart { slot, offset, bytes_total, bytes });
    world.turn(3, vec![Event::Arrived(Arrival::Message { from, message })]);
    let err = stopped(&world, 3);
    assert_eq!(err.kind(), ErrorKind::Outdated, "{err}");
    assert!(err.to_string().contains("version 2, supported is 1"), "{err}");
}

/// Where the header of a checkpoint has its checksum.
const CHECKSUM_AT: usize = 124;
