//! A leader whose disk stands still lets a peer lead.
//!
//! The own vote is not needed where the others are enough, so such a leader goes on, and nobody
//! would notice; but whatever it has to promise or to tell from its journal is late. It hands over
//! where what was proposed since the disk stood still was chosen all the same: then a quorum has
//! disks that work, and nobody leads worse.
//!
//! Invariants:
//! * A leader that handed over in vain leads on, or follows where its successor had promised
//!   already. It tries again after a while, longer each time, and asks another peer then.
//! * A process that did not run for a while takes that for no fault of its disk.

use crate::journal::disk::Disk;
use crate::paxos::Paxos;
use crate::types::ids::{Lsn, ReplicaId, Slot};
use crate::types::marks::reached;
use crate::types::time::Moment;

use super::driver::Driver;
use super::events;

/// What is known of the own disk.
#[derive(Debug)]
pub(super) struct Stalled {
    /// When the journal last got something done, or had nothing to do, and how far it was durable.
    moved: (Moment, Lsn),
    /// What this leader had proposed until then.
    proposed: Slot,
    looked_at: Moment,
    /// The last try: whom it asked, when it may try again, and how many there were.
    tried: Option<(ReplicaId, Moment, u32)>,
}

/// How often the time between two tries doubles.
const DOUBLINGS_MAX: u32 = 5;

impl Stalled {
    pub(super) fn new(now: Moment) -> Self {
        Self { moved: (now, Lsn::ZERO), proposed: Slot::ZERO, looked_at: now, tried: None }
    }
}

impl<D: Disk> Driver<D> {
    /// Hands over where the disk stands still, and others get on without it.
    pub(super) fn hand_over_if_stalled(&mut self) {
        let (now, timeout) = (self.now, self.options.election_timeout);
        let lsn = self.journal.frontier().lsn();
        let paused = now.since(self.stalled.looked_at) >= timeout / 2;
        self.stalled.looked_at = now;
        let moved = self.stalled.moved.1 != lsn || self.journal.is_idle();
        if moved || paused || !self.leads() {
            self.stalled.moved = (now, lsn);
            self.stalled.proposed = self.paxos.as_ref().map_or(Slot::ZERO, Paxos::proposed_below);
            if moved || !self.leads() {
                self.stalled.tried = self.stalled.tried.filter(|(_, until, _)| now < *until);
            }
            return;
        }
        let waits = self.stalled.tried.is_some_and(|(_, until, _)| now < until);
        let hands_over = self.handing_over().is_some();
        if now.since(self.stalled.moved.0) < 2 * timeout || waits || hands_over {
            return;
        }
        let Some(paxos) = &self.paxos else { return };
        let (last, tries) = match self.stalled.tried {
            Some((last, _, tries)) => (Some(last), tries),
            None => (None, 0),
        };
        let goes_without = self.stalled.proposed < paxos.view().slot_chosen;
        // Rather another one than who was asked last.
        let to = paxos.successor(|id| Some(id) == last).or_else(|| paxos.successor(|_| false));
        let Some(to) = to.filter(|_| goes_without) else { return };
        if self.hand_over(to, true) {
            reached!(StalledLeaderHandsOver);
            events::stalled(self.options.id, to);
            let until = now + timeout * (2 << tries.min(DOUBLINGS_MAX));
            self.stalled.tried = Some((to, until, tries + 1));
        }
    }

    /// When a leader whose journal has something to do looks at it again.
    pub(super) fn stalled_at(&self) -> Option<Moment> {
        let watched = self.leads() && !self.journal.is_idle() && !self.others().is_empty();
        watched.then(|| self.now + self.options.election_timeout / 4)
    }
}
