//! What the state should be: a reference so simple that it can be seen to be right.
//!
//! Each key has all the versions that it ever had. It shares no code with the store.

use std::collections::BTreeMap;

use super::history::{Change, Key, Transaction};

/// The state at every id so far.
#[derive(Debug, Default)]
pub struct Model<'a> {
    keys: BTreeMap<&'a Key, Vec<Version<'a>>>,
}

/// What a transaction left at a key: a value, or `None` where it deleted it.
#[derive(Clone, Copy, Debug)]
struct Version<'a> {
    txid: u64,
    value: Option<&'a [u8]>,
}

impl<'a> Model<'a> {
    /// What `key` held at `at`: the version and the value.
    #[must_use]
    pub fn get(&self, key: &Key, at: u64) -> Option<(u64, &'a [u8])> {
        let versions = self.keys.get(key)?;
        let before = versions.partition_point(|version| version.txid <= at);
        let version = versions[..before].last()?;
        Some((version.txid, version.value?))
    }

    /// The version of `key` at `at`.
    #[must_use]
    pub fn version(&self, key: &Key, at: u64) -> Option<u64> {
        self.get(key, at).map(|(version, _)| version)
    }

    /// The first id above `at` under which `key` was changed.
    #[must_use]
    pub fn next_change(&self, key: &Key, at: u64) -> Option<u64> {
        let versions = self.keys.get(key)?;
        let before = versions.partition_point(|version| version.txid <= at);
        versions.get(before).map(|version| version.txid)
    }

    /// The first condition that does not hold at `at`, with the version that is there instead.
    #[must_use]
    pub fn first_unmet(&self, transaction: &Transaction, at: u64) -> Option<(usize, Option<u64>)> {
        let mut judged = transaction.conditions.iter().enumerate();
        judged.find_map(|(index, condition)| {
            let found = self.version(&condition.key, at);
            (!condition.wanted.holds(found)).then_some((index, found))
        })
    }

    /// Whether the transaction would change the state at `at`. A put always does.
    #[must_use]
    pub fn is_changed_by(&self, transaction: &Transaction, at: u64) -> bool {
        transaction.standing().any(|change| self.is_change(change, at))
    }

    /// Writes all that the transaction changes. `txid` is above all ids so far.
    pub fn write(&mut self, txid: u64, transaction: &'a Transaction) {
        for change in transaction.standing() {
            if self.is_change(change, txid) {
                let version = Version { txid, value: change.value.as_deref() };
                self.keys.entry(&change.key).or_default().push(version);
            }
        }
    }

    fn is_change(&self, change: &Change, at: u64) -> bool {
        change.value.is_some() || self.get(&change.key, at).is_some()
    }
}
