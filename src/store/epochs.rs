//! Lives of a ledger: each restore begins an epoch, and gives up what the ledger had behind it.
//!
//! ```text
//!   epoch 0    1 2 3 .. 500 . . 700        501 to 700 were acknowledged, and are not in the backup
//!                        |
//!   epoch 1              '- 1 2 3 ..       ids go on, above all of epoch 0
//! ```
//!
//! Who holds an id of what was given up must be told: the state does not hold that transaction, and
//! never will, although newer ids are here. So the state knows where each former epoch ends.
//!
//! Invariants:
//! * Ids never repeat within one line of restores, and those of a later epoch are greater.
//! * An id of a former epoch is here if and only if it is not above that epoch's end.

use super::ledger::Ledger;
use super::{Boundary, Governing, State, Store};
use crate::types::codec;
use crate::types::ids::{ContentHash, Slot, SlotRange, TxId};
use crate::types::membership::Membership;

/// Where former epochs ended.
#[derive(Debug, Default)]
pub(super) struct Epochs {
    /// The newest id of each, in order; none for one that was skipped.
    ends: Vec<TxId>,
    /// What stands for them in the digest of the state.
    hash: u128,
}

impl Epochs {
    fn of(ends: Vec<TxId>) -> Self {
        let bytes = codec::encode(&ends).expect("plain data always encodes");
        Self { ends, hash: ContentHash::of(&bytes).0 }
    }

    /// None where there never was a restore.
    pub(super) fn ends(&self) -> &[TxId] {
        &self.ends
    }

    /// What stands for them in the digest of the state; nothing where there are none.
    pub(super) fn hash(&self) -> u128 {
        self.hash
    }

    /// Whether `txid`, an id of a former epoch, was given up by a restore.
    fn gave_up(&self, txid: TxId) -> bool {
        let end = self.ends.iter().find(|end| txid.epoch() <= end.epoch());
        match end {
            Some(end) if end.epoch() == txid.epoch() => *end < txid,
            // Of one before the first that is remembered nothing is known.
            Some(end) => self.ends.first() != Some(end),
            None => true,
        }
    }
}

/// Why the slots of what comes after a transaction cannot be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoSlots {
    /// That transaction was given up.
    GivenUp,
    /// Some of them are here no more.
    Trimmed {
        /// Those after this id are.
        floor: TxId,
    },
}

impl Store {
    /// Whether the transaction `txid` was given up when a ledger was restored: it was acknowledged
    /// once, is not in this state, and never will be.
    #[must_use]
    pub fn gave_up(&self, txid: TxId) -> bool {
        self.state.read().gave_up(txid)
    }

    /// The slots with the transactions after `txid`, as far as they are applied.
    ///
    /// # Errors
    ///
    /// Where `txid` was given up, or not all of them are here.
    pub fn slots_after(&self, txid: TxId) -> Result<SlotRange, NoSlots> {
        let state = self.state.read();
        let (last, end) = (state.boundary.txid, state.boundary.slot);
        let floor = state.floor();
        if state.gave_up(txid) {
            return Err(NoSlots::GivenUp);
        }
        if txid < floor && !state.is_last_before(txid, floor) {
            return Err(NoSlots::Trimmed { floor });
        }
        let first = state.ledger.find_after(txid.max(floor), last);
        Ok(SlotRange { first: first.unwrap_or(end), end })
    }

    /// The same state as the beginning of another ledger: behind slot 0, which holds `membership`,
    /// and slot 1, which stands for the state; in an epoch that is above that of every id here, and
    /// above that of `above`. `None` where there is no such epoch.
    #[must_use]
    pub fn begin_epoch(self, membership: Membership, above: TxId) -> Option<Self> {
        let mut state = self.state.into_inner();
        let last = state.boundary.txid;
        let first = TxId::new(last.epoch().max(above.epoch()).checked_add(1)?, 0)?;
        let mut ends = std::mem::take(&mut state.epochs.ends);
        ends.push(last);
        ends.drain(..ends.len().saturating_sub(EPOCHS_MAX));
        state.epochs = Epochs::of(ends);
        (state.txid, state.oldest) = (first, first);
        state.ledger = Ledger::beginning_with(FIRST_SLOT);
        state.sessions.set_max(membership.sessions_max());
        state.sessions.go_on_elsewhere()?;
        state.governing = Governing::of(membership);
        let commands = state.sessions.commands();
        let digest = state.sum();
        let time = state.boundary.time;
        state.boundary = Boundary { slot: FIRST_SLOT, txid: first, time, commands, digest };
        Some(Self { state: state.into() })
    }
}

impl State {
    fn gave_up(&self, txid: TxId) -> bool {
        txid.epoch() < self.boundary.txid.epoch() && self.epochs.gave_up(txid)
    }

    /// Whether `txid` is the last of its epoch, and no transaction stands between it and `floor`,
    /// with which the next epoch begins.
    fn is_last_before(&self, txid: TxId, floor: TxId) -> bool {
        floor.counter() == 0 && self.epochs.ends.last() == Some(&txid)
    }

    /// The newest id whose transaction cannot be found any more: those after it can.
    pub(super) fn floor(&self) -> TxId {
        self.ledger.floor(self.boundary.txid)
    }

    /// Takes over what an image says of former epochs.
    pub(super) fn take_epochs(&mut self, ends: Vec<TxId>, last: TxId) -> Result<(), &'static str> {
        let are_before = ends.len() <= EPOCHS_MAX && {
            let epochs = ends.iter().chain([&last]).map(|id| id.epoch());
            epochs.is_sorted_by(|one, next| one < next)
        };
        if !self.epochs.ends.is_empty() || ends.is_empty() || !are_before {
            return Err("epochs that no ledger had");
        }
        self.epochs = Epochs::of(ends);
        Ok(())
    }
}

/// Slot 0 holds the membership of the new ledger, as that of any other, and who joins knows it. So
/// there is a slot behind it that nobody ever had as an entry: who is to have what is behind that
/// one needs the state.
const FIRST_SLOT: Slot = Slot(2);

/// How many former epochs are remembered; of older ones, the latest are.
const EPOCHS_MAX: usize = 4096;
