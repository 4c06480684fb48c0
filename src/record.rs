//! Transactions as the ledger holds them: read back whole, in the order of their ids.
//!
//! A record is made of two things: the command as it was proposed, from the journal, and the id
//! that it took when it was applied, from the store's index of the ledger. Commands that were
//! refused, or that changed nothing, are in the journal too but are no records: they have no id.

use std::sync::Arc;

use crate::store::ledger::SlotOutcome;
use crate::table::{TableRef, decode_key};
use crate::types::codec::DecodeError;
use crate::types::command::{self, Command, Condition, Operation, TableUse, ValueCodec};
use crate::types::conflict::Expectation;
use crate::types::entry::Entry;
use crate::types::error::{Error, ErrorKind, Result};
use crate::types::ids::{RequestId, TxId};
use crate::types::time::Time;

/// One transaction of the ledger.
///
/// ```
/// use indelible::{Replica, Table, TxId};
///
/// # fn main() -> indelible::Result<()> {
/// const NAMES: Table<u64, String> = Table::new("names");
/// let replica = Replica::in_memory()?;
/// replica.put(NAMES, 1, &"Ada".into()).wait()?;
///
/// for record in replica.transactions(TxId::ZERO) {
///     let record = record?;
///     for change in record.changes().of(NAMES) {
///         let change = change?;
///         println!("{}: name {} becomes {:?}", record.txid(), change.key, change.value);
///     }
/// }
/// # replica.close()
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    txid: TxId,
    request: RequestId,
    time: Time,
    requirements: Vec<Requirement>,
    changes: Changes,
}

/// What a transaction required of one key.
///
/// ```
/// use indelible::{Expectation, Requirement};
/// fn is_insert(requirement: &Requirement) -> bool {
///     requirement.wanted == Expectation::Absent
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Requirement {
    /// The name of the table.
    pub table: Arc<str>,
    /// The key, as its table encodes it.
    pub key: Vec<u8>,
    /// What was to be found at the key.
    pub wanted: Expectation,
}

/// What a transaction did, in the order in which it was asked to; the last operation of each key.
///
/// A deletion stands here even where the key had no value.
///
/// ```
/// use indelible::{Record, Table};
///
/// const NAMES: Table<u64, String> = Table::new("names");
/// fn names(record: &Record) -> indelible::Result<Vec<String>> {
///     let changes = record.changes().of(NAMES);
///     changes.filter_map(|change| change.map(|change| change.value).transpose()).collect()
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changes(Vec<RawChange>);

/// A change to a key, as bytes.
///
/// ```
/// use indelible::RawChange;
/// fn is_deletion(change: &RawChange) -> bool {
///     change.value.is_none()
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RawChange {
    /// The name of the table.
    pub table: Arc<str>,
    /// The key, as its table encodes it.
    pub key: Vec<u8>,
    /// The value, as its table encodes it, or `None` where the key was deleted.
    pub value: Option<Arc<[u8]>>,
    types: (Arc<str>, ValueCodec),
}

/// A change to a key of a table, decoded.
///
/// ```
/// use indelible::Change;
/// let change = Change { key: 1_u64, value: Some("Ada") };
/// assert_eq!(change.key, 1);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change<K, V> {
    /// The key.
    pub key: K,
    /// The value, or `None` where the key was deleted.
    pub value: Option<V>,
}

impl Record {
    /// The id of the transaction.
    ///
    /// ```
    /// # use indelible::{Record, TxId};
    /// fn is_newer(record: &Record, than: TxId) -> bool { record.txid() > than }
    /// ```
    #[must_use]
    pub fn txid(&self) -> TxId {
        self.txid
    }

    /// By what the transaction was known to the one who committed it.
    ///
    /// ```
    /// # use indelible::{Record, RequestId};
    /// fn is_mine(record: &Record, request: RequestId) -> bool { record.request() == request }
    /// ```
    #[must_use]
    pub fn request(&self) -> RequestId {
        self.request
    }

    /// When the leader took the transaction in, as its clock said; never before the one in front.
    ///
    /// ```
    /// # use indelible::{Record, Time};
    /// fn is_since(record: &Record, time: Time) -> bool { record.time() >= time }
    /// ```
    #[must_use]
    pub fn time(&self) -> Time {
        self.time
    }

    /// What the transaction required. All of it held.
    ///
    /// ```
    /// # use indelible::Record;
    /// fn is_conditional(record: &Record) -> bool { !record.requirements().is_empty() }
    /// ```
    #[must_use]
    pub fn requirements(&self) -> &[Requirement] {
        &self.requirements
    }

    /// What the transaction did.
    ///
    /// ```
    /// # use indelible::Record;
    /// fn size(record: &Record) -> usize { record.changes().iter().count() }
    /// ```
    #[must_use]
    pub fn changes(&self) -> &Changes {
        &self.changes
    }
}

impl Changes {
    /// All changes, as bytes.
    ///
    /// ```
    /// # use indelible::Record;
    /// fn touches(record: &Record, table: &str) -> bool {
    ///     record.changes().iter().any(|change| *change.table == *table)
    /// }
    /// ```
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &RawChange> + DoubleEndedIterator {
        self.0.iter()
    }

    /// The changes to one table, decoded. An item is an error where the table was written with
    /// other types, or a key or value does not decode.
    ///
    /// ```
    /// # use indelible::{Record, Table};
    /// # const NAMES: Table<u64, String> = Table::new("names");
    /// fn names(record: &Record) -> usize { record.changes().of(NAMES).count() }
    /// ```
    pub fn of<T: TableRef>(
        &self,
        table: T,
    ) -> impl DoubleEndedIterator<Item = Result<Change<T::Key, T::Value>>> {
        let changes = self.0.iter().filter(move |change| *change.table == *table.name());
        changes.map(move |change| change.decode(table))
    }
}

impl RawChange {
    fn decode<T: TableRef>(&self, table: T) -> Result<Change<T::Key, T::Value>> {
        let TableUse { name, key_kind, codec } = table.table_use();
        if (&*self.types.0, self.types.1) != (key_kind.0, codec) {
            let message = format!("table {name:?} was written with other types");
            return Err(Error::new(ErrorKind::TableMismatch, message));
        }
        let key = decode_key(table, &self.key)?;
        let value = self.value.clone().map(|value| table.decode_value(value)).transpose()?;
        Ok(Change { key, value })
    }
}

/// The records of an applied entry, in order of their ids.
///
/// # Errors
///
/// Where a command of the entry does not decode; then it was never applied.
///
/// # Panics
///
/// Where `outcome` is that of another entry.
pub(crate) fn records_of(entry: &Entry, outcome: &SlotOutcome) -> Result<Vec<Record>, DecodeError> {
    assert_eq!(entry.command_count(), outcome.took_id.len(), "the outcome is that of the entry");
    let time = outcome.clamped.unwrap_or(entry.time());
    let mut txid = outcome.after;
    let mut records = Vec::new();
    for (bytes, _) in entry.commands().zip(&outcome.took_id).filter(|(_, took_id)| **took_id) {
        txid = txid.next().expect("the id was given when the entry was applied");
        records.push(record(txid, time, &Command::decode(bytes)?));
    }
    Ok(records)
}

fn record(txid: TxId, time: Time, command: &Command<'_>) -> Record {
    let names: Vec<Arc<str>> = command.tables.iter().map(|table| table.name.into()).collect();
    let kinds: Vec<Arc<str>> = command.tables.iter().map(|table| table.key_kind.0.into()).collect();
    let name = |key: command::Key<'_>| Arc::clone(&names[key.table as usize]);
    let requirement = |condition: &Condition<'_>| Requirement {
        table: name(condition.key()),
        key: condition.key().bytes.to_vec(),
        wanted: match condition {
            Condition::Absent(_) => Expectation::Absent,
            Condition::Present(_) => Expectation::Present,
            Condition::Version(_, version) => Expectation::Version(*version),
        },
    };
    let change = |operation: &&Operation<'_>| {
        let key = operation.key();
        let table = key.table as usize;
        RawChange {
            table: name(key),
            key: key.bytes.to_vec(),
            value: match operation {
                Operation::Put(_, value) => Some(Arc::from(*value)),
                Operation::Delete(_) => None,
            },
            types: (Arc::clone(&kinds[table]), command.tables[table].codec),
        }
    };
    Record {
        txid,
        request: command.request,
        time,
        requirements: command.conditions.iter().map(requirement).collect(),
        changes: Changes(command.standing_operations().iter().map(change).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::{RawTable, Table};
    use crate::transaction::Transaction;
    use crate::types::entry::EntryBuilder;

    const NAMES: Table<u64, String> = Table::new("names");
    const BLOBS: RawTable<u64> = RawTable::new("blobs");

    fn push(entry: &mut EntryBuilder, sequence: u64, build: impl FnOnce(&mut Transaction)) {
        let mut transaction = Transaction::detached();
        build(&mut transaction);
        let request = RequestId { sequence, ..RequestId::default() };
        entry.push(&transaction.encode(request).unwrap());
    }

    #[test]
    fn records_are_the_transactions_with_an_id() {
        let mut entry = EntryBuilder::new(Time(10), 0);
        let (ada, bob) = (String::from("Ada"), String::from("Bob"));
        push(&mut entry, 1, |tx| {
            _ = tx.put(NAMES, 1, &bob).put(BLOBS, 1, b"x").put(NAMES, 1, &ada)
        });
        push(&mut entry, 2, |tx| _ = tx.absent(NAMES, 1).put(NAMES, 1, &bob));
        push(&mut entry, 3, |tx| _ = tx.present(NAMES, 1).delete(NAMES, 1).put(NAMES, 2, &bob));
        let entry = entry.finish();
        let after = TxId::new(0, 7).unwrap();
        let took_id = vec![true, false, true];
        let outcome = SlotOutcome { after, clamped: Some(Time(11)), took_id };
        let records = records_of(&entry, &outcome).unwrap();

        let ids: Vec<_> =
            records.iter().map(|it| (it.txid().get(), it.request().sequence)).collect();
        assert_eq!(ids, [(8, 1), (9, 3)]);
        assert!(records.iter().all(|record| record.time() == Time(11)));
        assert!(records[0].requirements().is_empty());
        assert_eq!(records[1].requirements()[0].wanted, Expectation::Present);

        // Of the two puts of name 1, the last stands.
        let names =
            |record: &Record| record.changes().of(NAMES).collect::<Result<Vec<_>>>().unwrap();
        assert_eq!(names(&records[0]), [Change { key: 1, value: Some(ada) }]);
        let removed = Change { key: 1, value: None };
        assert_eq!(names(&records[1]), [removed, Change { key: 2, value: Some(bob) }]);
        assert_eq!(records[0].changes().iter().count(), 2);
        let blob = records[0].changes().of(BLOBS).next().unwrap().unwrap();
        assert_eq!(blob.value.as_deref(), Some(&b"x"[..]));

        let other: RawTable<u64> = RawTable::new("names");
        let err = records[0].changes().of(other).next().unwrap().unwrap_err();
        assert_eq!(err.kind(), ErrorKind::TableMismatch);
    }
}
