//! Damage by name: where the frames of a slot, of a promise, or with a number stand on a disk.
//!
//! A scenario says "replica 2 loses what it wrote for slot 7", not "bytes 8,360 to 8,912 of the
//! third file". [`Simulation::frames`] tells what stands where on the medium of a machine;
//! [`Simulation::place_of`] finds the newest frame of what is meant; and the other methods damage
//! it. Byte ranges of files are damaged by [`SimDisk`](super::disk::SimDisk) itself.
//!
//! ```
//! use indelible::RawTable;
//! use indelible::sim::Simulation;
//!
//! # fn main() -> indelible::Result<()> {
//! const NOTES: RawTable<u64> = RawTable::new("notes");
//! let sim = Simulation::new(7);
//! let written = sim.replica(1).put(NOTES, 1, b"text").wait()?;
//! let slot = sim.slot_chosen(1).0 - 1;
//! sim.run_for(std::time::Duration::from_secs(2));
//!
//! sim.cut_power(2, &mut |_| false);
//! sim.corrupt(2, slot);
//! assert!(sim.open(2), "{:?}", sim.refusal(2));
//! let read = sim.replica(2).get(NOTES, 1).wait()?.expect("the others have it");
//! assert_eq!(Some(read.version), written.txid);
//! # Ok(())
//! # }
//! ```
//!
//! Not here: which damage is within the promise (`rot`), and chance.

use std::fmt;
use std::ops::Range;

use crate::journal::frame::{FRAME_HEADER_BYTES, Header, Kind};
use crate::journal::segment::segment_number;
use crate::types::ids::{ContentHash, Lsn, ReplicaId, Slot};

use super::disk::Image;
use super::simulation::Simulation;

/// What is looked for on a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// The newest entry for this slot: a vote, or what a peer told.
    Slot(Slot),
    /// The newest promise: its copy 1 or its copy 2.
    Promise(u8),
    /// The frame with this number.
    Frame(Lsn),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Slot(slot) => write!(f, "entry for slot {slot}"),
            Self::Promise(copy) => write!(f, "copy {copy} of a promise"),
            Self::Frame(lsn) => write!(f, "frame {lsn}"),
        }
    }
}

impl From<Slot> for Target {
    fn from(slot: Slot) -> Self {
        Self::Slot(slot)
    }
}

impl From<u64> for Target {
    /// The newest entry for the slot of this number.
    fn from(slot: u64) -> Self {
        Self::Slot(Slot(slot))
    }
}

/// A frame on a medium.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The name of the file.
    pub file: String,
    /// The bytes of the frame in it: the header, then the payload.
    pub range: Range<usize>,
    /// What the frame says.
    pub header: Header,
}

impl Place {
    /// Where to damage what it says: at the first byte of its payload, or at the last one of its
    /// header where there is no payload, or it is only distance.
    fn content(&self) -> usize {
        match self.header.content == ContentHash::default() || self.header.payload_bytes == 0 {
            true => self.range.start + FRAME_HEADER_BYTES - 1,
            false => self.range.start + FRAME_HEADER_BYTES,
        }
    }

    fn is(&self, target: Target) -> bool {
        let Header { kind, slot, copy, lsn, .. } = self.header;
        match target {
            Target::Slot(wanted) => matches!(kind, Kind::Vote | Kind::Chosen) && slot == wanted,
            Target::Promise(wanted) => kind == Kind::Promise && copy == wanted,
            Target::Frame(wanted) => lsn == wanted,
        }
    }
}

impl Simulation {
    /// Every frame that stands in its place on the medium of machine `id`, in order of numbers,
    /// those that an opening gave up included. What was written and not synced is not on it.
    #[must_use]
    pub fn frames(&self, id: impl Into<ReplicaId>) -> Vec<Place> {
        self.frames_of("frames", id.into())
    }

    fn frames_of(&self, method: &str, id: ReplicaId) -> Vec<Place> {
        let disk = self.machine(method, id).disk.clone();
        let names = disk.durable_names();
        let segments = names.into_iter().filter_map(|name| Some((segment_number(&name)?, name)));
        let mut places = Vec::new();
        for (number, name) in segments {
            let bytes = disk.durable(&name).unwrap_or_default();
            for at in (0..bytes.len()).step_by(8) {
                let Ok((header, _)) = Header::decode(&bytes[at..]) else { continue };
                if header.segment == number && header.offset == at as u64 {
                    let end = at + FRAME_HEADER_BYTES + header.payload_bytes as usize;
                    places.push(Place { file: name.clone(), range: at..end, header });
                }
            }
        }
        places.sort_by_key(|place| place.header.lsn);
        places
    }

    /// The newest frame of what is meant, on the medium of machine `id`.
    ///
    /// # Panics
    ///
    /// Where there is none.
    #[must_use]
    #[track_caller]
    pub fn place_of(&self, id: impl Into<ReplicaId>, target: impl Into<Target>) -> Place {
        self.place("place_of", id.into(), target)
    }

    #[track_caller]
    fn place(&self, method: &str, id: ReplicaId, target: impl Into<Target>) -> Place {
        let target = target.into();
        let place = self.frames_of(method, id).into_iter().rfind(|place| place.is(target));
        place.unwrap_or_else(|| {
            panic!("Simulation::{method}: on the medium of replica {id} there is no {target}")
        })
    }

    /// A bit of what the frame holds changes. Panics as [`Simulation::place_of`] does.
    #[track_caller]
    pub fn corrupt(&self, id: impl Into<ReplicaId>, target: impl Into<Target>) {
        let id = id.into();
        let place = self.place("corrupt", id, target);
        let changed = self.disk(id).flip(&place.file, place.content(), 1);
        assert!(changed, "a bit that flips is another one");
    }

    /// The frame, its header included, becomes zeros. Panics as [`Simulation::place_of`] does.
    #[track_caller]
    pub fn zero(&self, id: impl Into<ReplicaId>, target: impl Into<Target>) {
        let id = id.into();
        let place = self.place("zero", id, target);
        let changed = self.disk(id).zero(&place.file, place.range);
        assert!(changed, "a frame is not all zeros");
    }

    /// The sectors that the frame touches cannot be read any more. Panics as
    /// [`Simulation::place_of`] does.
    #[track_caller]
    pub fn make_unreadable(&self, id: impl Into<ReplicaId>, target: impl Into<Target>) {
        let id = id.into();
        let place = self.place("make_unreadable", id, target);
        self.disk(id).make_unreadable(&place.file, place.range);
    }

    /// The bytes of the frame are again what they were before the last `syncs` syncs of their file
    /// (see [`SimDisk::record_history`](super::disk::SimDisk::record_history), which must have been
    /// on). Panics as [`Simulation::place_of`] does, and where they were always the same.
    #[track_caller]
    pub fn make_stale(&self, id: impl Into<ReplicaId>, target: impl Into<Target>, syncs: usize) {
        let id = id.into();
        let place = self.place("make_stale", id, target);
        let changed = self.disk(id).make_stale(&place.file, place.range.clone(), syncs);
        assert!(
            changed,
            "Simulation::make_stale: {} was the same {syncs} syncs ago, or its disk recorded no \
             history",
            place.file
        );
    }

    /// What was meant for one frame went to the place of another as well, as far as that one is
    /// long: a misdirected write. Panics as [`Simulation::place_of`] does.
    #[track_caller]
    pub fn misdirect(
        &self,
        id: impl Into<ReplicaId>,
        from: impl Into<Target>,
        to: impl Into<Target>,
    ) {
        let id = id.into();
        let (from, to) = (self.place("misdirect", id, from), self.place("misdirect", id, to));
        let disk = self.disk(id);
        let bytes = disk.durable(&from.file).unwrap_or_default();
        disk.rot(&to.file, to.range, |place| {
            let length = place.len().min(from.range.len());
            place[..length].copy_from_slice(&bytes[from.range.start..][..length]);
        });
    }

    /// Two frames change places, as far as the shorter one is long. Panics as
    /// [`Simulation::place_of`] does.
    #[track_caller]
    pub fn swap(&self, id: impl Into<ReplicaId>, one: impl Into<Target>, other: impl Into<Target>) {
        let id = id.into();
        let (one, other) = (self.place("swap", id, one), self.place("swap", id, other));
        let length = one.range.len().min(other.range.len());
        let place = |place: &Place| (place.file.clone(), place.range.start);
        let ((one, first), (other, second)) = (place(&one), place(&other));
        self.disk(id).swap((&one, first), (&other, second), length);
    }

    /// What is on the medium of machine `id` now: to be restored later, there or elsewhere.
    #[must_use]
    pub fn save_disk(&self, id: impl Into<ReplicaId>) -> Image {
        self.machine("save_disk", id).disk.image()
    }

    /// Replica `id` dies, and its disk becomes what it was when the image was taken: a backup that
    /// is put back, a machine that is set back, a directory of another replica.
    pub fn restore_disk(&self, id: impl Into<ReplicaId>, image: &Image) {
        self.replace_disk("restore_disk", id.into(), image);
    }

    fn replace_disk(&self, method: &str, id: ReplicaId, image: &Image) {
        drop(self.at(method, id));
        self.crash(id);
        self.set_back(id, image);
    }

    /// Replica `id` dies, and its disk becomes blank.
    pub fn wipe_disk(&self, id: impl Into<ReplicaId>) {
        self.replace_disk("wipe_disk", id.into(), &Image::default());
    }
}
