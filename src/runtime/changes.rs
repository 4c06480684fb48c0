//! Who asks this leader to change the membership, and waits until the change is established. How
//! that comes about is the core's (`paxos/change.rs`).
//!
//! ```text
//!   caller      this leader
//!     | edit       |  the edit of the present membership is allowed, those who would vote have
//!     |----------->|  caught up, and enough of them are heard: asks the core
//!     |            |  ... chosen; enough of the new voters have it durably, and it was used,
//!     |            |  or they told the leader that left
//!     |<-----------|
//! ```
//!
//! One that is *forced* is not refused for who lags or is not heard: the core is asked for it again
//! and again until the caller's deadline. That is as safe, since the core proposes nothing before
//! enough voters of the new membership promised and know what they must.
//!
//! Invariants:
//! * One change at a time, in the order in which they were asked for; each is an edit of what the
//!   one before made.
//! * Whoever is refused, nothing was proposed for.
//! * A caller is answered once: when the change is established, when it came to nothing, or at its
//!   deadline.

use std::collections::VecDeque;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::journal::disk::Disk;
use crate::paxos::Paxos;
use crate::paxos::step::Input;
use crate::types::error::{Error, ErrorKind, Result};
use crate::types::ids::ReplicaId;
use crate::types::marks::reached;
use crate::types::membership::{Membership, MembershipError};
use crate::types::message::Message;
use crate::types::time::Moment;

use super::driver::{Driver, Stage};
use super::ending::closing;
use super::pending::Completer;
use super::requests::Answer;
use super::turn::Effects;

/// What makes the next membership of the present one.
pub struct Edit {
    make: Box<EditFn>,
    /// It is not refused for voters that lag or are not heard.
    forced: bool,
}

type EditFn = dyn FnOnce(&Membership) -> Result<Membership, MembershipError> + Send;

impl Edit {
    /// An edit that is made by `edit`.
    #[must_use]
    pub fn new(
        edit: impl FnOnce(&Membership) -> Result<Membership, MembershipError> + Send + 'static,
    ) -> Self {
        Self { make: Box::new(edit), forced: false }
    }

    /// The same, whoever of the voters to be lags or is not heard.
    #[must_use]
    pub fn forced(self) -> Self {
        Self { forced: true, ..self }
    }
}

impl fmt::Debug for Edit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Edit").field("forced", &self.forced).finish_non_exhaustive()
    }
}

/// Callers who wait for a change. The first one's is under way.
#[derive(Debug, Default)]
pub(super) struct Changes {
    waiting: VecDeque<Waiting>,
    /// When something was last asked to be chosen under the first one's membership.
    used_at: Option<Moment>,
}

#[derive(Debug)]
struct Waiting {
    step: Step,
    until: Moment,
    completer: Completer<Membership>,
}

#[derive(Debug)]
enum Step {
    /// Not looked at yet.
    Asked(Edit),
    /// The core makes it.
    Made(Membership),
    /// The core is asked to make it for as long as the caller waits.
    Forced(Membership),
}

/// What became of an edit whose turn has come.
enum Begun {
    /// The core cannot be asked yet.
    Waits(Edit),
    /// Nothing was proposed.
    Refused(Error),
    /// The core is asked.
    Asked(Step),
}

impl Step {
    /// What the core was asked for.
    fn next(&self) -> Option<&Membership> {
        match self {
            Self::Asked(_) => None,
            Self::Made(next) | Self::Forced(next) => Some(next),
        }
    }
}

impl Changes {
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

    /// Answers the first caller, or lets it wait on.
    fn settle<D: Disk>(
        &mut self,
        waiting: Waiting,
        answer: Option<Result<Membership>>,
        effects: &mut Effects<D>,
    ) {
        match answer {
            Some(answer) => effects.answers.push(Answer::Membership(waiting.completer, answer)),
            None => self.waiting.push_front(waiting),
        }
    }

    /// Answers everyone with `err`.
    pub(super) fn fail_all(&mut self, err: &Error, answers: &mut Vec<Answer>) {
        let waiting = std::mem::take(&mut self.waiting).into_iter();
        answers.extend(waiting.map(|it| Answer::Membership(it.completer, Err(err.clone()))));
    }
}

impl<D: Disk> Driver<D> {
    /// A caller wants the membership changed.
    pub(super) fn on_change(&mut self, edit: Edit, completer: Completer<Membership>) {
        if matches!(self.stage, Stage::Closing(_)) {
            self.effects.answers.push(Answer::Membership(completer, Err(closing())));
            return;
        }
        if let Some(err) = self.refuse_watcher(self.changes.len()) {
            self.effects.answers.push(Answer::Membership(completer, Err(err)));
            return;
        }
        let until = self.now + self.options.request_timeout;
        self.changes.waiting.push_back(Waiting { step: Step::Asked(edit), until, completer });
    }

    /// Asks again for a forced change that was given up; begins the next one, where none is under
    /// way.
    pub(super) fn go_on_with_changes(&mut self) {
        self.insist();
        while let Some(Waiting { step: Step::Asked(_), .. }) = self.changes.waiting.front()
            && let Some(Waiting { step: Step::Asked(edit), until, completer }) =
                self.changes.waiting.pop_front()
        {
            let (step, answer) = match self.begin_change(edit) {
                Begun::Waits(edit) => (Step::Asked(edit), None),
                Begun::Refused(err) => {
                    self.effects.answers.push(Answer::Membership(completer, Err(err)));
                    continue;
                }
                Begun::Asked(step) => {
                    let answer = self.change_ended(&step);
                    (step, answer)
                }
            };
            let is_open = answer.is_none();
            self.changes.settle(Waiting { step, until, completer }, answer, &mut self.effects);
            if is_open {
                return;
            }
        }
    }

    /// Asks the core once more for a forced change that it gave up.
    fn insist(&mut self) {
        if let Some(Waiting { step: Step::Forced(next), .. }) = self.changes.waiting.front()
            && let Some(paxos) = self.paxos.as_ref().filter(|paxos| self.can_change(paxos))
            && matches!(self.stage, Stage::Serving)
            && paxos.membership() != next
            && self.check_known(paxos, next).is_ok()
            && self.check_whole(paxos.membership(), next).is_ok()
        {
            reached!(ChangeAskedAgain);
            let next = next.clone();
            self.step(Input::Change(next));
        }
    }

    /// Has something chosen under a membership that counts: votes for it show who has the
    /// membership durably. Again after a while, as long as too few showed it. Returns whether the
    /// core was asked.
    pub(super) fn use_membership(&mut self) -> bool {
        let first = self.changes.waiting.front().and_then(|it| it.step.next());
        let counts = |paxos: &&Paxos| first == Some(paxos.membership());
        let Some(paxos) = self.paxos.as_ref().filter(counts).filter(|it| it.has_room()) else {
            return false;
        };
        let chosen = paxos.view().slot_chosen;
        let again = self.changes.used_at.is_none_or(|at| {
            self.options.retransmit_interval <= self.now.since(at) && !paxos.is_established()
        });
        let is_due = chosen == paxos.governs() || again;
        let asks = is_due && paxos.inflight_slots() == 0 && paxos.changing_to().is_none();
        if asks {
            self.changes.used_at = Some(self.now);
            self.fill_next_slot();
        }
        asks
    }

    /// Asks for a no-op in the first slot that is not known to be chosen.
    pub(super) fn fill_next_slot(&mut self) {
        let Some(view) = self.view() else { return };
        let (from, message) = (self.options.id, Message::Fill { until: view.slot_chosen.next() });
        self.step(Input::Message { from, message });
    }

    /// Answers those whose change has ended, or for whom it is too late.
    pub(super) fn settle_changes(&mut self) {
        while let Some(waiting) = self.changes.waiting.pop_front() {
            let ended = self.change_ended(&waiting.step);
            let late = waiting.until <= self.now;
            let answer = ended.or_else(|| late.then(|| Err(self.change_is_late(&waiting.step))));
            let open = answer.is_none();
            self.changes.settle(waiting, answer, &mut self.effects);
            if open {
                return;
            }
        }
    }

    /// Whether a change can be asked for now: also, the directory says whether others have what is
    /// in it under the present membership, so that no torn end is judged by one before that.
    fn can_change(&self, paxos: &Paxos) -> bool {
        paxos.can_change() && !self.is_sharing_unsaid()
    }

    /// Asks the core for the change, if that can be asked now.
    fn begin_change(&mut self, edit: Edit) -> Begun {
        if let Err(err) = self.check_leads() {
            return Begun::Refused(err);
        }
        let Some(paxos) = self.paxos.as_ref().filter(|paxos| self.can_change(paxos)) else {
            return Begun::Waits(edit);
        };
        let is_forced = edit.forced;
        let next = match self.next_membership(paxos, edit) {
            Ok(next) => next,
            Err(err) => return Begun::Refused(err),
        };
        let is_new = next != *paxos.membership();
        self.changes.used_at = None;
        if is_new {
            self.step(Input::Change(next.clone()));
        }
        Begun::Asked(if is_forced { Step::Forced(next) } else { Step::Made(next) })
    }

    /// What the edit makes of the present membership, if that may be asked for.
    fn next_membership(&self, paxos: &Paxos, edit: Edit) -> Result<Membership> {
        let present = self.with_own_address(paxos.membership());
        // It is the caller's code: where it panics, that is no mistake of this replica.
        let edited = catch_unwind(AssertUnwindSafe(|| (edit.make)(&present))).map_err(|_| {
            Error::new(ErrorKind::InvalidArgument, "the edit of the membership panicked")
        })?;
        let refuse = |err| {
            let kind = match err {
                MembershipError::NotHeard(_) | MembershipError::NotReached { .. } => {
                    ErrorKind::Unreachable
                }
                _ => ErrorKind::InvalidArgument,
            };
            Error::membership(kind, err)
        };
        let mut next = edited.map_err(refuse)?;
        if next == *paxos.membership() {
            return Ok(next);
        }
        next = next.following(paxos.membership());
        next.check_successor(paxos.membership()).map_err(refuse)?;
        next.check_ports(&present).map_err(refuse)?;
        self.check_known(paxos, &next)?;
        if !edit.forced {
            check_prepared(self.options.id, paxos, &next)?;
        }
        self.check_whole(paxos.membership(), &next)?;
        Ok(next)
    }

    /// Refuses `next` where it leaves this replica alone too early. Another one that would be left
    /// alone does not promise then.
    fn check_whole(&self, present: &Membership, next: &Membership) -> Result<()> {
        let own = self.options.id;
        if !next.is_only(own) || present.is_only(own) {
            return Ok(());
        }
        let Some(what) = self.awaited_before_alone() else { return Ok(()) };
        let message = format!("nobody else would be left, and this replica is {what}");
        Err(Error::busy(message, self.options.election_timeout))
    }

    /// A replica that is alone gets the address that it was opened with, and so does a ledger that
    /// began without one: others can join then.
    fn with_own_address(&self, present: &Membership) -> Membership {
        let unknown = present.member(self.options.id).is_some_and(|own| own.address.is_empty());
        let formed = self.membership().and_then(|formed| formed.voter(self.options.id));
        let is_new = |own: &str| formed.is_none_or(|formed| formed.address != own);
        let is_only = present.members().count() == 1;
        let own = self.given_address().filter(|own| unknown || is_only && is_new(own));
        let addressed = own.and_then(|own| present.with_address(self.options.id, own).ok());
        addressed.unwrap_or_else(|| present.clone())
    }

    /// What became of a change; `None` while that is open.
    fn change_ended(&self, step: &Step) -> Option<Result<Membership>> {
        let next = step.next()?;
        let paxos = self.paxos.as_ref()?;
        let counts = paxos.membership() == next;
        if counts && paxos.is_established() {
            return Some(Ok(next.clone()));
        }
        if counts && self.stays_removed() {
            // Those who vote now tell it whether they know.
            return (!paxos.is_missed()).then(|| Ok(next.clone()));
        }
        if counts && !self.leads() {
            let message = "the membership counts, but this replica leads no longer: it cannot tell \
                           whether the others have heard of it";
            return Some(Err(Error::new(ErrorKind::TimedOut, message)));
        }
        if !counts && self.check_leads().is_err() {
            let message = "this replica leads no longer; whether the membership changed, \
                           membership() shows where it was learned";
            return Some(Err(Error::new(ErrorKind::TimedOut, message)));
        }
        if counts || paxos.changing_to().is_some() {
            return None;
        }
        if next.check_successor(paxos.membership()).is_err() {
            let message = "another membership counts meanwhile: membership() shows which";
            return Some(Err(Error::new(ErrorKind::TimedOut, message)));
        }
        if matches!((step, &self.stage), (Step::Forced(_), Stage::Serving)) {
            return None;
        }
        let not_answered = Error::membership(ErrorKind::Unreachable, MembershipError::NotAnswered);
        Some(Err(paxos.handing_over().map_or(not_answered, |to| {
            let message = format!("nothing was changed: this replica hands over to replica {to}");
            Error::busy(message, self.options.election_timeout)
        })))
    }

    fn change_is_late(&self, step: &Step) -> Error {
        let counts = match step.next() {
            None => "it was not begun",
            Some(next) if self.members().is_some_and(|members| members == next) => {
                "it counts, but too few of its voters have shown that they have it durably"
            }
            Some(_) => "it may count yet",
        };
        let message = format!("the change of the membership took too long: {counts}");
        Error::new(ErrorKind::TimedOut, message)
    }

    /// Who belongs as far as the core knows; `None` before there is one.
    #[must_use]
    pub fn members(&self) -> Option<&Membership> {
        self.paxos.as_ref().map(Paxos::membership)
    }
}

/// Whether those who are to vote have caught up, enough of the voters are heard to choose, and
/// enough of those to be to go on.
fn check_prepared(own: ReplicaId, paxos: &Paxos, next: &Membership) -> Result<()> {
    let (present, chosen) = (paxos.membership(), paxos.view().slot_chosen);
    let mut promoted = next.voters().iter().map(|voter| voter.id);
    let lag = |id: ReplicaId| {
        let known = paxos.peer(id).filter(|(heard, ..)| *heard).map(|(_, _, known)| known);
        known.map(|known| known.count_to(chosen))
    };
    let lags = promoted.find_map(|id| match lag(id) {
        _ if present.voter(id).is_some() || id == own => None,
        Some(lag) if lag < present.alpha() => None,
        lag => Some((id, lag)),
    });
    if let Some((id, lag)) = lags {
        let err = MembershipError::NotCaughtUp { id, lag };
        return Err(Error::membership(ErrorKind::NotCaughtUp, err));
    }
    let too_few = match (paxos.can_choose(), paxos.can_carry(next)) {
        (true, true) => return Ok(()),
        (false, _) => present,
        (true, false) => next,
    };
    let others = too_few.voters().iter().map(|voter| voter.id).filter(|id| *id != own);
    let missing = others.filter(|id| !paxos.reaches(*id)).collect();
    let err = MembershipError::TooFewHeard { missing };
    Err(Error::membership(ErrorKind::Unreachable, err))
}
