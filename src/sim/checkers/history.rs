//! What clients asked, when, and what they were told: plain data that can be written by hand.
//!
//! Times are those of one clock that all clients share, such as a simulator's. Ids are plain
//! numbers, from 1. A client is one handle on one opened replica: who goes on with another replica,
//! or opens the same one again, is another client.
//!
//! ```
//! use indelible::sim::checkers::history::{
//!     Call, Change, History, Key, Operation, Outcome, Transaction,
//! };
//!
//! let put = Change { key: Key::new(0, "a"), value: Some(b"text".to_vec()) };
//! let operation = Operation {
//!     client: 1,
//!     number: 1,
//!     invoked: 10,
//!     returned: Some(20),
//!     call: Call::Transaction(Transaction { conditions: vec![], changes: vec![put] }),
//!     outcome: Outcome::Committed { at: 1, txid: Some(1) },
//!     told_to: 1,
//! };
//! let history = History { operations: vec![operation] };
//! assert!(history.check_form().is_ok());
//! ```

use std::fmt;

use super::{Violation, ensure};

/// What clients did, in any order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// All calls.
    pub operations: Vec<Operation>,
}

/// One call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// Who called.
    pub client: u64,
    /// The how-manieth call of that client; with `client`, by what the call is known.
    pub number: u64,
    /// When it was called, in nanoseconds.
    pub invoked: u64,
    /// When it was answered, if it was. An unknown outcome is no answer, whenever it was told.
    pub returned: Option<u64>,
    /// What was asked.
    pub call: Call,
    /// What was told.
    pub outcome: Outcome,
    /// To whom: who called, or who asked later what became of it, perhaps at another replica.
    pub told_to: u64,
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    /// To make this happen.
    Transaction(Transaction),
    /// What these keys hold now, all at one id.
    Read(Vec<Key>),
    /// What these keys held at some id.
    StaleRead(Vec<Key>),
}

/// If every condition holds, all changes happen. Of two changes to one key the later one stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transaction {
    /// What must hold, judged in order.
    pub conditions: Vec<Condition>,
    /// What shall happen.
    pub changes: Vec<Change>,
}

/// A key of a table. Tables are numbered by whoever records the history.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// The number of the table.
    pub table: u32,
    /// The key as the table encodes it.
    pub bytes: Vec<u8>,
}

/// What one key must hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// The key.
    pub key: Key,
    /// What is wanted there.
    pub wanted: Expectation,
}

/// What a condition wants to find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expectation {
    /// No value.
    Absent,
    /// Any value.
    Present,
    /// The value that this transaction wrote.
    Version(u64),
}

/// A change to one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The key.
    pub key: Key,
    /// Its value, or `None` where it is deleted.
    pub value: Option<Vec<u8>>,
}

/// What is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The conditions held.
    Committed {
        /// The state that it left: its own id, or where it took none the newest before it.
        at: u64,
        /// Its id, if it changed something.
        txid: Option<u64>,
    },
    /// A condition did not hold. Nothing happened.
    Conflict(Conflict),
    /// It may have happened, once, at any time since it was called; or it may yet. Or a read that
    /// was not answered.
    Unknown,
    /// It did not happen and never will: busy, closed, timed out before it was proposed.
    NotHappened,
    /// What the keys held, in the order in which they were asked for.
    Read {
        /// The id of the state that was read.
        at: u64,
        /// What each key held.
        values: Vec<Option<Versioned>>,
    },
}

/// Why a transaction was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// The place of the condition, from 0.
    pub condition: usize,
    /// Its key.
    pub key: Key,
    /// What it wanted.
    pub wanted: Expectation,
    /// The version that was there instead, or `None` for no value.
    pub found: Option<u64>,
}

/// A value with the id of the transaction that wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Versioned {
    /// Who wrote it.
    pub version: u64,
    /// The value.
    pub value: Vec<u8>,
}

/// A transaction as the ledger holds it in the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The id that it took.
    pub txid: u64,
    /// Who called for it. One that nobody called for is recorded under a client that there is not.
    pub client: u64,
    /// By which call.
    pub number: u64,
    /// What happened.
    pub transaction: Transaction,
}

impl History {
    /// Whether this can be a history at all: each call known by its number, answered after it was
    /// called, and with an answer to what it asked.
    ///
    /// # Errors
    ///
    /// Names the call that is not; the fault is with who recorded it.
    pub fn check_form(&self) -> Result<(), Violation> {
        for operation in &self.operations {
            let fault = operation.fault();
            ensure(fault.is_none(), "form", || {
                format!("{operation} {}", fault.unwrap_or_default())
            })?;
        }
        let mut by_number: Vec<&Operation> = self.operations.iter().collect();
        by_number.sort_unstable_by_key(|operation| (operation.client, operation.number));
        let twice = by_number
            .windows(2)
            .find(|pair| (pair[0].client, pair[0].number) == (pair[1].client, pair[1].number));
        let told = |pair: &[&Operation]| format!("{} is recorded twice", pair[0]);
        ensure(twice.is_none(), "form", || twice.map(told).unwrap_or_default())
    }
}

impl Operation {
    /// What is wrong with the record of this call.
    fn fault(&self) -> Option<&'static str> {
        let answers = match (&self.call, &self.outcome) {
            (_, Outcome::Unknown | Outcome::NotHappened) => true,
            (Call::Transaction(_), Outcome::Committed { .. } | Outcome::Conflict(_)) => true,
            (Call::Read(keys) | Call::StaleRead(keys), Outcome::Read { values, .. }) => {
                keys.len() == values.len()
            }
            _ => false,
        };
        let is_answered = !matches!(self.outcome, Outcome::Unknown | Outcome::NotHappened);
        match self.returned {
            _ if !answers => Some("is told what it did not ask"),
            Some(returned) if returned < self.invoked => Some("is answered before it is called"),
            None if is_answered => Some("is answered at no time"),
            _ => None,
        }
    }

    /// The transaction that was asked for, if it was one.
    #[must_use]
    pub fn transaction(&self) -> Option<&Transaction> {
        match &self.call {
            Call::Transaction(transaction) => Some(transaction),
            Call::Read(_) | Call::StaleRead(_) => None,
        }
    }

    /// The keys that were asked for, with what was told of them; nothing where none was told.
    pub fn reads(&self) -> impl Iterator<Item = (&Key, Option<&Versioned>)> {
        let (keys, values) = match (&self.call, &self.outcome) {
            (Call::Read(keys) | Call::StaleRead(keys), Outcome::Read { values, .. }) => {
                (keys.as_slice(), values.as_slice())
            }
            _ => (&[][..], &[][..]),
        };
        keys.iter().zip(values.iter().map(Option::as_ref))
    }

    /// The id that the transaction was told to have taken.
    #[must_use]
    pub fn txid(&self) -> Option<u64> {
        match self.outcome {
            Outcome::Committed { txid, .. } => txid,
            _ => None,
        }
    }

    /// When it was certainly over: never, where its outcome is unknown.
    #[must_use]
    pub fn over(&self) -> Option<u64> {
        if self.outcome == Outcome::Unknown { None } else { self.returned }
    }
}

impl Transaction {
    /// The changes that stand: of those to one key the last.
    pub fn standing(&self) -> impl Iterator<Item = &Change> {
        let is_last = |(index, change): &(usize, &Change)| {
            self.changes[index + 1..].iter().all(|later| later.key != change.key)
        };
        self.changes.iter().enumerate().filter(is_last).map(|(_, change)| change)
    }
}

impl Conflict {
    /// Whether it is about a condition of `transaction`, and what it found is not what that wants.
    #[must_use]
    pub fn is_of(&self, transaction: &Transaction) -> bool {
        let condition = transaction.conditions.get(self.condition);
        condition.is_some_and(|it| it.key == self.key && it.wanted == self.wanted)
            && !self.wanted.holds(self.found)
    }
}

impl Expectation {
    /// Whether a key with this version, or with no value, is as wanted.
    #[must_use]
    pub fn holds(self, found: Option<u64>) -> bool {
        match self {
            Self::Absent => found.is_none(),
            Self::Present => found.is_some(),
            Self::Version(version) => found == Some(version),
        }
    }
}

impl Key {
    /// The key `bytes` of the table `table`.
    #[must_use]
    pub fn new(table: u32, bytes: impl Into<Vec<u8>>) -> Self {
        Self { table, bytes: bytes.into() }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "call {} of client {}, {}..", self.number, self.client, self.invoked)?;
        match self.returned {
            Some(returned) => write!(f, "{returned}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.table, self.bytes.escape_ascii())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(edit: impl Fn(&mut Operation)) -> String {
        let mut read = Operation {
            client: 1,
            number: 1,
            invoked: 5,
            returned: Some(9),
            call: Call::Read(vec![Key::new(0, "a")]),
            outcome: Outcome::Read { at: 0, values: vec![None] },
            told_to: 1,
        };
        edit(&mut read);
        let history = History { operations: vec![read] };
        history.check_form().err().map(|told| told.event).unwrap_or_default()
    }

    #[test]
    fn what_is_no_history_is_told() {
        assert_eq!(told(|_| ()), "");
        assert!(told(|it| it.returned = Some(4)).ends_with("is answered before it is called"));
        assert!(told(|it| it.returned = None).ends_with("is answered at no time"));
        let committed = Outcome::Committed { at: 1, txid: None };
        assert!(told(|it| it.outcome = committed.clone()).ends_with("is told what it did not ask"));
        assert!(told(|it| it.call = Call::Read(vec![])).ends_with("is told what it did not ask"));
        let unknown = |it: &mut Operation| (it.returned, it.outcome) = (None, Outcome::Unknown);
        assert_eq!(told(unknown), "");
    }

    #[test]
    fn a_call_is_known_by_its_number() {
        let operation = Operation {
            client: 1,
            number: 2,
            invoked: 5,
            returned: None,
            call: Call::Transaction(Transaction::default()),
            outcome: Outcome::Unknown,
            told_to: 1,
        };
        let history = History { operations: vec![operation.clone(), operation] };
        assert_eq!(
            history.check_form().unwrap_err().event,
            "call 2 of client 1, 5.. is recorded twice"
        );
    }
}
