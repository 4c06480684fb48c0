//! Quorums against an oracle that knows sets and nothing else.

use std::collections::BTreeSet;

use indelible::ReplicaId;
use indelible::paxos::quorum::{Quorum, VoterSet};
use indelible::types::ids::Incarnation;
use indelible::types::membership::{Member, Membership};
use proptest::prelude::*;

fn membership(ids: &BTreeSet<u64>, phase1: u32, phase2: u32) -> Membership {
    let voters = ids.iter().map(|id| Member {
        id: ReplicaId(*id),
        incarnation: Incarnation(u128::from(*id)),
        address: format!("replica-{id}"),
    });
    Membership::flexible(voters.collect(), phase1, phase2, 64).expect("a possible membership")
}

/// Every subset of `ids` with `size` members.
fn subsets(ids: &[u64], size: usize) -> Vec<BTreeSet<u64>> {
    let all = 0_u32..1 << ids.len();
    let sized = all.filter(|bits| bits.count_ones() as usize == size);
    let members = |bits: u32| {
        let chosen = ids.iter().enumerate().filter(|(index, _)| bits >> index & 1 == 1);
        chosen.map(|(_, id)| *id).collect()
    };
    sized.map(members).collect()
}

/// A membership, and ids of which some are voters; some twice.
fn cases() -> impl Strategy<Value = (BTreeSet<u64>, u32, u32, Vec<u64>)> {
    let ids = prop::collection::btree_set(1_u64..20, 1..=7);
    ids.prop_flat_map(|ids| {
        let count = ids.len() as u32;
        let phases =
            (1..=count).prop_flat_map(move |phase1| (Just(phase1), count + 1 - phase1..=count));
        (Just(ids), phases, prop::collection::vec(0_u64..22, 0..12))
    })
    .prop_map(|(ids, (phase1, phase2), asked)| (ids, phase1, phase2, asked))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn quorums_are_what_sets_say((ids, phase1, phase2, asked) in cases()) {
        let quorum = Quorum::of(&membership(&ids, phase1, phase2));
        let mut set = VoterSet::default();
        let mut oracle = BTreeSet::new();
        for id in asked {
            quorum.insert(&mut set, ReplicaId(id));
            if ids.contains(&id) {
                oracle.insert(id);
            }
            let all = ids.iter().copied().collect::<Vec<_>>();
            let meets = |size: u32| {
                subsets(&all, size as usize).iter().all(|other| !other.is_disjoint(&oracle))
            };
            prop_assert_eq!(quorum.is_voter(ReplicaId(id)), ids.contains(&id));
            prop_assert_eq!(quorum.contains(set, ReplicaId(id)), oracle.contains(&id));
            prop_assert_eq!(set.len() as usize, oracle.len());
            prop_assert_eq!(set.is_empty(), oracle.is_empty());
            prop_assert_eq!(quorum.is_phase1(set), oracle.len() >= phase1 as usize);
            prop_assert_eq!(quorum.is_phase2(set), oracle.len() >= phase2 as usize);
            // What a quorum is for: the other phase cannot go past it.
            prop_assert!(!quorum.is_phase1(set) || meets(phase2));
            prop_assert!(!quorum.is_phase2(set) || meets(phase1));
            prop_assert_eq!(quorum.confirms(set), meets(phase1) || meets(phase2));
        }
    }
}

#[test]
fn sets_hold_the_largest_membership() {
    let ids = (1..=63).collect::<BTreeSet<u64>>();
    let quorum = Quorum::of(&membership(&ids, 32, 32));
    let mut set = VoterSet::default();
    for id in ids {
        assert_eq!(quorum.is_phase2(set), id > 32);
        quorum.insert(&mut set, ReplicaId(id));
        assert!(quorum.contains(set, ReplicaId(id)));
    }
    assert_eq!(set.len(), 63);
}
