//! The keys of one table, each with the versions it had.
//!
//! ```text
//!   keys in order:  key ─► newest version (txid 9)  ─► older: [txid 2, txid 5]
//!                   key ─► newest version (txid 7)
//! ```
//!
//! Most keys have one version that matters, and most reads want the newest. So that one stands in
//! the tree itself, and so do keys of up to 22 bytes; the older versions stand apart, in order of
//! their ids, where the front can be discarded once nobody may ask for it. A key of 16 bytes with a
//! value of 256 costs about 410 bytes, of which 288 are the shared value.
//!
//! The version of a key at an id is the last one that is not above the id. A deleted key keeps a
//! version without a value, so that reads below the deletion still find what was there.
//!
//! Invariants:
//! * The ids of a key's versions increase strictly; the newest is the greatest.
//! * `created` and `writes` begin anew with the first put after a deletion.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;
use std::ops::Bound;
use std::sync::Arc;

use crate::types::bugs::{self, Bug};
use crate::types::ids::TxId;

/// The keys of one table and their versions.
#[derive(Debug, Default)]
pub struct Versions {
    keys: BTreeMap<KeyBytes, KeyVersions>,
}

/// What one transaction left at one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// The transaction that wrote it.
    pub txid: TxId,
    /// The transaction that put the key when it had no value; zero where there is no value.
    pub created: TxId,
    /// How often the key was put since then, that time included; zero where there is no value.
    pub writes: u32,
    /// The value, or `None` where the key was deleted.
    pub value: Option<Arc<[u8]>>,
}

/// What a read found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The transaction that wrote the value.
    pub version: TxId,
    /// The transaction that created the key.
    pub created: TxId,
    /// How often the key was put since it was created.
    pub writes: u32,
    /// The value.
    pub value: Arc<[u8]>,
}

/// Which keys a page is asked for.
#[derive(Clone, Copy, Debug)]
pub struct PageRequest<'a> {
    /// From which key to which; no key where the lower bound is above the upper one.
    pub bounds: (Bound<&'a [u8]>, Bound<&'a [u8]>),
    /// From the upper end downwards.
    pub reverse: bool,
    /// How many keys with a value to return at most.
    pub limit: usize,
}

/// Some keys of a range, in the order asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// The keys that had a value.
    pub items: Vec<(Vec<u8>, Found)>,
    /// The last key that was looked at, or `None` where the range has come to its end. The next
    /// page begins behind it.
    pub resume: Option<Vec<u8>>,
}

/// Some keys of a table, in their order, with the versions that they had.
#[derive(Clone, Debug, Default)]
pub struct Behind {
    /// Each key that was ever written, with its version.
    pub versions: Vec<(Vec<u8>, Version)>,
    /// The last key that was looked at, or `None` where there are no more.
    pub resume: Option<Vec<u8>>,
}

/// A key does not come behind all others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotInOrder;

/// A write: what was the newest version before, and what is now.
#[derive(Debug)]
pub struct Written<'a> {
    /// The newest version before.
    pub before: Option<&'a Version>,
    /// The newest version now.
    pub now: &'a Version,
}

/// The versions of one key.
#[derive(Debug)]
struct KeyVersions {
    newest: Version,
    #[expect(clippy::box_collection, reason = "most keys have none, and 8 bytes are less than 24")]
    older: Option<Box<Vec<Version>>>,
}

/// How many keys one page looks at, with a value or without. It bounds how long the lock is held.
const PAGE_KEYS_MAX: usize = 1024;

impl Versions {
    /// The newest version of `key`, unless it has no value.
    #[must_use]
    pub fn newest(&self, key: &[u8]) -> Option<&Version> {
        self.keys
            .get(&KeyBytes::new(key))
            .map(|versions| &versions.newest)
            .filter(|newest| newest.value.is_some() || bugs::is_on(Bug::TombstonePresent))
    }

    /// What `key` held at `at`.
    #[must_use]
    pub fn get(&self, key: &[u8], at: TxId) -> Option<Found> {
        self.keys.get(&KeyBytes::new(key))?.at(at)?.found()
    }

    /// The next keys of a range, with what they held at `at`.
    #[must_use]
    pub fn page(&self, request: PageRequest<'_>, at: TxId) -> Page {
        let PageRequest { bounds, reverse, limit } = request;
        if is_empty(bounds) || limit == 0 {
            return Page::default();
        }
        let keys = self.keys.range((bounds.0.map(KeyBytes::new), bounds.1.map(KeyBytes::new)));
        if reverse { fill_page(keys.rev(), limit, at) } else { fill_page(keys, limit, at) }
    }

    /// The next keys behind `after`, or the first ones, each with the version that it had at `at`;
    /// deleted ones too. As many as have about `bytes_max` bytes together, and not too many; none
    /// where there are no more.
    #[must_use]
    pub fn versions_behind(&self, after: Option<&[u8]>, at: TxId, bytes_max: usize) -> Behind {
        let lower = after.map_or(Bound::Unbounded, |key| Bound::Excluded(KeyBytes::new(key)));
        let mut behind = Behind::default();
        let mut bytes = 0;
        for (count, (key, versions)) in self.keys.range((lower, Bound::Unbounded)).enumerate() {
            if let Some(version) = versions.at(at) {
                let key = key.as_bytes().to_vec();
                bytes += key.len() + version.value.as_ref().map_or(0, |value| value.len());
                behind.versions.push((key, version.clone()));
            }
            if bytes >= bytes_max || count + 1 == PAGE_KEYS_MAX {
                behind.resume = Some(key.as_bytes().to_vec());
                break;
            }
        }
        behind
    }

    /// Adds a key that is behind all others, with its newest version.
    ///
    /// # Errors
    ///
    /// Where it is not behind them.
    pub fn restore(&mut self, key: &[u8], newest: Version) -> Result<&Version, NotInOrder> {
        let key = KeyBytes::new(key);
        if self.keys.last_key_value().is_some_and(|(last, _)| key <= *last) {
            return Err(NotInOrder);
        }
        let restored = self.keys.entry(key).or_insert(KeyVersions { newest, older: None });
        Ok(&restored.newest)
    }

    /// Writes a version: a value, or with `None` the end of one.
    ///
    /// # Panics
    ///
    /// Where `txid` is not above all versions of the key.
    pub fn write(&mut self, txid: TxId, key: &[u8], value: Option<&[u8]>) -> Written<'_> {
        let value = value.map(Arc::from);
        match self.keys.entry(KeyBytes::new(key)) {
            Entry::Vacant(vacant) => {
                let newest = Version::behind(None, txid, value);
                Written {
                    before: None,
                    now: &vacant.insert(KeyVersions { newest, older: None }).newest,
                }
            }
            Entry::Occupied(occupied) => occupied.into_mut().write(txid, value),
        }
    }
}

impl KeyVersions {
    fn at(&self, at: TxId) -> Option<&Version> {
        if self.newest.txid <= at {
            return Some(&self.newest);
        }
        let older = self.older.as_deref()?;
        let above = older.partition_point(|version| version.txid <= at);
        older.get(above.checked_sub(1)?)
    }

    fn write(&mut self, txid: TxId, value: Option<Arc<[u8]>>) -> Written<'_> {
        assert!(self.newest.txid < txid, "version {txid} behind {}", self.newest.txid);
        let newest = Version::behind(Some(&self.newest), txid, value);
        let before = std::mem::replace(&mut self.newest, newest);
        let older = self.older.get_or_insert_default();
        older.push(before);
        Written { before: older.last(), now: &self.newest }
    }
}

impl Version {
    fn behind(before: Option<&Self>, txid: TxId, value: Option<Arc<[u8]>>) -> Self {
        let before = before.filter(|before| before.value.is_some());
        let (created, writes) = match (&value, before) {
            (None, _) => (TxId::ZERO, 0),
            (Some(_), None) => (txid, 1),
            (Some(_), Some(before)) => (before.created, before.writes.saturating_add(1)),
        };
        Self { txid, created, writes, value }
    }

    fn found(&self) -> Option<Found> {
        let Self { txid, created, writes, value } = self;
        let value = Arc::clone(value.as_ref()?);
        Some(Found { version: *txid, created: *created, writes: *writes, value })
    }
}

fn fill_page<'a>(
    keys: impl Iterator<Item = (&'a KeyBytes, &'a KeyVersions)>,
    limit: usize,
    at: TxId,
) -> Page {
    let mut page = Page::default();
    for (count, (key, versions)) in keys.enumerate() {
        if let Some(found) = versions.at(at).and_then(Version::found) {
            page.items.push((key.as_bytes().to_vec(), found));
        }
        if page.items.len() == limit || count + 1 == PAGE_KEYS_MAX {
            page.resume = Some(key.as_bytes().to_vec());
            break;
        }
    }
    page
}

/// Whether no key can lie between the bounds. `BTreeMap::range` panics on most of these.
fn is_empty((lower, upper): (Bound<&[u8]>, Bound<&[u8]>)) -> bool {
    match (lower, upper) {
        (Bound::Unbounded, _) | (_, Bound::Unbounded) => false,
        (Bound::Included(lower), Bound::Included(upper)) => lower > upper,
        (
            Bound::Included(lower) | Bound::Excluded(lower),
            Bound::Included(upper) | Bound::Excluded(upper),
        ) => lower >= upper,
    }
}

/// A key; a short one without an allocation of its own.
enum KeyBytes {
    Short { length: u8, bytes: [u8; SHORT_BYTES_MAX] },
    Long(Box<[u8]>),
}

const SHORT_BYTES_MAX: usize = 22;
const _: () = assert!(size_of::<KeyBytes>() == 24, "a short key uses all the room there is");
const _: () = assert!(size_of::<KeyVersions>() == 48, "they are as small as their fields");

impl KeyBytes {
    fn new(key: &[u8]) -> Self {
        match u8::try_from(key.len()) {
            Ok(length) if key.len() <= SHORT_BYTES_MAX => {
                let mut bytes = [0; SHORT_BYTES_MAX];
                bytes[..key.len()].copy_from_slice(key);
                Self::Short { length, bytes }
            }
            _ => Self::Long(key.into()),
        }
    }

    fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Short { length, bytes } => &bytes[..usize::from(*length)],
            Self::Long(bytes) => bytes,
        }
    }
}

impl PartialEq for KeyBytes {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for KeyBytes {}

impl PartialOrd for KeyBytes {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for KeyBytes {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            // Filled up with zeros, byte strings sort as before but for those that then are equal:
            // of these, the shorter is the prefix. Numbers compare faster than strings of bytes.
            (
                Self::Short { length, bytes },
                Self::Short { length: other_length, bytes: other_bytes },
            ) => {
                let (first, rest) = numbers(bytes);
                let (other_first, other_rest) = numbers(other_bytes);
                first
                    .cmp(&other_first)
                    .then_with(|| rest.cmp(&other_rest))
                    .then_with(|| length.cmp(other_length))
            }
            _ => self.as_bytes().cmp(other.as_bytes()),
        }
    }
}

impl fmt::Debug for KeyBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_bytes().fmt(f)
    }
}

/// The bytes as two numbers that sort as the bytes do.
fn numbers(bytes: &[u8; SHORT_BYTES_MAX]) -> (u128, u64) {
    let (first, rest) = bytes.split_first_chunk().expect("22 bytes are 16 and 6");
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    (u128::from_be_bytes(*first), u64::from_be_bytes(last))
}
