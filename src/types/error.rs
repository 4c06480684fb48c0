//! The one public error: opaque, with a kind, predicates and what a caller needs to go on.
//!
//! It stands at the bottom of the crate so that no layer has to name the types of a layer above it:
//! each layer keeps a small error enum beside its cause, and boxes it in here as the source.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::conflict::Conflict;
use super::ids::{RequestId, TxId};
use super::membership::MembershipError;

/// The result of a fallible call.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a call failed.
///
/// There are three classes: the *caller's* errors (a condition failed, a value is too large), the
/// *unknown outcome* (asked, not answered in time), and errors of *this replica* (its disk, its
/// directory, its state). An error is cheap to clone.
///
/// ```
/// use indelible::{Replica, RawTable};
///
/// # fn main() -> indelible::Result<()> {
/// const NOTES: RawTable<u64> = RawTable::new("notes");
/// let replica = Replica::in_memory()?;
/// let mut create = replica.transaction();
/// create.present(NOTES, 1).put(NOTES, 1, b"text");
/// let err = create.commit().wait().expect_err("there is no note 1 yet");
/// assert!(err.is_refused());
/// assert!(err.conflict().is_some());
/// # replica.close()
/// # }
/// ```
#[derive(Clone)]
pub struct Error(Arc<Inner>);

struct Inner {
    kind: ErrorKind,
    message: String,
    request: Option<RequestId>,
    conflict: Option<Conflict>,
    retry_after: Option<Duration>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// The kinds of [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// An argument or a setting is not usable; the message names it. Nothing was done.
    InvalidArgument,
    /// A key, value or transaction is over its limit. Nothing was proposed.
    TooLarge,
    /// A key or value could not be encoded or decoded as its table's type.
    Encoding,
    /// A table was used with keys of another kind than those it was first written with, or raw
    /// where it is typed, or the other way round.
    TableMismatch,
    /// A condition of the transaction did not hold. Nothing was written.
    Refused,
    /// Too much is waiting already. Nothing was proposed; try again later.
    Busy,
    /// The disk of this replica is full. Nothing was proposed; or the read must see what it cannot
    /// take in. It goes on by itself once there is space.
    StorageFull,
    /// The deadline passed before the transaction was proposed: it did not and will not happen. Or
    /// before a leader confirmed a read, before the transaction that was waited for was applied
    /// here, or before a hand-over or a change of the membership came about, which it still may; or
    /// before a replica that was closed ended, whose disk hangs.
    TimedOut,
    /// The deadline passed, or the replica stopped, after the transaction was proposed: it may have
    /// happened, it may happen yet, or it may never happen. It does not happen twice, and
    /// [`resolve`](crate::Replica::resolve) settles which it is.
    OutcomeUnknown,
    /// The ledger has forgotten what became of the transaction, or of the session in which it was
    /// submitted: it may have happened, and will not happen any more.
    SessionExpired,
    /// Somebody asked with [`resolve`](crate::Replica::resolve) what became of the transaction
    /// before it arrived: it did not and will not happen.
    Burned,
    /// Only the leader can do this, and this replica does not lead. Nothing was done.
    NotLeader,
    /// A replica that is needed is not heard, lags too far, or does not answer: the one that is to
    /// lead or to belong, enough of the voters of a new membership, or the peer whose checkpoint is
    /// being taken in. Nothing was changed.
    Unreachable,
    /// A replica that is to vote has not caught up. Nothing was done.
    NotCaughtUp,
    /// This replica was removed from its cluster, for good.
    Removed,
    /// The replica was closed before the call was carried out. A transaction did not and will not
    /// happen.
    Closed,
    /// This replica stopped for good: a write or sync failed, its log differs from a peer's, or it
    /// caught a mistake of its own. Open it anew.
    Poisoned,
    /// The data directory is open already, here or in another process.
    Locked,
    /// A file is of a format that this version of the crate does not know.
    UnsupportedFormat,
    /// The ledger is of an [edition](crate::Edition) that this build does not know, since it was
    /// [upgraded](crate::Replica::upgrade): open the replica with a newer release. Nothing is lost.
    Outdated,
    /// A file of the data directory belongs to another cluster.
    WrongCluster,
    /// A data directory belongs to another replica than the one it was opened as, or one of its
    /// files to another directory.
    IdentityMismatch,
    /// The voters given differ from those with which the cluster was formed.
    MembershipMismatch,
    /// A file of the journal, or the only checkpoint, is missing.
    MissingSegment,
    /// A file of a lone replica's directory is damaged where it was acknowledged. Or, of any
    /// replica's, `identity` is missing or damaged, or a segment was cut off at its beginning.
    /// Nothing was changed.
    Corrupt,
    /// The operating system refused an operation on a file, a socket or a thread.
    Io,
    /// Transactions are asked for that are so old that they were removed; see
    /// [`history_bytes_min`](crate::Config::history_bytes_min). The state is whole without them.
    Trimmed,
    /// The transaction that was asked for was acknowledged once, and is none of this ledger: it
    /// came behind what the ledger was [restored](crate::Restore) from. It did not happen here and
    /// never will; but where the ledger was restored from a survivor, it may be among what that had
    /// only voted for, and be here under another id: only `resolve` tells.
    Lost,
}

impl Error {
    /// An error of this kind. The message is lower case, names the thing, and ends without a stop.
    #[must_use]
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Arc::new(Inner {
            kind,
            message: message.into(),
            request: None,
            conflict: None,
            retry_after: None,
            source: None,
        }))
    }

    /// An error that a layer's own error caused; it is printed after the message.
    #[must_use]
    pub(crate) fn caused(
        kind: ErrorKind,
        message: impl Into<String>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self(Arc::new(Inner {
            kind,
            message: message.into(),
            request: None,
            conflict: None,
            retry_after: None,
            source: Some(source.into()),
        }))
    }

    /// A membership cannot be.
    #[must_use]
    pub(crate) fn membership(kind: ErrorKind, err: MembershipError) -> Self {
        Self::caused(kind, "the membership cannot be changed", err)
    }

    /// The outcome of `request` is not known.
    #[must_use]
    pub(crate) fn outcome_unknown(request: RequestId, why: &str) -> Self {
        let message = format!("outcome of transaction {request} is unknown: {why}");
        Self::about(ErrorKind::OutcomeUnknown, request, message)
    }

    /// Nobody could be asked what became of `request`, for this reason: that is as unknown as it
    /// was.
    #[must_use]
    pub(crate) fn unresolved(self, request: RequestId) -> Self {
        match self.kind() {
            ErrorKind::SessionExpired => self,
            _ => Self::outcome_unknown(request, &format!("it was not resolved: {self}")),
        }
    }

    /// The transaction was given up when this ledger was restored.
    #[must_use]
    pub(crate) fn lost(txid: TxId) -> Self {
        let message = format!("transaction {txid} was lost before this ledger was restored");
        Self::new(ErrorKind::Lost, message)
    }

    /// What became of `request` is not known any more.
    #[must_use]
    pub(crate) fn session_expired(request: RequestId) -> Self {
        let message = format!("what became of transaction {request} is not remembered any more");
        Self::about(ErrorKind::SessionExpired, request, message)
    }

    /// `request` was resolved before it arrived.
    #[must_use]
    pub(crate) fn burned(request: RequestId) -> Self {
        let message = format!("transaction {request} was settled as not to happen by a resolve");
        Self::about(ErrorKind::Burned, request, message)
    }

    /// The same, of the transaction `request`.
    #[must_use]
    pub(crate) fn about_request(self, request: RequestId) -> Self {
        let inner = Arc::try_unwrap(self.0);
        let inner = inner.unwrap_or_else(|_| unreachable!("it was just made, and is nowhere else"));
        Self(Arc::new(Inner { request: Some(request), ..inner }))
    }

    fn about(kind: ErrorKind, request: RequestId, message: String) -> Self {
        Self(Arc::new(Inner {
            kind,
            message,
            request: Some(request),
            conflict: None,
            retry_after: None,
            source: None,
        }))
    }

    /// Too much waits already; after `retry_after` it may be less.
    #[must_use]
    pub(crate) fn busy(message: impl Into<String>, retry_after: Duration) -> Self {
        Self(Arc::new(Inner {
            kind: ErrorKind::Busy,
            message: message.into(),
            request: None,
            conflict: None,
            retry_after: Some(retry_after),
            source: None,
        }))
    }

    /// A condition did not hold.
    #[must_use]
    pub(crate) fn refused(request: RequestId, conflict: Conflict) -> Self {
        Self(Arc::new(Inner {
            kind: ErrorKind::Refused,
            message: conflict.to_string(),
            request: Some(request),
            conflict: Some(conflict),
            retry_after: None,
            source: None,
        }))
    }

    /// The kind of this error.
    ///
    /// ```
    /// use indelible::{ErrorKind, Replica};
    /// let err = Replica::builder("data").id(0).open().expect_err("ids are positive");
    /// assert_eq!(err.kind(), ErrorKind::InvalidArgument);
    /// ```
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Whether a condition of the transaction did not hold. Nothing was written; what was found is
    /// in [`Error::conflict`].
    ///
    /// ```
    /// # use indelible::{RawTable, Replica};
    /// # const NOTES: RawTable<u64> = RawTable::new("notes");
    /// # fn main() -> indelible::Result<()> {
    /// # let replica = Replica::in_memory()?;
    /// let mut edit = replica.transaction();
    /// edit.present(NOTES, 1).put(NOTES, 1, b"text");
    /// assert!(edit.commit().wait().is_err_and(|err| err.is_refused()));
    /// # replica.close()
    /// # }
    /// ```
    #[must_use]
    pub fn is_refused(&self) -> bool {
        self.kind() == ErrorKind::Refused
    }

    /// Whether the transaction may or may not have happened. Its identity is in
    /// [`Error::request`], and [`Replica::resolve`](crate::Replica::resolve) settles it for good,
    /// unless [`Error::is_session_expired`].
    ///
    /// ```
    /// use indelible::{Committed, Result};
    /// fn log(outcome: &Result<Committed>) {
    ///     match outcome {
    ///         Ok(done) => println!("happened, at {}", done.at),
    ///         Err(err) if err.is_outcome_unknown() => println!("may have happened: {err}"),
    ///         Err(err) => println!("did not happen: {err}"),
    ///     }
    /// }
    /// ```
    #[must_use]
    pub fn is_outcome_unknown(&self) -> bool {
        matches!(self.kind(), ErrorKind::OutcomeUnknown | ErrorKind::SessionExpired)
    }

    /// Whether what became of the transaction is not remembered any more: it may have happened, and
    /// does not happen any more. Nothing can tell but what it wrote.
    ///
    /// ```
    /// use indelible::{Error, Replica, Resolution, Result};
    /// /// Whether the transaction happened that `err` left open, where that can still be told.
    /// fn settle(replica: &Replica, err: &Error) -> Result<Option<bool>> {
    ///     let request = err.request().expect("an unknown outcome names its transaction");
    ///     match replica.resolve(request).wait() {
    ///         Ok(resolution) => Ok(Some(resolution.committed().is_some())),
    ///         Err(err) if err.is_session_expired() => Ok(None),
    ///         Err(err) => Err(err),
    ///     }
    /// }
    /// ```
    #[must_use]
    pub fn is_session_expired(&self) -> bool {
        self.kind() == ErrorKind::SessionExpired
    }

    /// Whether the same call may succeed later without any change by the caller: too much was
    /// waiting, no leader was found in time, or a replica that is needed is not heard, or lags. A
    /// transaction was not proposed, and a read had no effect; only a hand-over, or a change of the
    /// membership, that [timed out](ErrorKind::TimedOut) may come about yet. It need not pass: who
    /// is dead, or never was, is not heard for ever.
    ///
    /// ```
    /// use indelible::{Error, Pending, Result};
    /// use std::time::{Duration, Instant};
    /// const PAUSE: Duration = Duration::from_millis(50);
    /// fn insist<T>(mut call: impl FnMut() -> Pending<T>, end: Instant) -> Result<T> {
    ///     loop {
    ///         match call().wait() {
    ///             Err(err) if err.is_retryable() && Instant::now() < end => {
    ///                 std::thread::sleep(err.retry_after().unwrap_or(PAUSE));
    ///             }
    ///             result => return result,
    ///         }
    ///     }
    /// }
    /// ```
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(
            self.kind(),
            ErrorKind::Busy | ErrorKind::TimedOut | ErrorKind::Unreachable | ErrorKind::NotCaughtUp
        )
    }

    /// After what time to try again where too much was waiting ([`Busy`](ErrorKind::Busy)): about
    /// half of it will have gone by then, as far as can be told. At most an
    /// [election timeout](crate::Config::election_timeout).
    ///
    /// ```
    /// use indelible::{Committed, Pending, Result};
    /// fn patient(mut call: impl FnMut() -> Pending<Committed>) -> Result<Committed> {
    ///     loop {
    ///         let result = call().wait();
    ///         match result.as_ref().err().and_then(|err| err.retry_after()) {
    ///             Some(time) => std::thread::sleep(time),
    ///             None => return result,
    ///         }
    ///     }
    /// }
    /// ```
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// Whether the disk of this replica is full. The call had no effect, and may succeed at another
    /// replica, or here once there is space.
    ///
    /// ```
    /// use indelible::{Committed, Pending, Result};
    /// type Call<'a> = &'a dyn Fn() -> Pending<Committed>;
    /// fn either(here: Call<'_>, there: Call<'_>) -> Result<Committed> {
    ///     match here().wait() {
    ///         Err(err) if err.is_storage_full() => there().wait(),
    ///         result => result,
    ///     }
    /// }
    /// ```
    #[must_use]
    pub fn is_storage_full(&self) -> bool {
        self.kind() == ErrorKind::StorageFull
    }

    /// Whether this replica can no longer serve: it is closed, poisoned, removed or outdated.
    ///
    /// ```
    /// # use indelible::{RawTable, Replica};
    /// # const NOTES: RawTable<u64> = RawTable::new("notes");
    /// # fn main() -> indelible::Result<()> {
    /// # let replica = Replica::in_memory()?;
    /// replica.close()?;
    /// assert!(replica.get(NOTES, 1).wait().is_err_and(|err| err.is_stopped()));
    /// # replica.close()
    /// # }
    /// ```
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        use ErrorKind::{Closed, Outdated, Poisoned, Removed};

        matches!(self.kind(), Closed | Poisoned | Removed | Outdated)
    }

    /// The condition that failed, where [`Error::is_refused`].
    ///
    /// ```
    /// # use indelible::{RawTable, Replica};
    /// # const NOTES: RawTable<u64> = RawTable::new("notes");
    /// # fn main() -> indelible::Result<()> {
    /// # let replica = Replica::in_memory()?;
    /// let first = replica.put(NOTES, 1, b"text").wait()?;
    /// let mut create = replica.transaction();
    /// create.absent(NOTES, 1).put(NOTES, 1, b"other text");
    /// let err = create.commit().wait().expect_err("there is a note 1");
    /// let conflict = err.conflict().expect("it was refused");
    /// assert_eq!((conflict.condition, conflict.found), (0, first.txid));
    /// # replica.close()
    /// # }
    /// ```
    #[must_use]
    pub fn conflict(&self) -> Option<&Conflict> {
        self.0.conflict.as_ref()
    }

    /// Why the membership cannot be as it was asked for, where that is what failed.
    ///
    /// ```
    /// use indelible::{Error, MembershipError};
    /// fn why(err: &Error) -> Option<&MembershipError> { err.membership_error() }
    /// ```
    #[must_use]
    pub fn membership_error(&self) -> Option<&MembershipError> {
        self.0.source.as_ref()?.downcast_ref()
    }

    /// The identity of the transaction that this error speaks of, where it was refused or burned,
    /// or its outcome is unknown.
    ///
    /// ```
    /// use indelible::{Error, Record};
    /// fn is_of(record: &Record, err: &Error) -> bool { err.request() == Some(record.request()) }
    /// ```
    #[must_use]
    pub fn request(&self) -> Option<RequestId> {
        self.0.request
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {self}", self.0.kind)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)?;
        match &self.0.source {
            Some(source) if self.0.message.is_empty() => write!(f, "{source}"),
            Some(source) => write!(f, ": {source}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_ref().map(|source| &**source as _)
    }
}
