//! Going on behind a state that came from a peer.
//!
//! ```text
//!             slot_chosen                         installed
//!   before    | vote | vote | none | none | none | vote |
//!   behind                                       | vote |
//! ```
//!
//! A replica that lagged so far that nobody has the entries any more which it lacks cannot learn
//! slot by slot. Its owner takes in the state that those slots add up to, and the core goes on
//! behind it, as if it had learned them all. What it promised, and what it voted for from there
//! on, stands: an acceptor forgets nothing but what it need not tell any more. In phase 1 it speaks
//! of slots below as chosen, as everyone does.
//!
//! Invariants:
//! * `slot_chosen` never goes back.
//! * What this replica counted as a leader or a candidate does not outlive it: of the slots in
//!   between it does not know who governed them.

use crate::types::bugs::{self, Bug};
use crate::types::ids::{Slot, SlotRange};
use crate::types::marks::reached;

use super::Paxos;
use super::log::Log;
use super::quorum::Quorum;
use super::step::Installed;

impl Paxos {
    /// The owner has a state behind slots that this core does not know to be chosen.
    pub(super) fn on_install(&mut self, installed: Installed) {
        let Installed { slot, chain, membership } = installed;
        assert!(self.output.chosen.is_empty(), "the owner applies what was learned before");
        if slot <= self.slot_chosen && !bugs::is_on(Bug::StateGoesBack) {
            return;
        }
        reached!(StateInstalled);
        self.become_follower();
        self.dismissed_by.clear();
        match bugs::is_on(Bug::StateForgetsVotes) {
            true => self.log = Log::new(slot),
            false => self.log.forget_below(slot),
        }
        self.doubts.settle(SlotRange { first: Slot::ZERO, end: slot });
        (self.slot_chosen, self.chain) = (slot, chain);
        self.learned_at = self.now;
        self.fetching = None;
        if membership != self.membership && !bugs::is_on(Bug::StateKeepsMembers) {
            self.quorum = Quorum::of(&membership);
            self.membership = membership;
            self.election.set_peers(&self.peers());
            self.leave_removed_leader();
        }
        // Also where it is the same: others may have been between.
        self.governs = slot;
        self.go_on();
    }
}
