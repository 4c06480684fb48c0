//! Checkpoints in the lives of a journal: begun at random, written step by step among everything
//! else, damaged sometimes; and whether each opening finds the newest that counts.
//!
//! Slots below a checkpoint are chosen, though this journal need not be durable so far when it is
//! begun: others voted, too. That is so when it counts.

use crate::journal::checkpoint::checkpoint_slot;
use crate::journal::{Journal, JournalError};
use crate::sim::disk::{Mount, SimDisk};
use crate::sim::rng::Rng;
use crate::types::ids::{Chain, Slot, SlotRange};
use crate::types::record::{Record, Recovered};

use super::owner::Owner;

/// What the owner knows of its checkpoints.
#[derive(Debug, Default)]
pub(super) struct Taken {
    /// The newest that counts, and the one that is being taken.
    newest: Slot,
    begun: Slot,
    /// One was damaged, and may still be there.
    rotten: bool,
    /// Every slot below is trimmed; and is to be.
    trimmed: Slot,
    limit: Slot,
}

/// The chain below a slot, and the pieces of the state.
pub(super) fn content(slot: Slot) -> (Chain, Vec<Vec<u8>>) {
    let piece = |number: u64| vec![(slot.0 + number) as u8; 300 + 100 * number as usize];
    (Chain(u128::from(slot.0) << 32 | 1), (0..slot.0 % 4).map(piece).collect())
}

impl Taken {
    /// Begins one, of any state that there is and that is newer.
    pub(super) fn begin(
        &mut self,
        owner: &mut Owner,
        journal: &mut Journal<Mount>,
        rng: &mut Rng,
    ) -> Option<Slot> {
        self.note(journal);
        let mut slot = owner.slot_chosen;
        let most = rng.below(3);
        // What was voted for here last, a quorum may have chosen.
        for _ in 0..most {
            let newest = owner.newest(slot).cloned().filter(|_| !owner.is_lost(slot));
            let Some(entry) = newest.filter(|entry| owner.may_be_chosen(slot, entry)) else {
                break;
            };
            owner.chosen.insert(slot, entry);
            slot = slot.next();
        }
        owner.slot_chosen = slot;
        if journal.is_taking_checkpoint() || slot <= self.newest {
            return None;
        }
        let (chain, pieces) = content(slot);
        journal.begin_checkpoint(slot, chain, Box::new(pieces.into_iter()));
        self.begun = slot;
        Some(slot)
    }

    /// Removes what the older of two checkpoints holds, and says again what else stands there.
    pub(super) fn trim(
        &mut self,
        owner: &Owner,
        journal: &mut Journal<Mount>,
        rng: &mut Rng,
    ) -> Result<Option<Slot>, JournalError> {
        let older = journal.checkpoints().get(1).map(|older| older.header().slot);
        let bytes_min = *rng.pick(&[0, 0, 100_000]);
        let Some(limit) = older.filter(|limit| journal.can_trim(*limit, bytes_min)) else {
            return Ok(None);
        };
        let mut doubts = owner.doubts.clone();
        owner.written.iter().for_each(|(_, slot, ..)| {
            doubts.settle(SlotRange::one(*slot));
        });
        if !doubts.is_empty() {
            journal.append_lazy(&[Record::Doubts(doubts)])?;
        }
        journal.trim(limit, bytes_min);
        self.limit = limit;
        Ok(Some(limit))
    }

    /// Takes note of which one counts.
    pub(super) fn note(&mut self, journal: &Journal<Mount>) {
        let newest = journal.checkpoint().map(|checkpoint| checkpoint.header().slot);
        self.newest = self.newest.max(newest.unwrap_or_default());
        let trimmed = journal.slot_trimmed();
        assert!(self.trimmed <= trimmed && trimmed <= self.limit, "D10: {self:?}, {trimmed}");
    }

    /// Damages one of two, as long as there is no other that is.
    pub(super) fn damage(&mut self, disk: &SimDisk, rng: &mut Rng) -> Option<String> {
        let mut names = disk.durable_names();
        names.retain(|name| checkpoint_slot(name).is_some());
        if names.len() < 2 || self.rotten {
            return None;
        }
        let name = rng.pick(&names).clone();
        // It may have been cut to nothing before.
        let length = disk.durable_length(&name).filter(|length| *length > 0)?;
        let at = rng.below(length as u64) as usize;
        self.rotten = match rng.below(3) {
            0 => disk.flip(&name, at, 1 << rng.below(8)),
            1 => disk.truncate(&name, at),
            _ => disk.make_unreadable(&name, at..at + 1),
        };
        Some(name)
    }

    /// Compares what an opening found. `damaged`: the journal was, ever.
    pub(super) fn compare(
        &mut self,
        journal: &Journal<Mount>,
        recovered: &Recovered,
        damaged: bool,
    ) {
        let kept = journal.checkpoints();
        let slots = kept.iter().map(|it| it.header().slot).collect::<Vec<_>>();
        let found = recovered.slot_checkpointed;
        assert!(slots.first().copied().unwrap_or_default() == found, "D10: {slots:?}, {found}");
        let is_newest = found == self.newest || found == self.begun;
        assert!(is_newest || self.rotten, "D10: {:?} counted, found is {found}", self);
        for checkpoint in kept {
            let slot = checkpoint.header().slot;
            let read = checkpoint.pieces().collect::<Result<Vec<_>, _>>();
            let read = read.unwrap_or_else(|err| panic!("D10: {err}"));
            assert!((checkpoint.header().chain, read) == content(slot), "D10: not of slot {slot}");
        }
        assert!(found <= recovered.slot_chosen, "D10: what it holds is chosen");
        if found > Slot::ZERO {
            assert!(recovered.chain == content(found).0, "D10: another chain");
        }
        let trimmed = journal.slot_trimmed();
        assert!(trimmed <= self.limit && trimmed <= found, "D10: {self:?}, trimmed {trimmed}");
        self.trimmed = trimmed;
        let whole = recovered.unreadable.is_empty();
        assert!(whole || damaged, "D10: of the slots below, {:?} are lost", recovered.unreadable);
        // Where two are whole, none that is damaged is newer than both, or it would count.
        self.rotten &= kept.len() < 2;
        (self.newest, self.begun) = (found, found);
    }
}
