//! Whole replicas, one thread: entries that journals lost come back from the others, and a full
//! disk is waited out.

#[path = "support/faulty_disk.rs"]
mod faulty_disk;
#[path = "support/replicas.rs"]
#[allow(dead_code, missing_docs, reason = "other test programs use the rest")]
mod replicas;

use std::time::Duration;

use indelible::ErrorKind;
use indelible::runtime::tail::AppliedEntries;
use indelible::types::ids::Slot;
use indelible::types::marks::{self, Mark};

use replicas::World;

#[test]
fn replicas_that_lost_different_entries_heal_each_other() {
    let mut world = World::of(5);
    world.commit_some(1, 12);
    world.run(500);
    let before = world.digests();
    (1..=5).for_each(|id| world.kill(id));
    for (id, slots) in [(1, [2, 3, 9]), (2, [5, 6, 11])] {
        slots.iter().for_each(|slot| world.damage(id, *slot));
    }

    // The first one waits, and tells for what.
    world.open(1);
    let mut early = world.commit(1);
    world.run(1000);
    let report = world.report(1);
    let repair = report.repair.expect("entries are missing");
    let first = repair.first.expect("nobody was there to give anything");
    // Entries next to what is damaged are missing too.
    assert!(first <= Slot(2) && repair.repaired == 0 && repair.before_serving, "{repair:?}");
    let told = format!("slot {first} next");
    let why = report.in_the_way().unwrap();
    assert!(why.contains(&told), "{why}");
    assert!(report.view.is_none() && early.wait_timeout(Duration::ZERO).is_none());
    world.run(3000);
    let err = early.wait_timeout(Duration::ZERO).expect("every call ends in time").unwrap_err();
    assert_eq!(err.kind(), ErrorKind::TimedOut);
    assert!(err.to_string().contains(&told), "{err}");

    // The two together have everything, though neither can do more than tell what it has.
    world.open(2);
    world.run(1000);
    for id in 1..=2 {
        assert_eq!(world.report(id).repair, None);
        world.assert_readable(id);
    }
    assert!(world.digests().iter().all(|digest| *digest == before[0]), "{:?}", world.digests());

    // With a quorum of others, what they doubt is settled.
    (3..=5).for_each(|id| world.open(id));
    world.run(3000);
    for id in 1..=5 {
        assert_eq!(world.report(id).in_the_way(), None);
        let doubts = world.report(id).doubts;
        assert!(doubts.is_empty(), "replica {id}: {doubts:?}");
        world.assert_readable(id);
    }
    world.commit_some(2, 3);
    world.run(500);
    let digests = world.digests();
    assert!(digests.iter().all(|digest| *digest == digests[0]), "{digests:?}");

    // What was repaired stays so: each comes back by itself.
    for id in 1..=5 {
        (1..=5).for_each(|id| world.kill(id));
        world.open(id);
        assert_eq!(world.report(id).repair, None);
        world.assert_readable(id);
    }
}

#[test]
fn what_is_lost_behind_a_checkpoint_is_fetched_and_what_is_before_later() {
    let mut world = World::of(3);
    world.commit_some(1, 6);
    world.checkpoint(2);
    let held = world.report(2).slot_checkpointed;
    assert!(Slot(6) < held, "{held}");
    world.commit_some(1, 6);
    world.run(500);
    (1..=3).for_each(|id| world.kill(id));
    world.damage(2, 3);
    world.damage(2, held.0 + 2);

    // It begins with the state of the checkpoint, and waits for what is behind it, and for no more.
    world.open(2);
    world.run(1000);
    let repair = world.report(2).repair.expect("entries are missing");
    assert!(repair.before_serving && Some(held) <= repair.first, "{repair:?}");
    assert_eq!(world.drivers[&2].store().applied().slot, held);

    // Then it serves, and fetches the rest of the history beside.
    world.open(1);
    world.open(3);
    world.run(3000);
    assert_eq!(world.report(2).repair, None);
    world.assert_readable(2);
    let digests = world.digests();
    assert!(digests.iter().all(|digest| *digest == digests[0]), "{digests:?}");
    world.commit_some(2, 1);
}

#[test]
fn rot_that_is_found_while_a_peer_is_served_is_repaired() {
    let mut world = World::of(3);
    world.commit_some(1, 3);
    world.kill(3);
    world.run(1500);
    world.commit_some(1, 12);
    world.run(500);
    // Whoever 3 asks finds a rotten entry, though each another one.
    world.damage(1, 8);
    world.damage(2, 10);
    world.open(3);
    world.run(3000);
    let digests = world.digests();
    assert!(digests.iter().all(|digest| *digest == digests[0]), "{digests:?}");
    // The damage that nobody asked for is not known yet; reading finds it.
    let damaged = (1..=2).filter(|id| world.report(*id).damage.is_some()).collect::<Vec<_>>();
    assert_eq!(damaged, [], "what was found is repaired");
    let repaired = (1..=2).filter(|id| {
        let end = world.drivers[id].store().applied().slot;
        world.drivers[id].reader().entries(Slot::ZERO, end).all(|entry| entry.is_ok())
    });
    assert!(repaired.count() > 0, "nobody found anything");
    world.assert_readable(3);
}

#[test]
fn rot_that_a_reader_of_the_ledger_finds_is_repaired() {
    let mut world = World::of(3);
    world.commit_some(1, 12);
    world.run(500);
    world.damage(2, 5);
    world.damage(2, 9);
    let read = |world: &World| {
        let driver = &world.drivers[&2];
        let end = driver.store().applied().slot;
        AppliedEntries::new(driver.reader(), driver.tail(), Slot::ZERO, end)
            .find_map(Result::err)
            .map(|err| err.to_string())
    };
    for slot in [5, 9] {
        let told = read(&world).expect("a damaged entry cannot be read");
        assert!(told.contains(&format!("slot {slot}:")), "{told}");
        assert!(world.report(2).damage.is_none(), "the driver knows nothing of it yet");
        drop(marks::take());
        world.run(500);
        assert!(marks::take()[Mark::RepairedBesideServing as usize] > 0);
        assert_eq!(world.report(2).repair, None);
        assert!(world.report(2).damage.is_none(), "what was found is repaired");
    }
    assert_eq!(read(&world), None);
    // For good, and the replica went on meanwhile.
    world.commit_some(2, 1);
    world.kill(2);
    world.open(2);
    world.assert_readable(2);
}

#[test]
fn who_is_alone_tells_of_rot_and_goes_on() {
    let mut world = World::of(1);
    world.commit_some(1, 5);
    world.damage(1, 3);
    let driver = &world.drivers[&1];
    let end = driver.store().applied().slot;
    let entries = AppliedEntries::new(driver.reader(), driver.tail(), Slot::ZERO, end);
    assert_eq!(entries.filter(Result::is_err).count(), 1);
    world.run(10);
    let report = world.report(1);
    assert!(report.damage.is_some() && report.repair.is_none(), "{report:?}");
    world.commit_some(1, 2);
}

#[test]
fn doubts_are_settled_by_the_leader_of_the_others() {
    // The slots behind the last one known to be chosen are in doubt at one replica, and settled by
    // the leader that the others elect.
    let mut world = World::of(3);
    world.commit_some(1, 5);
    let last = world.drivers[&3].store().applied().slot.0 - 1;
    world.kill(3);
    world.run(1500);
    world.damage(3, last);
    world.commit_some(1, 5);
    world.open(3);
    world.run(3000);
    assert!(world.report(3).doubts.is_empty(), "{:?}", world.report(3).doubts);
    // So 3 is a voter like any other: with it, one of the others is enough.
    world.kill(2);
    world.run(2000);
    world.commit_some(3, 3);
    world.assert_readable(3);
}

#[test]
fn who_has_no_space_leaves_it_to_the_others() {
    let mut world = World::of(3);
    world.commit_some(1, 3);
    let leader = |world: &World| {
        let view = world.drivers.values().find_map(|driver| driver.report().view?.leader);
        view.expect("somebody leads").leader.0
    };
    let full = leader(&world);
    let other = full % 3 + 1;
    world.disks[&full].limit_space(Some(0));
    // Until its segment is nearly full, it goes on; then another one leads.
    while !world.report(full).storage_full {
        world.commit_some(other, 1);
    }
    world.run(2000);
    assert_ne!(leader(&world), full);
    let mut refused = world.commit(full);
    world.run(10);
    let err = refused.wait_timeout(Duration::ZERO).expect("it is refused at once").unwrap_err();
    assert!(err.is_storage_full(), "{err}");
    assert_eq!(
        world.report(full).in_the_way().as_deref(),
        Some("the disk of this replica is full")
    );
    world.commit_some(other, 3);

    // There is space again: it catches up, and takes transactions.
    world.disks[&full].limit_space(None);
    world.run(3000);
    assert!(!world.report(full).storage_full);
    world.commit_some(full, 3);
    world.run(500);
    let digests = world.digests();
    assert!(digests.iter().all(|digest| *digest == digests[0]), "{digests:?}");
}

#[test]
fn a_lone_replica_without_space_goes_on_when_there_is_some() {
    let mut world = World::of(1);
    world.commit_some(1, 3);
    world.disks[&1].limit_space(Some(0));
    while !world.report(1).storage_full {
        world.commit_some(1, 1);
    }
    let mut refused = world.commit(1);
    world.run(10);
    let err = refused.wait_timeout(Duration::ZERO).expect("it is refused at once").unwrap_err();
    assert!(err.is_storage_full(), "{err}");
    world.disks[&1].limit_space(None);
    world.run(2000);
    world.commit_some(1, 3);
    let before = world.digests();
    world.kill(1);
    world.open(1);
    world.run(1000);
    assert_eq!(world.digests(), before, "what was acknowledged is there");
}
