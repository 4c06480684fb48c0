//! Calls into a simulated replica, behind the same handle as into a real one.
//!
//! A call puts its event into the replica's inbox, and the world brings it there. Whoever waits for
//! an answer helps the world along, one event after the other: so code written for a service, with
//! its `.wait()`, runs in a simulation as it is, and time passes only there.

use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;

use crate::journal::Reader;
use crate::runtime::backups::Backup;
use crate::runtime::changes::Edit;
use crate::runtime::handle::{Calls, EntryIterator, Handle};
use crate::runtime::pending::{Helper, Pending};
use crate::runtime::report::Report;
use crate::runtime::tail::{AppliedEntries, Tail};
use crate::runtime::tickets::Tickets;
use crate::runtime::turn::Event;
use crate::store::current::Current;
use crate::store::verdict::{Committed, Resolution};
use crate::transport::PeerCounters;
use crate::types::command::{Command, Ticket};
use crate::types::entry::Entry;
use crate::types::error::{Error, ErrorKind, Result};
use crate::types::ids::{Ballot, ReplicaId, RequestId, Slot, TxId};
use crate::types::membership::{Member, Membership};
use crate::types::message::EncodedCommand;
use crate::types::time::Moment;

use super::disk::Mount;
use super::exclusive::enter;
use super::machine::Life;
use super::world::World;

/// One opening of one replica, as callers see it.
pub(super) struct SimulatedCalls {
    id: ReplicaId,
    world: Weak<Mutex<World>>,
    called: Arc<Mutex<Vec<ReplicaId>>>,
    inbox: Arc<Mutex<Vec<Event<Mount>>>>,
    tickets: Tickets,
    request_timeout: Duration,
    store: Arc<Current>,
    reader: Reader<Mount>,
    tail: Tail,
}

/// How long closing waits for what was proposed.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// A handle of the replica that lives on machine `id`.
pub(super) fn handle(
    id: ReplicaId,
    life: &Life,
    world: Weak<Mutex<World>>,
    called: &Arc<Mutex<Vec<ReplicaId>>>,
) -> Handle {
    let driver = &life.driver;
    Handle::new(Arc::new(SimulatedCalls {
        id,
        world,
        called: Arc::clone(called),
        inbox: Arc::clone(&life.inbox),
        tickets: driver.tickets(),
        request_timeout: driver.request_timeout(),
        store: Arc::clone(driver.current()),
        reader: driver.reader(),
        tail: driver.tail(),
    }))
}

/// The applied entries `from..end` of a replica.
pub(super) fn entries(
    life: &Life,
    from: Slot,
    end: Slot,
) -> impl Iterator<Item = Result<(Slot, Entry)>> {
    AppliedEntries::new(life.driver.reader(), life.driver.tail(), from, end)
}

impl SimulatedCalls {
    /// Brings an event. The inbox of a replica that is gone is gone with it, and so is who would
    /// have answered; the caller learns that from its [`Pending`].
    fn push(&self, event: Event<Mount>) {
        let gone = Arc::strong_count(&self.inbox) == 1;
        if !gone {
            self.inbox.lock().push(event);
            self.called.lock().push(self.id);
        }
    }

    fn draw(&self) -> Ticket {
        self.tickets.draw(|| self.store.get().applied().commands)
    }

    /// This opening of the replica; `None` when it has ended.
    fn life<'a>(&self, world: &'a World) -> Option<&'a Life> {
        let life = world.machine(self.id).life.as_ref();
        life.filter(|life| Arc::ptr_eq(&life.inbox, &self.inbox))
    }

    /// While somebody waits, nobody can resume a machine that is paused.
    fn expect_running(&self, world: &World, call: &str) {
        let id = self.id;
        let waits = world.machine(id).paused && self.life(world).is_some();
        assert!(!waits, "{call}: replica {id} is paused, and cannot answer before it is resumed");
    }
}

impl Helper for SimulatedCalls {
    fn help(&self) -> bool {
        let world = self.world.upgrade().expect("wait: the simulation of this replica has ended");
        let mut world = enter(&world, "wait");
        self.expect_running(&world, "wait");
        let happened = world.step();
        world.check();
        assert!(happened, "wait: nothing happens any more, and nobody answered");
        true
    }

    fn simulated_now(&self) -> Option<Moment> {
        let world = self.world.upgrade().expect("wait: the simulation of this replica has ended");
        Some(enter(&world, "wait").now)
    }
}

impl Calls for SimulatedCalls {
    fn propose(&self, encode: &dyn Fn(Ticket) -> Result<Vec<u8>>) -> Result<Pending<Committed>> {
        let ticket = self.draw();
        let request = ticket.request;
        let bytes = encode(ticket).inspect_err(|_| self.tickets.settle([request]))?;
        let (pending, completer) = Pending::new();
        let command = EncodedCommand { request, bytes };
        self.push(Event::propose(command, completer, false));
        Ok(pending)
    }

    fn propose_again(&self, command: EncodedCommand) -> Pending<Committed> {
        let (pending, completer) = Pending::new();
        self.push(Event::propose(command, completer, true));
        pending
    }

    fn resolve(&self, request: RequestId) -> Pending<Resolution> {
        let own = self.draw().request;
        let bytes = Command::resolving(request, own).encode();
        let (pending, completer) = Pending::new();
        self.push(Event::Resolve { command: EncodedCommand { request: own, bytes }, completer });
        pending
    }

    fn read(&self, timeout: Option<Duration>) -> Pending<()> {
        let (pending, completer) = Pending::new();
        let timeout = timeout.unwrap_or(self.request_timeout);
        self.push(Event::Read { completer, timeout });
        pending
    }

    fn wait_for(&self, txid: TxId) -> Pending<()> {
        let (pending, completer) = Pending::new();
        self.push(Event::WaitFor { txid, completer, timeout: self.request_timeout });
        pending
    }

    fn change(&self, edit: Edit) -> Pending<Membership> {
        let (pending, completer) = Pending::new();
        self.push(Event::Change { edit, completer });
        pending
    }

    fn hand_over(&self, to: ReplicaId) -> Pending<()> {
        let (pending, completer) = Pending::new();
        self.push(Event::HandOver { to, completer });
        pending
    }

    fn next_leader(&self, known: Option<Ballot>) -> Pending<Option<Ballot>> {
        let (pending, completer) = Pending::new();
        self.push(Event::NextLeader { known, completer });
        pending
    }

    fn checkpoint(&self) -> Pending<()> {
        let (pending, completer) = Pending::new();
        self.push(Event::Checkpoint { completer });
        pending
    }

    fn backup(&self) -> Pending<Box<Backup>> {
        let (pending, completer) = Pending::new();
        self.push(Event::Backup { completer });
        pending
    }

    fn store(&self) -> &Arc<Current> {
        &self.store
    }

    fn entries(&self, from: Slot, end: Slot) -> EntryIterator {
        Box::new(AppliedEntries::new(self.reader.clone(), self.tail.clone(), from, end))
    }

    /// # Panics
    ///
    /// Where this opening of the replica has ended.
    fn report(&self) -> (Report, Vec<PeerCounters>) {
        let world = self.world.upgrade().expect("status: the simulation has ended");
        let world = enter(&world, "status");
        let life = self.life(&world);
        let life = life.unwrap_or_else(|| panic!("status: replica {} is down", self.id));
        (life.driver.report(), Vec::new())
    }

    fn strangers(&self) -> Vec<Member> {
        let Some(world) = self.world.upgrade() else { return Vec::new() };
        let world = enter(&world, "strangers");
        self.life(&world).map(|life| life.gate.strangers()).unwrap_or_default()
    }

    fn close(&self) -> Result<()> {
        self.push(Event::Close(CLOSE_TIMEOUT));
        let world = self.world.upgrade().expect("close: the simulation has ended");
        loop {
            let mut world = enter(&world, "close");
            let Some(life) = self.life(&world) else {
                return Err(Error::new(ErrorKind::Closed, "the replica is gone"));
            };
            if life.stopped {
                return match life.driver.report().stopped {
                    Some(err) if err.kind() != ErrorKind::Closed => Err(err),
                    _ => Ok(()),
                };
            }
            self.expect_running(&world, "close");
            assert!(world.step(), "close: nothing happens any more");
            world.check();
        }
    }

    /// A simulated replica lives as long as its machine lets it.
    fn shut_down(&self) {}
}
