//! The leader: phase 2. A window of slots in flight, votes counted, retransmission.
//!
//! ```text
//!   slot_chosen            unsent        next        slot_chosen + alpha
//!        |                    |            |                 |
//!        | 1,3 | 1 | 1,2 | 1  | -  |  -    |                 |
//!         voters that accepted, slot by slot
//! ```
//!
//! The leader's own vote is cast when it proposes and counted when it is durable, by the same
//! `Accepted` as everyone's. `Accept` leaves at once, to whoever could vote, so that all journals
//! sync in parallel.
//! Slots may become chosen in any order; they are learned in order.
//!
//! Invariants:
//! * `window` begins at `slot_chosen`, and every slot in it holds this replica's own vote at
//!   `ballot`.
//! * A leader proposes only below `slot_chosen + alpha`, with `slot_chosen` contiguous.
//! * Only votes at the leader's own ballot, from the directories that the membership names, count.

use std::collections::VecDeque;

use crate::types::bugs::{self, Bug};
use crate::types::entry::Entry;
use crate::types::ids::{Ballot, ReplicaId, Slot, SlotRange};
use crate::types::marks::reached;
use crate::types::message::{Accept, Accepted, Message};
use crate::types::time::Moment;

use super::change::Change;
use super::handover::HandOver;
use super::lease::Lease;
use super::quorum::VoterSet;
use super::{Paxos, Role};

/// Phase 2 under way.
#[derive(Clone, Debug, Hash)]
pub(super) struct Leader {
    pub(super) ballot: Ballot,
    /// Who voted, for each slot from `slot_chosen` on.
    window: VecDeque<VoterSet>,
    /// The slot that the next entry gets.
    next: Slot,
    /// What phase 1 found for the slots from `next` on; it goes before anything new.
    adopted: VecDeque<Entry>,
    /// The first slot whose entry has not been sent.
    unsent: Slot,
    /// The first slot whose own vote waits for no sync yet.
    unheld: Slot,
    /// Bytes of the entries in the window.
    bytes: usize,
    /// Reads are served once `slot_chosen` has passed every slot in which something may have been
    /// chosen at a lower ballot. Where some voters abstain, phase 1 did not end before it found, by
    /// those who spoke, that nothing was chosen from here on; so an acknowledged entry is below.
    ready_at: Slot,
    /// When entries were last sent anew, or `slot_chosen` last moved.
    progress_at: Moment,
    /// The `slot_chosen` that the peers were told last.
    announced: Slot,
    /// While it lets another replica lead.
    pub(super) hand_over: Option<HandOver>,
    /// What it was granted.
    pub(super) lease: Box<Lease>,
    /// While it changes the membership.
    pub(super) change: Option<Box<Change>>,
}

impl Leader {
    /// The first slot in which nothing was proposed at this ballot, and nothing is to be that phase
    /// 1 found.
    pub(super) fn first_unproposed(&self) -> Slot {
        self.next.plus(self.adopted.len() as u64)
    }

    /// Takes what phase 1 found for the next slots.
    pub(super) fn adopt(&mut self, safe: Vec<Entry>) {
        let found = match bugs::is_on(Bug::ReadyAtFirstEntry) {
            true => safe.len().min(1),
            false => safe.len(),
        };
        self.ready_at = self.first_unproposed().plus(found as u64);
        self.adopted.extend(safe);
    }

    /// Whether something is in flight, or adopted and not proposed yet.
    pub(super) fn is_busy(&self) -> bool {
        !self.window.is_empty() || !self.adopted.is_empty()
    }
}

impl Paxos {
    /// Phase 1 is complete: proposes what is safe from `slot_chosen` on.
    pub(super) fn become_leader(&mut self, ballot: Ballot, safe: Vec<Entry>) {
        let first = self.slot_chosen;
        self.role = Role::Leader(Leader {
            ballot,
            window: VecDeque::new(),
            next: first,
            adopted: VecDeque::new(),
            unsent: first,
            unheld: first,
            bytes: 0,
            ready_at: first,
            progress_at: self.now,
            announced: first,
            hand_over: None,
            lease: Box::default(),
            change: None,
        });
        self.election.lead(ballot, self.now);
        self.adopt(safe);
        if self.change().is_none() {
            self.election.campaign_succeeded();
        }
        self.send_heartbeats();
        self.renew_lease();
    }

    /// Proposes what phase 1 found, as far as alpha allows.
    pub(super) fn propose_adopted(&mut self) {
        let alpha = self.membership.alpha();
        while let Role::Leader(leader) = &self.role
            && (leader.window.len() as u64) < alpha
            && let Some(entry) = leader.adopted.front()
            && self.may_propose_found(entry)
        {
            let entry = entry.clone();
            self.pop_adopted();
            self.propose(entry);
        }
    }

    fn pop_adopted(&mut self) {
        if let Role::Leader(leader) = &mut self.role {
            leader.adopted.pop_front();
        }
    }

    /// Whether an entry can be proposed now: this replica leads, does not hand over, waits for no
    /// membership to be chosen, and neither alpha nor the local limits are reached.
    #[must_use]
    pub fn has_room(&self) -> bool {
        let Role::Leader(leader) = &self.role else { return false };
        let slots = self.options.inflight_slots_max.min(self.membership.alpha());
        leader.adopted.is_empty()
            && leader.hand_over.is_none()
            && !leader.change.as_deref().is_some_and(Change::holds_back)
            && (leader.window.len() as u64) < slots
            && (leader.window.is_empty() || leader.bytes < self.options.inflight_bytes_max)
    }

    /// The slot that the next proposal gets.
    ///
    /// # Panics
    ///
    /// Where this replica does not lead.
    #[must_use]
    pub fn next_slot(&self) -> Slot {
        match &self.role {
            Role::Leader(leader) => leader.next,
            Role::Follower | Role::Candidate(_) => panic!("only a leader proposes"),
        }
    }

    /// The slot behind all that this leader proposed; slot 0 where it does not lead.
    #[must_use]
    pub fn proposed_below(&self) -> Slot {
        match &self.role {
            Role::Leader(leader) => leader.next,
            Role::Follower | Role::Candidate(_) => Slot::ZERO,
        }
    }

    /// How many slots are proposed and not known to be chosen.
    #[must_use]
    pub fn inflight_slots(&self) -> usize {
        match &self.role {
            Role::Leader(leader) => leader.window.len(),
            Role::Follower | Role::Candidate(_) => 0,
        }
    }

    /// Phase 2a: gives `entry` the next slot and votes for it.
    pub(super) fn propose(&mut self, entry: Entry) {
        let Role::Leader(leader) = &mut self.role else {
            panic!("an entry is proposed only by a leader; the owner asks has_room first");
        };
        let alpha = self.membership.alpha();
        let (slot, ballot) = (leader.next, leader.ballot);
        let limit = self.slot_chosen.plus(alpha);
        assert!(slot < limit, "proposal in slot {slot}, beyond alpha at {limit}");
        leader.next = slot.next();
        leader.bytes += entry.bytes().len();
        leader.window.push_back(VoterSet::default());
        self.vote(slot, ballot, entry);
    }

    /// Sends what was proposed since the last output, and holds this replica's own votes.
    pub(super) fn send_proposals(&mut self) {
        let Role::Leader(leader) = &mut self.role else { return };
        let (first, unheld, end) = (leader.unsent, leader.unheld, leader.next);
        let ballot = leader.ballot;
        leader.unsent = end;
        leader.unheld = end;
        if unheld < end {
            let own = self.options.id;
            self.hold_accepted(own, ballot, SlotRange { first: unheld, end });
        }
        if first < end {
            let peers = self.peers_in_reach(first);
            self.send_accepts(SlotRange { first, end }, &peers);
        }
    }

    /// The peers that would vote in `slot`. Who is farther behind would take in, for nothing, all
    /// that is proposed while it catches up; heartbeats tell it how far the log is chosen.
    fn peers_in_reach(&self, slot: Slot) -> Vec<ReplicaId> {
        let mut peers = self.peers();
        peers.retain(|peer| {
            let heard = self.election.peer(*peer).filter(|peer| peer.heard_at.is_some());
            let is_in_reach =
                heard.is_none_or(|peer| slot < self.vote_limit_at(peer.known_below()));
            if !is_in_reach {
                reached!(AcceptWithheld);
            }
            is_in_reach
        });
        peers
    }

    /// Tells the peers how far the log is chosen when nothing in flight will tell them soon.
    pub(super) fn announce_chosen(&mut self) {
        let Role::Leader(leader) = &self.role else { return };
        if leader.announced < self.slot_chosen && leader.window.is_empty() {
            self.send_heartbeats();
        }
    }

    /// What a heartbeat or an `Accept` just told.
    pub(super) fn note_announced(&mut self) {
        if let Role::Leader(leader) = &mut self.role {
            leader.announced = self.slot_chosen;
        }
    }

    fn send_accepts(&mut self, slots: SlotRange, peers: &[ReplicaId]) {
        let Role::Leader(leader) = &self.role else { return };
        let ballot = leader.ballot;
        let mut first_slot = slots.first;
        while first_slot < slots.end && !peers.is_empty() {
            let entries = self.entries_to_send(SlotRange { first: first_slot, end: slots.end });
            let count = entries.len() as u64;
            let accept = Accept {
                ballot,
                first_slot,
                entries,
                slot_chosen: self.slot_chosen,
                chain: self.chain,
            };
            let (last, others) = peers.split_last().expect("peers is not empty");
            for peer in others {
                self.send(*peer, Message::Accept(accept.clone()));
            }
            self.send(*last, Message::Accept(accept));
            first_slot = first_slot.plus(count);
            self.note_announced();
        }
    }

    /// The entries of `slots` that fit one message; at least one.
    fn entries_to_send(&self, slots: SlotRange) -> Vec<Entry> {
        let mut entries = Vec::with_capacity(slots.first.count_to(slots.end) as usize);
        let mut bytes = 0;
        for (_, (_, entry)) in self.log.votes_from(slots.first) {
            bytes += entry.bytes().len();
            let full = bytes > self.options.message_bytes_max && !entries.is_empty();
            if full || entries.len() as u64 == slots.first.count_to(slots.end) {
                break;
            }
            entries.push(entry.clone());
        }
        assert!(!entries.is_empty(), "slots {slots} of the window hold this replica's votes");
        entries
    }

    /// Counts votes.
    pub(super) fn on_accepted(&mut self, from: ReplicaId, accepted: &Accepted) {
        let Role::Leader(leader) = &mut self.role else { return };
        match from == self.options.id {
            true => self.slot_durable = self.slot_durable.max(accepted.slot_durable),
            false => self.election.note_durable(from, accepted.slot_durable),
        }
        if accepted.ballot != leader.ballot && !bugs::is_on(Bug::VoteOfOtherBallot) {
            return;
        }
        let first = accepted.slots.first.max(self.slot_chosen);
        let end = accepted.slots.end.min(leader.next);
        self.election.note_voted(from, end);
        let range =
            self.slot_chosen.count_to(first) as usize..self.slot_chosen.count_to(end) as usize;
        if range.start >= range.end {
            // It may be the successor, which is known to have come farther now.
            return self.ask_successor();
        }
        for votes in leader.window.range_mut(range) {
            self.quorum.insert(votes, from);
        }
        let known = self.slot_chosen;
        self.learn_chosen_window();
        if accepted.slots.end < self.slot_chosen {
            reached!(WindowJumps);
        }
        if known < self.slot_chosen {
            self.go_on();
        }
    }

    /// Learns the slots at the front of the window that a quorum voted for.
    pub(super) fn learn_chosen_window(&mut self) {
        while let Role::Leader(leader) = &self.role
            && let Some(votes) = leader.window.front()
            && self.quorum.is_phase2(*votes)
        {
            let (ballot, entry) =
                self.log.pop_first().expect("a slot of the window holds this replica's vote");
            assert!(ballot == leader.ballot, "vote at {ballot} in the window of {}", leader.ballot);
            self.learn(entry);
        }
    }

    /// `slot_chosen` moved past the front of the window, by votes or because a peer told.
    pub(super) fn pop_window(&mut self, entry: &Entry) {
        let now = self.now;
        let slot_chosen = self.slot_chosen;
        let Role::Leader(leader) = &mut self.role else { return };
        leader.progress_at = now;
        if leader.window.pop_front().is_some() {
            leader.bytes = leader.bytes.saturating_sub(entry.bytes().len());
        } else {
            leader.adopted.pop_front();
        }
        leader.next = leader.next.max(slot_chosen);
        leader.unsent = leader.unsent.max(slot_chosen);
        leader.unheld = leader.unheld.max(slot_chosen);
    }

    /// Sends again what is not acknowledged, to those who did not acknowledge it.
    pub(super) fn retransmit_accepts(&mut self) {
        let Role::Leader(leader) = &mut self.role else { return };
        let stuck = self.now.since(leader.progress_at) >= self.options.retransmit_interval;
        if !stuck || leader.window.is_empty() {
            return;
        }
        leader.progress_at = self.now;
        let (window_first, sent) = (self.slot_chosen, leader.unsent);
        let voted = leader.window.iter().copied().collect::<Vec<_>>();
        for peer in self.other_voters() {
            let missing = |votes: &VoterSet| !self.quorum.contains(*votes, peer);
            let Some(skip) = voted.iter().position(missing) else { continue };
            let count = voted[skip..].iter().take_while(|votes| missing(votes)).count();
            let first = window_first.plus(skip as u64);
            let end = first.plus(count as u64).min(sent);
            if first < end {
                reached!(AcceptRepeated);
                // One message at a time: a peer that lost much is not flooded with it.
                let count = self.entries_to_send(SlotRange { first, end }).len() as u64;
                self.send_accepts(SlotRange { first, end: first.plus(count) }, &[peer]);
            }
        }
        // This replica's own votes need no repetition: they are never lost between here and disk.
    }

    /// A peer promised a higher ballot. A leader that a quorum can still hear takes a ballot above
    /// it at once, so that a returning replica disturbs only for one phase 1.
    pub(super) fn on_preempted(&mut self, promised: Ballot) {
        self.election.note_ballot(promised);
        if self.own_ballot().is_none_or(|own| promised <= own) {
            return;
        }
        // A successor says what it promised before that is durable. Its `Prepare` will come; if it
        // does not, the hand-over is given up.
        if self.handing_over() == Some(promised.leader) {
            return;
        }
        let leads = matches!(self.role, Role::Leader(_));
        let free = !self.is_bound_against(self.options.id);
        if leads && free && self.election.may_campaign_again(self.now) && self.can_reach_quorums() {
            reached!(LeaderOutbids);
            self.campaign();
        } else {
            reached!(LeaderPreempted);
            self.become_follower();
        }
    }

    /// Whether this replica leads, and has passed all that its promisers had voted for.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        let Role::Leader(leader) = &self.role else { return false };
        let hidden = leader.change.as_deref().is_some_and(Change::hides_choices);
        leader.ready_at <= self.slot_chosen && !hidden
    }
}
