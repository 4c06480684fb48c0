//! Whether anybody else has what this journal holds, where that changed since the directory was
//! formed: the names of empty files, `shared-` or `alone-` with a slot.
//!
//! What is torn or rotten means another thing to a replica that is alone: what is torn at the end
//! was never acknowledged, and what is rotten is lost. Where others vote, it is in doubt, and they
//! have it. Who votes says the membership in `identity` at first; later memberships are in the log,
//! of which that part may be what is lost. So it stands beside it.
//!
//! A crash may come between the group that shows that a replica is the only voter, and its file.
//! Then a torn end is read as that of one among others, though nobody else can say what was in it.
//! The slot tells that apart from one that knows too little of the log to see who else votes: see
//! [`Journal::shared_from`]. That of `alone` tells what others had once, and may have given back.
//!
//! A directory that is opened to form a cluster with others has `shared-` and slot 0 before anybody
//! agreed to anything: opened by itself later, it is to form none alone.
//!
//! Invariants:
//! * Either is made when the journal shows durably that the membership counts, or, of `shared`, a
//!   state that others sent and that is about to be taken in: whoever reads a torn end by the older
//!   file reads a log in which that one is still right, or finds the newer one.
//! * `shared` is durable before a vote leaves that was cast under a membership that names others,
//!   behind one that does not; and before that one is proposed, `alone` is.
//! * Where both files are there, `shared` counts.

use crate::types::ids::Slot;
use crate::types::marks::reached;
use crate::types::membership::Membership;

use super::Journal;
use super::disk::{Disk, File, number_behind};
use super::error::JournalError;
use super::identity::Identity;
use super::listing;
use super::scan::Scan;

/// Others have what is in the directory, if a slot follows.
const SHARED_PREFIX: &str = "shared-";
/// Nobody else has it, if a slot follows.
const ALONE_PREFIX: &str = "alone-";

/// Others have what is in the directory, by a membership that counts from a slot up to `slot` on.
#[must_use]
pub fn shared_name(slot: Slot) -> String {
    format!("{SHARED_PREFIX}{:016x}", slot.0)
}

/// The slot in such a name; `None` where it is none.
#[must_use]
pub fn shared_slot(name: &str) -> Option<Slot> {
    number_behind(SHARED_PREFIX, name).map(Slot)
}

/// Nobody else has what is in the directory; of the slots below `slot` others had it.
#[must_use]
pub fn alone_name(slot: Slot) -> String {
    format!("{ALONE_PREFIX}{:016x}", slot.0)
}

/// The slot in such a name; `None` where it is none.
#[must_use]
pub fn alone_slot(name: &str) -> Option<Slot> {
    number_behind(ALONE_PREFIX, name).map(Slot)
}

/// Whether nobody else has what is in the directory: `None`; or, by which slot it was shared last.
pub(super) fn shared_from(names: &[String], identity: &Identity) -> Option<Slot> {
    let newest = names.iter().filter_map(|name| shared_slot(name)).max();
    let is_alone = alone_from(names).is_some() || began_alone(identity);
    newest.or_else(|| (!is_alone).then_some(Slot::ZERO))
}

/// Below which slot others had once what is in the directory of a replica that is alone; `None`
/// where nobody ever had.
pub(super) fn alone_from(names: &[String]) -> Option<Slot> {
    names.iter().filter_map(|name| alone_slot(name)).max()
}

/// Whether the membership that was agreed to names this replica alone; also where there is none
/// yet.
pub(super) fn began_alone(identity: &Identity) -> bool {
    let is_only = |membership: &Membership| membership.is_only(identity.replica);
    identity.membership.as_ref().is_none_or(is_only)
}

/// What rotted while others had it was fetched from them, and stands in the journal a second time;
/// or it is in the checkpoint, and they had trimmed it. Then the journal of one that is alone is
/// whole. Others `had` what is below a slot, if they ever had anything.
pub(super) fn healed<F: File>(
    refusal: JournalError,
    had: Option<Slot>,
    slot_checkpointed: Slot,
    pass: impl FnOnce() -> Result<Scan<F>, JournalError>,
) -> Result<Scan<F>, JournalError> {
    let is_rot = matches!(refusal, JournalError::Corrupt { .. });
    let Some(had) = had.filter(|_| is_rot) else { return Err(refusal) };
    let needless = slot_checkpointed.min(had);
    let healed = pass().ok().filter(|scan| scan.damage.is_healed(needless)).ok_or(refusal)?;
    reached!(RotHealedBeforeAlone);
    Ok(healed)
}

impl<D: Disk> Journal<D> {
    /// Whether nobody else has what this journal holds, as the directory says.
    #[must_use]
    pub fn is_alone(&self) -> bool {
        self.shared_from.is_none()
    }

    /// Whoever knows the log up to here, or farther, knows the membership by which others have what
    /// this journal holds, as the directory says; `None` where nobody else has it. If it names this
    /// replica alone all the same, that is newer.
    #[must_use]
    pub fn shared_from(&self) -> Option<Slot> {
        self.shared_from
    }

    /// Whether a directory says that others have what it holds, or are to have it, without opening
    /// it.
    ///
    /// # Errors
    ///
    /// Where it cannot be listed.
    pub fn peek_shared(disk: &D) -> Result<bool, JournalError> {
        let names = listing::names(disk)?;
        Ok(names.iter().any(|name| shared_slot(name).is_some()))
    }

    /// Writes down, durably, that nobody else has what this journal holds, once it shows durably
    /// that a membership counts that names this replica alone. It governs from `slot` on, or from
    /// an earlier one.
    ///
    /// # Errors
    ///
    /// Where a file cannot be made or removed; then open the directory anew.
    pub fn set_alone(&mut self, slot: Slot) -> Result<(), JournalError> {
        if !self.is_alone() {
            self.exchange_names(&alone_name(slot), |name| shared_slot(name).is_some())?;
            self.shared_from = None;
        }
        Ok(())
    }

    /// Writes down, durably, that others have what this journal holds: once it shows durably that a
    /// membership counts that names them, or before a state is taken in that says so, or before
    /// this replica forms a cluster with them. Whoever knows the log up to `slot` knows of it.
    ///
    /// # Errors
    ///
    /// As with [`set_alone`](Self::set_alone).
    pub fn set_shared(&mut self, slot: Slot) -> Result<(), JournalError> {
        if self.is_alone() {
            self.exchange_names(&shared_name(slot), |name| alone_slot(name).is_some())?;
            self.shared_from = Some(slot);
        }
        Ok(())
    }

    fn exchange_names(
        &self,
        made: &str,
        is_gone: impl Fn(&str) -> bool,
    ) -> Result<(), JournalError> {
        let names = listing::names(&*self.disk)?;
        let sync = || self.disk.sync_directory().map_err(JournalError::io("sync", "."));
        if !names.iter().any(|name| name == made) {
            self.disk.create(made).map_err(JournalError::io("create", made))?;
            sync()?;
        }
        let gone = names.iter().filter(|name| is_gone(name)).collect::<Vec<_>>();
        for name in &gone {
            self.disk.remove(name).map_err(JournalError::io("remove", name))?;
        }
        if gone.is_empty() { Ok(()) } else { sync() }
    }
}
