//! Leases: for a while nobody else can be elected, and the leader answers reads by itself.
//!
//! ```text
//!   leader                              voter
//!     | Renew(ballot, nonce, length)      |
//!     |---------------------------------->| until 11/10 of the length have passed here:
//!     |     Granted(ballot, nonce)        |   no promise to anybody else, no own campaign
//!     |<----------------------------------|
//!   until 9/10 of the length have passed here since `Renew` was sent:
//!   a read takes its barrier, and no round confirms it
//! ```
//!
//! A lease is **held** while those who granted it, and the leader itself, have a voter in common
//! with every phase-1 quorum of the membership that governs `slot_chosen`. Suppose somebody
//! completes phase 1 at a higher ballot all the same. One of those who promised it had granted the
//! lease. It did not promise before: below its promise nobody grants. And while the grant lasts it
//! does not promise. So the lease was over. Hence nothing is chosen above the leader's ballot while
//! it holds the lease; and while it is ready besides, whatever is chosen is below its
//! `slot_chosen`, or nobody was told of it yet. (Compare Gray and Cheriton, *Leases*, SOSP'89;
//! Chandra et al., *Paxos Made Live*, section 5.2.)
//!
//! The membership may change meanwhile. Whoever is to choose behind a change must know it to be
//! chosen. Of one that this leader proposed, it is the first to know, and from then on the lease is
//! judged by the new voters; one that it found in phase 1 makes it unready until it is done.
//!
//! The leader's own part is no matter of time: as soon as it promises a higher ballot it leads no
//! longer. While it holds the lease it does not answer `Prepare` of others either, as any voter.
//!
//! **Time** is that of a clock that runs while the machine sleeps ([`Paxos::set_uptime`]), whose
//! rate is within a tenth of the true one. Outside of that bound a read may be stale; nothing else
//! depends on it. What was granted is forgotten in a restart; how long it was at most, the owner
//! knows durably, and the next opening lets that time pass before it takes part in an election.
//!
//! A leader that hands over or steps down **gives the lease up**: it counts nothing that it was
//! granted before, and tells so with a length of zero, so that nobody waits for the rest of it.
//!
//! Invariants:
//! * A grant counts from when the leader *sent* the question, and lasts from when the voter
//!   *answered*.
//! * Nobody grants below its promise, nor, within one opening, to two leaders at once.
//! * A lease is used only by a leader that is ready, and does not hand over.
//! * A question is numbered once at a ballot, and an older one changes nothing: a late copy neither
//!   revives a lease that was given up, nor ends one that was granted since.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::types::bugs::{self, Bug};
use crate::types::ids::{Ballot, ReplicaId};
use crate::types::marks::reached;
use crate::types::message::Message;
use crate::types::time::Moment;

use super::step::LeaseOptions;
use super::{Paxos, Role};

/// One part in so many that a clock may run too fast or too slow.
pub const DRIFT: u32 = 10;

/// So many parts of a lease pass between two questions.
pub const RENEWALS_PER_LEASE: u32 = 4;

/// Most questions whose answer may still come: those of about two leases.
const RENEWALS_MAX: usize = 8;

/// What a leader was granted.
#[derive(Clone, Debug, Default, Hash)]
pub(super) struct Lease {
    /// The number of the last question at this ballot.
    nonce: u64,
    /// The last questions, and when they were sent, as the uptime has it.
    asked: VecDeque<(u64, Moment)>,
    /// Until when each voter's grant counts.
    granted: BTreeMap<ReplicaId, Moment>,
    /// When the last question was sent, as the timers have it.
    asked_at: Option<Moment>,
}

/// What this replica granted to others.
#[derive(Clone, Debug, Hash)]
pub(super) struct Grants {
    /// What earlier openings granted ends so long after the first reading of the uptime.
    earlier: Option<Duration>,
    /// Until then nobody is promised anything, since it is not known who was granted what.
    closed_until: Moment,
    /// To whom a lease was granted last, and until when nobody else is promised anything.
    holder: Option<(ReplicaId, Moment)>,
    /// The newest question that was heard.
    newest: (Ballot, u64),
}

impl Grants {
    pub(super) fn new(options: &LeaseOptions) -> Self {
        let earlier = options.granted_before;
        let earlier = (!earlier.is_zero()).then(|| granters_time(earlier));
        Self {
            earlier: earlier.filter(|_| !bugs::is_on(Bug::LeaseForgotten)),
            closed_until: Moment::ZERO,
            holder: None,
            newest: (Ballot::ZERO, 0),
        }
    }
}

impl Paxos {
    /// How long the machine has been up, asleep or awake, as its clock shows it *after* the events
    /// that follow came in.
    pub fn set_uptime(&mut self, uptime: Moment) {
        self.uptime = self.uptime.max(uptime);
        if let Some(earlier) = self.grants.earlier.take() {
            self.grants.closed_until = self.uptime + earlier;
        }
    }

    /// Whether all that earlier openings may have granted is over.
    #[must_use]
    pub fn is_free_of_earlier_grants(&self) -> bool {
        self.grants.earlier.is_none() && self.grants.closed_until <= self.lease_time()
    }

    /// How long a lease still keeps this replica from campaigning and from promising: one that it
    /// granted, to anybody but its holder; one of an earlier opening, to anybody.
    #[must_use]
    pub fn bound_for(&self) -> Duration {
        let Grants { earlier, closed_until, holder, .. } = &self.grants;
        let until = holder.map_or(*closed_until, |(_, until)| until.max(*closed_until));
        until.since(self.lease_time()).max(earlier.unwrap_or_default())
    }

    /// No lease that this core granted is longer; zero where it grants none.
    #[must_use]
    pub fn longest_grant(&self) -> Duration {
        self.options.lease.granted.unwrap_or_default()
    }

    /// Whether this replica leads, and nobody else can be elected for a while.
    #[must_use]
    pub fn holds_lease(&self) -> bool {
        let Role::Leader(leader) = &self.role else { return false };
        let hands_over = leader.hand_over.is_some() && !bugs::is_on(Bug::LeaseKeptAtHandOver);
        if self.options.lease.asked.is_none() || hands_over {
            return false;
        }
        let (own, now) = (self.options.id, self.lease_time());
        let lasts = |id| leader.lease.granted.get(&id).is_some_and(|until| now < *until);
        let granters = self.quorum.those(|id| id == own || lasts(id));
        self.quorum.meets_phase1(granters)
    }

    /// Whether a lease forbids to promise anything to `candidate`, which may be this replica.
    pub(super) fn is_bound_against(&self, candidate: ReplicaId) -> bool {
        let now = self.lease_time();
        let Grants { earlier, closed_until, holder, .. } = &self.grants;
        let other = holder.is_some_and(|(id, until)| id != candidate && now < until);
        let leads = candidate != self.options.id && self.holds_lease();
        earlier.is_some() || now < *closed_until || other || leads
    }

    /// A leader asks for a lease, or gives it up.
    pub(super) fn on_renew(&mut self, from: ReplicaId, ballot: Ballot, nonce: u64, millis: u32) {
        let Some(most) = self.options.lease.granted else { return };
        if ballot.leader != from || !self.keeps_promises() {
            return;
        }
        if ballot < self.promised && !bugs::is_on(Bug::GrantDeposed) {
            reached!(LeaseRefused);
            return;
        }
        if (ballot, nonce) <= self.grants.newest && !bugs::is_on(Bug::LateRelease) {
            reached!(OldRenewal);
            return;
        }
        let now = self.lease_time();
        // Before its first reading, the clock tells nothing.
        if now == Moment::ZERO {
            return;
        }
        if self.grants.holder.is_some_and(|(id, until)| id != from && now < until) {
            reached!(LeaseOfOther);
            return;
        }
        self.grants.newest = (ballot, nonce);
        let length = length_of(millis).min(most);
        if length.is_zero() {
            self.grants.holder = None;
            return;
        }
        if length < length_of(millis) {
            reached!(LeaseShortened);
        }
        let earlier = self.grants.holder.filter(|(id, _)| *id == from).map(|(_, until)| until);
        let until = (now + granters_time(length)).max(earlier.unwrap_or_default());
        self.grants.holder = Some((from, until));
        let incarnation = self.options.incarnation;
        let millis = millis_of(length);
        self.send(from, Message::Granted { ballot, incarnation, nonce, millis });
    }

    /// A voter grants what it was asked for.
    pub(super) fn on_granted(&mut self, from: ReplicaId, ballot: Ballot, nonce: u64, millis: u32) {
        let now = self.lease_time();
        let Some(most) = self.options.lease.asked else { return };
        let Role::Leader(leader) = &mut self.role else { return };
        let asked = leader.lease.asked.iter().find(|(of, _)| *of == nonce);
        let Some((_, sent_at)) = asked.filter(|_| ballot == leader.ballot) else {
            reached!(GrantIgnored);
            return;
        };
        let from_when = if bugs::is_on(Bug::LeaseFromReceipt) { now } else { *sent_at };
        let until = from_when + leaders_time(length_of(millis).min(most));
        let granted = leader.lease.granted.entry(from).or_default();
        *granted = until.max(*granted);
    }

    /// Asks for the lease again, if it is time.
    pub(super) fn renew_lease(&mut self) {
        let due = self.renewal_due().is_some_and(|due| due <= self.now);
        if let Some(asked) = self.options.lease.asked.filter(|_| due) {
            self.ask_for_lease(asked);
        }
    }

    /// When to ask for the lease again: never where the leader needs nobody for it.
    pub(super) fn renewal_due(&self) -> Option<Moment> {
        let asked = self.options.lease.asked?;
        let Role::Leader(leader) = &self.role else { return None };
        let own = self.options.id;
        let needs_none = self.quorum.meets_phase1(self.quorum.those(|id| id == own));
        if leader.hand_over.is_some() || needs_none {
            return None;
        }
        let again = |at| at + asked / RENEWALS_PER_LEASE;
        Some(leader.lease.asked_at.map_or(self.now, again))
    }

    /// Other voters decide from here on: what was granted before does not count.
    pub(super) fn restart_lease(&mut self) {
        self.forget_grants();
        self.renew_lease();
    }

    /// Uses the lease no more, and tells so, also where that was told before.
    pub(super) fn give_up_lease(&mut self) {
        if let Role::Leader(leader) = &self.role {
            let (ballot, nonce) = (leader.ballot, leader.lease.nonce + 1);
            self.forget_grants();
            if let Role::Leader(leader) = &mut self.role {
                leader.lease.nonce = nonce;
            }
            self.release_lease(ballot, nonce);
        }
    }

    /// Tells that the lease of `ballot` is used no more.
    pub(super) fn release_lease(&mut self, ballot: Ballot, nonce: u64) {
        if self.options.lease.asked.is_none() {
            return;
        }
        reached!(LeaseGivenUp);
        for peer in self.other_voters() {
            self.send(peer, Message::Renew { ballot, nonce, millis: 0 });
        }
    }

    fn ask_for_lease(&mut self, length: Duration) {
        let (now, uptime) = (self.now, self.lease_time());
        let Role::Leader(leader) = &mut self.role else { return };
        let (ballot, lease) = (leader.ballot, &mut *leader.lease);
        lease.nonce += 1;
        lease.asked_at = Some(now);
        let nonce = lease.nonce;
        if lease.asked.len() == RENEWALS_MAX {
            lease.asked.pop_front();
        }
        lease.asked.push_back((nonce, uptime));
        let millis = millis_of(length);
        for peer in self.other_voters() {
            self.send(peer, Message::Renew { ballot, nonce, millis });
        }
    }

    fn forget_grants(&mut self) {
        let keeps = bugs::is_on(Bug::LeaseKeptAtHandOver);
        if let Role::Leader(leader) = &mut self.role
            && !keeps
        {
            let nonce = leader.lease.nonce;
            *leader.lease = Lease { nonce, ..Lease::default() };
        }
    }

    /// What leases are measured by.
    fn lease_time(&self) -> Moment {
        if bugs::is_on(Bug::LeaseByTimers) { self.now } else { self.uptime }
    }
}

impl Lease {
    /// The number of the next question.
    pub(super) fn next_nonce(&self) -> u64 {
        self.nonce + 1
    }
}

/// How long who granted a lease of this length keeps to it: as long as the true time of the leader,
/// should this clock be as fast as may be.
fn granters_time(length: Duration) -> Duration {
    if bugs::is_on(Bug::DriftIgnored) { length } else { length + length / DRIFT }
}

/// How long who was granted it uses it: no longer than the true time, should this clock be as slow
/// as may be.
fn leaders_time(length: Duration) -> Duration {
    if bugs::is_on(Bug::DriftIgnored) { length } else { length - length / DRIFT }
}

fn length_of(millis: u32) -> Duration {
    Duration::from_millis(u64::from(millis))
}

/// Whole ones: what is left over is not asked for.
fn millis_of(length: Duration) -> u32 {
    u32::try_from(length.as_millis()).unwrap_or(u32::MAX)
}
