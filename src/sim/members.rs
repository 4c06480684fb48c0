//! Members that come and go, in the hands of who runs a simulation: outsiders are opened to join,
//! and who belongs is told as the witness has it, whatever the replicas believe.
//!
//! Once it joined, a replica is made a member like any other: by the calls of a
//! [`Replica`](crate::Replica) that leads.

use crate::types::ids::{ClusterId, ReplicaId};
use crate::types::membership::{Member, Membership};

use super::plan;
use super::simulation::Simulation;

impl Simulation {
    /// Opens the replica on machine `id` to join the cluster, which must be formed: told of some
    /// who belong to it, and nothing else. It may be opened again without being told anything.
    /// Returns whether it could be opened; if not, [`Simulation::refusal`] says why.
    ///
    /// # Panics
    ///
    /// Where it is open, or the cluster is not formed.
    #[must_use = "an opening may be refused"]
    pub fn join(&self, id: impl Into<ReplicaId>, known: &[ReplicaId]) -> bool {
        let id = id.into();
        let cluster = self.cluster();
        let cluster = cluster.unwrap_or_else(|| panic!("Simulation::join: no cluster is formed"));
        let told = known.iter().copied().filter(|known| *known != id).chain([id]);
        let told = told.map(|id| (id, plan::address(id))).collect();
        let mut machine = self.machine("join", id);
        let driver = &mut machine.settings.driver;
        // Which quorums the first ones were told is not known to who joins.
        (driver.join, driver.voters, driver.quorums) = (Some(cluster), told, None);
        drop(machine);
        self.open(id)
    }

    /// The cluster, once it is formed.
    #[must_use]
    pub fn cluster(&self) -> Option<ClusterId> {
        let world = self.lock();
        world.witness.memberships().next().map(Membership::cluster_id)
    }

    /// The newest membership that is chosen, whoever knows it; `None` before the cluster is formed.
    #[must_use]
    pub fn membership(&self) -> Option<Membership> {
        self.lock().witness.membership().cloned()
    }

    /// All memberships that were chosen so far, the first one included, in order.
    #[must_use]
    pub fn memberships(&self) -> Vec<Membership> {
        self.lock().witness.memberships().cloned().collect()
    }

    /// Voters and observers of the newest membership, in order of their ids.
    #[must_use]
    pub fn members(&self) -> Vec<ReplicaId> {
        let membership = self.membership();
        let ids = membership.iter().flat_map(Membership::members).map(|member| member.id);
        let mut ids = ids.collect::<Vec<_>>();
        ids.sort_unstable();
        ids
    }

    /// Whom the gate of replica `id` let in though they do not belong; none while it is down.
    #[must_use]
    pub fn strangers(&self, id: impl Into<ReplicaId>) -> Vec<Member> {
        let machine = self.machine("strangers", id);
        machine.life.as_ref().map(|life| life.gate.strangers()).unwrap_or_default()
    }

    /// Whether the replica on machine `id` does not belong, as far as is chosen.
    #[must_use]
    pub fn is_outside(&self, id: impl Into<ReplicaId>) -> bool {
        let id = id.into();
        self.membership().is_some_and(|membership| membership.member(id).is_none())
    }
}
