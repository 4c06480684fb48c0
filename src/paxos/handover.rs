//! Handing over: a leader that is asked to lets a peer lead in its place.
//!
//! ```text
//!   leader                    successor               voters
//!     | proposes nothing new      |                      |
//!     | all in flight is chosen   |                      |
//!     |  TakeOver(ballot)         |                      |
//!     |-------------------------->| campaigns            |
//!     |          Prepare          |                      |
//!     |<--------------------------|--------------------->|
//!     | follows                   |                      |
//! ```
//!
//! So a planned change of the leader costs one phase 1, and no timeout: the voters promise though
//! they still hear a leader, and what that one takes on meanwhile waits for the next.
//!
//! No safety depends on anything here. `TakeOver` asks for a campaign, and a campaign is allowed at
//! any time; only a lease would be in its way, so that is given up before. (Compare *leadership
//! transfer* in Ongaro's thesis on Raft, section 3.10. There the successor must have the whole log;
//! here phase 1 brings it what it lacks.)
//!
//! Invariants:
//! * A leader that hands over proposes nothing but what phase 1 made it adopt.
//! * A hand-over ends within an election timeout: this replica leads no longer, or leads on.
//! * A copy of `TakeOver` that comes later than a heartbeat which was due after it moves nobody,
//!   nor does one of another ballot than that of the leader who is followed.

use crate::types::bugs::{self, Bug};
use crate::types::edition::Edition;
use crate::types::ids::{Ballot, ReplicaId};
use crate::types::marks::reached;
use crate::types::message::{Message, TakeOver};
use crate::types::time::Moment;

use super::leader::Leader;
use super::peer::Peer;
use super::{Paxos, Role};

/// A hand-over under way.
#[derive(Clone, Copy, Debug, Hash)]
pub(super) struct HandOver {
    to: ReplicaId,
    /// Whether the own promise would come late.
    stalled: bool,
    since: Moment,
    /// When the successor was last asked.
    asked_at: Option<Moment>,
}

impl Paxos {
    /// The peer to which this leader hands over; `None` where it does not.
    #[must_use]
    pub fn handing_over(&self) -> Option<ReplicaId> {
        match &self.role {
            Role::Leader(leader) => leader.hand_over.map(|hand_over| hand_over.to),
            Role::Follower | Role::Candidate(_) => None,
        }
    }

    /// Whether this leader may hand over to `peer`: they hear each other, and as far as it said, or
    /// voted, it lags by fewer slots than a leader may be ahead.
    #[must_use]
    pub fn can_succeed(&self, peer: ReplicaId) -> bool {
        let alpha = self.membership.alpha();
        let known = self.election.peer(peer).map(Peer::known_below);
        matches!(self.role, Role::Leader(_))
            && self.quorum.is_voter(peer)
            && self.reaches(peer)
            && known.is_some_and(|known| self.slot_chosen < known.plus(alpha))
    }

    /// The peer that is best prepared to lead: of those who can, and are not to be avoided, the one
    /// that is known to have come farthest. `None` where this replica does not lead, or nobody can.
    #[must_use]
    pub fn successor(&self, is_avoided: impl Fn(ReplicaId) -> bool) -> Option<ReplicaId> {
        let fit = |id: &ReplicaId| !is_avoided(*id) && self.can_succeed(*id);
        let known = |id: &ReplicaId| self.election.peer(*id).map(Peer::known_below);
        // Of equals the first.
        self.peers().into_iter().filter(fit).rev().max_by_key(known)
    }

    /// The peer that is to lead rather than this leader: of those who can, the one with the highest
    /// priority above its own. `None` where this replica does not lead, or nobody is preferred.
    #[must_use]
    pub fn preferred(&self) -> Option<ReplicaId> {
        let own = self.options.priority;
        let peers = self.quorum.ids().iter().filter(|id| **id != self.options.id);
        let above = peers.map(|id| (*id, self.priority(*id))).filter(|(_, priority)| {
            let lower = bugs::is_on(Bug::PreferLower);
            let equal = bugs::is_on(Bug::PreferEqual) && own == *priority;
            if lower { *priority < own } else { own < *priority || equal }
        });
        let fit = above.filter(|(id, _)| self.can_succeed(*id));
        // Of equals the first.
        fit.rev().max_by_key(|(_, priority)| *priority).map(|(id, _)| id)
    }

    /// The priority that `peer` told; 0 while it was not heard.
    #[must_use]
    pub fn priority(&self, peer: ReplicaId) -> u32 {
        self.election.peer(peer).map_or(0, |peer| peer.priority)
    }

    /// The highest edition that `peer` tells it knows; 0 where it is not heard.
    #[must_use]
    pub fn knows(&self, peer: ReplicaId) -> Edition {
        let peer = self.election.peer(peer);
        let heard = peer.filter(|peer| peer.is_heard(self.now, self.election.election_timeout));
        heard.map_or(Edition::default(), |peer| peer.knows)
    }

    /// The owner asks this leader to hand over to `to`.
    pub(super) fn on_hand_over(&mut self, to: ReplicaId, stalled: bool) {
        if !self.can_succeed(to) || self.handing_over().is_some() {
            return;
        }
        if self.change().is_some_and(|change| !change.holds_back()) {
            // Nobody has heard of it as an entry yet.
            self.end_change();
        }
        let since = self.now;
        if let Role::Leader(leader) = &mut self.role {
            leader.hand_over = Some(HandOver { to, stalled, since, asked_at: None });
        }
        self.ask_successor();
    }

    /// Asks the successor to campaign, once nothing is in flight, or that has taken too long, and
    /// it knows what is chosen; and again while nothing comes of it. Gives up after an election
    /// timeout, or when the successor is not reached any more.
    pub(super) fn ask_successor(&mut self) {
        let Role::Leader(leader) = &self.role else { return };
        let busy = leader.is_busy();
        let Some(HandOver { to, stalled, since, asked_at }) = leader.hand_over else { return };
        let age = self.now.since(since);
        let can = self.quorum.is_voter(to) && self.reaches(to);
        let peer = self.election.peer(to).filter(|_| can);
        let Some(peer) = peer.filter(|_| age < self.options.election_timeout) else {
            return self.give_up_hand_over();
        };
        // What is in flight ends best at the ballot at which it was proposed. If it does not end,
        // the successor finds it.
        let waits = busy && age < self.options.election_timeout / 4;
        let lags = peer.known_below() < self.slot_chosen;
        let interval = self.options.retransmit_interval;
        if waits || lags || asked_at.is_some_and(|at| self.now.since(at) < interval) {
            return;
        }
        self.set_hand_over(Some(HandOver { to, stalled, since, asked_at: Some(self.now) }));
        self.send_take_over(to, stalled);
    }

    /// Asks `to` to campaign.
    pub(super) fn send_take_over(&mut self, to: ReplicaId, stalled: bool) {
        let Role::Leader(Leader { ballot, .. }) = self.role else { return };
        // Also where that was told before: it may be lost.
        self.give_up_lease();
        let Some(sent) = self.election.peer(to).map(|peer| peer.sent) else { return };
        let (slot_chosen, chain) = (self.slot_chosen, self.chain);
        let take_over = TakeOver { ballot, sent, stalled, slot_chosen, chain };
        self.send(to, Message::TakeOver(take_over));
    }

    /// This replica leads on; above what its successor promised, if that one tried. A replica whose
    /// disk hangs cannot take a higher ballot: it follows then.
    fn give_up_hand_over(&mut self) {
        let Role::Leader(leader) = &self.role else { return };
        let Some(HandOver { stalled, .. }) = leader.hand_over else { return };
        if bugs::is_on(Bug::HandOverForEver) {
            return;
        }
        reached!(HandOverGivenUp);
        let (own, seen) = (leader.ballot, self.election.ballot_seen());
        self.set_hand_over(None);
        if own < seen && stalled {
            self.become_follower();
        } else if own < seen {
            self.on_preempted(seen);
        }
    }

    /// The successor cannot take over: it said so, and promised nothing higher.
    pub(super) fn on_refused_to_take_over(&mut self, from: ReplicaId, promised: Ballot) {
        let asked = self.handing_over() == Some(from);
        if asked && self.own_ballot().is_some_and(|own| promised <= own) {
            self.give_up_hand_over();
        }
    }

    fn set_hand_over(&mut self, hand_over: Option<HandOver>) {
        if let Role::Leader(leader) = &mut self.role {
            leader.hand_over = hand_over;
        }
    }

    /// A leader asks this replica to lead in its place. One that could not be elected says so.
    pub(super) fn on_take_over(&mut self, from: ReplicaId, take_over: &TakeOver) {
        let TakeOver { ballot, sent, stalled, slot_chosen, chain } = *take_over;
        let follows = self.election.leader(self.now) == Some(ballot) && ballot.leader == from;
        let late = self.election.peer(from).is_none_or(|state| sent < state.heard);
        let free = ballot >= self.promised && matches!(self.role, Role::Follower);
        // The leader's own lease is given up by a message that may come later than this one: it
        // asks again. One that an earlier opening may have granted is not the leader's to give up;
        // then this replica refuses.
        let bound = self.is_bound_against(from);
        let still_leased = !bound && self.is_bound_against(self.options.id);
        if !follows || late || !free || still_leased {
            reached!(TakeOverIgnored);
            return;
        }
        // It may tell of the membership in which this replica votes, and the leader does not.
        self.learn_from_leader(from, ballot, slot_chosen, chain);
        let can_lead = self.takes_part() && self.is_voter() && !bound;
        if !can_lead || !self.reaches_quorums(|id| !stalled || id != from) {
            reached!(TakeOverRefused);
            self.send(from, Message::Reject { ballot, promised: self.promised });
            return;
        }
        reached!(TookOver);
        self.campaign();
    }
}
