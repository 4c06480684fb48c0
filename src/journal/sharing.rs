//! Whether anybody else has what this journal holds, where that changed since the directory was
//! formed: two names of empty files, `shared` and `alone`.
//!
//! What is torn or rotten means another thing to a replica that is alone: what is torn at the end
//! was never acknowledged, and what is rotten is lost. Where others vote, it is in doubt, and they
//! have it. Who votes says the membership in `identity` at first; later memberships are in the log,
//! of which that part may be what is lost. So it stands beside it.
//!
//! Invariants:
//! * Either is made when the journal shows durably that the membership counts: whoever reads a torn
//!   end as the other kind of replica would is still one by what it reads, or finds the newer one.
//! * Where both files are there, `shared` counts.

use crate::types::membership::Membership;

use super::Journal;
use super::disk::Disk;
use super::error::JournalError;
use super::identity::Identity;

/// Others have what is in the directory.
pub const SHARED_NAME: &str = "shared";
/// Nobody else has it.
pub const ALONE_NAME: &str = "alone";

/// Whether nobody else has what is in the directory.
pub(super) fn is_alone(names: &[String], identity: &Identity) -> bool {
    let has = |name: &str| names.iter().any(|found| found == name);
    !has(SHARED_NAME) && (has(ALONE_NAME) || began_alone(identity))
}

/// Whether the membership that was agreed to names this replica alone; also where there is none
/// yet.
pub(super) fn began_alone(identity: &Identity) -> bool {
    let is_only = |membership: &Membership| membership.is_only(identity.replica);
    identity.membership.as_ref().is_none_or(is_only)
}

impl<D: Disk> Journal<D> {
    /// Whether nobody else has what this journal holds, as the directory says.
    #[must_use]
    pub fn is_alone(&self) -> bool {
        self.alone
    }

    /// Writes down, durably, whether nobody else has what this journal holds: no longer, once the
    /// journal shows durably that a membership counts that names others; again, when it shows one
    /// that names this replica alone.
    ///
    /// # Errors
    ///
    /// Where a file cannot be made or removed; then open the directory anew.
    pub fn set_alone(&mut self, alone: bool) -> Result<(), JournalError> {
        if self.alone == alone {
            return Ok(());
        }
        let (made, gone) =
            if alone { (ALONE_NAME, SHARED_NAME) } else { (SHARED_NAME, ALONE_NAME) };
        let names = self.disk.list().map_err(JournalError::io("list", "."))?;
        let has = |name: &str| names.iter().any(|found| found == name);
        let sync = || self.disk.sync_directory().map_err(JournalError::io("sync", "."));
        if !has(made) {
            self.disk.create(made).map_err(JournalError::io("create", made))?;
            sync()?;
        }
        if has(gone) {
            self.disk.remove(gone).map_err(JournalError::io("remove", gone))?;
            sync()?;
        }
        self.alone = alone;
        Ok(())
    }
}
