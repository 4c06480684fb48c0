//! Going past a bad region: what is whole in it counts, and what is not is lost.
//!
//! A group is bad as soon as one of its frames is; the others are as good as ever. Each says by
//! itself what it is and that it stands in its place, and no place is written twice, so each frame
//! whose header is right *was* written there, whatever became of those around it. It is looked for
//! at every place where a frame can begin: its length leads to the next one, and a bad header to
//! the next place.
//!
//! ```text
//! LSN    7     8     9      10 lost   11     12         13 lost  14 lost  15
//!      Group | v4  | v5  | ######## | v7  | v8 ##### | ################ | Group ...
//!      whole                 |               |                |
//!                    may have been   was for slot 8     were for no slot at or
//!                    for any slot    and for no other   behind that Group's limit
//! ```
//!
//! Numbers are dense, which tells how many frames are lost between two that are not:
//!
//! * A frame whose header is lost may have been for any slot that is not known to be chosen before
//!   it. All of these are suspect, until a good frame *behind* it tells: one before it may be the
//!   older copy.
//! * A frame whose header is right and whose payload is lost was for its slot. Only that is
//!   suspect.
//! * Where the numbers go on, nothing is lost between, whatever the bytes there look like.
//!
//! The first group of a segment is written when all frames before it are durable, and says which
//! was the last: what has a number between was cut by an opening. Of the two copies of a promise,
//! one accounts for both.
//!
//! In the last segment, once each frame that is known to have been durable was found or counted,
//! the question begins anew: what comes next is a whole group, or the journal ends there. Where it
//! cannot be told (the superheader is lost, too), the region reaches to the end, and frames count
//! that may never have been durable. That does no harm: what they say was done, and if they vanish,
//! the region is still known to be bad.
//!
//! Invariants:
//! * Frames are taken in in the order of their numbers, those of whole groups included.
//! * What stands before the end of a bad region stays in its place, also where nothing vouches for
//!   it: written anew, it would come behind the frames of the region, which may be newer.
//! * A stretch that is lost is told with where it begins and ends, so that a frame that is lost
//!   later makes it another one (`findings`).
//! * What a group says of `slot_chosen` at its end is believed of whole groups only.
//!
//! Not here: what is suspect (`findings`), and whether a region is bad or just the end (`scan`).

use crate::types::ids::{Lsn, Slot};
use crate::types::marks::reached;

use super::chain::Link;
use super::disk::File;
use super::error::JournalError;
use super::frame::{FRAME_ALIGNMENT, FRAME_HEADER_BYTES, Header, Kind};
use super::scan::Scan;
use super::segment::{BLOCK_BYTES, End};
use super::source::{Bad, Stray};
use super::walk::{Seen, Whole};

/// A bad region that is being passed, from the last frame on that was found.
pub(super) struct Gap {
    segment: u64,
    offset: u64,
    /// How many bytes were passed since.
    pub(super) bytes: u64,
    /// The last frame that was found, or of which the other copy was.
    last_lsn: Lsn,
    /// The link that the next frame carries, where that is known.
    link: Option<u32>,
    /// Where what is accounted for ends: with that frame, or with its other copy.
    reach: u64,
}

impl Gap {
    /// A gap behind `end`.
    pub(super) fn new(end: End) -> Self {
        let End { number, offset, last_lsn, .. } = end;
        Self { segment: number, offset, bytes: 0, last_lsn, link: None, reach: offset }
    }

    /// The last frame before what comes next.
    pub(super) fn last_lsn(&self) -> Lsn {
        self.last_lsn
    }

    /// How many bytes are lost up to a place.
    fn bytes_until(&self, segment: u64, offset: u64) -> u64 {
        match self.segment == segment {
            true => offset.saturating_sub(self.offset),
            false => self.bytes + offset % BLOCK_BYTES as u64,
        }
    }

    /// Whether a frame with that header can follow.
    fn admits(&self, header: &Header) -> bool {
        let follows = header.lsn == self.last_lsn.next();
        let is_copy = header.copy == 2 && header.lsn == self.last_lsn;
        // Within a segment numbers are dense: each of those between had a header.
        let between = header.offset.saturating_sub(self.offset) / FRAME_HEADER_BYTES as u64;
        let reach = Lsn(self.last_lsn.0.saturating_add(between).saturating_add(1));
        let is_dense = self.segment != header.segment || header.lsn <= reach;
        is_copy
            || self.last_lsn < header.lsn
                && is_dense
                && (!follows || self.link.is_none_or(|it| it == header.link))
    }
}

impl<F: File> Scan<F> {
    /// Goes past a bad block, and takes in the frames that begin in it. Returns whether the journal
    /// ends here.
    pub(super) fn pass(
        &mut self,
        (link, rest): (&Link, &[Link]),
        (offset, limit): (u64, u64),
        bad: &Bad,
    ) -> Result<bool, JournalError> {
        let number = link.number;
        if let Some(home) = bad.foreign {
            self.foreign = self.foreign.or(Some((number, home)));
        }
        let is_behind = self.gap.as_ref().is_some_and(|gap| gap.reach <= offset);
        if is_behind && self.ends_in_gap(link, rest)? {
            return Ok(true);
        }
        let end = limit.min(offset + BLOCK_BYTES as u64);
        let mut at = match &self.gap {
            Some(gap) if gap.segment == number => offset.max(gap.offset),
            _ => offset,
        };
        let mut is_cut = false;
        while let Some(stray) = self.source.stray(number, at, end) {
            let header = stray.header;
            self.note(&header);
            // Numbers grow from place to place: what stands behind it in this block was cut, too.
            // In later blocks frames are looked at for what they prove; one that counts is forged.
            is_cut |= link.was_cut(header.lsn);
            if self.evidence < header.lsn && self.can_end(link, rest) {
                self.lose_the_rest(number, offset, header.offset);
                return self.ends_in_gap(link, rest);
            }
            if !is_cut {
                self.see(link, &header);
            }
            at = header.offset
                + match !is_cut && self.salvage(&stray)? {
                    true => header.frame_bytes() as u64,
                    false => FRAME_ALIGNMENT as u64,
                };
        }
        if let Some(gap) = &mut self.gap {
            gap.bytes = match gap.segment == number {
                true => (offset + BLOCK_BYTES as u64).saturating_sub(gap.offset),
                false => gap.bytes + BLOCK_BYTES as u64,
            };
        }
        Ok(false)
    }

    /// Takes in a frame in a bad region whose header is right; `false` where it cannot be the next.
    fn salvage(&mut self, stray: &Stray) -> Result<bool, JournalError> {
        let Stray { header, checksum, is_whole, .. } = *stray;
        let Header { kind, segment, offset, lsn, .. } = header;
        // For promises, too high is safe, wherever they come from.
        self.found.speaks(&header);
        let Some(gap) = self.gap.take_if(|gap| gap.admits(&header)) else { return Ok(false) };
        let (frame_end, bytes) = (offset + header.frame_bytes() as u64, 0);
        self.lose(&gap, (segment, offset), before(&header));
        let is_first = kind == Kind::Promise && header.copy == 1;
        let (last_lsn, link, reach) = match is_first {
            true => (lsn.next(), None, frame_end + FRAME_HEADER_BYTES as u64),
            false => (lsn, Some(checksum), frame_end),
        };
        self.gap = Some(Gap { segment, offset: frame_end, bytes, last_lsn, link, reach });
        let payload = [segment, frame_end - stray.payload_bytes(), segment, frame_end];
        match kind {
            // Of one that begins a group, what counts here stands in the header.
            Kind::Group => self.take(&header)?,
            _ if is_whole => {
                self.take(&header)?;
                // That an entry is chosen is true whatever is lost, and so is that more of them
                // are.
                self.found.end_group(Slot::ZERO);
            }
            // As if it were whole: see `Findings::take`.
            Kind::Vote if header.slot < self.found.slot_chosen => self.found.note_region(payload),
            Kind::Vote | Kind::Chosen => self.found.rot_slot(payload, header.slot),
            // It may have told of any slot.
            Kind::Doubts => self.found.rot(payload, stray.payload_bytes(), 1),
            Kind::Promise | Kind::Verdicts | Kind::Seal | Kind::Sightings => {}
        }
        Ok(true)
    }

    /// A whole group was found, which ends the bad region before it, if there is one.
    pub(super) fn leave_gap(&mut self, whole: &Whole, offset: u64) {
        let Some(gap) = self.gap.take() else { return };
        let Seen(first) = whole.frames[0];
        let is_empty = first.durable_through <= self.end.last_lsn;
        if offset == BLOCK_BYTES as u64 && is_empty && gap.last_lsn == self.end.last_lsn {
            // Only the superheader is bad: nothing was durable between.
            reached!(SuperheaderLost);
            self.uncovered.retain(|whole| whole.end.last_lsn > self.evidence);
            self.kept = self.end;
            return;
        }
        self.uncovered.clear();
        // What is kept ends with the last frame that counts: the next opening misses all up to it.
        let last_lsn = before(&first).max(gap.last_lsn);
        self.lose(&gap, (first.segment, offset), last_lsn);
        self.kept = End { number: first.segment, offset, last_lsn, link: 0 };
    }

    /// A bad region reaches to `end`, which is that of a segment or of the journal.
    pub(super) fn end_gap(&mut self, end: End) {
        let Some(gap) = self.gap.take() else { return };
        self.lose(&gap, (end.number, end.offset), end.last_lsn);
        self.uncovered.clear();
        self.kept = end;
    }

    /// Ends the journal within a bad region, as soon as each frame that is known to have been
    /// durable was found or counted as lost. What is left is a torn tail like any other: whatever
    /// is whole in it was not acknowledged, since that goes by the order of the frames.
    pub(super) fn ends_in_gap(&mut self, link: &Link, rest: &[Link]) -> Result<bool, JournalError> {
        let Some(gap) = self.gap.take_if(|gap| self.evidence <= gap.last_lsn) else {
            return Ok(false);
        };
        if !self.can_end(link, rest) {
            self.gap = Some(gap);
            return Ok(false);
        }
        let Gap { segment, reach: offset, last_lsn, .. } = gap;
        let block_end = offset.next_multiple_of(BLOCK_BYTES as u64);
        let is_torn = !self.source.is_zero(segment, offset, block_end);
        let frames = self.lsn_seen.0.saturating_sub(last_lsn.0);
        self.uncovered.clear();
        self.lsn_seen = self.lsn_seen.max(last_lsn);
        self.kept = End { number: segment, offset: block_end, last_lsn, link: 0 };
        self.end = End { offset: if is_torn { offset } else { block_end }, ..self.kept };
        let is_told = self.tear(link)?;
        // Of a group that has begun, the rest may be gone: as good as torn, also where zeros took
        // its place.
        if frames > 0 && !is_told && !self.rot.is_alone() {
            self.found.tear(frames.saturating_mul(FRAME_HEADER_BYTES as u64));
        }
        Ok(true)
    }

    /// Whether the journal may end in a segment: all that proves anything was looked at before, and
    /// those that may follow are empty.
    fn can_end(&self, link: &Link, rest: &[Link]) -> bool {
        let is_empty = |link: &Link| !link.certain && self.behind.get(&link.number) == Some(&0);
        link.end.is_none() && link.superheader.is_some() && rest.iter().all(is_empty)
    }

    /// No frame is left, before the one `at` a place in a block, of those that are known to have
    /// been durable. A checkpoint knows that of a part of a group: what was found in the same block
    /// stays where it is.
    fn lose_the_rest(&mut self, segment: u64, block: u64, at: u64) {
        let Some(gap) = self.gap.take_if(|gap| gap.last_lsn < self.evidence) else { return };
        let last_lsn = self.evidence;
        let (offset, reach) = match gap.segment == segment && block < gap.offset {
            true => (block + BLOCK_BYTES as u64, at),
            false => (block, block),
        };
        self.lose(&gap, (segment, offset), last_lsn);
        let (bytes, link) = (0, None);
        self.gap = Some(Gap { segment, offset, bytes, last_lsn, link, reach });
    }

    /// What is behind the gap's last frame is lost, up to a place and up to the frame `last`.
    fn lose(&mut self, gap: &Gap, (segment, offset): (u64, u64), last: Lsn) {
        let frames = last.0.saturating_sub(gap.last_lsn.0);
        if frames > 0 {
            let bytes = gap.bytes_until(segment, offset);
            self.found.rot([gap.segment, gap.offset, segment, offset], bytes, frames);
        }
    }
}

/// The last frame that can have counted before one.
fn before(header: &Header) -> Lsn {
    let Header { kind, copy, offset, lsn, durable_through, .. } = *header;
    match kind {
        Kind::Group if offset == BLOCK_BYTES as u64 => durable_through,
        Kind::Promise if copy == 2 => Lsn(lsn.0.saturating_sub(2)),
        _ => Lsn(lsn.0.saturating_sub(1)),
    }
}
