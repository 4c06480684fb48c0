//! Why a membership is refused.

use std::fmt;

use crate::types::edition::Edition;
use crate::types::ids::ReplicaId;
use crate::types::limits::{
    ADDRESS_BYTES_MAX, ALPHA_MAX, OBSERVERS_MAX, REMOVED_MAX, SESSIONS_MAX_MAX, VOTERS_MAX,
};

/// A membership that no cluster may have, that may not follow the one before, or that could not go
/// on now.
///
/// ```
/// use indelible::{MembershipError, Replica, ReplicaId};
///
/// # fn main() -> indelible::Result<()> {
/// let replica = Replica::in_memory()?;
/// replica.wait_ready(std::time::Duration::from_secs(10))?;
/// let err = replica.promote(7).wait().expect_err("there is no observer 7");
/// assert_eq!(err.membership_error(), Some(&MembershipError::NoObserver(ReplicaId(7))));
/// # replica.close()
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MembershipError {
    /// There is no voter, or there are more than a membership can hold.
    VoterCount(usize),
    /// There are more observers than a membership can hold.
    ObserverCount(usize),
    /// More ids were removed than a membership can tell of.
    RemovedCount(usize),
    /// Zero is no id.
    ZeroId,
    /// Two members share an id.
    DuplicateId(ReplicaId),
    /// The id belonged to a replica that was removed.
    RemovedId(ReplicaId),
    /// Two members share an address.
    DuplicateAddress(String),
    /// An address is empty or too long.
    AddressLength(ReplicaId, usize),
    /// An address names no port, where those of the others do.
    AddressPort(ReplicaId, String),
    /// Some phase-1 quorum and some phase-2 quorum have no voter in common, or one cannot be
    /// filled.
    Quorums {
        /// Promises that would complete phase 1.
        phase1: u32,
        /// Votes that would choose.
        phase2: u32,
        /// Voters there are.
        voters: usize,
    },
    /// A leader could propose nothing, or farther ahead than anybody keeps track of.
    Alpha(u64),
    /// Nothing would be remembered of any session, or too much of all.
    SessionsMax(u32),
    /// There is no such edition, or the ledger is of a later one already.
    Edition(Edition),
    /// A member's build does not know the edition.
    UnknownEdition {
        /// The member.
        id: ReplicaId,
        /// What it knows; edition 0 where this replica has not heard it.
        knows: Edition,
        /// What the ledger is to be of.
        wanted: Edition,
    },
    /// It is no member.
    NoMember(ReplicaId),
    /// It is no observer, and only an observer can become a voter.
    NoObserver(ReplicaId),
    /// It would be another directory under the same id.
    OtherIncarnation(ReplicaId),
    /// It is an edit of another membership than the one that it would follow.
    Overtaken {
        /// How many changes led to it.
        changes: u64,
        /// How many led to the one that it would follow.
        before: u64,
    },
    /// A removed id would be forgotten.
    Forgotten(ReplicaId),
    /// The replica did not ask to join, as far as the one that was called knows.
    NotHeard(ReplicaId),
    /// The replica asks to join, and cannot be connected to at the address that it was opened with.
    NotReached {
        /// The replica.
        id: ReplicaId,
        /// That address, and what came of it.
        why: String,
    },
    /// It is to vote, and lags.
    NotCaughtUp {
        /// The replica.
        id: ReplicaId,
        /// By how many slots it lags, as far as it was heard lately.
        lag: Option<u64>,
    },
    /// Too few of the voters are heard to make the change, or of those to be to go on with.
    TooFewHeard {
        /// Those that this replica does not hear, or who do not hear it.
        missing: Vec<ReplicaId>,
    },
    /// Too few of those who are to vote answered in time.
    NotAnswered,
}

impl fmt::Display for MembershipError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::VoterCount(count) => write!(f, "{count} voters, wanted 1 to {VOTERS_MAX}"),
            Self::ObserverCount(count) => {
                write!(f, "{count} observers, wanted at most {OBSERVERS_MAX}")
            }
            Self::RemovedCount(count) => {
                write!(f, "{count} replicas were removed, wanted at most {REMOVED_MAX}")
            }
            Self::ZeroId => f.write_str("replica id 0, wanted a positive one"),
            Self::DuplicateId(id) => write!(f, "replica id {id} is given twice"),
            Self::RemovedId(id) => {
                write!(f, "replica id {id} was removed, wanted one that was never used")
            }
            Self::DuplicateAddress(address) => write!(f, "address {address:?} is given twice"),
            Self::AddressPort(id, address) => {
                write!(f, "replica {id} would have the address {address:?}, wanted host:port")
            }
            Self::AddressLength(id, length) => write!(
                f,
                "the address of replica {id} has {length} bytes, wanted 1 to {ADDRESS_BYTES_MAX}"
            ),
            Self::Quorums { phase1, phase2, voters } => write!(
                f,
                "quorums of {phase1} and {phase2} among {voters} voters, wanted 1 to {voters} \
                 each, and together more than {voters}"
            ),
            Self::Alpha(alpha) => write!(
                f,
                "alpha is {alpha}, wanted 1 to {ALPHA_MAX}, and always the same for one ledger"
            ),
            Self::SessionsMax(sessions) => {
                write!(f, "{sessions} sessions, wanted 1 to {SESSIONS_MAX_MAX}")
            }
            other => other.fmt_change(f),
        }
    }
}

impl MembershipError {
    /// Of a membership that could be, why it does not come about.
    fn fmt_change(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Edition(edition) => {
                write!(f, "edition {edition}, wanted one that is not below the ledger's")
            }
            Self::UnknownEdition { id, knows, wanted } if *knows < Edition::FIRST => {
                write!(f, "replica {id} is not heard, wanted one that knows edition {wanted}")
            }
            Self::UnknownEdition { id, knows, wanted } => {
                write!(f, "replica {id} knows editions up to {knows}, wanted {wanted}")
            }
            Self::NoMember(id) => write!(f, "replica {id} is no member"),
            Self::NoObserver(id) => {
                let wanted = "one that was added and has caught up";
                write!(f, "replica {id} is no observer, wanted {wanted}")
            }
            Self::OtherIncarnation(id) => {
                write!(f, "replica {id} would be another directory, wanted the one that joined")
            }
            Self::Overtaken { changes, before } => {
                write!(
                    f,
                    "it would be change {changes} of the membership, wanted that behind {before}"
                )
            }
            Self::Forgotten(id) => write!(f, "it would be forgotten that replica {id} was removed"),
            Self::NotHeard(id) => {
                write!(f, "replica {id} did not ask to join, wanted one that was opened to join")
            }
            Self::NotReached { id, why } => write!(
                f,
                "replica {id} asks to join, and cannot be connected to at {why}; wanted one that \
                 can be reached at its own address"
            ),
            Self::NotCaughtUp { id, lag: Some(lag) } => {
                write!(f, "replica {id} lags by {lag} slots, wanted one that has caught up")
            }
            Self::NotCaughtUp { id, lag: None } => {
                write!(f, "replica {id} is not heard, wanted one that has caught up")
            }
            Self::TooFewHeard { missing } => {
                let missing = listed(missing);
                write!(f, "too few of the voters are heard to go on: not replica {missing}")
            }
            Self::NotAnswered => f.write_str("too few of those who are to vote answered in time"),
            Self::VoterCount(_)
            | Self::ObserverCount(_)
            | Self::RemovedCount(_)
            | Self::ZeroId
            | Self::DuplicateId(_)
            | Self::RemovedId(_)
            | Self::DuplicateAddress(_)
            | Self::AddressPort(..)
            | Self::AddressLength(..)
            | Self::Quorums { .. }
            | Self::Alpha(_)
            | Self::SessionsMax(_) => unreachable!("these are told where this is called"),
        }
    }
}

impl std::error::Error for MembershipError {}

/// Ids, one behind the other, as a message names them.
pub(crate) fn listed(ids: &[ReplicaId]) -> String {
    ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
