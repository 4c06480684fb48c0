//! Which segments a journal consists of, and what each holds: what can be removed of the front.
//!
//! ```text
//!   removed      | kept                                       | in use
//!   1   2   3    | 4        5        6                        | 7
//!                | ^ front  slots < 900  slots < 1400           slots < 2000
//! ```
//!
//! A segment may go when no slot in it is needed any more, and what else stands in it has been said
//! again behind it. What it held is then no loss: the identity says with which segment the journal
//! begins, and is durable before the first file goes.
//!
//! Invariants:
//! * Only the front goes, and never the segment in use.
//! * Of the segments in which something is lost, all go or none: what is in doubt was written down
//!   for all of them together, and is believed only where all of them are found.
//! * The front only moves on.
//!
//! Not here: which slots are needed (`runtime/checkpoints.rs`), the I/O (`job`).

use std::collections::BTreeMap;

use crate::types::ids::{Lsn, Slot};

use super::segment::Front;

/// The segments that are not written to any more, and where the journal begins.
#[derive(Debug, Default)]
pub(super) struct Segments {
    front: Front,
    ended: BTreeMap<u64, Ended>,
    /// What is to be removed as soon as it can be.
    wanted: Option<Wanted>,
    /// The journal is to begin with this slot, without anything to be removed.
    behind: Option<Slot>,
    /// The first and the last segment in which something is lost.
    damaged: Option<(u64, u64)>,
    /// A removal is under way.
    runs: bool,
    /// There was no space for the last one, and nobody was told.
    pub(super) given_up: bool,
}

/// A segment that is not written to any more.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ended {
    /// Its last frame.
    pub(super) last_lsn: Lsn,
    /// One behind the highest slot in it or in one before it.
    pub(super) slot_end: Slot,
    pub(super) bytes: u64,
}

#[derive(Clone, Copy, Debug)]
struct Wanted {
    limit: Slot,
    bytes_min: u64,
    /// All that must outlive is said again up to here, and nothing behind it may go.
    behind: Lsn,
}

/// Segments to remove, and where the journal begins then.
#[derive(Clone, Debug)]
pub(super) struct Removal {
    pub(super) front: Front,
    pub(super) numbers: Vec<u64>,
}

impl Segments {
    pub(super) fn new(
        front: Front,
        ended: BTreeMap<u64, Ended>,
        damaged: Option<(u64, u64)>,
    ) -> Self {
        Self { front, ended, damaged, ..Self::default() }
    }

    /// A segment is not written to any more.
    pub(super) fn end(&mut self, number: u64, ended: Ended) {
        self.ended.insert(number, ended);
    }

    /// The slots below are not to count any more, whatever segment they are in.
    pub(super) fn begin_behind(&mut self, slot: Slot) {
        self.behind = Some(slot);
    }

    /// Where the journal begins, durably.
    pub(super) fn front(&self) -> Front {
        self.front
    }

    /// How long a segment turned out to be.
    pub(super) fn set_bytes(&mut self, number: u64, bytes: u64) {
        if let Some(ended) = self.ended.get_mut(&number) {
            ended.bytes = bytes;
        }
    }

    /// Whether a removal is under way.
    pub(super) fn runs(&self) -> bool {
        self.runs
    }

    /// Whether any segment could go if no slot from `limit` on does, and the others keep
    /// `bytes_min` bytes.
    pub(super) fn can_trim(&self, limit: Slot, bytes_min: u64) -> bool {
        let is_free = self.wanted.is_none() && !self.runs;
        is_free && !self.removable(limit, bytes_min, Lsn(u64::MAX)).is_empty()
    }

    /// Whether some are kept only since others are, in which something is lost too.
    pub(super) fn holds_damage(&self) -> bool {
        self.damaged.is_some_and(|(first, last)| first < last && self.front.number <= last)
    }

    /// Removes them as soon as that can be done.
    pub(super) fn trim(&mut self, limit: Slot, bytes_min: u64, behind: Lsn) {
        self.wanted = Some(Wanted { limit, bytes_min, behind });
    }

    /// What can be removed now, where the journal is durable up to `frontier` and `current` is the
    /// segment in use.
    pub(super) fn next_removal(&mut self, frontier: Lsn, current: u64) -> Option<Removal> {
        if self.runs {
            return None;
        }
        if let Some(slot) = self.behind.take() {
            let front = Front { slot: self.front.slot.max(slot), ..self.front };
            self.runs = true;
            return Some(Removal { front, numbers: Vec::new() });
        }
        let Wanted { limit, bytes_min, behind } =
            self.wanted.take_if(|wanted| wanted.behind <= frontier)?;
        let numbers = self.removable(limit, bytes_min, behind);
        let last = self.ended[numbers.last()?];
        let behind_them = self.ended.range(numbers.last()? + 1..).next();
        let front = Front {
            number: behind_them.map_or(current, |(number, _)| *number),
            last_lsn: last.last_lsn,
            slot: self.front.slot.max(last.slot_end),
        };
        self.runs = true;
        Some(Removal { front, numbers })
    }

    /// A removal ended, or found no space where that is `None`; returns how many bytes went.
    pub(super) fn complete(&mut self, removal: Option<&Removal>) -> u64 {
        self.runs = false;
        self.given_up |= removal.is_none();
        let Some(Removal { front, numbers }) = removal else { return 0 };
        assert!(self.front.number <= front.number && self.front.slot <= front.slot, "{front:?}");
        self.front = *front;
        let gone = numbers.iter().filter_map(|number| self.ended.remove(number));
        gone.map(|ended| ended.bytes).sum()
    }

    fn removable(&self, limit: Slot, bytes_min: u64, behind: Lsn) -> Vec<u64> {
        let mut left = self.ended.values().map(|ended| ended.bytes).sum::<u64>();
        let mut numbers = Vec::new();
        for (number, ended) in &self.ended {
            left -= ended.bytes;
            if limit < ended.slot_end || behind <= ended.last_lsn || left < bytes_min {
                break;
            }
            numbers.push(*number);
        }
        if let (Some((first, last)), Some(removed)) = (self.damaged, numbers.last().copied())
            && (first..last).contains(&removed)
        {
            numbers.retain(|number| *number < first);
        }
        numbers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segments() -> Segments {
        let ended = |number: u64| Ended {
            last_lsn: Lsn(number * 10),
            slot_end: Slot(number * 100),
            bytes: 1000,
        };
        let front = Front { number: 3, last_lsn: Lsn(20), slot: Slot(200) };
        Segments::new(front, [3, 4, 6].map(|number| (number, ended(number))).into(), None)
    }

    #[test]
    fn only_what_nobody_needs_goes() {
        let mut segments = segments();
        assert!(!segments.can_trim(Slot(299), 0), "a slot in the first is needed");
        assert!(!segments.can_trim(Slot(999), 3000), "so many bytes are to be kept");
        assert!(segments.can_trim(Slot(999), 2000));
        segments.trim(Slot(999), 0, Lsn(60));
        assert!(!segments.can_trim(Slot(999), 0), "it is wanted already");
        assert!(segments.next_removal(Lsn(59), 7).is_none(), "what outlives is not durable");
        let removal = segments.next_removal(Lsn(60), 7).expect("now it is");
        assert_eq!(removal.numbers, [3, 4], "and the last one holds some of it");
        assert_eq!(removal.front, Front { number: 6, last_lsn: Lsn(40), slot: Slot(400) });
        assert!(segments.runs() && !segments.can_trim(Slot(999), 0));
        assert_eq!(segments.complete(Some(&removal)), 2000);
        assert_eq!(segments.front, removal.front);
    }

    #[test]
    fn what_is_damaged_goes_all_at_once() {
        let removed = |damaged, limit| {
            let segments = Segments { damaged: Some(damaged), ..segments() };
            segments.removable(Slot(limit), 0, Lsn(99))
        };
        assert_eq!(removed((4, 6), 400), [3], "the second one with damage is needed");
        assert!(removed((3, 4), 300).is_empty());
        assert_eq!(removed((3, 4), 400), [3, 4]);
        assert_eq!(removed((3, 3), 400), [3, 4], "there is no more behind");
        assert_eq!(removed((1, 2), 300), [3], "what was damaged is gone");
    }

    #[test]
    fn all_but_the_one_in_use_may_go() {
        let mut segments = segments();
        segments.trim(Slot(600), 0, Lsn(99));
        let removal = segments.next_removal(Lsn(99), 7).expect("nothing is needed");
        assert_eq!((removal.front.number, removal.numbers.len()), (7, 3));
        assert_eq!(segments.complete(None), 0, "there was no space to say so");
        assert!(segments.can_trim(Slot(600), 0), "it is tried again");
    }
}
