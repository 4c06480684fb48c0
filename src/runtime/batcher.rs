//! Commands that wait for a slot, and how many of them go into one entry.
//!
//! Batching happens by itself. Whoever had an answer comes back soon with the next command; so
//! when a batch ends, as many commands are expected as were under way then. Where they are many,
//! nearly all of them make the next batch; where they are few, half of them do, and two batches
//! take turns: while one is synced, the callers of the other come back.
//!
//! Without that, the first caller to come back would get a sync of its own, and all others would
//! wait for it. Nobody is waited for long: where nothing is in flight, the first command leaves
//! `gather` after the last batch at the latest. One caller alone, or two, never wait.
//!
//! Invariants:
//! * Commands leave in the order in which they came.
//! * An entry is never over its limits, and never without a command.

use std::collections::VecDeque;
use std::time::Duration;

use crate::types::edition::Edition;
use crate::types::entry::{Entry, EntryBuilder};
use crate::types::ids::{Boot, ReplicaId, RequestId};
use crate::types::limits::{ENTRY_BYTES_MAX, ENTRY_COMMANDS_MAX};
use crate::types::message::EncodedCommand;
use crate::types::time::{Moment, Time};

/// How large an entry may grow, and how many may be under way before commands gather.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Most commands in an entry.
    pub commands_max: usize,
    /// Most bytes of commands in an entry; a larger command gets an entry of its own.
    pub bytes_max: usize,
    /// Commands of so many bytes are a batch, however many are expected.
    pub eager_bytes: usize,
    /// Most batches of that size in flight; of smaller ones, there are two.
    pub inflight_max: usize,
    /// How long the first command waits for others when a batch has just ended.
    pub gather: Duration,
}

/// A queue of commands.
#[derive(Debug)]
pub struct Batcher {
    options: Options,
    queue: VecDeque<Queued>,
    bytes: usize,
    /// Bytes that left it so far.
    left_bytes: u64,
    /// The commands of each batch in flight.
    inflight: VecDeque<usize>,
    /// How many commands are under way, when all who had an answer have come back.
    expected: usize,
    /// Until then it is worth while to wait for them.
    gather_until: Moment,
}

/// Which command, and who forwarded it.
pub type Origin = (RequestId, Option<Sender>);

/// A replica that forwarded a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sender {
    /// The replica.
    pub replica: ReplicaId,
    /// In which opening.
    pub boot: Boot,
    /// By which attempt.
    pub attempt: u64,
}

/// A command that waits.
#[derive(Debug)]
pub struct Queued {
    /// The command.
    pub command: EncodedCommand,
    /// Who forwarded it; `None` where a caller of this replica submitted it.
    pub origin: Option<Sender>,
}

impl Batcher {
    /// An empty queue.
    #[must_use]
    pub fn new(options: Options) -> Self {
        Self {
            options,
            queue: VecDeque::new(),
            bytes: 0,
            left_bytes: 0,
            inflight: VecDeque::new(),
            expected: 0,
            gather_until: Moment::ZERO,
        }
    }

    /// Adds a command at the end.
    pub fn push(&mut self, queued: Queued) {
        self.bytes += queued.command.bytes.len();
        self.queue.push_back(queued);
    }

    /// Bytes of all commands that wait.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether no command waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// The command that came first.
    #[must_use]
    pub fn first(&self) -> Option<&Queued> {
        self.queue.front()
    }

    /// Takes the command that came first.
    pub fn pop_first(&mut self) -> Option<Queued> {
        let queued = self.queue.pop_front()?;
        self.bytes -= queued.command.bytes.len();
        self.left_bytes += queued.command.bytes.len() as u64;
        Some(queued)
    }

    /// Whether a command of `bytes` may wait, where at most `bytes_max` and `commands_max` may; one
    /// always may.
    #[must_use]
    pub fn has_room(&self, bytes: usize, bytes_max: usize, commands_max: usize) -> bool {
        let fits = self.bytes + bytes <= bytes_max && self.queue.len() < commands_max;
        self.queue.is_empty() || fits
    }

    /// How many commands wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Bytes of all commands that left the queue to be proposed or forwarded.
    #[must_use]
    pub fn left_bytes(&self) -> u64 {
        self.left_bytes
    }

    /// Takes everything that waits.
    pub fn take_all(&mut self) -> Vec<Queued> {
        self.bytes = 0;
        std::mem::take(&mut self.queue).into()
    }

    /// Forgets the commands that are not to be kept.
    pub fn retain(&mut self, mut keep: impl FnMut(&Queued) -> bool) {
        self.queue.retain(|queued| keep(queued));
        self.bytes = self.queue.iter().map(|queued| queued.command.bytes.len()).sum();
    }

    /// Notes that only `inflight` of the batches proposed are still in flight.
    pub fn settle(&mut self, now: Moment, inflight: usize) {
        let ended = self.inflight.len().saturating_sub(inflight);
        let answered = self.inflight.drain(..ended).sum::<usize>();
        if answered > 0 {
            self.expected = answered + self.inflight.iter().sum::<usize>() + self.queue.len();
            self.gather_until = now + self.options.gather;
        }
    }

    /// The next entry, with its commands' identities and origins, if it is time for one.
    /// The ledger is of this edition.
    pub fn next_entry(
        &mut self,
        now: Moment,
        time: Time,
        edition: Edition,
    ) -> Option<(Entry, Vec<Origin>)> {
        if self.queue.is_empty() || !self.is_due(now) {
            return None;
        }
        let (count, bytes) = self.next_batch();
        let entry = EntryBuilder::new(time, EntryBuilder::bytes_for(count, bytes));
        let mut entry = entry.of_edition(edition);
        let mut origins = Vec::with_capacity(count);
        for queued in self.queue.drain(..count) {
            entry.push(&queued.command.bytes);
            origins.push((queued.command.request, queued.origin));
        }
        self.bytes -= bytes;
        self.left_bytes += bytes as u64;
        self.inflight.push_back(count);
        Some((entry.finish(), origins))
    }

    /// How many more commands must come before a batch is due, where somebody will look again even
    /// if they do not come: a batch in flight ends, or the gathering does. Zero where the next
    /// command must be looked at.
    #[must_use]
    pub fn missing(&self) -> usize {
        if self.inflight.is_empty() && self.queue.is_empty() {
            return 0;
        }
        let wanted = match self.inflight.len() {
            0 | 1 => self.wanted(),
            _ => self.options.commands_max,
        };
        let bytes_each = (self.bytes / self.queue.len().max(1)).max(1);
        let until_large = self.options.eager_bytes.saturating_sub(self.bytes) / bytes_each;
        wanted.saturating_sub(self.queue.len()).min(until_large)
    }

    /// When the commands that wait leave at the latest, if nothing else happens.
    #[must_use]
    pub fn due_at(&self) -> Option<Moment> {
        (!self.queue.is_empty() && self.inflight.is_empty()).then_some(self.gather_until)
    }

    /// Whether it is better to propose what waits than to wait for more.
    fn is_due(&self, now: Moment) -> bool {
        let enough = self.queue.len() >= self.wanted();
        // Up to some size, a sync costs the same: a batch of that size need not be larger.
        let large = self.bytes >= self.options.eager_bytes;
        match self.inflight.len() {
            0 => enough || large || self.is_full() || self.gather_until <= now,
            1 => enough || large || self.is_full(),
            inflight => inflight < self.options.inflight_max && large || self.is_full(),
        }
    }

    /// How many commands make a batch: nearly all that are expected where nothing is in flight, or
    /// half of them beside another batch.
    fn wanted(&self) -> usize {
        let half = self.expected.div_ceil(2);
        match self.inflight.is_empty() && self.expected >= MANY {
            true => self.expected - self.expected / 8,
            false => half,
        }
    }

    /// Whether waiting would not make the next entry larger.
    fn is_full(&self) -> bool {
        let commands_max = self.options.commands_max.min(ENTRY_COMMANDS_MAX);
        self.queue.len() >= commands_max || self.bytes >= self.options.bytes_max
    }

    /// How many commands the next entry holds, and their bytes.
    fn next_batch(&self) -> (usize, usize) {
        let commands_max = self.options.commands_max.min(ENTRY_COMMANDS_MAX);
        let mut bytes = 0;
        let mut count = 0;
        for queued in self.queue.iter().take(commands_max) {
            let with = bytes + queued.command.bytes.len();
            let over = with > self.options.bytes_max
                || EntryBuilder::bytes_for(count + 1, with) + 64 > ENTRY_BYTES_MAX;
            if count > 0 && over {
                break;
            }
            bytes = with;
            count += 1;
        }
        (count, bytes)
    }
}

/// From so many callers on, a batch without nearly all of them is worth less than a short wait.
const MANY: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::ids::SessionId;

    fn command(sequence: u64, bytes: usize) -> Queued {
        let request = RequestId { session: SessionId(1), sequence };
        let command = EncodedCommand { request, bytes: vec![0; bytes] };
        Queued { command, origin: None }
    }

    fn batcher() -> Batcher {
        Batcher::new(Options {
            commands_max: 8,
            bytes_max: 100,
            eager_bytes: 90,
            inflight_max: 3,
            gather: Duration::from_nanos(10),
        })
    }

    fn next(batcher: &mut Batcher, now: u64) -> Option<usize> {
        let (entry, requests) = batcher.next_entry(Moment(now), Time(0), Edition::FIRST)?;
        assert_eq!(entry.command_count(), requests.len());
        Some(requests.len())
    }

    #[test]
    fn one_caller_alone_never_waits() {
        let mut batcher = batcher();
        for now in 1..10 {
            batcher.push(command(now, 10));
            assert_eq!(next(&mut batcher, now), Some(1));
            batcher.settle(Moment(now), 0);
        }
        assert!(batcher.is_empty());
        assert_eq!(batcher.bytes(), 0);
    }

    #[test]
    fn callers_that_come_back_share_two_batches() {
        let mut batcher = batcher();
        (1..=6).for_each(|sequence| batcher.push(command(sequence, 10)));
        assert_eq!(next(&mut batcher, 1), Some(6));
        batcher.settle(Moment(2), 0);
        batcher.push(command(7, 10));
        batcher.push(command(8, 10));
        assert_eq!(next(&mut batcher, 3), None, "six are expected, so three make a batch");
        assert_eq!(batcher.due_at(), Some(Moment(12)));
        batcher.push(command(9, 10));
        assert_eq!(next(&mut batcher, 4), Some(3));
        (10..=12).for_each(|sequence| batcher.push(command(sequence, 10)));
        assert_eq!(next(&mut batcher, 5), Some(3));
        batcher.push(command(13, 10));
        assert_eq!(next(&mut batcher, 6), None, "two are in flight");
    }

    #[test]
    fn who_does_not_come_back_is_not_waited_for_long() {
        let mut batcher = batcher();
        (1..=6).for_each(|sequence| batcher.push(command(sequence, 10)));
        assert_eq!(next(&mut batcher, 1), Some(6));
        batcher.settle(Moment(2), 0);
        batcher.push(command(7, 10));
        assert_eq!(next(&mut batcher, 11), None);
        assert_eq!(next(&mut batcher, 12), Some(1));
    }

    #[test]
    fn large_batches_fill_the_disk() {
        let mut batcher = batcher();
        for sequence in 1..=4 {
            batcher.push(command(sequence, 90));
        }
        assert_eq!(next(&mut batcher, 1), Some(1));
        assert_eq!(next(&mut batcher, 1), Some(1));
        assert_eq!(next(&mut batcher, 1), Some(1));
        batcher.settle(Moment(2), 2);
        assert_eq!(next(&mut batcher, 2), Some(1));
    }

    #[test]
    fn bytes_bound_an_entry_but_not_a_command() {
        let mut batcher = batcher();
        [60, 60, 500].into_iter().enumerate().for_each(|(index, bytes)| {
            batcher.push(command(index as u64, bytes));
        });
        for wanted in [60, 60, 500] {
            let (entry, requests) = batcher.next_entry(Moment(1), Time(0), Edition::FIRST).unwrap();
            assert_eq!(requests.len(), 1);
            assert_eq!(entry.commands().next().unwrap().len(), wanted);
        }
    }
}
