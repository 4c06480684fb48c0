//! What the replicas apply, slot after slot: everywhere the same, each transaction once.
//!
//! The first replica that applies a slot says how it ended; all others must say the same, also when
//! they apply it again after they were opened anew.
//!
//! Invariants that it checks:
//! * **A1**: within an opening slots follow each other; ids are dense, rise, and are equal on all
//!   replicas, for the same transactions.
//! * **A2**: the digest of the state behind a slot is equal on all replicas.
//! * **A3**: no transaction takes two ids.

use std::collections::{BTreeMap, BTreeSet};

use super::{Checker, Violation, ensure};

/// What a replica did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// It was opened, with everything below `slot` applied: nothing, or what a checkpoint holds.
    Opened {
        /// Which replica.
        replica: u64,
        /// The slot that it applies next.
        slot: u64,
    },
    /// It applied a slot.
    Applied(Applied),
}

/// How a slot ended on a replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// Which replica.
    pub replica: u64,
    /// Which slot.
    pub slot: u64,
    /// The newest id before the slot.
    pub after: u64,
    /// The transactions that took an id, in order.
    pub taken: Vec<Taken>,
    /// The digest of the state behind the slot.
    pub digest: u128,
}

/// An id, and who took it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// The id.
    pub txid: u64,
    /// Who proposed the transaction.
    pub session: u128,
    /// The how-manieth of that session it was.
    pub sequence: u64,
}

/// The checker.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    /// How each slot ended, as the first replica said that applied it.
    slots: BTreeMap<u64, Applied>,
    /// For each replica the slot that it applies next.
    next: BTreeMap<u64, u64>,
    /// The transactions that took an id.
    requests: BTreeSet<(u128, u64)>,
}

impl Ledger {
    /// The transactions that took an id so far, in order.
    pub fn taken(&self) -> impl Iterator<Item = &Taken> {
        self.slots.values().flat_map(|applied| &applied.taken)
    }

    fn on_applied(&mut self, applied: &Applied) -> Result<(), Violation> {
        let Applied { replica, slot, .. } = *applied;
        let next = self.next.entry(replica).or_default();
        ensure(slot == *next, "A1", || format!("replica {replica} applies {slot}, not {next}"))?;
        *next += 1;
        let Some(first) = self.slots.get(&slot) else { return self.on_first(applied) };
        let equal = (first.after, &first.taken) == (applied.after, &applied.taken);
        ensure(equal, "A1", || {
            let other = first.replica;
            format!("slot {slot}: replica {replica} has {applied:?}, replica {other} {first:?}")
        })?;
        ensure(first.digest == applied.digest, "A2", || {
            let (other, ours, theirs) = (first.replica, applied.digest, first.digest);
            format!("slot {slot}: replica {replica} has {ours:032x}, replica {other} {theirs:032x}")
        })
    }

    /// Nobody has applied this slot before.
    fn on_first(&mut self, applied: &Applied) -> Result<(), Violation> {
        let Applied { replica, slot, after, .. } = *applied;
        let before = match slot.checked_sub(1) {
            Some(before) => self.slots.get(&before),
            None => None,
        };
        // Behind a checkpoint of which nobody applied the slots, the ids may begin anywhere.
        let last = before.map_or(if slot == 0 { 0 } else { after }, Applied::last);
        ensure(after == last, "A1", || {
            format!("slot {slot} begins behind {after} on replica {replica}, not behind {last}")
        })?;
        for (taken, due) in applied.taken.iter().zip(after + 1..) {
            let Taken { txid, session, sequence } = *taken;
            ensure(txid == due, "A1", || {
                format!("slot {slot} gives the id {txid} on replica {replica}, where {due} is next")
            })?;
            ensure(self.requests.insert((session, sequence)), "A3", || {
                format!("slot {slot} gives {session:x}/{sequence} the id {txid}; it has one")
            })?;
        }
        let same = applied.taken.is_empty();
        let stays = before.is_none_or(|before| !same || before.digest == applied.digest);
        ensure(stays, "A2", || format!("slot {slot} takes no id, and changes the state"))?;
        self.slots.insert(slot, applied.clone());
        Ok(())
    }
}

impl Applied {
    /// The newest id behind the slot.
    fn last(&self) -> u64 {
        self.taken.last().map_or(self.after, |taken| taken.txid)
    }
}

impl Checker<Event> for Ledger {
    fn name(&self) -> &'static str {
        "ledger"
    }

    fn observe(&mut self, event: &Event) -> Result<(), Violation> {
        match event {
            Event::Opened { replica, slot } => {
                self.next.insert(*replica, *slot);
                Ok(())
            }
            Event::Applied(applied) => self.on_applied(applied),
        }
    }

    fn finish(&mut self) -> Result<(), Violation> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Slot `slot` with the ids behind `after`, as `replica` applies it.
    fn applied(replica: u64, slot: u64, after: u64, count: u64) -> Applied {
        let taken = |txid| Taken { txid, session: 7, sequence: txid };
        let taken = (after + 1..=after + count).map(taken).collect();
        Applied { replica, slot, after, taken, digest: u128::from(after + count) }
    }

    /// Two replicas apply four slots, one of them twice; `edit` spoils one of the events.
    fn told(at: usize, edit: impl FnOnce(&mut Applied)) -> Option<&'static str> {
        let slots = [(0, 0, 0), (1, 0, 3), (2, 3, 0), (3, 3, 2)];
        let run = |replica| slots.map(|(slot, after, count)| applied(replica, slot, after, count));
        let mut events: Vec<_> = run(1).into_iter().chain(run(2)).chain(run(1)).collect();
        edit(&mut events[at]);
        let mut ledger = Ledger::default();
        let mut observe = |index: usize, applied: Applied| {
            if index == 8 {
                ledger.observe(&Event::Opened { replica: 1, slot: 0 })?;
            }
            ledger.observe(&Event::Applied(applied))
        };
        let told = events.into_iter().enumerate().find_map(|(at, it)| observe(at, it).err());
        told.or(ledger.finish().err()).map(|told| told.invariant)
    }

    #[test]
    fn equal_replicas_pass() {
        assert_eq!(told(0, |_| ()), None);
        let mut ledger = Ledger::default();
        for event in [applied(1, 0, 0, 2), applied(1, 1, 2, 1)] {
            ledger.observe(&Event::Applied(event)).unwrap();
        }
        assert!(ledger.taken().map(|taken| taken.txid).eq([1, 2, 3]));
    }

    #[test]
    fn ids_are_dense_and_rise() {
        assert_eq!(told(1, |it| it.taken[2].txid = 4), Some("A1"), "a gap");
        assert_eq!(told(1, |it| it.taken[1].txid = 1), Some("A1"), "one twice");
        assert_eq!(told(3, |it| it.after = 2), Some("A1"), "back");
        assert_eq!(told(3, |it| it.after = 4), Some("A1"), "a gap between two slots");
        assert_eq!(told(0, |it| it.after = 1), Some("A1"), "not from the first on");
    }

    #[test]
    fn slots_follow_each_other() {
        assert_eq!(told(1, |it| it.slot = 2), Some("A1"));
        assert_eq!(told(9, |it| it.slot = 0), Some("A1"));
    }

    #[test]
    fn replicas_are_equal() {
        assert_eq!(told(5, |it| it.taken.truncate(2)), Some("A1"), "another number of ids");
        assert_eq!(told(5, |it| it.taken[0].sequence = 9), Some("A1"), "another order");
        assert_eq!(told(9, |it| it.taken[0].sequence = 9), Some("A1"), "another time");
        assert_eq!(told(7, |it| it.digest += 1), Some("A2"));
        assert_eq!(told(11, |it| it.digest += 1), Some("A2"), "after an opening");
        assert_eq!(told(2, |it| it.digest += 1), Some("A2"), "without a transaction");
    }

    #[test]
    fn a_transaction_happens_once() {
        assert_eq!(told(3, |it| it.taken[1].sequence = 2), Some("A3"));
        assert_eq!(told(1, |it| it.taken[1].sequence = 1), Some("A3"));
    }
}
