//! What a running replica tells the `tracing` crate: changes that an operator would ask about.
//!
//! With the feature `tracing`, each function here emits one event; without it, each does nothing.
//! Every event names the replica, since one process may hold several. Events are output only:
//! nothing that a replica decides depends on whether anybody listens.
//!
//! | level | event | when |
//! |---|---|---|
//! | info | `opened` | a directory was opened |
//! | warn | `other users can read the directory` | it is not private |
//! | info | `cluster formed` | every voter agreed, for the first time |
//! | warn | `cluster cannot form` | a peer said something that an operator must look at |
//! | info | `role changed` | it follows, campaigns or leads |
//! | info | `leader known` | it heard a leader, or another one than before |
//! | warn | `leader lost` | it hears none any more |
//! | error | `stopped for good` | a sync failed, a mistake was caught, or logs differ |
//! | info | `closed` | its owner closed it |
//! | warn | `peer refused` | a hello was refused, for another reason than the one before |
//! | warn | `disk stands still` | a leader's disk got nothing done for long, and it hands over |
//! | info | `preferred peer is to lead` | a leader hands over to a replica of a higher priority |
//! | info | `state taken in` | a checkpoint of a peer replaced a state that lagged too far behind |
//! | warn | `no checkpoint` | what a peer sent as a checkpoint was none |
//! | warn | `new ledger` | a directory was made that begins with the state of another ledger |
//! | warn | `no thread` | a connection was dropped, since no thread could be had for it |
//! | warn | `slow sync` | a write to the journal took longer than a second |
//!
//! Invariants:
//! * No key and no value is ever in an event.
//! * An event is emitted when something changes, not as long as it is so.

#[cfg(feature = "tracing")]
pub(super) use emitted::{
    Told, exposed, installed, opened, preferred, refused, restored, stalled, starved, stopped,
    synced, unfit,
};
#[cfg(not(feature = "tracing"))]
pub(super) use silent::{
    Told, exposed, installed, opened, preferred, refused, restored, stalled, starved, stopped,
    synced, unfit,
};

#[cfg(feature = "tracing")]
mod emitted {
    use std::path::Path;
    use std::time::Duration;

    use crate::journal::disk::Disk;
    use crate::journal::{Identity, Unfit};
    use crate::paxos::formation::Trouble;
    use crate::paxos::step::RoleName;
    use crate::runtime::driver::Driver;
    use crate::transport::Refusal;
    use crate::types::error::{Error, ErrorKind};
    use crate::types::ids::{Ballot, ClusterId, ReplicaId, Slot};

    /// A write to the journal that takes longer than this is told.
    const SYNC_SLOW: Duration = Duration::from_secs(1);

    /// What was told last, to be compared with what is so now.
    #[derive(Debug, Default)]
    pub struct Told {
        formed: bool,
        trouble: Option<Trouble>,
        role: Option<RoleName>,
        leader: Option<Ballot>,
    }

    /// A directory was opened.
    pub fn opened(identity: &Identity) -> Told {
        let Identity { replica, cluster, formed, boot, .. } = identity;
        tracing::info!(%replica, %cluster, formed, boot = boot.sequence, "opened");
        Told { formed: *formed, ..Told::default() }
    }

    impl<D: Disk> Driver<D> {
        /// Tells what a turn changed.
        pub(in crate::runtime) fn tell_changes(&mut self) {
            let replica = self.options.id;
            let trouble = self.formation.trouble();
            if self.told.trouble.as_ref() != trouble {
                if let Some(trouble) = trouble {
                    tracing::warn!(%replica, %trouble, "cluster cannot form");
                }
                self.told.trouble = trouble.cloned();
            }
            let Some(view) = self.view() else { return };
            if !self.told.formed {
                let cluster = self.journal.identity().cluster;
                let voters = self.members().map_or(0, |members| members.voters().len());
                tracing::info!(%replica, %cluster, voters, "cluster formed");
                self.told.formed = true;
            }
            if self.told.role != Some(view.role) {
                let (role, promised) = (view.role, view.promised);
                tracing::info!(%replica, ?role, %promised, "role changed");
                self.told.role = Some(role);
            }
            if self.told.leader != view.leader {
                match view.leader {
                    Some(Ballot { round, leader }) => {
                        tracing::info!(%replica, %leader, round, "leader known");
                    }
                    None => tracing::warn!(%replica, "leader lost"),
                }
                self.told.leader = view.leader;
            }
        }
    }

    /// A replica serves no more.
    pub fn stopped(replica: ReplicaId, err: &Error) {
        match err.kind() {
            ErrorKind::Closed => tracing::info!(%replica, "closed"),
            _ => tracing::error!(%replica, error = %err, "stopped for good"),
        }
    }

    /// The data directory is open to other users.
    pub fn exposed(replica: ReplicaId, path: &Path) {
        tracing::warn!(%replica, path = %path.display(), "other users can read the directory");
    }

    /// A peer, or somebody who says that it is one, was refused.
    pub fn refused(replica: ReplicaId, peer: ReplicaId, refusal: &Refusal) {
        tracing::warn!(%replica, %peer, reason = %refusal, "peer refused");
    }

    /// A connection is dropped: there is no thread for it.
    pub fn starved(replica: ReplicaId, err: &Error) {
        tracing::warn!(%replica, %err, "no thread");
    }

    /// The disk of a leader stands still, and it lets a peer lead.
    pub fn stalled(replica: ReplicaId, successor: ReplicaId) {
        tracing::warn!(%replica, %successor, "disk stands still");
    }

    /// A leader lets a peer lead that is preferred to it.
    pub fn preferred(replica: ReplicaId, successor: ReplicaId) {
        tracing::info!(%replica, %successor, "preferred peer is to lead");
    }

    /// A replica took in the state of a peer.
    pub fn installed(replica: ReplicaId, slot: Slot) {
        tracing::info!(%replica, %slot, "state taken in");
    }

    /// A peer sent something else than a checkpoint.
    pub fn unfit(replica: ReplicaId, peer: ReplicaId, unfit: &Unfit) {
        tracing::warn!(%replica, %peer, reason = %unfit, "no checkpoint");
    }

    /// A new ledger was made of another cluster's state: of entries that nobody knows to be chosen,
    /// too, of slots that are empty before those, and perhaps without some that were lost.
    pub fn restored(
        replica: ReplicaId,
        (from, cluster): (ClusterId, ClusterId),
        (presumed, empty, torn): (u64, u64, bool),
    ) {
        tracing::warn!(%replica, %from, %cluster, presumed, empty, torn, "new ledger");
    }

    /// A group was written and synced.
    pub fn synced(replica: ReplicaId, bytes: u64, took: Duration) {
        if took > SYNC_SLOW {
            tracing::warn!(%replica, bytes, ?took, "slow sync");
        }
    }
}

#[cfg(not(feature = "tracing"))]
mod silent {
    use std::path::Path;
    use std::time::Duration;

    use crate::journal::disk::Disk;
    use crate::journal::{Identity, Unfit};
    use crate::runtime::driver::Driver;
    use crate::transport::Refusal;
    use crate::types::error::Error;
    use crate::types::ids::{ClusterId, ReplicaId, Slot};

    /// Nothing is told.
    #[derive(Debug)]
    pub struct Told;

    pub fn opened(_identity: &Identity) -> Told {
        Told
    }

    impl<D: Disk> Driver<D> {
        pub(in crate::runtime) fn tell_changes(&mut self) {
            let Told = self.told;
        }
    }

    pub fn stopped(_replica: ReplicaId, _err: &Error) {}

    pub fn exposed(_replica: ReplicaId, _path: &Path) {}

    pub fn refused(_replica: ReplicaId, _peer: ReplicaId, _refusal: &Refusal) {}

    pub fn starved(_replica: ReplicaId, _err: &Error) {}

    pub fn stalled(_replica: ReplicaId, _successor: ReplicaId) {}

    pub fn preferred(_replica: ReplicaId, _successor: ReplicaId) {}

    pub fn installed(_replica: ReplicaId, _slot: Slot) {}

    pub fn restored(
        _replica: ReplicaId,
        (_from, _cluster): (ClusterId, ClusterId),
        (_presumed, _empty, _torn): (u64, u64, bool),
    ) {
    }

    pub fn unfit(_replica: ReplicaId, _peer: ReplicaId, _unfit: &Unfit) {}

    pub fn synced(_replica: ReplicaId, _bytes: u64, _took: Duration) {}
}
