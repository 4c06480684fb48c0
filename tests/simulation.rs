//! The simulator itself: same seed, same trace; and every control does what it says.

use std::sync::Arc;
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

#[test]
#[should_panic(expected = "Simulation::open: replica 2 is open")]
fn a_replica_that_is_open_is_not_opened() {
    assert!(Simulation::new(6).open(2));
}

#[test]
#[should_panic(expected = "Simulation::cut: there is no replica 9")]
fn links_of_nobody_are_not_cut() {
    Simulation::new(6).cut(1, 9);
}

#[test]
#[should_panic(expected = "Simulation::pause: there is no replica 9")]
fn nobody_is_not_paused() {
    Simulation::new(1).pause(9);
}

#[test]
#[should_panic(expected = "wait: replica 2 is paused, and cannot answer before it is resumed")]
fn a_paused_replica_is_not_waited_for() {
    let sim = Simulation::new(1);
    sim.pause(2);
    drop(sim.replica(2).put(NOTES, 1, b"text").wait());
}

#[test]
#[should_panic(expected = "close: replica 2 is paused, and cannot answer before it is resumed")]
fn a_paused_replica_is_not_closed() {
    let sim = Simulation::new(1);
    sim.pause(2);
    drop(sim.replica(2).close());
}

#[test]
#[should_panic(expected = "Simulation::block_on: nobody is answered any more")]
fn a_paused_replica_is_not_awaited_for_ever() {
    let sim = Simulation::new(1);
    sim.pause(2);
    drop(sim.block_on(sim.replica(2).put(NOTES, 1, b"text")));
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
#[should_panic(expected = "Simulation::now: a call is under way")]
fn a_closure_does_not_call_the_simulation_that_calls_it() {
    let sim = Arc::new(Simulation::new(1));
    let inner = Arc::clone(&sim);
    sim.change_settings(1, move |_| panic!("it is {:?}", inner.now()));
}

#[test]
#[should_panic(expected = "wait: a call is under way")]
fn a_closure_does_not_wait_for_an_answer() {
    let sim = Simulation::new(1);
    let replica = sim.replica(1);
    sim.change_settings(1, |_| drop(replica.put(NOTES, 1, b"text").wait()));
}

#[test]
#[should_panic(expected = "Simulation::set_back: there is no replica 9")]
fn nobody_is_not_set_back() {
    let sim = Simulation::new(1);
    sim.set_back(9, &sim.disk(1).image());
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
