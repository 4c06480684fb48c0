//! The tables of the ledger: each name with the types it was first written with.
//!
//! A table is registered by the transaction that first puts into it, and is part of the state from
//! that id on. Transactions that only read or delete register nothing: where there is no table, its
//! keys are absent.
//!
//! Invariants:
//! * A name, once registered, keeps its key kind and its codec for ever.
//! * Tables are numbered in the order in which they were registered, so equally on all replicas.

use std::collections::BTreeMap;
use std::ops::{Index, IndexMut};

use super::digest::TableHash;
use super::verdict::TableMismatch;
use super::versions::Versions;
use crate::types::command::{KeyKind, TableUse, ValueCodec};
use crate::types::ids::TxId;

/// The registered tables.
#[derive(Debug, Default)]
pub struct Tables {
    tables: Vec<Table>,
    by_name: BTreeMap<Box<str>, TableId>,
}

/// The place of a table in the order of registration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableId(usize);

/// A table and all it holds.
#[derive(Debug)]
pub struct Table {
    /// Its name.
    pub name: Box<str>,
    /// The transaction that first put into it.
    pub created: TxId,
    /// Stands for its name, key kind and codec in the digest.
    pub hash: TableHash,
    /// The keys and their versions.
    pub versions: Versions,
    key_kind: Box<str>,
    codec: ValueCodec,
}

impl Tables {
    /// The table of this name.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<TableId> {
        self.by_name.get(name).copied()
    }

    /// All tables, in the order in which they were registered.
    #[must_use]
    pub fn all(&self) -> &[Table] {
        &self.tables
    }

    /// The same, to write to.
    pub fn all_mut(&mut self) -> &mut [Table] {
        &mut self.tables
    }

    /// Adds a table that is not there yet.
    pub fn register(&mut self, table: &TableUse<'_>, created: TxId) -> TableId {
        let id = TableId(self.tables.len());
        let before = self.by_name.insert(table.name.into(), id);
        assert!(before.is_none(), "table {:?} is registered once", table.name);
        self.tables.push(Table {
            name: table.name.into(),
            created,
            hash: TableHash::of(table),
            versions: Versions::default(),
            key_kind: table.key_kind.0.into(),
            codec: table.codec,
        });
        id
    }
}

impl Table {
    /// Its name and its types, as a command names them.
    #[must_use]
    pub fn as_used(&self) -> TableUse<'_> {
        TableUse { name: &self.name, key_kind: KeyKind(&self.key_kind), codec: self.codec }
    }

    /// Whether the types it is used with are its own.
    ///
    /// # Errors
    ///
    /// Where they are not.
    pub fn check(&self, used: &TableUse<'_>) -> Result<(), TableMismatch> {
        if *self.key_kind == *used.key_kind.0 && self.codec == used.codec {
            return Ok(());
        }
        Err(TableMismatch::new((&self.key_kind, self.codec), used))
    }
}

impl Index<TableId> for Tables {
    type Output = Table;

    fn index(&self, id: TableId) -> &Table {
        &self.tables[id.0]
    }
}

impl IndexMut<TableId> for Tables {
    fn index_mut(&mut self, id: TableId) -> &mut Table {
        &mut self.tables[id.0]
    }
}
