//! Commands that wait for a slot, and how many of them go into one entry.
//!
//! Batching happens by itself: the first commands leave at once, and while they are being synced
//! those that follow gather. They leave when nothing is in flight any more, or when they are as many
//! as the batch before them, so that two batches of equal size take turns at the disk. So one
//! caller alone waits for nobody, and a thousand callers share a sync.
//!
//! Invariants:
//! * Commands leave in the order in which they came.
//! * An entry is never over its limits, and never without a command.

use std::collections::VecDeque;

use crate::types::entry::{Entry, EntryBuilder};
use crate::types::ids::{Boot, ReplicaId, RequestId};
use crate::types::limits::{ENTRY_BYTES_MAX, ENTRY_COMMANDS_MAX};
use crate::types::message::EncodedCommand;
use crate::types::time::Time;

/// How large an entry may grow, and how many may be under way before commands gather.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Most commands in an entry.
    pub commands_max: usize,
    /// Most bytes of commands in an entry; a larger command gets an entry of its own.
    pub bytes_max: usize,
    /// While this many entries are in flight, commands gather until an entry is full.
    pub inflight_max: usize,
}

/// A queue of commands.
#[derive(Debug)]
pub struct Batcher {
    options: Options,
    queue: VecDeque<Queued>,
    bytes: usize,
    /// How many commands the newest entry has.
    last_batch: usize,
}

/// A command that waits.
#[derive(Debug)]
pub struct Queued {
    /// The command.
    pub command: EncodedCommand,
    /// The replica that forwarded it, in that opening; `None` where a caller of this one did.
    pub origin: Option<(ReplicaId, Boot)>,
}

impl Batcher {
    /// An empty queue.
    #[must_use]
    pub fn new(options: Options) -> Self {
        Self { options, queue: VecDeque::new(), bytes: 0, last_batch: 0 }
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

    /// The next entry, with the identities of its commands, if one should be proposed while
    /// `inflight` entries are under way.
    pub fn next_entry(&mut self, time: Time, inflight: usize) -> Option<(Entry, Vec<RequestId>)> {
        if self.queue.is_empty() || !self.is_due(inflight) {
            return None;
        }
        let (count, bytes) = self.next_batch();
        self.last_batch = count;
        let mut entry = EntryBuilder::new(time, EntryBuilder::bytes_for(count, bytes));
        let mut requests = Vec::with_capacity(count);
        for queued in self.queue.drain(..count) {
            entry.push(&queued.command.bytes);
            requests.push(queued.command.request);
        }
        self.bytes -= bytes;
        Some((entry.finish(), requests))
    }

    /// Whether it is better to propose what waits than to wait for more.
    fn is_due(&self, inflight: usize) -> bool {
        // A small batch behind a large one would take its turn at the disk from a second large one,
        // which comes when the callers of the first have their answers.
        let takes_turns =
            inflight < self.options.inflight_max && self.queue.len() >= self.last_batch;
        inflight == 0 || takes_turns || self.is_full()
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
        Batcher::new(Options { commands_max: 3, bytes_max: 100, inflight_max: 2 })
    }

    #[test]
    fn the_first_leaves_at_once_and_the_rest_gather() {
        let mut batcher = batcher();
        batcher.push(command(1, 10));
        assert_eq!(batcher.next_entry(Time(0), 0).unwrap().1.len(), 1);
        batcher.push(command(2, 10));
        batcher.push(command(3, 10));
        assert!(batcher.next_entry(Time(0), 2).is_none(), "they gather while two are in flight");
        assert_eq!(batcher.next_entry(Time(0), 1).unwrap().1.len(), 2);
        assert!(batcher.is_empty());
        assert_eq!(batcher.bytes(), 0);
    }

    #[test]
    fn a_batch_behind_another_waits_until_it_is_as_large() {
        let mut batcher = batcher();
        batcher.push(command(1, 10));
        batcher.push(command(2, 10));
        assert_eq!(batcher.next_entry(Time(0), 0).unwrap().1.len(), 2);
        batcher.push(command(3, 10));
        assert!(batcher.next_entry(Time(0), 1).is_none());
        batcher.push(command(4, 10));
        assert_eq!(batcher.next_entry(Time(0), 1).unwrap().1.len(), 2);
        batcher.push(command(5, 10));
        assert_eq!(batcher.next_entry(Time(0), 0).unwrap().1.len(), 1, "nothing to wait for");
    }

    #[test]
    fn a_full_entry_waits_for_nobody() {
        let mut batcher = batcher();
        (1..=4).for_each(|sequence| batcher.push(command(sequence, 10)));
        assert_eq!(batcher.next_entry(Time(0), 9).unwrap().1.len(), 3);
        assert!(batcher.next_entry(Time(0), 9).is_none());
        assert_eq!(batcher.bytes(), 10);
    }

    #[test]
    fn bytes_bound_an_entry_but_not_a_command() {
        let mut batcher = batcher();
        [60, 60, 500].into_iter().enumerate().for_each(|(index, bytes)| {
            batcher.push(command(index as u64, bytes));
        });
        for wanted in [60, 60, 500] {
            let (entry, requests) = batcher.next_entry(Time(0), 9).unwrap();
            assert_eq!(requests.len(), 1);
            assert_eq!(entry.commands().next().unwrap().len(), wanted);
        }
    }
}
