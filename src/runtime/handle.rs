//! The face of a running replica towards the facade: calls in, pending answers out.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::store::current::Current;
use crate::store::verdict::{Committed, Resolution};
use crate::transport::PeerCounters;
use crate::types::command::Ticket;
use crate::types::entry::Entry;
use crate::types::error::Result;
use crate::types::ids::{Ballot, ReplicaId, RequestId, Slot, TxId};
use crate::types::membership::{Member, Membership};
#[cfg(feature = "sim")]
use crate::types::message::EncodedCommand;

use super::backups::Backup;
use super::changes::Edit;
use super::pending::{Helper, Pending};
use super::report::Report;

/// A replica that runs. Clones share it; when the last one is gone, it stops.
#[derive(Clone)]
pub struct Handle {
    calls: Arc<dyn Calls>,
    /// Stops the threads when the last clone is dropped.
    _running: Arc<Running>,
}

/// Entries of the ledger in order, each with its slot.
pub type EntryIterator = Box<dyn Iterator<Item = Result<(Slot, Entry)>> + Send>;

/// What a handle asks of a replica, whatever disk that is on.
pub trait Calls: Helper {
    /// See [`Handle::propose`].
    ///
    /// # Errors
    ///
    /// What `encode` returns.
    fn propose(&self, encode: &dyn Fn(Ticket) -> Result<Vec<u8>>) -> Result<Pending<Committed>>;
    /// See [`Handle::propose_again`].
    #[cfg(feature = "sim")]
    fn propose_again(&self, command: EncodedCommand) -> Pending<Committed>;
    /// See [`Handle::resolve`].
    fn resolve(&self, request: RequestId) -> Pending<Resolution>;
    /// See [`Handle::read`].
    fn read(&self, timeout: Option<Duration>) -> Pending<()>;
    /// See [`Handle::wait_for`].
    fn wait_for(&self, txid: TxId) -> Pending<()>;
    /// See [`Handle::hand_over`].
    fn hand_over(&self, to: ReplicaId) -> Pending<()>;
    /// See [`Handle::change`].
    fn change(&self, edit: Edit) -> Pending<Membership>;
    /// See [`Handle::next_leader`].
    fn next_leader(&self, known: Option<Ballot>) -> Pending<Option<Ballot>>;
    /// See [`Handle::checkpoint`].
    fn checkpoint(&self) -> Pending<()>;
    /// See [`Handle::backup`].
    fn backup(&self) -> Pending<Box<Backup>>;
    /// See [`Handle::store`].
    fn store(&self) -> &Arc<Current>;
    /// See [`Handle::entries`].
    fn entries(&self, from: Slot, end: Slot) -> EntryIterator;
    /// See [`Handle::report`].
    fn report(&self) -> (Report, Vec<PeerCounters>);
    /// See [`Handle::strangers`].
    fn strangers(&self) -> Vec<Member>;
    /// See [`Handle::close`].
    ///
    /// # Errors
    ///
    /// Where it had stopped by itself, or its threads did not end in time.
    fn close(&self) -> Result<()>;
    /// The last handle is gone.
    fn shut_down(&self);
}

struct Running(Arc<dyn Calls>);

impl Handle {
    /// The handle of a replica that answers these calls.
    #[must_use]
    pub fn new(calls: Arc<dyn Calls>) -> Self {
        Self { _running: Arc::new(Running(Arc::clone(&calls))), calls }
    }

    /// Submits a transaction; `encode` gives its bytes for the ticket that it gets.
    pub fn propose(&self, encode: &dyn Fn(Ticket) -> Result<Vec<u8>>) -> Pending<Committed> {
        let pending = self.calls.propose(encode).unwrap_or_else(Pending::failed);
        pending.helped_by(Arc::clone(&self.calls) as _)
    }

    /// Submits a command that was submitted before, here or elsewhere.
    #[cfg(feature = "sim")]
    pub fn propose_again(&self, command: EncodedCommand) -> Pending<Committed> {
        self.calls.propose_again(command).helped_by(Arc::clone(&self.calls) as _)
    }

    /// Settles what becomes of a request, if nothing did yet.
    pub fn resolve(&self, request: RequestId) -> Pending<Resolution> {
        self.calls.resolve(request).helped_by(Arc::clone(&self.calls) as _)
    }

    /// Waits until the state here is at least as new as everything that was acknowledged anywhere
    /// before this call: for `timeout` at most, or as long as any call where none is given.
    pub fn read(&self, timeout: Option<Duration>) -> Pending<()> {
        self.calls.read(timeout).helped_by(Arc::clone(&self.calls) as _)
    }

    /// Waits until the transaction is applied here.
    pub fn wait_for(&self, txid: TxId) -> Pending<()> {
        self.calls.wait_for(txid).helped_by(Arc::clone(&self.calls) as _)
    }

    /// Waits until `to` leads in place of this replica.
    pub fn hand_over(&self, to: ReplicaId) -> Pending<()> {
        self.calls.hand_over(to).helped_by(Arc::clone(&self.calls) as _)
    }

    /// Waits until another membership counts, which this leader makes of the present one.
    pub fn change(&self, edit: Edit) -> Pending<Membership> {
        self.calls.change(edit).helped_by(Arc::clone(&self.calls) as _)
    }

    /// Waits until another replica leads than `known`, or the same at another ballot, or nobody.
    pub fn next_leader(&self, known: Option<Ballot>) -> Pending<Option<Ballot>> {
        self.calls.next_leader(known).helped_by(Arc::clone(&self.calls) as _)
    }

    /// Waits until what is applied now is in a checkpoint.
    pub fn checkpoint(&self) -> Pending<()> {
        self.calls.checkpoint().helped_by(Arc::clone(&self.calls) as _)
    }

    /// The state that is applied now, for a backup.
    pub fn backup(&self) -> Pending<Box<Backup>> {
        self.calls.backup().helped_by(Arc::clone(&self.calls) as _)
    }

    /// The state, as it is when it is asked for.
    #[must_use]
    pub fn store(&self) -> &Arc<Current> {
        self.calls.store()
    }

    /// The entries of the slots `from..end`, all of which are applied here.
    #[must_use]
    pub fn entries(&self, from: Slot, end: Slot) -> EntryIterator {
        self.calls.entries(from, end)
    }

    /// What the replica tells about itself.
    #[must_use]
    pub fn report(&self) -> (Report, Vec<PeerCounters>) {
        self.calls.report()
    }

    /// Replicas of this cluster that are connected and no members, as they say of themselves.
    #[must_use]
    pub fn strangers(&self) -> Vec<Member> {
        self.calls.strangers()
    }

    /// At which address a stranger that has reached this replica cannot be connected to, and why.
    pub fn unreached(&self, id: ReplicaId) -> Option<String> {
        let (_, counters) = self.calls.report();
        counters.into_iter().find(|row| row.stranger && row.peer == id)?.unreached
    }

    /// Takes no calls any more, lets what was proposed end, syncs, and ends all threads.
    ///
    /// # Errors
    ///
    /// Where it had stopped by itself (poisoned, removed, outdated), or its threads did not end in
    /// time (`TimedOut`).
    pub fn close(&self) -> Result<()> {
        self.calls.close()
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").finish_non_exhaustive()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.shut_down();
    }
}
