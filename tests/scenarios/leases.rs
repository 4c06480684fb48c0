//! Reads under a lease while machines sleep, stand still, restart or are cut off, with clocks as
//! far from the truth as is allowed: never an old value.

use std::time::Duration;

use indelible::sim::Plan;
use indelible::sim::disk::{SyncFailure, When};
use indelible::types::bugs::{self, Bug};
use indelible::{ErrorKind, ReplicaId};

use super::support::{Cluster, NOTES, for_seeds_of, nothing_survives};

/// Shorter than the time after which a leader that hears nobody steps down: it is the lease that
/// ends its reads.
const LEASE: Duration = Duration::from_millis(400);

fn for_leased(scenario: impl Fn(&Cluster)) {
    for_seeds_of(&Plan { read_lease: Some(LEASE), ..Plan::default() }, scenario);
}

/// The clock of the leader is as slow, and those of the others are as fast, as may be.
fn spread_clocks(cluster: &Cluster) {
    for id in cluster.ids() {
        let rate = if id == cluster.leader { 900 } else { 1100 };
        cluster.change_clock(id, |clock, now| clock.set_uptime_rate(now, rate));
    }
    cluster.run_timeouts(2);
    assert_eq!(cluster.sim.leader(), Some(cluster.leader));
}

/// One of the others leads, and something is acknowledged there. Returns its key.
fn write_behind(cluster: &Cluster) -> u64 {
    let led = cluster.leader;
    cluster.expect("another one leads", |sim| {
        let ready = |id: &ReplicaId| {
            let view = sim.report(*id).and_then(|report| report.view);
            *id != led && view.is_some_and(|view| view.ready)
        };
        sim.ids().iter().any(ready)
    });
    let ready = |id: &&ReplicaId| {
        cluster.report(**id).and_then(|report| report.view).is_some_and(|view| view.ready)
    };
    let next = *cluster.others.iter().find(ready).unwrap();
    let write = cluster.begin(next, 16);
    let key = write.0;
    cluster.end(write).unwrap();
    key
}

/// Whoever led is asked, and all is mended. Returns whether it answers without what was
/// acknowledged: it may answer with that, or not at all.
fn old_leader_misses(cluster: &Cluster, key: u64) -> bool {
    let read = cluster.replica(cluster.leader).get(NOTES, key);
    cluster.run_for(Duration::from_millis(cluster.below(100)));
    cluster.heal();
    let missed = match read.wait() {
        Ok(found) => found.is_none(),
        Err(err) => {
            assert_eq!(err.kind(), ErrorKind::TimedOut, "{err}");
            false
        }
    };
    cluster.settle();
    missed
}

fn read_at_the_old_leader(cluster: &Cluster, key: u64) {
    assert!(!old_leader_misses(cluster, key), "what was acknowledged is not read");
}

#[test]
fn a_held_lease_needs_no_round() {
    for_leased(|cluster| {
        spread_clocks(cluster);
        let rounds = || cluster.report(cluster.leader).unwrap().read_rounds;
        let before = rounds();
        for id in cluster.ids() {
            assert!(cluster.replica(id).get(NOTES, 0).wait().unwrap().is_some());
        }
        assert_eq!(rounds(), before);
        cluster.settle();
    });
}

#[test]
fn leader_that_is_cut_off_reads_nothing_old() {
    for_leased(|cluster| {
        spread_clocks(cluster);
        cluster.isolate(cluster.leader);
        let key = write_behind(cluster);
        read_at_the_old_leader(cluster, key);
    });
}

#[test]
fn leader_that_slept_reads_nothing_old() {
    // Its timers stood still meanwhile: by them, no time has passed.
    for_leased(|cluster| {
        cluster.run_timeouts(2);
        cluster.change_clock(cluster.leader, |clock, now| clock.set_rate(now, 0));
        cluster.pause(cluster.leader);
        let key = write_behind(cluster);
        cluster.isolate(cluster.leader);
        cluster.resume(cluster.leader);
        cluster.change_clock(cluster.leader, |clock, now| clock.set_rate(now, 1000));
        read_at_the_old_leader(cluster, key);
    });
}

/// The leader is cut off and sleeps while another one leads; of all that happens it hears nothing
/// before it is asked. Returns whether it misses what was acknowledged.
fn sleeper_misses(cluster: &Cluster) -> bool {
    cluster.run_timeouts(2);
    cluster.isolate(cluster.leader);
    cluster.change_clock(cluster.leader, |clock, now| clock.set_rate(now, 0));
    cluster.pause(cluster.leader);
    let key = write_behind(cluster);
    cluster.resume(cluster.leader);
    cluster.change_clock(cluster.leader, |clock, now| clock.set_rate(now, 1000));
    old_leader_misses(cluster, key)
}

#[test]
fn a_lease_by_the_timers_outlives_sleep() {
    // The mistake that the clock of leases is there for: with it, each time an old value is read.
    for_leased(|cluster| assert!(!sleeper_misses(cluster)));
    bugs::switch(Some(Bug::LeaseByTimers));
    for_leased(|cluster| assert!(sleeper_misses(cluster), "nothing old is read"));
    bugs::switch(None);
}

#[test]
fn voters_that_restart_do_not_forget_the_lease() {
    // Both, and one of them loses power: of what was granted nothing is left in memory.
    for_leased(|cluster| {
        spread_clocks(cluster);
        cluster.isolate(cluster.leader);
        let [b, c] = [cluster.others[0], cluster.others[1]];
        cluster.crash(b);
        cluster.cut_power(c, &mut nothing_survives);
        assert!(cluster.open(b) && cluster.open(c));
        let key = write_behind(cluster);
        read_at_the_old_leader(cluster, key);
    });
}

#[test]
fn planned_change_of_the_leader_waits_for_no_lease() {
    let long = Duration::from_secs(600);
    for_seeds_of(&Plan { read_lease: Some(long), ..Plan::default() }, |cluster| {
        cluster.run_timeouts(2);
        let to = cluster.others[cluster.below(2) as usize];
        cluster.replica(cluster.leader).transfer_leadership(to).wait().unwrap();
        assert_eq!(cluster.sim.leader(), Some(to));
        cluster.settle();
    });
}

/// Opened with another lease than before, or with none.
fn reopen_with(cluster: &Cluster, id: ReplicaId, lease: Option<Duration>) {
    cluster.crash(id);
    cluster.change_settings(id, |settings| settings.driver.read_lease = lease);
    cluster.reopen(id);
}

/// The longest lease that the replica may have granted, as its directory says.
fn longest_noted(cluster: &Cluster, id: ReplicaId) -> Option<String> {
    cluster.disk(id).names().into_iter().filter(|name| name.starts_with("lease-")).max()
}

#[test]
fn longer_lease_is_forgotten_by_who_is_closed_once_it_is_over() {
    for_leased(|cluster| {
        let id = cluster.others[cluster.below(2) as usize];
        cluster.run_timeouts(2);
        let lease = (cluster.below(2) == 0).then_some(LEASE / 2);
        reopen_with(cluster, id, lease);
        cluster.close_now(id);
        assert_eq!(longest_noted(cluster, id).as_deref(), Some("lease-00000400"));
        cluster.reopen(id);
        cluster.run_timeouts(2);
        cluster.close_now(id);
        let left = lease.map(|_| "lease-00000200");
        assert_eq!(longest_noted(cluster, id).as_deref(), left);
        cluster.settle();
    });
}

#[test]
fn shorter_lease_of_the_next_opening_ends_no_longer_one() {
    // Both voters granted a lease, and are opened with a shorter one, or with none.
    for_leased(|cluster| {
        spread_clocks(cluster);
        cluster.isolate(cluster.leader);
        for id in &cluster.others {
            let lease = (cluster.below(2) == 0).then_some(LEASE / 4);
            reopen_with(cluster, *id, lease);
        }
        let key = write_behind(cluster);
        read_at_the_old_leader(cluster, key);
    });
}

#[test]
fn longer_lease_stays_noted_where_the_disk_failed() {
    // Swarm, 70000004: whoever stopped since a sync failed removed a file when it was closed.
    for_leased(|cluster| {
        let id = cluster.others[cluster.below(2) as usize];
        reopen_with(cluster, id, None);
        cluster.run_timeouts(2);
        cluster.disk(id).fail_sync(When::NEXT, SyncFailure::Keep);
        cluster.write_some(cluster.leader, 1);
        cluster.expect("it stops", |sim| !sim.is_up(id));
        assert_eq!(longest_noted(cluster, id).as_deref(), Some("lease-00000400"));
        cluster.settle();
    });
}
