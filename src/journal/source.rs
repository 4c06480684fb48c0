//! The bytes of a journal's segments: group by group, and where those are bad, frame by frame.
//!
//! Not here: which groups count, and what a bad one means (`scan`); which of its frames count
//! (`salvage`).

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::types::bugs::{self, Bug};
use crate::types::ids::{Lsn, Slot};

use super::chain;
use super::disk::File;
use super::error::JournalError;
use super::frame::{
    BadFrame, FRAME_ALIGNMENT, FRAME_HEADER_BYTES, Header, Home, Kind, u32_at, u64_at,
};
use super::group::{GROUP_FRAME_BYTES, GROUP_PAYLOAD_BYTES};
use super::index::Place;
use super::reader::Window;
use super::segment::{BLOCK_BYTES, End, segment_name};
use super::walk::{Seen, Walk, Whole};

/// The segments that there are.
pub(super) struct Source<F> {
    pub(super) home: Home,
    /// What cannot be read is an error, rather than bad.
    pub(super) strict: bool,
    pub(super) files: BTreeMap<u64, Arc<F>>,
    window: Window<F>,
    /// What was seen in a group of which nobody needs it any more.
    seen: Vec<Seen>,
    /// The segment that was measured last, and how long it is. Nothing changes while it is read.
    measured: Option<(u64, u64)>,
}

/// A bad group.
pub(super) struct Bad {
    /// Where its first bad frame stands.
    pub(super) offset: u64,
    pub(super) slot: Option<Slot>,
    pub(super) reason: &'static str,
    /// The frames that are good.
    pub(super) seen: Vec<Seen>,
    /// To whom it belongs, where that is somebody else.
    pub(super) foreign: Option<Home>,
}

/// A frame whose header is right and stands in its place, whatever is around it.
pub(super) struct Stray {
    pub(super) header: Header,
    /// The checksum of the header.
    pub(super) checksum: u32,
    /// Whether its payload is what was written with it.
    pub(super) is_whole: bool,
    /// The last frame of the group that it begins; its own number where it begins none.
    pub(super) last_lsn: Lsn,
}

/// The groups that may stand at a place.
#[derive(Clone, Copy)]
pub(super) enum Expected {
    /// The one behind this end.
    Next(End),
    /// Any with a number above this one: what stood before is lost.
    Above(Lsn),
}

impl<F: File> Source<F> {
    pub(super) fn new(home: Home, strict: bool) -> Self {
        let (files, window) = (BTreeMap::new(), Window::large());
        Self { home, strict, files, window, seen: Vec::new(), measured: None }
    }

    pub(super) fn length(&mut self, number: u64) -> Result<u64, JournalError> {
        if let Some((_, length)) = self.measured.filter(|(measured, _)| *measured == number) {
            return Ok(length);
        }
        let name = || segment_name(number);
        let length = self.files[&number].len();
        let length = length.map_err(|err| JournalError::io("measure", &name())(err))?;
        self.measured = Some((number, length));
        Ok(length)
    }

    /// Takes back a group that was taken in: the next one is read into its place.
    pub(super) fn take_back(&mut self, whole: Whole) {
        self.seen = whole.frames;
    }

    /// The payload of a frame that was found to be good.
    pub(super) fn payload(&mut self, place: Place) -> Result<Vec<u8>, JournalError> {
        let (number, offset) = (place.segment(), place.offset());
        self.enter(number);
        let header = self.window.bytes(offset, FRAME_HEADER_BYTES)?;
        let length = match Header::decode(header) {
            Ok((header, _)) => header.payload_bytes as usize,
            Err(bad) => {
                let (file, reason) = (segment_name(number), bad.reason());
                return Err(JournalError::Corrupt { file, offset, slot: None, reason });
            }
        };
        let from = offset + FRAME_HEADER_BYTES as u64;
        Ok(self.window.bytes(from, length)?.to_vec())
    }

    /// Reads the group at `offset`, which must end before `limit`.
    pub(super) fn group(
        &mut self,
        number: u64,
        offset: u64,
        limit: u64,
        expected: Expected,
    ) -> Result<Result<Whole, Bad>, JournalError> {
        self.enter(number);
        let bytes = match self.window.bytes(offset, GROUP_FRAME_BYTES) {
            Ok(bytes) => bytes,
            Err(err) if self.strict || err.is_passing() => return Err(err),
            Err(_) => return Ok(Err(Bad::new(offset, UNREADABLE))),
        };
        let end = match expected {
            Expected::Next(end) => end,
            Expected::Above(lsn) => match any_above(self.home, number, offset, lsn, bytes) {
                Ok(end) => end,
                Err(bad) => return bad.map(Err),
            },
        };
        let mut walk = Walk::new(end, std::mem::take(&mut self.seen));
        match walk.frame(self.home, bytes) {
            Ok(header)
                if header.kind == Kind::Group
                    && header.payload_bytes as usize == GROUP_PAYLOAD_BYTES => {}
            Ok(_) => return Ok(Err(Bad::new(offset, "no group where one was acknowledged"))),
            Err((BadFrame::Version(found), _)) => return Err(chain::unsupported(number, found)),
            Err((frame, _)) => return Ok(Err(Bad::new(offset, frame.reason()))),
        }
        let frame_count = u64::from(u32_at(bytes, FRAME_HEADER_BYTES));
        let group_bytes = u64_at(bytes, FRAME_HEADER_BYTES + 8);
        // What is said of a file is one thing, how long it is another.
        let limit = limit.min(self.length(number)?);
        if group_bytes > limit.saturating_sub(offset) || frame_count == 0 {
            return Ok(Err(Bad::new(offset, "a group that is longer than its segment")));
        }
        let group_bytes = usize::try_from(group_bytes).unwrap_or(usize::MAX);
        self.frames(walk, offset, frame_count, group_bytes)
    }

    /// Reads the frames behind the one that begins the group.
    fn frames(
        &mut self,
        mut walk: Walk,
        offset: u64,
        frame_count: u64,
        group_bytes: usize,
    ) -> Result<Result<Whole, Bad>, JournalError> {
        let result = match self.window.bytes(offset, group_bytes) {
            Ok(bytes) => walk.rest(self.home, bytes, frame_count),
            Err(err) if self.strict || err.is_passing() => return Err(err),
            Err(_) => {
                // The frames before the bad sector may be a promise.
                let readable = self.readable(offset, group_bytes);
                let bytes = self.window.bytes(offset, readable)?;
                let bad = match walk.rest(self.home, bytes, frame_count) {
                    Err((BadFrame::Version(found), _)) => {
                        return Err(chain::unsupported(self.window.segment(), found));
                    }
                    _ => Bad::new(offset + walk.at() as u64, UNREADABLE),
                };
                return Ok(Err(Bad { seen: walk.into_seen(), ..bad }));
            }
        };
        match result {
            Ok(()) => Ok(Ok(walk.finish(group_bytes))),
            Err((BadFrame::Version(found), _)) => {
                Err(chain::unsupported(self.window.segment(), found))
            }
            Err((frame, slot)) => {
                let bad = Bad::new(offset + walk.at() as u64, frame.reason());
                Ok(Err(Bad { slot, seen: walk.into_seen(), ..bad }))
            }
        }
    }

    /// The first frame that begins in `from..end`, where frames can begin.
    pub(super) fn stray(&mut self, number: u64, from: u64, end: u64) -> Option<Stray> {
        self.enter(number);
        let mut offset = from;
        // Reads all of it at once, unless a sector is bad.
        let count = usize::try_from(end.saturating_sub(from)).unwrap_or(usize::MAX);
        let _ = self.window.bytes(from, count.min(BLOCK_BYTES) + FRAME_HEADER_BYTES);
        while offset < end {
            let found = match self.window.bytes(offset, FRAME_HEADER_BYTES) {
                // The file ends.
                Ok(bytes) if bytes.len() < FRAME_HEADER_BYTES => return None,
                Ok(bytes) => Header::decode(bytes).ok(),
                Err(_) => {
                    // Whole sectors are bad, and where they end the next header may be good.
                    offset = (offset + 1).next_multiple_of(SECTOR_BYTES);
                    continue;
                }
            };
            let found = found.filter(|(header, _)| header.stands_at(self.home, number, offset));
            if let Some((header, checksum)) = found {
                let length = header.payload_bytes as usize;
                let payload = self.window.bytes(offset + FRAME_HEADER_BYTES as u64, length);
                let payload = payload.ok().filter(|payload| {
                    let holds = header.holds(payload) || bugs::is_on(Bug::PayloadUnchecked);
                    header.kind == Kind::Promise || payload.len() == length && holds
                });
                let begins = header.kind == Kind::Group && length == GROUP_PAYLOAD_BYTES;
                let frames = payload.filter(|_| begins).map_or(1, |payload| u32_at(payload, 0));
                let last_lsn = Lsn(header.lsn.0.saturating_add(u64::from(frames.max(1)) - 1));
                let is_whole = payload.is_some();
                return Some(Stray { header, checksum, is_whole, last_lsn });
            }
            offset += FRAME_ALIGNMENT as u64;
        }
        None
    }

    /// How many of `count` bytes can be read, in whole blocks.
    fn readable(&mut self, offset: u64, count: usize) -> usize {
        let (mut good, mut bad) = (0, count.div_ceil(BLOCK_BYTES));
        while good + 1 < bad {
            let blocks = usize::midpoint(good, bad);
            match self.window.bytes(offset, blocks * BLOCK_BYTES) {
                Ok(_) => good = blocks,
                Err(_) => bad = blocks,
            }
        }
        good * BLOCK_BYTES
    }

    /// The next block from `offset` on that is not all zeros, or cannot be read.
    pub(super) fn next_block(&mut self, number: u64, mut offset: u64, length: u64) -> Option<u64> {
        self.enter(number);
        while offset < length {
            // What cannot be read proves nothing; that it had to be readable, others may prove.
            let bytes = self.window.bytes(offset, BLOCK_BYTES);
            if !bytes.is_ok_and(|bytes| *bytes == ZEROS[..bytes.len()]) {
                return Some(offset);
            }
            offset += BLOCK_BYTES as u64;
        }
        None
    }

    /// Whether all bytes of a part of a block are zero.
    pub(super) fn is_zero(&mut self, number: u64, from: u64, end: u64) -> bool {
        self.enter(number);
        let count = usize::try_from(end.saturating_sub(from)).unwrap_or(usize::MAX);
        let bytes = self.window.bytes(from, count.min(BLOCK_BYTES));
        bytes.is_ok_and(|bytes| bytes.iter().all(|byte| *byte == 0))
    }

    fn enter(&mut self, number: u64) {
        if self.window.segment() != number
            && let Some(file) = self.files.get(&number)
        {
            self.window.enter(Arc::clone(file), number);
        }
    }
}

impl Stray {
    /// How many bytes its payload takes, up to where the next frame can begin.
    pub(super) fn payload_bytes(&self) -> u64 {
        (self.header.frame_bytes() - FRAME_HEADER_BYTES) as u64
    }
}

impl Bad {
    fn new(offset: u64, reason: &'static str) -> Self {
        Self { offset, slot: None, reason, seen: Vec::new(), foreign: None }
    }
}

/// What stands before a group, going by the group itself: a whole one that stands in its place and
/// is newer than all before was written there.
fn any_above(
    home: Home,
    number: u64,
    offset: u64,
    lsn: Lsn,
    bytes: &[u8],
) -> Result<End, Result<Bad, JournalError>> {
    let header = match Header::decode(bytes) {
        Ok((header, _)) => header,
        Err(BadFrame::Version(found)) => return Err(Err(chain::unsupported(number, found))),
        Err(frame) => return Err(Ok(Bad::new(offset, frame.reason()))),
    };
    let bad = Bad::new(offset, BadFrame::Magic.reason());
    if !header.stands_at(home, number, offset) {
        let foreign = Some(header.home).filter(|found| *found != home);
        return Err(Ok(Bad { foreign, ..bad }));
    }
    if header.kind != Kind::Group || header.lsn <= lsn {
        return Err(Ok(Bad { seen: vec![Seen(header)], ..bad }));
    }
    Ok(End { number, offset, last_lsn: Lsn(header.lsn.0 - 1), link: header.link })
}

const UNREADABLE: &str = "cannot be read";
/// The smallest piece that disks refuse to give back.
const SECTOR_BYTES: u64 = 512;
const ZEROS: [u8; BLOCK_BYTES] = [0; BLOCK_BYTES];
