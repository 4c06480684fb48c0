//! What callers submitted and was not answered: how far each transaction has got.
//!
//! ```text
//!            +--- bounced, or its slot was lost: that attempt is over ---+
//!            v                                                           |
//!   submitted ─► Queued ──► Proposed (here), or Forwarded (to a leader) ─┴─► applied: answered
//!                                           ^     |
//!                                           +-----+ no verdict in time, or another leader: again
//! ```
//!
//! A command may be handed on as often as it takes, since it happens once. But only as long as each
//! attempt was certainly in vain is it certain, at the deadline, that it did not happen. An attempt
//! that nobody gave back makes a write *unsure*, for good. So does a state that was taken in while
//! an attempt was under way.
//!
//! Invariants:
//! * A request is in the table from its submission until its answer, and is answered once.
//! * What is `Queued` and not unsure is in no log and in no message that may still be taken.
//! * No two attempts have one number.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::store::verdict::{Committed, Resolution, Verdict};
use crate::types::bugs::{self, Bug};
use crate::types::error::{Error, ErrorKind};
use crate::types::ids::{Boot, ReplicaId, RequestId};
use crate::types::message::EncodedCommand;
use crate::types::time::Moment;

use super::pending::Completer;
use super::requests::Answer;

/// Transactions without an answer.
#[derive(Debug, Default)]
pub struct Writes {
    writes: BTreeMap<RequestId, Write>,
    /// What each attempt under way is for.
    attempts: BTreeMap<u64, RequestId>,
    /// The number of the newest attempt.
    attempt: u64,
    /// Where all that is forwarded was sent; `None` where some of it is lost.
    forwarded_to: Option<(ReplicaId, Boot)>,
    /// Nothing forwarded waits for its verdict too long before.
    again_at: Option<Moment>,
    /// What is forwarded weighs so much.
    forwarded_weight: usize,
    /// Who was answered for good since the last call of [`Writes::take_settled`].
    settled: Vec<RequestId>,
}

#[derive(Debug)]
struct Write {
    asker: Asker,
    deadline: Moment,
    state: State,
    /// An attempt that is over for this replica may still bring it about.
    unsure: bool,
    /// Somebody may have been told what became of it: it must not go on under another name.
    keeps_name: bool,
}

/// Who waits, and for what.
#[derive(Debug)]
pub enum Asker {
    /// For the verdict.
    Commit(Completer<Committed>),
    /// For what became of another request.
    Resolve(Completer<Resolution>),
}

/// How far a transaction has got.
#[derive(Debug)]
enum State {
    /// In this replica's queue.
    Queued,
    /// In an entry that this replica proposed.
    Proposed,
    /// Handed to a replica that seemed to lead. The command is kept to be handed on again.
    Forwarded { attempt: u64, command: EncodedCommand, again_at: Moment, wait: Duration },
}

/// What a verdict brings about.
#[derive(Debug)]
pub enum Told {
    /// Nobody here waits for it.
    Nobody,
    /// The answer to who waited; and whether the command is still in the queue, to no end.
    Answer(Answer, bool),
    /// Its session is forgotten, it certainly did not happen, and nobody was told that it never
    /// will: it may go on under another one.
    Renew,
}

impl Writes {
    /// How many wait.
    #[must_use]
    pub fn count(&self) -> usize {
        self.writes.len()
    }

    /// Whether somebody here waits for `request`.
    #[must_use]
    pub fn contains(&self, request: RequestId) -> bool {
        self.writes.contains_key(&request)
    }

    /// Notes a transaction that was put in the queue; one that was submitted before is unsure.
    pub fn add(&mut self, request: RequestId, asker: Asker, deadline: Moment, unsure: bool) {
        let write = Write { asker, deadline, state: State::Queued, unsure, keeps_name: false };
        let earlier = self.writes.insert(request, write);
        assert!(earlier.is_none(), "request {request} was submitted twice");
    }

    /// The request is in an entry that this replica proposes for its own callers.
    pub fn note_proposed(&mut self, request: RequestId) {
        if let Some(write) = self.writes.get_mut(&request) {
            write.state = State::Proposed;
        }
    }

    /// The request was proposed here, and that proposal cannot be chosen any more: it waits again.
    /// Returns whether somebody still waits for it.
    pub fn take_back(&mut self, request: RequestId) -> bool {
        let is_proposed = |write: &&mut Write| matches!(write.state, State::Proposed);
        let write = self.writes.get_mut(&request).filter(is_proposed);
        write.map(|write| write.state = State::Queued).is_some()
    }

    /// The request was proposed here, and what became of that cannot be seen any more: it waits
    /// again, and happens once. Returns whether somebody still waits for it.
    pub fn retry(&mut self, request: RequestId) -> bool {
        let waits = self.take_back(request);
        if waits && let Some(write) = self.writes.get_mut(&request) {
            write.unsure = true;
        }
        waits
    }

    /// Somebody is told that it is not known any more what became of the request, and that it will
    /// not happen later: that is so from now on.
    pub fn keep_name(&mut self, request: RequestId) {
        if let Some(write) = self.writes.get_mut(&request) {
            write.keeps_name = true;
        }
    }

    /// A state took the place of what would have been applied: whatever was forwarded may have
    /// happened in it, and of any that waits somebody may have been told what becomes of it.
    pub fn doubt_all(&mut self) {
        self.writes.values_mut().for_each(|write| write.keeps_name = true);
        for request in self.attempts.values() {
            if let Some(write) = self.writes.get_mut(request) {
                write.unsure = true;
            }
        }
    }

    /// The number of the next attempt.
    #[must_use]
    pub fn next_attempt(&self) -> u64 {
        self.attempt + 1
    }

    /// The command is on its way to `leader`, as the next attempt; after `wait` it will be sent
    /// again.
    pub fn note_forwarded(
        &mut self,
        leader: (ReplicaId, Boot),
        command: EncodedCommand,
        now: Moment,
        wait: Duration,
    ) {
        self.attempt += 1;
        let (attempt, request) = (self.attempt, command.request);
        let Some(write) = self.writes.get_mut(&request) else { return };
        if self.attempts.is_empty() {
            self.forwarded_to = Some(leader);
        }
        self.attempts.insert(attempt, request);
        self.forwarded_weight += weight(&command);
        let again_at = now + wait;
        self.again_at = Some(self.again_at.map_or(again_at, |at| at.min(again_at)));
        write.state = State::Forwarded { attempt, command, again_at, wait };
    }

    /// What the commands [weigh](weight) that were forwarded to a leader and are not answered: they
    /// are on their way, or wait there.
    #[must_use]
    pub fn forwarded_weight(&self) -> usize {
        self.forwarded_weight
    }

    /// `from` did not propose what came with this attempt, and never will: it waits again.
    pub fn take_bounced(&mut self, from: ReplicaId, attempt: u64) -> Option<EncodedCommand> {
        self.forwarded_to.filter(|(to, _)| *to == from)?;
        let request = *self.attempts.get(&attempt)?;
        self.take_forwarded(request)
    }

    /// The connection to a peer ended: what was forwarded there may be lost.
    pub fn peer_down(&mut self, peer: ReplicaId) {
        self.forwarded_to.take_if(|(to, _)| *to == peer);
    }

    /// When something has to be forwarded again, if nobody else comes to lead.
    #[must_use]
    pub fn again_at(&self) -> Option<Moment> {
        self.again_at.filter(|_| !self.attempts.is_empty())
    }

    /// The commands that are to be handed on again, to `leader` or, where that is `None`, to this
    /// replica itself: those that it was not sent, and those that wait too long for their verdict.
    /// Each with how long it is to wait now, which is `wait` at first. They are in no queue.
    pub fn take_overdue(
        &mut self,
        now: Moment,
        leader: Option<(ReplicaId, Boot)>,
        wait: Duration,
    ) -> Vec<(EncodedCommand, Duration)> {
        let elsewhere = leader.is_none() || self.forwarded_to != leader;
        if self.attempts.is_empty() || !elsewhere && self.again_at.is_none_or(|at| now < at) {
            return Vec::new();
        }
        let (mut overdue, mut soonest) = (Vec::new(), None);
        for request in self.attempts.values() {
            let State::Forwarded { again_at, wait: waited, .. } = &self.writes[request].state
            else {
                unreachable!("{request} is forwarded, since it has an attempt")
            };
            if elsewhere {
                overdue.push((*request, wait));
            } else if *again_at <= now {
                // A leader that is busy is not asked ever more often.
                overdue.push((*request, *waited * 2));
            } else {
                soonest = Some(soonest.map_or(*again_at, |at: Moment| at.min(*again_at)));
            }
        }
        self.again_at = soonest;
        self.forwarded_to = leader;
        let take = |(request, wait)| {
            let command = self.take_forwarded(request).expect("it was forwarded");
            let write = self.writes.get_mut(&request).expect("it waits");
            // Whoever was asked may have it, and it may be on its way.
            write.unsure = !bugs::is_on(Bug::RetryToldAsFailed);
            (command, wait)
        };
        overdue.into_iter().map(take).collect()
    }

    /// The verdict over a request is known.
    pub fn tell(&mut self, request: RequestId, verdict: Verdict) -> Told {
        let sequence = request.sequence + u64::from(bugs::is_on(Bug::VerdictOfOther));
        let asked = RequestId { sequence, ..request };
        let Some(write) = self.writes.get(&asked) else { return Told::Nobody };
        // Who wants to know of a request is not told of the request by which that is asked.
        let resolves = matches!(write.asker, Asker::Resolve(_));
        if resolves != matches!(verdict, Verdict::Resolved(_)) {
            return Told::Nobody;
        }
        let is_queued = matches!(write.state, State::Queued);
        // It arrived, by the one attempt that there was.
        let may_renew = !write.unsure && !write.keeps_name && !is_queued;
        if verdict == Verdict::Forgotten && may_renew {
            return Told::Renew;
        }
        let write = self.take(asked).expect("it waits");
        if verdict != Verdict::Forgotten {
            self.settled.push(asked);
        }
        Told::Answer(write.asker.tell(request, verdict), is_queued)
    }

    /// The request goes on under another name, with the same deadline: it waits again.
    pub fn rename(&mut self, from: RequestId, to: RequestId) -> Moment {
        drop(self.take_forwarded(from));
        let write = self.writes.remove(&from).expect("what is renamed waits");
        let Write { asker, deadline, .. } = write;
        self.add(to, asker, deadline, false);
        deadline
    }

    /// The deadline of a request has passed; `hint` says what was in the way.
    pub fn expire(&mut self, request: RequestId, hint: &str) -> Option<Answer> {
        let write = self.take(request)?;
        let message = match write.asker {
            Asker::Commit(_) => {
                format!("no leader took the transaction in time; it did not happen ({hint})")
            }
            Asker::Resolve(_) => format!("the transaction was not resolved in time ({hint})"),
        };
        let late = Error::new(ErrorKind::TimedOut, message);
        Some(self.fail(request, write, late, "it was proposed, and no verdict came in time"))
    }

    /// Answers all that certainly did not happen with `definite`; the others stay.
    pub fn fail_unproposed(&mut self, definite: &Error, answers: &mut Vec<Answer>) {
        let is_definite = |write: &Write| {
            let resolves = matches!(write.asker, Asker::Resolve(_));
            matches!(write.state, State::Queued) && (resolves || !write.unsure)
        };
        let unproposed = self.writes.iter().filter(|(_, write)| is_definite(write));
        let unproposed = unproposed.map(|(request, _)| *request).collect::<Vec<_>>();
        for request in unproposed {
            if let Some(write) = self.take(request) {
                answers.push(self.fail(request, write, definite.clone(), ""));
            }
        }
    }

    /// Answers everyone: what certainly did not happen with `definite`, the rest as unknown because
    /// of `why`.
    pub fn fail_all(&mut self, definite: &Error, why: &str, answers: &mut Vec<Answer>) {
        for (request, write) in std::mem::take(&mut self.writes) {
            answers.push(self.fail(request, write, definite.clone(), why));
        }
        self.attempts.clear();
        self.forwarded_weight = 0;
    }

    /// The requests that were answered for good since the last call.
    #[must_use]
    pub fn take_settled(&mut self) -> Vec<RequestId> {
        std::mem::take(&mut self.settled)
    }

    /// A request was refused before it was noted.
    pub fn note_refused(&mut self, request: RequestId) {
        self.settled.push(request);
    }

    /// The transaction leaves the table, to be answered.
    fn take(&mut self, request: RequestId) -> Option<Write> {
        let forwarded = self.take_forwarded(request).is_some();
        let mut write = self.writes.remove(&request)?;
        write.unsure |= forwarded;
        Some(write)
    }

    /// The answer to a transaction without a verdict.
    fn fail(&mut self, request: RequestId, write: Write, definite: Error, why: &str) -> Answer {
        let is_definite = match write.state {
            State::Queued => !write.unsure,
            State::Proposed => bugs::is_on(Bug::UnknownToldAsFailed),
            State::Forwarded { .. } => false,
        };
        match write.asker {
            // Whoever asks again is told the same.
            Asker::Resolve(completer) => {
                self.settled.push(request);
                Answer::Resolution(completer, Err(definite))
            }
            Asker::Commit(completer) if is_definite => {
                self.settled.push(request);
                Answer::Write(completer, Err(definite))
            }
            // Somebody may resolve it yet, so what becomes of it must not be forgotten.
            Asker::Commit(completer) => {
                Answer::Write(completer, Err(Error::outcome_unknown(request, why)))
            }
        }
    }

    /// What was forwarded is so no more: it waits again.
    fn take_forwarded(&mut self, request: RequestId) -> Option<EncodedCommand> {
        let write = self.writes.get_mut(&request)?;
        match std::mem::replace(&mut write.state, State::Queued) {
            State::Forwarded { attempt, command, .. } => {
                self.attempts.remove(&attempt);
                self.forwarded_weight -= weight(&command);
                Some(command)
            }
            other => {
                write.state = other;
                None
            }
        }
    }
}

/// What a forwarded command takes here: its bytes, and besides them what is kept of who waits for
/// it and where it was sent. Of small ones that is the larger part.
#[must_use]
pub fn weight(command: &EncodedCommand) -> usize {
    COMMAND_BYTES + command.bytes.len()
}

const COMMAND_BYTES: usize = 256;

impl Asker {
    /// The answer to who was refused. Where the same was submitted before, what became of that is
    /// as unknown as it was.
    pub fn refuse(self, request: RequestId, err: Error, again: bool) -> Answer {
        match self {
            Self::Commit(completer) if again => {
                let why = "this time it was refused before it was proposed";
                Answer::Write(completer, Err(Error::outcome_unknown(request, why)))
            }
            Self::Commit(completer) => Answer::Write(completer, Err(err)),
            Self::Resolve(completer) => Answer::Resolution(completer, Err(err)),
        }
    }

    fn tell(self, request: RequestId, verdict: Verdict) -> Answer {
        match self {
            Self::Commit(completer) => Answer::Write(completer, verdict.into_result(request)),
            Self::Resolve(completer) => Answer::Resolution(completer, verdict.into_resolution()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test panics on what it does not expect")]

    use super::*;
    use crate::runtime::pending::Pending;
    use crate::types::ids::SessionId;

    const REQUEST: RequestId = RequestId { session: SessionId(1), sequence: 1 };

    /// One write, forwarded once.
    fn forwarded() -> (Writes, Pending<Committed>) {
        let (pending, completer) = Pending::new();
        let mut writes = Writes::default();
        writes.add(REQUEST, Asker::Commit(completer), Moment(1_000), false);
        forward(&mut writes);
        (writes, pending)
    }

    fn forward(writes: &mut Writes) {
        let command = EncodedCommand { request: REQUEST, bytes: vec![1] };
        let leader = (ReplicaId(2), Boot::default());
        writes.note_forwarded(leader, command, Moment(1), Duration::from_secs(1));
    }

    #[test]
    fn a_forgotten_write_that_a_state_may_hold_does_not_go_on_under_another_name() {
        let (mut writes, _pending) = forwarded();
        assert!(matches!(writes.tell(REQUEST, Verdict::Forgotten), Told::Renew));

        let (mut writes, mut pending) = forwarded();
        writes.doubt_all();
        let Told::Answer(answer, false) = writes.tell(REQUEST, Verdict::Forgotten) else {
            panic!("it may have happened below the state");
        };
        assert!(answer.give().is_none(), "no task waits");
        let err = pending.wait_timeout(Duration::ZERO).unwrap().unwrap_err();
        assert_eq!(err.kind(), ErrorKind::SessionExpired, "{err}");
    }

    #[test]
    fn a_forgotten_write_of_which_somebody_was_told_does_not_go_on_under_another_name() {
        // Told before it was handed on, by a state or by what is applied.
        for told in [Writes::doubt_all, |writes: &mut Writes| writes.keep_name(REQUEST)] {
            let (mut pending, completer) = Pending::new();
            let mut writes = Writes::default();
            writes.add(REQUEST, Asker::Commit(completer), Moment(1_000), false);
            told(&mut writes);
            forward(&mut writes);
            let Told::Answer(answer, false) = writes.tell(REQUEST, Verdict::Forgotten) else {
                panic!("somebody knows that it will not happen");
            };
            assert!(answer.give().is_none(), "no task waits");
            let err = pending.wait_timeout(Duration::ZERO).unwrap().unwrap_err();
            assert_eq!(err.kind(), ErrorKind::SessionExpired, "{err}");
        }
    }
}
