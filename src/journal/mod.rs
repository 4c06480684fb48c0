//! The journal: what this replica wrote down, and will know after any crash.
//!
//! One directory. `identity` says whose it is (`identity`), `lock` is held while it is open,
//! `checkpoint-%016x` hold the state below a slot (`checkpoint`), taken here or sent by a peer
//! (`parts`), `lease-%08d` tell how long leases may be (`lease`), and `segment-%016x` are the
//! segments. All numbers are little-endian; a block is 4096 bytes.
//!
//! ```text
//! segment   | superheader | group | group | group | zeros .................... |
//!           0             4096    each begins and ends at a block boundary
//! group     | Group | frame | frame | ... | zeros |      one write, one sync
//! frame     | header, 144 bytes | payload | zeros to a multiple of 8 |
//! ```
//!
//! Frame header:
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 4 | magic `iLfr` |
//! | 4 | 2 | format version, 1 |
//! | 6 | 1 | 1 Group, 2 Promise, 3 Vote, 4 Chosen, 5 Verdicts, 6 Seal, 7 Doubts, 8 Sightings |
//! | 7 | 1 | 1 or 2: which copy of a promise; else 0 |
//! | 8 | 4 | length of the payload |
//! | 12 | 4 | link: header checksum of the frame before; of the superheader for the first frame |
//! | 16 | 16 | cluster |
//! | 32 | 16 | incarnation |
//! | 48 | 8 | number of the segment |
//! | 56 | 8 | offset in the segment |
//! | 64 | 8 | LSN: the number of the frame, from 1, dense within a segment |
//! | 72 | 8 | slot; of a Group: one behind the highest slot of all frames up to its end |
//! | 80 | 16 | ballot: round, leader |
//! | 96 | 8 | `meta_seq`: number of the promise in force |
//! | 104 | 8 | `durable_through`: all frames up to this one were durable before this was written |
//! | 112 | 8 | `slot_chosen`: exclusive; with the frames up to this group's end |
//! | 120 | 16 | content hash of the payload (XXH3, 128 bits); zero for a Promise |
//! | 136 | 4 | zero |
//! | 140 | 4 | CRC32 of the 140 bytes before |
//!
//! Superheader, the first 128 bytes of a segment; the rest of the block is zero:
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 8 | magic `indelSEG` |
//! | 8 | 8 | format version, 1 (2 bytes); 1 where the promise was lost (1 byte); zero |
//! | 16 | 32 | cluster, incarnation |
//! | 48 | 16 | number of the segment, its length when made |
//! | 64 | 8 | LSN of its first frame |
//! | 72 | 8 | `durable_through`, as in a frame |
//! | 80 | 24 | the segment before: number (0: none), where it validly ends, its last LSN |
//! | 104 | 4 | header checksum of that last frame |
//! | 108 | 16 | the promise in force: round, leader; zeros where it tells of none |
//! | 124 | 4 | CRC32 of the 124 bytes before |
//!
//! **A frame is valid if and only if** its magic and version are right, its header checksum
//! matches, its cluster, incarnation, segment and offset are those of the place it stands in, its
//! LSN is one above that of the frame before it, its link is that frame's checksum, its payload
//! lies within its group, and its payload has the content hash (except a Promise, whose payload is
//! only distance). The length is used only after the checksum matched. **A group is valid if and
//! only if** it begins with a Group frame, its frames are as many and as long as that one says, and
//! all are valid; of a promise's two copies, which stand in different blocks, one is enough.
//!
//! **Reading**: from the segment with the highest number that has a valid superheader, follow the
//! chain of previous segments (`chain`); then read each group by group. Where a group is invalid,
//! what was written later tells rot from a torn tail: it is rot if a superheader counts the place
//! to its segment, or if any frame behind it, in this segment or a newer one, is valid in its place
//! and says by `durable_through` that the group had been durable. Otherwise the journal ends there.
//! Zeros mean nothing by themselves. (`scan`)
//!
//! **Damage**: alone, a replica refuses to open where anything rotted that it did not fetch from
//! others while there were any. In a cluster it reads on behind the bad region, keeps the frames in
//! it that are whole by themselves (`salvage`), and tells of what it cannot vouch for any more:
//! slots whose entries are *missing*, votes that are FAULTY or UNCERTAIN, a promise that is lost
//! ([`Recovered`]). Such doubts are written down at once, as a Doubts frame, and outlive crashes.
//! (`findings`)
//!
//! **Writing**: groups never share a block, and no block is written twice. A segment is made whole,
//! of real zeros, and synced, before it is used; its superheader goes out with its first group, and
//! only when all frames before are durable. Each segment begins with the promise, and each opening
//! begins a new segment (`recovery`). A full disk stops nothing that fits the segment in use
//! (`spare`). What a replica hears about durability is a frontier, worked out from the syncs that
//! succeeded (`writer`).
//!
//! **Assumed of the medium**: a sync that returns well made everything written to that file before
//! durable. A write that the system loses later is told to a sync of every description that the
//! file was open by, so each lane of the writer has its own. Nothing is assumed about writes that
//! were not synced: any pieces of them may survive, of any size, in any order. Rot, lost and
//! misplaced writes are detected wherever a later frame or seal covers the place; in the last
//! group or two before a cut of power they cannot be told from a torn write, and are cut. One
//! damaged copy of a promise is survived, two are told.
//!
//! Invariants:
//! * What a [`DurableFrontier`] covers is found by every later opening, or the opening is refused,
//!   or it tells that it may be lost.
//! * The promise that an opening finds is never below one that was covered, or is told to be lost.
//! * A directory that is refused is not written to.
//!
//! Not here: threads, clocks; when a checkpoint is taken, and of what; when to sync, and who waits
//! for it (`runtime`).

pub mod disk;
pub mod memory;

pub mod error;

mod chain;
pub mod checkpoint;
mod checkpointing;
mod collector;
mod findings;
mod flights;
mod founding;
pub mod frame;
mod group;
pub mod identity;
mod index;
pub mod job;
pub mod lease;
mod listing;
mod numbers;
mod pace;
pub mod parts;
pub mod reader;
mod real_disk;
mod recovery;
mod room;
mod salvage;
mod scan;
pub mod segment;
mod segments;
pub mod sharing;
mod source;
mod spare;
pub mod stream;
mod tail;
mod walk;
mod writer;

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use crate::types::ids::{ClusterId, Lsn, ReplicaId, Slot, SlotRange};
use crate::types::membership::Membership;
use crate::types::record::{DurableFrontier, Record, Recovered};

pub use checkpoint::{Checkpoint, CheckpointHeader, Pieces};
pub use checkpointing::{Image, Source, Unfit};
pub use disk::{Disk, File, RealDisk};
pub use error::JournalError;
pub use founding::Founding;
pub use identity::Identity;
pub use job::{Begun, Done, Job};
pub use memory::MemoryDisk;
pub use pace::Pace;
pub use parts::{Part, Parts};
pub use reader::{Entries, Reader};
pub use segment::Options;

use checkpointing::Checkpoints;
use index::Shared;
use job::{Outcome, Task};
use writer::Writer;

/// One replica's journal, open.
///
/// It does no I/O in `append`, `next_job`, `complete` and `seal`; the I/O is in the [`Job`]s, which
/// run wherever their owner likes. It is owned by one thread at a time; a [`Reader`] is shared.
pub struct Journal<D: Disk> {
    disk: Arc<D>,
    options: Options,
    identity: Identity,
    /// By what others have what it holds, if they do (`sharing`).
    shared_from: Option<Slot>,
    recovered: Recovered,
    found_through: Lsn,
    shared: Arc<Shared<D::File>>,
    /// `None` before the replica is part of a formed cluster: there is nothing to write down.
    writer: Option<Writer<D>>,
    checkpoints: Checkpoints<D>,
    /// Parts of checkpoints to read, and those that were.
    unread: VecDeque<Job<D>>,
    reads: bool,
    parts: Vec<Part<D>>,
    /// How many jobs were handed out whose outcome was not taken in yet.
    under_way: usize,
    /// Last, so that it is released after everything else. `None` once it was released early.
    lock: Option<D::Lock>,
}

impl<D: Disk> Journal<D> {
    /// Opens the directory for replica `who`. A blank directory becomes that replica's.
    ///
    /// # Errors
    ///
    /// Where the directory is open already, is another replica's, is of another format, is damaged
    /// where it was acknowledged, or cannot be read or written.
    pub fn open(disk: D, options: Options, who: ReplicaId) -> Result<Self, JournalError> {
        let (disk, options) = (Arc::new(disk), options.bounded());
        let recovery::Opened {
            lock,
            identity,
            shared,
            recovered,
            found_through,
            writer,
            checkpoints,
            shared_from,
        } = recovery::open(&disk, options, who)?;
        Ok(Self {
            checkpoints: Checkpoints::new(Arc::clone(&disk), checkpoints),
            disk,
            options,
            identity,
            shared_from,
            recovered,
            found_through,
            shared,
            writer,
            unread: VecDeque::new(),
            reads: false,
            under_way: 0,
            parts: Vec::new(),
            lock: Some(lock),
        })
    }

    /// Whose directory this is, without opening it; `None` where it is nobody's yet.
    ///
    /// # Errors
    ///
    /// Where the file that says so cannot be read, or is damaged.
    pub fn peek(disk: &D) -> Result<Option<Identity>, JournalError> {
        identity::read(disk)
    }

    /// Writes down, durably, the membership that this replica agreed to, and whether the cluster is
    /// known to be formed. With the latter, records can be appended.
    ///
    /// # Errors
    ///
    /// Where a file cannot be written; then open the directory anew.
    ///
    /// # Panics
    ///
    /// Where a formed replica is made to agree to another cluster.
    pub fn agree(&mut self, membership: &Membership, formed: bool) -> Result<(), JournalError> {
        let cluster = membership.cluster_id();
        let same = self.identity.cluster == cluster;
        assert!(self.writer.is_none() || same, "cluster {cluster} for a formed replica");
        assert!(formed || !self.identity.formed, "a cluster that is formed stays formed");
        if !same || self.identity.membership.is_none() {
            self.identity.cluster = cluster;
            self.identity.membership = Some(membership.clone());
            self.shared_from = sharing::shared_from(&[], &self.identity);
            *self.shared.home.write() = self.identity.home();
            identity::replace(&*self.disk, &self.identity)?;
        }
        if formed && self.writer.is_none() {
            let writer = recovery::begin(&self.disk, &self.shared, self.options)?;
            self.identity.segment_last = writer.segment();
            self.identity.segment_made = writer.segment();
            self.writer = Some(writer);
        }
        if formed && !self.identity.formed {
            // Last: a formed directory has a segment.
            self.identity.formed = true;
            identity::replace(&*self.disk, &self.identity)?;
        }
        if let Some(writer) = &mut self.writer {
            writer.set_identity(&self.identity);
        }
        Ok(())
    }

    /// Writes down, durably, that this directory is to belong to `cluster`, before it is told who
    /// does: whatever a later opening says, it is to form none of its own.
    ///
    /// # Errors
    ///
    /// Where a file cannot be written; then open the directory anew.
    pub fn join(&mut self, cluster: ClusterId) -> Result<(), JournalError> {
        if self.identity.membership.is_some() || self.identity.cluster == cluster {
            return Ok(());
        }
        self.identity.cluster = cluster;
        *self.shared.home.write() = self.identity.home();
        identity::replace(&*self.disk, &self.identity)
    }

    /// Takes records in, to be written with the next group; returns the number of the last frame.
    /// `slot_chosen` is told to the next opening once these records are durable; without records
    /// it is taken note of and nothing is written for it.
    ///
    /// # Errors
    ///
    /// Where the journal is poisoned.
    ///
    /// # Panics
    ///
    /// Where the replica is part of no formed cluster, a vote is above the promise, or the promise
    /// or `slot_chosen` goes back.
    pub fn append(&mut self, records: &[Record], slot_chosen: Slot) -> Result<Lsn, JournalError> {
        self.writer_mut().append(records, slot_chosen)
    }

    /// Takes in records that say nothing of how far the log is chosen, whatever is known by now:
    /// the entries up to there may be appended only behind them, and stand in a later group.
    ///
    /// # Errors
    ///
    /// Where the journal is poisoned.
    ///
    /// # Panics
    ///
    /// As [`Journal::append`].
    pub fn append_lazy(&mut self, records: &[Record]) -> Result<Lsn, JournalError> {
        let writer = self.writer_mut();
        writer.append(records, writer.slot_chosen)
    }

    /// Writes down that the last group is durable, where the journal is idle and nothing says so
    /// yet. Returns whether there is a job for it. Without it, the last group is taken for a torn
    /// one if it rots; and the next opening writes it again.
    ///
    /// # Errors
    ///
    /// Where the journal is poisoned.
    pub fn seal(&mut self) -> Result<bool, JournalError> {
        self.writer.as_mut().map_or(Ok(false), Writer::seal)
    }

    /// The next piece of I/O that can be done now, if there is any. Writes come first; preparing
    /// the next segment and taking a checkpoint take long, hinder nobody, and should not delay a
    /// write.
    ///
    /// # Errors
    ///
    /// Where the journal is poisoned.
    pub fn next_job(&mut self) -> Result<Option<Job<D>>, JournalError> {
        let job = self.due_job()?;
        self.under_way += usize::from(job.is_some());
        Ok(job)
    }

    fn due_job(&mut self) -> Result<Option<Job<D>>, JournalError> {
        let Some(writer) = &mut self.writer else { return Ok(None) };
        if let Some(job) = writer.next_job()? {
            return Ok(Some(job));
        }
        let step = self.checkpoints.next_step(writer.frontier().lsn());
        let step = step.map(|step| Job(Task::Checkpoint(step)));
        if step.is_some() || self.reads {
            return Ok(step);
        }
        // One at a time: whoever commits must find a thread that is free.
        let read = self.unread.pop_front();
        self.reads = read.is_some();
        Ok(read)
    }

    /// Every slot below was trimmed: no entry is left of it.
    #[must_use]
    pub fn slot_trimmed(&self) -> Slot {
        self.shared.index.read().first()
    }

    /// Takes slots out of the readers' sight, as where they are missing: their frames turned out to
    /// be damaged. Whoever appends their entries again brings them back.
    pub fn forget(&mut self, slots: SlotRange) {
        self.shared.index.write().clear(slots);
    }

    /// Takes a job's outcome in, and returns how far the journal is durable now.
    ///
    /// # Errors
    ///
    /// Where the job failed, or one before it did: the journal is poisoned, for good. That there is
    /// no space for the next segment is no failure.
    pub fn complete(&mut self, done: Done<D>) -> Result<DurableFrontier, JournalError> {
        self.under_way -= 1;
        let writer = self.writer.as_mut().expect("jobs are handed out in a formed cluster only");
        match done.0 {
            Outcome::Checkpoint(result) => {
                writer.check_poison()?;
                let taken = self.checkpoints.complete(result);
                taken.map_err(|err| writer.poison_with(err))?;
                Ok(writer.frontier())
            }
            Outcome::Read(part) => {
                self.reads = false;
                writer.check_poison()?;
                self.parts.push(part);
                Ok(writer.frontier())
            }
            outcome => writer.complete(Done(outcome)),
        }
    }

    /// Whose directory this is.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// What the journal knew when it was opened; given away at the first call. The chain is that
    /// below the checkpoint: it is computed on while the entries behind are replayed.
    #[must_use]
    pub fn recovered(&mut self) -> Recovered {
        std::mem::take(&mut self.recovered)
    }

    /// Reads entries, beside the journal.
    #[must_use]
    pub fn reader(&self) -> Reader<D> {
        Reader::new(Arc::clone(&self.shared))
    }

    /// The last frame appended.
    #[must_use]
    pub fn last_lsn(&self) -> Lsn {
        self.writer.as_ref().map_or(Lsn::ZERO, Writer::last_lsn)
    }

    /// The last frame that this opening found: not below any that was said to be durable before.
    /// What the opening itself wrote comes behind it.
    #[must_use]
    pub fn found_through(&self) -> Lsn {
        self.found_through
    }

    /// How far the journal is durable.
    #[must_use]
    pub fn frontier(&self) -> DurableFrontier {
        self.writer.as_ref().map_or_else(|| DurableFrontier::mint(Lsn::ZERO), Writer::frontier)
    }

    /// Bytes of groups that are appended and not durable, about.
    #[must_use]
    pub fn backlog_bytes(&self) -> usize {
        self.writer.as_ref().map_or(0, Writer::backlog_bytes)
    }

    /// How long all segments are together, a prepared one included.
    #[must_use]
    pub fn bytes_on_disk(&self) -> u64 {
        self.writer.as_ref().map_or(0, Writer::bytes_on_disk)
    }

    /// Whether everything appended is durable.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.writer.as_ref().is_none_or(Writer::is_idle)
    }

    /// Lets others open the directory. Nothing may be appended or be written any more; what is
    /// there can still be read.
    pub fn release(&mut self) {
        self.lock = None;
    }

    fn writer_mut(&mut self) -> &mut Writer<D> {
        self.writer.as_mut().expect("records are appended only in a formed cluster")
    }
}

impl<D: Disk> fmt::Debug for Journal<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Journal")
            .field("identity", &self.identity)
            .field("last_lsn", &self.last_lsn())
            .field("frontier", &self.frontier())
            .finish_non_exhaustive()
    }
}
