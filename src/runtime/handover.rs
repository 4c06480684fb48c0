//! Who asks this leader to hand over, and waits for it: a caller, or this replica as it closes. How
//! it hands over is the core's (`paxos/handover.rs`).
//!
//! Invariants:
//! * A caller is answered once: when its wish came true, when it came to nothing, or when two
//!   election timeouts have passed.

use crate::journal::disk::Disk;
use crate::paxos::Paxos;
use crate::paxos::step::Input;
use crate::types::error::{Error, ErrorKind};
use crate::types::ids::{Ballot, ReplicaId};
use crate::types::time::Moment;

use super::driver::{Driver, Stage};
use super::pending::Completer;
use super::requests::Answer;

/// Callers who wait for a hand-over.
#[derive(Debug, Default)]
pub(super) struct HandOvers {
    waiting: Vec<Waiting>,
    /// The ballot at which this replica led last and, since it closes, tried to hand over.
    pub(super) closing_at: Option<Ballot>,
}

/// A caller who wants `to` to lead.
#[derive(Debug)]
struct Waiting {
    to: ReplicaId,
    /// The ballot at which this replica led then: older leaders are deposed, heard or not.
    ballot: Ballot,
    until: Moment,
    completer: Completer<()>,
}

impl HandOvers {
    /// When the next caller is answered at the latest.
    pub(super) fn next_deadline(&self) -> Option<Moment> {
        self.waiting.iter().map(|waiting| waiting.until).min()
    }

    /// How many callers wait.
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Answers everyone with `err`.
    pub(super) fn fail_all(&mut self, err: &Error, answers: &mut Vec<Answer>) {
        let waiting = std::mem::take(&mut self.waiting).into_iter();
        answers.extend(waiting.map(|it| Answer::HandOver(it.completer, Err(err.clone()))));
    }
}

impl<D: Disk> Driver<D> {
    /// A caller wants `to` to lead.
    pub(super) fn on_hand_over(&mut self, to: ReplicaId, completer: Completer<()>) {
        if let Err(err) = self.begin_hand_over(to) {
            self.effects.answers.push(Answer::HandOver(completer, Err(err)));
            return;
        }
        let until = self.now + 2 * self.options.election_timeout;
        let ballot = self.view().and_then(|view| view.leader).unwrap_or_default();
        self.hand_overs.waiting.push(Waiting { to, ballot, until, completer });
    }

    fn begin_hand_over(&mut self, to: ReplicaId) -> Result<(), Error> {
        let refuse = |kind, message: String| Err(Error::new(kind, message));
        if matches!(self.stage, Stage::Closing(_)) {
            return refuse(ErrorKind::Closed, "the replica is being closed".into());
        }
        if !self.options.voters.iter().any(|(id, _)| *id == to) {
            return refuse(ErrorKind::InvalidArgument, format!("there is no voter {to}"));
        }
        if !self.leads() {
            let leader = self.view().and_then(|view| view.leader).map(|ballot| ballot.leader);
            let leads = leader.map_or("no leader is heard".into(), |id| format!("{id} does"));
            return refuse(ErrorKind::NotLeader, format!("this replica does not lead: {leads}"));
        }
        if to == self.options.id {
            return Ok(());
        }
        match self.handing_over() {
            Some(other) if other != to => {
                let message = format!("this replica is handing over to replica {other} already");
                refuse(ErrorKind::Busy, message)
            }
            None if !self.hand_over(to, false) => {
                let message = format!("replica {to} is not heard, or lags too far, to lead now");
                refuse(ErrorKind::Unreachable, message)
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Hands over to `to`, if this replica leads and that one can. Returns whether. A `stalled`
    /// replica is one whose own promise would come late.
    pub(super) fn hand_over(&mut self, to: ReplicaId, stalled: bool) -> bool {
        self.step(Input::HandOver { to, stalled });
        self.handing_over() == Some(to)
    }

    /// Hands over to whoever is best prepared, if this replica leads and somebody can. Returns
    /// whether.
    pub(super) fn hand_over_to_anyone(&mut self) -> bool {
        if self.handing_over().is_some() {
            return true;
        }
        let Some(paxos) = &self.paxos else { return false };
        paxos.successor(None).is_some_and(|to| self.hand_over(to, false))
    }

    /// The peer that this replica lets lead soon, where it does.
    pub(super) fn handing_over(&self) -> Option<ReplicaId> {
        self.paxos.as_ref().and_then(Paxos::handing_over)
    }

    /// Answers those who waited for a hand-over that has ended.
    pub(super) fn settle_hand_overs(&mut self) {
        if self.hand_overs.waiting.is_empty() {
            return;
        }
        let heard = self.view().and_then(|view| view.leader);
        let (hands_over, now) = (self.handing_over().is_some(), self.now);
        for waiting in std::mem::take(&mut self.hand_overs.waiting) {
            let Waiting { to, ballot, until, completer } = waiting;
            let leader = heard.filter(|leader| ballot <= *leader).map(|ballot| ballot.leader);
            let goes_on = hands_over || leader.is_none();
            let answer = if leader == Some(to) {
                Ok(())
            } else if goes_on && now < until {
                self.hand_overs.waiting.push(Waiting { to, ballot, until, completer });
                continue;
            } else {
                let leads = leader.map_or("nobody leads".into(), |id| format!("{id} leads"));
                let message = format!("replica {to} did not take over: {leads}");
                Err(Error::new(ErrorKind::TimedOut, message))
            };
            self.effects.answers.push(Answer::HandOver(completer, answer));
        }
    }
}
