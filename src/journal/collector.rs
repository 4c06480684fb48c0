//! Items become groups: each is put into the group that is open, into a new one where it does not
//! fit, into the next segment where no group does.
//!
//! ```text
//! push -> open group -> closed groups -> take
//!         collects      wait for a lane
//! ```
//!
//! Invariants:
//! * Groups and frames follow each other without a gap; what is closed never moves.
//! * The first group of a segment begins with the promise in force: a segment must not depend on an
//!   older one for it.
//! * What is in doubt stands in two groups (`Item::has_copy`).

use std::collections::VecDeque;
use std::mem;

use crate::types::ids::{Ballot, Lsn, Slot};

use super::group::{GROUP_FRAME_BYTES, Group, Item};
use super::segment::{BLOCK_BYTES, End, Options};

/// Collects items into groups, and knows where each will stand.
#[derive(Debug)]
pub(super) struct Collector {
    group_bytes_max: usize,
    segment_bytes: u64,
    /// Groups that are complete, in order.
    closed: VecDeque<Group>,
    /// The group that collects; without items where there is nothing to write.
    open: Group,
    /// The promise in force behind the last item, and its number.
    promised: Ballot,
    meta_seq: u64,
}

impl Collector {
    /// One that goes on behind what an opening wrote.
    ///
    /// That ends at `end`, in a segment of `length` bytes, and the promise in force there is
    /// `promised` with its number.
    pub(super) fn behind(
        end: &End,
        length: u64,
        promised: (Ballot, u64),
        slot_chosen: Slot,
        options: &Options,
    ) -> Self {
        let (promised, meta_seq) = promised;
        let open = Group::empty(end.number, end.offset, length, end.last_lsn.next());
        Self {
            group_bytes_max: options.group_bytes_max,
            segment_bytes: options.segment_bytes,
            closed: VecDeque::new(),
            open: Group { slot_chosen, ..open },
            promised,
            meta_seq,
        }
    }

    /// One that begins a segment which takes all that it is given.
    pub(super) fn of_segment(
        number: u64,
        first_lsn: Lsn,
        promise: Item,
        options: &Options,
    ) -> Self {
        let Item::Promise { ballot, meta_seq } = promise else {
            panic!("a segment begins with a promise, not with {promise:?}")
        };
        let mut open = Group::first_of(number, u64::MAX, first_lsn);
        open.meta_seq = meta_seq;
        open.push(promise);
        Self {
            group_bytes_max: options.group_bytes_max,
            segment_bytes: u64::MAX,
            closed: VecDeque::new(),
            open,
            promised: ballot,
            meta_seq,
        }
    }

    /// Puts an item behind all others, and returns the number of its last frame.
    pub(super) fn push(&mut self, item: Item) -> Lsn {
        if item.has_copy() {
            self.put(item.clone());
            self.close();
        }
        self.put(item);
        self.last_lsn()
    }

    /// What the open group says is chosen. All that this rests on was put before.
    pub(super) fn set_chosen(&mut self, slot_chosen: Slot) {
        self.open.slot_chosen = slot_chosen;
    }

    /// The group that is written next.
    pub(super) fn head(&self) -> Option<&Group> {
        let open = Some(&self.open).filter(|open| !open.items.is_empty());
        self.closed.front().or(open)
    }

    /// Takes the group that is written next.
    pub(super) fn take(&mut self) -> Option<Group> {
        if self.closed.is_empty() && !self.open.items.is_empty() {
            self.close();
        }
        self.closed.pop_front()
    }

    /// All groups, in order.
    pub(super) fn into_groups(mut self) -> VecDeque<Group> {
        if !self.open.items.is_empty() {
            self.close();
        }
        self.closed
    }

    pub(super) fn is_empty(&self) -> bool {
        self.head().is_none()
    }

    pub(super) fn promised(&self) -> Ballot {
        self.promised
    }

    pub(super) fn meta_seq(&self) -> u64 {
        self.meta_seq
    }

    pub(super) fn last_lsn(&self) -> Lsn {
        match self.open.items.is_empty() {
            true => Lsn(self.open.first_lsn.0 - 1),
            false => Lsn(self.open.end_lsn.0 - 1),
        }
    }

    /// How long all groups are together.
    pub(super) fn bytes(&self) -> usize {
        self.closed.iter().map(|group| group.bytes).sum::<usize>() + self.open.bytes
    }

    /// How much room is left in a segment for later items.
    pub(super) fn room(&self, segment: u64) -> u64 {
        let used = self.open.offset + self.open.padded_bytes() as u64;
        match self.open.segment == segment {
            true => self.open.segment_bytes.saturating_sub(used),
            false => 0,
        }
    }

    /// How long a segment must be, if a group waits that begins it.
    pub(super) fn length(&self, segment: u64) -> Option<u64> {
        let mut groups = self.closed.iter().chain([&self.open]);
        let first = groups.rfind(|group| group.first && group.segment == segment);
        first.map(|group| group.segment_bytes)
    }

    /// Puts an item into the open group, or into a new one where it does not fit.
    fn put(&mut self, item: Item) {
        if let Item::Promise { ballot, meta_seq } = item {
            (self.promised, self.meta_seq) = (ballot, meta_seq);
        }
        let grown = item.end(self.open.bytes);
        let too_long = grown > self.group_bytes_max || !fits(&self.open, grown);
        if too_long && !self.open.items.is_empty() {
            self.close();
        }
        if self.open.items.is_empty() && !fits(&self.open, item.end(GROUP_FRAME_BYTES)) {
            self.begin_segment(&item);
        }
        if self.open.items.is_empty() {
            // A promise that comes first is not in force before itself.
            self.open.meta_seq = match item {
                Item::Promise { meta_seq, .. } => meta_seq - 1,
                _ => self.meta_seq,
            };
        }
        let end = item.end(self.open.bytes);
        assert!(fits(&self.open, end), "an item of a group that ends at {end} fits no segment");
        self.open.push(item);
    }

    /// Moves the empty open group to the next segment, whose head repeats the promise.
    fn begin_segment(&mut self, item: &Item) {
        let number = self.open.segment + 1;
        let before_item = matches!(item, Item::Promise { .. });
        let meta_seq = self.meta_seq - u64::from(before_item);
        let promise = Item::Promise { ballot: self.promised, meta_seq: self.meta_seq };
        let needed = item.end(promise.end(GROUP_FRAME_BYTES)).next_multiple_of(BLOCK_BYTES);
        let length = self.segment_bytes.max((BLOCK_BYTES + needed) as u64);
        let Group { first_lsn: lsn, slot_chosen, .. } = self.open;
        self.open = Group::first_of(number, length, lsn);
        self.open.meta_seq = meta_seq;
        self.open.slot_chosen = slot_chosen;
        if !before_item {
            // Where it is the item, it is the newest promise as it is.
            self.open.push(promise);
        }
    }

    /// Ends the open group and begins an empty one behind it.
    fn close(&mut self) {
        let offset = self.open.offset + self.open.padded_bytes() as u64;
        let Group { segment, segment_bytes, slot_chosen, end_lsn, .. } = self.open;
        let mut next = Group::empty(segment, offset, segment_bytes, end_lsn);
        next.slot_chosen = slot_chosen;
        self.closed.push_back(mem::replace(&mut self.open, next));
    }
}

/// Whether the group, grown to `bytes`, still fits its segment.
fn fits(group: &Group, bytes: usize) -> bool {
    group.offset + bytes.next_multiple_of(BLOCK_BYTES) as u64 <= group.segment_bytes
}
