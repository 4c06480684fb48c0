//! What a partition holds at one place of an order, and what each call makes of it.

use std::collections::{BTreeMap, BTreeSet};

use crate::types::ids::ContentHash;

use super::super::history::{
    Call, Conflict, Expectation, History, Key, Operation, Outcome, Transaction,
};
use super::names::Names;

/// A call, with its keys as numbers.
#[derive(Debug)]
pub struct Step<'a> {
    /// Which call of the history it is.
    pub operation: usize,
    /// When it was called.
    pub invoked: u64,
    /// When it was over: never, where its outcome is unknown.
    pub over: u64,
    /// Who is lower is tried first: nothing but a guess.
    pub guess: u64,
    kind: Kind<'a>,
}

#[derive(Debug)]
enum Kind<'a> {
    /// What each key was told to hold, with its version.
    Read(Vec<(usize, Option<Told<'a>>)>),
    Transaction {
        conditions: Vec<(usize, Expectation)>,
        /// The changes that stand, each with its value.
        changes: Vec<(usize, Option<&'a [u8]>)>,
        end: End<'a>,
    },
}

#[derive(Clone, Copy, Debug)]
enum End<'a> {
    Changed,
    Unchanged,
    Refused(&'a Conflict),
    Unknown,
}

impl Step<'_> {
    /// Whether it may be left out.
    pub fn is_optional(&self) -> bool {
        matches!(self.kind, Kind::Transaction { end: End::Unknown, .. })
    }

    /// Whether it changes the state where it is placed.
    pub fn writes(&self) -> bool {
        matches!(self.kind, Kind::Transaction { end: End::Changed | End::Unknown, .. })
    }

    fn keys(&self) -> Vec<usize> {
        match &self.kind {
            Kind::Read(reads) => reads.iter().map(|(key, _)| *key).collect(),
            Kind::Transaction { conditions, changes, .. } => {
                let conditions = conditions.iter().map(|(key, _)| *key);
                conditions.chain(changes.iter().map(|(key, _)| *key)).collect()
            }
        }
    }
}

/// A version, with its value.
type Told<'a> = (u64, &'a [u8]);

/// A call, with the value that it wrote.
type Held<'a> = (usize, &'a [u8]);

/// What each key holds: the call that wrote it, with the value.
#[derive(Debug)]
pub struct State<'a> {
    names: &'a Names,
    keys: Vec<Option<Held<'a>>>,
    /// What was overwritten, in order.
    written: Vec<(usize, Option<Held<'a>>)>,
    fingerprint: u128,
}

impl<'a> State<'a> {
    /// No key has a value.
    pub fn new(keys: usize, names: &'a Names) -> Self {
        Self { names, keys: vec![None; keys], written: Vec::new(), fingerprint: 0 }
    }

    /// Whether the call can have ended so in this state.
    pub fn explains(&self, step: &Step<'_>) -> bool {
        match &step.kind {
            Kind::Read(reads) => reads.iter().all(|(key, told)| self.is_read(*key, *told)),
            Kind::Transaction { conditions, changes, end } => {
                let mut judged = conditions.iter();
                if let End::Refused(conflict) = end {
                    let key = conditions[conflict.condition].0;
                    return judged.take(conflict.condition).all(|it| self.may_hold(it))
                        && self.may_fail(&conditions[conflict.condition])
                        && self.may_be(key, conflict.found);
                }
                let changed =
                    changes.iter().any(|(key, value)| value.is_some() || self.keys[*key].is_some());
                judged.all(|it| self.may_hold(it)) && changed == step.writes()
            }
        }
    }

    /// Makes the changes of a call.
    pub fn write(&mut self, step: &Step<'a>) {
        let Kind::Transaction { changes, .. } = &step.kind else { return };
        for (key, value) in changes {
            let before = self.set(*key, value.map(|value| (step.operation, value)));
            self.written.push((*key, before));
        }
    }

    /// How much was overwritten so far.
    pub fn written(&self) -> usize {
        self.written.len()
    }

    /// Takes back what was overwritten behind the first `count`.
    pub fn go_back(&mut self, count: usize) {
        while self.written.len() > count {
            let Some((key, before)) = self.written.pop() else { break };
            self.set(key, before);
        }
    }

    /// Names the state.
    pub fn fingerprint(&self) -> u128 {
        self.fingerprint
    }

    fn set(&mut self, key: usize, now: Option<Held<'a>>) -> Option<Held<'a>> {
        let before = std::mem::replace(&mut self.keys[key], now);
        for (writer, _) in before.iter().chain(&now) {
            let mut bytes = [0; 16];
            bytes[..8].copy_from_slice(&(key as u64).to_le_bytes());
            bytes[8..].copy_from_slice(&(*writer as u64).to_le_bytes());
            self.fingerprint ^= ContentHash::of(&bytes).0;
        }
        before
    }

    /// Whether a condition may hold; where it is not known who bears a version, it may and may not.
    fn may_hold(&self, (key, wanted): &(usize, Expectation)) -> bool {
        match wanted {
            Expectation::Absent => self.keys[*key].is_none(),
            Expectation::Present => self.keys[*key].is_some(),
            Expectation::Version(version) => self.may_be(*key, Some(*version)),
        }
    }

    fn may_fail(&self, (key, wanted): &(usize, Expectation)) -> bool {
        match (wanted, self.keys[*key]) {
            (Expectation::Absent, held) => held.is_some(),
            (Expectation::Present | Expectation::Version(_), None) => true,
            (Expectation::Present, Some(_)) => false,
            (Expectation::Version(version), Some((writer, _))) => {
                self.names.name(writer) != Some(*version)
            }
        }
    }

    fn may_be(&self, key: usize, version: Option<u64>) -> bool {
        match (self.keys[key], version) {
            (Some((writer, _)), Some(version)) => self.names.may_be(writer, version),
            (held, version) => held.is_none() && version.is_none(),
        }
    }

    fn is_read(&self, key: usize, told: Option<(u64, &[u8])>) -> bool {
        let value = self.keys[key].map(|(_, value)| value);
        self.may_be(key, told.map(|(version, _)| version)) && value == told.map(|it| it.1)
    }
}

/// The number of keys, and the calls that are to be ordered, apart where they share no key.
pub fn steps_of<'a>(history: &'a History, names: &Names) -> (usize, Vec<Vec<Step<'a>>>) {
    let mut keys = Keys::default();
    let presence = presence_matters(history);
    let mut steps = Vec::new();
    for (index, operation) in history.operations.iter().enumerate() {
        if operation.outcome == Outcome::Unknown && !matters(index, operation, names, &presence) {
            continue;
        }
        if let Some(kind) = kind_of(operation, &mut keys) {
            let over = operation.over().unwrap_or(u64::MAX);
            let guess = names.name(index).unwrap_or(u64::MAX);
            let invoked = operation.invoked;
            let step = Step { operation: index, invoked, over, guess, kind };
            keys.join(&step.keys());
            steps.push(step);
        }
    }
    let mut partitions: BTreeMap<Option<usize>, Vec<Step<'_>>> = BTreeMap::new();
    for step in steps {
        let root = step.keys().first().map(|key| keys.root(*key));
        partitions.entry(root).or_default().push(step);
    }
    (keys.parents.len(), partitions.into_values().collect())
}

/// The keys of which somebody saw whether they have a value, but not which.
fn presence_matters(history: &History) -> BTreeSet<&Key> {
    let transactions = history.operations.iter().filter_map(Operation::transaction);
    let keys = transactions.flat_map(|transaction| {
        let conditions = transaction.conditions.iter();
        let present = conditions.filter(|condition| condition.wanted == Expectation::Present);
        let deleted = transaction.changes.iter().filter(|change| change.value.is_none());
        present.map(|condition| &condition.key).chain(deleted.map(|change| &change.key))
    });
    keys.collect()
}

/// Whether somebody may have seen that a call of unknown outcome happened.
///
/// Of one that only puts, nobody has if none of its versions was seen, and nobody looked whether
/// its keys have any value: an order with it is an order without it, too.
fn matters(index: usize, operation: &Operation, names: &Names, presence: &BTreeSet<&Key>) -> bool {
    let Some(transaction) = operation.transaction() else { return false };
    names.is_seen(index)
        || transaction.standing().any(|it| it.value.is_none() || presence.contains(&it.key))
}

fn kind_of<'a>(operation: &'a Operation, keys: &mut Keys<'a>) -> Option<Kind<'a>> {
    match (&operation.call, &operation.outcome) {
        (Call::Read(_), Outcome::Read { .. }) => {
            let told = operation.reads();
            let told = told.map(|(key, it)| {
                (keys.number(key), it.map(|it| (it.version, it.value.as_slice())))
            });
            Some(Kind::Read(told.collect()))
        }
        (Call::Transaction(transaction), outcome) => {
            let end = match outcome {
                Outcome::Committed { txid: Some(_), .. } => End::Changed,
                Outcome::Committed { txid: None, .. } => End::Unchanged,
                Outcome::Conflict(conflict) => End::Refused(conflict),
                Outcome::Unknown => End::Unknown,
                Outcome::NotHappened | Outcome::Read { .. } => return None,
            };
            Some(keys.transaction(transaction, end))
        }
        (Call::Read(_) | Call::StaleRead(_), _) => None,
    }
}

/// Keys as numbers, and which of them are named together.
#[derive(Debug, Default)]
struct Keys<'a> {
    numbers: BTreeMap<&'a Key, usize>,
    /// For each key another one that is named together with it, or itself.
    parents: Vec<usize>,
}

impl<'a> Keys<'a> {
    fn number(&mut self, key: &'a Key) -> usize {
        let next = self.parents.len();
        let number = *self.numbers.entry(key).or_insert(next);
        if number == next {
            self.parents.push(next);
        }
        number
    }

    fn transaction(&mut self, transaction: &'a Transaction, end: End<'a>) -> Kind<'a> {
        let conditions = transaction.conditions.iter();
        Kind::Transaction {
            conditions: conditions.map(|it| (self.number(&it.key), it.wanted)).collect(),
            changes: (transaction.standing())
                .map(|it| (self.number(&it.key), it.value.as_deref()))
                .collect(),
            end,
        }
    }

    fn root(&self, mut key: usize) -> usize {
        while self.parents[key] != key {
            key = self.parents[key];
        }
        key
    }

    fn join(&mut self, keys: &[usize]) {
        for pair in keys.windows(2) {
            let (root, other) = (self.root(pair[0]), self.root(pair[1]));
            self.parents[root.max(other)] = root.min(other);
        }
    }
}
