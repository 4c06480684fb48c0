//! What callers ask of this replica: taken with a deadline, or refused at once.
//!
//! Invariants:
//! * Whoever is refused here, nothing was done for.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use crate::journal::disk::Disk;
use crate::paxos::step::Input;
use crate::store::verdict::Committed;
use crate::types::error::{Error, ErrorKind};
use crate::types::ids::{SessionId, TxId};
use crate::types::message::EncodedCommand;

use super::batcher::Queued;
use super::driver::{Driver, Stage};
use super::ending::closing;
use super::pending::Completer;
use super::requests::Answer;

impl<D: Disk> Driver<D> {
    /// Under which session commands of this replica are known, and their next number.
    #[must_use]
    pub fn session(&self) -> (SessionId, Arc<AtomicU64>) {
        (self.session, Arc::clone(&self.sequences))
    }

    /// Every call is answered within this time.
    #[must_use]
    pub fn request_timeout(&self) -> Duration {
        self.options.request_timeout
    }

    /// A caller submits a transaction.
    pub(super) fn on_propose(&mut self, command: EncodedCommand, completer: Completer<Committed>) {
        let refuse = if matches!(self.stage, Stage::Closing(_)) {
            Some(closing())
        } else if self.space.is_short() {
            Some(Error::new(ErrorKind::StorageFull, super::space::FULL))
        } else if !self.batcher.has_room(command.bytes.len(), self.options.queued_bytes_max) {
            let max = self.options.queued_bytes_max;
            let message = format!("more than {max} bytes of transactions wait for a slot");
            Some(Error::new(ErrorKind::Busy, message))
        } else {
            None
        };
        if let Some(err) = refuse {
            self.effects.answers.push(Answer::Write(completer, Err(err)));
            return;
        }
        let deadline = self.now + self.options.request_timeout;
        self.requests.add_write(command.request.sequence, completer, deadline);
        self.batcher.push(Queued { command, origin: None });
    }

    /// A caller begins a linearizable read.
    pub(super) fn on_read(&mut self, completer: Completer<()>, timeout: Duration) {
        if matches!(self.stage, Stage::Closing(_)) {
            self.effects.answers.push(Answer::Read(completer, Err(closing())));
            return;
        }
        let read = self.requests.add_read(completer, self.now + timeout);
        self.step(Input::Read(read));
    }

    /// A caller waits until a transaction is applied here.
    pub(super) fn on_wait_for(&mut self, txid: TxId, completer: Completer<()>, timeout: Duration) {
        let answer = if txid <= self.store.applied().txid {
            Ok(())
        } else if matches!(self.stage, Stage::Closing(_)) {
            Err(closing())
        } else {
            return self.requests.add_wait(txid, completer, self.now + timeout);
        };
        self.effects.answers.push(Answer::Read(completer, answer));
    }
}
