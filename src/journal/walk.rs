//! Going through the frames of one group, one after the other.
//!
//! A frame is good only behind the one before it: its number and its link must follow. The one
//! exception is the promise, of whose two copies one may be damaged.
//!
//! Not here: what frames say (`scan`), how they are written (`group`).

use crate::types::bugs::{self, Bug};
use crate::types::ids::{Lsn, Slot};
use crate::types::marks::reached;

use super::frame::{BadFrame, FRAME_HEADER_BYTES, Header, Home, Kind};
use super::group::second_copy;
use super::segment::{BLOCK_BYTES, End};

/// Goes through the frames of one group.
pub(super) struct Walk {
    origin: End,
    /// Where in the group the next frame begins.
    at: usize,
    lsn: Lsn,
    /// The link that the next frame must carry; `None` behind a damaged first copy of a promise.
    link: Option<u32>,
    last_link: u32,
    seen: Vec<Seen>,
}

impl Walk {
    /// A walk through the group behind `end`. `seen` is of an earlier walk, for its capacity.
    pub(super) fn new(end: End, mut seen: Vec<Seen>) -> Self {
        seen.clear();
        Self {
            origin: end,
            at: 0,
            lsn: end.last_lsn,
            link: Some(end.link),
            last_link: end.link,
            seen,
        }
    }

    /// How far the walk has come, from the beginning of the group.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// The frame at the present place, and steps behind it.
    pub(super) fn frame(
        &mut self,
        home: Home,
        group: &[u8],
    ) -> Result<Header, (BadFrame, Option<Slot>)> {
        let bytes = group.get(self.at..).unwrap_or_default();
        let (header, checksum) = Header::decode(bytes).map_err(|bad| (bad, None))?;
        let offset = self.origin.offset + self.at as u64;
        let here = header.stands_at(home, self.origin.number, offset);
        if !here || header.lsn != self.lsn.next() || self.link.is_some_and(|l| l != header.link) {
            // A good frame of another place or time is not evidence of anything here.
            return Err((BadFrame::Magic, None));
        }
        let slot = matches!(header.kind, Kind::Vote | Kind::Chosen).then_some(header.slot);
        let payload_end = FRAME_HEADER_BYTES + header.payload_bytes as usize;
        match bytes.get(FRAME_HEADER_BYTES..payload_end) {
            Some(payload) if header.holds(payload) || bugs::is_on(Bug::PayloadUnchecked) => {}
            _ => return Err((BadFrame::Checksum, slot)),
        }
        self.at += header.frame_bytes();
        self.lsn = header.lsn;
        self.link = Some(checksum);
        self.last_link = checksum;
        self.seen.push(Seen(header));
        Ok(header)
    }

    /// All frames behind the first one. One copy of a promise may be damaged.
    pub(super) fn rest(
        &mut self,
        home: Home,
        group: &[u8],
        frame_count: u64,
    ) -> Result<(), (BadFrame, Option<Slot>)> {
        // What the group says of itself may be wrong; but no frame is shorter than its header.
        let frames_max = group.len() / FRAME_HEADER_BYTES;
        self.seen.reserve(usize::try_from(frame_count).unwrap_or(usize::MAX).min(frames_max));
        while self.at < group.len() {
            let begin = self.at;
            if let Err(bad) = self.frame(home, group) {
                self.skip_copy(home, group, begin, bad)?;
            }
        }
        let walked = self.lsn.0 - self.origin.last_lsn.0;
        if self.at != group.len() || walked != frame_count {
            return Err((BadFrame::Content, None));
        }
        Ok(())
    }

    /// Steps over a damaged copy of a promise, where the other copy is good.
    fn skip_copy(
        &mut self,
        home: Home,
        group: &[u8],
        begin: usize,
        bad: (BadFrame, Option<Slot>),
    ) -> Result<(), (BadFrame, Option<Slot>)> {
        if let Some(&Seen(first)) = self.seen.last()
            && first.kind == Kind::Promise
            && first.copy == 1
            && begin + FRAME_HEADER_BYTES <= group.len()
        {
            self.at = begin + FRAME_HEADER_BYTES;
            self.lsn = self.lsn.next();
            // What the second copy was follows from the first, so the chain is not broken.
            let offset = self.origin.offset + begin as u64;
            let link = self.last_link;
            let second = Header { copy: 2, lsn: self.lsn, payload_bytes: 0, offset, link, ..first };
            self.last_link = second.encode().1;
            self.link = Some(self.last_link);
            reached!(PromiseCopyLost);
            return Ok(());
        }
        let before = (self.lsn, self.link);
        self.at = second_copy(begin);
        (self.lsn, self.link) = (self.lsn.next(), None);
        match self.frame(home, group) {
            Ok(header) if header.kind == Kind::Promise && header.copy == 2 => {
                reached!(PromiseCopyLost);
                Ok(())
            }
            result => {
                if result.is_ok() {
                    self.seen.pop();
                }
                self.at = begin;
                (self.lsn, self.link) = before;
                Err(bad)
            }
        }
    }

    /// The frames that were good, where the group is not.
    pub(super) fn into_seen(self) -> Vec<Seen> {
        self.seen
    }

    /// The group, where all its frames were good.
    pub(super) fn finish(self, group_bytes: usize) -> Whole {
        let padded = group_bytes.next_multiple_of(BLOCK_BYTES) as u64;
        let end = End {
            number: self.origin.number,
            offset: self.origin.offset + padded,
            last_lsn: self.lsn,
            link: self.last_link,
        };
        Whole { frames: self.seen, end }
    }
}

/// A frame that was read: its header stands for it.
#[derive(Clone, Copy)]
pub(super) struct Seen(pub(super) Header);

impl Seen {
    /// Whether the frame holds more than a promise or evidence.
    pub(super) fn is_content(&self) -> bool {
        match self.0.kind {
            Kind::Vote | Kind::Chosen | Kind::Verdicts | Kind::Doubts | Kind::Sightings => true,
            Kind::Group | Kind::Promise | Kind::Seal => false,
        }
    }
}

/// A group whose frames are all good.
pub(super) struct Whole {
    pub(super) frames: Vec<Seen>,
    /// Where the next one begins.
    pub(super) end: End,
}
