//! From one release to the next, without an end to writing: what is new enters the log once every
//! member knows it, and never before.

use indelible::sim::Plan;
use indelible::types::edition::Edition;
use indelible::{ErrorKind, Membership, MembershipError, Pending, ReplicaId};

use super::support::{Cluster, TIMEOUT, for_seeds_of, nothing_survives};

const OLD: Edition = Edition::FIRST;
const NEW: Edition = Edition(OLD.0 + 1);

fn old(replicas: u64, outsiders: u64) -> Plan {
    Plan { replicas, outsiders, knows: OLD, ..Plan::default() }
}

/// The replica is opened with a build that knows this edition.
fn rebuild(cluster: &Cluster, id: ReplicaId, knows: Edition) {
    cluster.crash(id);
    cluster.change_settings(id, |settings| settings.driver.knows = knows);
    cluster.reopen(id);
}

fn upgrade(cluster: &Cluster) -> Pending<Membership> {
    cluster.expect("somebody leads", |sim| sim.leader().is_some());
    let leader = cluster.sim.leader().unwrap();
    cluster.replica(leader).change_membership(|present| present.with_edition(NEW))
}

/// Tries until no member is in the way that was not heard yet, and the leader stays.
fn upgrade_at_last(cluster: &Cluster) {
    for _ in 0..50 {
        match upgrade(cluster).wait() {
            Ok(membership) => {
                assert_eq!(membership.edition(), NEW);
                return;
            }
            Err(err) => {
                let kinds = [ErrorKind::Outdated, ErrorKind::NotLeader, ErrorKind::Unreachable];
                let open = [ErrorKind::TimedOut, ErrorKind::NotCaughtUp];
                assert!(kinds.iter().chain(&open).any(|kind| *kind == err.kind()), "{err}");
            }
        }
        cluster.run_timeouts(1);
    }
    panic!("seed {}: the ledger was not upgraded", cluster.seed());
}

#[test]
fn upgrade_waits_for_the_last_member() {
    for_seeds_of(&old(3, 0), |cluster| {
        for (built, id) in cluster.ids().into_iter().enumerate() {
            cluster.write_some(id, 3);
            // With some of them rebuilt, nobody is told more than it knows.
            cluster.run_timeouts(2);
            let err = upgrade(cluster).wait().unwrap_err();
            assert_eq!(err.kind(), ErrorKind::Outdated, "{err}");
            let refused = err.membership_error().unwrap();
            let MembershipError::UnknownEdition { id: refused, wanted, .. } = refused else {
                panic!("{err}");
            };
            assert_eq!(*wanted, NEW);
            assert!(cluster.ids()[built..].contains(refused), "{err}");
            rebuild(cluster, id, NEW);
        }
        upgrade_at_last(cluster);
        cluster.ids().into_iter().for_each(|id| cluster.write_some(id, 3));
        cluster.expect("all know", |sim| {
            let edition = |id: ReplicaId| sim.replica(id).status().edition;
            sim.ids().into_iter().all(|id| edition(id) == NEW)
        });
        cluster.settle();
    });
}

#[test]
fn before_the_upgrade_everyone_can_go_back() {
    for_seeds_of(&old(3, 0), |cluster| {
        for _ in 0..2 {
            for knows in [NEW, OLD] {
                for id in cluster.ids() {
                    rebuild(cluster, id, knows);
                    cluster.write_some(id, 2);
                }
            }
        }
        cluster.settle();
    });
}

#[test]
fn a_build_that_was_put_back_too_late_stops_and_loses_nothing() {
    // A binary that is rolled back after the format was raised (etcd's `--experimental` downgrade,
    // CockroachDB's cluster version): it must not guess.
    for_seeds_of(&old(3, 0), |cluster| {
        cluster.ids().into_iter().for_each(|id| rebuild(cluster, id, NEW));
        upgrade_at_last(cluster);
        let late = cluster.ids()[cluster.below(3) as usize];
        cluster.write_some(late, 3);
        cluster.settle();
        cluster.cut_power(late, &mut nothing_survives);
        cluster.change_settings(late, |settings| settings.driver.knows = OLD);
        assert!(!cluster.open(late), "it opened");
        let refusal = cluster.refusal(late).unwrap();
        assert!(refusal.contains("edition 2") && refusal.contains("newer release"), "{refusal}");
        cluster.expect("the others go on", |sim| sim.leader().is_some());
        cluster.change_settings(late, |settings| settings.driver.knows = NEW);
        cluster.reopen(late);
        cluster.run_until(TIMEOUT * 2, |_| false);
        cluster.write_some(late, 2);
        cluster.settle();
    });
}
