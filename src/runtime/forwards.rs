//! Commands on their way to who leads: forwarded, taken or bounced, and forwarded again.
//!
//! A replica forwards only so much at a time: of what waits here it can still be told for
//! certain that it did not happen. What was forwarded is forwarded again where another replica
//! comes to lead, the connection ended, or no verdict came for long: it happens once, however often
//! it arrives (`store/sessions.rs`). A command that bounced waits again, and whoever bounced it is
//! not asked for a heartbeat interval: it may be full, or on its way out. A command waits again,
//! too, where its proposal lost its slot to another entry; a leader that has none to propose is
//! asked for a no-op (`paxos/leftover.rs`).
//!
//! Each time that a command is forwarded is an *attempt*, with a number of its own. The network may
//! deliver two copies of a message, and a copy may come after the leader lost and regained its
//! role; so every attempt that was ever seen is remembered, taken or bounced alike. Who bounced an
//! attempt has thereby said for good that it brought nothing about. Memory is bounded: for the
//! newest opening of each peer's directory the newest numbers are kept one by one, and everything
//! below them counts as seen; of older openings, everything.
//!
//! Invariants:
//! * An attempt is taken at most once in one opening of this replica; the message names the
//!   opening.
//! * An attempt that was bounced is never taken later.
//! * What a peer forwards again while it is under way here is not queued a second time.
//! * A command that does not decode is dropped: it must not reach the log, where it would stop
//!   every replica.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::journal::disk::Disk;
use crate::journal::identity::Identity;
use crate::types::bugs::{self, Bug};
use crate::types::command::Command;
use crate::types::entry::Entry;
use crate::types::ids::{Boot, Incarnation, ReplicaId, RequestId};
use crate::types::limits::COMMAND_BYTES_MAX;
use crate::types::marks::reached;
use crate::types::message::{EncodedCommand, Envelope, Forward, Message};

use super::batcher::{Origin, Queued, Sender};
use super::driver::{Driver, Stage};
use super::writes;

/// What the commands may weigh ([`writes::weight`]) that are on their way to a leader, or wait
/// there, at once; a single heavier one is always allowed. Far below what the transport queues for
/// a peer, so that none is dropped.
const FORWARDED_WEIGHT_MAX: usize = 4 * 1024 * 1024;

/// Of so many replicas attempts are remembered; of members even if there are more.
const REPLICAS_SEEN_MAX: usize = 64;

/// Most attempts of a peer that are remembered one by one.
const SEEN_MAX: usize = 1 << 14;

/// An entry that this replica proposed, with who asked for what is in it.
#[derive(Debug)]
pub struct Proposal {
    /// What was proposed.
    pub entry: Entry,
    /// Its commands, in order.
    pub commands: Vec<Origin>,
}

/// What was seen so far, and what of it is under way here.
#[derive(Debug, Default)]
pub struct Forwards {
    /// By replica and directory: another one, under the same id, counts its openings anew.
    seen: BTreeMap<(ReplicaId, Incarnation), Seen>,
    under_way: BTreeSet<RequestId>,
}

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
        // Of who was removed, what was taken before is forgotten, and may be in the log.
        if self.members().is_some_and(|members| members.has_removed(from)) {
            return;
        }
        // Who does not belong may not know it: its callers are told when it does.
        let member = self.members().and_then(|members| members.member(from));
        let belongs = member.is_some();
        let is_other = member.is_some_and(|member| member.incarnation != forward.incarnation);
        let directory = (from, forward.incarnation);
        if is_other || !belongs && !self.forwards.has_room_for(directory) {
            return;
        }
        let opening = (forward.incarnation, forward.boot);
        let takes = belongs && self.leads() && !matches!(self.stage, Stage::Closing(_));
        let mut bounced = Vec::new();
        for (command, at) in forward.commands.into_iter().zip(0..) {
            let attempt = forward.attempt.saturating_add(at);
            if !self.forwards.is_new(from, opening, attempt, &command) {
                reached!(ForwardSeen);
                continue;
            }
            let room = self.has_room_for(command.bytes.len());
            if !takes || !room {
                bounced.push(attempt);
            } else if !self.forwards.under_way.insert(command.request) {
                reached!(ForwardUnderWay);
            } else {
                if bugs::is_on(Bug::BounceTaken) {
                    bounced.push(attempt);
                }
                let sender = Sender { replica: from, boot: forward.boot, attempt };
                self.batcher.push(Queued { command, origin: Some(sender) });
            }
        }
        self.bounce(from, forward.boot, bounced);
    }

    pub(super) fn bounce(&mut self, to: ReplicaId, boot: Boot, attempts: Vec<u64>) {
        if !attempts.is_empty() {
            let message = Message::Bounced { boot, attempts };
            self.effects.sends.push(Envelope { to, message });
        }
    }

    /// Sends back one command that waited here, or was proposed here in vain.
    fn bounce_one(&mut self, request: RequestId, sender: Sender) {
        self.forwards.under_way.remove(&request);
        self.bounce(sender.replica, sender.boot, vec![sender.attempt]);
    }

    /// Sends back what waits here and came from peers. What came back to this replica itself stays.
    pub(super) fn bounce_queue(&mut self) {
        let mut bounced = BTreeMap::new();
        let under_way = &mut self.forwards.under_way;
        self.batcher.retain(|Queued { command, origin }| {
            let Some(Sender { replica, boot, attempt }) = *origin else { return true };
            under_way.remove(&command.request);
            let attempts = bounced.entry((replica, boot.sequence)).or_insert((boot, Vec::new()));
            attempts.1.push(attempt);
            false
        });
        for ((replica, _), (boot, attempts)) in bounced {
            self.bounce(replica, boot, attempts);
        }
    }

    /// Attempts that a peer did not propose and never will: the commands wait for a leader again.
    pub(super) fn on_bounced(&mut self, from: ReplicaId, boot: Boot, attempts: Vec<u64>) {
        if boot != self.journal.identity().boot {
            return;
        }
        // It may be full, closing, or just deposed: asked at once, it would bounce them again.
        self.bounced = Some((from, self.now + self.options.heartbeat_interval));
        for attempt in attempts {
            if let Some(command) = self.requests.writes.take_bounced(from, attempt) {
                reached!(BouncedQueued);
                self.batcher.push(Queued { command, origin: None });
            }
        }
    }

    /// The entry of a proposal was applied, or another one in its slot. In the second case the
    /// proposal can never be chosen any more: it brought nothing about, and its commands wait for a
    /// leader again.
    pub(super) fn end_proposal(&mut self, proposal: Proposal, applied: &Entry) {
        let Proposal { entry, commands } = proposal;
        if entry == *applied {
            return self.forget_commands(&commands);
        }
        for ((request, origin), bytes) in commands.into_iter().zip(entry.commands()) {
            match origin {
                Some(sender) => {
                    reached!(TakenBackForPeer);
                    self.bounce_one(request, sender);
                }
                // Where nobody waits, its caller was told that the outcome is unknown.
                None if self.requests.writes.take_back(request) => {
                    reached!(TakenBack);
                    let command = EncodedCommand { request, bytes: bytes.to_vec() };
                    self.batcher.push(Queued { command, origin: None });
                }
                None => {}
            }
        }
    }

    /// These commands are under way here no more, as far as can be told: whoever forwards them
    /// again is listened to.
    pub(super) fn forget_commands(&mut self, commands: &[Origin]) {
        for (request, _) in commands.iter().filter(|(_, origin)| origin.is_some()) {
            self.forwards.under_way.remove(request);
        }
    }

    /// Hands on again what was forwarded, and is lost or late.
    pub(super) fn forward_again(&mut self) {
        let wait = self.options.election_timeout;
        if self.requests.writes.forwarded_weight() == 0 {
            return;
        }
        if self.leads() {
            for (command, _) in self.requests.writes.take_overdue(self.now, None, wait) {
                reached!(ForwardedToItself);
                self.batcher.push(Queued { command, origin: None });
            }
        } else if let Some(leader) = self.leader_to_forward_to() {
            let overdue = self.requests.writes.take_overdue(self.now, Some(leader), wait);
            if !overdue.is_empty() {
                reached!(ForwardedAgain);
                self.forward(leader, overdue);
            }
        }
    }

    /// Sends waiting commands to who leads, as many as may be on their way at once. The others wait
    /// here, where they can still be told for certain that they did not happen.
    pub(super) fn forward_queue(&mut self) {
        let leader = self.leader_to_forward_to();
        let mut under_way = self.requests.writes.forwarded_weight();
        let mut commands = Vec::new();
        while let Some(Queued { command, origin }) = self.batcher.first() {
            let weight = writes::weight(command);
            let room = under_way == 0 || under_way + weight <= FORWARDED_WEIGHT_MAX;
            match *origin {
                // Forwarded once only: its sender knows best whom to ask next.
                Some(sender) => {
                    let request = command.request;
                    self.batcher.pop_first();
                    self.bounce_one(request, sender);
                }
                None if leader.is_some() && room => {
                    let Some(Queued { command, .. }) = self.batcher.pop_first() else { break };
                    under_way += weight;
                    commands.push((command, self.options.election_timeout));
                }
                None => break,
            }
        }
        if let Some(leader) = leader {
            self.forward(leader, commands);
        }
    }

    /// Sends commands off, each with how long its verdict may take, in messages of bounded size.
    fn forward(&mut self, leader: (ReplicaId, Boot), commands: Vec<(EncodedCommand, Duration)>) {
        let (to, receiver) = leader;
        let Identity { incarnation, boot, .. } = *self.journal.identity();
        let mut batches: Vec<Forward> = Vec::new();
        let mut bytes = 0;
        for (command, wait) in commands {
            bytes += command.bytes.len();
            if batches.is_empty() || bytes > self.options.message_bytes_max {
                bytes = command.bytes.len();
                let attempt = self.requests.writes.next_attempt();
                let commands = Vec::new();
                batches.push(Forward { incarnation, boot, receiver, attempt, commands });
            }
            self.requests.writes.note_forwarded(leader, command.clone(), self.now, wait);
            batches.last_mut().expect("one was just pushed").commands.push(command);
        }
        for forward in batches {
            self.effects.sends.push(Envelope { to, message: Message::Forward(forward) });
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
    /// These were removed, and never come back.
    pub(super) fn forget(&mut self, removed: &[ReplicaId]) {
        self.seen.retain(|(id, _), _| removed.binary_search(id).is_err());
    }

    /// Whether what is seen of a replica that does not belong (yet) is remembered. Where too many
    /// came already, it is not heard: what is bounced must not be taken later.
    fn has_room_for(&self, stranger: (ReplicaId, Incarnation)) -> bool {
        self.seen.contains_key(&stranger) || self.seen.len() < REPLICAS_SEEN_MAX
    }

    /// Whether the attempt may be taken or bounced: its command is whole, and it was not seen
    /// before.
    pub fn is_new(
        &mut self,
        from: ReplicaId,
        (incarnation, boot): (Incarnation, Boot),
        attempt: u64,
        command: &EncodedCommand,
    ) -> bool {
        let seen = self.seen.entry((from, incarnation)).or_default();
        if seen.boot.sequence < boot.sequence {
            *seen = Seen { boot, ..Seen::default() };
        }
        seen.boot == boot && is_whole(command) && seen.note(attempt)
    }
}

impl Seen {
    fn note(&mut self, attempt: u64) -> bool {
        if attempt < self.floor || !self.above.insert(attempt) {
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
    use crate::types::ids::SessionId;

    const PEER: ReplicaId = ReplicaId(2);

    fn command(sequence: u64) -> EncodedCommand {
        let request = RequestId { session: SessionId(1), sequence };
        let command = Command::resolving(request, request);
        EncodedCommand { request, bytes: command.encode() }
    }

    const DIRECTORY: Incarnation = Incarnation(5);

    fn opening(sequence: u64) -> (Incarnation, Boot) {
        (DIRECTORY, Boot { sequence, nonce: sequence * 7 })
    }

    #[test]
    fn an_attempt_is_new_once() {
        let mut forwards = Forwards::default();
        assert!(forwards.is_new(PEER, opening(1), 5, &command(5)));
        assert!(forwards.is_new(PEER, opening(1), 3, &command(3)), "order does not matter");
        assert!(!forwards.is_new(PEER, opening(1), 5, &command(5)));
        assert!(forwards.is_new(PEER, opening(1), 6, &command(5)), "another attempt");
        assert!(forwards.is_new(ReplicaId(3), opening(1), 5, &command(5)));
    }

    #[test]
    fn nothing_of_an_older_opening_is_new() {
        let mut forwards = Forwards::default();
        assert!(forwards.is_new(PEER, opening(1), 1, &command(1)));
        assert!(forwards.is_new(PEER, opening(2), 1, &command(1)));
        assert!(!forwards.is_new(PEER, opening(1), 2, &command(2)));
        let copied = (DIRECTORY, Boot { sequence: 2, nonce: 0 });
        assert!(!forwards.is_new(PEER, copied, 2, &command(2)), "two openings share no number");
    }

    #[test]
    fn another_directory_begins_with_its_first_opening() {
        let mut forwards = Forwards::default();
        assert!(forwards.is_new(PEER, opening(3), 1, &command(1)));
        let blank = (Incarnation(6), Boot { sequence: 1, nonce: 9 });
        assert!(forwards.is_new(PEER, blank, 1, &command(2)));
        assert!(!forwards.is_new(PEER, blank, 1, &command(2)));
        assert!(!forwards.is_new(PEER, opening(3), 1, &command(1)), "it is remembered, too");
    }

    #[test]
    fn what_is_forgotten_counts_as_seen() {
        let mut forwards = Forwards::default();
        for attempt in 1..=SEEN_MAX as u64 + 10 {
            assert!(forwards.is_new(PEER, opening(1), attempt, &command(1)));
        }
        assert!(!forwards.is_new(PEER, opening(1), 1, &command(1)));
        assert!(forwards.seen[&(PEER, DIRECTORY)].above.len() <= SEEN_MAX);
    }

    #[test]
    fn what_is_not_whole_is_never_new() {
        let mut forwards = Forwards::default();
        let mut damaged = command(1);
        damaged.bytes.pop();
        assert!(!forwards.is_new(PEER, opening(1), 1, &damaged));
        let mut mislabelled = command(2);
        mislabelled.request.sequence = 3;
        assert!(!forwards.is_new(PEER, opening(1), 2, &mislabelled));
    }
}
