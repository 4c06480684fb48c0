//! What must hold, checked by someone who sees every journal at once.
//!
//! What is chosen is computed here from durable votes alone, whatever the cores believe:
//!
//! * **I1, agreement**: in each slot at most one entry ever has a phase-2 quorum of durable votes
//!   at one ballot.
//! * **I3, one entry**: in one slot and ballot nobody votes for, or proposes, two entries.
//! * **I4, promise**: in each journal promises only rise, and no vote is below an earlier promise;
//!   a `Promise`, a `Prepare` and an `Accepted` leave only when what they claim is durable.
//! * **I5, evidence**: a core learns an entry only when a quorum of durable votes for it exists.
//! * **I6, safe proposals**: nobody proposes against what was chosen at a lower ballot.
//! * **I8, frontier**: a core learns slots in order, each once in an opening.
//! * **R, reads**: a barrier covers every slot that anyone had learned before the read began.

use std::collections::{BTreeMap, BTreeSet};

use crate::types::entry::Entry;
use crate::types::ids::{Ballot, ReplicaId, Slot};
use crate::types::message::Message;
use crate::types::record::Record;

/// Everything that ever became durable anywhere.
#[derive(Debug)]
pub struct Checks {
    phase2: usize,
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
}

impl Checks {
    /// A cluster whose slot 0 holds `first`, in which `phase2` votes choose.
    #[must_use]
    pub fn new(first: Entry, phase2: u32) -> Self {
        Self {
            phase2: phase2 as usize,
            votes: BTreeMap::new(),
            chosen: BTreeMap::from([(Slot::ZERO, (Ballot::ZERO, first))]),
            promised: BTreeMap::new(),
            learned: Slot(1),
            reads: BTreeMap::new(),
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
            }
            Record::Chosen { slot, entry } => {
                let chosen = self.chosen(*slot);
                assert!(chosen == Some(entry), "I5: replica {id} journals slot {slot} as chosen");
            }
            Record::Verdicts(_) | Record::Doubts(_) => {}
        }
    }

    fn vote(&mut self, id: ReplicaId, slot: Slot, ballot: Ballot, entry: &Entry) {
        let (voted, voters) =
            self.votes.entry((slot, ballot)).or_insert_with(|| (entry.clone(), BTreeSet::new()));
        assert!(voted == entry, "I3: two entries in slot {slot} at {ballot}; replica {id} voted");
        voters.insert(id);
        if voters.len() < self.phase2 {
            return;
        }
        let (at, chosen) = self.chosen.entry(slot).or_insert_with(|| (ballot, entry.clone()));
        assert!(
            chosen == entry,
            "I1: slot {slot} holds {chosen:?}, chosen at {at}, and {entry:?}, chosen at {ballot} \
             with the vote of replica {id}"
        );
        *at = ballot.min(*at);
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

    fn on_proposal(&mut self, from: ReplicaId, slot: Slot, ballot: Ballot, entry: &Entry) {
        let (voted, _) =
            self.votes.entry((slot, ballot)).or_insert_with(|| (entry.clone(), BTreeSet::new()));
        assert!(voted == entry, "I3: replica {from} proposes two entries in slot {slot}");
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
