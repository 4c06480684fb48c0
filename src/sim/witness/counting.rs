//! Counting votes: what is chosen, and by which membership that is decided, slot by slot.
//!
//! The memberships are read from what is chosen, and what is chosen follows from them: so slots are
//! gone through in order, and votes behind a slot in which a membership was proposed wait until it
//! is known what is chosen there.

use crate::paxos::quorum::Quorum;
use crate::sim::checkers::Violation;
use crate::sim::checkers::membership::check_follows;
use crate::types::ids::{Ballot, Chain, ContentHash, ReplicaId, Slot};
use crate::types::membership::Membership;

use super::{Vote, Witness, ensure};

/// Above all ballots.
const HIGHEST: Ballot = Ballot { round: u64::MAX, leader: ReplicaId(u64::MAX) };

impl Witness {
    /// The newest membership that is chosen; `None` before the cluster is formed.
    #[must_use]
    pub fn membership(&self) -> Option<&Membership> {
        self.memberships.values().next_back().map(|(_, membership)| membership)
    }

    /// The membership that governs `slot`, where that is known.
    #[must_use]
    pub fn governing(&self, slot: Slot) -> Option<&Membership> {
        self.counting(slot).map(|(_, membership)| membership)
    }

    /// All memberships that were chosen, the first one included, in order.
    pub fn memberships(&self) -> impl Iterator<Item = &Membership> {
        self.memberships.values().map(|(_, membership)| membership)
    }

    /// Somebody is told that `membership` counts, and so that who left may be wiped.
    ///
    /// # Errors
    ///
    /// Where it is not chosen, or too few of its voters to choose have it durably.
    pub fn on_told(&self, membership: &Membership) -> Result<(), Violation> {
        let mut chosen = self.memberships.iter().rev();
        let Some((first, _)) = chosen.find(|(_, (_, chosen))| chosen == membership) else {
            let event = format!("{membership:?} is said to count, and is not chosen");
            return Err(Violation::new("I9", event));
        };
        let quorum = Quorum::of(membership);
        let known = quorum.those(|id| {
            self.replicas.get(&id).is_some_and(|known| known.watermark.is_behind(*first))
        });
        ensure(quorum.is_phase2(known), "I9", || {
            format!("{membership:?} is said to count from slot {first} on; durably with {known:?}")
        })
    }

    /// The memberships that decide in slots from `slot` on, or may: somebody proposed them.
    #[must_use]
    pub fn deciding_from(&self, slot: Slot) -> Vec<Membership> {
        let Some(newest) = self.membership() else { return Vec::new() };
        let first = self.memberships.range(..=slot).next_back().map_or(slot, |(first, _)| *first);
        let chosen = self.memberships.range(first..).map(|(_, (_, membership))| membership.clone());
        let of_slot = |slot: &Slot| self.votes.range((*slot, Ballot::ZERO)..=(*slot, HIGHEST));
        let votes = self.changes.iter().flat_map(of_slot);
        let proposed = votes.filter_map(|(_, vote)| self.proposed.get(&vote.content.0));
        chosen.chain(proposed.filter_map(|entry| entry.membership_after(newest))).collect()
    }

    /// The membership whose votes are counted in `slot`, and from which ballot on.
    fn counting(&self, slot: Slot) -> Option<&(Ballot, Membership)> {
        if self.changes.range(..slot).next().is_some() {
            return None;
        }
        self.memberships.range(..=slot).next_back().map(|(_, counting)| counting)
    }

    pub(super) fn note_change(&mut self, slot: Slot, content: ContentHash) {
        if self.proposed.contains_key(&content.0) && self.slot_chosen() <= slot {
            self.changes.insert(slot);
        }
    }

    /// Whether what was voted for in `slot` at `ballot` is chosen.
    pub(super) fn count(&mut self, slot: Slot, ballot: Ballot) -> Result<(), Violation> {
        let counting = self.counting(slot).filter(|(first, _)| *first <= ballot);
        let Some((_, membership)) = counting else { return Ok(()) };
        let Vote { content, voters } = &self.votes[&(slot, ballot)];
        let counted = voters.iter().filter(|id| membership.voter(**id).is_some()).count();
        if counted < membership.phase2() as usize {
            return Ok(());
        }
        let content = *content;
        let (at, chosen) = self.chosen.entry(slot).or_insert((ballot, content));
        if *chosen != content {
            let event = format!(
                "slot {slot}: one entry was chosen at {at}, another one at {ballot} by {voters:?}"
            );
            return Err(Violation::new("I1", event));
        }
        let lower = ballot < std::mem::replace(at, ballot.min(*at));
        self.extend_chain()?;
        if lower && let Some((first, _)) = self.memberships.get_mut(&slot.next()) {
            *first = ballot;
            self.count_from(slot.next())?;
        }
        Ok(())
    }

    /// Counts what was voted for from slot `first` on, since it is known now who decides there.
    fn count_from(&mut self, first: Slot) -> Result<(), Violation> {
        let votes = self.votes.range((first, Ballot::ZERO)..);
        let votes = votes.map(|(at, vote)| (*at, vote.content)).collect::<Vec<_>>();
        votes.iter().try_for_each(|((slot, ballot), _)| self.count(*slot, *ballot))?;
        // What was proposed before that was known.
        for ((slot, ballot), content) in votes {
            let chosen = self.chosen.get(&slot).filter(|(at, _)| *at < ballot);
            let right = chosen.is_none_or(|(_, chosen)| *chosen == content);
            ensure(right, "I6", || {
                format!("another entry is proposed in slot {slot} at {ballot} than was chosen")
            })?;
        }
        Ok(())
    }

    /// Goes through the slots that are chosen in order.
    pub(super) fn extend_chain(&mut self) -> Result<(), Violation> {
        if self.chains.is_empty() {
            self.chains.push(Chain::EMPTY);
        }
        while let slot = self.slot_chosen()
            && let Some((at, content)) = self.chosen.get(&slot).copied()
        {
            let chain = self.chains[self.chains.len() - 1].extend(content);
            self.chains.push(chain);
            let before = self.membership();
            let next = self.proposed.get(&content.0).zip(before).and_then(|(entry, before)| {
                let next = entry.membership_after(before)?;
                Some(check_follows(slot, before, &next).map(|()| next))
            });
            if let Some(next) = next {
                self.memberships.insert(slot.next(), (at, next?));
            }
            if self.changes.remove(&slot) {
                self.count_from(slot.next())?;
            }
        }
        Ok(())
    }
}
