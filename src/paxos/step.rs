//! What goes into the protocol core, and what comes out.
//!
//! The core never acts. An event and the time go in; records to keep, messages to send and entries
//! that became chosen come out, and the output says which messages must wait for which records.

use std::time::Duration;

use crate::types::edition::Edition;
use crate::types::entry::Entry;
use crate::types::ids::{Ballot, Boot, Chain, Incarnation, ReplicaId, Slot};
use crate::types::membership::Membership;
use crate::types::message::{Envelope, Message};
use crate::types::record::{Held, Record};

/// What a core is told at its start, besides what its journal recovered.
#[derive(Clone, Debug)]
pub struct Options {
    /// This replica.
    pub id: ReplicaId,
    /// Its directory.
    pub incarnation: Incarnation,
    /// Its opening.
    pub boot: Boot,
    /// The membership that governs the first slot not known to be chosen.
    pub membership: Membership,
    /// Where random timeouts come from. Nothing else is random.
    pub seed: u64,
    /// How often a replica says that it is there.
    pub heartbeat_interval: Duration,
    /// A replica that heard no leader campaigns after a random time between half of this and this.
    pub election_timeout: Duration,
    /// What is not acknowledged after this time is sent again.
    pub retransmit_interval: Duration,
    /// What this replica tells the others of how gladly it leads: who has more is
    /// [preferred](super::Paxos::preferred).
    pub priority: u32,
    /// The highest edition that this build knows, which it tells the others.
    pub knows: Edition,
    /// How leases for reads are held.
    pub lease: LeaseOptions,
    /// Most slots that a leader has in flight. Below the membership's alpha.
    pub inflight_slots_max: u64,
    /// Most bytes of entries that a leader has in flight; one entry is always allowed.
    pub inflight_bytes_max: usize,
    /// Most bytes of entries in one `Accept` or one part of a `Promise`; one entry is always
    /// allowed.
    pub message_bytes_max: usize,
}

/// How [leases](super::lease) for reads are held.
#[derive(Clone, Copy, Debug, Default)]
pub struct LeaseOptions {
    /// For how long a leader asks; `None` where it asks for no lease.
    pub asked: Option<Duration>,
    /// For how long a lease is granted at most; `None` where none is. The owner knows durably that
    /// one of this length may have been.
    pub granted: Option<Duration>,
    /// The longest lease that an earlier opening may have granted.
    pub granted_before: Duration,
}

/// An event.
#[derive(Clone, Debug)]
pub enum Input {
    /// Time passed.
    Tick,
    /// A message arrived.
    Message {
        /// Who sent it, as the transport vouches.
        from: ReplicaId,
        /// What it says.
        message: Message,
    },
    /// The connection to a peer ended. A hint: it may be alive.
    PeerDown(ReplicaId),
    /// Propose an entry. Only where [`Paxos::has_room`](super::Paxos::has_room).
    Propose(Entry),
    /// Whether the journal takes more records, as it does at first. While it does not, this replica
    /// takes part in neither phase, and leaves it to others to lead.
    Writable(bool),
    /// A peer remembers a later state of this replica's directory: votes and promises may be lost.
    Fenced,
    /// This replica is the only voter, and nothing newer says that it is not: what was torn off the
    /// end of its journal was never acknowledged.
    Alone,
    /// This replica was removed, and its owner would stop it: asks those who vote now whether they
    /// can do without it.
    Leave,
    /// A linearizable read began here. Numbers increase.
    Read(u64),
    /// Campaign at once, whoever leads.
    Campaign,
    /// Hand over. Nothing happens where this replica does not lead, hands over already, or the peer
    /// [cannot](super::Paxos::can_succeed) lead.
    HandOver {
        /// Who is to lead.
        to: ReplicaId,
        /// Whether this replica's disk hangs, so that its own promise would come late.
        stalled: bool,
    },
    /// Make this membership count. Nothing happens where this replica
    /// [cannot](super::Paxos::can_change) change it, or it may not follow the present one. It is
    /// given up where too few of its voters answer within an election timeout.
    Change(Membership),
    /// The owner has the state behind slots that this replica did not know to be chosen, from a
    /// peer that does, durably. Nothing happens where this replica knows as much already.
    Install(Installed),
}

/// Where a state stands that the owner took in.
#[derive(Clone, Debug)]
pub struct Installed {
    /// Every slot below is in it, and chosen.
    pub slot: Slot,
    /// The ledger chain below `slot`.
    pub chain: Chain,
    /// The membership that governs `slot`.
    pub membership: Membership,
}

/// What the owner of a core has to do, in this order.
#[derive(Clone, Debug, Default)]
pub struct Output {
    /// Append these to the journal, in order, and sync them soon.
    pub records: Vec<Record>,
    /// Send these at once.
    pub send_now: Vec<Envelope>,
    /// Send these once `records`, and everything appended before, is durable. Those to this
    /// replica itself come back as [`Input::Message`].
    pub send_when_durable: Vec<Held>,
    /// Apply these: newly chosen, in order of slots, without a gap.
    pub chosen: Vec<(Slot, Entry)>,
    /// Let these reads go on once everything below their slot is applied.
    pub reads: Vec<ReadBarrier>,
    /// Read these slots from the journal, as many as fit a message, and send them.
    pub serve: Vec<Serve>,
    /// This replica's log differs from what a peer says was chosen: it must stop.
    pub divergence: Option<Divergence>,
}

impl Output {
    /// Whether there is nothing to do but to wait.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.records.is_empty()
            && self.send_now.is_empty()
            && self.send_when_durable.is_empty()
            && self.chosen.is_empty()
            && self.reads.is_empty()
            && self.serve.is_empty()
            && self.divergence.is_none()
    }
}

/// A local read may go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadBarrier {
    /// All reads up to this number.
    pub read: u64,
    /// Everything below this slot must be applied first.
    pub slot: Slot,
}

/// A peer lacks chosen entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Serve {
    /// The peer.
    pub to: ReplicaId,
    /// The first slot that it lacks.
    pub from: Slot,
}

/// Two replicas hold different entries in some slot below `slot`. This cannot happen while
/// journals keep what they were given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Divergence {
    /// The watermark at which the chains were compared.
    pub slot: Slot,
    /// The chain here.
    pub ours: Chain,
    /// The chain there.
    pub theirs: Chain,
}

/// What a core can tell about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct View {
    /// Follower, candidate or leader.
    pub role: RoleName,
    /// The ballot of the leader: its own where this replica leads, else of the one heard lately.
    pub leader: Option<Ballot>,
    /// The promise.
    pub promised: Ballot,
    /// The first slot not known to be chosen.
    pub slot_chosen: Slot,
    /// The ledger chain below it.
    pub chain: Chain,
    /// Whether this replica leads and may serve reads.
    pub ready: bool,
}

/// The roles by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RoleName {
    /// Votes, learns, and waits to hear a leader.
    Follower,
    /// Runs phase 1.
    Candidate,
    /// Runs phase 2.
    Leader,
}
