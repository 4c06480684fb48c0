//! The state that all replicas agree on: what the transactions of the ledger add up to.
//!
//! [`Store::apply`] takes the chosen entries, slot after slot, on every replica. What a transaction
//! does depends on nothing but the entries before it: there is no clock, no randomness and no local
//! setting here, so all replicas give equal verdicts, ids and states.
//!
//! ```text
//!   entry ─► decode all ─► for each command: was it here before? ─► told what it was then
//!                               │ no                          (sessions.rs)
//!                               ▼
//!                        judge its tables and conditions ─► refused
//!                               │ all hold             (apply.rs)
//!                               ▼
//!                        a net change? ── no ─► committed without an id
//!                               │ yes
//!                               ▼
//!                        next TxId ─► versions (versions.rs), digest (digest.rs)
//!          └──► then once for the entry: index of the ledger (ledger.rs), boundary
//! ```
//!
//! Readers ask for the state at an id. A version, once written, stays where it is found by its id,
//! so that a reader needs the lock for one look-up or one page of a range, and then sees the same
//! state however far the writer has moved on. Readers see ids only up to the *boundary*: the state
//! behind the last whole entry.
//!
//! Invariants:
//! * Slots are applied in order, each once.
//! * An id is given to a transaction if and only if it changes something; ids are dense.
//! * A transaction happens as a whole or not at all, and once, however often it arrives.
//! * The time of the boundary never goes back, whatever time an entry carries.
//!
//! A store need not begin with nothing: an image of another one will do (image.rs).
//!
//! Not here: discarding old versions.

pub mod verdict;

pub mod tables;
pub mod versions;

pub mod digest;
pub mod epochs;
pub mod ledger;
pub mod sessions;

mod apply;

pub mod current;
pub mod image;

use std::fmt;

use parking_lot::{RwLock, RwLockWriteGuard};

use crate::types::codec::{self, DecodeError};
use crate::types::command::{Command, TableUse};
use crate::types::edition::Edition;
use crate::types::entry::{Entry, EntryKind};
use crate::types::ids::{ContentHash, RequestId, Slot, SlotRange, TxId};
use crate::types::membership::Membership;
use crate::types::record::Verdicts;
use crate::types::time::Time;

use digest::Digest;
use epochs::Epochs;
use ledger::{Ledger, SlotOutcome};
use sessions::{Sessions, SessionsImage};
use tables::{Table, Tables};
use verdict::{TableMismatch, Verdict};
use versions::{Found, Page, PageRequest};

/// The state at every id up to the boundary. One writer, many readers.
#[derive(Debug, Default)]
pub struct Store {
    state: RwLock<State>,
}

#[derive(Debug, Default)]
struct State {
    boundary: Boundary,
    /// The newest id given; above the boundary's while an entry is applied.
    txid: TxId,
    /// The oldest id that can be read at.
    oldest: TxId,
    tables: Tables,
    digest: Digest,
    places: apply::Places,
    sessions: Sessions,
    governing: Governing,
    epochs: Epochs,
    ledger: Ledger,
}

/// The membership that counts behind the last entry; none below slot 0.
#[derive(Debug, Default)]
struct Governing {
    membership: Option<Membership>,
    /// What stands for it in the digest of the state.
    hash: u128,
}

/// Where the state stands between two entries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Boundary {
    /// Every slot below this one is applied: `slot_applied`.
    pub slot: Slot,
    /// The newest id that was given.
    pub txid: TxId,
    /// The time of the newest entry of commands.
    pub time: Time,
    /// How many commands there were below `slot`, whatever became of them.
    pub commands: u64,
    /// The digest of the state; equal on replicas with an equal `slot`.
    pub digest: u128,
}

/// What became of an entry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// The newest id before the entry.
    pub after: TxId,
    /// The newest id behind the entry.
    pub last: TxId,
    /// The time of the entry, clamped so that it does not go back.
    pub time: Time,
    /// How each command ended, in order.
    pub verdicts: Vec<Ended>,
}

/// How a command of an entry ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// By what it is known.
    pub request: RequestId,
    /// What is to be told of it.
    pub verdict: Verdict,
    /// Whether it took an id here. One that was here before is told the id that it took then.
    pub took_id: bool,
}

/// Why an entry cannot be applied. This replica must stop: to skip it would be to fork.
#[derive(Debug)]
pub enum ApplyError {
    /// A command is none that this version of the crate knows.
    Undecodable {
        /// The slot of its entry.
        slot: Slot,
        /// Its place in the entry, from 0.
        command: usize,
        /// What is wrong with it.
        source: DecodeError,
    },
    /// The entry is of an edition that this build does not know.
    Later {
        /// The slot of the entry.
        slot: Slot,
        /// Its edition.
        edition: Edition,
    },
    /// The epoch has no ids left for the commands of this entry.
    IdsExhausted {
        /// The slot of the entry.
        slot: Slot,
    },
}

impl Store {
    /// The empty state, below the first slot.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Goes on from another state. Nobody has read from this one yet.
    pub fn begin_with(&self, other: Self) {
        *self.state.write() = other.state.into_inner();
    }

    /// Applies the entry that was chosen for `slot`.
    ///
    /// # Errors
    ///
    /// Where the entry cannot be applied; the state is then as before.
    ///
    /// # Panics
    ///
    /// Where `slot` is not the next one.
    pub fn apply(&self, slot: Slot, entry: &Entry) -> Result<Applied, ApplyError> {
        let commands = decode_commands(slot, entry)?;
        let mut state = self.state.write();
        let Boundary { slot: slot_applied, txid: after, time: last_time, .. } = state.boundary;
        assert_eq!(slot, slot_applied, "slots are applied in order, each once");
        assert_eq!(state.txid, after, "the entry before was applied as a whole");
        if !has_ids_for(after, commands.len()) {
            return Err(ApplyError::IdsExhausted { slot });
        }
        let time = match entry.kind() {
            EntryKind::Commands => entry.time().max(last_time),
            EntryKind::NoOp | EntryKind::Membership | EntryKind::Later => last_time,
        };
        if let Some(membership) = state.governing.after(entry) {
            state.sessions.set_max(membership.sessions_max());
            state.governing = Governing::of(membership);
        }

        let mut verdicts = Vec::with_capacity(commands.len());
        for command in &commands {
            verdicts.push(apply::apply_command(command, &mut state));
            // A large entry must not keep readers out: what is written so far, they cannot see.
            RwLockWriteGuard::bump(&mut state);
        }

        let took_id = verdicts.iter().map(|ended| ended.took_id);
        let clamped = (!commands.is_empty() && time != entry.time()).then_some(time);
        state.ledger.push(after, took_id, clamped);
        let (last, commands) = (state.txid, state.sessions.commands());
        let digest = state.sum();
        state.boundary = Boundary { slot: slot.next(), txid: last, time, commands, digest };
        Ok(Applied { after, last, time, verdicts })
    }

    /// Where the state stands: behind which slot, at which id and time, with which digest.
    #[must_use]
    pub fn applied(&self) -> Boundary {
        self.state.read().boundary
    }

    /// What `key` of `table` held at `at`, or `None` where it had no value.
    ///
    /// # Errors
    ///
    /// Where the table was written with other types.
    ///
    /// # Panics
    ///
    /// Where `at` is above the boundary, or below the state that the store began with.
    pub fn get(
        &self,
        table: &TableUse<'_>,
        key: &[u8],
        at: TxId,
    ) -> Result<Option<Found>, TableMismatch> {
        let state = self.state.read();
        let table = state.table_at(table, at)?;
        Ok(table.and_then(|table| table.versions.get(key, at)))
    }

    /// The first keys of a range of `table`, with what they held at `at`.
    ///
    /// # Errors
    ///
    /// Where the table was written with other types.
    ///
    /// # Panics
    ///
    /// Where `at` is above the boundary, or below the state that the store began with.
    pub fn page(
        &self,
        table: &TableUse<'_>,
        request: PageRequest<'_>,
        at: TxId,
    ) -> Result<Page, TableMismatch> {
        let state = self.state.read();
        let table = state.table_at(table, at)?;
        Ok(table.map_or_else(Page::default, |table| table.versions.page(request, at)))
    }

    /// The slot of the transaction `txid`, or `None` where no applied slot holds it.
    #[must_use]
    pub fn find(&self, txid: TxId) -> Option<Slot> {
        let state = self.state.read();
        (txid <= state.boundary.txid).then(|| state.ledger.find(txid, state.boundary.txid))?
    }

    /// How the commands of an applied slot ended, or `None` where it is not applied or was
    /// forgotten.
    #[must_use]
    pub fn outcome(&self, slot: Slot) -> Option<SlotOutcome> {
        let state = self.state.read();
        state.ledger.outcome(slot, state.boundary.txid)
    }

    /// How the commands of a run of applied slots ended, as the journal keeps it.
    ///
    /// # Panics
    ///
    /// Where one of the slots is not applied, or was forgotten.
    #[must_use]
    pub fn verdicts(&self, slots: SlotRange) -> Verdicts {
        let state = self.state.read();
        state.ledger.verdicts(slots, state.boundary.txid)
    }

    /// What the state remembers of sessions; whole between two entries, so for who applies them.
    #[must_use]
    pub fn sessions(&self) -> SessionsImage {
        self.state.read().sessions.to_image()
    }

    /// What is known here of a request that was not forgotten.
    #[cfg(feature = "sim")]
    #[must_use]
    pub(crate) fn is_known(&self, request: RequestId) -> bool {
        self.state.read().sessions.is_known(request)
    }

    /// Makes a mistake: forgets a session though no entry makes it.
    #[cfg(feature = "sim")]
    pub(crate) fn forget_session(&self) {
        self.state.write().sessions.forget_one();
    }

    /// The membership that counts behind the boundary; `None` where no slot is applied that says.
    #[must_use]
    pub fn membership(&self) -> Option<Membership> {
        self.state.read().governing.membership.clone()
    }

    /// The newest id whose transaction cannot be found any more: those after it can.
    #[must_use]
    pub fn floor(&self) -> TxId {
        self.state.read().floor()
    }

    /// The first slot of which it is known which transactions are in it.
    #[must_use]
    pub fn ledger_first(&self) -> Slot {
        self.state.read().ledger.first()
    }

    /// Forgets which transactions are in the slots below `first`.
    pub fn trim_ledger(&self, first: Slot) {
        self.state.write().ledger.trim(first);
    }

    /// The digest of the state, with the slot and the id that it stands for.
    #[must_use]
    pub fn digest(&self) -> (Slot, TxId, u128) {
        let Boundary { slot, txid, digest, .. } = self.applied();
        (slot, txid, digest)
    }
}

impl Governing {
    fn of(membership: Membership) -> Self {
        let bytes = codec::encode(&membership).expect("plain data always encodes");
        Self { membership: Some(membership), hash: ContentHash::of(&bytes).0 }
    }

    /// The membership that an entry makes count. The first of all follows none.
    fn after(&self, entry: &Entry) -> Option<Membership> {
        match &self.membership {
            Some(present) => entry.membership_after(present),
            None => entry.as_membership(),
        }
    }
}

impl State {
    /// The digest of all that replicas must agree on.
    fn sum(&self) -> u128 {
        let parts = [self.sessions.digest(), self.governing.hash, self.epochs.hash()];
        parts.into_iter().fold(self.digest.value(), u128::wrapping_add)
    }

    /// The table as it was registered at `at`, if it was.
    fn table_at(&self, table: &TableUse<'_>, at: TxId) -> Result<Option<&Table>, TableMismatch> {
        assert!(at <= self.boundary.txid, "a read at {at}, above {}", self.boundary.txid);
        // Whoever reads began to when the store was there.
        assert!(self.oldest <= at, "a read at {at}, below {}", self.oldest);
        match self.tables.find(table.name) {
            Some(id) if self.tables[id].created <= at => {
                self.tables[id].check(table)?;
                Ok(Some(&self.tables[id]))
            }
            // A table that came later is no more there than a key that came later.
            Some(_) | None => Ok(None),
        }
    }
}

impl fmt::Display for ApplyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Undecodable { slot, command, source } => {
                write!(f, "slot {slot} command {command}: {source}")
            }
            Self::Later { slot, edition } => {
                write!(f, "slot {slot}: edition {edition}, known is {}", Edition::KNOWN)
            }
            Self::IdsExhausted { slot } => write!(f, "slot {slot}: the epoch has no ids left"),
        }
    }
}

impl std::error::Error for ApplyError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Undecodable { source, .. } => Some(source),
            Self::Later { .. } | Self::IdsExhausted { .. } => None,
        }
    }
}

/// All commands are decoded before the first is applied, so that an error leaves no half entry.
fn decode_commands(slot: Slot, entry: &Entry) -> Result<Vec<Command<'_>>, ApplyError> {
    if entry.kind() == EntryKind::Later {
        return Err(ApplyError::Later { slot, edition: entry.edition() });
    }
    let decode = |(command, bytes)| {
        Command::decode(bytes).map_err(|source| ApplyError::Undecodable { slot, command, source })
    };
    entry.commands().enumerate().map(decode).collect()
}

fn has_ids_for(after: TxId, commands: usize) -> bool {
    TxId::new(after.epoch(), after.counter() + commands as u64).is_some()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test panics on what it does not expect")]

    use super::*;
    use crate::types::command::{Key, KeyKind, Operation, ValueCodec};
    use crate::types::entry::EntryBuilder;

    /// An entry of transactions that put one key each.
    fn entry(commands: u64) -> Entry {
        let mut builder = EntryBuilder::new(Time(0), 0);
        for sequence in 0..commands {
            let session = crate::types::ids::SessionId(1);
            let key = Key { table: 0, bytes: &sequence.to_be_bytes() };
            let command = Command {
                tables: vec![TableUse {
                    name: "t",
                    key_kind: KeyKind("bytes"),
                    codec: ValueCodec::Raw,
                }],
                operations: vec![Operation::Put(key, b"value")],
                ..Command::of(RequestId { session, sequence })
            };
            builder.push(&command.encode());
        }
        builder.finish()
    }

    /// No ledger comes so far; but if one did, an id must not be given twice.
    #[test]
    fn the_last_id_of_an_epoch_is_given_once() {
        let last = TxId::new(0, (1 << TxId::COUNTER_BITS) - 1).unwrap();
        let before = TxId::new(0, last.counter() - 1).unwrap();
        let store = Store::new();
        {
            let mut state = store.state.write();
            state.txid = before;
            state.boundary.txid = before;
        }
        let refused = |slot, commands| {
            let at = store.applied();
            let err = store.apply(Slot(slot), &entry(commands)).unwrap_err();
            assert_eq!(err.to_string(), format!("slot {slot}: the epoch has no ids left"));
            assert_eq!(store.applied(), at, "the state is as before");
        };
        refused(0, 2);
        assert_eq!(store.apply(Slot(0), &entry(1)).unwrap().last, last);
        refused(1, 1);
        assert_eq!(store.apply(Slot(1), &Entry::no_op()).unwrap().last, last);
    }
}
