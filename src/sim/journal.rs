//! A journal in memory: what was not synced is lost in a crash.
//!
//! Records become durable in the order in which they were appended, as in the real journal. With
//! each group it remembers, lazily, how far the log was known to be chosen; a crash may lose the
//! newest of these marks, and then the replica comes back knowing less than it once said.

use crate::types::entry::Entry;
use crate::types::ids::{Ballot, Chain, Lsn, Slot};
use crate::types::record::{DurableFrontier, Record, Recovered};

use std::collections::BTreeMap;

/// The records of one replica.
#[derive(Debug, Default)]
pub struct MemoryJournal {
    records: Vec<Record>,
    /// After how many records which `slot_chosen` was remembered.
    marks: Vec<(usize, Slot)>,
    synced: usize,
}

impl MemoryJournal {
    /// Appends a group; with `slot_chosen`, remembers that.
    pub fn append(&mut self, records: Vec<Record>, slot_chosen: Option<Slot>) {
        if records.is_empty() {
            return;
        }
        self.records.extend(records);
        if let Some(slot) = slot_chosen {
            self.marks.push((self.records.len(), slot));
        }
    }

    /// The position of the newest record.
    #[must_use]
    pub fn end(&self) -> Lsn {
        Lsn(self.records.len() as u64)
    }

    /// What is durable.
    #[must_use]
    pub fn frontier(&self) -> DurableFrontier {
        DurableFrontier::mint(Lsn(self.synced as u64))
    }

    /// Makes the oldest `count` of the volatile records durable, and returns them.
    pub fn sync(&mut self, count: usize) -> &[Record] {
        let before = self.synced;
        self.synced = self.records.len().min(before.saturating_add(count));
        &self.records[before..self.synced]
    }

    /// How many records are volatile.
    #[must_use]
    pub fn volatile(&self) -> usize {
        self.records.len() - self.synced
    }

    /// Loses what is volatile.
    pub fn crash(&mut self) {
        self.records.truncate(self.synced);
        self.marks.retain(|(at, _)| *at <= self.synced);
    }

    /// What a core is told at its start, and the entries of all slots known to be chosen. `first`
    /// is the membership, which slot 0 holds.
    ///
    /// # Panics
    ///
    /// Where a slot that was remembered as chosen has no entry: then the core let a mark go out
    /// before the entry was appended.
    #[must_use]
    pub fn recover(&self, first: Entry) -> (Recovered, Vec<Entry>) {
        let mut promised = Ballot::ZERO;
        let mut votes = BTreeMap::<Slot, (Ballot, Entry)>::new();
        let mut told = BTreeMap::<Slot, Entry>::new();
        told.insert(Slot::ZERO, first);
        for record in &self.records {
            match record {
                Record::Promise { ballot } => promised = promised.max(*ballot),
                Record::Vote { slot, ballot, entry } => {
                    promised = promised.max(*ballot);
                    votes.insert(*slot, (*ballot, entry.clone()));
                }
                Record::Chosen { slot, entry } => drop(told.insert(*slot, entry.clone())),
                Record::Verdicts(_) | Record::Doubts(_) => {}
            }
        }
        let marked = self.marks.iter().map(|(_, slot)| *slot).max().unwrap_or(Slot::ZERO);
        let mut chosen = Vec::new();
        let mut chain = Chain::EMPTY;
        let mut slot = Slot::ZERO;
        loop {
            // What a peer told outlives a vote for something else; otherwise the vote is it.
            let own = votes.get(&slot).map(|(_, entry)| entry).filter(|_| slot < marked);
            let Some(entry) = told.get(&slot).or(own) else { break };
            chain = chain.extend(entry.hash());
            chosen.push(entry.clone());
            slot = slot.next();
        }
        assert!(slot >= marked, "slot {slot} was remembered as chosen, and has no entry");
        let votes = votes.split_off(&slot).into_iter();
        let votes = votes.map(|(slot, (ballot, entry))| (slot, ballot, entry)).collect();
        (Recovered { promised, slot_chosen: slot, chain, votes, ..Recovered::default() }, chosen)
    }
}
