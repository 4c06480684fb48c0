//! Who belongs to a cluster, and how many of them decide.
//!
//! A membership is agreed through the log: slot 0 holds the first one, and each further one governs
//! the slots behind its own. Whoever votes was an observer before, and an id that left never comes
//! back; [`Membership::check_successor`] has the rules (`succession.rs`).
//!
//! Invariants:
//! * There is no membership that breaks a rule of [`Membership::check`], whoever made the bytes
//!   that it was decoded from.
//! * Equal memberships have equal bytes: everything is in increasing order of ids, each once.

mod error;
mod ports;
mod succession;
#[cfg(test)]
mod tests;

use std::fmt;

use serde::{Deserialize, Serialize};

use super::codec;
use super::edition::Edition;
use super::ids::{ClusterId, ContentHash, Incarnation, ReplicaId};
use super::limits::{
    ADDRESS_BYTES_MAX, ALPHA, ALPHA_MAX, OBSERVERS_MAX, REMOVED_MAX, SESSIONS_MAX,
    SESSIONS_MAX_MAX, VOTERS_MAX,
};

pub use error::MembershipError;
pub(crate) use error::listed;
pub(crate) use ports::has_port;

/// Who belongs to a cluster, from some slot of the log on.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "Decoded")]
pub struct Membership {
    voters: Vec<Member>,
    /// They follow, and nobody counts their votes.
    observers: Vec<Member>,
    /// Ids that belonged once. Nobody bears them again.
    removed: Vec<ReplicaId>,
    /// How many promises complete phase 1.
    phase1: u32,
    /// How many votes choose an entry. `phase1 + phase2 > voters`.
    phase2: u32,
    /// A leader proposes only below `slot_chosen + alpha`. The same for the life of a ledger.
    alpha: u64,
    /// How many sessions the state remembers, from the slot of this membership on.
    sessions_max: u32,
    /// What may stand in the log from there on.
    edition: Edition,
    /// How many changes it took to come here from the first one.
    changes: u64,
}

/// A membership as it is decoded: nobody checked it yet.
#[derive(Deserialize)]
struct Decoded {
    voters: Vec<Member>,
    observers: Vec<Member>,
    removed: Vec<ReplicaId>,
    phase1: u32,
    phase2: u32,
    alpha: u64,
    sessions_max: u32,
    edition: Edition,
    changes: u64,
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

impl Membership {
    /// A membership in which majorities decide.
    ///
    /// # Errors
    ///
    /// Where ids or addresses repeat, are zero or empty, or are too many.
    pub fn majority(voters: Vec<Member>) -> Result<Self, MembershipError> {
        let majority = majority_of(voters.len());
        Self::flexible(voters, majority, majority, ALPHA)
    }

    /// A membership with quorums of these sizes, and this alpha.
    ///
    /// # Errors
    ///
    /// As [`majority`](Self::majority); and where quorums need not intersect, or alpha is zero or
    /// more than 65,536.
    pub fn flexible(
        mut voters: Vec<Member>,
        phase1: u32,
        phase2: u32,
        alpha: u64,
    ) -> Result<Self, MembershipError> {
        voters.sort_by_key(|voter| voter.id);
        Self {
            voters,
            observers: Vec::new(),
            removed: Vec::new(),
            phase1,
            phase2,
            alpha,
            sessions_max: SESSIONS_MAX,
            edition: Edition::FIRST,
            changes: 0,
        }
        .checked()
    }

    /// This membership, under which the state remembers so many sessions.
    ///
    /// # Errors
    ///
    /// Where it is none, or more than 65,536.
    pub fn with_sessions_max(&self, sessions_max: u32) -> Result<Self, MembershipError> {
        Self { sessions_max, ..self.clone() }.checked()
    }

    /// This membership, with `member` as one more observer. It is not asked whether that replica
    /// asked to join, or can be reached: [`Replica::add_observer`](crate::Replica::add_observer)
    /// does that.
    ///
    /// # Errors
    ///
    /// Where its id or address is taken, its id was removed, or there are too many observers.
    pub fn with_observer(&self, member: Member) -> Result<Self, MembershipError> {
        let mut next = self.clone();
        if self.removed.contains(&member.id) {
            return Err(MembershipError::RemovedId(member.id));
        }
        if self.member(member.id).is_some() {
            return Err(MembershipError::DuplicateId(member.id));
        }
        next.observers.push(member);
        next.observers.sort_by_key(|observer| observer.id);
        next.checked()
    }

    /// This membership, in which the observer `id` votes. Where it does already, that is so; so a
    /// change can be asked for again.
    ///
    /// # Errors
    ///
    /// Where it is no member, or there are too many voters.
    ///
    /// ```
    /// use indelible::{Membership, MembershipError};
    /// fn both_at_once(present: &Membership) -> Result<Membership, MembershipError> {
    ///     present.with_voter(2)?.with_voter(3)
    /// }
    /// ```
    pub fn with_voter(&self, id: impl Into<ReplicaId>) -> Result<Self, MembershipError> {
        let id = id.into();
        let mut next = self.clone();
        if self.voter(id).is_some() {
            return Ok(next);
        }
        let Some(at) = self.observers.iter().position(|observer| observer.id == id) else {
            return Err(MembershipError::NoObserver(id));
        };
        let voter = next.observers.remove(at);
        next.voters.push(voter);
        next.voters.sort_by_key(|voter| voter.id);
        next.fit_quorums(self).checked()
    }

    /// This membership, in which the observer `by` votes in place of the voter `lost`, whose id
    /// never comes back. As many decide as before.
    ///
    /// # Errors
    ///
    /// Where `by` is no observer, or `lost` does not vote.
    pub fn with_replaced(
        &self,
        lost: impl Into<ReplicaId>,
        by: impl Into<ReplicaId>,
    ) -> Result<Self, MembershipError> {
        let (lost, by) = (lost.into(), by.into());
        let mut next = self.clone();
        let Some(at) = self.observers.iter().position(|observer| observer.id == by) else {
            return Err(MembershipError::NoObserver(by));
        };
        if self.voter(lost).is_none() {
            return Err(MembershipError::NoMember(lost));
        }
        let voter = next.observers.remove(at);
        next.voters.retain(|voter| voter.id != lost);
        next.voters.push(voter);
        next.voters.sort_by_key(|voter| voter.id);
        next.removed.push(lost);
        next.removed.sort_unstable();
        next.checked()
    }

    /// This membership without `id`, which never comes back.
    ///
    /// # Errors
    ///
    /// Where it is no member, or is the last voter.
    pub fn without(&self, id: impl Into<ReplicaId>) -> Result<Self, MembershipError> {
        let id = id.into();
        let mut next = self.clone();
        if self.member(id).is_none() {
            return Err(MembershipError::NoMember(id));
        }
        next.voters.retain(|voter| voter.id != id);
        next.observers.retain(|observer| observer.id != id);
        next.removed.push(id);
        next.removed.sort_unstable();
        next.fit_quorums(self).checked()
    }

    /// This membership, in which `id` listens at `address`. That is not tried: before the change
    /// counts, nobody need listen there.
    ///
    /// # Errors
    ///
    /// Where it is no member, or the address is taken, empty or too long.
    pub fn with_address(
        &self,
        id: impl Into<ReplicaId>,
        address: impl Into<String>,
    ) -> Result<Self, MembershipError> {
        let id = id.into();
        let mut next = self.clone();
        let mut members = next.voters.iter_mut().chain(&mut next.observers);
        match members.find(|member| member.id == id) {
            Some(member) => member.address = address.into(),
            None => return Err(MembershipError::NoMember(id)),
        }
        next.checked()
    }

    /// This membership with quorums of these sizes.
    ///
    /// # Errors
    ///
    /// Where quorums need not intersect.
    pub fn with_quorums(&self, phase1: u32, phase2: u32) -> Result<Self, MembershipError> {
        Self { phase1, phase2, ..self.clone() }.checked()
    }

    /// This membership of a ledger of this edition. [`Replica::upgrade`](crate::Replica::upgrade)
    /// makes that of this build count.
    ///
    /// # Errors
    ///
    /// Where there is none of this number.
    pub fn with_edition(&self, edition: Edition) -> Result<Self, MembershipError> {
        Self { edition, ..self.clone() }.checked()
    }

    /// Majorities stay majorities. Otherwise votes needed stay as many, and so many promises are
    /// needed that the quorums intersect.
    fn fit_quorums(mut self, before: &Self) -> Self {
        let (count, majority) = (self.voters.len() as u32, majority_of(before.voters.len()));
        if (before.phase1, before.phase2) == (majority, majority) {
            (self.phase1, self.phase2) = (majority_of(count as usize), majority_of(count as usize));
        } else if before.voters.len() != self.voters.len() {
            self.phase1 = (count + 1).saturating_sub(self.phase2);
        }
        self
    }

    fn checked(self) -> Result<Self, MembershipError> {
        self.check()?;
        Ok(self)
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
        if self.observers.len() > OBSERVERS_MAX {
            return Err(MembershipError::ObserverCount(self.observers.len()));
        }
        if self.removed.len() > REMOVED_MAX {
            return Err(MembershipError::RemovedCount(self.removed.len()));
        }
        self.check_ids()?;
        self.check_addresses()?;
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
        if self.sessions_max == 0 || self.sessions_max > SESSIONS_MAX_MAX {
            return Err(MembershipError::SessionsMax(self.sessions_max));
        }
        match self.edition < Edition::FIRST {
            true => Err(MembershipError::Edition(self.edition)),
            false => Ok(()),
        }
    }

    fn check_ids(&self) -> Result<(), MembershipError> {
        let ids = |members: &[Member]| members.iter().map(|member| member.id).collect::<Vec<_>>();
        let (voters, observers) = (ids(&self.voters), ids(&self.observers));
        for ids in [&voters, &observers, &self.removed] {
            if ids.contains(&ReplicaId(0)) {
                return Err(MembershipError::ZeroId);
            }
            if let Some(pair) = ids.windows(2).find(|pair| pair[0] >= pair[1]) {
                return Err(MembershipError::DuplicateId(pair[1]));
            }
        }
        if let Some(id) = observers.iter().find(|id| voters.binary_search(id).is_ok()) {
            return Err(MembershipError::DuplicateId(*id));
        }
        let mut members = self.members();
        match members.find(|member| self.removed.binary_search(&member.id).is_ok()) {
            Some(member) => Err(MembershipError::RemovedId(member.id)),
            None => Ok(()),
        }
    }

    /// Nobody has to reach a replica that is alone.
    fn check_addresses(&self) -> Result<(), MembershipError> {
        let alone = self.voters.len() + self.observers.len() == 1;
        for (index, member) in self.members().enumerate() {
            let Member { id, address, .. } = member;
            if !alone && address.is_empty() || address.len() > ADDRESS_BYTES_MAX {
                return Err(MembershipError::AddressLength(*id, address.len()));
            }
            if self.members().take(index).any(|earlier| earlier.address == *address) {
                return Err(MembershipError::DuplicateAddress(address.clone()));
            }
        }
        Ok(())
    }

    /// The voters, in increasing order of their ids.
    #[must_use]
    pub fn voters(&self) -> &[Member] {
        &self.voters
    }

    /// The observers, in increasing order of their ids.
    #[must_use]
    pub fn observers(&self) -> &[Member] {
        &self.observers
    }

    /// The ids that belonged once, in increasing order.
    #[must_use]
    pub fn removed(&self) -> &[ReplicaId] {
        &self.removed
    }

    /// Whether this id belonged once, and never will again.
    pub(crate) fn has_removed(&self, id: ReplicaId) -> bool {
        self.removed.binary_search(&id).is_ok()
    }

    /// Voters, then observers.
    pub fn members(&self) -> impl Iterator<Item = &Member> {
        self.voters.iter().chain(&self.observers)
    }

    /// Whether this replica votes, and no other.
    #[must_use]
    pub fn is_only(&self, id: ReplicaId) -> bool {
        self.voters.len() == 1 && self.voters[0].id == id
    }

    /// The voter with this id.
    #[must_use]
    pub fn voter(&self, id: ReplicaId) -> Option<&Member> {
        self.voters.binary_search_by_key(&id, |voter| voter.id).ok().map(|at| &self.voters[at])
    }

    /// The voter or observer with this id.
    #[must_use]
    pub fn member(&self, id: ReplicaId) -> Option<&Member> {
        self.members().find(|member| member.id == id)
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

    /// How many sessions the state remembers.
    #[must_use]
    pub fn sessions_max(&self) -> u32 {
        self.sessions_max
    }

    /// What may stand in the log.
    #[must_use]
    pub fn edition(&self) -> Edition {
        self.edition
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
        let Decoded { voters, observers, removed, phase1, phase2, alpha, .. } = decoded;
        let Decoded { sessions_max, edition, changes, .. } = decoded;
        Self { voters, observers, removed, phase1, phase2, alpha, sessions_max, edition, changes }
            .checked()
    }
}

impl fmt::Display for Membership {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}]", List(&self.voters))?;
        match self.observers.is_empty() {
            true => Ok(()),
            false => write!(f, ", observed by [{}]", List(&self.observers)),
        }
    }
}

struct List<'a>(&'a [Member]);

impl fmt::Display for List<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, member) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(f, "{comma}{}={}", member.id, member.address)?;
        }
        Ok(())
    }
}

/// The smallest number of so many voters of which any two sets intersect.
#[must_use]
pub fn majority_of(voters: usize) -> u32 {
    voters as u32 / 2 + 1
}
