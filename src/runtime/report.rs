//! What a replica tells about itself, layer by layer; `status.rs` makes it readable.

use std::time::Duration;

use crate::journal::disk::Disk;
use crate::paxos::Paxos;
use crate::paxos::formation::Trouble;
pub use crate::paxos::step::RoleName;
use crate::paxos::step::View;
use crate::types::edition::Edition;
use crate::types::error::Error;
use crate::types::hello::Hello;
#[cfg(feature = "sim")]
use crate::types::ids::Ballot;
use crate::types::ids::{ClusterId, ReplicaId, Slot};
use crate::types::membership::{Membership, listed};
use crate::types::protocols::Protocols;
use crate::types::record::Doubts;

use super::driver::{Driver, Stage};
use super::gate::{Expected, Standing};
use super::receiving::Receiving;
pub use super::receiving::ReceivingReport;
pub use super::repair::RepairReport;

/// What a replica can tell about itself.
#[derive(Clone, Debug)]
pub struct Report {
    /// This replica.
    pub id: ReplicaId,
    /// What the protocol core tells; `None` while the cluster forms, and during a repair before it.
    pub view: Option<View>,
    /// The cluster; `None` while it is not formed, or not told.
    pub cluster: Option<ClusterId>,
    /// Who belongs to it.
    pub membership: Option<Membership>,
    /// What keeps the cluster from forming.
    pub trouble: Option<Trouble>,
    /// Voters that were not heard while the cluster forms.
    pub missing: Vec<ReplicaId>,
    /// The cluster that it joins, while it was not told of it.
    pub joins: Option<ClusterId>,
    /// What this replica was told of how gladly it is to lead.
    pub priority: u32,
    /// The other members, voters and observers.
    pub peers: Vec<PeerReport>,
    /// How many more voters may be lost before writes stop, counting those that reach this replica
    /// and are reached by it.
    pub failures_tolerated: Option<usize>,
    /// Bytes of commands that wait for a slot.
    pub queued_bytes: usize,
    /// Calls that wait for an answer.
    pub waiting: usize,
    /// Bytes of the journal's files.
    pub journal_bytes: u64,
    /// Bytes of groups that wait for the disk.
    pub backlog_bytes: usize,
    /// Every slot below was trimmed here.
    pub slot_trimmed: Slot,
    /// A peer that has trimmed what this replica lacks, and up to which slot.
    pub cut_off: Option<(ReplicaId, Slot)>,
    /// The checkpoint that it gets from a peer.
    pub receiving: Option<ReceivingReport>,
    /// Every slot below is in a checkpoint.
    pub slot_checkpointed: Slot,
    /// What the journal could not be read for, though it goes on.
    pub damage: Option<Error>,
    /// The chosen entries that it lost and fetches from its peers.
    pub repair: Option<RepairReport>,
    /// What it cannot tell of its own promises and votes, since its journal was damaged.
    pub doubts: Doubts,
    /// The peer that remembers a later state of this replica's directory, and told so.
    pub fenced_by: Option<ReplicaId>,
    /// The voters that may need it, though it was removed, until they know so durably.
    pub missed_by: Vec<ReplicaId>,
    /// Whether its disk is full, so that it takes nothing on.
    pub storage_full: bool,
    /// How many rounds of confirmation it began for reads, since it was opened.
    pub read_rounds: u64,
    /// How long a lease still keeps it from campaigning, and from promising.
    pub bound_for: Duration,
    /// Why the replica stopped, if it did.
    pub stopped: Option<Error>,
}

/// What a replica knows of a peer.
#[derive(Clone, Copy, Debug)]
pub struct PeerReport {
    /// The peer.
    pub id: ReplicaId,
    /// Whether it was heard within the election timeout.
    pub heard: bool,
    /// The priority that it told.
    pub priority: u32,
    /// The highest edition that it told it knows; 0 while it was not heard.
    pub knows: Edition,
    /// How far it said that it knows the log.
    pub slot_chosen: Slot,
}

/// What a replica has still to do. For a simulator: where nobody asks for anything, it is nothing.
#[cfg(feature = "sim")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unfinished {
    /// Messages that wait for the journal.
    pub held: usize,
    /// Entries that it proposed and did not see applied.
    pub proposals: usize,
    /// Slots that it proposed and does not know to be chosen.
    pub inflight_slots: usize,
    /// Bytes of commands that wait for a slot.
    pub queued_bytes: usize,
    /// Calls that wait for an answer.
    pub waiting: usize,
    /// Entries that are applied and cannot be read from the journal yet.
    pub tail: usize,
    /// Whether the journal writes.
    pub writes: bool,
}

/// A replica that lost its promise; also one that was told in an earlier opening that its directory
/// was set back.
const PROMISE_LOST: &str = "the journal lost what this replica promised";

/// What becomes of it, and of one that is told so now.
const MUTE: &str = "It only follows, and votes no more";

impl Report {
    /// What keeps the replica from serving, or the cluster from forming; `None` where nothing does.
    #[must_use]
    pub fn in_the_way(&self) -> Option<String> {
        let stopped = self.stopped.as_ref().map(ToString::to_string);
        let repair = || self.repair.filter(|repair| repair.before_serving).map(|it| it.to_string());
        let full = || self.storage_full.then(|| super::space::FULL.to_owned());
        let fenced = || {
            let by = self.fenced_by?;
            Some(format!("the directory is a copy, or was set back: replica {by} saw more. {MUTE}"))
        };
        let lost = || self.doubts.promise_lost.then(|| format!("{PROMISE_LOST}. {MUTE}"));
        let damage = || self.damage.as_ref().map(ToString::to_string);
        let cut_off = || {
            let (peer, first) = self.cut_off?;
            Some(format!("replica {peer} trimmed the slots below {first}, which are wanted here"))
        };
        let receiving = || self.receiving.map(|receiving| receiving.to_string());
        let forming = || self.trouble.as_ref().map(ToString::to_string);
        let joins = || {
            let cluster = self.joins?;
            Some(format!(
                "waiting to hear of cluster {cluster}, from a member that is reached from here and \
                 reaches this replica"
            ))
        };
        let missing = || {
            let waits =
                format!("waiting for replica {} to form the cluster", listed(&self.missing));
            (!self.missing.is_empty()).then_some(waits)
        };
        let applies = || {
            let membership = self.membership.as_ref()?;
            let applies = membership.member(self.id).is_none() && !membership.has_removed(self.id);
            let id = self.id;
            applies
                .then(|| format!("no member yet: a leader is to be asked for add_observer({id})"))
        };
        let missed = || {
            let waits = format!("removed; waiting until replica {} knows", listed(&self.missed_by));
            (!self.missed_by.is_empty()).then_some(waits)
        };
        let own =
            stopped.or_else(repair).or_else(full).or_else(fenced).or_else(lost).or_else(damage);
        let comes = own.or_else(missed).or_else(receiving).or_else(cut_off).or_else(applies);
        comes.or_else(forming).or_else(joins).or_else(missing)
    }

    /// Why calls wait, for those who waited in vain.
    #[must_use]
    pub fn why_late(&self) -> String {
        let leader = self.view.and_then(|view| view.leader);
        self.in_the_way().unwrap_or_else(|| match leader {
            Some(ballot) => format!("replica {} leads", ballot.leader),
            None if !self.bound_for.is_zero() => {
                let Self { bound_for, .. } = self;
                format!("no leader is heard; a lease binds this replica for another {bound_for:?}")
            }
            None => "no leader is heard".into(),
        })
    }
}

impl<D: Disk> Driver<D> {
    /// What the protocol core tells about itself; `None` while the cluster forms, and while this
    /// replica fetches what it lost before it takes part.
    #[must_use]
    pub fn view(&self) -> Option<View> {
        Some(self.paxos.as_ref()?.view())
    }

    /// What connections say of this replica, and whom it expects.
    #[must_use]
    pub fn standing(&self) -> Standing {
        let identity = self.journal.identity();
        let governing = self.paxos.as_ref().map(Paxos::membership).or(self.repair.members.as_ref());
        let membership = governing.or(identity.membership.as_ref());
        let members = match membership {
            Some(membership) => self.expected(membership),
            None => self.options.voters.iter().map(Expected::from).collect(),
        };
        let hello = Hello {
            cluster: identity.cluster,
            replica: self.options.id,
            receiver: ReplicaId::default(),
            incarnation: identity.incarnation,
            boot: identity.boot,
            frontier: self.journal.found_through(),
            protocols: Protocols::SPOKEN,
            address: self.own_address(&members),
        };
        Standing { hello, members, sightings: self.fence.sightings() }
    }

    /// Whom a member of `membership` expects. Who does not belong may be able to reach those only
    /// whom it was told of: others than these, or a lone one at an address that no entry says yet.
    fn expected(&self, membership: &Membership) -> Vec<Expected> {
        let members = membership.members().map(Expected::from);
        if membership.member(self.options.id).is_some() {
            return members.collect();
        }
        let told = self.options.voters.iter().map(Expected::from);
        let others = told.filter(|told| membership.member(told.id).is_none());
        let is_lone = membership.voters().len() == 1 && !membership.has_removed(self.options.id);
        let addressed = members.map(|member| {
            let told = self.told_address(member.id);
            match is_lone && !told.is_empty() {
                true => Expected { address: told, ..member },
                false => member,
            }
        });
        addressed.chain(others).collect()
    }

    fn told_address(&self, id: ReplicaId) -> String {
        let told = self.options.voters.iter().find(|(told, _)| *told == id);
        told.map(|(_, address)| address.clone()).unwrap_or_default()
    }

    /// Where a founder is, the membership says; where it is not known there, and of one that
    /// joined, the settings do.
    fn own_address(&self, members: &[Expected]) -> String {
        let id = self.options.id;
        let known = members.iter().find(|member| member.id == id);
        let known = known.map(|member| member.address.as_str()).filter(|known| !known.is_empty());
        let formed = self.membership().and_then(|membership| membership.voter(id));
        let given = self.given_address();
        let is_old = formed.is_some_and(|formed| {
            formed.address.is_empty() || given == Some(formed.address.as_str())
        });
        let was = Some(self.leaving.address()).filter(|was| self.is_removed() && !was.is_empty());
        given.filter(|_| !is_old).or(was).or(known).or(given).unwrap_or_default().to_owned()
    }

    /// The standing is another one from now on.
    pub(super) fn tell_standing(&mut self) {
        let Standing { members, .. } = self.standing();
        self.fence.forget_others(|id| members.iter().any(|member| member.id == id));
        let removed = self.paxos.as_ref().map(|paxos| paxos.membership().removed());
        self.forwards.forget(removed.unwrap_or_default());
        self.effects.standing = Some(self.standing());
    }

    /// The membership that this replica agreed to.
    #[must_use]
    pub fn membership(&self) -> Option<&Membership> {
        self.journal.identity().membership.as_ref()
    }

    /// Where this replica is to be reached, as its settings say.
    pub(super) fn given_address(&self) -> Option<&str> {
        let own = self.options.voters.iter().find(|(id, _)| *id == self.options.id);
        own.map(|(_, address)| address.as_str()).filter(|address| !address.is_empty())
    }

    /// The other members; while the cluster forms, or this replica is about to learn who belongs,
    /// those that it was told of.
    pub(super) fn others(&self) -> Vec<ReplicaId> {
        let told = || self.options.voters.iter().map(|(id, _)| *id).collect();
        let ids = |members: &Membership| members.members().map(|member| member.id).collect();
        let members = self.members().or(self.repair.members.as_ref());
        let mut others: Vec<ReplicaId> = members.map_or_else(told, ids);
        others.retain(|id| *id != self.options.id);
        others
    }

    /// Calls that wait for their answer.
    fn waiting(&self) -> usize {
        let moves = self.hand_overs.len() + self.changes.len();
        self.requests.len() + moves + self.checkpoints.waiting()
    }

    /// What this replica has still to do.
    #[cfg(feature = "sim")]
    #[must_use]
    pub fn unfinished(&self) -> Unfinished {
        Unfinished {
            held: self.held.len(),
            proposals: self.proposals.len(),
            inflight_slots: self.paxos.as_ref().map_or(0, |paxos| paxos.inflight_slots()),
            queued_bytes: self.batcher.bytes(),
            waiting: self.waiting(),
            tail: self.tail.count(),
            writes: !self.journal.is_idle(),
        }
    }

    /// The votes that this replica remembers, from `slot_chosen` on.
    #[cfg(feature = "sim")]
    #[must_use]
    pub fn votes(&self) -> Vec<(Slot, Ballot)> {
        self.paxos.as_ref().map(|paxos| paxos.votes()).unwrap_or_default()
    }

    /// What this replica can tell about itself.
    #[must_use]
    pub fn report(&self) -> Report {
        let peers = self.others().into_iter().map(|id| {
            let peer = self.paxos.as_ref().and_then(|paxos| paxos.peer(id));
            let (heard, slot_chosen) =
                peer.map_or((false, Slot::ZERO), |(heard, _, chosen)| (heard, chosen));
            let paxos = self.paxos.as_ref();
            let priority = paxos.map_or(0, |paxos| paxos.priority(id));
            let knows = paxos.map_or(Edition::default(), |paxos| paxos.knows(id));
            PeerReport { id, heard, priority, knows, slot_chosen }
        });
        let peers = peers.collect::<Vec<_>>();
        let forming = self.is_forming();
        let votes = |id| self.members().is_some_and(|members| members.voter(id).is_some());
        // Who cannot hear this replica decides nothing with it.
        let reaches = |id| self.paxos.as_ref().is_some_and(|paxos| paxos.reaches(id));
        let reached = peers.iter().filter(|peer| reaches(peer.id) && votes(peer.id)).count();
        let is_mute = self.fence.told_by().is_some() || self.space.is_short();
        let lost = self.paxos.as_ref().is_some_and(|paxos| paxos.doubts().promise_lost);
        let live = reached + usize::from(votes(self.options.id) && !is_mute && !lost);
        let needed = self
            .members()
            .map_or(usize::MAX, |membership| membership.phase1().max(membership.phase2()) as usize);
        Report {
            id: self.options.id,
            view: self.view(),
            cluster: Some(self.journal.identity().cluster).filter(|_| !forming),
            membership: self.members().or(self.repair.members.as_ref()).cloned(),
            trouble: self.formation.trouble().filter(|_| forming).cloned(),
            missing: if forming { self.formation.missing() } else { Vec::new() },
            joins: self.options.join.filter(|_| forming),
            priority: self.options.priority,
            peers,
            failures_tolerated: live.checked_sub(needed).filter(|_| self.paxos.is_some()),
            queued_bytes: self.batcher.bytes(),
            waiting: self.waiting(),
            journal_bytes: self.journal.bytes_on_disk(),
            backlog_bytes: self.journal.backlog_bytes(),
            slot_trimmed: self.slot_trimmed(),
            cut_off: self.cut_off(),
            receiving: self.receiving.as_ref().map(Receiving::report),
            slot_checkpointed: self.slot_checkpointed(),
            damage: self.damage.clone(),
            repair: self.repair.report(),
            doubts: self.paxos.as_ref().map(|paxos| paxos.doubts().clone()).unwrap_or_default(),
            missed_by: self.missed_by(),
            fenced_by: self.fence.told_by(),
            storage_full: self.space.is_short(),
            read_rounds: self.paxos.as_ref().map_or(0, Paxos::read_rounds),
            bound_for: self.paxos.as_ref().map_or(Duration::ZERO, Paxos::bound_for),
            stopped: match &self.stage {
                Stage::Stopped(err) => Some(err.clone()),
                Stage::Serving | Stage::Closing(_) => None,
            },
        }
    }
}
