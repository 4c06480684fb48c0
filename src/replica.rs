//! The front door: open a replica, write, read, close.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::config::{Config, ENTRIES_PER_MESSAGE_BYTES};
use crate::history::Transactions;
use crate::journal::disk::{Disk, RealDisk};
use crate::journal::memory::MemoryDisk;
use crate::journal::{self, Journal};
use crate::key::Key;
use crate::runtime::driver::{self, Driver};
use crate::runtime::handle::Handle;
use crate::runtime::pending::Pending;
use crate::runtime::{batcher, threads};
use crate::snapshot::{Snapshot, Versioned};
use crate::status::Status;
use crate::store::verdict::Committed;
use crate::table::{KeyOf, Puts, TableRef};
use crate::transaction::Transaction;
use crate::transport::Transport;
use crate::transport::memory::MemoryNetwork;
use crate::transport::tcp::{Tcp, TcpOptions};
use crate::types::error::{Error, ErrorKind, Result};
use crate::types::ids::{Incarnation, ReplicaId, TxId};
use crate::types::limits::KEY_BYTES_MAX;
use crate::types::membership::{Membership, Voter};
use crate::types::time::Moment;

/// One durable copy of the ledger, open in this process.
///
/// Clones share it. It stops when one of them is closed, or when the last clone is dropped, and
/// with it every [`Transaction`] and [`Transactions`] made by them. Only [`Replica::close`] lets
/// what was proposed end, and tells whether all went well.
///
/// ```
/// use indelible::{Replica, Table};
///
/// const NAMES: Table<u64, String> = Table::new("names");
///
/// # fn main() -> indelible::Result<()> {
/// # let directory = tempfile::tempdir().expect("a temporary directory");
/// # let path = directory.path();
/// let replica = Replica::open(path)?;
/// replica.put(NAMES, 1, &"Ada".into()).wait()?;
/// let ada = replica.get(NAMES, 1).wait()?.expect("written above");
/// assert_eq!(ada.value, "Ada");
/// replica.close()
/// # }
/// ```
#[derive(Clone)]
pub struct Replica {
    handle: Handle,
}

/// Opens a replica; made by [`Replica::builder`].
#[derive(Clone, Debug)]
#[must_use = "a replica is opened by `open`"]
pub struct Builder {
    path: PathBuf,
    id: ReplicaId,
    peers: Option<Vec<(ReplicaId, String)>>,
    listen: Option<String>,
    network: Option<Network>,
    config: Config,
}

/// A network within this process, for tests of services that run several replicas.
///
/// Links can be cut and healed one way at a time.
///
/// ```
/// use indelible::{Network, Replica};
/// use std::time::Duration;
///
/// # fn main() -> indelible::Result<()> {
/// # let directory = tempfile::tempdir().expect("a temporary directory");
/// let network = Network::new();
/// let mut replicas = Vec::new();
/// for id in 1..=3 {
///     let builder = Replica::builder(directory.path().join(id.to_string()))
///         .id(id)
///         .peers([(1, "one"), (2, "two"), (3, "three")])
///         .network(&network);
///     replicas.push(builder.open()?);
/// }
/// replicas[0].wait_ready(Duration::from_secs(30))?;
/// # for replica in replicas { replica.close()?; }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default)]
pub struct Network(MemoryNetwork);

impl Network {
    /// A network on which all links are whole.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Loses every message from `from` to `to` from now on.
    ///
    /// ```
    /// let network = indelible::Network::new();
    /// network.cut(1, 2); // 2 still reaches 1
    /// network.heal(1, 2);
    /// ```
    pub fn cut(&self, from: u64, to: u64) {
        self.0.cut(ReplicaId(from), ReplicaId(to));
    }

    /// Carries messages from `from` to `to` again.
    ///
    /// ```
    /// let network = indelible::Network::new();
    /// network.heal(1, 2); // it was whole
    /// ```
    pub fn heal(&self, from: u64, to: u64) {
        self.0.heal(ReplicaId(from), ReplicaId(to));
    }
}

impl Replica {
    /// Opens the replica in the directory `path`, which is made if it is not there: one durable
    /// replica that is a cluster by itself, or whatever it was when it was opened last.
    ///
    /// Blocks while the journal is read and applied, and a new segment of it is made and synced.
    /// Does not wait for a leader: calls may be made at once, and [`Replica::wait_ready`] waits.
    ///
    /// # Errors
    ///
    /// Where the directory is open already, belongs to another replica or to an unknown format,
    /// lacks a file, is damaged where something was acknowledged (nothing was written to it in
    /// these cases), or cannot be used. A directory of one of several replicas needs its id and
    /// its port.
    ///
    /// ```
    /// # fn main() -> indelible::Result<()> {
    /// # let directory = tempfile::tempdir().expect("a temporary directory");
    /// # let path = directory.path();
    /// let replica = indelible::Replica::open(path)?;
    /// # replica.close()
    /// # }
    /// ```
    pub fn open(path: impl Into<PathBuf>) -> Result<Self> {
        Self::builder(path).open()
    }

    /// Prepares to open the replica in the directory `path`.
    ///
    /// ```no_run
    /// # fn main() -> indelible::Result<()> {
    /// use indelible::Replica;
    ///
    /// let replica = Replica::builder("data")
    ///     .id(1)
    ///     .peers([(1, "a:7400"), (2, "b:7400"), (3, "c:7400")])
    ///     .open()?;
    /// # replica.close()
    /// # }
    /// ```
    pub fn builder(path: impl Into<PathBuf>) -> Builder {
        Builder {
            path: path.into(),
            id: ReplicaId(1),
            peers: None,
            listen: None,
            network: None,
            config: Config::default(),
        }
    }

    /// A replica by itself that forgets everything in the end: for tests.
    ///
    /// # Errors
    ///
    /// Where a thread cannot be started.
    ///
    /// ```
    /// # fn main() -> indelible::Result<()> {
    /// let replica = indelible::Replica::in_memory()?;
    /// # replica.close()
    /// # }
    /// ```
    pub fn in_memory() -> Result<Self> {
        Self::builder("in memory").open_on(MemoryDisk::new())
    }

    /// Waits until this replica can serve reads and writes: a leader is known and was confirmed by
    /// a quorum, and this replica has applied what had been acknowledged. Blocks for `timeout` at
    /// most.
    ///
    /// # Errors
    ///
    /// Where that was not so in time, or the replica stopped.
    ///
    /// ```
    /// # fn main() -> indelible::Result<()> {
    /// # let replica = indelible::Replica::in_memory()?;
    /// replica.wait_ready(std::time::Duration::from_secs(10))?;
    /// # replica.close()
    /// # }
    /// ```
    pub fn wait_ready(&self, timeout: Duration) -> Result<()> {
        self.handle.read(Some(timeout)).wait()
    }

    /// Writes `value` at `key`: a transaction of one put, without a condition.
    ///
    /// # Errors
    ///
    /// As [`Transaction::commit`].
    ///
    /// ```
    /// # use indelible::{Replica, Table};
    /// # const NAMES: Table<u64, String> = Table::new("names");
    /// # fn main() -> indelible::Result<()> {
    /// # let replica = Replica::in_memory()?;
    /// let written = replica.put(NAMES, 1, &"Ada".into()).wait()?;
    /// println!("transaction {:?}", written.txid);
    /// # replica.close()
    /// # }
    /// ```
    pub fn put<T, V>(&self, table: T, key: KeyOf<'_, T>, value: &V) -> Pending<Committed>
    where
        T: Puts<V>,
        V: ?Sized,
    {
        let mut transaction = self.transaction();
        transaction.put(table, key, value);
        transaction.commit()
    }

    /// Removes the value at `key`: a transaction of one deletion, without a condition. It takes an
    /// id only if there was a value.
    ///
    /// # Errors
    ///
    /// As [`Transaction::commit`].
    ///
    /// ```
    /// # use indelible::{Replica, Table};
    /// # const NAMES: Table<u64, String> = Table::new("names");
    /// # fn main() -> indelible::Result<()> {
    /// # let replica = Replica::in_memory()?;
    /// assert_eq!(replica.delete(NAMES, 1).wait()?.txid, None);
    /// # replica.close()
    /// # }
    /// ```
    pub fn delete<T: TableRef>(&self, table: T, key: KeyOf<'_, T>) -> Pending<Committed> {
        let mut transaction = self.transaction();
        transaction.delete(table, key);
        transaction.commit()
    }

    /// A transaction to fill and commit.
    ///
    /// ```
    /// # use indelible::{Replica, Table};
    /// # const NAMES: Table<u64, String> = Table::new("names");
    /// # fn main() -> indelible::Result<()> {
    /// # let replica = Replica::in_memory()?;
    /// let mut both = replica.transaction();
    /// both.put(NAMES, 1, &"Ada".into()).put(NAMES, 2, &"Bob".into());
    /// both.commit().wait()?;
    /// # replica.close()
    /// # }
    /// ```
    pub fn transaction(&self) -> Transaction {
        Transaction::new(self.handle.clone())
    }

    /// The value at `key`, with the id of the transaction that wrote it.
    ///
    /// Linearizable: the answer holds everything that was acknowledged, by any replica, before this
    /// call.
    ///
    /// # Errors
    ///
    /// Where no leader confirmed the read in time, the replica stopped, the key is too large, the
    /// table was written with other types, or the value does not decode.
    ///
    /// ```
    /// # use indelible::{Replica, Table};
    /// # const NAMES: Table<u64, String> = Table::new("names");
    /// # fn main() -> indelible::Result<()> {
    /// # let replica = Replica::in_memory()?;
    /// assert!(replica.get(NAMES, 1).wait()?.is_none());
    /// # replica.close()
    /// # }
    /// ```
    pub fn get<T>(&self, table: T, key: KeyOf<'_, T>) -> Pending<Option<Versioned<T::Value>>>
    where
        T: TableRef + Send + 'static,
        T::Value: Send + 'static,
    {
        let mut bytes = Vec::new();
        T::Key::encode(key, &mut bytes);
        if bytes.len() > KEY_BYTES_MAX {
            let (name, length) = (table.name(), bytes.len());
            let message = format!("key in table {name:?}: {length} bytes, at most {KEY_BYTES_MAX}");
            return Pending::failed(Error::new(ErrorKind::TooLarge, message));
        }
        let store = Arc::clone(self.handle.store());
        let fresh = self.handle.read(None);
        fresh.then(move |()| Snapshot::newest(store).get_encoded(table, &bytes))
    }

    /// The state as it is now, to stand still while the ledger moves on.
    ///
    /// Linearizable: it holds everything that was acknowledged, by any replica, before this call.
    ///
    /// # Errors
    ///
    /// Where no leader confirmed the read in time, or the replica stopped.
    ///
    /// ```
    /// # use indelible::{Replica, Table};
    /// # const NAMES: Table<u64, String> = Table::new("names");
    /// # fn main() -> indelible::Result<()> {
    /// # let replica = Replica::in_memory()?;
    /// let snapshot = replica.snapshot().wait()?;
    /// replica.put(NAMES, 1, &"Ada".into()).wait()?;
    /// assert!(snapshot.get(NAMES, 1)?.is_none());
    /// # replica.close()
    /// # }
    /// ```
    pub fn snapshot(&self) -> Pending<Snapshot> {
        let store = Arc::clone(self.handle.store());
        self.handle.read(None).then(move |()| Ok(Snapshot::newest(store)))
    }

    /// The state as this replica has it, at once and without asking anyone, also where the replica
    /// is stopped. It may be old: other replicas may have acknowledged much that is not in it.
    /// [`Snapshot::txid`] tells how far it is.
    ///
    /// ```
    /// # fn main() -> indelible::Result<()> {
    /// # let replica = indelible::Replica::in_memory()?;
    /// let snapshot = replica.stale_snapshot();
    /// println!("at least up to {}", snapshot.txid());
    /// # replica.close()
    /// # }
    /// ```
    #[must_use]
    pub fn stale_snapshot(&self) -> Snapshot {
        Snapshot::newest(Arc::clone(self.handle.store()))
    }

    /// The ledger itself: every committed transaction after `after`, whole and in order, up to the
    /// last one that is applied here now. [`TxId::ZERO`] begins at the beginning. Asks no other
    /// replica: after [`Replica::wait_ready`] it holds everything that was acknowledged before.
    ///
    /// Each step may read from the disk. A step is an error, and the last one, where that fails or
    /// what it finds is damaged.
    ///
    /// ```
    /// # use indelible::{RawTable, Replica, TxId};
    /// # const NOTES: RawTable<u64> = RawTable::new("notes");
    /// # fn main() -> indelible::Result<()> {
    /// # let replica = Replica::in_memory()?;
    /// replica.put(NOTES, 1, b"text").wait()?;
    /// for record in replica.transactions(TxId::ZERO) {
    ///     let record = record?;
    ///     println!("{} at {}", record.txid(), record.time());
    ///     for change in record.changes().of(NOTES) {
    ///         println!("note {:?}", change?.key);
    ///     }
    /// }
    /// # replica.close()
    /// # }
    /// ```
    #[must_use]
    pub fn transactions(&self, after: TxId) -> Transactions {
        Transactions::new(self.handle.clone(), after)
    }

    /// What this replica tells about itself. Asks nobody, and may wait for a turn of the replica to
    /// end.
    ///
    /// ```
    /// # fn main() -> indelible::Result<()> {
    /// # let replica = indelible::Replica::in_memory()?;
    /// println!("{}", replica.status());
    /// # replica.close()
    /// # }
    /// ```
    #[must_use]
    pub fn status(&self) -> Status {
        let (report, counters) = self.handle.report();
        let (slot, txid, digest) = self.handle.store().digest();
        Status::new(&report, &counters, (slot.0, txid, digest))
    }

    /// Closes the replica, for all its clones.
    ///
    /// What was not proposed does not happen any more; what was proposed may still end and be
    /// synced, for [`close_timeout`](Config::close_timeout) at most, or ends as unknown. Then all
    /// threads end, and the directory can be opened again. Blocks until then, but gives up on a
    /// disk that hangs some seconds later. Closing twice is no error.
    ///
    /// # Errors
    ///
    /// Where the replica had failed: it was poisoned, and this is why. Or where it did not stop in
    /// time.
    ///
    /// ```
    /// # fn main() -> indelible::Result<()> {
    /// # let replica = indelible::Replica::in_memory()?;
    /// replica.close()
    /// # }
    /// ```
    pub fn close(&self) -> Result<()> {
        self.handle.close()
    }
}

impl Builder {
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
    /// itself names its voters; they may then be left out here, and must be the same, addresses
    /// included, where they are given. Left out at the first opening, the replica is a cluster by
    /// itself, for good.
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

    /// Where to listen, if that is not the address that the others connect to.
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

    /// Opens the replica. See [`Replica::open`].
    ///
    /// # Errors
    ///
    /// Where an argument is not usable (the error names it), the voters given are not those of the
    /// ledger, the address cannot be listened on, or as [`Replica::open`].
    ///
    /// ```
    /// # fn main() -> indelible::Result<()> {
    /// # let directory = tempfile::tempdir().expect("a temporary directory");
    /// # let path = directory.path();
    /// let replica = indelible::Replica::builder(path).id(7).open()?;
    /// # replica.close()
    /// # }
    /// ```
    pub fn open(self) -> Result<Replica> {
        self.check()?;
        let disk = RealDisk::new(&self.path).map_err(|err| {
            let message = format!("cannot use the directory {}", self.path.display());
            Error::caused(ErrorKind::Io, message, err)
        })?;
        self.open_on(disk)
    }

    fn open_on<D: Disk>(self, disk: D) -> Result<Replica> {
        self.check()?;
        let options = journal::Options {
            segment_bytes: self.config.segment_bytes,
            ..journal::Options::default()
        };
        Driver::check(&disk, &self.driver_options())?;
        let journal = Journal::open(disk, options, self.id)?;
        let driver = Driver::open(journal, self.driver_options(), Moment::ZERO)?;
        let transport = self.transport(&driver)?;
        let close_timeout = self.config.close_timeout;
        let handle = threads::start(threads::Start { driver, transport, close_timeout })?;
        Ok(Replica { handle })
    }

    fn check(&self) -> Result<()> {
        self.config.check()?;
        if self.id == ReplicaId(0) {
            return Err(invalid("id", "is 0, wanted a positive number"));
        }
        let Some(peers) = &self.peers else { return Ok(()) };
        if !peers.iter().any(|(id, _)| *id == self.id) {
            return Err(invalid("peers", &format!("replica {} itself is not named", self.id)));
        }
        let voter = |(id, address): &(ReplicaId, String)| Voter {
            id: *id,
            incarnation: Incarnation::default(),
            address: address.clone(),
        };
        let membership = Membership::majority(peers.iter().map(voter).collect());
        membership.map_err(|err| invalid("peers", &err.to_string()))?;
        Ok(())
    }

    fn driver_options(&self) -> driver::Options {
        let config = &self.config;
        driver::Options {
            id: self.id,
            voters: self.peers.clone().unwrap_or_default(),
            request_timeout: config.request_timeout,
            queued_bytes_max: config.queued_bytes_max,
            heartbeat_interval: config.heartbeat_interval,
            election_timeout: config.election_timeout,
            retransmit_interval: config.retransmit_interval,
            inflight_slots_max: config.inflight_slots_max,
            inflight_bytes_max: config.inflight_bytes_max,
            message_bytes_max: ENTRIES_PER_MESSAGE_BYTES,
            seal_after: config.seal_after,
            batcher: batcher::Options {
                commands_max: config.batch_transactions_max,
                bytes_max: config.batch_bytes_max,
                eager_bytes: EAGER_BATCH_BYTES,
                inflight_max: BATCHES_IN_FLIGHT,
                gather: GATHER,
            },
        }
    }

    /// How the peers are reached; `None` where there are none.
    fn transport<D: Disk>(&self, driver: &Driver<D>) -> Result<Option<Arc<dyn Transport>>> {
        let voters = driver.voters().to_vec();
        if voters.len() == 1 {
            return Ok(None);
        }
        let hello = driver.standing().hello;
        if let Some(Network(network)) = &self.network {
            return Ok(Some(Arc::new(network.transport(hello))));
        }
        let own = voters.iter().find(|(id, _)| *id == self.id).map(|(_, address)| address.clone());
        let listen = self.listen.clone().or(own).unwrap_or_default();
        let options = TcpOptions {
            peer_queue_bytes_max: self.config.peer_queue_bytes_max,
            ..TcpOptions::default()
        };
        let tcp = Tcp::new(hello, listen.clone(), voters, options).map_err(|err| {
            Error::caused(ErrorKind::Io, format!("cannot listen on {listen}"), err)
        })?;
        Ok(Some(Arc::new(tcp)))
    }
}

/// Up to about so many bytes, a sync costs what a sync of one block costs (`docs/performance.md`).
const EAGER_BATCH_BYTES: usize = 64 * 1024;

/// Most batches of that size in flight.
const BATCHES_IN_FLIGHT: usize = 4;

/// How long the first of several callers waits for the others to come back with their next
/// transactions: a part of a sync.
const GATHER: Duration = Duration::from_micros(100);

impl fmt::Debug for Replica {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replica").finish_non_exhaustive()
    }
}

fn invalid(field: &str, found: &str) -> Error {
    Error::new(ErrorKind::InvalidArgument, format!("{field}: {found}"))
}
