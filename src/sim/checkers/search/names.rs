//! Who bears which version: ids, taken as names of writes.

use std::collections::{BTreeMap, BTreeSet};

use super::super::history::{Call, Condition, Expectation, History, Key, Operation, Outcome};
use super::super::{Violation, ensure};

/// The names of the transactions of a history.
#[derive(Debug, Default)]
pub struct Names {
    /// The name of each call, where it is known.
    names: Vec<Option<u64>>,
    /// The names whose bearer is known.
    given: BTreeSet<u64>,
    /// The calls of unknown outcome that bear a name that was seen, or may bear one.
    seen: BTreeSet<usize>,
}

impl Names {
    /// Finds out who bears the names that were seen.
    ///
    /// # Errors
    ///
    /// Where two transactions have one name, one has two, or a name was seen that nobody can have.
    pub fn of(history: &History) -> Result<Self, Violation> {
        let operations = &history.operations;
        let mut bearers: BTreeMap<u64, usize> = BTreeMap::new();
        for (index, operation) in operations.iter().enumerate() {
            let Some(name) = operation.txid() else { continue };
            let other = bearers.insert(name, index);
            ensure(other.is_none(), "L2", || format!("{operation} is {name}, as another one is"))?;
        }
        let mut names = Self {
            names: operations.iter().map(Operation::txid).collect(),
            given: bearers.keys().copied().collect(),
            seen: BTreeSet::new(),
        };
        let candidates = candidates(operations, &bearers);
        for (name, candidates) in candidates {
            names.seen.extend(&candidates);
            let mut few = candidates.iter();
            match (few.next(), few.next()) {
                (Some(index), None) => names.give(&operations[*index], *index, name)?,
                (Some(_), Some(_)) => {}
                (None, _) => {
                    let event = format!("version {name} was seen, which nobody can have written");
                    return Err(Violation { invariant: "L2", event });
                }
            }
        }
        Ok(names)
    }

    /// The name of a call, where it is known.
    pub fn name(&self, index: usize) -> Option<u64> {
        self.names[index]
    }

    /// Whether the call bears this name, or may bear it.
    pub fn may_be(&self, index: usize, name: u64) -> bool {
        match self.names[index] {
            Some(own) => own == name,
            None => !self.given.contains(&name),
        }
    }

    /// Whether somebody may have seen a version that this call of unknown outcome wrote.
    pub fn is_seen(&self, index: usize) -> bool {
        self.seen.contains(&index)
    }

    fn give(&mut self, bearer: &Operation, index: usize, name: u64) -> Result<(), Violation> {
        let other = self.names[index].replace(name);
        ensure(other.is_none(), "L2", || format!("{bearer} was seen as {name} and as {other:?}"))?;
        self.given.insert(name);
        Ok(())
    }
}

/// For each name that was seen, and that no answer gives, the calls that may bear it.
fn candidates(
    operations: &[Operation],
    bearers: &BTreeMap<u64, usize>,
) -> BTreeMap<u64, BTreeSet<usize>> {
    let mut writers: BTreeMap<&Key, Vec<(usize, &[u8])>> = BTreeMap::new();
    for (index, operation) in operations.iter().enumerate() {
        let unknown = operation.outcome == Outcome::Unknown;
        let changes = operation.transaction().filter(|_| unknown).into_iter();
        for change in changes.flat_map(|transaction| transaction.standing()) {
            let writer = change.value.as_deref().map(|value| (index, value));
            writers.entry(&change.key).or_default().extend(writer);
        }
    }
    let mut candidates: BTreeMap<u64, BTreeSet<usize>> = BTreeMap::new();
    for (key, name, value) in operations.iter().flat_map(sightings) {
        if bearers.contains_key(&name) {
            continue;
        }
        let writers = writers.get(key).map_or(&[][..], Vec::as_slice).iter();
        let wrote = writers.filter(|(_, wrote)| value.is_none_or(|value| value == *wrote));
        let wrote: BTreeSet<usize> = wrote.map(|(index, _)| *index).collect();
        let known = candidates.entry(name).or_insert_with(|| wrote.clone());
        known.retain(|index| wrote.contains(index));
    }
    candidates
}

/// The versions that a call saw, with the value where that was told, too.
fn sightings(operation: &Operation) -> Vec<(&Key, u64, Option<&[u8]>)> {
    match (&operation.call, &operation.outcome) {
        (Call::Read(_), Outcome::Read { .. }) => {
            let reads = operation.reads();
            reads.filter_map(|(key, it)| it.map(|it| (key, it.version, Some(&*it.value)))).collect()
        }
        (Call::Transaction(transaction), Outcome::Conflict(conflict)) => {
            // Those before the one that did not hold did.
            let held = required(&transaction.conditions[..conflict.condition]);
            held.chain(conflict.found.map(|found| (&conflict.key, found, None))).collect()
        }
        (Call::Transaction(transaction), Outcome::Committed { .. }) => {
            required(&transaction.conditions).collect()
        }
        _ => Vec::new(),
    }
}

/// The versions that conditions saw which held.
fn required(conditions: &[Condition]) -> impl Iterator<Item = (&Key, u64, Option<&[u8]>)> {
    conditions.iter().filter_map(|condition| match condition.wanted {
        Expectation::Version(version) => Some((&condition.key, version, None)),
        Expectation::Absent | Expectation::Present => None,
    })
}
