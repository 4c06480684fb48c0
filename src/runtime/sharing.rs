//! When the directory is told whether anybody else has what the journal holds: see
//! `journal/sharing.rs` for what that is good for.
//!
//! * A membership counts that names others, or no others any more: it is told once the journal
//!   shows durably that it does. Until then a torn end is judged by those who decided before, and
//!   nobody is asked for another membership.
//! * A state has come, and is about to be taken in, that names others: it is told before.
//!
//! Invariants:
//! * Nobody is called alone while anything here is in doubt, or voted for, by which others vote;
//!   nor while a second state is about to be taken.

use crate::journal::disk::Disk;
use crate::paxos::step::Input;
use crate::types::error::Result;
use crate::types::ids::Slot;

use super::driver::Driver;

impl<D: Disk> Driver<D> {
    /// A membership counts from here on. Whether anybody else has what this journal holds is said
    /// beside it once the journal shows durably that it does: until then a torn end is judged by
    /// those who decided before.
    pub(super) fn look_who_shares(&mut self) {
        self.sharing = self.sharing.filter(|_| self.is_sharing_unsaid());
    }

    /// Whether the directory says something else than the membership of whether anybody else has
    /// what this journal holds.
    pub(super) fn is_sharing_unsaid(&self) -> bool {
        let id = self.options.id;
        self.members().is_some_and(|members| members.is_only(id) != self.journal.is_alone())
    }

    /// Whether nobody else votes, as far as this replica knows.
    pub(super) fn is_only_voter(&self) -> bool {
        self.members().is_some_and(|members| members.is_only(self.options.id))
    }

    /// At an opening, what the journal shows is durable.
    pub(super) fn say_who_shares_at_opening(&mut self) -> Result<()> {
        self.judge_as_one_alone();
        self.sharing = self.is_sharing_unsaid().then(|| self.journal.frontier().lsn());
        self.say_who_shares()
    }

    /// Says it, when it is time. Nobody is asked for another membership before.
    pub(super) fn say_who_shares(&mut self) -> Result<()> {
        let Some(after) = self.sharing else { return Ok(()) };
        if self.journal.frontier().lsn() < after || !self.is_sharing_unsaid() {
            return Ok(());
        }
        self.judge_as_one_alone();
        let is_newest = self.knows_who_shared();
        let Some(paxos) = &self.paxos else { return Ok(()) };
        if self.journal.is_alone() {
            self.journal.set_shared(paxos.view().slot_chosen)?;
        } else if self.awaits_second_state() {
            // Should the first one rot meanwhile, those who were removed have another.
            return Ok(());
        } else if is_newest && paxos.doubts().is_empty() && !paxos.votes_for_membership() {
            self.journal.set_alone(paxos.governs())?;
        } else {
            // What is in doubt, or voted for, may be that others vote.
            return Ok(());
        }
        self.sharing = None;
        Ok(())
    }

    /// Whether nothing newer than what is known of the log says that anybody else votes.
    fn knows_who_shared(&self) -> bool {
        let known = self.view().map_or(Slot::ZERO, |view| view.slot_chosen);
        self.journal.shared_from().is_none_or(|shared| shared <= known)
    }

    /// A torn end is judged as that of one alone, if this replica is.
    fn judge_as_one_alone(&mut self) {
        if self.knows_who_shared() {
            self.step(Input::Alone);
        }
    }

    /// A state that has come says who votes, and will be all that there is of the slots below.
    /// Should it rot then, it comes from those voters again; so this is said before it counts.
    pub(super) fn say_who_shares_state(&mut self) -> Result<()> {
        let Some(receiving) = self.receiving.as_ref().filter(|_| self.journal.is_alone()) else {
            return Ok(());
        };
        match receiving.received() {
            Some((slot, membership))
                if self.store.applied().slot < slot && !membership.is_only(self.options.id) =>
            {
                Ok(self.journal.set_shared(slot)?)
            }
            _ => Ok(()),
        }
    }
}
