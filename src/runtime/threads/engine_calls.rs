//! What handles ask of a replica's threads; and how these end.
//!
//! Invariants:
//! * The directory is given back only when nothing writes to it any more.

use std::sync::Arc;
use std::time::Duration;

use crate::journal::disk::Disk;
use crate::store::current::Current;
use crate::store::verdict::{Committed, Resolution};
use crate::transport::PeerCounters;
use crate::types::command::{Command, Ticket};
use crate::types::error::{Error, ErrorKind, Result};
use crate::types::ids::{Ballot, ReplicaId, RequestId, Slot, TxId};
use crate::types::membership::{Member, Membership};
use crate::types::message::EncodedCommand;

use super::super::backups::Backup;
use super::super::changes::Edit;
use super::super::driver::Driver;
use super::super::ending::not_ended;
use super::super::handle::{Calls, EntryIterator};
use super::super::pending::Pending;
use super::super::report::Report;
use super::super::tail::AppliedEntries;
use super::super::turn::Event;
use super::{Engine, JOIN_PATIENCE, wake_all};

impl<D: Disk> Calls for Engine<D> {
    fn propose(&self, encode: &dyn Fn(Ticket) -> Result<Vec<u8>>) -> Result<Pending<Committed>> {
        let ticket = self.draw();
        let request = ticket.request;
        let bytes = encode(ticket).inspect_err(|_| self.tickets.settle([request]))?;
        let command = EncodedCommand { request, bytes };
        Ok(self.ask(|completer| Event::propose(command, completer, false)))
    }

    #[cfg(feature = "sim")]
    fn propose_again(&self, command: EncodedCommand) -> Pending<Committed> {
        self.ask(|completer| Event::propose(command, completer, true))
    }

    fn resolve(&self, request: RequestId) -> Pending<Resolution> {
        let own = self.draw().request;
        let bytes = Command::resolving(request, own).encode();
        let command = EncodedCommand { request: own, bytes };
        self.ask(|completer| Event::Resolve { command, completer })
    }

    fn read(&self, timeout: Option<Duration>) -> Pending<()> {
        let timeout = timeout.unwrap_or(self.request_timeout);
        self.ask(|completer| Event::Read { completer, timeout })
    }

    fn wait_for(&self, txid: TxId) -> Pending<()> {
        let timeout = self.request_timeout;
        self.ask(|completer| Event::WaitFor { txid, completer, timeout })
    }

    fn change(&self, edit: Edit) -> Pending<Membership> {
        self.ask(|completer| Event::Change { edit, completer })
    }

    fn hand_over(&self, to: ReplicaId) -> Pending<()> {
        self.ask(|completer| Event::HandOver { to, completer })
    }

    fn next_leader(&self, known: Option<Ballot>) -> Pending<Option<Ballot>> {
        self.ask(|completer| Event::NextLeader { known, completer })
    }

    fn checkpoint(&self) -> Pending<()> {
        self.ask(|completer| Event::Checkpoint { completer })
    }

    fn backup(&self) -> Pending<Box<Backup>> {
        self.ask(|completer| Event::Backup { completer })
    }

    fn store(&self) -> &Arc<Current> {
        &self.store
    }

    fn entries(&self, from: Slot, end: Slot) -> EntryIterator {
        Box::new(AppliedEntries::new(self.reader.clone(), self.tail.clone(), from, end))
    }

    fn report(&self) -> (Report, Vec<PeerCounters>) {
        let counters = self.transport.as_ref().map(|transport| transport.counters());
        (self.report_now(), counters.unwrap_or_default())
    }

    fn strangers(&self) -> Vec<Member> {
        let counters = self.transport.as_ref().map(|transport| transport.counters());
        self.gate.strangers_among(&counters.unwrap_or_default())
    }

    fn close(&self) -> Result<()> {
        self.push(Event::Close(self.close_timeout));
        let patience = self.close_timeout.saturating_add(JOIN_PATIENCE);
        self.life.wait_stopped(patience);
        match self.end() {
            (_, Some(err)) if err.kind() != ErrorKind::Closed => Err(err),
            (true, Some(_)) => Ok(()),
            _ => Err(not_ended(self.id, patience)),
        }
    }

    fn shut_down(&self) {
        // Nobody is left to be told how it ended.
        let _ = self.end();
    }
}

impl<D: Disk> Engine<D> {
    /// Ends all threads, and gives the directory back. Returns whether that was done in time, and
    /// why the replica stopped, where that can be seen in time.
    fn end(&self) -> (bool, Option<Error>) {
        if !self.life.is_stopped() {
            // Dropped without being closed: what was not proposed does not happen.
            self.push(Event::Close(Duration::ZERO));
        }
        self.stop();
        self.life.end();
        self.jobs.wake_all();
        self.clock.wake();
        // Handles and answers may outlive the replica, and must not keep the directory. But while
        // anything may still write to it, nobody else may open it. A thread that waits for a name
        // server, say, does not write, and will not.
        let have_ended = self.life.wait_ended(JOIN_PATIENCE) || !self.life.may_write();
        // A turn that hangs has the driver: it is waited for once, and looks at the inbox behind.
        let Some(driver) = self.driver.try_lock_for(JOIN_PATIENCE) else { return (false, None) };
        // The clock has stopped: nobody else sees that the time is over.
        let wakers = self.take_turn(driver, true);
        let ended = self.borrow_driver(|driver| {
            let is_released = have_ended && driver.release();
            if is_released {
                // Where a waker that a writer called closes the replica, that thread looks at the
                // jobs once more: one that is left would be written without the lock.
                self.jobs.clear();
            }
            (is_released, driver.report().stopped)
        });
        wake_all(wakers);
        // An event that came meanwhile: no clock would take it.
        self.drive();
        ended.unwrap_or((false, None))
    }

    /// Lets `work` have the driver, unless a turn that hangs has it. Somebody may find it taken
    /// meanwhile, and leave an event to who has it.
    fn borrow_driver<R>(&self, work: impl FnOnce(&mut Driver<D>) -> R) -> Option<R> {
        let mut driver = self.driver.try_lock_for(JOIN_PATIENCE)?;
        let result = work(&mut driver);
        drop(driver);
        self.drive();
        Some(result)
    }
}
