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

/// The places of slots, from slot 0 on.
#[derive(Debug, Default)]
pub(super) struct Index {
    places: Vec<Place>,
    /// How many frames gave a place to a slot that had none.
    held: u64,
    /// How many slots may have stood in what is lost.
    lacking: u64,
}

impl Index {
    /// Where the slot's newest frame stands, where it is durable.
    pub(super) fn get(&self, slot: Slot) -> Option<Place> {
        let place = *self.places.get(usize::try_from(slot.0).ok()?)?;
        (place != Place::NONE).then_some(place)
    }

    /// Whether the slot is near enough to the others to be held. Slots are written within alpha of
    /// a watermark below which each has a frame; one that is far beyond cannot be ours. Counted are
    /// frames, so that what is held is bounded by what was written.
    pub(super) fn can_hold(&self, slot: Slot) -> bool {
        slot.0 < (self.held + GAP_MAX).saturating_add(self.lacking)
    }

    /// Frames are lost: the next slot may lie farther from the last one, by so many.
    pub(super) fn may_lack(&mut self, slots: u64) {
        self.lacking = self.lacking.saturating_add(slots);
    }

    pub(super) fn set(&mut self, slot: Slot, place: Place) {
        assert!(self.can_hold(slot), "slot {slot} is far beyond {} others", self.held);
        let at = usize::try_from(slot.0).expect("bounded by the assertion above");
        if at >= self.places.len() {
            self.places.resize(at + 1, Place::NONE);
        }
        self.held += u64::from(self.places[at] == Place::NONE);
        self.places[at] = place;
    }

    /// The slots have no durable newest frame for now.
    pub(super) fn clear(&mut self, slots: SlotRange) {
        let at = |slot: Slot| usize::try_from(slot.0).map_or(usize::MAX, |at| at);
        let end = at(slots.end).min(self.places.len());
        if let Some(places) = self.places.get_mut(at(slots.first).min(end)..end) {
            places.fill(Place::NONE);
        }
    }

    /// The slots below `end` that have no place.
    pub(super) fn holes(&self, end: Slot) -> SlotSet {
        let known = usize::try_from(end.0).unwrap_or(usize::MAX).min(self.places.len());
        let mut holes = SlotSet::default();
        let mut first = 0;
        while first < known {
            let rest = &self.places[first..known];
            let begin = rest.iter().position(|place| *place == Place::NONE);
            let begin = first + begin.unwrap_or(rest.len());
            let rest = &self.places[begin..known];
            let count = rest.iter().position(|place| *place != Place::NONE);
            first = begin + count.unwrap_or(rest.len());
            holes.insert(SlotRange { first: Slot(begin as u64), end: Slot(first as u64) });
        }
        holes.insert(SlotRange { first: Slot(known as u64), end });
        holes
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
