//! Whose directory this is: the file `identity`.
//!
//! The file is replaced, never changed: a new one is written under another name, synced, renamed,
//! and the directory synced. So after a crash there is the old or the new one, whole. It is the
//! first file of a directory and stays for its life; segments without it are a loss, not a blank
//! directory. Layout, little-endian:
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 8 | magic, `indelID ` with a zero for the blank |
//! | 8 | 2 | format version, 1 |
//! | 10 | 1 | whether the cluster is formed |
//! | 11 | 1 | zero |
//! | 12 | 4 | length of the membership; 0 where there is none |
//! | 16 | 16 | cluster, zero where there is none; without a membership, the one to join |
//! | 32 | 16 | incarnation: random, drawn when the directory was made |
//! | 48 | 8 | replica |
//! | 56 | 8 | boot sequence: how often the directory was opened |
//! | 64 | 8 | a segment that was in use; it is there, or a later one in use |
//! | 72 | 8 | a segment that was made; its file is there, or that of a later one |
//! | 80 | 8 | the segment that the journal begins with; lower ones were removed |
//! | 88 | 8 | the last frame in those |
//! | 96 | 8 | every slot below was trimmed |
//! | 104 | | the membership that was agreed to |
//! | end - 4 | 4 | CRC32 of everything before |
//!
//! Invariants:
//! * The boot sequence on the disk is never below one that anybody was told.
//! * A formed directory names a segment: its loss is noticed even where all segments are lost.

use std::io;

use crate::types::bugs::{self, Bug};
use crate::types::codec;
use crate::types::ids::{Boot, ClusterId, Incarnation, Lsn, ReplicaId, Slot};
use crate::types::membership::Membership;

use super::disk::{Disk, File, fill};
use super::error::JournalError;
use super::frame::{COUNT_MAX, FORMAT_VERSION, Home, array, u32_at, u64_at};
use super::segment::Front;

/// Whose directory this is, and which opening of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The cluster; where no membership was agreed to, the one that the directory was opened to
    /// join, or unformed.
    pub cluster: ClusterId,
    /// The replica.
    pub replica: ReplicaId,
    /// The directory.
    pub incarnation: Incarnation,
    /// This opening. The nonce is not stored.
    pub boot: Boot,
    /// The membership that was agreed to.
    pub membership: Option<Membership>,
    /// Whether every voter is known to have agreed.
    pub formed: bool,
    /// This segment, or a higher one, is in use; 0 where none ever was.
    pub segment_last: u64,
    /// The file of this segment, or of a later one, is there; 0 where none ever was.
    pub segment_made: u64,
    /// Where the journal begins.
    pub front: Front,
}

impl Identity {
    /// A new directory for `replica`.
    pub(super) fn draw<D: Disk>(disk: &D, replica: ReplicaId) -> Result<Self, JournalError> {
        Ok(Self {
            cluster: ClusterId::UNFORMED,
            replica,
            incarnation: Incarnation(u128::from_le_bytes(random(disk)?)),
            boot: Boot::default(),
            membership: None,
            formed: false,
            segment_last: 0,
            segment_made: 0,
            front: Front::default(),
        })
    }

    /// The next opening.
    pub(super) fn next_boot<D: Disk>(&self, disk: &D) -> Result<Boot, JournalError> {
        let sequence = self.boot.sequence.saturating_add(1);
        Ok(Boot { sequence, nonce: u128::from_le_bytes(random(disk)?) as u64 })
    }

    /// To whom the frames in this directory belong.
    #[must_use]
    pub fn home(&self) -> Home {
        Home { cluster: self.cluster, incarnation: self.incarnation }
    }

    /// The content of the file.
    ///
    /// # Panics
    ///
    /// Never: a membership consists of types that always encode.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![0; HEADER_BYTES];
        if let Some(membership) = &self.membership {
            codec::encode_into(membership, &mut bytes).expect("plain data always encodes");
        }
        let membership = u32::try_from(bytes.len() - HEADER_BYTES).expect("at most 63 voters");
        bytes[0..8].copy_from_slice(&IDENTITY_MAGIC);
        bytes[8..10].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        bytes[10] = u8::from(self.formed);
        bytes[12..16].copy_from_slice(&membership.to_le_bytes());
        bytes[16..32].copy_from_slice(&self.cluster.0.to_le_bytes());
        bytes[32..48].copy_from_slice(&self.incarnation.0.to_le_bytes());
        bytes[48..56].copy_from_slice(&self.replica.0.to_le_bytes());
        bytes[56..64].copy_from_slice(&self.boot.sequence.to_le_bytes());
        bytes[64..72].copy_from_slice(&self.segment_last.to_le_bytes());
        bytes[72..80].copy_from_slice(&self.segment_made.to_le_bytes());
        bytes[80..88].copy_from_slice(&self.front.number.to_le_bytes());
        bytes[88..96].copy_from_slice(&self.front.last_lsn.0.to_le_bytes());
        bytes[96..104].copy_from_slice(&self.front.slot.0.to_le_bytes());
        let checksum = crc32fast::hash(&bytes);
        bytes.extend_from_slice(&checksum.to_le_bytes());
        bytes
    }

    /// The identity in the content of the file; the nonce of its boot is 0.
    ///
    /// # Errors
    ///
    /// Where the file is of another format, or damaged.
    pub fn decode(bytes: &[u8]) -> Result<Self, JournalError> {
        let corrupt = |reason| JournalError::Corrupt {
            file: IDENTITY_NAME.to_owned(),
            offset: 0,
            slot: None,
            reason,
        };
        if bytes.len() < HEADER_BYTES + 4 || bytes[..8] != IDENTITY_MAGIC {
            return Err(corrupt("no identity"));
        }
        let found = u16::from_le_bytes(array(bytes, 8));
        if found != FORMAT_VERSION {
            let file = IDENTITY_NAME.to_owned();
            return Err(JournalError::UnsupportedFormat { file, found, supported: FORMAT_VERSION });
        }
        let (content, checksum) = bytes.split_at(bytes.len() - 4);
        if crc32fast::hash(content) != u32_at(checksum, 0) {
            return Err(corrupt("checksum mismatch"));
        }
        let encoded = &content[HEADER_BYTES..];
        if encoded.len() != u32_at(bytes, 12) as usize {
            return Err(corrupt("wrong length"));
        }
        let membership = match encoded {
            [] => None,
            _ => Some(
                codec::decode::<Membership>("membership", encoded)
                    .map_err(|_| corrupt("no membership where one was agreed to"))?,
            ),
        };
        // A cluster is formed by those who agreed to it, and once they have a segment.
        let may_be_formed = membership.is_some() && u64_at(bytes, 64) > 0;
        let front = Front {
            number: u64_at(bytes, 80),
            last_lsn: Lsn(u64_at(bytes, 88)),
            slot: Slot(u64_at(bytes, 96)),
        };
        // The segment in use is never removed.
        let may_begin = front.number <= u64_at(bytes, 64);
        let in_range = front.last_lsn.0.max(front.slot.0) <= COUNT_MAX;
        let is_front = may_begin && in_range && (front.number > 0 || front.last_lsn == Lsn::ZERO);
        if bytes[10] > u8::from(may_be_formed) || bytes[11] != 0 || !is_front {
            return Err(corrupt("impossible content"));
        }
        Ok(Self {
            cluster: ClusterId(u128::from_le_bytes(array(bytes, 16))),
            replica: ReplicaId(u64_at(bytes, 48)),
            incarnation: Incarnation(u128::from_le_bytes(array(bytes, 32))),
            boot: Boot { sequence: u64_at(bytes, 56), nonce: 0 },
            membership,
            formed: bytes[10] != 0,
            segment_last: u64_at(bytes, 64),
            segment_made: u64_at(bytes, 72),
            front,
        })
    }
}

/// Reads the file; `None` where there is none.
pub(super) fn read<D: Disk>(disk: &D) -> Result<Option<Identity>, JournalError> {
    let io = JournalError::io;
    let file = match disk.open(IDENTITY_NAME) {
        Ok(file) => file,
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(err) => return Err(io("open", IDENTITY_NAME)(err)),
    };
    // One byte more than it may have, so that a file that is too long is seen to be.
    let mut bytes = vec![0; FILE_BYTES_MAX + 1];
    let length = fill(&file, 0, &mut bytes).map_err(io("read", IDENTITY_NAME))?;
    Identity::decode(&bytes[..length]).map(Some)
}

/// Replaces the file: after a crash there is the old one or the new one.
pub(super) fn replace<D: Disk>(disk: &D, identity: &Identity) -> Result<(), JournalError> {
    stage(disk, identity)?;
    commit(disk)
}

/// Writes the new file beside the old one. Where that fails, nothing has changed.
pub(super) fn stage<D: Disk>(disk: &D, identity: &Identity) -> Result<(), JournalError> {
    let io = JournalError::io;
    match disk.remove(TEMPORARY_NAME) {
        Err(err) if err.kind() != io::ErrorKind::NotFound => {
            return Err(io("remove", TEMPORARY_NAME)(err));
        }
        _ => {}
    }
    let file = disk.create(TEMPORARY_NAME).map_err(io("create", TEMPORARY_NAME))?;
    file.write_at(0, &identity.encode()).map_err(io("write", TEMPORARY_NAME))?;
    file.sync().map_err(io("sync", TEMPORARY_NAME))
}

/// Puts the new file in the place of the old one. Where that fails, it may be either.
pub(super) fn commit<D: Disk>(disk: &D) -> Result<(), JournalError> {
    let io = JournalError::io;
    disk.rename(TEMPORARY_NAME, IDENTITY_NAME).map_err(io("rename", TEMPORARY_NAME))?;
    if bugs::is_on(Bug::SkipDirectorySync) {
        return Ok(());
    }
    disk.sync_directory().map_err(io("sync", "."))
}

fn random<D: Disk>(disk: &D) -> Result<[u8; 16], JournalError> {
    disk.entropy().map_err(JournalError::io("draw random bytes for", IDENTITY_NAME))
}

/// The name of the file.
pub const IDENTITY_NAME: &str = "identity";

/// What the file begins with.
pub const IDENTITY_MAGIC: [u8; 8] = *b"indelID\0";

const TEMPORARY_NAME: &str = "identity.new";
const HEADER_BYTES: usize = 104;
const FILE_BYTES_MAX: usize = 64 * 1024;
