//! Where the driver meets its journal: records in, held messages out, entries read for peers.

use std::time::Duration;

use crate::journal::disk::Disk;
use crate::paxos::step::{Input, Serve};
use crate::types::bugs::{self, Bug};
use crate::types::entry::{Entry, EntryBuilder};
use crate::types::error::Result;
use crate::types::ids::{Slot, SlotRange};
use crate::types::message::{Chosen, Envelope, Message};
use crate::types::record::Record;
use crate::types::time::Moment;

use super::driver::{Driver, Stage};

impl<D: Disk> Driver<D> {
    /// Appends records, and with them what is known lazily: how applied commands ended, and what
    /// was seen of the peers.
    pub(super) fn append(&mut self, records: &[Record]) -> Result<()> {
        let before = self.journal.last_lsn();
        self.append_lazy(records.is_empty())?;
        let chosen = self.view().map_or(Slot::ZERO, |view| view.slot_chosen);
        let lsn = self.journal.append(records, chosen)?;
        if !records.is_empty() {
            self.fence.bind(lsn);
        }
        if let Some(paxos) = self.paxos.as_mut().filter(|_| before < self.journal.last_lsn()) {
            paxos.note_journaled(chosen);
        }
        self.appended_at = self.now;
        // Only now does the journal show what the core knows: from this frame on the directory may
        // say it.
        if self.is_sharing_unsaid() {
            self.sharing.get_or_insert(self.journal.last_lsn());
        }
        Ok(())
    }

    /// Appends what is known lazily. It says nothing of how far the log is chosen: the entries that
    /// the core learned last may be journaled only behind it, and in another group.
    pub(super) fn append_lazy(&mut self, idle: bool) -> Result<()> {
        let applied = self.store.applied().slot;
        if self.verdicts_journaled < applied {
            // Nobody asks any more how those ended that are trimmed.
            let first = self.verdicts_journaled.max(self.store.ledger_first());
            if first < applied {
                let slots = SlotRange { first, end: applied };
                self.append_lazily(Record::Verdicts(self.store.verdicts(slots)))?;
            }
            self.verdicts_journaled = applied;
        }
        if let Some(record) = self.fence.due(self.now, idle) {
            self.append_lazily(record)?;
            self.fence.recorded(self.journal.last_lsn(), self.now);
        }
        self.appended_at = self.now;
        Ok(())
    }

    fn append_lazily(&mut self, record: Record) -> Result<()> {
        let early = self.view().filter(|_| bugs::is_on(Bug::WatermarkEarly));
        match early {
            Some(view) => self.journal.append(&[record], view.slot_chosen)?,
            None => self.journal.append_lazy(&[record])?,
        };
        Ok(())
    }

    /// Whether so much waits for the disk that nothing more is taken on: a leader proposes nothing,
    /// and a voter drops what it is sent. Memory must not grow with what a slow disk is behind.
    pub(super) fn is_backlogged(&self) -> bool {
        self.journal.backlog_bytes() > self.options.journal_backlog_bytes_max
    }

    /// Lets go of the messages whose records are durable. Those to this replica itself go on in
    /// the core: its own promise and its own votes count like everyone's.
    pub(super) fn release_held(&mut self) -> bool {
        let frontier = self.journal.frontier();
        let told = self.fence.binding(frontier.lsn());
        let mut any = false;
        let too_early = bugs::is_on(Bug::AckBeforeSync);
        while let Some(held) = self.held.pop_if(|lsn| lsn <= frontier.lsn() || too_early) {
            any = true;
            let mut envelope = held.release(frontier);
            envelope.message.tell_frontier(told);
            if bugs::is_on(Bug::AckCurrentPromise)
                && let (Message::Accepted(it), Some(view)) = (&mut envelope.message, self.view())
            {
                it.ballot = view.promised;
            }
            if envelope.to == self.options.id {
                let (from, message) = (envelope.to, envelope.message);
                self.step(Input::Message { from, message });
            } else {
                self.effects.sends.push(envelope);
            }
        }
        any
    }

    /// Sends chosen entries from the journal, as many as fit a message. What this replica did not
    /// yet sync itself it does not send, nor what it cannot read any more (`lost.rs`): the peer
    /// asks again, and asks others.
    pub(super) fn serve(&mut self, serve: Serve) {
        self.sending.touch(serve.to, serve.from, self.now);
        if serve.from < self.slot_trimmed() {
            return self.tell_trimmed(serve.to);
        }
        let Some(view) = self.view() else { return };
        let bytes_max = self.options.message_bytes_max;
        let entries = match self.reader.read(serve.from, view.slot_chosen, bytes_max) {
            Ok(entries) if !entries.is_empty() => entries,
            read => return self.cannot_serve(serve, read),
        };
        let message = Message::Chosen(Chosen {
            first_slot: serve.from,
            entries,
            slot_chosen: view.slot_chosen,
            chain: view.chain,
        });
        self.effects.sends.push(Envelope { to: serve.to, message });
    }

    /// After a while without appends, a seal says that everything before it is durable: evidence
    /// for the next opening that a damaged tail was no torn one.
    pub(super) fn seal_when_idle(&mut self) -> Result<()> {
        if self.seal_at().is_none_or(|at| self.now < at) {
            return Ok(());
        }
        let remembers = self.paxos.is_none() || !self.fence.is_behind();
        if self.verdicts_journaled < self.store.applied().slot || !remembers {
            return self.append(&[]);
        }
        self.journal.seal()?;
        self.sealed = self.journal.last_lsn();
        Ok(())
    }

    /// When a seal is due, if the journal stays as it is.
    pub(super) fn seal_at(&self) -> Option<Moment> {
        let due = self.journal.is_idle() && self.sealed < self.journal.last_lsn();
        let wait = match self.stage {
            // The last thing that a closed journal says is that it is whole.
            Stage::Closing(_) => Duration::ZERO,
            Stage::Serving | Stage::Stopped(_) => self.options.seal_after,
        };
        due.then_some(self.appended_at + wait)
    }
}

/// The entry with its commands in the wrong order, for [`Bug::ApplyByBoot`].
pub(super) fn reversed(entry: &Entry) -> Entry {
    let mut commands = entry.commands().collect::<Vec<_>>();
    let mut builder = EntryBuilder::new(entry.time(), entry.bytes().len());
    commands.reverse();
    commands.into_iter().for_each(|command| builder.push(command));
    builder.finish()
}
