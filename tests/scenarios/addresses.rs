//! Where members listen, as the ledger has it: changed while everything else goes on, and known to
//! all from then on. (Who is reached there is for whole processes: `tests/api/addresses.rs`.)

use std::time::Duration;

use indelible::sim::Plan;
use indelible::types::marks::{self, Mark};
use indelible::{Membership, ReplicaId};

use super::checkpoints::leave_behind;
use super::membership::change;
use super::support::{Cluster, for_seeds_of};

fn address_of(membership: &Membership, id: ReplicaId) -> &str {
    &membership.member(id).expect("it belongs").address
}

/// The replica moves, as whoever leads is asked until it is so.
#[track_caller]
fn change_address(cluster: &Cluster, id: ReplicaId, address: &str) {
    let to = address.to_owned();
    change(cluster, move |leader| {
        let to = to.clone();
        leader.change_membership(move |present| present.with_address(id, &to))
    });
}

/// Everyone who belongs is up, and has these addresses and nothing else that is new.
#[track_caller]
fn expect_known(cluster: &Cluster, addresses: &[(ReplicaId, &str)]) {
    cluster.expect("it is level", Cluster::is_level);
    let chosen = cluster.sim.membership().unwrap();
    for (id, address) in addresses {
        assert_eq!(address_of(&chosen, *id), *address, "seed {}", cluster.seed());
    }
    for id in cluster.members() {
        let known = cluster.replica(id).membership();
        assert_eq!(known.as_ref(), Some(&chosen), "replica {id}, seed {}", cluster.seed());
    }
}

#[test]
fn an_address_is_changed_under_writes() {
    // ZooKeeper and etcd keep addresses in the replicated membership, too; what a replica was
    // opened with says another one from then on.
    let plan = Plan { history_bytes_min: 0, checkpoint_bytes: u64::MAX, ..Plan::default() };
    for_seeds_of(&plan, |cluster| {
        let (a, b, c) = (cluster.leader, cluster.others[0], cluster.others[1]);
        let mut writes = Vec::new();
        let mut begin = || {
            writes.extend(cluster.ids().into_iter().map(|id| cluster.begin(id, 400)));
            cluster.run_for(Duration::from_millis(cluster.below(10)));
        };
        // Of one that follows, and of the leader itself.
        for (id, address) in [(b, "moved:1"), (a, "moved:2")] {
            begin();
            change_address(cluster, id, address);
            begin();
        }
        for write in writes {
            cluster.end(write).unwrap();
        }
        let moved = [(b, "moved:1"), (a, "moved:2")];
        expect_known(cluster, &moved);
        let err = cluster.replica(cluster.sim.leader().unwrap());
        let err = err.change_membership(move |present| present.with_address(c, "moved:1")).wait();
        assert!(err.unwrap_err().membership_error().is_some(), "two cannot be at one address");
        for id in cluster.ids() {
            cluster.power_cycle(id);
            expect_known(cluster, &moved);
        }
        // Who was away meanwhile learns it with a state.
        let known = cluster.slot_chosen(c);
        cluster.crash(c);
        change_address(cluster, c, "moved:3");
        leave_behind(cluster, c, known);
        drop(marks::take());
        cluster.reopen(c);
        expect_known(cluster, &[(a, "moved:2"), (b, "moved:1"), (c, "moved:3")]);
        assert!(0 < marks::take()[Mark::StateInstalled as usize]);
        cluster.power_cycle(c);
        expect_known(cluster, &[(c, "moved:3")]);
        cluster.settle();
    });
}
