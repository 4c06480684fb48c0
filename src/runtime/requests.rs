//! Who waits for what: every call that was submitted and not answered, with its deadline.
//!
//! Invariants:
//! * Every call is answered once, and at its deadline at the latest.
//! * What certainly did not happen ends as a definite error; a transaction that may have happened,
//!   or may yet (`writes.rs`), as an unknown outcome.

use std::collections::{BTreeMap, VecDeque};
use std::task::Waker;

use crate::store::Store;
use crate::store::verdict::{Committed, Resolution};
use crate::types::bugs::{self, Bug};
use crate::types::error::{Error, ErrorKind};
use crate::types::ids::{Ballot, RequestId, Slot, TxId};
use crate::types::marks::reached;
use crate::types::membership::Membership;
use crate::types::time::Moment;

use super::backups::Backup;
use super::pending::Completer;
use super::writes::{Asker, Writes};

/// Calls without an answer.
#[derive(Debug, Default)]
pub struct Requests {
    /// Transactions, and who wants them resolved.
    pub(super) writes: Writes,
    reads: BTreeMap<u64, Completer<()>>,
    /// Who waits until a transaction is applied here, by that and the number of the call.
    waits: BTreeMap<(TxId, u64), Completer<()>>,
    /// In order of time. Calls that were answered stay until they come to the front.
    deadlines: VecDeque<(Moment, Call)>,
    /// Reads up to a number go on when a slot is applied.
    barriers: Vec<(Slot, u64)>,
    numbers: u64,
}

#[derive(Clone, Copy, Debug)]
enum Call {
    Write(RequestId),
    Read(u64),
    Wait(TxId, u64),
}

/// An answer to give. Giving it wakes somebody, so it happens outside of the driver.
#[derive(Debug)]
pub enum Answer {
    /// To a transaction.
    Write(Completer<Committed>, Result<Committed, Error>),
    /// To who resolves a request.
    Resolution(Completer<Resolution>, Result<Resolution, Error>),
    /// To a read, or to who waited for a transaction: they may go on.
    Read(Completer<()>, Result<(), Error>),
    /// To who asked for a hand-over.
    HandOver(Completer<()>, Result<(), Error>),
    /// To who asked for another membership.
    Membership(Completer<Membership>, Result<Membership, Error>),
    /// To who asked for a checkpoint.
    Checkpoint(Completer<()>, Result<(), Error>),
    /// To who makes a backup.
    Backup(Completer<Box<Backup>>, Result<Box<Backup>, Error>),
    /// To who waited for another leader.
    Leader(Completer<Option<Ballot>>, Result<Option<Ballot>, Error>),
}

impl Answer {
    /// Tells the caller. Returns who is to be woken besides; see [`Completer::give`].
    #[must_use = "a task may wait for it"]
    pub fn give(self) -> Option<Waker> {
        match self {
            Self::Write(completer, result) => completer.give(result),
            Self::Resolution(completer, result) => completer.give(result),
            Self::Read(completer, result)
            | Self::HandOver(completer, result)
            | Self::Checkpoint(completer, result) => completer.give(result),
            Self::Membership(completer, result) => completer.give(result),
            Self::Backup(completer, result) => completer.give(result),
            Self::Leader(completer, result) => completer.give(result),
        }
    }
}

impl Requests {
    /// Whether nobody waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many calls wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.writes.count() + self.reads.len() + self.waits.len()
    }

    /// How many of them wait for a read, or for a transaction to be applied.
    #[must_use]
    pub fn waiting_reads(&self) -> usize {
        self.reads.len() + self.waits.len()
    }

    /// When the next deadline passes.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Moment> {
        Some(self.deadlines.front()?.0)
    }

    /// Notes a transaction that was put in the queue. Where it was submitted before, it may have
    /// happened already.
    pub fn add_write(&mut self, request: RequestId, asker: Asker, deadline: Moment, again: bool) {
        self.writes.add(request, asker, deadline, again);
        self.add_deadline(deadline, Call::Write(request));
    }

    /// The request goes on under another name.
    pub fn rename_write(&mut self, from: RequestId, to: RequestId) {
        let deadline = self.writes.rename(from, to);
        self.add_deadline(deadline, Call::Write(to));
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

    /// Answers those who wait for a transaction that is applied in `store`, or that it was taken in
    /// without.
    pub fn answer_waits(&mut self, store: &Store, answers: &mut Vec<Answer>) {
        if self.waits.is_empty() {
            return;
        }
        let later = self.waits.split_off(&(store.applied().txid, u64::MAX));
        let over = std::mem::replace(&mut self.waits, later);
        if !over.is_empty() {
            reached!(WaitReached);
        }
        answers.extend(over.into_iter().map(|((txid, _), completer)| {
            let result = if store.gave_up(txid) { Err(Error::lost(txid)) } else { Ok(()) };
            Answer::Read(completer, result)
        }));
    }

    /// The newest read that waits: an answer to it answers all.
    #[must_use]
    pub fn newest_read(&self) -> Option<u64> {
        Some(*self.reads.last_key_value()?.0)
    }

    /// All reads up to `read` may go on once every slot below `slot` is applied.
    pub fn add_barrier(&mut self, slot: Slot, read: u64) {
        // Of those whose time was over before everything was applied, nothing is left to do.
        match self.reads.keys().next() {
            Some(first) => self.barriers.retain(|(_, last)| last >= first),
            None => self.barriers.clear(),
        }
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
                Call::Write(request) => !self.writes.contains(request),
                Call::Read(number) => !self.reads.contains_key(&number),
                Call::Wait(txid, number) => !self.waits.contains_key(&(txid, number)),
            };
            if !over && deadline > now {
                break;
            }
            self.deadlines.pop_front();
            match call {
                Call::Write(request) => answers.extend(self.writes.expire(request, hint)),
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

    /// Answers all reads, all who wait for a transaction, and all transactions that certainly did
    /// not happen, with `definite`; the others stay.
    pub fn fail_unproposed(&mut self, definite: &Error, answers: &mut Vec<Answer>) {
        for read in std::mem::take(&mut self.reads).into_values() {
            answers.push(Answer::Read(read, Err(definite.clone())));
        }
        for read in std::mem::take(&mut self.waits).into_values() {
            answers.push(Answer::Read(read, Err(definite.clone())));
        }
        self.writes.fail_unproposed(definite, answers);
    }

    /// Answers everyone: what certainly did not happen with `definite`, the rest as unknown because
    /// of `why`.
    pub fn fail_all(&mut self, definite: &Error, why: &str, answers: &mut Vec<Answer>) {
        self.fail_unproposed(definite, answers);
        self.writes.fail_all(definite, why, answers);
        self.deadlines.clear();
        self.barriers.clear();
    }

    /// Deadlines mostly come in order, so that the place is at the end.
    fn add_deadline(&mut self, deadline: Moment, call: Call) {
        let place = self.deadlines.partition_point(|(earlier, _)| *earlier <= deadline);
        self.deadlines.insert(place, (deadline, call));
        // Behind a call with a late deadline, those of calls that were answered would pile up.
        if self.deadlines.len() > DEADLINES_MIN + 2 * self.len() {
            let mut deadlines = std::mem::take(&mut self.deadlines);
            deadlines.retain(|(_, call)| !self.is_over(*call));
            self.deadlines = deadlines;
        }
    }

    /// Whether a call was answered.
    fn is_over(&self, call: Call) -> bool {
        match call {
            Call::Write(request) => !self.writes.contains(request),
            Call::Read(number) => !self.reads.contains_key(&number),
            Call::Wait(txid, number) => !self.waits.contains_key(&(txid, number)),
        }
    }
}

/// So many deadlines are kept in any case.
const DEADLINES_MIN: usize = 1024;
