//! A leader lets a peer lead that is preferred to it: one of a higher priority.
//!
//! ```text
//!   preferred peer   |-- could lead, without a break --| campaigns | leads
//!   this leader      |---- ten election timeouts ------| TakeOver  | follows
//! ```
//!
//! Each replica has a priority, a setting of its own, and tells it in its heartbeats. Who can take
//! over is for the protocol core to say (`paxos/handover.rs`); here it is decided when. A change of
//! the leader disturbs everyone, so a peer must have been fit to lead for long; and one that fails,
//! or that leads and falls again, is asked less and less.
//!
//! Invariants:
//! * Hand-overs go upwards only: no two replicas let each other lead in turns.
//! * Between two of them lie at least [`WAIT_TIMEOUTS`] election timeouts in which the same peer
//!   could have led at any time.
//! * The wait doubles with each hand-over to the same peer, until that one has led for as long as
//!   the shortest wait; up to eight times.

use std::time::Duration;

use crate::journal::disk::Disk;
use crate::paxos::Paxos;
use crate::types::ids::ReplicaId;
use crate::types::marks::reached;
use crate::types::time::Moment;

use super::driver::{Driver, Stage};
use super::events;

/// How many election timeouts a preferred peer must have been fit to lead.
const WAIT_TIMEOUTS: u32 = 10;

/// How often that doubles.
const DOUBLINGS_MAX: u32 = 3;

/// Who is preferred, and what came of it so far.
#[derive(Debug)]
pub(super) struct Priorities {
    election_timeout: Duration,
    looked_at: Moment,
    /// Whom this leader would rather have lead, and since when without a break.
    preferred: Option<(ReplicaId, Moment)>,
    /// To whom it handed over last, and how often in a row.
    tried: Option<(ReplicaId, u32)>,
    /// Since when that one is heard to lead.
    leads_since: Option<Moment>,
}

impl Priorities {
    pub(super) fn new(election_timeout: Duration, now: Moment) -> Self {
        Self { election_timeout, looked_at: now, preferred: None, tried: None, leads_since: None }
    }

    /// Takes in who leads now, as far as is known, and who is preferred, where this replica leads
    /// and might hand over. Returns to whom it is to hand over now.
    fn look(
        &mut self,
        now: Moment,
        leader: Option<ReplicaId>,
        preferred: Option<ReplicaId>,
    ) -> Option<ReplicaId> {
        // Who did not look for a while does not know what was meanwhile.
        let paused = now.since(self.looked_at) >= self.election_timeout / 2;
        self.looked_at = now;
        self.note_leader(now, leader.filter(|_| !paused));
        let unbroken = self.preferred.filter(|(peer, _)| Some(*peer) == preferred && !paused);
        self.preferred = preferred.map(|peer| unbroken.unwrap_or((peer, now)));
        let to = preferred.filter(|_| self.due_at().is_some_and(|due| due <= now))?;
        let tries = self.tries(to);
        if tries > 0 {
            reached!(PreferredAskedAgain);
        }
        self.preferred = None;
        self.tried = Some((to, tries + 1));
        Some(to)
    }

    /// A peer that leads for long has not failed.
    fn note_leader(&mut self, now: Moment, leader: Option<ReplicaId>) {
        let leads = self.tried.is_some_and(|(peer, _)| Some(peer) == leader);
        self.leads_since = leads.then(|| self.leads_since.unwrap_or(now));
        let wait = self.election_timeout * WAIT_TIMEOUTS;
        if self.leads_since.is_some_and(|since| now.since(since) >= wait) {
            (self.tried, self.leads_since) = (None, None);
        }
    }

    /// When this leader hands over, if the preferred peer is fit to lead until then.
    pub(super) fn due_at(&self) -> Option<Moment> {
        let (peer, since) = self.preferred?;
        let wait = WAIT_TIMEOUTS << self.tries(peer).min(DOUBLINGS_MAX);
        Some(since + self.election_timeout * wait)
    }

    /// How often this replica handed over to `peer`, and it did not lead for long.
    fn tries(&self, peer: ReplicaId) -> u32 {
        self.tried.filter(|(tried, _)| *tried == peer).map_or(0, |(_, tries)| tries)
    }
}

impl<D: Disk> Driver<D> {
    /// Hands over to the peer that is preferred to this leader, when it is time.
    pub(super) fn hand_over_to_preferred(&mut self) {
        let free = matches!(self.stage, Stage::Serving) && self.handing_over().is_none();
        let leader = self.view().and_then(|view| view.leader).map(|ballot| ballot.leader);
        let paxos = self.paxos.as_ref().filter(|paxos| free && paxos.is_ready());
        let preferred = paxos.and_then(Paxos::preferred);
        if let Some(to) = self.priorities.look(self.now, leader, preferred)
            && self.hand_over(to, false)
        {
            reached!(PreferredAsked);
            events::preferred(self.options.id, to);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(1);
    const OWN: ReplicaId = ReplicaId(1);
    const PEER: ReplicaId = ReplicaId(2);
    const OTHER: ReplicaId = ReplicaId(3);

    /// Time passes in steps of a tenth of a timeout.
    struct Watch {
        priorities: Priorities,
        now: Moment,
    }

    impl Watch {
        fn new() -> Self {
            Self { priorities: Priorities::new(TIMEOUT, Moment::ZERO), now: Moment::ZERO }
        }

        /// So many timeouts pass. Returns after how many of them, in tenths, it handed over first.
        fn pass(
            &mut self,
            timeouts: u32,
            leader: Option<ReplicaId>,
            preferred: Option<ReplicaId>,
        ) -> Option<u32> {
            let mut first = None;
            for tenths in 1..=timeouts * 10 {
                self.now = self.now + TIMEOUT / 10;
                let to = self.priorities.look(self.now, leader, preferred);
                if to.is_some() {
                    assert_eq!(to, preferred);
                    first = first.or(Some(tenths));
                    break;
                }
            }
            first
        }

        /// It hands over in vain, and leads on.
        fn fail(&mut self, preferred: ReplicaId) -> Option<u32> {
            let after = self.pass(1000, Some(OWN), Some(preferred));
            assert_eq!(self.pass(1, Some(OWN), None), None, "it hands over");
            after
        }
    }

    #[test]
    fn who_fails_is_asked_less_and_less() {
        let mut watch = Watch::new();
        let waits = [(); 6].map(|()| watch.fail(PEER).unwrap());
        assert_eq!(waits, [101, 201, 401, 801, 801, 801], "the first look counts from there");
        assert_eq!(watch.fail(OTHER), Some(101), "another one has not failed");
    }

    #[test]
    fn a_break_begins_anew() {
        let mut watch = Watch::new();
        assert_eq!(watch.pass(9, Some(OWN), Some(PEER)), None);
        assert_eq!(watch.pass(1, Some(OWN), None), None);
        assert_eq!(watch.pass(10, Some(OWN), Some(PEER)), None);
        assert_eq!(watch.pass(1, Some(OWN), Some(OTHER)), None, "another one is preferred");
        assert_eq!(watch.pass(10, Some(OWN), Some(PEER)), None);
        // A process that stood still does not know what was.
        watch.now = watch.now + TIMEOUT;
        assert_eq!(watch.pass(20, Some(OWN), Some(PEER)), Some(101));
    }

    #[test]
    fn who_leads_for_long_has_not_failed() {
        let mut watch = Watch::new();
        assert_eq!(watch.fail(PEER), Some(101));
        // It comes to lead, and falls again.
        assert_eq!(watch.pass(9, Some(PEER), None), None);
        assert_eq!(watch.fail(PEER), Some(201));
        assert_eq!(watch.pass(5, Some(PEER), None), None);
        assert_eq!(watch.pass(1, None, None), None, "nobody is heard");
        assert_eq!(watch.pass(9, Some(PEER), None), None);
        assert_eq!(watch.fail(PEER), Some(401));
        assert_eq!(watch.pass(11, Some(PEER), None), None);
        assert_eq!(watch.fail(PEER), Some(101));
    }

    #[test]
    fn it_is_known_when() {
        let mut watch = Watch::new();
        assert_eq!(watch.priorities.due_at(), None);
        assert_eq!(watch.pass(1, Some(OWN), Some(PEER)), None);
        assert_eq!(watch.priorities.due_at(), Some(Moment::ZERO + TIMEOUT / 10 + TIMEOUT * 10));
    }
}
