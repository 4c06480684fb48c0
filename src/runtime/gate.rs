//! Whom this replica talks to: members, strangers, and the identity fence at hello.
//!
//! A peer is known by its id, and once the cluster is formed by its directory. Every opening of a
//! directory has a higher boot counter than the one before, a nonce of its own, and recovers at
//! least what the one before said was durable: in its hello, and with each promise, vote and
//! heartbeat. So a directory that was set back to an earlier state, or of which two copies run,
//! shows itself to any peer that remembers a later opening, another nonce or a later frontier. What
//! only absent peers could tell is not noticed. The memory begins with what the journal kept
//! (`fence`).
//!
//! Two openings with one count are proof of two copies, and none of the two is the directory that
//! voted before for certain: from then on both are refused, with whatever count they come. A lower
//! count alone is no proof: it may be a late hello of an opening that is gone.
//!
//! Who is no *member* is a *stranger*, and let in if it knows this cluster by its id: it may want
//! to join, or it was away while the membership changed, or was removed. The fence is the same for
//! it, but what is remembered of strangers is bounded and is never told, so that it is not
//! journaled: nothing that they say counts.
//!
//! Invariants:
//! * The boot of a member that is remembered never goes back, nor its frontier within one boot.
//! * A refused hello changes nothing but what is told of refusals.
//! * At most [`STRANGERS_MAX`] strangers are remembered. Who is gone is forgotten first, then who
//!   was let in before all others; the transport, which knows who is there, lets in no more.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use parking_lot::Mutex;

use crate::transport::{Arrival, PeerCounters, Refusal};
use crate::types::hello::Hello;
use crate::types::ids::{ClusterId, Incarnation, ReplicaId};
use crate::types::limits::STRANGERS_MAX;
use crate::types::membership::Member;
use crate::types::record::Sighting;

use super::events;

/// What is known of the others.
#[derive(Debug)]
pub struct Gate {
    own: ReplicaId,
    known: Mutex<Known>,
}

#[derive(Debug)]
struct Known {
    cluster: ClusterId,
    members: BTreeMap<ReplicaId, Peer>,
    strangers: BTreeMap<ReplicaId, Stranger>,
    /// What the journal has of whom: an opening that repairs what it lost learns late who belongs.
    remembered: BTreeMap<ReplicaId, Sighting>,
    /// How often a stranger was let in.
    admissions: u64,
    /// The refusal that was told last: who is refused tries again and again.
    told: Option<(ReplicaId, Refusal)>,
}

#[derive(Debug, Default)]
struct Peer {
    /// Its directory, once a membership names it.
    incarnation: Option<Incarnation>,
    /// Its newest opening that was let in.
    seen: Option<Sighting>,
}

/// Who was let in without being a member.
#[derive(Debug)]
struct Stranger {
    peer: Peer,
    address: String,
    /// It was the so-manieth that was let in.
    admission: u64,
    /// Its last connection ended, as far as it was told.
    gone: bool,
}

/// What this replica says of itself, and whom it expects. It changes when the cluster forms, and
/// with the membership.
#[derive(Clone, Debug)]
pub struct Standing {
    /// What connections say.
    pub hello: Hello,
    /// Voters and observers, this replica included as long as it is one.
    pub members: Vec<Expected>,
    /// What was seen of their directories.
    pub sightings: Vec<Sighting>,
}

/// A member, as far as it is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    /// The member.
    pub id: ReplicaId,
    /// Its directory, once it is agreed upon.
    pub incarnation: Option<Incarnation>,
    /// Where it listens.
    pub address: String,
}

impl Standing {
    /// The other members, and where they listen.
    #[must_use]
    pub fn peers(&self) -> Vec<(ReplicaId, String)> {
        let others = self.members.iter().filter(|member| member.id != self.hello.replica);
        others.map(|member| (member.id, member.address.clone())).collect()
    }
}

impl From<&Member> for Expected {
    fn from(Member { id, incarnation, address }: &Member) -> Self {
        Self { id: *id, incarnation: Some(*incarnation), address: address.clone() }
    }
}

impl From<&(ReplicaId, String)> for Expected {
    fn from((id, address): &(ReplicaId, String)) -> Self {
        Self { id: *id, incarnation: None, address: address.clone() }
    }
}

impl Gate {
    /// A gate for this replica.
    #[must_use]
    pub fn new(standing: &Standing) -> Self {
        let known = Known {
            cluster: ClusterId::UNFORMED,
            members: BTreeMap::new(),
            strangers: BTreeMap::new(),
            remembered: BTreeMap::new(),
            admissions: 0,
            told: None,
        };
        let gate = Self { own: standing.hello.replica, known: Mutex::new(known) };
        let news = gate.update(standing);
        assert!(news.is_empty(), "a new gate has seen {news:?}");
        gate
    }

    /// The cluster was formed, or agreed upon, or its membership changed. Who is no member any more
    /// is forgotten; who stays, or was a stranger, keeps what was seen. Returns what was seen of
    /// those who were strangers: it is to be remembered from now on, before anything that they say
    /// counts.
    #[must_use]
    pub fn update(&self, standing: &Standing) -> Vec<Sighting> {
        let mut known = self.known.lock();
        known.cluster = standing.hello.cluster;
        known.remembered = standing.sightings.iter().map(|seen| (seen.replica, *seen)).collect();
        let mut before = std::mem::take(&mut known.members);
        let mut news = Vec::new();
        for Expected { id, incarnation, .. } in &standing.members {
            let stranger = known.strangers.remove(id);
            let peer = before.remove(id).unwrap_or_else(|| {
                // Of another directory than the one that is the member, nothing is worth it.
                let is_it = |seen: &Sighting| incarnation.is_none_or(|it| it == seen.incarnation);
                let seen = stranger.and_then(|stranger| stranger.peer.seen).filter(is_it);
                news.extend(seen);
                let remembered = || known.remembered.get(id).copied();
                Peer { incarnation: None, seen: seen.or_else(remembered) }
            });
            let incarnation = incarnation.or(peer.incarnation);
            known.members.insert(*id, Peer { incarnation, ..peer });
        }
        news
    }

    /// The strangers that were let in and are not known to be gone: who they say that they are, and
    /// where they are to be reached.
    #[must_use]
    pub fn strangers(&self) -> Vec<Member> {
        let known = self.known.lock();
        let here = known.strangers.iter().filter(|(_, stranger)| !stranger.gone);
        let member = |(id, stranger): (&ReplicaId, &Stranger)| {
            let Sighting { incarnation, .. } = stranger.peer.seen.filter(|seen| !seen.fenced)?;
            Some(Member { id: *id, incarnation, address: stranger.address.clone() })
        };
        here.filter_map(member).collect()
    }

    /// The strangers that are connected, both ways.
    #[must_use]
    pub fn strangers_among(&self, counters: &[PeerCounters]) -> Vec<Member> {
        let here = |stranger: &Member| {
            let row = counters.iter().find(|row| row.peer == stranger.id);
            row.is_some_and(|row| row.stranger && row.connected)
        };
        self.strangers().into_iter().filter(here).collect()
    }

    /// Whether to talk to a peer that says this. `met` is told, before anybody is let in on the
    /// strength of it, what was not known of a member before.
    ///
    /// # Errors
    ///
    /// The reason why not.
    pub fn admit(&self, hello: &Hello, met: impl FnOnce(Sighting)) -> Result<(), Refusal> {
        let mut known = self.known.lock();
        let verdict = self.judge(&mut known, hello, met);
        if let Err(refusal) = &verdict {
            let refused = Some((hello.replica, refusal.clone()));
            if known.told != refused {
                events::refused(self.own, hello.replica, refusal);
                known.told = refused;
            }
        }
        verdict
    }

    fn judge(
        &self,
        known: &mut Known,
        hello: &Hello,
        met: impl FnOnce(Sighting),
    ) -> Result<(), Refusal> {
        if hello.replica == self.own {
            return Err(Refusal::SelfConnection);
        }
        if hello.receiver != self.own {
            return Err(Refusal::WrongReceiver);
        }
        let cluster = known.cluster;
        let Some(peer) = known.members.get_mut(&hello.replica) else {
            return known.judge_stranger(hello);
        };
        if hello.cluster.is_formed() && cluster.is_formed() && hello.cluster != cluster {
            return Err(Refusal::WrongCluster);
        }
        if peer.incarnation.is_some_and(|expected| expected != hello.incarnation) {
            return Err(Refusal::WrongIncarnation);
        }
        peer.judge_opening(hello, met)
    }

    /// Remembers how far a peer says that its journal is durable, and which stranger is gone.
    pub fn note(&self, arrival: &Arrival) {
        match arrival {
            Arrival::Message { from, boot, message } => {
                let Some(frontier) = message.frontier() else { return };
                let mut known = self.known.lock();
                let seen = known.peer(*from).and_then(|peer| peer.seen.as_mut());
                if let Some(seen) = seen.filter(|seen| seen.boot == *boot) {
                    seen.frontier = seen.frontier.max(frontier);
                }
            }
            Arrival::Down { peer } => {
                if let Some(stranger) = self.known.lock().strangers.get_mut(peer) {
                    stranger.gone = true;
                }
            }
            Arrival::Fenced { .. } => {}
        }
    }
}

impl Known {
    /// The member or stranger with this id.
    fn peer(&mut self, id: ReplicaId) -> Option<&mut Peer> {
        let stranger = self.strangers.get_mut(&id).map(|stranger| &mut stranger.peer);
        self.members.get_mut(&id).or(stranger)
    }

    /// Whether to talk to who is no member. Where this replica belongs to no cluster yet, it does
    /// not know who could.
    fn judge_stranger(&mut self, hello: &Hello) -> Result<(), Refusal> {
        if !self.cluster.is_formed() || !hello.cluster.is_formed() {
            return Err(Refusal::UnknownReplica);
        }
        if hello.cluster != self.cluster {
            return Err(Refusal::WrongCluster);
        }
        let admission = self.admissions + 1;
        let address = hello.address.clone();
        let of_this = |seen: &Sighting| seen.incarnation == hello.incarnation;
        let remembered = self.remembered.get(&hello.replica).copied().filter(of_this);
        match self.strangers.get_mut(&hello.replica) {
            Some(stranger) => {
                // Another directory under the same id makes nobody forget this one.
                let seen = stranger.peer.seen.filter(of_this).or(remembered);
                stranger.peer.seen = seen.or(stranger.peer.seen);
                stranger.peer.judge_opening(hello, |_| ())?;
                (stranger.address, stranger.admission, stranger.gone) = (address, admission, false);
            }
            None => {
                let mut peer = Peer { incarnation: None, seen: remembered };
                let verdict = peer.judge_opening(hello, |_| ());
                let is_fenced = peer.seen.is_some_and(|seen| seen.fenced);
                if verdict.is_err() && !is_fenced {
                    return verdict;
                }
                if self.strangers.len() >= STRANGERS_MAX {
                    self.forget_stranger();
                }
                let stranger = Stranger { peer, address, admission, gone: verdict.is_err() };
                self.strangers.insert(hello.replica, stranger);
                verdict?;
            }
        }
        self.admissions = admission;
        Ok(())
    }

    fn forget_stranger(&mut self) {
        let order = |(_, stranger): &(&ReplicaId, &Stranger)| (!stranger.gone, stranger.admission);
        let last = self.strangers.iter().min_by_key(order).map(|(id, _)| *id);
        if let Some(last) = last {
            self.strangers.remove(&last);
        }
    }
}

impl Peer {
    /// Whether the opening that says this may follow what was seen of its directory.
    fn judge_opening(&mut self, hello: &Hello, met: impl FnOnce(Sighting)) -> Result<(), Refusal> {
        let Hello { replica, incarnation, boot, frontier, .. } = *hello;
        let seen = self.seen.as_mut().filter(|seen| seen.incarnation == incarnation);
        if let Some(seen) = seen {
            if seen.fenced {
                return Err(Refusal::Regressed);
            }
            if seen.boot == boot {
                seen.frontier = seen.frontier.max(frontier);
                return Ok(());
            }
            if seen.boot.sequence == boot.sequence {
                seen.fenced = true;
                met(*seen);
                return Err(Refusal::Regressed);
            }
            // What a later opening recovers holds all that the one before said was durable.
            if boot.sequence < seen.boot.sequence || frontier < seen.frontier {
                return Err(Refusal::Regressed);
            }
        }
        let sighting = Sighting { replica, incarnation, boot, frontier, fenced: false };
        self.seen = Some(sighting);
        met(sighting);
        Ok(())
    }
}
