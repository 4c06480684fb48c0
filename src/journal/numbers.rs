//! That the numbers of frames grow from place to place.
//!
//! Each frame has the next number, is written behind the one before, and no place is written
//! twice: what a segment held under another number counts for nothing. So of two frames that count
//! the one that stands further back has the higher number, whatever became of those between.
//! Damage cannot change that; where it is otherwise, somebody has made the frames, and what they
//! say of each other leads nowhere: what one opening finds the next one may not.
//!
//! Not so of what an opening left that did not end. The next one uses its numbers up where it can
//! read them, and goes on without where it cannot; a sector may be read again the time after.
//!
//! Not here: which numbers are lost (`salvage`).

use std::collections::BTreeMap;

use crate::types::ids::Lsn;

/// The numbers of the frames that were seen, in any order of the segments.
#[derive(Default)]
pub(super) struct Numbers {
    /// Of each segment the lowest and the highest.
    ranges: BTreeMap<u64, (Lsn, Lsn)>,
    /// The frame that was seen last: segment, offset, and number.
    last: (u64, u64, Lsn),
    /// Where a number was not above the one before it.
    fall: Option<(u64, u64)>,
}

impl Numbers {
    /// Takes note of a frame in its place. A segment is gone through from its beginning to its end,
    /// perhaps more than once.
    pub(super) fn see(&mut self, segment: u64, offset: u64, lsn: Lsn) {
        let (last_segment, last_offset, last_lsn) = self.last;
        if segment == last_segment && last_offset < offset && lsn <= last_lsn {
            self.fall = self.fall.or(Some((segment, offset)));
        }
        self.last = (segment, offset, lsn);
        let (lowest, highest) = self.ranges.entry(segment).or_insert((lsn, lsn));
        (*lowest, *highest) = ((*lowest).min(lsn), (*highest).max(lsn));
    }

    /// A place, or the beginning of a segment, whose number is not above all before it.
    pub(super) fn fall(&self) -> Option<(u64, u64)> {
        let mut before = Lsn::ZERO;
        let between = self.ranges.iter().find_map(|(segment, (lowest, highest))| {
            let falls = *lowest <= before;
            before = *highest;
            falls.then_some((*segment, 0))
        });
        self.fall.or(between)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The segment, the offset and the number of each frame.
    fn fall(frames: &[(u64, u64, u64)]) -> Option<(u64, u64)> {
        let mut numbers = Numbers::default();
        for &(segment, offset, lsn) in frames {
            numbers.see(segment, offset, Lsn(lsn));
        }
        numbers.fall()
    }

    #[test]
    fn segments_may_be_seen_twice_and_in_any_order() {
        let [a, b, c] = [(1, 4096, 1), (1, 8192, 7), (2, 4096, 9)];
        assert_eq!(fall(&[a, b, a, b, c, c]), None);
        assert_eq!(fall(&[c, a, b]), None);
        assert_eq!(fall(&[]), None);
    }

    #[test]
    fn a_number_that_is_not_above_those_before_it_is_told() {
        let [a, b, c] = [(1, 4096, 3), (1, 8192, 7), (2, 4096, 9)];
        assert_eq!(fall(&[a, b, (1, 8448, 7), c]), Some((1, 8448)));
        assert_eq!(fall(&[a, b, (2, 4096, 7)]), Some((2, 0)));
        assert_eq!(fall(&[(2, 4096, 5), a, b]), Some((2, 0)));
        assert_eq!(fall(&[a, (2, 4096, 9), (3, 4096, 8)]), Some((3, 0)));
    }
}
