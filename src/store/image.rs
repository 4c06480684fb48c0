//! The store as bytes and back, for checkpoints.
//!
//! An image is the state at a boundary, in pieces of bounded size, each made when it is asked for:
//!
//! ```text
//!   Head    which boundary: slot, newest id, time, digest; where the index of the ledger begins
//!   Table   a name and its types                                      one piece each, in order
//!   Keys    some keys of a table: the version that each had           in order; deleted ones too
//!   Ledger  what is known of some slots (`ledger.rs`)                 in order, up to the boundary
//!   Sessions
//!           numbers, and some sessions with what became of their requests     in order
//!   Membership
//!           who belongs, as of the boundary                  none where slot 0 is not applied
//!   Epochs  where former ones ended                          none where nothing was restored
//!   End     how many pieces came before, and the hash of them all
//! ```
//!
//! **Taking one stops nobody.** The boundary is pinned when it begins; a version, once written,
//! stays where it is found by its id, so entries may be applied between two pieces. What they write
//! has later ids and is not seen. Sessions have no versions: they are pinned, and copied where they
//! change meanwhile (`sessions.rs`). The lock is held for one piece at a time.
//!
//! **Reading one trusts nobody.** Bytes from a disk or a peer may be anything: each piece is
//! decoded strictly, the digest of the state is computed anew from what was read, and nothing is
//! handed out before all of it is there and equal.
//!
//! Invariants:
//! * The membership is that which governs the boundary's own slot, whatever else was in the log
//!   before: nobody needs an entry below the boundary to know who belongs.
//! * The store that is read answers every later entry as the one that was written, and has its
//!   digest.
//! * Equal states have equal images, whatever replicas they are of, if they begin the index of the
//!   ledger at one slot.
//! * A piece holds at most [`PIECE_BYTES_MAX`] bytes; no more than that is held at a time.
//!
//! Not here: older versions (nobody can ask for them who opens the replica later), the file
//! (`journal/checkpoint.rs`).

mod read;

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_bytes::Bytes;

use super::ledger::Run;
use super::sessions::{Pinned, SessionsImage};
use super::versions::Behind;
use super::{Boundary, Store};
use crate::types::bugs::{self, Bug};
use crate::types::codec;
use crate::types::command::TableUse;
use crate::types::ids::{ContentHash, Slot, TxId};
use crate::types::limits::COMMAND_BYTES_MAX;
use crate::types::membership::Membership;
use crate::types::time::Time;

pub use read::{ImageError, ImageFault, ImageReader};

/// The version of the format, which every piece begins with.
pub const IMAGE_VERSION: u8 = 1;

/// Most bytes of a piece: what is enough, or one key and its value on top.
pub const PIECE_BYTES_MAX: usize = PIECE_BYTES + COMMAND_BYTES_MAX;

/// A piece of keys ends when it has so many bytes of keys and values, and one of sessions when it
/// has about as many.
const PIECE_BYTES: usize = 256 * 1024;

/// What stands in a piece, behind the version. Append only: a variant's place is its number.
#[derive(Debug, Serialize, Deserialize)]
enum Piece<'a> {
    Head(Head),
    #[serde(borrow)]
    Table(TableAt<'a>),
    #[serde(borrow)]
    Keys(Keys<'a>),
    Ledger(Run),
    Sessions(SessionsImage),
    Membership(Membership),
    End {
        pieces: u64,
        hash: ContentHash,
    },
    /// Stands before the end.
    Epochs(Vec<TxId>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Head {
    slot: Slot,
    txid: TxId,
    time: Time,
    digest: u128,
    ledger_first: Slot,
}

/// A table, and the transaction that registered it.
#[derive(Debug, Serialize, Deserialize)]
struct TableAt<'a> {
    #[serde(borrow)]
    used: TableUse<'a>,
    created: TxId,
}

/// Keys of the table with this place among all.
#[derive(Debug, Serialize, Deserialize)]
struct Keys<'a> {
    table: u32,
    #[serde(borrow)]
    keys: Vec<KeyAt<'a>>,
}

/// A key, with the version that it had.
#[derive(Debug, Serialize, Deserialize)]
struct KeyAt<'a> {
    #[serde(borrow)]
    key: &'a Bytes,
    txid: TxId,
    created: TxId,
    writes: u32,
    #[serde(borrow)]
    value: Option<&'a Bytes>,
}

/// The pieces of an image, one after the other.
#[derive(Debug)]
pub struct Image {
    store: Arc<Store>,
    at: Boundary,
    ledger_first: Slot,
    /// What is still to be written of the sessions.
    sessions: Pinned,
    membership: Option<Membership>,
    epochs: Vec<TxId>,
    next: Next,
    sum: Sum,
}

/// What comes next.
#[derive(Debug)]
enum Next {
    Head,
    Table(usize),
    Keys(usize, Option<Vec<u8>>),
    Ledger(Slot),
    Sessions,
    Membership,
    Epochs,
    End,
    Nothing,
}

/// How many pieces there were, and one hash for all of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sum {
    pieces: u64,
    hash: ContentHash,
}

impl Image {
    /// An image of the state as it stands now, with what is known of the slots from `ledger_first`
    /// on, or from a later one where less is known.
    #[must_use]
    pub fn of(store: &Arc<Store>, ledger_first: Slot) -> Self {
        let state = store.state.read();
        let at = state.boundary;
        let is_whole = state.sessions.commands() == at.commands;
        assert!(is_whole, "an image is begun between two entries");
        Self {
            store: Arc::clone(store),
            at,
            ledger_first: ledger_first.max(state.ledger.first()).min(at.slot),
            sessions: state.sessions.pin(),
            membership: state.governing.membership.clone(),
            epochs: state.epochs.ends().to_vec(),
            next: Next::Head,
            sum: Sum::default(),
        }
    }

    /// The state that it is an image of.
    #[must_use]
    pub fn boundary(&self) -> Boundary {
        self.at
    }

    /// The membership in it.
    #[must_use]
    pub fn membership(&self) -> Option<&Membership> {
        self.membership.as_ref()
    }

    fn head(&self) -> Head {
        let Boundary { slot, txid, time, digest, .. } = self.at;
        Head { slot, txid, time, digest, ledger_first: self.ledger_first }
    }

    /// The table at this place, if it was registered by then.
    fn table(&mut self, place: usize) -> Option<Vec<u8>> {
        let state = self.store.state.read();
        let table = state.tables.all().get(place).filter(|table| table.created <= self.at.txid)?;
        self.next = Next::Table(place + 1);
        let (used, created) = (table.as_used(), table.created);
        Some(encode(&Piece::Table(TableAt { used, created })))
    }

    /// The keys of the table at this place that come next; `None` where it has no more.
    fn keys(&mut self, place: usize, after: Option<&[u8]>) -> Option<Vec<u8>> {
        let Behind { mut versions, resume } = {
            let state = self.store.state.read();
            let at = self.at.txid;
            let table = state.tables.all().get(place).filter(|table| table.created <= at)?;
            table.versions.versions_behind(after, at, PIECE_BYTES)
        };
        let is_last = resume.is_none();
        self.next = if is_last { Next::Keys(place + 1, None) } else { Next::Keys(place, resume) };
        if bugs::is_on(Bug::CheckpointWithoutTombstones) {
            versions.retain(|(_, version)| version.value.is_some());
        }
        let keys = versions.iter().map(|(key, version)| KeyAt {
            key: Bytes::new(key),
            txid: version.txid,
            created: version.created,
            writes: version.writes,
            value: version.value.as_deref().map(Bytes::new),
        });
        let table = u32::try_from(place).expect("a ledger has few tables");
        Some(encode(&Piece::Keys(Keys { table, keys: keys.collect() })))
    }

    fn ledger(&mut self, first: Slot) -> Option<Vec<u8>> {
        if self.at.slot <= first {
            return None;
        }
        let run = self.store.state.read().ledger.run(first, self.at.slot);
        self.next = Next::Ledger(first.plus(run.after.len() as u64));
        Some(encode(&Piece::Ledger(run)))
    }

    /// The next sessions; without any of them at least the numbers.
    fn sessions(&mut self) -> Vec<u8> {
        let piece = encode(&Piece::Sessions(self.sessions.take(PIECE_BYTES)));
        self.next = if self.sessions.is_empty() { Next::Membership } else { Next::Sessions };
        piece
    }

    fn next_piece(&mut self) -> Option<Vec<u8>> {
        loop {
            match std::mem::replace(&mut self.next, Next::Nothing) {
                Next::Head => {
                    self.next = Next::Table(0);
                    return Some(encode(&Piece::Head(self.head())));
                }
                Next::Table(place) => match self.table(place) {
                    Some(piece) => return Some(piece),
                    None => self.next = Next::Keys(0, None),
                },
                Next::Keys(place, after) => match self.keys(place, after.as_deref()) {
                    Some(piece) => return Some(piece),
                    None => self.next = Next::Ledger(self.ledger_first),
                },
                Next::Ledger(first) => match self.ledger(first) {
                    Some(piece) => return Some(piece),
                    None => {
                        if bugs::is_on(Bug::CheckpointOfLaterSessions) {
                            self.sessions = self.store.state.read().sessions.pin();
                        }
                        self.next = Next::Sessions;
                    }
                },
                Next::Sessions => return Some(self.sessions()),
                Next::Membership => {
                    self.next = Next::Epochs;
                    if let Some(membership) = self.membership.take() {
                        return Some(encode(&Piece::Membership(membership)));
                    }
                }
                Next::Epochs => {
                    self.next = Next::End;
                    let epochs = std::mem::take(&mut self.epochs);
                    if !epochs.is_empty() {
                        return Some(encode(&Piece::Epochs(epochs)));
                    }
                }
                Next::End => {
                    let Sum { pieces, hash } = self.sum;
                    return Some(encode(&Piece::End { pieces, hash }));
                }
                Next::Nothing => return None,
            }
        }
    }
}

impl Iterator for Image {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        let piece = self.next_piece()?;
        assert!(piece.len() <= PIECE_BYTES_MAX, "a piece of {} bytes", piece.len());
        self.sum.add(&piece);
        Some(piece)
    }
}

impl Sum {
    fn add(&mut self, piece: &[u8]) {
        let mut both = [0; 32];
        both[..16].copy_from_slice(&self.hash.0.to_le_bytes());
        both[16..].copy_from_slice(&ContentHash::of(piece).0.to_le_bytes());
        self.hash = ContentHash::of(&both);
        self.pieces += 1;
    }
}

fn encode(piece: &Piece<'_>) -> Vec<u8> {
    let mut bytes = vec![IMAGE_VERSION];
    codec::encode_into(piece, &mut bytes).expect("a piece is plain data");
    bytes
}
