//! A checkpoint: the state below a slot, as a file, so that an opening need not apply all before.
//!
//! ```text
//! header, 128 bytes | block | block | ... | end: a block without a payload
//! block             | head, 32 bytes | payload | zeros to a multiple of 8 |
//! ```
//!
//! | offset | bytes | header |
//! |---|---|---|
//! | 0 | 8 | magic `indelCHK` |
//! | 8 | 8 | format version, 1 (2 bytes), zero |
//! | 16 | 32 | cluster, incarnation |
//! | 48 | 8 | replica |
//! | 56 | 8 | slot: every slot below is in the state |
//! | 64 | 16 | the ledger chain below the slot |
//! | 80 | 8 | the journal was durable up to this frame when the checkpoint got its name |
//! | 88 | 8 | what the journal has of the slots below this one may have gaps, and does not count |
//! | 96 | 28 | zero |
//! | 124 | 4 | CRC32 of the 124 bytes before |
//!
//! | offset | bytes | head of a block |
//! |---|---|---|
//! | 0 | 4 | magic `iLck` |
//! | 4 | 4 | length of the payload; 0 ends the file |
//! | 8 | 8 | number of the block, from 0 |
//! | 16 | 16 | link: content hash of the link before, number, length and content hash of the
//! payload |
//!
//! The link of the first block continues the content hash of the header. So a block is valid only
//! in its place in its own file, and what is damaged is found, and where. The payloads are pieces
//! of an image; what is in them is nobody's business here.
//!
//! **Valid** is a file whose header is, whose blocks are valid up to one without a payload, and
//! that ends behind it. A damaged one is passed over; it is an error where the journal does not
//! reach back to what an older one holds.
//!
//! Invariants:
//! * A file of that name was whole, and synced, before it got the name (`checkpointing`).
//! * A checkpoint says nothing of promises and votes: those are in the segments alone.
//!
//! Not here: taking one (`checkpointing`), one that comes from a peer (`parts`), the image
//! (`store/image.rs`).

use std::fmt;
use std::sync::Arc;

use crate::types::ids::{Chain, ClusterId, ContentHash, Incarnation, Lsn, ReplicaId, Slot};
use crate::types::limits::MESSAGE_BYTES_MAX;
use crate::types::marks::reached;

use super::disk::{Disk, File, fill, number_behind};
use super::error::JournalError;
use super::frame::{COUNT_MAX, FORMAT_VERSION, Home, array, u32_at, u64_at};
use super::listing;

/// What a checkpoint is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CheckpointHeader {
    /// To whom it belongs.
    pub home: Home,
    /// The replica.
    pub replica: ReplicaId,
    /// Every slot below is in the state.
    pub slot: Slot,
    /// The ledger chain below `slot`.
    pub chain: Chain,
    /// The journal was durable up to this frame when the checkpoint got its name: evidence that
    /// what is bad before it rotted.
    pub durable_through: Lsn,
    /// Slots below need not be in the journal: they were trimmed, or never came, since a peer sent
    /// the state that they add up to.
    pub journal_from: Slot,
}

/// A checkpoint that is whole, and can be read.
pub struct Checkpoint<D: Disk> {
    header: CheckpointHeader,
    bytes: u64,
    file: Arc<D::File>,
}

/// What checkpoints a directory holds.
pub(super) struct Found<D: Disk> {
    /// The whole ones, newest first.
    pub(super) whole: Vec<Checkpoint<D>>,
    /// What is wrong with the newest of the others.
    pub(super) damaged: Option<(Slot, JournalError)>,
    /// Whether one was begun and not ended.
    pub(super) leftover: bool,
}

impl CheckpointHeader {
    /// The bytes, and the link that the first block continues.
    pub(super) fn encode(&self) -> (Vec<u8>, Link) {
        let mut bytes = vec![0; HEADER_BYTES];
        bytes[..8].copy_from_slice(&CHECKPOINT_MAGIC);
        bytes[8..10].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        bytes[16..32].copy_from_slice(&self.home.cluster.0.to_le_bytes());
        bytes[32..48].copy_from_slice(&self.home.incarnation.0.to_le_bytes());
        bytes[48..56].copy_from_slice(&self.replica.0.to_le_bytes());
        bytes[56..64].copy_from_slice(&self.slot.0.to_le_bytes());
        bytes[64..80].copy_from_slice(&self.chain.0.to_le_bytes());
        bytes[80..88].copy_from_slice(&self.durable_through.0.to_le_bytes());
        bytes[88..96].copy_from_slice(&self.journal_from.0.to_le_bytes());
        let checksum = crc32fast::hash(&bytes[..CHECKSUM_AT]);
        bytes[CHECKSUM_AT..].copy_from_slice(&checksum.to_le_bytes());
        let link = Link { before: ContentHash::of(&bytes), number: 0 };
        (bytes, link)
    }

    /// The header that a file begins with, and the link.
    pub(super) fn decode(bytes: &[u8]) -> Result<(Self, Link), BadHeader> {
        if bytes.len() < HEADER_BYTES || bytes[..8] != CHECKPOINT_MAGIC {
            return Err(BadHeader::Damaged);
        }
        if crc32fast::hash(&bytes[..CHECKSUM_AT]) != u32_at(bytes, CHECKSUM_AT) {
            return Err(BadHeader::Damaged);
        }
        let version = u16::from_le_bytes(array(bytes, 8));
        if version != FORMAT_VERSION {
            return Err(BadHeader::Version(version));
        }
        let slot = Slot(u64_at(bytes, 56));
        let journal_from = Slot(u64_at(bytes, 88));
        if slot.max(journal_from).0 > COUNT_MAX {
            return Err(BadHeader::Damaged);
        }
        let header = Self {
            home: Home {
                cluster: ClusterId(u128::from_le_bytes(array(bytes, 16))),
                incarnation: Incarnation(u128::from_le_bytes(array(bytes, 32))),
            },
            replica: ReplicaId(u64_at(bytes, 48)),
            slot,
            chain: Chain(u128::from_le_bytes(array(bytes, 64))),
            durable_through: Lsn(u64_at(bytes, 80)),
            journal_from,
        };
        Ok((header, Link { before: ContentHash::of(&bytes[..HEADER_BYTES]), number: 0 }))
    }
}

/// Why a file does not begin with a header.
pub(super) enum BadHeader {
    Damaged,
    Version(u16),
}

/// What the next block continues.
#[derive(Clone, Copy, Debug)]
pub(super) struct Link {
    before: ContentHash,
    number: u64,
}

/// What stands at the head of a block.
#[derive(Clone, Copy)]
pub(super) struct BlockHead {
    /// Of the payload; without one, the file ends here.
    pub(super) length: usize,
    link: ContentHash,
}

impl BlockHead {
    /// How long the block is.
    pub(super) fn block_bytes(&self) -> usize {
        (BLOCK_HEAD_BYTES + self.length).next_multiple_of(ALIGNMENT)
    }
}

impl Link {
    /// Appends the block that holds `payload`.
    pub(super) fn push(&mut self, payload: &[u8], bytes: &mut Vec<u8>) {
        let length = u32::try_from(payload.len()).expect("a piece is bounded");
        let link = self.over(payload);
        bytes.reserve(BlockHead { length: payload.len(), link }.block_bytes());
        bytes.extend_from_slice(&BLOCK_MAGIC);
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(&self.number.to_le_bytes());
        bytes.extend_from_slice(&link.0.to_le_bytes());
        bytes.extend_from_slice(payload);
        bytes.resize(bytes.len().next_multiple_of(ALIGNMENT), 0);
        *self = Self { before: link, number: self.number + 1 };
    }

    /// What a block says of itself; `None` where these bytes are not that of the block that comes
    /// next.
    pub(super) fn head(&self, bytes: &[u8; BLOCK_HEAD_BYTES]) -> Option<BlockHead> {
        if bytes[..4] != BLOCK_MAGIC || u64_at(bytes, 8) != self.number {
            return None;
        }
        let length = u32_at(bytes, 4) as usize;
        let link = ContentHash(u128::from_le_bytes(array(bytes, 16)));
        (length <= PAYLOAD_BYTES_MAX).then_some(BlockHead { length, link })
    }

    /// What comes behind the block that holds `payload`; `None` where it is not that block.
    pub(super) fn behind(&self, head: BlockHead, payload: &[u8]) -> Option<Self> {
        let next = Self { before: head.link, number: self.number + 1 };
        (self.over(payload) == head.link).then_some(next)
    }

    fn over(&self, payload: &[u8]) -> ContentHash {
        let mut bytes = [0; 44];
        bytes[..16].copy_from_slice(&self.before.0.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.number.to_le_bytes());
        bytes[24..28].copy_from_slice(&(payload.len() as u32).to_le_bytes());
        bytes[28..].copy_from_slice(&ContentHash::of(payload).0.to_le_bytes());
        ContentHash::of(&bytes)
    }
}

impl<D: Disk> Checkpoint<D> {
    /// One that has just been written.
    pub(super) fn new(header: CheckpointHeader, bytes: u64, file: Arc<D::File>) -> Self {
        Self { header, bytes, file }
    }

    /// What it is of.
    #[must_use]
    pub fn header(&self) -> CheckpointHeader {
        self.header
    }

    /// How long the file is.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The name of its file.
    #[must_use]
    pub fn name(&self) -> String {
        checkpoint_name(self.header.slot)
    }

    /// The bytes from `offset` on, as many as there are up to `bytes_max`. They are not checked:
    /// whoever puts them together does.
    pub(super) fn part(&self, offset: u64, bytes_max: usize) -> Result<Vec<u8>, JournalError> {
        let left = usize::try_from(self.bytes.saturating_sub(offset)).unwrap_or(usize::MAX);
        let mut bytes = vec![0; left.min(bytes_max)];
        let count = fill(&*self.file, offset, &mut bytes);
        let count = count.map_err(JournalError::io("read", &self.name()))?;
        bytes.truncate(count);
        Ok(bytes)
    }

    /// The pieces of the image, checked again.
    #[must_use]
    pub fn pieces(&self) -> Pieces<D> {
        let (_, link) = self.header.encode();
        let (file, name) = (Arc::clone(&self.file), self.name());
        Pieces { file, name, offset: HEADER_BYTES as u64, link: Some(link) }
    }
}

impl<D: Disk> Clone for Checkpoint<D> {
    fn clone(&self) -> Self {
        Self { header: self.header, bytes: self.bytes, file: Arc::clone(&self.file) }
    }
}

impl<D: Disk> fmt::Debug for Checkpoint<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { header, bytes, .. } = self;
        write!(f, "checkpoint of slot {}, {bytes} bytes", header.slot)
    }
}

/// The payloads of a checkpoint's blocks.
pub struct Pieces<D: Disk> {
    file: Arc<D::File>,
    name: String,
    offset: u64,
    /// `None` behind the end, or an error.
    link: Option<Link>,
}

impl<D: Disk> Pieces<D> {
    fn read(&mut self, link: Link) -> Result<Option<Vec<u8>>, JournalError> {
        let mut head = [0; BLOCK_HEAD_BYTES];
        let read = JournalError::io("read", &self.name);
        let count = fill(&*self.file, self.offset, &mut head).map_err(read)?;
        let Some(head) = link.head(&head).filter(|_| count == head.len()) else {
            return Err(self.damaged("no block where one must be"));
        };
        let length = head.length;
        // A length that rotted must not make room for more than there is.
        let measure = JournalError::io("measure", &self.name);
        let left = self.file.len().map_err(measure)?.saturating_sub(self.offset);
        if left < (BLOCK_HEAD_BYTES + length) as u64 {
            return Err(self.damaged("the file ends within a block"));
        }
        let mut payload = vec![0; length];
        let at = self.offset + BLOCK_HEAD_BYTES as u64;
        let read = JournalError::io("read", &self.name);
        let count = fill(&*self.file, at, &mut payload).map_err(read)?;
        let Some(next) = link.behind(head, &payload).filter(|_| count == length) else {
            return Err(self.damaged("content hash mismatch"));
        };
        self.offset += head.block_bytes() as u64;
        self.link = (length > 0).then_some(next);
        Ok((length > 0).then_some(payload))
    }

    fn damaged(&self, reason: &'static str) -> JournalError {
        damaged(&self.name, self.offset, reason)
    }
}

impl<D: Disk> Iterator for Pieces<D> {
    type Item = Result<Vec<u8>, JournalError>;

    fn next(&mut self) -> Option<Self::Item> {
        let link = self.link.take()?;
        self.read(link).transpose()
    }
}

impl<D: Disk> fmt::Debug for Pieces<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pieces of {} from {} on", self.name, self.offset)
    }
}

/// Looks at every checkpoint of the directory.
pub(super) fn find<D: Disk>(
    disk: &D,
    home: Home,
    replica: ReplicaId,
) -> Result<Found<D>, JournalError> {
    let names = listing::names(disk)?;
    let mut slots: Vec<Slot> = names.iter().filter_map(|name| checkpoint_slot(name)).collect();
    slots.sort_unstable_by(|one, other| other.cmp(one));
    let leftover = names.iter().any(|name| name == TEMPORARY_NAME);
    let mut found = Found { whole: Vec::new(), damaged: None, leftover };
    for slot in slots {
        match check(disk, slot, home, replica) {
            Ok(checkpoint) => found.whole.push(checkpoint),
            Err(err) if err.is_passing() => return Err(err),
            Err(err @ (JournalError::Corrupt { .. } | JournalError::Io { .. })) => {
                reached!(CheckpointPassed);
                found.damaged.get_or_insert((slot, err));
            }
            Err(err) => return Err(err),
        }
    }
    Ok(found)
}

/// Reads all of a checkpoint.
fn check<D: Disk>(
    disk: &D,
    slot: Slot,
    home: Home,
    replica: ReplicaId,
) -> Result<Checkpoint<D>, JournalError> {
    let name = checkpoint_name(slot);
    let file = Arc::new(disk.open(&name).map_err(JournalError::io("open", &name))?);
    let mut bytes = [0; HEADER_BYTES];
    let count = fill(&*file, 0, &mut bytes).map_err(JournalError::io("read", &name))?;
    let header = match CheckpointHeader::decode(&bytes[..count]) {
        Ok((header, _)) => header,
        Err(BadHeader::Damaged) => return Err(damaged(&name, 0, "no header of a checkpoint")),
        Err(BadHeader::Version(found)) => {
            let supported = FORMAT_VERSION;
            return Err(JournalError::UnsupportedFormat { file: name, found, supported });
        }
    };
    if header.home.cluster != home.cluster {
        let (wanted, found) = (home.cluster, header.home.cluster);
        return Err(JournalError::WrongCluster { file: name, wanted, found });
    }
    if header.home.incarnation != home.incarnation {
        let (wanted, found) = (home.incarnation, header.home.incarnation);
        return Err(JournalError::ForeignSegment { file: name, wanted, found });
    }
    if header.slot != slot || header.replica != replica {
        return Err(damaged(&name, 0, "the header of another checkpoint"));
    }
    let length = file.len().map_err(JournalError::io("measure", &name))?;
    let checkpoint = Checkpoint { header, bytes: length, file };
    let mut pieces = checkpoint.pieces();
    for piece in &mut pieces {
        piece?;
    }
    match pieces.offset == length {
        true => Ok(checkpoint),
        false => Err(damaged(&name, pieces.offset, "more than a checkpoint")),
    }
}

fn damaged(name: &str, offset: u64, reason: &'static str) -> JournalError {
    JournalError::Corrupt { file: name.to_owned(), offset, slot: None, reason }
}

/// The name of a checkpoint's file.
#[must_use]
pub fn checkpoint_name(slot: Slot) -> String {
    format!("checkpoint-{:016x}", slot.0)
}

/// The slot in a checkpoint's file name; `None` where it is no such name.
#[must_use]
pub fn checkpoint_slot(name: &str) -> Option<Slot> {
    number_behind("checkpoint-", name).map(Slot)
}

/// What every checkpoint begins with.
pub const CHECKPOINT_MAGIC: [u8; 8] = *b"indelCHK";

/// The name of one that is being written.
pub const TEMPORARY_NAME: &str = "checkpoint.new";

/// Most bytes of one piece.
pub const PAYLOAD_BYTES_MAX: usize = MESSAGE_BYTES_MAX;

pub(super) const HEADER_BYTES: usize = 128;
const CHECKSUM_AT: usize = HEADER_BYTES - 4;
const BLOCK_MAGIC: [u8; 4] = *b"iLck";
pub(super) const BLOCK_HEAD_BYTES: usize = 32;
const ALIGNMENT: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_holds_no_slot_that_none_can_follow() {
        let header = CheckpointHeader {
            home: Home { cluster: ClusterId(1), incarnation: Incarnation(2) },
            replica: ReplicaId(3),
            slot: Slot(COUNT_MAX),
            chain: Chain(4),
            durable_through: Lsn(5),
            journal_from: Slot(COUNT_MAX),
        };
        let decoded = CheckpointHeader::decode(&header.encode().0);
        assert!(matches!(decoded, Ok((found, _)) if found == header));
        let past = Slot(COUNT_MAX + 1);
        for forged in [
            CheckpointHeader { slot: past, ..header },
            CheckpointHeader { journal_from: past, ..header },
        ] {
            let decoded = CheckpointHeader::decode(&forged.encode().0);
            assert!(matches!(decoded, Err(BadHeader::Damaged)), "{forged:?}");
        }
    }
}
