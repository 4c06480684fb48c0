//! Random clients: they write, read, and write on the condition of what they read.
//!
//! A client has one call under way at a time, as a thread of a service would. It is bound to one
//! opening of one replica; when that is gone, it goes to another one, under a new name. What it was
//! told goes into a [`History`] that the checkers judge afterwards.
//!
//! Every value that is written is unique, so that a checker can tell who wrote it.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use parking_lot::Mutex;

use crate::runtime::handle::Handle;
use crate::runtime::pending::Pending;
use crate::store::verdict::Committed;
use crate::types::command::{self, Command, KeyKind, TableUse, ValueCodec};
use crate::types::error::{self, Error, ErrorKind};
use crate::types::ids::{ReplicaId, RequestId, TxId};
use crate::types::time::Moment;

use super::checkers::history::{
    Call, Change, Condition, Conflict, Expectation, History, Key, Operation, Outcome, Transaction,
    Versioned,
};
use super::rng::Rng;

/// What clients do, and how often.
#[derive(Clone, Copy, Debug)]
pub struct Habits {
    /// How many clients there are.
    pub clients: u64,
    /// How many keys they share.
    pub keys: u64,
    /// Shortest and longest time between an answer and the next call.
    pub pause: (Duration, Duration),
}

/// All clients, and what they were told.
pub(super) struct Workload {
    habits: Habits,
    clients: Vec<Client>,
    pub(super) history: History,
    names: u64,
    values: u64,
    pub(super) committed: u64,
    rng: Rng,
}

struct Client {
    /// The name under which its calls are recorded.
    name: u64,
    bound: Option<(ReplicaId, Handle)>,
    calls: u64,
    waiting: Option<Waiting>,
    /// When the next call is due.
    next: Moment,
    /// What it last read or wrote.
    known: BTreeMap<Key, Option<u64>>,
}

/// A call that was made and not answered.
struct Waiting {
    place: usize,
    asked: Asked,
}

enum Asked {
    Write(Pending<Committed>),
    Read(Pending<()>),
}

/// Tells the world which client's answer is there.
pub(super) struct Told {
    pub(super) client: u64,
    pub(super) answered: Arc<Mutex<Vec<u64>>>,
}

impl Wake for Told {
    fn wake(self: Arc<Self>) {
        self.answered.lock().push(self.client);
    }
}

impl Workload {
    /// Clients that have not called yet.
    pub(super) fn new(habits: Habits, mut rng: Rng) -> Self {
        let clients = (0..habits.clients).map(|_| Client {
            name: 0,
            bound: None,
            calls: 0,
            waiting: None,
            next: Moment::ZERO + rng.time(habits.pause.0..=habits.pause.1),
            known: BTreeMap::new(),
        });
        Self {
            clients: clients.collect(),
            habits,
            history: History::default(),
            names: 0,
            values: 0,
            committed: 0,
            rng,
        }
    }

    /// The client that calls next, and when; `None` where all wait for answers.
    pub(super) fn next(&self) -> Option<(Moment, usize)> {
        let free = self.clients.iter().enumerate().filter(|(_, client)| client.waiting.is_none());
        free.map(|(index, client)| (client.next, index)).min()
    }

    /// The replica that a client is bound to; `None` where it has to go to another one.
    pub(super) fn bound(&self, index: usize) -> Option<ReplicaId> {
        self.clients[index].bound.as_ref().map(|(id, _)| *id)
    }

    /// The client goes to a replica, under a new name.
    pub(super) fn bind(&mut self, index: usize, id: ReplicaId, handle: Handle) {
        self.names += 1;
        let client = &mut self.clients[index];
        client.name = self.names;
        client.calls = 0;
        client.bound = Some((id, handle));
        // It takes with it what it knows: that is how it would make a conditional write elsewhere.
    }

    /// The replica is gone: its clients look for another one.
    pub(super) fn unbind(&mut self, id: ReplicaId) {
        for client in &mut self.clients {
            if client.bound.as_ref().is_some_and(|(bound, _)| *bound == id) {
                client.bound = None;
            }
        }
    }

    /// A client finds no replica, and tries again later.
    pub(super) fn put_off(&mut self, index: usize, now: Moment) {
        self.clients[index].next = now + self.rng.time(self.habits.pause.0..=self.habits.pause.1);
    }

    /// The client makes its next call.
    pub(super) fn call(&mut self, index: usize, now: Moment, answered: &Arc<Mutex<Vec<u64>>>) {
        let call = self.draw(index);
        let client = &mut self.clients[index];
        let Some((_, handle)) = client.bound.clone() else { return };
        client.calls += 1;
        let (name, number) = (client.name, client.calls);
        let mut operation = Operation {
            client: name,
            number,
            invoked: now.0,
            returned: None,
            call,
            outcome: Outcome::Unknown,
        };
        let place = self.history.operations.len();
        let waker = Arc::new(Told { client: index as u64, answered: Arc::clone(answered) });
        let asked = match &operation.call {
            Call::Transaction(transaction) => {
                let encode = |request| Ok(encode(transaction, request, (name, number)));
                Asked::Write(handle.propose(&encode))
            }
            Call::Read(_) => Asked::Read(handle.read(None)),
            Call::StaleRead(keys) => {
                operation.outcome = read(&handle, keys);
                operation.returned = Some(now.0);
                self.history.operations.push(operation);
                self.put_off(index, now);
                return;
            }
        };
        self.history.operations.push(operation);
        self.clients[index].waiting = Some(Waiting { place, asked });
        self.poll(index, now, &Waker::from(waker));
    }

    /// The answer to a client may be there.
    pub(super) fn poll(&mut self, index: usize, now: Moment, waker: &Waker) {
        let client = &mut self.clients[index];
        let Some(mut waiting) = client.waiting.take() else { return };
        let mut context = Context::from_waker(waker);
        let operation = &mut self.history.operations[waiting.place];
        let outcome = match &mut waiting.asked {
            Asked::Write(pending) => match Pin::new(pending).poll(&mut context) {
                Poll::Pending => None,
                Poll::Ready(result) => Some(written(result)),
            },
            Asked::Read(pending) => match Pin::new(pending).poll(&mut context) {
                Poll::Pending => None,
                Poll::Ready(Err(_)) => Some(Outcome::NotHappened),
                Poll::Ready(Ok(())) => match (&operation.call, &client.bound) {
                    (Call::Read(keys), Some((_, handle))) => Some(read(handle, keys)),
                    // It was answered in the moment in which it died.
                    _ => Some(Outcome::NotHappened),
                },
            },
        };
        let Some(outcome) = outcome else {
            client.waiting = Some(waiting);
            return;
        };
        operation.returned = (outcome != Outcome::Unknown).then_some(now.0);
        operation.outcome = outcome;
        self.committed += u64::from(matches!(operation.outcome, Outcome::Committed { .. }));
        client.learn(operation);
        self.put_off(index, now);
    }

    /// How many calls wait for an answer.
    pub(super) fn waiting(&self) -> usize {
        self.clients.iter().filter(|client| client.waiting.is_some()).count()
    }

    fn draw(&mut self, index: usize) -> Call {
        let kind = self.rng.below(100);
        if kind < 30 {
            let count = self.rng.within(1..=3);
            let keys = (0..count).map(|_| self.key()).collect();
            return if kind < 24 { Call::Read(keys) } else { Call::StaleRead(keys) };
        }
        let count = if kind < 90 { 1 } else { self.rng.within(2..=4) };
        let mut transaction = Transaction::default();
        for _ in 0..count {
            let key = self.key();
            if kind >= 55 {
                let wanted = match self.clients[index].known.get(&key) {
                    Some(Some(version)) if self.rng.per_mille(800) => {
                        Expectation::Version(*version)
                    }
                    Some(Some(_)) => Expectation::Present,
                    Some(None) | None => Expectation::Absent,
                };
                transaction.conditions.push(Condition { key: key.clone(), wanted });
            }
            self.values += 1;
            let deletes = self.rng.per_mille(120);
            let value = (!deletes).then(|| self.values.to_be_bytes().to_vec());
            transaction.changes.push(Change { key, value });
        }
        Call::Transaction(transaction)
    }

    fn key(&mut self) -> Key {
        // A few keys are hot.
        let key = self.rng.below(self.habits.keys).min(self.rng.below(self.habits.keys));
        Key::new(0, format!("key {key}"))
    }
}

impl Client {
    /// Remembers the versions that an answer tells of.
    fn learn(&mut self, operation: &Operation) {
        match (&operation.call, &operation.outcome) {
            (Call::Transaction(transaction), Outcome::Committed { txid, .. }) => {
                for change in &transaction.changes {
                    self.known.insert(change.key.clone(), change.value.as_ref().and(*txid));
                }
            }
            (_, Outcome::Conflict(conflict)) => {
                self.known.insert(conflict.key.clone(), conflict.found);
            }
            (_, Outcome::Read { .. }) => {
                for (key, found) in operation.reads() {
                    self.known.insert(key.clone(), found.map(|found| found.version));
                }
            }
            _ => {}
        }
    }
}

/// What the key begins with that names a call.
const TAG: &[u8] = b"call ";

const TABLE: TableUse<'static> =
    TableUse { name: "simulated", key_kind: KeyKind("bytes"), codec: ValueCodec::Raw };

/// The command of a call. So that the ledger tells whose call it is, the last condition names it:
/// that a key is absent which never was there. (A request does not do for that: it gets another
/// number when it is handed on again.)
fn encode(transaction: &Transaction, request: RequestId, (name, number): (u64, u64)) -> Vec<u8> {
    fn key(key: &Key) -> command::Key<'_> {
        command::Key { table: key.table, bytes: &key.bytes }
    }
    let conditions = transaction.conditions.iter().map(|condition| match condition.wanted {
        Expectation::Absent => command::Condition::Absent(key(&condition.key)),
        Expectation::Present => command::Condition::Present(key(&condition.key)),
        Expectation::Version(version) => {
            let version = TxId::new(0, version).expect("a version that was told");
            command::Condition::Version(key(&condition.key), version)
        }
    });
    let operations = transaction.changes.iter().map(|change| match &change.value {
        Some(value) => command::Operation::Put(key(&change.key), value),
        None => command::Operation::Delete(key(&change.key)),
    });
    let tag = [TAG, &name.to_be_bytes(), &number.to_be_bytes()].concat();
    let tag = command::Condition::Absent(command::Key { table: 0, bytes: &tag });
    let conditions = conditions.chain([tag]).collect();
    let operations = operations.collect();
    Command { request, tables: vec![TABLE], conditions, operations }.encode()
}

/// The transaction that a command in the ledger is, with the client and the number of its call;
/// `None` where no client of a workload made it.
pub(super) fn decode(bytes: &[u8]) -> Option<((u64, u64), Transaction)> {
    let mut command = Command::decode(bytes).ok()?;
    let tag = command.conditions.pop()?;
    let (name, number) = tag.key().bytes.strip_prefix(TAG)?.split_at_checked(8)?;
    let number_of = |bytes: &[u8]| bytes.try_into().map(u64::from_be_bytes).ok();
    let call = (number_of(name)?, number_of(number)?);
    let key = |key: command::Key<'_>| Key::new(key.table, key.bytes);
    let conditions = command.conditions.iter().map(|condition| Condition {
        key: key(condition.key()),
        wanted: match condition {
            command::Condition::Absent(_) => Expectation::Absent,
            command::Condition::Present(_) => Expectation::Present,
            command::Condition::Version(_, version) => Expectation::Version(version.counter()),
        },
    });
    let changes = command.operations.iter().map(|operation| Change {
        key: key(operation.key()),
        value: match operation {
            command::Operation::Put(_, value) => Some(value.to_vec()),
            command::Operation::Delete(_) => None,
        },
    });
    let (conditions, changes) = (conditions.collect(), changes.collect());
    Some((call, Transaction { conditions, changes }))
}

/// The newest state here, as `snapshot.rs` reads it.
fn read(handle: &Handle, keys: &[Key]) -> Outcome {
    let store = handle.store();
    let at = store.applied().txid;
    let values = keys.iter().map(|key| {
        let found = store.get(&TABLE, &key.bytes, at).expect("the table has one type only");
        found.map(|found| Versioned {
            version: found.version.counter(),
            value: found.value.to_vec(),
        })
    });
    Outcome::Read { at: at.counter(), values: values.collect() }
}

fn written(result: Result<Committed, Error>) -> Outcome {
    let err = match result {
        Ok(committed) => {
            let txid = committed.txid.map(TxId::counter);
            return Outcome::Committed { at: committed.at.counter(), txid };
        }
        Err(err) => err,
    };
    match (err.kind(), err.conflict()) {
        (ErrorKind::Refused, Some(conflict)) => Outcome::Conflict(Conflict {
            condition: conflict.condition,
            key: Key::new(0, conflict.key.clone()),
            wanted: match conflict.wanted {
                error::Expectation::Absent => Expectation::Absent,
                error::Expectation::Present => Expectation::Present,
                error::Expectation::Version(version) => Expectation::Version(version.counter()),
            },
            found: conflict.found.map(TxId::counter),
        }),
        (ErrorKind::OutcomeUnknown, _) => Outcome::Unknown,
        _ => Outcome::NotHappened,
    }
}
