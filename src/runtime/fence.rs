//! What this replica remembers of its peers' directories, and what it is told of its own.
//!
//! The gate decides at hello whom to talk to, by what was seen of a directory before. Here that
//! memory becomes durable: as a record in the journal, which replaces every earlier one.
//!
//! ```text
//!   hello of a new opening -> gate -> Met -> record -> sync -> its promises and votes count
//! ```
//!
//! * **Openings** are remembered before anything counts. So who was set back to before an opening
//!   in which it promised or voted, and was counted here, is refused here whatever was restarted
//!   since. It costs one sync for each opening of each peer; what is not counted meanwhile is sent
//!   again.
//! * **Frontiers** are remembered lazily, with what is written anyway, and where the journal goes
//!   idle: as of a second ago at most while records are written. What only heartbeats say (those of
//!   a leader) brings no write: it is written with the next that is, and forgotten where this
//!   replica is restarted before. They show who was set back within an opening.
//!
//! What a peer says of this replica: that it remembers a later state of its directory. Then what
//! was promised since is lost, and this replica takes part in neither phase any more
//! (`paxos/doubts`).
//!
//! Invariants:
//! * A promise, a vote, a confirmation or a lease counts only if the opening that the gate let in
//!   last is remembered durably, and the directory is not fenced. That of a stranger never counts.
//! * What is remembered of an opening never goes back.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::journal::disk::Disk;
use crate::paxos::step::Input;
use crate::transport::Arrival;
use crate::types::error::Result;
use crate::types::ids::{Boot, Lsn, ReplicaId};
use crate::types::message::Message;
use crate::types::record::{Record, Sighting};
use crate::types::time::Moment;

use super::driver::Driver;

/// How long a later frontier may wait to be written with something else.
const LAZINESS: Duration = Duration::from_secs(1);

/// What is remembered.
#[derive(Debug, Default)]
pub(super) struct Fence {
    peers: BTreeMap<ReplicaId, Peer>,
    /// Whether a promise or a vote told of a later frontier than was written down.
    is_stale: bool,
    /// Whether something else told of one.
    is_heard: bool,
    written_at: Moment,
    /// Where what this replica promised, voted for or was told ends in its journal, as far as that
    /// was not seen to be durable; and where that ended which was.
    bound: VecDeque<Lsn>,
    bound_durably: Lsn,
    /// Who remembers a later state of this replica's own directory.
    told_by: Option<ReplicaId>,
}

#[derive(Debug)]
struct Peer {
    sighting: Sighting,
    /// Where its opening is written down; `None` while it is not.
    recorded: Option<Lsn>,
}

impl Fence {
    /// What the journal had of it: durable.
    pub(super) fn recover(&mut self, sightings: Vec<Sighting>) {
        let peer = |sighting| Peer { sighting, recorded: Some(Lsn::ZERO) };
        self.peers.extend(sightings.into_iter().map(|it| (it.replica, peer(it))));
    }

    /// The gate saw something new.
    pub(super) fn meet(&mut self, sighting: Sighting) {
        let is_later = |known: &Peer| {
            let Sighting { incarnation, boot, .. } = known.sighting;
            incarnation == sighting.incarnation && sighting.boot.sequence < boot.sequence
        };
        // Two that met it at once may tell so in any order.
        if self.peers.get(&sighting.replica).is_some_and(is_later) {
            return;
        }
        self.peers.insert(sighting.replica, Peer { sighting, recorded: None });
    }

    /// Of who is no member nothing is remembered.
    pub(super) fn forget_others(&mut self, is_member: impl Fn(ReplicaId) -> bool) {
        self.peers.retain(|id, _| is_member(*id));
    }

    /// Takes note of what a message from this opening says of its sender's journal, and tells
    /// whether it counts: what an earlier opening promised and voted, a later one may have lost;
    /// who was let in since may have been set back to before that.
    pub(super) fn admit(
        &mut self,
        (from, boot): (ReplicaId, Boot),
        message: &Message,
        durable: Lsn,
    ) -> bool {
        let is_binding = matches!(
            message,
            Message::Promise(_)
                | Message::Accepted(_)
                | Message::Confirmed { .. }
                | Message::Granted { .. }
        );
        let peer = self.peers.get_mut(&from).filter(|peer| peer.sighting.boot == boot);
        let Some(peer) = peer else { return !is_binding };
        if let Some(frontier) = message.frontier()
            && peer.sighting.frontier < frontier
        {
            peer.sighting.frontier = frontier;
            // Heartbeats come all the time. Were each written down, that would be news to the other
            // end, and so on.
            self.is_stale |= is_binding;
            self.is_heard |= !is_binding;
        }
        // What does not bind its sender counts from whomever it comes.
        !is_binding || !peer.sighting.fenced && peer.recorded.is_some_and(|lsn| lsn <= durable)
    }

    /// Whether an opening waits to be written down.
    fn is_new(&self) -> bool {
        self.peers.values().any(|peer| peer.recorded.is_none())
    }

    /// Whether anything waits to be written down.
    pub(super) fn is_behind(&self) -> bool {
        self.is_stale || self.is_new()
    }

    /// What is to be written down now; `idle` if nothing else is.
    pub(super) fn due(&self, now: Moment, idle: bool) -> Option<Record> {
        let is_late = now.since(self.written_at) >= LAZINESS;
        let is_due = self.is_new()
            || self.is_stale && (idle || is_late)
            || self.is_heard && !idle && is_late;
        is_due.then(|| Record::Sightings(self.sightings()))
    }

    /// It was appended, up to `lsn`.
    pub(super) fn recorded(&mut self, lsn: Lsn, now: Moment) {
        for peer in self.peers.values_mut() {
            peer.recorded = peer.recorded.or(Some(lsn));
        }
        (self.is_stale, self.is_heard) = (false, false);
        self.written_at = now;
    }

    /// This replica promised, voted or was told something, which is in the journal up to `lsn`.
    pub(super) fn bind(&mut self, lsn: Lsn) {
        if self.bound.back() != Some(&lsn) {
            self.bound.push_back(lsn);
        }
    }

    /// How far the journal is durable, as others are told. A seal behind that, or what is known
    /// lazily, may be lost with a block of the disk: that makes nobody an earlier self.
    pub(super) fn binding(&mut self, durable: Lsn) -> Lsn {
        while let Some(lsn) = self.bound.front().copied().filter(|lsn| *lsn <= durable) {
            self.bound.pop_front();
            self.bound_durably = lsn;
        }
        self.bound_durably
    }

    pub(super) fn sightings(&self) -> Vec<Sighting> {
        self.peers.values().map(|peer| peer.sighting).collect()
    }

    /// Who remembers a later state of this replica's own directory, if it was told so.
    pub(super) fn told_by(&self) -> Option<ReplicaId> {
        self.told_by
    }
}

impl<D: Disk> Driver<D> {
    /// What the transport brought: of messages, those that count.
    pub(super) fn on_arrival(&mut self, arrival: Arrival) -> Result<()> {
        match arrival {
            Arrival::Down { peer } => {
                self.requests.writes.peer_down(peer);
                self.step(Input::PeerDown(peer));
                Ok(())
            }
            Arrival::Fenced { by } => self.on_fenced(by),
            Arrival::Message { from, boot, message } => {
                let durable = self.journal.frontier().lsn();
                let counts = self.fence.admit((from, boot), &message, durable);
                let is_silent =
                    self.keeps_silent_until_whole(&message) || self.keeps_who_leaves(&message);
                if !counts || is_silent {
                    return Ok(());
                }
                self.on_message(from, message)
            }
        }
    }

    /// Openings of peers that are new are written down at once, if there is where.
    pub(super) fn record_sightings(&mut self) -> Result<()> {
        match self.paxos.is_some() && self.fence.is_new() && !self.space.is_short() {
            true => self.append_lazy(true),
            false => Ok(()),
        }
    }

    /// A peer refused this replica: it remembers a later state of its directory. What was promised
    /// and voted for and waits for its sync is not told any more. Where entries are still missing,
    /// there is no core yet that would write it down.
    pub(super) fn on_fenced(&mut self, by: ReplicaId) -> Result<()> {
        self.fence.told_by = Some(by);
        self.held.clear();
        if let Some(recovered) = &mut self.repair.opening
            && !recovered.doubts.promise_lost
        {
            recovered.doubts.promise_lost = true;
            let record = Record::Doubts(recovered.doubts.clone());
            let lsn = self.journal.append_lazy(&[record])?;
            self.fence.bind(lsn);
            self.appended_at = self.now;
        }
        self.step(Input::Fenced);
        Ok(())
    }

    /// What this replica remembers durably of a peer.
    #[must_use]
    pub fn remembers(&self, peer: ReplicaId) -> Option<Sighting> {
        let Peer { sighting, recorded } = self.fence.peers.get(&peer)?;
        recorded.filter(|lsn| *lsn <= self.journal.frontier().lsn()).map(|_| *sighting)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::edition::Edition;
    use crate::types::ids::{Ballot, Chain, Incarnation, Slot};
    use crate::types::message::Heartbeat;

    #[test]
    fn what_an_earlier_opening_said_does_not_count() {
        let boot = |sequence| Boot { sequence, ..Boot::default() };
        let (replica, incarnation) = (ReplicaId(2), Incarnation(2));
        let sighting = |sequence| {
            let (boot, frontier) = (boot(sequence), Lsn(sequence));
            Sighting { replica, incarnation, boot, frontier, fenced: false }
        };
        let said = Message::Granted { ballot: Ballot::ZERO, incarnation, nonce: 1, millis: 1 };
        let mut fence = Fence::default();
        for sequence in [5, 6] {
            fence.meet(sighting(sequence));
            assert!(!fence.admit((replica, boot(sequence)), &said, Lsn(9)), "not durably seen");
            fence.recorded(Lsn(sequence), Moment::ZERO);
            assert!(fence.admit((replica, boot(sequence)), &said, Lsn(9)));
        }
        assert!(!fence.admit((replica, boot(5)), &said, Lsn(9)));
    }

    #[test]
    fn what_a_heartbeat_tells_is_written_with_something_else() {
        let (replica, incarnation, boot) = (ReplicaId(2), Incarnation(2), Boot::default());
        let mut fence = Fence::default();
        let sighting = Sighting { replica, incarnation, boot, frontier: Lsn(3), fenced: false };
        fence.meet(sighting);
        let later = Moment::ZERO + LAZINESS;
        fence.recorded(Lsn(1), later);
        let heartbeat = Message::Heartbeat(Heartbeat {
            incarnation,
            boot,
            ballot: Ballot::ZERO,
            leads: true,
            hears_leader: true,
            priority: 0,
            knows: Edition::default(),
            promised: Ballot::ZERO,
            slot_chosen: Slot::ZERO,
            chain: Chain::EMPTY,
            frontier: Lsn(7),
            sent: 1,
            echo: None,
        });
        fence.admit((replica, boot), &heartbeat, Lsn(1));
        assert_eq!(fence.due(later, false), None, "a moment ago something was written");
        let later = later + LAZINESS;
        assert_eq!(fence.due(later, true), None, "a heartbeat brings no write");
        let told = Record::Sightings(vec![Sighting { frontier: Lsn(7), ..sighting }]);
        assert_eq!(fence.due(later, false), Some(told));
        fence.recorded(Lsn(2), later);
        assert_eq!(fence.due(later + LAZINESS, false), None, "it is written down");
    }
}
