//! How a chosen entry reaches the state, and those who wait for what became of its commands.
//!
//! Invariants:
//! * Whoever reads the ledger finds every slot that the state shows.

use crate::journal::disk::Disk;
use crate::store::verdict::Verdict;
use crate::types::bugs::{self, Bug};
use crate::types::command::Command;
use crate::types::edition::Edition;
use crate::types::entry::{Entry, EntryKind};
use crate::types::error::{Error, ErrorKind, Result};
use crate::types::ids::{RequestId, Slot};
use crate::types::marks::reached;
use crate::types::message::EncodedCommand;

use super::batcher::Queued;
use super::driver::Driver;
use super::journaling::reversed;
use super::writes::Told;

impl<D: Disk> Driver<D> {
    /// Applies the entry of the next slot.
    pub(super) fn apply(&mut self, slot: Slot, entry: &Entry) -> Result<()> {
        self.check_edition(entry.edition())?;
        if entry.edition() > Edition::FIRST {
            reached!(EditionApplied);
        }
        // Before the state shows it: who reads the ledger finds every applied slot.
        self.tail.push(slot, entry, self.journal.last_lsn(), self.journal.frontier());
        let turned = bugs::is_on(Bug::ApplyByBoot)
            && self.journal.identity().boot.nonce & 1 == 1
            && entry.command_count() > 1;
        let reversed = turned.then(|| reversed(entry));
        let entry = reversed.as_ref().unwrap_or(entry);
        #[cfg(feature = "sim")]
        if bugs::is_on(Bug::EvictByClock) && self.now.0.is_multiple_of(64) {
            self.store.forget_session();
        }
        let applied = self.store.apply(slot, entry).map_err(|err| {
            Error::caused(ErrorKind::Poisoned, "the ledger cannot be applied here", err)
        })?;
        if entry.kind() == EntryKind::Membership
            && let Some(governing) = self.store.membership()
        {
            self.check_edition(governing.edition())?;
            self.note_own_address(&governing);
        }
        self.time = self.time.max(applied.time);
        self.checkpoints.count(entry);
        if let Some(proposal) = self.proposals.remove(&slot) {
            self.end_proposal(proposal, entry);
        }
        if entry.kind() == EntryKind::Membership && self.paxos.is_some() {
            // The core knows it already, if it changes anything. One that begins tells it at once.
            self.tell_standing();
            self.look_who_shares();
        }
        let mut in_vain = false;
        for (ended, bytes) in applied.verdicts.into_iter().zip(entry.commands()) {
            if let Some(burned) = ended.verdict.burned() {
                in_vain |= self.tell(burned, Verdict::Burned, &[]);
            }
            if let Some(forgotten) = ended.verdict.forgotten() {
                self.requests.writes.keep_name(forgotten);
            }
            in_vain |= self.tell(ended.request, ended.verdict, bytes);
        }
        if in_vain {
            // They were about to be proposed once more.
            self.drop_unwaited();
        }
        Ok(())
    }

    /// A verdict is known over a command of these bytes. Whoever waits for it here is answered.
    /// Returns whether the command is still in the queue, to no end.
    fn tell(&mut self, request: RequestId, verdict: Verdict, bytes: &[u8]) -> bool {
        let forgotten = verdict == Verdict::Forgotten;
        let told = self.requests.writes.tell(request, verdict);
        if forgotten && !matches!(told, Told::Nobody) {
            // It was no copy of what was answered: nothing of its session is applied any more.
            self.tickets.expire(request.session);
        }
        match told {
            Told::Nobody => false,
            Told::Renew => {
                self.renew(request, bytes);
                false
            }
            Told::Answer(answer, in_vain) => {
                self.effects.answers.push(answer);
                in_vain
            }
        }
    }

    /// A command of a session that the state has forgotten: it certainly did not happen, and goes
    /// on under another session.
    fn renew(&mut self, request: RequestId, bytes: &[u8]) {
        reached!(SessionRenewed);
        let ticket = self.tickets.draw(|| self.store.applied().commands);
        let mut command = Command::decode(bytes).expect("what is applied decodes");
        command.request = ticket.request;
        command.settled_below = ticket.settled_below;
        self.requests.rename_write(request, ticket.request);
        let command = EncodedCommand { request: ticket.request, bytes: command.encode() };
        self.batcher.push(Queued { command, origin: None });
    }
}
