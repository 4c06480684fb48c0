//! Whole replicas, one thread: what is trimmed is needed by nobody; who lacks it all the same takes
//! in a checkpoint of a peer.

#[path = "support/faulty_disk.rs"]
#[allow(dead_code, reason = "other test programs use the rest")]
mod faulty_disk;
#[path = "support/replicas.rs"]
#[allow(dead_code, missing_docs, reason = "other test programs use the rest")]
mod replicas;

use std::time::Duration;

use indelible::journal::Disk;
use indelible::runtime::pending::Pending;
use indelible::types::entry::Entry;
use indelible::types::ids::Slot;
use indelible::{ErrorKind, ReplicaId};

use replicas::{Event, World};

#[test]
fn who_belongs_is_known_though_the_entry_that_said_so_is_trimmed() {
    let mut world = World::of(3);
    world.history_bytes_min = 0;
    world.commit_some(1, 2);
    world.run(500);
    let first = world.drivers[&1].store().membership().expect("they formed");
    (1..=3).for_each(|id| world.kill(id));
    let next = first.without(ReplicaId(3)).expect("two are left").following(&first);
    let slots = [1, 2].map(|id| world.learn(id, &Entry::membership(&next)));
    assert_eq!(slots[0], slots[1]);
    [1, 2].iter().for_each(|id| world.open(*id));
    world.run(2000);
    for _ in 0..3 {
        world.commit_some(1, 30);
        [1, 2].iter().for_each(|id| world.checkpoint(*id));
    }
    for id in [1, 2] {
        let slot_trimmed = world.report(id).slot_trimmed;
        assert!(slots[0] < slot_trimmed, "of {}, {slot_trimmed} are trimmed", slots[0]);
        world.kill(id);
    }

    world.sent.clear();
    [1, 2].iter().for_each(|id| world.open(*id));
    world.run(2000);
    world.commit_some(2, 1);
    world.checkpoint(1);
    assert_eq!(world.sent, [(1, 2), (2, 1)].into());
    for driver in world.drivers.values() {
        assert_eq!(driver.store().membership().as_ref(), Some(&next));
    }
}

fn assert_together(world: &World) {
    let digests = world.digests();
    assert!(digests.iter().all(|digest| *digest == digests[0]), "{digests:?}");
}

#[test]
fn who_lags_behind_what_was_trimmed_takes_in_a_checkpoint() {
    let mut world = World::with_one_cut_off();
    world.open(3);
    let old = world.drivers[&3].current().get();
    world.run(3000);
    assert_together(&world);
    assert!(old.applied().slot < Slot(40), "whoever reads it goes on with it");
    let report = world.report(3);
    assert_eq!((report.receiving, report.cut_off), (None, None));
    assert!(Slot(40) < report.slot_trimmed, "it has nothing from before");
    assert_eq!(report.slot_trimmed, report.slot_checkpointed);

    // It votes like any other, and finds the same when it is opened again.
    world.kill(1);
    world.run(2000);
    world.commit_some(3, 3);
    assert_together(&world);
    world.kill(3);
    world.open(3);
    world.run(2000);
    world.commit_some(3, 1);
    assert_together(&world);
    assert_eq!(world.report(3).slot_trimmed, report.slot_trimmed);
}

/// Until some of it has come; returns from whom.
fn begin_transfer(world: &mut World) -> ReplicaId {
    world.open(3);
    loop {
        let receiving = world.report(3).receiving.filter(|receiving| receiving.bytes > 0);
        if let Some(receiving) = receiving {
            return receiving.from;
        }
        world.now = world.now + Duration::from_millis(10);
        world.turn(3, Vec::new());
        let (id, event) = world.events.pop_front().expect("they talk");
        world.turn(id, vec![event]);
    }
}

#[test]
fn a_transfer_goes_on_where_it_stopped() {
    let mut world = World::with_one_cut_off();
    let from = begin_transfer(&mut world);
    [1, 2].iter().for_each(|id| world.kill(*id));
    // Nobody else has it: what has come is worth waiting with.
    world.run(20_000);
    let kept = world.report(3).receiving.expect("it is not given up");
    assert!(kept.from == from && 0 < kept.bytes && kept.bytes < kept.bytes_total, "{kept}");
    world.open(from.0);
    let mut last = kept.bytes;
    while let Some(receiving) = world.report(3).receiving {
        assert!(last <= receiving.bytes, "{receiving}, after {last}");
        last = receiving.bytes;
        world.run(10);
    }
    assert!(Slot(40) < world.report(3).slot_trimmed);
}

/// Whom the third replica asks within some seconds.
fn asked(world: &mut World, seconds: u64) -> Vec<ReplicaId> {
    let mut asked = Vec::new();
    let mut look = |world: &World| {
        asked.extend(world.report(3).receiving.map(|receiving| receiving.from));
        asked.dedup();
    };
    for _ in 0..seconds * 100 {
        world.now = world.now + Duration::from_millis(10);
        for id in world.drivers.keys().copied().collect::<Vec<_>>() {
            world.turn(id, Vec::new());
            look(world);
        }
        // A whole transfer may come and go between two steps of time.
        while let Some((id, event)) = world.events.pop_front() {
            world.turn(id, vec![event]);
            look(world);
        }
    }
    asked
}

fn other_than(from: ReplicaId) -> ReplicaId {
    if from == ReplicaId(1) { ReplicaId(2) } else { ReplicaId(1) }
}

#[test]
fn who_sent_what_was_no_checkpoint_is_not_asked_at_once_again() {
    // Of the last block: a byte of its link, and one of its length, so that more seems to come.
    for from_end in [1, 28] {
        let mut world = World::with_one_cut_off();
        let from = begin_transfer(&mut world);
        let disk = world.disks[&from.0].clone();
        let names = disk.list().expect("the directory can be read");
        for name in names.iter().filter(|name| name.starts_with("checkpoint")) {
            disk.rot(name, |bytes| {
                let at = bytes.len() - from_end;
                bytes[at] ^= 1;
            });
        }
        assert_eq!(asked(&mut world, 4), [from, other_than(from)], "{from_end} from the end");
        assert_together(&world);
    }
}

#[test]
fn who_is_there_and_does_not_answer_is_not_waited_for() {
    for alone in [false, true] {
        let mut world = World::with_one_cut_off();
        let from = begin_transfer(&mut world);
        if alone {
            world.kill(other_than(from).0);
        }
        world.mute = Some(from.0);
        let asked = asked(&mut world, 12);
        if alone {
            // It is asked anew, for what is newest then.
            world.mute = None;
            world.run(10_000);
        } else {
            assert_eq!(asked, [from, other_than(from)]);
        }
        assert_together(&world);
        assert!(Slot(40) < world.report(3).slot_trimmed);
    }
}

#[test]
fn a_transfer_goes_on_with_whoever_is_left() {
    let mut world = World::with_one_cut_off();
    let from = begin_transfer(&mut world);
    world.kill(from.0);
    world.run(6000);
    let left = if from == ReplicaId(1) { 2 } else { 1 };
    world.commit_some(left, 1);
    assert_together(&world);
    assert!(Slot(40) < world.report(3).slot_trimmed);
}

#[test]
fn what_is_lost_and_trimmed_elsewhere_comes_as_a_checkpoint() {
    let mut world = World::with_one_cut_off();
    world.damage(3, 2);
    world.open(3);
    assert!(world.report(3).repair.is_some_and(|repair| repair.before_serving));
    world.run(3000);
    assert_together(&world);
    assert!(Slot(40) < world.report(3).slot_trimmed);
    world.kill(1);
    world.run(2000);
    world.commit_some(3, 3);
    assert_together(&world);
}

#[test]
fn a_bounded_number_of_callers_waits_for_a_checkpoint() {
    let mut world = World::of(1);
    world.commit_some(1, 1);
    let call = |_| {
        let (pending, completer) = Pending::<()>::new();
        (pending, Event::Checkpoint { completer })
    };
    let (mut calls, events): (Vec<_>, Vec<_>) = (0..=4096).map(call).unzip();
    world.turn(1, events);
    let mut last = calls.pop().expect("one was too many");
    let err = last.wait_timeout(Duration::ZERO).expect("it is answered").unwrap_err();
    assert_eq!(err.kind(), ErrorKind::Busy, "{err}");
    world.run(500);
    for mut call in calls {
        call.wait_timeout(Duration::ZERO).expect("it is answered").expect("it is taken");
    }
}
