//! Checkpoints in the lives of a member: taken here, or come from a peer, which knows the log
//! farther; trimmed behind; rotten, all of them. Each step may be the last one before a crash.

use crate::journal::checkpoint::checkpoint_slot;
use crate::journal::{Checkpoint, Journal, JournalError};
use crate::sim::disk::{Mount, SimDisk};
use crate::sim::rng::Rng;
use crate::types::ids::Slot;
use crate::types::record::{Doubts, Record, Recovered};

use super::checkpoints::content;

/// What the member knows of its checkpoints.
#[derive(Debug, Default)]
pub(super) struct States {
    /// The newest that counts.
    newest: Slot,
    /// Any of them rotted since the last opening.
    rotten: bool,
}

/// What comes next, as far as the journal goes.
#[derive(Debug)]
pub(super) enum Next {
    /// One may be taken, or come.
    Free,
    /// One is under way, or came and the journal is to begin behind it.
    Waits,
    /// The state behind it takes the place of what was known.
    Install(Slot),
}

impl States {
    /// Looks at what counts by now, and goes on behind what came from a peer.
    pub(super) fn go_on(&mut self, journal: &mut Journal<Mount>) -> Next {
        let newest = journal.checkpoint().map(Checkpoint::header);
        self.newest = self.newest.max(newest.map_or(Slot::ZERO, |newest| newest.slot));
        if journal.is_taking_checkpoint() {
            return Next::Waits;
        }
        let received = newest.filter(|newest| newest.journal_from == newest.slot);
        let Some(slot) = received.map(|it| it.slot) else { return Next::Free };
        if slot <= journal.slot_trimmed() {
            return Next::Free;
        }
        if !journal.begins_behind(slot) {
            journal.begin_behind(slot);
            return Next::Waits;
        }
        journal.go_on_behind();
        Next::Install(slot)
    }

    /// Takes one of the state below `slot`, or lets it come.
    pub(super) fn begin(&self, journal: &mut Journal<Mount>, slot: Slot, is_received: bool) {
        if slot <= self.newest {
            return;
        }
        let (chain, pieces) = content(slot);
        match is_received {
            true => journal.begin_receiving(slot, chain, Box::new(pieces.into_iter())),
            false => journal.begin_checkpoint(slot, chain, Box::new(pieces.into_iter())),
        }
    }

    /// Removes what the older of two checkpoints holds, and says again what is in doubt.
    pub(super) fn trim(
        &self,
        journal: &mut Journal<Mount>,
        doubts: &Doubts,
    ) -> Result<Option<Slot>, JournalError> {
        let older = journal.checkpoints().get(1).map(|older| older.header().slot);
        let Some(limit) = older.filter(|limit| journal.can_trim(*limit, 0)) else {
            return Ok(None);
        };
        if !doubts.is_empty() {
            journal.append_lazy(&[Record::Doubts(doubts.clone())])?;
        }
        journal.trim(limit, 0);
        Ok(Some(limit))
    }

    /// One of them rots.
    pub(super) fn rot(&mut self, disk: &SimDisk, rng: &mut Rng) -> Option<String> {
        let mut names = disk.durable_names();
        names.retain(|name| checkpoint_slot(name).is_some());
        let name = (!names.is_empty()).then(|| rng.pick(&names).clone())?;
        let length = disk.durable_length(&name).filter(|length| *length > 0)?;
        let rotten = disk.flip(&name, rng.below(length as u64) as usize, 1 << rng.below(8));
        self.rotten |= rotten;
        rotten.then_some(name)
    }

    pub(super) fn compare(&mut self, recovered: &Recovered) {
        let found = recovered.slot_checkpointed;
        let is_kept = self.newest <= found || self.rotten;
        assert!(is_kept, "D10: {} counted, found is {found}", self.newest);
        assert!(found <= recovered.slot_chosen, "D10: what it holds is chosen");
        (self.newest, self.rotten) = (found, false);
    }
}
