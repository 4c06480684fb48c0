//! Why a transaction was refused: which condition did not hold, and what was found instead.

use std::fmt;

use super::ids::TxId;

/// Which condition refused a transaction, what it wanted and what it found.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Conflict {
    /// The place of the condition in the transaction, from 0, in the order they were added.
    pub condition: usize,
    /// The name of the table.
    pub table: String,
    /// The key, as its table encodes it.
    pub key: Vec<u8>,
    /// What the condition wanted to find.
    pub wanted: Expectation,
    /// The version of the key that was found: the id of the transaction that was faster, or `None`
    /// where the key was absent.
    pub found: Option<TxId>,
}

/// What a condition wants to find at a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Expectation {
    /// No value.
    Absent,
    /// Any value.
    Present,
    /// The value that this transaction wrote.
    Version(TxId),
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { condition, table, key, wanted, found } = self;
        write!(f, "condition {condition} on table {table:?} key 0x")?;
        for byte in key {
            write!(f, "{byte:02x}")?;
        }
        write!(f, ": wanted {wanted}, found ")?;
        match found {
            Some(version) => write!(f, "version {version}"),
            None => f.write_str("no value"),
        }
    }
}

impl fmt::Display for Expectation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent => f.write_str("no value"),
            Self::Present => f.write_str("any value"),
            Self::Version(version) => write!(f, "version {version}"),
        }
    }
}
