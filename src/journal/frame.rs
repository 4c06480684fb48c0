//! One frame: a header laid out by hand, little-endian, and a payload.
//!
//! The header's CRC32 covers every byte before it: what the frame is, where it stands, and the
//! hash of its payload. So the payload is never hashed for the frame's sake: for an entry the hash
//! is the one that was computed when the entry was made, and a reader computes it once, as part of
//! taking the entry apart. The offsets are in the table in `mod`.
//!
//! Invariants:
//! * Nothing of a header is used, its length least of all, before its checksum was compared.
//! * A header that decodes says the truth about some place; whether it is *this* place is for
//!   [`Header::stands_at`].
//!
//! Not here: how frames follow one another (`group`, `scan`).

use std::ops::Range;

use crate::types::bugs::{self, Bug};
use crate::types::ids::{Ballot, ClusterId, ContentHash, Incarnation, Lsn, ReplicaId, Slot};
use crate::types::limits::ENTRY_BYTES_MAX;

/// What a frame holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Begins a group; the payload says how many frames and bytes it has.
    Group = 1,
    /// The ballot that is promised. Always two copies, in different blocks.
    Promise = 2,
    /// A vote; the payload is the entry.
    Vote = 3,
    /// An entry that is known to be chosen; the payload is the entry.
    Chosen = 4,
    /// How commands ended; the payload is an encoded `Verdicts`.
    Verdicts = 5,
    /// Nothing but the evidence that its header carries.
    Seal = 6,
    /// What this replica cannot tell of itself; the payload is an encoded `Doubts`.
    Doubts = 7,
    /// What this replica saw of its peers' directories; the payload is an encoded list of
    /// `Sighting`.
    Sightings = 8,
}

/// To whom a frame or a segment belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Home {
    /// The cluster.
    pub cluster: ClusterId,
    /// The directory.
    pub incarnation: Incarnation,
}

/// The header of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// What the frame holds.
    pub kind: Kind,
    /// 1 or 2 for the copies of a promise, else 0.
    pub copy: u8,
    /// How long the payload is.
    pub payload_bytes: u32,
    /// The header checksum of the frame before; for the first frame of a segment, the checksum of
    /// the superheader.
    pub link: u32,
    /// To whom it belongs.
    pub home: Home,
    /// In which segment it stands.
    pub segment: u64,
    /// Where in the segment it stands.
    pub offset: u64,
    /// Its number.
    pub lsn: Lsn,
    /// The slot it speaks of; zero where it speaks of none. For doubts: a digest of the damage that
    /// they account for.
    pub slot: Slot,
    /// The ballot promised or voted at; zero where there is none.
    pub ballot: Ballot,
    /// The number of the promise in force.
    pub meta_seq: u64,
    /// Everything up to here was durable before this frame was made.
    pub durable_through: Lsn,
    /// Every slot below was known to be chosen, and every such entry stands before this group's
    /// end.
    pub slot_chosen: Slot,
    /// The hash of the payload; zero for a promise, whose payload is only distance.
    pub content: ContentHash,
}

/// Why bytes are no frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadFrame {
    /// They do not begin as one.
    Magic,
    /// They begin as one, but the checksum differs.
    Checksum,
    /// A whole frame of a version that is not known here.
    Version(u16),
    /// A whole frame with content that no version writes.
    Content,
}

impl Header {
    /// The bytes of the header, and the checksum that they end with.
    #[must_use]
    pub fn encode(&self) -> ([u8; FRAME_HEADER_BYTES], u32) {
        let mut bytes = [0; FRAME_HEADER_BYTES];
        bytes[0..4].copy_from_slice(&FRAME_MAGIC);
        bytes[4..6].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        bytes[6] = self.kind as u8;
        bytes[7] = self.copy;
        bytes[8..12].copy_from_slice(&self.payload_bytes.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.link.to_le_bytes());
        bytes[16..32].copy_from_slice(&self.home.cluster.0.to_le_bytes());
        bytes[32..48].copy_from_slice(&self.home.incarnation.0.to_le_bytes());
        bytes[48..56].copy_from_slice(&self.segment.to_le_bytes());
        bytes[56..64].copy_from_slice(&self.offset.to_le_bytes());
        bytes[64..72].copy_from_slice(&self.lsn.0.to_le_bytes());
        bytes[72..80].copy_from_slice(&self.slot.0.to_le_bytes());
        bytes[80..88].copy_from_slice(&self.ballot.round.to_le_bytes());
        bytes[88..96].copy_from_slice(&self.ballot.leader.0.to_le_bytes());
        bytes[96..104].copy_from_slice(&self.meta_seq.to_le_bytes());
        bytes[104..112].copy_from_slice(&self.durable_through.0.to_le_bytes());
        bytes[112..120].copy_from_slice(&self.slot_chosen.0.to_le_bytes());
        bytes[120..136].copy_from_slice(&self.content.0.to_le_bytes());
        let checksum = crc32fast::hash(&bytes[..CHECKSUM_AT]);
        bytes[CHECKSUM_AT..].copy_from_slice(&checksum.to_le_bytes());
        (bytes, checksum)
    }

    /// The header that `bytes` begin with, and its checksum.
    ///
    /// # Errors
    ///
    /// Where they do not begin with one.
    pub fn decode(bytes: &[u8]) -> Result<(Self, u32), BadFrame> {
        if bytes.len() < FRAME_HEADER_BYTES || bytes[..4] != FRAME_MAGIC {
            return Err(BadFrame::Magic);
        }
        let checksum = u32_at(bytes, CHECKSUM_AT);
        let sound = crc32fast::hash(&bytes[..CHECKSUM_AT]) == checksum;
        if !sound && !bugs::is_on(Bug::HeaderUnchecked) {
            return Err(BadFrame::Checksum);
        }
        let version = u16::from_le_bytes(array(bytes, 4));
        if version != FORMAT_VERSION {
            return Err(BadFrame::Version(version));
        }
        let header = Self {
            kind: Kind::from_number(bytes[6]).ok_or(BadFrame::Content)?,
            copy: bytes[7],
            payload_bytes: u32_at(bytes, 8),
            link: u32_at(bytes, 12),
            home: Home {
                cluster: ClusterId(u128::from_le_bytes(array(bytes, 16))),
                incarnation: Incarnation(u128::from_le_bytes(array(bytes, 32))),
            },
            segment: u64_at(bytes, 48),
            offset: u64_at(bytes, 56),
            lsn: Lsn(u64_at(bytes, 64)),
            slot: Slot(u64_at(bytes, 72)),
            ballot: Ballot { round: u64_at(bytes, 80), leader: ReplicaId(u64_at(bytes, 88)) },
            meta_seq: u64_at(bytes, 96),
            durable_through: Lsn(u64_at(bytes, 104)),
            slot_chosen: Slot(u64_at(bytes, 112)),
            content: ContentHash(u128::from_le_bytes(array(bytes, 120))),
        };
        let copies = if header.kind == Kind::Promise { 1..=2 } else { 0..=0 };
        let is_ours = copies.contains(&header.copy) && bytes[RESERVED] == [0; RESERVED_BYTES];
        if !is_ours || header.payload_bytes as usize > PAYLOAD_BYTES_MAX {
            return Err(BadFrame::Content);
        }
        Ok((header, checksum))
    }

    /// Whether the frame was written for this place. One that was not is no frame here: it is an
    /// old one, or one that the disk put in the wrong place.
    #[must_use]
    pub fn stands_at(&self, home: Home, segment: u64, offset: u64) -> bool {
        self.home == home && self.segment == segment && self.offset == offset
    }

    /// Whether `payload` is what was written with this header.
    #[must_use]
    pub fn holds(&self, payload: &[u8]) -> bool {
        self.kind == Kind::Promise || ContentHash::of(payload) == self.content
    }

    /// How many bytes the frame takes, up to where the next one can begin.
    #[must_use]
    pub fn frame_bytes(&self) -> usize {
        frame_bytes(self.payload_bytes as usize)
    }
}

impl Kind {
    fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            1 => Self::Group,
            2 => Self::Promise,
            3 => Self::Vote,
            4 => Self::Chosen,
            5 => Self::Verdicts,
            6 => Self::Seal,
            7 => Self::Doubts,
            8 => Self::Sightings,
            _ => return None,
        })
    }
}

impl BadFrame {
    /// The words for it in an error.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::Magic => "no frame where one was acknowledged",
            Self::Checksum => "checksum mismatch",
            Self::Version(_) => "unknown format version",
            Self::Content => "a frame with impossible content",
        }
    }
}

/// How many bytes a frame with such a payload takes.
#[must_use]
pub const fn frame_bytes(payload_bytes: usize) -> usize {
    (FRAME_HEADER_BYTES + payload_bytes).next_multiple_of(FRAME_ALIGNMENT)
}

pub(super) fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes[at..at + N].try_into().expect("the slice has N bytes")
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(array(bytes, at))
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(array(bytes, at))
}

/// The version of the format that is written, and the only one that is read.
pub const FORMAT_VERSION: u16 = 1;

/// What every frame begins with.
pub const FRAME_MAGIC: [u8; 4] = *b"iLfr";

/// How long a header is.
pub const FRAME_HEADER_BYTES: usize = 144;

/// Every frame begins at a multiple of this.
pub const FRAME_ALIGNMENT: usize = 8;

/// Longest payload.
pub const PAYLOAD_BYTES_MAX: usize = ENTRY_BYTES_MAX;

/// The highest number of a frame, a slot or a promise that is believed: all are counted on from. No
/// journal comes so far; a forged one must not wrap around.
pub(super) const COUNT_MAX: u64 = 1 << 62;

const CHECKSUM_AT: usize = FRAME_HEADER_BYTES - 4;

/// Zero in every frame.
const RESERVED: Range<usize> = CHECKSUM_AT - RESERVED_BYTES..CHECKSUM_AT;
const RESERVED_BYTES: usize = 4;

const _: () = assert!(FRAME_HEADER_BYTES.is_multiple_of(FRAME_ALIGNMENT), "no gap behind a header");
