//! Changing the membership: a leader makes the log say who belongs from the next slot on.
//!
//! ```text
//!   slot            s-1         s            s+1
//!   holds           "a"     membership       "b"
//!   governed by     before    before        the new one
//!
//!   leader                         voters of the new membership
//!     |  Prepare(ballot)              |
//!     |------------------------------>|    other slots go on meanwhile
//!     |  Promise(ballot)              |
//!     |<------------------------------|    a phase-1 quorum of them
//!     | proposes it in slot s, and nothing behind until s is chosen
//! ```
//!
//! The entry chosen in slot *s* governs from *s* + 1 on. (Lamport lets it count alpha slots later,
//! so that proposals need not wait; with an alpha of thousands that is a wait for thousands of
//! no-ops. Here the leader waits for one round instead.)
//!
//! A membership is proposed at a ballot, also where phase 1 found it in its slot, only when a
//! phase-1 quorum of its own voters promised that ballot. From this follows what makes it safe:
//!
//! *Nothing is chosen behind s at a ballot below the first one, b, at which s was chosen.* Before s
//! was chosen nobody knew that the new membership governs there, so no set of votes cast until then
//! is a choice; and when it was, a phase-1 quorum of the new voters had promised b, so no lower
//! ballot gets a phase-2 quorum of them any more, whoever leads there, and whatever that one has
//! learned since.
//!
//! So who proposed it first at its ballot has nothing to look for behind s. Who found it in phase 1
//! does not know whether it was chosen before: it asks the new voters anew, and goes on with what
//! is safe according to them.
//!
//! Votes under the old membership behind s choose nothing, even where a quorum of the old voters
//! cast them. Nobody ever acts on them: slots are learned in order, and s holds another entry than
//! whoever counted them believes.
//!
//! That it can go on after the change, also without those who leave, is seen to before: who asks
//! for a membership waits until its voters are enough for both phases, and enough of them to choose
//! know what the leader knew when it was asked. A leader that found one, and gets nowhere with it
//! for an election timeout, tries a higher ballot, or lets another try.
//!
//! Invariants:
//! * A leader proposes behind a membership only when it knows that one to be chosen.
//! * At its ballot it holds a phase-1 quorum of whatever membership governs the slots in which it
//!   proposes.
//! * One change at a time. A membership in the log that may not follow the one before changes
//!   nothing, and is an entry like any other.

use crate::types::bugs::{self, Bug};
use crate::types::entry::{Entry, EntryKind};
use crate::types::ids::{ReplicaId, Slot};
use crate::types::marks::reached;
use crate::types::membership::Membership;
use crate::types::message::{Message, Promise};
use crate::types::time::Moment;

use super::phase1::Phase1;
use super::quorum::{Quorum, VoterSet};
use super::{Paxos, Role};

/// Where nothing is to be told but the promise.
const NOWHERE: Slot = Slot(u64::MAX);

/// A change of the membership that a leader makes, or found half made.
#[derive(Clone, Debug, Hash)]
pub(super) struct Change {
    membership: Membership,
    quorum: Quorum,
    /// What its voters answered.
    phase1: Phase1,
    /// What its voters have to know before it is proposed.
    known: Slot,
    /// When it began, or was last answered.
    since: Moment,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Stage {
    /// Asked for here, and not proposed yet: other entries may be.
    Announced,
    /// Asked for here, and proposed: nothing else is, until it is chosen.
    Proposed,
    /// Phase 1 found it in this slot, behind which it did not look.
    Found(Slot),
}

impl Change {
    /// Whether the leader must not propose behind what it has.
    pub(super) fn holds_back(&self) -> bool {
        self.stage != Stage::Announced && !bugs::is_on(Bug::ProposeBehindChange)
    }

    /// Whether more may turn up that was chosen before.
    pub(super) fn hides_choices(&self) -> bool {
        matches!(self.stage, Stage::Found(_))
    }

    /// The quorums that the leader needs besides those of the present membership.
    pub(super) fn needs(&self) -> Option<&Quorum> {
        self.hides_choices().then_some(&self.quorum)
    }

    /// Whether the voters of the new membership let the leader propose it. What is proposed anew
    /// must be able to go on: then they are enough for phase 2, too.
    fn is_prepared(&self) -> bool {
        let promised = self.phase1.promised(&self.quorum);
        let is_new = self.stage == Stage::Announced;
        let enough = self.quorum.is_phase1(promised);
        enough && (!is_new || self.quorum.is_phase2(promised)) || bugs::is_on(Bug::ChangeUnprepared)
    }
}

impl Paxos {
    /// The membership that governs the first slot that is not known to be chosen.
    #[must_use]
    pub fn membership(&self) -> &Membership {
        &self.membership
    }

    /// Whether this replica voted for a membership in a slot that it does not know to be chosen.
    #[must_use]
    pub fn votes_for_membership(&self) -> bool {
        let mut votes = self.log.votes_from(self.slot_chosen);
        votes.any(|(_, (_, entry))| entry.kind() == EntryKind::Membership)
    }

    /// The membership that this leader is about to make count; `None` where there is none.
    #[must_use]
    pub fn changing_to(&self) -> Option<&Membership> {
        self.change().map(|change| &change.membership)
    }

    /// Whether a change of the membership may be asked for: this replica leads, is ready, does not
    /// hand over, and no other change is under way.
    #[must_use]
    pub fn can_change(&self) -> bool {
        self.is_ready() && self.change().is_none() && self.handing_over().is_none()
    }

    /// Whether a leader asks with this for nothing but a promise: it is about to propose a
    /// membership by which this replica would vote.
    #[must_use]
    pub fn is_announcement(message: &Message) -> bool {
        matches!(message, Message::Prepare { from: NOWHERE, .. })
    }

    /// The owner asks for a membership.
    pub(super) fn on_change(&mut self, membership: Membership) {
        if self.can_change() && membership.check_successor(&self.membership).is_ok() {
            self.begin_change(membership, NOWHERE, Stage::Announced);
        }
    }

    /// What phase 1 found safe is to be proposed. Behind a membership it says nothing.
    pub(super) fn adopt(&mut self, mut safe: Vec<Entry>) {
        let Role::Leader(leader) = &self.role else { return };
        let first = leader.first_unproposed();
        let next = safe
            .iter()
            .zip(0..)
            .find_map(|(entry, place)| Some((place, entry.membership_after(&self.membership)?)));
        let found = next.map(|(place, membership)| {
            safe.truncate(place + 1);
            (first.plus(place as u64), membership)
        });
        if let Role::Leader(leader) = &mut self.role {
            leader.adopt(safe);
        }
        match found {
            Some((slot, membership)) => {
                reached!(ChangeFound);
                self.begin_change(membership, slot.next(), Stage::Found(slot));
            }
            None => {
                // Phase 1 spoke for all further slots, also to this replica itself.
                let Role::Leader(leader) = &self.role else { return };
                let first = leader.first_unproposed();
                if !self.doubts.is_empty() {
                    reached!(OwnDoubtsSettled);
                }
                self.settle_doubts(first);
            }
        }
        self.propose_adopted();
    }

    fn begin_change(&mut self, membership: Membership, from: Slot, stage: Stage) {
        let Role::Leader(leader) = &mut self.role else { return };
        let (quorum, since) = (Quorum::of(&membership), self.now);
        let (phase1, known) = (Phase1::new(from, self.now), self.slot_chosen);
        let votes_itself = quorum.is_voter(self.options.id);
        let ballot = leader.ballot;
        let change = Change { membership, quorum, phase1, known, since, stage };
        leader.change = Some(Box::new(change));
        self.prepare_change();
        if votes_itself {
            self.answer_prepare(self.options.id, ballot, from);
        }
    }

    /// Phase 1a, to those voters of the new membership whose answer is not whole.
    fn prepare_change(&mut self) {
        let now = self.now;
        let Role::Leader(leader) = &mut self.role else { return };
        let Some(change) = &mut leader.change else { return };
        let prepare = Message::Prepare { ballot: leader.ballot, from: change.phase1.from };
        let asked = change.phase1.ask(change.quorum.ids(), now);
        self.hold_prepare(&prepare, asked);
    }

    /// Asks again, gives up what nobody heard of yet, or what another leader may get on with.
    pub(super) fn retransmit_change(&mut self) {
        let Some(change) = self.change() else { return };
        let idle = self.now.since(change.since.max(self.learned_at));
        let patience = self.election.patience();
        let asks_again = self.now.since(change.phase1.sent_at) >= self.options.retransmit_interval;
        match change.stage {
            Stage::Announced if self.options.election_timeout <= self.now.since(change.since) => {
                reached!(ChangeGivenUp);
                self.end_change();
            }
            // Who told of it may be gone, and whose answer abstains is not asked again.
            Stage::Found(_) if patience <= idle => match self.can_reach_quorums() {
                true => self.campaign(),
                false => self.become_follower(),
            },
            Stage::Announced | Stage::Found(_) if asks_again => self.prepare_change(),
            Stage::Announced | Stage::Found(_) | Stage::Proposed => {}
        }
    }

    /// A voter of the new membership answers.
    pub(super) fn on_promise_to_leader(&mut self, from: ReplicaId, promise: Promise) {
        let Role::Leader(leader) = &mut self.role else { return };
        let same_ballot = promise.ballot == leader.ballot;
        let known = promise.slot_chosen;
        if let Some(change) = leader.change.as_mut().filter(|_| same_ballot)
            && change.phase1.add(from, promise)
        {
            if change.hides_choices() {
                change.since = self.now;
            }
            self.election.note_known(from, known);
            self.go_on_changing();
            self.propose_adopted();
        }
    }

    /// Takes the next step of a change, if its voters answered.
    pub(super) fn go_on_changing(&mut self) {
        let Some(change) = self.change().filter(|change| change.is_prepared()) else { return };
        if let Some((informant, chosen)) = change.phase1.informant_beyond(self.slot_chosen) {
            // They know what this replica proposes here: it leads no longer, or will learn so.
            return self.fetch_from(informant, chosen);
        }
        match change.stage {
            Stage::Announced if self.has_room() && self.have_caught_up(change) => {
                let entry = Entry::membership(&change.membership);
                self.set_stage(Stage::Proposed);
                self.propose(entry);
            }
            Stage::Found(slot) if slot < self.slot_chosen => {
                let alpha = self.membership.alpha();
                if bugs::is_on(Bug::FoundChangeTrusted) {
                    return self.end_change();
                }
                let changes = |entry: &Entry| entry.membership_after(&self.membership).is_some();
                let first = self.slot_chosen;
                let safe = change.phase1.safe_entries(&self.quorum, first, alpha, changes);
                let Some(safe) = safe else { return };
                self.end_change();
                self.adopt(safe);
                if self.change().is_none() {
                    self.election.campaign_succeeded();
                }
            }
            Stage::Announced | Stage::Proposed | Stage::Found(_) => {}
        }
    }

    /// Whether enough voters of the new membership to choose know what this leader knew when it
    /// was asked for the change. Otherwise the old ones might go, and nobody left could go on.
    fn have_caught_up(&self, change: &Change) -> bool {
        change.quorum.is_phase2(self.knowing(&change.quorum, change.known))
    }

    /// The voters of `quorum` that are heard to know all below `slot`; this replica among them.
    fn knowing(&self, quorum: &Quorum, slot: Slot) -> VoterSet {
        quorum.those(|id| {
            let knows = || self.election.peer(id).is_some_and(|peer| slot <= peer.slot_chosen);
            id == self.options.id || knows()
        })
    }

    /// The first slot that the present membership governs; where it was in force at the opening,
    /// the first one that was not known to be chosen then.
    #[must_use]
    pub fn governs(&self) -> Slot {
        self.governs
    }

    /// Whether the ledger is of an edition that this build does not know. What comes behind may
    /// change who votes, and cannot be read here: this core takes in nothing any more, and its
    /// owner stops.
    #[must_use]
    pub fn is_outdated(&self) -> bool {
        self.options.knows < self.membership.edition()
    }

    /// Whether this replica leads, enough voters to choose know durably of the membership that
    /// governs now, and something was chosen under it: then nothing of the one before is needed any
    /// more.
    ///
    /// What a heartbeat tells is not enough: it may be forgotten in a crash. Nor is a vote behind
    /// the membership, which may be older than what the voter learned below it. A voter tells with
    /// its votes how far its journal shows the log to be chosen.
    #[must_use]
    pub fn is_established(&self) -> bool {
        let known = self.quorum.those(|id| self.governs <= self.known_durable(id));
        let used = self.governs < self.slot_chosen;
        let safe = used && self.quorum.is_phase2(known) || bugs::is_on(Bug::RetireEarly);
        matches!(self.role, Role::Leader(_)) && safe
    }

    /// How far the one with this id is known to have the log durably, where it is a member.
    #[must_use]
    pub fn known_durable(&self, id: ReplicaId) -> Slot {
        match id == self.options.id {
            true => self.slot_durable,
            false => self.election.peer(id).map_or(Slot::ZERO, |peer| peer.slot_durable),
        }
    }

    /// Whether this replica and those that can be reached both ways are enough for both phases of
    /// `membership`.
    #[must_use]
    pub fn can_carry(&self, membership: &Membership) -> bool {
        self.reaches_both(&Quorum::of(membership), |_| true)
    }

    /// Whether this leader, and those that can be reached both ways, are enough of the present
    /// voters to choose: their promises it has.
    #[must_use]
    pub fn can_choose(&self) -> bool {
        self.quorum.is_phase2(self.reached(&self.quorum, |_| true))
    }

    /// Whether this leader may propose `entry` next, which phase 1 found.
    pub(super) fn may_propose_found(&self, entry: &Entry) -> bool {
        let changes = entry.membership_after(&self.membership).is_some();
        !changes || self.change().is_none_or(Change::is_prepared)
    }

    /// The slot before `slot_chosen` is chosen and holds `entry`: what it says counts from here on.
    pub(super) fn learn_membership(&mut self, entry: &Entry) {
        if self.is_outdated() {
            // What it says, only later builds can read.
            return;
        }
        let Some(membership) = entry.membership_after(&self.membership) else {
            return self.end_overtaken_change();
        };
        let keeps = matches!(self.role, Role::Candidate(_));
        if !keeps || !bugs::is_on(Bug::CandidateKeepsQuorum) {
            self.quorum = Quorum::of(&membership);
        }
        if matches!(self.role, Role::Leader(_)) {
            self.take_leave();
        }
        self.membership = membership;
        self.election.set_peers(&self.peers());
        self.governs = self.slot_chosen;
        if self.is_outdated() {
            return self.become_follower();
        }
        self.leave_removed_leader();
        let (votes, own) = (self.is_voter(), self.made_change());
        match &self.role {
            Role::Follower => {}
            Role::Candidate(_) if !votes => self.become_follower(),
            // Who promised its ballot did so for all slots. The others have to be asked.
            Role::Candidate(_) => self.send_prepare(),
            Role::Leader(_) if !own => {
                // At this replica's ballot the new voters were not asked. Somebody else leads.
                self.become_follower();
            }
            Role::Leader(_) if !votes => self.become_follower(),
            Role::Leader(_) => {
                self.restart_lease();
                self.restart_reads();
            }
        }
    }

    /// Whether the membership that was just learned is the one that this leader proposed, or found
    /// there. In the first case the change is over.
    fn made_change(&mut self) -> bool {
        let (membership, last) = (&self.membership, self.slot_chosen);
        let Role::Leader(leader) = &mut self.role else { return false };
        let Some(change) = leader.change.as_ref().filter(|change| change.membership == *membership)
        else {
            return false;
        };
        match change.stage {
            Stage::Announced => false,
            Stage::Proposed => {
                leader.change = None;
                true
            }
            Stage::Found(slot) => slot.next() == last,
        }
    }

    /// Something else is chosen in the slot in which phase 1 found a membership: somebody leads at
    /// a higher ballot.
    fn end_overtaken_change(&mut self) {
        let last = self.slot_chosen;
        let overtaken = self.change().is_some_and(|change| match change.stage {
            Stage::Found(slot) => slot.next() == last,
            Stage::Announced | Stage::Proposed => false,
        });
        if overtaken {
            self.become_follower();
        }
    }

    /// The last that those hear from this leader who belong no longer: the new voters count
    /// already, and the old members are told. Where it is one of those who leave, the best prepared
    /// of the voters is to lead at once.
    fn take_leave(&mut self) {
        let successor = self.successor(|_| false);
        if let Some(to) = successor.filter(|_| !self.is_voter()) {
            reached!(RemovedLeaderHandsOver);
            self.send_take_over(to, false);
        }
        self.send_heartbeats();
    }

    /// Who led does not vote any more, and says nothing further.
    pub(super) fn leave_removed_leader(&mut self) {
        let leader = self.election.leader(self.now).map(|ballot| ballot.leader);
        if let Some(leader) = leader.filter(|id| !self.quorum.is_voter(*id)) {
            self.leader_gone(leader);
        }
    }

    pub(super) fn change(&self) -> Option<&Change> {
        match &self.role {
            Role::Leader(leader) => leader.change.as_deref(),
            Role::Follower | Role::Candidate(_) => None,
        }
    }

    fn set_stage(&mut self, stage: Stage) {
        if let Role::Leader(leader) = &mut self.role
            && let Some(change) = &mut leader.change
        {
            change.stage = stage;
        }
    }

    pub(super) fn end_change(&mut self) {
        if let Role::Leader(leader) = &mut self.role {
            leader.change = None;
        }
    }
}
