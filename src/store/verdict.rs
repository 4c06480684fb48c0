//! How one command ended: committed, refused, at odds with the ledger about a table, or without an
//! effect because it was settled before.

use std::fmt;

use super::sessions::Outcome;
use crate::types::command::{TableUse, ValueCodec};
use crate::types::conflict::Conflict;
use crate::types::error::{Error, ErrorKind};
use crate::types::ids::{RequestId, TxId};

/// How one command ended. Equal on all replicas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Everything that it required held.
    Committed {
        /// The state that it left: its own id, or where it took none the newest before it.
        at: TxId,
        /// Its id, if it changed something.
        txid: Option<TxId>,
    },
    /// A condition did not hold. Nothing was written.
    Refused(Box<Conflict>),
    /// It uses a table with other types than those it was first written with. Nothing was written.
    TableMismatch(Box<TableMismatch>),
    /// Somebody resolved it before it arrived. It has no effect.
    Burned,
    /// Whether it was here before is not known any more. It has no effect now.
    Forgotten,
    /// Of a command that resolves a request: what became of that.
    Resolved(Box<Resolved>),
}

/// What became of a request, once somebody wanted to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// The request.
    pub request: RequestId,
    /// What became of it; `None` where that is not known any more.
    pub outcome: Option<Outcome>,
}

/// A table is used with other types than those it was first written with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableMismatch {
    /// The name of the table.
    pub table: String,
    /// The kind of its keys and the encoding of its values, as the ledger has them.
    pub registered: (String, ValueCodec),
    /// The same, as they were used.
    pub used: (String, ValueCodec),
}

/// A transaction that happened.
///
/// ```
/// use indelible::{RawTable, Replica};
///
/// # fn main() -> indelible::Result<()> {
/// const NOTES: RawTable<u64> = RawTable::new("notes");
/// let replica = Replica::in_memory()?;
/// let first = replica.put(NOTES, 1, b"text").wait()?;
/// let second = replica.put(NOTES, 1, b"more text").wait()?;
/// assert!(first.txid < second.txid);
///
/// // There is no note 7: nothing changes, so there is no new id.
/// let third = replica.delete(NOTES, 7).wait()?;
/// assert_eq!(third.txid, None);
/// assert_eq!(Some(third.at), second.txid);
/// # replica.close()
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Committed {
    /// The state that the transaction left: its own id, or where it took none the newest id before
    /// it. A snapshot that stands at this id or above holds what the transaction wrote, as far as
    /// nothing later took its place.
    pub at: TxId,
    /// The id of the transaction, or `None` where it changed nothing.
    pub txid: Option<TxId>,
    /// By what the transaction is known.
    pub request: RequestId,
}

/// What became of a transaction for good, as [`Replica::resolve`](crate::Replica::resolve) tells.
///
/// ```
/// use indelible::{Error, Replica, Resolution, Result};
///
/// /// Whether a transaction happened that `err` left open.
/// fn happened(replica: &Replica, err: &Error) -> Result<bool> {
///     let request = err.request().expect("an unknown outcome names its transaction");
///     Ok(match replica.resolve(request).wait()? {
///         Resolution::Committed(done) => {
///             println!("it happened, at {}", done.at);
///             true
///         }
///         resolution => {
///             println!("it did not, and never will: {resolution:?}");
///             false
///         }
///     })
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Resolution {
    /// It happened, as this tells.
    Committed(Committed),
    /// A condition did not hold. Nothing was written.
    Refused {
        /// The place of the condition in the transaction, from 0.
        condition: usize,
        /// The version of its key that was found, or `None` where the key was absent.
        found: Option<TxId>,
    },
    /// It used a table with other types than those it was first written with. Nothing was written.
    TableMismatch,
    /// It had not arrived, and now it never has an effect, however late it arrives.
    Burned,
}

impl Resolution {
    /// The transaction, where it happened.
    ///
    /// ```
    /// use indelible::Resolution;
    /// assert_eq!(Resolution::Burned.committed(), None);
    /// ```
    #[must_use]
    pub fn committed(&self) -> Option<Committed> {
        match self {
            Self::Committed(committed) => Some(*committed),
            Self::Refused { .. } | Self::TableMismatch | Self::Burned => None,
        }
    }
}

impl Verdict {
    /// The id that is told of the command: the one that it took when it was here first.
    #[must_use]
    pub fn txid(&self) -> Option<TxId> {
        match self {
            Self::Committed { txid, .. } => *txid,
            Self::Refused(_)
            | Self::TableMismatch(_)
            | Self::Burned
            | Self::Forgotten
            | Self::Resolved(_) => None,
        }
    }

    /// The request that the command burned, or found burned.
    #[must_use]
    pub fn burned(&self) -> Option<RequestId> {
        match self {
            Self::Resolved(resolved) if resolved.outcome == Some(Outcome::Burned) => {
                Some(resolved.request)
            }
            _ => None,
        }
    }

    /// The request of which the command told that it is not known any more what became of it.
    #[must_use]
    pub fn forgotten(&self) -> Option<RequestId> {
        match self {
            Self::Resolved(resolved) if resolved.outcome.is_none() => Some(resolved.request),
            _ => None,
        }
    }

    /// The verdict as the caller of `request` is told.
    ///
    /// # Errors
    ///
    /// Where the command was not committed.
    pub fn into_result(self, request: RequestId) -> Result<Committed, Error> {
        match self {
            Self::Committed { at, txid } => Ok(Committed { at, txid, request }),
            Self::Refused(conflict) => Err(Error::refused(request, *conflict)),
            Self::TableMismatch(mismatch) => Err(Error::from(*mismatch).about_request(request)),
            Self::Burned => Err(Error::burned(request)),
            Self::Forgotten => Err(Error::session_expired(request)),
            // Nobody asks a resolving command for what it committed.
            Self::Resolved(resolved) => Err(Error::session_expired(resolved.request)),
        }
    }

    /// The verdict as the caller is told who resolves a request.
    ///
    /// # Errors
    ///
    /// Where what became of it is not known any more.
    ///
    /// # Panics
    ///
    /// Where the command resolves nothing.
    pub fn into_resolution(self) -> Result<Resolution, Error> {
        let Self::Resolved(resolved) = self else { panic!("{self:?} resolves nothing") };
        let Resolved { request, outcome } = *resolved;
        match outcome.ok_or_else(|| Error::session_expired(request))? {
            Outcome::Committed { at, took_id } => {
                let txid = took_id.then_some(at);
                Ok(Resolution::Committed(Committed { at, txid, request }))
            }
            Outcome::Refused { condition, found } => {
                Ok(Resolution::Refused { condition: condition as usize, found })
            }
            Outcome::TableMismatch { .. } => Ok(Resolution::TableMismatch),
            Outcome::Burned => Ok(Resolution::Burned),
        }
    }
}

impl From<TableMismatch> for Error {
    fn from(mismatch: TableMismatch) -> Self {
        Self::new(ErrorKind::TableMismatch, mismatch.to_string())
    }
}

impl TableMismatch {
    /// `used` differs from what was registered under its name.
    #[must_use]
    pub fn new(registered: (&str, ValueCodec), used: &TableUse<'_>) -> Self {
        let TableUse { name, key_kind, codec } = used;
        Self {
            table: (*name).into(),
            registered: (registered.0.into(), registered.1),
            used: (key_kind.0.into(), *codec),
        }
    }
}

impl fmt::Display for TableMismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { table, registered, used } = self;
        write!(
            f,
            "table {table:?} has keys of kind {} and {} values",
            registered.0,
            Of(registered.1)
        )?;
        write!(f, ", used with keys of kind {} and {} values", used.0, Of(used.1))
    }
}

impl std::error::Error for TableMismatch {}

struct Of(ValueCodec);

impl fmt::Display for Of {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            ValueCodec::Raw => "raw",
            ValueCodec::Bincode => "bincode",
        })
    }
}
