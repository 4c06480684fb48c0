//! Who belongs to a cluster, and how many of them decide.
//!
//! Invariants:
//! * There is no membership that breaks a rule of [`Membership::check`], whoever made the bytes
//!   that it was decoded from.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::codec;
use super::ids::{ClusterId, ContentHash, Incarnation, ReplicaId};
use super::limits::{ADDRESS_BYTES_MAX, ALPHA, ALPHA_MAX, VOTERS_MAX};

/// The voters of a cluster, agreed through the log: slot 0 holds the first membership.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "Decoded")]
pub struct Membership {
    /// The voters, in increasing order of their ids, each once.
    voters: Vec<Member>,
    /// How many promises complete phase 1.
    phase1: u32,
    /// How many votes choose an entry. `phase1 + phase2 > voters`.
    phase2: u32,
    /// A leader proposes only below `slot_chosen + alpha`.
    alpha: u64,
}

/// A membership as it is decoded: nobody checked it yet.
#[derive(Deserialize)]
struct Decoded {
    voters: Vec<Member>,
    phase1: u32,
    phase2: u32,
    alpha: u64,
}

/// A replica that a membership names.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Member {
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
    /// A leader could propose nothing, or farther ahead than anybody keeps track of.
    Alpha(u64),
}

impl Membership {
    /// A membership in which majorities decide.
    ///
    /// # Errors
    ///
    /// Where ids or addresses repeat, are zero or empty, or are too many.
    pub fn majority(mut voters: Vec<Member>) -> Result<Self, MembershipError> {
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
    /// As [`majority`](Self::majority); and where quorums need not intersect, or alpha is zero or
    /// more than [`ALPHA_MAX`].
    pub fn flexible(
        voters: Vec<Member>,
        phase1: u32,
        phase2: u32,
        alpha: u64,
    ) -> Result<Self, MembershipError> {
        let mut membership = Self { voters, phase1, phase2, alpha };
        membership.voters.sort_by_key(|voter| voter.id);
        membership.check()?;
        Ok(membership)
    }

    /// Whether this membership is one that a cluster may have.
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
            let same = |other: &Member| count > 1 && other.address == voter.address;
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
        if self.alpha == 0 || self.alpha > ALPHA_MAX {
            return Err(MembershipError::Alpha(self.alpha));
        }
        Ok(())
    }

    /// The voters, in increasing order of their ids.
    #[must_use]
    pub fn voters(&self) -> &[Member] {
        &self.voters
    }

    /// The voter with this id.
    #[must_use]
    pub fn voter(&self, id: ReplicaId) -> Option<&Member> {
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

impl TryFrom<Decoded> for Membership {
    type Error = MembershipError;

    fn try_from(decoded: Decoded) -> Result<Self, MembershipError> {
        let Decoded { voters, phase1, phase2, alpha } = decoded;
        let membership = Self { voters, phase1, phase2, alpha };
        membership.check()?;
        Ok(membership)
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
            Self::Alpha(alpha) => write!(f, "alpha is {alpha}, wanted 1 to {ALPHA_MAX}"),
        }
    }
}

impl std::error::Error for MembershipError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn voters(count: u64) -> Vec<Member> {
        let voter = |id: u64| Member {
            id: ReplicaId(id),
            incarnation: Incarnation(id.into()),
            address: format!("host-{id}"),
        };
        (1..=count).map(voter).collect()
    }

    fn decode(bytes: &[u8]) -> Result<Membership, codec::DecodeError> {
        codec::decode("membership", bytes)
    }

    /// The encoding of a membership of three with these numbers, whatever they are.
    fn forged(phase1: u32, phase2: u32, alpha: u64) -> Vec<u8> {
        codec::encode(&Membership { voters: voters(3), phase1, phase2, alpha }).unwrap()
    }

    #[test]
    fn a_forged_membership_is_refused() {
        for (phase1, phase2, alpha) in [(2, 2, 1), (3, 1, ALPHA), (1, 3, ALPHA_MAX)] {
            let decoded = decode(&forged(phase1, phase2, alpha)).unwrap();
            assert_eq!(
                (decoded.phase1(), decoded.phase2(), decoded.alpha()),
                (phase1, phase2, alpha)
            );
        }
        for alpha in [0, ALPHA_MAX + 1, 1 << 40, u64::MAX / 2, u64::MAX] {
            let text = decode(&forged(2, 2, alpha)).unwrap_err().to_string();
            assert!(text.contains(&format!("alpha is {alpha}, wanted")), "{text}");
            let err = Membership::flexible(voters(3), 2, 2, alpha).unwrap_err();
            assert_eq!(err, MembershipError::Alpha(alpha));
        }
        let quorums = [0, 1, 2, 3, 4, u32::MAX / 2, u32::MAX - 1, u32::MAX];
        for (phase1, phase2) in quorums.iter().flat_map(|one| quorums.map(|two| (*one, two))) {
            let can_be = (1..=3).contains(&phase1) && (1..=3).contains(&phase2);
            let is_fine = can_be && phase1 + phase2 > 3;
            assert_eq!(decode(&forged(phase1, phase2, ALPHA)).is_ok(), is_fine);
        }
    }

    #[test]
    fn whatever_is_decoded_keeps_the_rules() {
        // Each byte of an encoding, set to some values and cut off, and so is the one behind it.
        let bytes = codec::encode(&Membership::majority(voters(3)).unwrap()).unwrap();
        let mut decoded = 0;
        for at in 0..bytes.len() {
            for value in [0, 1, 2, 3, 0x40, 0x7f, 0x80, 0xff] {
                let mut bytes = bytes.clone();
                bytes[at] = value;
                if let Ok(membership) = decode(&bytes) {
                    assert_eq!(membership.check(), Ok(()));
                    assert_eq!(codec::encode(&membership).unwrap(), bytes, "another encoding");
                    decoded += 1;
                }
                bytes.truncate(at);
                assert!(decode(&bytes).is_err(), "{at} bytes are a membership");
            }
        }
        assert!(decoded > 100, "{decoded} were decoded");
    }
}
