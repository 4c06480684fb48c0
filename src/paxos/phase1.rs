//! Phase 1: the answers of voters to a `Prepare`, and what is safe to propose, slot by slot.
//!
//! What is safe in a slot is
//! 1. the entry voted for at the highest ballot among a phase-1 quorum of answers that do not
//!    abstain for that slot, and a no-op where none of them voted (*Paxos Made Simple*, section
//!    2.2, P2c). Never "the longest log": any replica may lead, whatever it holds;
//! 2. a no-op, where those who say that they did not vote are enough that nothing can be chosen.
//!    This goes before 1 where the entry of 1 is a membership: to lead under that takes its own
//!    voters, who may never have been there;
//! 3. where every voter answered, and none of them is FAULTY there, the highest of what was voted
//!    for and of what is left to those who are UNCERTAIN.
//!
//! Otherwise more answers are waited for, and asked for. The same must be known of all slots behind
//! the last vote: the leader will propose there.
//!
//! Invariants:
//! * An answer counts when all its parts are there, and once for each voter. The caller listens
//!   only to the directories that the membership names.

use std::collections::BTreeMap;

use crate::types::bugs::{self, Bug};
use crate::types::entry::Entry;
use crate::types::ids::{Boot, ReplicaId, Slot};
use crate::types::marks::reached;
use crate::types::message::{Abstention, Doubt, Promise, Vote};
use crate::types::time::Moment;

use super::quorum::{Quorum, VoterSet};

/// Most parts that an answer may have: one for each slot that may hold a vote.
const PROMISE_PARTS_MAX: u32 = 1 << 16;

/// What was asked at one ballot, and what was answered.
#[derive(Clone, Debug, Hash)]
pub(super) struct Phase1 {
    /// The first slot asked for.
    pub(super) from: Slot,
    /// When `Prepare` was last sent.
    pub(super) sent_at: Moment,
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

impl Phase1 {
    /// Nobody has answered yet.
    pub(super) fn new(from: Slot, now: Moment) -> Self {
        Self { from, sent_at: now, answers: BTreeMap::new() }
    }

    /// Takes one part of an answer; returns whether it is one to what was asked.
    pub(super) fn add(&mut self, from: ReplicaId, promise: Promise) -> bool {
        let plausible = promise.from == self.from
            && 0 < promise.parts
            && promise.parts <= PROMISE_PARTS_MAX
            && is_in_order(&promise.abstained)
            && promise.votes.iter().all(|vote| vote.ballot <= promise.ballot);
        if plausible {
            self.answers.entry(from).or_insert_with(|| Answer::new(&promise)).add(promise);
        }
        plausible
    }

    /// Those of `voters` whose answer is not whole. They are asked now.
    pub(super) fn ask(&mut self, voters: &[ReplicaId], now: Moment) -> Vec<ReplicaId> {
        self.sent_at = now;
        let answered = |id| self.answers.get(id).is_some_and(Answer::is_whole);
        voters.iter().filter(|id| !answered(id)).copied().collect()
    }

    /// Who answered. Who abstains has promised all the same: it will vote for nothing lower, and
    /// that is what readers rely on.
    pub(super) fn promised(&self, quorum: &Quorum) -> VoterSet {
        let mut promised = VoterSet::default();
        self.whole().for_each(|(id, _)| quorum.insert(&mut promised, id));
        promised
    }

    /// Who of those who answered knows the log farthest, and how far, if that is beyond `slot`.
    pub(super) fn informant_beyond(&self, slot: Slot) -> Option<(ReplicaId, Slot)> {
        let best = self.whole().max_by_key(|(_, answer)| answer.slot_chosen);
        let known = best.map(|(id, answer)| (id, answer.slot_chosen));
        known.filter(|(_, chosen)| slot < *chosen)
    }

    /// What must be proposed in each slot from `first` on, up to the last in which something
    /// may be chosen below this ballot; `None` while too few voters speak about some slot.
    ///
    /// In a slot where this finds nothing to propose, nothing is chosen below this ballot, and
    /// nothing ever will be. Then the same holds from alpha slots behind it on, and what votes,
    /// doubts and forgeries say of those slots does not matter: who proposes there at a ballot *b*
    /// knows the first slot to be chosen, at this ballot or above. Its leader had a quorum's
    /// promises before, so at *b*, below, nothing is chosen any more that is proposed after.
    ///
    /// Behind an entry that `is_change`, a membership, other voters decide; what these say does not
    /// matter.
    pub(super) fn safe_entries(
        &self,
        quorum: &Quorum,
        first: Slot,
        alpha: u64,
        is_change: impl Fn(&Entry) -> bool,
    ) -> Option<Vec<Entry>> {
        let mut safe = Vec::new();
        let (mut slot, mut holes) = (first, 0);
        while holes < alpha && !safe.last().is_some_and(&is_change) {
            if let Some(entry) = self.safe_entry(quorum, slot, &is_change)? {
                reached!(VoteAdopted);
                if holes > 0 {
                    reached!(HoleFilled);
                }
                // A hole behind which nothing follows needs no filling.
                safe.extend(std::iter::repeat_with(Entry::no_op).take(holes as usize));
                safe.push(entry.clone());
                (slot, holes) = (slot.next(), 0);
            } else {
                // All answers say the same of the slots up to the next one that some of them names.
                // Doubts reach far; they are not gone through slot by slot.
                let end = self.next_named(quorum, slot).min(slot.plus(alpha - holes));
                holes += slot.count_to(end).max(1);
                slot = end;
            }
        }
        Some(safe)
    }

    /// The entry that must be proposed in `slot`, if anything may be chosen there below this
    /// ballot; `None` while too few voters speak about it. (FAST'18's CTRL, for Paxos.)
    ///
    /// Whoever FAULTY or UNCERTAIN has lost is not counted upon in the first two rules: an answer
    /// that abstains is no answer. The third has to be: after a cut of power that tore every
    /// journal's end, everyone abstains. An UNCERTAIN answer tells at least what is left. While at
    /// most `phase2 - 1` durable votes in a slot are lost at once, someone of a quorum that chose
    /// still has its vote, or a later one, and *everyone* was asked. What is FAULTY is known to be
    /// lost; it is never counted.
    fn safe_entry(
        &self,
        quorum: &Quorum,
        slot: Slot,
        is_change: impl Fn(&Entry) -> bool,
    ) -> Option<Option<&Entry>> {
        if bugs::is_on(Bug::AdoptLongestLog) {
            let answers = self.speaking(quorum).map(|(_, answer)| answer);
            let longest = answers.max_by_key(|answer| answer.votes.last().map(|vote| vote.slot))?;
            return Some(longest.vote(slot).map(|vote| &vote.entry));
        }
        let (mut answered, mut speaking, mut voteless) = Default::default();
        let (mut newest, mut floor) = (None, None);
        let mut faulty = false;
        for (id, answer) in self.speaking(quorum) {
            let vote = answer.vote(slot);
            quorum.insert(&mut answered, id);
            floor = newer(floor, vote);
            if let Some(doubt) = answer.doubt(slot)
                && !bugs::is_on(Bug::AdoptBelowAbstainer)
            {
                faulty |= doubt == Doubt::Faulty;
                continue;
            }
            quorum.insert(&mut speaking, id);
            newest = newer(newest, vote);
            if vote.is_none() {
                quorum.insert(&mut voteless, id);
            }
        }
        if bugs::is_on(Bug::FillHoleEarly) && !voteless.is_empty() {
            Some(None)
        } else if quorum.is_phase1(speaking) {
            if speaking != answered {
                reached!(QuorumBesideAbstainer);
            }
            let newest = newest.map(|vote| &vote.entry);
            let is_change = newest.is_some_and(is_change);
            let is_ruled_out = is_change && quorum.rules_out_choice(voteless);
            if is_ruled_out {
                reached!(ChangeRuledOut);
            }
            Some(newest.filter(|_| !is_ruled_out))
        } else if quorum.rules_out_choice(voteless) {
            reached!(ChoiceRuledOut);
            Some(None)
        } else if bugs::is_on(Bug::CountFaulty) && quorum.is_everyone(answered) {
            Some(floor.map(|vote| &vote.entry))
        } else if quorum.is_everyone(answered) && !faulty && quorum.outlives_loss() {
            reached!(EveryoneCounted);
            Some(floor.map(|vote| &vote.entry))
        } else {
            reached!(AnswersAwaited);
            None
        }
    }

    /// The answers of which all parts are there.
    fn whole(&self) -> impl Iterator<Item = (ReplicaId, &Answer)> {
        let whole = self.answers.iter().filter(|(_, answer)| answer.is_whole());
        whole.map(|(id, answer)| (*id, answer))
    }

    /// The answers that count here: those of voters.
    fn speaking(&self, quorum: &Quorum) -> impl Iterator<Item = (ReplicaId, &Answer)> {
        self.whole().filter(|(id, _)| quorum.is_voter(*id))
    }

    /// The first slot behind `slot` that a vote is in, or where a doubt begins or ends.
    fn next_named(&self, quorum: &Quorum, slot: Slot) -> Slot {
        let named = self.speaking(quorum).filter_map(|(_, answer)| answer.next_named(slot));
        named.min().unwrap_or(Slot(u64::MAX))
    }
}

/// Of two votes for a slot, the one at the higher ballot.
fn newer<'a>(one: Option<&'a Vote>, other: Option<&'a Vote>) -> Option<&'a Vote> {
    if bugs::is_on(Bug::AdoptFirstVote) {
        return one.or(other);
    }
    one.into_iter().chain(other).max_by_key(|vote| vote.ballot)
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
            reached!(AnswerBegunAnew);
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

    /// The vote in `slot`.
    fn vote(&self, slot: Slot) -> Option<&Vote> {
        let index = self.votes.binary_search_by_key(&slot, |vote| vote.slot).ok()?;
        Some(&self.votes[index])
    }

    /// Why the voter does not speak about `slot`.
    fn doubt(&self, slot: Slot) -> Option<Doubt> {
        let behind = self.abstained.partition_point(|abstention| abstention.slots.end <= slot);
        let abstention = self.abstained.get(behind)?;
        abstention.slots.contains(slot).then_some(abstention.doubt)
    }

    /// The first slot behind `slot` that a vote is in, or where a doubt begins or ends.
    fn next_named(&self, slot: Slot) -> Option<Slot> {
        let vote = self.votes.get(self.votes.partition_point(|vote| vote.slot <= slot));
        let behind = self.abstained.partition_point(|abstention| abstention.slots.end <= slot);
        let bounds = self.abstained[behind..].iter().take(2);
        let bounds = bounds.flat_map(|abstention| [abstention.slots.first, abstention.slots.end]);
        let named = vote.map(|vote| vote.slot).into_iter().chain(bounds);
        named.filter(|named| slot < *named).min()
    }
}

/// Whether the ranges are in order and apart, so that they can be searched.
fn is_in_order(abstained: &[Abstention]) -> bool {
    abstained.iter().all(|abstention| !abstention.slots.is_empty())
        && abstained.windows(2).all(|pair| pair[0].slots.end <= pair[1].slots.first)
}
