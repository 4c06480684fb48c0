//! Where a journal ends, and what that may have taken with it.
//!
//! Behind the last whole group there are zeros, or what a crash left of groups that were never
//! counted. In a cluster that leaves doubts, since an end that rotted looks the same. A segment
//! that is shorter than it was made is another thing: it was whole, with all its zeros, before it
//! was used, and only an opening shortens one, once the next one counts. What is missing may have
//! been durable.
//!
//! Not here: whether a bad place is the end (`scan`).

use crate::types::ids::Lsn;
use crate::types::marks::reached;

use super::chain::{self, Link};
use super::disk::File;
use super::error::JournalError;
use super::frame::FRAME_HEADER_BYTES;
use super::scan::{LENGTH_MAX, Scan};

impl<F: File> Scan<F> {
    /// Where a segment is the last one, and shorter than it was made, anything may be lost with its
    /// end, a promise too: whether something shows that it was durable, or nothing does.
    pub(super) fn check_length(&mut self, link: &Link, rest: &[Link]) -> Result<(), JournalError> {
        let is_last = link.end.is_none() && !rest.iter().any(|link| link.certain);
        let length = self.source.length(link.number)?;
        if !is_last || made(link) <= length {
            return Ok(());
        }
        if self.rot.is_alone() {
            return Err(chain::cut_short(link.number, length));
        }
        self.found.take_promise_lost();
        Ok(())
    }

    /// The journal ends behind the last whole group. What else there is was never counted. Returns
    /// whether there is anything.
    pub(super) fn tear(&mut self, link: &Link) -> Result<bool, JournalError> {
        // All that was durable when a checkpoint came is whole: nothing below it is torn.
        self.found.end_group(self.slot_checkpointed);
        let (length, offset) = (self.source.length(link.number)?, self.end.offset);
        let cut = made(link).saturating_sub(length.max(offset));
        let mut bytes = cut;
        for (number, end) in &self.behind {
            bytes += end.saturating_sub(if *number == link.number { offset } else { 0 });
        }
        if bytes == 0 {
            return Ok(false);
        }
        reached!(GroupTorn);
        if !self.rot.is_alone() {
            match cut {
                0 => self.found.tear(bytes),
                _ => self.found.lose_end(bytes),
            }
            self.skip_numbers(bytes);
        }
        Ok(true)
    }

    /// Frames that are lost and may have been acknowledged had numbers; none is used again.
    pub(super) fn skip_numbers(&mut self, bytes: u64) {
        let frames = bytes.div_ceil(FRAME_HEADER_BYTES as u64);
        let last = self.lsn_seen.max(self.evidence).max(self.end.last_lsn);
        self.lsn_seen = Lsn(last.0.saturating_add(frames));
    }

    /// Whether the newest segment whose first group was durable, of those up to `last`, shows no
    /// promise. Each begins with the one in force: where nothing of a segment is left, not even
    /// what speaks of a newer promise may be. Where what is left speaks of none, there was none.
    /// One that was prepared, and is all zeros, was not begun.
    pub(super) fn lost_head(&self, links: &[Link], last: u64) -> bool {
        let is_begun = |link: &&Link| match link.superheader {
            Some((superheader, _)) => superheader.first_lsn <= self.evidence,
            None => link.certain || self.behind.get(&link.number) != Some(&0),
        };
        let read = links.iter().rev().filter(|link| link.number <= last);
        let newest = read.filter(is_begun).map(|link| link.number).next();
        let shows_none = newest.is_some_and(|number| self.found.promise_segment < number);
        shows_none && self.found.lost_behind_promise
    }
}

/// How long a segment was made, as far as that is known. Nothing is made longer than the most; what
/// says so was forged.
fn made(link: &Link) -> u64 {
    link.superheader.map_or(0, |(superheader, _)| superheader.length.min(LENGTH_MAX))
}
