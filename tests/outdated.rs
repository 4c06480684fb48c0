//! Whole replicas, one thread: what a later release lays out, as only that one knows, stops a
//! replica of this one with the reason. It is no garbage, and nothing is lost.

#[path = "support/faulty_disk.rs"]
#[allow(dead_code, reason = "other test programs use the rest")]
mod faulty_disk;
#[path = "support/replicas.rs"]
#[allow(dead_code, missing_docs, reason = "other test programs use the rest")]
mod replicas;

use std::time::Duration;

use indelible::store::image::IMAGE_VERSION;
use indelible::transport::Arrival;
use indelible::types::edition::Edition;
use indelible::types::entry::{Entry, EntryKind};
use indelible::types::ids::{Ballot, Boot, Chain, Slot};
use indelible::types::message::{Accept, CheckpointPart, Chosen, Message};
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
    let boot = Boot::default();
    Event::Arrived(Arrival::Message { from: ReplicaId(1), boot, message })
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
    let raised = Entry::membership(&membership.with_edition(LATER).unwrap().following(&membership));
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
fn what_only_later_builds_can_read_is_voted_for_and_journaled() {
    let mut world = World::of(3);
    world.commit_some(1, 3);
    world.run(500);
    [1, 2].iter().for_each(|id| world.kill(*id));
    let store = world.drivers[&3].store();
    let (slot, membership) = (store.applied().slot, store.membership().unwrap());
    let raised = Entry::membership(&membership.with_edition(LATER).unwrap().following(&membership));
    let ballot = Ballot { round: 1000, leader: ReplicaId(1) };
    let known = world.report(3).view.unwrap().chain;
    let accept = |slot_chosen, chain| {
        let entries = vec![raised.clone(), later()];
        Message::Accept(Accept { ballot, first_slot: slot, entries, slot_chosen, chain })
    };
    world.turn(3, vec![arrived(accept(slot, known))]);
    world.run(500);
    let stopped_by = world.report(3).stopped;
    assert!(stopped_by.is_none(), "it need not know what it votes for: {stopped_by:?}");
    world.kill(3);

    // It is there after a restart, byte for byte.
    let mut journal = world.journal(3);
    let votes = &journal.recovered().votes;
    assert_eq!(
        votes.last().map(|(at, _, entry)| (*at, entry.clone())),
        Some((slot.next(), later()))
    );
    drop(journal);
    world.open(3);
    assert!(world.report(3).stopped.is_none());
    // Once the membership is known to be chosen, it stops, here and at each opening.
    let message = accept(slot.next(), known.extend(raised.hash()));
    world.turn(3, vec![arrived(message)]);
    assert_eq!(stopped(&world, 3).kind(), ErrorKind::Outdated);
}

#[test]
fn a_state_of_a_later_version_says_so() {
    let mut world = World::with_one_cut_off();
    [1, 2].iter().for_each(|id| world.kill(*id));
    let mut journal = world.journal(1);
    let slot = journal.checkpoint().expect("it took some").header().slot.next();
    let piece = vec![IMAGE_VERSION + 1, 0xa5, 0xa5];
    journal.begin_receiving(slot, Chain::EMPTY, Box::new(vec![piece].into_iter()));
    while let Some(job) = journal.next_job().unwrap() {
        journal.complete(job.run()).unwrap();
    }
    let checkpoint = journal.checkpoint().unwrap();
    assert_eq!(checkpoint.header().slot, slot);
    let bytes = world.disks[&1].content(&checkpoint.name());

    world.open(3);
    world.run(200);
    world.turn(3, vec![arrived(Message::Trimmed { first: slot })]);
    world.run(200);
    let bytes_total = bytes.len() as u64;
    let part = CheckpointPart { slot, offset: 0, bytes_total, bytes };
    world.turn(3, vec![arrived(Message::CheckpointPart(part))]);
    world.run(200);
    let err = stopped(&world, 3);
    assert_eq!(err.kind(), ErrorKind::Outdated, "{err}");
    assert!(err.to_string().contains("image version 2, supported is 1"), "{err}");
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
                ..
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
    let boot = Boot::default();
    world.turn(3, vec![Event::Arrived(Arrival::Message { from, boot, message })]);
    let err = stopped(&world, 3);
    assert_eq!(err.kind(), ErrorKind::Outdated, "{err}");
    assert!(err.to_string().contains("version 2, supported is 1"), "{err}");
}

/// Where the header of a checkpoint has its checksum.
const CHECKSUM_AT: usize = 124;
