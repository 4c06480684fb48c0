//! Commands on their way to who leads: forwarded once, taken once, or bounced.
//!
//! A replica forwards a command once, and only so many bytes at a time: of what waits here it can
//! still be told for certain that it did not happen, and of what was forwarded it cannot. A
//! command that bounced waits again, and whoever bounced it is not asked for a heartbeat interval:
//! it may be full, or on its way out. A command waits again, too, where its proposal lost its slot
//! to another entry; a leader that has none to propose is asked for a no-op (`paxos/leftover.rs`).
//!
//! The network may still deliver two copies of a message, and a copy may come after the leader lost
//! and regained its role; so every command that was ever seen is remembered, taken or bounced
//! alike. Memory is bounded: for the newest opening of each peer the newest numbers are kept one by
//! one, and everything below them counts as seen; of older openings, everything.
//!
//! Invariants:
//! * A command is taken at most once in one opening of this replica; the message names the opening.
//! * A command that was bounced is never taken later, so its sender may propose it elsewhere.
//! * A command that does not decode is dropped: it must not reach the log, where it would stop
//!   every replica.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;

use crate::journal::disk::Disk;
use crate::types::bugs::{self, Bug};
use crate::types::command::Command;
use crate::types::entry::Entry;
use crate::types::ids::{Boot, ReplicaId, RequestId};
use crate::types::limits::COMMAND_BYTES_MAX;
use crate::types::marks::reached;
use crate::types::message::{EncodedCommand, Envelope, Forward, Message};

use super::batcher::{Origin, Queued};
use super::driver::{Driver, Stage};

/// Most bytes of commands that are on their way to a leader, or wait there, at once; a single
/// larger one is always allowed. Far below what the transport queues for a peer, so that none is
/// dropped.
const FORWARDED_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Most sequence numbers of a peer that are remembered one by one.
const SEEN_MAX: usize = 1 << 14;

/// An entry that this replica proposed, with who asked for what is in it.
#[derive(Debug)]
pub struct Proposal {
    /// What was proposed.
    pub entry: Entry,
    /// Its commands, in order.
    pub commands: Vec<Origin>,
}

/// What was seen so far.
#[derive(Debug, Default)]
pub struct Forwards(BTreeMap<ReplicaId, Seen>);

#[derive(Debug, Default)]
struct Seen {
    boot: Boot,
    /// Everything below counts as seen.
    floor: u64,
    above: BTreeSet<u64>,
}

impl<D: Disk> Driver<D> {
    /// Commands of a peer's callers: taken where this replica leads, bounced where it does not.
    pub(super) fn on_forward(&mut self, from: ReplicaId, forward: Forward) {
        if forward.receiver != self.journal.identity().boot {
            reached!(ForwardLate);
            return;
        }
        let takes = self.leads() && !matches!(self.stage, Stage::Closing(_));
        let mut bounced = Vec::new();
        for command in forward.commands {
            if !self.forwards.is_new(from, forward.boot, &command) {
                reached!(ForwardSeen);
                continue;
            }
            let room = self.batcher.has_room(command.bytes.len(), self.options.queued_bytes_max);
            if takes && room {
                if bugs::is_on(Bug::BounceTaken) {
                    bounced.push(command.request);
                }
                self.batcher.push(Queued { command, origin: Some((from, forward.boot)) });
            } else {
                bounced.push(command.request);
            }
        }
        self.bounce(from, forward.boot, bounced);
    }

    pub(super) fn bounce(&mut self, to: ReplicaId, boot: Boot, requests: Vec<RequestId>) {
        if !requests.is_empty() {
            let message = Message::Bounced { boot, requests };
            self.effects.sends.push(Envelope { to, message });
        }
    }

    /// Sends back what waits here and came from peers. What came back to this replica itself stays.
    pub(super) fn bounce_queue(&mut self) {
        let mut bounced = BTreeMap::new();
        self.batcher.retain(|Queued { command, origin }| {
            let Some((origin, boot)) = *origin else { return true };
            let requests = bounced.entry((origin, boot.sequence)).or_insert((boot, Vec::new()));
            requests.1.push(command.request);
            false
        });
        for ((origin, _), (boot, requests)) in bounced {
            self.bounce(origin, boot, requests);
        }
    }

    /// Commands that a peer did not propose and never will: they wait for a leader again.
    pub(super) fn on_bounced(&mut self, from: ReplicaId, boot: Boot, requests: Vec<RequestId>) {
        if boot != self.journal.identity().boot {
            return;
        }
        // It may be full, closing, or just deposed: asked at once, it would bounce them again.
        self.bounced = Some((from, self.now + self.options.heartbeat_interval));
        for request in requests {
            let sequence = self.sequences.fetch_add(1, Ordering::Relaxed);
            if let Some(command) = self.requests.take_bounced(from, request, sequence) {
                reached!(BouncedQueued);
                self.queue_again(&command.bytes, sequence);
            }
        }
    }

    /// Something was chosen in the slot of a proposal. Where it is something else, the proposal can
    /// never be chosen any more: its commands did not happen, and wait for a leader again.
    pub(super) fn take_back(&mut self, proposal: Proposal, chosen: &Entry) {
        let Proposal { entry, commands } = proposal;
        if entry == *chosen && !bugs::is_on(Bug::QueueChosenAgain) {
            return;
        }
        for ((request, origin), bytes) in commands.into_iter().zip(entry.commands()) {
            match origin {
                Some((origin, boot)) => {
                    reached!(TakenBackForPeer);
                    self.bounce(origin, boot, vec![request]);
                }
                None => {
                    reached!(TakenBack);
                    let sequence = self.sequences.fetch_add(1, Ordering::Relaxed);
                    // Where nobody waits, its caller was told that the outcome is unknown.
                    if self.requests.take_back(request, sequence) {
                        self.queue_again(bytes, sequence);
                    }
                }
            }
        }
    }

    /// A command of this session waits again, under a new number: an old copy of it can never be
    /// taken for the new one, and none that forgot old numbers takes it for an old one.
    fn queue_again(&mut self, bytes: &[u8], sequence: u64) {
        let request = RequestId { session: self.session, sequence };
        let mut command = Command::decode(bytes).expect("a command of this session decodes");
        command.request = request;
        let command = EncodedCommand { request, bytes: command.encode() };
        self.batcher.push(Queued { command, origin: None });
    }

    /// Sends waiting commands to who leads, as many as may be on their way at once. The others wait
    /// here, where they can still be told for certain that they did not happen.
    pub(super) fn forward_queue(&mut self) {
        let leader = self.leader_to_forward_to();
        let mut commands = Vec::new();
        while let Some(Queued { command, origin }) = self.batcher.first() {
            let under_way = self.requests.forwarded_bytes();
            let room = under_way == 0 || under_way + command.bytes.len() <= FORWARDED_BYTES_MAX;
            match (*origin, leader) {
                // Forwarded once only: its sender knows best whom to ask next.
                (Some((origin, boot)), _) => {
                    let request = command.request;
                    self.batcher.pop_first();
                    self.bounce(origin, boot, vec![request]);
                }
                (None, Some((leader, _))) if room => {
                    let Some(Queued { command, .. }) = self.batcher.pop_first() else { break };
                    self.requests.note_forwarded(leader, command.clone());
                    commands.push(command);
                }
                (None, _) => break,
            }
        }
        if let Some((to, receiver)) = leader {
            self.forward(to, receiver, commands);
        }
    }

    /// Sends commands off, in messages of bounded size.
    fn forward(&mut self, to: ReplicaId, receiver: Boot, commands: Vec<EncodedCommand>) {
        let boot = self.journal.identity().boot;
        let mut batches: Vec<Vec<EncodedCommand>> = Vec::new();
        let mut bytes = 0;
        for command in commands {
            bytes += command.bytes.len();
            if batches.is_empty() || bytes > self.options.message_bytes_max {
                bytes = command.bytes.len();
                batches.push(Vec::new());
            }
            batches.last_mut().expect("one was just pushed").push(command);
        }
        for commands in batches {
            let message = Message::Forward(Forward { boot, receiver, commands });
            self.effects.sends.push(Envelope { to, message });
        }
    }

    /// The leader, in the opening in which it was heard last.
    pub(super) fn leader_to_forward_to(&self) -> Option<(ReplicaId, Boot)> {
        let leader = self.view()?.leader?.leader;
        if self.bounced.is_some_and(|(peer, until)| peer == leader && self.now < until) {
            return None;
        }
        let (heard, boot, _) = self.paxos.as_ref()?.peer(leader)?;
        heard.then_some((leader, boot))
    }
}

impl Forwards {
    /// Whether the command may be taken or bounced: it is whole, and was not seen before.
    pub fn is_new(&mut self, from: ReplicaId, boot: Boot, command: &EncodedCommand) -> bool {
        let seen = self.0.entry(from).or_default();
        if seen.boot.sequence < boot.sequence {
            *seen = Seen { boot, ..Seen::default() };
        }
        seen.boot == boot && is_whole(command) && seen.note(command.request.sequence)
    }
}

impl Seen {
    fn note(&mut self, sequence: u64) -> bool {
        let seen = sequence < self.floor || !self.above.insert(sequence);
        if seen && !bugs::is_on(Bug::TakeForwardTwice) {
            return false;
        }
        if self.above.len() > SEEN_MAX
            && let Some(lowest) = self.above.pop_first()
        {
            self.floor = lowest + 1;
        }
        true
    }
}

fn is_whole(command: &EncodedCommand) -> bool {
    command.bytes.len() <= COMMAND_BYTES_MAX
        && Command::decode(&command.bytes).is_ok_and(|decoded| decoded.request == command.request)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::ids::{RequestId, SessionId};

    const PEER: ReplicaId = ReplicaId(2);

    fn command(sequence: u64) -> EncodedCommand {
        let request = RequestId { session: SessionId(1), sequence };
        let (tables, conditions, operations) = (Vec::new(), Vec::new(), Vec::new());
        let command = Command { request, tables, conditions, operations };
        EncodedCommand { request, bytes: command.encode() }
    }

    fn boot(sequence: u64) -> Boot {
        Boot { sequence, nonce: sequence * 7 }
    }

    #[test]
    fn a_command_is_new_once() {
        let mut forwards = Forwards::default();
        assert!(forwards.is_new(PEER, boot(1), &command(5)));
        assert!(forwards.is_new(PEER, boot(1), &command(3)), "order does not matter");
        assert!(!forwards.is_new(PEER, boot(1), &command(5)));
        assert!(forwards.is_new(ReplicaId(3), boot(1), &command(5)));
    }

    #[test]
    fn nothing_of_an_older_opening_is_new() {
        let mut forwards = Forwards::default();
        assert!(forwards.is_new(PEER, boot(1), &command(1)));
        assert!(forwards.is_new(PEER, boot(2), &command(1)));
        assert!(!forwards.is_new(PEER, boot(1), &command(2)));
        let copied = Boot { sequence: 2, nonce: 0 };
        assert!(!forwards.is_new(PEER, copied, &command(2)), "two openings cannot share a number");
    }

    #[test]
    fn what_is_forgotten_counts_as_seen() {
        let mut forwards = Forwards::default();
        for sequence in 1..=SEEN_MAX as u64 + 10 {
            assert!(forwards.is_new(PEER, boot(1), &command(sequence)));
        }
        assert!(!forwards.is_new(PEER, boot(1), &command(1)));
        assert!(forwards.0[&PEER].above.len() <= SEEN_MAX);
    }

    #[test]
    fn what_is_not_whole_is_never_new() {
        let mut forwards = Forwards::default();
        let mut damaged = command(1);
        damaged.bytes.pop();
        assert!(!forwards.is_new(PEER, boot(1), &damaged));
        let mut mislabelled = command(2);
        mislabelled.request.sequence = 3;
        assert!(!forwards.is_new(PEER, boot(1), &mislabelled));
    }
}
