//! The witness: what every replica has made durable, and what follows from it.
//!
//! It reads the bytes of each journal write when the disk says that they are synced, so it knows
//! what is chosen whatever the replicas believe. A quorum is one of the membership that governs the
//! slot: the newest that is chosen in an earlier one. Where somebody proposed a membership in an
//! earlier slot, that is known only when what is chosen there is; until then no votes are counted.
//! Votes below the ballot at which the membership was chosen never are (`paxos/change.rs`). Against
//! that it holds all that they send, learn and acknowledge. The names are those of the invariants:
//!
//! * **I1, agreement**: at most one entry in a slot ever has a phase-2 quorum of durable votes at
//!   one ballot.
//! * **I3, one entry**: in one slot and ballot nobody votes for, or proposes, two entries.
//! * **I4, promise**: durable promises only rise; no vote is below one. A `Prepare`, `Promise`,
//!   `Accepted` or `Dismissed` leaves only when what it claims is durable.
//! * **I5, evidence**: nobody learns a slot, and so acknowledges what is in it, before a quorum of
//!   durable votes for it exists.
//! * **I6, safe proposals**: nobody proposes against what was chosen at a lower ballot.
//! * **I7, abstention**: a promise tells every vote that was ever durable, or a newer one, or
//!   abstains for its slot.
//! * **I8, frontier**: what a replica knows to be chosen never shrinks in an opening.
//! * **I9, membership**: a membership that is chosen may follow the one before.
//! * **I10, chain**: the ledger chain of every replica is that of the chosen entries.
//! * **A2, state**: at equal slots, ids and digests of the state are equal.
//! * **D1, recovery**: an opening writes again only what was written before.
//! * **D9, watermark**: what a journal counts as chosen stands in it, or in a checkpoint that says
//!   so; and nothing else does.

mod counting;

use std::collections::{BTreeMap, BTreeSet};

use crate::types::entry::{Entry, EntryKind};
use crate::types::ids::{Ballot, Chain, ContentHash, Lsn, ReplicaId, Slot, SlotRange, TxId};
use crate::types::membership::Membership;
use crate::types::message::{Accept, Accepted, Message, Promise};

use super::checkers::Violation;
use super::checkers::watermark::Watermark;
use super::durable::{Group, Seen};

/// Everything that ever became durable anywhere.
#[derive(Debug, Default)]
pub struct Witness {
    /// The memberships that were chosen, each with the first slot that it governs, and the ballot
    /// below which nobody's votes count there. Nobody votes before the first one is known.
    memberships: BTreeMap<Slot, (Ballot, Membership)>,
    /// The memberships that somebody proposed, by their content.
    proposed: BTreeMap<u128, Entry>,
    /// The slots in which somebody proposed one, and nothing is known to be chosen yet.
    changes: BTreeSet<Slot>,
    votes: BTreeMap<(Slot, Ballot), Vote>,
    /// What is chosen, and the lowest ballot at which it was seen to be.
    chosen: BTreeMap<Slot, (Ballot, ContentHash)>,
    /// The chain below each slot, as far as all slots below are chosen.
    chains: Vec<Chain>,
    replicas: BTreeMap<ReplicaId, Known>,
    /// The state at the slots at which some replica stood.
    states: BTreeMap<Slot, (TxId, u128)>,
}

#[derive(Debug)]
struct Vote {
    content: ContentHash,
    voters: BTreeSet<ReplicaId>,
}

/// What is known of one replica.
#[derive(Debug, Default)]
struct Known {
    promised: Ballot,
    /// The newest vote in each slot that was ever durable.
    cast: BTreeMap<Slot, Ballot>,
    /// Groups that are synced, while one before them is not.
    waiting: BTreeMap<Lsn, Group>,
    next: Lsn,
    /// Of this opening.
    slot_chosen: Slot,
    watermark: Watermark,
    was_set_back: bool,
}

impl Witness {
    /// A replica takes the cluster for formed by this membership, which slot 0 holds.
    pub fn form(&mut self, id: ReplicaId, membership: &Membership) -> Result<(), Violation> {
        let content = Entry::membership(membership).hash();
        let (_, chosen) = *self.chosen.entry(Slot::ZERO).or_insert((Ballot::ZERO, content));
        let first = || (Ballot::ZERO, membership.clone());
        self.memberships.entry(Slot::ZERO.next()).or_insert_with(first);
        self.extend_chain()?;
        ensure(chosen == content, "I1", || format!("{id} has another membership in slot 0"))
    }

    /// What is chosen in `slot`.
    #[must_use]
    pub fn chosen(&self, slot: Slot) -> Option<ContentHash> {
        self.chosen.get(&slot).map(|(_, content)| *content)
    }

    /// The slots from `first` on in which something is chosen, each with the lowest ballot at which
    /// it was seen to be.
    pub fn chosen_from(&self, first: Slot) -> impl Iterator<Item = (Slot, Ballot)> + '_ {
        self.chosen.range(first..).map(|(slot, (ballot, _))| (*slot, *ballot))
    }

    /// What was voted for, or proposed, in `slot` at `ballot`.
    #[must_use]
    pub fn voted(&self, slot: Slot, ballot: Ballot) -> Option<ContentHash> {
        self.votes.get(&(slot, ballot)).map(|vote| vote.content)
    }

    /// The highest durable promise of a replica.
    #[must_use]
    pub fn promised(&self, id: ReplicaId) -> Ballot {
        self.replicas.get(&id).map_or(Ballot::ZERO, |known| known.promised)
    }

    /// How far a journal is durable: one behind the last frame.
    #[must_use]
    pub fn frontier(&self, id: ReplicaId) -> Lsn {
        self.replicas.get(&id).map_or(Lsn::ZERO, |known| known.next)
    }

    /// The newest durable vote of a replica in each slot from `first` on.
    pub fn cast_from(&self, id: ReplicaId, first: Slot) -> impl Iterator<Item = (Slot, Ballot)> {
        let known = self.replicas.get(&id).into_iter();
        known.flat_map(move |known| known.cast.range(first..)).map(|(slot, at)| (*slot, *at))
    }

    /// A leader settled that what a replica voted for in these slots cannot matter: it may be lost.
    pub fn forget_cast(&mut self, id: ReplicaId, slots: SlotRange, below: Ballot) {
        if let Some(known) = self.replicas.get_mut(&id) {
            // What it votes for afterwards counts.
            known.cast.retain(|slot, at| below <= *at || !slots.contains(*slot));
        }
    }

    /// The first slot below which not everything is chosen.
    #[must_use]
    pub fn slot_chosen(&self) -> Slot {
        Slot(self.chains.len().saturating_sub(1) as u64)
    }

    /// The disk of a replica was set back: it promised and voted for what its disk says, no more.
    /// What it had voted for counts all the same: it was chosen by that.
    pub fn set_back(&mut self, id: ReplicaId) {
        self.replicas.insert(id, Known { was_set_back: true, ..Known::default() });
    }

    /// A replica was opened; `groups` stand in the segment that it began, and `votes` is what it
    /// found.
    pub fn on_opened(
        &mut self,
        id: ReplicaId,
        groups: &[Group],
        votes: &[(Slot, Ballot)],
    ) -> Result<(), Violation> {
        let known = self.replicas.entry(id).or_default();
        known.waiting.clear();
        known.slot_chosen = Slot::ZERO;
        for group in groups {
            for seen in &group.frames {
                match seen {
                    Seen::Promise { ballot } if *ballot < known.promised => {
                        let promised = known.promised;
                        let event = format!("{id} opens with {ballot}, having promised {promised}");
                        return Err(Violation::new("I4", event));
                    }
                    Seen::Promise { ballot } => known.promised = *ballot,
                    Seen::Vote { .. }
                    | Seen::Membership(_)
                    | Seen::Chosen { .. }
                    | Seen::Doubts(_) => {}
                }
            }
            known.next = group.end;
        }
        // What was written before its sync, and survived, is durable now.
        for group in groups {
            for seen in &group.frames {
                self.take_in(id, seen)?;
            }
        }
        let cast = votes.iter().filter_map(|(slot, at)| Some((*slot, self.voted(*slot, *at)?)));
        let cast: Vec<_> = cast.collect();
        let known = self.replicas.entry(id).or_default();
        known.watermark.on_opened(groups, cast.into_iter(), !known.was_set_back);
        Ok(())
    }

    /// A journal write of a replica is synced.
    pub fn on_durable(&mut self, id: ReplicaId, group: Group) -> Result<(), Violation> {
        let known = self.replicas.entry(id).or_default();
        known.waiting.insert(group.first, group);
        // In the order of the journal: behind a group that is not durable, nothing is.
        loop {
            let known = self.replicas.entry(id).or_default();
            let Some(group) = known.waiting.remove(&known.next) else { return Ok(()) };
            known.next = group.end;
            for seen in &group.frames {
                let known = self.replicas.entry(id).or_default();
                let promised = known.promised;
                match seen {
                    Seen::Promise { ballot } if *ballot < promised => {
                        let event = format!("{id} promises {ballot}, having promised {promised}");
                        return Err(Violation::new("I4", event));
                    }
                    Seen::Promise { ballot } => known.promised = *ballot,
                    Seen::Vote { slot, ballot, .. } if *ballot < promised => {
                        let event = format!(
                            "{id} votes at {ballot} in slot {slot}, having promised {promised}"
                        );
                        return Err(Violation::new("I4", event));
                    }
                    Seen::Vote { .. }
                    | Seen::Membership(_)
                    | Seen::Chosen { .. }
                    | Seen::Doubts(_) => {}
                }
                self.take_in(id, seen)?;
            }
            let known = self.replicas.entry(id).or_default();
            let mut watermark = std::mem::take(&mut known.watermark);
            watermark.on_durable(id, &group, |slot| self.chosen(slot))?;
            self.replicas.entry(id).or_default().watermark = watermark;
        }
    }

    /// A checkpoint of a replica is durable, and says that its journal need hold nothing below
    /// `slot`.
    pub fn on_checkpoint(&mut self, id: ReplicaId, slot: Slot) -> Result<(), Violation> {
        let chosen = self.slot_chosen();
        let event = || format!("{id} has a checkpoint below slot {slot}, chosen is {chosen}");
        ensure(slot <= chosen, "I5", event)?;
        self.replicas.entry(id).or_default().watermark.on_checkpoint(slot);
        Ok(())
    }

    fn take_in(&mut self, id: ReplicaId, seen: &Seen) -> Result<(), Violation> {
        match *seen {
            Seen::Promise { .. } | Seen::Doubts(_) => Ok(()),
            Seen::Membership(ref entry) => {
                self.proposed.insert(entry.hash().0, entry.clone());
                Ok(())
            }
            Seen::Vote { slot, ballot, content } => {
                let cast = &mut self.replicas.entry(id).or_default().cast;
                let newest = cast.entry(slot).or_insert(ballot);
                *newest = ballot.max(*newest);
                self.vote(id, slot, ballot, content)
            }
            Seen::Chosen { slot, content } => {
                let event = || format!("{id} journals slot {slot} as chosen, and it is not");
                ensure(self.chosen(slot) == Some(content), "I5", event)
            }
        }
    }

    fn vote(
        &mut self,
        id: ReplicaId,
        slot: Slot,
        ballot: Ballot,
        content: ContentHash,
    ) -> Result<(), Violation> {
        let new = || Vote { content, voters: BTreeSet::new() };
        let vote = self.votes.entry((slot, ballot)).or_insert_with(new);
        let event = || format!("{id} votes for a second entry in slot {slot} at {ballot}");
        ensure(vote.content == content, "I3", event)?;
        vote.voters.insert(id);
        self.note_change(slot, content);
        self.count(slot, ballot)
    }

    /// A message leaves a replica.
    pub fn on_leave(&mut self, from: ReplicaId, message: &Message) -> Result<(), Violation> {
        let promised = self.replicas.get(&from).map_or(Ballot::ZERO, |known| known.promised);
        match message {
            Message::Prepare { ballot, .. } => {
                let event = || format!("{from} prepares {ballot}, which is not durable");
                ensure(promised >= *ballot, "I4", event)
            }
            Message::Promise(promise) => {
                let event = || format!("{from} promises {}, not durable", promise.ballot);
                ensure(promised >= promise.ballot, "I4", event)?;
                self.check_told(from, promise)
            }
            Message::Accepted(accepted) => self.check_accepted(from, accepted),
            Message::Dismissed { slot, .. } => self.check_known(from, *slot),
            Message::Accept(accept) => self.check_proposals(from, accept),
            _ => Ok(()),
        }
    }

    /// It says that its journal shows everything below `slot` to be chosen.
    fn check_known(&self, from: ReplicaId, slot: Slot) -> Result<(), Violation> {
        let known = self.replicas.get(&from);
        let event = || format!("{from} says that it has all below slot {slot}, not durable");
        ensure(known.is_none_or(|known| known.watermark.is_behind(slot)), "I4", event)
    }

    fn check_accepted(&self, from: ReplicaId, accepted: &Accepted) -> Result<(), Violation> {
        for slot in accepted.slots.first.0..accepted.slots.end.0 {
            let vote = self.votes.get(&(Slot(slot), accepted.ballot));
            let durable = vote.is_some_and(|vote| vote.voters.contains(&from));
            let ballot = accepted.ballot;
            let event = || format!("{from} acknowledges slot {slot} at {ballot}, not durable");
            ensure(durable, "I4", event)?;
        }
        self.check_known(from, accepted.slot_durable)
    }

    /// A promise of several parts is told piece by piece, and not checked.
    fn check_told(&self, from: ReplicaId, promise: &Promise) -> Result<(), Violation> {
        let Some(known) = self.replicas.get(&from).filter(|_| promise.parts == 1) else {
            return Ok(());
        };
        let first = promise.from.max(promise.slot_chosen);
        for (slot, ballot) in known.cast.range(first..) {
            // What was voted for at the ballot itself came after the promise.
            let told = |vote: usize| promise.votes[vote].ballot >= *ballot;
            let vote = promise.votes.binary_search_by_key(slot, |vote| vote.slot);
            let abstains = || promise.abstained.iter().any(|range| range.slots.contains(*slot));
            let event = || {
                let to = promise.ballot;
                format!("{from} promises {to} and conceals its vote at {ballot} in slot {slot}")
            };
            ensure(*ballot >= promise.ballot || vote.is_ok_and(told) || abstains(), "I7", event)?;
        }
        Ok(())
    }

    fn check_proposals(&mut self, from: ReplicaId, accept: &Accept) -> Result<(), Violation> {
        let ballot = accept.ballot;
        for (slot, entry) in (accept.first_slot.0..).map(Slot).zip(&accept.entries) {
            let content = entry.hash();
            let new = || Vote { content, voters: BTreeSet::new() };
            let vote = self.votes.entry((slot, ballot)).or_insert_with(new);
            let event = || format!("{from} proposes a second entry in slot {slot} at {ballot}");
            ensure(vote.content == content, "I3", event)?;
            if entry.kind() == EntryKind::Membership {
                self.proposed.insert(content.0, entry.clone());
                self.note_change(slot, content);
            }
            if let Some((at, chosen)) = self.chosen.get(&slot) {
                let event = || {
                    format!(
                        "{from} proposes another entry in slot {slot} at {ballot} than was chosen \
                         at {at}"
                    )
                };
                ensure(ballot <= *at || *chosen == content, "I6", event)?;
            }
        }
        Ok(())
    }

    /// A replica took a turn, and now knows every slot below `slot_chosen` to be chosen.
    pub fn on_progress(
        &mut self,
        id: ReplicaId,
        slot_chosen: Slot,
        chain: Chain,
    ) -> Result<(), Violation> {
        let known = self.replicas.entry(id).or_default();
        let before = std::mem::replace(&mut known.slot_chosen, slot_chosen);
        let event = || format!("{id} knew the log below slot {before}, now below {slot_chosen}");
        ensure(before <= slot_chosen, "I8", event)?;
        let Some(truth) = self.chains.get(slot_chosen.0 as usize) else {
            let event = format!("{id} takes slots below {slot_chosen} for chosen, which are not");
            return Err(Violation::new("I5", event));
        };
        let event = || format!("{id} has another chain below slot {slot_chosen}");
        ensure(*truth == chain, "I10", event)
    }

    /// A replica applied every slot below `slot`: its newest id, and the digest of its state.
    pub fn on_state(
        &mut self,
        id: ReplicaId,
        slot: Slot,
        state: (TxId, u128),
    ) -> Result<(), Violation> {
        let known = *self.states.entry(slot).or_insert(state);
        let event = || format!("{id} has {state:x?} below slot {slot}, another one {known:x?}");
        ensure(known == state, "A2", event)
    }
}

fn ensure(
    holds: bool,
    invariant: &'static str,
    event: impl FnOnce() -> String,
) -> Result<(), Violation> {
    if holds { Ok(()) } else { Err(Violation::new(invariant, event())) }
}

#[cfg(test)]
impl Witness {
    /// A witness of a cluster that these replicas form.
    pub(super) fn of(ids: &[ReplicaId]) -> Self {
        let voters = ids.iter().map(|id| tests::member(*id)).collect();
        let membership = Membership::majority(voters).expect("the caller asks for a possible one");
        let mut witness = Self::default();
        ids.iter().for_each(|id| witness.form(*id, &membership).expect("all are told the same"));
        witness
    }
}

#[cfg(test)]
mod tests;
