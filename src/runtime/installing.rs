//! Taking in a state that came from a peer: all of it, in one turn.
//!
//! The file has its name, so the next opening begins with it, whatever happens now. What follows is
//! the same in memory: the store is exchanged for another one, the journal forgets what it had of
//! the slots below, the protocol core goes on behind. A replica that is still opening begins with
//! it.
//!
//! What this replica proposed below is not seen any more. Its own callers' commands wait again:
//! they happen once, and are told the outcome that they had. Peers hand theirs on again by
//! themselves. What was forwarded may have happened below, too: of none of it is anybody told any
//! more that it certainly did not.
//!
//! Invariants:
//! * No state replaces one that stands behind a later slot.
//! * Everything that was learned before is applied before.

use std::sync::Arc;

use crate::journal::CheckpointHeader;
use crate::journal::disk::Disk;
use crate::paxos::step::{Input, Installed};
use crate::store::Store;
use crate::types::bugs::{self, Bug};
use crate::types::error::Result;
use crate::types::ids::Slot;
use crate::types::marks::reached;
use crate::types::message::EncodedCommand;

use super::batcher::Queued;
use super::driver::Driver;
use super::events;
use super::forwards::Proposal;

impl<D: Disk> Driver<D> {
    /// The checkpoint is whole, and this is the state in it.
    pub(super) fn install(&mut self, header: CheckpointHeader, store: Store) -> Result<()> {
        let CheckpointHeader { slot, chain, .. } = header;
        self.work()?;
        self.journal.go_on_behind();
        self.give_up_missing(slot);
        if slot <= self.store.applied().slot {
            self.store.trim_ledger(self.slot_trimmed());
        } else {
            events::installed(self.options.id, slot);
            let membership = store.membership().expect("a state without one was refused");
            self.check_edition(membership.edition())?;
            self.exchange_store(store, slot);
            self.requests.writes.doubt_all();
            if let Some(mut recovered) = self.repair.opening.take() {
                reached!(StateInstalledOpening);
                (recovered.slot_checkpointed, recovered.chain) = (slot, chain);
                recovered.slot_chosen = recovered.slot_chosen.max(slot);
                recovered.votes.retain(|(voted, ..)| recovered.slot_chosen <= *voted);
                recovered.unreadable.remove_below(slot);
                self.repair.members = self.newest_members(&recovered);
                self.repair.opening = Some(recovered);
                // What is remembered of members that are not known yet is kept.
                self.effects.standing = Some(self.standing());
                return Ok(());
            }
            self.retry_proposals_below(slot);
            self.step(Input::Install(Installed { slot, chain, membership }));
            self.tell_standing();
            self.look_who_shares();
        }
        Ok(())
    }

    /// Readers find `store` from now on; those who have a snapshot go on with it.
    fn exchange_store(&mut self, store: Store, slot: Slot) {
        self.time = self.time.max(store.applied().time);
        // To take the former one apart takes long where it is large: not in a turn.
        self.effects.former = Some(std::mem::replace(&mut self.store, Arc::new(store)));
        if !bugs::is_on(Bug::StateKeptByReaders) {
            drop(self.current.exchange(Arc::clone(&self.store)));
        }
        self.store.trim_ledger(self.slot_trimmed());
        self.tail.clear();
        self.verdicts_journaled = slot;
        self.checkpoints.restart();
    }

    /// What became of the proposals below `slot` is in the state, if they were chosen.
    fn retry_proposals_below(&mut self, slot: Slot) {
        let later = self.proposals.split_off(&slot);
        for Proposal { entry, commands } in
            std::mem::replace(&mut self.proposals, later).into_values()
        {
            self.forget_commands(&commands);
            for ((request, origin), bytes) in commands.into_iter().zip(entry.commands()) {
                if origin.is_none() && self.requests.writes.retry(request) {
                    reached!(RetriedBehindState);
                    let command = EncodedCommand { request, bytes: bytes.to_vec() };
                    self.batcher.push(Queued { command, origin: None });
                }
            }
        }
    }
}
