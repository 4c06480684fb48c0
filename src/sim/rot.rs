//! Damage at rest, within what the fault model promises to survive.
//!
//! Promised is: whatever was synced may rot, if later frames tell that it had been durable; and the
//! newest group of one replica may rot into something that is no group. Not promised is that synced
//! copies of one slot rot on as many replicas as a phase-2 quorum has, nor that anybody notices a
//! newest group which became zeros. So one replica is damaged at a time; the next one only after
//! the one before has been whole again for a while.
//!
//! Not here: a replica alone, which refuses to open (`tests/disk_campaign.rs`).

use std::ops::Range;
use std::time::Duration;

use crate::journal::frame::{Header, Kind as FrameKind};
use crate::journal::segment::BLOCK_BYTES;
use crate::types::ids::ReplicaId;
use crate::types::time::Moment;

use super::faults::Kind;
use super::rng::Rng;
use super::simulation::Simulation;

/// Who is damaged.
#[derive(Debug, Default)]
pub(super) struct Damaged {
    victim: Option<ReplicaId>,
    /// Its machine's `lives` when it was damaged; only an opening finds all damage.
    lives: u64,
    /// Since when it is whole again.
    whole_since: Option<Moment>,
}

/// A part of a file.
struct Place {
    file: String,
    range: Range<usize>,
}

impl Damaged {
    /// Whether anybody was ever damaged.
    pub(super) fn is_used(&self) -> bool {
        self.victim.is_some()
    }

    /// Looks after the victim.
    pub(super) fn look(&mut self, sim: &Simulation) {
        let Some(victim) = self.victim else { return };
        let reopened = self.lives < sim.lock().machine(victim).lives;
        if !reopened || !is_whole(sim, victim) {
            self.whole_since = None;
        } else if self.whole_since.is_none() {
            self.whole_since = Some(sim.now());
        }
    }

    /// Damages a replica, if that is within the promise. Returns whether it did.
    pub(super) fn strike(
        &mut self,
        sim: &Simulation,
        kind: Kind,
        id: ReplicaId,
        rng: &mut Rng,
    ) -> bool {
        let free = match (self.victim, self.whole_since) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(victim), Some(since)) => {
                WHOLE_FOR <= sim.now().since(since) && is_whole(sim, victim)
            }
        };
        // A replica that does not serve yet may be repairing what it lost, or forming.
        if !free || sim.ids().len() < 3 || !is_whole(sim, id) {
            return false;
        }
        let segments = segments(sim, id);
        let newest = kind == Kind::TailRot;
        let places = if newest { newest_group(&segments) } else { covered(&segments) };
        if places.is_empty() {
            return false;
        }
        // The newest of them is what peers ask for.
        let recent = &places[places.len().saturating_sub(RECENT)..];
        let head = places.iter().rfind(|place| place.range.start == BLOCK_BYTES);
        let place = match (head, rng.below(8)) {
            (Some(head), 0) => head,
            (_, 1..=4) => rng.pick(recent),
            _ => rng.pick(&places),
        };
        if newest {
            // What is in flight would tell of it later, and has not been told of anything.
            sim.crash(id);
        }
        let acted = damage(sim, kind, id, place, &places, rng);
        sim.disk(id).drop_caches();
        if acted {
            (self.victim, self.whole_since) = (Some(id), None);
            // The crash that comes counts as well.
            self.lives = sim.lock().machine(id).lives + 1;
        }
        acted
    }
}

fn damage(
    sim: &Simulation,
    kind: Kind,
    id: ReplicaId,
    place: &Place,
    places: &[Place],
    rng: &mut Rng,
) -> bool {
    let (disk, Place { file, range }) = (sim.disk(id), place);
    let sectors = (range.len() / SECTOR_BYTES) as u64;
    // Most damage is small; some takes a whole group, with both copies of its promise.
    let whole = rng.per_mille(250);
    let count = if whole { sectors } else { rng.within(1..=sectors.min(8)) };
    let first = range.start + rng.below(sectors - count + 1) as usize * SECTOR_BYTES;
    let sector = first..first + count as usize * SECTOR_BYTES;
    match kind {
        Kind::Zeroed => disk.zero(file, sector),
        Kind::Unreadable => disk.make_unreadable(file, sector),
        Kind::Swapped => {
            let other = rng.pick(places);
            let length = BLOCK_BYTES.min(range.len()).min(other.range.len());
            disk.swap((file, range.start), (&other.file, other.range.start), length)
        }
        Kind::TailRot => {
            // The header of the group: all of it is lost, and it is not zeros.
            disk.flip(file, range.start + rng.below(144) as usize, 1 << rng.below(8))
        }
        _ => disk.flip(file, first + rng.below(512) as usize, 1 << rng.below(8)),
    }
}

/// Whether the replica serves, and knows all that it ever knew.
fn is_whole(sim: &Simulation, id: ReplicaId) -> bool {
    sim.report(id).is_some_and(|report| {
        let repaired = report.repair.is_none() && report.damage.is_none();
        report.view.is_some() && report.stopped.is_none() && repaired && report.doubts.is_empty()
    })
}

/// The segments in use, oldest first, each with where its groups begin.
fn segments(sim: &Simulation, id: ReplicaId) -> Vec<(String, Vec<usize>)> {
    let disk = sim.disk(id);
    let mut names = disk.durable_names();
    names.retain(|name| name.starts_with("segment-"));
    names.sort();
    let segments = names.into_iter().filter_map(|name| {
        let bytes = disk.durable(&name)?;
        let blocks = (BLOCK_BYTES..bytes.len()).step_by(BLOCK_BYTES);
        let begins = blocks.filter(|at| {
            let header = Header::decode(&bytes[*at..]);
            header.is_ok_and(|(header, _)| header.kind == FrameKind::Group)
        });
        let begins = begins.collect::<Vec<_>>();
        (!begins.is_empty()).then_some((name, begins))
    });
    segments.collect()
}

/// What later frames vouch for: superheaders, and group by group, but for the last few, which may
/// have been in flight together.
fn covered(segments: &[(String, Vec<usize>)]) -> Vec<Place> {
    let mut places = Vec::new();
    for (file, begins) in segments {
        let groups = begins.windows(2).map(|pair| pair[0]..pair[1]);
        let superheader = 0..BLOCK_BYTES;
        let ranges = [superheader].into_iter().chain(groups);
        places.extend(ranges.map(|range| Place { file: file.clone(), range }));
    }
    let in_flight = places.len().saturating_sub(IN_FLIGHT_MAX);
    places.truncate(in_flight);
    places
}

/// The last group, if it is not the first of its segment: that one holds the promise.
fn newest_group(segments: &[(String, Vec<usize>)]) -> Vec<Place> {
    let Some((file, begins)) = segments.last() else { return Vec::new() };
    let last = begins.last().filter(|_| begins.len() > 2);
    let place = last.map(|begin| Place { file: file.clone(), range: *begin..begin + BLOCK_BYTES });
    place.into_iter().collect()
}

const SECTOR_BYTES: usize = 512;

/// Places that count as recent.
const RECENT: usize = 12;

/// More groups than a journal of the swarm has in flight and waiting.
const IN_FLIGHT_MAX: usize = 8;

/// What was repaired is synced by then.
const WHOLE_FOR: Duration = Duration::from_secs(20);
