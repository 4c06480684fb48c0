//! What a simulated disk consists of: the medium, what is cached before it, and who uses it.
//!
//! A write changes what is read back, the cache, and waits; a sync brings what waits to the medium,
//! in order. Names behave likewise, with the sync of the directory.
//!
//! Invariants:
//! * What a write that waits holds never changes, whatever is written over it.
//! * The medium changes only by a sync, a crash, or damage.
//!
//! Not here: what survives a crash (`crash`), which operation fails (`inject`).

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use crate::sim::rng::Rng;

use super::content::{Content, Patch, pieces};
use super::faults::{DiskFault, Fired};
use super::inject::Armed;
use super::watch::Watch;

/// What disks write whole or not at all, if they do.
pub const PIECE_BYTES: usize = 512;

/// The number of a file, whatever its name.
pub(super) type FileId = u64;

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) files: BTreeMap<FileId, SimulatedFile>,
    /// As they are listed.
    pub(super) names: BTreeMap<String, FileId>,
    /// As they are on the medium.
    pub(super) durable_names: BTreeMap<String, FileId>,
    /// Changes to names since the last sync of the directory, each with its boundary.
    pub(super) pending_names: Vec<(u64, NameChange)>,
    /// The sync of the directory lost changes, and its caller was not told.
    pub(super) directory_lost: bool,
    /// What a name stood for before, where that is recorded.
    pub(super) former_names: BTreeMap<String, Vec<FileId>>,
    pub(super) is_recording: bool,
    pub(super) names_in_any_order: bool,
    pub(super) file_next: FileId,
    /// Crashes so far.
    pub(super) life: u64,
    pub(super) mounts: u64,
    pub(super) is_locked: bool,
    /// How many bytes files may grow by.
    pub(super) room: Option<u64>,
    /// The boundary at which the power goes.
    pub(super) stop_at: Option<u64>,
    pub(super) is_stopped: bool,
    pub(super) armed: Vec<Armed>,
    pub(super) fired: Fired,
    pub(super) watch: Watch,
    /// Whether only the first open file that asks is told of a failure.
    pub(super) tells_once: bool,
    /// What journals draw names from.
    pub(super) entropy: Rng,
}

#[derive(Clone, Debug)]
pub(super) struct SimulatedFile {
    /// The last name that it had.
    pub(super) name: String,
    pub(super) cache: Content,
    pub(super) medium: Content,
    pub(super) pending: Vec<Pending>,
    /// How many syncs of it failed. Every open file is told of each once.
    pub(super) failures: u64,
    /// How many of these somebody was told of; for disks that tell only one open file.
    pub(super) told: u64,
    /// What the last of these failures was.
    pub(super) lost_by: DiskFault,
    /// Sectors that cannot be read, by their number.
    pub(super) unreadable: BTreeSet<usize>,
    /// Damage that nobody has read yet.
    pub(super) scars: Vec<Scar>,
    /// The medium before each sync that changed it, where that is recorded.
    pub(super) history: Vec<Content>,
}

/// A change to a file that waits for a sync.
#[derive(Clone, Debug)]
pub(super) struct Pending {
    /// The boundary at which it was made.
    pub(super) number: u64,
    pub(super) change: Change,
    pub(super) fate: Fate,
}

#[derive(Clone, Debug)]
pub(super) enum Change {
    Write(Patch),
    Resize(usize),
}

/// Where the medium puts a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Sound,
    Lost,
    Misdirected { file: FileId, offset: usize },
}

/// A range that was damaged.
#[derive(Clone, Debug)]
pub(super) struct Scar {
    pub(super) fault: DiskFault,
    pub(super) range: Range<usize>,
}

/// A change to the names that waits for a sync of the directory.
#[derive(Clone, Debug)]
pub(super) enum NameChange {
    Link { name: String, file: FileId },
    Move { from: String, to: String, file: FileId },
    Unlink { name: String },
}

/// Bytes that the medium puts into another place than they were meant for.
pub(super) struct Stray {
    pub(super) file: FileId,
    pub(super) offset: usize,
    pub(super) bytes: Vec<u8>,
}

impl Fate {
    /// Counts a write that is not where it should be, where that makes a difference.
    pub(super) fn count(self, differs: bool, fired: &mut Fired) {
        match self {
            Self::Lost if differs => fired.count(DiskFault::LostWrite),
            Self::Misdirected { .. } if differs => fired.count(DiskFault::MisdirectedWrite),
            Self::Sound | Self::Lost | Self::Misdirected { .. } => {}
        }
    }
}

impl Default for SimulatedFile {
    fn default() -> Self {
        Self {
            name: String::new(),
            cache: Content::default(),
            medium: Content::default(),
            pending: Vec::new(),
            failures: 0,
            told: 0,
            lost_by: DiskFault::SyncFailsKeep,
            unreadable: BTreeSet::new(),
            scars: Vec::new(),
            history: Vec::new(),
        }
    }
}

impl SimulatedFile {
    /// Takes a write into the cache.
    pub(super) fn write(&mut self, number: u64, offset: usize, bytes: &[u8], fate: Fate) {
        self.cache.write(offset, bytes);
        let patch = self.cache.patch(offset..offset + bytes.len());
        self.pending.push(Pending { number, change: Change::Write(patch), fate });
    }

    /// Brings everything that waits to the medium. Returns what went elsewhere.
    pub(super) fn settle(&mut self, is_recording: bool, fired: &mut Fired) -> Vec<Stray> {
        if is_recording && !self.pending.is_empty() {
            self.history.push(self.medium.clone());
        }
        let mut strays = Vec::new();
        for Pending { change, fate, .. } in std::mem::take(&mut self.pending) {
            match change {
                Change::Resize(length) => self.medium.resize(length),
                Change::Write(patch) => {
                    self.medium.extend_to(patch.range.end);
                    let range = patch.range.clone();
                    if fate != Fate::Sound {
                        fate.count(self.medium.differs(&patch, range.clone()), fired);
                    }
                    strays.extend(self.land(&patch, range, fate));
                }
            }
        }
        strays
    }

    /// Brings the part of a write that lies in `range` to the medium, or where it goes instead.
    pub(super) fn land(&mut self, patch: &Patch, range: Range<usize>, fate: Fate) -> Option<Stray> {
        match fate {
            Fate::Sound => {
                self.medium.put(patch, range.clone());
                self.heal(range);
                None
            }
            Fate::Lost => None,
            Fate::Misdirected { file, offset } => {
                let offset = offset + (range.start - patch.range.start);
                Some(Stray { file, offset, bytes: patch.bytes(range) })
            }
        }
    }

    /// What is written anew is neither damaged nor unreadable.
    fn heal(&mut self, range: Range<usize>) {
        self.scars.retain(|scar| scar.range.start < range.start || range.end < scar.range.end);
        if !self.unreadable.is_empty() {
            for piece in pieces(range, PIECE_BYTES).filter(|piece| piece.len() == PIECE_BYTES) {
                self.unreadable.remove(&(piece.start / PIECE_BYTES));
            }
        }
    }

    /// Reads the medium into the cache again, but for what waits to be written.
    pub(super) fn evict(&mut self) {
        self.cache = self.medium.clone();
        for pending in &self.pending {
            match &pending.change {
                Change::Resize(length) => self.cache.resize(*length),
                Change::Write(patch) => {
                    self.cache.extend_to(patch.range.end);
                    self.cache.put(patch, patch.range.clone());
                }
            }
        }
    }

    /// Reads part of the medium into the cache again, but for what waits to be written.
    pub(super) fn evict_range(&mut self, range: Range<usize>) {
        let fresh = self.medium.patch(range.clone());
        self.cache.put(&fresh, range.clone());
        for pending in &self.pending {
            if let Change::Write(patch) = &pending.change {
                self.cache.put(patch, range.clone());
            }
        }
    }

    /// Whether a sector in `range` cannot be read. What waits to be written is read from memory.
    pub(super) fn is_unreadable(&self, range: Range<usize>) -> bool {
        let waits = |sector: usize| {
            let sector = sector * PIECE_BYTES..(sector + 1) * PIECE_BYTES;
            self.pending.iter().any(|pending| {
                matches!(&pending.change, Change::Write(patch)
                    if patch.range.start <= sector.start && sector.end <= patch.range.end)
            })
        };
        let sectors = range.start / PIECE_BYTES..range.end.div_ceil(PIECE_BYTES);
        self.unreadable.range(sectors).any(|sector| !waits(*sector))
    }

    /// Counts the damage in `range`, which is being read.
    pub(super) fn see(&mut self, range: Range<usize>, fired: &mut Fired) {
        self.scars.retain(|scar| {
            let seen = scar.range.start < range.end && range.start < scar.range.end;
            if seen {
                fired.count(scar.fault);
            }
            !seen
        });
    }
}

impl NameChange {
    pub(super) fn apply(&self, names: &mut BTreeMap<String, FileId>) {
        match self {
            Self::Link { name, file } => drop(names.insert(name.clone(), *file)),
            Self::Move { from, to, file } => {
                names.remove(from);
                names.insert(to.clone(), *file);
            }
            Self::Unlink { name } => drop(names.remove(name)),
        }
    }

    /// The name that it makes or takes away.
    pub(super) fn name(&self) -> &str {
        match self {
            Self::Link { name, .. } | Self::Move { to: name, .. } | Self::Unlink { name } => name,
        }
    }

    fn file(&self) -> Option<FileId> {
        match self {
            Self::Link { file, .. } | Self::Move { file, .. } => Some(*file),
            Self::Unlink { .. } => None,
        }
    }
}

impl State {
    /// The file that a name stands for.
    pub(super) fn named(&mut self, name: &str) -> Option<&mut SimulatedFile> {
        let file = self.names.get(name)?;
        self.files.get_mut(file)
    }

    /// An open file's file.
    pub(super) fn file_mut(&mut self, file: FileId) -> &mut SimulatedFile {
        self.files.get_mut(&file).expect("a file stays while one that is alive has it open")
    }

    /// Changes the names as they are listed; the medium follows at a sync of the directory.
    pub(super) fn change_names(&mut self, number: u64, change: NameChange) {
        if self.is_recording
            && let Some(before) = self.names.get(change.name())
        {
            self.former_names.entry(change.name().to_owned()).or_default().push(*before);
        }
        change.apply(&mut self.names);
        if let Some(file) = change.file() {
            change.name().clone_into(&mut self.file_mut(file).name);
        }
        self.pending_names.push((number, change));
    }

    /// Makes all names durable.
    pub(super) fn settle_names(&mut self) {
        for (_, change) in std::mem::take(&mut self.pending_names) {
            change.apply(&mut self.durable_names);
        }
    }

    /// Brings what waits of a file to the medium.
    pub(super) fn settle(&mut self, file: FileId) {
        let is_recording = self.is_recording;
        let Some(simulated) = self.files.get_mut(&file) else { return };
        let strays = simulated.settle(is_recording, &mut self.fired);
        self.strew(strays);
    }

    /// Lets writes land where they should not.
    pub(super) fn strew(&mut self, strays: Vec<Stray>) {
        for Stray { file, offset, bytes } in strays {
            let Some(target) = self.files.get_mut(&file) else { continue };
            let count = target.medium.len().saturating_sub(offset).min(bytes.len());
            target.medium.write(offset.min(target.medium.len()), &bytes[..count]);
            target.evict_range(offset..offset + count);
        }
    }

    /// Forgets files that no name leads to. Nobody may have one open.
    pub(super) fn forget_unnamed(&mut self) {
        let former = self.former_names.values().flatten().copied();
        let pending = self.pending_names.iter().filter_map(|(_, change)| change.file());
        let named = self.names.values().chain(self.durable_names.values()).copied();
        let needed: BTreeSet<FileId> = named.chain(pending).chain(former).collect();
        self.files.retain(|file, _| needed.contains(file));
    }
}
