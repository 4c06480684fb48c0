//! A directory that begins with a state: what a restore makes.
//!
//! ```text
//!   lock ─► checkpoint.new, synced ─► checkpoint of the slot ─► segment 1 ─► identity
//! ```
//!
//! What is made is what a replica's directory looks like that joined a cluster and was sent the
//! state: its journal begins behind it. The identity comes last, though it is the first file of
//! any other directory. So a crash leaves a directory without one, which every opening refuses; a
//! restore that was not ended never passes for a ledger.
//!
//! Not here: which state (`runtime/restoring.rs`).

use std::sync::Arc;

use parking_lot::RwLock;

use crate::types::ids::{Chain, Incarnation, Lsn, ReplicaId, Slot};
use crate::types::membership::Membership;

use super::checkpointing::{Checkpoints, Image};
use super::disk::{Disk, LOCK_FILE_NAME};
use super::error::JournalError;
use super::identity::{self, Identity};
use super::index::{Index, Shared};
use super::listing;
use super::recovery;
use super::segment::{Front, Options};

/// A blank directory, locked, that is to be one with a state.
#[derive(Debug)]
pub struct Founding<D: Disk> {
    disk: Arc<D>,
    identity: Identity,
    /// Last, so that it is released after everything else.
    _lock: D::Lock,
}

impl<D: Disk> Founding<D> {
    /// Takes a directory that must be blank; nothing is written to it.
    ///
    /// # Errors
    ///
    /// Where it is open already, or holds any file but the one that locks it, or cannot be used.
    pub fn begin(disk: D, who: ReplicaId) -> Result<Self, JournalError> {
        let lock = recovery::lock(&disk)?;
        let names = listing::names(&disk)?;
        if let Some(file) = names.into_iter().find(|name| name != LOCK_FILE_NAME) {
            return Err(JournalError::NotBlank { file });
        }
        let identity = Identity::draw(&disk, who)?;
        Ok(Self { disk: Arc::new(disk), identity, _lock: lock })
    }

    /// Whose it is to be.
    #[must_use]
    pub fn replica(&self) -> ReplicaId {
        self.identity.replica
    }

    /// The directory's own, drawn for it.
    #[must_use]
    pub fn incarnation(&self) -> Incarnation {
        self.identity.incarnation
    }

    /// Makes it the directory of a replica that agreed to `membership`, and has `image`, the state
    /// below `slot`. When this returns, all of it is durable. Where it fails, the directory must be
    /// removed: it is blank still, or cannot be opened, or, at the very last step, is whole.
    ///
    /// # Errors
    ///
    /// Where a file cannot be written.
    ///
    /// # Panics
    ///
    /// Where the image turns out to be unfit, which one that is made here never is.
    pub fn end(
        self,
        membership: Membership,
        (slot, chain): (Slot, Chain),
        image: Image,
        options: Options,
    ) -> Result<(), JournalError> {
        let Self { disk, mut identity, _lock } = self;
        identity.cluster = membership.cluster_id();
        identity.membership = Some(membership);
        let sync_bytes = options.received_sync_bytes;
        let mut checkpoints = Checkpoints::new(Arc::clone(&disk), Vec::new());
        checkpoints.begin(&identity, (slot, chain), image, (slot, Lsn::ZERO), sync_bytes);
        while let Some(step) = checkpoints.next_step(Lsn::ZERO) {
            match step.run() {
                Ok(stepped) => checkpoints.complete(Ok(stepped))?,
                // Nobody goes on here where there is no space.
                Err(err) => return Err(err),
            }
        }
        assert!(checkpoints.take_unfit().is_none(), "a state of our own is fit to be kept");
        let shared = Arc::new(Shared {
            home: RwLock::new(identity.home()),
            index: RwLock::new(Index::beginning_with(slot)),
            files: RwLock::default(),
        });
        let writer = recovery::begin(&disk, &shared, options.bounded())?;
        identity.formed = true;
        (identity.segment_last, identity.segment_made) = (writer.segment(), writer.segment());
        identity.front = Front { slot, ..Front::default() };
        identity::replace(&*disk, &identity)
    }
}
