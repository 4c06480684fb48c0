//! What one transaction means: judge it, then write all of it or nothing.
//!
//! In this order:
//! 1. *Tables*: each table that the command names must have the types it was registered with. One
//!    that is not registered must be named with the same types throughout the command.
//! 2. *Conditions*, in order; the first that does not hold is the verdict. They are judged on the
//!    state behind the command before, so two conditional writes in one entry see each other.
//! 3. *Net change*: of two operations on one key the later stands. A put always changes; a deletion
//!    changes only where there is a value. Without a change there is no id.
//! 4. *Writes*, all under the next id. The first put into a table registers it.
//!
//! Everything here is a function of the state and the command, and total: it has no error, and no
//! arithmetic that can overflow.

use std::collections::BTreeMap;

use super::digest::Digest;
use super::tables::{TableId, Tables};
use super::verdict::{TableMismatch, Verdict};
use super::versions::Written;
use crate::types::bugs::{self, Bug};
use crate::types::command::{Command, Condition, Key, Operation, TableUse};
use crate::types::error::{Conflict, Expectation};
use crate::types::ids::TxId;

/// Applies `command` to the state, of which `last` is the newest id.
///
/// # Panics
///
/// Where the epoch has no id left: that was ruled out before the entry was begun.
pub fn apply_command(
    command: &Command<'_>,
    last: TxId,
    tables: &mut Tables,
    digest: &mut Digest,
    places: &mut Places,
) -> Verdict {
    if let Err(mismatch) = places.find(command, tables) {
        return Verdict::TableMismatch(Box::new(mismatch));
    }
    let places = &places.0[..];
    let view = View { command, places, tables };
    if let Some((index, found)) = view.first_unmet() {
        return Verdict::Refused(Box::new(conflict(command, index, found)));
    }
    let operations = command.standing_operations();
    let changes = operations.iter().any(|operation| view.changes(operation));
    if !changes && !bugs::is_on(Bug::IdForNothing) {
        return Verdict::Committed { at: last, txid: None };
    }
    let txid = last.next().expect("an entry is begun only if the epoch has ids for all of it");
    let count = if bugs::is_on(Bug::ApplyFirstOnly) { 1 } else { usize::MAX };
    for operation in operations.into_iter().take(count) {
        write(txid, operation, command, places, tables, digest);
    }
    Verdict::Committed { at: txid, txid: Some(txid) }
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
    fn find(&mut self, command: &Command<'_>, tables: &Tables) -> Result<(), TableMismatch> {
        let mut new: BTreeMap<&str, (usize, &TableUse<'_>)> = BTreeMap::new();
        self.0.clear();
        for (index, used) in command.tables.iter().enumerate() {
            if let Some(id) = tables.find(used.name) {
                tables[id].check(used)?;
                self.0.push(Place::Registered(id));
                continue;
            }
            let (first, named) = *new.entry(used.name).or_insert((index, used));
            if named != used {
                let types = (named.key_kind.0, named.codec);
                return Err(TableMismatch::new(types, used));
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

fn conflict(command: &Command<'_>, index: usize, found: Option<TxId>) -> Conflict {
    let condition = &command.conditions[index];
    let key = condition.key();
    Conflict {
        condition: index,
        table: command.tables[key.table as usize].name.into(),
        key: key.bytes.to_vec(),
        wanted: match condition {
            Condition::Absent(_) => Expectation::Absent,
            Condition::Present(_) => Expectation::Present,
            Condition::Version(_, version) => Expectation::Version(*version),
        },
        found,
    }
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
