//! The journal's I/O, packed so that any thread can do it.
//!
//! A job owns all it needs. Two writes may run at once and end in any order; what each of them
//! proves is worked out when they come back (`writer`).

use std::fmt;
use std::io;
use std::sync::Arc;

use crate::types::bugs::{self, Bug};
use crate::types::ids::ReplicaId;

use super::checkpoint::Checkpoint;
use super::checkpointing::{Step, Stepped};
use super::disk::{Disk, File};
use super::error::JournalError;
use super::identity::{self, Identity};
use super::parts::Part;
use super::segment::{BLOCK_BYTES, prepare, segment_name};
use super::segments::Removal;
use super::spare::Former;

/// Work on the disk: one group to write and sync, a segment to prepare, a step of taking a
/// checkpoint, a part of one to read, or segments to remove.
#[must_use = "a job that is dropped leaves the journal waiting for ever"]
pub struct Job<D: Disk>(pub(super) Task<D>);

pub(super) enum Task<D: Disk> {
    Write {
        number: u64,
        segment: u64,
        file: Arc<D::File>,
        offset: u64,
        buffer: Buffer,
    },
    Prepare {
        disk: Arc<D>,
        number: u64,
        length: u64,
        lanes: usize,
        former: Former,
        identity: Identity,
    },
    Checkpoint(Step<D>),
    Read {
        to: ReplicaId,
        checkpoint: Checkpoint<D>,
        offset: u64,
        bytes_max: usize,
    },
    Trim {
        disk: Arc<D>,
        removal: Removal,
        identity: Identity,
    },
}

/// What became of a job.
#[must_use = "the journal must be told"]
pub struct Done<D: Disk>(pub(super) Outcome<D>);

pub(super) enum Outcome<D: Disk> {
    Written {
        number: u64,
        buffer: Buffer,
        result: Result<(), JournalError>,
    },
    Prepared {
        number: u64,
        length: u64,
        result: Result<Vec<Arc<D::File>>, JournalError>,
    },
    /// There is no space for the next segment.
    Full {
        former: Former,
        err: JournalError,
    },
    Checkpoint(Result<Stepped<D>, JournalError>),
    Read(Part<D>),
    Trimmed {
        removal: Removal,
        result: Result<(), JournalError>,
    },
}

/// A job whose bytes are written, and not synced: what a power cut can tear.
#[must_use = "a job that is dropped leaves the journal waiting for ever"]
pub struct Begun<D: Disk> {
    task: Task<D>,
    written: Result<(), JournalError>,
}

impl<D: Disk> Job<D> {
    /// Does the work. Takes as long as the disk takes.
    pub fn run(self) -> Done<D> {
        self.begin().finish()
    }

    /// Does the first half of it: the bytes of a group are written.
    pub fn begin(self) -> Begun<D> {
        let written = match &self.0 {
            Task::Write { segment, file, offset, buffer, .. } => file
                .write_at(*offset, buffer.bytes())
                .map_err(|err| JournalError::io("write", &segment_name(*segment))(err)),
            Task::Prepare { .. } | Task::Checkpoint(_) | Task::Read { .. } | Task::Trim { .. } => {
                Ok(())
            }
        };
        Begun { task: self.0, written }
    }

    /// The bytes of the group that it writes; none where it writes none.
    #[must_use]
    pub fn group(&self) -> &[u8] {
        match &self.0 {
            Task::Write { buffer, .. } => buffer.bytes(),
            Task::Prepare { .. } | Task::Checkpoint(_) | Task::Read { .. } | Task::Trim { .. } => {
                &[]
            }
        }
    }

    /// Whether this is the slow kind of job that no commit waits for: preparing the next segment,
    /// taking a checkpoint, reading one for a peer, removing what is trimmed.
    #[must_use]
    pub fn is_background(&self) -> bool {
        !matches!(self.0, Task::Write { .. })
    }

    /// How many bytes it writes to the journal.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        match &self.0 {
            Task::Write { buffer, .. } => buffer.bytes().len() as u64,
            Task::Prepare { length, .. } => *length,
            Task::Checkpoint(_) | Task::Read { .. } | Task::Trim { .. } => 0,
        }
    }
}

impl<D: Disk> Begun<D> {
    /// Does the rest: a group is synced, or a segment prepared.
    pub fn finish(self) -> Done<D> {
        let Self { task, written } = self;
        Done(match task {
            Task::Write { number, segment, file, buffer, .. } => {
                let retry = |err| match bugs::is_on(Bug::RetrySync) {
                    true => file.sync(),
                    false => Err(err),
                };
                let sync = || {
                    file.sync()
                        .or_else(retry)
                        .map_err(|err| JournalError::io("sync", &segment_name(segment))(err))
                };
                Outcome::Written { number, buffer, result: written.and_then(|()| sync()) }
            }
            Task::Checkpoint(step) => Outcome::Checkpoint(step.run()),
            Task::Read { to, checkpoint, offset, bytes_max } => {
                let bytes = checkpoint.part(offset, bytes_max);
                Outcome::Read(Part { to, checkpoint, offset, bytes })
            }
            Task::Trim { disk, removal, identity } => {
                let result = trim(&*disk, &removal, identity);
                Outcome::Trimmed { removal, result }
            }
            Task::Prepare { disk, number, length, lanes, former, identity } => {
                let (result, former) = make(&*disk, number, length, lanes, former, identity);
                match result {
                    Err(err) if err.is_full() => Outcome::Full { former, err },
                    result => Outcome::Prepared { number, length, result },
                }
            }
        })
    }
}

/// A segment's file, opened once for each lane.
type Made<D> = Result<Vec<Arc<<D as Disk>::File>>, JournalError>;

/// Makes a segment and writes down that it is there; says what is in the way of the next try. A
/// lack of space is told as such only where it is known what the identity says.
fn make<D: Disk>(
    disk: &D,
    number: u64,
    length: u64,
    lanes: usize,
    former: Former,
    identity: Identity,
) -> (Made<D>, Former) {
    if former == Former::Named {
        // First it is written down that it may be absent.
        let absent = Identity { segment_made: identity.segment_last, ..identity.clone() };
        if let Err(err) = identity::stage(disk, &absent) {
            return (Err(err), Former::Named);
        }
        if let Err(err) = identity::commit(disk) {
            return (Err(err.for_good()), Former::Named);
        }
    }
    let result = remove(disk, number).and_then(|()| {
        let lanes = prepare(disk, number, length, lanes)?;
        // From when the identity says so its absence is a loss, and so is that of the one in use.
        let made = Identity { segment_made: number, ..identity };
        if let Err(err) = identity::stage(disk, &made) {
            // Space that is short is not held by what is of no use. The next try removes it, too.
            // After any other failure nothing is touched any more.
            if err.is_full() {
                let _ = disk.remove(&segment_name(number));
            }
            return Err(err);
        }
        identity::commit(disk).map_err(JournalError::for_good)?;
        Ok(lanes)
    });
    (result, Former::Unnamed)
}

/// Removes the front of the journal. First it is written down that it may be absent; a crash in
/// between leaves files that nobody counts any more.
fn trim<D: Disk>(disk: &D, removal: &Removal, identity: Identity) -> Result<(), JournalError> {
    let Removal { front, numbers } = removal;
    if bugs::is_on(Bug::TrimBeforeIdentity) {
        numbers.iter().try_for_each(|number| remove(disk, *number))?;
    }
    identity::stage(disk, &Identity { front: *front, ..identity })?;
    identity::commit(disk).map_err(JournalError::for_good)?;
    for number in numbers {
        remove(disk, *number).map_err(JournalError::for_good)?;
    }
    // Nobody waits for the names: what comes back is removed by the next opening.
    Ok(())
}

/// Removes a segment, where there is one: one that was not used, or is used no more.
fn remove<D: Disk>(disk: &D, number: u64) -> Result<(), JournalError> {
    let name = segment_name(number);
    match disk.remove(&name) {
        Err(err) if err.kind() != io::ErrorKind::NotFound => {
            Err(JournalError::io("remove", &name)(err))
        }
        _ => Ok(()),
    }
}

impl<D: Disk> fmt::Debug for Job<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Task::Write { segment, offset, buffer, .. } => {
                write!(f, "write {} bytes at {segment}:{offset}", buffer.bytes().len())
            }
            Task::Prepare { number, length, .. } => {
                write!(f, "prepare segment {number} of {length} bytes")
            }
            Task::Checkpoint(step) => step.fmt(f),
            Task::Read { to, checkpoint, offset, .. } => {
                write!(f, "read from {offset} of {checkpoint:?} for {to}")
            }
            Task::Trim { removal, .. } => {
                let Removal { front, numbers } = removal;
                write!(f, "remove segments {numbers:?}: the slots below {}", front.slot)
            }
        }
    }
}

impl<D: Disk> fmt::Debug for Begun<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Begun").field("written", &self.written).finish_non_exhaustive()
    }
}

impl<D: Disk> Done<D> {
    /// Whether the work was done.
    #[must_use]
    pub fn is_done(&self) -> bool {
        match &self.0 {
            Outcome::Written { result, .. } => result.is_ok(),
            Outcome::Prepared { result, .. } => result.is_ok(),
            Outcome::Checkpoint(result) => result.is_ok(),
            Outcome::Read(part) => part.bytes.is_ok(),
            Outcome::Trimmed { result, .. } => result.is_ok(),
            Outcome::Full { .. } => false,
        }
    }
}

impl<D: Disk> fmt::Debug for Done<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Outcome::Written { number, result, .. } => write!(f, "write {number}: {result:?}"),
            Outcome::Full { err, .. } => write!(f, "no space: {err}"),
            Outcome::Read(part) => part.fmt(f),
            Outcome::Trimmed { result, .. } => write!(f, "trim: {result:?}"),
            Outcome::Checkpoint(result) => {
                write!(f, "checkpoint: {:?}", result.as_ref().map(|_| ()))
            }
            Outcome::Prepared { number, result, .. } => {
                write!(f, "prepare segment {number}: {:?}", result.as_ref().map(|_| ()))
            }
        }
    }
}

/// Bytes to write, beginning at a multiple of the block size in memory.
pub(super) struct Buffer {
    bytes: Vec<u8>,
    start: usize,
}

impl Buffer {
    /// An empty buffer that holds `length` bytes without moving.
    pub(super) fn new(length: usize) -> Self {
        let mut buffer = Self { bytes: Vec::with_capacity(length + BLOCK_BYTES), start: 0 };
        buffer.clear();
        buffer
    }

    pub(super) fn capacity(&self) -> usize {
        self.bytes.capacity() - BLOCK_BYTES
    }

    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.start = self.bytes.as_ptr().align_offset(BLOCK_BYTES).min(BLOCK_BYTES - 1);
        self.bytes.resize(self.start, 0);
    }

    /// What is written so far can be appended to; whoever appends more than the capacity loses
    /// nothing but the alignment.
    pub(super) fn output(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[self.start..]
    }
}
