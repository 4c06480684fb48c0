//! Giving away the newest checkpoint, part by part, to a replica that lacks what was trimmed
//! here, or what everybody lost.
//!
//! ```text
//!   lags                              has a checkpoint
//!     |  Fetch(slot)                     |
//!     |--------------------------------->|
//!     |  Trimmed(first), or Lost(slot)   |
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
//! though newer ones replace it, and the entries behind it, which are not trimmed meanwhile: once
//! it asks for those, the ones from there on. Who does not ask for a while is forgotten: it goes on
//! where that checkpoint is still there, and begins anew where it is not. Who begins anew though
//! nothing newer is there, may have found that it is damaged: it gets the older one, and where that
//! does not help, another one is taken.
//!
//! Where nothing was written here lately, each part is read as soon as it is asked for. Beside
//! commits they are spread: the processor and the disk of both ends would be missed there.
//!
//! Invariants:
//! * Parts are read by jobs, behind all writes: no commit waits for one.
//! * One part is under way to each at most.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::journal::Checkpoint;
use crate::journal::disk::Disk;
use crate::types::ids::{ReplicaId, Slot};
use crate::types::limits::VOTERS_MAX;
use crate::types::marks::reached;
use crate::types::message::{CheckpointPart, Envelope, Message};
use crate::types::time::Moment;

use super::checkpoints::time_for;
use super::driver::Driver;
use super::receiving::AGAIN_TIMEOUTS;

/// Whom this replica sends a checkpoint.
#[derive(Debug)]
pub(super) struct Sending<D: Disk> {
    to: BTreeMap<ReplicaId, Sent<D>>,
    /// Who has it, and goes on behind it: from where, and since when.
    behind: BTreeMap<ReplicaId, (Slot, Moment)>,
    /// Which was the newest checkpoint when each peer began with one last, and how often it has
    /// begun anew since that was.
    begun: BTreeMap<ReplicaId, (Slot, u32)>,
}

#[derive(Debug)]
struct Sent<D: Disk> {
    checkpoint: Checkpoint<D>,
    asked_at: Moment,
    /// It has some of it, and asks for more.
    has_begun: bool,
    /// When it was last heard to need the checkpoint, or what is behind it.
    needed_at: Moment,
    /// Its last part was sent.
    is_sent_whole: bool,
    /// From where on it wants a part that is not being read yet.
    wanted: Option<u64>,
    /// A part is being read.
    reads: bool,
    /// When the next part comes, beside commits.
    next_at: Moment,
}

impl<D: Disk> Default for Sending<D> {
    fn default() -> Self {
        Self { to: BTreeMap::new(), behind: BTreeMap::new(), begun: BTreeMap::new() }
    }
}

impl<D: Disk> Sending<D> {
    /// A peer asks for the entries from a slot on. Who was sent a checkpoint up to there has it,
    /// and goes on behind it; who was not may be taking it in.
    pub(super) fn touch(&mut self, to: ReplicaId, from: Slot, now: Moment) {
        if let Some(sent) = self.to.get_mut(&to) {
            sent.needed_at = now;
            if sent.is_sent_whole && sent.checkpoint.header().slot <= from {
                self.to.remove(&to);
                self.behind.insert(to, (from, now));
            }
        } else if let Some((needed, at)) = self.behind.get_mut(&to)
            && *needed < from
        {
            (*needed, *at) = (from, now);
        }
    }

    /// When to look again, if nothing happens before.
    pub(super) fn wake_at(&self, now: Moment) -> Option<Moment> {
        let wanted = self.to.values().filter(|sent| sent.wanted.is_some() && !sent.reads);
        wanted.map(|sent| sent.next_at).filter(|at| now < *at).min()
    }

    /// The checkpoint that is being sent to a peer. Before the first part has come there, it asks
    /// for any, again and again; who does so after a `pause` begins anew.
    fn under_way(
        &self,
        to: ReplicaId,
        slot: Option<Slot>,
        (now, pause): (Moment, Duration),
    ) -> Option<&Checkpoint<D>> {
        let sent = self.to.get(&to)?;
        let is_meant = match slot {
            Some(slot) => slot == sent.checkpoint.header().slot,
            None => !sent.has_begun && now.since(sent.asked_at) < pause,
        };
        is_meant.then_some(&sent.checkpoint)
    }

    /// The lowest slot behind which somebody will want to go on.
    pub(super) fn first(&self) -> Option<Slot> {
        let sent = self.to.values().map(|sent| sent.checkpoint.header().slot);
        sent.chain(self.behind.values().map(|(needed, _)| *needed)).min()
    }
}

impl<D: Disk> Driver<D> {
    /// A peer wants a part of a checkpoint: of the one of `slot`, or of any.
    pub(super) fn on_fetch_checkpoint(&mut self, to: ReplicaId, slot: Option<Slot>, offset: u64) {
        match self.sending.to.get(&to) {
            Some(sent) if sent.reads => return,
            None if SENDING_MAX <= self.sending.to.len() => return,
            Some(_) | None => {}
        }
        let is_named = |kept: &&Checkpoint<D>| slot == Some(kept.header().slot);
        // Longer than who waits for the first part lets pass before it asks once more.
        let pause = (self.now, self.options.election_timeout * (AGAIN_TIMEOUTS + 1));
        let under_way = self.sending.under_way(to, slot, pause);
        let found = under_way.or_else(|| self.journal.checkpoints().iter().find(is_named)).cloned();
        // Of another one it has nothing yet.
        let offset = if found.is_some() && slot.is_some() { offset } else { 0 };
        let Some(checkpoint) = found.or_else(|| self.choose_checkpoint(to)) else { return };
        let sent = Sent {
            checkpoint,
            asked_at: self.now,
            has_begun: offset > 0,
            needed_at: self.now,
            is_sent_whole: false,
            wanted: Some(offset),
            reads: false,
            next_at: self.sending.to.get(&to).map_or(self.now, |before| before.next_at),
        };
        self.sending.to.insert(to, sent);
    }

    /// The newest checkpoint; for who began with that one before, the older one, which is kept for
    /// where the newest is damaged, and so by turns. Where there is none, or it did not help
    /// either, another one is wanted.
    fn choose_checkpoint(&mut self, to: ReplicaId) -> Option<Checkpoint<D>> {
        // Behind one that ends before the journal begins, only the newest helps.
        let (kept, trimmed) = (self.journal.checkpoints(), self.journal.slot_trimmed());
        let useful = kept.iter().take_while(|kept| trimmed <= kept.header().slot).count();
        let kept = &kept[..useful.clamp(kept.len().min(1), kept.len())];
        let slot = kept.first()?.header().slot;
        let before = self.sending.begun.get(&to).filter(|(newest, _)| *newest == slot);
        let tried = before.map_or(0, |(_, tried)| tried + 1);
        let chosen = kept[tried as usize % kept.len()].clone();
        if kept.len() <= tried as usize {
            self.checkpoints.want_other_than(slot);
        }
        if SENDING_MAX <= self.sending.begun.len() && !self.sending.begun.contains_key(&to) {
            self.sending.begun.pop_first();
        }
        self.sending.begun.insert(to, (slot, tried));
        Some(chosen)
    }

    /// Reads what is wanted, where it is time.
    fn read_wanted(&mut self) {
        let now = self.now;
        let is_beside_commits = self.is_beside_commits();
        let bytes_max = PART_BYTES.min(self.options.message_bytes_max.max(PART_BYTES_MIN));
        let next_at = now + time_for(bytes_max as u64, self.options.checkpoint_bytes_per_second);
        for (to, sent) in &mut self.sending.to {
            let waits = is_beside_commits && now < sent.next_at;
            if waits && sent.wanted.is_some() {
                reached!(PartPaced);
            }
            if sent.reads || waits {
                continue;
            }
            let Some(offset) = sent.wanted.take() else { continue };
            self.journal.read_part(*to, sent.checkpoint.clone(), (offset, bytes_max));
            (sent.reads, sent.next_at) = (true, next_at);
        }
    }

    /// Sends what was read, and has more read.
    pub(super) fn go_on_sending(&mut self) {
        for part in self.journal.take_parts() {
            let (to, offset, checkpoint) = (part.to, part.offset, part.checkpoint);
            let mut sent = self.sending.to.get_mut(&to);
            if let Some(sent) = &mut sent {
                sent.reads = false;
            }
            match part.bytes {
                Ok(bytes) => {
                    reached!(CheckpointPartSent);
                    let (slot, bytes_total) = (checkpoint.header().slot, checkpoint.bytes());
                    if let Some(sent) = sent {
                        sent.is_sent_whole = bytes_total <= offset + bytes.len() as u64;
                    }
                    let part = CheckpointPart { slot, offset, bytes_total, bytes };
                    let message = Message::CheckpointPart(part);
                    self.effects.sends.push(Envelope { to, message });
                }
                // Who asked turns to somebody else, or to another checkpoint.
                Err(err) => {
                    self.sending.to.remove(&to);
                    self.damage = Some(err.into());
                }
            }
        }
        self.read_wanted();
        let (now, patience) = (self.now, self.options.election_timeout * KEPT_TIMEOUTS);
        let to_take_in = self.options.election_timeout * TAKEN_IN_TIMEOUTS;
        // One that has no name any more takes space that only its end gives back.
        let (kept, is_short) = (self.journal.checkpoints(), self.journal.lacks_space());
        let takes_space = |sent: &Sent<D>| {
            let slot = sent.checkpoint.header().slot;
            is_short && kept.iter().all(|kept| kept.header().slot != slot)
        };
        self.sending.to.retain(|_, sent| {
            let is_needed = now.since(sent.needed_at) < patience && !takes_space(sent);
            sent.reads || is_needed && now.since(sent.asked_at) < to_take_in
        });
        self.sending.behind.retain(|_, (_, at)| now.since(*at) < patience);
    }
}

/// Bytes of a part, at most, where messages may be so long.
const PART_BYTES: usize = 256 * 1024;

/// However short messages are to be: the header of a checkpoint and a little more.
const PART_BYTES_MIN: usize = 1024;

/// Who asks for no part any more for so many election timeouts does not take in what it has: it has
/// no space for it, say.
const TAKEN_IN_TIMEOUTS: u32 = 600;

/// Most replicas that a checkpoint is sent to at a time.
const SENDING_MAX: usize = VOTERS_MAX;

/// How many election timeouts the file is kept for somebody who asks for nothing more.
const KEPT_TIMEOUTS: u32 = 16;
