//! Applied entries that this replica's own journal cannot be read for, yet or any more.
//!
//! A slot can be chosen by the votes of others while this replica's own vote is still being synced.
//! Such entries stay here until the journal has them, so that the ledger can be read up to the last
//! transaction that was acknowledged.
//!
//! Where the journal has an entry and it turns out to be damaged, whoever reads is told, and the
//! slot is left here for the driver, which has it repaired.
//!
//! Invariants:
//! * The slots are contiguous, and end with the last applied one.
//! * An entry leaves only when the journal is durable up to the frame that holds it.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};

use crate::journal::Reader;
use crate::journal::disk::Disk;
use crate::types::entry::Entry;
use crate::types::error::Result;
use crate::types::ids::{Lsn, Slot, SlotRange};
use crate::types::record::DurableFrontier;
use crate::types::slots::SlotSet;

/// The entries, shared between the driver and who reads the ledger.
#[derive(Clone, Debug, Default)]
pub struct Tail {
    kept: Arc<RwLock<VecDeque<Kept>>>,
    /// What readers met and could not read, since the driver looked last.
    unreadable: Arc<Mutex<SlotSet>>,
}

#[derive(Debug)]
struct Kept {
    slot: Slot,
    /// The journal ended here when the entry was applied; its frame is not behind.
    lsn: Lsn,
    entry: Entry,
}

impl Tail {
    /// Keeps an applied entry, unless the journal has it.
    pub fn push(&self, slot: Slot, entry: &Entry, lsn: Lsn, frontier: DurableFrontier) {
        let mut kept = self.kept.write();
        if lsn > frontier.lsn() || !kept.is_empty() {
            kept.push_back(Kept { slot, lsn, entry: entry.clone() });
        }
    }

    /// Lets go of what the journal has.
    pub fn release(&self, frontier: DurableFrontier) {
        if self.kept.read().front().is_some_and(|kept| kept.lsn <= frontier.lsn()) {
            let mut kept = self.kept.write();
            while kept.front().is_some_and(|kept| kept.lsn <= frontier.lsn()) {
                kept.pop_front();
            }
        }
    }

    /// The state stands behind others now, which came from a peer: none of these is the last.
    pub fn clear(&self) {
        self.kept.write().clear();
    }

    /// How many entries there are.
    #[cfg(feature = "sim")]
    pub(super) fn count(&self) -> usize {
        self.kept.read().len()
    }

    /// The slots that readers could not read since the last call.
    #[must_use]
    pub fn take_unreadable(&self) -> SlotSet {
        std::mem::take(&mut *self.unreadable.lock())
    }

    fn miss(&self, slot: Slot) {
        self.unreadable.lock().insert(SlotRange::one(slot));
    }

    fn first(&self) -> Option<Slot> {
        Some(self.kept.read().front()?.slot)
    }

    fn get(&self, slot: Slot) -> Option<Entry> {
        let kept = self.kept.read();
        let first = kept.front()?.slot;
        let index = (first <= slot).then(|| first.count_to(slot) as usize)?;
        Some(kept.get(index)?.entry.clone())
    }
}

/// The entries of applied slots, from the journal and from the tail.
#[derive(Debug)]
pub struct AppliedEntries<D: Disk> {
    reader: Reader<D>,
    tail: Tail,
    next: Slot,
    end: Slot,
    /// Reads on from `next` to where the tail began when it was made.
    journal: Option<crate::journal::Entries<D>>,
}

impl<D: Disk> AppliedEntries<D> {
    /// The entries of `from..end`, all of which must be applied.
    #[must_use]
    pub fn new(reader: Reader<D>, tail: Tail, from: Slot, end: Slot) -> Self {
        Self { reader, tail, next: from, end, journal: None }
    }

    fn read(&mut self, slot: Slot) -> Result<Entry> {
        if let Some(entry) = self.journal.as_mut().and_then(Iterator::next) {
            return Ok(entry?.1);
        }
        // What has left the tail is in the journal; so look there second.
        if let Some(entry) = self.tail.get(slot) {
            return Ok(entry);
        }
        let end = self.tail.first().map_or(self.end, |first| first.min(self.end));
        let mut journal = self.reader.entries(slot, end.max(slot.next()));
        let entry = journal.next().expect("the range holds this slot")?.1;
        self.journal = Some(journal);
        Ok(entry)
    }
}

impl<D: Disk> Iterator for AppliedEntries<D> {
    type Item = Result<(Slot, Entry)>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.next >= self.end {
            return None;
        }
        let slot = self.next;
        self.next = slot.next();
        let result = self.read(slot);
        if result.is_err() {
            self.next = self.end;
            self.tail.miss(slot);
        }
        Some(result.map(|entry| (slot, entry)))
    }
}
