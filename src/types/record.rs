//! What a replica must not forget, and the token that proves that it will not.
//!
//! The protocol core returns records together with the messages that may leave only once the
//! records are durable. Such a message is [`Held`]: nobody can look into it, and the only way to
//! get it out is a [`DurableFrontier`], which only the journal makes, after a sync succeeded.

use serde::{Deserialize, Serialize};

use super::entry::Entry;
use super::ids::{Ballot, Boot, Chain, Incarnation, Lsn, ReplicaId, Slot, SlotRange, TxId};
use super::message::{Envelope, Message};
use super::slots::SlotSet;

/// A fact that must be durable.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Record {
    /// This replica votes for nothing below the ballot any more.
    Promise {
        /// What was promised.
        ballot: Ballot,
    },
    /// This replica voted.
    Vote {
        /// Where.
        slot: Slot,
        /// At which ballot.
        ballot: Ballot,
        /// For what.
        entry: Entry,
    },
    /// This replica was told by a peer that the entry is chosen.
    Chosen {
        /// Where.
        slot: Slot,
        /// What.
        entry: Entry,
    },
    /// How the commands of applied entries ended. Written lazily: nothing waits for it, and it can
    /// be computed anew by applying the log.
    Verdicts(Verdicts),
    /// What this replica cannot tell of itself. Replaces every earlier one.
    Doubts(Doubts),
    /// What this replica saw of its peers' directories. Replaces every earlier one.
    Sightings(Vec<Sighting>),
}

/// What a replica cannot tell of its own promises and votes, since its journal was damaged.
///
/// A doubt outlives crashes, and repairing one slot leaves the doubts about its neighbours. About a
/// slot it ends when this replica votes there again, durably, at a ballot not below its promise;
/// when it learns what was chosen there; or when a leader tells that nothing that was voted for
/// there before can be chosen. (Alagappan et al., *Protocol-Aware Recovery for Consensus-Based
/// Storage*, FAST'18.)
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Doubts {
    /// It promised something that is lost: it votes in neither phase any more.
    pub promise_lost: bool,
    /// FAULTY: votes in these slots were durable, and may be lost.
    pub faulty: SlotSet,
    /// UNCERTAIN: votes in these slots are lost if they ever were durable.
    pub uncertain: SlotSet,
}

impl Doubts {
    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        !self.promise_lost && self.faulty.is_empty() && self.uncertain.is_empty()
    }

    /// Whether this replica cannot tell what it voted for in `slot`.
    #[must_use]
    pub fn contains(&self, slot: Slot) -> bool {
        self.faulty.contains(slot) || self.uncertain.contains(slot)
    }

    /// No doubt is left about `slots`.
    pub fn settle(&mut self, slots: SlotRange) {
        self.faulty.remove(slots);
        self.uncertain.remove(slots);
    }
}

/// What this replica saw of a peer's directory: the measure by which it notices that the directory
/// was set back to an earlier state, or copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Sighting {
    /// The peer.
    pub replica: ReplicaId,
    /// Its directory.
    pub incarnation: Incarnation,
    /// The newest opening of it that was let in.
    pub boot: Boot,
    /// The latest that it said to be durable.
    pub frontier: Lsn,
    /// Another opening came with the count of one that was seen: there are two copies, and none of
    /// them is talked to any more.
    pub fenced: bool,
}

/// How the commands in a run of applied slots ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Verdicts {
    /// The slots.
    pub slots: SlotRange,
    /// The id before the first one that was taken in these slots.
    pub after: TxId,
    /// One bit for each command of these slots, in order, lowest bit first: whether it took an id.
    #[serde(with = "serde_bytes")]
    pub took_id: Vec<u8>,
}

/// Proof that everything up to a position of this replica's journal is durable.
///
/// Only `journal/` constructs one (`tests/tidy.rs` checks), and only after every sync up to that
/// position succeeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DurableFrontier(Lsn);

impl DurableFrontier {
    /// Everything up to `lsn`, this frame included, is durable. For the journal only.
    #[must_use]
    pub fn mint(lsn: Lsn) -> Self {
        Self(lsn)
    }

    /// The position: the last durable frame.
    #[must_use]
    pub fn lsn(self) -> Lsn {
        self.0
    }
}

/// A message that may leave only once everything journaled before it is durable.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Held {
    to: ReplicaId,
    message: Message,
}

impl Held {
    /// A message that waits for the records returned with it, and for all before them.
    #[must_use]
    pub fn new(to: ReplicaId, message: Message) -> Self {
        Self { to, message }
    }

    /// To whom it goes.
    #[must_use]
    pub fn to(&self) -> ReplicaId {
        self.to
    }

    /// One, and one more for each vote that it tells.
    #[must_use]
    pub fn weight(&self) -> usize {
        match &self.message {
            Message::Promise(promise) => 1 + promise.votes.len(),
            _ => 1,
        }
    }

    /// The records that it waits for tell that every slot below is chosen.
    pub fn tell_durable(&mut self, slot: Slot) {
        if let Message::Accepted(accepted) = &mut self.message {
            accepted.slot_durable = slot;
        }
    }

    /// The message, stamped with how far the journal is durable.
    #[must_use]
    pub fn release(self, frontier: DurableFrontier) -> Envelope {
        let Self { to, mut message } = self;
        message.tell_frontier(frontier.lsn());
        Envelope { to, message }
    }
}

/// What a journal knew when it was opened, as the protocol core needs it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// The highest ballot promised.
    pub promised: Ballot,
    /// The first slot not known to be chosen.
    pub slot_chosen: Slot,
    /// Below this slot the state is in a checkpoint; slot 0 where there is none.
    pub slot_checkpointed: Slot,
    /// The ledger chain below `slot_chosen`; from a journal, that below `slot_checkpointed`.
    pub chain: Chain,
    /// The newest vote for each slot from `slot_chosen` on, in order of slots.
    pub votes: Vec<(Slot, Ballot, Entry)>,
    /// Entries from `slot_chosen` on that a peer told, in slots that are in doubt: what is known to
    /// be chosen says how far a doubt is one, so these wait until it has come so far.
    pub told: Vec<(Slot, Entry)>,
    /// Slots below `slot_chosen` whose entries are lost, and must be fetched from a peer before the
    /// state can be built.
    pub missing: SlotSet,
    /// The same below `slot_checkpointed`: the state is whole without them, the history is not.
    pub unreadable: SlotSet,
    /// What is in doubt from `slot_chosen` on. A vote in `votes` for such a slot is only the newest
    /// one that is left.
    pub doubts: Doubts,
    /// What was seen of the peers' directories.
    pub sightings: Vec<Sighting>,
}
