//! **I9, membership**: everyone has the same one in each slot, whose quorums intersect; each may
//! follow the one before; and who was removed leads nobody.
//!
//! The first membership is in slot 0, and every replica takes its cluster for formed by it. Each
//! further one is chosen, and governs from the next slot on. So no two leaders can follow different
//! ones in a slot while this holds.

use crate::runtime::report::RoleName;
use crate::types::ids::{ReplicaId, Slot};
use crate::types::membership::Membership;

use super::{Violation, ensure};

/// The first membership of a run.
#[derive(Clone, Debug, Default)]
pub struct FirstMembership(Option<Membership>);

impl FirstMembership {
    /// A replica takes the cluster for formed by this membership. It belongs to it, or it `joins`.
    ///
    /// # Errors
    ///
    /// Where it is another cluster than that of the others, or one that nobody may form.
    pub fn on_formed(
        &mut self,
        id: ReplicaId,
        membership: &Membership,
        joins: bool,
    ) -> Result<(), Violation> {
        check_quorums(id, membership)?;
        let belongs = membership.voters().iter().any(|voter| voter.id == id);
        ensure(belongs || joins, "I9", || format!("{id} does not belong to its own membership"))?;
        let one = self.0.get_or_insert_with(|| membership.clone());
        ensure(one == membership, "I9", || format!("{id} has {membership:?}, others {one:?}"))
    }
}

fn check_quorums(who: impl std::fmt::Display, membership: &Membership) -> Result<(), Violation> {
    let (phase1, phase2) = (u64::from(membership.phase1()), u64::from(membership.phase2()));
    let voters = membership.voters().len() as u64;
    ensure(voters < phase1 + phase2 && phase1.max(phase2) <= voters, "I9", || {
        format!("{who} counts {phase1} and {phase2} of {voters} voters as quorums")
    })
}

/// A membership is chosen in `slot`, where `before` decides.
///
/// # Errors
///
/// Where it must not follow: it is an edit of another one, its quorums need not intersect, somebody
/// votes who did not follow the log before, is another directory than before, or comes back; or it
/// is forgotten who left.
pub fn check_follows(slot: Slot, before: &Membership, next: &Membership) -> Result<(), Violation> {
    check_quorums(format_args!("slot {slot}"), next)?;
    let (changes, made) = (before.changes(), next.changes());
    ensure(made == changes + 1, "I9", || {
        format!("slot {slot} holds change {made} of the membership, behind {changes} of them")
    })?;
    for member in next.members() {
        let earlier = before.members().find(|earlier| earlier.id == member.id);
        let votes = next.voters().iter().any(|voter| voter.id == member.id);
        let same = earlier.map_or(!votes, |earlier| earlier.incarnation == member.incarnation);
        let is_back = before.removed().contains(&member.id);
        ensure(same && !is_back && !next.removed().contains(&member.id), "I9", || {
            format!("{member:?} must not belong behind slot {slot}, after {before:?}")
        })?;
    }
    let left = before.members().map(|member| member.id).chain(before.removed().iter().copied());
    let stays = |id: &ReplicaId| next.members().any(|member| member.id == *id);
    let mut forgotten = left.filter(|id| !stays(id) && !next.removed().contains(id));
    let forgotten = forgotten.next();
    ensure(forgotten.is_none(), "I9", || format!("slot {slot} forgets that {forgotten:?} left"))
}

/// A replica that knows all slots below `slot` takes `known` for the membership that governs it,
/// which is `chosen`; and is in this role.
///
/// # Errors
///
/// Where it is another one, or the replica leads though it knows that it was removed.
pub fn check_known(
    id: ReplicaId,
    slot: Slot,
    (known, chosen): (&Membership, Option<&Membership>),
    role: RoleName,
) -> Result<(), Violation> {
    ensure(Some(known) == chosen, "I9", || {
        format!("{id} takes {known:?} for the membership in slot {slot}, which is {chosen:?}")
    })?;
    let removed = known.removed().contains(&id);
    ensure(!removed || role == RoleName::Follower, "I9", || {
        format!("{id} knows that it was removed, and is {role:?}")
    })
}

/// A replica that serves is about to die; `formed`: whether its disk says that it belongs to a
/// formed cluster, where it can be read.
///
/// # Errors
///
/// Where it does not: the next opening would form anew, and take no notice of who refuses it.
pub fn check_serving(id: ReplicaId, formed: Option<bool>) -> Result<(), Violation> {
    ensure(formed != Some(false), "I9", || {
        format!("{id} serves, and its disk does not say that the cluster is formed")
    })
}

#[cfg(test)]
mod tests {
    use crate::types::ids::Incarnation;
    use crate::types::membership::Member;

    use super::*;

    fn member(id: u64, incarnation: u128) -> Member {
        let (id, incarnation) = (ReplicaId(id), Incarnation(incarnation));
        Member { id, incarnation, address: format!("replica-{id}:1") }
    }

    fn of(incarnations: &[u128]) -> Membership {
        let voters = incarnations.iter().zip(1..).map(|(it, id)| member(id, *it));
        Membership::majority(voters.collect()).unwrap()
    }

    #[test]
    fn one_membership_is_everyones() {
        let mut one = FirstMembership::default();
        for id in 1..=3 {
            one.on_formed(ReplicaId(id), &of(&[7, 8, 9]), false).unwrap();
        }
        one.on_formed(ReplicaId(4), &of(&[7, 8, 9]), true).unwrap();
    }

    #[test]
    fn who_serves_is_formed() {
        check_serving(ReplicaId(1), Some(true)).unwrap();
        check_serving(ReplicaId(1), None).unwrap();
        assert_eq!(check_serving(ReplicaId(1), Some(false)).unwrap_err().invariant, "I9");
    }

    #[test]
    fn another_membership_is_seen() {
        let mut one = FirstMembership::default();
        one.on_formed(ReplicaId(1), &of(&[7, 8, 9]), false).unwrap();
        let wiped = one.on_formed(ReplicaId(3), &of(&[7, 8, 10]), false).unwrap_err();
        assert_eq!(wiped.invariant, "I9");
        let stranger = one.on_formed(ReplicaId(4), &of(&[7, 8, 9]), false);
        assert!(stranger.is_err(), "it does not belong");
    }

    #[test]
    fn who_comes_observes_and_who_left_stays_away() {
        let first = of(&[7, 8, 9]);
        let grown = first.with_observer(member(4, 10)).unwrap().following(&first);
        let promoted = grown.with_voter(ReplicaId(4)).unwrap().following(&grown);
        let shrunk = promoted.without(ReplicaId(1)).unwrap().following(&promoted);
        let violation = |before: &Membership, next: &Membership| {
            check_follows(Slot(5), before, next).map_err(|violation| violation.invariant)
        };
        let judge = |before: &Membership, next: &Membership| {
            violation(before, &next.clone().following(before))
        };
        let moved = grown.with_address(ReplicaId(1), "elsewhere:1").unwrap().following(&grown);
        assert_eq!(violation(&promoted, &moved), Err("I9"), "it was made of the one before");
        for (before, next) in [(&first, &grown), (&grown, &promoted), (&promoted, &shrunk)] {
            assert_eq!(judge(before, next), Ok(()));
        }
        assert_eq!(judge(&first, &promoted), Err("I9"), "it votes and never observed");
        assert_eq!(judge(&shrunk, &promoted), Err("I9"), "1 comes back");
        assert_eq!(judge(&promoted, &of(&[7, 8, 9])), Err("I9"), "4 left, and nobody says so");
        assert_eq!(judge(&first, &of(&[7, 8, 10])), Err("I9"), "3 is another directory");
    }

    #[test]
    fn a_replica_knows_who_decides() {
        let (first, one) = (of(&[7, 8, 9]), ReplicaId(1));
        let shrunk = first.without(one).unwrap();
        let judge = |known, chosen, role| check_known(one, Slot(9), (known, chosen), role).is_ok();
        assert!(judge(&first, Some(&first), RoleName::Leader));
        assert!(!judge(&first, Some(&shrunk), RoleName::Follower));
        assert!(!judge(&first, None, RoleName::Follower));
        assert!(judge(&shrunk, Some(&shrunk), RoleName::Follower));
        assert!(!judge(&shrunk, Some(&shrunk), RoleName::Leader), "it was removed");
    }
}
