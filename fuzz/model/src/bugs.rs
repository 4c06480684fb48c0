//! Mistakes that must be found: each is made around the core, which stays as it ships.
//!
//! A mistake lets a message leave too early, or changes what a core says, hears or recovers. One
//! that cannot be made from outside is a switch within the core ([`Bug::Core`]).

use indelible::types::bugs as core;
use indelible::types::ids::{Ballot, Chain, ReplicaId, Slot};
use indelible::types::message::Message;
use indelible::types::record::Recovered;

use crate::journal::Journal;
use crate::replica::Replica;

/// A mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// A vote is acknowledged before it is durable.
    AckBeforeDurable,
    /// A promise is answered before it is durable.
    PromiseBeforeDurable,
    /// A candidate asks before its own promise is durable, and uses the ballot again.
    BallotReused,
    /// An acknowledgement carries what is promised when it leaves, not the ballot of the vote.
    CurrentPromiseStamped,
    /// A copy of an `Accept` is acknowledged at once, though the vote is not durable.
    DuplicateAckedBeforeSync,
    /// An opening does not sync what it reads.
    ReopenWithoutSync,
    /// An opening forgets every promise for which there is no vote.
    PromiseForgotten,
    /// The same; then it only stays away from phase 1.
    ForgetfulSkipsPhase1,
    /// An opening takes an older vote for the newest one.
    OlderCopy,
    /// Slots known to be chosen are answered "none" in phase 1.
    ChosenAnsweredNone,
    /// A candidate believes the longest log.
    LongestLog,
    /// One promise completes phase 1: the quorums need not intersect.
    SmallPhase1,
    /// A leader counts votes of other ballots.
    OtherBallotsCounted,
    /// A follower believes how far the log is chosen, whatever its own votes are.
    WatermarkBelieved,
    /// A leader proposes further ahead than the others expect.
    BeyondAlpha,
    /// All rounds of confirmation have one number.
    NonceReused,
    /// A leader confirms itself alone.
    SmallConfirmation,
    /// A voter whose vote was damaged says that it did not vote.
    FaultyAnsweredNone,
    /// A voter takes a leader's answer to an earlier opening for one to this.
    LateSettled,
    /// What was trimmed for the state of a peer is gone, and so is the state after a crash.
    StateNotDurable,
    /// A vote tells how far its voter knows the log, durably or not.
    KnownTold,
    /// A vote behind a membership counts as if its voter had that membership durably.
    VoteShowsAll,
    /// A mistake within the core.
    Core(core::Bug),
}

impl Bug {
    /// Whether what this replica said may be forgotten: then a replica believes something to be
    /// chosen that is not, long before anyone sees two outcomes. Only these count.
    #[must_use]
    pub fn forgets(self) -> bool {
        matches!(
            self,
            Self::AckBeforeDurable
                | Self::DuplicateAckedBeforeSync
                | Self::ReopenWithoutSync
                | Self::Core(core::Bug::AckDuplicateEarly)
        )
    }

    /// Whether a replica may come back to a ballot that it was past, or listen to answers that
    /// were for one: then no letter is ever stale.
    #[must_use]
    pub fn revives_ballots(self) -> bool {
        matches!(
            self,
            Self::BallotReused
                | Self::PromiseForgotten
                | Self::ForgetfulSkipsPhase1
                | Self::OtherBallotsCounted
                | Self::Core(
                    core::Bug::VoteBelowPromise
                        | core::Bug::ReuseBallot
                        | core::Bug::PrepareBeforeSync
                        | core::Bug::AmnesiaVotes
                        | core::Bug::PromiseOfOtherBallot
                        | core::Bug::VoteOfOtherBallot
                        | core::Bug::ConfirmDeposed
                )
        )
    }

    /// Whether a replica may listen to answers that were for an earlier opening of it: then letters
    /// outlive openings.
    #[must_use]
    pub fn revives_openings(self) -> bool {
        matches!(self, Self::LateSettled | Self::Core(core::Bug::AnswerToEarlierLife))
    }

    /// Whether it is meant to show where a leader says that a change is established.
    #[must_use]
    pub fn retires(self) -> bool {
        matches!(
            self,
            Self::AckBeforeDurable
                | Self::KnownTold
                | Self::VoteShowsAll
                | Self::Core(core::Bug::RetireEarly)
        )
    }

    /// Whether a message that waits for a sync leaves at once. `news` tells whether records were
    /// appended with it.
    #[must_use]
    pub fn releases(self, message: &Message, news: bool) -> bool {
        match self {
            Self::AckBeforeDurable => matches!(message, Message::Accepted(_)),
            Self::PromiseBeforeDurable => matches!(message, Message::Promise(_)),
            Self::BallotReused => matches!(message, Message::Prepare { .. }),
            Self::DuplicateAckedBeforeSync => !news && matches!(message, Message::Accepted(_)),
            _ => false,
        }
    }

    /// Changes a message that leaves `sender`; `None` where it does not leave at all.
    #[must_use]
    pub fn on_leave(self, sender: &mut Replica, mut message: Message) -> Option<Message> {
        match (self, &mut message) {
            (Self::CurrentPromiseStamped, Message::Accepted(accepted)) => {
                accepted.ballot = sender.promised();
            }
            (Self::ForgetfulSkipsPhase1, Message::Promise(_)) if sender.crashes > 0 => return None,
            (Self::ChosenAnsweredNone, Message::Promise(promise)) => {
                promise.slot_chosen = promise.from;
            }
            (Self::NonceReused, Message::Confirm { nonce, .. }) => {
                *nonce = 0;
            }
            (Self::KnownTold, Message::Accepted(accepted)) => {
                accepted.slot_durable = sender.slot_chosen();
            }
            (Self::FaultyAnsweredNone, Message::Promise(promise)) => promise.abstained.clear(),
            _ => {}
        }
        Some(message)
    }

    /// Changes a message that arrives at `receiver`.
    pub fn on_arrive(self, receiver: &Replica, message: &mut Message) {
        match (self, message) {
            (Self::LongestLog, Message::Promise(promise)) => {
                let longer = ReplicaId(promise.votes.last().map_or(0, |vote| vote.slot.0));
                for vote in &mut promise.votes {
                    vote.ballot = Ballot { round: 0, leader: longer };
                }
            }
            (Self::OtherBallotsCounted, Message::Accepted(accepted)) => {
                accepted.ballot = receiver.leads_at().unwrap_or(accepted.ballot);
            }
            (Self::WatermarkBelieved, Message::Accept(accept)) => {
                accept.chain = receiver.votes_chain(accept.slot_chosen).unwrap_or(accept.chain);
            }
            (Self::WatermarkBelieved, Message::Heartbeat(heartbeat)) => {
                let own = receiver.votes_chain(heartbeat.slot_chosen);
                heartbeat.chain = own.unwrap_or(heartbeat.chain);
            }
            (Self::LateSettled, Message::Settled { boot, .. }) => {
                boot.sequence = receiver.openings();
                boot.nonce = receiver.id.0 << 32 | receiver.openings();
            }
            (Self::VoteShowsAll, Message::Accepted(accepted)) => {
                accepted.slot_durable = accepted.slots.first;
            }
            (Self::NonceReused, Message::Confirmed { nonce, .. }) => *nonce = receiver.nonce,
            _ => {}
        }
    }

    /// What a replica hears from another one, which said no such thing, together with `message`
    /// that it sends.
    #[must_use]
    pub fn forges(self, sender: ReplicaId, message: &Message) -> Option<(ReplicaId, Message)> {
        let other = ReplicaId(if sender == ReplicaId(3) { 2 } else { 3 });
        let incarnation = indelible::types::ids::Incarnation(u128::from(other.0));
        match (self, message) {
            (Self::SmallPhase1, Message::Promise(promise)) if promise.ballot.leader == sender => {
                let mut promise = promise.clone();
                promise.incarnation = incarnation;
                Some((other, Message::Promise(promise)))
            }
            (Self::SmallConfirmation, Message::Confirm { ballot, nonce }) => {
                Some((other, Message::Confirmed { ballot: *ballot, incarnation, nonce: *nonce }))
            }
            _ => None,
        }
    }

    /// Changes what an opening finds.
    pub fn on_recover(self, journal: &Journal, recovered: &mut Recovered) {
        match self {
            Self::PromiseForgotten | Self::ForgetfulSkipsPhase1 => {
                let voted = journal.votes.iter().map(|(_, ballot, _)| *ballot).max();
                recovered.promised = voted.unwrap_or_default();
            }
            Self::OlderCopy => {
                for vote in &mut recovered.votes {
                    let oldest = journal.votes.iter().find(|(slot, _, _)| *slot == vote.0);
                    *vote = oldest.expect("it was recovered").clone();
                }
            }
            _ => {}
        }
    }

    /// How far the replica proposes ahead, where the others expect `alpha`.
    #[must_use]
    pub fn alpha(self, id: ReplicaId, alpha: u64) -> u64 {
        match self {
            Self::BeyondAlpha if id == ReplicaId(1) => alpha + 1,
            _ => alpha,
        }
    }

    /// The switch within the core.
    #[must_use]
    pub fn within_core(self) -> Option<core::Bug> {
        match self {
            Self::Core(bug) => Some(bug),
            _ => None,
        }
    }
}

/// The chain below `end`, should `votes` be what is chosen from `slot` on, behind `chain`.
#[must_use]
pub fn chain_of(journal: &Journal, slot: Slot, mut chain: Chain, end: Slot) -> Option<Chain> {
    let mut slot = slot;
    while slot < end {
        chain = chain.extend(journal.newest_appended(slot)?.hash());
        slot = slot.next();
    }
    Some(chain)
}
