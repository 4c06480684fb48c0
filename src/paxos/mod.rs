//! Multi-Paxos without I/O: one log, slot by slot.
//!
//! [`Paxos`] is a plain value. Its owner gives it events and the time ([`Paxos::step`]), then takes
//! what there is to do ([`Paxos::take_output`]): records to journal, messages that may leave at
//! once, messages that must wait until the records are durable, and entries that became chosen. It
//! holds no clock, disk, socket, thread or source of randomness but the seed that it was given.
//!
//! # The protocol
//!
//! Each slot of the log ends with exactly one *chosen* entry: the one that a phase-2 quorum of
//! voters accepted at one ballot. A replica that wants to lead runs **phase 1** once for all slots
//! from its `slot_chosen` on (`candidate`): a phase-1 quorum promises to vote for nothing below its
//! ballot, and tells what it voted for. The candidate fetches what the promisers know to be chosen,
//! proposes in each further slot the entry voted for at the highest ballot, fills holes with
//! no-ops, and leads: in **phase 2** (`leader`) it gives each new entry the next slot and counts
//! votes. Everyone votes and promises (`acceptor`), and everyone learns (`learner`). Who cannot
//! tell what it voted for says so, until it is settled (`doubts`). What a leader that was replaced
//! leaves behind ends with no-ops (`leftover`); one that hands over leaves as little as it can
//! (`handover`). With a lease it reads without asking anybody (`lease`). Who belongs is in the log
//! too, and counts from the next slot on (`change`); who was removed stays until nobody can miss it
//! (`leaving`). Who lacks what nobody can send any more takes
//! in a state instead (`install`).
//!
//! ```text
//!   caller      leader            voter 2           voter 3
//!     | propose   |   Accept         |                 |
//!     |---------->|----------------->|                 |
//!     |           |------------------|---------------->|
//!     |         journal, sync     journal, sync     journal, sync      in parallel
//!     |           |<-----------------| Accepted        |
//!     | chosen    |   (own vote, once durable)         |
//!     |<----------|<-----------------------------------|
//! ```
//!
//! # Invariants
//!
//! * At most one entry is ever chosen in a slot.
//! * Whatever a message claims about this replica is durable when the message leaves: promises and
//!   votes are [`Held`] until their sync.
//! * Same events, same times, same seed: same output.
//! * A message from a peer is the world: what breaks the protocol is dropped, never asserted.
//!
//! # Caveats
//!
//! No state is here. A replica whose journal lost chosen entries does not get
//! here: its owner fetches them first. An observer does all that a voter does but campaign, and
//! nobody counts it. References: Lamport, *The Part-Time Parliament* and *Paxos Made Simple*; van
//! Renesse and Altinbuken, *Paxos Made Moderately Complex*; Chandra et al., *Paxos Made Live*;
//! Howard et al., *Flexible Paxos*; Ng et al., *Omni-Paxos*.

pub mod step;

mod acceptor;
mod candidate;
mod change;
mod doubts;
mod leader;
mod learner;
pub mod lease;
mod leftover;
mod phase1;

mod election;
mod handover;
mod install;
mod leaving;
mod peer;
mod random;
mod read;
mod strangers;

pub mod formation;

pub mod log;
pub mod quorum;

#[cfg(feature = "sim")]
mod essence;

use std::collections::BTreeSet;

use crate::types::bugs::{self, Bug};
use crate::types::entry::EntryKind;
use crate::types::ids::{Ballot, Boot, Chain, ReplicaId, Slot, SlotRange};
use crate::types::membership::Membership;
use crate::types::message::{Envelope, Message};
use crate::types::record::{Doubts, Held, Recovered};
use crate::types::time::Moment;

use candidate::Candidate;
use election::Election;
use leader::Leader;
use learner::Fetching;
use lease::Grants;
use log::Log;
use quorum::Quorum;
use read::Reads;
use step::{Input, Options, Output, RoleName, View};

/// How far a ballot may be above every one that was seen: as many campaigns as fit into decades.
const ROUNDS_AHEAD_MAX: u64 = 1 << 32;

/// One replica's part in the protocol.
#[derive(Clone, Debug)]
pub struct Paxos {
    options: Options,
    /// What governs `slot_chosen`.
    membership: Membership,
    /// The first slot that it governs; where it was in force at the opening, the first slot that
    /// was not known to be chosen then.
    governs: Slot,
    quorum: Quorum,
    /// Never goes back: a clock that does is clamped.
    now: Moment,
    /// What leases are measured by; never goes back either.
    uptime: Moment,

    // What is durable, or waits in `output.records` to become so.
    promised: Ballot,
    log: Log,
    /// What this replica cannot tell of its promise and of its votes from `slot_chosen` on.
    doubts: Doubts,
    /// When a leader was last asked about them, and which.
    unsure: Option<(Moment, Ballot)>,
    /// When a leader was last asked, or heard first, while votes of earlier ballots are left.
    leftover: Option<(Moment, Ballot)>,
    /// Whether the journal takes more records.
    writable: bool,

    // What is known to be chosen.
    slot_chosen: Slot,
    chain: Chain,
    /// The `slot_chosen` that the newest record in the journal carries.
    slot_noted: Slot,
    /// How much of that is durable: from the opening, and as a leader from its own votes.
    slot_durable: Slot,
    /// Where this replica was removed: the voters that have that durably.
    dismissed_by: BTreeSet<ReplicaId>,
    /// When `slot_chosen` last moved.
    learned_at: Moment,
    fetching: Option<Fetching>,

    role: Role,
    election: Election,
    reads: Reads,
    grants: Grants,

    output: Output,
}

/// What a replica does besides voting and learning.
#[derive(Clone, Debug, Hash)]
enum Role {
    Follower,
    Candidate(Candidate),
    Leader(Leader),
}

impl Paxos {
    /// A core that goes on from what its journal recovered.
    ///
    /// # Panics
    ///
    /// Where the membership breaks its own rules.
    #[must_use]
    pub fn new(options: Options, recovered: Recovered, now: Moment) -> Self {
        let membership = options.membership.clone();
        membership.check().expect("the owner checked the membership");
        let quorum = Quorum::of(&membership);
        let Recovered { promised, slot_chosen, chain, votes, missing, mut doubts, .. } = recovered;
        assert!(missing.is_empty(), "chosen entries are missing: {missing:?}");
        doubts.settle(SlotRange { first: Slot::ZERO, end: slot_chosen });
        let mut log = Log::new(slot_chosen);
        for (slot, ballot, entry) in votes {
            assert!(ballot <= promised, "vote at {ballot} above the promise {promised}");
            if !bugs::is_on(Bug::VotesNotRecovered) {
                log.set_vote(slot, ballot, entry);
            }
        }
        let election = Election::new(&options, now);
        let grants = Grants::new(&options.lease);
        Self {
            options,
            membership,
            governs: slot_chosen,
            quorum,
            now,
            uptime: Moment::ZERO,
            promised,
            log,
            doubts,
            unsure: None,
            leftover: None,
            writable: true,
            slot_chosen,
            chain,
            slot_noted: slot_chosen,
            slot_durable: slot_chosen,
            dismissed_by: BTreeSet::new(),
            learned_at: now,
            fetching: None,
            role: Role::Follower,
            election,
            reads: Reads::default(),
            grants,
            output: Output::default(),
        }
    }

    /// Takes in one event; none, once the ledger is [outdated](Self::is_outdated).
    pub fn step(&mut self, now: Moment, input: Input) {
        let paused = now.since(self.now) >= self.options.election_timeout / 2;
        self.now = self.now.max(now);
        if paused {
            self.on_pause();
        }
        if self.is_outdated() {
            return;
        }
        match input {
            Input::Tick => self.on_tick(),
            Input::Message { from, message } => self.on_message(from, message),
            Input::PeerDown(peer) => self.on_peer_down(peer),
            Input::Propose(entry) => {
                assert!(entry.kind() == EntryKind::Commands, "only commands are proposed here");
                assert!(self.has_room(), "the owner asks has_room before it proposes");
                self.propose(entry);
            }
            Input::Read(read) => self.on_read(read),
            Input::Writable(writable) => self.on_writable(writable),
            Input::Fenced => self.on_fenced(),
            Input::Alone => self.on_alone(),
            Input::Leave => self.on_leave(),
            Input::Campaign => self.campaign(),
            Input::HandOver { to, stalled } => self.on_hand_over(to, stalled),
            Input::Change(membership) => self.on_change(membership),
            Input::Install(installed) => self.on_install(installed),
        }
    }

    /// What there is to do since the last call.
    #[must_use]
    pub fn take_output(&mut self) -> Output {
        self.send_proposals();
        self.maybe_begin_round();
        self.announce_chosen();
        self.note_chosen();
        std::mem::take(&mut self.output)
    }

    /// Records carry `slot_chosen`, so the votes that are held for them may tell it, too.
    fn note_chosen(&mut self) {
        if self.output.records.is_empty() {
            return;
        }
        self.slot_noted = self.slot_chosen;
        for held in &mut self.output.send_when_durable {
            held.tell_durable(self.slot_noted);
        }
    }

    /// What this core can tell about itself.
    #[must_use]
    pub fn view(&self) -> View {
        View {
            role: match self.role {
                Role::Follower => RoleName::Follower,
                Role::Candidate(_) => RoleName::Candidate,
                Role::Leader(_) => RoleName::Leader,
            },
            leader: match &self.role {
                Role::Leader(leader) => Some(leader.ballot),
                Role::Follower | Role::Candidate(_) => self.election.leader(self.now),
            },
            promised: self.promised,
            slot_chosen: self.slot_chosen,
            chain: self.chain,
            ready: self.is_ready(),
        }
    }

    /// Whether `peer` was heard within the election timeout, the opening it was in, and how far it
    /// said that it knows the log.
    #[must_use]
    pub fn peer(&self, peer: ReplicaId) -> Option<(bool, Boot, Slot)> {
        let state = self.election.peer(peer)?;
        let heard = state.is_heard(self.now, self.options.election_timeout);
        Some((heard, state.boot, state.slot_chosen))
    }

    /// Every other member: voters, then observers. Nobody where this replica was removed.
    #[must_use]
    pub fn peers(&self) -> Vec<ReplicaId> {
        let members = self.membership.members().map(|member| member.id);
        members.filter(|id| *id != self.options.id && !self.is_removed()).collect()
    }

    /// Whether this replica knows that it was removed: it answers who knows less, asks whether it
    /// is missed (`leaving`), and says nothing else.
    #[must_use]
    pub fn is_removed(&self) -> bool {
        self.membership.has_removed(self.options.id)
    }

    /// Every other voter, in increasing order.
    fn other_voters(&self) -> Vec<ReplicaId> {
        self.quorum.ids().iter().copied().filter(|id| *id != self.options.id).collect()
    }

    /// Whether this replica votes, and is counted.
    fn is_voter(&self) -> bool {
        self.quorum.is_voter(self.options.id)
    }

    fn on_message(&mut self, from: ReplicaId, message: Message) {
        if !self.is_plausible(&message) {
            return;
        }
        if self.membership.member(from).is_none() || self.is_removed() {
            return self.on_stranger(from, message);
        }
        match message {
            Message::Heartbeat(heartbeat) => {
                if self.is_incarnation(from, heartbeat.incarnation) {
                    self.on_heartbeat(from, &heartbeat);
                }
            }
            Message::Prepare { ballot, from: first } => self.on_prepare(from, ballot, first),
            Message::Promise(promise) => {
                if self.is_incarnation(from, promise.incarnation) {
                    self.on_promise(from, promise);
                }
            }
            Message::Accept(accept) => self.on_accept(from, accept),
            Message::Accepted(accepted) => {
                if self.is_incarnation(from, accepted.incarnation) {
                    self.on_accepted(from, &accepted);
                }
            }
            Message::Reject { ballot, promised } => {
                if self.own_ballot() == Some(ballot) {
                    self.on_refused_to_take_over(from, promised);
                    self.on_preempted(promised);
                }
            }
            Message::Fetch { from: first } => self.on_fetch(from, first),
            Message::Chosen(chosen) => self.on_chosen(from, chosen),
            Message::Confirm { ballot, nonce } => self.on_confirm(from, ballot, nonce),
            Message::Confirmed { ballot, incarnation, nonce } => {
                if self.is_incarnation(from, incarnation) {
                    self.on_confirmed(from, ballot, nonce);
                }
            }
            Message::Barrier { boot, read } => self.on_barrier(from, boot, read),
            Message::BarrierAt { boot, read, slot } => self.on_barrier_at(boot, read, slot),
            Message::Unsure { boot, .. } => self.on_unsure(from, boot),
            Message::Settled { ballot, boot, from: first } => {
                self.on_settled(from, ballot, boot, first);
            }
            Message::Fill { until } => self.on_fill(until),
            Message::Leaving { slot } => self.on_leaving(from, slot),
            Message::TakeOver(take_over) => self.on_take_over(from, &take_over),
            Message::Renew { ballot, nonce, millis } => self.on_renew(from, ballot, nonce, millis),
            Message::Granted { ballot, incarnation, nonce, millis } => {
                if self.is_incarnation(from, incarnation) {
                    self.on_granted(from, ballot, nonce, millis);
                }
            }
            // Commands, checkpoints and what is trimmed or lost are the owner's business, a formed
            // cluster needs no formation, and only who was removed is dismissed (`strangers`).
            Message::Forward(_)
            | Message::Bounced { .. }
            | Message::Introduce(_)
            | Message::Agreed { .. }
            | Message::Trimmed { .. }
            | Message::FetchCheckpoint { .. }
            | Message::CheckpointPart(_)
            | Message::Lost { .. }
            | Message::Dismissed { .. } => {}
        }
    }

    /// Whether the ballots in `message` can have been reached by counting. To promise the last
    /// round there is would end all elections for ever.
    fn is_plausible(&self, message: &Message) -> bool {
        let ballot = match message {
            Message::Heartbeat(heartbeat) => heartbeat.ballot.max(heartbeat.promised),
            Message::Prepare { ballot, .. }
            | Message::Settled { ballot, .. }
            | Message::Renew { ballot, .. } => *ballot,
            Message::TakeOver(take_over) => take_over.ballot,
            Message::Accept(accept) => accept.ballot,
            Message::Reject { promised, .. } => *promised,
            _ => return true,
        };
        let seen = self.promised.max(self.election.ballot_seen());
        ballot.round <= seen.round.saturating_add(ROUNDS_AHEAD_MAX)
    }

    /// The message leaves at once.
    fn send(&mut self, to: ReplicaId, message: Message) {
        self.output.send_now.push(Envelope { to, message });
    }

    /// The message leaves when everything journaled so far is durable.
    fn hold(&mut self, to: ReplicaId, message: Message) {
        self.output.send_when_durable.push(Held::new(to, message));
    }

    /// When to step again, if nothing happens before: [`Input::Tick`] is due then.
    #[must_use]
    pub fn wake_at(&self) -> Moment {
        if self.is_outdated() {
            return self.now + self.options.election_timeout;
        }
        let waits = self.fetching.is_some()
            || self.reads_wait()
            || self.inflight_slots() > 0
            || self.change().is_some()
            || self.handing_over().is_some();
        let retransmits = waits || matches!(self.role, Role::Candidate(_));
        let election = self.election.wake_at(matches!(self.role, Role::Leader(_)));
        let election = self.renewal_due().map_or(election, |renewal| election.min(renewal));
        match retransmits && !self.election.is_alone() {
            true => election.min(self.now + self.options.retransmit_interval),
            false => election,
        }
    }
}
