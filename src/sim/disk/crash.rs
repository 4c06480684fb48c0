//! What a crash leaves of a simulated disk.
//!
//! When the power goes, each piece of each write that was not synced survives or not, in any
//! combination, and so does each change of a length and of the names; the caller chooses. Names
//! are asked about in the order of their changes, and the first that does not survive takes all
//! later ones with it, as in a file system with a journal; unless that order is given up.
//!
//! When only the process dies, everything that it wrote is still there.
//!
//! Invariants:
//! * What was synced, and whose name was, survives.
//! * After any crash no mount from before it does anything, and the lock is free.
//!
//! Not here: when the power goes while an operation is being done (`SimDisk::stop_at`).

use std::ops::Range;

use super::SimDisk;
use super::content::{Patch, pieces};
use super::faults::{DiskFault, Fired};
use super::state::{Change, Fate, NameChange, PIECE_BYTES, Pending, SimulatedFile, State, Stray};

/// Something that was not synced when the power went, and may survive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece<'a> {
    /// The name of the file.
    pub name: &'a str,
    /// What it is.
    pub kind: PieceKind,
    /// The boundary at which it was written: pieces of one operation share it.
    pub number: u64,
}

/// What can survive by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PieceKind {
    /// These bytes: at most 512, all in one sector.
    Bytes(Range<usize>),
    /// That the file has this length.
    Length(usize),
    /// A change to the names.
    Name,
    /// That the old name of a renamed file is gone; asked only where names survive in any order.
    OldName,
}

/// Says of each piece whether it survives.
pub type Chooser<'a> = dyn FnMut(&Piece<'_>) -> bool + 'a;

impl SimDisk {
    /// The power goes. `survives` says of each piece that was not synced whether it is there when
    /// the power is back.
    pub fn power_cut(&self, survives: &mut Chooser<'_>) {
        let state = &mut *self.lock();
        state.cut_names(survives);
        state.names = state.durable_names.clone();
        state.forget_unnamed();
        let mut strays = Vec::new();
        for file in state.files.values_mut() {
            file.cut(survives, &mut state.fired, &mut strays);
        }
        state.strew(strays);
        for file in state.files.values_mut() {
            file.evict();
        }
        state.directory_lost = false;
        state.fired.count(DiskFault::PowerCut);
        state.end_life();
    }

    /// The process dies, and the system goes on: all that was written is still read back, and
    /// what was not synced is still not durable.
    pub fn process_crash(&self) {
        let state = &mut *self.lock();
        state.forget_unnamed();
        state.fired.count(DiskFault::ProcessCrash);
        state.end_life();
    }

    /// What is not waiting to be written is read from the medium again. Brings to light what was
    /// lost or put elsewhere on the way there.
    pub fn drop_caches(&self) {
        for file in self.lock().files.values_mut() {
            file.evict();
        }
    }
}

impl State {
    /// Every mount dies.
    pub(super) fn end_life(&mut self) {
        self.life += 1;
        self.is_locked = false;
        self.stop_at = None;
        self.is_stopped = false;
    }

    fn cut_names(&mut self, survives: &mut Chooser<'_>) {
        let mut is_lost = false;
        for (number, change) in std::mem::take(&mut self.pending_names) {
            let ask = |kind, survives: &mut Chooser<'_>| {
                survives(&Piece { name: change.name(), kind, number })
            };
            let in_order = !self.names_in_any_order;
            let survived = !(in_order && is_lost) && ask(PieceKind::Name, survives);
            if survived && is_lost {
                self.fired.count(DiskFault::ReorderedNames);
            }
            if !survived {
                is_lost = true;
                self.fired.count(DiskFault::NameLost);
                continue;
            }
            match &change {
                NameChange::Move { to, file, .. }
                    if !in_order && !ask(PieceKind::OldName, survives) =>
                {
                    is_lost = true;
                    self.fired.count(DiskFault::NameLost);
                    self.durable_names.insert(to.clone(), *file);
                }
                _ => change.apply(&mut self.durable_names),
            }
        }
    }
}

/// How much of a write that would have changed something survived.
#[derive(Default)]
struct Survival {
    kept: usize,
    lost: usize,
    /// Bytes that were to fill what the file grew by.
    lost_in_growth: bool,
}

impl SimulatedFile {
    /// The power goes: what is chosen of what waits reaches the medium.
    fn cut(&mut self, survives: &mut Chooser<'_>, fired: &mut Fired, strays: &mut Vec<Stray>) {
        (self.failures, self.told) = (0, 0);
        let mut is_lost = false;
        for pending in std::mem::take(&mut self.pending) {
            let Pending { number, change, fate } = pending;
            match change {
                Change::Resize(length) => {
                    if length != self.medium.len() && self.ask_length(length, number, survives) {
                        self.medium.resize(length);
                    }
                }
                Change::Write(patch) => {
                    let survival = self.cut_write(&patch, number, survives, &mut |file, piece| {
                        strays.extend(file.land(&patch, piece, fate));
                    });
                    if fate == Fate::Sound {
                        survival.count(is_lost, fired);
                        is_lost |= survival.kept == 0 && survival.lost > 0;
                    }
                    fate.count(survival.kept > 0, fired);
                }
            }
        }
    }

    fn cut_write(
        &mut self,
        patch: &Patch,
        number: u64,
        survives: &mut Chooser<'_>,
        land: &mut dyn FnMut(&mut Self, Range<usize>),
    ) -> Survival {
        let mut survival = Survival::default();
        let end_before = self.medium.len();
        let end = patch.range.end;
        if end > end_before && self.ask_length(end, number, survives) {
            self.medium.resize(end);
        }
        let length = self.medium.len();
        for piece in pieces(patch.range.clone(), PIECE_BYTES) {
            // Behind the end of the file nothing is left, whatever the sectors there hold.
            let within = piece.start..piece.end.min(length);
            let kind = PieceKind::Bytes(piece.clone());
            let survived =
                !within.is_empty() && survives(&Piece { name: &self.name, kind, number });
            let differs = self.medium.differs(patch, piece.clone());
            if survived {
                land(self, within);
                survival.kept += usize::from(differs);
            } else if differs {
                survival.lost += 1;
                survival.lost_in_growth |= end_before <= piece.start && piece.end <= length;
            }
        }
        survival
    }

    fn ask_length(&self, length: usize, number: u64, survives: &mut Chooser<'_>) -> bool {
        survives(&Piece { name: &self.name, kind: PieceKind::Length(length), number })
    }
}

impl Survival {
    fn count(&self, earlier_lost: bool, fired: &mut Fired) {
        let mut count = |fault, acted: bool| {
            if acted {
                fired.count(fault);
            }
        };
        count(DiskFault::TornWrite, self.kept > 0 && self.lost > 0);
        count(DiskFault::UnsyncedWriteLost, self.kept == 0 && self.lost > 0);
        count(DiskFault::ReorderedWrites, self.kept > 0 && self.lost == 0 && earlier_lost);
        count(DiskFault::SizeBeforeData, self.lost_in_growth);
    }
}
