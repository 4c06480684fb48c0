//! A new ledger from a backup, or from the one replica that is left.

use std::io::Read;
use std::path::{Path, PathBuf};

use crate::backup::Backup;
use crate::runtime::restoring::{self, Source, Target};
use crate::types::error::{Error, ErrorKind, Result};
use crate::types::ids::{ClusterId, ReplicaId, TxId};

/// Makes a new ledger that begins with the state of another one.
///
/// The new ledger is one replica, alone, in a directory that was blank. It has another cluster id:
/// what is left of the old cluster is refused wherever it turns up, and nothing of it changes.
/// Ids go on in a new [epoch](TxId::epoch), above all of the state; who asks for a transaction that
/// the old ledger acknowledged and the state does not hold is told
/// ([`Lost`](ErrorKind::Lost)). Two ledgers that are made of one have the same epoch: keep the
/// [cluster](crate::Replica::cluster) with an id that leaves the process. The history that
/// [`transactions`](crate::Replica::transactions) reads begins anew. Open the directory as ever,
/// and let it grow as any other: replicas [join](crate::Builder::join), are
/// [observers](crate::Replica::add_observer) and then [voters](crate::Replica::promote).
///
/// A crash, or an error, leaves a directory that is blank still or cannot be opened, or, at the
/// very last step, one that is whole; never a ledger that lacks a part. Remove it, and restore
/// again: two that were restored from one backup would give out the same ids.
///
/// ```
/// use indelible::{RawTable, Replica, Restore};
/// # fn main() -> indelible::Result<()> {
/// # let directory = tempfile::tempdir().expect("a temporary directory");
/// # let path = directory.path().join("restored");
/// const NOTES: RawTable<u64> = RawTable::new("notes");
/// let replica = Replica::in_memory()?;
/// replica.put(NOTES, 1, b"text").wait()?;
/// let mut bytes = Vec::new();
/// replica.backup(&mut bytes)?;
/// replica.close()?;
///
/// let restored = Restore::into(&path).from_backup(&bytes[..])?;
/// assert_eq!(restored.at.epoch(), 1);
/// let replica = Replica::open(&path)?;
/// let note = replica.get(NOTES, 1).wait()?.expect("it is in the backup");
/// assert_eq!(&note.value[..], b"text");
/// # replica.close()
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use = "nothing is restored before it is said from what"]
pub struct Restore {
    path: PathBuf,
    id: ReplicaId,
    above: TxId,
}

/// A ledger that was restored.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Restored {
    /// The cluster of the new ledger, which replicas are told that are to
    /// [join](crate::Builder::join).
    pub cluster: ClusterId,
    /// The id at which the state is read before anything is written: the transactions of the new
    /// ledger have greater ones.
    pub at: TxId,
    /// What it was restored from.
    pub from: Backup,
    /// How many entries of the log, of one transaction or many, are in the state though the replica
    /// that was left voted for them and did not know that they were chosen. They may have been
    /// acknowledged, and they may not; their transactions have ids of the new epoch, whichever they
    /// had, and are judged anew: one that was refused before what it met was lost may succeed now.
    /// None where it was restored from a backup.
    pub presumed: u64,
    /// How many places in the log before the last of those were empty: each is nothing, or an entry
    /// that was acknowledged and is lost.
    pub empty: u64,
    /// Whether the end of that replica's journal was torn by a crash, or damaged: entries that it
    /// voted for may be lost with it.
    pub torn: bool,
}

impl Restore {
    /// Into the directory `path`, which is made if it is not there, and must be blank.
    pub fn into(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), id: ReplicaId(1), above: TxId::ZERO }
    }

    /// The id of the new ledger's only replica; 1 where nothing is said.
    ///
    /// ```
    /// use indelible::Restore;
    /// let restore = Restore::into("data").id(4);
    /// ```
    pub fn id(mut self, id: u64) -> Self {
        self.id = ReplicaId(id);
        self
    }

    /// Ids are to go on above this one, too: where the same backup was restored before, and
    /// somebody may hold ids of that ledger, the newest of those.
    ///
    /// ```
    /// use indelible::{Restore, TxId};
    /// fn again(newest: TxId) -> Restore {
    ///     Restore::into("data").above(newest)
    /// }
    /// ```
    pub fn above(mut self, txid: TxId) -> Self {
        self.above = txid;
        self
    }

    /// From a [backup](crate::Replica::backup). All of it is checked before anything is written.
    /// Blocks until the new directory is durable.
    ///
    /// # Errors
    ///
    /// As [`Backup::verify`]. Where the directory is not blank or the id is 0
    /// ([`InvalidArgument`](ErrorKind::InvalidArgument)), is open already
    /// ([`Locked`](ErrorKind::Locked)), or cannot be written ([`Io`](ErrorKind::Io)).
    ///
    /// ```no_run
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use indelible::Restore;
    /// let backup = std::fs::File::open("ledger.backup")?;
    /// let restored = Restore::into("data").from_backup(backup)?;
    /// println!("cluster {} goes on at {}", restored.cluster, restored.at);
    /// # Ok(())
    /// # }
    /// ```
    pub fn from_backup(self, mut backup: impl Read) -> Result<Restored> {
        self.check()?;
        let source = restoring::read_backup(&mut backup)?;
        found(Target::at(&self.path, self.id)?, source, self.above)
    }

    /// From the directory of one replica, where its cluster is lost: too few of its voters are left
    /// to elect a leader, and will not come back. This is the last resort. **It gives up whatever
    /// was acknowledged and this replica had not heard of**, and the old cluster must never run
    /// again: should the others come back, there would be two ledgers, each of which acknowledges
    /// writes that the other lacks. Their ids differ, so they never mix.
    ///
    /// The new ledger has all that the replica knows to be chosen, and all that it voted for behind
    /// that, since it may have been acknowledged. Take the replica that has come farthest: restore
    /// from each as a trial, and compare. The old directory stays as it is, but for one more
    /// opening, which writes a new segment to it: where its disk is full, or fails, copy it first,
    /// and take the copy. Blocks until the new one is durable.
    ///
    /// # Errors
    ///
    /// Where the old directory is open ([`Locked`](ErrorKind::Locked)), is that of no replica
    /// or of one that left its cluster ([`InvalidArgument`](ErrorKind::InvalidArgument)), cannot be
    /// opened, or lost an entry that was chosen ([`Corrupt`](ErrorKind::Corrupt)). Otherwise as
    /// [`from_backup`](Self::from_backup).
    ///
    /// ```no_run
    /// # fn main() -> indelible::Result<()> {
    /// use indelible::Restore;
    /// let restored = Restore::into("forced").from_survivor("data")?;
    /// println!("{} entries may not have been acknowledged", restored.presumed);
    /// # Ok(())
    /// # }
    /// ```
    pub fn from_survivor(self, directory: impl AsRef<Path>) -> Result<Restored> {
        self.check()?;
        // First, since to open the old one leaves a trace there.
        let target = Target::at(&self.path, self.id)?;
        let source = restoring::read_directory_at(directory.as_ref())?;
        found(target, source, self.above)
    }

    fn check(&self) -> Result<()> {
        match self.id {
            ReplicaId(0) => {
                let message = "id: is 0, wanted a positive number";
                Err(Error::new(ErrorKind::InvalidArgument, message))
            }
            _ => Ok(()),
        }
    }
}

fn found(target: Target, source: Source, above: TxId) -> Result<Restored> {
    let from = Backup::of(&source);
    let (presumed, empty, torn) = (source.presumed.len() as u64, source.empty, source.torn);
    let (cluster, at) = target.found(source, above)?;
    Ok(Restored { cluster, at, from, presumed, empty, torn })
}
