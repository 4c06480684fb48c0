//! Who is let in: how much may wait here, and what those are told who come when that much does.
//!
//! Overload is answered at once and by its name, and changes nothing else: no leader is lost for
//! it, and memory does not grow with it. Whoever is refused is told after what time about half of
//! what waits will have left, as fast as it left lately; a heartbeat interval where that is not
//! known yet, and an election timeout where nothing leaves: something may have changed then.
//!
//! Invariants:
//! * Transactions that wait for a slot are bounded in bytes and in number; one is always let in.
//! * Calls that wait for a read, or for a transaction, are bounded in number; so are those that
//!   wait for a hand-over, for another leader, for a change of the membership, or for a checkpoint.
//! * Whoever is refused, nothing was done for.

use std::time::Duration;

use crate::journal::disk::Disk;
use crate::paxos::Paxos;
use crate::types::error::Error;
use crate::types::time::Moment;

use super::driver::{Driver, Stage};
use super::ending::closing;

/// How fast transactions leave the queue.
#[derive(Debug)]
pub(super) struct Drain {
    looked_at: Moment,
    /// Bytes that had left until then.
    left: u64,
    /// Bytes a second, in the time before; `None` where nothing waited then.
    rate: Option<u64>,
}

impl Drain {
    pub(super) fn new(now: Moment) -> Self {
        Self { looked_at: now, left: 0, rate: None }
    }

    /// `left` bytes have left the queue so far. Looks once in each `window` in which something
    /// waits.
    fn look(&mut self, now: Moment, window: Duration, left: u64, waits: bool) {
        let passed = now.since(self.looked_at);
        if waits && passed < window {
            return;
        }
        let nanos = passed.as_nanos().max(1);
        let rate = u128::from(left - self.left) * NANOS_PER_SECOND / nanos;
        self.rate = waits.then(|| u64::try_from(rate).unwrap_or(u64::MAX));
        (self.looked_at, self.left) = (now, left);
    }

    /// Whether nothing leaves though it could have.
    fn stands_still(&self) -> bool {
        self.rate == Some(0)
    }

    /// In what time so many bytes will have left, where that can be told.
    fn time_for(&self, bytes: usize) -> Option<Duration> {
        let rate = self.rate.filter(|rate| *rate > 0)?;
        let nanos = bytes as u128 * NANOS_PER_SECOND / u128::from(rate);
        Some(Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)))
    }
}

impl<D: Disk> Driver<D> {
    /// Whether a transaction of so many bytes may wait here for a slot.
    pub(super) fn has_room_for(&self, bytes: usize) -> bool {
        let options = &self.options;
        self.batcher.has_room(bytes, options.queued_bytes_max, options.queued_transactions_max)
    }

    /// Whether there is room for one more entry: in the log, on its way to the disk, and there.
    pub(super) fn may_propose(&self) -> bool {
        let has_room = self.paxos.as_ref().is_some_and(Paxos::has_room);
        has_room && !self.is_backlogged() && !self.space.is_short()
    }

    /// What the caller of a transaction is told for whom there is no room; `None` where there is.
    pub(super) fn refuse_write(&self, bytes: usize) -> Option<Error> {
        if self.has_room_for(bytes) {
            return None;
        }
        let (waiting, queued) = (self.batcher.len(), self.batcher.bytes());
        let stands_still = self.drain.stands_still();
        let why = match self.view() {
            Some(view) if stands_still && self.leads() => {
                format!("; slot {} is not chosen yet", view.slot_chosen)
            }
            Some(view) if view.leader.is_some() => String::new(),
            _ => "; no leader is heard".into(),
        };
        let (heartbeat, most) = (self.options.heartbeat_interval, self.options.election_timeout);
        let retry_after = match self.drain.time_for(queued / 2) {
            Some(half) => half.clamp(RETRY_AFTER_MIN.min(most), most),
            None if stands_still => most,
            None => heartbeat,
        };
        let message =
            format!("{waiting} transactions, {queued} bytes, wait for a slot already{why}");
        Some(Error::busy(message, retry_after))
    }

    /// The same for one who would wait for a read, or for a transaction.
    pub(super) fn refuse_read(&self) -> Option<Error> {
        let waiting = self.requests.waiting_reads();
        (waiting >= self.options.waiting_reads_max).then(|| {
            let message = format!("{waiting} reads wait already");
            Error::busy(message, self.options.heartbeat_interval)
        })
    }

    /// The same for one who would wait for a hand-over, another leader, another membership, or a
    /// checkpoint, beside so many.
    pub(super) fn refuse_watcher(&self, waiting: usize) -> Option<Error> {
        (waiting >= WATCHERS_MAX).then(|| {
            let message = format!("{waiting} callers wait for the same already");
            Error::busy(message, self.options.heartbeat_interval)
        })
    }

    /// Why nothing is made of the state here: the replica closes, or does not serve yet.
    pub(super) fn refuse_unready(&self) -> Option<Error> {
        if matches!(self.stage, Stage::Closing(_)) {
            return Some(closing());
        }
        self.paxos.is_none().then(|| {
            let message = format!("it does not serve yet: {}", self.report().why_late());
            Error::busy(message, self.options.election_timeout)
        })
    }

    /// Notes how fast transactions leave.
    pub(super) fn look_at_queue(&mut self) {
        let (window, waits) = (self.options.heartbeat_interval, !self.batcher.is_empty());
        self.drain.look(self.now, window, self.batcher.left_bytes(), waits);
    }
}

/// So many callers may wait for a hand-over; as many for another leader, for a change of the
/// membership, and for a checkpoint.
const WATCHERS_MAX: usize = 4096;

/// Nobody need come back sooner.
const RETRY_AFTER_MIN: Duration = Duration::from_millis(1);

const NANOS_PER_SECOND: u128 = 1_000_000_000;

/// What is told where not even the inbox has room.
pub(super) fn inbox_full() -> Error {
    Error::busy("more comes at once than one turn may take in", RETRY_AFTER_MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_hint_follows_what_left_lately() {
        let mut drain = Drain::new(Moment::ZERO);
        let at = |seconds: u32| Moment::ZERO + SECOND * seconds;
        drain.look(at(5), SECOND, 300, false);
        assert_eq!((drain.time_for(1000), drain.stands_still()), (None, false), "nothing waited");
        drain.look(at(5) + SECOND / 2, SECOND, 500, true);
        assert_eq!((drain.time_for(1000), drain.stands_still()), (None, false), "it is too soon");
        drain.look(at(7), SECOND, 4300, true);
        assert_eq!(drain.time_for(1000), Some(SECOND / 2));
        drain.look(at(8), SECOND, 4300, true);
        assert_eq!((drain.time_for(1000), drain.stands_still()), (None, true));
        drain.look(at(9), SECOND, u64::MAX, true);
        assert_eq!(drain.time_for(1), Some(Duration::ZERO));
    }
}
