//! Who and where: replicas, ballots, slots, transaction ids and positions in a journal.
//!
//! Each is a newtype, so that an index, a count and an identity never mix. Arithmetic is by method
//! (`slot.next()`), and watermarks are exclusive: a watermark `slot` stands for every slot below
//! it, so that empty is zero and no `-1` is needed.

use std::fmt;
use std::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

/// One durable copy of the ledger, for all time.
///
/// An id belongs to one directory and is never given to another one, not even after the first was
/// lost: a replica that comes back with an id but without its promises could break agreement.
/// Ids are positive; zero is refused when a replica is opened.
///
/// ```
/// use indelible::ReplicaId;
/// assert_eq!(ReplicaId::from(7), ReplicaId(7));
/// assert_eq!(ReplicaId(7).to_string(), "7");
/// ```
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct ReplicaId(pub u64);

impl From<u64> for ReplicaId {
    fn from(id: u64) -> Self {
        Self(id)
    }
}

impl fmt::Display for ReplicaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// The identity of a cluster: the content hash of its first membership. Zero before formation.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct ClusterId(pub u128);

impl ClusterId {
    /// The id of a replica that belongs to no cluster yet.
    pub const UNFORMED: Self = Self(0);

    /// Whether a cluster has been formed.
    #[must_use]
    pub fn is_formed(self) -> bool {
        self != Self::UNFORMED
    }
}

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl FromStr for ClusterId {
    type Err = ParseClusterIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_hex = text.len() == 32 && text.bytes().all(|it| it.is_ascii_hexdigit());
        let id = u128::from_str_radix(text, 16).ok().filter(|_| is_hex);
        id.map(Self).filter(|id| id.is_formed()).ok_or(ParseClusterIdError)
    }
}

/// A text that is no [`ClusterId`]. One is printed as 32 hexadecimal digits, and read so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ParseClusterIdError;

impl fmt::Display for ParseClusterIdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a cluster: wanted 32 hexadecimal digits, not all zero")
    }
}

impl std::error::Error for ParseClusterIdError {}

/// A replica's life on one disk: random, drawn when its directory is made.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Incarnation(pub u128);

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// One opening of one directory: a counter that only grows, and a random nonce.
///
/// The counter tells a directory that was set back; the nonce tells a copied one, which shares
/// the counter.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Boot {
    /// How often this directory was opened, this time included.
    pub sequence: u64,
    /// Random, drawn at this opening.
    pub nonce: u64,
}

/// The number of an attempt to lead: totally ordered, owned by one replica, never used twice.
///
/// Lamport, *Paxos Made Simple*, calls it the proposal number. The round is compared first.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Ballot {
    /// Counts up; a candidate takes a round above every one it has seen.
    pub round: u64,
    /// The replica that owns this ballot.
    pub leader: ReplicaId,
}

impl Ballot {
    /// Below every ballot that a replica can own.
    pub const ZERO: Self = Self { round: 0, leader: ReplicaId(0) };

    /// The lowest ballot of `leader` above this one.
    ///
    /// Returns `None` when rounds are exhausted, which only a corrupt or forged round can cause.
    #[must_use]
    pub fn next_for(self, leader: ReplicaId) -> Option<Self> {
        Some(Self { round: self.round.checked_add(1)?, leader })
    }
}

impl fmt::Display for Ballot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.round, self.leader)
    }
}

/// A place in the log. Every slot ends with exactly one chosen entry.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Slot(pub u64);

impl Slot {
    /// The first slot; it holds the first membership.
    pub const ZERO: Self = Self(0);

    /// The slot after this one.
    #[must_use]
    pub fn next(self) -> Self {
        self.plus(1)
    }

    /// The slot `count` places on. Saturates, so that a forged slot cannot overflow.
    #[must_use]
    pub fn plus(self, count: u64) -> Self {
        Self(self.0.saturating_add(count))
    }

    /// How many slots lie in `self..end`; zero where `end` is not above `self`.
    #[must_use]
    pub fn count_to(self, end: Self) -> u64 {
        end.0.saturating_sub(self.0)
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// The slots `first..end`: `end` is exclusive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SlotRange {
    /// The first slot in the range.
    pub first: Slot,
    /// The first slot behind the range.
    pub end: Slot,
}

impl SlotRange {
    /// This slot and no other.
    #[must_use]
    pub fn one(slot: Slot) -> Self {
        Self { first: slot, end: slot.next() }
    }

    /// Whether `slot` is in the range.
    #[must_use]
    pub fn contains(self, slot: Slot) -> bool {
        self.first <= slot && slot < self.end
    }

    /// Whether no slot is in the range.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.end <= self.first
    }
}

impl fmt::Display for SlotRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..{}", self.first, self.end)
    }
}

/// The id of a transaction: strictly increasing, equal on all replicas, never reused.
///
/// An id is given when a transaction is applied, and only to a transaction that changes something;
/// no-ops and refused transactions take none. It is a positive 63-bit number: an epoch above a
/// 44-bit counter. Ids are dense within an epoch, but do not compute with them: the next id after
/// a restore is far away. Say "after this id".
///
/// ```
/// use indelible::TxId;
/// let id = TxId::new(0, 12).expect("in range");
/// assert!(id > TxId::ZERO);
/// assert_eq!((id.epoch(), id.counter()), (0, 12));
/// assert_eq!(id.to_string(), "12");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct TxId(u64);

impl TxId {
    /// Before the first transaction: the id of the empty state.
    pub const ZERO: Self = Self(0);
    /// The highest id there can be.
    pub const MAX: Self = Self(i64::MAX as u64);
    /// How many bits count transactions within an epoch.
    pub const COUNTER_BITS: u32 = 44;

    /// The id with this epoch and counter, or `None` where one of them is out of range: 19 bits and
    /// 44 bits.
    ///
    /// ```
    /// use indelible::TxId;
    /// assert_eq!(TxId::new(1, 5).map(|id| id.to_string()), Some("1:5".into()));
    /// assert_eq!(TxId::new(0, 1 << 44), None);
    /// ```
    #[must_use]
    pub fn new(epoch: u32, counter: u64) -> Option<Self> {
        let epoch = u64::from(epoch);
        if epoch >= 1 << (63 - Self::COUNTER_BITS) || counter >= 1 << Self::COUNTER_BITS {
            return None;
        }
        Some(Self(epoch << Self::COUNTER_BITS | counter))
    }

    /// The id from the number that [`TxId::get`] gave, or `None` where that is out of range.
    ///
    /// ```
    /// use indelible::TxId;
    /// assert_eq!(TxId::from_number(0), Some(TxId::ZERO));
    /// assert_eq!(TxId::from_number(u64::MAX), None);
    /// ```
    #[must_use]
    pub fn from_number(number: u64) -> Option<Self> {
        (number <= Self::MAX.0).then_some(Self(number))
    }

    /// The id as one number, to store or send. It fits an `i64`.
    ///
    /// ```
    /// use indelible::TxId;
    /// assert_eq!(TxId::from_number(TxId::MAX.get()), Some(TxId::MAX));
    /// ```
    #[must_use]
    pub fn get(self) -> u64 {
        self.0
    }

    /// How often the ledger was restored before this id was given; more where a restore was told to
    /// go above an id of a later epoch.
    ///
    /// ```
    /// assert_eq!(indelible::TxId::ZERO.epoch(), 0);
    /// ```
    #[must_use]
    pub fn epoch(self) -> u32 {
        u32::try_from(self.0 >> Self::COUNTER_BITS).unwrap_or(u32::MAX)
    }

    /// The place of the transaction within its epoch, from 1.
    ///
    /// ```
    /// assert_eq!(indelible::TxId::ZERO.counter(), 0, "it is no transaction");
    /// ```
    #[must_use]
    pub fn counter(self) -> u64 {
        self.0 & ((1 << Self::COUNTER_BITS) - 1)
    }

    /// The next id in the same epoch, or `None` where the epoch is full.
    ///
    /// ```
    /// use indelible::TxId;
    /// assert_eq!(TxId::ZERO.next(), TxId::new(0, 1));
    /// ```
    #[must_use]
    pub fn next(self) -> Option<Self> {
        Self::new(self.epoch(), self.counter() + 1)
    }
}

impl<'de> Deserialize<'de> for TxId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = u64::deserialize(deserializer)?;
        let range = || D::Error::custom("a transaction id out of range");
        Self::from_number(number).ok_or_else(range)
    }
}

impl fmt::Display for TxId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.epoch() {
            0 => write!(f, "{}", self.counter()),
            epoch => write!(f, "{epoch}:{}", self.counter()),
        }
    }
}

/// A proposer of commands. A replica draws one when it needs one, and asks nobody for it.
///
/// The state remembers a bounded number of sessions. So that one that was forgotten is never taken
/// for a new one, an id tells when it was opened: how many commands its replica had applied by
/// then. The other half is random.
///
/// ```
/// use indelible::{RequestId, SessionId};
/// // As some other format may keep it.
/// let (session, sequence) = (SessionId(0x5e), 7);
/// let request = RequestId { session, sequence };
/// assert_eq!(request.session.opened(), 0);
/// ```
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct SessionId(pub u128);

impl SessionId {
    /// The session that was opened where `opened` commands were applied.
    ///
    /// ```
    /// use indelible::SessionId;
    /// assert_ne!(SessionId::new(7, 1), SessionId::new(7, 2));
    /// ```
    #[must_use]
    pub fn new(opened: u64, random: u64) -> Self {
        Self(u128::from(opened) << 64 | u128::from(random))
    }

    /// How many commands were applied, where it was opened.
    ///
    /// ```
    /// use indelible::SessionId;
    /// assert_eq!(SessionId::new(7, 1).opened(), 7);
    /// ```
    #[must_use]
    pub fn opened(self) -> u64 {
        u64::try_from(self.0 >> 64).unwrap_or(u64::MAX)
    }
}

/// The identity of one submitted transaction, by which an unknown outcome can be told later:
/// [`Replica::resolve`](crate::Replica::resolve).
///
/// It can be stored, as text or with serde, and outlives the process and the replica.
///
/// ```
/// use indelible::RequestId;
/// let request = RequestId::default();
/// assert_eq!(request.to_string(), "00000000000000000000000000000000/0");
/// assert_eq!(request.to_string().parse(), Ok(request));
/// assert!("one/2".parse::<RequestId>().is_err());
/// ```
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct RequestId {
    /// Who asked.
    pub session: SessionId,
    /// The how-manieth command of that session, from 1.
    pub sequence: u64,
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}/{}", self.session.0, self.sequence)
    }
}

impl FromStr for RequestId {
    type Err = ParseRequestIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parse = || {
            let (session, sequence) = text.split_once('/')?;
            let is_hex = session.len() == 32 && session.bytes().all(|it| it.is_ascii_hexdigit());
            let is_number = !sequence.is_empty() && sequence.bytes().all(|it| it.is_ascii_digit());
            let session = SessionId(u128::from_str_radix(session, 16).ok().filter(|_| is_hex)?);
            let sequence = sequence.parse().ok().filter(|_| is_number)?;
            Some(Self { session, sequence })
        };
        parse().ok_or(ParseRequestIdError)
    }
}

/// A text that is no [`RequestId`].
///
/// ```
/// let err = "7".parse::<indelible::RequestId>().expect_err("it has no session");
/// assert_eq!(err.to_string(), "not a request: wanted 32 hexadecimal digits, `/` and a number");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ParseRequestIdError;

impl fmt::Display for ParseRequestIdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a request: wanted 32 hexadecimal digits, `/` and a number")
    }
}

impl std::error::Error for ParseRequestIdError {}

/// A position in one replica's journal: the number of a frame, from 1. Never agreed upon.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Lsn(pub u64);

impl Lsn {
    /// Before the first frame.
    pub const ZERO: Self = Self(0);

    /// The position after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// The 128-bit content hash of an entry: over its bytes only, wherever they stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ContentHash(pub u128);

impl ContentHash {
    /// The hash of `bytes` (XXH3, 128 bits, seed 0).
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(twox_hash::XxHash3_128::oneshot(bytes))
    }
}

impl fmt::Display for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// The ledger chain: a running hash over the entries of all chosen slots below a watermark.
///
/// Two replicas with equal chains at a slot hold equal entries in every slot below it. It detects
/// accidents; it is not proof against a forger.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Chain(pub u128);

impl Chain {
    /// The chain below the first slot.
    pub const EMPTY: Self = Self(0);

    /// The chain with one more chosen entry.
    #[must_use]
    pub fn extend(self, entry: ContentHash) -> Self {
        let mut bytes = [0; 32];
        bytes[..16].copy_from_slice(&self.0.to_le_bytes());
        bytes[16..].copy_from_slice(&entry.0.to_le_bytes());
        Self(ContentHash::of(&bytes).0)
    }
}

impl fmt::Display for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}
