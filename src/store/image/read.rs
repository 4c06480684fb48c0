//! A store from the pieces of an image, each of which may be anything.

use std::fmt;
use std::sync::Arc;

use super::{Head, IMAGE_VERSION, KeyAt, Keys, Piece, Sum, TableAt};
use crate::store::ledger::Ledger;
use crate::store::sessions::SessionsImage;
use crate::store::versions::Version;
use crate::store::{Boundary, Governing, State, Store};
use crate::types::codec::{self, DecodeError};
use crate::types::command::TableUse;
use crate::types::ids::TxId;
use crate::types::membership::Membership;

/// Makes a store of an image, piece by piece.
#[derive(Debug)]
pub struct ImageReader {
    head: Option<Head>,
    state: State,
    /// The table whose keys come.
    table: usize,
    /// What was read of the sessions.
    sessions: Option<SessionsImage>,
    stage: Stage,
    sum: Sum,
}

/// What was read last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Nothing,
    Tables,
    Keys,
    Ledger,
    Sessions,
    Membership,
    Epochs,
    End,
}

/// Why bytes are no image.
#[derive(Debug)]
pub struct ImageError {
    /// Which piece, from 0.
    pub piece: u64,
    /// What is wrong with it.
    pub fault: ImageFault,
}

/// What is wrong with a piece.
#[derive(Debug)]
pub enum ImageFault {
    /// It is of a version that is not known here.
    Version(u8),
    /// It cannot be decoded.
    Undecodable(DecodeError),
    /// No image has this in that place.
    Impossible(&'static str),
    /// The state that was read has another digest than the one that was written.
    Digest {
        /// The one that was written.
        wanted: u128,
        /// The one that was read.
        found: u128,
    },
}

impl ImageFault {
    /// Whether a later build may have made it.
    #[must_use]
    pub fn is_later(&self) -> bool {
        matches!(self, Self::Version(version) if IMAGE_VERSION < *version)
    }
}

impl Default for ImageReader {
    fn default() -> Self {
        Self::new()
    }
}

impl ImageReader {
    /// Nothing is read yet.
    #[must_use]
    pub fn new() -> Self {
        let (state, sum) = (State::default(), Sum::default());
        Self { head: None, state, table: 0, sessions: None, stage: Stage::Nothing, sum }
    }

    /// Takes in the next piece.
    ///
    /// # Errors
    ///
    /// Where it is not what comes next in an image. Then nothing more may be asked of this reader.
    pub fn take(&mut self, piece: &[u8]) -> Result<(), ImageError> {
        let result = self.take_piece(piece);
        result.map_err(|fault| ImageError { piece: self.sum.pieces, fault })?;
        self.sum.add(piece);
        Ok(())
    }

    /// The store, once all pieces are taken in.
    ///
    /// # Errors
    ///
    /// Where pieces are missing, or do not add up to the digest.
    pub fn finish(mut self) -> Result<Store, ImageError> {
        let piece = self.sum.pieces;
        let error = |fault| ImageError { piece, fault };
        let Some(head) = self.head.filter(|_| self.stage == Stage::End) else {
            return Err(error(ImageFault::Impossible("an end that comes too early")));
        };
        let Head { slot, txid, time, digest, .. } = head;
        let Some(sessions) = self.sessions.take() else {
            return Err(error(ImageFault::Impossible("no sessions")));
        };
        self.state.sessions =
            sessions.try_into().map_err(|err| error(ImageFault::Undecodable(err)))?;
        let commands = self.state.sessions.commands();
        let found = self.state.sum();
        if found != digest {
            return Err(error(ImageFault::Digest { wanted: digest, found }));
        }
        if !self.state.ledger.is_whole(slot, txid) {
            return Err(error(ImageFault::Impossible("an index that does not reach the boundary")));
        }
        self.state.boundary = Boundary { slot, txid, time, commands, digest };
        (self.state.txid, self.state.oldest) = (txid, txid);
        Ok(Store { state: self.state.into() })
    }

    fn take_piece(&mut self, piece: &[u8]) -> Result<(), ImageFault> {
        let (version, bytes) = piece.split_first().ok_or(ImageFault::Impossible("no bytes"))?;
        if *version != IMAGE_VERSION {
            return Err(ImageFault::Version(*version));
        }
        let piece = codec::decode("a piece of an image", bytes).map_err(ImageFault::Undecodable)?;
        let stage = match &piece {
            Piece::Head(_) | Piece::Table(_) => Stage::Tables,
            Piece::Keys(_) => Stage::Keys,
            Piece::Ledger(_) => Stage::Ledger,
            Piece::Sessions(_) => Stage::Sessions,
            Piece::Membership(_) => Stage::Membership,
            Piece::Epochs(_) => Stage::Epochs,
            Piece::End { .. } => Stage::End,
        };
        if stage < self.stage || self.stage == Stage::End {
            return Err(ImageFault::Impossible("a piece out of order"));
        }
        self.stage = stage;
        let result = match (piece, self.head) {
            (Piece::Head(head), None) => self.begin(head),
            (_, None) => Err("no head"),
            (piece, Some(head)) => self.take_behind(piece, head),
        };
        result.map_err(ImageFault::Impossible)
    }

    /// Takes in what comes behind the head.
    fn take_behind(&mut self, piece: Piece<'_>, head: Head) -> Result<(), &'static str> {
        match piece {
            Piece::Head(_) => Err("a second head"),
            Piece::Table(TableAt { used, created }) => self.take_table(&used, created, head),
            Piece::Keys(Keys { table, keys }) => self.take_keys(table as usize, &keys, head),
            Piece::Ledger(run) => self.state.ledger.restore(run, head.txid),
            Piece::Sessions(sessions) => self.take_sessions(sessions),
            Piece::Membership(membership) => self.take_membership(membership),
            Piece::Epochs(epochs) => self.state.take_epochs(epochs, head.txid),
            Piece::End { pieces, hash } => match (Sum { pieces, hash }) == self.sum {
                true => Ok(()),
                false => Err("another sum of the pieces"),
            },
        }
    }

    fn begin(&mut self, head: Head) -> Result<(), &'static str> {
        if head.slot < head.ledger_first {
            return Err("an index that begins behind the boundary");
        }
        self.state.ledger = Ledger::beginning_with(head.ledger_first);
        self.head = Some(head);
        Ok(())
    }

    fn take_table(
        &mut self,
        used: &TableUse<'_>,
        created: TxId,
        head: Head,
    ) -> Result<(), &'static str> {
        let State { tables, digest, .. } = &mut self.state;
        let last = tables.all().last().map_or(TxId::ZERO, |table| table.created);
        if created < last || created == TxId::ZERO || head.txid < created {
            return Err("a table that was registered by no transaction");
        }
        if tables.find(used.name).is_some() {
            return Err("a table that was registered before");
        }
        let id = tables.register(used, created);
        digest.add_table(tables[id].hash, created);
        Ok(())
    }

    fn take_sessions(&mut self, more: SessionsImage) -> Result<(), &'static str> {
        let Some(known) = &mut self.sessions else {
            self.sessions = Some(more);
            return Ok(());
        };
        let numbers = |it: &SessionsImage| (it.commands, it.floor, it.sessions_max);
        if numbers(known) != numbers(&more) || more.sessions.is_empty() {
            return Err("sessions of another state");
        }
        known.sessions.extend(more.sessions);
        match known.sessions.len() <= known.sessions_max as usize {
            true => Ok(()),
            false => Err("more sessions than are remembered"),
        }
    }

    fn take_membership(&mut self, membership: Membership) -> Result<(), &'static str> {
        if self.state.governing.membership.is_some() {
            return Err("a second membership");
        }
        let remembered = self.sessions.as_ref().map(|sessions| sessions.sessions_max);
        if remembered != Some(membership.sessions_max()) {
            return Err("a membership under which other sessions are remembered");
        }
        self.state.governing = Governing::of(membership);
        Ok(())
    }

    fn take_keys(
        &mut self,
        table: usize,
        keys: &[KeyAt<'_>],
        head: Head,
    ) -> Result<(), &'static str> {
        let State { tables, digest, .. } = &mut self.state;
        if table < self.table {
            return Err("keys of a table that was read before");
        }
        self.table = table;
        let table = tables.all_mut().get_mut(table).ok_or("keys of no table")?;
        for KeyAt { key, txid, created, writes, value } in keys {
            let (txid, created, writes) = (*txid, *created, *writes);
            let is_whole = match value {
                Some(_) => TxId::ZERO < created && created <= txid && 0 < writes,
                None => created == TxId::ZERO && writes == 0,
            };
            if !is_whole || txid < table.created || head.txid < txid {
                return Err("a version that no transaction wrote");
            }
            let value = value.map(|value| Arc::from(&value[..]));
            let version = Version { txid, created, writes, value };
            let restored = table.versions.restore(key, version);
            let version = restored.map_err(|_| "keys that are not in order")?;
            digest.add(table.hash, key, version);
        }
        Ok(())
    }
}

impl fmt::Display for ImageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "piece {}: ", self.piece)?;
        match &self.fault {
            ImageFault::Version(version) => {
                write!(f, "image version {version}, supported is {IMAGE_VERSION}")
            }
            ImageFault::Undecodable(source) => source.fmt(f),
            ImageFault::Impossible(what) => f.write_str(what),
            ImageFault::Digest { wanted, found } => {
                write!(f, "the state has digest {found:032x}, written was {wanted:032x}")
            }
        }
    }
}

impl std::error::Error for ImageError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.fault {
            ImageFault::Undecodable(source) => Some(source),
            ImageFault::Version(_) | ImageFault::Impossible(_) | ImageFault::Digest { .. } => None,
        }
    }
}
