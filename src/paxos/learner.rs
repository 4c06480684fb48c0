//! The learner: which slots are chosen, and how a replica that lags catches up.
//!
//! A follower learns in three ways, each of which proves that its own copy is the chosen entry:
//! its vote has the ballot of the leader who says that the slot is chosen; or the ledger chain over
//! its votes equals the leader's; or a peer sends it the chosen entry itself, from its journal.
//!
//! Invariants:
//! * `slot_chosen` never decreases, and moves one slot at a time.
//! * `chain` is the chain below `slot_chosen`.
//! * An entry that a peer sent is journaled before anything that depends on it, unless this
//!   replica's own vote in the slot is the same entry, and no newer one may be lost.

use crate::types::bugs::{self, Bug};
use crate::types::entry::Entry;
use crate::types::ids::{Ballot, Chain, ReplicaId, Slot};
use crate::types::marks::reached;
use crate::types::message::{Chosen, Message};
use crate::types::record::Record;
use crate::types::time::Moment;

use super::step::{Divergence, Serve};
use super::{Paxos, Role};

/// A question for chosen entries that is not answered yet.
#[derive(Clone, Copy, Debug, Hash)]
pub(super) struct Fetching {
    peer: ReplicaId,
    /// How far the peer said that it knows the log.
    until: Slot,
    asked_at: Moment,
}

impl Paxos {
    /// The next slot is chosen, and this is what it holds. Its vote has left the log.
    pub(super) fn learn(&mut self, entry: Entry) {
        let slot = self.slot_chosen;
        self.chain = self.chain.extend(entry.hash());
        self.slot_chosen = slot.next();
        self.end_doubt(slot);
        self.learned_at = self.now;
        self.pop_window(&entry);
        self.learn_membership(&entry);
        self.output.chosen.push((slot, entry));
    }

    /// The leader of `ballot` says that every slot below `chosen` is chosen.
    pub(super) fn learn_from_leader(
        &mut self,
        from: ReplicaId,
        ballot: Ballot,
        chosen: Slot,
        chain: Chain,
    ) {
        if bugs::is_on(Bug::ProgressGoesBack) {
            self.slot_chosen = self.slot_chosen.min(chosen);
        }
        let known = self.slot_chosen;
        // A leader proposes one entry in a slot at its ballot, and says that the slot is chosen
        // only while it leads at that ballot: then that entry is the chosen one. That holds for
        // a vote that was left of several, too: it is at the leader's ballot, or it is not.
        while self.slot_chosen < chosen
            && self
                .log
                .vote(self.slot_chosen)
                .is_some_and(|(voted, _)| *voted == ballot || bugs::is_on(Bug::CommitWithoutMatch))
        {
            self.learn_own_vote();
        }
        if self.slot_chosen < chosen && self.votes_chain(chosen) == Some(chain) {
            reached!(LearnedByChain);
            while self.slot_chosen < chosen {
                self.learn_own_vote();
            }
        }
        self.check_chain(chosen, chain);
        if known < self.slot_chosen {
            self.go_on();
        }
        if self.slot_chosen < chosen {
            self.fetch_from(from, chosen);
        }
    }

    /// What waited for slots to be learned, whoever told them: votes already counted behind them,
    /// what phase 1 found beyond alpha, a hand-over, and reads; or a candidate that lacked what its
    /// promisers know. Nothing else comes back to these: what is acknowledged is not sent again.
    pub(super) fn go_on(&mut self) {
        self.learn_chosen_window();
        self.go_on_changing();
        self.propose_adopted();
        self.ask_successor();
        self.maybe_lead();
    }

    /// Someone who need not lead knows the log further. Who hears a leader has it from there; who
    /// does not, or does not get on, asks whom it can.
    pub(super) fn learn_from_peer(&mut self, from: ReplicaId, chosen: Slot) {
        let stalled = self.now.since(self.learned_at) >= self.options.retransmit_interval;
        let leads = matches!(self.role, Role::Leader(_));
        if self.slot_chosen < chosen && (stalled || leads) {
            self.fetch_from(from, chosen);
        }
    }

    /// Asks `peer` for what it knows and this replica does not. One question at a time.
    pub(super) fn fetch_from(&mut self, peer: ReplicaId, until: Slot) {
        if let Some(fetching) = &mut self.fetching {
            let waiting = self.now.since(fetching.asked_at) < self.options.retransmit_interval;
            if waiting && self.slot_chosen < fetching.until {
                return;
            }
        }
        self.fetching = Some(Fetching { peer, until, asked_at: self.now });
        self.send(peer, Message::Fetch { from: self.slot_chosen });
    }

    /// A candidate cannot go on without what it asked for, and may hear nobody else meanwhile.
    ///
    /// Whoever did not answer may be gone, or may have forgotten what it knew: the next one is
    /// asked, of those who were heard lately and know more. Where there is none, nobody else has to
    /// wait for that answer who is heard to know more: it may be a stranger.
    pub(super) fn retransmit_fetch(&mut self) {
        let Some(fetching) = self.fetching else { return };
        if fetching.until <= self.slot_chosen {
            self.fetching = None;
        } else if self.now.since(fetching.asked_at) >= self.options.retransmit_interval {
            let next = self.election.informant_after(fetching.peer, self.slot_chosen, self.now);
            let waits = matches!(self.role, Role::Candidate(_));
            let again = waits.then_some((fetching.peer, fetching.until));
            let Some((peer, until)) = next.or(again) else {
                self.fetching = None;
                return;
            };
            if peer != fetching.peer {
                reached!(FetchedElsewhere);
            }
            self.fetch_from(peer, until);
        }
    }

    /// A peer lacks what this replica may have.
    pub(super) fn on_fetch(&mut self, to: ReplicaId, from: Slot) {
        if from < self.slot_chosen {
            self.output.serve.push(Serve { to, from });
        }
    }

    /// A peer sends what is chosen.
    pub(super) fn on_chosen(&mut self, from: ReplicaId, chosen: Chosen) {
        let known = self.slot_chosen;
        let mut slot = chosen.first_slot;
        for entry in chosen.entries {
            // The sender's word counts only for what it knows.
            if slot == self.slot_chosen && slot < chosen.slot_chosen {
                let voted = self.log.pop_first();
                self.resign_if_overruled(voted.as_ref(), &entry);
                let doubtful = self.doubts.contains(slot);
                let forgets = bugs::is_on(Bug::ChosenNotJournaled);
                if !forgets && (doubtful || voted.is_none_or(|(_, voted)| voted != entry)) {
                    reached!(LearnedFromPeer);
                    self.output.records.push(Record::Chosen { slot, entry: entry.clone() });
                }
                self.learn(entry);
            }
            slot = slot.next();
        }
        // Who sent an empty one does not know it; no chain of entries is empty.
        if chosen.chain != Chain::EMPTY {
            self.check_chain(chosen.slot_chosen, chosen.chain);
        }
        // A copy that teaches nothing neither answers the question nor asks the next one.
        if known < self.slot_chosen {
            self.fetching = None;
            if self.slot_chosen < chosen.slot_chosen {
                self.fetch_from(from, chosen.slot_chosen);
            }
            self.go_on();
        }
    }

    /// What was chosen in a slot differs from what this replica proposed there: somebody leads at a
    /// higher ballot. Its own followers hold votes at its ballot that were not chosen, so it must
    /// never tell them, at that ballot, that the slot is chosen.
    fn resign_if_overruled(&mut self, voted: Option<&(Ballot, Entry)>, chosen: &Entry) {
        let own = self.own_ballot();
        if voted.is_some_and(|(ballot, entry)| own == Some(*ballot) && entry != chosen)
            && !bugs::is_on(Bug::LeadOverruled)
        {
            reached!(LeaderOverruled);
            self.become_follower();
        }
    }

    fn learn_own_vote(&mut self) {
        let (_, entry) = self.log.pop_first().expect("the caller found a vote in this slot");
        let slot = self.slot_chosen;
        if self.doubts.contains(slot) {
            // The journal does not trust a vote that precedes a doubt: it gets one behind it.
            self.output.records.push(Record::Chosen { slot, entry: entry.clone() });
        }
        self.learn(entry);
    }

    /// The chain below `end`, should every vote in between be what was chosen; `None` where one is
    /// missing.
    fn votes_chain(&self, end: Slot) -> Option<Chain> {
        if self.log.end() < end {
            return None;
        }
        let mut slot = self.slot_chosen;
        let mut chain = self.chain;
        while slot < end {
            chain = chain.extend(self.log.vote(slot)?.1.hash());
            slot = slot.next();
        }
        Some(chain)
    }

    /// Equal watermarks with unequal chains: one of the two logs is wrong.
    fn check_chain(&mut self, slot: Slot, theirs: Chain) {
        if slot == self.slot_chosen && theirs != self.chain {
            self.output.divergence = Some(Divergence { slot, ours: self.chain, theirs });
        }
    }
}
