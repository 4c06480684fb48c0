//! Everything that one replica says to another.
//!
//! ```text
//! who leads         all       -> all        Heartbeat
//! phase 1           candidate -> voters     Prepare
//!                   voter     -> candidate  Promise (in parts), or Reject
//! phase 2           leader    -> voters     Accept
//!                   voter     -> leader     Accepted, or Reject
//! catching up       anyone    -> anyone     Fetch
//!                   anyone    -> anyone     Chosen, Trimmed or Lost
//!                   anyone    -> anyone     FetchCheckpoint
//!                   anyone    -> anyone     CheckpointPart
//! reading           leader    -> voters     Confirm
//!                   voter     -> leader     Confirmed, or Reject
//!                   follower  -> leader     Barrier
//!                   leader    -> follower   BarrierAt
//! writing           follower  -> leader     Forward
//!                   anyone    -> follower   Bounced
//! repair            voter     -> leader     Unsure
//!                   leader    -> voter      Settled
//! leftovers         voter     -> leader     Fill
//! handing over      leader    -> successor  TakeOver
//! leases            leader    -> voters     Renew
//!                   voter     -> leader     Granted
//! leaving           removed   -> voters     Leaving
//!                   voter     -> removed    Dismissed
//! formation         blank     -> all        Introduce
//!                   anyone    -> blank      Agreed
//! ```
//!
//! Every message may be lost, delayed, duplicated and reordered, also across restarts of both ends.
//! The transport vouches for who sent it and that its bytes are whole; what it says is the world's,
//! and is checked. Append only: a variant's place is its number on the wire.

use serde::{Deserialize, Serialize};

use super::edition::Edition;
use super::entry::Entry;
use super::ids::{Ballot, Boot, Chain, Incarnation, Lsn, ReplicaId, RequestId, Slot, SlotRange};
use super::membership::Membership;

/// A message and the replica it goes to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Envelope {
    /// The receiver. A replica also sends to itself: its own vote travels the same road.
    pub to: ReplicaId,
    /// What is said.
    pub message: Message,
}

/// What one replica says to another.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Message {
    /// I am here, this is whom I follow, and this is how far I know the log.
    Heartbeat(Heartbeat),
    /// Phase 1a: promise to vote for nothing below `ballot`, and tell what you voted for in every
    /// slot from `from` on.
    Prepare {
        /// The candidate's ballot. Its own promise is durable before this is sent.
        ballot: Ballot,
        /// The first slot that the candidate does not know to be chosen.
        from: Slot,
    },
    /// Phase 1b: promised; here is what I voted for.
    Promise(Promise),
    /// Phase 2a: vote for these entries.
    Accept(Accept),
    /// Phase 2b: voted, durably.
    Accepted(Accepted),
    /// I promised a higher ballot than yours.
    Reject {
        /// The ballot that is refused.
        ballot: Ballot,
        /// The ballot that was promised.
        promised: Ballot,
    },
    /// Send me the chosen entries from this slot on.
    Fetch {
        /// The first slot wanted.
        from: Slot,
    },
    /// Chosen entries.
    Chosen(Chosen),
    /// Do you still follow no higher ballot than mine?
    Confirm {
        /// The leader's ballot.
        ballot: Ballot,
        /// The number of the question at this ballot; never used twice.
        nonce: u64,
    },
    /// When I was asked, I had promised nothing higher.
    Confirmed {
        /// The leader's ballot.
        ballot: Ballot,
        /// Who answers.
        incarnation: Incarnation,
        /// The number of the question.
        nonce: u64,
    },
    /// Which slot must I have applied, so that a read that begins now is linearizable?
    Barrier {
        /// The asker's opening, so that an answer to an earlier life is not taken for one to this.
        boot: Boot,
        /// The asker's number for the question.
        read: u64,
    },
    /// Everything below this slot.
    BarrierAt {
        /// The asker's opening, as it was asked.
        boot: Boot,
        /// The asker's number for the question.
        read: u64,
        /// Exclusive.
        slot: Slot,
    },
    /// Propose these commands. Where no verdict comes, they are forwarded again.
    Forward(Forward),
    /// I did not propose what came with these attempts, and never will.
    Bounced {
        /// The receiver's opening, as it stood in the message that is answered.
        boot: Boot,
        /// The attempts.
        attempts: Vec<u64>,
    },
    /// I belong to no cluster yet.
    Introduce(Introduce),
    /// I agreed to this membership, durably.
    Agreed {
        /// The membership that slot 0 holds.
        membership: Membership,
        /// Whether every voter is known to have agreed.
        formed: bool,
    },
    /// I cannot tell what I voted for in slots from `from` on.
    Unsure {
        /// The sender's opening.
        boot: Boot,
        /// The first slot in doubt.
        from: Slot,
    },
    /// What you voted for at my ballot or below, from `from` on, is not chosen and never will be.
    Settled {
        /// The leader's ballot.
        ballot: Ballot,
        /// The receiver's opening, as it stood in the question.
        boot: Boot,
        /// The first slot in which nothing was proposed at `ballot`, and nothing found in phase 1.
        from: Slot,
    },
    /// I hold votes of earlier ballots in slots below `until`. Propose something there, so that
    /// whoever waits for them learns what became of them.
    Fill {
        /// Exclusive.
        until: Slot,
    },
    /// Campaign at once: I wait for you to lead.
    TakeOver(TakeOver),
    /// I have no entries below this slot any more.
    Trimmed {
        /// The first slot of which there may be one.
        first: Slot,
    },
    /// Send me some bytes of a checkpoint.
    FetchCheckpoint {
        /// Of the one of this slot; of your newest where you have that no more, or none is named.
        slot: Option<Slot>,
        /// From where in the file on; of another one, from the beginning.
        offset: u64,
    },
    /// Some bytes of a checkpoint.
    CheckpointPart(CheckpointPart),
    /// Promise nothing to anybody else for a while, so that I need not ask who leads.
    Renew {
        /// The leader's ballot.
        ballot: Ballot,
        /// The number of the question at this ballot; never used twice.
        nonce: u64,
        /// For how many milliseconds. With 0, I use nothing any more that I asked for before.
        millis: u32,
    },
    /// From when I answered on I promise nothing to anybody else.
    Granted {
        /// The leader's ballot.
        ballot: Ballot,
        /// Who answers.
        incarnation: Incarnation,
        /// The number of the question.
        nonce: u64,
        /// For how many milliseconds; at most as many as were asked for.
        millis: u32,
    },
    /// I was removed. Does your journal show, durably, that everything below this slot is chosen?
    Leaving {
        /// The first slot that is governed by a membership without the sender.
        slot: Slot,
    },
    /// It does: I do not miss you.
    Dismissed {
        /// Who answers.
        incarnation: Incarnation,
        /// The slot, as it was asked.
        slot: Slot,
    },
    /// I lost this entry, and have waited in vain for whoever may have it. A checkpoint of mine
    /// holds what it did.
    Lost {
        /// The slot, as it was asked for.
        slot: Slot,
    },
}

/// The body of [`Message::CheckpointPart`]: bytes of the sender's file, which are checked when they
/// are put together.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct CheckpointPart {
    /// Of which checkpoint of the sender's.
    pub slot: Slot,
    /// Where in the file they begin.
    pub offset: u64,
    /// How long the file is.
    pub bytes_total: u64,
    /// The bytes.
    #[serde(with = "serde_bytes")]
    pub bytes: Vec<u8>,
}

/// The body of [`Message::Heartbeat`]: sent by everyone to everyone.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Heartbeat {
    /// The sender's directory; one that the membership does not name is not listened to.
    pub incarnation: Incarnation,
    /// The sender's opening. Commands are forwarded to an opening, not to a replica, so that an
    /// old copy of the message is not taken for a new one after a restart.
    pub boot: Boot,
    /// The highest ballot that the sender knows a leader of; its own where it leads.
    pub ballot: Ballot,
    /// Whether the sender leads at `ballot`.
    pub leads: bool,
    /// Whether the sender leads, or heard the leader of `ballot` itself within its timeout.
    /// A replica campaigns only with peers who hear no leader either.
    pub hears_leader: bool,
    /// The sender's priority: a leader hands over to a replica that has more.
    pub priority: u32,
    /// The highest edition that the sender's build knows.
    pub knows: Edition,
    /// What the sender promised, so that a leader below it can take a higher ballot at once.
    pub promised: Ballot,
    /// The first slot that the sender does not know to be chosen.
    pub slot_chosen: Slot,
    /// The ledger chain below `slot_chosen`.
    pub chain: Chain,
    /// How far the sender's journal was durable when this was sent: up to the last frame of what it
    /// promised, voted for or was told. What is lost behind that is no loss.
    pub frontier: Lsn,
    /// The sender's count of heartbeats to the receiver in this boot.
    pub sent: u64,
    /// The highest `sent` that the sender had from the receiver lately, with the receiver's boot;
    /// so each end knows whether the link carries both ways.
    pub echo: Option<(Boot, u64)>,
}

/// The body of [`Message::Promise`]: one part of an answer.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Promise {
    /// The ballot that was promised, durably.
    pub ballot: Ballot,
    /// Who promised.
    pub incarnation: Incarnation,
    /// In which opening; parts of two openings are never put together.
    pub boot: Boot,
    /// The first slot asked for, as it stood in the `Prepare`.
    pub from: Slot,
    /// The place of this part, from 0.
    pub part: u32,
    /// How many parts there are.
    pub parts: u32,
    /// Slots below are chosen: they are not told here, they are fetched.
    pub slot_chosen: Slot,
    /// What was voted for, in slots from `max(from, slot_chosen)` on.
    pub votes: Vec<Vote>,
    /// Slots for which this replica cannot tell what it voted for. In none of them is the absence
    /// of a vote an answer, and a vote is only the newest that is left: "at least this".
    pub abstained: Vec<Abstention>,
    /// As in [`Heartbeat`].
    pub frontier: Lsn,
}

/// Slots for which a voter does not speak in phase 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Abstention {
    /// The slots.
    pub slots: SlotRange,
    /// Why.
    pub doubt: Doubt,
}

/// Why a voter cannot tell what it voted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Doubt {
    /// A vote that was durable may be lost.
    Faulty,
    /// A vote is lost if it ever was durable: the journal's end was torn.
    Uncertain,
}

/// A vote as phase 1 tells it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Vote {
    /// The slot.
    pub slot: Slot,
    /// The highest ballot at which the voter voted in this slot.
    pub ballot: Ballot,
    /// What it voted for.
    pub entry: Entry,
}

/// The body of [`Message::Accept`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Accept {
    /// The leader's ballot.
    pub ballot: Ballot,
    /// The slot of the first entry; the others follow without a gap.
    pub first_slot: Slot,
    /// What to vote for.
    pub entries: Vec<Entry>,
    /// The first slot that the leader does not know to be chosen.
    pub slot_chosen: Slot,
    /// The ledger chain below `slot_chosen`.
    pub chain: Chain,
}

/// The body of [`Message::Accepted`]: votes, durable where they were cast.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Accepted {
    /// The ballot *of the durable votes*, which may be below what the voter has promised since.
    pub ballot: Ballot,
    /// Who voted.
    pub incarnation: Incarnation,
    /// Where it voted.
    pub slots: SlotRange,
    /// As in [`Heartbeat`].
    pub frontier: Lsn,
    /// Every slot below is known to be chosen from records that are as durable as these votes.
    pub slot_durable: Slot,
}

/// The body of [`Message::Chosen`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Chosen {
    /// The slot of the first entry; the others follow without a gap.
    pub first_slot: Slot,
    /// What was chosen.
    pub entries: Vec<Entry>,
    /// The first slot that the sender does not know to be chosen.
    pub slot_chosen: Slot,
    /// The ledger chain below `slot_chosen`, to compare. Empty where the sender lacks some of it.
    pub chain: Chain,
}

/// The body of [`Message::Forward`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Forward {
    /// The sender's directory: another one, under the same id, counts its openings anew.
    pub incarnation: Incarnation,
    /// The sender's opening, to be sent back when the commands bounce.
    pub boot: Boot,
    /// The receiver's opening; a receiver that was opened anew since drops the message.
    pub receiver: Boot,
    /// The number of the attempt to have the first command proposed; the others follow. An opening
    /// uses no number twice, whatever command it is for.
    pub attempt: u64,
    /// The commands.
    pub commands: Vec<EncodedCommand>,
}

/// A command with its identity beside it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct EncodedCommand {
    /// The identity, equal to the one within the bytes.
    pub request: RequestId,
    /// The encoded [`Command`](super::command::Command).
    #[serde(with = "serde_bytes")]
    pub bytes: Vec<u8>,
}

/// The body of [`Message::Introduce`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Introduce {
    /// The sender's directory.
    pub incarnation: Incarnation,
    /// Where the sender is to be reached, as its own settings say.
    pub address: String,
    /// The voters that the sender was told of, itself included, in increasing order.
    pub voters: Vec<ReplicaId>,
    /// Where each of them is to be reached, as the sender was told.
    pub addresses: Vec<String>,
    /// How many promises are to complete phase 1, as the sender was told.
    pub phase1: u32,
    /// How many votes are to choose.
    pub phase2: u32,
}

/// The body of [`Message::TakeOver`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TakeOver {
    /// The leader's ballot.
    pub ballot: Ballot,
    /// The leader's count of heartbeats to the receiver, so that an old copy can be told.
    pub sent: u64,
    /// Whether the leader's disk hangs: its own promise would come late, and does not count.
    pub stalled: bool,
    /// The first slot that the leader does not know to be chosen.
    pub slot_chosen: Slot,
    /// The ledger chain below `slot_chosen`.
    pub chain: Chain,
}

impl Message {
    /// How far its sender's journal is durable, at least, where it tells that.
    #[must_use]
    pub fn frontier(&self) -> Option<Lsn> {
        match self {
            Self::Heartbeat(it) => Some(it.frontier),
            Self::Promise(it) => Some(it.frontier),
            Self::Accepted(it) => Some(it.frontier),
            _ => None,
        }
    }

    /// Tells so, where it tells that.
    pub fn tell_frontier(&mut self, frontier: Lsn) {
        match self {
            Self::Heartbeat(it) => it.frontier = frontier,
            Self::Promise(it) => it.frontier = frontier,
            Self::Accepted(it) => it.frontier = frontier,
            _ => {}
        }
    }

    /// The name of the variant, for logs and traces.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Heartbeat(_) => "Heartbeat",
            Self::Prepare { .. } => "Prepare",
            Self::Promise(_) => "Promise",
            Self::Accept(_) => "Accept",
            Self::Accepted(_) => "Accepted",
            Self::Reject { .. } => "Reject",
            Self::Fetch { .. } => "Fetch",
            Self::Chosen(_) => "Chosen",
            Self::Confirm { .. } => "Confirm",
            Self::Confirmed { .. } => "Confirmed",
            Self::Barrier { .. } => "Barrier",
            Self::BarrierAt { .. } => "BarrierAt",
            Self::Forward(_) => "Forward",
            Self::Bounced { .. } => "Bounced",
            Self::Introduce(_) => "Introduce",
            Self::Agreed { .. } => "Agreed",
            Self::Unsure { .. } => "Unsure",
            Self::Settled { .. } => "Settled",
            Self::Fill { .. } => "Fill",
            Self::TakeOver(_) => "TakeOver",
            Self::Trimmed { .. } => "Trimmed",
            Self::FetchCheckpoint { .. } => "FetchCheckpoint",
            Self::CheckpointPart(_) => "CheckpointPart",
            Self::Renew { .. } => "Renew",
            Self::Granted { .. } => "Granted",
            Self::Leaving { .. } => "Leaving",
            Self::Dismissed { .. } => "Dismissed",
            Self::Lost { .. } => "Lost",
        }
    }
}
