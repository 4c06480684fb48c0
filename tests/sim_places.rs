//! Damage named by what it hits: a slot, a copy of a promise, a whole disk. Each control does what
//! it says, and the replica heals where the fault model promises it.

#![allow(clippy::unwrap_used, reason = "a test panics on what it does not expect")]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use indelible::RawTable;
use indelible::journal::frame::Kind;
use indelible::sim::{Simulation, Target};
use indelible::types::ids::Slot;

const NOTES: RawTable<u64> = RawTable::new("notes");

/// Three replicas that rest, and the slot of the newest write.
fn rested(seed: u64) -> (Simulation, Slot) {
    let sim = Simulation::new(seed);
    for key in 0..6 {
        sim.replica(1).put(NOTES, key, b"text").wait().unwrap();
    }
    sim.run_for(Duration::from_secs(2));
    let slot = Slot(sim.slot_chosen(1).0 - 1);
    sim.cut_power(2, &mut |_| false);
    (sim, slot)
}

#[track_caller]
fn heals(sim: &Simulation) {
    assert!(sim.open(2), "{:?}", sim.refusal(2));
    let read = sim.replica(2).get(NOTES, 5).wait().unwrap();
    assert_eq!(read.expect("it was acknowledged").value[..], *b"text");
    let whole = |sim: &Simulation| sim.report(2).is_some_and(|report| report.doubts.is_empty());
    assert!(sim.run_until(Duration::from_secs(5), whole), "{:?}", sim.report(2));
}

#[test]
fn damage_is_named_by_slot() {
    let damages: [fn(&Simulation, Slot); 5] = [
        |sim, slot| sim.corrupt(2, slot),
        |sim, slot| sim.zero(2, slot),
        |sim, slot| sim.make_unreadable(2, slot),
        |sim, slot| sim.swap(2, slot, slot.0 - 1),
        |sim, slot| sim.misdirect(2, slot.0 - 1, slot),
    ];
    for (seed, damage) in damages.into_iter().enumerate() {
        let (sim, slot) = rested(seed as u64);
        let before = sim.place_of(2, slot);
        assert!(matches!(before.header.kind, Kind::Vote | Kind::Chosen), "{before:?}");
        damage(&sim, slot);
        heals(&sim);
        let after = sim.place_of(2, slot);
        assert!(after.header.lsn > before.header.lsn, "{seed}: it was repaired behind");
    }
}

#[test]
fn one_copy_of_a_promise_can_be_lost() {
    for copy in [1, 2] {
        let (sim, _) = rested(copy);
        sim.zero(2, Target::Promise(copy as u8));
        heals(&sim);
    }
}

#[test]
fn a_promise_of_which_both_copies_are_corrupt_is_lost() {
    let (sim, _) = rested(3);
    sim.corrupt(2, Target::Promise(1));
    sim.corrupt(2, Target::Promise(2));
    assert!(sim.open(2), "{:?}", sim.refusal(2));
    assert!(sim.report(2).is_some_and(|report| report.doubts.promise_lost));
}

#[test]
fn disks_are_saved_and_set_back() {
    let (sim, slot) = rested(1);
    let image = sim.save_disk(2);
    sim.wipe_disk(2);
    assert!(sim.frames(2).is_empty(), "a blank disk holds nothing");
    sim.restore_disk(2, &image);
    assert_eq!(sim.place_of(2, slot).header.slot, slot);
    heals(&sim);
}

#[test]
fn a_slot_that_was_never_written_has_no_place() {
    let (sim, _) = rested(1);
    let panic = catch_unwind(AssertUnwindSafe(|| sim.corrupt(2, 1_000_000))).unwrap_err();
    let text = panic.downcast_ref::<String>().unwrap();
    let wanted = "on the medium of replica 2 there is no entry for slot 1000000";
    assert_eq!(*text, format!("Simulation::corrupt: {wanted}"));
}
