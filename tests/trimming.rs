//! Whole replicas, one thread: what is trimmed is needed by nobody, and who holds that up is told.

#[path = "support/faulty_disk.rs"]
#[allow(dead_code, reason = "other test programs use the rest")]
mod faulty_disk;
#[path = "support/replicas.rs"]
#[allow(dead_code, missing_docs, reason = "other test programs use the rest")]
mod replicas;

use std::time::Duration;

use indelible::runtime::pending::Pending;
use indelible::runtime::report::Report;
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
    // A third replica that nobody hears would hold back the others; but it was removed.
    let next = first.without(ReplicaId(3)).expect("two are left");
    let slots = [1, 2].map(|id| world.learn(id, &Entry::membership(&next)));
    assert_eq!(slots[0], slots[1]);
    [1, 2].iter().for_each(|id| world.open(*id));
    world.run(2000);
    for _ in 0..3 {
        world.commit_some(1, 30);
        [1, 2].iter().for_each(|id| world.checkpoint(*id));
    }
    for id in [1, 2] {
        let Report { slot_trimmed, trimming_held_by, .. } = world.report(id);
        assert!(slots[0] < slot_trimmed, "of {}, {slot_trimmed} are trimmed", slots[0]);
        assert_eq!(trimming_held_by, None);
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

#[test]
fn who_takes_no_checkpoints_holds_back_what_the_others_trim() {
    let mut world = World::of(3);
    world.history_bytes_min = 0;
    (1..=3).for_each(|id| world.kill(id));
    (1..=3).for_each(|id| world.open(id));
    world.run(2000);
    for _ in 0..3 {
        world.commit_some(1, 30);
        [1, 2].iter().for_each(|id| world.checkpoint(*id));
    }
    for id in [1, 2] {
        let report = world.report(id);
        assert_eq!(
            (report.slot_trimmed, report.trimming_held_by),
            (Slot::ZERO, Some(ReplicaId(3)))
        );
    }
    for _ in 0..2 {
        world.commit_some(1, 1);
        world.checkpoint(3);
    }
    for report in [1, 2].map(|id| world.report(id)) {
        assert!(Slot(40) < report.slot_trimmed, "{}", report.slot_trimmed);
        assert_eq!(report.trimming_held_by, None);
    }

    // Who comes back hears it again, though nobody has anything new to say.
    world.kill(1);
    world.open(1);
    world.run(12_000);
    let kept = world.report(1).peers.iter().map(|peer| peer.slot_kept).collect::<Vec<_>>();
    assert!(kept.iter().all(|kept| Slot(40) < *kept), "{kept:?}");
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
