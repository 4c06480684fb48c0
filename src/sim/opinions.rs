//! What a core says when its owner asks, and does nothing about by itself.

use crate::paxos::Paxos;
use crate::types::ids::ReplicaId;

use super::cores::Cores;

impl Cores {
    /// Whom this leader would rather have lead.
    #[must_use]
    pub fn preferred(&self, id: ReplicaId) -> Option<ReplicaId> {
        self.core(id).and_then(Paxos::preferred)
    }

    /// Whether the replica is up, and may change the membership.
    #[must_use]
    pub fn can_change(&self, id: ReplicaId) -> bool {
        self.core(id).is_some_and(Paxos::can_change)
    }

    /// Whether this leader knows that nothing is needed any more of the membership before.
    #[must_use]
    pub fn is_established(&self, id: ReplicaId) -> bool {
        self.core(id).is_some_and(Paxos::is_established)
    }
}
