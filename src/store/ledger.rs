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

use std::collections::BTreeMap;

use crate::types::ids::{Slot, SlotRange, TxId};
use crate::types::record::Verdicts;
use crate::types::time::Time;

/// What is known of each applied slot, from slot 0 on: 8 bytes for most of them.
#[derive(Debug, Default)]
pub struct Ledger {
    /// The newest id before each slot.
    after: Vec<TxId>,
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

impl Ledger {
    /// Adds the next slot.
    pub fn push(
        &mut self,
        after: TxId,
        took_id: impl ExactSizeIterator<Item = bool> + Clone,
        clamped: Option<Time>,
    ) {
        assert!(self.after.last().is_none_or(|last| *last <= after), "ids never go back");
        let slot = self.slot_end();
        self.after.push(after);
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
        let slot = Slot(slots_before.checked_sub(1)? as u64);
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
        Some(Slot(slots.checked_sub(1)? as u64))
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
    /// Where one of the slots was not pushed.
    #[must_use]
    pub fn verdicts(&self, slots: SlotRange, last: TxId) -> Verdicts {
        assert!(slots.end <= self.slot_end(), "slots {slots} of {}", self.slot_end());
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
        Slot(self.after.len() as u64)
    }

    fn id_before(&self, slot: Slot) -> Option<TxId> {
        self.after.get(usize::try_from(slot.0).ok()?).copied()
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
}
