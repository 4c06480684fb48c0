//! A set of slots: ranges in order, none of which touch.
//!
//! Sets are small (a few damaged places), and reach far: a range may have no end that anybody
//! knows. So they are kept as ranges, never slot by slot.

use serde::{Deserialize, Serialize};

use super::ids::{Slot, SlotRange};

/// A set of slots.
///
/// A value that was decoded may break the order of its ranges; [`SlotSet::is_sound`] tells.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SlotSet(Vec<SlotRange>);

impl SlotSet {
    /// Whether no slot is in the set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether `slot` is in the set.
    #[must_use]
    pub fn contains(&self, slot: Slot) -> bool {
        let behind = self.0.partition_point(|range| range.end <= slot);
        self.0.get(behind).is_some_and(|range| range.contains(slot))
    }

    /// The ranges, in order.
    #[must_use]
    pub fn ranges(&self) -> &[SlotRange] {
        &self.0
    }

    /// The first slot of the set.
    #[must_use]
    pub fn first(&self) -> Option<Slot> {
        Some(self.0.first()?.first)
    }

    /// The first slot of the set that is not below `slot`.
    #[must_use]
    pub fn first_from(&self, slot: Slot) -> Option<Slot> {
        let behind = self.0.partition_point(|range| range.end <= slot);
        self.0.get(behind).map(|range| range.first.max(slot))
    }

    /// The first slot behind the set.
    #[must_use]
    pub fn end(&self) -> Option<Slot> {
        Some(self.0.last()?.end)
    }

    /// Adds the slots of `range`.
    pub fn insert(&mut self, range: SlotRange) {
        if range.is_empty() {
            return;
        }
        let begin = self.0.partition_point(|other| other.end < range.first);
        let end = self.0.partition_point(|other| other.first <= range.end);
        let joined = self.0[begin..end].iter().fold(range, |joined, other| SlotRange {
            first: joined.first.min(other.first),
            end: joined.end.max(other.end),
        });
        self.0.splice(begin..end, [joined]);
    }

    /// Removes the slots of `range`.
    pub fn remove(&mut self, range: SlotRange) {
        if range.is_empty() {
            return;
        }
        let begin = self.0.partition_point(|other| other.end <= range.first);
        let end = self.0.partition_point(|other| other.first < range.end);
        let Some((first, last)) = self.0[begin..end].first().zip(self.0[begin..end].last()) else {
            return;
        };
        let before = SlotRange { first: first.first, end: range.first };
        let behind = SlotRange { first: range.end, end: last.end };
        let rest = [before, behind].into_iter().filter(|part| !part.is_empty());
        self.0.splice(begin..end, rest);
    }

    /// Removes one slot.
    pub fn remove_slot(&mut self, slot: Slot) {
        if self.contains(slot) {
            self.remove(SlotRange::one(slot));
        }
    }

    /// Removes all slots below `slot`.
    pub fn remove_below(&mut self, slot: Slot) {
        self.remove(SlotRange { first: Slot::ZERO, end: slot });
    }

    /// The same slots and, where that takes more than `ranges_max` ranges, those of the narrowest
    /// gaps between them.
    ///
    /// # Panics
    ///
    /// Where `ranges_max` is zero.
    #[must_use]
    pub fn coarser(&self, ranges_max: usize) -> Self {
        assert!(ranges_max > 0, "a set of slots needs a range");
        let Some(closing) = self.0.len().checked_sub(ranges_max).filter(|count| *count > 0) else {
            return self.clone();
        };
        let gaps = || self.0.windows(2).map(|pair| pair[1].first.0 - pair[0].end.0);
        let mut widths = gaps().collect::<Vec<_>>();
        let (_, widest, _) = widths.select_nth_unstable(closing - 1);
        let mut joined = self.0[..1].to_vec();
        for (gap, range) in gaps().zip(&self.0[1..]) {
            match joined.last_mut() {
                Some(last) if gap <= *widest => last.end = range.end,
                _ => joined.push(*range),
            }
        }
        Self(joined)
    }

    /// Whether the ranges are in order and apart, as every set made here is.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.0.iter().all(|range| !range.is_empty())
            && self.0.windows(2).all(|pair| pair[0].end < pair[1].first)
    }
}

impl FromIterator<SlotRange> for SlotSet {
    fn from_iter<I: IntoIterator<Item = SlotRange>>(ranges: I) -> Self {
        let mut set = Self::default();
        ranges.into_iter().for_each(|range| set.insert(range));
        set
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn range(first: u64, end: u64) -> SlotRange {
        SlotRange { first: Slot(first), end: Slot(end) }
    }

    #[test]
    fn a_set_of_slots_is_a_set() {
        // Every sequence of three edits of ranges within eight slots, against a plain set.
        let ranges = (0..6).flat_map(|first| (first..7).map(move |end| range(first, end)));
        let edits = ranges.flat_map(|range| [(true, range), (false, range)]).collect::<Vec<_>>();
        for (index, one) in edits.iter().enumerate() {
            for two in edits.iter().skip(index % 3).step_by(3) {
                for three in edits.iter().step_by(5) {
                    check(&[*one, *two, *three]);
                }
            }
        }
    }

    #[test]
    fn a_coarser_set_holds_all_and_closes_the_narrowest_gaps() {
        let ranges = [range(1, 2), range(3, 4), range(10, 11), range(12, 20)];
        let set: SlotSet = ranges.into_iter().collect();
        assert_eq!(set.coarser(4), set);
        assert_eq!(set.coarser(2).ranges(), [range(1, 4), range(10, 20)]);
        assert_eq!(set.coarser(1).ranges(), [range(1, 20)]);
        // Gaps that are as wide as one another are closed together.
        assert_eq!(set.coarser(3).ranges(), [range(1, 4), range(10, 20)]);
        assert!(SlotSet::default().coarser(1).is_empty());
    }

    fn check(edits: &[(bool, SlotRange)]) {
        let (mut set, mut model) = (SlotSet::default(), BTreeSet::new());
        for (inserts, range) in edits {
            let slots = range.first.0..range.end.0;
            match inserts {
                true => {
                    set.insert(*range);
                    model.extend(slots);
                }
                false => {
                    set.remove(*range);
                    model.retain(|slot| !slots.contains(slot));
                }
            }
            assert!(set.is_sound(), "{edits:?} made {set:?}");
            let found = (0..8).filter(|slot| set.contains(Slot(*slot))).collect::<BTreeSet<_>>();
            assert_eq!(found, model, "{edits:?} made {set:?}");
            for slot in 0..8 {
                let next = model.range(slot..).next().map(|slot| Slot(*slot));
                assert_eq!(set.first_from(Slot(slot)), next, "{edits:?} made {set:?}");
            }
        }
    }
}
