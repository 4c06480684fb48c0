//! Who belongs to the cluster: asked, and changed.

use crate::replica::Replica;
use crate::runtime::changes::Edit;
use crate::runtime::pending::Pending;
use crate::types::edition::Edition;
use crate::types::ids::{ClusterId, ReplicaId};
use crate::types::membership::{Membership, MembershipError};

impl Replica {
    /// The cluster that this replica belongs to: what another one needs, besides an address, to
    /// [join](crate::Builder::join) it. `None` until the cluster is formed, or told.
    ///
    /// ```
    /// # fn main() -> indelible::Result<()> {
    /// let replica = indelible::Replica::in_memory()?;
    /// replica.wait_ready(std::time::Duration::from_secs(10))?;
    /// println!("join {}", replica.cluster().expect("it is formed"));
    /// # replica.close()
    /// # }
    /// ```
    #[must_use]
    pub fn cluster(&self) -> Option<ClusterId> {
        self.handle.report().0.cluster
    }

    /// Who belongs to the cluster, as far as this replica knows; it may lag. `None` until the
    /// cluster is formed, or told.
    ///
    /// ```
    /// # fn main() -> indelible::Result<()> {
    /// let replica = indelible::Replica::in_memory()?;
    /// replica.wait_ready(std::time::Duration::from_secs(10))?;
    /// let membership = replica.membership().expect("it is formed");
    /// assert_eq!(membership.voters().len(), 1);
    /// # replica.close()
    /// # }
    /// ```
    #[must_use]
    pub fn membership(&self) -> Option<Membership> {
        self.handle.report().0.membership
    }

    /// Changes who belongs to the cluster, and how many decide: `edit` makes the next membership of
    /// the present one. Several replicas may come and go at once. Only the leader can do it.
    ///
    /// Changes are made one after the other, each through the log: writes go on, and wait for one
    /// round while the change is decided. The leader first makes sure that the voters to be can go
    /// on by themselves: those that are new have caught up, and enough of all of them answer. It
    /// may leave out itself; then it lets another one lead, and stays until those who vote then
    /// have told it that they know. Ends when the change is established: it counts, enough of its
    /// voters to choose have it durably, and, unless its leader left, something was chosen under
    /// it, so that the replicas that were left out may be closed and wiped. What was changed to is
    /// the answer.
    ///
    /// `edit` runs while the replica does nothing else: it must not call the replica, or wait.
    ///
    /// # Errors
    ///
    /// Where this replica does not lead ([`NotLeader`](crate::ErrorKind::NotLeader)), or the
    /// membership cannot be, or not follow the present one
    /// ([`InvalidArgument`](crate::ErrorKind::InvalidArgument)); a voter to be lags
    /// ([`NotCaughtUp`](crate::ErrorKind::NotCaughtUp)), or too few of them are heard or answer
    /// ([`Unreachable`](crate::ErrorKind::Unreachable)), or ([`Busy`](crate::ErrorKind::Busy))
    /// nobody else would be left while this one still fetches what its journal lost, or takes a
    /// checkpoint because of it, or it hands over, or 4,096 callers wait already: then nothing was
    /// changed. Where the membership is why,
    /// [`Error::membership_error`](crate::Error::membership_error) says what is wrong with it.
    /// Where it takes longer than [`request_timeout`](crate::Config::request_timeout), or another
    /// replica leads meanwhile, it may be changed yet ([`TimedOut`](crate::ErrorKind::TimedOut)).
    /// Or the replica stopped.
    ///
    /// ```
    /// # fn main() -> indelible::Result<()> {
    /// # let replica = indelible::Replica::in_memory()?;
    /// # replica.wait_ready(std::time::Duration::from_secs(10))?;
    /// // Five voters, of whom two choose, would be `with_quorums(4, 2)`.
    /// let changed = replica.change_membership(|present| present.with_quorums(1, 1)).wait()?;
    /// assert_eq!(Some(changed), replica.membership());
    /// # replica.close()
    /// # }
    /// ```
    pub fn change_membership(
        &self,
        edit: impl FnOnce(&Membership) -> Result<Membership, MembershipError> + Send + 'static,
    ) -> Pending<Membership> {
        self.handle.change(Edit::new(edit))
    }

    /// Like [`change_membership`](Replica::change_membership), but not refused where a new voter
    /// lags or too few voters are heard: it is tried again until
    /// [`request_timeout`](crate::Config::request_timeout) has passed.
    ///
    /// For whoever knows more than the replica: a voter is only restarting; or a lost voter is to
    /// be replaced at once, by one that has not caught up yet. It is as safe as any other change:
    /// nothing is proposed until enough of the new voters have promised, and know all that was
    /// chosen. Those that are gone for good cannot promise: no change makes up for a lost majority
    /// ([`Restore::from_survivor`](crate::Restore::from_survivor) does, at a price). And until a
    /// voter that lags has caught up, fewer of the others may fail before writes stop.
    ///
    /// # Errors
    ///
    /// Those of `change_membership`, but never [`NotCaughtUp`](crate::ErrorKind::NotCaughtUp), and
    /// [`Unreachable`](crate::ErrorKind::Unreachable) only where the replica is closed meanwhile,
    /// or the edit says so ([`NotHeard`](MembershipError::NotHeard)).
    /// Where the time passes ([`TimedOut`](crate::ErrorKind::TimedOut)), it may be changed yet.
    ///
    /// ```no_run
    /// # fn main() -> indelible::Result<()> {
    /// # let replica = indelible::Replica::open("data")?;
    /// // Replica 3 is lost; 4 has just begun to catch up, and is to vote all the same.
    /// replica.force_membership(|present| present.with_replaced(3, 4)).wait()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn force_membership(
        &self,
        edit: impl FnOnce(&Membership) -> Result<Membership, MembershipError> + Send + 'static,
    ) -> Pending<Membership> {
        self.handle.change(Edit::new(edit).forced())
    }

    /// Upgrades the ledger to the [edition](crate::Edition) that this build knows, if it is of an
    /// earlier one: from then on what is new in this release may stand in the log. Call it when all
    /// replicas run this release and none is to go back to the one before: a build that does not
    /// know the edition cannot open the ledger any more
    /// ([`Outdated`](crate::ErrorKind::Outdated)). That holds from this call on, also where its
    /// answer was lost or late ([`TimedOut`](crate::ErrorKind::TimedOut)): it may come to count
    /// yet. See [`change_membership`](Replica::change_membership).
    ///
    /// # Errors
    ///
    /// As there; and where a member's build does not know the edition, or the member is not heard
    /// ([`UnknownEdition`](MembershipError::UnknownEdition), as
    /// [`Outdated`](crate::ErrorKind::Outdated)): then nothing was changed.
    ///
    /// ```
    /// # fn main() -> indelible::Result<()> {
    /// # let replica = indelible::Replica::in_memory()?;
    /// # replica.wait_ready(std::time::Duration::from_secs(10))?;
    /// let membership = replica.upgrade().wait()?;
    /// assert_eq!(membership.edition(), indelible::Edition::KNOWN);
    /// # replica.close()
    /// # }
    /// ```
    pub fn upgrade(&self) -> Pending<Membership> {
        self.change_membership(|present| {
            present.with_edition(Edition::KNOWN.max(present.edition()))
        })
    }

    /// Makes a replica that was opened to [join](crate::Builder::join) an observer: it follows, and
    /// serves reads, and nobody counts it. See [`change_membership`](Replica::change_membership).
    ///
    /// # Errors
    ///
    /// As there; and as [`Unreachable`](crate::ErrorKind::Unreachable) where this replica was not
    /// asked by `id` ([`NotHeard`](MembershipError::NotHeard)), which it may be soon, or cannot
    /// connect to it at the address that it was opened with
    /// ([`NotReached`](MembershipError::NotReached)). A member is left as it is.
    ///
    /// ```no_run
    /// # fn main() -> indelible::Result<()> {
    /// # let replica = indelible::Replica::open("data")?;
    /// replica.add_observer(4).wait()?;
    /// // As soon as it has caught up.
    /// replica.promote(4).wait()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn add_observer(&self, id: impl Into<ReplicaId>) -> Pending<Membership> {
        let id = id.into();
        let mut strangers = self.handle.strangers().into_iter();
        let stranger = strangers.find(|stranger| stranger.id == id);
        let unreached = if stranger.is_none() { self.handle.unreached(id) } else { None };
        self.change_membership(move |present| match stranger {
            _ if present.member(id).is_some() => Ok(present.clone()),
            Some(stranger) => present.with_observer(stranger),
            None if present.removed().contains(&id) => Err(MembershipError::RemovedId(id)),
            None => Err(unreached.map_or(MembershipError::NotHeard(id), |why| {
                MembershipError::NotReached { id, why }
            })),
        })
    }

    /// Makes an observer that has caught up a voter. Majorities stay majorities; see
    /// [`Membership::with_voter`]. See [`change_membership`](Replica::change_membership).
    ///
    /// # Errors
    ///
    /// As there.
    ///
    /// ```no_run
    /// # fn main() -> indelible::Result<()> {
    /// # let replica = indelible::Replica::in_memory()?;
    /// replica.add_observer(4).wait()?;
    /// // Once it has caught up; before that, it is refused as `NotCaughtUp`.
    /// let membership = replica.promote(4).wait()?;
    /// assert!(membership.voter(4.into()).is_some());
    /// # Ok(())
    /// # }
    /// ```
    pub fn promote(&self, id: impl Into<ReplicaId>) -> Pending<Membership> {
        let id = id.into();
        self.change_membership(move |present| present.with_voter(id))
    }

    /// Removes a replica for good: its id never comes back. Of a voter, majorities stay majorities;
    /// see [`Membership::without`] and [`change_membership`](Replica::change_membership). A removed
    /// replica that hears of it stops, as [`Removed`](crate::ErrorKind::Removed), once those who
    /// vote now can do without it: it may be the only one that knows of the change. Its
    /// `status().trouble` names whom it waits for, 1,200 election timeouts at most. One that was
    /// removed before is no error.
    ///
    /// # Errors
    ///
    /// As there.
    ///
    /// ```no_run
    /// # fn main() -> indelible::Result<()> {
    /// # let replica = indelible::Replica::in_memory()?;
    /// let membership = replica.remove(3).wait()?;
    /// assert!(membership.removed().contains(&3.into()));
    /// # Ok(())
    /// # }
    /// ```
    pub fn remove(&self, id: impl Into<ReplicaId>) -> Pending<Membership> {
        let id = id.into();
        self.change_membership(move |present| match present.removed().contains(&id) {
            true => Ok(present.clone()),
            false => present.without(id),
        })
    }

    /// Replaces a voter by an observer that has caught up, in one change: there are as many voters
    /// at any time. See [`change_membership`](Replica::change_membership).
    ///
    /// # Errors
    ///
    /// As there.
    ///
    /// ```no_run
    /// # fn main() -> indelible::Result<()> {
    /// # let replica = indelible::Replica::open("data")?;
    /// // The disk of replica 3 is gone; replica 4 was opened to join. Fails as `Unreachable` until
    /// // it is heard: then ask again.
    /// replica.add_observer(4).wait()?;
    /// // Fails as `NotCaughtUp` until it has caught up.
    /// replica.replace(3, 4).wait()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn replace(
        &self,
        lost: impl Into<ReplicaId>,
        by: impl Into<ReplicaId>,
    ) -> Pending<Membership> {
        let (lost, by) = (lost.into(), by.into());
        self.change_membership(move |present| {
            let done = present.voter(by).is_some() && present.removed().contains(&lost);
            if done { Ok(present.clone()) } else { present.with_replaced(lost, by) }
        })
    }
}
