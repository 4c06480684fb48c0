//! Whom this replica talks to: the identity fence at hello.
//!
//! A peer is known by its id, and once the cluster is formed by its directory. Every opening of a
//! directory has a higher boot counter than the one before, a nonce of its own, and recovers at
//! least what the one before said was durable: in its hello, and with each promise and vote. So a
//! directory that was set back to an earlier state, or of which two copies run, shows itself to any
//! peer that remembers a later opening, another nonce or a later frontier. What only absent peers
//! could tell is not noticed. The memory begins with what the journal kept (`fence`).
//!
//! Two openings with one count are proof of two copies, and none of the two is the directory that
//! voted before for certain: from then on both are refused, with whatever count they come. A lower
//! count alone is no proof: it may be a late hello of an opening that is gone.
//!
//! Invariants:
//! * The boot of a peer that is remembered never goes back, nor its frontier within one boot.
//! * A refused hello changes nothing but what is told of refusals.

use std::collections::BTreeMap;

use parking_lot::Mutex;

use crate::transport::{Arrival, Refusal};
use crate::types::ids::{ClusterId, Incarnation, ReplicaId};
use crate::types::message::{Hello, Message};
use crate::types::record::Sighting;

use super::events;

/// What is known of the peers.
#[derive(Debug)]
pub struct Gate {
    own: ReplicaId,
    known: Mutex<Known>,
}

#[derive(Debug)]
struct Known {
    cluster: ClusterId,
    peers: BTreeMap<ReplicaId, Peer>,
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

/// What this replica says of itself, and whom it expects. It changes when the cluster forms.
#[derive(Clone, Debug)]
pub struct Standing {
    /// What connections say.
    pub hello: Hello,
    /// The voters, with their directories once they are agreed upon.
    pub voters: Vec<(ReplicaId, Option<Incarnation>)>,
    /// What was seen of their directories.
    pub sightings: Vec<Sighting>,
}

impl Gate {
    /// A gate for this replica.
    #[must_use]
    pub fn new(standing: &Standing) -> Self {
        let known = Known { cluster: ClusterId::UNFORMED, peers: BTreeMap::new(), told: None };
        let gate = Self { own: standing.hello.replica, known: Mutex::new(known) };
        gate.update(standing);
        for sighting in &standing.sightings {
            let mut known = gate.known.lock();
            if let Some(peer) = known.peers.get_mut(&sighting.replica) {
                peer.seen = Some(*sighting);
            }
        }
        gate
    }

    /// The cluster was formed, or agreed upon.
    pub fn update(&self, standing: &Standing) {
        let mut known = self.known.lock();
        known.cluster = standing.hello.cluster;
        for (id, incarnation) in &standing.voters {
            let peer = known.peers.entry(*id).or_default();
            peer.incarnation = incarnation.or(peer.incarnation);
        }
    }

    /// Whether to talk to a peer that says this. `met` is told, before anybody is let in on the
    /// strength of it, what was not known before.
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
        let Some(peer) = known.peers.get_mut(&hello.replica) else {
            return Err(Refusal::UnknownReplica);
        };
        if hello.cluster.is_formed() && cluster.is_formed() && hello.cluster != cluster {
            return Err(Refusal::WrongCluster);
        }
        if peer.incarnation.is_some_and(|expected| expected != hello.incarnation) {
            return Err(Refusal::WrongIncarnation);
        }
        let Hello { replica, incarnation, boot, frontier, .. } = *hello;
        let seen = peer.seen.as_mut().filter(|seen| seen.incarnation == incarnation);
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
        peer.seen = Some(sighting);
        met(sighting);
        Ok(())
    }

    /// Remembers how far a peer says that its journal is durable.
    pub fn note(&self, arrival: &Arrival) {
        let (from, frontier) = match arrival {
            Arrival::Message { from, message: Message::Accepted(accepted) } => {
                (from, accepted.frontier)
            }
            Arrival::Message { from, message: Message::Promise(promise) } => {
                (from, promise.frontier)
            }
            Arrival::Message { .. } | Arrival::Down { .. } | Arrival::Fenced { .. } => return,
        };
        let mut known = self.known.lock();
        if let Some(seen) = known.peers.get_mut(from).and_then(|peer| peer.seen.as_mut()) {
            seen.frontier = seen.frontier.max(frontier);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::ids::{Ballot, Boot, Lsn, SlotRange};
    use crate::types::message::Accepted;

    fn hello(replica: u64, boot: u64, frontier: u64) -> Hello {
        Hello {
            cluster: ClusterId(5),
            replica: ReplicaId(replica),
            receiver: ReplicaId(1),
            incarnation: Incarnation(u128::from(replica)),
            boot: Boot { sequence: boot, nonce: boot },
            frontier: Lsn(frontier),
        }
    }

    fn gate() -> Gate {
        let voter = |id| (ReplicaId(id), Some(Incarnation(u128::from(id))));
        let voters = vec![voter(1), voter(2)];
        Gate::new(&Standing { hello: hello(1, 1, 0), voters, sightings: Vec::new() })
    }

    fn admit(gate: &Gate, hello: &Hello) -> Result<(), Refusal> {
        gate.admit(hello, |_| ())
    }

    #[test]
    fn strangers_are_refused_with_a_reason() {
        let gate = gate();
        assert_eq!(admit(&gate, &hello(2, 1, 0)), Ok(()));
        assert_eq!(admit(&gate, &hello(1, 1, 0)), Err(Refusal::SelfConnection));
        assert_eq!(admit(&gate, &hello(3, 1, 0)), Err(Refusal::UnknownReplica));
        let stranger = Hello { receiver: ReplicaId(2), ..hello(2, 1, 0) };
        assert_eq!(admit(&gate, &stranger), Err(Refusal::WrongReceiver));
        let stranger = Hello { cluster: ClusterId(6), ..hello(2, 1, 0) };
        assert_eq!(admit(&gate, &stranger), Err(Refusal::WrongCluster));
        let stranger = Hello { incarnation: Incarnation(9), ..hello(2, 1, 0) };
        assert_eq!(admit(&gate, &stranger), Err(Refusal::WrongIncarnation));
    }

    #[test]
    fn a_directory_that_was_set_back_or_copied_is_refused() {
        let gate = gate();
        assert_eq!(admit(&gate, &hello(2, 3, 10)), Ok(()));
        assert_eq!(admit(&gate, &hello(2, 3, 12)), Ok(()), "the same opening connects again");
        assert_eq!(admit(&gate, &hello(2, 2, 12)), Err(Refusal::Regressed));
        assert_eq!(admit(&gate, &hello(2, 4, 11)), Err(Refusal::Regressed));
        assert_eq!(admit(&gate, &hello(2, 4, 12)), Ok(()));
    }

    #[test]
    fn two_openings_under_one_count_fence_both() {
        let gate = gate();
        assert_eq!(admit(&gate, &hello(2, 3, 10)), Ok(()));
        let copied = Hello { boot: Boot { sequence: 3, nonce: 99 }, ..hello(2, 3, 12) };
        let mut news = Vec::new();
        assert_eq!(gate.admit(&copied, |it| news.push(it)), Err(Refusal::Regressed));
        assert!(news[0].fenced, "it is to be remembered");
        assert_eq!(admit(&gate, &hello(2, 3, 10)), Err(Refusal::Regressed));
        assert_eq!(admit(&gate, &hello(2, 9, 99)), Err(Refusal::Regressed));
    }

    #[test]
    fn what_is_remembered_outlives_the_gate() {
        let before = gate();
        let mut sightings = Vec::new();
        assert_eq!(before.admit(&hello(2, 3, 10), |it| sightings.push(it)), Ok(()));
        assert_eq!(before.admit(&hello(2, 3, 10), |it| sightings.push(it)), Ok(()));
        assert_eq!(sightings.len(), 1, "an opening is news once");
        let voters = vec![(ReplicaId(1), None), (ReplicaId(2), Some(Incarnation(2)))];
        let gate = Gate::new(&Standing { hello: hello(1, 2, 0), voters, sightings });
        assert_eq!(admit(&gate, &hello(2, 2, 12)), Err(Refusal::Regressed));
        assert_eq!(admit(&gate, &hello(2, 4, 9)), Err(Refusal::Regressed));
        assert_eq!(admit(&gate, &hello(2, 4, 10)), Ok(()));
    }

    #[test]
    fn a_directory_that_lost_what_it_acknowledged_is_refused() {
        let gate = gate();
        assert_eq!(admit(&gate, &hello(2, 3, 10)), Ok(()));
        let accepted = Accepted {
            ballot: Ballot::ZERO,
            incarnation: Incarnation(2),
            slots: SlotRange::default(),
            frontier: Lsn(20),
        };
        let message = Message::Accepted(accepted);
        gate.note(&Arrival::Message { from: ReplicaId(2), message });
        assert_eq!(admit(&gate, &hello(2, 3, 10)), Ok(()), "it said so when it was opened");
        assert_eq!(admit(&gate, &hello(2, 4, 19)), Err(Refusal::Regressed));
        assert_eq!(admit(&gate, &hello(2, 4, 20)), Ok(()));
    }
}
