//! Where each slot's newest durable frame stands, and the files to read it from.
//!
//! Eight bytes for each slot, in pages of neighbours: a million slots are 8 MB. A page without a
//! place is not there, so slots that nothing is known of cost nothing: behind lost checkpoints
//! there can be any number of them. The index is shared between the journal, which writes it as
//! groups become durable, and any number of readers.
//!
//! Invariants:
//! * A place in the index is durable.
//! * From the moment a newer frame for a slot is appended until it is durable, the slot has no
//!   place. The old frame may hold another entry than the one that is chosen; served as chosen, it
//!   would be a well-formed lie.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::RwLock;

use crate::types::ids::{Slot, SlotRange};
use crate::types::limits::ALPHA_MAX;
use crate::types::slots::SlotSet;

use super::frame::{FRAME_ALIGNMENT, Home};

/// Where a frame stands. Packed: the number of the segment and the offset in units of a frame's
/// alignment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    segment: u32,
    offset: u32,
}

impl Place {
    const NONE: Self = Self { segment: 0, offset: 0 };

    /// The place of a frame; `None` beyond four thousand million segments or 32 GiB of one.
    pub(super) fn new(segment: u64, offset: u64) -> Option<Self> {
        Some(Self {
            segment: u32::try_from(segment).ok()?,
            offset: u32::try_from(offset / FRAME_ALIGNMENT as u64).ok()?,
        })
    }

    pub(super) fn segment(self) -> u64 {
        u64::from(self.segment)
    }

    pub(super) fn offset(self) -> u64 {
        u64::from(self.offset) * FRAME_ALIGNMENT as u64
    }
}

/// The places of slots, from a first one on: those before were trimmed.
#[derive(Debug, Default)]
pub(super) struct Index {
    first: Slot,
    /// Places of `PAGE_SLOTS` slots each, by the number of the page. Those of slots before the
    /// first one mean nothing.
    pages: BTreeMap<u64, Box<Page>>,
    /// How many frames gave a place to a slot that had none.
    held: u64,
    /// How many slots may have stood in what is lost.
    lacking: u64,
}

type Page = [Place; PAGE_SLOTS as usize];

impl Index {
    /// No places, from `first` on.
    pub(super) fn beginning_with(first: Slot) -> Self {
        Self { first, ..Self::default() }
    }

    /// Every slot below was trimmed.
    pub(super) fn first(&self) -> Slot {
        self.first
    }

    /// Forgets the slots below `first`.
    pub(super) fn trim(&mut self, first: Slot) {
        // What was held went, whether it had a place or not; the bound on wild slots goes on.
        self.held = self.held.saturating_sub(self.first.count_to(first.max(self.first)));
        self.first = self.first.max(first);
        self.pages = self.pages.split_off(&page_of(self.first));
    }

    /// Where the slot's newest frame stands, where it is durable.
    pub(super) fn get(&self, slot: Slot) -> Option<Place> {
        if slot < self.first {
            return None;
        }
        let place = self.pages.get(&page_of(slot))?[at(slot)];
        (place != Place::NONE).then_some(place)
    }

    /// Whether the slot is near enough to the others to be held. Slots are written within alpha of
    /// a watermark below which each has a frame; one that is far beyond cannot be ours. Counted are
    /// frames, so that what is held is bounded by what was written.
    pub(super) fn can_hold(&self, slot: Slot) -> bool {
        let held = self.first.0.saturating_add(self.held + GAP_MAX);
        slot.0 < held.saturating_add(self.lacking)
    }

    /// Frames are lost: the next slot may lie farther from the last one, by so many.
    pub(super) fn may_lack(&mut self, slots: u64) {
        self.lacking = self.lacking.saturating_add(slots);
    }

    /// The place of a slot; one that was trimmed gets none.
    pub(super) fn set(&mut self, slot: Slot, place: Place) {
        assert!(self.can_hold(slot), "slot {slot} is far beyond {} others", self.held);
        if slot < self.first {
            return;
        }
        let blank = || Box::new([Place::NONE; PAGE_SLOTS as usize]);
        let page = self.pages.entry(page_of(slot)).or_insert_with(blank);
        self.held += u64::from(page[at(slot)] == Place::NONE);
        page[at(slot)] = place;
    }

    /// The slots have no durable newest frame for now.
    pub(super) fn clear(&mut self, slots: SlotRange) {
        if slots.first >= slots.end {
            return;
        }
        let last = Slot(slots.end.0 - 1);
        for (number, page) in self.pages.range_mut(page_of(slots.first)..=page_of(last)) {
            let begin = number * PAGE_SLOTS;
            let from = slots.first.0.saturating_sub(begin) as usize;
            let to = (slots.end.0 - begin).min(PAGE_SLOTS) as usize;
            page[from..to].fill(Place::NONE);
        }
    }

    /// The slots below `end` that have no place, of those that were not trimmed.
    pub(super) fn holes(&self, end: Slot) -> SlotSet {
        let (mut holes, mut next) = (SlotSet::default(), self.first);
        let first = self.first;
        let held = self.held_slots().skip_while(|slot| *slot < first);
        for slot in held.take_while(|slot| *slot < end) {
            holes.insert(SlotRange { first: next, end: slot });
            next = slot.next();
        }
        holes.insert(SlotRange { first: next, end });
        holes
    }

    /// The slots that have a place, in order, trimmed ones among them.
    fn held_slots(&self) -> impl Iterator<Item = Slot> {
        self.pages.iter().flat_map(|(number, page)| {
            let held = (0..PAGE_SLOTS).filter(|at| page[*at as usize] != Place::NONE);
            held.map(move |at| Slot(number * PAGE_SLOTS + at))
        })
    }
}

/// The number of the page that a slot's place is in.
fn page_of(slot: Slot) -> u64 {
    slot.0 / PAGE_SLOTS
}

/// Where in its page a slot's place is.
fn at(slot: Slot) -> usize {
    (slot.0 % PAGE_SLOTS) as usize
}

/// What a journal and its readers share.
#[derive(Debug)]
pub(super) struct Shared<F> {
    /// To whom the frames belong.
    pub(super) home: RwLock<Home>,
    pub(super) index: RwLock<Index>,
    pub(super) files: RwLock<BTreeMap<u64, Arc<F>>>,
}

/// How many slots without a place may lie before one that is not behind a known loss.
const GAP_MAX: u64 = 1 << 20;

/// How many slots share a page: 2 KiB. Wild slots, a page each, take not much more than their
/// frames.
const PAGE_SLOTS: u64 = 256;

const _: () = assert!(2 * ALPHA_MAX < GAP_MAX, "each slot that is voted for can be held");

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Step {
        Set(u64),
        Clear(u64, u64),
        Trim(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            6 => (0..3 * PAGE_SLOTS).prop_map(Step::Set),
            2 => (0..3 * PAGE_SLOTS, 0..400_u64).prop_map(|(from, count)| {
                Step::Clear(from, from + count)
            }),
            1 => (0..2 * PAGE_SLOTS).prop_map(Step::Trim),
        ]
    }

    proptest! {
        #[test]
        fn an_index_agrees_with_a_map(steps in prop::collection::vec(step(), 0..60)) {
            let (mut index, mut map, mut first) = (Index::default(), BTreeMap::new(), 0);
            for (offset, step) in (1..).zip(steps) {
                match step {
                    Step::Set(slot) => {
                        let place = Place { segment: 1, offset };
                        index.set(Slot(slot), place);
                        (slot >= first).then(|| map.insert(slot, place));
                    }
                    Step::Clear(from, end) => {
                        index.clear(SlotRange { first: Slot(from), end: Slot(end) });
                        map.retain(|slot, _| *slot < from || *slot >= end);
                    }
                    Step::Trim(slot) => {
                        index.trim(Slot(slot));
                        first = first.max(slot);
                        map.retain(|slot, _| *slot >= first);
                    }
                }
                prop_assert_eq!(index.first(), Slot(first));
                for slot in 0..3 * PAGE_SLOTS + 2 {
                    prop_assert_eq!(index.get(Slot(slot)), map.get(&slot).copied());
                }
                for end in [first, first + 300, 4 * PAGE_SLOTS] {
                    let holes = index.holes(Slot(end));
                    for slot in 0..4 * PAGE_SLOTS {
                        let is_hole = first <= slot && slot < end && !map.contains_key(&slot);
                        prop_assert_eq!(holes.contains(Slot(slot)), is_hole);
                    }
                }
            }
        }
    }

    #[test]
    fn a_slot_behind_a_great_loss_costs_one_page() {
        let mut index = Index::default();
        let far = Slot(1 << 60);
        assert!(!index.can_hold(far));
        index.may_lack(far.0);
        index.set(far, Place { segment: 1, offset: 1 });
        assert_eq!(index.pages.len(), 1);
        let hole = SlotRange { first: Slot::ZERO, end: far };
        assert_eq!(index.holes(far.next()).ranges(), [hole]);
    }
}
