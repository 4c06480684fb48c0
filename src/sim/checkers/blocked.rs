//! **V2, the excuse**: a healed cluster may stand still only where its disks cannot tell what was
//! voted for in some slot, so that no leader may propose there.
//!
//! Judged by the rules of phase 1, and by what the journals hold: the doubts that are durably in
//! them (each had its cause, see [`doubts`](super::doubts)), and the votes that were ever cast.
//! What the replicas say of themselves does not count.

use crate::types::ids::Slot;
use crate::types::record::Doubts;

/// What is known of one voter.
#[derive(Clone, Debug, Default)]
pub struct Voter {
    /// What its journal says that it doubts.
    pub doubts: Doubts,
    /// The slots in which it ever voted, from the first in question on.
    pub voted: Vec<Slot>,
}

/// How many voters decide.
#[derive(Clone, Copy, Debug)]
pub struct Quorums {
    /// Promises that complete phase 1.
    pub phase1: usize,
    /// Votes that choose.
    pub phase2: usize,
}

/// Of so many slots from the first on that nobody knows to be chosen, one that is blocked counts:
/// as many as are proposed at once, and more.
pub const SLOTS_AHEAD: u64 = 100;

/// The slot for which the answers of all voters together do not let any of them lead, if there is
/// one among `slots`.
#[must_use]
pub fn blocked_at(
    voters: &[Voter],
    quorums: Quorums,
    slots: impl IntoIterator<Item = Slot>,
) -> Option<Slot> {
    slots.into_iter().find(|slot| !is_spoken_for(voters, quorums, *slot))
}

/// Whether the answers of all of them suffice for `slot`: the three rules of phase 1.
fn is_spoken_for(voters: &[Voter], quorums: Quorums, slot: Slot) -> bool {
    let Quorums { phase1, phase2 } = quorums;
    let answering = voters.iter().filter(|voter| !voter.doubts.promise_lost);
    let answering = answering.collect::<Vec<_>>();
    let speaking = answering.iter().filter(|voter| !voter.doubts.contains(slot));
    let speaking = speaking.collect::<Vec<_>>();
    let voteless = speaking.iter().filter(|voter| !voter.voted.contains(&slot)).count();
    let faulty = answering.iter().any(|voter| voter.doubts.faulty.contains(slot));
    let everyone = answering.len() == voters.len() && !faulty && phase2 > 1;
    answering.len() >= phase1
        && (speaking.len() >= phase1 || voteless + phase2 > voters.len() || everyone)
}

#[cfg(test)]
mod tests {
    use crate::types::ids::SlotRange;

    use super::*;

    const MAJORITIES: Quorums = Quorums { phase1: 2, phase2: 2 };

    fn voter(faulty: bool, uncertain: bool, promise_lost: bool) -> Voter {
        let mut doubts = Doubts { promise_lost, ..Doubts::default() };
        let slots = SlotRange { first: Slot(5), end: Slot(6) };
        if faulty {
            doubts.faulty.insert(slots);
        }
        if uncertain {
            doubts.uncertain.insert(slots);
        }
        Voter { doubts, voted: Vec::new() }
    }

    fn blocked(voters: &[Voter]) -> Option<Slot> {
        blocked_at(voters, MAJORITIES, (0..10).map(Slot))
    }

    #[test]
    fn a_cluster_stands_still_only_where_it_must() {
        let (whole, faulty) = (voter(false, false, false), voter(true, false, false));
        let (torn, silent) = (voter(false, true, false), voter(false, false, true));
        let of = |voters: [&Voter; 3]| blocked(&voters.map(Clone::clone));
        assert_eq!(of([&whole, &whole, &whole]), None);
        assert_eq!(of([&whole, &whole, &faulty]), None, "two speak");
        assert_eq!(of([&whole, &whole, &silent]), None);
        assert_eq!(of([&torn, &torn, &torn]), None, "everyone answers, none is faulty");
        assert_eq!(of([&whole, &torn, &faulty]), Some(Slot(5)));
        assert_eq!(of([&whole, &torn, &silent]), Some(Slot(5)), "not everyone answers");
        assert_eq!(of([&whole, &silent, &silent]), Some(Slot(0)), "no quorum promises");
    }

    #[test]
    fn enough_who_did_not_vote_speak_for_a_slot() {
        let (whole, faulty) = (voter(false, false, false), voter(true, false, false));
        let quorums = Quorums { phase1: 3, phase2: 3 };
        let mut voters = vec![whole.clone(), whole, faulty.clone(), faulty];
        assert_eq!(blocked_at(&voters, quorums, [Slot(5)]), None, "two of four did not vote");
        voters[0].voted.push(Slot(5));
        assert_eq!(blocked_at(&voters, quorums, [Slot(5)]), Some(Slot(5)));
    }
}
