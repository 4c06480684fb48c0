//! Which segments a journal consists of, oldest first.
//!
//! Each superheader names the segment before and where that one validly ends. From the newest
//! valid superheader the chain is followed back. Where a superheader on the way is damaged, it is
//! the next lower file that came before: every opening removes the files that are not in the chain
//! before anything is acknowledged.
//!
//! Behind the newest valid superheader there may be more: a segment of which the identity says that
//! it was in use, whose superheader is damaged; and the one that was prepared behind it, which may
//! have been begun. A file with a higher number yet is what an opening left that did not end: it
//! holds copies, and nobody was told of it.
//!
//! The chain ends at the front, which the identity names: what came before was trimmed.
//!
//! Invariants:
//! * A segment that is named and is not there is an error, whoever asks.
//! * Alone, a replica has nobody to ask for what a damaged superheader hides: an error too, unless
//!   others had it once and may have given it back ([`Rot::Passed`]).
//!
//! Not here: what the segments hold (`scan`).

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::types::ids::{Lsn, Slot};

use super::disk::{File, fill};
use super::error::JournalError;
use super::frame::{FORMAT_VERSION, FRAME_HEADER_BYTES, Header, Home, Kind};
use super::segment::{
    BLOCK_BYTES, BadSuperheader, End, Front, SUPERHEADER_BYTES, Superheader, segment_name,
};

/// A segment of the journal.
#[derive(Clone, Copy)]
pub(super) struct Link {
    pub(super) number: u64,
    /// Its superheader and the checksum of it; `None` where it is damaged.
    pub(super) superheader: Option<(Superheader, u32)>,
    /// Where it validly ends, where the superheader behind it says so.
    pub(super) end: Option<End>,
    /// Its last frame, where that superheader is damaged, and the first frame behind it says so:
    /// what stands further on was cut.
    pub(super) last_lsn: Option<Lsn>,
    /// Whether it was in use. Of the others, what stands in them must prove it.
    pub(super) certain: bool,
}

impl Link {
    /// Whether an opening cut a frame with that number off, as far as that is known.
    pub(super) fn was_cut(&self, lsn: Lsn) -> bool {
        self.last_lsn.is_some_and(|last| last < lsn)
    }
}

/// What is done about what rotted.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Rot {
    /// Nobody else has it: an error.
    Refused,
    /// Nobody else has it, but others had, and may have given it back: passed, and judged at the
    /// end by what is missing (`recovery`). What was never proven durable is cut, as with
    /// `Refused`.
    Passed,
    /// Others have it: passed, and told.
    Told,
}

impl Rot {
    /// Whether nobody else has it now.
    pub(super) fn is_alone(self) -> bool {
        self != Self::Told
    }
}

/// What is known of the directory before its segments are read.
#[derive(Clone, Copy)]
pub(super) struct Known {
    pub(super) home: Home,
    /// What is done about what rotted.
    pub(super) rot: Rot,
    /// This segment, or a later one, was in use.
    pub(super) segment_last: u64,
    /// This segment, or a later one, was prepared.
    pub(super) segment_made: u64,
    /// The state below this slot is in a checkpoint.
    pub(super) slot_checkpointed: Slot,
    /// The journal was durable so far, as a checkpoint says.
    pub(super) durable_through: Lsn,
    /// Where the journal begins.
    pub(super) front: Front,
    /// The first slot that is looked for: behind what was trimmed, or, where the state that this
    /// adds up to is lost, behind the newest state that is left.
    pub(super) slot_first: Slot,
}

/// The segments that are the journal, and those that may be.
pub(super) fn links<F: File>(
    files: &BTreeMap<u64, Arc<F>>,
    known: Known,
) -> Result<Vec<Link>, JournalError> {
    let mut superheaders = BTreeMap::new();
    for (&number, file) in files {
        if let Some(superheader) = superheader(&**file, number, known)? {
            superheaders.insert(number, superheader);
        }
    }
    let last = superheaders.last_key_value().map_or(0, |(number, _)| *number);
    if last < known.segment_last && known.rot == Rot::Refused {
        return Err(lost(files, known.segment_last));
    }
    let top = last.max(known.segment_last);
    let mut links = Vec::new();
    let (mut number, mut end, mut last_lsn) = (top, None, None);
    // What stands before the front was removed, whether the files are gone or not.
    while number > 0 && known.front.number <= number {
        let superheader = superheaders.get(&number).copied();
        let is_lost = known.rot == Rot::Refused && superheader.is_none();
        if !files.contains_key(&number) || is_lost {
            return Err(lost(files, number));
        }
        links.push(Link { number, superheader, end, last_lsn, certain: true });
        // Of one of which nothing is kept, the end is that of the segment before.
        let is_empty = |end: &End| end.offset == BLOCK_BYTES as u64;
        let before_it = end.filter(is_empty).map(|end| end.last_lsn);
        end = superheader.map(|(superheader, _)| superheader.previous);
        last_lsn = match end {
            Some(end) => Some(end.last_lsn),
            None => before(&*files[&number], number, known.home).or(before_it),
        };
        let lower = || {
            files
                .range(known.front.number.min(number)..number)
                .next_back()
                .map_or(0, |(number, _)| *number)
        };
        number = end.map_or_else(lower, |end| end.number);
    }
    links.reverse();
    // Where nobody else has it, evidence counts wherever it stands: there is no worse than not to
    // open.
    let made = if known.rot.is_alone() { u64::MAX } else { known.segment_made };
    for (&number, file) in files.range(top + 1..).take_while(|(number, _)| **number <= made) {
        let name = segment_name(number);
        let length = file.len().map_err(JournalError::io("measure", &name))?;
        // It was made whole before the identity said so. Zeros may be all that it ever held; of
        // one that ends within its superheader nobody knows whether it was used.
        if number <= known.segment_made && length < SUPERHEADER_BYTES as u64 {
            return Err(cut_short(number, length));
        }
        let (superheader, end, last_lsn) = (None, None, None);
        links.push(Link { number, superheader, end, last_lsn, certain: false });
    }
    Ok(links)
}

/// The last frame before a segment. Its first group was written when just that was durable.
fn before<F: File>(file: &F, number: u64, home: Home) -> Option<Lsn> {
    let mut bytes = [0; FRAME_HEADER_BYTES];
    let offset = BLOCK_BYTES as u64;
    let count = fill(file, offset, &mut bytes).ok()?;
    let (header, _) = Header::decode(&bytes[..count]).ok()?;
    let begins = header.kind == Kind::Group && header.stands_at(home, number, offset);
    begins.then_some(header.durable_through)
}

/// The superheader of a segment; `None` where there is no valid one.
fn superheader<F: File>(
    file: &F,
    number: u64,
    known: Known,
) -> Result<Option<(Superheader, u32)>, JournalError> {
    let mut bytes = [0; SUPERHEADER_BYTES];
    let read = fill(file, 0, &mut bytes).map_err(JournalError::io("read", &segment_name(number)));
    let count = match read {
        Ok(count) => count,
        // What the medium does not give back is damaged.
        Err(err) if !known.rot.is_alone() && !err.is_passing() => return Ok(None),
        Err(err) => return Err(err),
    };
    let (superheader, checksum) = match Superheader::decode(&bytes[..count]) {
        Ok(decoded) => decoded,
        Err(BadSuperheader::Invalid) => return Ok(None),
        Err(BadSuperheader::Version(found)) => return Err(unsupported(number, found)),
        // Where others have what it holds, it is taken for damaged: each version has its checksum
        // in that place.
        Err(BadSuperheader::PerhapsVersion(_)) if !known.rot.is_alone() => return Ok(None),
        Err(BadSuperheader::PerhapsVersion(found)) => return Err(unsupported(number, found)),
    };
    foreign(known.home, superheader.home, number)?;
    if superheader.is_of(number) {
        return Ok(Some((superheader, checksum)));
    }
    match known.rot {
        Rot::Refused => Err(corrupt(number, 0, "a superheader that cannot stand here")),
        Rot::Passed | Rot::Told => Ok(None),
    }
}

/// The error for a segment that ends at `length`, though it was made longer.
pub(super) fn cut_short(number: u64, length: u64) -> JournalError {
    corrupt(number, length, "the end of a segment that was made longer")
}

/// The error for a segment of another cluster or directory.
pub(super) fn foreign(wanted: Home, found: Home, number: u64) -> Result<(), JournalError> {
    if found.cluster != wanted.cluster {
        let (file, wanted, found) = (segment_name(number), wanted.cluster, found.cluster);
        return Err(JournalError::WrongCluster { file, wanted, found });
    }
    if found.incarnation != wanted.incarnation {
        let (file, wanted, found) = (segment_name(number), wanted.incarnation, found.incarnation);
        return Err(JournalError::ForeignSegment { file, wanted, found });
    }
    Ok(())
}

/// The error for a segment that was in use and is not to be seen.
pub(super) fn lost<F>(files: &BTreeMap<u64, Arc<F>>, number: u64) -> JournalError {
    match files.contains_key(&number) {
        true => corrupt(number, 0, "no superheader where one was acknowledged"),
        false => JournalError::MissingSegment { file: segment_name(number) },
    }
}

/// The error for a file of another version.
pub(super) fn unsupported(number: u64, found: u16) -> JournalError {
    let file = segment_name(number);
    JournalError::UnsupportedFormat { file, found, supported: FORMAT_VERSION }
}

fn corrupt(number: u64, offset: u64, reason: &'static str) -> JournalError {
    JournalError::Corrupt { file: segment_name(number), offset, slot: None, reason }
}
