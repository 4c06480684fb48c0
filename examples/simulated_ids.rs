//! Your own code under simulation: an allocator of ids on three replicas whose machines lose power
//! all the time, and a checker that no id is given twice.
//!
//! `cargo run --features sim --example simulated_ids`

use std::collections::BTreeSet;
use std::time::Duration;

use indelible::sim::Simulation;
use indelible::{Replica, Result, Table};

const NEXT: Table<u64, u64> = Table::new("next id");

/// The service: the next id, taken on the condition that nobody else took it meanwhile.
fn allocate(replica: &Replica) -> Result<u64> {
    let found = replica.get(NEXT, 0).wait()?;
    let mut taken = replica.transaction();
    match &found {
        Some(found) => taken.version(NEXT, 0, found.version),
        None => taken.absent(NEXT, 0),
    };
    let id = found.map_or(0, |found| found.value);
    taken.put(NEXT, 0, &(id + 1)).commit().wait()?;
    Ok(id)
}

/// Calls every replica in turn while one after the other crashes; returns how many ids were given.
fn run(seed: u64) -> usize {
    let (sim, mut given) = (Simulation::new(seed), BTreeSet::new());
    let mut rng = sim.rng();
    for round in 0..60 {
        if let Ok(id) = allocate(&sim.replica(1 + round % 3)) {
            assert!(given.insert(id), "seed {seed}: id {id} was given twice");
        }
        let victim = 1 + rng.below(3);
        sim.cut_power(victim, &mut |_| rng.below(2) == 0);
        assert!(sim.open(victim), "{:?}", sim.refusal(victim));
        sim.run_for(rng.time(Duration::ZERO..=Duration::from_secs(1)));
    }
    given.len()
}

fn main() {
    let seeds = 50;
    let given: usize = (0..seeds).map(run).sum();
    assert!(given > 0, "nobody ever got an id");
    println!("{given} ids in {seeds} simulated clusters, none of them given twice");
}
