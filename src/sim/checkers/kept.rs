//! **D1, nothing lost**: an opening finds every promise and every vote that was durable, or one
//! that is newer, or tells that it doubts its slot. **I8, frontier**, across openings: it knows at
//! least as much to be chosen as the journal had durably said.
//!
//! Held against what the witness read from the bytes as they became durable, at once, and not only
//! when the replica is asked in phase 1.

use std::collections::BTreeMap;

use crate::sim::witness::Witness;
use crate::types::ids::{Ballot, ReplicaId, Slot};
use crate::types::record::Doubts;

use super::{Violation, ensure};

/// What an opening found.
#[derive(Clone, Debug)]
pub struct Found {
    /// The promise.
    pub promised: Ballot,
    /// The first slot that is not known to be chosen.
    pub slot_chosen: Slot,
    /// The votes from there on.
    pub votes: Vec<(Slot, Ballot)>,
    /// What it cannot tell.
    pub doubts: Doubts,
}

/// How far each journal durably said that the log is chosen.
#[derive(Clone, Debug, Default)]
pub struct Kept(BTreeMap<ReplicaId, Slot>);

impl Kept {
    /// A group became durable that says so.
    pub fn on_durable(&mut self, id: ReplicaId, slot_chosen: Slot) {
        let mark = self.0.entry(id).or_default();
        *mark = slot_chosen.max(*mark);
    }

    /// The disk of a replica was set back to an earlier state.
    pub fn set_back(&mut self, id: ReplicaId) {
        self.0.remove(&id);
    }

    /// A replica was opened. Damage excuses a lost mark: the slots are fetched again.
    ///
    /// # Errors
    ///
    /// Where something durable is lost, and it does not know.
    pub fn on_opened(
        &self,
        id: ReplicaId,
        found: &Found,
        damaged: bool,
        witness: &Witness,
    ) -> Result<(), Violation> {
        let Found { promised, slot_chosen, votes, doubts } = found;
        let kept = witness.promised(id) <= *promised || doubts.promise_lost;
        ensure(kept, "D1", || {
            format!("{id} had promised {}, and finds {promised}", witness.promised(id))
        })?;
        let mark = self.0.get(&id).copied().unwrap_or_default();
        ensure(mark <= *slot_chosen || damaged, "I8", || {
            format!("{id} durably knew the log below {mark}, and finds it below {slot_chosen}")
        })?;
        for (slot, cast) in witness.cast_from(id, *slot_chosen) {
            let place = votes.binary_search_by_key(&slot, |(slot, _)| *slot);
            let kept = place.is_ok_and(|place| cast <= votes[place].1) || doubts.contains(slot);
            ensure(kept, "D1", || {
                let found = place.ok().map(|place| votes[place].1);
                format!("{id} had voted at {cast} in slot {slot}, and finds {found:?}")
            })?;
        }
        Ok(())
    }
}

/// A replica was opened, and wants entries of slots that it knows to be chosen, from this one on.
/// Where nothing was damaged, its journal has them all: it says how far the log is chosen only
/// behind them.
///
/// # Errors
///
/// Where it does not.
pub fn check_whole(id: ReplicaId, missing: Option<Slot>, damaged: bool) -> Result<(), Violation> {
    ensure(missing.is_none() || damaged, "D1", || {
        format!("{id} lacks slot {missing:?}, which it knows to be chosen, and nothing was damaged")
    })
}

#[cfg(test)]
mod tests {
    use crate::sim::durable::{Group, Seen};
    use crate::types::ids::{ContentHash, Lsn, SlotRange};

    use super::*;

    const ID: ReplicaId = ReplicaId(1);
    const BALLOT: Ballot = Ballot { round: 3, leader: ID };

    fn witness() -> Witness {
        let content = ContentHash::of(b"an entry");
        let vote = Seen::Vote { slot: Slot(5), ballot: BALLOT, content };
        let frames = vec![Seen::Promise { ballot: BALLOT }, vote];
        let mut witness = Witness::default();
        let group = Group { first: Lsn(0), end: Lsn(2), slot_chosen: Slot(5), frames };
        witness.on_durable(ID, group).unwrap();
        witness
    }

    fn whole() -> Found {
        let votes = vec![(Slot(5), BALLOT)];
        Found { promised: BALLOT, slot_chosen: Slot(5), votes, doubts: Doubts::default() }
    }

    fn judge(found: &Found, damaged: bool) -> Result<(), &'static str> {
        let mut kept = Kept::default();
        kept.on_durable(ID, Slot(5));
        kept.on_opened(ID, found, damaged, &witness()).map_err(|violation| violation.invariant)
    }

    #[test]
    fn what_was_durable_is_found() {
        assert_eq!(judge(&whole(), false), Ok(()));
        let later = Found { slot_chosen: Slot(6), votes: Vec::new(), ..whole() };
        assert_eq!(judge(&later, false), Ok(()), "a chosen slot needs no vote");
    }

    #[test]
    fn who_was_not_damaged_lacks_nothing() {
        let judge = |missing, damaged| check_whole(ID, missing, damaged).is_ok();
        assert!(judge(None, false) && judge(Some(Slot(3)), true));
        assert!(!judge(Some(Slot(3)), false));
    }

    #[test]
    fn what_is_lost_is_seen() {
        let lower = Ballot { round: 2, leader: ID };
        assert_eq!(judge(&Found { promised: lower, ..whole() }, false), Err("D1"));
        assert_eq!(judge(&Found { votes: Vec::new(), ..whole() }, false), Err("D1"));
        let older = vec![(Slot(5), lower)];
        assert_eq!(judge(&Found { votes: older, ..whole() }, false), Err("D1"));
        let earlier = Found { slot_chosen: Slot(4), ..whole() };
        assert_eq!(judge(&earlier, false), Err("I8"));
        assert_eq!(judge(&earlier, true), Ok(()));
    }

    #[test]
    fn what_is_doubted_is_not_lost() {
        let mut doubts = Doubts::default();
        doubts.uncertain.insert(SlotRange { first: Slot(5), end: Slot(9) });
        assert_eq!(judge(&Found { votes: Vec::new(), doubts, ..whole() }, true), Ok(()));
    }
}
