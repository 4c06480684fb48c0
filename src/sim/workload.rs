//! Random clients: they write, read, and write on the condition of what they read.
//!
//! A client has one call under way at a time, as a thread of a service would. It is bound to one
//! opening of one replica; when that is gone, it goes to another one, under a new name. What it was
//! told goes into a [`History`] that the checkers judge afterwards.
//!
//! Every value that is written is unique, so that a checker can tell who wrote it.
//!
//! Some wait at their replica for an id that anybody was told, and read what is there then: it must
//! not be older (R3).
//!
//! Where a client is told that an outcome is unknown, it wants to know later: it submits the very
//! same command again, or resolves the request, at whatever replica it is bound to by then. Some
//! also submit again what was answered, and resolve what others have under way. All that is told of
//! one call must be one thing.

mod answers;
mod commands;

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use parking_lot::Mutex;

use crate::runtime::handle::Handle;
use crate::runtime::pending::Pending;
use crate::store::verdict::{Committed, Resolution};
use crate::types::command::Ticket;
use crate::types::ids::{ReplicaId, RequestId, TxId};
use crate::types::message::EncodedCommand;
use crate::types::time::Moment;

use super::checkers::Violation;
use super::checkers::history::{
    Call, Change, Condition, Expectation, History, Key, Operation, Outcome, Transaction,
};
use super::rng::Rng;

use answers::{read, ready, resolved, unknown, written};
pub(super) use commands::decode;
use commands::encode;

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
    /// Two things were told of one call.
    pub(super) violation: Option<Violation>,
    /// The newest transactions that were answered, by the places of their calls.
    answered: VecDeque<(usize, EncodedCommand)>,
    /// The newest id that anybody was told.
    newest: u64,
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
    /// Its transactions of which nobody told yet what became of them.
    open: Vec<Open>,
}

/// A call that was made and not answered.
struct Waiting {
    place: usize,
    asked: Asked,
    /// The transaction, as it was submitted.
    submitted: Option<EncodedCommand>,
}

enum Asked {
    Write(Pending<Committed>),
    Read(Pending<()>),
    /// For a transaction, to read then what is there.
    Wait(Pending<()>, TxId),
    /// What was asked before: for the same answer.
    Again(Pending<Committed>, Open),
    Resolve(Pending<Resolution>, Open),
}

/// A call that was made, by what it is known.
#[derive(Clone)]
struct Open {
    place: usize,
    request: RequestId,
    /// As it was submitted; its replica may have given it another name since.
    submitted: Option<EncodedCommand>,
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
            open: Vec::new(),
        });
        Self {
            clients: clients.collect(),
            habits,
            history: History::default(),
            names: 0,
            values: 0,
            committed: 0,
            violation: None,
            answered: VecDeque::new(),
            newest: 0,
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
        let Some((_, handle)) = self.clients[index].bound.clone() else { return };
        let waker =
            Waker::from(Arc::new(Told { client: index as u64, answered: Arc::clone(answered) }));
        if let Some(open) = self.draw_open(index) {
            let place = open.place;
            let asked = match &open.submitted {
                Some(command) if self.rng.per_mille(500) => {
                    Asked::Again(handle.propose_again(command.clone()), open)
                }
                Some(_) | None => Asked::Resolve(handle.resolve(open.request), open),
            };
            self.clients[index].waiting = Some(Waiting { place, asked, submitted: None });
            self.poll(index, now, &waker);
            return;
        }
        let call = self.draw(index);
        let wanted = if matches!(call, Call::StaleRead(_)) { self.draw_wait() } else { None };
        let client = &mut self.clients[index];
        client.calls += 1;
        let (name, number) = (client.name, client.calls);
        let mut operation = Operation {
            client: name,
            number,
            invoked: now.0,
            returned: None,
            call,
            outcome: Outcome::Unknown,
            told_to: name,
        };
        let place = self.history.operations.len();
        let submitted = RefCell::new(None);
        let asked = match &operation.call {
            Call::Transaction(transaction) => {
                let encode = |ticket: Ticket| {
                    let bytes = encode(transaction, ticket, (name, number));
                    let command = EncodedCommand { request: ticket.request, bytes };
                    Ok(submitted.borrow_mut().insert(command).bytes.clone())
                };
                Asked::Write(handle.propose(&encode))
            }
            Call::Read(_) => Asked::Read(handle.read(None)),
            Call::StaleRead(_) if wanted.is_some() => {
                let txid = wanted.unwrap_or_default();
                Asked::Wait(handle.wait_for(txid), txid)
            }
            Call::StaleRead(keys) => {
                operation.outcome = read(&handle, keys);
                operation.returned = Some(now.0);
                self.history.operations.push(operation);
                self.put_off(index, now);
                return;
            }
        };
        self.history.operations.push(operation);
        let submitted = submitted.into_inner();
        self.clients[index].waiting = Some(Waiting { place, asked, submitted });
        self.poll(index, now, &waker);
    }

    /// The answer to a client may be there.
    pub(super) fn poll(&mut self, index: usize, now: Moment, waker: &Waker) {
        let client = &mut self.clients[index];
        let Some(mut waiting) = client.waiting.take() else { return };
        let mut context = Context::from_waker(waker);
        let operation = &self.history.operations[waiting.place];
        let told = match &mut waiting.asked {
            Asked::Write(pending) => ready(Pin::new(pending).poll(&mut context)).map(|result| {
                let open = unknown(&result).map(|request| Open {
                    place: waiting.place,
                    request,
                    submitted: waiting.submitted.clone().filter(|it| it.request == request),
                });
                (written(result), open)
            }),
            Asked::Again(pending, open) => ready(Pin::new(pending).poll(&mut context))
                .map(|result| (unknown(&result).map(|_| open.clone()), result))
                .map(|(open, result)| (written(result), open)),
            Asked::Resolve(pending, open) => ready(Pin::new(pending).poll(&mut context))
                .map(|result| resolved(result, operation, open)),
            Asked::Read(pending) => ready(Pin::new(pending).poll(&mut context)).map(|result| {
                let outcome = match (result, &operation.call, &client.bound) {
                    (Ok(()), Call::Read(keys), Some((_, handle))) => read(handle, keys),
                    // Or it was answered in the moment in which it died.
                    _ => Outcome::NotHappened,
                };
                (outcome, None)
            }),
            Asked::Wait(pending, _) => ready(Pin::new(pending).poll(&mut context)).map(|result| {
                let outcome = match (result, &operation.call, &client.bound) {
                    (Ok(()), Call::StaleRead(keys), Some((_, handle))) => read(handle, keys),
                    _ => Outcome::NotHappened,
                };
                (outcome, None)
            }),
        };
        let Some((outcome, open)) = told else {
            client.waiting = Some(waiting);
            return;
        };
        client.open.extend(open);
        if let (Asked::Wait(_, txid), Outcome::Read { at, .. }) = (&waiting.asked, &outcome)
            && *at < txid.counter()
        {
            let event = format!("{operation} waited for {txid}, and reads at {at}");
            self.violation = self.violation.take().or(Some(Violation::new("R3", event)));
        }
        let own = matches!(waiting.asked, Asked::Write(_) | Asked::Read(_));
        self.conclude(index, now, waiting, (own, outcome));
        self.put_off(index, now);
    }

    /// Something was told of a call, to the client that made it or to one that wants to know.
    fn conclude(
        &mut self,
        index: usize,
        now: Moment,
        waiting: Waiting,
        (own, outcome): (bool, Outcome),
    ) {
        let Waiting { place, submitted, .. } = waiting;
        let under_way = |client: &Client| {
            client.waiting.as_ref().is_some_and(|it| it.place == place && it.submitted.is_some())
        };
        let is_under_way = self.clients.iter().any(under_way);
        let operation = &mut self.history.operations[place];
        if outcome == Outcome::Unknown {
            return;
        }
        if operation.outcome != Outcome::Unknown {
            let same = operation.outcome == outcome;
            self.violation = self.violation.take().or_else(|| {
                let event =
                    format!("{operation} is told {:?}, and then {outcome:?}", operation.outcome);
                (!same).then(|| Violation::new("A3", event))
            });
            return;
        }
        // Who waits for it may have a replica that has not come so far, and must read there what it
        // was told before; it is told by itself.
        if is_under_way && outcome != Outcome::NotHappened {
            return;
        }
        operation.returned = Some(now.0);
        operation.outcome = outcome;
        operation.told_to = self.clients[index].name;
        self.committed += u64::from(matches!(operation.outcome, Outcome::Committed { .. }));
        if let Outcome::Committed { at, .. } | Outcome::Read { at, .. } = operation.outcome {
            self.newest = self.newest.max(at);
        }
        self.clients[index].learn(operation);
        let happened = !matches!(operation.outcome, Outcome::NotHappened);
        if let Some(command) = submitted.filter(|_| own && happened) {
            self.answered.push_back((place, command));
            if self.answered.len() > ANSWERED_MAX {
                self.answered.pop_front();
            }
        }
    }

    /// An earlier call that the client wants to know something of.
    fn draw_open(&mut self, index: usize) -> Option<Open> {
        let count = self.clients[index].open.len() as u64;
        if count > 0 && self.rng.per_mille(500) {
            let place = self.rng.below(count) as usize;
            return Some(self.clients[index].open.swap_remove(place));
        }
        if self.rng.per_mille(40) && !self.answered.is_empty() {
            let place = self.rng.below(self.answered.len() as u64) as usize;
            let (place, command) = self.answered[place].clone();
            return Some(Open { place, request: command.request, submitted: Some(command) });
        }
        if self.rng.per_mille(30) {
            let under_way = self.clients.iter().filter_map(|client| client.waiting.as_ref());
            let under_way = under_way.filter_map(|it| Some((it.place, it.submitted.as_ref()?)));
            let under_way = under_way.map(|(place, it)| (place, it.request)).collect::<Vec<_>>();
            if !under_way.is_empty() {
                let (place, request) = *self.rng.pick(&under_way);
                // It must not be submitted a second time: it is not known to be under way twice.
                return Some(Open { place, request, submitted: None });
            }
        }
        None
    }

    /// An id that somebody was told, where a client is to wait for one.
    fn draw_wait(&mut self) -> Option<TxId> {
        if self.newest == 0 || !self.rng.per_mille(500) {
            return None;
        }
        TxId::new(0, self.newest - self.rng.below(self.newest.min(3)))
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

/// Most transactions that may be submitted again once they were answered.
const ANSWERED_MAX: usize = 64;
