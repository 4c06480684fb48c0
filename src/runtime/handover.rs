//! Who asks this leader to hand over, and waits for it: a caller, or this replica as it closes. How
//! it hands over is the core's (`paxos/handover.rs`).
//!
//! Invariants:
//! * A caller is answered once: when its wish came true, when it came to nothing, or when two
//!   election timeouts have passed.

use std::collections::BTreeSet;

use crate::journal::disk::Disk;
use crate::paxos::Paxos;
use crate::paxos::step::Input;
use crate::types::error::{Error, ErrorKind};
use crate::types::ids::{Ballot, ReplicaId};
use crate::types::marks::reached;
use crate::types::time::Moment;

use super::driver::{Driver, Stage};
use super::ending::closing;
use super::pending::Completer;
use super::requests::Answer;

/// Callers who wait for a hand-over.
#[derive(Debug, Default)]
pub(super) struct HandOvers {
    waiting: Vec<Waiting>,
    /// Whom this replica asked to lead since it closes.
    asked: BTreeSet<ReplicaId>,
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

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
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
            return Err(closing());
        }
        if self.members().is_some_and(|members| members.voter(to).is_none()) {
            return refuse(ErrorKind::InvalidArgument, format!("there is no voter {to}"));
        }
        self.check_leads()?;
        if let Some(err) = self.refuse_watcher(self.hand_overs.len()) {
            return Err(err);
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
                let reaches = self.paxos.as_ref().is_some_and(|paxos| paxos.reaches(to));
                let why = if reaches { "lags too far" } else { "is not heard yet, or no more," };
                refuse(ErrorKind::Unreachable, format!("replica {to} {why} to lead now"))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Whether this replica leads; else the error names who does.
    pub(super) fn check_leads(&self) -> Result<(), Error> {
        if self.leads() {
            return Ok(());
        }
        let leader = self.view().and_then(|view| view.leader).map(|ballot| ballot.leader);
        let leads = leader.map_or("no leader is heard".into(), |id| format!("{id} does"));
        Err(Error::new(ErrorKind::NotLeader, format!("this replica does not lead: {leads}")))
    }

    /// Hands over to `to`, if this replica leads and that one can. Returns whether. A `stalled`
    /// replica is one whose own promise would come late.
    pub(super) fn hand_over(&mut self, to: ReplicaId, stalled: bool) -> bool {
        self.step(Input::HandOver { to, stalled });
        self.handing_over() == Some(to)
    }

    /// A leader that closes lets another one lead meanwhile, where the others can do without it:
    /// nobody need wait until it is missed. Each peer is asked once, the best prepared one first.
    pub(super) fn hand_over_at_close(&mut self) {
        let Stage::Closing(deadline) = self.stage else { return };
        let Some(paxos) = self.paxos.as_ref().filter(|_| self.leads()) else { return };
        let may = self.now < deadline && paxos.is_dispensable();
        let asked = &self.hand_overs.asked;
        let to = paxos.handing_over().or_else(|| paxos.successor(|id| asked.contains(&id)));
        let Some(to) = to.filter(|to| may && !asked.contains(to)) else { return };
        self.hand_overs.asked.insert(to);
        if self.handing_over().is_some() || self.hand_over(to, false) {
            reached!(ClosingLeaderHandsOver);
            self.bounce_queue();
        }
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
                let refused = now < until && leader == Some(self.options.id);
                let kind = if refused { ErrorKind::Unreachable } else { ErrorKind::TimedOut };
                Err(Error::new(kind, message))
            };
            self.effects.answers.push(Answer::HandOver(completer, answer));
        }
    }
}
