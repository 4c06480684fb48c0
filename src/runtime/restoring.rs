//! A new ledger from what is left of another one: from a backup, or from one replica's directory.
//!
//! ```text
//!   backup     ─► pieces ─► state ─┐
//!                                  ├─► one epoch later ─► a blank directory (`founding`)
//!   directory  ─► checkpoint ─► chosen entries ─► entries that were voted for ─► state ─┘
//! ```
//!
//! From a directory the new ledger takes all that can have been acknowledged: what is known to be
//! chosen, and behind it the commands that this replica voted for. An acknowledged entry has the
//! votes of a quorum; that this one was part of it cannot be known any more, nor that the vote was
//! the last word. Where there is no vote, there was nothing, or it is lost.
//!
//! So which ids those commands had cannot be known either. They are applied in the new epoch: an id
//! of the old one stands for what it always stood for, or is given up.
//!
//! Nothing of this runs beside a replica: whoever has a directory open keeps it locked.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use crate::journal::checkpoint::CheckpointHeader;
use crate::journal::disk::{Disk, RealDisk};
use crate::journal::parts::BadPart;
use crate::journal::stream::{self, StreamError};
use crate::journal::{self, Founding, Journal};
use crate::store::Store;
use crate::store::image::{Image, ImageReader};
use crate::types::edition::Edition;
use crate::types::entry::{Entry, EntryKind};
use crate::types::error::{Error, ErrorKind, Result};
use crate::types::ids::{Chain, ClusterId, ContentHash, ReplicaId, Slot, TxId};
use crate::types::membership::{Member, Membership};
use crate::types::record::Recovered;

use super::checkpoints::{not_an_image, state_below, state_of};
use super::editions::check_edition;
use super::events;
use super::opening::{of_directory, real_disk};

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
    /// The entries of commands that were voted for behind it, and are not known to be chosen.
    pub presumed: Vec<Entry>,
    /// How many slots before the last of those are empty.
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
    let CheckpointHeader { home, replica, slot, chain, .. } = header;
    let store = state_below(image, BACKUP, slot)?;
    if let Some(membership) = store.membership() {
        check_edition(membership.edition(), Edition::KNOWN)?;
    }
    let cluster = home.cluster;
    Ok(Source {
        store,
        cluster,
        replica,
        chain,
        bytes,
        presumed: Vec::new(),
        empty: 0,
        torn: false,
    })
}

/// What a replica's directory adds up to. It is opened, which the directory remembers.
///
/// # Errors
///
/// Where it is open already, or cannot be opened; where it is no replica's, or a part of it is lost
/// that was chosen; where its replica is no member of its cluster any more.
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
            (state_of(checkpoint)?, checkpoint.header().chain)
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
    let (cluster, replica) = (identity.cluster, identity.replica);
    let governing = store.membership();
    if governing.is_none_or(|governing| governing.member(replica).is_none()) {
        let message = format!("replica {replica} is no member of its cluster any more");
        return Err(Error::new(ErrorKind::InvalidArgument, message));
    }
    let torn = !recovered.doubts.is_empty();
    let (presumed, empty) = entries_behind(&journal, recovered)?;
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
    let read = read_directory(real_disk(path)?, journal::Options::default());
    read.map_err(|err| of_directory(path, err))
}

/// The commands that were voted for, or told, behind what is known to be chosen; and how many slots
/// have no entry before the last of them. What the journal finds in doubt is there all the same,
/// and may be what was acknowledged.
fn entries_behind<D: Disk>(
    journal: &Journal<D>,
    Recovered { slot_chosen, votes, told, .. }: Recovered,
) -> Result<(Vec<Entry>, u64)> {
    let reader = journal.reader();
    let (mut presumed, mut empty, mut slot) = (Vec::new(), 0, slot_chosen);
    let mut told = told.into_iter().collect::<BTreeMap<_, _>>();
    let votes = votes.into_iter().map(|(slot, _, entry)| (slot, entry));
    let mut votes = votes.collect::<BTreeMap<_, _>>();
    loop {
        // What was told was chosen, whatever was voted for.
        let (told_here, vote) = (told.remove(&slot), votes.remove(&slot));
        let read = reader.read(slot, slot.next(), 0)?.pop();
        match told_here.or(read).or(vote) {
            Some(entry) => {
                check_edition(entry.edition(), Edition::KNOWN)?;
                if entry.kind() == EntryKind::Commands {
                    presumed.push(entry);
                }
            }
            None if !told.is_empty() || !votes.is_empty() => empty += 1,
            None => return Ok((presumed, empty)),
        }
        slot = slot.next();
    }
}

fn apply(store: &Store, slot: Slot, entry: &Entry) -> Result<()> {
    check_edition(entry.edition(), Edition::KNOWN)?;
    let applied = store.apply(slot, entry);
    applied.map_err(|err| Error::caused(ErrorKind::Corrupt, "the ledger", err))?;
    match store.membership() {
        Some(membership) if entry.kind() == EntryKind::Membership => {
            check_edition(membership.edition(), Edition::KNOWN)
        }
        _ => Ok(()),
    }
}

/// A directory of the file system that a ledger is to be made in.
#[derive(Debug)]
pub struct Target(Founding<RealDisk>);

impl Target {
    /// Takes the directory, which must be blank, and writes nothing to it.
    ///
    /// # Errors
    ///
    /// Where it is not blank, is open already, or cannot be used.
    pub fn at(path: &Path, id: ReplicaId) -> Result<Self> {
        let founding = Founding::begin(real_disk(path)?, id);
        founding.map(Self).map_err(|err| of_directory(path, err.into()))
    }

    /// As [`found`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn found(self, source: Source, above: TxId) -> Result<(ClusterId, TxId)> {
        found(self.0, journal::Options::default(), source, above)
    }
}

/// Makes a blank directory that of a replica that is alone in a new cluster, which begins with this
/// state in a new epoch, above that of `above`. Returns the cluster, and the id at which the state
/// is read.
///
/// # Errors
///
/// Where the directory cannot be written, or there is no epoch left.
pub fn found<D: Disk>(
    founding: Founding<D>,
    options: journal::Options,
    source: Source,
    above: TxId,
) -> Result<(ClusterId, TxId)> {
    let Source { store, cluster: from, presumed, empty, torn, .. } = source;
    let (id, incarnation) = (founding.replica(), founding.incarnation());
    let member = Member { id, incarnation, address: String::new() };
    let invalid = |err| Error::membership(ErrorKind::InvalidArgument, err);
    let mut membership = Membership::majority(vec![member]).map_err(invalid)?;
    if let Some(before) = store.membership() {
        let edition = presumed.iter().map(Entry::edition).fold(before.edition(), Edition::max);
        membership = membership.with_sessions_max(before.sessions_max()).map_err(invalid)?;
        membership = membership.with_edition(edition).map_err(invalid)?;
    }
    let cluster = membership.cluster_id();
    let Some(store) = store.begin_epoch(membership.clone(), above) else {
        return Err(Error::new(ErrorKind::InvalidArgument, "there is no epoch above these ids"));
    };
    for entry in &presumed {
        apply(&store, store.applied().slot, entry)?;
    }
    let at = store.applied().txid;
    let image = Image::of(&store.into(), Slot(u64::MAX));
    let (slot, digest) = (image.boundary().slot, image.boundary().digest);
    let chain = Chain::EMPTY.extend(Entry::membership(&membership).hash());
    // The state stands for what is between: a log that has another one there is another log.
    let chain = chain.extend(ContentHash(digest));
    founding.end(membership, (slot, chain), Box::new(image), options)?;
    events::restored(id, (from, cluster), (presumed.len() as u64, empty, torn));
    Ok((cluster, at))
}

/// An error while a backup is read.
struct NotABackup(Error);

impl From<StreamError> for NotABackup {
    fn from(err: StreamError) -> Self {
        let kind = match err {
            StreamError::Io { .. } => ErrorKind::Io,
            StreamError::Bad { why: BadPart::Version(_), .. } => ErrorKind::UnsupportedFormat,
            StreamError::Bad { .. } | StreamError::Foreign { .. } | StreamError::Short { .. } => {
                ErrorKind::Corrupt
            }
        };
        Self(Error::caused(kind, BACKUP, err))
    }
}

/// How a backup is called in messages.
const BACKUP: &str = "backup";
