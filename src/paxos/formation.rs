//! Formation: how blank replicas become a cluster.
//!
//! Every replica named at first open must take part. Each introduces its directory to all others;
//! who knows all of them knows the membership, for it is made of nothing else. It agrees to that
//! membership durably, once and for ever, and says so. The cluster is formed when *every* voter
//! has agreed: then slot 0 holds the membership, and the cluster id is its hash.
//!
//! ```text
//!   blank -- all introduced, or a peer's agreement names me --> agreed -- all agreed --> formed
//!                                                                  |  or a peer says so   ^
//!                                                                  +----------------------+
//! ```
//!
//! A blank replica can also be told to join a cluster that is formed. It takes the membership that
//! the cluster began with from anyone whose cluster id is that membership's hash, and learns the
//! rest from the log. It belongs when the log says so, and not before.
//!
//! Unanimity is what makes this safe. A directory that was wiped meanwhile comes back as another
//! incarnation, which the agreed membership does not name; no second membership can then find all
//! its voters, so a blank replica never joins a formed cluster, and two clusters never share one.
//!
//! Invariants:
//! * A replica agrees to one membership at most, and says so only when that is durable.
//! * Before it is formed, a replica neither promises nor votes.

use std::collections::BTreeMap;
use std::fmt;

use crate::types::ids::{ClusterId, Incarnation, ReplicaId};
use crate::types::limits::{ALPHA, SESSIONS_MAX};
use crate::types::membership::{Member, Membership};
use crate::types::message::{Introduce, Message};

/// How far a replica has come.
#[derive(Debug)]
pub struct Formation {
    own: Introduce,
    id: ReplicaId,
    /// How many sessions the state is to remember.
    sessions_max: u32,
    /// The cluster that it joins, where it forms none.
    joins: Option<ClusterId>,
    introduced: BTreeMap<ReplicaId, Member>,
    agreed: Option<Membership>,
    /// Who is known to have agreed to `agreed`.
    agreements: BTreeMap<ReplicaId, Membership>,
    formed: bool,
    trouble: Option<Trouble>,
}

/// Why formation cannot go on. It is told, not acted on: the operator decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// A peer was opened with other voters.
    VotersDiffer(ReplicaId),
    /// A peer was opened with other quorums.
    QuorumsDiffer(ReplicaId),
    /// A peer was opened with another address of a voter than this replica.
    AddressDiffers {
        /// The peer.
        peer: ReplicaId,
        /// The voter.
        voter: ReplicaId,
        /// The address that this replica was opened with.
        own: String,
        /// The one that the peer was opened with.
        theirs: String,
    },
    /// A peer agreed to a membership that does not name this directory: this one was wiped, or
    /// that one belongs to another cluster.
    NotNamed(ReplicaId),
    /// A peer is another directory than the one that this replica agreed to form a cluster with.
    Replaced(ReplicaId),
    /// A peer agreed to another membership than this replica did. The directory in which they
    /// differ can be that of a third.
    MembershipsDiffer(ReplicaId),
    /// A peer knows that this directory agreed, and here nothing is known of it: this directory was
    /// set back, and what it promised and voted for since may be lost.
    Forgotten(ReplicaId),
    /// The voters as they introduced themselves cannot be a membership.
    NoMembership(String),
}

/// What the owner must do: make the agreement durable, then call [`Formation::agreed`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agreement {
    /// What is agreed to.
    pub membership: Membership,
    /// Whether all have agreed.
    pub formed: bool,
}

impl Trouble {
    /// The peer that it was noticed at.
    fn peer(&self) -> Option<ReplicaId> {
        match self {
            Self::VotersDiffer(peer)
            | Self::QuorumsDiffer(peer)
            | Self::AddressDiffers { peer, .. }
            | Self::NotNamed(peer)
            | Self::Replaced(peer)
            | Self::MembershipsDiffer(peer)
            | Self::Forgotten(peer) => Some(*peer),
            Self::NoMembership(_) => None,
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::VotersDiffer(peer) => {
                write!(f, "replica {peer} was opened with other voters than this one")
            }
            Self::QuorumsDiffer(peer) => {
                write!(f, "replica {peer} was opened with other quorums than this one")
            }
            Self::AddressDiffers { peer, voter, own, theirs } => write!(
                f,
                "replica {peer} was opened with {voter}={theirs}, and this one with \
                 {voter}={own}: wanted the same"
            ),
            Self::NotNamed(peer) => write!(
                f,
                "replica {peer} belongs to a cluster that does not name this directory: it is new, \
                 or of another cluster"
            ),
            Self::Replaced(peer) => write!(
                f,
                "replica {peer} is not the directory that this one agreed to form a cluster with"
            ),
            Self::MembershipsDiffer(peer) => write!(
                f,
                "replica {peer} agreed to form a cluster with other directories or addresses than \
                 this one did"
            ),
            Self::Forgotten(peer) => write!(
                f,
                "replica {peer} knows that this directory agreed to form a cluster, and here \
                 nothing is known of it: this directory was set back to an earlier state"
            ),
            Self::NoMembership(why) => write!(f, "the voters cannot form a cluster: {why}"),
        }
    }
}

impl Formation {
    /// A replica as its identity file has it.
    #[must_use]
    pub fn new(id: ReplicaId, own: Introduce, agreed: Option<Membership>) -> Self {
        Self {
            own,
            id,
            sessions_max: SESSIONS_MAX,
            joins: None,
            introduced: BTreeMap::new(),
            agreed,
            agreements: BTreeMap::new(),
            formed: false,
            trouble: None,
        }
    }

    /// The same, of a cluster whose state is to remember so many sessions.
    #[must_use]
    pub fn with_sessions_max(self, sessions_max: u32) -> Self {
        Self { sessions_max, ..self }
    }

    /// The same, of a replica that joins this cluster.
    #[must_use]
    pub fn joining(mut self, cluster: ClusterId) -> Self {
        self.joins = Some(cluster);
        // It agrees to nothing with anybody.
        self.own.voters.clear();
        self.own.addresses.clear();
        self
    }

    /// What to send to every peer, now and again on a timer.
    #[must_use]
    pub fn announcement(&self) -> Message {
        match &self.agreed {
            None => Message::Introduce(self.own.clone()),
            Some(membership) => {
                Message::Agreed { membership: membership.clone(), formed: self.formed }
            }
        }
    }

    /// Takes in what a peer says. Returns what must be made durable, if anything.
    pub fn on_message(&mut self, from: ReplicaId, message: Message) -> Option<Agreement> {
        // What was wrong with this peer may have been put right; if not, it is found again.
        self.trouble =
            self.trouble.take().filter(|trouble| trouble.peer().is_some_and(|peer| peer != from));
        match message {
            Message::Introduce(introduce) => self.on_introduce(from, introduce),
            Message::Agreed { membership, formed } => self.on_agreed(from, membership, formed),
            _ => None,
        }
    }

    /// What must be made durable when nobody has to be waited for.
    #[must_use]
    pub fn next_agreement(&self) -> Option<Agreement> {
        if self.formed || self.joins.is_some() {
            return None;
        }
        if let Some(membership) = &self.agreed {
            let all = membership.voters().iter().all(|voter| {
                voter.id == self.id || self.agreements.get(&voter.id) == Some(membership)
            });
            return all.then(|| Agreement { membership: membership.clone(), formed: true });
        }
        let own = Member {
            id: self.id,
            incarnation: self.own.incarnation,
            address: self.own.address.clone(),
        };
        let known = self.own.voters.iter().map(|id| match *id == self.id {
            true => Some(own.clone()),
            false => self.introduced.get(id).cloned(),
        });
        let Introduce { phase1, phase2, .. } = self.own;
        let known = known.collect::<Option<Vec<_>>>()?;
        let membership = Membership::flexible(known, phase1, phase2, ALPHA).ok()?;
        let membership = membership.with_sessions_max(self.sessions_max).ok()?;
        // Alone, the agreement of all is this one.
        let formed = membership.voters().len() == 1;
        Some(Agreement { membership, formed })
    }

    /// The agreement is durable.
    pub fn agreed(&mut self, agreement: Agreement) {
        assert!(
            self.agreed.as_ref().is_none_or(|agreed| *agreed == agreement.membership),
            "a replica agrees to one membership only"
        );
        self.agreed = Some(agreement.membership);
        self.formed |= agreement.formed;
    }

    /// Whether every voter agreed.
    #[must_use]
    pub fn is_formed(&self) -> bool {
        self.formed
    }

    /// What keeps the cluster from forming, if something was noticed.
    #[must_use]
    pub fn trouble(&self) -> Option<&Trouble> {
        self.trouble.as_ref()
    }

    /// The voters that were not heard yet.
    #[must_use]
    pub fn missing(&self) -> Vec<ReplicaId> {
        let heard = |id: &ReplicaId| {
            *id == self.id || self.introduced.contains_key(id) || self.agreements.contains_key(id)
        };
        self.own.voters.iter().copied().filter(|id| !heard(id)).collect()
    }

    fn on_introduce(&mut self, from: ReplicaId, introduce: Introduce) -> Option<Agreement> {
        if !self.own.voters.contains(&from) {
            return None;
        }
        if introduce.voters != self.own.voters
            || introduce.addresses.len() != introduce.voters.len()
        {
            self.trouble = Some(Trouble::VotersDiffer(from));
            return None;
        }
        if (introduce.phase1, introduce.phase2) != (self.own.phase1, self.own.phase2) {
            self.trouble = Some(Trouble::QuorumsDiffer(from));
            return None;
        }
        if let Some(trouble) = self.other_address(from, &introduce.addresses) {
            self.trouble = Some(trouble);
            return None;
        }
        let Introduce { incarnation, address, .. } = introduce;
        if let Some(agreed) = &self.agreed {
            if agreed.voter(from).is_none_or(|voter| voter.incarnation != incarnation) {
                self.trouble = Some(Trouble::Replaced(from));
            }
            return None;
        }
        self.introduced.insert(from, Member { id: from, incarnation, address });
        let next = self.next_agreement();
        if next.is_none() && self.missing().is_empty() {
            self.trouble = Some(Trouble::NoMembership("two voters share an address".into()));
        }
        next
    }

    fn on_agreed(
        &mut self,
        from: ReplicaId,
        membership: Membership,
        formed: bool,
    ) -> Option<Agreement> {
        if let Some(cluster) = self.joins {
            let is_meant = formed && !self.formed && membership.cluster_id() == cluster;
            return is_meant.then_some(Agreement { membership, formed });
        }
        if membership.check().is_err() || membership.voter(from).is_none() {
            return None;
        }
        if !self.names_me(&membership) {
            self.trouble = Some(Trouble::NotNamed(from));
            return None;
        }
        if membership.voters().iter().map(|voter| voter.id).ne(self.own.voters.iter().copied()) {
            self.trouble = Some(Trouble::VotersDiffer(from));
            return None;
        }
        if (membership.phase1(), membership.phase2()) != (self.own.phase1, self.own.phase2) {
            self.trouble = Some(Trouble::QuorumsDiffer(from));
            return None;
        }
        let addresses = membership.voters().iter().map(|voter| &voter.address);
        if self.agreed.is_none()
            && let Some(trouble) = self.other_address(from, addresses)
        {
            self.trouble = Some(trouble);
            return None;
        }
        if self.agreed.as_ref().is_some_and(|agreed| *agreed != membership) {
            self.trouble = Some(Trouble::MembershipsDiffer(from));
            return None;
        }
        if formed && self.agreed.is_none() {
            // All agreed, so this directory did, and it said so only when that was durable.
            self.trouble = Some(Trouble::Forgotten(from));
            return None;
        }
        self.agreements.insert(from, membership.clone());
        if formed && !self.formed {
            return Some(Agreement { membership, formed });
        }
        if self.agreed.is_none() {
            return Some(Agreement { membership, formed: false });
        }
        self.next_agreement()
    }

    /// What is wrong where `peer` has other addresses for the voters than this replica was told.
    /// All must have the same, or some could not open with their own any more what they formed.
    fn other_address<'a>(
        &self,
        peer: ReplicaId,
        addresses: impl IntoIterator<Item = &'a String>,
    ) -> Option<Trouble> {
        let Introduce { voters, addresses: own, .. } = &self.own;
        let mut both = voters.iter().zip(own.iter().zip(addresses));
        let (voter, (own, theirs)) = both.find(|(_, (own, theirs))| own != theirs)?;
        let (voter, own, theirs) = (*voter, own.clone(), theirs.clone());
        Some(Trouble::AddressDiffers { peer, voter, own, theirs })
    }

    fn names_me(&self, membership: &Membership) -> bool {
        let incarnation: Incarnation = self.own.incarnation;
        membership.voter(self.id).is_some_and(|voter| voter.incarnation == incarnation)
    }
}
