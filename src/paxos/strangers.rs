//! What is said to and heard from those who do not belong, as far as this replica knows.
//!
//! One of the two does not know of a change: a replica that joins and is no member yet, one that
//! was removed and does not know it, or one that slept while all those left whom it knew. They have
//! the log in common, and nothing else: who knows less of it learns, and then knows who belongs.
//!
//! ```text
//!   knows less                      knows more
//!     |  Heartbeat, Prepare            |
//!     |------------------------------->|
//!     |  Heartbeat(slot_chosen)        |
//!     |<-------------------------------|
//!     |  Fetch                         |
//!     |------------------------------->|
//!     |  Chosen                        |
//!     |<-------------------------------|
//! ```
//!
//! Invariants:
//! * A stranger neither counts in a quorum nor leads, and its ballots are not noted.
//! * Who knows that it was removed learns nothing further but whether it is missed (`leaving`), and
//!   calls everyone a stranger.
//! * An answer goes to who knows less only; so two strangers never answer each other for ever.

use crate::types::ids::{Lsn, ReplicaId, Slot};
use crate::types::marks::reached;
use crate::types::message::{Heartbeat, Message};

use super::{Paxos, Role};

impl Paxos {
    /// A replica of this cluster that the present membership does not name says something; or
    /// anybody, where that membership does not name this one any more.
    pub(super) fn on_stranger(&mut self, from: ReplicaId, message: Message) {
        match message {
            Message::Heartbeat(heartbeat)
                if self.slot_chosen < heartbeat.slot_chosen && !self.is_removed() =>
            {
                self.learn_from_peer(from, heartbeat.slot_chosen);
            }
            Message::Heartbeat(Heartbeat { slot_chosen: known, .. })
            | Message::Prepare { from: known, .. } => self.answer_stranger(from, known),
            Message::Fetch { from: first } => self.on_fetch(from, first),
            Message::Leaving { slot } => self.on_leaving(from, slot),
            Message::Dismissed { incarnation, slot } if self.is_incarnation(from, incarnation) => {
                self.on_dismissed(from, slot);
            }
            Message::Chosen(chosen) if !self.is_removed() => self.on_chosen(from, chosen),
            _ => {}
        }
    }

    /// Tells a stranger how far the log goes, if it knows less.
    fn answer_stranger(&mut self, to: ReplicaId, known: Slot) {
        if self.slot_chosen <= known {
            return;
        }
        reached!(StrangerTold);
        let heartbeat = Heartbeat {
            incarnation: self.options.incarnation,
            boot: self.options.boot,
            ballot: self.own_ballot().unwrap_or(self.election.leader_ballot()),
            leads: matches!(self.role, Role::Leader(_)),
            hears_leader: self.election.leader(self.now).is_some(),
            priority: self.options.priority,
            knows: self.options.knows,
            promised: self.promised,
            slot_chosen: self.slot_chosen,
            chain: self.chain,
            frontier: Lsn::ZERO,
            sent: 0,
            echo: None,
        };
        self.send(to, Message::Heartbeat(heartbeat));
    }
}
