//! Who was removed asks whether it is missed, before its owner stops it.
//!
//! ```text
//!   removed              votes now
//!     |  Leaving(slot)      |
//!     |-------------------->|
//!     |                     |  once its journal shows that all below is chosen
//!     |  Dismissed(slot)    |
//!     |<--------------------|
//! ```
//!
//! The slot is the first one that the membership governs which leaves it out. It may be the only
//! one from whom those can learn of that membership who vote now: one of them may not have heard of
//! it yet, or forget it in a crash, and then nobody can go on without it. So it is missed until
//! enough of them to choose have it durably: then each quorum of phase 1 has one of these.
//!
//! Invariants:
//! * No safety depends on anything here: who is missed and gone costs progress, until it is back.
//! * What a voter says is durable when it leaves.

use crate::types::bugs::{self, Bug};
use crate::types::ids::{ReplicaId, Slot};
use crate::types::marks::reached;
use crate::types::message::Message;

use super::Paxos;

impl Paxos {
    /// Whether this replica was removed, and too few of those who vote now are known to have that
    /// durably.
    #[must_use]
    pub fn is_missed(&self) -> bool {
        let dismissed = self.quorum.those(|id| self.dismissed_by.contains(&id));
        self.is_removed() && !self.quorum.is_phase2(dismissed)
    }

    /// The voters that are not known to have it durably that this replica was removed; none where
    /// it was not.
    #[must_use]
    pub fn missed_by(&self) -> Vec<ReplicaId> {
        let voters = self.quorum.ids().iter().copied();
        voters.filter(|id| self.is_removed() && !self.dismissed_by.contains(id)).collect()
    }

    /// The owner of one that was removed would stop it: asks them.
    pub(super) fn on_leave(&mut self) {
        let slot = self.governs;
        for id in self.missed_by() {
            self.send(id, Message::Leaving { slot });
        }
    }

    /// One that was removed asks whether this replica knows who belongs from `slot` on.
    pub(super) fn on_leaving(&mut self, from: ReplicaId, slot: Slot) {
        let incarnation = self.options.incarnation;
        if bugs::is_on(Bug::DismissEarly) && slot <= self.slot_chosen {
            self.send(from, Message::Dismissed { incarnation, slot });
        } else if slot <= self.slot_noted {
            reached!(LeavingAnswered);
            self.hold(from, Message::Dismissed { incarnation, slot });
        } else if !self.is_removed() {
            self.learn_from_peer(from, slot);
        }
    }

    /// A voter knows it durably.
    pub(super) fn on_dismissed(&mut self, from: ReplicaId, slot: Slot) {
        if self.is_removed() && slot == self.governs && self.quorum.is_voter(from) {
            self.dismissed_by.insert(from);
        }
    }

    /// Whether the journal will show, as soon as it is durable so far, that all below `slot` is
    /// chosen.
    #[must_use]
    pub fn notes(&self, slot: Slot) -> bool {
        slot <= self.slot_noted
    }

    /// The journal will show, as soon as it is durable so far, that every slot below is chosen.
    pub fn note_journaled(&mut self, slot: Slot) {
        self.slot_noted = self.slot_noted.max(slot);
    }
}
