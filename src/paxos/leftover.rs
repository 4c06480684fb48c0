//! What a leader that was replaced leaves behind: votes in slots that its successor never heard of.
//!
//! ```text
//!   slot        7          8          9
//!   1 (3.1)     chosen     "a"        "b"       proposed, voted for by itself, heard by nobody
//!   2 (4.2)     chosen                          leads; phase 1 did not ask 1; nobody proposes
//!
//!   1                     2
//!     |  Fill(until=10)     |
//!     |-------------------->|   proposes no-ops in 8 and 9, at 4.2
//!     |  Accept(8, 9)       |
//!     |<--------------------|   1 votes, learns that no-ops are chosen, and takes its own back
//! ```
//!
//! Whoever waits for "a" and "b" waits until something else is chosen there, and while the new
//! leader has nothing to propose, that would be for ever. So a follower that holds votes below the
//! ballot of the leader that it hears, in slots behind everything that it voted for at that
//! ballot, asks that leader to fill them.
//!
//! A leader may propose whatever it likes in its next slot, and a no-op is never wrong there. So
//! nothing has to be believed of the question: it is worth a few slots, and no safety depends on
//! it. Nor is there another answer that ends those proposals. It is true that nothing at a ballot
//! below the leader's can be chosen there any more; but the votes are still told in phase 1, and
//! the next leader may propose them anew, at its own ballot. Transactions that had been taken back
//! on the strength of that answer would then happen twice. They did not happen for certain only
//! when another entry is chosen in their slot.
//!
//! It need not be its own leadership that a vote is left of: what a follower asks for may be what
//! somebody else waits for, who cannot ask (its no-op was voted for and never chosen).
//!
//! Invariants:
//! * The last vote tells: a leader proposes without gaps, so where that one is at its ballot, it
//!   has proposed in all slots below, and goes on until they are chosen.
//! * Fills are proposed only where an entry of a caller could be: alpha and the local limits hold.

use crate::types::entry::Entry;
use crate::types::ids::{Ballot, Slot};
use crate::types::message::Message;

use super::{Paxos, Role};

impl Paxos {
    /// Asks the leader of `ballot`, which was just heard, to end what is left of earlier ballots.
    /// It is given time to come to these slots by itself first.
    pub(super) fn ask_to_fill(&mut self, ballot: Ballot) {
        let left = self.log.last().filter(|(_, (voted, _))| *voted < ballot);
        let follows = matches!(self.role, Role::Follower) && self.promised <= ballot;
        let Some((slot, _)) = left.filter(|_| follows) else {
            self.leftover = None;
            return;
        };
        let until = slot.next();
        let interval = self.options.retransmit_interval;
        match self.leftover {
            Some((at, heard)) if heard == ballot => {
                if self.now.since(at) >= interval {
                    self.leftover = Some((self.now, ballot));
                    self.send(ballot.leader, Message::Fill { until });
                }
            }
            _ => self.leftover = Some((self.now, ballot)),
        }
    }

    /// A voter holds votes of earlier ballots below `until`.
    pub(super) fn on_fill(&mut self, until: Slot) {
        // Where no vote can be, nobody holds one.
        if until > self.vote_limit() {
            return;
        }
        while self.has_room() && self.next_slot() < until {
            self.propose(Entry::no_op());
        }
    }
}
