//! Replicas for tests: in temporary directories, on ports that were free, in one process.

#![allow(dead_code, reason = "no test program uses all of this")]

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use indelible::{Builder, Config, Network, RawTable, Record, Replica, Status, TxId};
use tempfile::TempDir;

/// The table that most tests write to.
pub const NOTES: RawTable<u64> = RawTable::new("notes");

/// How long anything may take that must happen.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Looks again and again, until `seen`.
pub fn until(what: &str, mut seen: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !seen() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Settings with which a test is quick: small segments. Calls have half a minute.
pub fn config() -> Config {
    Config { segment_bytes: 256 * 1024, request_timeout: PATIENCE, ..Config::default() }
}

/// As many addresses as asked for, with ports that were free a moment ago.
pub fn addresses(count: u64) -> Vec<(u64, String)> {
    let listeners = (0..count).map(|_| TcpListener::bind("127.0.0.1:0").unwrap());
    let listeners = listeners.collect::<Vec<_>>();
    let address = |listener: &TcpListener| listener.local_addr().unwrap().to_string();
    (1..).zip(listeners.iter().map(address)).collect()
}

/// The whole ledger as this replica tells it.
pub fn ledger(replica: &Replica) -> Vec<Record> {
    replica.transactions(TxId::ZERO).map(Result::unwrap).collect()
}

/// Three replicas, not all of which need be open.
pub struct Cluster {
    pub directory: TempDir,
    pub addresses: Vec<(u64, String)>,
    pub network: Option<Network>,
    pub config: Config,
    pub open: BTreeMap<u64, Replica>,
}

impl Cluster {
    /// Three replicas that talk over TCP, open and ready.
    pub fn tcp() -> Self {
        Self::begin(None, config())
    }

    /// The same, with these settings.
    pub fn tcp_with(config: Config) -> Self {
        Self::begin(None, config)
    }

    /// Three replicas that talk within the process, open and ready.
    pub fn in_process(config: Config) -> Self {
        Self::begin(Some(Network::new()), config)
    }

    fn begin(network: Option<Network>, config: Config) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (addresses, open) = (addresses(3), BTreeMap::new());
        let mut cluster = Self { directory, addresses, network, config, open };
        (1..=3).for_each(|id| cluster.open(id));
        cluster.open.values().for_each(|replica| replica.wait_ready(PATIENCE).unwrap());
        cluster
    }

    pub fn path(&self, id: u64) -> PathBuf {
        self.directory.path().join(id.to_string())
    }

    pub fn builder(&self, id: u64) -> Builder {
        let builder = Replica::builder(self.path(id)).id(id).peers(self.addresses.clone());
        let builder = builder.config(self.config.clone());
        match &self.network {
            Some(network) => builder.network(network),
            None => builder,
        }
    }

    pub fn open(&mut self, id: u64) {
        self.open.insert(id, self.builder(id).open().unwrap());
    }

    pub fn close(&mut self, id: u64) {
        self.open.remove(&id).unwrap().close().unwrap();
    }

    pub fn replica(&self, id: u64) -> &Replica {
        &self.open[&id]
    }

    pub fn status(&self, id: u64) -> Status {
        self.open[&id].status()
    }

    pub fn ids(&self) -> Vec<u64> {
        self.open.keys().copied().collect()
    }

    /// Who leads, once all that are open agree on it, and it is ready.
    pub fn leader(&self) -> u64 {
        self.leader_among(&self.ids())
    }

    pub fn leader_among(&self, ids: &[u64]) -> u64 {
        let mut leader = 0;
        until("a leader on whom all agree", || {
            let told = |id: &u64| self.status(*id).leader.map_or(0, |leader| leader.0);
            leader = told(&ids[0]);
            let agreed = ids.contains(&leader) && ids.iter().all(|id| told(id) == leader);
            agreed && self.status(leader).ready
        });
        leader
    }

    /// Somebody open who does not lead.
    pub fn follower(&self) -> u64 {
        let leader = self.leader();
        *self.open.keys().find(|id| **id != leader).unwrap()
    }

    /// Waits until all that are open have applied the same, and compares what that is.
    pub fn settle(&self) {
        let told = || {
            let statuses = self.open.values().map(Replica::status);
            statuses.map(|status| (status.slot_applied, status.txid, status.digest))
        };
        let mut last = Vec::new();
        until("all have applied the same slots", || {
            last = told().collect();
            last.windows(2).all(|pair| pair[0].0 == pair[1].0)
        });
        assert!(last.windows(2).all(|pair| pair[0] == pair[1]), "replicas differ: {last:?}");
    }

    /// Cuts all links from and to `id`.
    pub fn isolate(&self, id: u64) {
        let network = self.network.as_ref().unwrap();
        for other in (1..=3).filter(|other| *other != id) {
            network.cut(id, other);
            network.cut(other, id);
        }
    }

    /// Makes all links from and to `id` whole.
    pub fn heal(&self, id: u64) {
        let network = self.network.as_ref().unwrap();
        for other in (1..=3).filter(|other| *other != id) {
            network.heal(id, other);
            network.heal(other, id);
        }
    }
}
