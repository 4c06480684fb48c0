//! Taking a checkpoint, step by step, beside a journal that goes on writing.
//!
//! ```text
//!   make checkpoint.new ─► a piece, sync ─► a piece, sync ─► .. ─► end, sync
//!        ─► wait until the journal is durable as far as the checkpoint reaches
//!        ─► rename, sync the directory ─► remove what is older than the two newest
//! ```
//!
//! Each step is a job of its own, so that the disk is never asked for more than a piece at a time,
//! and nobody who commits waits for more than that. A crash between two steps leaves the
//! checkpoints that there were, and perhaps `checkpoint.new`, which the next opening removes.
//!
//! The journal comes first: a checkpoint counts only when every slot below it has a durable frame.
//! So what a checkpoint holds can also be read, slot by slot. And it says so, which proves of
//! whatever is bad there that it was durable, where nothing else does.
//!
//! Two are kept: should the newest be damaged, there is the one before.
//!
//! A full disk ends one that is being taken, and nothing else. Any other failure poisons the
//! journal as that of a write does.

use std::fmt;
use std::io;
use std::sync::Arc;

use crate::types::bugs::{self, Bug};
use crate::types::ids::{Chain, Lsn, Slot};
use crate::types::marks::reached;

use super::checkpoint::{
    Checkpoint, CheckpointHeader, Found, Link, TEMPORARY_NAME, checkpoint_name, checkpoint_slot,
};
use super::disk::{Disk, File};
use super::error::JournalError;
use super::identity::Identity;

/// The pieces of an image, made as they are asked for.
pub type Image = Box<dyn Iterator<Item = Vec<u8>> + Send>;

/// The checkpoints of a journal, and the one that is being taken.
pub(super) struct Checkpoints<D: Disk> {
    disk: Arc<D>,
    /// The whole ones, newest first.
    kept: Vec<Checkpoint<D>>,
    /// The next step of the one that is taken.
    next: Option<Step<D>>,
    /// A step is under way.
    runs: bool,
    /// The last one was given up for want of space.
    full: bool,
}

/// One step of taking a checkpoint, with all that it needs.
pub(super) struct Step<D: Disk> {
    disk: Arc<D>,
    header: CheckpointHeader,
    image: Image,
    stage: Stage<D::File>,
    offset: u64,
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
    Ended,
}

impl<D: Disk> Checkpoints<D> {
    pub(super) fn new(disk: Arc<D>, kept: Vec<Checkpoint<D>>) -> Self {
        Self { disk, kept, next: None, runs: false, full: false }
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

    pub(super) fn begin(
        &mut self,
        identity: &Identity,
        (slot, chain): (Slot, Chain),
        image: Image,
        behind: Lsn,
    ) {
        assert!(!self.is_taking(), "one checkpoint at a time");
        let newest = self.kept.first().map_or(Slot::ZERO, |newest| newest.header().slot);
        assert!(newest < slot, "a checkpoint of slot {slot} behind one of {newest}");
        let (home, replica) = (identity.home(), identity.replica);
        let header = CheckpointHeader { home, replica, slot, chain, durable_through: behind };
        let (disk, stage) = (Arc::clone(&self.disk), Stage::Make);
        self.full = false;
        self.next = Some(Step { disk, header, image, stage, offset: 0 });
    }

    /// The next step, if it can be done while the journal is durable up to `frontier`.
    pub(super) fn next_step(&mut self, frontier: Lsn) -> Option<Step<D>> {
        let step = self.next.take_if(|step| step.can_begin(frontier))?;
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
            Ok(Stepped::Next(step)) => self.next = Some(step),
            Ok(Stepped::Named(mut step, checkpoint)) => {
                self.kept.insert(0, checkpoint);
                self.kept.truncate(KEPT_MAX);
                let kept = self.kept.iter().map(|kept| kept.header().slot).collect();
                step.keep(kept);
                self.next = Some(step);
            }
            Ok(Stepped::Ended) => {}
            Err(err) if err.is_full() => self.full = true,
            Err(err) => return Err(err),
        }
        Ok(())
    }
}

impl<D: Disk> Step<D> {
    fn can_begin(&self, frontier: Lsn) -> bool {
        let early = bugs::is_on(Bug::CheckpointBeforeJournal);
        !matches!(self.stage, Stage::Name(_)) || self.header.durable_through <= frontier || early
    }

    fn keep(&mut self, kept: Vec<Slot>) {
        self.stage = Stage::Tidy(kept);
    }

    /// Does it. What was written so far is removed where the disk turns out to be full.
    pub(super) fn run(self) -> Result<Stepped<D>, JournalError> {
        let disk = Arc::clone(&self.disk);
        let is_named = matches!(self.stage, Stage::Name(_) | Stage::Tidy(_));
        let result = self.step();
        match result {
            Err(err) if err.is_full() && !is_named => {
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
                let piece = self.image.next();
                let mut bytes = Vec::new();
                link.push(piece.as_deref().unwrap_or_default(), &mut bytes);
                file.write_at(self.offset, &bytes).map_err(io("write"))?;
                if !bugs::is_on(Bug::CheckpointNotSynced) {
                    file.sync().map_err(io("sync"))?;
                }
                self.offset += bytes.len() as u64;
                let is_last = piece.is_none();
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
    let names = disk.list().map_err(JournalError::io("list", "."))?;
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
