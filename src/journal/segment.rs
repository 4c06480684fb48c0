//! One segment: a file of zeros made beforehand, a superheader, then groups.
//!
//! A segment is prepared whole before it is used: real zeros are written and synced, and so is the
//! directory. A commit therefore changes neither a file's length nor its blocks, cannot run out of
//! space (where the file system does not copy on write), and needs no journal commit of the file
//! system. A superheader says where the segment before validly ends, which makes it the evidence
//! for all that stands there.
//!
//! Invariants:
//! * A superheader is written only after every frame that it counts to the segment before is
//!   durable.
//! * A number is never used for two segments; numbers grow, with gaps where a segment was given up.

use std::ops::Range;
use std::sync::Arc;

use crate::types::bugs::{self, Bug};
use crate::types::ids::{Ballot, ClusterId, Incarnation, Lsn, ReplicaId, Slot};

use super::disk::{Disk, File, number_behind};
use super::error::JournalError;
use super::frame::{FORMAT_VERSION, Home, array, u32_at, u64_at};

/// How a journal lays out its files. Not part of the format: they may differ at each opening.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// How long a segment is; rounded up to whole blocks, and at least 64 KiB. A record that does
    /// not fit gets a longer one.
    pub segment_bytes: u64,
    /// How many groups are written at once, at least 1, each on a lane: a file description of its
    /// own. More hides the latency of a sync behind the next one; the frames of all of them are
    /// what a crash can tear.
    pub inflight_max: usize,
    /// A group is closed when it would grow longer than this. A longer record gets a group of its
    /// own.
    pub group_bytes_max: usize,
    /// After so many bytes of a state that comes from a peer or a backup, it is synced.
    /// More makes fewer syncs, for which who shares the disk waits, and each one longer.
    pub received_sync_bytes: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            segment_bytes: 16 * 1024 * 1024,
            inflight_max: 2,
            group_bytes_max: 1024 * 1024,
            received_sync_bytes: 4 * 1024 * 1024,
        }
    }
}

impl Options {
    /// The same with every value within its bounds.
    #[must_use]
    pub fn bounded(self) -> Self {
        Self {
            segment_bytes: self
                .segment_bytes
                .clamp(SEGMENT_BYTES_MIN, SEGMENT_BYTES_MAX)
                .next_multiple_of(BLOCK_BYTES as u64),
            inflight_max: self.inflight_max.clamp(1, INFLIGHT_MAX),
            group_bytes_max: self.group_bytes_max.clamp(GROUP_BYTES_MIN, GROUP_BYTES_MAX),
            received_sync_bytes: self.received_sync_bytes,
        }
    }
}

/// The first block of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Superheader {
    /// To whom the segment belongs.
    pub home: Home,
    /// Its number.
    pub number: u64,
    /// Its length when it was made.
    pub length: u64,
    /// The number of its first frame.
    pub first_lsn: Lsn,
    /// Everything up to here was durable before this superheader was written.
    pub durable_through: Lsn,
    /// Where the journal stood before.
    pub previous: End,
    /// The promise in force when it was written. A write can be torn behind its first piece, and
    /// what was durable before can rot: this is then all that tells of a promise.
    pub promised: Ballot,
    /// Whether this replica knew then that it had lost what it promised, which it has for good.
    pub promise_lost: bool,
}

/// Where a segment validly ends. All zero before the first segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct End {
    /// The number of the segment.
    pub number: u64,
    /// The first byte behind its last group.
    pub offset: u64,
    /// Its last frame.
    pub last_lsn: Lsn,
    /// The checksum of that frame's header.
    pub link: u32,
}

/// Where a journal begins, once its front was removed. All zero before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Front {
    /// Segments with lower numbers were removed, or may be left of a removal that did not end.
    pub number: u64,
    /// The last frame in them.
    pub last_lsn: Lsn,
    /// Every slot below was trimmed: it is chosen, in a checkpoint, and not here.
    pub slot: Slot,
}

impl Front {
    /// Where what was removed ended.
    pub(super) fn end_before(self) -> End {
        let number = self.number.saturating_sub(1);
        End { number, offset: 0, last_lsn: self.last_lsn, link: 0 }
    }
}

/// What the first block of a segment file turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadSuperheader {
    /// Zeros, half a superheader, or a damaged one.
    Invalid,
    /// One of another version.
    Version(u16),
    /// One of another version, or one whose version rotted: its checksum does not stand where it
    /// stands here, or does not match.
    PerhapsVersion(u16),
}

impl Superheader {
    /// The block, and the checksum of the superheader in it.
    #[must_use]
    pub fn encode(&self) -> (Vec<u8>, u32) {
        let mut bytes = vec![0; BLOCK_BYTES];
        bytes[0..8].copy_from_slice(&SEGMENT_MAGIC);
        bytes[8..10].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        bytes[PROMISE_LOST_AT] = u8::from(self.promise_lost);
        bytes[16..32].copy_from_slice(&self.home.cluster.0.to_le_bytes());
        bytes[32..48].copy_from_slice(&self.home.incarnation.0.to_le_bytes());
        bytes[48..56].copy_from_slice(&self.number.to_le_bytes());
        bytes[56..64].copy_from_slice(&self.length.to_le_bytes());
        bytes[64..72].copy_from_slice(&self.first_lsn.0.to_le_bytes());
        bytes[72..80].copy_from_slice(&self.durable_through.0.to_le_bytes());
        bytes[80..88].copy_from_slice(&self.previous.number.to_le_bytes());
        bytes[88..96].copy_from_slice(&self.previous.offset.to_le_bytes());
        bytes[96..104].copy_from_slice(&self.previous.last_lsn.0.to_le_bytes());
        bytes[104..108].copy_from_slice(&self.previous.link.to_le_bytes());
        bytes[108..116].copy_from_slice(&self.promised.round.to_le_bytes());
        bytes[116..124].copy_from_slice(&self.promised.leader.0.to_le_bytes());
        let checksum = crc32fast::hash(&bytes[..CHECKSUM_AT]);
        bytes[CHECKSUM_AT..SUPERHEADER_BYTES].copy_from_slice(&checksum.to_le_bytes());
        (bytes, checksum)
    }

    /// The superheader that a segment file begins with, and its checksum.
    ///
    /// # Errors
    ///
    /// Where it begins with none.
    pub fn decode(bytes: &[u8]) -> Result<(Self, u32), BadSuperheader> {
        if bytes.len() < SUPERHEADER_BYTES || bytes[..8] != SEGMENT_MAGIC {
            return Err(BadSuperheader::Invalid);
        }
        let checksum = u32_at(bytes, CHECKSUM_AT);
        let is_sound = crc32fast::hash(&bytes[..CHECKSUM_AT]) == checksum;
        match u16::from_le_bytes(array(bytes, 8)) {
            FORMAT_VERSION => {}
            // No version has this number: a write ended before it, or a medium lost it.
            0 if !is_sound => return Err(BadSuperheader::Invalid),
            version if is_sound => return Err(BadSuperheader::Version(version)),
            version => return Err(BadSuperheader::PerhapsVersion(version)),
        }
        let is_ours = bytes[PROMISE_LOST_AT] <= 1 && bytes[RESERVED].iter().all(|byte| *byte == 0);
        if !is_sound || !is_ours {
            return Err(BadSuperheader::Invalid);
        }
        let superheader = Self {
            home: Home {
                cluster: ClusterId(u128::from_le_bytes(array(bytes, 16))),
                incarnation: Incarnation(u128::from_le_bytes(array(bytes, 32))),
            },
            number: u64_at(bytes, 48),
            length: u64_at(bytes, 56),
            first_lsn: Lsn(u64_at(bytes, 64)),
            durable_through: Lsn(u64_at(bytes, 72)),
            previous: End {
                number: u64_at(bytes, 80),
                offset: u64_at(bytes, 88),
                last_lsn: Lsn(u64_at(bytes, 96)),
                link: u32_at(bytes, 104),
            },
            promised: Ballot { round: u64_at(bytes, 108), leader: ReplicaId(u64_at(bytes, 116)) },
            promise_lost: bytes[PROMISE_LOST_AT] == 1,
        };
        Ok((superheader, checksum))
    }

    /// Whether it can be that of segment `number`: all that is before it comes before it. One that
    /// says otherwise was forged, or stands in the wrong place.
    #[must_use]
    pub fn is_of(&self, number: u64) -> bool {
        let End { number: before, last_lsn, .. } = self.previous;
        let is_first = before == 0;
        self.number == number
            && before < number
            && last_lsn < self.first_lsn
            && last_lsn <= self.durable_through
            && (!is_first || self.previous == End::default())
    }
}

/// The name of a segment's file.
#[must_use]
pub fn segment_name(number: u64) -> String {
    format!("segment-{number:016x}")
}

/// The number in a segment's file name; `None` where it is no such name.
#[must_use]
pub fn segment_number(name: &str) -> Option<u64> {
    number_behind("segment-", name).filter(|number| *number > 0)
}

/// Makes a segment's file: all zeros, on the disk, and its name too. It is opened once for each
/// lane of the writer.
///
/// # Errors
///
/// Where one of the steps fails. What is left is no segment. Where it took the last space it is
/// removed at once, as far as that can be done, and else at the next opening.
pub fn prepare<D: Disk>(
    disk: &D,
    number: u64,
    length: u64,
    lanes: usize,
) -> Result<Vec<Arc<D::File>>, JournalError> {
    let made = make(disk, number, length, lanes);
    if made.as_ref().is_err_and(JournalError::is_full) {
        // Whatever comes of it: nobody counts on the file, and the next try removes it too.
        let _ = disk.remove(&segment_name(number));
    }
    made
}

fn make<D: Disk>(
    disk: &D,
    number: u64,
    length: u64,
    lanes: usize,
) -> Result<Vec<Arc<D::File>>, JournalError> {
    let name = segment_name(number);
    let file = disk.create(&name).map_err(JournalError::io("create", &name))?;
    let zeros = vec![0; usize::try_from(length).unwrap_or(ZEROS_BYTES).min(ZEROS_BYTES)];
    let mut offset = 0;
    while offset < length {
        let count = (length - offset).min(zeros.len() as u64);
        let zeros = &zeros[..usize::try_from(count).unwrap_or(zeros.len())];
        file.write_at(offset, zeros).map_err(JournalError::io("write", &name))?;
        offset += count;
    }
    file.sync().map_err(JournalError::io("sync", &name))?;
    if !bugs::is_on(Bug::SkipDirectorySync) {
        disk.sync_directory().map_err(JournalError::io("sync", "."))?;
    }
    let mut opened = vec![Arc::new(file)];
    while opened.len() < lanes {
        let again = disk.open(&name).map_err(JournalError::io("open", &name))?;
        opened.push(Arc::new(again));
    }
    Ok(opened)
}

/// What every segment begins with.
pub const SEGMENT_MAGIC: [u8; 8] = *b"indelSEG";

/// A group begins at a multiple of this, and no block is written twice: the disk may replace a
/// whole block where only a part of it is written, and tear it.
pub const BLOCK_BYTES: usize = 4096;

/// How much of the first block the superheader takes. It fits the smallest piece that disks write.
pub const SUPERHEADER_BYTES: usize = 128;

/// The highest number that a segment may have: far below where arithmetic with numbers ends, and
/// beyond what any journal comes to.
pub const SEGMENT_NUMBER_MAX: u64 = 1 << 31;

const CHECKSUM_AT: usize = SUPERHEADER_BYTES - 4;
/// Zero in every superheader.
const RESERVED: Range<usize> = 11..16;
const PROMISE_LOST_AT: usize = 10;
const ZEROS_BYTES: usize = 1024 * 1024;
const SEGMENT_BYTES_MIN: u64 = 64 * 1024;
const SEGMENT_BYTES_MAX: u64 = 1 << 30;
const INFLIGHT_MAX: usize = 16;
const GROUP_BYTES_MIN: usize = 1024;
const GROUP_BYTES_MAX: usize = 8 * 1024 * 1024;
