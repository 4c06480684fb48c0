//! Sets of voters that intersect. Knows ids, and nothing else of the protocol.
//!
//! Any phase-1 quorum and any phase-2 quorum have a voter in common, because
//! `phase1 + phase2 > voters` (Howard et al., *Flexible Paxos*, section 4). A [`VoterSet`] has a
//! meaning only together with the [`Quorum`] that filled it.

use crate::types::bugs::{self, Bug};
use crate::types::ids::ReplicaId;
use crate::types::membership::Membership;

/// Which sets of voters decide, for one membership.
#[derive(Clone, Debug, Hash)]
pub struct Quorum {
    /// In increasing order, each once.
    ids: Vec<ReplicaId>,
    phase1: u32,
    phase2: u32,
}

/// A set of voters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct VoterSet(u64);

impl Quorum {
    /// The quorums of `membership`.
    #[must_use]
    pub fn of(membership: &Membership) -> Self {
        Self {
            ids: membership.voters().iter().map(|voter| voter.id).collect(),
            phase1: membership.phase1(),
            phase2: membership.phase2(),
        }
    }

    /// The voters, in increasing order.
    #[must_use]
    pub fn ids(&self) -> &[ReplicaId] {
        &self.ids
    }

    /// Whether `id` votes.
    #[must_use]
    pub fn is_voter(&self, id: ReplicaId) -> bool {
        self.bit(id).is_some()
    }

    /// Adds `id` to `set`. Who is no voter is not added, and adding twice counts once.
    pub fn insert(&self, set: &mut VoterSet, id: ReplicaId) {
        if let Some(bit) = self.bit(id) {
            let again = set.0 & bit != 0 && bugs::is_on(Bug::CountTwice);
            set.0 |= if again { set.0 + 1 } else { bit };
        }
    }

    /// The voters that are meant.
    #[must_use]
    pub fn those(&self, is_meant: impl Fn(ReplicaId) -> bool) -> VoterSet {
        let mut set = VoterSet::default();
        let ids = self.ids.iter().filter(|id| is_meant(**id));
        ids.for_each(|id| self.insert(&mut set, *id));
        set
    }

    /// Whether `id` is in `set`.
    #[must_use]
    pub fn contains(&self, set: VoterSet, id: ReplicaId) -> bool {
        self.bit(id).is_some_and(|bit| set.0 & bit != 0)
    }

    /// Whether the promises of `set` complete phase 1.
    #[must_use]
    pub fn is_phase1(&self, set: VoterSet) -> bool {
        set.len() + u32::from(bugs::is_on(Bug::SmallPhase1)) >= self.phase1
    }

    /// Whether `set`, none of whom voted for anything in some slot, and who will not any more below
    /// a ballot, prove that nothing is chosen there below it: every phase-2 quorum has a member
    /// among them.
    #[must_use]
    pub fn rules_out_choice(&self, set: VoterSet) -> bool {
        set.len() + self.phase2 > self.ids.len() as u32
    }

    /// Whether every voter is in `set`.
    #[must_use]
    pub fn is_everyone(&self, set: VoterSet) -> bool {
        set.len() == self.ids.len() as u32
    }

    /// Whether a chosen entry outlives the loss of a vote: nowhere, where one vote chooses.
    #[must_use]
    pub fn outlives_loss(&self) -> bool {
        self.phase2 > 1
    }

    /// Whether the votes of `set` choose an entry.
    #[must_use]
    pub fn is_phase2(&self, set: VoterSet) -> bool {
        set.len() + u32::from(bugs::is_on(Bug::SmallPhase2)) >= self.phase2
    }

    /// Whether `set`, none of whom promised a higher ballot, proves that nobody leads above: it has
    /// a voter in common with every phase-1 quorum, or with every phase-2 quorum.
    #[must_use]
    pub fn confirms(&self, set: VoterSet) -> bool {
        // The larger the quorums of a phase, the fewer voters meet all of them.
        let larger = self.phase1.max(self.phase2);
        set.len() + larger + u32::from(bugs::is_on(Bug::SmallConfirm)) > self.ids.len() as u32
    }

    /// Whether every phase-1 quorum has a voter in `set`: without them nobody is elected.
    #[must_use]
    pub fn meets_phase1(&self, set: VoterSet) -> bool {
        set.len() + self.phase1 + u32::from(bugs::is_on(Bug::SmallLease)) > self.ids.len() as u32
    }

    fn bit(&self, id: ReplicaId) -> Option<u64> {
        self.ids.binary_search(&id).ok().map(|index| 1 << index)
    }
}

impl VoterSet {
    /// How many voters there are in the set.
    #[must_use]
    pub fn len(self) -> u32 {
        self.0.count_ones()
    }

    /// Whether nobody is in the set.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}
