//! **D4, doubts**: FAULTY, UNCERTAIN and a lost promise come only from what happened to a disk, and
//! go only as they may.
//!
//! A doubt about a slot that is in the journal goes by a durable vote of this replica there, by the
//! chosen entry, journaled or known, or by durable doubts that leave it out because a leader
//! settled it. Then nothing may ever be chosen there below this replica's promise: that is what it
//! forgets. FAULTY never becomes UNCERTAIN, and a lost promise is lost for good.
//!
//! A doubt without a cause would be an excuse for silence: FAULTY and a lost promise take a medium
//! that was damaged, and UNCERTAIN at least bytes that were written and did not survive.

use std::collections::BTreeMap;

use crate::sim::disk::{DiskFault, Fired};
use crate::sim::durable::Seen;
use crate::sim::witness::Witness;
use crate::types::ids::{Ballot, ReplicaId, Slot, SlotRange};
use crate::types::record::Doubts;
use crate::types::slots::SlotSet;

use super::{Violation, ensure};

/// What is in doubt, as the journals say.
#[derive(Clone, Debug, Default)]
pub struct Doubted {
    durable: BTreeMap<ReplicaId, Doubts>,
    /// What is left of it by what was written besides, and may survive unsynced.
    written: BTreeMap<ReplicaId, Doubts>,
    /// What was forgotten: slots, and below which ballot nothing may be chosen in them.
    forgotten: Vec<(ReplicaId, Ballot, SlotRange)>,
}

/// What happened to a disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Causes {
    /// How often its medium was damaged.
    pub damaged: u64,
    /// How often it was set back to an earlier state, or wiped.
    pub set_back: u64,
    /// How often something written did not survive, or could not be written.
    pub torn: u64,
}

impl Causes {
    /// What acted on a disk so far.
    #[must_use]
    pub fn of(fired: &Fired) -> Self {
        let mut causes = Self::default();
        for (fault, count) in fired.iter() {
            match fault {
                DiskFault::CorruptRead
                | DiskFault::LostWrite
                | DiskFault::MisdirectedWrite
                | DiskFault::BitRot
                | DiskFault::ZeroedRange
                | DiskFault::UnreadableSector
                | DiskFault::StaleRange
                | DiskFault::StaleName
                | DiskFault::SwappedRanges
                | DiskFault::TruncatedFile
                | DiskFault::DeletedFile
                // It was told well, and what it should have made durable is lost.
                | DiskFault::SyncFailsLate => causes.damaged += count,
                DiskFault::SetBack | DiskFault::Wiped => causes.set_back += count,
                DiskFault::WriteFails
                | DiskFault::WriteFailsPartly
                | DiskFault::NoSpace
                | DiskFault::SyncFailsKeep
                | DiskFault::SyncFailsRevert
                | DiskFault::DirectorySyncFails
                | DiskFault::TornWrite
                | DiskFault::UnsyncedWriteLost
                | DiskFault::ReorderedWrites
                | DiskFault::SizeBeforeData
                | DiskFault::NameLost
                | DiskFault::ReorderedNames => causes.torn += count,
                // These fail, and change nothing.
                DiskFault::ResizeFails
                | DiskFault::RenameFails
                | DiskFault::CreateFails
                | DiskFault::OpenFails
                | DiskFault::ListFails
                | DiskFault::RemoveFails
                | DiskFault::ReadFails
                | DiskFault::ShortRead
                | DiskFault::PowerCut
                | DiskFault::ProcessCrash => {}
            }
        }
        causes
    }

    /// What happened since `earlier`.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        let Self { damaged, set_back, torn } = earlier;
        Self {
            damaged: self.damaged - damaged,
            set_back: self.set_back - set_back,
            torn: self.torn - torn,
        }
    }
}

impl Doubted {
    /// What the journal of `id` says that it doubts; `None` where nothing.
    #[must_use]
    pub fn of(&self, id: ReplicaId) -> Option<&Doubts> {
        self.durable.get(&id)
    }

    /// A replica was opened, and doubts this. `since` is what happened to its disk since it was
    /// last opened, `ever` in its whole life. What was damaged since may have held what it doubted:
    /// zeros where the last groups were are noticed by nobody. Returns the slots about which no
    /// doubt is left: what ended it was written before, and survived.
    ///
    /// # Errors
    ///
    /// Where a doubt is gone, or has no cause.
    pub fn on_opened(
        &mut self,
        id: ReplicaId,
        (found, slot_chosen): (&Doubts, Slot),
        (since, ever): (Causes, Causes),
    ) -> Result<SlotSet, Violation> {
        let before = self.durable.remove(&id).unwrap_or_default();
        let left = self.written.remove(&id).unwrap_or_else(|| before.clone());
        let excused = since.damaged + since.set_back > 0;
        let without = |set: &SlotSet, others: &[&SlotSet]| {
            let mut left = set.clone();
            let others = others.iter().flat_map(|other| other.ranges());
            others.for_each(|range| left.remove(*range));
            left.remove_below(slot_chosen);
            left
        };
        let gone = without(&left.faulty, &[&found.faulty]);
        let kept = gone.is_empty() || excused;
        ensure(kept, "D4", || format!("{id} forgot that {gone:?} are faulty"))?;
        let gone = without(&left.uncertain, &[&found.faulty, &found.uncertain]);
        let kept = gone.is_empty() || excused;
        ensure(kept, "D4", || format!("{id} forgot that {gone:?} are uncertain"))?;
        let kept = found.promise_lost || !before.promise_lost || excused;
        ensure(kept, "D4", || format!("{id} forgot that it lost its promise"))?;

        let new = without(&found.faulty, &[&before.faulty]);
        let damaged = ever.damaged + ever.set_back > 0;
        ensure(new.is_empty() || damaged, "D4", || {
            format!("{id} takes {new:?} for faulty, and its disk was never damaged")
        })?;
        ensure(!found.promise_lost || damaged, "D4", || {
            format!("{id} takes its promise for lost, and its disk was never damaged")
        })?;
        let new = without(&found.uncertain, &[&before.uncertain, &before.faulty]);
        ensure(new.is_empty() || damaged || since.torn > 0, "D4", || {
            format!("{id} takes {new:?} for uncertain, and nothing that it wrote was lost")
        })?;
        let mut settled = before.faulty.clone();
        before.uncertain.ranges().iter().for_each(|range| settled.insert(*range));
        let settled = without(&settled, &[&found.faulty, &found.uncertain]);
        let settled = if excused { SlotSet::default() } else { settled };
        if !found.is_empty() {
            self.durable.insert(id, found.clone());
            self.written.insert(id, found.clone());
        }
        Ok(settled)
    }

    /// A frame of a replica that runs is written, and not synced yet.
    pub fn on_written(&mut self, id: ReplicaId, seen: &Seen) {
        let Some(doubts) = self.written.get_mut(&id) else { return };
        match seen {
            Seen::Promise { .. } | Seen::Membership(_) => {}
            Seen::Vote { slot, .. } | Seen::Chosen { slot, .. } => {
                doubts.settle(SlotRange::one(*slot));
            }
            Seen::Doubts(left) => {
                let promise_lost = doubts.promise_lost || left.promise_lost;
                *doubts = Doubts { promise_lost, ..left.clone() };
            }
        }
    }

    /// From now on, nothing may be chosen in these slots below this ballot.
    pub fn forget(&mut self, id: ReplicaId, below: Ballot, slots: SlotRange) {
        self.forgotten.push((id, below, slots));
    }

    /// A frame of a replica that runs, and that was written before, is durable. Others may have
    /// been written behind it since. Returns the slots about which it says no doubt is
    /// left, though nothing is chosen or voted for there: a leader settled them.
    ///
    /// # Errors
    ///
    /// Where it doubts more than before, or forgets what may matter.
    pub fn on_durable(
        &mut self,
        id: ReplicaId,
        seen: &Seen,
        witness: &Witness,
    ) -> Result<Vec<SlotRange>, Violation> {
        let Some(doubts) = self.durable.get_mut(&id) else { return Ok(Vec::new()) };
        let mut settled = Vec::new();
        match seen {
            Seen::Promise { .. } | Seen::Membership(_) => {}
            Seen::Vote { slot, .. } | Seen::Chosen { slot, .. } => {
                doubts.settle(SlotRange::one(*slot));
            }
            Seen::Doubts(left) => {
                let known = witness.slot_chosen();
                let mut gone = doubts.faulty.clone();
                doubts.uncertain.ranges().iter().for_each(|range| gone.insert(*range));
                for range in left.faulty.ranges().iter().chain(left.uncertain.ranges()) {
                    gone.remove(*range);
                }
                gone.remove_below(known);
                settled = gone.ranges().to_vec();
                doubts.promise_lost |= left.promise_lost;
                doubts.faulty = left.faulty.clone();
                doubts.uncertain = left.uncertain.clone();
            }
        }
        if doubts.is_empty() {
            self.durable.remove(&id);
        }
        let promised = witness.promised(id);
        self.forgotten.extend(settled.iter().map(|range| (id, promised, *range)));
        self.check_forgotten(witness)?;
        Ok(settled)
    }

    /// Holds what was forgotten against what is chosen by now. To be asked now and then, and in the
    /// end: a vote that was forgotten may still be counted later.
    ///
    /// # Errors
    ///
    /// Where a vote that chose, or was to choose, was forgotten.
    pub fn check_forgotten(&self, witness: &Witness) -> Result<(), Violation> {
        for (id, below, slots) in &self.forgotten {
            let chosen = witness.chosen_from(slots.first).take_while(|(slot, _)| *slot < slots.end);
            let lower = chosen.into_iter().find(|(_, at)| at < below);
            ensure(lower.is_none(), "D4", || {
                let slots = (slots.first, slots.end);
                format!(
                    "{id} forgot at {below} what it voted for in {slots:?}: {lower:?} is chosen"
                )
            })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::sim::durable::Group;
    use crate::types::ids::{ContentHash, Lsn};

    use super::*;

    const ID: ReplicaId = ReplicaId(2);
    const DAMAGED: Causes = Causes { damaged: 1, set_back: 0, torn: 0 };
    const TORN: Causes = Causes { damaged: 0, set_back: 0, torn: 1 };
    const NOTHING: Causes = Causes { damaged: 0, set_back: 0, torn: 0 };

    fn range(first: u64, end: u64) -> SlotRange {
        SlotRange { first: Slot(first), end: Slot(end) }
    }

    fn faulty(first: u64, end: u64) -> Doubts {
        let mut doubts = Doubts::default();
        doubts.faulty.insert(range(first, end));
        doubts
    }

    fn uncertain(first: u64, end: u64) -> Doubts {
        let mut doubts = Doubts::default();
        doubts.uncertain.insert(range(first, end));
        doubts
    }

    fn vote(slot: u64) -> Seen {
        let content = ContentHash::of(b"an entry");
        Seen::Vote { slot: Slot(slot), ballot: Ballot { round: 1, leader: ID }, content }
    }

    /// A replica that was opened with these doubts.
    fn opened(doubts: &Doubts) -> Doubted {
        let mut doubted = Doubted::default();
        doubted.on_opened(ID, (doubts, Slot(5)), (DAMAGED, DAMAGED)).unwrap();
        doubted
    }

    fn again(doubted: &mut Doubted, found: &Doubts, slot_chosen: u64) -> Option<&'static str> {
        let result = doubted.on_opened(ID, (found, Slot(slot_chosen)), (NOTHING, DAMAGED));
        result.err().map(|violation| violation.invariant)
    }

    #[test]
    fn doubts_outlive_a_crash() {
        let doubts = faulty(5, 9);
        assert_eq!(again(&mut opened(&doubts), &doubts, 5), None);
        assert_eq!(again(&mut opened(&doubts), &faulty(7, 9), 7), None, "what is chosen is known");
        assert_eq!(again(&mut opened(&doubts), &faulty(6, 9), 5), Some("D4"));
        assert_eq!(again(&mut opened(&doubts), &uncertain(5, 9), 5), Some("D4"), "it is weakened");
        assert_eq!(again(&mut opened(&uncertain(5, 9)), &doubts, 5), None);
        let lost = Doubts { promise_lost: true, ..Doubts::default() };
        assert_eq!(again(&mut opened(&lost), &Doubts::default(), 5), Some("D4"));
    }

    #[test]
    fn a_durable_vote_ends_a_doubt() {
        let mut doubted = opened(&faulty(5, 7));
        doubted.on_written(ID, &vote(5));
        doubted.on_durable(ID, &vote(5), &Witness::default()).unwrap();
        assert_eq!(again(&mut doubted.clone(), &faulty(6, 7), 5), None);
        assert_eq!(again(&mut doubted, &Doubts::default(), 5), Some("D4"));
    }

    #[test]
    fn what_was_written_may_survive_unsynced() {
        let mut doubted = opened(&uncertain(5, 9));
        doubted.on_written(ID, &vote(5));
        doubted.on_written(ID, &Seen::Doubts(uncertain(6, 7)));
        assert_eq!(again(&mut doubted.clone(), &uncertain(6, 7), 5), None);
        assert_eq!(again(&mut doubted.clone(), &uncertain(5, 9), 5), None, "or it did not");
        assert_eq!(again(&mut doubted, &Doubts::default(), 5), Some("D4"));
    }

    #[test]
    fn what_was_written_behind_survives_though_only_the_former_is_durable() {
        let (mut doubted, left) = (opened(&uncertain(5, 9)), Seen::Doubts(uncertain(6, 7)));
        doubted.on_written(ID, &left);
        doubted.on_written(ID, &vote(6));
        doubted.on_durable(ID, &left, &Witness::default()).unwrap();
        assert_eq!(again(&mut doubted.clone(), &Doubts::default(), 5), None);
        assert_eq!(again(&mut doubted, &uncertain(6, 7), 5), None, "or it did not");
    }

    #[test]
    fn a_doubt_has_a_cause() {
        let judge = |found: Doubts, causes| {
            Doubted::default().on_opened(ID, (&found, Slot(5)), (causes, causes)).is_ok()
        };
        let lost = || Doubts { promise_lost: true, ..Doubts::default() };
        assert!(judge(faulty(5, 9), DAMAGED) && judge(lost(), DAMAGED));
        assert!(!judge(faulty(5, 9), TORN) && !judge(lost(), TORN));
        assert!(judge(uncertain(5, 9), TORN) && judge(uncertain(5, 9), DAMAGED));
        assert!(!judge(uncertain(5, 9), NOTHING) && judge(Doubts::default(), NOTHING));
    }

    #[test]
    fn what_was_forgotten_must_not_be_chosen() {
        // The replica promised round 3, and a leader told that nothing matters from slot 5 on.
        let mut witness = Witness::of(&[ReplicaId(3)]);
        let promise = Seen::Promise { ballot: Ballot { round: 3, leader: ReplicaId(1) } };
        let group = |frames, first: u64| {
            let end = Lsn(first + 1);
            Group { first: Lsn(first), end, slot_chosen: Slot(0), frames }
        };
        witness.on_durable(ID, group(vec![promise], 0)).unwrap();
        let settle = Seen::Doubts(Doubts::default());
        let mut doubted = opened(&faulty(5, 9));
        assert_eq!(doubted.on_durable(ID, &settle, &witness).unwrap(), [range(5, 9)]);
        doubted.check_forgotten(&witness).unwrap();
        // Somebody's vote of round 1 in slot 6 is counted late, and chooses.
        witness.on_durable(ReplicaId(3), group(vec![vote(6)], 0)).unwrap();
        let violation = doubted.check_forgotten(&witness).unwrap_err();
        assert_eq!(violation.invariant, "D4");
    }
}
