//! An embeddable Multi-Paxos transaction ledger.

mod config;
mod history;
mod key;
mod record;
mod replica;
mod snapshot;
mod status;
mod table;
mod transaction;

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

pub use config::Config;
pub use history::Transactions;
pub use key::{Key, Prefix, PrefixOf};
pub use record::{Change, Changes, RawChange, Record, Requirement};
pub use replica::{Builder, Network, Replica};
pub use runtime::pending::Pending;
pub use snapshot::{Range, Snapshot, Versioned};
pub use status::{PeerStatus, Role, Status};
pub use store::verdict::Committed;
pub use table::{KeyOf, Puts, RawTable, Table, TableRef};
pub use transaction::Transaction;
pub use types::error::{Conflict, Error, ErrorKind, Expectation, Result};
pub use types::ids::{ReplicaId, RequestId, TxId};
pub use types::time::Time;
