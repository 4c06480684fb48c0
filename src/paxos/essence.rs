//! What of a core decides how it goes on while time stands still. For model checkers, which must
//! tell two states apart exactly where their futures differ.
//!
//! All moments are equal then, and hash equally. What else is left out decides only *when* a timer
//! fires, or whether one that fired leads to a campaign: the random timeouts, how many campaigns
//! failed, when this core last campaigned or outbid another leader, what it knows of its links, and
//! since when it waits for a leader to fill slots. And what only the owner asks for: who has it
//! durably that this replica was removed; and since which slot its membership governs, and who has
//! that durably, which is an essence of its own ([`Paxos::hash_established`]), for those who ask.
//! Whoever explores a core asks for every campaign itself
//! ([`Input::Campaign`](super::step::Input)).
//!
//! Invariants:
//! * Two cores of one membership and with equal settings, at one moment, with equal essences: the
//!   same events lead to the same output and to equal essences, as long as no heartbeat echoes; but
//!   for what votes tell of how far the journal shows the log to be chosen ([`Paxos::notes`]).
//! * If what they know of durability is equal, too, the same events lead to cores that say alike
//!   whether their membership [is established](Paxos::is_established).
//! * Every field of [`Paxos`] is named here: a new one does not compile until it was thought about.

use std::hash::{Hash, Hasher};

use super::Paxos;
use super::step::Options;
use crate::types::ids::Slot;

impl Paxos {
    /// Feeds the essence of this core, whose output was taken, to `state`.
    pub fn hash_essence(&self, state: &mut impl Hasher) {
        let Self {
            options,
            membership,
            governs: _,
            quorum: _,
            now: _,
            uptime,
            promised,
            log,
            slot_chosen,
            chain,
            slot_noted: _,
            slot_durable: _,
            dismissed_by: _,
            learned_at: _,
            fetching,
            role,
            election,
            reads,
            grants,
            doubts,
            unsure,
            leftover: _,
            writable,
            output,
        } = self;
        assert!(output.is_idle(), "the output of a core is taken before its state is told");
        let Options { id, boot, .. } = options;
        (id, boot, promised, log, slot_chosen, chain, fetching, role, reads, doubts).hash(state);
        (writable, unsure, membership, uptime, grants).hash(state);
        election.hash_essence(*promised, state);
    }

    /// Feeds to `state` what decides, beside the essence, when this core says that its membership
    /// [is established](Self::is_established). What its votes tell of that is not in it: see
    /// [`notes`](Self::notes).
    ///
    /// How far someone has the log durably counts only where that reaches the first slot which the
    /// present membership governs, or a later one: those that are known to be chosen already are no
    /// first ones any more.
    pub fn hash_established(&self, state: &mut impl Hasher) {
        let counts = |slot: Slot| match slot <= self.slot_chosen {
            true if slot < self.governs => Slot::ZERO,
            true => self.governs,
            false => slot,
        };
        (self.governs, counts(self.slot_durable)).hash(state);
        for id in self.peers() {
            counts(self.known_durable(id)).hash(state);
        }
    }
}
