//! The replay oracle: ids say in which order everything happened; replayed so, every answer must
//! come out again, and the order must agree with real time.
//!
//! It needs the final ledger, read from a replica when all was over, since only that tells which
//! calls of unknown outcome happened. Without it nothing is proved, and the check says so.
//!
//! ```text
//!   place   0     1     2     3     4     5     6
//!          empty      write 1     write 2     write 3
//!                ▲           ▲           ▲
//!            reads at 0  reads at 1  reads at 2     and calls that changed nothing
//! ```
//!
//! Every call gets a place, and no call may have a lower place than one that was over before it
//! began. A refusal does not tell its place: it gets the lowest at which it is true. That is no
//! guess: a lower place forbids less to those who come later, so if any choice of places agrees
//! with real time, this one does.
//!
//! A stale read may have any place, but what it saw has happened: whoever comes later must not be
//! below. Only for its own client the places of stale reads do not go back (R1, R2).
//!
//! O(n log n), apart from refusals, which look at each change of their keys while they were under
//! way.

use std::collections::BTreeMap;

use super::history::{Call, Conflict, History, Operation, Outcome, Record, Transaction};
use super::model::Model;
use super::{Conclusion, Violation, ensure};

/// Judges a history by the ledger that it ended with.
///
/// # Errors
///
/// Names the call that cannot have been answered so.
pub fn check(history: &History, ledger: Option<&[Record]>) -> Result<Conclusion, Violation> {
    history.check_form()?;
    let Some(ledger) = ledger else {
        return Ok(Conclusion::Inconclusive("the final ledger was not read"));
    };
    let applied = match_records(history, ledger)?;
    let model = replay(ledger)?;
    let replay = Replay { operations: &history.operations, last: ledger.len() as u64, model };
    for operation in &history.operations {
        replay.check_answer(operation)?;
    }
    RealTime::new(&replay, &applied).sweep()?;
    Ok(Conclusion::Passed)
}

/// The id under which each call was applied, if it was.
fn match_records(history: &History, ledger: &[Record]) -> Result<Vec<Option<u64>>, Violation> {
    let operations = &history.operations;
    let numbered = operations.iter().enumerate();
    let mut by_number: Vec<_> =
        numbered.map(|(index, it)| ((it.client, it.number), index)).collect();
    by_number.sort_unstable();
    let mut applied = vec![None; operations.len()];
    for (record, txid) in ledger.iter().zip(1..) {
        ensure(record.txid == txid, "A1", || {
            format!("transaction {} of the ledger has the id {}", txid, record.txid)
        })?;
        let (client, number) = (record.client, record.number);
        let place = by_number.binary_search_by_key(&(client, number), |(known, _)| *known);
        let index = place.ok().map(|place| by_number[place].1);
        let asked = index.and_then(|index| Some((index, operations[index].transaction()?)));
        let Some((index, transaction)) = asked else {
            let event = format!("{txid} is call {number} of client {client}, which nobody made");
            return Err(Violation { invariant: "L1", event });
        };
        let operation = &operations[index];
        ensure(applied[index].is_none(), "A3", || format!("{operation} is applied twice: {txid}"))?;
        ensure(*transaction == record.transaction, "L1", || {
            format!("{txid} is not what {operation} asked for")
        })?;
        applied[index] = Some(txid);
    }
    for (operation, applied) in operations.iter().zip(&applied) {
        let agrees = operation.outcome == Outcome::Unknown || operation.txid() == *applied;
        ensure(agrees, "L1", || {
            format!("{operation}, told {:?}, has the id {applied:?}", operation.outcome)
        })?;
    }
    Ok(applied)
}

/// The state at every id, and each transaction had its reason.
fn replay(ledger: &[Record]) -> Result<Model<'_>, Violation> {
    let mut model = Model::default();
    for Record { txid, transaction, .. } in ledger {
        let unmet = model.first_unmet(transaction, txid - 1);
        ensure(unmet.is_none(), "O1", || format!("{txid} happened, though refused by {unmet:?}"))?;
        let changes = model.is_changed_by(transaction, txid - 1);
        ensure(changes, "A1", || format!("{txid} changes nothing, and has an id"))?;
        model.write(*txid, transaction);
    }
    Ok(model)
}

struct Replay<'a> {
    operations: &'a [Operation],
    /// The newest id.
    last: u64,
    model: Model<'a>,
}

impl Replay<'_> {
    /// An answer is the one that comes out at its id.
    fn check_answer(&self, operation: &Operation) -> Result<(), Violation> {
        match (&operation.call, &operation.outcome) {
            (_, Outcome::Unknown | Outcome::NotHappened) => Ok(()),
            (Call::Transaction(_), Outcome::Committed { at, txid: Some(txid) }) => {
                ensure(at == txid, "L1", || format!("{operation} left {at}, being {txid}"))
            }
            (Call::Transaction(transaction), Outcome::Committed { at, txid: None }) => {
                self.check_unchanged(operation, transaction, *at)
            }
            (Call::Transaction(transaction), Outcome::Conflict(conflict)) => {
                ensure(conflict.is_of(transaction), "L1", || {
                    format!("{operation} is refused for what it does not want: {conflict:?}")
                })
            }
            (Call::StaleRead(_), Outcome::Read { at, .. }) => self.check_read(operation, *at, "R1"),
            (_, Outcome::Read { at, .. }) => self.check_read(operation, *at, "L1"),
            (Call::Read(_) | Call::StaleRead(_), _) => Ok(()), // `check_form` rules it out.
        }
    }

    fn check_unchanged(
        &self,
        operation: &Operation,
        transaction: &Transaction,
        at: u64,
    ) -> Result<(), Violation> {
        ensure(at <= self.last, "L1", || format!("{operation} is at {at}, which never was"))?;
        let unmet = self.model.first_unmet(transaction, at);
        ensure(unmet.is_none(), "O1", || {
            format!("{operation} committed at {at}, though refused by {unmet:?}")
        })?;
        let changes = self.model.is_changed_by(transaction, at);
        ensure(!changes, "L1", || format!("{operation} took no id at {at}, and changes something"))
    }

    fn check_read(
        &self,
        operation: &Operation,
        at: u64,
        invariant: &'static str,
    ) -> Result<(), Violation> {
        ensure(at <= self.last, invariant, || format!("{operation} reads {at}, which never was"))?;
        for (key, value) in operation.reads() {
            let told = value.map(|value| (value.version, value.value.as_slice()));
            let held = self.model.get(key, at);
            ensure(told == held, invariant, || {
                format!("{operation} reads {key} at {at} as {told:?}, where it held {held:?}")
            })?;
        }
        Ok(())
    }

    /// The lowest id within `floor..=ceiling` whose state refuses the transaction just so.
    fn find_refusal(
        &self,
        transaction: &Transaction,
        conflict: &Conflict,
        floor: u64,
        ceiling: u64,
    ) -> Option<u64> {
        let judged = &transaction.conditions[..=conflict.condition];
        let mut at = floor.max(conflict.found.unwrap_or(0));
        while at <= ceiling {
            let unmet = self.model.first_unmet(transaction, at);
            if unmet == Some((conflict.condition, conflict.found)) {
                return Some(at);
            }
            let keys = judged.iter().map(|condition| &condition.key);
            at = keys.filter_map(|key| self.model.next_change(key, at)).min()?;
        }
        None
    }
}

/// A place in the order, with the call that has it.
type Placed = (u64, Option<usize>);

/// The sweep over all calls in the order of real time.
struct RealTime<'a> {
    replay: &'a Replay<'a>,
    applied: &'a [Option<u64>],
    /// When each id was asked for, with the lowest of those asked for then or later.
    asked: Vec<(u64, u64)>,
    /// The highest place of the calls that are over.
    floor: Placed,
    /// The same for each client alone.
    floors: BTreeMap<u64, Placed>,
    /// The place of each call that has begun.
    places: Vec<Option<u64>>,
}

impl<'a> RealTime<'a> {
    fn new(replay: &'a Replay<'a>, applied: &'a [Option<u64>]) -> Self {
        let calls = replay.operations.iter().zip(applied);
        let mut asked: Vec<_> =
            calls.filter_map(|(call, applied)| Some((call.invoked, (*applied)?))).collect();
        asked.sort_unstable();
        let mut lowest = u64::MAX;
        for (_, txid) in asked.iter_mut().rev() {
            lowest = lowest.min(*txid);
            *txid = lowest;
        }
        let places = vec![None; applied.len()];
        Self { replay, applied, asked, floor: (0, None), floors: BTreeMap::new(), places }
    }

    fn sweep(mut self) -> Result<(), Violation> {
        let mut events = Vec::with_capacity(2 * self.replay.operations.len());
        for (index, operation) in self.replay.operations.iter().enumerate() {
            events.push((operation.invoked, false, index));
            events.extend(operation.over().map(|returned| (returned, true, index)));
        }
        // Of two events at one time the call comes first: such calls overlap.
        events.sort_unstable();
        for (_, returns, index) in events {
            if returns {
                self.on_return(index);
            } else {
                self.places[index] = self.place(index)?;
            }
        }
        Ok(())
    }

    fn on_return(&mut self, index: usize) {
        let Some(place) = self.places[index] else { return };
        let placed = (place, Some(index));
        self.floor = self.floor.max(placed);
        // At the replica of whoever else called, it need not be applied yet.
        let floor = self.floors.entry(self.replay.operations[index].told_to).or_default();
        *floor = placed.max(*floor);
    }

    /// The place of a call that begins now, if it has one.
    fn place(&self, index: usize) -> Result<Option<u64>, Violation> {
        let operation = &self.replay.operations[index];
        let place = match &operation.outcome {
            Outcome::NotHappened => return Ok(None),
            Outcome::Unknown => match self.applied[index] {
                Some(txid) => 2 * txid,
                None => return Ok(None),
            },
            Outcome::Committed { txid: Some(txid), .. } => 2 * txid,
            Outcome::Committed { at, txid: None } | Outcome::Read { at, .. } => 2 * at + 1,
            Outcome::Conflict(conflict) => self.place_refusal(operation, conflict)?,
        };
        if matches!(operation.call, Call::StaleRead(_)) {
            self.check_client_floor(operation, place)?;
        } else {
            self.check_floor(operation, place, self.floor, "L1")?;
        }
        Ok(Some(place))
    }

    fn place_refusal(&self, operation: &Operation, conflict: &Conflict) -> Result<u64, Violation> {
        let transaction = operation.transaction().expect("a refusal answers a transaction");
        let floor = self.floor.0 / 2;
        let over = operation.over().unwrap_or(u64::MAX);
        let later = self.asked.partition_point(|(invoked, _)| *invoked <= over);
        let ceiling = self.asked.get(later).map_or(self.replay.last, |(_, txid)| txid - 1);
        match self.replay.find_refusal(transaction, conflict, floor, ceiling) {
            Some(at) => Ok(2 * at + 1),
            None => {
                let event = format!(
                    "{operation} is refused by {conflict:?}: no state at {floor}..={ceiling} does"
                );
                Err(Violation { invariant: "O4", event })
            }
        }
    }

    fn check_client_floor(&self, operation: &Operation, place: u64) -> Result<(), Violation> {
        let floor = self.floors.get(&operation.client).copied().unwrap_or_default();
        let own_write = floor.1.is_some_and(|index| self.applied[index].is_some());
        self.check_floor(operation, place, floor, if own_write { "R2" } else { "R1" })
    }

    fn check_floor(
        &self,
        operation: &Operation,
        place: u64,
        (floor, who): Placed,
        invariant: &'static str,
    ) -> Result<(), Violation> {
        ensure(floor <= place, invariant, || {
            let before = who.map(|index| self.replay.operations[index].to_string());
            format!(
                "{operation} is at {}, below {} of {}, which was over before",
                place / 2,
                floor / 2,
                before.unwrap_or_default()
            )
        })
    }
}
