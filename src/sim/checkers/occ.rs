//! Rules of optimistic concurrency, each by itself, from what clients were told alone.
//!
//! They need neither the final ledger nor a search, so that they judge runs of any length, also
//! those that ended badly; and they say which promise was broken, where the oracles only say that
//! some was.
//!
//! Invariants that it checks:
//! * **O1**: of the transactions that replace one version of a key, at most one commits; and who
//!   is refused found something that somebody else put there, or deleted.
//! * **O2**: a version that was seen is the id of a call that put that key, with that value; and
//!   reads and writes of a key that follow each other in time have rising versions.
//! * **O3**: where a state holds one key as a transaction left it, it holds none of its other keys
//!   as they were before it.
//! * **O4**: a refusal does not name a version that was replaced before the call began, nor one
//!   that was asked for after it was over.
//! * **O5**: what was deleted does not come back: no state from the deletion on holds an older
//!   version.

use std::collections::BTreeMap;

use super::history::{
    Call, Conflict, Expectation, History, Key, Operation, Outcome, Transaction, Versioned,
};
use super::{Violation, ensure};

/// Judges a history by each rule.
///
/// # Errors
///
/// Names the call that breaks one.
pub fn check(history: &History) -> Result<(), Violation> {
    history.check_form()?;
    let index = Index::of(history);
    check_winners(history)?;
    // Refusals first: who asked too late is told of by what is refused, not the other way round.
    for operation in &history.operations {
        if let (Call::Transaction(it), Outcome::Conflict(conflict)) =
            (&operation.call, &operation.outcome)
        {
            index.check_refusal(operation, it, conflict)?;
        }
    }
    for operation in &history.operations {
        match &operation.outcome {
            Outcome::Read { at, .. } => index.check_read(operation, *at)?,
            Outcome::Committed { txid: Some(txid), .. } => index.check_write(operation, *txid)?,
            _ => {}
        }
    }
    Ok(())
}

/// O1: a version is replaced once.
fn check_winners(history: &History) -> Result<(), Violation> {
    let mut winners: BTreeMap<(&Key, u64), &Operation> = BTreeMap::new();
    for operation in history.operations.iter().filter(|it| it.txid().is_some()) {
        let Some(transaction) = operation.transaction() else { continue };
        for condition in &transaction.conditions {
            let Expectation::Version(version) = condition.wanted else { continue };
            if !transaction.standing().any(|change| change.key == condition.key) {
                continue;
            }
            let other = winners.insert((&condition.key, version), operation);
            let twice = other.filter(|other| !std::ptr::eq(*other, operation));
            ensure(twice.is_none(), "O1", || {
                let other = twice.map(ToString::to_string).unwrap_or_default();
                format!("{operation} and {other} both replace {version} of {}", condition.key)
            })?;
        }
    }
    Ok(())
}

/// A committed write of a key.
#[derive(Clone, Copy)]
struct Write<'a> {
    txid: u64,
    by: &'a Operation,
    value: Option<&'a [u8]>,
}

/// A call of unknown outcome, with what it puts, or `None` where it deletes.
type Maybe<'a> = (&'a Operation, Option<&'a [u8]>);

/// Who wrote what.
#[derive(Default)]
struct Index<'a> {
    /// The committed writes of each key, by id.
    writes: BTreeMap<&'a Key, Vec<Write<'a>>>,
    /// The writes of each key that may have happened.
    unknown: BTreeMap<&'a Key, Vec<Maybe<'a>>>,
    /// For each key the versions that were certainly there, by time: the highest so far.
    floors: BTreeMap<&'a Key, Vec<(u64, u64)>>,
    committed: BTreeMap<u64, &'a Operation>,
}

impl<'a> Index<'a> {
    fn of(history: &'a History) -> Self {
        let mut index = Self::default();
        for operation in &history.operations {
            let is_unknown = operation.outcome == Outcome::Unknown;
            index.committed.extend(operation.txid().map(|txid| (txid, operation)));
            let standing = operation.transaction().into_iter().flat_map(Transaction::standing);
            for change in standing {
                let value = change.value.as_deref();
                if let Some(txid) = operation.txid() {
                    let write = Write { txid, by: operation, value };
                    index.writes.entry(&change.key).or_default().push(write);
                    index.add_floor(&change.key, operation, Some(txid));
                } else if is_unknown {
                    index.unknown.entry(&change.key).or_default().push((operation, value));
                }
            }
            for (key, value) in operation.reads() {
                index.add_floor(key, operation, value.map(|it| it.version));
            }
            if let Outcome::Conflict(conflict) = &operation.outcome {
                index.add_floor(&conflict.key, operation, conflict.found);
            }
        }
        for writes in index.writes.values_mut() {
            writes.sort_unstable_by_key(|write| write.txid);
        }
        for floors in index.floors.values_mut() {
            floors.sort_unstable();
            let mut highest = 0;
            for (_, version) in floors {
                highest = highest.max(*version);
                *version = highest;
            }
        }
        index
    }

    /// From the end of this call on, no fresh look at the key finds anything older.
    fn add_floor(&mut self, key: &'a Key, operation: &Operation, version: Option<u64>) {
        let floor = operation.over().zip(version);
        self.floors.entry(key).or_default().extend(floor);
    }

    /// The highest version of a key that was certainly there before `time`.
    fn floor(&self, key: &Key, time: u64) -> u64 {
        let floors = self.floors.get(key).map_or(&[][..], Vec::as_slice);
        let before = floors.partition_point(|(over, _)| *over < time);
        floors[..before].last().map_or(0, |(_, version)| *version)
    }

    /// The last committed write of a key that is not above `at`.
    fn last_write(&self, key: &Key, at: u64) -> Option<Write<'a>> {
        let writes = self.writes.get(key)?;
        writes[..writes.partition_point(|write| write.txid <= at)].last().copied()
    }

    /// O2, for a write: its id is above every version that was there before it began.
    fn check_write(&self, operation: &Operation, txid: u64) -> Result<(), Violation> {
        let same = self.committed.get(&txid).is_none_or(|other| std::ptr::eq(*other, operation));
        ensure(same, "O2", || format!("{operation} is not the only one with the id {txid}"))?;
        let standing = operation.transaction().into_iter().flat_map(Transaction::standing);
        for change in standing {
            let floor = self.floor(&change.key, operation.invoked);
            ensure(floor < txid, "O2", || {
                format!("{operation} makes {} {txid}, which was at {floor} before", change.key)
            })?;
        }
        Ok(())
    }

    fn check_read(&self, operation: &Operation, at: u64) -> Result<(), Violation> {
        for (key, value) in operation.reads() {
            self.check_age(operation, key, value, at)?;
            let Some(Versioned { version, value }) = value else { continue };
            ensure(*version <= at, "O2", || {
                format!("{operation} finds {key} at {version}, in the state {at}")
            })?;
            self.check_writer(operation, key, *version, Some(value))?;
            if matches!(operation.call, Call::Read(_)) {
                let floor = self.floor(key, operation.invoked);
                ensure(floor <= *version, "O2", || {
                    format!("{operation} finds {key} at {version}, which was at {floor} before")
                })?;
            }
        }
        Ok(())
    }

    /// O3 and O5: a state holds nothing older than the last write that it contains.
    fn check_age(
        &self,
        operation: &Operation,
        key: &Key,
        value: Option<&Versioned>,
        at: u64,
    ) -> Result<(), Violation> {
        // Who sees one key of a transaction sees all of them, whatever id the state claims.
        let seen = operation.reads().filter_map(|(_, value)| value.map(|it| it.version));
        let newest = seen.max().unwrap_or(0).max(at);
        let Some(last) = self.last_write(key, newest) else { return Ok(()) };
        let older = value.filter(|value| value.version < last.txid);
        let invariant = if last.value.is_some() { "O3" } else { "O5" };
        ensure(older.is_none(), invariant, || {
            let (by, txid) = (last.by, last.txid);
            format!("{operation} finds {key} as {older:?}, where {by} is contained, as {txid}")
        })?;
        let gone = value.is_none() && last.value.is_some() && !self.may_be_deleted(key);
        ensure(!gone, "O3", || {
            format!(
                "{operation} finds no {key}, where {} is contained, and nobody deletes",
                last.by
            )
        })
    }

    fn may_be_deleted(&self, key: &Key) -> bool {
        let unknown = self.unknown.get(key).map_or(&[][..], Vec::as_slice);
        unknown.iter().any(|(_, value)| value.is_none())
    }

    /// O2: the version is the id of a call that put this.
    fn check_writer(
        &self,
        operation: &Operation,
        key: &Key,
        version: u64,
        value: Option<&[u8]>,
    ) -> Result<(), Violation> {
        let written = match self.committed.get(&version) {
            Some(_) => self.last_write(key, version).is_some_and(|write| {
                let wrote = write.value.is_some_and(|wrote| value.is_none_or(|it| it == wrote));
                write.txid == version && wrote && write.by.invoked <= ended(operation)
            }),
            None => {
                let unknown = self.unknown.get(key).map_or(&[][..], Vec::as_slice);
                let wrote = |(by, wrote): &Maybe<'_>| {
                    let wrote = wrote.is_some_and(|wrote| value.is_none_or(|it| it == wrote));
                    wrote && by.invoked <= ended(operation)
                };
                unknown.iter().any(wrote)
            }
        };
        let invariant = if value.is_some() { "O2" } else { "O4" };
        ensure(written, invariant, || {
            format!("{operation} finds {key} at {version}, which nobody wrote so by then")
        })
    }

    fn check_refusal(
        &self,
        operation: &Operation,
        transaction: &Transaction,
        conflict: &Conflict,
    ) -> Result<(), Violation> {
        ensure(conflict.is_of(transaction), "O1", || {
            format!("{operation} is refused for what it does not want: {conflict:?}")
        })?;
        let key = &conflict.key;
        let Some(found) = conflict.found else {
            return self.check_absence(operation, conflict);
        };
        self.check_writer(operation, key, found, None)?;
        let floor = self.floor(key, operation.invoked);
        ensure(floor <= found, "O4", || {
            format!("{operation} is refused by {key} at {found}, which was at {floor} before")
        })
    }

    /// O1: where a version was, and is not found, somebody deleted it.
    fn check_absence(&self, operation: &Operation, conflict: &Conflict) -> Result<(), Violation> {
        let Expectation::Version(version) = conflict.wanted else { return Ok(()) };
        let key = &conflict.key;
        let Some(writes) = self.writes.get(key) else { return Ok(()) };
        let put = writes.iter().find(|write| write.txid == version);
        let was_there = put.is_some_and(|put| {
            put.value.is_some() && put.by.over().is_some_and(|over| over < operation.invoked)
        });
        let deleted = self.may_be_deleted(key)
            || writes.iter().any(|write| write.txid > version && write.value.is_none());
        ensure(!was_there || deleted, "O1", || {
            format!("{operation} finds no {key}, which was {version}, and nobody deletes it")
        })
    }
}

/// Until when the call can have seen anything.
fn ended(operation: &Operation) -> u64 {
    operation.over().unwrap_or(u64::MAX)
}
