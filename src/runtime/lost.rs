//! A peer lacks what this replica lost as well.
//!
//! The entry is fetched from whoever else has it (`repair.rs`), and the peer asks them, too. Where
//! nobody gives it for long, since all others trimmed or lost it, or are gone, the peer is not left
//! waiting for ever: it is told that the entry is lost, and takes in a checkpoint that holds what
//! it did. What it would have had of the ledger before that is the price, and so it is not told
//! early.
//!
//! Invariants:
//! * A peer is told that an entry is lost only where a checkpoint here reaches further.
//!
//! Not here: what was trimmed (`trimming.rs`): nobody is waited for.

use std::collections::BTreeMap;

use crate::journal::JournalError;
use crate::journal::disk::Disk;
use crate::paxos::step::Serve;
use crate::types::entry::Entry;
use crate::types::ids::{ReplicaId, Slot};
use crate::types::limits::{OBSERVERS_MAX, VOTERS_MAX};
use crate::types::message::{Envelope, Message};
use crate::types::time::Moment;

use super::driver::Driver;

/// The peers that want what was lost.
#[derive(Debug, Default)]
pub(super) struct Lost {
    /// Each of them, and for which slot it waits. A peer may ask for several in turn.
    waiting: BTreeMap<(ReplicaId, Slot), Waiting>,
    /// When anything came last of what is missing here: more of it may.
    pub(super) came_at: Moment,
}

#[derive(Debug)]
struct Waiting {
    since: Moment,
    asked_at: Moment,
}

impl<D: Disk> Driver<D> {
    /// A peer wants an entry that is not durable here yet, or lost.
    ///
    /// A loss is told, and the replica goes on: its state is whole, and what it acknowledges from
    /// now on is not touched by it.
    pub(super) fn cannot_serve(&mut self, serve: Serve, read: Result<Vec<Entry>, JournalError>) {
        // It comes again, and is answered once files may be opened.
        if read.as_ref().is_err_and(JournalError::is_passing) {
            return;
        }
        if self.is_lost(serve.from, &read) {
            self.repair_beside_serving(serve.from, read.err());
            self.lacks_as_well(serve.to, serve.from);
        }
    }

    /// The peer waits, for as long as somebody else may give one of the two the entry.
    pub(super) fn lacks_as_well(&mut self, to: ReplicaId, slot: Slot) {
        let (now, patience) = (self.now, self.repair_patience());
        let Lost { waiting, came_at } = &mut self.repair.lost;
        // Who asks everyone, and for several, comes back after a while; who is away begins anew.
        let peers = (VOTERS_MAX + OBSERVERS_MAX) as u32;
        let rounds = 2 * peers * self.options.retransmit_interval;
        waiting.retain(|_, it| now.since(it.asked_at) < rounds.max(patience / 4));
        if waiting.len() >= WAITING_MAX {
            waiting.pop_last();
        }
        let fresh = Waiting { since: now, asked_at: now };
        let it = waiting.entry((to, slot)).or_insert(fresh);
        it.asked_at = now;
        if now.since(it.since.max(*came_at)) < patience {
            return;
        }
        if slot < self.slot_whole() {
            self.effects.sends.push(Envelope { to, message: Message::Lost { slot } });
        } else {
            self.checkpoints.want_below(slot.next());
        }
    }
}

/// How many questions are remembered; where there are more, one of them begins anew.
const WAITING_MAX: usize = 1024;
