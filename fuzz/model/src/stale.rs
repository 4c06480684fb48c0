//! Letters that can change nothing any more. The network forgets them, so that states which differ
//! only in such letters are one state.
//!
//! A replica is *past* a ballot when its promise of that ballot, or of a higher one, is durable,
//! and it neither campaigns nor leads at it. It stays past it for ever, also over crashes: who
//! campaigns takes a ballot above every durable promise, and leads at no other one. So:
//!
//! * An answer to a candidate or leader that is past the ballot is not listened to.
//! * A promise is not listened to by who leads already and does not change the membership, nor a
//!   vote by who learned what it is for. (What a leader asks when it begins a change was never
//!   asked at its ballot before.)
//!   What a vote tells of its voter's journal is listened to at any ballot, though, by who leads or
//!   may lead later: where that is news, the letter stays. To who leads it arrives at once: from
//!   there on all goes as it would without, but that a leader says more often that a change is
//!   established, and whether that is true depends on journals alone.
//! * A question at a ballot below what the receiver promised durably is refused without a trace,
//!   and when the asker is past its ballot, it does not listen to the refusal.
//!
//! * What a leader says of doubts does not count below a promise, nor in a later opening, nor where
//!   no doubt is left that it could end: doubts begin with an opening. Nor does the question count.
//! * Nor does in a later opening what a leader says of a read.
//!
//! With some mistakes this does not hold: then nothing is forgotten
//! ([`Bug::revives_ballots`](crate::bugs::Bug::revives_ballots)).

use indelible::paxos::Paxos;
use indelible::paxos::step::RoleName;
use indelible::types::ids::{Ballot, ReplicaId, Slot};
use indelible::types::message::{Accepted, Message};

use crate::replica::{Letter, Replica};
use crate::settings::{REPLICAS, Settings};

/// What staleness depends on, of one replica.
#[derive(Clone, Copy, Debug)]
pub struct Standing {
    durable: Ballot,
    /// The ballot at which it campaigns or leads.
    own: Option<Ballot>,
    leads: bool,
    /// Whether it asks for promises while it leads.
    changes: bool,
    slot_chosen: Slot,
    openings: u64,
    /// The first slot behind all that is in doubt.
    doubts_end: Slot,
    /// What votes must tell beyond to count.
    knows_durable: [Slot; REPLICAS],
}

impl Standing {
    /// Where `replica` stands.
    #[must_use]
    pub fn of(replica: &Replica, settings: &Settings) -> Self {
        let view = replica.core.as_ref().map(|core| core.view());
        Self {
            durable: replica.journal.promised,
            // Who campaigns or leads has promised nothing higher.
            own: view.filter(|view| view.role != RoleName::Follower).map(|view| view.promised),
            leads: view.is_some_and(|view| view.role == RoleName::Leader),
            changes: replica.core.as_ref().is_some_and(|core| core.changing_to().is_some()),
            slot_chosen: replica.slot_chosen(),
            openings: replica.openings(),
            doubts_end: replica.core.as_ref().map_or(Slot::ZERO, doubts_end),
            knows_durable: replica.knows_durable(settings),
        }
    }

    /// The same, where no letter is stale because of an opening.
    #[must_use]
    pub fn of_any_opening(self) -> Self {
        Self { openings: 0, doubts_end: Slot(u64::MAX), ..self }
    }

    fn is_past(&self, ballot: Ballot) -> bool {
        self.durable >= ballot && self.own != Some(ballot)
    }

    fn leads_at(&self, ballot: Ballot) -> bool {
        self.leads && self.own == Some(ballot)
    }

    fn is_past_vote(&self, accepted: &Accepted) -> bool {
        let learned = accepted.slots.end <= self.slot_chosen;
        self.is_past(accepted.ballot) || self.leads_at(accepted.ballot) && learned
    }

    fn is_news(&self, from: ReplicaId, accepted: &Accepted) -> bool {
        self.knows_durable[from.0 as usize - 1] < accepted.slot_durable
    }
}

/// Whether `letter` can change nothing any more.
#[must_use]
pub fn is_stale(letter: &Letter, sender: &Standing, receiver: &Standing) -> bool {
    let refused = |ballot| receiver.durable > ballot && sender.is_past(ballot);
    match &letter.message {
        Message::Prepare { ballot, .. } | Message::Confirm { ballot, .. } => refused(*ballot),
        Message::Accept(accept) => refused(accept.ballot),
        Message::Promise(promise) => {
            let leads = receiver.leads_at(promise.ballot) && !receiver.changes;
            receiver.is_past(promise.ballot) || leads
        }
        Message::Accepted(accepted) => {
            receiver.is_past_vote(accepted) && !receiver.is_news(letter.from, accepted)
        }
        Message::Unsure { boot, .. } => boot.sequence < sender.openings,
        Message::Settled { ballot, boot, from } => {
            let too_late = boot.sequence < receiver.openings || receiver.durable > *ballot;
            too_late || receiver.doubts_end <= *from
        }
        Message::BarrierAt { boot, .. } => boot.sequence < receiver.openings,
        Message::Reject { ballot, .. } | Message::Confirmed { ballot, .. } => {
            receiver.is_past(*ballot)
        }
        _ => false,
    }
}

/// Whether nothing of `letter` counts any more but what a vote tells of its voter's journal, and
/// its receiver listens.
#[must_use]
pub fn only_tells(letter: &Letter, receiver: &Standing) -> bool {
    let Message::Accepted(accepted) = &letter.message else { return false };
    receiver.leads && receiver.is_past_vote(accepted) && receiver.is_news(letter.from, accepted)
}

fn doubts_end(core: &Paxos) -> Slot {
    let doubts = core.doubts();
    doubts.faulty.end().max(doubts.uncertain.end()).unwrap_or_default()
}
