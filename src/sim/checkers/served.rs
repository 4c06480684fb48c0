//! **D5, service**: what a replica gives to others is what was written: an entry that it calls
//! chosen is the chosen one, and a vote that it tells is for what was voted for at that ballot.
//!
//! Media rot under replicas that run. Whatever they read and pass on unchecked shows here.

use crate::sim::witness::Witness;
use crate::types::ids::{ReplicaId, Slot};
use crate::types::message::Message;

use super::{Violation, ensure};

/// Judges a message that leaves.
///
/// # Errors
///
/// Where it tells of another entry than there is.
pub fn check(from: ReplicaId, message: &Message, witness: &Witness) -> Result<(), Violation> {
    match message {
        Message::Chosen(chosen) => {
            for (slot, entry) in (chosen.first_slot.0..).map(Slot).zip(&chosen.entries) {
                let right = witness.chosen(slot) == Some(entry.hash());
                let event = || format!("{from} sends as chosen what is not chosen in slot {slot}");
                ensure(right || chosen.slot_chosen <= slot, "D5", event)?;
            }
            Ok(())
        }
        Message::Promise(promise) => {
            for vote in &promise.votes {
                let voted = witness.voted(vote.slot, vote.ballot);
                let event = || {
                    let (slot, ballot) = (vote.slot, vote.ballot);
                    format!("{from} tells another vote in slot {slot} at {ballot} than was cast")
                };
                ensure(voted == Some(vote.entry.hash()), "D5", event)?;
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use crate::sim::durable::{Group, Seen};
    use crate::types::entry::{Entry, EntryBuilder};
    use crate::types::ids::{Ballot, Chain, Lsn};
    use crate::types::message::Chosen;
    use crate::types::time::Time;

    use super::*;

    #[test]
    fn what_is_read_wrong_is_seen_when_it_is_sent() {
        let ballot = Ballot { round: 1, leader: ReplicaId(1) };
        let entry = Entry::no_op();
        let frames = vec![
            Seen::Promise { ballot },
            Seen::Vote { slot: Slot(1), ballot, content: entry.hash() },
        ];
        let mut witness = Witness::of(&[ReplicaId(1)]);
        let group = Group { first: Lsn(0), end: Lsn(2), slot_chosen: Slot(0), frames };
        witness.on_durable(ReplicaId(1), group).unwrap();
        let send = |entry| {
            let (first_slot, slot_chosen, chain) = (Slot(1), Slot(2), Chain::EMPTY);
            let chosen = Chosen { first_slot, entries: vec![entry], slot_chosen, chain };
            check(ReplicaId(1), &Message::Chosen(chosen), &witness)
        };
        send(entry).unwrap();
        let mut other = EntryBuilder::new(Time(1), 100);
        other.push(b"a command");
        let other = other.finish();
        assert_eq!(send(other).unwrap_err().invariant, "D5");
    }
}
