//! Giving away the newest checkpoint, part by part, to a replica that lacks what was trimmed here.
//!
//! ```text
//!   lags                              has a checkpoint
//!     |  Fetch(slot)                     |
//!     |--------------------------------->|
//!     |  Trimmed(first)                  |
//!     |<---------------------------------|
//!     |  FetchCheckpoint(none, 0)        |   a job reads the part
//!     |--------------------------------->|
//!     |  CheckpointPart(slot, 0, bytes)  |
//!     |<---------------------------------|
//!     |  FetchCheckpoint(slot, offset)   |   and so on, from wherever it stopped
//!     |--------------------------------->|
//! ```
//!
//! Who gets it asks for each part, so a slow one costs nothing but the file, which stays for it
//! though newer ones replace it, and the entries behind it, which are not trimmed meanwhile. Who
//! does not ask for a while is forgotten, and begins with what is newest then.
//!
//! Invariants:
//! * Parts are read by jobs, behind all writes: no commit waits for one.
//! * One part is under way to each at most.

use std::collections::BTreeMap;

use crate::journal::Checkpoint;
use crate::journal::disk::Disk;
use crate::types::ids::{ReplicaId, Slot};
use crate::types::limits::VOTERS_MAX;
use crate::types::marks::reached;
use crate::types::message::{CheckpointPart, Envelope, Message};
use crate::types::time::Moment;

use super::driver::Driver;

/// Whom this replica sends a checkpoint.
#[derive(Debug)]
pub(super) struct Sending<D: Disk> {
    to: BTreeMap<ReplicaId, Sent<D>>,
}

#[derive(Debug)]
struct Sent<D: Disk> {
    checkpoint: Checkpoint<D>,
    asked_at: Moment,
    /// A part is being read.
    reads: bool,
}

impl<D: Disk> Default for Sending<D> {
    fn default() -> Self {
        Self { to: BTreeMap::new() }
    }
}

impl<D: Disk> Sending<D> {
    /// A peer goes on behind what it was sent.
    pub(super) fn touch(&mut self, to: ReplicaId, now: Moment) {
        if let Some(sent) = self.to.get_mut(&to) {
            sent.asked_at = now;
        }
    }

    /// The lowest slot behind which somebody will want to go on.
    pub(super) fn first(&self) -> Option<Slot> {
        self.to.values().map(|sent| sent.checkpoint.header().slot).min()
    }
}

impl<D: Disk> Driver<D> {
    /// A peer wants a part of a checkpoint: of the one of `slot`, or of the newest there is.
    pub(super) fn on_fetch_checkpoint(&mut self, to: ReplicaId, slot: Option<Slot>, offset: u64) {
        let known = self.sending.to.get(&to).map(|sent| &sent.checkpoint);
        let mut kept = known.into_iter().chain(self.journal.checkpoints());
        let found = kept.find(|kept| slot == Some(kept.header().slot)).cloned();
        // Of another one it has nothing yet.
        let offset = if found.is_some() { offset } else { 0 };
        let Some(checkpoint) = found.or_else(|| self.journal.checkpoint().cloned()) else { return };
        if known.is_none() && SENDING_MAX <= self.sending.to.len()
            || self.sending.to.get(&to).is_some_and(|sent| sent.reads)
        {
            return;
        }
        let bytes_max = PART_BYTES.min(self.options.message_bytes_max.max(PART_BYTES_MIN));
        self.journal.read_part(to, checkpoint.clone(), (offset, bytes_max));
        let sent = Sent { checkpoint, asked_at: self.now, reads: true };
        self.sending.to.insert(to, sent);
    }

    /// Sends what was read.
    pub(super) fn go_on_sending(&mut self) {
        for part in self.journal.take_parts() {
            if let Some(sent) = self.sending.to.get_mut(&part.to) {
                sent.reads = false;
            }
            let (to, offset, checkpoint) = (part.to, part.offset, part.checkpoint);
            match part.bytes {
                Ok(bytes) => {
                    reached!(CheckpointPartSent);
                    let (slot, bytes_total) = (checkpoint.header().slot, checkpoint.bytes());
                    let part = CheckpointPart { slot, offset, bytes_total, bytes };
                    let message = Message::CheckpointPart(part);
                    self.effects.sends.push(Envelope { to, message });
                }
                // Who asked turns to somebody else, or to what is newest then.
                Err(err) => {
                    self.sending.to.remove(&to);
                    self.damage = Some(err.into());
                }
            }
        }
        let (now, patience) = (self.now, self.options.election_timeout * PATIENCE);
        self.sending.to.retain(|_, sent| sent.reads || now.since(sent.asked_at) < patience);
    }
}

/// Bytes of a part, at most, where messages may be so long.
const PART_BYTES: usize = 256 * 1024;

/// However short messages are to be: the header of a checkpoint and a little more.
const PART_BYTES_MIN: usize = 1024;

/// Most replicas that a checkpoint is sent to at a time.
const SENDING_MAX: usize = VOTERS_MAX;

/// How many election timeouts the file is kept for somebody who asks for nothing more.
const PATIENCE: u32 = 16;
