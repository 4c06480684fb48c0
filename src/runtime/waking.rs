//! When a driver is to take its next turn, if nothing happens before.

use crate::journal::disk::Disk;
use crate::paxos::Paxos;
use crate::types::time::Moment;

use super::driver::{Driver, Stage};

impl<D: Disk> Driver<D> {
    /// The earliest time at which anything is due.
    pub(super) fn wake_at(&self) -> Option<Moment> {
        if matches!(self.stage, Stage::Stopped(_)) {
            return None;
        }
        let paxos = self.paxos.as_ref().map(Paxos::wake_at);
        let forming = self.is_forming().then_some(self.announce_at);
        let closing = match self.stage {
            Stage::Closing(deadline) => Some(deadline),
            Stage::Serving | Stage::Stopped(_) => None,
        };
        let batch = self.batcher.due_at().filter(|_| self.may_propose());
        // Callers leave commands in the inbox without a turn; their deadlines begin when one comes.
        // For reads that are left, the core's own time does.
        let inbox =
            (self.missing_commands() > 0).then(|| self.now + self.options.heartbeat_interval);
        let deadline = self.requests.next_deadline();
        let again = self.leader_to_forward_to().and_then(|_| self.requests.writes.again_at());
        let waits = |until: &Moment| self.now < *until && !self.batcher.is_empty();
        let bounced = self.bounced.map(|(_, until)| until).filter(waits);
        let (repair, space, seal) = (self.repair.wake_at(), self.space.wake_at(), self.seal_at());
        let (hand_over, stalled) = (self.hand_overs.next_deadline(), self.stalled_at());
        let (preferred, checkpoint) = (self.priorities.due_at(), self.checkpoints.wake_at());
        let trimming = self.trimming.wake_at();
        let change = self.changes.next_deadline();
        let leaving = self.leaving.wake_at();
        let receiving = self.receiving.as_ref().and_then(|it| it.wake_at(self.now, &self.options));
        let sending = self.sending.wake_at(self.now);
        let paused = self.pauses.until.filter(|at| self.receiving.is_some() && self.now < *at);
        let due = [
            paxos, forming, closing, batch, inbox, bounced, deadline, again, repair, space, seal,
            hand_over, stalled, preferred, checkpoint, trimming, change, leaving, receiving,
            sending, paused,
        ];
        due.iter().flatten().min().copied()
    }
}
