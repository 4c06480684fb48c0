//! The acceptor: what this replica has promised, and what it has voted for.
//!
//! Everything here must be durable before anyone hears of it. The acceptor does not write; it
//! returns the record and, with it, the message that may leave once the record is synced.
//!
//! Invariants:
//! * `promised` never decreases.
//! * A vote is never cast below `promised`                          (Lamport, Paxos.tla: Phase2b).
//! * In one ballot and slot, at most one entry is ever voted for    (Voting.tla: OneVote).
//! * No vote at a ballot precedes, in the journal, the promise of that ballot. Otherwise the loss
//!   of one frame would let the replica vote lower.
//! * Where votes may be lost, phase 1 is told so (`doubts`).
//! * A slot below `slot_chosen` is chosen: its vote is forgotten here, and is told to nobody. The
//!   journal has its entry.
//!
//! Not here: counting votes (`leader`), deciding when to campaign (`election`).

use crate::types::bugs::{self, Bug};
use crate::types::ids::{Ballot, ReplicaId, Slot, SlotRange};
use crate::types::marks::reached;
use crate::types::message::{Accept, Accepted, Message, Promise, Vote};
use crate::types::record::Record;

use super::step::Serve;
use super::{Paxos, Role};

impl Paxos {
    /// Phase 1b.
    pub(super) fn on_prepare(&mut self, from: ReplicaId, ballot: Ballot, first: Slot) {
        if self.is_bound_against(from) && !bugs::is_on(Bug::PromiseDespiteGrant) {
            // Silence, and not a refusal: nothing higher is promised. It will ask again. Also where
            // this ballot is promised already: an `Accept` may have raised it since the grant, of a
            // leader that does not lead those yet who vote by a membership that it found.
            reached!(PrepareUnanswered);
            return;
        }
        let before = self.promised;
        if !self.goes_along(from, ballot) {
            return;
        }
        if before < self.promised {
            self.election.put_off(self.now);
        }
        self.answer_prepare(from, ballot, first);
    }

    /// Whether this replica takes part in the ballot of `from`, as both phases ask: from here on it
    /// is promised, or it was refused. Who forgot a promise has nothing to say.
    fn goes_along(&mut self, from: ReplicaId, ballot: Ballot) -> bool {
        let takes_part = self.takes_part() || bugs::is_on(Bug::AmnesiaVotes);
        if !self.keeps_promises() {
            reached!(AmnesiacSilent);
        }
        if ballot.leader != from || !takes_part {
            return false;
        }
        self.election.note_ballot(ballot);
        if ballot < self.promised && bugs::is_on(Bug::VoteBelowPromise) {
            return true;
        }
        if ballot < self.promised {
            reached!(BallotRejected);
            self.send(from, Message::Reject { ballot, promised: self.promised });
            return false;
        }
        self.raise_promise(ballot);
        true
    }

    /// Promises to vote for nothing below `ballot`. Whoever leads or campaigns lower gives up.
    pub(super) fn raise_promise(&mut self, ballot: Ballot) {
        assert!(ballot >= self.promised, "promise regression {} -> {ballot}", self.promised);
        if ballot == self.promised {
            return;
        }
        self.promised = ballot;
        self.election.note_ballot(ballot);
        self.output.records.push(Record::Promise { ballot });
        if self.own_ballot().is_some_and(|own| own < ballot) {
            self.become_follower();
        }
    }

    /// Tells what was voted for from `first` on, and for which slots that is not an answer. Also
    /// for a repeated `Prepare`: the answer waits for everything journaled so far, so a duplicate
    /// cannot overtake the promise's own sync.
    pub(super) fn answer_prepare(&mut self, to: ReplicaId, ballot: Ballot, first: Slot) {
        let mut parts = vec![Vec::new()];
        let mut bytes = 0;
        for (slot, (voted, entry)) in self.log.votes_from(first.max(self.slot_chosen)) {
            if bytes > 0 && bytes + entry.bytes().len() > self.options.message_bytes_max {
                parts.push(Vec::new());
                bytes = 0;
            }
            bytes += entry.bytes().len();
            let vote = Vote { slot, ballot: *voted, entry: entry.clone() };
            parts.last_mut().expect("there is always a last part").push(vote);
        }
        let abstained = self.abstentions(first.max(self.slot_chosen));
        let count = parts.len() as u32;
        if count > 1 {
            reached!(PromiseInParts);
        }
        for (part, votes) in parts.into_iter().enumerate() {
            let promise = Promise {
                ballot,
                incarnation: self.options.incarnation,
                boot: self.options.boot,
                from: first,
                part: part as u32,
                parts: count,
                slot_chosen: match bugs::is_on(Bug::PromiseWithoutChosen) {
                    true => Slot::ZERO,
                    false => self.slot_chosen,
                },
                votes,
                abstained: abstained.clone(),
                frontier: Default::default(),
            };
            match bugs::is_on(Bug::PromiseBeforeSync) && to != self.options.id {
                true => self.send(to, Message::Promise(promise)),
                false => self.hold(to, Message::Promise(promise)),
            }
        }
    }

    /// Phase 2b.
    pub(super) fn on_accept(&mut self, from: ReplicaId, accept: Accept) {
        let Accept { ballot, first_slot, entries, slot_chosen, chain } = accept;
        if !self.goes_along(from, ballot) {
            return;
        }
        self.hear_leader(ballot);

        // A slot that is chosen needs no vote; the leader is told what was chosen instead.
        let mut first_voted = first_slot;
        let mut slot = first_slot;
        for entry in entries {
            if slot < self.slot_chosen {
                slot = slot.next();
                first_voted = slot;
                continue;
            }
            if slot >= self.vote_limit() {
                break;
            }
            match self.log.vote(slot) {
                // Two entries at one ballot: the sender breaks the protocol. It gets no vote.
                Some((voted, earlier)) if *voted == ballot && *earlier != entry => break,
                // Voted already; but one that precedes a doubt is journaled again, behind it.
                Some((voted, _)) if *voted == ballot && !self.doubts.contains(slot) => {}
                Some((voted, _)) => {
                    match *voted == ballot {
                        true => reached!(VoteRepeated),
                        false => reached!(VotedAgain),
                    }
                    self.vote(slot, ballot, entry);
                }
                None => self.vote(slot, ballot, entry),
            }
            slot = slot.next();
        }
        let slots = SlotRange { first: first_voted, end: slot };
        if !slots.is_empty() {
            // The votes are in `records`; the leader may count them only once they cannot be
            // forgotten. The ballot is theirs, whatever is promised until then.
            self.hold_accepted(from, ballot, slots);
        }
        if first_slot < self.slot_chosen && slot_chosen < self.slot_chosen {
            reached!(LaggingLeaderTold);
            self.output.serve.push(Serve { to: from, from: slot_chosen });
        }
        self.learn_from_leader(from, ballot, slot_chosen, chain);
        self.ask_about_doubts(ballot);
    }

    /// An acknowledgement that leaves when the votes are durable.
    pub(super) fn hold_accepted(&mut self, to: ReplicaId, ballot: Ballot, slots: SlotRange) {
        let accepted = Accepted {
            ballot,
            incarnation: self.options.incarnation,
            slots,
            frontier: Default::default(),
            slot_durable: self.slot_noted,
        };
        if bugs::is_on(Bug::AckDuplicateEarly) && self.output.records.is_empty() {
            return self.send(to, Message::Accepted(accepted));
        }
        self.hold(to, Message::Accepted(accepted));
    }

    /// The slots from `slot_chosen` on in which this replica voted, each with the ballot. For a
    /// simulator, which holds them against what was durable.
    #[cfg(feature = "sim")]
    #[must_use]
    pub fn votes(&self) -> Vec<(Slot, Ballot)> {
        let votes = self.log.votes_from(self.slot_chosen);
        votes.map(|(slot, (ballot, _))| (slot, *ballot)).collect()
    }

    /// Votes beyond this slot wait until this replica has caught up, so that a forged or far-off
    /// slot cannot make the log grow.
    pub(super) fn vote_limit(&self) -> Slot {
        self.vote_limit_at(self.slot_chosen)
    }

    /// The same of a replica that knows the log up to `slot_chosen`.
    pub(super) fn vote_limit_at(&self, slot_chosen: Slot) -> Slot {
        slot_chosen.plus(2 * self.membership.alpha())
    }

    /// The ballot at which this replica leads or campaigns.
    pub(super) fn own_ballot(&self) -> Option<Ballot> {
        match &self.role {
            Role::Follower => None,
            Role::Candidate(candidate) => Some(candidate.ballot),
            Role::Leader(leader) => Some(leader.ballot),
        }
    }
}
