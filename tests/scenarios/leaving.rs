//! Who was removed stays while those who vote now may need it: it may be the only one that knows
//! who they are.

use std::cell::Cell;
use std::time::Duration;

use indelible::sim::network::Fate;
use indelible::sim::{Plan, Simulation};
use indelible::types::ids::Slot;
use indelible::types::marks::{self, Mark};
use indelible::types::message::Message;
use indelible::{ErrorKind, Membership, Pending, ReplicaId};

use super::checkpoints::{checkpoint_names, rot_checkpoints, rot_somewhere};
use super::membership::{expect_removed, join, with_outsiders};
use super::support::{Cluster, for_few_seeds_of, for_seeds_of, nothing_survives};

fn is_removed(sim: &Simulation, id: ReplicaId) -> bool {
    let members = sim.report(id).and_then(|report| report.membership);
    members.is_some_and(|members| members.removed().contains(&id))
}

/// Whether it knows that it is the only voter.
pub fn is_alone(sim: &Simulation, id: ReplicaId) -> bool {
    let members = sim.report(id).and_then(|report| report.membership);
    members.is_some_and(|members| members.is_only(id))
}

/// One that is alone, and one that may join; of what a checkpoint holds nothing is kept, and one is
/// taken only when somebody asks.
fn trims_soon() -> Plan {
    Plan {
        replicas: 1,
        outsiders: 1,
        history_bytes_min: 0,
        checkpoint_bytes: u64::MAX,
        ..Plan::default()
    }
}

/// Asks for a change again and again, until this is so.
fn ask_until(
    cluster: &Cluster,
    ask: impl Fn() -> Pending<Membership>,
    condition: impl Fn(&Simulation) -> bool,
) {
    let (mut pending, mut why) = (ask(), None);
    for _ in 0..40_000 {
        cluster.run_for(Duration::from_micros(50));
        if condition(&cluster.sim) {
            return;
        }
        if let Some(Err(err)) = pending.wait_timeout(Duration::ZERO) {
            (pending, why) = (ask(), Some(err));
        }
    }
    panic!("seed {}: {why:?}", cluster.seed());
}

/// Lets `left`, which decides alone from now on, lose what it had not synced as soon as `gone`
/// knows that it was removed, and stay away for long: `gone` waits for it, and stops once it knows.
/// Returns whether it was missed.
fn outlive(
    cluster: &Cluster,
    (gone, left): (ReplicaId, ReplicaId),
    ask: impl Fn() -> Pending<Membership>,
) -> bool {
    ask_until(cluster, ask, |sim| is_removed(sim, gone));
    cluster.cut_power(left, &mut nothing_survives);
    cluster.run_timeouts(60);
    let report = cluster.report(gone).unwrap();
    let missed = !report.missed_by.is_empty();
    if !missed {
        // What it was told is durable there.
        assert!(report.stopped.is_some_and(|err| err.kind() == ErrorKind::Removed));
    } else {
        assert!(report.stopped.is_none(), "seed {}: it is missed", cluster.seed());
        let trouble = report.in_the_way().unwrap();
        assert!(trouble.contains(&format!("waiting until replica {left} knows")), "{trouble}");
    }
    cluster.reopen(left);
    cluster.expect("who is left leads", |sim| sim.leader() == Some(left));
    expect_removed(cluster, gone);
    // Its directory is wiped.
    cluster.crash(gone);
    cluster.disk(gone).wipe();
    cluster.power_cycle(left);
    cluster.expect("who is left leads", |sim| sim.leader() == Some(left));
    cluster.write_some(left, 2);
    cluster.check_state();
    missed
}

#[test]
fn who_was_removed_waits_until_the_last_voter_knows() {
    // Of two, one removes the other one, and forgets in a cut of power that it decides alone.
    let missed = Cell::new(0);
    with_outsiders(2, 0, |cluster| {
        let (left, gone) = (cluster.leader, cluster.others[0]);
        cluster.write_some(left, 3);
        let waited = outlive(cluster, (gone, left), || cluster.replica(left).remove(gone));
        missed.set(missed.get() + u64::from(waited));
    });
    assert!(missed.get() > 0, "nobody was ever missed");
}

#[test]
fn a_lone_ledger_that_moves_waits_until_it_has_arrived() {
    // One that decides alone is replaced by its observer, which is away as soon as that is chosen.
    let missed = Cell::new(0);
    with_outsiders(1, 1, |cluster| {
        let (old, new) = (cluster.leader, ReplicaId(2));
        join(cluster, new.0);
        let writes = (0..8).map(|_| cluster.begin(old, 64)).collect::<Vec<_>>();
        let waited = outlive(cluster, (old, new), || cluster.replica(old).replace(old, new));
        missed.set(missed.get() + u64::from(waited));
        drop(writes);
    });
    assert!(missed.get() > 0, "nobody was ever missed");
}

#[test]
fn who_took_in_a_state_of_others_is_not_refused_where_that_rots() {
    // One that decides alone is replaced, and is gone before it knows that; what it lacks is
    // trimmed meanwhile. So it takes in a state, stops, and loses that state. Others have it,
    // should it ever hear of them; it decides nothing by what is left.
    let took_in = Cell::new(0);
    for_seeds_of(&trims_soon(), |cluster| {
        let (old, new) = (cluster.leader, ReplicaId(2));
        join(cluster, new.0);
        ask_until(cluster, || cluster.replica(old).replace(old, new), |sim| is_alone(sim, new));
        cluster.cut_power(old, &mut nothing_survives);
        cluster.expect("the new one leads", |sim| sim.leader() == Some(new));
        for _ in 0..3 {
            for _ in 0..20 {
                let write = cluster.begin(new, 8192);
                cluster.end(write).unwrap();
            }
            cluster.replica(new).checkpoint().wait().unwrap();
        }
        drop(marks::take());
        cluster.reopen(old);
        expect_removed(cluster, old);
        if marks::take()[Mark::StateInstalled as usize] == 0 {
            return;
        }
        took_in.set(took_in.get() + 1);
        cluster.cut_power(old, &mut nothing_survives);
        rot_checkpoints(cluster, old);
        cluster.reopen(old);
        let repair = cluster.report(old).and_then(|report| report.repair);
        assert!(repair.is_some_and(|repair| repair.before_serving), "it decides alone");
    });
    assert!(took_in.get() > 0, "nobody ever took in a state");
}

#[test]
fn who_is_left_alone_with_one_state_keeps_the_others_until_it_has_two() {
    // An observer that took in a state is left alone: that state is all that it has of what stood
    // below. At some time the power fails, and one of its states rots.
    let (kept, lost) = (Cell::new(0), Cell::new(0));
    for_seeds_of(&trims_soon(), |cluster| {
        let (old, new) = (cluster.leader, ReplicaId(2));
        for _ in 0..3 {
            cluster.write_some(old, 5);
            cluster.replica(old).checkpoint().wait().unwrap();
        }
        cluster.run_timeouts(2);
        assert!(Slot::ZERO < cluster.report(old).unwrap().slot_trimmed, "it begins at the front");
        join(cluster, new.0);
        drop(marks::take());
        ask_until(cluster, || cluster.replica(old).replace(old, new), |sim| is_alone(sim, new));
        cluster.run_for(Duration::from_micros(cluster.below(30_000)));
        cluster.cut_power(new, &mut nothing_survives);
        kept.set(kept.get() + marks::take()[Mark::KeptWhoLeaves as usize]);
        let names = checkpoint_names(cluster, new);
        lost.set(lost.get() + u64::from(names.len() == 1));
        let at = cluster.below(names.len() as u64) as usize;
        rot_somewhere(cluster, new, names[at..=at].to_vec());
        cluster.reopen(new);
        cluster.expect("who is left leads", |sim| sim.leader() == Some(new));
        expect_removed(cluster, old);
        cluster.write_some(new, 2);
        cluster.check_state();
        // And so it is without them.
        cluster.crash(old);
        cluster.disk(old).wipe();
        cluster.cut_power(new, &mut nothing_survives);
        let newest = checkpoint_names(cluster, new).pop().expect("it has two");
        rot_somewhere(cluster, new, vec![newest]);
        cluster.reopen(new);
        cluster.expect("who is left leads", |sim| sim.leader() == Some(new));
        cluster.check_state();
    });
    assert!(kept.get() > 0 && lost.get() > 0, "{kept:?} {lost:?}");
}

#[test]
fn who_was_removed_waits_for_nobody_for_ever() {
    // No voter ever tells the removed one that it knows, or all of them are away.
    for away in [false, true] {
        for_few_seeds_of(2, &Plan::default(), |cluster| {
            let (leader, gone) = (cluster.leader, cluster.others[0]);
            cluster.rule(Fate::Drop, |parcel| matches!(parcel.message, Message::Dismissed { .. }));
            let ask = || cluster.replica(leader).remove(gone);
            ask_until(cluster, ask, |sim| is_removed(sim, gone));
            let voters = [leader, cluster.others[1]];
            if away {
                voters.iter().for_each(|id| cluster.crash(*id));
            }
            cluster.run_timeouts(1190);
            let report = cluster.report(gone).unwrap();
            assert!(report.stopped.is_none(), "seed {}: {report:?}", cluster.seed());
            let trouble = report.in_the_way().unwrap();
            assert!(trouble.starts_with("removed; waiting until replica "), "{trouble}");
            cluster.run_timeouts(20);
            let stopped = cluster.report(gone).unwrap().stopped;
            let stopped = stopped.unwrap_or_else(|| panic!("seed {}", cluster.seed()));
            assert_eq!(stopped.kind(), ErrorKind::Removed, "{stopped}");
            if away {
                voters.iter().for_each(|id| cluster.reopen(*id));
            }
            cluster.expect("the others go on", |sim| sim.leader().is_some());
            cluster.write_some(leader, 2);
            cluster.check_state();
        });
    }
}
