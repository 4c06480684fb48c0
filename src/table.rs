//! Tables: a name and two types, stated once.
//!
//! A table is a constant of the program, copied around by value; making one touches no ledger. Its
//! first put records its name, the kind of its keys and the encoding of its values in the ledger
//! itself. From then on a use with other types is an error on every replica, not garbage.
//!
//! There are two sorts, and every call that takes a table takes either: [`Table`] holds values of
//! one type through serde, [`RawTable`] holds bytes.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::key::Key;
use crate::types::codec;
use crate::types::command::{KeyKind, TableUse, ValueCodec};
use crate::types::error::{Error, ErrorKind, Result};
use crate::types::limits::TABLE_NAME_BYTES_MAX;

/// A table whose values are encoded with serde.
///
/// ```
/// use indelible::Table;
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Deserialize, Serialize)]
/// struct Account { owner: String, cents: i64 }
///
/// const ACCOUNTS: Table<u64, Account> = Table::new("accounts");
/// assert_eq!(ACCOUNTS.name(), "accounts");
/// ```
///
/// A value is encoded field after field, without names: a struct whose fields change needs a new
/// table, or an enum with a variant for each version as its value. The ledger remembers the kind of
/// a table's keys, and that its values are encoded so, but not their type: two programs that use
/// one table must agree on it. What asks the bytes for their own shape cannot be read back: the
/// serde attributes `untagged`, `flatten`, `tag`, and `skip_serializing_if`, and types such as
/// `serde_json::Value`.
pub struct Table<K, V> {
    name: &'static str,
    types: PhantomData<fn() -> (K, V)>,
}

/// A table whose values are bytes, encoded by you or not at all.
///
/// ```
/// use indelible::RawTable;
/// const BLOBS: RawTable<String> = RawTable::new("blobs");
/// assert_eq!(BLOBS.name(), "blobs");
/// ```
pub struct RawTable<K> {
    name: &'static str,
    types: PhantomData<fn() -> K>,
}

/// Either sort of table, as calls take it. It cannot be implemented outside of this crate.
///
/// ```
/// use indelible::{RawTable, Table, TableRef};
///
/// fn describe<T: TableRef>(table: T) -> &'static str { table.name() }
///
/// assert_eq!(describe(Table::<u64, String>::new("names")), "names");
/// assert_eq!(describe(RawTable::<u64>::new("blobs")), "blobs");
/// ```
pub trait TableRef: Copy + sealed::Sealed {
    /// The type of its keys.
    ///
    /// ```
    /// use indelible::{RawTable, TableRef};
    /// let key: <RawTable<u64> as TableRef>::Key = 7_u64;
    /// ```
    type Key: Key;

    /// What reading a value gives: the type of a [`Table`], shared bytes of a [`RawTable`].
    ///
    /// ```
    /// use std::sync::Arc;
    /// use indelible::{RawTable, TableRef};
    /// let value: <RawTable<u64> as TableRef>::Value = Arc::from(*b"text");
    /// ```
    type Value;

    /// The name of the table.
    ///
    /// ```
    /// use indelible::{RawTable, TableRef};
    /// assert_eq!(TableRef::name(RawTable::<u64>::new("blobs")), "blobs");
    /// ```
    fn name(self) -> &'static str;

    #[doc(hidden)]
    fn table_use(self) -> TableUse<'static>;

    #[doc(hidden)]
    fn decode_value(self, bytes: Arc<[u8]>) -> Result<Self::Value>;
}

/// What a look-up in a table of type `T` takes as its key.
///
/// ```
/// use indelible::{KeyOf, RawTable};
/// let key: KeyOf<'_, RawTable<(String, u32)>> = ("orders", 7);
/// ```
pub type KeyOf<'k, T> = <<T as TableRef>::Key as Key>::Ref<'k>;

/// That values of type `V` can be put into a table: into a [`Table`] those of its type, into a
/// [`RawTable`] whatever is bytes. It cannot be implemented outside of this crate.
///
/// ```
/// use indelible::{Puts, RawTable, Table};
/// fn can_put<T: Puts<V>, V: ?Sized>(_: T, _: &V) {}
/// can_put(Table::<u64, String>::new("names"), &String::from("Ada"));
/// can_put(RawTable::<u64>::new("blobs"), b"Ada");
/// ```
pub trait Puts<V: ?Sized>: TableRef {
    #[doc(hidden)]
    fn encode_value(self, value: &V, bytes: &mut Vec<u8>) -> Result<()>;
}

mod sealed {
    pub trait Sealed {}
    impl<K, V> Sealed for super::Table<K, V> {}
    impl<K> Sealed for super::RawTable<K> {}
}

impl<K, V> Table<K, V> {
    /// The table of this name.
    ///
    /// # Panics
    ///
    /// Where the name is empty or longer than 255 bytes; for a constant, that is when it is
    /// compiled.
    ///
    /// ```
    /// use indelible::Table;
    /// const NAMES: Table<(String, u32), String> = Table::new("names");
    /// ```
    #[must_use]
    pub const fn new(name: &'static str) -> Self {
        Self { name: checked(name), types: PhantomData }
    }

    /// The name of the table.
    ///
    /// ```
    /// # use indelible::Table;
    /// assert_eq!(Table::<u64, String>::new("names").name(), "names");
    /// ```
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.name
    }
}

impl<K> RawTable<K> {
    /// The table of this name.
    ///
    /// # Panics
    ///
    /// Where the name is empty or longer than 255 bytes; for a constant, that is when it is
    /// compiled.
    ///
    /// ```
    /// use indelible::RawTable;
    /// const BLOBS: RawTable<[u8; 16]> = RawTable::new("blobs");
    /// ```
    #[must_use]
    pub const fn new(name: &'static str) -> Self {
        Self { name: checked(name), types: PhantomData }
    }

    /// The name of the table.
    ///
    /// ```
    /// # use indelible::RawTable;
    /// assert_eq!(RawTable::<u64>::new("blobs").name(), "blobs");
    /// ```
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.name
    }
}

impl<K: Key, V: Serialize + DeserializeOwned> TableRef for Table<K, V> {
    type Key = K;
    type Value = V;

    fn name(self) -> &'static str {
        self.name
    }

    fn table_use(self) -> TableUse<'static> {
        TableUse { name: self.name, key_kind: KeyKind(K::KIND), codec: ValueCodec::Bincode }
    }

    fn decode_value(self, bytes: Arc<[u8]>) -> Result<V> {
        codec::decode("value", &bytes)
            .map_err(|err| Error::caused(ErrorKind::Encoding, in_table(self.name), err))
    }
}

impl<K: Key, V: Serialize + DeserializeOwned> Puts<V> for Table<K, V> {
    fn encode_value(self, value: &V, bytes: &mut Vec<u8>) -> Result<()> {
        codec::encode_into(value, bytes)
            .map_err(|err| Error::caused(ErrorKind::Encoding, in_table(self.name), err))
    }
}

impl<K: Key> TableRef for RawTable<K> {
    type Key = K;
    type Value = Arc<[u8]>;

    fn name(self) -> &'static str {
        self.name
    }

    fn table_use(self) -> TableUse<'static> {
        TableUse { name: self.name, key_kind: KeyKind(K::KIND), codec: ValueCodec::Raw }
    }

    fn decode_value(self, bytes: Arc<[u8]>) -> Result<Arc<[u8]>> {
        Ok(bytes)
    }
}

impl<K: Key, B: AsRef<[u8]> + ?Sized> Puts<B> for RawTable<K> {
    fn encode_value(self, value: &B, bytes: &mut Vec<u8>) -> Result<()> {
        bytes.extend_from_slice(value.as_ref());
        Ok(())
    }
}

impl<K, V> Clone for Table<K, V> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<K, V> Copy for Table<K, V> {}

impl<K, V> fmt::Debug for Table<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Table({:?})", self.name)
    }
}

impl<K> Clone for RawTable<K> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<K> Copy for RawTable<K> {}

impl<K> fmt::Debug for RawTable<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RawTable({:?})", self.name)
    }
}

/// The key that `bytes` encode in `table`.
pub(crate) fn decode_key<T: TableRef>(table: T, bytes: &[u8]) -> Result<T::Key> {
    T::Key::decode(bytes).ok_or_else(|| {
        let (name, kind) = (table.name(), T::Key::KIND);
        let message = format!("table {name:?}: {} bytes are no key of kind {kind}", bytes.len());
        Error::new(ErrorKind::Encoding, message)
    })
}

fn in_table(name: &str) -> String {
    format!("table {name:?}")
}

const fn checked(name: &'static str) -> &'static str {
    assert!(!name.is_empty(), "a table has a name");
    assert!(name.len() <= TABLE_NAME_BYTES_MAX, "the name of a table is at most 255 bytes long");
    name
}
