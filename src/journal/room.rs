//! Room on the disk: whether there is some, and what of the journal's front is given back.
//!
//! A disk without space fails nothing that was written. What needs space and finds none (the next
//! segment, the removal of the front, which writes the identity anew) is given up, and tried again
//! only where the owner asks for it.
//!
//! Not here: checkpoints, which find no space by themselves (`checkpointing.rs`).

use crate::types::bugs::{self, Bug};
use crate::types::ids::Slot;

use super::Journal;
use super::disk::Disk;
use super::writer::Writer;

impl<D: Disk> Journal<D> {
    /// Whether the disk is full, and what is appended may soon find no room: the next segment could
    /// not be made, and the one in use is nearly so. What is appended all the same waits in memory,
    /// and is not acknowledged before there is space.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.writer.as_ref().is_some_and(Writer::is_full)
    }

    /// Whether there was no space for the next segment, and none was found since.
    #[must_use]
    pub fn lacks_space(&self) -> bool {
        self.writer.as_ref().is_some_and(|writer| writer.spare.lacks_space())
    }

    /// Whether the next segment is being made, or is about to be.
    #[must_use]
    pub fn is_making_segment(&self) -> bool {
        self.writer.as_ref().is_some_and(|writer| writer.spare.is_being_made())
    }

    /// Tries once more to make the next segment, with the [next job](Self::next_job). Nothing else
    /// tries again.
    pub fn retry_prepare(&mut self) {
        if let Some(writer) = &mut self.writer {
            writer.spare.retry();
        }
    }

    /// Whether segments could be removed if no slot from `limit` on goes, and the others keep
    /// `bytes_min` bytes.
    #[must_use]
    pub fn can_trim(&self, limit: Slot, bytes_min: u64) -> bool {
        self.writer.as_ref().is_some_and(|writer| writer.can_trim(limit, bytes_min))
    }

    /// Whether some segments are kept only since something is lost in others too: those can be
    /// removed all at once, or not at all.
    #[must_use]
    pub fn holds_damage(&self) -> bool {
        self.writer.as_ref().is_some_and(|writer| writer.segments.holds_damage())
    }

    /// Removes these segments, by a job, once what is appended so far is durable. What else stands
    /// in them must have been appended once more: doubts that are not settled, and sightings.
    ///
    /// # Panics
    ///
    /// Where a slot would go that no checkpoint but the newest holds.
    pub fn trim(&mut self, limit: Slot, bytes_min: u64) {
        let held = self.checkpoints.kept().get(1).map_or(Slot::ZERO, |older| older.header().slot);
        let dares = bugs::is_on(Bug::TrimBeyondCheckpoint);
        assert!(limit <= held || dares, "slots below {limit} go, of which {held} are in two");
        self.writer_mut().trim(limit, bytes_min);
    }

    /// Whether the removal that was asked for last found no space, and was given up: told once.
    pub fn take_trim_given_up(&mut self) -> bool {
        self.writer.as_mut().is_some_and(|writer| std::mem::take(&mut writer.segments.given_up))
    }
}
