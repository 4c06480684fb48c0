//! How a cluster of protocol cores is made: who votes, how long things take, and what is written
//! down.

use std::time::Duration;

use crate::types::ids::{Incarnation, ReplicaId};
use crate::types::membership::{Member, Membership};
use crate::types::time::Moment;

/// How a cluster is made.
#[derive(Clone, Debug)]
pub struct Cluster {
    /// Who belongs at first.
    pub membership: Membership,
    /// How many more replicas there are, which may be made to belong. Their ids follow.
    pub outsiders: u64,
    /// Where the random timeouts of all cores come from.
    pub seed: u64,
    /// How often a replica says that it is there.
    pub heartbeat_interval: Duration,
    /// See [`Options`](crate::paxos::step::Options).
    pub election_timeout: Duration,
    /// See [`Options`](crate::paxos::step::Options).
    pub retransmit_interval: Duration,
    /// The priorities of the replicas, in order; those that are not named have 0.
    pub priorities: Vec<u32>,
    /// How long leases are; `None` without any.
    pub read_lease: Option<Duration>,
    /// In thousandths of the true rate, how fast the clocks of leases of the replicas run, in
    /// order; those that are not named are right.
    pub uptime_rates: Vec<u64>,
    /// See [`Options`](crate::paxos::step::Options).
    pub inflight_slots_max: u64,
    /// See [`Options`](crate::paxos::step::Options).
    pub message_bytes_max: usize,
    /// Whether journals remember how far the log is known to be chosen.
    pub remembers_chosen: bool,
    /// Whether to write the trace.
    pub traces: bool,
    /// Whether the trace shows heartbeats.
    pub traces_heartbeats: bool,
}

impl Cluster {
    /// Replicas 1 to `count`, majorities, timeouts as they ship.
    ///
    /// # Panics
    ///
    /// Where there cannot be a membership of so many.
    #[must_use]
    pub fn of(count: u64) -> Self {
        let majority = count as u32 / 2 + 1;
        Self::flexible(count, majority, majority, 64)
    }

    /// As [`Cluster::of`], with other quorums and another alpha.
    ///
    /// # Panics
    ///
    /// Where the quorums need not intersect.
    #[must_use]
    pub fn flexible(count: u64, phase1: u32, phase2: u32, alpha: u64) -> Self {
        let membership =
            Membership::flexible((1..=count).map(member).collect(), phase1, phase2, alpha);
        Self {
            membership: membership.expect("the caller asks for a possible membership"),
            outsiders: 0,
            seed: 1,
            heartbeat_interval: Duration::from_millis(50),
            election_timeout: Duration::from_millis(500),
            retransmit_interval: Duration::from_millis(100),
            priorities: Vec::new(),
            read_lease: None,
            uptime_rates: Vec::new(),
            inflight_slots_max: alpha,
            message_bytes_max: 64 * 1024,
            remembers_chosen: true,
            traces: true,
            traces_heartbeats: false,
        }
    }

    /// The priority of a replica.
    #[must_use]
    pub fn priority(&self, id: ReplicaId) -> u32 {
        self.priorities.get(id.0 as usize - 1).copied().unwrap_or_default()
    }

    /// What the clock of leases of a replica shows.
    #[must_use]
    pub fn uptime(&self, id: ReplicaId, now: Moment) -> Moment {
        let rate = self.uptime_rates.get(id.0 as usize - 1).copied().unwrap_or(1000);
        let shown = (u128::from(now.0) * u128::from(rate) / 1000) as u64;
        Moment(shown) + UPTIME_START
    }

    /// With so many observers, whose ids follow those of the others.
    ///
    /// # Panics
    ///
    /// Where there cannot be so many.
    #[must_use]
    pub fn observed(mut self, count: u64) -> Self {
        let first = self.last_member();
        for id in (1..=count).map(|place| first + place) {
            let membership = self.membership.with_observer(member(id));
            self.membership = membership.expect("the caller asks for a possible membership");
        }
        self
    }

    /// All replicas: members, then those that do not belong at first.
    #[must_use]
    pub fn ids(&self) -> Vec<ReplicaId> {
        (1..=self.last_member() + self.outsiders).map(ReplicaId).collect()
    }

    /// The replicas that do not belong at first.
    #[must_use]
    pub fn strangers(&self) -> Vec<Member> {
        (1..=self.outsiders).map(|place| member(self.last_member() + place)).collect()
    }

    fn last_member(&self) -> u64 {
        self.membership.members().map(|member| member.id.0).max().unwrap_or_default()
    }
}

/// How long the machines have been up at the beginning.
const UPTIME_START: Duration = Duration::from_secs(1);

fn member(id: u64) -> Member {
    Member {
        id: ReplicaId(id),
        incarnation: Incarnation(u128::from(id)),
        address: format!("replica-{id}"),
    }
}
