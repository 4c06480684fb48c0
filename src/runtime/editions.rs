//! Whether this build, and those of the others, know the edition of the ledger.
//!
//! Each replica tells in its heartbeats which one its build knows. A leader raises the ledger's
//! edition only to one that every member tells; who is not heard within the election timeout is in
//! the way. A build that is older than the ledger, since it was put back behind an upgrade, or was
//! never told, stops where it notices: at its opening, at the membership that raises the edition,
//! or with a state that comes from a peer.

use crate::journal::disk::Disk;
use crate::paxos::Paxos;
use crate::types::bugs::{self, Bug};
use crate::types::edition::Edition;
use crate::types::error::{Error, ErrorKind, Result};
use crate::types::marks::reached;
use crate::types::membership::{Membership, MembershipError};

use super::driver::Driver;

impl<D: Disk> Driver<D> {
    /// The edition of the ledger, for what is proposed now.
    pub(super) fn edition(&self) -> Edition {
        let early = bugs::is_on(Bug::EditionEarly);
        let ledger = self.members().map_or(Edition::FIRST, Membership::edition);
        if early { self.options.knows } else { ledger }
    }

    /// Whether this build knows what stands in a ledger of this edition.
    pub(super) fn check_edition(&self, edition: Edition) -> Result<()> {
        check_edition(edition, self.options.knows)
    }

    /// Whether every member of `next` knows its edition, where that is a new one.
    pub(super) fn check_known(&self, paxos: &Paxos, next: &Membership) -> Result<()> {
        let wanted = next.edition();
        if wanted == paxos.membership().edition() || bugs::is_on(Bug::EditionUnasked) {
            return Ok(());
        }
        let knows = |id| if id == self.options.id { self.options.knows } else { paxos.knows(id) };
        let members = next.members().map(|member| (member.id, knows(member.id)));
        match members.min_by_key(|(_, knows)| *knows) {
            Some((id, knows)) if knows < wanted => {
                reached!(EditionUnknown);
                let err = MembershipError::UnknownEdition { id, knows, wanted };
                Err(Error::membership(ErrorKind::Outdated, err))
            }
            _ => Ok(()),
        }
    }
}

/// Whether a build that knows the edition `knows` may apply a ledger of this one.
pub(super) fn check_edition(edition: Edition, knows: Edition) -> Result<()> {
    if edition <= knows {
        return Ok(());
    }
    let message = format!(
        "the ledger is of edition {edition}, and this build knows up to {knows}: open it with a \
         newer release"
    );
    Err(Error::new(ErrorKind::Outdated, message))
}
