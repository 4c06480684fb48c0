//! What callers ask of this replica: taken with a deadline, or refused at once.
//!
//! Invariants:
//! * Whoever is refused here, nothing was done for.

use std::time::Duration;

use crate::journal::disk::Disk;
use crate::paxos::step::Input;
#[cfg(feature = "sim")]
use crate::store::verdict::Resolution;
use crate::types::bugs::{self, Bug};
#[cfg(feature = "sim")]
use crate::types::command::Command;
use crate::types::error::{Error, ErrorKind};
use crate::types::ids::TxId;
use crate::types::message::EncodedCommand;

use super::batcher::Queued;
use super::driver::{Driver, Stage};
use super::ending::closing;
use super::pending::Completer;
use super::requests::Answer;
use super::tickets::Tickets;
use super::writes::Asker;

impl<D: Disk> Driver<D> {
    /// Who gives commands of this replica their names.
    #[must_use]
    pub fn tickets(&self) -> Tickets {
        self.tickets.clone()
    }

    /// Most bytes of commands that wait for a slot.
    #[must_use]
    pub fn queued_bytes_max(&self) -> usize {
        self.options.queued_bytes_max
    }

    /// Every call is answered within this time.
    #[must_use]
    pub fn request_timeout(&self) -> Duration {
        self.options.request_timeout
    }

    /// A caller submits a transaction, or wants one resolved. What was submitted `again` may have
    /// happened already.
    pub(super) fn on_submit(&mut self, command: EncodedCommand, asker: Asker, again: bool) {
        let request = command.request;
        let refuse = if matches!(self.stage, Stage::Closing(_)) {
            Some(closing())
        } else if self.space.is_short() {
            Some(Error::new(ErrorKind::StorageFull, super::space::FULL))
        } else if let Some(err) = self.refuse_write(command.bytes.len()) {
            Some(err)
        } else if again && self.requests.writes.contains(request) {
            Some(Error::new(ErrorKind::Busy, "the same transaction is under way here"))
        } else {
            None
        };
        if let Some(err) = refuse {
            if !again {
                self.requests.writes.note_refused(request);
            }
            self.effects.answers.push(asker.refuse(request, err, again));
            return;
        }
        #[cfg(feature = "sim")]
        let asker = match self.mistake(&command, asker) {
            Some(asker) => asker,
            None => return,
        };
        let deadline = self.now + self.options.request_timeout;
        self.requests.add_write(request, asker, deadline, again);
        self.batcher.push(Queued { command, origin: None });
    }

    /// Makes a mistake: tells at once that what is not known here did not happen.
    #[cfg(feature = "sim")]
    fn mistake(&mut self, command: &EncodedCommand, asker: Asker) -> Option<Asker> {
        if !bugs::is_on(Bug::ResolveWithoutLog) {
            return Some(asker);
        }
        let resolved = Command::decode(&command.bytes).ok().and_then(|command| command.resolves);
        match (resolved, asker) {
            (Some(resolved), Asker::Resolve(completer)) if !self.store.is_known(resolved) => {
                let answer = Answer::Resolution(completer, Ok(Resolution::Burned));
                self.effects.answers.push(answer);
                None
            }
            (_, asker) => Some(asker),
        }
    }

    /// Whoever was answered need not be remembered in the state.
    pub(super) fn settle_tickets(&mut self) {
        let settled = self.requests.writes.take_settled();
        if !settled.is_empty() {
            self.tickets.settle(settled);
        }
    }

    /// A caller begins a linearizable read.
    pub(super) fn on_read(&mut self, completer: Completer<()>, timeout: Duration) {
        if matches!(self.stage, Stage::Closing(_)) {
            self.effects.answers.push(Answer::Read(completer, Err(closing())));
            return;
        }
        if let Some(err) = self.refuse_read() {
            self.effects.answers.push(Answer::Read(completer, Err(err)));
            return;
        }
        let read = self.requests.add_read(completer, self.now + timeout);
        self.step(Input::Read(read));
    }

    /// A caller waits until a transaction is applied here.
    pub(super) fn on_wait_for(&mut self, txid: TxId, completer: Completer<()>, timeout: Duration) {
        let answer = if self.store.gave_up(txid) {
            Err(Error::lost(txid))
        } else if txid <= self.store.applied().txid || bugs::is_on(Bug::WaitCutShort) {
            Ok(())
        } else if matches!(self.stage, Stage::Closing(_)) {
            Err(closing())
        } else if let Some(err) = self.refuse_read() {
            Err(err)
        } else {
            return self.requests.add_wait(txid, completer, self.now + timeout);
        };
        self.effects.answers.push(Answer::Read(completer, answer));
    }
}
