//! What one transaction means: judge it, then write all of it or nothing.
//!
//! In this order:
//! 1. *Sessions*: a command that was here before has no effect, and is told what it was told then
//!    (`sessions.rs`).
//! 2. *Tables*: each table that the command names must have the types it was registered with. One
//!    that is not registered must be named with the same types throughout the command.
//! 3. *Conditions*, in order; the first that does not hold is the verdict. They are judged on the
//!    state behind the command before, so two conditional writes in one entry see each other.
//! 4. *Net change*: of two operations on one key the later stands. A put always changes; a deletion
//!    changes only where there is a value. Without a change there is no id.
//! 5. *Writes*, all under the next id. The first put into a table registers it.
//!
//! Everything here is a function of the state and the command, and total: it has no error, and no
//! arithmetic that can overflow.

use std::collections::BTreeMap;

use super::digest::Digest;
use super::sessions::{Arrival, Outcome};
use super::tables::{TableId, Tables};
use super::verdict::{Resolved, TableMismatch, Verdict};
use super::versions::Written;
use super::{Ended, State};
use crate::types::bugs::{self, Bug};
use crate::types::command::{Command, Condition, Key, Operation, TableUse};
use crate::types::conflict::{Conflict, Expectation};
use crate::types::ids::TxId;

/// Applies `command` to the state.
///
/// # Panics
///
/// Where the epoch has no id left: that was ruled out before the entry was begun.
pub(super) fn apply_command(command: &Command<'_>, state: &mut State) -> Ended {
    let State { txid: last, tables, digest, places, sessions, .. } = state;
    let request = command.request;
    if let Some(resolved) = command.resolves {
        let outcome = sessions.resolve(resolved);
        let verdict = Verdict::Resolved(Box::new(Resolved { request: resolved, outcome }));
        return Ended { request, verdict, took_id: false };
    }
    match sessions.arrive(request, command.settled_below) {
        Arrival::New => {}
        Arrival::Known(outcome) => {
            let verdict = tell(command, outcome, tables);
            return Ended { request, verdict, took_id: false };
        }
        Arrival::Forgotten => {
            return Ended { request, verdict: Verdict::Forgotten, took_id: false };
        }
    }
    let outcome = happen(command, last, tables, digest, places);
    sessions.record(request, outcome);
    let verdict = tell(command, outcome, tables);
    Ended { request, took_id: verdict.txid().is_some(), verdict }
}

/// What becomes of a command that was never here; `last` is the newest id.
fn happen(
    command: &Command<'_>,
    last: &mut TxId,
    tables: &mut Tables,
    digest: &mut Digest,
    places: &mut Places,
) -> Outcome {
    if let Err(mismatch) = places.find(command, tables) {
        return mismatch;
    }
    let places = &places.0[..];
    let view = View { command, places, tables };
    if let Some((condition, found)) = view.first_unmet() {
        return Outcome::Refused { condition: number(condition), found };
    }
    let operations = command.standing_operations();
    let changes = operations.iter().any(|operation| view.changes(operation));
    if !changes && !bugs::is_on(Bug::IdForNothing) {
        return Outcome::Committed { at: *last, took_id: false };
    }
    let txid = last.next().expect("an entry is begun only if the epoch has ids for all of it");
    let count = if bugs::is_on(Bug::ApplyFirstOnly) { 1 } else { usize::MAX };
    for operation in operations.into_iter().take(count) {
        write(txid, operation, command, places, tables, digest);
    }
    *last = txid;
    Outcome::Committed { at: txid, took_id: true }
}

/// The verdict that an outcome stands for. It is the same however often it is told: what a command
/// says does not change, nor do the types of a table.
fn tell(command: &Command<'_>, outcome: Outcome, tables: &Tables) -> Verdict {
    let told = match outcome {
        Outcome::Committed { at, took_id } => {
            Some(Verdict::Committed { at, txid: took_id.then_some(at) })
        }
        Outcome::Refused { condition, found } => conflict(command, condition, found),
        Outcome::TableMismatch { table, named } => mismatch(command, table, named, tables),
        Outcome::Burned => Some(Verdict::Burned),
    };
    // Not what arrived first under this request: what that was cannot be told.
    told.unwrap_or(Verdict::Forgotten)
}

fn number(place: usize) -> u32 {
    u32::try_from(place).expect("a command is shorter than that")
}

/// Where a table that a command names is to be found.
#[derive(Clone, Copy, Debug)]
enum Place {
    Registered(TableId),
    /// Not registered; first named at this place of the command's tables.
    New(usize),
}

/// The places of a command's tables, in their order. Kept from one command to the next for its
/// capacity.
#[derive(Debug, Default)]
pub struct Places(Vec<Place>);

impl Places {
    /// Finds the tables of the command; fails at the first that has other types.
    fn find(&mut self, command: &Command<'_>, tables: &Tables) -> Result<(), Outcome> {
        let mut new: BTreeMap<&str, (usize, &TableUse<'_>)> = BTreeMap::new();
        self.0.clear();
        for (index, used) in command.tables.iter().enumerate() {
            if let Some(id) = tables.find(used.name) {
                let mismatch = |_| Outcome::TableMismatch { table: number(index), named: None };
                tables[id].check(used).map_err(mismatch)?;
                self.0.push(Place::Registered(id));
                continue;
            }
            let (first, named) = *new.entry(used.name).or_insert((index, used));
            if named != used {
                let named = Some(number(first));
                return Err(Outcome::TableMismatch { table: number(index), named });
            }
            self.0.push(Place::New(first));
        }
        Ok(())
    }
}

/// A command against the state before it.
#[derive(Clone, Copy)]
struct View<'a> {
    command: &'a Command<'a>,
    places: &'a [Place],
    tables: &'a Tables,
}

impl View<'_> {
    /// The first condition that does not hold, with the version that was found at its key.
    fn first_unmet(self) -> Option<(usize, Option<TxId>)> {
        let found = self.command.conditions.iter().map(|condition| self.version(condition.key()));
        let mut judged = self.command.conditions.iter().zip(found).enumerate();
        judged.find_map(|(index, (condition, found))| {
            (!holds(condition, found)).then_some((index, found))
        })
    }

    fn changes(self, operation: &Operation<'_>) -> bool {
        match operation {
            Operation::Put(..) => true,
            Operation::Delete(key) => self.version(*key).is_some(),
        }
    }

    fn version(self, key: Key<'_>) -> Option<TxId> {
        match self.places[key.table as usize] {
            Place::Registered(id) => {
                self.tables[id].versions.newest(key.bytes).map(|newest| newest.txid)
            }
            Place::New(_) => None,
        }
    }
}

/// Whether a condition holds on a key with this version, or without a value.
fn holds(condition: &Condition<'_>, found: Option<TxId>) -> bool {
    match condition {
        Condition::Absent(_) => found.is_none(),
        Condition::Present(_) => found.is_some(),
        Condition::Version(_, wanted) if bugs::is_on(Bug::CompareAtLeast) => found >= Some(*wanted),
        Condition::Version(_, wanted) => found == Some(*wanted),
    }
}

fn conflict(command: &Command<'_>, place: u32, found: Option<TxId>) -> Option<Verdict> {
    let condition = command.conditions.get(place as usize)?;
    let key = condition.key();
    Some(Verdict::Refused(Box::new(Conflict {
        condition: place as usize,
        table: command.tables[key.table as usize].name.into(),
        key: key.bytes.to_vec(),
        wanted: match condition {
            Condition::Absent(_) => Expectation::Absent,
            Condition::Present(_) => Expectation::Present,
            Condition::Version(_, version) => Expectation::Version(*version),
        },
        found,
    })))
}

fn mismatch(
    command: &Command<'_>,
    table: u32,
    named: Option<u32>,
    tables: &Tables,
) -> Option<Verdict> {
    let used = command.tables.get(table as usize)?;
    let mismatch = match named {
        Some(first) => {
            let named = command.tables.get(first as usize)?;
            TableMismatch::new((named.key_kind.0, named.codec), used)
        }
        None => tables[tables.find(used.name)?].check(used).err()?,
    };
    Some(Verdict::TableMismatch(Box::new(mismatch)))
}

fn write(
    txid: TxId,
    operation: &Operation<'_>,
    command: &Command<'_>,
    places: &[Place],
    tables: &mut Tables,
    digest: &mut Digest,
) {
    let key = operation.key();
    let id = match (places[key.table as usize], operation) {
        (Place::Registered(id), _) => id,
        (Place::New(first), Operation::Put(..)) => {
            let used = &command.tables[first];
            tables.find(used.name).unwrap_or_else(|| {
                let id = tables.register(used, txid);
                digest.add_table(tables[id].hash, txid);
                id
            })
        }
        // There is nothing to delete in a table that is not there.
        (Place::New(_), Operation::Delete(_)) => return,
    };
    let table = &mut tables[id];
    let value = match operation {
        Operation::Put(_, value) => Some(*value),
        Operation::Delete(_) if table.versions.newest(key.bytes).is_some() => None,
        Operation::Delete(_) => return,
    };
    let Written { before, now } = table.versions.write(txid, key.bytes, value);
    if let Some(before) = before {
        digest.remove(table.hash, key.bytes, before);
    }
    digest.add(table.hash, key.bytes, now);
}
