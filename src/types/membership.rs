//! Who belongs to a cluster, and how many of them decide.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::codec;
use super::ids::{ClusterId, ContentHash, Incarnation, ReplicaId};
use super::limits::{ADDRESS_BYTES_MAX, ALPHA, VOTERS_MAX};

/// The voters of a cluster, agreed through the log: slot 0 holds the first membership.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Membership {
    /// The voters, in increasing order of their ids, each once.
    voters: Vec<Voter>,
    /// How many promises complete phase 1.
    phase1: u32,
    /// How many votes choose an entry. `phase1 + phase2 > voters`.
    phase2: u32,
    /// A leader proposes only below `slot_chosen + alpha`.
    alpha: u64,
}

/// A replica that votes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Voter {
    /// The replica.
    pub id: ReplicaId,
    /// The directory that is this replica; another directory with the same id is not.
    pub incarnation: Incarnation,
    /// Where it listens.
    pub address: String,
}

/// A membership that no cluster may have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MembershipError {
    /// There is no voter, or there are more than a membership can hold.
    VoterCount(usize),
    /// Zero is no id.
    ZeroId,
    /// Two voters share an id.
    DuplicateId(ReplicaId),
    /// Two voters share an address.
    DuplicateAddress(String),
    /// An address is empty or too long.
    AddressLength(ReplicaId, usize),
    /// Some phase-1 quorum and some phase-2 quorum have no voter in common, or one cannot be
    /// filled.
    Quorums {
        /// Promises that would complete phase 1.
        phase1: u32,
        /// Votes that would choose.
        phase2: u32,
        /// Voters there are.
        voters: usize,
    },
    /// A leader could propose nothing.
    ZeroAlpha,
}

impl Membership {
    /// A membership in which majorities decide.
    ///
    /// # Errors
    ///
    /// Where ids or addresses repeat, are zero or empty, or are too many.
    pub fn majority(mut voters: Vec<Voter>) -> Result<Self, MembershipError> {
        voters.sort_by_key(|voter| voter.id);
        let majority = voters.len() as u32 / 2 + 1;
        let membership = Self { voters, phase1: majority, phase2: majority, alpha: ALPHA };
        membership.check()?;
        Ok(membership)
    }

    /// A membership with quorums of these sizes, and this alpha.
    ///
    /// # Errors
    ///
    /// As [`majority`](Self::majority); and where quorums need not intersect, or alpha is zero.
    pub fn flexible(
        voters: Vec<Voter>,
        phase1: u32,
        phase2: u32,
        alpha: u64,
    ) -> Result<Self, MembershipError> {
        let mut membership = Self { voters, phase1, phase2, alpha };
        membership.voters.sort_by_key(|voter| voter.id);
        membership.check()?;
        Ok(membership)
    }

    /// Whether this membership is one that a cluster may have. A decoded one must be checked.
    ///
    /// # Errors
    ///
    /// The first rule that it breaks.
    pub fn check(&self) -> Result<(), MembershipError> {
        let count = self.voters.len();
        if count == 0 || count > VOTERS_MAX {
            return Err(MembershipError::VoterCount(count));
        }
        for (index, voter) in self.voters.iter().enumerate() {
            if voter.id == ReplicaId(0) {
                return Err(MembershipError::ZeroId);
            }
            // In order and each once, so that equal memberships have equal bytes.
            if index > 0 && self.voters[index - 1].id >= voter.id {
                return Err(MembershipError::DuplicateId(voter.id));
            }
            if count > 1 && voter.address.is_empty() || voter.address.len() > ADDRESS_BYTES_MAX {
                return Err(MembershipError::AddressLength(voter.id, voter.address.len()));
            }
            let same = |other: &Voter| count > 1 && other.address == voter.address;
            if self.voters[..index].iter().any(same) {
                return Err(MembershipError::DuplicateAddress(voter.address.clone()));
            }
        }
        let (phase1, phase2) = (self.phase1 as usize, self.phase2 as usize);
        let fillable = 1 <= phase1 && phase1 <= count && 1 <= phase2 && phase2 <= count;
        if !fillable || phase1 + phase2 <= count {
            return Err(MembershipError::Quorums {
                phase1: self.phase1,
                phase2: self.phase2,
                voters: count,
            });
        }
        if self.alpha == 0 {
            return Err(MembershipError::ZeroAlpha);
        }
        Ok(())
    }

    /// The voters, in increasing order of their ids.
    #[must_use]
    pub fn voters(&self) -> &[Voter] {
        &self.voters
    }

    /// The voter with this id.
    #[must_use]
    pub fn voter(&self, id: ReplicaId) -> Option<&Voter> {
        self.voters.binary_search_by_key(&id, |voter| voter.id).ok().map(|at| &self.voters[at])
    }

    /// How many promises complete phase 1.
    #[must_use]
    pub fn phase1(&self) -> u32 {
        self.phase1
    }

    /// How many votes choose an entry.
    #[must_use]
    pub fn phase2(&self) -> u32 {
        self.phase2
    }

    /// How far ahead of `slot_chosen` a leader may propose.
    #[must_use]
    pub fn alpha(&self) -> u64 {
        self.alpha
    }

    /// The id of the cluster that begins with this membership.
    ///
    /// # Panics
    ///
    /// Never: a membership consists of types that always encode.
    #[must_use]
    pub fn cluster_id(&self) -> ClusterId {
        let bytes = codec::encode(self).expect("plain data always encodes");
        ClusterId(ContentHash::of(&bytes).0)
    }
}

impl fmt::Display for Membership {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[")?;
        for (index, voter) in self.voters.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(f, "{comma}{}={}", voter.id, voter.address)?;
        }
        f.write_str("]")
    }
}

impl fmt::Display for MembershipError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::VoterCount(count) => write!(f, "{count} voters, wanted 1 to {VOTERS_MAX}"),
            Self::ZeroId => f.write_str("replica id 0, wanted a positive one"),
            Self::DuplicateId(id) => write!(f, "replica id {id} is given twice"),
            Self::DuplicateAddress(address) => write!(f, "address {address:?} is given twice"),
            Self::AddressLength(id, length) => write!(
                f,
                "the address of replica {id} has {length} bytes, wanted 1 to {ADDRESS_BYTES_MAX}"
            ),
            Self::Quorums { phase1, phase2, voters } => write!(
                f,
                "quorums of {phase1} and {phase2} among {voters} voters need not intersect"
            ),
            Self::ZeroAlpha => f.write_str("alpha is 0, wanted a positive one"),
        }
    }
}

impl std::error::Error for MembershipError {}
