//! The leader as a caller sees it: who it is, and a number that fences off those before it.

use std::fmt;

use crate::types::ids::{Ballot, ReplicaId};

/// A replica that leads, and under which ballot.
///
/// Ordered: once the greater of two leads, the lesser can get nothing new agreed on any more. No
/// two are equal, not even two of one replica. So it is a *fencing token*: a service that acts on
/// others only while its replica leads sends it along, and whoever is acted upon refuses what is
/// less than the greatest that it saw. (A leader can be deposed without knowing it yet.)
///
/// ```
/// use indelible::Replica;
///
/// # fn main() -> indelible::Result<()> {
/// let replica = Replica::in_memory()?;
/// let leader = replica.next_leader(None).wait()?.expect("other than none");
/// assert_eq!(leader.id, replica.status().id);
/// println!("replica {} leads, token {}", leader.id, leader.token());
/// # replica.close()
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Leader {
    /// The round of its ballot: it grows with every change of the leader, but two replicas that
    /// campaigned at once may share one.
    pub round: u64,
    /// Who leads.
    pub id: ReplicaId,
}

impl Leader {
    /// The whole as one number, in the same order.
    ///
    /// ```
    /// use indelible::{Leader, ReplicaId};
    ///
    /// let (one, two) = (ReplicaId(1), ReplicaId(2));
    /// assert!(Leader { round: 3, id: one }.token() < Leader { round: 3, id: two }.token());
    /// assert!(Leader { round: 3, id: two }.token() < Leader { round: 4, id: one }.token());
    /// ```
    #[must_use]
    pub fn token(&self) -> u128 {
        u128::from(self.round) << 64 | u128::from(self.id.0)
    }

    pub(crate) fn of(ballot: Ballot) -> Self {
        Self { round: ballot.round, id: ballot.leader }
    }

    pub(crate) fn ballot(&self) -> Ballot {
        Ballot { round: self.round, leader: self.id }
    }
}

impl fmt::Display for Leader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "replica {} of round {}", self.id, self.round)
    }
}
