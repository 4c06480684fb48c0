//! One transaction as it travels and is stored: conditions and operations, encoded once.
//!
//! A command borrows from the bytes it was decoded from, so that applying one copies only what the
//! state keeps. It names its tables in a list, and every condition and operation points into that
//! list; the first command that puts into a table thereby registers its key kind and codec.
//!
//! A command can also do nothing but settle what becomes of another one (`resolves`).

use serde::{Deserialize, Serialize};

use super::codec::{self, DecodeError};
use super::ids::{RequestId, TxId};
use super::limits::SESSION_WINDOW;

/// A transaction: if every condition holds, all operations happen, under one id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command<'a> {
    /// Who asked; a command is known by this for ever.
    pub request: RequestId,
    /// All lower sequences of its session are answered to their callers: what became of them need
    /// not be remembered any more. Below `request.sequence`, by less than [`SESSION_WINDOW`].
    pub settled_below: u64,
    /// Where it is one, the command does nothing but settle what becomes of that request.
    pub resolves: Option<RequestId>,
    /// The tables that conditions and operations point to.
    #[serde(borrow)]
    pub tables: Vec<TableUse<'a>>,
    /// All must hold for the operations to happen. Judged in order; the first that fails is told.
    #[serde(borrow)]
    pub conditions: Vec<Condition<'a>>,
    /// What happens, in order; of two operations on one key the later one stands.
    #[serde(borrow)]
    pub operations: Vec<Operation<'a>>,
}

/// By what a command is to be known, drawn before it is encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// The request.
    pub request: RequestId,
    /// See [`Command::settled_below`].
    pub settled_below: u64,
}

/// A table as a command names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableUse<'a> {
    /// The name of the table.
    pub name: &'a str,
    /// How its keys are encoded. Two key types of different kinds have different orders.
    #[serde(borrow)]
    pub key_kind: KeyKind<'a>,
    /// How its values are encoded.
    pub codec: ValueCodec,
}

/// The kind of a table's keys: a short text such as `u64` or `(str,u32)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyKind<'a>(pub &'a str);

/// How the values of a table are encoded. Append only: a variant's place is its number on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ValueCodec {
    /// Bytes as the caller gave them.
    Raw,
    /// serde through bincode 1.3, little-endian, fixed-width integers.
    Bincode,
}

/// A condition on one key. Append only: a variant's place is its number on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Condition<'a> {
    /// The key has no value.
    Absent(#[serde(borrow)] Key<'a>),
    /// The key has a value.
    Present(#[serde(borrow)] Key<'a>),
    /// The key's value was written by this transaction.
    Version(#[serde(borrow)] Key<'a>, TxId),
}

impl From<RequestId> for Ticket {
    /// The ticket of a session in which everything was answered.
    fn from(request: RequestId) -> Self {
        Self { request, settled_below: request.sequence }
    }
}

impl<'a> Condition<'a> {
    /// The key that the condition speaks of.
    #[must_use]
    pub fn key(&self) -> Key<'a> {
        match self {
            Self::Absent(key) | Self::Present(key) | Self::Version(key, _) => *key,
        }
    }
}

/// A change to one key. Append only: a variant's place is its number on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Operation<'a> {
    /// The key gets this value.
    Put(#[serde(borrow)] Key<'a>, #[serde(with = "serde_bytes")] &'a [u8]),
    /// The key has no value any more.
    Delete(#[serde(borrow)] Key<'a>),
}

impl<'a> Operation<'a> {
    /// The key that the operation changes.
    #[must_use]
    pub fn key(&self) -> Key<'a> {
        match self {
            Self::Put(key, _) | Self::Delete(key) => *key,
        }
    }
}

/// A key in one of the command's tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Key<'a> {
    /// The place of the table in [`Command::tables`].
    pub table: u32,
    /// The key as the table encodes it.
    #[serde(with = "serde_bytes")]
    pub bytes: &'a [u8],
}

impl<'a> Command<'a> {
    /// A command that does nothing, to be filled.
    #[must_use]
    pub fn of(ticket: impl Into<Ticket>) -> Self {
        let Ticket { request, settled_below } = ticket.into();
        let (tables, conditions, operations) = (Vec::new(), Vec::new(), Vec::new());
        Self { request, settled_below, resolves: None, tables, conditions, operations }
    }

    /// A command that settles what becomes of the request `resolved`: whatever it was, or, where it
    /// has not arrived by then, nothing for ever. It is known as `request`, and may happen as often
    /// as it arrives.
    #[must_use]
    pub fn resolving(resolved: RequestId, request: RequestId) -> Self {
        Self { resolves: Some(resolved), ..Self::of(request) }
    }

    /// The command that `bytes` encode.
    ///
    /// # Errors
    ///
    /// Where the bytes are no command, one of its keys points to no table, its sequence is outside
    /// of its window, or it does something besides resolving a request.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let command: Self = codec::decode("command", bytes)?;
        let Self { request: RequestId { sequence, .. }, settled_below, .. } = command;
        let ahead = sequence.checked_sub(settled_below);
        if ahead.is_none_or(|ahead| ahead >= SESSION_WINDOW) {
            let message = format!("sequence {sequence} above {settled_below}, which is settled");
            return Err(DecodeError::new("command", message));
        }
        let does = command.tables.len() + command.conditions.len() + command.operations.len();
        if command.resolves.is_some() && does > 0 {
            return Err(DecodeError::new("command", "it resolves a request, and does more"));
        }
        let tables = command.tables.len();
        let conditions = command.conditions.iter().map(|condition| condition.key().table);
        let operations = command.operations.iter().map(|operation| operation.key().table);
        match conditions.chain(operations).find(|table| *table as usize >= tables) {
            Some(table) => {
                Err(DecodeError::new("command", format!("table {table} of {tables} is named")))
            }
            None => Ok(command),
        }
    }

    /// The operations that stand: of those on one key the last, in order.
    #[must_use]
    pub fn standing_operations(&self) -> Vec<&Operation<'a>> {
        if self.operations.len() <= 1 {
            return self.operations.iter().collect();
        }
        // A table may be in the list twice; its name is what it is known by.
        let name_and_key = |operation: &Operation<'a>| {
            let key = operation.key();
            (self.tables[key.table as usize].name, key.bytes)
        };
        // The sort is stable: behind the reversal, the last operation on a key comes first.
        let mut standing: Vec<_> = self.operations.iter().enumerate().rev().collect();
        standing.sort_by_key(|(_, operation)| name_and_key(operation));
        standing.dedup_by_key(|(_, operation)| name_and_key(operation));
        standing.sort_unstable_by_key(|(index, _)| *index);
        standing.into_iter().map(|(_, operation)| operation).collect()
    }

    /// The bytes of this command.
    ///
    /// # Panics
    ///
    /// Never: a command consists of types that always encode.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(self).expect("plain data always encodes")
    }
}
