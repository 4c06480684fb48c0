//! What happened: the ledger itself, read back from the journal.

use std::collections::VecDeque;
use std::fmt;

use crate::record::{Record, records_of};
use crate::runtime::handle::{EntryIterator, Handle};
use crate::store::epochs::NoSlots;
use crate::types::error::{Error, ErrorKind, Result};
use crate::types::ids::{Slot, SlotRange, TxId};

/// Whole committed transactions of the ledger, in order of their ids.
///
/// Made by [`Replica::transactions`](crate::Replica::transactions). It ends with the last
/// transaction that was applied here when it was made. Each step may read from the disk; where an
/// entry is damaged there, or was trimmed meanwhile, the step fails and it ends. A replica of
/// several then fetches the entry from its peers, so that a later reading finds it.
///
/// ```
/// use indelible::{RawTable, Replica, TxId};
///
/// # fn main() -> indelible::Result<()> {
/// const NOTES: RawTable<u64> = RawTable::new("notes");
/// let replica = Replica::in_memory()?;
/// let first = replica.put(NOTES, 1, b"one").wait()?;
/// let second = replica.put(NOTES, 2, b"two").wait()?;
/// let later = replica.transactions(first.at).map(|record| record.map(|it| it.txid()));
/// assert_eq!(later.collect::<indelible::Result<Vec<TxId>>>()?, [second.at]);
/// # replica.close()
/// # }
/// ```
pub struct Transactions {
    handle: Handle,
    after: TxId,
    entries: EntryIterator,
    /// The records of the entry that was read last.
    records: VecDeque<Record>,
    /// What is asked for is older than what there is, or was given up.
    trimmed: Option<Error>,
}

impl Transactions {
    /// Everything after `after` that is applied now.
    pub(crate) fn new(handle: Handle, after: TxId) -> Self {
        let (slots, trimmed) = match handle.store().get().slots_after(after) {
            Ok(slots) => (slots, None),
            Err(NoSlots::GivenUp) => (SlotRange::default(), Some(Error::lost(after))),
            Err(NoSlots::Trimmed { floor }) => {
                let message = format!(
                    "the transactions up to {floor} were trimmed, wanted those after {after}"
                );
                (SlotRange::default(), Some(Error::new(ErrorKind::Trimmed, message)))
            }
        };
        let entries = handle.entries(slots.first, slots.end);
        Self { handle, after, entries, records: VecDeque::new(), trimmed }
    }

    fn read_entry(&mut self) -> Option<Result<()>> {
        let (slot, entry) = match self.entries.next()? {
            Ok(read) => read,
            Err(err) => return Some(Err(err)),
        };
        let store = self.handle.store().get();
        let Some(outcome) = store.outcome(slot) else {
            let is_trimmed = slot < store.ledger_first();
            return Some(Err(if is_trimmed { trimmed(slot) } else { unapplied(slot) }));
        };
        match records_of(&entry, &outcome) {
            Ok(records) => {
                let later = |record: &Record| record.txid() > self.after;
                self.records = records.into_iter().filter(later).collect();
                Some(Ok(()))
            }
            Err(err) => {
                let message = format!("slot {slot} of the ledger");
                Some(Err(Error::caused(ErrorKind::Corrupt, message, err)))
            }
        }
    }
}

impl Iterator for Transactions {
    type Item = Result<Record>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(err) = self.trimmed.take() {
            return Some(Err(err));
        }
        loop {
            if let Some(record) = self.records.pop_front() {
                return Some(Ok(record));
            }
            if let Err(err) = self.read_entry()? {
                // What comes behind would have a hole before it.
                self.entries = Box::new(std::iter::empty());
                return Some(Err(err));
            }
        }
    }
}

impl fmt::Debug for Transactions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transactions").field("after", &self.after).finish_non_exhaustive()
    }
}

fn trimmed(slot: Slot) -> Error {
    Error::new(ErrorKind::Trimmed, format!("slot {slot} of the ledger was trimmed meanwhile"))
}

fn unapplied(slot: Slot) -> Error {
    Error::new(ErrorKind::Corrupt, format!("slot {slot} of the ledger is read but not applied"))
}
