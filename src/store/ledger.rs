//! An index of the ledger: which slot holds a transaction, and which id a command took.
//!
//! Entries themselves stand in the journal. What they lack is what only applying them tells, and
//! that is little: for each slot the newest id before it. A command that takes an id takes the next
//! one, so one bit for each command says the rest, and not even that is kept for a slot whose
//! commands all took one.
//!
//! ```text
//!   slot   entry              after   took_id
//!     7    put, put, put        4     (all)       ids 5 6 7
//!     8    no-op                7     (none)
//!     9    put, refused, put    7     1 0 1       ids 8 - 9
//! ```
//!
//! It need not begin with slot 0: what stands before its first slot was forgotten, with the
//! entries.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use crate::types::ids::{Slot, SlotRange, TxId};
use crate::types::limits::ENTRY_COMMANDS_MAX;
use crate::types::record::Verdicts;
use crate::types::time::Time;

/// What is known of each applied slot, from a first one on: 8 bytes for most of them.
#[derive(Debug, Default)]
pub struct Ledger {
    first: Slot,
    /// The newest id before each slot.
    after: VecDeque<TxId>,
    /// The slots in which not every command took an id.
    partial: BTreeMap<Slot, Bits>,
    /// The slots whose entry carries a time below that of an earlier one, with the time that
    /// counts.
    clamped: BTreeMap<Slot, Time>,
}

/// How the commands of one slot ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotOutcome {
    /// The newest id before the slot.
    pub after: TxId,
    /// The time that counts for the entry, where it is not the one that it carries.
    pub clamped: Option<Time>,
    /// Which commands took an id, in order.
    pub took_id: Vec<bool>,
}

/// A run of slots as an image holds it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// The first slot.
    pub first: Slot,
    /// The newest id before each of them.
    pub after: Vec<TxId>,
    /// The slots in which not every command took an id: the place of each in the run, how many
    /// commands it has, and a bit for each, lowest first.
    pub partial: Vec<(u32, u32, Vec<u8>)>,
    /// The slots with another time than that of their entry.
    pub clamped: Vec<(u32, Time)>,
}

impl Ledger {
    /// An index that begins with `first`.
    #[must_use]
    pub fn beginning_with(first: Slot) -> Self {
        Self { first, ..Self::default() }
    }

    /// The first slot that it knows, or the next one to be pushed.
    #[must_use]
    pub fn first(&self) -> Slot {
        self.first
    }

    /// The newest id before its first slot, where `last` is the newest of all.
    #[must_use]
    pub fn floor(&self, last: TxId) -> TxId {
        self.after.front().copied().unwrap_or(last)
    }

    /// The slots from `first` on, up to `end` and not too many.
    ///
    /// # Panics
    ///
    /// Where they are not known.
    #[must_use]
    pub fn run(&self, first: Slot, end: Slot) -> Run {
        assert!(self.first <= first && end <= self.slot_end(), "slots {first} to {end} are known");
        let end = end.min(first.plus(RUN_SLOTS_MAX));
        let place = |slot: Slot| first.count_to(slot) as u32;
        let skip = self.first.count_to(first) as usize;
        let count = first.count_to(end) as usize;
        let partial = self.partial.range(first..end);
        let partial =
            partial.map(|(slot, bits)| (place(*slot), bits.count as u32, bits.bytes.clone()));
        let clamped = self.clamped.range(first..end).map(|(slot, time)| (place(*slot), *time));
        Run {
            first,
            after: self.after.range(skip..skip + count).copied().collect(),
            partial: partial.collect(),
            clamped: clamped.collect(),
        }
    }

    /// Adds a run of slots, where `last` is the newest id of all.
    ///
    /// # Errors
    ///
    /// Where they are not the next ones, or cannot have ended so.
    pub fn restore(&mut self, run: Run, last: TxId) -> Result<(), &'static str> {
        let Run { first, after, partial, clamped } = run;
        if first != self.slot_end() {
            return Err("slots that are not the next ones");
        }
        let count = after.len() as u32;
        for id in after {
            let before = self.after.back().copied().unwrap_or(id);
            if id < before || !are_ids_of_an_entry(before, id) || last < id {
                return Err("ids that no slot has");
            }
            self.after.push_back(id);
        }
        for (place, count_of, bytes) in partial {
            let bits = Bits { count: count_of as usize, bytes };
            if place >= count || !bits.are_of_an_entry() {
                return Err("bits that no slot has");
            }
            self.partial.insert(first.plus(place.into()), bits);
        }
        for (place, time) in clamped {
            if place >= count {
                return Err("a time of no slot");
            }
            self.clamped.insert(first.plus(place.into()), time);
        }
        Ok(())
    }

    /// Whether everything that was restored adds up to `end` and `last`.
    #[must_use]
    pub fn is_whole(&self, end: Slot, last: TxId) -> bool {
        let is_last = self.after.back().is_none_or(|after| are_ids_of_an_entry(*after, last));
        let takes = |(slot, bits): (&Slot, &Bits)| {
            bits.iter().filter(|took_id| *took_id).count() == self.ids_taken(*slot, last)
        };
        self.slot_end() == end && is_last && self.partial.iter().all(takes)
    }

    /// Forgets the slots below `first`.
    pub fn trim(&mut self, first: Slot) {
        let count = self.first.count_to(first.min(self.slot_end())) as usize;
        self.after.drain(..count);
        self.first = self.first.plus(count as u64);
        self.partial = self.partial.split_off(&self.first);
        self.clamped = self.clamped.split_off(&self.first);
    }

    /// Adds the next slot.
    pub fn push(
        &mut self,
        after: TxId,
        took_id: impl ExactSizeIterator<Item = bool> + Clone,
        clamped: Option<Time>,
    ) {
        assert!(self.after.back().is_none_or(|last| *last <= after), "ids never go back");
        let slot = self.slot_end();
        self.after.push_back(after);
        if !took_id.clone().all(|took_id| took_id) {
            let mut bits = Bits::default();
            took_id.for_each(|took_id| bits.push(took_id));
            self.partial.insert(slot, bits);
        }
        if let Some(time) = clamped {
            self.clamped.insert(slot, time);
        }
    }

    /// The slot of `txid`, where `last` is the newest id of all.
    #[must_use]
    pub fn find(&self, txid: TxId, last: TxId) -> Option<Slot> {
        let slots_before = self.after.partition_point(|after| *after < txid);
        let slot = self.first.plus(slots_before.checked_sub(1)? as u64);
        (txid <= self.id_behind(slot, last)?).then_some(slot)
    }

    /// The slot of the first id above `txid`, where `last` is the newest id of all.
    #[must_use]
    pub fn find_after(&self, txid: TxId, last: TxId) -> Option<Slot> {
        if txid >= last {
            return None;
        }
        // The last slot that begins at or below `txid` is the one that ends above it.
        let slots = self.after.partition_point(|after| *after <= txid);
        Some(self.first.plus(slots.checked_sub(1)? as u64))
    }

    /// How the commands of `slot` ended, where `last` is the newest id of all.
    #[must_use]
    pub fn outcome(&self, slot: Slot, last: TxId) -> Option<SlotOutcome> {
        let after = self.id_before(slot)?;
        let took_id = match self.partial.get(&slot) {
            Some(bits) => bits.iter().collect(),
            None => vec![true; self.ids_taken(slot, last)],
        };
        Some(SlotOutcome { after, clamped: self.clamped.get(&slot).copied(), took_id })
    }

    /// How the commands of these slots ended, where `last` is the newest id of all.
    ///
    /// # Panics
    ///
    /// Where one of the slots was not pushed, or is forgotten.
    #[must_use]
    pub fn verdicts(&self, slots: SlotRange, last: TxId) -> Verdicts {
        let known = SlotRange { first: self.first, end: self.slot_end() };
        assert!(known.first <= slots.first && slots.end <= known.end, "slots {slots} of {known}");
        let mut bits = Bits::default();
        for slot in (slots.first.0..slots.end.0).map(Slot) {
            match self.partial.get(&slot) {
                Some(partial) => partial.iter().for_each(|took_id| bits.push(took_id)),
                None => (0..self.ids_taken(slot, last)).for_each(|_| bits.push(true)),
            }
        }
        let after = self.id_before(slots.first).unwrap_or(last);
        Verdicts { slots, after, took_id: bits.bytes }
    }

    fn slot_end(&self) -> Slot {
        self.first.plus(self.after.len() as u64)
    }

    fn id_before(&self, slot: Slot) -> Option<TxId> {
        let place = (self.first <= slot).then(|| self.first.count_to(slot))?;
        self.after.get(usize::try_from(place).ok()?).copied()
    }

    fn id_behind(&self, slot: Slot, last: TxId) -> Option<TxId> {
        self.id_before(slot)?;
        Some(self.id_before(slot.next()).unwrap_or(last))
    }

    /// Ids are dense, so their difference is the number of transactions.
    fn ids_taken(&self, slot: Slot, last: TxId) -> usize {
        let ids = self.id_before(slot).zip(self.id_behind(slot, last));
        let count = ids.map_or(0, |(before, behind)| behind.counter() - before.counter());
        usize::try_from(count).expect("an entry has few commands")
    }
}

/// Bits, lowest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Bits {
    count: usize,
    bytes: Vec<u8>,
}

impl Bits {
    fn push(&mut self, bit: bool) {
        if self.count.is_multiple_of(8) {
            self.bytes.push(0);
        }
        self.bytes[self.count / 8] |= u8::from(bit) << (self.count % 8);
        self.count += 1;
    }

    fn iter(&self) -> impl Iterator<Item = bool> {
        (0..self.count).map(|index| self.bytes[index / 8] >> (index % 8) & 1 == 1)
    }

    fn are_of_an_entry(&self) -> bool {
        self.count <= ENTRY_COMMANDS_MAX && self.bytes.len() == self.count.div_ceil(8)
    }
}

/// Whether one entry can have taken the ids between the two.
fn are_ids_of_an_entry(before: TxId, behind: TxId) -> bool {
    let count = behind.get().checked_sub(before.get());
    before.epoch() == behind.epoch() && count.is_some_and(|it| it <= ENTRY_COMMANDS_MAX as u64)
}

/// How many slots one run holds at most. It bounds how long the lock is held, and what is held of
/// it in memory.
const RUN_SLOTS_MAX: u64 = 4096;
