//! One caller who waits for each commit, against a bare write and sync.

use std::time::Duration;

use indelible::Replica;

use crate::floor::{PreWritten, RoundTrip, ThreeSyncs};
use crate::ledger::{self, Caller, PATIENCE};
use crate::report::{Goal, Latencies, Result, Row, median};

const SLICE: Duration = Duration::from_millis(300);
const ROUNDS: usize = 9;

/// One replica against one bare write and sync of a pre-written block.
pub fn one() -> Result<Row> {
    let directory = tempfile::tempdir()?;
    let mut floor = PreWritten::create(&directory.path().join("floor"))?;
    let replica = Replica::open(directory.path().join("data"))?;
    replica.wait_ready(PATIENCE)?;
    let mut caller = Caller::new(replica.clone());
    let (mut bare, mut ours) = (Latencies::new()?, Latencies::new()?);
    let mut ratios = Vec::new();
    for round in 0..=ROUNDS {
        let (mut floor_now, mut ours_now) = (Latencies::new()?, Latencies::new()?);
        floor.run(SLICE, &mut floor_now)?;
        caller.run(SLICE, &mut ours_now)?;
        if round == 0 {
            continue; // Both sides are cold.
        }
        ratios.push(ours_now.quantile(0.5) / floor_now.quantile(0.5));
        bare.add(&floor_now)?;
        ours.add(&ours_now)?;
    }
    replica.close()?;
    let note = format!(
        "median of {ROUNDS} rounds, {} commits; floor: bare write and sync of \
                        4 KiB; microseconds",
        ours.count()
    );
    Ok(Row::new(median(ratios), "ratio", Goal::AtMost(1.6))
        .with_latencies("", &ours)
        .with_latencies("floor_", &bare)
        .note(note))
}

/// Three replicas against three syncs at once, of which two are awaited, and a round trip.
pub fn three() -> Result<Row> {
    let directory = tempfile::tempdir()?;
    let mut syncs = ThreeSyncs::create(directory.path())?;
    let mut round_trip = RoundTrip::connect()?;
    let replicas = ledger::three(directory.path())?;
    let mut caller = Caller::new(replicas[0].clone());
    let (mut disk, mut network, mut ours) =
        (Latencies::new()?, Latencies::new()?, Latencies::new()?);
    let mut ratios = Vec::new();
    for round in 0..=ROUNDS {
        let (mut disk_now, mut network_now, mut ours_now) =
            (Latencies::new()?, Latencies::new()?, Latencies::new()?);
        syncs.run(SLICE, &mut disk_now)?;
        round_trip.run(SLICE, &mut network_now)?;
        caller.run(SLICE, &mut ours_now)?;
        if round == 0 {
            continue;
        }
        let floor = disk_now.quantile(0.5) + network_now.quantile(0.5);
        ratios.push(ours_now.quantile(0.5) / floor);
        disk.add(&disk_now)?;
        network.add(&network_now)?;
        ours.add(&ours_now)?;
    }
    replicas.iter().try_for_each(Replica::close)?;
    let note = format!(
        "median of {ROUNDS} rounds, {} commits; floor: three syncs at once, two \
                        awaited, and a blocking round trip; microseconds",
        ours.count()
    );
    Ok(Row::new(median(ratios), "ratio", Goal::AtMost(2.0))
        .with_latencies("", &ours)
        .with_latencies("syncs_", &disk)
        .with_latencies("round_trip_", &network)
        .note(note))
}
