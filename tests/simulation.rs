//! The simulator itself: same seed, same trace; and every control does what it says.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use indelible::sim::swarm::{self, Limits};
use indelible::sim::{Simulation, campaign};
use indelible::types::bugs::{self, Bug};
use indelible::{RawTable, ReplicaId};

const NOTES: RawTable<u64> = RawTable::new("notes");

#[test]
fn same_seed_same_trace() {
    let run = |seed| {
        let sim = Simulation::new(seed);
        for key in 0..20 {
            sim.replica(1).put(NOTES, key, b"text").wait().unwrap();
            if key == 10 {
                sim.crash(2);
                assert!(sim.open(2), "{:?}", sim.refusal(2));
            }
        }
        sim.run_for(Duration::from_secs(5));
        sim.trace_hash()
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
}

#[test]
fn a_cluster_goes_on_without_its_leader() {
    let sim = Simulation::new(3);
    sim.keep_trace(200);
    sim.replica(1).put(NOTES, 1, b"one").wait().unwrap();
    let leader = sim.leader().unwrap();
    sim.cut_power(leader, &mut |_| false);
    let other = sim.ids().into_iter().find(|id| *id != leader).unwrap();
    // It may still be handed to the leader that is gone; then nobody knows what became of it.
    let lost = sim.replica(other).put(NOTES, 2, b"two").wait();
    assert!(lost.is_ok_and(|_| true) || sim.replica(other).put(NOTES, 2, b"two").wait().is_ok());
    assert!(sim.open(leader));
    let caught_up = |sim: &Simulation| sim.slot_chosen(leader) == sim.slot_chosen(other);
    assert!(sim.run_until(Duration::from_secs(10), caught_up), "{:#?}", sim.take_trace());
    assert_eq!(sim.ids(), [1, 2, 3].map(ReplicaId));
}

#[test]
fn a_swarm_is_the_same_each_time() {
    let limits = Limits { time: Duration::from_secs(40), ..Limits::default() };
    for seed in 0..4 {
        let (one, other) = (swarm::run(seed, &limits), swarm::run(seed, &limits));
        assert_eq!(one.violation, None, "seed {seed}");
        let acted = one.commits > 0 && one.calls >= one.commits && !one.faults.is_empty();
        assert!(acted, "seed {seed}: {one:?}");
        assert_eq!(one.trace_hash, other.trace_hash, "seed {seed}");
        assert_eq!(one.faults, other.faults, "seed {seed}");
        assert_eq!(one.marks, other.marks, "seed {seed}");
        assert!(!one.marks.is_empty(), "seed {seed}");
    }
}

#[test]
fn a_plan_is_cut_down_to_what_a_failure_needs() {
    let limits = Limits { time: Duration::from_secs(40), ..Limits::default() };
    bugs::switch(Some(Bug::AckBeforeSync));
    let mut failures =
        (0..100).filter_map(|seed| Some((seed, swarm::run(seed, &limits).violation?)));
    let (seed, violation) = failures.next().expect("the mistake is noticed");
    let plan = campaign::shrink(seed, &limits, violation.invariant, 20);
    let again = swarm::run_plan(seed, &limits, &plan).violation;
    bugs::switch(None);
    assert_eq!(again.map(|violation| violation.invariant), Some(violation.invariant));
    assert!(plan.len() <= swarm::planned(seed, &limits).len());
}

#[test]
fn code_that_awaits_runs_under_simulation() {
    let sim = Simulation::new(5);
    let replica = sim.replica(1);
    let read = sim.block_on(async {
        replica.put(NOTES, 1, b"text").await?;
        replica.get(NOTES, 1).await
    });
    assert_eq!(read.unwrap().expect("it was written").value[..], *b"text");
}

#[test]
fn a_replica_that_was_closed_is_opened_again() {
    let sim = Simulation::new(6);
    sim.replica(1).put(NOTES, 1, b"text").wait().unwrap();
    sim.replica(2).close().unwrap();
    assert!(!sim.is_up(2));
    assert!(sim.open(2), "{:?}", sim.refusal(2));
    assert!(sim.replica(2).get(NOTES, 1).wait().unwrap().is_some());
}

/// What the panic says that a misuse ends with.
fn refusal(misuse: impl FnOnce()) -> String {
    let panic = catch_unwind(AssertUnwindSafe(misuse)).expect_err("it is taken");
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| Some((*panic.downcast_ref::<&str>()?).to_owned())).expect("a panic with a text")
}

#[test]
fn each_method_names_itself_and_the_replica_that_is_not_there() {
    let sim = Simulation::new(6);
    let image = sim.save_disk(1);
    let misuses: [(&str, &dyn Fn()); 13] = [
        ("cut", &|| sim.cut(1, 9)),
        ("pause", &|| sim.pause(9)),
        ("crash", &|| sim.crash(9)),
        ("replica", &|| drop(sim.replica(9))),
        ("set_back", &|| sim.set_back(9, &image)),
        ("save_disk", &|| drop(sim.save_disk(9))),
        ("restore_disk", &|| sim.restore_disk(9, &image)),
        ("wipe_disk", &|| sim.wipe_disk(9)),
        ("frames", &|| drop(sim.frames(9))),
        ("corrupt", &|| sim.corrupt(9, 1)),
        ("zero", &|| sim.zero(9, 1)),
        ("swap", &|| sim.swap(9, 1, 2)),
        ("misdirect", &|| sim.misdirect(9, 1, 2)),
    ];
    for (method, misuse) in misuses {
        let wanted = format!("Simulation::{method}: there is no replica 9");
        assert_eq!(refusal(misuse), wanted);
    }
    let opened = refusal(|| assert!(!sim.open(2)));
    assert_eq!(opened, "Simulation::open: replica 2 is open");
}

#[test]
fn a_paused_replica_is_not_waited_for() {
    let sim = Simulation::new(1);
    sim.pause(2);
    let why = "replica 2 is paused, and cannot answer before it is resumed";
    let put = || sim.replica(2).put(NOTES, 1, b"text");
    assert_eq!(refusal(|| drop(put().wait())), format!("wait: {why}"));
    assert_eq!(refusal(|| drop(sim.replica(2).close())), format!("close: {why}"));
    let timeout = Duration::from_secs(9);
    assert_eq!(refusal(|| drop(put().wait_timeout(timeout))), format!("wait: {why}"));
    let awaited = refusal(|| drop(sim.block_on(put())));
    assert!(awaited.starts_with("Simulation::block_on: nobody is answered any more"), "{awaited}");
}

#[test]
fn what_a_paused_replica_was_asked_it_answers_later() {
    let sim = Simulation::new(1);
    sim.pause(2);
    let put = sim.replica(2).put(NOTES, 1, b"text");
    sim.run_for(Duration::from_secs(1));
    sim.resume(2);
    put.wait().unwrap();
}

#[test]
fn who_called_a_replica_that_dies_is_told() {
    let sim = Simulation::new(1);
    for await_it in [false, true] {
        let put = sim.replica(1).put(NOTES, 7, b"text");
        sim.crash(1);
        let result = if await_it { sim.block_on(put) } else { put.wait() };
        assert!(result.unwrap_err().is_outcome_unknown());
        assert!(sim.open(1));
    }
}

#[test]
fn a_wait_with_a_timeout_passes_simulated_time() {
    let sim = Simulation::new(1);
    let mut put = sim.replica(1).put(NOTES, 1, b"text");
    assert!(put.wait_timeout(Duration::from_secs(10)).expect("an answer").is_ok());
    // Whoever is alone gets no answer so soon, and time has passed.
    sim.isolate(1);
    let (began, timeout) = (sim.now(), Duration::from_millis(100));
    assert!(sim.replica(1).put(NOTES, 2, b"text").wait_timeout(timeout).is_none());
    assert!(sim.now() >= began + timeout);
}

#[test]
fn a_closure_does_not_call_what_calls_it() {
    let sim = Simulation::new(1);
    let busy = "a call is under way: this one comes from its closure, or from a second thread";
    let called = refusal(|| sim.change_settings(1, |_| drop(sim.ids())));
    assert_eq!(called, format!("Simulation::ids: {busy}"));
    let put = sim.replica(1).put(NOTES, 1, b"text");
    let waited = refusal(|| sim.change_settings(1, |_| drop(put.wait())));
    assert_eq!(waited, format!("wait: {busy}"));
    let disk = sim.disk(1);
    let name = disk.names().pop().expect("an open replica has files");
    let touched = refusal(|| assert!(!disk.rot(&name, 0..8, |_| drop(disk.names()))));
    assert_eq!(touched, format!("SimDisk: {busy}"));
}

#[test]
fn the_newest_lines_of_a_trace_are_kept() {
    let sim = Simulation::new(1);
    sim.keep_trace(50);
    sim.run_for(Duration::from_secs(1));
    sim.keep_trace(2);
    sim.replica(1).put(NOTES, 1, b"text").wait().unwrap();
    sim.keep_trace(1);
    let lines = sim.take_trace();
    assert_eq!(lines.len(), 1);
    let time = lines[0].split(' ').next().unwrap().parse::<f64>().unwrap();
    assert!(time > 1.0, "{lines:?}");
}

#[test]
fn who_is_refused_without_having_been_set_back_is_a_violation() {
    let sim = Simulation::new(1);
    let image = sim.save_disk(1);
    sim.crash(1);
    assert!(sim.open(1));
    sim.replica(1).put(NOTES, 1, b"text").wait().unwrap();
    sim.crash(1);
    // As `restore_disk` does, but the simulation is not told.
    sim.disk(1).restore(&image);
    let broken = refusal(|| {
        assert!(sim.open(1), "{:?}", sim.refusal(1));
        sim.run_for(Duration::from_secs(5));
    });
    assert!(broken.starts_with("seed 1: F1: "), "{broken}");
    assert_eq!(sim.violation().unwrap().invariant, "F1");
}

#[test]
fn who_stops_without_a_reason_is_a_violation() {
    let sim = Simulation::new(1);
    sim.disk(1).stop_at(sim.disk(1).boundaries());
    let broken = refusal(|| drop(sim.replica(1).put(NOTES, 1, b"text").wait()));
    assert!(broken.starts_with("seed 1: S1: "), "{broken}");
}
