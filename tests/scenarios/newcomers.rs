//! A founder among replicas that came later: the first membership, which its directory was made
//! with, names none of them.

use indelible::ReplicaId;
use indelible::types::ids::Slot;

use super::damage::spoil;
use super::membership::{change, join_and_vote, with_outsiders};
use super::support::{Cluster, nothing_survives};

const FOUNDER: ReplicaId = ReplicaId(1);

/// One replica grew to three, and lost what `loses` says of its journal.
fn heals(loses: impl Fn(u64) -> bool) {
    with_outsiders(1, 2, |cluster| {
        (2..=3).for_each(|id| join_and_vote(cluster, id));
        cluster.write_some(FOUNDER, 8);
        cluster.expect("it is level", Cluster::is_level);
        // Seals are written once a journal rests.
        cluster.run_timeouts(2);
        cluster.cut_power(FOUNDER, &mut nothing_survives);
        assert!(spoil(cluster, FOUNDER, &|slot: Slot| loses(slot.0)) > 0);
        cluster.reopen(FOUNDER);
        cluster.expect("it heals", Cluster::is_level);
        // It is one of two that decide.
        cluster.crash(ReplicaId(2));
        cluster.expect("somebody leads", |sim| sim.leader().is_some());
        cluster.write_some(ReplicaId(3), 2);
        cluster.settle();
    });
}

#[test]
fn a_damaged_founder_asks_those_who_joined() {
    // Who joined stands in entries that can be read.
    heals(|slot| slot > 6 && slot % 3 == 0);
}

#[test]
fn a_founder_that_lost_who_joined_asks_whoever_is_there() {
    heals(|slot| 0 < slot && slot <= 8);
}

#[test]
fn a_founder_whose_whole_log_is_damaged_asks_whoever_is_there() {
    heals(|slot| 0 < slot);
}

#[test]
fn a_founder_heals_where_no_founder_but_it_is_left() {
    with_outsiders(3, 2, |cluster| {
        (4..=5).for_each(|id| join_and_vote(cluster, id));
        change(cluster, |leader| {
            leader.change_membership(|present| {
                [2, 3].into_iter().try_fold(present.clone(), |next, id| {
                    match next.voter(ReplicaId(id)) {
                        Some(_) => next.without(id),
                        None => Ok(next),
                    }
                })
            })
        });
        cluster.write_some(ReplicaId(4), 8);
        cluster.run_timeouts(2);
        cluster.crash(ReplicaId(2));
        cluster.crash(ReplicaId(3));
        cluster.cut_power(FOUNDER, &mut nothing_survives);
        assert!(spoil(cluster, FOUNDER, &|slot: Slot| slot.0 % 4 == 2) > 0);
        cluster.reopen(FOUNDER);
        cluster.expect("it heals", |sim| sim.slot_chosen(4) == sim.slot_chosen(FOUNDER));
        cluster.write_some(FOUNDER, 2);
        cluster.settle();
    });
}
