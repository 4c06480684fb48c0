//! Reading: the state at one id, which stands still while the ledger moves on.
//!
//! A snapshot is an id and a handle on the store; it copies nothing. A range is read in pages, so
//! that neither a long range nor a slow reader holds up the writer: the first page is small, for
//! those who want the first few, and later ones grow.

use std::collections::VecDeque;
use std::fmt;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;

use crate::key::{Key, PrefixOf};
use crate::store::Store;
use crate::store::versions::{Found, Page, PageRequest};
use crate::table::{KeyOf, TableRef, decode_key};
use crate::types::error::Result;
use crate::types::ids::TxId;

/// The state of the ledger at one [`TxId`], for as long as you like.
///
/// ```
/// use indelible::{Replica, Table};
///
/// # fn main() -> indelible::Result<()> {
/// const NAMES: Table<u64, String> = Table::new("names");
/// let replica = Replica::in_memory()?;
/// replica.put(NAMES, 1, &"Ada".into()).wait()?;
/// let snapshot = replica.snapshot().wait()?;
///
/// replica.put(NAMES, 1, &"Bob".into()).wait()?;
/// let name = snapshot.get(NAMES, 1)?.expect("it was there");
/// assert_eq!(name.value, "Ada");
/// assert!(name.version <= snapshot.txid());
/// # replica.close()
/// # }
/// ```
#[derive(Clone)]
pub struct Snapshot {
    store: Arc<Store>,
    at: TxId,
}

/// A value with the id of the transaction that wrote it.
///
/// ```
/// use indelible::{TxId, Versioned};
/// let read = Versioned { version: TxId::ZERO, value: 5 };
/// assert_eq!(read.value, 5);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Versioned<V> {
    /// The transaction that wrote the value; what [`Transaction::version`] takes.
    ///
    /// [`Transaction::version`]: crate::Transaction::version
    pub version: TxId,
    /// The value.
    pub value: V,
}

/// The keys and values of a range, in order, from either end.
///
/// ```
/// use indelible::{Replica, Table};
///
/// # fn main() -> indelible::Result<()> {
/// const NAMES: Table<u64, String> = Table::new("names");
/// let replica = Replica::in_memory()?;
/// for id in 1..=3 {
///     replica.put(NAMES, id, &format!("name {id}")).wait()?;
/// }
/// let snapshot = replica.snapshot().wait()?;
/// let (id, last) = snapshot.range(NAMES, ..).next_back().expect("there are three")?;
/// assert_eq!((id, last.value.as_str()), (3, "name 3"));
/// # replica.close()
/// # }
/// ```
#[must_use = "a range reads when it is iterated"]
pub struct Range<T: TableRef> {
    snapshot: Snapshot,
    table: T,
    /// What was not read yet, between the buffers; `None` once all of it was.
    unread: Option<Bounds>,
    /// Read from the front; ascending.
    front: VecDeque<(Vec<u8>, Found)>,
    /// Read from the back; ascending.
    back: VecDeque<(Vec<u8>, Found)>,
    page_keys: usize,
}

type Bounds = (Bound<Vec<u8>>, Bound<Vec<u8>>);

/// How many keys the first page of a range asks for, and each page at most.
const PAGE_KEYS_FIRST: usize = 16;
const PAGE_KEYS_MAX: usize = 256;

impl Snapshot {
    /// The newest state of the store.
    pub(crate) fn newest(store: Arc<Store>) -> Self {
        let at = store.applied().txid;
        Self { store, at }
    }

    /// The id at which this is the state: it holds what the transactions up to this id did, and
    /// nothing of later ones.
    ///
    /// ```
    /// # use indelible::{Replica, Table};
    /// # fn main() -> indelible::Result<()> {
    /// # const NAMES: Table<u64, String> = Table::new("names");
    /// # let replica = Replica::in_memory()?;
    /// let written = replica.put(NAMES, 1, &"Ada".into()).wait()?;
    /// assert!(replica.snapshot().wait()?.txid() >= written.at);
    /// # replica.close()
    /// # }
    /// ```
    #[must_use]
    pub fn txid(&self) -> TxId {
        self.at
    }

    /// The value of `key`, if it has one.
    ///
    /// # Errors
    ///
    /// Where the table was written with other types, or the value does not decode as its type.
    ///
    /// ```
    /// # use indelible::{Replica, Table};
    /// # fn main() -> indelible::Result<()> {
    /// # const NAMES: Table<u64, String> = Table::new("names");
    /// # let replica = Replica::in_memory()?;
    /// let snapshot = replica.snapshot().wait()?;
    /// assert!(snapshot.get(NAMES, 1)?.is_none());
    /// # replica.close()
    /// # }
    /// ```
    pub fn get<T: TableRef>(
        &self,
        table: T,
        key: KeyOf<'_, T>,
    ) -> Result<Option<Versioned<T::Value>>> {
        let mut bytes = Vec::new();
        T::Key::encode(key, &mut bytes);
        self.get_encoded(table, &bytes)
    }

    pub(crate) fn get_encoded<T: TableRef>(
        &self,
        table: T,
        key: &[u8],
    ) -> Result<Option<Versioned<T::Value>>> {
        let found = self.store.get(&table.table_use(), key, self.at)?;
        found.map(|found| decode(table, found)).transpose()
    }

    /// The keys within `bounds`, with their values.
    ///
    /// Bounds are as those of `BTreeMap::range`, except that a range whose end is below its start
    /// is empty.
    ///
    /// ```
    /// # use indelible::{Replica, Table};
    /// # fn main() -> indelible::Result<()> {
    /// # const NAMES: Table<u64, String> = Table::new("names");
    /// # let replica = Replica::in_memory()?;
    /// # replica.put(NAMES, 1, &"Ada".into()).wait()?;
    /// let snapshot = replica.snapshot().wait()?;
    /// for entry in snapshot.range(NAMES, 1..).take(10) {
    ///     let (id, name) = entry?;
    ///     println!("{id}: {}, since {}", name.value, name.version);
    /// }
    /// # replica.close()
    /// # }
    /// ```
    pub fn range<'k, T: TableRef>(
        &self,
        table: T,
        bounds: impl RangeBounds<KeyOf<'k, T>>,
    ) -> Range<T> {
        let encode = |key: &KeyOf<'k, T>| {
            let mut bytes = Vec::new();
            T::Key::encode(*key, &mut bytes);
            bytes
        };
        self.range_of_bytes(
            table,
            (bounds.start_bound().map(encode), bounds.end_bound().map(encode)),
        )
    }

    /// The keys that begin with `prefix`, with their values.
    ///
    /// ```
    /// # use indelible::{Prefix, Replica, Table};
    /// # fn main() -> indelible::Result<()> {
    /// const LINES: Table<(String, u32), String> = Table::new("lines");
    /// # let replica = Replica::in_memory()?;
    /// # replica.put(LINES, ("order 7", 1), &"tea".into()).wait()?;
    /// let snapshot = replica.snapshot().wait()?;
    /// assert_eq!(snapshot.prefix(LINES, Prefix(("order 7",))).count(), 1);
    /// # replica.close()
    /// # }
    /// ```
    pub fn prefix<T: TableRef>(&self, table: T, prefix: impl PrefixOf<T::Key>) -> Range<T> {
        let mut lower = Vec::new();
        prefix.encode(&mut lower);
        let upper = match behind_prefix(&lower) {
            Some(upper) => Bound::Excluded(upper),
            None => Bound::Unbounded,
        };
        self.range_of_bytes(table, (Bound::Included(lower), upper))
    }

    fn range_of_bytes<T: TableRef>(&self, table: T, bounds: Bounds) -> Range<T> {
        Range {
            snapshot: self.clone(),
            table,
            unread: Some(bounds),
            front: VecDeque::new(),
            back: VecDeque::new(),
            page_keys: PAGE_KEYS_FIRST,
        }
    }
}

impl<T: TableRef> Range<T> {
    /// Reads a page at one end, and narrows what is unread by it.
    fn read_page(&mut self, reverse: bool) -> Result<()> {
        let Some((lower, upper)) = self.unread.take() else { return Ok(()) };
        let bounds = (lower.as_ref().map(Vec::as_slice), upper.as_ref().map(Vec::as_slice));
        let request = PageRequest { bounds, reverse, limit: self.page_keys };
        let Snapshot { store, at } = &self.snapshot;
        let Page { items, resume } = store.page(&self.table.table_use(), request, *at)?;
        self.page_keys = (self.page_keys * 2).min(PAGE_KEYS_MAX);
        self.unread = resume.map(|key| match reverse {
            false => (Bound::Excluded(key), upper),
            true => (lower, Bound::Excluded(key)),
        });
        if reverse {
            items.into_iter().for_each(|item| self.back.push_front(item));
        } else {
            self.front.extend(items);
        }
        Ok(())
    }

    fn decode(&self, (key, found): (Vec<u8>, Found)) -> Result<(T::Key, Versioned<T::Value>)> {
        Ok((decode_key(self.table, &key)?, decode(self.table, found)?))
    }
}

impl<T: TableRef> Iterator for Range<T> {
    type Item = Result<(T::Key, Versioned<T::Value>)>;

    fn next(&mut self) -> Option<Self::Item> {
        // A page can be empty without being the last: all its keys may have been deleted.
        while self.front.is_empty() && self.unread.is_some() {
            if let Err(err) = self.read_page(false) {
                return Some(Err(err));
            }
        }
        let item = self.front.pop_front().or_else(|| self.back.pop_front())?;
        Some(self.decode(item))
    }
}

impl<T: TableRef> DoubleEndedIterator for Range<T> {
    fn next_back(&mut self) -> Option<Self::Item> {
        while self.back.is_empty() && self.unread.is_some() {
            if let Err(err) = self.read_page(true) {
                return Some(Err(err));
            }
        }
        let item = self.back.pop_back().or_else(|| self.front.pop_back())?;
        Some(self.decode(item))
    }
}

impl<T: TableRef> std::iter::FusedIterator for Range<T> {}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Snapshot({})", self.at)
    }
}

impl<T: TableRef> fmt::Debug for Range<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Range({:?} at {})", self.table.name(), self.snapshot.at)
    }
}

fn decode<T: TableRef>(table: T, found: Found) -> Result<Versioned<T::Value>> {
    Ok(Versioned { version: found.version, value: table.decode_value(found.value)? })
}

/// The lowest bytes above all that begin with `prefix`, or `None` where there are none.
fn behind_prefix(prefix: &[u8]) -> Option<Vec<u8>> {
    let kept = prefix.iter().rposition(|byte| *byte != 0xff)?;
    let mut behind = prefix[..=kept].to_vec();
    behind[kept] += 1;
    Some(behind)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::Prefix;
    use crate::table::{RawTable, Table};
    use crate::transaction::Transaction;
    use crate::types::entry::EntryBuilder;
    use crate::types::error::{Error, ErrorKind};
    use crate::types::ids::RequestId;
    use crate::types::time::Time;

    const NUMBERS: Table<u64, u64> = Table::new("numbers");
    const LINES: RawTable<(String, u8)> = RawTable::new("lines");

    fn commit(store: &Store, build: impl FnOnce(&mut Transaction)) {
        let mut transaction = Transaction::detached();
        build(&mut transaction);
        let mut entry = EntryBuilder::new(Time(1), 0);
        let request = RequestId { sequence: store.applied().slot.0, ..RequestId::default() };
        entry.push(&transaction.encode(request).unwrap());
        let applied = store.apply(store.applied().slot, &entry.finish()).unwrap();
        assert!(applied.verdicts[0].took_id);
    }

    /// Even numbers up to 8000, with gaps that are longer than a page of the store.
    fn numbers() -> (Snapshot, Vec<u64>) {
        let store = Arc::new(Store::new());
        commit(&store, |tx| (0..4000).for_each(|key| _ = tx.put(NUMBERS, 2 * key, &key)));
        commit(&store, |tx| (100..3000).for_each(|key| _ = tx.delete(NUMBERS, 2 * key)));
        let snapshot = Snapshot::newest(Arc::clone(&store));
        commit(&store, |tx| (0..4000).for_each(|key| _ = tx.put(NUMBERS, key, &0)));
        let left = (0..100).chain(3000..4000).map(|key| 2 * key).collect();
        (snapshot, left)
    }

    #[test]
    fn a_range_is_read_from_either_end() {
        let (snapshot, left) = numbers();
        let read = |item: Result<(u64, Versioned<u64>)>| {
            let (key, number) = item.unwrap();
            assert_eq!(number.value * 2, key);
            key
        };
        let keys = |range: Range<Table<u64, u64>>| range.map(read).collect::<Vec<_>>();
        assert_eq!(keys(snapshot.range(NUMBERS, ..)), left);
        assert_eq!(keys(snapshot.range(NUMBERS, 3..=8)), [4, 6, 8]);
        assert_eq!(keys(snapshot.range(NUMBERS, 4..8)), [4, 6]);
        let empty = [
            (Bound::Included(8), Bound::Excluded(4)),
            (Bound::Excluded(8), Bound::Excluded(4)),
            (Bound::Excluded(4), Bound::Excluded(4)),
            (Bound::Excluded(4), Bound::Included(4)),
            (Bound::Included(4), Bound::Excluded(4)),
        ];
        for bounds in empty {
            assert_eq!(keys(snapshot.range(NUMBERS, bounds)), [], "{bounds:?}");
        }
        let backwards: Vec<_> = snapshot.range(NUMBERS, ..).rev().map(read).collect();
        assert_eq!(backwards, left.iter().rev().copied().collect::<Vec<_>>());

        // In turns, the ends meet wherever the pages happen to end.
        for front_share in 1..5 {
            let mut range = snapshot.range(NUMBERS, ..);
            let (mut front, mut back) = (Vec::new(), Vec::new());
            for turn in 0.. {
                let forward = turn % 5 < front_share;
                let item = if forward { range.next() } else { range.next_back() };
                match item {
                    Some(item) if forward => front.push(read(item)),
                    Some(item) => back.push(read(item)),
                    None => break,
                }
            }
            front.extend(back.into_iter().rev());
            assert_eq!(front, left);
            assert!(range.next().is_none() && range.next_back().is_none());
        }
    }

    #[test]
    fn a_prefix_ends_where_its_keys_end() {
        let store = Arc::new(Store::new());
        commit(&store, |tx| {
            for name in ["a", "a\0", "ab", "b", "\u{10ffff}"] {
                tx.put(LINES, (name, 0), name).put(LINES, (name, 255), name);
            }
        });
        let snapshot = Snapshot::newest(store);
        for name in ["a", "a\0", "ab", "\u{10ffff}"] {
            let lines = snapshot.prefix(LINES, Prefix((name,)));
            let keys: Vec<_> = lines.map(|line| line.unwrap().0).collect();
            assert_eq!(keys, [(name.to_owned(), 0), (name.to_owned(), 255)]);
        }
        assert_eq!(behind_prefix(&[1, 0xff, 0xff]), Some(vec![2]));
        assert_eq!(behind_prefix(&[0xff]), None);
        assert_eq!(behind_prefix(&[]), None);
    }

    #[test]
    fn other_types_are_an_error() {
        let store = Arc::new(Store::new());
        commit(&store, |tx| _ = tx.put(NUMBERS, 1, &1));
        let snapshot = Snapshot::newest(store);
        let other: RawTable<u64> = RawTable::new(NUMBERS.name());
        let kind = |err: Error| err.kind();
        assert_eq!(snapshot.get(other, 1).unwrap_err().kind(), ErrorKind::TableMismatch);
        let items: Vec<_> = snapshot.range(other, ..).map(|item| item.map_err(kind)).collect();
        assert_eq!(items.len(), 1);
        assert_eq!(items[0].as_ref().unwrap_err(), &ErrorKind::TableMismatch);
        let narrow: Table<u64, u8> = Table::new(NUMBERS.name());
        assert_eq!(snapshot.get(narrow, 1).unwrap_err().kind(), ErrorKind::Encoding);
    }
}
