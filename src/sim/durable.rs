//! Reading journal bytes as a stranger would: what a write makes durable.
//!
//! This is not the journal's own reader. It believes every frame whose checksum is right, and knows
//! nothing of groups that were cut, segments that were given up, or evidence.

use crate::journal::checkpoint::CHECKPOINT_MAGIC;
use crate::journal::frame::{BadFrame, FRAME_HEADER_BYTES, Header, Kind};
use crate::journal::segment::BLOCK_BYTES;
use crate::types::codec;
use crate::types::entry::{Entry, EntryKind};
use crate::types::ids::{Ballot, ContentHash, Lsn, Slot};
use crate::types::record::Doubts;

/// What a frame says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// A promise.
    Promise {
        /// What was promised.
        ballot: Ballot,
    },
    /// A vote.
    Vote {
        /// Where.
        slot: Slot,
        /// At which ballot.
        ballot: Ballot,
        /// For what.
        content: ContentHash,
    },
    /// What the vote behind it is for, where that is a membership.
    Membership(Entry),
    /// An entry that a peer said is chosen.
    Chosen {
        /// Where.
        slot: Slot,
        /// What.
        content: ContentHash,
    },
    /// What the replica doubts from here on; it replaces what it doubted before.
    Doubts(Doubts),
}

/// Frames that are written and synced together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// The number of the first frame.
    pub first: Lsn,
    /// One behind the number of the last frame.
    pub end: Lsn,
    /// All slots below are chosen, as the group says.
    pub slot_chosen: Slot,
    /// What they say, in order.
    pub frames: Vec<Seen>,
}

/// The group, or the groups one behind the other, that `bytes` hold. They begin at a block: that of
/// a group, or of the superheader before the first one.
#[must_use]
pub fn read_groups(bytes: &[u8]) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        match Header::decode(&bytes[at..]) {
            Ok((header, _)) => {
                if header.kind == Kind::Group || groups.is_empty() {
                    let (lsn, slot_chosen) = (header.lsn, header.slot_chosen);
                    groups.push(Group { first: lsn, end: lsn, slot_chosen, frames: Vec::new() });
                }
                if let Some(group) = groups.last_mut() {
                    group.end = header.lsn.next();
                    let behind = &bytes[at + FRAME_HEADER_BYTES..];
                    group.frames.extend(membership(&header, behind).map(Seen::Membership));
                    group.frames.extend(seen(&header, behind));
                }
                at += header.frame_bytes();
            }
            Err(
                BadFrame::Magic | BadFrame::Checksum | BadFrame::Version(_) | BadFrame::Content,
            ) => {
                at = (at + 1).next_multiple_of(BLOCK_BYTES);
            }
        }
    }
    groups
}

/// The slot below which a journal need hold nothing, as the header of a checkpoint says; `None`
/// where the bytes begin with none.
#[must_use]
pub fn journal_from(bytes: &[u8]) -> Option<Slot> {
    let (header, checksum) = bytes.first_chunk::<128>()?.split_at(124);
    let is_whole = crc32fast::hash(header).to_le_bytes() == checksum;
    let from = u64::from_le_bytes(header[88..96].try_into().ok()?);
    (header[..8] == CHECKPOINT_MAGIC && is_whole).then_some(Slot(from))
}

/// The membership that a frame votes for.
fn membership(header: &Header, behind: &[u8]) -> Option<Entry> {
    let payload = behind.get(..header.payload_bytes as usize)?;
    // Most are not, and need not be decoded.
    let may_be = header.kind == Kind::Vote && payload.get(1) == Some(&MEMBERSHIP);
    let entry = may_be.then(|| Entry::decode(payload.to_vec()).ok()).flatten()?;
    (entry.kind() == EntryKind::Membership).then_some(entry)
}

fn seen(header: &Header, behind: &[u8]) -> Option<Seen> {
    let Header { slot, ballot, content, .. } = *header;
    match header.kind {
        // The second copy says nothing new.
        Kind::Promise => (header.copy == 1).then_some(Seen::Promise { ballot }),
        Kind::Vote => Some(Seen::Vote { slot, ballot, content }),
        Kind::Chosen => Some(Seen::Chosen { slot, content }),
        Kind::Doubts => {
            let payload = behind.get(..header.payload_bytes as usize)?;
            Some(Seen::Doubts(codec::decode("doubts", payload).ok()?))
        }
        Kind::Group | Kind::Verdicts | Kind::Seal | Kind::Sightings => None,
    }
}

/// The second byte of an entry that is a membership.
const MEMBERSHIP: u8 = 2;
