//! The candidate: it runs phase 1 (`phase1`), and leads once it may.
//!
//! A slot that some answer calls chosen is not decided there at all. It is fetched, and only when
//! this replica knows everything that any of its promisers knows to be chosen does it lead.
//!
//! Invariants:
//! * Nobody campaigns while another one holds a lease that it granted.
//! * `Prepare` leaves only when this replica's own promise at the ballot is durable, so that the
//!   ballot is never used again after a restart.

use crate::types::bugs::{self, Bug};
use crate::types::entry::Entry;
use crate::types::ids::{Ballot, ReplicaId};
use crate::types::marks::reached;
use crate::types::message::{Message, Promise};

use super::phase1::Phase1;
use super::{Paxos, Role};

/// Phase 1 under way.
#[derive(Clone, Debug, Hash)]
pub(super) struct Candidate {
    pub(super) ballot: Ballot,
    phase1: Phase1,
}

impl Paxos {
    /// Tries to lead, at a ballot above every one that was seen.
    pub(super) fn campaign(&mut self) {
        let seen = self.promised.max(self.election.ballot_seen());
        let reused = self.promised.leader == self.options.id && bugs::is_on(Bug::ReuseBallot);
        let next = if reused { Some(self.promised) } else { seen.next_for(self.options.id) };
        let Some(ballot) = next else { return };
        let bound = self.is_bound_against(self.options.id);
        if !self.takes_part()
            || !self.is_voter()
            || bound && !bugs::is_on(Bug::CampaignDespiteGrant)
        {
            return;
        }
        self.become_follower();
        self.raise_promise(ballot);
        let phase1 = Phase1::new(self.slot_chosen, self.now);
        self.role = Role::Candidate(Candidate { ballot, phase1 });
        self.election.begin_campaign(self.now);
        self.send_prepare();
        self.answer_prepare(self.options.id, ballot, self.slot_chosen);
    }

    /// Phase 1a, to every voter whose answer is not whole.
    pub(super) fn send_prepare(&mut self) {
        let Role::Candidate(candidate) = &mut self.role else { return };
        let prepare = Message::Prepare { ballot: candidate.ballot, from: candidate.phase1.from };
        let asked = candidate.phase1.ask(self.quorum.ids(), self.now);
        self.hold_prepare(&prepare, asked);
    }

    pub(super) fn hold_prepare(&mut self, prepare: &Message, asked: Vec<ReplicaId>) {
        let own = self.options.id;
        for id in asked.into_iter().filter(|id| *id != own) {
            match bugs::is_on(Bug::PrepareBeforeSync) {
                true => self.send(id, prepare.clone()),
                false => self.hold(id, prepare.clone()),
            }
        }
    }

    /// Sends `Prepare` again where it or its answer seems lost.
    pub(super) fn retransmit_prepare(&mut self) {
        let Role::Candidate(candidate) = &self.role else { return };
        if self.now.since(candidate.phase1.sent_at) >= self.options.retransmit_interval {
            self.send_prepare();
        }
    }

    /// Takes one part of an answer.
    pub(super) fn on_promise(&mut self, from: ReplicaId, promise: Promise) {
        if matches!(self.role, Role::Leader(_)) {
            return self.on_promise_to_leader(from, promise);
        }
        let Role::Candidate(candidate) = &mut self.role else { return };
        let same_ballot =
            promise.ballot == candidate.ballot || bugs::is_on(Bug::PromiseOfOtherBallot);
        if same_ballot && candidate.phase1.add(from, promise) {
            self.maybe_lead();
        }
    }

    /// Leads, if enough voters answered and everything that they know to be chosen is known here.
    pub(super) fn maybe_lead(&mut self) {
        let Role::Candidate(candidate) = &self.role else { return };
        let Candidate { ballot, phase1 } = candidate;
        if !self.quorum.is_phase1(phase1.promised(&self.quorum)) {
            return;
        }
        if let Some((informant, chosen)) = phase1.informant_beyond(self.slot_chosen) {
            reached!(CandidateLags);
            self.fetch_from(informant, chosen);
            return;
        }
        // Too many abstain somewhere: another answer is needed before anything can be proposed.
        let alpha = self.membership.alpha();
        let changes = |entry: &Entry| entry.membership_after(&self.membership).is_some();
        let safe = phase1.safe_entries(&self.quorum, self.slot_chosen, alpha, changes);
        let Some(safe) = safe else { return };
        let ballot = *ballot;
        self.become_leader(ballot, safe);
    }
}
