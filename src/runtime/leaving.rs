//! A replica that was removed stays until it is not missed, and stops.
//!
//! Somebody may know less than it does, and it may be the only one that can tell. So it goes on
//! answering until those who vote now can do without it, which it asks them (`paxos/leaving.rs`),
//! and for an election timeout after it heard last from anyone who lags. It waits for nobody for
//! ever: those whom it knows may have been replaced since. Nor does it wait where nobody could
//! reach it: one that was removed, and knows no address of its own, asks nobody.
//!
//! Invariants:
//! * Who stays answers, and asks to leave: nothing that it says counts.

use crate::journal::disk::Disk;
use crate::paxos::Paxos;
use crate::paxos::step::Input;
use crate::types::error::{Error, ErrorKind, Result};
use crate::types::ids::{ReplicaId, Slot};
use crate::types::marks::reached;
use crate::types::membership::Membership;
use crate::types::message::Message;
use crate::types::record::Record;
use crate::types::time::Moment;

use super::driver::{Driver, Stage};

/// Who stays though it was removed, and who asks to leave.
#[derive(Debug, Default)]
pub(super) struct Leaving {
    /// Once this replica was removed.
    stay: Option<Stay>,
    /// Another one was: up to where it wants the journal to show what is chosen.
    to_note: Option<Slot>,
    /// Where this replica was, by the last membership that named it; empty where none said it.
    address: String,
}

#[derive(Debug)]
struct Stay {
    /// When this replica stops.
    at: Moment,
    /// It stays no longer, whoever needs it.
    by: Moment,
    /// When it asks again whether it is missed.
    ask_at: Moment,
}

impl Leaving {
    /// Where this replica was, by the last membership that named it; empty where none said it.
    pub(super) fn address(&self) -> &str {
        &self.address
    }

    /// When to look again, if nothing happens before.
    pub(super) fn wake_at(&self) -> Option<Moment> {
        self.stay.as_ref().map(|stay| stay.at.min(stay.ask_at))
    }
}

impl<D: Disk> Driver<D> {
    /// Whether it knows that it is a member no more, and never will be.
    pub(super) fn is_removed(&self) -> bool {
        self.paxos.as_ref().is_some_and(Paxos::is_removed)
    }

    /// A membership governs: where it names this replica, it says where that is.
    pub(super) fn note_own_address(&mut self, members: &Membership) {
        if let Some(own) = members.member(self.options.id) {
            own.address.clone_into(&mut self.leaving.address);
        }
    }

    /// The voters who may need this replica, which was removed, before it stops: enough of them are
    /// not known to have that durably. Nobody, where none of them could reach it to say so.
    pub(super) fn missed_by(&self) -> Vec<ReplicaId> {
        let missed = self.paxos.as_ref().filter(|paxos| paxos.is_missed());
        let missed = missed.filter(|_| !self.standing().hello.address.is_empty());
        missed.map(Paxos::missed_by).unwrap_or_default()
    }

    /// Whether it was removed, and stays until those who vote now have that durably: they could
    /// tell it.
    pub(super) fn stays_removed(&self) -> bool {
        let could_tell = || !self.standing().hello.address.is_empty();
        self.is_removed() && matches!(self.stage, Stage::Serving) && could_tell()
    }

    /// Somebody who knows less than this replica, which was removed, is there: it may be the only
    /// one that can tell. It stays for another while. Or one that was removed asks to leave.
    pub(super) fn note_who_needs_whom(&mut self, message: &Message) {
        let known = match message {
            Message::Leaving { slot } => {
                self.leaving.to_note = Some(*slot);
                return;
            }
            Message::Heartbeat(heartbeat) => heartbeat.slot_chosen,
            Message::Fetch { from } | Message::Prepare { from, .. } => *from,
            _ => return,
        };
        let lags = self.view().is_some_and(|view| known < view.slot_chosen);
        if let (Some(stay), true) = (&mut self.leaving.stay, lags) {
            stay.at = (self.now + self.options.election_timeout).min(stay.by);
        }
    }

    /// Whether one that was removed gets no answer yet, and stays: this replica is left alone with
    /// one state, and who was removed has the only other one.
    pub(super) fn keeps_who_leaves(&self, message: &Message) -> bool {
        let Message::Leaving { slot } = message else { return false };
        let knows = self.view().is_some_and(|view| *slot <= view.slot_chosen);
        let keeps = knows && self.awaits_second_state();
        if keeps {
            reached!(KeptWhoLeaves);
        }
        keeps
    }

    /// A replica that was removed answers those who know less for another while, and stops.
    pub(super) fn leave_if_removed(&mut self) {
        if !matches!(self.stage, Stage::Serving) {
            // It ends by itself.
            self.leaving.stay = None;
            return;
        }
        if !self.is_removed() {
            return;
        }
        let missed = !self.missed_by().is_empty();
        let (now, timeout) = (self.now, self.options.election_timeout);
        let begin = || Stay { at: now + timeout, by: now + STAY_TIMEOUTS * timeout, ask_at: now };
        let stay = self.leaving.stay.get_or_insert_with(begin);
        if missed {
            stay.at = (now + timeout).min(stay.by);
        }
        if stay.at <= now {
            let id = self.options.id;
            let message = format!("replica {id} was removed from its cluster, wanted a new id");
            self.stop(Error::new(ErrorKind::Removed, message));
        }
    }

    /// One that was removed asks whether the journal shows how far the log is chosen. Where that is
    /// known, and no record came since that could say it, one is written for it, behind all that
    /// this turn brings: the next time it asks, it is answered.
    pub(super) fn note_for_who_leaves(&mut self) -> Result<()> {
        let Some(slot) = self.leaving.to_note.take() else { return Ok(()) };
        if matches!(self.stage, Stage::Stopped(_)) {
            return Ok(());
        }
        let knows = self.view().is_some_and(|view| slot <= view.slot_chosen);
        let notes = self.paxos.as_ref().is_some_and(|paxos| paxos.notes(slot));
        if knows && !notes && !self.is_backlogged() && !self.space.is_short() {
            reached!(NotedForLeaving);
            self.append(&[Record::Sightings(self.fence.sightings())])?;
            self.fence.recorded(self.journal.last_lsn(), self.now);
        }
        Ok(())
    }

    /// Asks those who vote now, again and again, until it is not missed.
    pub(super) fn ask_to_leave(&mut self) {
        let Some(stay) = self.leaving.stay.as_mut().filter(|stay| stay.ask_at <= self.now) else {
            return;
        };
        stay.ask_at = self.now + self.options.heartbeat_interval;
        if !self.missed_by().is_empty() {
            self.step(Input::Leave);
        }
    }
}

/// How many election timeouts a replica that was removed stays at most: ten minutes where nothing
/// else is set, in which a machine starts again.
const STAY_TIMEOUTS: u32 = 1200;
