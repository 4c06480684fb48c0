//! Who campaigns when, and steps down when.
//!
//! Everyone sends heartbeats to everyone, and echoes what it had from the other end, so that each
//! replica knows which of its links carry both ways. A replica campaigns only when it hears no
//! leader and reaches, both ways, a phase-1 and a phase-2 quorum of replicas that hear none either
//! (compare Ng et al., *Omni-Paxos*, section 5). So a replica behind a broken link does not unseat
//! a leader whom the others hear, the hub of a star leads, and a chain has a stable leader.
//!
//! No safety depends on anything here: with a wrong guess, two replicas campaign, and ballots
//! decide. What is heard of the others: `heartbeats`.
//!
//! Invariants:
//! * A leader that has not reached a phase-2 quorum, both ways, for an election timeout steps down.
//! * A campaign's ballot is above every ballot that this replica has seen.
//! * A candidate that has not reached enough voters, both ways, for an election timeout gives up.

mod heartbeats;

use std::collections::BTreeMap;
use std::time::Duration;

use crate::types::ids::{Ballot, ReplicaId, Slot};
use crate::types::marks::reached;
use crate::types::time::Moment;

use super::change::Change;
use super::peer::Peer;
use super::quorum::VoterSet;
use super::random::SplitMix;
use super::step::Options;
use super::{Paxos, Role};

/// How often the wait between failed campaigns doubles.
const DOUBLINGS_MAX: u32 = 4;

/// What this replica believes of the others.
#[derive(Clone, Debug)]
pub(super) struct Election {
    peers: BTreeMap<ReplicaId, Peer>,
    /// The highest ballot seen anywhere.
    ballot_seen: Ballot,
    /// The leader heard last, and when.
    leader: Option<(Ballot, Moment)>,
    /// When to campaign, should no leader be heard until then.
    campaign_at: Moment,
    heartbeat_at: Moment,
    /// When this replica last began to campaign.
    campaigned_at: Moment,
    /// When this replica last took a higher ballot while leading.
    campaigned_again_at: Option<Moment>,
    leading_since: Moment,
    /// Campaigns since a leader was heard.
    failed_campaigns: u32,
    heartbeat_interval: Duration,
    pub(super) election_timeout: Duration,
    random: SplitMix,
}

impl Election {
    pub(super) fn new(options: &Options, now: Moment) -> Self {
        let others = options.membership.members().filter(|member| member.id != options.id);
        let peers = others.map(|member| (member.id, Peer::default())).collect::<BTreeMap<_, _>>();
        let mut random = SplitMix::new(options.seed);
        // Alone, there is nobody to hear. Otherwise a short while lets heartbeats come first, and
        // no leader can have been lost yet.
        let wait = match peers.is_empty() {
            true => Duration::ZERO,
            false => options.heartbeat_interval + random.up_to(options.election_timeout / 2),
        };
        Self {
            peers,
            ballot_seen: Ballot::ZERO,
            leader: None,
            campaign_at: now + wait,
            heartbeat_at: now,
            campaigned_at: now,
            campaigned_again_at: None,
            leading_since: now,
            failed_campaigns: 0,
            heartbeat_interval: options.heartbeat_interval,
            election_timeout: options.election_timeout,
            random,
        }
    }

    pub(super) fn note_ballot(&mut self, ballot: Ballot) {
        self.ballot_seen = self.ballot_seen.max(ballot);
    }

    pub(super) fn ballot_seen(&self) -> Ballot {
        self.ballot_seen
    }

    /// The ballot of the leader that was heard lately.
    pub(super) fn leader(&self, now: Moment) -> Option<Ballot> {
        let (ballot, heard_at) = self.leader?;
        (now.since(heard_at) < self.election_timeout / 2).then_some(ballot)
    }

    /// The highest ballot of which a leader was ever heard.
    pub(super) fn leader_ballot(&self) -> Ballot {
        self.leader.map_or(Ballot::ZERO, |(ballot, _)| ballot)
    }

    pub(super) fn leader_lost(&mut self) {
        self.leader = None;
    }

    /// This replica leads.
    pub(super) fn lead(&mut self, ballot: Ballot, now: Moment) {
        self.leader = Some((ballot, now));
        self.leading_since = now;
        self.peers.values_mut().for_each(|peer| peer.voted_below = Slot::ZERO);
    }

    /// What this replica campaigned for it has: it can go on from what phase 1 found.
    pub(super) fn campaign_succeeded(&mut self) {
        self.failed_campaigns = 0;
    }

    /// How long one who leads waits for answers without which it cannot go on. As between
    /// campaigns, that is longer and longer.
    pub(super) fn patience(&self) -> Duration {
        self.election_timeout * (1 << self.failed_campaigns.min(DOUBLINGS_MAX))
    }

    /// The next campaign comes after a random part of the timeout, so that two replicas seldom
    /// campaign at once.
    ///
    /// It comes later and later while campaigns fail: where a sync takes longer than the timeout,
    /// a promise would otherwise always come too late for its ballot.
    pub(super) fn rearm(&mut self, now: Moment) {
        let wait = self.random_wait();
        self.campaign_at = now + wait * (1 << self.failed_campaigns.min(DOUBLINGS_MAX));
    }

    /// Somebody else campaigns, and may win: a campaign here would only outbid that one, and be
    /// outbid again. It has the time of a timeout.
    pub(super) fn put_off(&mut self, now: Moment) {
        let wait = self.random_wait();
        self.campaign_at = self.campaign_at.max(now + wait);
    }

    /// A random part of the timeout, at least half of it.
    fn random_wait(&mut self) -> Duration {
        let half = self.election_timeout / 2;
        half + self.random.up_to(half)
    }

    /// This replica begins to campaign.
    pub(super) fn begin_campaign(&mut self, now: Moment) {
        self.leader = None;
        self.campaigned_at = now;
        self.rearm(now);
        self.failed_campaigns += 1;
    }

    /// This replica ends a campaign that nobody can hear. It failed for want of a network, and not
    /// because others campaign too: once there is one, the next need not come late.
    fn give_up(&mut self, now: Moment) {
        self.failed_campaigns = 0;
        self.rearm(now);
    }

    /// Whether a leader may answer a higher ballot with a higher one: once in a timeout, lest two
    /// that hear each other outbid each other for ever.
    pub(super) fn may_campaign_again(&mut self, now: Moment) -> bool {
        let long_ago = |at| now.since(at) >= self.election_timeout;
        let may = self.campaigned_again_at.is_none_or(long_ago);
        if may {
            self.campaigned_again_at = Some(now);
        }
        may
    }

    /// When something is due: who leads does not campaign, and who is alone has nobody to tell.
    pub(super) fn wake_at(&self, leads: bool) -> Moment {
        let campaign_at = if leads { Moment(u64::MAX) } else { self.campaign_at };
        let heartbeat_at = if self.is_alone() { Moment(u64::MAX) } else { self.heartbeat_at };
        campaign_at.min(heartbeat_at)
    }

    /// How many heartbeats a peer may not have, and still count as reached: those of one timeout.
    fn echoes_late(&self) -> u64 {
        let interval = self.heartbeat_interval.as_nanos().max(1);
        (self.election_timeout.as_nanos() / interval) as u64 + 1
    }

    /// The next peer after `id`, in a circle, that was heard lately and knows the log further than
    /// `slot`, and how far.
    pub(super) fn informant_after(
        &self,
        id: ReplicaId,
        slot: Slot,
        now: Moment,
    ) -> Option<(ReplicaId, Slot)> {
        let behind = self.peers.range(id..).filter(|(peer, _)| **peer != id);
        let circle = behind.chain(self.peers.range(..=id));
        let mut knows = circle.filter(|(_, peer)| {
            slot < peer.slot_chosen && peer.is_heard(now, self.election_timeout)
        });
        knows.next().map(|(id, peer)| (*id, peer.slot_chosen))
    }

    /// A peer voted for what this leader proposed below `slot`, durably.
    pub(super) fn note_voted(&mut self, peer: ReplicaId, slot: Slot) {
        if let Some(peer) = self.peers.get_mut(&peer) {
            peer.voted_below = peer.voted_below.max(slot);
        }
    }

    /// A peer said how far it knows the log, durably.
    pub(super) fn note_durable(&mut self, peer: ReplicaId, slot: Slot) {
        if let Some(peer) = self.peers.get_mut(&peer) {
            peer.slot_durable = peer.slot_durable.max(slot);
        }
    }

    /// A peer said how far it knows the log.
    pub(super) fn note_known(&mut self, peer: ReplicaId, slot: Slot) {
        if let Some(peer) = self.peers.get_mut(&peer) {
            peer.slot_chosen = peer.slot_chosen.max(slot);
        }
    }

    /// These are the peers now. What is known of those who stay is kept.
    pub(super) fn set_peers(&mut self, peers: &[ReplicaId]) {
        self.peers.retain(|id, _| peers.contains(id));
        for peer in peers {
            self.peers.entry(*peer).or_default();
        }
    }

    pub(super) fn is_alone(&self) -> bool {
        self.peers.is_empty()
    }

    pub(super) fn peer(&self, id: ReplicaId) -> Option<&Peer> {
        self.peers.get(&id)
    }

    /// See [`Paxos::hash_essence`].
    #[cfg(feature = "sim")]
    pub(super) fn hash_essence(&self, promised: Ballot, state: &mut impl std::hash::Hasher) {
        use std::hash::Hash as _;

        // A ballot that was seen counts only where it is above the promise.
        self.ballot_seen.max(promised).hash(state);
        self.leader.map(|(ballot, _)| ballot).hash(state);
        for peer in self.peers.values() {
            // Whom the leader sends what it proposes depends on what was voted for, but only where
            // somebody lags by twice alpha: nobody can, in as few slots as are explored.
            // Without echoes nobody is reached, and so nobody campaigns, or succeeds a leader.
            let Peer { heard_at, boot, slot_chosen, heard, .. } = peer;
            let Peer { hears_leader: _, sent: _, echoed: _, echoed_at: _, voted_below: _, .. } =
                peer;
            let Peer { priority: _, knows: _, slot_durable: _, .. } = peer;
            (heard_at, boot, slot_chosen, heard).hash(state);
        }
    }
}

impl Paxos {
    /// Everything that is due at `now`.
    pub(super) fn on_tick(&mut self) {
        let now = self.now;
        if !self.election.is_alone() && now >= self.election.heartbeat_at {
            self.send_heartbeats();
        }
        match self.role {
            Role::Leader(_) => {
                if self.leads_unheard() {
                    reached!(LeaderUnheard);
                    self.become_follower();
                }
                self.retransmit_accepts();
                self.retransmit_change();
                self.ask_successor();
                self.renew_lease();
            }
            Role::Candidate(_) | Role::Follower => {
                if self.campaigns_in_vain() {
                    self.become_follower();
                    self.election.give_up(now);
                }
                if now >= self.election.campaign_at {
                    self.maybe_campaign();
                }
                self.retransmit_prepare();
            }
        }
        self.retransmit_fetch();
        self.retransmit_reads();
    }

    /// This process did not run for a while: what the peers said meanwhile is still unread, so
    /// silence proves nothing yet.
    pub(super) fn on_pause(&mut self) {
        if !self.election.is_alone() {
            reached!(PauseNoticed);
            self.election.rearm(self.now);
        }
    }

    fn maybe_campaign(&mut self) {
        let waits_for_own_disk =
            self.election.is_alone() && matches!(self.role, Role::Candidate(_));
        let follows = self.election.leader(self.now).is_some() || !self.takes_part();
        if waits_for_own_disk || follows || !self.is_voter() {
            self.election.rearm(self.now);
        } else if self.is_bound_against(self.options.id) {
            reached!(CampaignBound);
            self.election.campaign_at = self.now + self.options.heartbeat_interval;
        } else if self.can_reach_quorums() {
            self.campaign();
        } else {
            reached!(CampaignHeldBack);
            self.election.campaign_at = self.now + self.options.heartbeat_interval;
        }
    }

    /// Whether this replica campaigns since a timeout and cannot reach who would have to promise.
    /// It gives up then: were it to ask on, it would ask for its old ballot when it comes back, and
    /// unseat whom the others follow by then.
    fn campaigns_in_vain(&self) -> bool {
        let candidate = matches!(self.role, Role::Candidate(_)) && !self.election.is_alone();
        let since = self.now.since(self.election.campaigned_at);
        candidate && since >= self.election.election_timeout && !self.can_reach_quorums()
    }

    /// Whether this leader has reached too few voters, both ways, for too long. To hear them is not
    /// enough: while it hears a quorum and is heard by others, nothing is chosen and nobody
    /// campaigns.
    fn leads_unheard(&self) -> bool {
        let election = &self.election;
        if self.now.since(election.leading_since) < election.election_timeout {
            return false;
        }
        // A new leader is needed where phase 2 does not end; one that looks for what was chosen
        // needs phase 1 of others, too.
        let present = (&self.quorum, false);
        let needed = self.change().and_then(Change::needs).map(|quorum| (quorum, true));
        std::iter::once(present).chain(needed).any(|(quorum, asks)| {
            let mut heard = VoterSet::default();
            quorum.insert(&mut heard, self.options.id);
            for (id, peer) in &election.peers {
                if peer.echoed_at.is_some_and(|at| self.now.since(at) < election.election_timeout) {
                    quorum.insert(&mut heard, *id);
                }
            }
            !quorum.is_phase2(heard) || asks && !quorum.is_phase1(heard)
        })
    }

    pub(super) fn become_follower(&mut self) {
        if matches!(self.role, Role::Follower) {
            return;
        }
        let before = std::mem::replace(&mut self.role, Role::Follower);
        self.reads_lost_leader();
        if let Role::Leader(leader) = before {
            self.election.leader_lost();
            self.release_lease(leader.ballot, leader.lease.next_nonce());
            // Those who followed learn at once that nobody leads.
            self.send_heartbeats();
        }
        self.election.rearm(self.now);
    }

    /// The leader of `ballot` lives.
    pub(super) fn hear_leader(&mut self, ballot: Ballot) {
        if ballot < self.election.leader_ballot()
            || self.own_ballot().is_some_and(|own| own > ballot)
        {
            return;
        }
        self.become_follower();
        self.election.leader = Some((ballot, self.now));
        self.election.failed_campaigns = 0;
        self.election.rearm(self.now);
        self.retransmit_reads();
    }
}
