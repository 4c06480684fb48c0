//! The candidate: phase 1. Gather promises, then pick what is safe, slot by slot.
//!
//! What is safe in a slot is the entry voted for at the highest ballot among a phase-1 quorum of
//! answers that do not abstain for that slot, and a no-op where none of them voted (*Paxos Made
//! Simple*, section 2.2, P2c). Never "the longest log": any replica may lead, whatever it holds.
//!
//! A slot that some answer calls chosen is not decided here at all. It is fetched, and only when
//! this replica knows everything that any of its promisers knows to be chosen does it lead.
//!
//! Invariants:
//! * `Prepare` leaves only when this replica's own promise at the ballot is durable, so that the
//!   ballot is never used again after a restart.
//! * An answer counts when all its parts are there, once for each voter, and only from the
//!   directory that the membership names.

use std::collections::BTreeMap;

use crate::types::entry::Entry;
use crate::types::ids::{Ballot, Boot, ReplicaId, Slot};
use crate::types::message::{Abstention, Message, Promise, Vote};
use crate::types::time::Moment;

use super::quorum::VoterSet;
use super::{Paxos, Role};

/// Most parts that an answer may have: one for each slot that may hold a vote.
const PROMISE_PARTS_MAX: u32 = 1 << 16;

/// Phase 1 under way.
#[derive(Clone, Debug, Hash)]
pub(super) struct Candidate {
    pub(super) ballot: Ballot,
    /// The first slot asked for.
    from: Slot,
    /// When `Prepare` was last sent.
    sent_at: Moment,
    answers: BTreeMap<ReplicaId, Answer>,
}

/// What one voter told so far.
#[derive(Clone, Debug, Hash)]
struct Answer {
    boot: Boot,
    parts: Vec<bool>,
    missing: usize,
    slot_chosen: Slot,
    votes: Vec<Vote>,
    abstained: Vec<Abstention>,
}

impl Paxos {
    /// Tries to lead, at a ballot above every one that was seen.
    pub(super) fn campaign(&mut self) {
        let seen = self.promised.max(self.election.ballot_seen());
        let Some(ballot) = seen.next_for(self.options.id) else { return };
        self.become_follower();
        self.raise_promise(ballot);
        self.role = Role::Candidate(Candidate {
            ballot,
            from: self.slot_chosen,
            sent_at: self.now,
            answers: BTreeMap::new(),
        });
        self.election.begin_campaign(self.now);
        self.send_prepare();
        self.answer_prepare(self.options.id, ballot, self.slot_chosen);
    }

    /// Phase 1a, to every voter whose answer is not whole.
    fn send_prepare(&mut self) {
        let Role::Candidate(candidate) = &mut self.role else { return };
        candidate.sent_at = self.now;
        let prepare = Message::Prepare { ballot: candidate.ballot, from: candidate.from };
        let answered = |id| candidate.answers.get(id).is_some_and(Answer::is_whole);
        let ids = self.quorum.ids().iter().filter(|id| **id != self.options.id && !answered(id));
        for id in ids.copied().collect::<Vec<_>>() {
            self.hold(id, prepare.clone());
        }
    }

    /// Sends `Prepare` again where it or its answer seems lost.
    pub(super) fn retransmit_prepare(&mut self) {
        let Role::Candidate(candidate) = &self.role else { return };
        if self.now.since(candidate.sent_at) >= self.options.retransmit_interval {
            self.send_prepare();
        }
    }

    /// Takes one part of an answer.
    pub(super) fn on_promise(&mut self, from: ReplicaId, promise: Promise) {
        let Role::Candidate(candidate) = &mut self.role else { return };
        if (promise.ballot, promise.from) != (candidate.ballot, candidate.from) {
            return;
        }
        let plausible = 0 < promise.parts
            && promise.parts <= PROMISE_PARTS_MAX
            && promise.votes.iter().all(|vote| vote.ballot <= promise.ballot);
        if !plausible {
            return;
        }
        candidate.answers.entry(from).or_insert_with(|| Answer::new(&promise)).add(promise);
        self.maybe_lead();
    }

    /// Leads, if enough voters answered and everything that they know to be chosen is known here.
    pub(super) fn maybe_lead(&mut self) {
        let Role::Candidate(candidate) = &self.role else { return };
        let whole = || candidate.answers.iter().filter(|(_, answer)| answer.is_whole());
        let mut promised = VoterSet::default();
        whole().for_each(|(id, _)| self.quorum.insert(&mut promised, *id));
        if !self.quorum.is_phase1(promised) {
            return;
        }
        let best = whole().max_by_key(|(_, answer)| answer.slot_chosen);
        let (informant, chosen) = best
            .map_or((self.options.id, self.slot_chosen), |(id, answer)| (*id, answer.slot_chosen));
        if self.slot_chosen < chosen {
            self.fetch_from(informant, chosen);
            return;
        }
        let ends = whole().map(|(_, answer)| answer.end());
        let end = ends.max().unwrap_or(self.slot_chosen).max(self.slot_chosen);
        let mut safe = Vec::new();
        let mut holes = 0;
        let mut slot = self.slot_chosen;
        // Whoever proposed in a slot knew all but the alpha slots before it to be chosen, and of
        // a chosen slot some of these answers has a vote. So behind alpha slots without a vote no
        // honest vote follows, and a forged one makes nothing grow.
        while slot < end && holes < self.options.membership.alpha() {
            let entry = match self.safe_entry(candidate, slot) {
                Some(voted) => voted,
                // Too many abstain: another answer is needed before anything can be proposed.
                None => return,
            };
            holes = if entry.is_some() { 0 } else { holes + 1 };
            safe.push(entry.unwrap_or_else(Entry::no_op));
            slot = slot.next();
        }
        // A hole behind which nothing follows needs no filling.
        safe.truncate(safe.len() - holes as usize);
        let ballot = candidate.ballot;
        self.become_leader(ballot, safe);
    }

    /// The entry that must be proposed in `slot`, if any was voted for; `None` while too few voters
    /// speak about it.
    fn safe_entry(&self, candidate: &Candidate, slot: Slot) -> Option<Option<Entry>> {
        let mut speaking = VoterSet::default();
        let mut newest: Option<&Vote> = None;
        for (id, answer) in candidate.answers.iter().filter(|(_, answer)| answer.is_whole()) {
            if answer.abstained.iter().any(|abstention| abstention.slots.contains(slot)) {
                continue;
            }
            self.quorum.insert(&mut speaking, *id);
            let vote = answer.votes.binary_search_by_key(&slot, |vote| vote.slot);
            if let Some(vote) = vote.ok().map(|index| &answer.votes[index])
                && newest.is_none_or(|newest| newest.ballot < vote.ballot)
            {
                newest = Some(vote);
            }
        }
        self.quorum.is_phase1(speaking).then(|| newest.map(|vote| vote.entry.clone()))
    }
}

impl Answer {
    fn new(promise: &Promise) -> Self {
        let parts = promise.parts as usize;
        Self {
            boot: promise.boot,
            parts: vec![false; parts],
            missing: parts,
            slot_chosen: promise.slot_chosen,
            votes: Vec::new(),
            abstained: promise.abstained.clone(),
        }
    }

    /// Takes a part. One that does not belong to the answer begun makes the answer begin anew: the
    /// voter may have learned or restarted between two copies of `Prepare`.
    fn add(&mut self, promise: Promise) {
        if self.is_whole() {
            return;
        }
        let same = self.boot == promise.boot
            && self.parts.len() == promise.parts as usize
            && self.slot_chosen == promise.slot_chosen
            && self.abstained == promise.abstained;
        if !same {
            *self = Self::new(&promise);
        }
        let Some(part) = self.parts.get_mut(promise.part as usize) else { return };
        if std::mem::replace(part, true) {
            return;
        }
        self.missing -= 1;
        self.votes.extend(promise.votes);
        self.votes.sort_by_key(|vote| vote.slot);
    }

    fn is_whole(&self) -> bool {
        self.missing == 0
    }

    /// The first slot behind everything that this answer speaks of.
    fn end(&self) -> Slot {
        let voted = self.votes.last().map_or(Slot::ZERO, |vote| vote.slot.next());
        let abstained = self.abstained.iter().map(|abstention| abstention.slots.end).max();
        voted.max(abstained.unwrap_or_default())
    }
}
