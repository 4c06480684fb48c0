//! Linearizable reads: take a barrier, confirm the leadership, then wait for a slot.
//!
//! ```text
//!  follower        leader              voters
//!     |  Barrier     |                    |
//!     |------------->| barrier = slot_chosen, while ready
//!     |              |  Confirm(nonce)    |
//!     |              |------------------->|
//!     |              |     Confirmed      |   by a set that intersects every phase-1 quorum
//!     |  BarrierAt   |<-------------------|   or every phase-2 quorum
//!     |<-------------|
//!   apply below the barrier, then read
//! ```
//!
//! The round of confirmation begins after the barrier was taken, and one round serves all reads
//! that were waiting then. A confirmer that had promised nothing higher when it was asked proves
//! that nobody had completed phase 1 above, so nothing was chosen elsewhere before the read began.
//! A leader that holds a lease knows as much without asking (`lease`).
//!
//! Invariants:
//! * A barrier is taken, and its round begun, only while the leader is ready.
//! * A nonce is used once at a ballot, and a ballot is used once for ever.
//! * At most one question of each replica waits, the newest: it answers the older ones too.

use crate::types::bugs::{self, Bug};
use crate::types::ids::{Ballot, Boot, Incarnation, ReplicaId, Slot};
use crate::types::marks::reached;
use crate::types::message::Message;
use crate::types::time::Moment;

use super::quorum::VoterSet;
use super::step::ReadBarrier;
use super::{Paxos, Role};

/// Reads under way.
#[derive(Clone, Debug, Default, Hash)]
pub(super) struct Reads {
    /// The newest local read that has no barrier yet; all up to it are answered together.
    local: Option<u64>,
    /// Questions that wait for the next round.
    queued: Vec<Asker>,
    /// The round under way. Only while leading.
    round: Option<Round>,
    /// The number of the last round.
    nonce: u64,
    /// When the leader was last asked, and at which ballot it led.
    asked: Option<(Moment, Ballot)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Asker {
    Local(u64),
    Peer { peer: ReplicaId, boot: Boot, read: u64 },
}

impl Asker {
    /// Whether this question was asked before `other`, by the same opening of the same replica.
    fn is_older(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Local(read), Self::Local(other)) => read < other,
            (Self::Peer { boot, read, .. }, Self::Peer { boot: at, read: other, .. }) => {
                boot.sequence < at.sequence || boot == at && read < other
            }
            (Self::Local(_), Self::Peer { .. }) | (Self::Peer { .. }, Self::Local(_)) => false,
        }
    }
}

#[derive(Clone, Debug, Hash)]
struct Round {
    nonce: u64,
    barrier: Slot,
    confirmed: VoterSet,
    askers: Vec<Asker>,
    sent_at: Moment,
}

impl Paxos {
    /// A linearizable read begins here.
    pub(super) fn on_read(&mut self, read: u64) {
        if matches!(self.role, Role::Leader(_)) {
            self.enqueue_read(Asker::Local(read));
        } else {
            self.reads.local = Some(self.reads.local.map_or(read, |earlier| earlier.max(read)));
            self.reads.asked = None;
            self.ask_leader();
        }
    }

    /// A peer asks for a barrier.
    pub(super) fn on_barrier(&mut self, peer: ReplicaId, boot: Boot, read: u64) {
        if matches!(self.role, Role::Leader(_)) {
            self.enqueue_read(Asker::Peer { peer, boot, read });
        }
    }

    /// The leader answers.
    pub(super) fn on_barrier_at(&mut self, boot: Boot, read: u64, slot: Slot) {
        let own = boot == self.options.boot || bugs::is_on(Bug::AnswerToEarlierLife);
        if !own || self.reads.local.is_none_or(|newest| read > newest) {
            reached!(BarrierIgnored);
            return;
        }
        if !self.is_voter() {
            reached!(ReadAtObserver);
        }
        self.output.reads.push(ReadBarrier { read, slot });
        if self.reads.local == Some(read) {
            self.reads.local = None;
        }
    }

    /// A leader asks whether it still leads.
    pub(super) fn on_confirm(&mut self, from: ReplicaId, ballot: Ballot, nonce: u64) {
        if ballot.leader != from || !self.keeps_promises() {
            return;
        }
        let answer = if ballot < self.promised && !bugs::is_on(Bug::ConfirmDeposed) {
            reached!(ConfirmRefused);
            Message::Reject { ballot, promised: self.promised }
        } else {
            Message::Confirmed { ballot, incarnation: self.options.incarnation, nonce }
        };
        self.send(from, answer);
    }

    /// A voter confirms.
    pub(super) fn on_confirmed(&mut self, from: ReplicaId, ballot: Ballot, nonce: u64) {
        let Role::Leader(leader) = &self.role else { return };
        let Some(round) = &mut self.reads.round else { return };
        if (ballot, nonce) == (leader.ballot, round.nonce) {
            self.quorum.insert(&mut round.confirmed, from);
            self.maybe_end_round();
        }
    }

    /// Answers the reads that wait, under a lease; or begins one round for all of them, if none is
    /// under way and this replica is ready. When output is taken, so that a whole turn shares it.
    pub(super) fn maybe_begin_round(&mut self) {
        let Role::Leader(leader) = &self.role else { return };
        let ballot = leader.ballot;
        if let Some(read) = self.reads.local.take() {
            self.reads.queued.push(Asker::Local(read));
        }
        let is_ready = self.is_ready() || bugs::is_on(Bug::ReadBeforeReady);
        if self.reads.queued.is_empty() {
            return;
        }
        if (is_ready || bugs::is_on(Bug::LeaseBeforeReady)) && self.holds_lease() {
            reached!(LeasedRead);
            let askers = std::mem::take(&mut self.reads.queued);
            return self.answer_askers(askers, self.slot_chosen);
        }
        if self.reads.round.is_some() || !is_ready {
            return;
        }
        self.reads.nonce += u64::from(!bugs::is_on(Bug::NonceReused));
        let nonce = self.reads.nonce;
        let mut confirmed = VoterSet::default();
        self.quorum.insert(&mut confirmed, self.options.id);
        self.reads.round = Some(Round {
            nonce,
            barrier: self.slot_chosen,
            confirmed,
            askers: std::mem::take(&mut self.reads.queued),
            sent_at: self.now,
        });
        for peer in self.other_voters() {
            self.send(peer, Message::Confirm { ballot, nonce });
        }
        self.maybe_end_round();
    }

    /// Asks again where a question or its answer seems lost, or where another replica leads now.
    pub(super) fn retransmit_reads(&mut self) {
        self.ask_leader();
        let interval = self.options.retransmit_interval;
        let Role::Leader(leader) = &self.role else { return };
        let ballot = leader.ballot;
        let Some(round) = &mut self.reads.round else { return };
        if self.now.since(round.sent_at) < interval {
            return;
        }
        reached!(ConfirmRepeated);
        round.sent_at = self.now;
        let (nonce, confirmed) = (round.nonce, round.confirmed);
        for peer in self.other_voters() {
            if !self.quorum.contains(confirmed, peer) {
                self.send(peer, Message::Confirm { ballot, nonce });
            }
        }
    }

    /// This replica leads no longer: its own reads wait for the next leader, and the peers ask
    /// there by themselves.
    pub(super) fn reads_lost_leader(&mut self) {
        let round = self.reads.round.take().map_or(Vec::new(), |round| round.askers);
        for asker in round.into_iter().chain(std::mem::take(&mut self.reads.queued)) {
            reached!(ReadsLostLeader);
            if let Asker::Local(read) = asker {
                self.reads.local = Some(self.reads.local.map_or(read, |newest| newest.max(read)));
            }
        }
        self.reads.asked = None;
    }

    /// Other voters decide from here on. Whoever waits for the round under way waits for another.
    pub(super) fn restart_reads(&mut self) {
        if let Some(round) = self.reads.round.take() {
            self.reads.queued.splice(..0, round.askers);
        }
    }

    /// How many rounds of confirmation this opening began.
    #[must_use]
    pub fn read_rounds(&self) -> u64 {
        self.reads.nonce
    }

    /// Whether a read that begins now waits for the end of a round of confirmation.
    #[must_use]
    pub fn is_confirming(&self) -> bool {
        self.reads.round.is_some() && !self.holds_lease()
    }

    /// Whether reads wait for an answer that might have to be asked for again.
    pub(super) fn reads_wait(&self) -> bool {
        self.reads.local.is_some() || self.reads.round.is_some()
    }

    fn ask_leader(&mut self) {
        let Some(read) = self.reads.local else { return };
        let Some(ballot) = self.election.leader(self.now) else { return };
        if ballot.leader == self.options.id {
            return;
        }
        let interval = self.options.retransmit_interval;
        let waiting =
            |(at, asked): (Moment, Ballot)| asked == ballot && self.now.since(at) < interval;
        if self.reads.asked.is_some_and(waiting) {
            return;
        }
        self.reads.asked = Some((self.now, ballot));
        self.send(ballot.leader, Message::Barrier { boot: self.options.boot, read });
    }

    fn enqueue_read(&mut self, asker: Asker) {
        let same = |queued: &Asker| match (queued, &asker) {
            (Asker::Local(_), Asker::Local(_)) => true,
            (Asker::Peer { peer: queued, .. }, Asker::Peer { peer, .. }) => queued == peer,
            (Asker::Local(_), Asker::Peer { .. }) | (Asker::Peer { .. }, Asker::Local(_)) => false,
        };
        let newer = |queued: &Asker| same(queued) && asker.is_older(queued);
        if self.reads.queued.iter().any(newer) {
            return;
        }
        if bugs::is_on(Bug::ReadJoinsRound)
            && let Some(round) = &mut self.reads.round
        {
            return round.askers.push(asker);
        }
        self.reads.queued.retain(|queued| !same(queued));
        self.reads.queued.push(asker);
    }

    fn maybe_end_round(&mut self) {
        let ends = |round: &mut Round| {
            self.quorum.confirms(round.confirmed) || bugs::is_on(Bug::ReadUnconfirmed)
        };
        let Some(round) = self.reads.round.take_if(ends) else { return };
        if round.askers.len() > 1 {
            reached!(RoundShared);
        }
        self.answer_askers(round.askers, round.barrier);
    }

    fn answer_askers(&mut self, askers: Vec<Asker>, slot: Slot) {
        for asker in askers {
            match asker {
                Asker::Local(read) => self.output.reads.push(ReadBarrier { read, slot }),
                Asker::Peer { peer, boot, read } => {
                    self.send(peer, Message::BarrierAt { boot, read, slot });
                }
            }
        }
    }

    /// Whether an answer comes from the directory that the membership names.
    pub(super) fn is_incarnation(&self, id: ReplicaId, incarnation: Incarnation) -> bool {
        let member = self.membership.member(id);
        member.is_some_and(|member| member.incarnation == incarnation)
    }
}
