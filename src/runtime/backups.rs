//! The state on its way out: what a backup is made of.
//!
//! The driver only says what it is of, and pins it; the bytes are made piece by piece by whoever
//! writes them, on its own thread, and however slowly. Entries go on being applied meanwhile
//! (`store/image.rs`).

use std::io::Write;

use crate::journal::checkpoint::CheckpointHeader;
use crate::journal::disk::Disk;
use crate::journal::stream;
use crate::store::image::Image;
use crate::types::error::{Error, ErrorKind, Result};
use crate::types::ids::{Lsn, Slot};

use super::driver::Driver;
use super::pending::Completer;
use super::requests::Answer;

/// What a backup is of, and its pieces.
#[derive(Debug)]
pub struct Backup {
    /// What the backup begins with.
    pub header: CheckpointHeader,
    /// What stands in it.
    pub image: Image,
}

impl Backup {
    /// Writes it, and flushes; returns how many bytes it has. Takes as long as `to` takes.
    ///
    /// # Errors
    ///
    /// Where `to` fails.
    pub fn write(self, to: &mut dyn Write) -> Result<u64> {
        stream::write(&self.header, self.image, to)
            .map_err(|err| Error::caused(ErrorKind::Io, "backup: cannot be written", err))
    }
}

impl<D: Disk> Driver<D> {
    /// A caller wants the state as it stands now. It gets it in this turn, once all that is chosen
    /// is applied.
    pub(super) fn on_backup(&mut self, completer: Completer<Box<Backup>>) {
        self.checkpoints.backups.push(completer);
    }

    pub(super) fn begin_backups(&mut self) {
        for completer in std::mem::take(&mut self.checkpoints.backups) {
            let backup = self.backup().map(Box::new);
            self.effects.answers.push(Answer::Backup(completer, backup));
        }
    }

    fn backup(&self) -> Result<Backup> {
        if let Some(err) = self.refuse_unready() {
            return Err(err);
        }
        // The index of the ledger stays behind, as the entries do.
        let image = Image::of(&self.store, Slot(u64::MAX));
        let slot = image.boundary().slot;
        // The chain is that below what is chosen.
        let Some(view) = self.view().filter(|view| view.slot_chosen == slot) else {
            let message = "entries that were chosen are not applied here yet";
            return Err(Error::busy(message, self.options.election_timeout));
        };
        assert!(image.membership().is_some(), "a core takes part in a membership");
        let identity = self.journal.identity();
        let header = CheckpointHeader {
            home: identity.home(),
            replica: identity.replica,
            slot,
            chain: view.chain,
            durable_through: Lsn::ZERO,
            journal_from: slot,
        };
        Ok(Backup { header, image })
    }
}
