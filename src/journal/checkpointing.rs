//! Taking a checkpoint, step by step, beside a journal that goes on writing.
//!
//! ```text
//!   make checkpoint.new ─► a piece, sync ─► a piece, sync ─► .. ─► end, sync
//!        ─► wait until the journal is durable as far as the checkpoint reaches
//!        ─► rename, sync the directory ─► remove what is older than the two newest
//! ```
//!
//! Each step is a job of its own, so that the disk is never asked for more than a piece at a time,
//! and nobody who commits meanwhile waits for more than that. The owner says whether a piece is
//! written now, and whether in slices, so that they wait for less (`pace`). A crash between two
//! steps leaves the checkpoints that there were, and perhaps `checkpoint.new`, which the next
//! opening removes.
//!
//! The journal comes first: a checkpoint counts only when every slot below it has a durable frame,
//! from the slot on with which the journal begins. So what a checkpoint holds can also be read,
//! slot by slot, as far as it was not trimmed. And it says so, which proves of whatever is bad
//! there that it was durable, where nothing else does.
//!
//! One that a peer sends is written in the same way, piece by piece as they come; but several are
//! synced together (`received_sync_bytes`), since fewer wait for this replica. It holds what the
//! journal does not: it says that nothing below it is to be looked for there. What turns out to be
//! none is removed before it has the name.
//!
//! Two are kept: should the newest be damaged, there is the one before.
//!
//! A full disk ends one that is being taken, and nothing else. Any other failure poisons the
//! journal as that of a write does.

use std::fmt;
use std::io;
use std::sync::Arc;

use crate::types::bugs::{self, Bug};
use crate::types::ids::{Chain, Lsn, ReplicaId, Slot};
use crate::types::marks::reached;

use super::Journal;
use super::checkpoint::{
    Checkpoint, CheckpointHeader, Found, Link, TEMPORARY_NAME, checkpoint_name, checkpoint_slot,
};
use super::disk::{Disk, File};
use super::error::JournalError;
use super::identity::Identity;
use super::job::{Job, Task};
use super::listing;
use super::pace::Pace;
use super::parts::Part;

/// Where the pieces of an image come from, in a job.
pub trait Source: Send {
    /// Whether [`piece`](Self::piece) has an answer. It is looked at whenever the journal is asked
    /// for a job.
    fn is_ready(&self) -> bool {
        true
    }

    /// The next piece; `None` behind the last one.
    ///
    /// # Errors
    ///
    /// Where what came is not fit to be kept: no checkpoint comes of it.
    fn piece(&mut self) -> Result<Option<Vec<u8>>, Unfit>;
}

impl<I: Iterator<Item = Vec<u8>> + Send> Source for I {
    fn piece(&mut self) -> Result<Option<Vec<u8>>, Unfit> {
        Ok(self.next())
    }
}

/// Why what came is no checkpoint to be kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// It is none.
    Bad(String),
    /// It is laid out as only later builds know.
    Later(String),
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bad(reason) | Self::Later(reason) => f.write_str(reason),
        }
    }
}

/// The pieces of an image, made as they are asked for.
pub type Image = Box<dyn Source>;

/// The checkpoints of a journal, and the one that is being taken.
pub(super) struct Checkpoints<D: Disk> {
    disk: Arc<D>,
    /// The whole ones, newest first.
    kept: Vec<Checkpoint<D>>,
    /// The next step of the one that is taken.
    next: Option<Step<D>>,
    /// A step is under way.
    runs: bool,
    /// How many bytes of it are written.
    written: u64,
    /// How its next piece is written, and whether now.
    pub(super) pace: Pace,
    /// The last one was given up for want of space.
    full: bool,
    /// Why the last one turned out to be none.
    unfit: Option<Unfit>,
}

/// One step of taking a checkpoint, with all that it needs.
pub(super) struct Step<D: Disk> {
    disk: Arc<D>,
    header: CheckpointHeader,
    image: Image,
    stage: Stage<D::File>,
    offset: u64,
    /// Pieces are synced together, so many bytes at a time.
    sync_bytes: u64,
    /// Every byte before this offset is synced.
    synced: u64,
    /// How this step writes its piece.
    pace: Pace,
}

enum Stage<F> {
    Make,
    Write(Arc<F>, Link),
    Name(Arc<F>),
    Tidy(Vec<Slot>),
}

/// What became of a step.
pub(super) enum Stepped<D: Disk> {
    Next(Step<D>),
    Named(Step<D>, Checkpoint<D>),
    Unfit(Unfit),
    Ended,
}

impl<D: Disk> Checkpoints<D> {
    pub(super) fn new(disk: Arc<D>, kept: Vec<Checkpoint<D>>) -> Self {
        let (written, pace) = (0, Pace::default());
        Self { disk, kept, next: None, runs: false, written, pace, full: false, unfit: None }
    }

    /// The whole ones, newest first.
    pub(super) fn kept(&self) -> &[Checkpoint<D>] {
        &self.kept
    }

    /// Whether one is being taken.
    pub(super) fn is_taking(&self) -> bool {
        self.next.is_some() || self.runs
    }

    /// Whether the last one was given up for want of space.
    pub(super) fn is_full(&self) -> bool {
        self.full
    }

    /// Why the last one turned out to be none; told once.
    pub(super) fn take_unfit(&mut self) -> Option<Unfit> {
        self.unfit.take()
    }

    /// `durable_through` is the last frame of what must be durable first.
    pub(super) fn begin(
        &mut self,
        identity: &Identity,
        (slot, chain): (Slot, Chain),
        image: Image,
        (journal_from, durable_through): (Slot, Lsn),
        sync_bytes: u64,
    ) {
        assert!(!self.is_taking(), "one checkpoint at a time");
        let newest = self.kept.first().map_or(Slot::ZERO, |newest| newest.header().slot);
        assert!(newest < slot, "a checkpoint of slot {slot} behind one of {newest}");
        let (home, replica) = (identity.home(), identity.replica);
        let header = CheckpointHeader { home, replica, slot, chain, durable_through, journal_from };
        let (disk, stage) = (Arc::clone(&self.disk), Stage::Make);
        (self.full, self.unfit) = (false, None);
        let (offset, synced) = (0, 0);
        self.written = offset;
        let pace = Pace::default();
        self.next = Some(Step { disk, header, image, stage, offset, sync_bytes, synced, pace });
    }

    /// The next step, if it can be done while the journal is durable up to `frontier`.
    pub(super) fn next_step(&mut self, frontier: Lsn) -> Option<Step<D>> {
        let waits = |step: &Step<D>| self.pace == Pace::Waiting && step.is_piece();
        let step = self.next.take_if(|step| step.can_begin(frontier) && !waits(step))?;
        let step = Step { pace: self.pace, ..step };
        self.runs = true;
        Some(step)
    }

    /// Takes in what became of a step.
    pub(super) fn complete(
        &mut self,
        result: Result<Stepped<D>, JournalError>,
    ) -> Result<(), JournalError> {
        self.runs = false;
        match result {
            Ok(Stepped::Next(step)) => {
                self.written = step.offset;
                self.next = Some(step);
            }
            Ok(Stepped::Named(mut step, checkpoint)) => {
                self.kept.insert(0, checkpoint);
                self.kept.truncate(KEPT_MAX);
                let kept = self.kept.iter().map(|kept| kept.header().slot).collect();
                step.keep(kept);
                self.next = Some(step);
            }
            Ok(Stepped::Unfit(unfit)) => self.unfit = Some(unfit),
            Ok(Stepped::Ended) => {}
            Err(err) if err.gives_up() => self.full = true,
            Err(err) => return Err(err),
        }
        Ok(())
    }
}

impl<D: Disk> Step<D> {
    fn can_begin(&self, frontier: Lsn) -> bool {
        let early = bugs::is_on(Bug::CheckpointBeforeJournal);
        match self.stage {
            Stage::Write(..) => self.image.is_ready(),
            Stage::Name(_) => self.header.durable_through <= frontier || early,
            Stage::Make | Stage::Tidy(_) => true,
        }
    }

    fn is_piece(&self) -> bool {
        matches!(self.stage, Stage::Write(..))
    }

    fn keep(&mut self, kept: Vec<Slot>) {
        self.stage = Stage::Tidy(kept);
    }

    /// Does it. What was written so far is removed where the disk turns out to be full, or no file
    /// may be opened. Where what is older cannot be removed for that, the next one does.
    pub(super) fn run(self) -> Result<Stepped<D>, JournalError> {
        let disk = Arc::clone(&self.disk);
        let is_named = matches!(self.stage, Stage::Name(_) | Stage::Tidy(_));
        let tidies = matches!(self.stage, Stage::Tidy(_));
        let result = self.step();
        match result {
            Err(err) if err.gives_up() && tidies => Ok(Stepped::Ended),
            // A rename that finds no space has changed nothing.
            Err(err) if err.gives_up() && (!is_named || err.is_of("rename")) => {
                let _ = disk.remove(TEMPORARY_NAME);
                Err(err)
            }
            // What the directory holds is not known.
            Err(err) if is_named => Err(err.for_good()),
            result => result,
        }
    }

    fn step(mut self) -> Result<Stepped<D>, JournalError> {
        let io = |operation| JournalError::io(operation, TEMPORARY_NAME);
        match self.stage {
            Stage::Make => {
                remove(&*self.disk, TEMPORARY_NAME)?;
                let file = self.disk.create(TEMPORARY_NAME).map_err(io("create"))?;
                let (bytes, link) = self.header.encode();
                file.write_at(0, &bytes).map_err(io("write"))?;
                self.offset = bytes.len() as u64;
                self.stage = Stage::Write(Arc::new(file), link);
            }
            Stage::Write(file, mut link) => {
                let piece = match self.image.piece() {
                    Ok(piece) => piece,
                    Err(unfit) => {
                        reached!(CheckpointUnfit);
                        remove(&*self.disk, TEMPORARY_NAME)?;
                        return Ok(Stepped::Unfit(unfit));
                    }
                };
                let mut bytes = Vec::new();
                link.push(piece.as_deref().unwrap_or_default(), &mut bytes);
                let (slices, last) = self.pace.slices(&bytes);
                for slice in slices {
                    file.write_at(self.offset, slice).map_err(io("write"))?;
                    self.offset += slice.len() as u64;
                    file.sync().map_err(io("sync"))?;
                }
                file.write_at(self.offset, last).map_err(io("write"))?;
                self.offset += last.len() as u64;
                let is_last = piece.is_none();
                let is_due = is_last || self.sync_bytes <= self.offset - self.synced;
                if !is_due {
                    reached!(PieceSyncedLater);
                }
                if is_due && !bugs::is_on(Bug::CheckpointNotSynced) {
                    file.sync().map_err(io("sync"))?;
                    self.synced = self.offset;
                }
                self.stage = if is_last { Stage::Name(file) } else { Stage::Write(file, link) };
            }
            Stage::Name(ref file) => {
                let checkpoint = Checkpoint::new(self.header, self.offset, Arc::clone(file));
                let name = checkpoint.name();
                let rename = self.disk.rename(TEMPORARY_NAME, &name);
                rename.map_err(JournalError::io("rename", &name))?;
                if !bugs::is_on(Bug::SkipDirectorySync) {
                    self.disk.sync_directory().map_err(JournalError::io("sync", "."))?;
                }
                return Ok(Stepped::Named(self, checkpoint));
            }
            Stage::Tidy(kept) => {
                remove_others(&*self.disk, &kept)?;
                return Ok(Stepped::Ended);
            }
        }
        Ok(Stepped::Next(self))
    }
}

impl<D: Disk> fmt::Debug for Step<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let slot = self.header.slot;
        match &self.stage {
            Stage::Make => write!(f, "begin a checkpoint of slot {slot}"),
            Stage::Write(..) => write!(f, "write at {} of it, of slot {slot}", self.offset),
            Stage::Name(_) => write!(f, "name the checkpoint of slot {slot}"),
            Stage::Tidy(kept) => write!(f, "keep the checkpoints of {kept:?}"),
        }
    }
}

impl<D: Disk> Journal<D> {
    /// Begins to take a checkpoint: `image` is the state below `slot`, and `chain` the chain. Its
    /// steps are jobs; it counts, and is told by [`checkpoint`], when the last but one is done.
    ///
    /// [`checkpoint`]: Self::checkpoint
    ///
    /// # Panics
    ///
    /// Where one is being taken, or there is one of that slot or a later one, or an entry below
    /// `slot` was not appended.
    pub fn begin_checkpoint(&mut self, slot: Slot, chain: Chain, image: Image) {
        let behind = self.last_lsn();
        let appended = self.writer_mut().slot_end();
        assert!(slot <= appended, "a checkpoint of slot {slot}, where {appended} is not appended");
        let kept = (self.slot_trimmed(), behind);
        self.checkpoints.begin(&self.identity, (slot, chain), image, kept, OWN_SYNC_BYTES);
    }

    /// Begins to write a checkpoint that a peer sends, as `image` gives its pieces; the journal
    /// need not reach so far. When it counts, [`go_on_behind`](Self::go_on_behind) it.
    ///
    /// # Panics
    ///
    /// Where one is being taken, or there is one of that slot or a later one.
    pub fn begin_receiving(&mut self, slot: Slot, chain: Chain, image: Image) {
        let kept = (slot, self.last_lsn());
        let sync_bytes = self.options.received_sync_bytes;
        self.checkpoints.begin(&self.identity, (slot, chain), image, kept, sync_bytes);
    }

    /// The newest checkpoint came from a peer: that the journal begins behind it is written down,
    /// by a job. For should the checkpoint be lost, whatever the journal has of the slots below may
    /// be votes for what was not chosen. Where there is no space, ask again.
    pub fn begin_behind(&mut self, slot: Slot) {
        self.writer_mut().segments_mut().begin_behind(slot);
    }

    /// Whether that is durable.
    pub fn begins_behind(&mut self, slot: Slot) -> bool {
        slot <= self.writer_mut().segments_mut().front().slot
    }

    /// The newest checkpoint came from a peer: what the journal has of the slots below it does not
    /// count any more.
    ///
    /// # Panics
    ///
    /// Where it did not, or it is not [written down](Self::begin_behind).
    pub fn go_on_behind(&mut self) {
        let newest = self.checkpoint().map(Checkpoint::header);
        let received = newest.filter(|newest| newest.journal_from == newest.slot);
        let slot = received.expect("the newest checkpoint came from a peer").slot;
        assert!(self.begins_behind(slot), "that the journal begins with {slot} is not durable");
        self.writer_mut().go_on_behind(slot);
    }

    /// Why the checkpoint that was being written turned out to be none; told once.
    pub fn take_unfit(&mut self) -> Option<Unfit> {
        self.checkpoints.take_unfit()
    }

    /// Reads some bytes of a checkpoint, by a job; [`take_parts`](Self::take_parts) has them then.
    pub fn read_part(&mut self, to: ReplicaId, checkpoint: Checkpoint<D>, at: (u64, usize)) {
        let (offset, bytes_max) = at;
        self.unread.push_back(Job(Task::Read { to, checkpoint, offset, bytes_max }));
    }

    /// The parts that were read since the last call.
    pub fn take_parts(&mut self) -> Vec<Part<D>> {
        std::mem::take(&mut self.parts)
    }

    /// The newest checkpoint.
    #[must_use]
    pub fn checkpoint(&self) -> Option<&Checkpoint<D>> {
        self.checkpoints.kept().first()
    }

    /// All checkpoints that are kept, newest first.
    #[must_use]
    pub fn checkpoints(&self) -> &[Checkpoint<D>] {
        self.checkpoints.kept()
    }

    /// Whether a checkpoint is being taken.
    #[must_use]
    pub fn is_taking_checkpoint(&self) -> bool {
        self.checkpoints.is_taking()
    }

    /// How many bytes are written of the checkpoint that is being taken, or was taken last.
    #[must_use]
    pub fn checkpoint_written_bytes(&self) -> u64 {
        self.checkpoints.written
    }

    /// Whether the last checkpoint was given up for want of space.
    #[must_use]
    pub fn is_checkpoint_given_up(&self) -> bool {
        self.checkpoints.is_full()
    }
}

/// Removes what an opening found that no checkpoint is, or none that is kept. Returns those.
pub(super) fn tidy<D: Disk>(disk: &D, found: Found<D>) -> Result<Vec<Checkpoint<D>>, JournalError> {
    let mut kept = found.whole;
    if found.leftover {
        reached!(CheckpointLeft);
        remove(disk, TEMPORARY_NAME)?;
    }
    if kept.len() > KEPT_MAX {
        kept.truncate(KEPT_MAX);
        let slots = kept.iter().map(|kept| kept.header().slot).collect::<Vec<_>>();
        let oldest = slots.last().copied().unwrap_or_default();
        remove_where(disk, |slot| slot < oldest)?;
    }
    Ok(kept)
}

fn remove_others<D: Disk>(disk: &D, kept: &[Slot]) -> Result<(), JournalError> {
    remove_where(disk, |slot| !kept.contains(&slot))
}

fn remove_where<D: Disk>(disk: &D, is_old: impl Fn(Slot) -> bool) -> Result<(), JournalError> {
    let names = listing::names(disk)?;
    for slot in names.iter().filter_map(|name| checkpoint_slot(name)).filter(|slot| is_old(*slot)) {
        remove(disk, &checkpoint_name(slot))?;
    }
    Ok(())
}

fn remove<D: Disk>(disk: &D, name: &str) -> Result<(), JournalError> {
    match disk.remove(name) {
        Err(err) if err.kind() != io::ErrorKind::NotFound => {
            Err(JournalError::io("remove", name)(err))
        }
        _ => Ok(()),
    }
}

/// How many checkpoints there are at most, but for the one that is being taken.
const KEPT_MAX: usize = 2;

/// Each piece of a state that is made here is synced: somebody may commit beside it, and is to wait
/// for no more than that.
const OWN_SYNC_BYTES: u64 = 0;
