//! Heartbeats: who hears whom, and what each says of itself.
//!
//! Everyone sends them to everyone, and echoes what it had from the other end: so each end of a
//! link knows whether it carries both ways. What comes late tells nothing about who leads now.

use crate::paxos::peer::Peer;
use crate::paxos::quorum::{Quorum, VoterSet};
use crate::paxos::{Paxos, Role};
use crate::types::ids::{Ballot, Lsn, ReplicaId};
use crate::types::marks::reached;
use crate::types::message::{Heartbeat, Message};

impl Paxos {
    /// Whether those who can be reached both ways, and hear no other leader, are enough for both
    /// phases.
    pub(in crate::paxos) fn can_reach_quorums(&self) -> bool {
        let follows_me = matches!(self.role, Role::Leader(_));
        let own = self.options.id;
        self.reaches_quorums(|id| {
            let hears_leader = self.election.peer(id).is_some_and(|peer| peer.hears_leader);
            id == own || follows_me || !hears_leader
        })
    }

    /// Whether the others that can be reached both ways are enough for both phases by themselves.
    #[must_use]
    pub fn is_dispensable(&self) -> bool {
        self.reaches_quorums(|id| id != self.options.id)
    }

    /// Whether this replica, and those that can be reached both ways, are enough for both phases,
    /// as far as they count.
    pub(in crate::paxos) fn reaches_quorums(&self, counts: impl Fn(ReplicaId) -> bool) -> bool {
        self.reaches_both(&self.quorum, counts)
    }

    /// The same of the voters of `quorum`.
    pub(in crate::paxos) fn reaches_both(
        &self,
        quorum: &Quorum,
        counts: impl Fn(ReplicaId) -> bool,
    ) -> bool {
        let reached = self.reached(quorum, counts);
        quorum.is_phase1(reached) && quorum.is_phase2(reached)
    }

    /// This replica, and those of the voters of `quorum` that it can reach both ways, as far as
    /// they count.
    pub(in crate::paxos) fn reached(
        &self,
        quorum: &Quorum,
        counts: impl Fn(ReplicaId) -> bool,
    ) -> VoterSet {
        let own = self.options.id;
        quorum.those(|id| (id == own || self.reaches(id)) && counts(id))
    }

    /// Whether this replica and `peer` hear each other. One that takes part in nothing echoes
    /// nothing.
    #[must_use]
    pub fn reaches(&self, peer: ReplicaId) -> bool {
        let election = &self.election;
        election.peers.get(&peer).is_some_and(|peer| {
            peer.is_heard(self.now, election.election_timeout)
                && peer.echoes(election.echoes_late())
        })
    }

    pub(in crate::paxos) fn on_heartbeat(&mut self, from: ReplicaId, heartbeat: &Heartbeat) {
        let now = self.now;
        let own_boot = self.options.boot;
        let echoes_late = self.election.echoes_late();
        let Some(peer) = self.election.peers.get_mut(&from) else { return };
        if peer.boot != heartbeat.boot {
            // An older opening of the same directory has nothing to say any more.
            if heartbeat.boot.sequence < peer.boot.sequence {
                reached!(OldHeartbeat);
                return;
            }
            *peer = Peer { sent: peer.sent, boot: heartbeat.boot, ..Peer::default() };
        }
        // A late one tells how far the log is chosen, but nothing about who leads now.
        let fresh = heartbeat.sent >= peer.heard;
        if fresh {
            peer.heard = heartbeat.sent;
            peer.heard_at = Some(now);
            peer.hears_leader = heartbeat.hears_leader;
            peer.priority = heartbeat.priority;
            peer.knows = heartbeat.knows;
            let echo = heartbeat.echo.filter(|(boot, _)| *boot == own_boot);
            peer.echoed = echo.map(|(_, sent)| sent.min(peer.sent));
            if peer.echoes(echoes_late) {
                peer.echoed_at = Some(now);
            }
        }
        peer.slot_chosen = peer.slot_chosen.max(heartbeat.slot_chosen);
        self.election.note_ballot(heartbeat.ballot);
        self.election.note_ballot(heartbeat.promised);

        if heartbeat.leads && heartbeat.ballot.leader == from {
            if fresh {
                self.hear_leader(heartbeat.ballot);
            }
            let Heartbeat { ballot, slot_chosen, chain, .. } = *heartbeat;
            self.learn_from_leader(from, ballot, slot_chosen, chain);
            self.ask_about_doubts(ballot);
            self.ask_to_fill(ballot);
        } else {
            // One that was sent before it led, and overtaken, knows nothing of that promise, or
            // tries that ballot still.
            let led = |(ballot, _): (Ballot, _)| {
                let after = ballot <= heartbeat.promised && ballot != heartbeat.ballot;
                ballot.leader == from && after
            };
            if fresh && self.election.leader.is_some_and(led) {
                // It says itself that it leads no longer.
                self.election.leader_lost();
            }
            self.learn_from_peer(from, heartbeat.slot_chosen);
        }
        self.on_preempted_while_leading(heartbeat.promised);
        self.ask_successor();
        self.go_on_changing();
    }

    fn on_preempted_while_leading(&mut self, promised: Ballot) {
        if matches!(self.role, Role::Leader(_)) {
            self.on_preempted(promised);
        }
    }

    /// The connection to a peer ended. Where it led, a short random wait replaces the timeout.
    pub(in crate::paxos) fn on_peer_down(&mut self, peer: ReplicaId) {
        let Some(state) = self.election.peers.get_mut(&peer) else { return };
        state.echoed = None;
        self.leader_gone(peer);
    }

    /// Where `peer` led, it does not come back soon.
    pub(in crate::paxos) fn leader_gone(&mut self, peer: ReplicaId) {
        let lost = self.election.leader.map(|(ballot, _)| ballot);
        let Some(ballot) = lost.filter(|ballot| ballot.leader == peer) else { return };
        reached!(LeaderHungUp);
        self.election.leader_lost();
        // Who was promised something since campaigns already.
        if self.promised <= ballot {
            let interval = self.options.heartbeat_interval;
            let soon = self.now + interval / 4 + self.election.random.up_to(interval);
            self.election.campaign_at = self.election.campaign_at.min(soon);
        }
        self.send_heartbeats();
    }

    /// To everyone: I am here, and this is what I know.
    pub(in crate::paxos) fn send_heartbeats(&mut self) {
        let ballot = self.own_ballot().unwrap_or(self.election.leader_ballot());
        let leads = matches!(self.role, Role::Leader(_));
        let hears_leader = leads || self.election.leader(self.now).is_some();
        let due = self.now >= self.election.heartbeat_at;
        if due {
            self.election.heartbeat_at = self.now + self.election.heartbeat_interval;
        }
        let takes_part = self.takes_part();
        for id in self.peers() {
            let peer = self.election.peers.get_mut(&id).expect("every peer has its place");
            // Only those on time count, so that counts measure time.
            peer.sent += u64::from(due);
            // Whoever does not vote is no help in reaching a quorum, and echoes nothing.
            let heard = peer.is_heard(self.now, self.election.election_timeout);
            let echoes = heard && takes_part;
            let heartbeat = Heartbeat {
                incarnation: self.options.incarnation,
                boot: self.options.boot,
                ballot,
                leads,
                hears_leader,
                priority: self.options.priority,
                knows: self.options.knows,
                promised: self.promised,
                slot_chosen: self.slot_chosen,
                chain: self.chain,
                frontier: Lsn::ZERO,
                sent: peer.sent,
                echo: echoes.then_some((peer.boot, peer.heard)),
            };
            self.send(id, Message::Heartbeat(heartbeat));
        }
        self.note_announced();
    }
}
