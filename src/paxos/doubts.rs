//! What a damaged journal leaves in doubt, and how a doubt ends.
//!
//! A replica whose journal lost votes cannot tell what it voted for in some slots. It *abstains*
//! there: it says so in phase 1, besides the newest vote that is left, and the candidate does not
//! take its silence for an answer. (Alagappan et al., *Protocol-Aware Recovery for Consensus-Based
//! Storage*, FAST'18.) One that lost its promise says nothing in either phase, for ever: it could
//! answer a candidate truly and yet vote below the promise that it forgot. So does one whose
//! directory was set back or copied, once a peer that remembers says so.
//!
//! A doubt about a slot ends when this replica
//! * votes there. Its promise was kept, so no vote that it lost is newer;
//! * learns what was chosen there;
//! * is told by a leader that nothing it may have voted for before can be chosen:
//!
//! ```text
//!   voter                          leader
//!     |  Unsure(boot, first doubt)   |
//!     |----------------------------->|   S: the first slot in which it proposed nothing yet
//!     |  Settled(ballot, boot, S)    |      at its ballot, and phase 1 found nothing to propose
//!     |<-----------------------------|
//!   no doubt is left from S on; those below end by votes, which the leader sends again, or by
//!   what is chosen
//! ```
//!
//! Invariants:
//! * About no slot that it doubts does this replica answer "none" in phase 1.
//! * Whatever ends a doubt is in the journal behind the record of it, before any answer leaves that
//!   shows the doubt gone: a vote, a chosen entry, or the doubts that are left.
//! * A doubt ends below the promise only by what is chosen, and then no `Accepted` is sent.
//!
//! Not here: what the candidate makes of it (`phase1`).

use crate::types::bugs::{self, Bug};
use crate::types::entry::Entry;
use crate::types::ids::{Ballot, Boot, ReplicaId, Slot, SlotRange};
use crate::types::marks::reached;
use crate::types::message::{Abstention, Doubt, Message};
use crate::types::record::{Doubts, Record};

use super::change::Change;
use super::{Paxos, Role};

impl Paxos {
    /// What this replica cannot tell of itself.
    #[must_use]
    pub fn doubts(&self) -> &Doubts {
        &self.doubts
    }

    /// Whether this replica knows what it promised.
    pub(super) fn keeps_promises(&self) -> bool {
        !self.doubts.promise_lost
    }

    /// Whether this replica promises, votes and campaigns: its journal kept its promise, and takes
    /// more records.
    pub(super) fn takes_part(&self) -> bool {
        self.keeps_promises() && self.writable
    }

    /// The journal takes no more records, or does again.
    pub(super) fn on_writable(&mut self, writable: bool) {
        self.writable = writable;
        if !writable {
            self.become_follower();
        }
    }

    /// A peer remembers a later state of this directory. What was promised since then is lost, so
    /// it is as with a journal that lost its promise, and for good: written down, it holds for all
    /// later openings, also once the count of these has come to where that peer saw it last.
    pub(super) fn on_fenced(&mut self) {
        if !self.keeps_promises() {
            return;
        }
        self.doubts.promise_lost = true;
        self.output.records.push(Record::Doubts(self.doubts.clone()));
        self.become_follower();
    }

    /// Nobody else votes, behind what is known. What is UNCERTAIN there was not acknowledged, for
    /// whoever is alone judges a torn end so; but it was read as that of one among others, before
    /// it could be seen who votes. What is FAULTY is lost, and stays in doubt.
    pub(super) fn on_alone(&mut self) {
        let only = self.membership.is_only(self.options.id);
        let Doubts { promise_lost, faulty, uncertain } = &self.doubts;
        if only && !promise_lost && faulty.is_empty() && !uncertain.is_empty() {
            reached!(DoubtsOfOneAlone);
            self.settle_doubts(self.slot_chosen);
            // What it answered itself in phase 1 abstained, and it is not asked again.
            self.become_follower();
        }
    }

    /// The slots from `from` on for which this replica does not speak, in order and apart. What is
    /// FAULTY is never called less.
    pub(super) fn abstentions(&self, from: Slot) -> Vec<Abstention> {
        if bugs::is_on(Bug::AnswerNone) {
            return Vec::new();
        }
        let Doubts { faulty, uncertain, .. } = &self.doubts;
        let mut uncertain = uncertain.clone();
        faulty.ranges().iter().for_each(|slots| uncertain.remove(*slots));
        let of = |doubt| move |slots: &SlotRange| Abstention { slots: *slots, doubt };
        let faulty = faulty.ranges().iter().map(of(Doubt::Faulty));
        let uncertain = uncertain.ranges().iter().map(of(Doubt::Uncertain));
        let mut abstained = faulty.chain(uncertain).collect::<Vec<_>>();
        abstained
            .iter_mut()
            .for_each(|Abstention { slots, .. }| slots.first = slots.first.max(from));
        abstained.retain(|abstention| !abstention.slots.is_empty());
        abstained.sort_by_key(|abstention| abstention.slots.first);
        abstained
    }

    /// Votes, in the log and in the journal. No lost vote in this slot can be newer.
    pub(super) fn vote(&mut self, slot: Slot, ballot: Ballot, entry: Entry) {
        self.log.set_vote(slot, ballot, entry.clone());
        self.end_doubt(slot);
        self.output.records.push(Record::Vote { slot, ballot, entry });
    }

    /// Nothing is in doubt about `slot` any more.
    pub(super) fn end_doubt(&mut self, slot: Slot) {
        if self.doubts.contains(slot) {
            reached!(DoubtEnded);
            self.doubts.settle(SlotRange::one(slot));
        }
    }

    /// Asks the leader that was just heard, where slots are in doubt: it may know that nothing
    /// which this replica forgot matters.
    pub(super) fn ask_about_doubts(&mut self, ballot: Ballot) {
        let Doubts { promise_lost, faulty, uncertain } = &self.doubts;
        let Some(from) = faulty.first().into_iter().chain(uncertain.first()).min() else { return };
        let interval = self.options.retransmit_interval;
        let waits =
            self.unsure.is_some_and(|(at, asked)| asked == ballot && self.now.since(at) < interval);
        if *promise_lost || waits || ballot < self.promised || !matches!(self.role, Role::Follower)
        {
            return;
        }
        self.unsure = Some((self.now, ballot));
        self.send(ballot.leader, Message::Unsure { boot: self.options.boot, from });
    }

    /// A voter is in doubt. A leader tells it from where on it need not be.
    pub(super) fn on_unsure(&mut self, from: ReplicaId, boot: Boot) {
        let Role::Leader(leader) = &self.role else { return };
        if leader.change.as_deref().is_some_and(Change::hides_choices) {
            // Nothing is known yet of the slots behind.
            return;
        }
        let first = match bugs::is_on(Bug::SettleProposed) {
            true => self.slot_chosen,
            false => leader.first_unproposed(),
        };
        let message = Message::Settled { ballot: leader.ballot, boot, from: first };
        self.send(from, message);
    }

    /// The leader of `ballot` says that no vote from `first` on, at its ballot or below, that was
    /// cast before this opening can ever be chosen.
    ///
    /// Below its ballot: phase 1 found for each of these slots that nothing was chosen there below
    /// its ballot, and those who said so promised to vote for nothing there any more (`phase1`).
    /// At its ballot: it had proposed nothing there when it answered; it answered a question of
    /// this opening, so whatever this replica voted for there at its ballot, it did in this
    /// opening, and remembers. That is what `boot` is for. Without it, an answer to the opening
    /// before could come late: leader answers; proposes behind `first`; this replica votes, its
    /// vote completes a quorum, it crashes, its journal is damaged; the late answer makes it forget
    /// a vote that chose. An answer to this opening, however late, names no slot wrongly: votes
    /// since then ended the doubts about their slots, and are not touched.
    pub(super) fn on_settled(&mut self, from: ReplicaId, ballot: Ballot, boot: Boot, first: Slot) {
        let asked = boot == self.options.boot && ballot.leader == from && self.takes_part();
        if !asked || ballot < self.promised || !self.doubts_from(first) {
            reached!(SettledIgnored);
            return;
        }
        reached!(DoubtsSettled);
        // As with a vote at this ballot: what is forgotten up to it must not be asked for below.
        self.raise_promise(ballot);
        self.settle_doubts(first);
    }

    /// No doubt is left from `first` on.
    pub(super) fn settle_doubts(&mut self, first: Slot) {
        if self.doubts_from(first) {
            self.doubts.settle(SlotRange { first, end: Slot(u64::MAX) });
            self.output.records.push(Record::Doubts(self.doubts.clone()));
        }
    }

    fn doubts_from(&self, first: Slot) -> bool {
        let reaches = |end: Option<Slot>| end.is_some_and(|end| first < end);
        reaches(self.doubts.faulty.end()) || reaches(self.doubts.uncertain.end())
    }
}
