//! Backups: the state of a running replica, written anywhere.

use std::io::{Read, Write};

use crate::replica::Replica;
use crate::runtime::restoring::{self, Source};
use crate::store::Boundary;
use crate::types::error::Result;
use crate::types::ids::{ClusterId, ReplicaId, TxId};
use crate::types::time::Time;

/// What a backup holds.
///
/// ```
/// use indelible::{Backup, RawTable, Replica};
/// # fn main() -> indelible::Result<()> {
/// const NOTES: RawTable<u64> = RawTable::new("notes");
/// let replica = Replica::in_memory()?;
/// let written = replica.put(NOTES, 1, b"text").wait()?;
///
/// let mut bytes = Vec::new();
/// let backup = replica.backup(&mut bytes)?;
/// assert_eq!(backup.txid, written.at);
/// // What came to lie elsewhere is as it was written.
/// assert_eq!(Backup::verify(&bytes[..])?, backup);
/// # replica.close()
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Backup {
    /// Of which cluster the state is.
    pub cluster: ClusterId,
    /// Which replica wrote it.
    pub replica: ReplicaId,
    /// The newest transaction in it; all before are in it, too.
    pub txid: TxId,
    /// When the newest transaction was proposed.
    pub time: Time,
    /// The digest of the state: replicas with equal states have equal ones.
    pub digest: u128,
    /// How many bytes it has.
    pub bytes: u64,
}

impl Backup {
    /// Reads a backup to its end and checks all of it: that each part is as it was written, that
    /// none is missing, and that what it holds adds up to the digest that the replica had. Blocks,
    /// and holds the state in memory meanwhile, as a replica does.
    ///
    /// # Errors
    ///
    /// Where it cannot be read ([`Io`](crate::ErrorKind::Io)), is damaged, too short or too long
    /// ([`Corrupt`](crate::ErrorKind::Corrupt)), or of a format that this version does not know
    /// ([`UnsupportedFormat`](crate::ErrorKind::UnsupportedFormat)).
    ///
    /// ```no_run
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let backup = indelible::Backup::verify(std::fs::File::open("ledger.backup")?)?;
    /// println!("holds everything up to transaction {}", backup.txid);
    /// # Ok(())
    /// # }
    /// ```
    pub fn verify(mut from: impl Read) -> Result<Self> {
        Ok(Self::of(&restoring::read_backup(&mut from)?))
    }

    pub(crate) fn of(source: &Source) -> Self {
        let Source { cluster, replica, bytes, store, .. } = source;
        Self::at(store.applied(), (*cluster, *replica), *bytes)
    }

    fn at(boundary: Boundary, (cluster, replica): (ClusterId, ReplicaId), bytes: u64) -> Self {
        let Boundary { txid, time, digest, .. } = boundary;
        Self { cluster, replica, txid, time, digest, bytes }
    }
}

impl Replica {
    /// Writes a backup: the state of the ledger with everything that was acknowledged anywhere
    /// before this call, in one stream, from which [`Restore`](crate::Restore) makes a new ledger.
    /// The transactions themselves, which [`transactions`](Replica::transactions) reads, are not in
    /// it; what became of requests is, so that [`resolve`](Replica::resolve) still tells it.
    ///
    /// Blocks until all is written, as slowly as `to` takes it: first for the state to be fresh, as
    /// [`snapshot`](Replica::snapshot) waits, then while the pieces are made and written on this
    /// thread. Writes and reads go on meanwhile. A piece is held in memory at a time, and besides
    /// what the state has changed since. `to` is flushed; make it durable yourself (for a file,
    /// [`sync_all`](std::fs::File::sync_all)), and [verify](Backup::verify) it where it lies.
    ///
    /// # Errors
    ///
    /// Where `to` fails ([`Io`](crate::ErrorKind::Io)); what was written is then no backup. As
    /// [`snapshot`](Replica::snapshot), and where entries that were chosen are not here yet
    /// ([`Busy`](crate::ErrorKind::Busy)).
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let replica = indelible::Replica::in_memory()?;
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("ledger.backup");
    /// let file = std::fs::File::create(&path)?;
    /// let backup = replica.backup(&file)?;
    /// file.sync_all()?;
    /// println!("{} bytes, up to transaction {}", backup.bytes, backup.txid);
    /// # replica.close()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn backup(&self, mut to: impl Write) -> Result<Backup> {
        self.handle.read(None).wait()?;
        let pinned = self.handle.backup().wait()?;
        let (header, boundary) = (pinned.header, pinned.image.boundary());
        let bytes = pinned.write(&mut to)?;
        Ok(Backup::at(boundary, (header.home.cluster, header.replica), bytes))
    }
}
