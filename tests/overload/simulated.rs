//! Whole replicas under simulation.

use std::time::Duration;

use indelible::sim::{DiskSpeed, Plan, Simulation};
use indelible::types::marks::{self, Mark};
use indelible::{Committed, ErrorKind, Pending, RawTable, ReplicaId, Result};

const NOTES: RawTable<u64> = RawTable::new("notes");
const TIMEOUT: Duration = Duration::from_millis(500);
/// What a simulated replica lets wait for a slot, and what may come back from a leader besides.
const QUEUED_BYTES_MAX: usize = (1 << 20) + (4 << 20);
const WAITING_MAX: usize = 1 << 12;
/// What may be on its way to a leader, however small: 4 MiB, with 256 bytes for each.
const FORWARDED_MAX: usize = (4 << 20) / 256;
/// What may wait for the disk, and one message more.
const BACKLOG_BYTES_MAX: usize = (8 << 20) + (1 << 20);

/// Three replicas, one of which leads; its id, and those of the others.
fn cluster(seed: u64, plan: &Plan) -> (Simulation, ReplicaId, [ReplicaId; 2]) {
    let sim = Simulation::switched_off(seed, plan);
    sim.ids().into_iter().for_each(|id| assert!(sim.open(id)));
    assert!(sim.run_until(TIMEOUT * 10, |sim| sim.leader().is_some()), "nobody leads");
    let leader = sim.leader().unwrap();
    let others = sim.ids().into_iter().filter(|id| *id != leader).collect::<Vec<_>>();
    sim.replica(leader).put(NOTES, 0, b"first").wait().unwrap();
    (sim, leader, others.try_into().unwrap())
}

fn check_bounds(sim: &Simulation) {
    for id in sim.ids() {
        let report = sim.report(id).unwrap();
        assert!(report.queued_bytes <= QUEUED_BYTES_MAX, "{id}: {} queued", report.queued_bytes);
        assert!(report.backlog_bytes <= BACKLOG_BYTES_MAX, "{id}: {}", report.backlog_bytes);
        // Those in the queue, and those in flight or on their way.
        assert!(report.waiting <= 2 * WAITING_MAX, "{id}: {} wait", report.waiting);
    }
}

/// Everybody knows what the others know.
fn expect_level(sim: &Simulation) {
    let level = |sim: &Simulation| {
        let slots = sim.ids().into_iter().map(|id| sim.slot_chosen(id)).collect::<Vec<_>>();
        sim.leader().is_some() && slots.iter().all(|slot| *slot == slots[0])
    };
    assert!(sim.run_until(TIMEOUT * 20, level), "seed {}: they stay apart", sim.seed());
}

/// Waits for all. Returns how many were refused as busy; the others happened.
fn busy_among(puts: Vec<Pending<Committed>>) -> usize {
    let mut busy = 0;
    for put in puts {
        if let Err(err) = put.wait() {
            assert!(err.kind() == ErrorKind::Busy && err.is_retryable(), "{err}");
            let hint = err.retry_after().unwrap();
            assert!(Duration::ZERO < hint && hint <= TIMEOUT, "{hint:?}: {err}");
            busy += 1;
        }
    }
    busy
}

#[test]
fn a_flood_is_refused_and_unseats_nobody() {
    // These disks make small segments, slowly: all that is let in takes them about five seconds.
    let plan = Plan { request_timeout: Duration::from_secs(15), ..Plan::default() };
    for seed in 0..5 {
        let (sim, leader, _) = cluster(seed, &plan);
        let ballot = sim.report(leader).unwrap().view.unwrap().leader;
        let (mut puts, mut key) = (Vec::new(), 1);
        for _ in 0..40 {
            for id in sim.ids() {
                let replica = sim.replica(id);
                puts.extend((0..300).map(|at| replica.put(NOTES, key + at, &[7; 4000])));
                key += 300;
            }
            sim.run_for(Duration::from_micros(300));
            check_bounds(&sim);
        }
        let count = puts.len();
        let busy = busy_among(puts);
        assert!(busy > 0 && busy < count, "seed {seed}: {busy} of {count} are refused");
        assert_eq!(sim.report(leader).unwrap().view.unwrap().leader, ballot, "seed {seed}");

        // Who comes back when it is told to is let in.
        let replica = sim.replica(leader);
        let flood = (0..2000).map(|at| replica.put(NOTES, at, &[7; 4000])).collect::<Vec<_>>();
        let mut tries = 0;
        while let Err(err) = replica.put(NOTES, 1, b"patient").wait() {
            sim.run_for(err.retry_after().unwrap());
            tries += 1;
            assert!(tries <= 5, "seed {seed}: still {err}");
        }
        drop(flood);
        expect_level(&sim);
    }
}

#[test]
fn small_ones_are_counted() {
    // Ten thousand of a few bytes take more memory than their bytes tell.
    let (sim, _, [cut, _]) = cluster(1, &Plan::default());
    sim.isolate(cut);
    sim.run_for(TIMEOUT * 2);
    let replica = sim.replica(cut);
    let puts = (0..10_000).map(|key| replica.put(NOTES, key, b"")).collect::<Vec<_>>();
    let gets = (0..10_000).map(|key| replica.get(NOTES, key)).collect::<Vec<_>>();
    sim.run_for(Duration::from_millis(1));
    assert_eq!(sim.report(cut).unwrap().waiting, 2 * WAITING_MAX);
    sim.heal();
    assert_eq!(busy_among(puts), 10_000 - WAITING_MAX);
    let busy = |get: Result<_>| matches!(get, Err(err) if err.kind() == ErrorKind::Busy);
    let gets = gets.into_iter().map(|get| get.wait().map(|_| ())).filter(|get| busy(get.clone()));
    assert_eq!(gets.count(), 10_000 - WAITING_MAX);
    expect_level(&sim);
}

#[test]
fn small_ones_on_their_way_to_a_leader_are_weighed() {
    // The leader stands still: of what it is handed, nothing ends.
    let (sim, leader, [client, _]) = cluster(2, &Plan::default());
    sim.pause(leader);
    let replica = sim.replica(client);
    let mut puts = Vec::new();
    for _ in 0..10 {
        puts.extend((0..4000).map(|key| replica.put(NOTES, key, b"")));
        sim.run_for(Duration::from_millis(1));
    }
    let waiting = sim.report(client).unwrap().waiting;
    let forwarded = waiting - WAITING_MAX;
    assert!(1 << 13 < forwarded && forwarded <= FORWARDED_MAX, "{forwarded} are on their way");
    sim.resume(leader);
    let count = puts.len();
    assert_eq!(busy_among(puts), count - waiting);
    expect_level(&sim);
}

/// How long writes take through the leader, one after the other: the 99th of a hundred.
fn p99(sim: &Simulation, leader: ReplicaId) -> Duration {
    let replica = sim.replica(leader);
    let mut times = (0..200).map(|key| {
        let began = sim.now();
        replica.put(NOTES, key, &[1; 1000]).wait().unwrap();
        sim.now().since(began)
    });
    let mut times = times.by_ref().collect::<Vec<_>>();
    times.sort();
    times[times.len() * 99 / 100]
}

/// A follower is hindered, and then no longer: meanwhile writes take no longer than before. What
/// waits for its disk then is at least `backlog`, or it was not hindered.
fn expect_no_cost(
    hinder: impl Fn(&Simulation, ReplicaId),
    free: impl Fn(&Simulation, ReplicaId),
    backlog: usize,
) {
    for seed in 0..5 {
        let mut plan = Plan::default();
        // No segment ends meanwhile: to make one is slow on these disks, whoever is stuck.
        plan.journal.segment_bytes = 8 << 20;
        let (sim, leader, [stuck, _]) = cluster(seed, &plan);
        let ballot = sim.report(leader).unwrap().view.unwrap().leader;
        let healthy = p99(&sim, leader);
        let before = sim.unfinished(leader).unwrap();
        hinder(&sim, stuck);
        for _ in 0..10 {
            let taken = p99(&sim, leader);
            assert!(taken <= healthy * 3 / 2, "seed {seed}: {taken:?}, and {healthy:?} before");
            check_bounds(&sim);
            let now = sim.unfinished(leader).unwrap();
            assert!(now.held <= before.held + 16, "seed {seed}: {now:?}");
            assert!(now.tail <= before.tail + 64, "seed {seed}: {now:?}");
        }
        let waits = sim.report(stuck).unwrap().backlog_bytes;
        assert!(waits >= backlog, "seed {seed}: {waits} bytes wait for its disk");
        free(&sim, stuck);
        expect_level(&sim);
        assert_eq!(sim.report(leader).unwrap().view.unwrap().leader, ballot, "seed {seed}");
    }
}

#[test]
fn a_stuck_follower_costs_nobody_anything() {
    expect_no_cost(|sim, id| sim.pause(id), |sim, id| sim.resume(id), 0);
}

#[test]
fn a_follower_with_a_slow_disk_costs_nobody_anything() {
    // A hundred times as slow as the others', and each tenth write much slower still.
    let speed = |sync: (u64, u64), straggle| {
        let sync = (Duration::from_micros(sync.0), Duration::from_micros(sync.1));
        move |sim: &Simulation, id: ReplicaId| sim.set_disk_speed(id, DiskSpeed { sync, straggle })
    };
    let usual = |sim: &Simulation, id: ReplicaId| sim.set_disk_speed(id, DiskSpeed::default());
    expect_no_cost(speed((15_000, 40_000), 100), usual, 100_000);
}

#[test]
fn a_follower_whose_disk_hangs_costs_nobody_anything() {
    // All that was written meanwhile waits for it.
    let written = 10 * 200 * 1000;
    expect_no_cost(|sim, id| sim.pause_disk(id), |sim, id| sim.resume_disk(id), written);
}

#[test]
fn a_stuck_disk_is_waited_for_within_bounds() {
    // More than may wait for the disk is written meanwhile.
    for which in [false, true] {
        let plan = Plan { message_bytes_max: 1 << 20, ..Plan::default() };
        let (sim, leader, [follower, client]) = cluster(3, &plan);
        let stuck = if which { leader } else { follower };
        sim.pause_disk(stuck);
        let mut most = 0;
        for key in 0..40 {
            let replica = sim.replica(client);
            let puts = (0..2).map(|at| replica.put(NOTES, key * 2 + at, &[1; 250_000]));
            assert_eq!(busy_among(puts.collect()), 0, "two at a time have room");
            check_bounds(&sim);
            most = most.max(sim.report(stuck).unwrap().backlog_bytes);
        }
        if !which {
            assert!(most > 7 << 20, "the disk had too little to do: {most}");
        }
        sim.resume_disk(stuck);
        expect_level(&sim);
    }
}

#[test]
fn who_asks_a_stuck_disk_again_and_again_costs_no_memory() {
    // A candidate needs the promise of a replica whose disk hangs, and asks on: each answer would
    // wait for that disk.
    drop(marks::take());
    let plan = Plan { retransmit_interval: Duration::from_millis(5), ..Plan::default() };
    let (sim, leader, [stuck, _]) = cluster(5, &plan);
    sim.pause_disk(stuck);
    sim.crash(leader);
    let mut most = 0;
    for _ in 0..450 {
        sim.run_for(Duration::from_secs(1));
        most = most.max(sim.unfinished(stuck).unwrap().held);
    }
    assert!(most > 1 << 15, "it was asked {most} times only");
    // What it tells itself comes on top.
    assert!(most <= (1 << 16) + 100, "{most} answers wait");
    assert!(marks::take()[Mark::HeldDropped as usize] > 0);
    sim.resume_disk(stuck);
    assert!(sim.open(leader));
    expect_level(&sim);
}
