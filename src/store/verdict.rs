//! How one command ended: committed, refused, or at odds with the ledger about a table.

use std::fmt;

use crate::types::command::{TableUse, ValueCodec};
use crate::types::error::{Conflict, Error, ErrorKind};
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
    /// it. A read at this id sees what the transaction wrote, and nothing that came later.
    pub at: TxId,
    /// The id of the transaction, or `None` where it changed nothing.
    pub txid: Option<TxId>,
    /// By what the transaction is known.
    pub request: RequestId,
}

impl Verdict {
    /// The id that the command took.
    #[must_use]
    pub fn txid(&self) -> Option<TxId> {
        match self {
            Self::Committed { txid, .. } => *txid,
            Self::Refused(_) | Self::TableMismatch(_) => None,
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
            Self::TableMismatch(mismatch) => Err((*mismatch).into()),
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
