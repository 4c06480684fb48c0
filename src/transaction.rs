//! Transactions as they are built: what must hold, and what shall happen then.
//!
//! A [`Transaction`] collects calls, like `std::process::Command`. Keys and values are encoded at
//! once, one behind the other in one buffer; nothing is sent before the commit. A key or value that
//! cannot be encoded or is too large makes the commit fail, with the first such error, so that
//! the calls can be chained and made in loops.
//!
//! Not here: conditions that are evaluated while building. All are judged when the transaction is
//! applied, in the order of the ledger, on every replica.

use std::fmt;
use std::ops::Range;

use crate::key::Key;
use crate::runtime::handle::Handle;
use crate::runtime::pending::Pending;
use crate::store::verdict::Committed;
use crate::table::{KeyOf, Puts, TableRef};
use crate::types::command::{self, Command, Condition, Operation, TableUse, Ticket};
use crate::types::conflict::Expectation;
use crate::types::error::{Error, ErrorKind, Result};
#[cfg(test)]
use crate::types::ids::RequestId;
use crate::types::ids::TxId;
use crate::types::limits::{COMMAND_BYTES_MAX, KEY_BYTES_MAX, VALUE_BYTES_MAX};

/// A transaction that is being built: if every condition holds, all operations happen at once.
///
/// Conditions speak of the state in front of the transaction, whatever the order of the calls. Of
/// two operations on one key the later one stands. Without a condition, a transaction cannot be
/// refused; without an operation, it is a check.
///
/// ```
/// use indelible::{RawTable, Replica};
///
/// # fn main() -> indelible::Result<()> {
/// const OWNERS: RawTable<u64> = RawTable::new("owners");
/// const HOUSES: RawTable<(String, u64)> = RawTable::new("houses");
///
/// let replica = Replica::in_memory()?;
/// let mut sale = replica.transaction();
/// sale.absent(OWNERS, 7).put(OWNERS, 7, "Ada").put(HOUSES, ("Ada", 7), b"");
/// let sold = sale.commit().wait()?;
/// assert!(sold.txid.is_some());
/// # replica.close()
/// # }
/// ```
#[derive(Debug)]
#[must_use = "a transaction happens when it is committed"]
pub struct Transaction {
    builder: CommandBuilder,
    /// Where it is committed, until it is; nowhere in tests of what it encodes.
    handle: Option<Handle>,
}

impl Transaction {
    pub(crate) fn new(handle: Handle) -> Self {
        Self { builder: CommandBuilder::default(), handle: Some(handle) }
    }

    /// A transaction that is encoded by hand.
    #[cfg(test)]
    pub(crate) fn detached() -> Self {
        Self { builder: CommandBuilder::default(), handle: None }
    }

    /// The bytes of the command, as `request`.
    #[cfg(test)]
    pub(crate) fn encode(&self, request: RequestId) -> Result<Vec<u8>> {
        self.builder.encode(request.into())
    }

    /// Requires that `key` has no value.
    ///
    /// ```
    /// # use indelible::{RawTable, Replica};
    /// # fn main() -> indelible::Result<()> {
    /// # const NOTES: RawTable<u64> = RawTable::new("notes");
    /// # let replica = Replica::in_memory()?;
    /// let mut create = replica.transaction();
    /// create.absent(NOTES, 1).put(NOTES, 1, b"text");
    /// create.commit().wait()?;
    /// # replica.close()
    /// # }
    /// ```
    pub fn absent<T: TableRef>(&mut self, table: T, key: KeyOf<'_, T>) -> &mut Self {
        self.require(table, key, Expectation::Absent)
    }

    /// Requires that `key` has a value.
    ///
    /// ```
    /// # use indelible::{RawTable, Replica};
    /// # fn main() -> indelible::Result<()> {
    /// # const NOTES: RawTable<u64> = RawTable::new("notes");
    /// # let replica = Replica::in_memory()?;
    /// let mut replace = replica.transaction();
    /// replace.present(NOTES, 1).put(NOTES, 1, b"text");
    /// assert!(replace.commit().wait().is_err_and(|err| err.is_refused()));
    /// # replica.close()
    /// # }
    /// ```
    pub fn present<T: TableRef>(&mut self, table: T, key: KeyOf<'_, T>) -> &mut Self {
        self.require(table, key, Expectation::Present)
    }

    /// Requires that the value of `key` was written by the transaction `version`: that nobody was
    /// faster since it was read.
    ///
    /// ```
    /// # use indelible::{RawTable, Replica};
    /// # fn main() -> indelible::Result<()> {
    /// # const NOTES: RawTable<u64> = RawTable::new("notes");
    /// # let replica = Replica::in_memory()?;
    /// replica.put(NOTES, 1, b"text").wait()?;
    /// let note = replica.get(NOTES, 1).wait()?.expect("written above");
    ///
    /// let mut edit = replica.transaction();
    /// edit.version(NOTES, 1, note.version).put(NOTES, 1, b"better text");
    /// edit.commit().wait()?;
    /// # replica.close()
    /// # }
    /// ```
    pub fn version<T: TableRef>(
        &mut self,
        table: T,
        key: KeyOf<'_, T>,
        version: TxId,
    ) -> &mut Self {
        self.require(table, key, Expectation::Version(version))
    }

    /// Gives `key` a value.
    ///
    /// ```
    /// # use indelible::{Replica, Table};
    /// # fn main() -> indelible::Result<()> {
    /// # const NAMES: Table<u64, String> = Table::new("names");
    /// # let replica = Replica::in_memory()?;
    /// let mut transaction = replica.transaction();
    /// for (id, name) in ["Ada", "Bob"].into_iter().enumerate() {
    ///     transaction.put(NAMES, id as u64, &name.to_string());
    /// }
    /// transaction.commit().wait()?;
    /// # replica.close()
    /// # }
    /// ```
    pub fn put<T: Puts<V>, V: ?Sized>(
        &mut self,
        table: T,
        key: KeyOf<'_, T>,
        value: &V,
    ) -> &mut Self {
        self.builder.put(table, key, value);
        self
    }

    /// Takes the value of `key` away. Where there is none, this changes nothing.
    ///
    /// ```
    /// # use indelible::{RawTable, Replica};
    /// # fn main() -> indelible::Result<()> {
    /// # const NOTES: RawTable<u64> = RawTable::new("notes");
    /// # let replica = Replica::in_memory()?;
    /// let mut clear = replica.transaction();
    /// clear.delete(NOTES, 1).delete(NOTES, 2);
    /// assert_eq!(clear.commit().wait()?.txid, None);
    /// # replica.close()
    /// # }
    /// ```
    pub fn delete<T: TableRef>(&mut self, table: T, key: KeyOf<'_, T>) -> &mut Self {
        self.builder.delete(table, key);
        self
    }

    /// Submits the transaction. It is under way when this returns. From then on neither it nor the
    /// [`Pending`] that is returned keeps the replica open: hold a [`Replica`](crate::Replica)
    /// until the answer is there. A second commit fails as
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument).
    ///
    /// # Errors
    ///
    /// The answer is an error where a condition did not hold ([`Error::is_refused`]), a table was
    /// first written with other types, a key or value could not be encoded or is too large (4 KiB
    /// and 1 MiB), the transaction as a whole is too large (4 MiB), too much waits already
    /// ([`Busy`](crate::ErrorKind::Busy)), or the disk of this replica is full
    /// ([`StorageFull`](crate::ErrorKind::StorageFull)); and, as for every call, where the deadline
    /// passed ([`TimedOut`](crate::ErrorKind::TimedOut)) or this replica stopped. Only where
    /// [`Error::is_outcome_unknown`] may the transaction have happened.
    ///
    /// ```
    /// # use indelible::{RawTable, Replica};
    /// # fn main() -> indelible::Result<()> {
    /// # const NOTES: RawTable<u64> = RawTable::new("notes");
    /// # let replica = Replica::in_memory()?;
    /// let mut create = replica.transaction();
    /// create.absent(NOTES, 1).put(NOTES, 1, b"text");
    /// let created = create.commit().wait()?;
    /// assert!(created.txid.is_some());
    /// # replica.close()
    /// # }
    /// ```
    pub fn commit(&mut self) -> Pending<Committed> {
        let Some(handle) = self.handle.take() else {
            let again = "the transaction was committed before: each commit takes a new one";
            return Pending::failed(Error::new(ErrorKind::InvalidArgument, again));
        };
        let builder = std::mem::take(&mut self.builder);
        handle.propose(&|ticket| builder.encode(ticket))
    }

    fn require<T: TableRef>(
        &mut self,
        table: T,
        key: KeyOf<'_, T>,
        wanted: Expectation,
    ) -> &mut Self {
        self.builder.require(table, key, wanted);
        self
    }
}

/// The content of a transaction, encoded piece by piece, until it becomes a command.
#[derive(Default)]
pub(crate) struct CommandBuilder {
    tables: Vec<TableUse<'static>>,
    requirements: Vec<(KeyAt, Expectation)>,
    /// With the value of a put; a deletion has none.
    changes: Vec<(KeyAt, Option<Range<usize>>)>,
    /// All keys and values.
    bytes: Vec<u8>,
    /// The first key or value that could not be taken.
    failed: Option<Error>,
}

/// A key in the builder's bytes.
struct KeyAt {
    table: u32,
    bytes: Range<usize>,
}

impl CommandBuilder {
    fn require<T: TableRef>(&mut self, table: T, key: KeyOf<'_, T>, wanted: Expectation) {
        if let Some(key) = self.key(table, key) {
            self.requirements.push((key, wanted));
        }
    }

    fn put<T: Puts<V>, V: ?Sized>(&mut self, table: T, key: KeyOf<'_, T>, value: &V) {
        let Some(key) = self.key(table, key) else { return };
        let start = self.bytes.len();
        if let Err(err) = table.encode_value(value, &mut self.bytes) {
            return self.fail(err);
        }
        let value = start..self.bytes.len();
        if value.len() > VALUE_BYTES_MAX {
            return self.fail(too_large("value", table.name(), value.len(), VALUE_BYTES_MAX));
        }
        self.changes.push((key, Some(value)));
    }

    fn delete<T: TableRef>(&mut self, table: T, key: KeyOf<'_, T>) {
        if let Some(key) = self.key(table, key) {
            self.changes.push((key, None));
        }
    }

    /// The bytes of the command that is known by `ticket`.
    ///
    /// # Errors
    ///
    /// Where a key or value could not be taken, or the command is too large.
    fn encode(&self, ticket: Ticket) -> Result<Vec<u8>> {
        if let Some(err) = &self.failed {
            return Err(err.clone());
        }
        let requirement = |(key, wanted): &(KeyAt, Expectation)| {
            let key = self.borrow(key);
            match wanted {
                Expectation::Absent => Condition::Absent(key),
                Expectation::Present => Condition::Present(key),
                Expectation::Version(version) => Condition::Version(key, *version),
            }
        };
        let change = |(key, value): &(KeyAt, Option<Range<usize>>)| match value {
            Some(value) => Operation::Put(self.borrow(key), &self.bytes[value.clone()]),
            None => Operation::Delete(self.borrow(key)),
        };
        let command = Command {
            tables: self.tables.clone(),
            conditions: self.requirements.iter().map(requirement).collect(),
            operations: self.changes.iter().map(change).collect(),
            ..Command::of(ticket)
        };
        let bytes = command.encode();
        if bytes.len() > COMMAND_BYTES_MAX {
            let message =
                format!("transaction of {} bytes, at most {COMMAND_BYTES_MAX}", bytes.len());
            return Err(Error::new(ErrorKind::TooLarge, message));
        }
        Ok(bytes)
    }

    fn key<T: TableRef>(&mut self, table: T, key: KeyOf<'_, T>) -> Option<KeyAt> {
        if self.failed.is_some() {
            return None;
        }
        let start = self.bytes.len();
        T::Key::encode(key, &mut self.bytes);
        let bytes = start..self.bytes.len();
        if bytes.len() > KEY_BYTES_MAX {
            self.fail(too_large("key", table.name(), bytes.len(), KEY_BYTES_MAX));
            return None;
        }
        Some(KeyAt { table: self.table(table.table_use()), bytes })
    }

    /// The place of a table in the list; it is added where it is not there.
    fn table(&mut self, table: TableUse<'static>) -> u32 {
        let place = self.tables.iter().position(|known| *known == table).unwrap_or_else(|| {
            self.tables.push(table);
            self.tables.len() - 1
        });
        u32::try_from(place).expect("a program names far fewer tables")
    }

    fn borrow(&self, key: &KeyAt) -> command::Key<'_> {
        command::Key { table: key.table, bytes: &self.bytes[key.bytes.clone()] }
    }

    /// What was collected is dropped: the transaction cannot be committed any more.
    fn fail(&mut self, err: Error) {
        *self = Self { failed: Some(err), ..Self::default() };
    }
}

impl fmt::Debug for CommandBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CommandBuilder")
            .field("tables", &self.tables)
            .field("requirements", &self.requirements.len())
            .field("changes", &self.changes.len())
            .field("bytes", &self.bytes.len())
            .field("failed", &self.failed)
            .finish()
    }
}

fn too_large(what: &str, table: &str, bytes: usize, bytes_max: usize) -> Error {
    let message = format!("table {table:?}: {what} of {bytes} bytes, at most {bytes_max}");
    Error::new(ErrorKind::TooLarge, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::{RawTable, Table};

    const BLOBS: RawTable<String> = RawTable::new("blobs");
    const NAMES: Table<u64, String> = Table::new("names");

    fn error(build: impl FnOnce(&mut Transaction)) -> Option<Error> {
        let mut transaction = Transaction::detached();
        build(&mut transaction);
        transaction.encode(RequestId::default()).err()
    }

    #[test]
    fn a_command_holds_what_was_called() {
        let mut transaction = Transaction::detached();
        let name = String::from("Ada");
        transaction.put(NAMES, 1, &name).absent(BLOBS, "a").version(NAMES, 2, TxId::ZERO);
        transaction.delete(BLOBS, "b").put(BLOBS, "", b"\x01");
        let request = RequestId { sequence: 5, ..RequestId::default() };
        let bytes = transaction.encode(request).unwrap();
        let command = Command::decode(&bytes).unwrap();
        assert_eq!(command.request, request);
        assert_eq!(command.tables, [NAMES.table_use(), BLOBS.table_use()]);
        let key = |table, bytes| command::Key { table, bytes };
        let two = 2_u64.to_be_bytes();
        let conditions =
            [Condition::Absent(key(1, b"a")), Condition::Version(key(0, &two), TxId::ZERO)];
        assert_eq!(command.conditions, conditions);
        let ada = Operation::Put(key(0, &[0, 0, 0, 0, 0, 0, 0, 1]), b"\x03\0\0\0\0\0\0\0Ada");
        let blob = Operation::Put(key(1, b""), b"\x01");
        assert_eq!(command.operations, [ada, Operation::Delete(key(1, b"b")), blob]);
    }

    #[test]
    fn limits_are_kept() {
        let key = "k".repeat(KEY_BYTES_MAX + 1);
        let value = vec![0; VALUE_BYTES_MAX + 1];
        let fits = error(|tx| _ = tx.put(BLOBS, &key[1..], &value[1..]));
        assert!(fits.is_none());
        let told = |build: &dyn Fn(&mut Transaction)| {
            let err = error(|tx| build(tx)).unwrap();
            assert_eq!(err.kind(), ErrorKind::TooLarge);
            err.to_string()
        };
        let key_told = r#"table "blobs": key of 4097 bytes, at most 4096"#;
        assert_eq!(told(&|tx| _ = tx.delete(BLOBS, &key).put(BLOBS, "", &value)), key_told);
        assert_eq!(told(&|tx| _ = tx.present(BLOBS, &key)), key_told);
        let value_told = r#"table "blobs": value of 1048577 bytes, at most 1048576"#;
        assert_eq!(told(&|tx| _ = tx.put(BLOBS, "", &value).put(BLOBS, &key, b"")), value_told);
        let many = told(&|tx| (0..5).for_each(|_| _ = tx.put(BLOBS, "", &value[1..])));
        assert!(many.starts_with("transaction of 524"), "{many}");
    }
}
