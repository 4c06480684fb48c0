//! One group: what is written with one write and made durable by one sync.
//!
//! ```text
//! | Group | Promise ...... | Promise | Vote | Vote | Verdicts | zeros to the block's end |
//!   ^ block boundary         ^ block boundary
//! ```
//!
//! A group is collected first and encoded when it is handed out: only then is it known how far the
//! journal is durable. Where everything will stand is known while collecting, byte by byte, so that
//! a group never outgrows its segment.
//!
//! Invariants:
//! * A group begins at a block boundary and is padded to the next one.
//! * The two copies of a promise share no block, nor do those of what is in doubt. Rot or a lost
//!   write takes blocks, not frames.

use serde::Serialize;

use crate::types::bugs::{self, Bug};
use crate::types::codec;
use crate::types::entry::Entry;
use crate::types::ids::{Ballot, ContentHash, Lsn, Slot};
use crate::types::record::{Doubts, Record};
use crate::types::slots::SlotSet;

use super::frame::{FRAME_HEADER_BYTES, Header, Home, Kind, PAYLOAD_BYTES_MAX, frame_bytes};
use super::segment::BLOCK_BYTES;

/// What one frame, or one pair of promise frames, will hold.
#[derive(Clone, Debug)]
pub(super) enum Item {
    Promise {
        ballot: Ballot,
        meta_seq: u64,
    },
    Vote {
        slot: Slot,
        ballot: Ballot,
        entry: Entry,
    },
    Chosen {
        slot: Slot,
        entry: Entry,
    },
    Verdicts {
        slot: Slot,
        bytes: Vec<u8>,
    },
    /// The digest names the damage that the doubts account for. That there are none is written
    /// once: were it lost, more would be doubted.
    Doubts {
        digest: u64,
        bytes: Vec<u8>,
        twice: bool,
    },
    Sightings {
        bytes: Vec<u8>,
    },
    Seal,
}

/// A group that is collected or waits to be written.
#[derive(Debug)]
pub(super) struct Group {
    /// Where it will stand.
    pub(super) segment: u64,
    pub(super) offset: u64,
    /// How long that segment must be.
    pub(super) segment_bytes: u64,
    /// Whether it is the first group of its segment.
    pub(super) first: bool,
    pub(super) first_lsn: Lsn,
    /// One behind the last frame.
    pub(super) end_lsn: Lsn,
    /// The number of the promise in force before the first item.
    pub(super) meta_seq: u64,
    pub(super) slot_chosen: Slot,
    pub(super) items: Vec<Item>,
    /// How long it is, without the zeros at its end.
    pub(super) bytes: usize,
}

/// What a group's frames have in common, and where their chain begins.
pub(super) struct Context {
    pub(super) home: Home,
    pub(super) durable_through: Lsn,
    /// One behind the highest slot of all frames so far.
    pub(super) slot_end: Slot,
    pub(super) link: u32,
}

impl Item {
    /// Where a frame that begins `at` bytes into a group ends. For a promise: its second copy.
    pub(super) fn end(&self, at: usize) -> usize {
        match self {
            Self::Promise { .. } => second_copy(at) + FRAME_HEADER_BYTES,
            Self::Vote { entry, .. } | Self::Chosen { entry, .. } => {
                at + frame_bytes(entry.bytes().len())
            }
            Self::Verdicts { bytes, .. }
            | Self::Doubts { bytes, .. }
            | Self::Sightings { bytes } => at + frame_bytes(bytes.len()),
            Self::Seal => at + FRAME_HEADER_BYTES,
        }
    }

    /// How many frames it is.
    pub(super) fn frames(&self) -> u64 {
        match self {
            Self::Promise { .. } => 2,
            Self::Vote { .. }
            | Self::Chosen { .. }
            | Self::Verdicts { .. }
            | Self::Doubts { .. }
            | Self::Sightings { .. }
            | Self::Seal => 1,
        }
    }

    /// Whether it is written twice, in two groups. What is in doubt stands nowhere else: were the
    /// only frame that tells it to rot, this replica would answer as if it knew.
    pub(super) fn has_copy(&self) -> bool {
        matches!(self, Self::Doubts { twice: true, .. }) && !bugs::is_on(Bug::LossToldOnce)
    }

    /// The item that holds `record`; `meta_seq` is the number that a promise gets.
    pub(super) fn of(record: &Record, meta_seq: u64) -> Self {
        match record {
            Record::Promise { ballot } => Self::Promise { ballot: *ballot, meta_seq },
            Record::Vote { slot, ballot, entry } => {
                Self::Vote { slot: *slot, ballot: *ballot, entry: entry.clone() }
            }
            Record::Chosen { slot, entry } => Self::Chosen { slot: *slot, entry: entry.clone() },
            Record::Verdicts(verdicts) => {
                Self::Verdicts { slot: verdicts.slots.first, bytes: encode(verdicts) }
            }
            Record::Doubts(doubts) => Self::doubts(doubts, 0),
            Record::Sightings(sightings) => Self::Sightings { bytes: encode(sightings) },
        }
    }

    /// The item that holds `doubts`, which account for the damage that `digest` names. Where they
    /// are too many ranges for a frame, more is doubted: what is whole is fetched once more.
    pub(super) fn doubts(doubts: &Doubts, digest: u64) -> Self {
        let coarser = |set: &SlotSet| set.coarser(DOUBT_RANGES_MAX);
        let Doubts { promise_lost, faulty, uncertain } = doubts;
        let (faulty, uncertain) = (coarser(faulty), coarser(uncertain));
        let doubts = Doubts { promise_lost: *promise_lost, faulty, uncertain };
        Self::Doubts { digest, bytes: encode(&doubts), twice: !doubts.is_empty() }
    }
}

fn encode(record: &impl Serialize) -> Vec<u8> {
    let bytes = codec::encode(record).expect("plain data always encodes");
    assert!(bytes.len() <= PAYLOAD_BYTES_MAX, "a record of {} bytes", bytes.len());
    bytes
}

impl Group {
    /// A group without items.
    pub(super) fn empty(segment: u64, offset: u64, segment_bytes: u64, lsn: Lsn) -> Self {
        Self {
            segment,
            offset,
            segment_bytes,
            first: false,
            first_lsn: lsn,
            end_lsn: lsn.next(),
            meta_seq: 0,
            slot_chosen: Slot::ZERO,
            items: Vec::new(),
            bytes: GROUP_FRAME_BYTES,
        }
    }

    /// A group without items that begins a segment.
    pub(super) fn first_of(segment: u64, segment_bytes: u64, lsn: Lsn) -> Self {
        Self { first: true, ..Self::empty(segment, BLOCK_BYTES as u64, segment_bytes, lsn) }
    }

    /// How many bytes are written for it.
    pub(super) fn padded_bytes(&self) -> usize {
        self.bytes.next_multiple_of(BLOCK_BYTES)
    }

    /// Adds an item; where it does not fit, the caller has closed the group before.
    pub(super) fn push(&mut self, item: Item) {
        self.bytes = item.end(self.bytes);
        self.end_lsn = Lsn(self.end_lsn.0 + item.frames());
        self.items.push(item);
    }

    /// Appends the bytes of the group to `output` and its slots to `places`, and returns the
    /// checksum of the last frame.
    pub(super) fn encode(
        &self,
        context: Context,
        output: &mut Vec<u8>,
        places: &mut Vec<(Slot, Lsn, u64)>,
    ) -> u32 {
        let base = output.len();
        let mut frames = Encoder { group: self, context, base, lsn: self.first_lsn, output };
        let frame_count = u32::try_from(self.end_lsn.0 - self.first_lsn.0).unwrap_or(u32::MAX);
        let mut payload = [0; GROUP_PAYLOAD_BYTES];
        payload[0..4].copy_from_slice(&frame_count.to_le_bytes());
        payload[8..16].copy_from_slice(&(self.bytes as u64).to_le_bytes());
        let mut meta_seq = self.meta_seq;
        let header = frames.header(Kind::Group, meta_seq);
        let (slot, content) = (frames.context.slot_end, ContentHash::of(&payload));
        frames.put(Header { slot, content, ..header }, &payload);
        for item in &self.items {
            match item {
                Item::Promise { ballot, meta_seq: number } => {
                    meta_seq = *number;
                    frames.push_promise(*ballot, meta_seq);
                }
                Item::Vote { slot, ballot, entry } => {
                    places.push((*slot, frames.lsn, frames.offset()));
                    let header = frames.header(Kind::Vote, meta_seq);
                    let header =
                        Header { slot: *slot, ballot: *ballot, content: entry.hash(), ..header };
                    frames.put(header, entry.bytes());
                }
                Item::Chosen { slot, entry } => {
                    places.push((*slot, frames.lsn, frames.offset()));
                    let header = frames.header(Kind::Chosen, meta_seq);
                    let header = Header { slot: *slot, content: entry.hash(), ..header };
                    frames.put(header, entry.bytes());
                }
                Item::Verdicts { slot, bytes } => {
                    let header = frames.header(Kind::Verdicts, meta_seq);
                    let content = ContentHash::of(bytes);
                    frames.put(Header { slot: *slot, content, ..header }, bytes);
                }
                Item::Doubts { digest, bytes, .. } => {
                    let header = frames.header(Kind::Doubts, meta_seq);
                    let (slot, content) = (Slot(*digest), ContentHash::of(bytes));
                    frames.put(Header { slot, content, ..header }, bytes);
                }
                Item::Sightings { bytes } => {
                    frames.push(Kind::Sightings, meta_seq, ContentHash::of(bytes), bytes);
                }
                Item::Seal => frames.push(Kind::Seal, meta_seq, ContentHash::of(&[]), &[]),
            }
        }
        let (link, lsn) = (frames.context.link, frames.lsn);
        assert!(
            lsn == self.end_lsn,
            "frame {lsn} follows a group that ends before {}",
            self.end_lsn
        );
        let bytes = output.len() - base;
        assert!(bytes == self.bytes, "a group of {bytes} bytes, planned were {}", self.bytes);
        output.resize(base + self.padded_bytes(), 0);
        link
    }
}

/// Where the second copy of a promise stands whose first copy begins at `at`: in the block behind
/// the last one that the first copy touches.
pub(super) fn second_copy(at: usize) -> usize {
    (at + FRAME_HEADER_BYTES).next_multiple_of(BLOCK_BYTES)
}

struct Encoder<'a> {
    group: &'a Group,
    context: Context,
    /// Where the group begins in `output`.
    base: usize,
    lsn: Lsn,
    output: &'a mut Vec<u8>,
}

impl Encoder<'_> {
    /// Where the next frame will stand in the segment.
    fn offset(&self) -> u64 {
        self.group.offset + (self.output.len() - self.base) as u64
    }

    fn header(&self, kind: Kind, meta_seq: u64) -> Header {
        Header {
            kind,
            copy: 0,
            payload_bytes: 0,
            link: self.context.link,
            home: self.context.home,
            segment: self.group.segment,
            offset: self.offset(),
            lsn: self.lsn,
            slot: Slot::ZERO,
            ballot: Ballot::ZERO,
            meta_seq,
            durable_through: self.context.durable_through,
            slot_chosen: self.group.slot_chosen,
            content: ContentHash::default(),
        }
    }

    fn push(&mut self, kind: Kind, meta_seq: u64, content: ContentHash, payload: &[u8]) {
        let header = Header { content, ..self.header(kind, meta_seq) };
        self.put(header, payload);
    }

    fn push_promise(&mut self, ballot: Ballot, meta_seq: u64) {
        let at = self.output.len() - self.base;
        let distance = second_copy(at) - at - FRAME_HEADER_BYTES;
        let header = self.header(Kind::Promise, meta_seq);
        self.put(Header { copy: 1, ballot, ..header }, &[0; BLOCK_BYTES][..distance]);
        let header = self.header(Kind::Promise, meta_seq);
        self.put(Header { copy: 2, ballot, ..header }, &[]);
    }

    fn put(&mut self, header: Header, payload: &[u8]) {
        let payload_bytes = u32::try_from(payload.len()).expect("bounded by the entry's maximum");
        let (bytes, checksum) = Header { payload_bytes, ..header }.encode();
        self.output.extend_from_slice(&bytes);
        self.output.extend_from_slice(payload);
        let end = self.output.len() + frame_bytes(payload.len()) - bytes.len() - payload.len();
        self.output.resize(end, 0);
        self.context.link = checksum;
        self.lsn = self.lsn.next();
    }
}

/// How long the payload of a group frame is: the number of frames (4 bytes), zero (4 bytes), the
/// length of the group in bytes (8 bytes).
pub const GROUP_PAYLOAD_BYTES: usize = 16;

/// How many ranges of slots are written down of what is faulty, and of what is uncertain: both fit
/// one frame.
const DOUBT_RANGES_MAX: usize = 64 * 1024;

/// How long the frame is that begins a group.
pub(super) const GROUP_FRAME_BYTES: usize = frame_bytes(GROUP_PAYLOAD_BYTES);
