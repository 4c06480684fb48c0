//! Checkpoints that are asked for, and such as rot.
//!
//! Of the checkpoints of one replica only one is ever damaged at a time, as long as it is there:
//! that must cost nothing but time.

use crate::journal::checkpoint::checkpoint_slot;
use crate::sim::faults::Kind;
use crate::sim::rng::Rng;
use crate::sim::simulation::Simulation;
use crate::types::ids::ReplicaId;
use crate::types::time::Moment;

use super::{Strikes, Undo};

impl Strikes {
    /// A replica is asked for a checkpoint, whatever else goes on.
    pub(super) fn ask_for_checkpoint(&mut self, sim: &Simulation, id: ReplicaId) {
        if sim.is_up(id) {
            self.count(Kind::Checkpoint);
            drop(sim.replica(id).checkpoint());
        }
    }

    /// One of two checkpoints is damaged; and soon the replica is opened anew.
    pub(super) fn strike_checkpoint(
        &mut self,
        sim: &Simulation,
        id: ReplicaId,
        end: Moment,
        rng: &mut Rng,
    ) {
        let disk = sim.disk(id);
        let mut names = disk.durable_names();
        names.retain(|name| checkpoint_slot(name).is_some());
        names.sort();
        self.rotten.retain(|(of, name)| *of != id || names.contains(name));
        let is_rotten = self.rotten.iter().any(|(of, _)| *of == id);
        // Who is set back counts as lost for good; what it meets then is looked at closely.
        if names.len() < 2 || is_rotten || self.taken.is_some() {
            return;
        }
        let name = if rng.per_mille(800) { names.pop() } else { names.into_iter().next() };
        let Some(name) = name else { return };
        let length = disk.durable_length(&name).unwrap_or_default().max(1) as u64;
        let at = rng.below(length) as usize;
        let damaged = match rng.below(4) {
            0 => disk.flip(&name, at, 1 << rng.below(8)),
            1 => disk.zero(&name, at..at + rng.within(1..=5000) as usize),
            2 => disk.truncate(&name, at),
            _ => disk.make_unreadable(&name, at..at + 1),
        };
        if !damaged {
            return;
        }
        self.count(Kind::CheckpointRot);
        self.rotten.insert((id, name));
        if sim.is_up(id) {
            sim.crash(id);
            self.gone.push(id);
            self.later(end, Undo::Open(id));
        }
    }
}
