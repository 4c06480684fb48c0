//! Which membership may follow which.
//!
//! Each is an edit of the one before, and says of which: it counts the changes since the first one.
//! So a change that a leader proposed, and that was overtaken by another one, changes nothing where
//! it is found and chosen later: what it was an edit of governs no more.

use crate::types::bugs::{self, Bug};

use super::{Membership, MembershipError};

impl Membership {
    /// This membership, as the change that is made of `before`.
    #[must_use]
    pub fn following(self, before: &Self) -> Self {
        Self { changes: before.changes.saturating_add(1), ..self }
    }

    /// How many changes it took to come here from the first membership of the ledger.
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// Whether this membership may follow `before`, whose alpha it keeps. Several replicas may come
    /// and go at once.
    ///
    /// # Errors
    ///
    /// Where it was made of another one, somebody votes who was no member, a member becomes another
    /// directory, or an id that was removed, or is not named any more, could come back.
    pub fn check_successor(&self, before: &Self) -> Result<(), MembershipError> {
        let is_next = before.changes.checked_add(1) == Some(self.changes);
        if !is_next && !bugs::is_on(Bug::OvertakenFollows) {
            let (changes, before) = (self.changes, before.changes);
            return Err(MembershipError::Overtaken { changes, before });
        }
        if self.alpha != before.alpha {
            return Err(MembershipError::Alpha(self.alpha));
        }
        if self.edition < before.edition {
            return Err(MembershipError::Edition(self.edition));
        }
        if let Some(voter) = self.voters.iter().find(|voter| before.member(voter.id).is_none()) {
            return Err(MembershipError::NoObserver(voter.id));
        }
        for member in self.members() {
            if before.removed.contains(&member.id) {
                return Err(MembershipError::RemovedId(member.id));
            }
            let earlier = before.member(member.id).map(|earlier| earlier.incarnation);
            if earlier.is_some_and(|earlier| earlier != member.incarnation) {
                return Err(MembershipError::OtherIncarnation(member.id));
            }
        }
        let gone = before.members().map(|member| member.id).filter(|id| self.member(*id).is_none());
        let removed = before.removed.iter().copied().chain(gone);
        match removed.into_iter().find(|id| !self.removed.contains(id)) {
            Some(id) => Err(MembershipError::Forgotten(id)),
            None => Ok(()),
        }
    }
}
