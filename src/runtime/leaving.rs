//! A replica that was removed stays until it is not missed, and stops.
//!
//! Somebody may know less than it does, and it may be the only one that can tell. So it goes on
//! answering until those who vote now can do without it, which it asks them (`paxos/leaving.rs`),
//! and for an election timeout after it heard last from anyone who lags. It waits for nobody for
//! ever: those whom it knows may have been replaced since.
//!
//! Invariants:
//! * Who stays only answers: nothing that it says counts.

use crate::journal::disk::Disk;
use crate::paxos::Paxos;
use crate::paxos::step::Input;
use crate::types::error::{Error, ErrorKind};
use crate::types::ids::ReplicaId;
use crate::types::message::Message;
use crate::types::time::Moment;

use super::driver::{Driver, Stage};

/// When this replica stops, once it was removed.
#[derive(Debug)]
pub(super) struct Leaving {
    at: Moment,
    /// It stays no longer, whoever needs it.
    by: Moment,
    /// When it asks again whether it is missed.
    ask_at: Moment,
}

impl Leaving {
    /// When to look again, if nothing happens before.
    pub(super) fn wake_at(&self) -> Moment {
        self.at.min(self.ask_at)
    }
}

impl<D: Disk> Driver<D> {
    /// Whether it knows that it is a member no more, and never will be.
    pub(super) fn is_removed(&self) -> bool {
        self.paxos.as_ref().is_some_and(Paxos::is_removed)
    }

    /// The voters who may need this replica, which was removed, before it stops: enough of them are
    /// not known to have that durably.
    pub(super) fn missed_by(&self) -> Vec<ReplicaId> {
        let missed = self.paxos.as_ref().filter(|paxos| paxos.is_missed());
        missed.map(Paxos::missed_by).unwrap_or_default()
    }

    /// Somebody who knows less than this replica, which was removed, is there: it may be the only
    /// one that can tell. It stays for another while.
    pub(super) fn stay_for_who_lags(&mut self, message: &Message) {
        let known = match message {
            Message::Heartbeat(heartbeat) => heartbeat.slot_chosen,
            Message::Fetch { from } | Message::Prepare { from, .. } => *from,
            _ => return,
        };
        let lags = self.view().is_some_and(|view| known < view.slot_chosen);
        if let (Some(leaving), true) = (&mut self.leaving, lags) {
            leaving.at = (self.now + self.options.election_timeout).min(leaving.by);
        }
    }

    /// A replica that was removed answers those who know less for another while, and stops.
    pub(super) fn leave_if_removed(&mut self) {
        if !matches!(self.stage, Stage::Serving) {
            // It ends by itself.
            self.leaving = None;
            return;
        }
        let Some(paxos) = self.paxos.as_ref().filter(|paxos| paxos.is_removed()) else { return };
        let (missed, now, timeout) = (paxos.is_missed(), self.now, self.options.election_timeout);
        let begin = || Leaving { at: now + timeout, by: now + STAY * timeout, ask_at: now };
        let leaving = self.leaving.get_or_insert_with(begin);
        if missed {
            leaving.at = (now + timeout).min(leaving.by);
        }
        if leaving.at <= now {
            let message = format!("replica {} was removed from its cluster", self.options.id);
            self.stop(Error::new(ErrorKind::Removed, message));
        }
    }

    /// Asks those who vote now, again and again, until it is not missed.
    pub(super) fn ask_to_leave(&mut self) {
        let missed = self.paxos.as_ref().is_some_and(Paxos::is_missed);
        let Some(leaving) = self.leaving.as_mut().filter(|leaving| leaving.ask_at <= self.now)
        else {
            return;
        };
        leaving.ask_at =
            if missed { self.now + self.options.heartbeat_interval } else { leaving.by };
        if missed {
            self.step(Input::Leave);
        }
    }
}

/// How many election timeouts a replica that was removed stays at most: ten minutes where nothing
/// else is set, in which a machine starts again.
const STAY: u32 = 1200;
