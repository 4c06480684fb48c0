//! How a cluster of whole replicas under simulation is made.

use std::time::Duration;

use crate::journal;
use crate::runtime::{batcher, turn};
use crate::types::edition::Edition;
use crate::types::ids::ReplicaId;
use crate::types::limits::{SESSION_WINDOW, SESSIONS_MAX};

use super::machine::Settings;

/// How a cluster is made.
#[derive(Clone, Debug)]
pub struct Plan {
    /// How many replicas form the cluster.
    pub replicas: u64,
    /// How many more machines there are, which belong to it only once they joined
    /// ([`Simulation::join`](super::Simulation::join)). Their ids follow.
    pub outsiders: u64,
    /// See [`Builder::quorums`](crate::Builder::quorums); `None` for majorities.
    pub quorums: Option<(u32, u32)>,
    /// How often a replica says that it is there.
    pub heartbeat_interval: Duration,
    /// See [`Config`](crate::Config).
    pub election_timeout: Duration,
    /// See [`Config`](crate::Config).
    pub retransmit_interval: Duration,
    /// The [priorities](crate::Config::priority) of the replicas, in order; those that are not
    /// named have 0.
    pub priorities: Vec<u32>,
    /// See [`Config`](crate::Config).
    pub read_lease: Option<Duration>,
    /// See [`Config`](crate::Config).
    pub request_timeout: Duration,
    /// The highest edition that the replicas know when they are first opened.
    pub knows: Edition,
    /// How many transactions of one session may be without an answer.
    pub session_window: u64,
    /// How many sessions the state remembers.
    pub sessions_max: u32,
    /// Most bytes of entries in one message.
    pub message_bytes_max: usize,
    /// A checkpoint is taken when so many bytes of entries were applied behind the newest one.
    pub checkpoint_bytes: u64,
    /// The journals keep at least so many bytes; see [`Config`](crate::Config).
    pub history_bytes_min: u64,
    /// How the journals are laid out.
    pub journal: journal::Options,
}

impl Default for Plan {
    /// Three replicas; the four times as they ship; small segments, groups and messages.
    fn default() -> Self {
        Self {
            replicas: 3,
            outsiders: 0,
            quorums: None,
            heartbeat_interval: Duration::from_millis(50),
            election_timeout: Duration::from_millis(500),
            retransmit_interval: Duration::from_millis(100),
            priorities: Vec::new(),
            knows: Edition::KNOWN,
            read_lease: None,
            request_timeout: Duration::from_secs(5),
            session_window: SESSION_WINDOW,
            sessions_max: SESSIONS_MAX,
            message_bytes_max: 32 * 1024,
            checkpoint_bytes: 64 * 1024,
            history_bytes_min: u64::MAX,
            journal: journal::Options {
                segment_bytes: 64 * 1024,
                inflight_max: 2,
                group_bytes_max: 32 * 1024,
                received_sync_bytes: 8 * 1024,
            },
        }
    }
}

impl Plan {
    /// The priority of replica `id`.
    pub(super) fn priority(&self, id: ReplicaId) -> u32 {
        let place = usize::try_from(id.0).expect("ids are small") - 1;
        self.priorities.get(place).copied().unwrap_or_default()
    }

    /// All machines: those of the replicas that form the cluster, then those of outsiders.
    #[must_use]
    pub fn ids(&self) -> Vec<ReplicaId> {
        (1..=self.replicas + self.outsiders).map(ReplicaId).collect()
    }

    /// What replica `id` of such a cluster is opened with; an outsider is told more when it joins.
    #[must_use]
    pub fn settings(&self, id: ReplicaId) -> Settings {
        let voters = (1..=self.replicas).map(|id| (ReplicaId(id), address(ReplicaId(id))));
        let driver = turn::Options {
            id,
            voters: voters.collect(),
            join: None,
            quorums: self.quorums,
            request_timeout: self.request_timeout,
            sessions_max: self.sessions_max,
            session_window: self.session_window,
            queued_bytes_max: 1 << 20,
            queued_transactions_max: 1 << 12,
            waiting_reads_max: 1 << 12,
            journal_backlog_bytes_max: 8 << 20,
            heartbeat_interval: self.heartbeat_interval,
            election_timeout: self.election_timeout,
            retransmit_interval: self.retransmit_interval,
            priority: self.priority(id),
            knows: self.knows,
            read_lease: self.read_lease,
            inflight_slots_max: 64,
            inflight_bytes_max: 1 << 20,
            message_bytes_max: self.message_bytes_max,
            seal_after: self.heartbeat_interval * 4,
            checkpoint_bytes: self.checkpoint_bytes,
            history_bytes_min: self.history_bytes_min,
            checkpoint_bytes_per_second: 256 * 1024,
            batcher: batcher::Options {
                commands_max: 64,
                bytes_max: 32 * 1024,
                eager_bytes: 16 * 1024,
                inflight_max: 4,
                gather: Duration::from_micros(300),
            },
        };
        Settings { journal: self.journal, driver }
    }
}

/// Where the replica on machine `id` listens.
pub(super) fn address(id: ReplicaId) -> String {
    format!("replica-{id}:1")
}
