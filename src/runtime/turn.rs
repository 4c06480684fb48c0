//! What a turn takes and what it gives: events and effects, and what a driver is told at its start.

use std::sync::Arc;
use std::time::Duration;

use crate::journal::disk::Disk;
use crate::journal::{Done, Job};
use crate::store::Store;
use crate::store::verdict::{Committed, Resolution};
use crate::transport::Arrival;
use crate::types::edition::Edition;
use crate::types::error::Error;
use crate::types::ids::{Ballot, ClusterId, Lsn, ReplicaId, TxId};
use crate::types::membership::Membership;
use crate::types::message::{EncodedCommand, Envelope};
use crate::types::record::Sighting;
use crate::types::time::Moment;

use super::backups::Backup;
use super::batcher;
use super::changes::Edit;
use super::gate::Standing;
use super::pending::Completer;
use super::requests::Answer;

/// What a replica is told at its start.
#[derive(Clone, Debug)]
pub struct Options {
    /// This replica.
    pub id: ReplicaId,
    /// All voters and where they listen, this replica included; empty where the caller named none.
    /// Of a cluster to be joined, some members, and this replica.
    pub voters: Vec<(ReplicaId, String)>,
    /// The cluster that a blank directory joins; it forms one where that is `None`.
    pub join: Option<ClusterId>,
    /// How many promises complete phase 1, and how many votes choose; `None` where the caller named
    /// neither: as the directory has it, or majorities.
    pub quorums: Option<(u32, u32)>,
    /// How many sessions the state of the ledger remembers, where this cluster is to be formed.
    pub sessions_max: u32,
    /// Every call is answered within this time.
    pub request_timeout: Duration,
    /// How many sequences of a session may be without an answer; then another one is opened. At
    /// most [`SESSION_WINDOW`](crate::types::limits::SESSION_WINDOW).
    pub session_window: u64,
    /// Most bytes of commands that wait for a slot; more are refused as busy.
    pub queued_bytes_max: usize,
    /// Most commands that wait for a slot.
    pub queued_transactions_max: usize,
    /// Most calls that wait for a read, or for a transaction to be applied.
    pub waiting_reads_max: usize,
    /// Most bytes of groups that wait for the disk; beyond, nothing more is taken on.
    pub journal_backlog_bytes_max: usize,
    /// See [`step::Options`](crate::paxos::step::Options).
    pub heartbeat_interval: Duration,
    /// See [`step::Options`](crate::paxos::step::Options).
    pub election_timeout: Duration,
    /// See [`step::Options`](crate::paxos::step::Options).
    pub retransmit_interval: Duration,
    /// See [`step::Options`](crate::paxos::step::Options).
    pub priority: u32,
    /// The highest edition that this build knows. It is [`Edition::KNOWN`], but in tests of what
    /// happens between two releases.
    pub knows: Edition,
    /// For how long a leader asks for a lease, and a voter grants one at most, in whole
    /// milliseconds; `None` where it does neither.
    pub read_lease: Option<Duration>,
    /// See [`step::Options`](crate::paxos::step::Options).
    pub inflight_slots_max: u64,
    /// See [`step::Options`](crate::paxos::step::Options).
    pub inflight_bytes_max: usize,
    /// See [`step::Options`](crate::paxos::step::Options).
    pub message_bytes_max: usize,
    /// A journal that was idle for so long is sealed.
    pub seal_after: Duration,
    /// A checkpoint is due when so many bytes of entries were applied behind the newest one.
    pub checkpoint_bytes: u64,
    /// The journal keeps at least so many bytes for those who read the ledger.
    pub history_bytes_min: u64,
    /// How many bytes of a checkpoint are written in a second, and how many a peer is sent, at
    /// most, beside commits.
    pub checkpoint_bytes_per_second: u64,
    /// How commands become entries.
    pub batcher: batcher::Options,
}

/// Something that happened.
#[derive(Debug)]
pub enum Event<D: Disk> {
    /// A caller submits a transaction.
    Propose {
        /// The encoded command, by what it is known.
        command: EncodedCommand,
        /// Who waits.
        completer: Completer<Committed>,
        /// Whether the same command was submitted before, here or elsewhere.
        again: bool,
    },
    /// A caller wants to know for good what became of a request.
    Resolve {
        /// The encoded command that settles it.
        command: EncodedCommand,
        /// Who waits.
        completer: Completer<Resolution>,
    },
    /// A caller begins a linearizable read.
    Read {
        /// Who waits for the state to be fresh enough.
        completer: Completer<()>,
        /// How long it waits at most.
        timeout: Duration,
    },
    /// A caller waits until a transaction is applied here.
    WaitFor {
        /// The transaction.
        txid: TxId,
        /// Who waits.
        completer: Completer<()>,
        /// How long it waits at most.
        timeout: Duration,
    },
    /// A caller wants this leader to hand over.
    HandOver {
        /// Who is to lead.
        to: ReplicaId,
        /// Who waits until it does.
        completer: Completer<()>,
    },
    /// A caller wants another membership.
    Change {
        /// What makes it of the present one.
        edit: Edit,
        /// Who waits until it is established.
        completer: Completer<Membership>,
    },
    /// A caller waits for another leader than the one that it knows.
    NextLeader {
        /// Whom it knows.
        known: Option<Ballot>,
        /// Who waits.
        completer: Completer<Option<Ballot>>,
    },
    /// A caller wants what is applied now to be in a checkpoint.
    Checkpoint {
        /// Who waits until it is.
        completer: Completer<()>,
    },
    /// A caller makes a backup of what is applied now.
    Backup {
        /// Who waits for the state.
        completer: Completer<Box<Backup>>,
    },
    /// The gate let in an opening of a peer for the first time, or found two under one count. Comes
    /// before anything that arrives from there.
    Met(Sighting),
    /// A peer did something.
    Arrived(Arrival),
    /// A journal write ended.
    Written(Done<D>),
    /// The owner closes the replica; what was proposed may still end for so long.
    Close(Duration),
    /// A panic was caught outside of the driver, or in it.
    Failed(Error),
}

impl<D: Disk> Event<D> {
    /// A caller submits a transaction, and whoever waits for it learns which it was, whatever
    /// comes of it.
    pub fn propose(command: EncodedCommand, completer: Completer<Committed>, again: bool) -> Self {
        let completer = completer.about(command.request);
        Self::Propose { command, completer, again }
    }
}

/// What there is to do after a turn.
#[derive(Debug)]
pub struct Effects<D: Disk> {
    /// Messages to send.
    pub sends: Vec<Envelope>,
    /// Journal writes to run, each ending in an [`Event::Written`].
    pub jobs: Vec<Job<D>>,
    /// Callers to answer.
    pub answers: Vec<Answer>,
    /// A state that another one took the place of: to be let go when the driver is free.
    pub former: Option<Arc<Store>>,
    /// What this replica says of itself from now on, and whom it expects, where that changed.
    pub standing: Option<Standing>,
    /// Take another turn at this time, if not before.
    pub wake_at: Option<Moment>,
    /// The replica is closed or poisoned: its connections end.
    pub stopped: bool,
}

impl<D: Disk> Effects<D> {
    /// Nothing to do.
    #[must_use]
    pub fn none() -> Self {
        Self {
            sends: Vec::new(),
            jobs: Vec::new(),
            answers: Vec::new(),
            former: None,
            standing: None,
            wake_at: None,
            stopped: false,
        }
    }

    /// These are sent as well, and tell that the journal is durable up to `frontier`.
    pub(super) fn send(&mut self, mut sends: Vec<Envelope>, frontier: Lsn) {
        sends.iter_mut().for_each(|envelope| envelope.message.tell_frontier(frontier));
        // Most turns send what one step says, and nothing else.
        match self.sends.is_empty() {
            true => self.sends = sends,
            false => self.sends.append(&mut sends),
        }
    }
}
