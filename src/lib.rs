//! An embeddable ledger: link it to your service, and the service has a durable, replicated,
//! ordered log of transactions, and the versioned key/value state that the log adds up to. One
//! replica in your process needs one line; three of them agree by Multi-Paxos and go on while one
//! is away.
//!
//! ```
//! use indelible::{Replica, Table};
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Clone, Deserialize, Serialize)]
//! struct Account { owner: String, cents: i64 }
//!
//! const ACCOUNTS: Table<u64, Account> = Table::new("accounts");
//!
//! # fn main() -> indelible::Result<()> {
//! # let directory = tempfile::tempdir().expect("a temporary directory");
//! # let path = directory.path();
//! let replica = Replica::open(path)?;
//! let opened = replica.put(ACCOUNTS, 1, &Account { owner: "Ada".into(), cents: 100 }).wait()?;
//! let ada = replica.get(ACCOUNTS, 1).wait()?.expect("written above");
//! assert_eq!(Some(ada.version), opened.txid);
//! # replica.close()
//! # }
//! ```
//!
//! # The few types
//!
//! * [`Replica`], [`Builder`], [`Config`]: one durable copy of the ledger, open in this process;
//!   how it is opened; its limits and timings.
//! * [`Table`], [`RawTable`], [`Key`]: a name with the types of its keys and values, a constant of
//!   your program.
//! * [`Transaction`]: conditions and changes that happen together or not at all.
//! * [`Pending`]: an answer on its way. Wait for it, or `.await` it on any executor.
//! * [`Snapshot`], [`Versioned`]: the state at one id, which stands still; a value with the id of
//!   the transaction that wrote it.
//! * [`Transactions`], [`Record`]: the ledger itself, read back.
//! * [`TxId`]: the id of a transaction, strictly increasing, equal on all replicas.
//! * [`Error`], [`ErrorKind`], [`Conflict`]: why a call failed; what refused a transaction.
//! * [`Status`]: what a replica tells about itself.
//!
//! # What is guaranteed
//!
//! * **Durable.** What was acknowledged was synced to disk by a quorum of the voters, by
//!   default a majority, and survives a crash of any of them, and of all.
//! * **Ordered.** Each transaction that changes something gets an id, greater than that of all
//!   before it, equal on all replicas and never used twice.
//! * **All or nothing.** All of a transaction happens under one id, or none of it, and only if all
//!   that it requires holds at that place in the order.
//! * **Linearizable.** [`Replica::get`] and [`Replica::snapshot`] see everything that was
//!   acknowledged before they were called, on whatever replica. [`Replica::stale_snapshot`] does
//!   not promise this.
//! * **Once.** A transaction that was submitted happens once or not at all. Where the leader
//!   changes or a message is lost, it is tried again by itself until its deadline.
//! * **Honest.** A write that may or may not have happened fails with
//!   [`Error::is_outcome_unknown`], never as if it had not, and [`Replica::resolve`] settles which
//!   it is. Every call is answered within its deadline ([`Config::request_timeout`]), but those
//!   that say that they have none.
//!
//! # What is not
//!
//! * **Replicas are trusted**, and so is the network between them: one that lies is not tolerated,
//!   and nothing is encrypted or authenticated.
//! * **A failed sync is final.** The replica stops for good; open its directory anew.
//! * **A majority must be there**, or writes and linearizable reads time out.
//! * **A transaction that was refused is not tried again by itself**, nor is one that timed out: to
//!   submit the same again makes another transaction.
//! * **A damaged directory of a lone replica is refused, not repaired**: nobody else has what is
//!   lost. One of several opens, and gets from the others what it lacks.
//! * **The state is in memory**, with the old versions of keys. The journal grows with all that is
//!   written, unless [`Config::history_bytes_min`] is set.
//! * **Values are opaque and unseen**: no indexes, no queries beyond keys, ranges and prefixes.
//!
//! What exactly is tolerated, and what is refused, is in [the fault
//! model](_documentation::protocol).
//!
//! # Cookbook
//!
//! ## Write only if nobody was faster
//!
//! ```
//! # use indelible::{Replica, Table};
//! # const STOCK: Table<String, u32> = Table::new("stock");
//! # fn main() -> indelible::Result<()> {
//! # let replica = Replica::in_memory()?;
//! # replica.put(STOCK, "tea", &3).wait()?;
//! loop {
//!     let tea = replica.get(STOCK, "tea").wait()?.expect("there is tea");
//!     let mut sale = replica.transaction();
//!     sale.version(STOCK, "tea", tea.version).put(STOCK, "tea", &(tea.value - 1));
//!     match sale.commit().wait() {
//!         Ok(sold) => break println!("sold in {}", sold.at),
//!         Err(err) if err.is_refused() => continue, // Somebody was faster: read again.
//!         Err(err) => return Err(err),
//!     }
//! }
//! # replica.close()
//! # }
//! ```
//!
//! Other conditions are [`Transaction::absent`] and [`Transaction::present`]. A transaction may mix
//! keys and tables; without a change it is a check.
//!
//! ## Composite keys and prefixes
//!
//! ```
//! use indelible::{Prefix, Replica, Table};
//!
//! /// Lines of orders: the order, then the line.
//! const LINES: Table<(String, u32), String> = Table::new("lines");
//!
//! # fn main() -> indelible::Result<()> {
//! # let replica = Replica::in_memory()?;
//! let mut order = replica.transaction();
//! order.put(LINES, ("order 7", 1), &"tea".into()).put(LINES, ("order 7", 2), &"milk".into());
//! order.commit().wait()?;
//!
//! let snapshot = replica.snapshot().wait()?;
//! let lines = snapshot.prefix(LINES, Prefix(("order 7",))).collect::<Result<Vec<_>, _>>()?;
//! assert_eq!(lines.len(), 2);
//! let last = snapshot.range(LINES, ("order 7", 0)..).next_back().expect("there is one")?;
//! assert_eq!(last.1.value, "milk");
//! # replica.close()
//! # }
//! ```
//!
//! ## Read the ledger
//!
//! ```
//! # use indelible::{Replica, Table, TxId};
//! # const NAMES: Table<u64, String> = Table::new("names");
//! # fn main() -> indelible::Result<()> {
//! # let replica = Replica::in_memory()?;
//! # replica.put(NAMES, 1, &"Ada".into()).wait()?;
//! let mut seen = TxId::ZERO; // Where you were; keep it with whatever you derive from the ledger.
//! for record in replica.transactions(seen) {
//!     let record = record?;
//!     for change in record.changes().of(NAMES) {
//!         let change = change?;
//!         println!("{} {}: {:?}", record.txid(), change.key, change.value);
//!     }
//!     seen = record.txid();
//! }
//! # replica.close()
//! # }
//! ```
//!
//! ## Three replicas
//!
//! The same list on each machine, with the own id; everything else stays as it is.
//!
//! ```no_run
//! # fn main() -> indelible::Result<()> {
//! let replica = indelible::Replica::builder("data")
//!     .id(1)
//!     .peers([(1, "a:7400"), (2, "b:7400"), (3, "c:7400")])
//!     .open()?;
//! replica.wait_ready(std::time::Duration::from_secs(60))?;
//! # replica.close()
//! # }
//! ```
//!
//! The first time, all three must be up; afterwards two are enough. In tests, [`Network`] connects
//! replicas within one process, and [`Replica::in_memory`] is one without a disk. How to run them
//! is in [operations](_documentation::operations).
//!
//! ## In async code
//!
//! Every call that waits returns a [`Pending`], which is a future and needs no runtime of its own.
//! It was submitted when it was returned; dropping it does not cancel it.
//!
//! ```
//! use indelible::{RawTable, Replica};
//!
//! const NOTES: RawTable<u64> = RawTable::new("notes");
//!
//! async fn both(replica: &Replica) -> indelible::Result<()> {
//!     let first = replica.put(NOTES, 1, b"one"); // Both are under way at once.
//!     let second = replica.put(NOTES, 2, b"two");
//!     first.await?;
//!     second.await?;
//!     Ok(())
//! }
//! ```
//!
//! [`Replica::open`], [`Replica::wait_ready`], [`Replica::close`], [`Replica::backup`], each step
//! of [`Transactions`], and what reads backups and directories ([`Backup`], [`Restore`]) block:
//! call them where blocking is fine. [`Replica::status`] and its like wait for the turn under way,
//! which is short.
//!
//! ## An outcome is unknown
//!
//! A call ends in one of three ways: the transaction happened; it did not, and never will; or, at
//! the deadline or the end of this replica, nobody could tell. The error then names the
//! transaction, and any replica settles what became of it, now or after a restart.
//!
//! ```
//! # use indelible::{RawTable, Replica};
//! # const NOTES: RawTable<u64> = RawTable::new("notes");
//! /// Whether the note was written.
//! fn write(replica: &Replica, note: u64, text: &[u8]) -> indelible::Result<bool> {
//!     match replica.put(NOTES, note, text).wait() {
//!         Ok(_) => Ok(true),
//!         Err(err) if err.is_outcome_unknown() => {
//!             let request = err.request().expect("it names the transaction");
//!             // Or keep `request.to_string()`, and ask when the replica is open again.
//!             Ok(replica.resolve(request).wait()?.committed().is_some())
//!         }
//!         Err(err) => Err(err), // It did not happen, and never will.
//!     }
//! }
//! # fn main() -> indelible::Result<()> {
//! # let replica = Replica::in_memory()?;
//! # assert!(write(&replica, 1, b"text")?);
//! # replica.close()
//! # }
//! ```
//!
//! What a process that dies had under way, nobody can name. Give such a transaction a record of its
//! own, which must be absent before it: commit the same again, and it cannot happen twice.
//!
//! ```
//! # use indelible::{RawTable, Replica};
//! # const BALANCES: RawTable<String> = RawTable::new("balances");
//! const PAYMENTS: RawTable<u64> = RawTable::new("payments");
//!
//! fn pay(replica: &Replica, payment: u64) -> indelible::Result<()> {
//!     let mut pay = replica.transaction();
//!     pay.absent(PAYMENTS, payment).put(PAYMENTS, payment, b"").put(BALANCES, "Ada", b"60");
//!     match pay.commit().wait() {
//!         Ok(_) => Ok(()),
//!         Err(err) if err.is_refused() => Ok(()), // It happened before.
//!         Err(err) => Err(err), // `is_outcome_unknown` or `is_retryable`: call this again.
//!     }
//! }
//! # fn main() -> indelible::Result<()> {
//! # let replica = Replica::in_memory()?;
//! # pay(&replica, 1)?;
//! # pay(&replica, 1)?;
//! # replica.close()
//! # }
//! ```
//!
//! # Features
//!
//! None is on by default, and none changes a byte on disk or between replicas.
//!
//! * **`tracing`**: turn it on to have elections, peers, slow syncs and the end of a replica in
//!   your logs. It costs a few comparisons a turn. No key or value is ever in an event. A
//!   subscriber runs while the replica does nothing else: it must not call the replica, or wait.
//! * **`internals`**: turn it on to measure or inspect a layer by itself. Opens the layers as
//!   public modules, without any promise of stability.
//! * **`sim`**: turn it on to run your service on simulated replicas, disks and networks (module
//!   `sim`), in tests. Implies `internals`.
//! * **`cli`**: builds the program `indelible`, which with `sim` runs campaigns of random seeds.
//!
//! # Where to read on
//!
//! * [Operations](_documentation::operations): opening, `status()`, what to do when, backups.
//! * [Architecture](_documentation::architecture), [the protocol](_documentation::protocol), [the
//!   format on disk](_documentation::format) and [between replicas](_documentation::wire), [how it
//!   is tested](_documentation::testing), and [the words](_documentation::glossary).
//! * [Changelog](_documentation::changelog).
//! * `examples/` in the repository: `embedded`, `three_replicas`, `replica`, `git_history`, and
//!   `simulated_ids`.
//!
//! Linux is what it is developed and measured on. macOS is meant to work. Windows is not supported.

// What only tests and tools reach, when the layers are open to them, is unused otherwise.
#![cfg_attr(
    not(feature = "internals"),
    allow(
        dead_code,
        unused_imports,
        reason = "the layers are whole; the facade uses a part of them"
    )
)]

mod backup;
mod builder;
mod config;
mod history;
mod key;
mod leader;
mod maintenance;
mod members;
mod network;
mod record;
mod replica;
mod resolve;
mod restore;
mod snapshot;
mod status;
mod table;
mod transaction;

#[cfg(not(shuttle))]
mod sync;
// Open to what explores schedules; see there.
#[cfg(shuttle)]
pub mod sync;

#[cfg(not(feature = "internals"))]
mod journal;
#[cfg(not(feature = "internals"))]
mod paxos;
#[cfg(not(feature = "internals"))]
mod runtime;
#[cfg(not(feature = "internals"))]
mod store;
#[cfg(not(feature = "internals"))]
mod transport;
#[cfg(not(feature = "internals"))]
mod types;

// Open for benches and tools that measure one layer; no promise of stability.
#[cfg(feature = "internals")]
pub mod journal;
#[cfg(feature = "internals")]
pub mod paxos;
#[cfg(feature = "internals")]
pub mod runtime;
#[cfg(feature = "internals")]
pub mod store;
#[cfg(feature = "internals")]
pub mod transport;
#[cfg(feature = "internals")]
pub mod types;

#[cfg(feature = "sim")]
pub mod sim;

pub use backup::Backup;
pub use builder::Builder;
pub use config::Config;
pub use history::Transactions;
pub use key::{Key, Prefix, PrefixOf};
pub use leader::Leader;
pub use network::Network;
pub use record::{Change, Changes, RawChange, Record, Requirement};
pub use replica::Replica;
pub use restore::{Restore, Restored};
pub use runtime::pending::Pending;
pub use snapshot::{Range, Snapshot, Versioned};
pub use status::{PeerStatus, Role, Status};
pub use store::verdict::{Committed, Resolution};
pub use table::{KeyOf, Puts, RawTable, Table, TableRef};
pub use transaction::Transaction;
pub use types::conflict::{Conflict, Expectation};
pub use types::edition::Edition;
pub use types::error::{Error, ErrorKind, Result};
pub use types::ids::{
    ClusterId, Incarnation, ParseClusterIdError, ParseRequestIdError, ReplicaId, RequestId,
    SessionId, TxId,
};
pub use types::membership::{Member, Membership, MembershipError};
pub use types::time::Time;

/// The documents of the repository, as they were when this version was made.
pub mod _documentation {
    #[doc = include_str!("../docs/rustdoc.md")]
    #[doc = include_str!("../docs/architecture.md")]
    pub mod architecture {}

    #[doc = include_str!("../docs/rustdoc.md")]
    #[doc = include_str!("../docs/protocol.md")]
    pub mod protocol {}

    #[doc = include_str!("../docs/rustdoc.md")]
    #[doc = include_str!("../docs/format.md")]
    pub mod format {}

    #[doc = include_str!("../docs/rustdoc.md")]
    #[doc = include_str!("../docs/wire.md")]
    pub mod wire {}

    #[doc = include_str!("../docs/rustdoc.md")]
    #[doc = include_str!("../docs/operations.md")]
    pub mod operations {}

    #[doc = include_str!("../docs/rustdoc.md")]
    #[doc = include_str!("../docs/testing.md")]
    pub mod testing {}

    #[doc = include_str!("../docs/rustdoc.md")]
    #[doc = include_str!("../docs/glossary.md")]
    pub mod glossary {}

    #[doc = include_str!("../docs/rustdoc.md")]
    #[doc = include_str!("../CHANGELOG.md")]
    pub mod changelog {}
}

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
