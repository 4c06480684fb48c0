//! A running digest of the state, by which replicas find out that they differ.
//!
//! The digest is the sum, modulo 2^128, of one hash for each table and one for the newest version
//! of each key, tombstones included. A sum does not depend on the order of its terms: a write takes
//! the hash of the old version away and adds that of the new one, at the same cost however large
//! the state is, and a digest computed anew from the state in any order is the same.
//!
//! What became of requests, and who belongs, is added to it (`sessions.rs`, `mod.rs`).
//!
//! Only the newest versions count, because replicas may keep old ones for different times.
//! It detects accidents; it is not proof against a forger.

use super::versions::Version;
use crate::types::command::{TableUse, ValueCodec};
use crate::types::ids::{ContentHash, TxId};

/// The sum so far.
#[derive(Clone, Debug, Default)]
pub struct Digest {
    sum: u128,
    /// What is hashed, kept for its capacity.
    scratch: Vec<u8>,
}

/// Stands for a table's name, key kind and codec.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableHash(ContentHash);

impl TableHash {
    /// The hash of the table.
    #[must_use]
    pub fn of(table: &TableUse<'_>) -> Self {
        let TableUse { name, key_kind, codec } = table;
        let mut bytes = Vec::with_capacity(name.len() + key_kind.0.len() + 9);
        // Lengths first, so that no two tables share their bytes.
        bytes.extend_from_slice(&(name.len() as u64).to_le_bytes());
        bytes.extend_from_slice(name.as_bytes());
        bytes.extend_from_slice(key_kind.0.as_bytes());
        bytes.push(match codec {
            ValueCodec::Raw => 0,
            ValueCodec::Bincode => 1,
        });
        Self(ContentHash::of(&bytes))
    }
}

impl Digest {
    /// The digest.
    #[must_use]
    pub fn value(&self) -> u128 {
        self.sum
    }

    /// A table was registered.
    pub fn add_table(&mut self, table: TableHash, created: TxId) {
        self.scratch.clear();
        self.scratch.extend_from_slice(&table.0.0.to_le_bytes());
        self.scratch.extend_from_slice(&created.get().to_le_bytes());
        self.sum = self.sum.wrapping_add(ContentHash::of(&self.scratch).0);
    }

    /// A version became the newest of its key.
    pub fn add(&mut self, table: TableHash, key: &[u8], version: &Version) {
        self.sum = self.sum.wrapping_add(self.hash(table, key, version));
    }

    /// A version is no longer the newest of its key.
    pub fn remove(&mut self, table: TableHash, key: &[u8], version: &Version) {
        self.sum = self.sum.wrapping_sub(self.hash(table, key, version));
    }

    fn hash(&mut self, table: TableHash, key: &[u8], version: &Version) -> u128 {
        let value = version.value.as_deref();
        let bytes = &mut self.scratch;
        bytes.clear();
        bytes.extend_from_slice(&table.0.0.to_le_bytes());
        bytes.extend_from_slice(&version.txid.get().to_le_bytes());
        bytes.extend_from_slice(&version.created.get().to_le_bytes());
        bytes.extend_from_slice(&version.writes.to_le_bytes());
        bytes.push(u8::from(value.is_some()));
        bytes.extend_from_slice(&(key.len() as u64).to_le_bytes());
        bytes.extend_from_slice(key);
        match value {
            // Hashed by itself rather than copied, where that is less work.
            Some(value) if value.len() > COPIED_BYTES_MAX => {
                bytes.extend_from_slice(&ContentHash::of(value).0.to_le_bytes());
            }
            Some(value) => bytes.extend_from_slice(value),
            None => {}
        }
        ContentHash::of(bytes).0
    }
}

const COPIED_BYTES_MAX: usize = 1024;
