//! Where each slot's newest durable frame stands, and the files to read it from.
//!
//! Eight bytes for each slot, in one vector: a million slots are 8 MB. The index is shared between
//! the journal, which writes it as groups become durable, and any number of readers.
//!
//! Invariants:
//! * A place in the index is durable.
//! * From the moment a newer frame for a slot is appended until it is durable, the slot has no
//!   place. The old frame may hold another entry than the one that is chosen; served as chosen, it
//!   would be a well-formed lie.

use std::collections::{BTreeMap, VecDeque};
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
    places: VecDeque<Place>,
    /// How many frames gave a place to a slot that had none.
    held: u64,
    /// How many slots may have stood in what is lost.
    lacking: u64,
}

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
        let count = usize::try_from(self.first.count_to(first)).unwrap_or(usize::MAX);
        self.places.drain(..count.min(self.places.len()));
        // What was held went, whether it had a place or not; the bound on wild slots goes on.
        self.held = self.held.saturating_sub(count as u64);
        self.first = self.first.max(first);
    }

    /// Where the slot's newest frame stands, where it is durable.
    pub(super) fn get(&self, slot: Slot) -> Option<Place> {
        let place = *self.places.get(self.at(slot)?)?;
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
        let Some(at) = self.at(slot) else { return };
        if at >= self.places.len() {
            self.places.resize(at + 1, Place::NONE);
        }
        self.held += u64::from(self.places[at] == Place::NONE);
        self.places[at] = place;
    }

    /// The slots have no durable newest frame for now.
    pub(super) fn clear(&mut self, slots: SlotRange) {
        let at = |slot: Slot| {
            let count = self.first.count_to(slot.max(self.first));
            usize::try_from(count).map_or(self.places.len(), |at| at.min(self.places.len()))
        };
        let (first, end) = (at(slots.first), at(slots.end));
        if first < end {
            self.places.range_mut(first..end).for_each(|place| *place = Place::NONE);
        }
    }

    /// The slots below `end` that have no place, of those that were not trimmed.
    pub(super) fn holes(&self, end: Slot) -> SlotSet {
        let known = self.first.count_to(end.max(self.first));
        let known = usize::try_from(known).unwrap_or(usize::MAX).min(self.places.len());
        let mut holes = SlotSet::default();
        let mut begin = None;
        for (at, place) in self.places.range(..known).enumerate() {
            match (*place == Place::NONE, begin) {
                (true, None) => begin = Some(at),
                (false, Some(first)) => {
                    holes.insert(self.slots(first, at));
                    begin = None;
                }
                _ => {}
            }
        }
        holes.insert(self.slots(begin.unwrap_or(known), known));
        holes.insert(SlotRange { first: self.first.plus(known as u64), end });
        holes
    }

    fn slots(&self, first: usize, end: usize) -> SlotRange {
        SlotRange { first: self.first.plus(first as u64), end: self.first.plus(end as u64) }
    }

    fn at(&self, slot: Slot) -> Option<usize> {
        usize::try_from((self.first <= slot).then(|| self.first.count_to(slot))?).ok()
    }
}

/// What a journal and its readers share.
#[derive(Debug)]
pub(super) struct Shared<F> {
    /// To whom the frames belong.
    pub(super) home: RwLock<Home>,
    pub(super) index: RwLock<Index>,
    pub(super) files: RwLock<BTreeMap<u64, Arc<F>>>,
}

/// How many slots without a place may lie before one. Bounds what wild slots can allocate.
const GAP_MAX: u64 = 1 << 20;

const _: () = assert!(2 * ALPHA_MAX < GAP_MAX, "each slot that is voted for can be held");
