//! How a driver ends: closed when all that was proposed has ended, or stopped where it failed.
//!
//! Invariants:
//! * After the end nothing is sent, written or acknowledged, and every call is answered.
//! * What was not proposed ends as something definite, what was proposed as unknown.

use std::time::Duration;

use crate::journal::disk::Disk;
use crate::paxos::Paxos;
use crate::paxos::step::Divergence;
use crate::types::error::{Error, ErrorKind};
use crate::types::ids::ReplicaId;
use crate::types::marks::reached;

use super::changes::Changes;
use super::checkpoints::Checkpoints;
use super::driver::{Driver, Stage};
use super::events;
use super::handover::HandOvers;
use super::next_leader::NextLeader;
use super::requests::{Answer, Requests};
use super::turn::Event;
use super::writes::Asker;

impl<D: Disk> Driver<D> {
    /// Nothing new is taken; what was proposed may end for `patience`. Asked again, for the
    /// shortest.
    pub(super) fn on_close(&mut self, patience: Duration) {
        let until = self.now + patience;
        match &mut self.stage {
            Stage::Serving => {
                self.stage = Stage::Closing(until);
                self.requests.fail_unproposed(&closing(), &mut self.effects.answers);
                self.drop_unwaited();
            }
            Stage::Closing(before) => *before = until.min(*before),
            Stage::Stopped(_) => {}
        }
    }

    /// Forgets the commands of callers here who have their answer already.
    pub(super) fn drop_unwaited(&mut self) {
        let requests = &self.requests;
        self.batcher.retain(|queued| {
            queued.origin.is_some() || requests.writes.contains(queued.command.request)
        });
    }

    /// Whether nothing is under way: neither for callers here, nor for those of other replicas, nor
    /// a hand-over.
    pub(super) fn is_drained(&self) -> bool {
        let inflight = self.paxos.as_ref().map_or(0, Paxos::inflight_slots);
        let sealed = self.journal.is_idle() && self.seal_at().is_none();
        let idle = self.batcher.is_empty() && self.proposals.is_empty() && sealed;
        let hands_over = self.handing_over().is_some() || !self.hand_overs.is_empty();
        let waited_for = !self.requests.is_empty() || !self.changes.is_empty();
        !waited_for && idle && inflight == 0 && !hands_over
    }

    /// Whether this replica closes, nobody waits for anything that it could still learn, and the
    /// others can do without it.
    pub(super) fn closes_dispensable(&self) -> bool {
        matches!(self.stage, Stage::Closing(_))
            && !self.leads()
            && self.paxos.as_ref().is_some_and(Paxos::is_dispensable)
            && self.requests.is_empty()
            && self.hand_overs.is_empty()
            && self.proposals.is_empty()
    }

    /// Gives the directory back, if this replica has stopped, and tells whether it did. The caller
    /// sees to it that no thread writes any more.
    #[must_use = "the directory may still be held"]
    pub fn release(&mut self) -> bool {
        if !matches!(self.stage, Stage::Stopped(_)) {
            return false;
        }
        // Of leases that were longer than this core may have granted any, the next opening need not
        // know.
        if let Some(paxos) = &self.paxos {
            if paxos.is_free_of_earlier_grants() {
                let granted = paxos.longest_grant();
                self.journal.forget_longer_leases(granted);
            } else {
                reached!(EarlierLeaseKept);
            }
        }
        self.journal.release();
        true
    }

    /// Even stopping failed: all that callers wait for is dropped, and each is answered by that.
    pub fn abandon(&mut self, err: Error) {
        self.stage = Stage::Stopped(err);
        self.requests = Requests::default();
        self.hand_overs = HandOvers::default();
        self.changes = Changes::default();
        self.checkpoints = Checkpoints::default();
        self.next_leader = NextLeader::default();
    }

    /// Closed, or failed for good: everyone is answered, and nothing is written or sent any more.
    pub(super) fn stop(&mut self, err: Error) {
        let why = match err.kind() {
            ErrorKind::Closed => "this replica was closed before its verdict was known",
            _ => "this replica stopped before its verdict was known",
        };
        self.requests.fail_all(&err, why, &mut self.effects.answers);
        self.hand_overs.fail_all(&err, &mut self.effects.answers);
        self.changes.fail_all(&err, &mut self.effects.answers);
        self.checkpoints.fail_all(&err, &mut self.effects.answers);
        self.next_leader.fail_all(&err, &mut self.effects.answers);
        self.batcher.take_all();
        self.proposals.clear();
        self.held.clear();
        self.effects.jobs.clear();
        if err.kind() != ErrorKind::Closed {
            self.effects.sends.clear();
        }
        self.effects.stopped = true;
        events::stopped(self.options.id, &err);
        self.stage = Stage::Stopped(err);
    }
}

/// Why a replica that closes takes no call.
pub(super) fn closing() -> Error {
    Error::new(ErrorKind::Closed, "the replica is being closed")
}

/// Something holds the threads of this replica up, though it was to end for so long.
pub(super) fn not_ended(id: ReplicaId, patience: Duration) -> Error {
    let message = format!(
        "replica {id}: its threads did not end within {patience:?}; a call to its disk may hang"
    );
    Error::new(ErrorKind::TimedOut, message)
}

/// What a caller is answered once there is nobody to answer it.
pub(super) fn refusal<D: Disk>(event: Event<D>, err: Error) -> Option<Answer> {
    match event {
        Event::Propose { command, completer, again } => {
            Some(Asker::Commit(completer).refuse(command.request, err, again))
        }
        Event::Resolve { completer, .. } => Some(Answer::Resolution(completer, Err(err))),
        Event::Read { completer, .. } | Event::WaitFor { completer, .. } => {
            Some(Answer::Read(completer, Err(err)))
        }
        Event::HandOver { completer, .. } => Some(Answer::HandOver(completer, Err(err))),
        Event::Change { completer, .. } => Some(Answer::Membership(completer, Err(err))),
        Event::Checkpoint { completer } => Some(Answer::Checkpoint(completer, Err(err))),
        Event::Backup { completer } => Some(Answer::Backup(completer, Err(err))),
        Event::NextLeader { completer, .. } => Some(Answer::Leader(completer, Err(err))),
        Event::Met(_)
        | Event::Arrived(_)
        | Event::Written(_)
        | Event::Close(_)
        | Event::Failed(_) => None,
    }
}

/// Two logs differ.
pub(super) fn diverged(divergence: Divergence) -> Error {
    let Divergence { slot, ours, theirs } = divergence;
    let message = format!(
        "this log differs from a peer's below slot {slot}: chain {ours} here, {theirs} there"
    );
    Error::new(ErrorKind::Poisoned, message)
}

/// What a panic that was caught is told as.
pub(super) fn panicked(panic: &(dyn std::any::Any + Send)) -> Error {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    let text = text.unwrap_or_else(|| "no message".into());
    Error::new(ErrorKind::Poisoned, format!("the replica stopped on its own mistake: {text}"))
}
