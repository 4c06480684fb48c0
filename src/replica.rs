//! The front door: open a replica, write, read, close.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::builder::Builder;
use crate::history::Transactions;
use crate::key::Key;
use crate::leader::Leader;
use crate::runtime::handle::Handle;
use crate::runtime::pending::Pending;
use crate::snapshot::{Snapshot, Versioned};
use crate::status::Status;
use crate::store::verdict::Committed;
use crate::table::{KeyOf, Puts, TableRef};
use crate::transaction::Transaction;
use crate::types::error::{Error, ErrorKind, Result};
use crate::types::ids::{ReplicaId, TxId};
use crate::types::limits::KEY_BYTES_MAX;

/// One durable copy of the ledger, open in this process.
///
/// Clones share it. It stops when one of them is closed, or when all are dropped, and with them
/// every [`Transaction`] of theirs that is not committed, and every [`Transactions`]. Only
/// [`Replica::close`] lets what was proposed end, and tells whether all went well.
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
    pub(crate) handle: Handle,
}

impl Replica {
    pub(crate) fn handle(&self) -> &Handle {
        &self.handle
    }

    /// The replica that answers this handle.
    #[cfg(feature = "sim")]
    pub(crate) fn of(handle: Handle) -> Self {
        Self { handle }
    }

    /// Opens the replica in the directory `path`, which is made if it is not there: one durable
    /// replica that is a cluster by itself, or whatever it was when it was opened last.
    ///
    /// Blocks while the journal is read and applied, and a new segment of it is made and synced.
    /// Does not wait for a leader: calls may be made at once, and [`Replica::wait_ready`] waits.
    ///
    /// # Errors
    ///
    /// Where the directory is open already, belongs to another replica or to an unknown format,
    /// lacks a file, is that of a lone replica and damaged where something was acknowledged
    /// (nothing was written to it in these cases), or cannot be used. A directory of one of several
    /// replicas needs its id and its port; what is damaged there, the others have.
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
        Builder::new(path.into())
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
        let opening = Self::builder("in memory").opening()?;
        Ok(Self { handle: opening.open_in_memory()? })
    }

    /// Waits until this replica can serve reads and writes: a leader is known and was confirmed by
    /// a quorum, and this replica has applied what had been acknowledged. Blocks for `timeout` at
    /// most.
    ///
    /// # Errors
    ///
    /// Where that was not so in time ([`TimedOut`](ErrorKind::TimedOut), and what is in the way),
    /// its disk is full ([`StorageFull`](ErrorKind::StorageFull)), or the replica stopped.
    ///
    /// ```
    /// # fn main() -> indelible::Result<()> {
    /// # let replica = indelible::Replica::in_memory()?;
    /// replica.wait_ready(std::time::Duration::from_secs(10))?;
    /// # replica.close()
    /// # }
    /// ```
    pub fn wait_ready(&self, timeout: Duration) -> Result<()> {
        self.handle.read(Some(timeout)).wait().map_err(|err| {
            let is_late = err.kind() == ErrorKind::TimedOut;
            let trouble = is_late.then(|| self.status().trouble).flatten();
            trouble.map_or(err, |trouble| {
                Error::new(ErrorKind::TimedOut, format!("not ready within {timeout:?}: {trouble}"))
            })
        })
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
    /// call. A transaction that was submitted and not yet waited for may or may not be in it.
    ///
    /// # Errors
    ///
    /// Where no leader confirmed the read in time ([`TimedOut`](ErrorKind::TimedOut)),
    /// [`waiting_reads_max`](crate::Config::waiting_reads_max) wait already
    /// ([`Busy`](ErrorKind::Busy)), the disk of this replica is full and it cannot take in what is
    /// newest ([`StorageFull`](ErrorKind::StorageFull)), the replica stopped, the key is too large,
    /// the table was written with other types, or the value does not decode.
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
        fresh.then(move |()| Snapshot::newest(store.get()).get_encoded(table, &bytes))
    }

    /// Hands over: makes replica `to` the leader in place of this one, which must lead now. For
    /// planned work on this machine; [`Replica::close`] does it by itself where it can.
    ///
    /// What this replica has proposed is chosen first, if that takes no longer than a quarter of an
    /// [election timeout](crate::Config::election_timeout), and `to` learns what is chosen; then it
    /// campaigns at once. Mostly that takes a few round trips and syncs, at most an election
    /// timeout; then this replica leads on. What is written meanwhile waits, and fails for it only
    /// where more gathers than [`queued_bytes_max`](crate::Config::queued_bytes_max), or its own
    /// deadline is sooner. Ends when `to` leads, or as an error after two election timeouts at
    /// most; where it is [`TimedOut`](ErrorKind::TimedOut), `to` may lead yet.
    ///
    /// # Errors
    ///
    /// Where this replica does not lead ([`NotLeader`](ErrorKind::NotLeader)), `to` is no voter
    /// ([`InvalidArgument`](ErrorKind::InvalidArgument)), is not heard, lags too far or did not
    /// take over, so that this replica leads on ([`Unreachable`](ErrorKind::Unreachable)), this
    /// replica hands over to another one already, or 4,096 callers wait for that
    /// ([`Busy`](ErrorKind::Busy)), nobody leads in time, or a third one does
    /// ([`TimedOut`](ErrorKind::TimedOut)), or the replica stopped.
    ///
    /// ```
    /// # fn main() -> indelible::Result<()> {
    /// # let replica = indelible::Replica::in_memory()?;
    /// # replica.wait_ready(std::time::Duration::from_secs(10))?;
    /// // It leads already: there is nothing to do.
    /// replica.transfer_leadership(1).wait()?;
    /// # replica.close()
    /// # }
    /// ```
    pub fn transfer_leadership(&self, to: impl Into<ReplicaId>) -> Pending<()> {
        self.handle.hand_over(to.into())
    }

    /// Waits until this replica knows of another leader than `known`: another replica, the same one
    /// once it leads anew, or none.
    ///
    /// Begin with `None`, and go on with what came last: no loop misses who leads in the end,
    /// however slow it is, though it may not see all who led meanwhile. Waits as long as it takes,
    /// without a deadline. What is told is what this replica hears. That may be late, as always
    /// where others decide, but no leader is told after a later one. [`Leader`] says how to act on
    /// it safely.
    ///
    /// # Errors
    ///
    /// Where the replica was closed, or stopped; or 4,096 callers wait already
    /// ([`Busy`](ErrorKind::Busy)).
    ///
    /// ```
    /// # fn main() -> indelible::Result<()> {
    /// # let replica = indelible::Replica::in_memory()?;
    /// # let service = replica.clone();
    /// # let worker = std::thread::spawn(move || -> indelible::Result<()> {
    /// let mut leader = None;
    /// loop {
    ///     leader = replica.next_leader(leader).wait()?;
    ///     match leader {
    ///         Some(leader) if leader.id == replica.status().id => println!("it is my turn"),
    ///         Some(leader) => println!("{leader} leads"),
    ///         None => println!("nobody leads"),
    ///     }
    /// }
    /// # });
    /// # service.wait_ready(std::time::Duration::from_secs(10))?;
    /// # service.close()?;
    /// # let ended = worker.join().expect("no panic");
    /// # assert_eq!(ended.expect_err("it was closed").kind(), indelible::ErrorKind::Closed);
    /// # Ok(())
    /// # }
    /// ```
    pub fn next_leader(&self, known: Option<Leader>) -> Pending<Option<Leader>> {
        let next = self.handle.next_leader(known.map(|known| known.ballot()));
        next.then(|ballot| Ok(ballot.map(Leader::of)))
    }

    /// The state as it is now, to stand still while the ledger moves on.
    ///
    /// Linearizable: it holds everything that was acknowledged, by any replica, before this call.
    ///
    /// # Errors
    ///
    /// Where no leader confirmed the read in time ([`TimedOut`](ErrorKind::TimedOut)),
    /// [`waiting_reads_max`](crate::Config::waiting_reads_max) wait already
    /// ([`Busy`](ErrorKind::Busy)), the disk of this replica is full and it cannot take in what is
    /// newest ([`StorageFull`](ErrorKind::StorageFull)), or the replica stopped.
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
        self.handle.read(None).then(move |()| Ok(Snapshot::newest(store.get())))
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
        Snapshot::newest(self.handle.store().get())
    }

    /// Waits until this replica has applied the transaction `txid`, so that a [`stale_snapshot`]
    /// taken afterwards holds it, and everything before it.
    ///
    /// To read on one replica what was written through another, without asking the leader: pass the
    /// id on along with the answer. Asks nobody. An id that is applied here already is answered
    /// at once; one that is not given yet is waited for.
    ///
    /// [`stale_snapshot`]: Self::stale_snapshot
    ///
    /// # Errors
    ///
    /// Where it was not applied within [`request_timeout`](crate::Config::request_timeout)
    /// ([`TimedOut`](ErrorKind::TimedOut)), this ledger was restored and has no such id, nor ever
    /// will ([`Lost`](ErrorKind::Lost)), too many wait already ([`Busy`](ErrorKind::Busy),
    /// [`waiting_reads_max`](crate::Config::waiting_reads_max)), or the replica stopped.
    ///
    /// ```
    /// # use indelible::{Replica, Table};
    /// # const NAMES: Table<u64, String> = Table::new("names");
    /// # fn main() -> indelible::Result<()> {
    /// # let replica = Replica::in_memory()?;
    /// let written = replica.put(NAMES, 1, &"Ada".into()).wait()?;
    /// let txid = written.txid.expect("the name is new");
    /// // Elsewhere, on any replica:
    /// replica.wait_for(txid).wait()?;
    /// assert!(replica.stale_snapshot().get(NAMES, 1)?.is_some());
    /// # replica.close()
    /// # }
    /// ```
    pub fn wait_for(&self, txid: TxId) -> Pending<()> {
        self.handle.wait_for(txid)
    }

    /// The ledger itself: every committed transaction after `after`, whole and in order, up to the
    /// last one that is applied here now. [`TxId::ZERO`] begins at the beginning. Asks no other
    /// replica: after [`Replica::wait_ready`] it holds everything that was acknowledged before.
    ///
    /// Each step may read from the disk. A step is an error, and the last one, where that fails or
    /// what it finds is damaged; or the first one, where `after` is older than what is kept
    /// ([`Trimmed`](ErrorKind::Trimmed), [`history_bytes_min`](crate::Config::history_bytes_min),
    /// [`txid_trimmed`](Status::txid_trimmed)), or was given up when this ledger was restored
    /// ([`Lost`](ErrorKind::Lost)).
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
        let applicants = self.handle.strangers();
        Status::new(&report, &counters, applicants, &self.handle.store().get())
    }

    /// Closes the replica, for all its clones.
    ///
    /// What was not proposed does not happen any more; what was proposed may still end and be
    /// synced, for [`close_timeout`](crate::Config::close_timeout) at most, or ends as unknown.
    /// Where it leads, and the others are enough without it, it hands over meanwhile, so that they
    /// need not miss it first. Then all threads end, and the directory can be opened again. Blocks
    /// until then, but gives up on a disk that hangs: at most 15 s after
    /// [`close_timeout`](crate::Config::close_timeout). Closing twice is no error.
    ///
    /// # Errors
    ///
    /// Where the replica had stopped by itself: it was poisoned, or
    /// [removed](ErrorKind::Removed), and this is why. Or where its disk hangs
    /// ([`TimedOut`](ErrorKind::TimedOut)).
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
        let opening = self.opening()?;
        Ok(Replica { handle: opening.open(&self.path)? })
    }
}

impl fmt::Debug for Replica {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replica").finish_non_exhaustive()
    }
}
