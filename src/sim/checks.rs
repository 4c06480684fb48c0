//! What must hold, checked by someone who sees every journal at once.
//!
//! What is chosen is computed here from durable votes alone, whatever the cores believe. A quorum
//! is one of the membership that governs the slot; where somebody proposed a membership in an
//! earlier slot, that is known only when what is chosen there is.
//!
//! * **I1, agreement**: in each slot at most one entry ever has a phase-2 quorum of durable votes
//!   at one ballot.
//! * **I3, one entry**: in one slot and ballot nobody votes for, or proposes, two entries.
//! * **I4, promise**: in each journal promises only rise, and no vote is below an earlier promise;
//!   a `Promise`, a `Prepare` and an `Accepted` leave only when what they claim is durable.
//! * **I5, evidence**: a core learns an entry only when a quorum of durable votes for it exists.
//! * **I6, safe proposals**: nobody proposes against what was chosen at a lower ballot.
//! * **I8, frontier**: a core learns slots in order, each once in an opening.
//! * **I7, no silence**: an answer to `Prepare` tells, for every slot in which its sender ever
//!   voted durably below that ballot, such a vote or a newer one, or abstains, or says that the
//!   slot is chosen. But a vote that was lost is excused once a leader settled that it cannot
//!   matter.
//! * **I9, membership**: each is an edit of the one that governs before it.
//! * **I11, settled**: below the ballot of a leader that calls slots settled, nothing is chosen
//!   there.
//! * **R, reads**: a barrier covers every slot that anyone had learned before the read began.

use std::collections::{BTreeMap, BTreeSet};

use crate::types::entry::{Entry, EntryKind};
use crate::types::ids::{Ballot, ReplicaId, Slot};
use crate::types::membership::Membership;
use crate::types::message::{Message, Promise};
use crate::types::record::{Doubts, Record};

/// Above all ballots.
const HIGHEST: Ballot = Ballot { round: u64::MAX, leader: ReplicaId(u64::MAX) };

/// Everything that ever became durable anywhere.
#[derive(Debug)]
pub struct Checks {
    /// The memberships that were chosen, each with the first slot that it governs, and the ballot
    /// below which nobody's votes count there: whoever asked for them did not know it.
    memberships: BTreeMap<Slot, (Ballot, Membership)>,
    /// The first slot in which nothing is known to be chosen.
    slot_chosen: Slot,
    /// The slots from `slot_chosen` on in which somebody proposed a membership.
    changes: BTreeSet<Slot>,
    /// What was voted for or proposed, and who voted for it durably.
    votes: BTreeMap<(Slot, Ballot), (Entry, BTreeSet<ReplicaId>)>,
    /// What is chosen, and the ballot at which it was seen to be.
    chosen: BTreeMap<Slot, (Ballot, Entry)>,
    /// The highest durable promise of each replica, votes included.
    promised: BTreeMap<ReplicaId, Ballot>,
    /// The first slot that nobody has learned.
    learned: Slot,
    /// For each read under way, what its barrier must cover.
    reads: BTreeMap<(ReplicaId, u64), Slot>,
    /// The newest durable vote of each replica in each slot, but for those that are excused.
    voted: BTreeMap<(ReplicaId, Slot), Ballot>,
    /// Who lost a durable vote in a slot, and has nothing newer there yet.
    lost: BTreeMap<Slot, BTreeSet<ReplicaId>>,
    /// The parts of an answer that left so far: what they tell.
    told: BTreeMap<ReplicaId, BTreeMap<Slot, Ballot>>,
    /// What leaders settled: below which ballot, from which slot on.
    settled: BTreeSet<(Ballot, Slot)>,
}

impl Checks {
    /// A cluster whose slot 0 holds `membership`.
    #[must_use]
    pub fn new(membership: Membership) -> Self {
        let first = Entry::membership(&membership);
        Self {
            memberships: BTreeMap::from([(Slot(1), (Ballot::ZERO, membership))]),
            slot_chosen: Slot(1),
            changes: BTreeSet::new(),
            votes: BTreeMap::new(),
            chosen: BTreeMap::from([(Slot::ZERO, (Ballot::ZERO, first))]),
            promised: BTreeMap::new(),
            learned: Slot(1),
            reads: BTreeMap::new(),
            voted: BTreeMap::new(),
            lost: BTreeMap::new(),
            told: BTreeMap::new(),
            settled: BTreeSet::new(),
        }
    }

    /// What is chosen in `slot`.
    #[must_use]
    pub fn chosen(&self, slot: Slot) -> Option<&Entry> {
        self.chosen.get(&slot).map(|(_, entry)| entry)
    }

    /// The first slot that nobody has learned.
    #[must_use]
    pub fn learned(&self) -> Slot {
        self.learned
    }

    /// The slots from `first` on in which `id` ever voted durably, but for what is excused.
    pub fn voted_from(&self, id: ReplicaId, first: Slot) -> impl Iterator<Item = Slot> + '_ {
        self.voted.range((id, first)..(ReplicaId(id.0 + 1), Slot::ZERO)).map(|((_, slot), _)| *slot)
    }

    /// A record became durable at `id`.
    pub fn on_durable(&mut self, id: ReplicaId, record: &Record) {
        let promised = self.promised.entry(id).or_insert(Ballot::ZERO);
        match record {
            Record::Promise { ballot } => {
                assert!(*ballot > *promised, "I4: replica {id} promised {promised}, then {ballot}");
                *promised = *ballot;
            }
            Record::Vote { slot, ballot, entry } => {
                assert!(
                    *ballot == *promised,
                    "I4: replica {id} voted at {ballot} in slot {slot}, having promised {promised}"
                );
                self.vote(id, *slot, *ballot, entry);
                self.voted.insert((id, *slot), *ballot);
                self.on_repaired(id, *slot);
            }
            Record::Chosen { slot, entry } => {
                let chosen = self.chosen(*slot);
                assert!(chosen == Some(entry), "I5: replica {id} journals slot {slot} as chosen");
                self.on_repaired(id, *slot);
            }
            Record::Doubts(doubts) => self.on_settled(id, doubts),
            Record::Verdicts(_) | Record::Sightings(_) => {}
        }
    }

    fn vote(&mut self, id: ReplicaId, slot: Slot, ballot: Ballot, entry: &Entry) {
        let (voted, voters) =
            self.votes.entry((slot, ballot)).or_insert_with(|| (entry.clone(), BTreeSet::new()));
        assert!(voted == entry, "I3: two entries in slot {slot} at {ballot}; replica {id} voted");
        voters.insert(id);
        self.note_change(slot, entry);
        self.count(slot, ballot);
        self.go_on();
    }

    /// The membership that governs the first slot in which nothing is known to be chosen.
    ///
    /// # Panics
    ///
    /// Never: slot 0 holds one.
    #[must_use]
    pub fn membership(&self) -> &Membership {
        let newest = self.memberships.values().next_back();
        newest.map(|(_, membership)| membership).expect("slot 0 holds a membership")
    }

    /// The memberships that somebody proposed to follow the present one.
    pub fn proposed(&self) -> impl Iterator<Item = Membership> + '_ {
        let of_slot = |slot: &Slot| self.votes.range((*slot, Ballot::ZERO)..=(*slot, HIGHEST));
        let entries = self.changes.iter().flat_map(of_slot).map(|(_, (entry, _))| entry);
        entries.filter_map(|entry| entry.membership_after(self.membership()))
    }

    /// The memberships that decide in slots from `slot` on, or may.
    #[must_use]
    pub fn deciding_from(&self, slot: Slot) -> Vec<Membership> {
        let first = self.memberships.range(..=slot).next_back().map_or(slot, |(first, _)| *first);
        let chosen = self.memberships.range(first..).map(|(_, (_, membership))| membership.clone());
        chosen.chain(self.proposed()).collect()
    }

    /// The fewest votes that choose, or may choose, in some slot.
    #[must_use]
    pub fn smallest_phase2(&self) -> u32 {
        let chosen = self.memberships.values().map(|(_, membership)| membership.phase2());
        let proposed = self.proposed().map(|membership| membership.phase2());
        chosen.chain(proposed).min().unwrap_or_default()
    }

    fn governing(&self, slot: Slot) -> Option<&(Ballot, Membership)> {
        if self.changes.range(..slot).next().is_some() {
            return None;
        }
        self.memberships.range(..=slot).next_back().map(|(_, governing)| governing)
    }

    fn note_change(&mut self, slot: Slot, entry: &Entry) {
        if entry.kind() == EntryKind::Membership && self.slot_chosen <= slot {
            self.changes.insert(slot);
        }
    }

    /// Goes through the slots that are chosen in order.
    fn go_on(&mut self) {
        while let Some((at, entry)) = self.chosen.get(&self.slot_chosen) {
            let next = entry.membership_after(self.membership()).map(|next| (*at, next));
            let was_open = self.changes.remove(&self.slot_chosen);
            self.slot_chosen = self.slot_chosen.next();
            if let Some((at, next)) = next {
                let (made, before) = (next.changes(), self.membership().changes());
                assert!(made == before + 1, "I9: change {made} counts behind change {before}");
                self.memberships.insert(self.slot_chosen, (at, next));
            }
            if was_open {
                self.count_from(self.slot_chosen);
            }
        }
    }

    fn count_from(&mut self, first: Slot) {
        let votes = self.votes.range((first, Ballot::ZERO)..);
        let votes = votes.map(|(at, _)| *at).collect::<Vec<_>>();
        votes.into_iter().for_each(|(slot, ballot)| self.count(slot, ballot));
    }

    /// Whether what was voted for in `slot` at `ballot` is chosen.
    fn count(&mut self, slot: Slot, ballot: Ballot) {
        let Some((_, membership)) = self.governing(slot).filter(|(first, _)| *first <= ballot)
        else {
            return;
        };
        let (entry, voters) = &self.votes[&(slot, ballot)];
        let counted = voters.iter().filter(|id| membership.voter(**id).is_some()).count();
        if counted < membership.phase2() as usize {
            return;
        }
        let (at, chosen) = self.chosen.entry(slot).or_insert_with(|| (ballot, entry.clone()));
        assert!(
            chosen == entry,
            "I1: slot {slot} holds {chosen:?}, chosen at {at}, and {entry:?}, chosen at {ballot} \
             by {voters:?}"
        );
        let lower = ballot < std::mem::replace(at, ballot.min(*at));
        // What was proposed above before it was known to be chosen.
        let above = self.votes.range((slot, ballot)..=(slot, HIGHEST));
        let mut others = above.filter(|(_, (proposed, _))| proposed != entry);
        let other = others.next().map(|((_, above), (proposed, _))| (above, proposed));
        assert!(
            other.is_none(),
            "I6: {other:?} is proposed in slot {slot}, where {entry:?} is chosen at {ballot}"
        );
        let ruled_out = self.settled.iter().find(|(above, from)| ballot < *above && *from <= slot);
        assert!(ruled_out.is_none(), "I11: slot {slot} is chosen at {ballot}; {ruled_out:?}");
        if lower && let Some((first, _)) = self.memberships.get_mut(&slot.next()) {
            *first = ballot;
            self.count_from(slot.next());
        }
    }

    /// The newest durable record of `id` for `slot` is lost.
    pub fn on_lost(&mut self, id: ReplicaId, slot: Slot) {
        self.lost.entry(slot).or_default().insert(id);
    }

    fn on_repaired(&mut self, id: ReplicaId, slot: Slot) {
        if let Some(replicas) = self.lost.get_mut(&slot) {
            replicas.remove(&id);
        }
    }

    /// How many replicas other than `id` lost their vote in `slot`, and have nothing newer.
    #[must_use]
    pub fn lost_elsewhere(&self, id: ReplicaId, slot: Slot) -> usize {
        self.lost.get(&slot).map_or(0, |replicas| replicas.iter().filter(|one| **one != id).count())
    }

    /// `id` doubts no more than this from now on: what it lost elsewhere must not matter.
    fn on_settled(&mut self, id: ReplicaId, doubts: &Doubts) {
        let below = self.promised.get(&id).copied().unwrap_or_default();
        for (slot, replicas) in &mut self.lost {
            if doubts.contains(*slot) || !replicas.remove(&id) {
                continue;
            }
            let chosen = self.chosen.get(slot).filter(|(at, _)| *at < below);
            assert!(chosen.is_none(), "I11: replica {id} forgets slot {slot}, where {chosen:?}");
            self.voted.remove(&(id, *slot));
        }
    }

    /// A message leaves `from`.
    pub fn on_leave(&mut self, from: ReplicaId, message: &Message) {
        let promised = self.promised.get(&from).copied().unwrap_or_default();
        match message {
            Message::Prepare { ballot, .. } => {
                assert!(promised >= *ballot, "I4: replica {from} prepares {ballot}, not durable");
            }
            Message::Promise(promise) => {
                let ballot = promise.ballot;
                assert!(promised >= ballot, "I4: replica {from} promises {ballot}, not durable");
                self.on_answer(from, promise);
            }
            Message::Settled { ballot, from: first, .. } => {
                let mut chosen = self.chosen.range(first..);
                let lower = chosen.find(|(_, (at, _))| at <= ballot);
                assert!(
                    lower.is_none(),
                    "I11: replica {from} settles {first} at {ballot}: {lower:?}"
                );
                self.settled.insert((*ballot, *first));
            }
            Message::Accepted(accepted) => {
                let ballot = accepted.ballot;
                for slot in accepted.slots.first.0..accepted.slots.end.0 {
                    let votes = self.votes.get(&(Slot(slot), ballot));
                    assert!(
                        votes.is_some_and(|(_, voters)| voters.contains(&from)),
                        "I4: replica {from} acknowledges slot {slot} at {ballot}, not durable"
                    );
                }
            }
            Message::Accept(accept) => {
                let slots = (accept.first_slot.0..).map(Slot);
                for (slot, entry) in slots.zip(&accept.entries) {
                    self.on_proposal(from, slot, accept.ballot, entry);
                }
            }
            _ => {}
        }
    }

    fn on_answer(&mut self, from: ReplicaId, promise: &Promise) {
        let told = self.told.entry(from).or_default();
        if promise.part == 0 {
            told.clear();
        }
        told.extend(promise.votes.iter().map(|vote| (vote.slot, vote.ballot)));
        if promise.part + 1 < promise.parts {
            return;
        }
        let first = promise.from.max(promise.slot_chosen);
        // A vote at the ballot itself may be newer than the answer.
        let voted = self.voted.range((from, first)..=(from, Slot(u64::MAX)));
        for ((_, slot), voted) in voted.filter(|(_, voted)| **voted < promise.ballot) {
            let abstains = promise.abstained.iter().any(|one| one.slots.contains(*slot));
            let told = told.get(slot);
            assert!(
                abstains || told.is_some_and(|told| voted <= told),
                "I7: replica {from} voted at {voted} in slot {slot}, and tells {told:?} at {}",
                promise.ballot
            );
        }
    }

    fn on_proposal(&mut self, from: ReplicaId, slot: Slot, ballot: Ballot, entry: &Entry) {
        let (voted, _) =
            self.votes.entry((slot, ballot)).or_insert_with(|| (entry.clone(), BTreeSet::new()));
        assert!(voted == entry, "I3: replica {from} proposes two entries in slot {slot}");
        self.note_change(slot, entry);
        if let Some((at, chosen)) = self.chosen.get(&slot) {
            assert!(
                ballot <= *at || chosen == entry,
                "I6: replica {from} proposes {entry:?} in slot {slot} at {ballot}, where \
                 {chosen:?} was chosen at {at}"
            );
        }
    }

    /// A core learned that `slot` holds `entry`; it had learned `known` slots before.
    pub fn on_learned(&mut self, id: ReplicaId, known: usize, slot: Slot, entry: &Entry) {
        assert!(slot.0 == known as u64, "I8: replica {id} learns slot {slot}, knowing {known}");
        let chosen = self.chosen(slot);
        assert!(
            chosen == Some(entry),
            "I5: replica {id} learns {entry:?} in slot {slot}, where {chosen:?} is chosen"
        );
        self.learned = self.learned.max(slot.next());
    }

    /// A read begins.
    pub fn on_read(&mut self, id: ReplicaId, read: u64) {
        self.reads.insert((id, read), self.learned);
    }

    /// All reads of `id` up to `read` may go on below `slot`. Returns which those are.
    pub fn on_barrier(&mut self, id: ReplicaId, read: u64, slot: Slot) -> Vec<u64> {
        let waiting = self.reads.range((id, 0)..=(id, read)).map(|(key, floor)| (*key, *floor));
        let waiting = waiting.collect::<Vec<_>>();
        for ((_, number), floor) in &waiting {
            assert!(
                *floor <= slot,
                "R: replica {id} may read {number} at slot {slot}, though slots below {floor} \
                 were learned before"
            );
            self.reads.remove(&(id, *number));
        }
        waiting.into_iter().map(|((_, number), _)| number).collect()
    }

    /// How many reads of `id` have no barrier yet.
    #[must_use]
    pub fn reads_waiting(&self, id: ReplicaId) -> usize {
        self.reads.range((id, 0)..=(id, u64::MAX)).count()
    }

    /// `id` crashed: nobody waits for its reads any more.
    pub fn on_crash(&mut self, id: ReplicaId) {
        self.reads.retain(|(reader, _), _| *reader != id);
    }
}
