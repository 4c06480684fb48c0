//! The content of a slot: a no-op, a batch of commands, or a membership. Encoded once.
//!
//! The bytes made when an entry is proposed are the bytes that are hashed, journaled, sent,
//! received, stored and replayed; no layer encodes an entry again. Layout, little-endian:
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 1 | edition, by which the rest is laid out: of commands, that of the ledger; else 1 |
//! | 1 | 1 | kind: 0 no-op, 1 commands, 2 membership |
//! | 2 | 2 | zero |
//! | 4 | 4 | number of commands; 0 for other kinds |
//! | 8 | 8 | time stamped by the leader, milliseconds since 1970 |
//! | 16 | | commands: for each a length (4 bytes) and its bytes; membership: its bytes |
//!
//! A later edition may lay out all but the first byte as it likes. Whoever only votes, journals and
//! sends need not know it: what cannot be read here is kept as it came. Who applies it must.
//!
//! Invariants:
//! * An `Entry` value of an edition that is known here has a valid header, and as many commands as
//!   the header says.
//! * `hash` is the content hash of `bytes`.
//! * A membership can be read by whoever knows the edition before it: it is what raises that.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::codec::{self, DecodeError};
use super::edition::Edition;
use super::ids::ContentHash;
use super::limits::{ENTRY_BYTES_MAX, ENTRY_COMMANDS_MAX};
use super::membership::Membership;
use super::time::Time;

const HEADER_BYTES: usize = 16;
const COMMAND_HEADER_BYTES: usize = 4;

/// The content of one slot. Cloning shares the bytes.
#[derive(Clone)]
pub struct Entry(Arc<Inner>);

struct Inner {
    hash: ContentHash,
    kind: EntryKind,
    bytes: Vec<u8>,
}

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// Fills a hole; changes nothing.
    NoOp,
    /// A batch of commands.
    Commands,
    /// Who belongs from some slot on.
    Membership,
    /// What only builds that know its edition can read.
    Later,
}

impl Entry {
    /// A filler, for a slot in which nothing can have been chosen. All no-ops are equal.
    #[must_use]
    pub fn no_op() -> Self {
        Self::from_parts(EntryKind::NoOp, header(EntryKind::NoOp, 0, Time(0)))
    }

    /// A membership.
    ///
    /// # Panics
    ///
    /// Never: a membership consists of types that always encode.
    #[must_use]
    pub fn membership(membership: &Membership) -> Self {
        let mut bytes = header(EntryKind::Membership, 0, Time(0));
        codec::encode_into(membership, &mut bytes).expect("plain data always encodes");
        Self::from_parts(EntryKind::Membership, bytes)
    }

    /// The entry that `bytes` hold.
    ///
    /// # Errors
    ///
    /// Where there are too few or too many bytes. Where the edition is known here, also where they
    /// are not laid out as above; else such an entry is [`Later`](EntryKind::Later).
    pub fn decode(bytes: Vec<u8>) -> Result<Self, DecodeError> {
        if bytes.len() < HEADER_BYTES || bytes.len() > ENTRY_BYTES_MAX {
            let found = bytes.len();
            let reason = format!("{found} bytes, wanted {HEADER_BYTES} to {ENTRY_BYTES_MAX}");
            return Err(DecodeError::new("entry", reason));
        }
        let kind = match check_layout(&bytes) {
            Err(_) if Edition::KNOWN < Edition(bytes[0]) => EntryKind::Later,
            kind => kind?,
        };
        Ok(Self::from_parts(kind, bytes))
    }

    /// The edition that one must know to apply it.
    #[must_use]
    pub fn edition(&self) -> Edition {
        Edition(self.0.bytes[0])
    }

    /// What this entry is.
    #[must_use]
    pub fn kind(&self) -> EntryKind {
        self.0.kind
    }

    /// The content hash.
    #[must_use]
    pub fn hash(&self) -> ContentHash {
        self.0.hash
    }

    /// The encoded entry.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0.bytes
    }

    /// When the leader made it, where it is a batch of commands; else zero.
    #[must_use]
    pub fn time(&self) -> Time {
        if self.kind() == EntryKind::Later {
            return Time(0);
        }
        Time(i64::from_le_bytes(array(&self.0.bytes, 8)))
    }

    /// The encoded commands, in order; none where it is no batch of commands.
    #[must_use]
    pub fn commands(&self) -> Commands<'_> {
        Commands {
            rest: match self.kind() {
                EntryKind::Commands => &self.0.bytes[HEADER_BYTES..],
                EntryKind::NoOp | EntryKind::Membership | EntryKind::Later => &[],
            },
        }
    }

    /// How many commands there are.
    #[must_use]
    pub fn command_count(&self) -> usize {
        if self.kind() == EntryKind::Later {
            return 0;
        }
        read_u32(&self.0.bytes, 4) as usize
    }

    /// The membership, where it is one.
    ///
    /// # Panics
    ///
    /// Never: the content was checked when the entry was made.
    #[must_use]
    pub fn as_membership(&self) -> Option<Membership> {
        (self.kind() == EntryKind::Membership).then(|| {
            codec::decode("membership", &self.0.bytes[HEADER_BYTES..])
                .expect("a membership entry was decoded when it was made")
        })
    }

    /// The membership that governs behind this entry where it is chosen, if it is one that may
    /// follow `present`. Any other changes nothing.
    #[must_use]
    pub fn membership_after(&self, present: &Membership) -> Option<Membership> {
        let next = self.as_membership()?;
        next.check_successor(present).is_ok().then_some(next)
    }

    fn from_parts(kind: EntryKind, bytes: Vec<u8>) -> Self {
        let hash = ContentHash::of(&bytes);
        Self(Arc::new(Inner { hash, kind, bytes }))
    }
}

/// Makes one entry of commands that were encoded by their callers.
#[derive(Debug)]
pub struct EntryBuilder {
    bytes: Vec<u8>,
    count: usize,
}

impl EntryBuilder {
    /// An empty batch, with room for `bytes` of commands.
    #[must_use]
    pub fn new(time: Time, bytes: usize) -> Self {
        let mut buffer = Vec::with_capacity(HEADER_BYTES + bytes);
        buffer.extend_from_slice(&header(EntryKind::Commands, 0, time));
        Self { bytes: buffer, count: 0 }
    }

    /// The same for a ledger of this edition.
    #[must_use]
    pub fn of_edition(mut self, edition: Edition) -> Self {
        self.bytes[0] = edition.0;
        self
    }

    /// How many bytes `commands` commands of `bytes` bytes in all need in an entry.
    #[must_use]
    pub fn bytes_for(commands: usize, bytes: usize) -> usize {
        commands * COMMAND_HEADER_BYTES + bytes
    }

    /// Adds a command.
    ///
    /// # Panics
    ///
    /// Where the entry grows past its limits: the batcher must end a batch before.
    pub fn push(&mut self, command: &[u8]) {
        self.count += 1;
        assert!(self.count <= ENTRY_COMMANDS_MAX, "a batch of {} commands", self.count);
        let length = u32::try_from(command.len()).expect("a command is far below 4 GiB");
        self.bytes.extend_from_slice(&length.to_le_bytes());
        self.bytes.extend_from_slice(command);
        assert!(self.bytes.len() <= ENTRY_BYTES_MAX, "a batch of {} bytes", self.bytes.len());
    }

    /// The entry.
    ///
    /// # Panics
    ///
    /// Where no command was pushed.
    #[must_use]
    pub fn finish(mut self) -> Entry {
        assert!(self.count > 0, "a batch without a command");
        let count = u32::try_from(self.count).expect("bounded by the assertion in push");
        self.bytes[4..8].copy_from_slice(&count.to_le_bytes());
        Entry::from_parts(EntryKind::Commands, self.bytes)
    }
}

/// The encoded commands of an entry, in order.
#[derive(Clone, Debug)]
pub struct Commands<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Commands<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        if self.rest.is_empty() {
            return None;
        }
        let (length, rest) = self.rest.split_at(COMMAND_HEADER_BYTES);
        let (command, rest) = rest.split_at(read_u32(length, 0) as usize);
        self.rest = rest;
        Some(command)
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.0.hash == other.0.hash
    }
}

impl Eq for Entry {}

impl Hash for Entry {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash.hash(state);
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind() {
            EntryKind::NoOp => f.write_str("no-op"),
            EntryKind::Commands => {
                write!(f, "{} commands, {} bytes", self.command_count(), self.0.bytes.len())
            }
            EntryKind::Membership => write!(f, "membership {:?}", self.as_membership()),
            EntryKind::Later => {
                write!(f, "{} bytes of edition {}", self.0.bytes.len(), self.edition())
            }
        }
    }
}

/// On the wire: the hash, then the bytes. The receiver computes the hash anew and compares.
impl Serialize for Entry {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (self.0.hash, serde_bytes::Bytes::new(&self.0.bytes)).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Entry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (hash, bytes) = <(ContentHash, &serde_bytes::Bytes)>::deserialize(deserializer)?;
        let entry = Self::decode(bytes.to_vec()).map_err(serde::de::Error::custom)?;
        if entry.hash() != hash {
            return Err(serde::de::Error::custom("entry hash mismatch"));
        }
        Ok(entry)
    }
}

/// Checks an entry against the layout above, and says what it is. Commands of a later edition may
/// have that layout, too.
fn check_layout(bytes: &[u8]) -> Result<EntryKind, DecodeError> {
    let fail = |reason: &str| Err(DecodeError::new("entry", reason));
    let kind = match bytes[1] {
        0 => EntryKind::NoOp,
        1 => EntryKind::Commands,
        2 => EntryKind::Membership,
        other => return fail(&format!("unknown kind {other}")),
    };
    if bytes[2..4] != [0; 2] {
        return fail("reserved bytes are not zero");
    }
    let edition = Edition(bytes[0]);
    if edition < Edition::FIRST || Edition::FIRST < edition && kind != EntryKind::Commands {
        return fail(&format!("edition {edition} for {kind:?}"));
    }
    let count = read_u32(bytes, 4) as usize;
    match kind {
        EntryKind::NoOp if bytes == header(kind, 0, Time(0)) => {}
        EntryKind::Membership if count == 0 => {
            codec::decode::<Membership>("membership", &bytes[HEADER_BYTES..])?;
        }
        EntryKind::Commands if 0 < count && count <= ENTRY_COMMANDS_MAX => {
            check_commands(bytes, count)?;
        }
        _ => return fail("header and content differ"),
    }
    Ok(kind)
}

fn header(kind: EntryKind, count: u32, time: Time) -> Vec<u8> {
    let kind = match kind {
        EntryKind::NoOp => 0,
        EntryKind::Commands => 1,
        EntryKind::Membership => 2,
        EntryKind::Later => unreachable!("no build makes what it cannot read"),
    };
    let mut bytes = vec![Edition::FIRST.0, kind, 0, 0];
    bytes.extend_from_slice(&count.to_le_bytes());
    bytes.extend_from_slice(&time.0.to_le_bytes());
    bytes
}

/// Whether the lengths of `count` commands add up to exactly the bytes there are.
fn check_commands(bytes: &[u8], count: usize) -> Result<(), DecodeError> {
    let mut at = HEADER_BYTES;
    for index in 0..count {
        let ends_early = || DecodeError::new("entry", format!("command {index} ends too early"));
        if bytes.len() - at < COMMAND_HEADER_BYTES {
            return Err(ends_early());
        }
        let length = read_u32(bytes, at) as usize;
        at += COMMAND_HEADER_BYTES;
        if bytes.len() - at < length {
            return Err(ends_early());
        }
        at += length;
    }
    if at != bytes.len() {
        return Err(DecodeError::new("entry", "bytes left over"));
    }
    Ok(())
}

fn read_u32(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(array(bytes, at))
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes[at..at + N].try_into().expect("the slice has N bytes")
}
