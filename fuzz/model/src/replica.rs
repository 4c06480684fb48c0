//! One replica: a core as it ships, its journal, and what waits between them.
//!
//! Everything that can happen to it is a [`Step`]. A step is a function of the replica alone: it
//! returns the replica behind it, and the letters that left. What a core sends to itself comes back
//! within the step that released it. A replica that crashes opens again at once; that it stays down
//! for a while is no different from late messages.
//!
//! Time stands still, so no timer ever fires: campaigns are steps, and with a retransmission
//! interval of zero everything unanswered may be sent again whenever the model asks for it.

use std::collections::VecDeque;
use std::hash::Hash;
use std::time::Duration;

use indelible::paxos::Paxos;
use indelible::paxos::step::{Options, RoleName};
use indelible::types::bugs;
use indelible::types::edition::Edition;
use indelible::types::entry::Entry;
use indelible::types::ids::{Ballot, Boot, Chain, ContentHash, Incarnation, ReplicaId, Slot};
use indelible::types::membership::{Member, Membership, majority_of};
use indelible::types::message::{Doubt, Message};
use indelible::types::record::{Held, Recovered};
use indelible::types::time::Moment;

use crate::bugs::chain_of;
use crate::journal::Journal;
use crate::settings::{REPLICAS, Settings};
use crate::table::Key;

/// Something that happens to a replica.
#[derive(Clone, Debug)]
pub enum Step {
    /// It campaigns.
    Campaign,
    /// It proposes a command that nobody proposed before.
    Propose,
    /// It makes another membership count: the one with this place among the settings.
    Change(usize),
    /// Its oldest volatile record becomes durable.
    Sync,
    /// It loses what is not durable, and opens again.
    Crash,
    /// Its process dies, and it opens again: what is not durable can still be read.
    Kill,
    /// It crashes, its newest durable vote in the slot is damaged, and it opens again.
    Damage(Slot, Doubt),
    /// It crashes in the middle of a write, and opens again. What it was writing need not have been
    /// a promise or a vote.
    Tear,
    /// It crashes, its promise is damaged, which the opening that follows notices.
    LosePromise,
    /// It sends again what is not answered.
    Retransmit,
    /// A linearizable read begins, when every slot below `floor` had been learned by someone.
    Read {
        /// Exclusive.
        floor: Slot,
    },
    /// It takes in the state that these entries, from slot 0 on, add up to. A peer learned them.
    Install(Vec<Entry>),
    /// A message arrives.
    Receive {
        /// Who sent it.
        from: ReplicaId,
        /// What it says.
        message: Message,
    },
}

/// A message on its way.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Letter {
    /// The sender.
    pub from: ReplicaId,
    /// The receiver.
    pub to: ReplicaId,
    /// What is said.
    pub message: Message,
}

/// What a replica must never do, and did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Breach {
    /// It claimed what is not durable.
    Evidence,
    /// Its journal holds a promise or a vote below a promise.
    Regression,
    /// It proposed two entries in one slot at one ballot.
    TwoProposals,
    /// A read went on before everything learned earlier was applied.
    StaleRead,
    /// Its log differs from what a peer says is chosen.
    Divergence,
    /// An assertion of the core failed. It stopped.
    Assertion,
}

/// The replica.
#[derive(Clone, Debug)]
pub struct Replica {
    /// Its id.
    pub id: ReplicaId,
    /// `None` where an assertion failed.
    pub(crate) core: Option<Paxos>,
    /// Its journal.
    pub journal: Journal,
    /// Messages, each with how many of the volatile records it waits for.
    pub(crate) held: VecDeque<(usize, Held)>,
    /// The entries that it knows to be chosen, from slot 0 on.
    pub learned: Vec<Entry>,
    /// What it proposed, ever.
    pub(crate) proposed: Vec<(Slot, Ballot, ContentHash)>,
    /// How often it campaigned, in all openings.
    pub campaigns: u8,
    /// How often it crashed.
    pub crashes: u8,
    /// How often it was asked to change the membership.
    pub changes: u8,
    /// How many states of peers it took in.
    pub installs: u8,
    /// How many reads began.
    pub reads: u8,
    /// How many of them in this opening.
    pub(crate) reads_opened: u64,
    /// The reads that have no barrier yet, and what it must cover.
    pub(crate) waiting: Vec<(u64, Slot)>,
    /// The number of its last round of confirmation.
    pub nonce: u64,
    /// The membership of which its quorums are, where a mistake keeps those of an earlier one: the
    /// essence of its core takes them to be those of its membership.
    pub(crate) kept: Option<Membership>,
    /// What it did wrong.
    pub breach: Option<Breach>,
}

impl Replica {
    /// A replica of a formed cluster that was never opened before.
    #[must_use]
    pub fn new(id: ReplicaId, settings: &Settings) -> Self {
        let mut replica = Self {
            id,
            core: None,
            journal: Journal::default(),
            held: VecDeque::new(),
            learned: Vec::new(),
            proposed: Vec::new(),
            campaigns: 0,
            crashes: 0,
            changes: 0,
            installs: 0,
            reads: 0,
            reads_opened: 0,
            waiting: Vec::new(),
            nonce: 0,
            kept: None,
            breach: None,
        };
        let seen = replica.journal.clone();
        replica.open(settings, &seen);
        replica
    }

    /// Begins an opening that reads `seen`.
    pub(crate) fn open(&mut self, settings: &Settings, seen: &Journal) {
        let (mut recovered, learned) = seen.recover(Entry::membership(&membership(settings)));
        if let Some(bug) = settings.bug {
            bug.on_recover(seen, &mut recovered);
        }
        self.held.clear();
        self.waiting.clear();
        self.reads_opened = 0;
        self.nonce = 0;
        self.kept = None;
        self.learned = learned;
        self.core = Some(self.new_core(settings, recovered));
    }

    fn new_core(&self, settings: &Settings, recovered: Recovered) -> Paxos {
        let alpha = self.alpha(settings);
        let openings = self.openings();
        let second = Duration::from_secs(1);
        let options = Options {
            id: self.id,
            incarnation: Incarnation(u128::from(self.id.0)),
            boot: Boot { sequence: openings, nonce: self.id.0 << 32 | openings },
            membership: self.governing(settings, &self.learned),
            seed: 0,
            heartbeat_interval: second,
            election_timeout: 10 * second,
            retransmit_interval: if settings.retransmits { Duration::ZERO } else { second },
            priority: 0,
            knows: Edition::KNOWN,
            lease: Default::default(),
            inflight_slots_max: alpha,
            inflight_bytes_max: 1 << 20,
            message_bytes_max: 1 << 20,
        };
        bugs::switch(settings.bug.and_then(|bug| bug.within_core()));
        let mut core = Paxos::new(options, recovered, Moment::ZERO);
        // The first tick only says that it is there; from then on, none does.
        core.step(Moment::ZERO, indelible::paxos::step::Input::Tick);
        drop(core.take_output());
        bugs::switch(None);
        core
    }

    fn alpha(&self, settings: &Settings) -> u64 {
        settings.bug.map_or(settings.alpha, |bug| bug.alpha(self.id, settings.alpha))
    }

    /// What governs the first slot behind `learned`, as this replica sees it.
    pub(crate) fn governing(&self, settings: &Settings, learned: &[Entry]) -> Membership {
        let first = membership(&Settings { alpha: self.alpha(settings), ..settings.clone() });
        governing(first, learned)
    }

    /// What tells this replica from others.
    #[must_use]
    pub fn key(&self, settings: &Settings) -> ContentHash {
        let Self {
            id,
            core,
            journal,
            held,
            learned,
            proposed,
            campaigns,
            crashes,
            changes,
            installs,
            reads,
            reads_opened,
            waiting,
            nonce,
            kept,
            breach,
        } = self;
        let mut key = Key::default();
        (id, journal, held, learned, proposed, campaigns).hash(&mut key);
        (crashes, changes, installs, reads, reads_opened, waiting, nonce, breach, core.is_some())
            .hash(&mut key);
        kept.hash(&mut key);
        if let Some(core) = core {
            core.hash_essence(&mut key);
        }
        if let Some(core) = core.as_ref().filter(|_| settings.retires()) {
            // What its votes tell from now on.
            self.last_governed(settings, |slot| core.notes(slot)).hash(&mut key);
            if self.may_lead(settings) {
                core.hash_established(&mut key);
            }
        }
        key.end()
    }

    /// Of the slots that a journal reaches, which it shows to be chosen, the last one from which on
    /// a membership may govern, as somebody sees it: no more of how far it reaches ever counts.
    pub(crate) fn last_governed(
        &self,
        settings: &Settings,
        reaches: impl Fn(Slot) -> bool,
    ) -> Slot {
        let (mut last, mut present) = (Slot::ZERO, membership(settings));
        for (slot, entry) in (1..).map(Slot).zip(self.learned.iter().skip(1)) {
            let next = entry.membership_after(&present);
            if reaches(slot.next()) && (next.is_some() || settings.governs_later()) {
                last = slot.next();
            }
            present = next.unwrap_or(present);
        }
        last
    }

    /// Whether it leads, or may do so later.
    pub(crate) fn may_lead(&self, settings: &Settings) -> bool {
        let role = self.core.as_ref().map(|core| core.view().role);
        role.is_some_and(|role| role != RoleName::Follower) || self.may_campaign(settings)
    }

    /// Whether it has campaigns left.
    pub(crate) fn may_campaign(&self, settings: &Settings) -> bool {
        settings.campaigns.get(self.place()).is_some_and(|most| self.campaigns < *most)
    }

    /// How far those at each place have the log durably, as far as this replica knows; beyond all
    /// slots where it makes no difference any more.
    pub(crate) fn knows_durable(&self, settings: &Settings) -> [Slot; REPLICAS] {
        let core = self.core.as_ref().filter(|_| settings.retires() && self.may_lead(settings));
        let Some(core) = core else { return [Slot(u64::MAX); REPLICAS] };
        let crashes = settings.crashes.get(self.place()).is_some_and(|most| self.crashes < *most);
        if crashes && self.may_campaign(settings) {
            // It may forget what it was told, and be told anew.
            return [Slot::ZERO; REPLICAS];
        }
        std::array::from_fn(|place| {
            let id = ReplicaId(place as u64 + 1);
            // What is below the first slot that the membership governs counts no more.
            let known = core.known_durable(id).max(Slot(core.governs().0 - 1));
            // Who is no member is not listened to, and never comes back.
            core.membership().member(id).map_or(Slot(u64::MAX), |_| known)
        })
    }

    /// The membership of which it says that it stands without the one before, and the first slot
    /// that it governs, as this replica sees it.
    #[must_use]
    pub fn established(&self, settings: &Settings) -> Option<(Slot, &Membership)> {
        bugs::switch(settings.bug.and_then(|bug| bug.within_core()));
        let core = self.core.as_ref().filter(|core| core.is_established());
        bugs::switch(None);
        core.map(|core| (core.governs(), core.membership()))
    }

    /// The first slot that it does not know to be chosen.
    #[must_use]
    pub fn slot_chosen(&self) -> Slot {
        Slot(self.learned.len() as u64)
    }

    /// Its place among the replicas.
    #[must_use]
    pub fn place(&self) -> usize {
        self.id.0 as usize - 1
    }

    /// How often it was opened.
    #[must_use]
    pub fn openings(&self) -> u64 {
        u64::from(self.crashes) + 1
    }

    /// What it promised, durably or not.
    #[must_use]
    pub fn promised(&self) -> Ballot {
        self.core.as_ref().map_or(Ballot::ZERO, |core| core.view().promised)
    }

    /// The ballot at which it leads.
    #[must_use]
    pub fn leads_at(&self) -> Option<Ballot> {
        let view = self.core.as_ref()?.view();
        (view.role == RoleName::Leader).then_some(view.leader).flatten()
    }

    /// The chain below `end`, should all its votes be what is chosen.
    #[must_use]
    pub fn votes_chain(&self, end: Slot) -> Option<Chain> {
        let view = self.core.as_ref()?.view();
        chain_of(&self.journal, view.slot_chosen, view.chain, end)
    }
}

/// The first voters, of whom majorities decide, and those as observers who are to vote later.
///
/// # Panics
///
/// Where nobody votes.
#[must_use]
pub fn membership(settings: &Settings) -> Membership {
    let member = |id: usize| Member {
        id: ReplicaId(id as u64),
        incarnation: Incarnation(id as u128),
        address: format!("replica-{id}"),
    };
    let Settings { voters, alpha, .. } = *settings;
    let majority = majority_of(voters);
    let first = Membership::flexible((1..=voters).map(member).collect(), majority, majority, alpha);
    let joining = (voters + 1..=settings.replicas()).map(member);
    joining.fold(first.expect("majorities intersect"), |present, member| {
        present.with_observer(member).expect("it is new")
    })
}

/// The membership behind `present` in which these vote; `None` where one of them is no member.
///
/// # Panics
///
/// Where nobody of the present membership votes in it.
#[must_use]
pub fn successor(present: &Membership, voters: &[u64]) -> Option<Membership> {
    let is_named = |id: &ReplicaId| voters.contains(&id.0);
    if voters.iter().any(|id| present.member(ReplicaId(*id)).is_none()) {
        return None;
    }
    let joining = present.observers().iter().map(|member| member.id).filter(is_named);
    let leaving = present.voters().iter().map(|member| member.id).filter(|id| !is_named(id));
    let joined = joining.fold(present.clone(), |next, id| next.with_voter(id).expect("observes"));
    let next = leaving.fold(joined, |next, id| next.without(id).expect("others are left"));
    Some(if next == *present { next } else { next.following(present) })
}

/// What governs the first slot behind `learned`, which begins with `first`.
#[must_use]
pub fn governing(first: Membership, learned: &[Entry]) -> Membership {
    let next = |present, entry: &Entry| entry.membership_after(&present).unwrap_or(present);
    learned.iter().fold(first, next)
}
