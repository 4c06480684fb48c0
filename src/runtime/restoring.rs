//! A new ledger from what is left of another one: from a backup, or from one replica's directory.
//!
//! ```text
//!   backup     ─► pieces ─► state ─┐
//!                                  ├─► one epoch later ─► a blank directory (`founding`)
//!   directory  ─► checkpoint ─► chosen entries ─► entries that were voted for ─► state ─┘
//! ```
//!
//! From a directory the new ledger takes all that can have been acknowledged: what is known to be
//! chosen, and behind it what this replica voted for. An acknowledged entry has the votes of a
//! quorum; that this one was part of it cannot be known any more, nor that the vote was the last
//! word. Where there is no vote, there was nothing, or it is lost; the slot is passed over, as a
//! leader would fill it with a no-op.
//!
//! Nothing of this runs beside a replica: whoever has a directory open keeps it locked.

use std::io::Read;
use std::path::Path;

use crate::journal::checkpoint::CheckpointHeader;
use crate::journal::disk::Disk;
use crate::journal::stream::{self, StreamError};
use crate::journal::{self, Founding, Journal};
use crate::store::Store;
use crate::store::image::{Image, ImageReader};
use crate::types::edition::Edition;
use crate::types::entry::Entry;
use crate::types::error::{Error, ErrorKind, Result};
use crate::types::ids::{Chain, ClusterId, ContentHash, ReplicaId, Slot, TxId};
use crate::types::membership::{Member, Membership};

use super::checkpoints::not_an_image;
use super::editions::check_edition;
use super::events;
use super::opening::real_disk;

/// A state, and where it comes from.
#[derive(Debug)]
pub struct Source {
    /// The state.
    pub store: Store,
    /// Of which cluster it is.
    pub cluster: ClusterId,
    /// Of which of its replicas.
    pub replica: ReplicaId,
    /// The ledger chain below it, as far as it is known to be chosen.
    pub chain: Chain,
    /// How many bytes were read.
    pub bytes: u64,
    /// How many entries are in it that were voted for, and are not known to be chosen.
    pub presumed: u64,
    /// How many slots before such entries are empty.
    pub empty: u64,
    /// Whether the replica is in doubt of its votes: some may be lost.
    pub torn: bool,
}

/// Reads a backup to its end.
///
/// # Errors
///
/// Where it cannot be read, or is none.
pub fn read_backup(from: &mut dyn Read) -> Result<Source> {
    let mut image = ImageReader::new();
    let read = stream::read(from, |piece| -> Result<(), NotABackup> {
        image.take(piece).map_err(|err| NotABackup(not_an_image(BACKUP, err)))
    });
    let (header, bytes) = read.map_err(|err| err.0)?;
    let store = image.finish().map_err(|err| not_an_image(BACKUP, err))?;
    let CheckpointHeader { home, replica, slot, chain, .. } = header;
    let found = store.applied().slot;
    if found != slot {
        let message = format!("{BACKUP}: holds the state below slot {found}, wanted {slot}");
        return Err(Error::new(ErrorKind::Corrupt, message));
    }
    let cluster = home.cluster;
    Ok(Source { store, cluster, replica, chain, bytes, presumed: 0, empty: 0, torn: false })
}

/// What a replica's directory adds up to. It is opened, which the directory remembers.
///
/// # Errors
///
/// Where it is open already, or cannot be opened; where it is no replica's, or a part of it is lost
/// that was chosen.
pub fn read_directory<D: Disk>(disk: D, options: journal::Options) -> Result<Source> {
    let nobody = || Error::new(ErrorKind::InvalidArgument, "the directory is that of no replica");
    let identity = Journal::peek(&disk)?.filter(|identity| identity.formed).ok_or_else(nobody)?;
    let mut journal = Journal::open(disk, options, identity.replica)?;
    let recovered = journal.recovered();
    if let Some(slot) = recovered.missing.first() {
        let message = format!("slot {slot} was chosen, and is lost here");
        return Err(Error::new(ErrorKind::Corrupt, message));
    }
    let mut bytes = journal.bytes_on_disk();
    let (store, mut chain) = match journal.checkpoint() {
        None => (Store::new(), Chain::EMPTY),
        Some(checkpoint) => {
            bytes += checkpoint.bytes();
            let (name, mut image) = (checkpoint.name(), ImageReader::new());
            for piece in checkpoint.pieces() {
                image.take(&piece?).map_err(|err| not_an_image(&name, err))?;
            }
            let store = image.finish().map_err(|err| not_an_image(&name, err))?;
            (store, checkpoint.header().chain)
        }
    };
    if recovered.slot_chosen == Slot::ZERO {
        // As every opening does: it is known before the journal tells.
        let first = identity.membership.as_ref().map(Entry::membership).ok_or_else(nobody)?;
        apply(&store, Slot::ZERO, &first)?;
        chain = chain.extend(first.hash());
    }
    let begin = store.applied().slot;
    for entry in journal.reader().entries(begin, recovered.slot_chosen) {
        let (slot, entry) = entry?;
        apply(&store, slot, &entry)?;
        chain = chain.extend(entry.hash());
    }
    if store.applied().slot < recovered.slot_chosen {
        let message = format!("slot {} was chosen, and is lost here", store.applied().slot);
        return Err(Error::new(ErrorKind::Corrupt, message));
    }
    let last = recovered.votes.iter().map(|(slot, ..)| *slot).max();
    let (presumed, empty) = apply_votes(&journal, &store, last)?;
    let (cluster, replica) = (identity.cluster, identity.replica);
    let torn = !recovered.doubts.is_empty();
    Ok(Source { store, cluster, replica, chain, bytes, presumed, empty, torn })
}

/// The same of a directory of the file system.
///
/// # Errors
///
/// As [`read_directory`], and where there is none.
pub fn read_directory_at(path: &Path) -> Result<Source> {
    if !path.is_dir() {
        let message = format!("{} is no directory", path.display());
        return Err(Error::new(ErrorKind::InvalidArgument, message));
    }
    read_directory(real_disk(path)?, journal::Options::default())
}

/// Applies what was voted for, or told, behind what is known to be chosen. Returns how many entries
/// there were, and how many slots without one before them. There is a vote for the slot `last`.
fn apply_votes<D: Disk>(
    journal: &Journal<D>,
    store: &Store,
    last: Option<Slot>,
) -> Result<(u64, u64)> {
    let reader = journal.reader();
    let (mut presumed, mut empty) = (0, 0);
    loop {
        let slot = store.applied().slot;
        match reader.read(slot, slot.next(), 0)?.pop() {
            Some(entry) => {
                apply(store, slot, &entry)?;
                presumed += 1;
            }
            None if last.is_some_and(|last| slot < last) => {
                apply(store, slot, &Entry::no_op())?;
                empty += 1;
            }
            None => return Ok((presumed, empty)),
        }
    }
}

fn apply(store: &Store, slot: Slot, entry: &Entry) -> Result<()> {
    let applied = store.apply(slot, entry);
    applied.map_err(|err| Error::caused(ErrorKind::Corrupt, "the ledger", err))?;
    Ok(())
}

/// Makes a blank directory that of replica `id`, alone in a new cluster, which begins with this
/// state in a new epoch, above that of `above`. Returns the cluster, and the id at which the state
/// is read.
///
/// # Errors
///
/// Where the directory is not blank, or cannot be written; where there is no epoch left.
pub fn found<D: Disk>(
    disk: D,
    options: journal::Options,
    id: ReplicaId,
    source: Source,
    above: TxId,
) -> Result<(ClusterId, TxId)> {
    let Source { store, cluster: from, presumed, empty, torn, .. } = source;
    let founding = Founding::begin(disk, id)?;
    let incarnation = founding.incarnation();
    let member = Member { id, incarnation, address: String::new() };
    let invalid = |err| Error::membership(ErrorKind::InvalidArgument, err);
    let mut membership = Membership::majority(vec![member]).map_err(invalid)?;
    if let Some(before) = store.membership() {
        check_edition(before.edition(), Edition::KNOWN)?;
        membership = membership.with_sessions_max(before.sessions_max()).map_err(invalid)?;
        membership = membership.with_edition(before.edition()).map_err(invalid)?;
    }
    let cluster = membership.cluster_id();
    let Some(store) = store.begin_epoch(membership.clone(), above) else {
        return Err(Error::new(ErrorKind::InvalidArgument, "there is no epoch above these ids"));
    };
    let at = store.applied().txid;
    let image = Image::of(&store.into(), Slot(u64::MAX));
    let (slot, digest) = (image.boundary().slot, image.boundary().digest);
    let chain = Chain::EMPTY.extend(Entry::membership(&membership).hash());
    // Slot 1 is the state: a log that has another one there is another log.
    let chain = chain.extend(ContentHash(digest));
    founding.end(membership, (slot, chain), Box::new(image), options)?;
    events::restored(id, (from, cluster), (presumed, empty, torn));
    Ok((cluster, at))
}

/// The same in a directory of the file system.
///
/// # Errors
///
/// As [`found`].
pub fn found_at(
    path: &Path,
    id: ReplicaId,
    source: Source,
    above: TxId,
) -> Result<(ClusterId, TxId)> {
    found(real_disk(path)?, journal::Options::default(), id, source, above)
}

/// An error while a backup is read.
struct NotABackup(Error);

impl From<StreamError> for NotABackup {
    fn from(err: StreamError) -> Self {
        let kind = match err {
            StreamError::Io { .. } => ErrorKind::Io,
            StreamError::Bad { .. } | StreamError::Short { .. } => ErrorKind::Corrupt,
        };
        Self(Error::caused(kind, BACKUP, err))
    }
}

/// How a backup is called in messages.
const BACKUP: &str = "backup";
