//! A change of the membership that another leader's change overtakes, and that turns up later.
//!
//! ```text
//!   slot      s      s+1    s+2    s+3
//!   one       a      b      c      a change     nobody else hears of these
//!   rival     its own change      e             and it is established
//!   third     . . . finds c and the change of the first one
//! ```

use crate::sim::links::Filter;
use crate::types::ids::ReplicaId;
use crate::types::membership::{Member, Membership};

use super::Schedule;

impl Schedule {
    /// One that may change the membership does, with entries before it that nobody has; a second
    /// one leads and makes another change; a third one finds what the first one voted for.
    pub(super) fn supersede(&mut self) {
        let present = self.cores.checks().membership().clone();
        let voters = present.voters().iter().map(|voter| voter.id).collect::<Vec<_>>();
        let members = present.members().map(|member| member.id).collect::<Vec<_>>();
        let Some(one) = voters.iter().copied().find(|id| self.cores.can_change(*id)) else {
            return;
        };
        let mut others = voters.iter().copied().filter(|id| *id != one).collect::<Vec<_>>();
        if others.len() < 2 {
            return;
        }
        let rival = others.swap_remove(self.rng.below(others.len() as u64) as usize);
        let third = *self.rng.pick(&others);
        let away = members.iter().copied().filter(|id| *id != one).collect::<Vec<_>>();

        let links = self.part(&[one], &away);
        for _ in 0..3 {
            self.propose(&[one]);
        }
        self.cores.sync(one);
        self.drop_all_of(one);
        links.iter().for_each(|link| self.cores.links().mend(*link));
        self.cores.change(one, with_other_sessions(&present, 1));
        for kind in ["Prepare", "Promise"] {
            members.iter().for_each(|id| self.cores.sync(*id));
            self.cores.deliver(&Filter { from: None, to: None, kind: Some(kind.into()) });
        }
        self.cores.sync(one);
        let links = self.part(&[one], &away);
        self.drop_all_of(one);

        self.cores.campaign(rival);
        self.cores.stabilize();
        let known = self.cores.membership_of(rival);
        let promoted = known.observers().iter().map(|observer: &Member| observer.id);
        let promoted = promoted.collect::<Vec<_>>().into_iter();
        let next = promoted.fold(with_other_sessions(&known, 2), |next, id| {
            let grown = next.with_voter(id);
            grown.unwrap_or(next)
        });
        self.cores.change(rival, next);
        self.cores.stabilize();
        self.propose(&[rival]);
        self.cores.stabilize();

        links.iter().for_each(|link| self.cores.links().mend(*link));
        let others = members.iter().copied().filter(|id| *id != rival).collect::<Vec<_>>();
        let links = self.part(&[rival], &others);
        self.cores.campaign(third);
        self.cores.stabilize();
        links.iter().for_each(|link| self.cores.links().mend(*link));
    }

    fn drop_all_of(&mut self, from: ReplicaId) {
        self.cores.drop_messages(&Filter { from: Some(from), to: None, kind: None });
    }
}

/// The same members, and another number of sessions that are remembered.
fn with_other_sessions(present: &Membership, more: u32) -> Membership {
    let sessions = present.sessions_max() % 64 + more;
    present.with_sessions_max(sessions).unwrap_or_else(|_| present.clone())
}
