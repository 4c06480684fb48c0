//! The members of a cluster of which one replica is there: that one as its directory says, the
//! others made up.

#![allow(dead_code, reason = "no test program uses all of this")]

use indelible::journal::Identity;
use indelible::types::ids::{Incarnation, ReplicaId};
use indelible::types::membership::{Member, Membership};

/// Replicas 1 to `count`, of which `own` is one.
pub fn members(own: &Identity, count: u64) -> Vec<Member> {
    let member = |id: u64| Member {
        id: ReplicaId(id),
        incarnation: if id == own.replica.0 { own.incarnation } else { Incarnation(id.into()) },
        address: id.to_string(),
    };
    (1..=count).map(member).collect()
}

/// They vote, and a majority decides.
pub fn membership(own: &Identity, count: u64) -> Membership {
    Membership::majority(members(own, count)).expect("they may form a cluster")
}
