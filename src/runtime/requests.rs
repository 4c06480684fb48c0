//! Who waits for what: every call that was submitted and not answered, with its deadline.
//!
//! Invariants:
//! * A request is in the table from its submission until its answer, and is answered once.
//! * What was never proposed ends as a definite error, and so does what was proposed, or forwarded
//!   to another replica, and taken back: it bounced, or lost its slot to another entry. Otherwise
//!   what was proposed or forwarded ends as an unknown outcome if no verdict comes in time.

use std::collections::{BTreeMap, VecDeque};

use crate::store::verdict::Committed;
use crate::types::bugs::{self, Bug};
use crate::types::error::{Error, ErrorKind};
use crate::types::ids::{Ballot, ReplicaId, RequestId, SessionId, Slot, TxId};
use crate::types::message::EncodedCommand;
use crate::types::time::Moment;

use super::pending::Completer;

/// Calls without an answer.
#[derive(Debug)]
pub struct Requests {
    session: SessionId,
    writes: BTreeMap<u64, Write>,
    reads: BTreeMap<u64, Completer<()>>,
    /// Who waits until a transaction is applied here, by that and the number of the call.
    waits: BTreeMap<(TxId, u64), Completer<()>>,
    /// In order of time. Calls that were answered stay until they come to the front.
    deadlines: VecDeque<(Moment, Call)>,
    /// Reads up to a number go on when a slot is applied.
    barriers: Vec<(Slot, u64)>,
    numbers: u64,
    /// Bytes of commands that were forwarded to a leader and are not answered.
    forwarded_bytes: usize,
}

#[derive(Debug)]
struct Write {
    completer: Completer<Committed>,
    deadline: Moment,
    state: WriteState,
}

/// How far a transaction has got.
#[derive(Debug)]
enum WriteState {
    /// In this replica's queue.
    Queued,
    /// In an entry that this replica proposed.
    Proposed,
    /// Handed to a replica that seemed to lead. The command is kept in case it bounces.
    Forwarded(ReplicaId, EncodedCommand),
}

#[derive(Clone, Copy, Debug)]
enum Call {
    Write(u64),
    Read(u64),
    Wait(TxId, u64),
}

/// An answer to give. Giving it wakes somebody, so it happens outside of the driver.
#[derive(Debug)]
pub enum Answer {
    /// To a transaction.
    Write(Completer<Committed>, Result<Committed, Error>),
    /// To a read, or to who waited for a transaction: they may go on.
    Read(Completer<()>, Result<(), Error>),
    /// To who asked for a hand-over.
    HandOver(Completer<()>, Result<(), Error>),
    /// To who waited for another leader.
    Leader(Completer<Option<Ballot>>, Result<Option<Ballot>, Error>),
}

impl Answer {
    /// Tells the caller.
    pub fn give(self) {
        match self {
            Self::Write(completer, result) => completer.complete(result),
            Self::Read(completer, result) | Self::HandOver(completer, result) => {
                completer.complete(result);
            }
            Self::Leader(completer, result) => completer.complete(result),
        }
    }
}

impl Requests {
    /// No calls yet, of this session.
    #[must_use]
    pub fn new(session: SessionId) -> Self {
        Self {
            session,
            writes: BTreeMap::new(),
            reads: BTreeMap::new(),
            waits: BTreeMap::new(),
            deadlines: VecDeque::new(),
            barriers: Vec::new(),
            numbers: 0,
            forwarded_bytes: 0,
        }
    }

    /// Whether nobody waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many calls wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.writes.len() + self.reads.len() + self.waits.len()
    }

    /// When the next deadline passes.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Moment> {
        Some(self.deadlines.front()?.0)
    }

    /// Notes a transaction that was put in the queue.
    pub fn add_write(&mut self, sequence: u64, completer: Completer<Committed>, deadline: Moment) {
        let write = Write { completer, deadline, state: WriteState::Queued };
        let earlier = self.writes.insert(sequence, write);
        assert!(earlier.is_none(), "request {sequence} was submitted twice");
        self.add_deadline(deadline, Call::Write(sequence));
    }

    /// Notes a read, and gives it the number by which the protocol core knows it.
    pub fn add_read(&mut self, completer: Completer<()>, deadline: Moment) -> u64 {
        self.numbers += 1;
        self.reads.insert(self.numbers, completer);
        self.add_deadline(deadline, Call::Read(self.numbers));
        self.numbers
    }

    /// Notes a call that waits until `txid` is applied.
    pub fn add_wait(&mut self, txid: TxId, completer: Completer<()>, deadline: Moment) {
        self.numbers += 1;
        self.waits.insert((txid, self.numbers), completer);
        self.add_deadline(deadline, Call::Wait(txid, self.numbers));
    }

    /// Answers those who wait for a transaction that is applied, of which `last` is the newest.
    pub fn answer_waits(&mut self, last: impl FnOnce() -> TxId, answers: &mut Vec<Answer>) {
        if self.waits.is_empty() {
            return;
        }
        let later = self.waits.split_off(&(last(), u64::MAX));
        let reached = std::mem::replace(&mut self.waits, later);
        answers.extend(reached.into_values().map(|completer| Answer::Read(completer, Ok(()))));
    }

    /// The newest read that waits: an answer to it answers all.
    #[must_use]
    pub fn newest_read(&self) -> Option<u64> {
        Some(*self.reads.last_key_value()?.0)
    }

    /// Whether somebody here still waits for `request`, which is in the queue.
    #[must_use]
    pub fn is_waiting(&self, request: RequestId) -> bool {
        request.session == self.session && self.writes.contains_key(&request.sequence)
    }

    /// The request is in an entry that this replica proposes.
    pub fn note_proposed(&mut self, request: RequestId) {
        if let Some(write) = self.write_mut(request) {
            write.state = WriteState::Proposed;
        }
    }

    /// The request was proposed, and cannot be chosen any more: it waits again, as `sequence`.
    /// Returns whether somebody still waits for it.
    pub fn take_back(&mut self, request: RequestId, sequence: u64) -> bool {
        let write = self.write_mut(request);
        let is_proposed = |write: &&mut Write| matches!(write.state, WriteState::Proposed);
        let Some(write) = write.filter(is_proposed) else { return false };
        write.state = WriteState::Queued;
        self.renumber(request.sequence, sequence);
        true
    }

    /// The request is on its way to `leader`.
    pub fn note_forwarded(&mut self, leader: ReplicaId, command: EncodedCommand) {
        let bytes = command.bytes.len();
        if let Some(write) = self.write_mut(command.request) {
            write.state = WriteState::Forwarded(leader, command);
            self.forwarded_bytes += bytes;
        }
    }

    /// Bytes of commands that were forwarded to a leader and are not answered: they are on their
    /// way, or wait there.
    #[must_use]
    pub fn forwarded_bytes(&self) -> usize {
        self.forwarded_bytes
    }

    /// `from` did not propose the request and never will. It waits again, under a new number, so
    /// that no old copy of the message can be taken for the new one.
    pub fn take_bounced(
        &mut self,
        from: ReplicaId,
        request: RequestId,
        sequence: u64,
    ) -> Option<EncodedCommand> {
        let write = self.write_mut(request)?;
        let command = match std::mem::replace(&mut write.state, WriteState::Queued) {
            WriteState::Forwarded(to, command) if to == from => command,
            other => {
                write.state = other;
                return None;
            }
        };
        self.forwarded_bytes -= command.bytes.len();
        self.renumber(request.sequence, sequence);
        Some(command)
    }

    fn renumber(&mut self, from: u64, to: u64) {
        if let Some(write) = self.writes.remove(&from) {
            self.add_deadline(write.deadline, Call::Write(to));
            self.writes.insert(to, write);
        }
    }

    /// The connection to `leader` ended: what was forwarded there and not seen by then ends as
    /// unknown sooner than its deadline.
    pub fn hasten_forwarded(&mut self, leader: ReplicaId, deadline: Moment) {
        let mut hastened = Vec::new();
        for (sequence, write) in &mut self.writes {
            let lost = matches!(write.state, WriteState::Forwarded(to, _) if to == leader);
            if lost && deadline < write.deadline {
                write.deadline = deadline;
                hastened.push(*sequence);
            }
        }
        for sequence in hastened {
            self.add_deadline(deadline, Call::Write(sequence));
        }
    }

    /// The verdict over a request is known.
    pub fn answer_write(
        &mut self,
        request: RequestId,
        result: impl FnOnce() -> Result<Committed, Error>,
    ) -> Option<Answer> {
        if request.session != self.session {
            return None;
        }
        let write = self.take(request.sequence + u64::from(bugs::is_on(Bug::VerdictOfOther)))?;
        Some(Answer::Write(write.completer, result()))
    }

    /// All reads up to `read` may go on once every slot below `slot` is applied.
    pub fn add_barrier(&mut self, slot: Slot, read: u64) {
        self.barriers.push((slot, read));
    }

    /// The reads that may go on now that every slot below `applied` is applied.
    pub fn answer_reads(&mut self, applied: impl FnOnce() -> Slot, answers: &mut Vec<Answer>) {
        if self.barriers.is_empty() {
            return;
        }
        let applied = applied();
        let reads = &mut self.reads;
        self.barriers.retain(|(slot, last)| {
            if *slot > applied && !bugs::is_on(Bug::ReadBeforeApply) {
                return true;
            }
            let later = reads.split_off(&(last + 1));
            let ready = std::mem::replace(reads, later);
            answers.extend(ready.into_values().map(|read| Answer::Read(read, Ok(()))));
            false
        });
    }

    /// Answers the reads up to `newest` whose barrier is known and not reached with `definite`.
    pub fn fail_lagging_reads(&mut self, newest: u64, definite: &Error, answers: &mut Vec<Answer>) {
        let reads = &mut self.reads;
        self.barriers.retain(|(_, last)| {
            if newest < *last {
                return true;
            }
            let later = reads.split_off(&(last + 1));
            let lagging = std::mem::replace(reads, later).into_values();
            answers.extend(lagging.map(|read| Answer::Read(read, Err(definite.clone()))));
            false
        });
    }

    /// Answers everyone whose deadline has passed; `hint` says what was in the way.
    pub fn expire(&mut self, now: Moment, hint: &str, answers: &mut Vec<Answer>) {
        while let Some((deadline, call)) = self.deadlines.front().copied() {
            let over = match call {
                Call::Write(sequence) => !self.writes.contains_key(&sequence),
                Call::Read(number) => !self.reads.contains_key(&number),
                Call::Wait(txid, number) => !self.waits.contains_key(&(txid, number)),
            };
            if !over && deadline > now {
                break;
            }
            self.deadlines.pop_front();
            match call {
                Call::Write(sequence) => {
                    let Some(write) = self.take(sequence) else { continue };
                    let request = RequestId { session: self.session, sequence };
                    let why = "it was proposed, and no verdict came in time";
                    let message = format!(
                        "no leader took the transaction in time; it did not happen ({hint})"
                    );
                    let late = Error::new(ErrorKind::TimedOut, message);
                    answers.push(write.fail(request, late, why));
                }
                Call::Read(number) => {
                    let Some(read) = self.reads.remove(&number) else { continue };
                    let message = format!("no leader confirmed in time what is newest ({hint})");
                    let late = Error::new(ErrorKind::TimedOut, message);
                    answers.push(Answer::Read(read, Err(late)));
                }
                Call::Wait(txid, number) => {
                    let Some(read) = self.waits.remove(&(txid, number)) else { continue };
                    let message =
                        format!("transaction {txid} was not applied here in time ({hint})");
                    let late = Error::new(ErrorKind::TimedOut, message);
                    answers.push(Answer::Read(read, Err(late)));
                }
            }
        }
    }

    /// Answers all reads, all who wait for a transaction, and all transactions that were not
    /// proposed, with `definite`; those that were proposed stay.
    pub fn fail_unproposed(&mut self, definite: &Error, answers: &mut Vec<Answer>) {
        for read in std::mem::take(&mut self.reads).into_values() {
            answers.push(Answer::Read(read, Err(definite.clone())));
        }
        for read in std::mem::take(&mut self.waits).into_values() {
            answers.push(Answer::Read(read, Err(definite.clone())));
        }
        let is_queued = |write: &Write| matches!(write.state, WriteState::Queued);
        let writes = std::mem::take(&mut self.writes);
        let (queued, proposed) = writes.into_iter().partition(|(_, write)| is_queued(write));
        self.writes = proposed;
        let queued: BTreeMap<u64, Write> = queued;
        for write in queued.into_values() {
            answers.push(Answer::Write(write.completer, Err(definite.clone())));
        }
    }

    /// Answers everyone: what was not proposed with `definite`, the rest as unknown because of
    /// `why`.
    pub fn fail_all(&mut self, definite: &Error, why: &str, answers: &mut Vec<Answer>) {
        self.fail_unproposed(definite, answers);
        for (sequence, write) in std::mem::take(&mut self.writes) {
            let request = RequestId { session: self.session, sequence };
            answers.push(write.fail(request, definite.clone(), why));
        }
        self.deadlines.clear();
        self.barriers.clear();
        self.forwarded_bytes = 0;
    }

    /// The transaction leaves the table, to be answered.
    fn take(&mut self, sequence: u64) -> Option<Write> {
        let write = self.writes.remove(&sequence)?;
        if let WriteState::Forwarded(_, command) = &write.state {
            self.forwarded_bytes -= command.bytes.len();
        }
        Some(write)
    }

    /// Deadlines mostly come in order, so that the place is at the end.
    fn add_deadline(&mut self, deadline: Moment, call: Call) {
        let place = self.deadlines.partition_point(|(earlier, _)| *earlier <= deadline);
        self.deadlines.insert(place, (deadline, call));
    }

    fn write_mut(&mut self, request: RequestId) -> Option<&mut Write> {
        if request.session != self.session {
            return None;
        }
        self.writes.get_mut(&request.sequence)
    }
}

impl Write {
    fn fail(self, request: RequestId, definite: Error, why: &str) -> Answer {
        let err = match self.state {
            WriteState::Queued => definite,
            WriteState::Proposed if bugs::is_on(Bug::UnknownToldAsFailed) => definite,
            WriteState::Proposed | WriteState::Forwarded(..) => {
                Error::outcome_unknown(request, why)
            }
        };
        Answer::Write(self.completer, Err(err))
    }
}
