//! How a replica is opened: who it is, who its peers are, and with which settings.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::config::{Config, ENTRIES_PER_MESSAGE_BYTES};
use crate::journal::Options;
use crate::network::Network;
use crate::runtime::opening::{Opening, Reach};
use crate::runtime::{batcher, turn};
use crate::types::edition::Edition;
use crate::types::error::{Error, ErrorKind, Result};
use crate::types::ids::{ClusterId, Incarnation, ReplicaId};
use crate::types::limits::{SESSION_WINDOW, SESSIONS_MAX};
use crate::types::membership::{Member, Membership, has_port};
use crate::types::time::whole_millis;

/// Opens a replica; made by [`Replica::builder`](crate::Replica::builder).
#[derive(Clone, Debug)]
#[must_use = "a replica is opened by `open`"]
pub struct Builder {
    pub(crate) path: PathBuf,
    id: ReplicaId,
    peers: Option<Vec<(ReplicaId, String)>>,
    quorums: Option<(u32, u32)>,
    join: Option<ClusterId>,
    listen: Option<String>,
    network: Option<Network>,
    config: Config,
}

impl Builder {
    /// Replica 1 of the directory `path`, as it was opened last or alone.
    pub(crate) fn new(path: PathBuf) -> Self {
        Self {
            path,
            id: ReplicaId(1),
            peers: None,
            quorums: None,
            join: None,
            listen: None,
            network: None,
            config: Config::default(),
        }
    }

    /// Which replica this is; 1 if not set. An id is for one directory, for ever.
    ///
    /// ```
    /// let builder = indelible::Replica::builder("data").id(2);
    /// ```
    pub fn id(mut self, id: u64) -> Self {
        self.id = ReplicaId(id);
        self
    }

    /// All replicas of the cluster and where they listen, this one included; the same at every one
    /// of them.
    ///
    /// At the first opening, all must be there, blank, before the cluster forms. Later the ledger
    /// itself names its voters; they may then be left out here, and must be those with which the
    /// cluster was formed, addresses included, where they are given. Left out at the first opening,
    /// the replica is a cluster by itself; left out at one after it, before this replica agreed on
    /// who they are, it is refused. A lone replica listens only if it is told where it is to be
    /// reached: where it alone is named here, at the first opening or a later one, or where
    /// [`listen`](Self::listen) is set.
    ///
    /// Ids are positive. There are at most 63 voters, and an address is at most 255 bytes long. An
    /// address is a name or number and a port; a name is resolved at each attempt to connect.
    ///
    /// ```
    /// let builder = indelible::Replica::builder("data")
    ///     .id(2)
    ///     .peers([(1, "a:7400"), (2, "b:7400"), (3, "c:7400")]);
    /// ```
    pub fn peers<A: Into<String>>(mut self, peers: impl IntoIterator<Item = (u64, A)>) -> Self {
        let peers = peers.into_iter().map(|(id, address)| (ReplicaId(id), address.into()));
        self.peers = Some(peers.collect());
        self
    }

    /// How many replicas decide: `leaders` must agree to who leads, and `writes` must have each
    /// write durably before it is acknowledged. Majorities if not set; the same at every replica.
    ///
    /// Any two such sets must share a replica, so `leaders + writes` is more than there are
    /// replicas. With fewer for writes, these are faster and outlive the loss of more replicas
    /// while the leader lives; to elect another leader then takes more of them. Of five replicas
    /// with `quorums(4, 2)`, any three may be lost and the leader goes on writing with one other;
    /// to replace a leader, only one may be. A write is acknowledged when `writes` disks have it:
    /// with `writes` of 1, the loss of one disk may lose what was acknowledged. (Howard et al.,
    /// *Flexible Paxos*.)
    ///
    /// The ledger itself remembers its quorums; later they may be left out here, and must be the
    /// same where they are given. [`open`](Self::open) refuses quorums that need not intersect.
    ///
    /// ```
    /// let builder = indelible::Replica::builder("data")
    ///     .peers([(1, "a:7400"), (2, "b:7400"), (3, "c:7400"), (4, "d:7400")])
    ///     .quorums(3, 2);
    /// ```
    pub fn quorums(mut self, leaders: u32, writes: u32) -> Self {
        self.quorums = Some((leaders, writes));
        self
    }

    /// Joins a cluster that is formed, instead of forming one: [`peers`](Self::peers) names this
    /// replica, with an id that none of the cluster ever had, and one or more of its members.
    ///
    /// The replica asks them for the ledger and follows it. It belongs when a leader is asked to
    /// [`add_observer`](crate::Replica::add_observer), and votes when it is
    /// [promoted](crate::Replica::promote). Later openings of the directory go on to
    /// join, with this or without; the peers may be left out once it is an observer.
    ///
    /// ```
    /// # fn builder(cluster: indelible::ClusterId) -> indelible::Builder {
    /// indelible::Replica::builder("data")
    ///     .id(4)
    ///     .peers([(1, "a:7400"), (4, "d:7400")])
    ///     .join(cluster)
    /// # }
    /// ```
    pub fn join(mut self, cluster: ClusterId) -> Self {
        self.join = Some(cluster);
        self
    }

    /// Where to listen, if that is not the address that the others connect to. A replica that is
    /// alone listens, too, if this is set.
    ///
    /// ```
    /// let builder = indelible::Replica::builder("data")
    ///     .peers([(1, "a.example:7400"), (2, "b.example:7400"), (3, "c.example:7400")])
    ///     .listen("0.0.0.0:7400");
    /// ```
    pub fn listen(mut self, address: impl Into<String>) -> Self {
        self.listen = Some(address.into());
        self
    }

    /// Reaches the peers within this process, instead of over TCP.
    ///
    /// ```
    /// let network = indelible::Network::new();
    /// let builder = indelible::Replica::builder("data").network(&network);
    /// ```
    pub fn network(mut self, network: &Network) -> Self {
        self.network = Some(network.clone());
        self
    }

    /// Other limits and timings than the default ones.
    ///
    /// ```
    /// use indelible::{Config, Replica};
    /// let builder = Replica::builder("data").config(Config::default());
    /// ```
    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    /// What is needed to open the replica, but its disk.
    pub(crate) fn opening(&self) -> Result<Opening> {
        self.check()?;
        let reach = match &self.network {
            Some(Network(network)) => Reach::Memory(network.clone()),
            None => Reach::Tcp {
                listen: self.listen.clone(),
                peer_queue_bytes_max: self.config.peer_queue_bytes_max,
            },
        };
        Ok(Opening {
            journal: Options { segment_bytes: self.config.segment_bytes, ..Options::default() },
            driver: self.driver_options(),
            reach,
            close_timeout: self.config.close_timeout,
        })
    }

    /// Whether the arguments can be used; the error names the one that cannot.
    fn check(&self) -> Result<()> {
        self.config.check()?;
        if self.id == ReplicaId(0) {
            return Err(invalid("id", "is 0, wanted a positive number"));
        }
        if self.join.is_some_and(|cluster| !cluster.is_formed()) {
            return Err(invalid("join", "is no cluster"));
        }
        let Some(peers) = &self.peers else { return Ok(()) };
        if !peers.iter().any(|(id, _)| *id == self.id) {
            return Err(invalid("peers", &format!("replica {} itself is not named", self.id)));
        }
        let voter = |(id, address): &(ReplicaId, String)| Member {
            id: *id,
            incarnation: Incarnation::default(),
            address: address.clone(),
        };
        let membership = Membership::majority(peers.iter().map(voter).collect());
        let membership =
            membership.map_err(|err| Error::caused(ErrorKind::InvalidArgument, "peers", err))?;
        if let Some((phase1, phase2)) = self.quorums {
            let flexible = membership.with_quorums(phase1, phase2);
            flexible.map_err(|err| Error::caused(ErrorKind::InvalidArgument, "quorums", err))?;
        }
        for (id, address) in peers.iter().filter(|_| self.network.is_none()) {
            let wanted = match address.parse::<SocketAddr>() {
                _ if !has_port(address) => "host:port, with a port from 1 to 65535",
                Ok(address) if address.ip().is_unspecified() => {
                    "one at which the others reach it (`listen` says where it listens), or no \
                     peers where the ledger is formed"
                }
                Ok(_) | Err(_) => continue,
            };
            let found = format!("replica {id} has the address {address:?}, wanted {wanted}");
            return Err(invalid("peers", &found));
        }
        Ok(())
    }

    fn driver_options(&self) -> turn::Options {
        let config = &self.config;
        turn::Options {
            id: self.id,
            voters: self.peers.clone().unwrap_or_default(),
            join: self.join,
            quorums: self.quorums,
            request_timeout: config.request_timeout,
            sessions_max: SESSIONS_MAX,
            session_window: SESSION_WINDOW,
            queued_bytes_max: config.queued_bytes_max,
            queued_transactions_max: config.queued_transactions_max,
            waiting_reads_max: config.waiting_reads_max,
            journal_backlog_bytes_max: config.journal_backlog_bytes_max,
            heartbeat_interval: config.heartbeat_interval,
            election_timeout: config.election_timeout,
            retransmit_interval: config.retransmit_interval,
            priority: config.priority,
            knows: Edition::KNOWN,
            read_lease: config.read_lease.map(whole_millis),
            inflight_slots_max: config.inflight_slots_max,
            inflight_bytes_max: config.inflight_bytes_max,
            message_bytes_max: ENTRIES_PER_MESSAGE_BYTES,
            seal_after: config.seal_after,
            checkpoint_bytes: config.checkpoint_bytes,
            history_bytes_min: config.history_bytes_min,
            checkpoint_bytes_per_second: CHECKPOINT_BYTES_PER_SECOND,
            batcher: batcher::Options {
                commands_max: config.batch_transactions_max,
                bytes_max: config.batch_bytes_max,
                eager_bytes: EAGER_BATCH_BYTES,
                inflight_max: BATCHES_IN_FLIGHT,
                gather: GATHER,
            },
        }
    }
}

/// Up to about so many bytes, a sync costs what a sync of one block costs.
const EAGER_BATCH_BYTES: usize = 64 * 1024;

/// How many bytes of a checkpoint are written in a second, and how many a peer is sent, at most,
/// beside commits. On a machine of two processors that all replicas share, commits keep three
/// quarters of their pace beside a transfer, and half of it where nothing is slowed down
/// (`catchup.1g` and `checkpoint.p99` in docs/testing.md).
const CHECKPOINT_BYTES_PER_SECOND: u64 = 28 * 1024 * 1024;

/// Most batches of that size in flight.
const BATCHES_IN_FLIGHT: usize = 4;

/// How long the first of several callers waits for the others to come back with their next
/// transactions: a part of a sync.
const GATHER: Duration = Duration::from_micros(300);

fn invalid(field: &str, found: &str) -> Error {
    Error::new(ErrorKind::InvalidArgument, format!("{field}: {found}"))
}
