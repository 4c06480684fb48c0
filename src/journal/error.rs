//! Why a journal cannot be opened, or can be written no more.
//!
//! Every variant names the file, and the slot where it is known: that is what an operator needs to
//! decide whether to restore, to replace the replica, or to start another one. Nothing has been
//! written to the directory when one of these comes from opening it, except where it is `Io`.

use std::fmt;
use std::io;
use std::sync::Arc;

use rustix::io::Errno;

use crate::types::error::{Error, ErrorKind};
use crate::types::ids::{ClusterId, Incarnation, ReplicaId, Slot};

/// What the journal could not do, and where.
#[derive(Debug)]
pub enum JournalError {
    /// The directory is open already, here or in another process.
    Locked,
    /// A file is of a format that this version does not know. It was not touched.
    UnsupportedFormat {
        /// The file.
        file: String,
        /// The version it says it has.
        found: u16,
        /// The version known here.
        supported: u16,
    },
    /// A file belongs to another cluster than the directory.
    WrongCluster {
        /// The file.
        file: String,
        /// The cluster of the directory.
        wanted: ClusterId,
        /// The cluster of the file.
        found: ClusterId,
    },
    /// The directory belongs to another replica than the one it is opened as.
    IdentityMismatch {
        /// As which it is opened.
        wanted: ReplicaId,
        /// To which it belongs.
        found: ReplicaId,
    },
    /// A segment was written in another directory.
    ForeignSegment {
        /// The file.
        file: String,
        /// The incarnation of the directory.
        wanted: Incarnation,
        /// The incarnation of the file.
        found: Incarnation,
    },
    /// There are segments or checkpoints, but the file that says whose they are is gone. Or a
    /// restore did not end.
    IdentityLost {
        /// One of them.
        file: String,
    },
    /// A directory that must be blank is not.
    NotBlank {
        /// A file in it.
        file: String,
    },
    /// A segment that must be there is not.
    MissingSegment {
        /// The file that is missing.
        file: String,
    },
    /// The journal begins behind what every checkpoint holds, and there is none that is damaged.
    MissingCheckpoint {
        /// One of this slot or a later one must be there.
        slot: Slot,
    },
    /// A slot is asked for that was trimmed.
    Trimmed {
        /// The first slot that was not.
        first: Slot,
    },
    /// A file is damaged where it had been acknowledged.
    Corrupt {
        /// The file.
        file: String,
        /// Where the damaged part begins.
        offset: u64,
        /// The slot that stood there, where that can still be told.
        slot: Option<Slot>,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A write or a sync failed, now or earlier. What the disk holds is not known before the
    /// directory is opened anew.
    Poisoned {
        /// The file that was written.
        file: String,
        /// What failed first.
        operation: &'static str,
        /// How it failed.
        source: Arc<io::Error>,
    },
    /// The operating system refused an operation.
    Io {
        /// The file, or `.` for the directory.
        file: String,
        /// What was tried.
        operation: &'static str,
        /// How it failed.
        source: io::Error,
    },
}

impl JournalError {
    /// Turns an error of the operating system into one that says what was tried on which file.
    pub(super) fn io(operation: &'static str, file: &str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { file: file.to_owned(), operation, source }
    }

    /// The error of a poisoned journal once more.
    pub(super) fn again(&self) -> Self {
        match self {
            Self::Poisoned { file, operation, source } => {
                Self::Poisoned { file: file.clone(), operation, source: Arc::clone(source) }
            }
            _ => unreachable!("a job fails with nothing but an error of the operating system"),
        }
    }

    /// The same where it must not be tried again, whatever the cause: what the disk holds is not
    /// known.
    pub(super) fn for_good(self) -> Self {
        match self {
            Self::Io { file, operation, source } => {
                Self::Poisoned { file, operation, source: Arc::new(source) }
            }
            other => other,
        }
    }

    /// Whether this operation on a file failed.
    pub(super) fn is_of(&self, wanted: &str) -> bool {
        matches!(self, Self::Io { operation, .. } if *operation == wanted)
    }

    /// Whether a file could not be opened for want of something that passes: it says nothing of
    /// what is in the file.
    pub(crate) fn is_passing(&self) -> bool {
        matches!(self, Self::Io { source, .. } if is_exhausted(source))
    }

    /// Whether something was not done for want of space, or of what passes: a checkpoint is given
    /// up for that, and tried again.
    pub(super) fn gives_up(&self) -> bool {
        self.is_full() || self.is_passing()
    }

    /// Whether a file could not be made for want of space.
    pub(super) fn is_full(&self) -> bool {
        let full = [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded];
        matches!(self, Self::Io { source, .. } if full.contains(&source.kind()))
    }

    /// The kind under which the facade reports it.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Locked => ErrorKind::Locked,
            Self::UnsupportedFormat { .. } => ErrorKind::UnsupportedFormat,
            Self::WrongCluster { .. } => ErrorKind::WrongCluster,
            Self::IdentityMismatch { .. } | Self::ForeignSegment { .. } => {
                ErrorKind::IdentityMismatch
            }
            // Without the identity nothing in the directory can be vouched for.
            Self::IdentityLost { .. } | Self::Corrupt { .. } => ErrorKind::Corrupt,
            Self::MissingSegment { .. } | Self::MissingCheckpoint { .. } => {
                ErrorKind::MissingSegment
            }
            Self::NotBlank { .. } => ErrorKind::InvalidArgument,
            Self::Trimmed { .. } => ErrorKind::Trimmed,
            Self::Poisoned { .. } => ErrorKind::Poisoned,
            Self::Io { .. } => ErrorKind::Io,
        }
    }
}

impl fmt::Display for JournalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Locked => f.write_str("the data directory is open already"),
            Self::UnsupportedFormat { file, found, supported } => {
                write!(f, "{file}: format version {found}, supported is {supported}")
            }
            Self::WrongCluster { file, wanted, found } => {
                write!(f, "{file}: belongs to cluster {found}, wanted {wanted}")
            }
            Self::IdentityMismatch { wanted, found } => {
                write!(f, "the data directory belongs to replica {found}, wanted {wanted}")
            }
            Self::ForeignSegment { file, wanted, found } => {
                write!(f, "{file}: belongs to incarnation {found}, wanted {wanted}")
            }
            Self::IdentityLost { file } => {
                write!(f, "the file identity is missing, but {file} exists")
            }
            Self::NotBlank { file } => write!(f, "the directory is not blank: {file} exists"),
            Self::MissingSegment { file } => write!(f, "{file}: missing"),
            Self::MissingCheckpoint { slot } => {
                write!(f, "no checkpoint of slot {slot} or later, where the journal begins")
            }
            Self::Trimmed { first } => write!(f, "the slots below {first} were trimmed"),
            Self::Corrupt { file, offset, slot: Some(slot), reason } => {
                write!(f, "{file} offset {offset} slot {slot}: {reason}")
            }
            Self::Corrupt { file, offset, slot: None, reason } => {
                write!(f, "{file} offset {offset}: {reason}")
            }
            Self::Poisoned { file, operation, source } => {
                write!(f, "stopped for good: cannot {operation} {file}: {source}")
            }
            Self::Io { file, operation, source } => {
                write!(f, "cannot {operation} {file}: {source}")
            }
        }
    }
}

impl std::error::Error for JournalError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source),
            Self::Poisoned { source, .. } => Some(&**source),
            _ => None,
        }
    }
}

impl From<JournalError> for Error {
    fn from(err: JournalError) -> Self {
        // The message stays empty, so that the journal's own words are the whole message.
        Self::caused(err.kind(), "", err)
    }
}

/// Whether as many files are open as may be, or there is no memory for another one.
pub(super) fn is_exhausted(err: &io::Error) -> bool {
    let errno = Errno::from_io_error(err);
    matches!(errno, Some(Errno::MFILE | Errno::NFILE | Errno::NOMEM))
}
