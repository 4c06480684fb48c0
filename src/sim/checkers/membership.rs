//! **I9, membership**: everyone has the same one, whose quorums intersect, and belongs to it.
//!
//! There is one membership for the whole life of a cluster for now: that in slot 0. So no two
//! leaders can follow different ones while this holds.

use crate::types::ids::ReplicaId;
use crate::types::membership::Membership;

use super::{Violation, ensure};

/// The membership of a run.
#[derive(Clone, Debug, Default)]
pub struct OneMembership(Option<Membership>);

impl OneMembership {
    /// A replica takes the cluster for formed.
    ///
    /// # Errors
    ///
    /// Where it is another cluster than that of the others, or one that nobody may form.
    pub fn on_formed(&mut self, id: ReplicaId, membership: &Membership) -> Result<(), Violation> {
        let (phase1, phase2) = (u64::from(membership.phase1()), u64::from(membership.phase2()));
        let voters = membership.voters().len() as u64;
        ensure(voters < phase1 + phase2 && phase1.max(phase2) <= voters, "I9", || {
            format!("{id} counts {phase1} and {phase2} of {voters} voters as quorums")
        })?;
        let belongs = membership.voters().iter().any(|voter| voter.id == id);
        ensure(belongs, "I9", || format!("{id} does not belong to its own membership"))?;
        let one = self.0.get_or_insert_with(|| membership.clone());
        ensure(one == membership, "I9", || format!("{id} has {membership:?}, others {one:?}"))
    }
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

    fn of(incarnations: &[u128]) -> Membership {
        let voters = incarnations.iter().zip(1..).map(|(incarnation, id)| Member {
            id: ReplicaId(id),
            incarnation: Incarnation(*incarnation),
            address: format!("replica-{id}:1"),
        });
        Membership::majority(voters.collect()).unwrap()
    }

    #[test]
    fn one_membership_is_everyones() {
        let mut one = OneMembership::default();
        for id in 1..=3 {
            one.on_formed(ReplicaId(id), &of(&[7, 8, 9])).unwrap();
        }
    }

    #[test]
    fn who_serves_is_formed() {
        check_serving(ReplicaId(1), Some(true)).unwrap();
        check_serving(ReplicaId(1), None).unwrap();
        assert_eq!(check_serving(ReplicaId(1), Some(false)).unwrap_err().invariant, "I9");
    }

    #[test]
    fn another_membership_is_seen() {
        let mut one = OneMembership::default();
        one.on_formed(ReplicaId(1), &of(&[7, 8, 9])).unwrap();
        let wiped = one.on_formed(ReplicaId(3), &of(&[7, 8, 10])).unwrap_err();
        assert_eq!(wiped.invariant, "I9");
        assert!(one.on_formed(ReplicaId(4), &of(&[7, 8, 9])).is_err(), "it does not belong");
    }
}
