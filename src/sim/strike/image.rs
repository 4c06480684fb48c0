//! Disks that are set back to an image: a machine is restored from a snapshot of its disk.
//!
//! The image is taken while the replica is down; at a later strike, some openings on, the power
//! goes and the image is put back. The replica has forgotten what it promised and voted for since,
//! and every checksum is right. Promised is that it takes part no more as soon as it meets
//! somebody who remembers. So all others must remember, durably, an opening that the image does
//! not know of, and the replica must meet one of them before its count has come as far again:
//! nobody can tell then. It counts as lost from then on, and what the others remember must not
//! rot; so in a run in which an image is taken, nothing else is damaged.
//!
//! Not here: what may be expected of it in the end (`settling`).

use crate::journal::identity::{IDENTITY_NAME, Identity};
use crate::sim::disk::{Image, SimDisk};
use crate::sim::faults::Kind;
use crate::sim::rng::Rng;
use crate::sim::simulation::Simulation;
use crate::types::ids::ReplicaId;
use crate::types::time::Moment;

use super::{Strikes, Undo};

/// The image of a disk, and what became of it.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) victim: ReplicaId,
    image: Image,
    /// How often the directory had been opened.
    openings: u64,
    /// Once it was put back: with this count, and any below, the directory is refused everywhere.
    known: Option<u64>,
    /// It was told, and knows that durably.
    told: bool,
}

impl Taken {
    /// Whether it was put back, so that each opening of this replica counts.
    pub(super) fn is_back(&self, id: ReplicaId) -> bool {
        self.victim == id && self.known.is_some()
    }
}

impl Strikes {
    /// Takes an image, or puts it back.
    pub(super) fn strike_image(
        &mut self,
        sim: &Simulation,
        id: ReplicaId,
        end: Moment,
        rng: &mut Rng,
    ) {
        let serves = |id: &ReplicaId| sim.report(*id).is_some_and(|report| report.view.is_some());
        let fits = self.ids.len() >= 3 && !self.damaged.is_used();
        if !fits || !self.ids.iter().all(|id| sim.is_up(*id) && serves(id)) {
            return;
        }
        let victim = self.taken.as_ref().map_or(id, |taken| taken.victim);
        let known = match &self.taken {
            Some(taken) if taken.known.is_some() => return,
            Some(taken) => match self.remembered(sim, victim) {
                // One opening before the end of the run, and one in the end.
                Some(known) if known >= taken.openings + 2 => Some(known),
                _ => return,
            },
            None => None,
        };
        let mut chance = rng.fork();
        sim.cut_power(victim, &mut |_| chance.per_mille(500));
        self.gone.push(victim);
        self.later(end, Undo::Open(victim));
        match (&mut self.taken, known) {
            (Some(taken), Some(_)) => {
                taken.known = known;
                sim.set_back(victim, &taken.image);
                self.count(Kind::SetBack);
            }
            _ => {
                let Some(openings) = openings(&sim.disk(victim)) else { return };
                let image = sim.disk(victim).image();
                self.taken = Some(Taken { victim, image, openings, known: None, told: false });
            }
        }
    }

    /// The opening of `victim` that everybody else remembers at least, durably.
    fn remembered(&self, sim: &Simulation, victim: ReplicaId) -> Option<u64> {
        let others = self.ids.iter().filter(|id| **id != victim);
        let sequences = others.map(|id| Some(sim.remembers(*id, victim)?.boot.sequence));
        sequences.min().flatten()
    }

    /// Whether the replica may be opened now. One that was set back, and was not told yet, is kept
    /// for the end where its next opening is the last that is known for what it is.
    pub(super) fn may_open(&self, sim: &Simulation, id: ReplicaId) -> bool {
        let Some(taken) = self.taken.as_ref().filter(|taken| taken.victim == id) else {
            return true;
        };
        let (Some(known), false) = (taken.known, taken.told || self.healed) else { return true };
        openings(&sim.disk(id)).is_some_and(|openings| openings + 2 <= known)
    }

    /// A replica was opened. One that says by itself that it lost its promise needs no reminder.
    pub(super) fn note_opened(&mut self, sim: &Simulation, id: ReplicaId) {
        self.closing.retain(|closing| *closing != id);
        if let Some(taken) = self.taken.as_mut().filter(|taken| taken.victim == id) {
            let report = sim.report(id);
            taken.told |= report.is_some_and(|report| report.doubts.promise_lost);
        }
    }
}

/// How often the directory on a disk was opened, if it was.
fn openings(disk: &SimDisk) -> Option<u64> {
    Some(Identity::decode(&disk.durable(IDENTITY_NAME)?).ok()?.boot.sequence)
}
