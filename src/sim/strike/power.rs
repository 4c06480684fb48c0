//! Cuts of power: of one machine or of all, at any moment or while its disk hangs, and what of
//! that which was not synced is there when the power is back.
//!
//! A disk that hangs before the power goes has more under way than one that works: groups that are
//! torn on several machines at once, and later writes that survive earlier ones.

use std::time::Duration;

use crate::sim::disk::{Piece, PieceKind};
use crate::sim::faults::Kind;
use crate::sim::rng::Rng;
use crate::sim::simulation::Simulation;
use crate::types::ids::ReplicaId;
use crate::types::time::Moment;

use super::{Strikes, Undo};

impl Strikes {
    /// The machines lose power, at once or after their disks hung for a while.
    pub(super) fn strike_power(
        &mut self,
        sim: &Simulation,
        kind: Kind,
        hit: Vec<ReplicaId>,
        end: Moment,
        rng: &mut Rng,
    ) {
        let seed = rng.next_u64();
        if rng.per_mille(500) {
            return self.cut_power(sim, (kind, &hit), end, seed);
        }
        hit.iter().for_each(|id| sim.pause_disk(*id));
        let at = sim.now() + rng.time(Duration::from_millis(5)..=Duration::from_millis(600));
        self.later(at, Undo::CutPower(kind, hit, end.max(at), seed));
    }

    /// The power goes.
    pub(super) fn cut_power(
        &mut self,
        sim: &Simulation,
        (kind, hit): (Kind, &[ReplicaId]),
        end: Moment,
        seed: u64,
    ) {
        let mut rng = Rng::new(seed);
        let hit = hit.iter().copied().filter(|id| sim.is_up(*id)).collect::<Vec<_>>();
        if hit.is_empty() {
            return;
        }
        self.count(kind);
        for id in hit {
            sim.cut_power(id, &mut survival(&mut rng));
            self.gone.push(id);
            let at = end + rng.time(Duration::ZERO..=Duration::from_secs(1));
            self.later(at, Undo::Open(id));
        }
    }
}

/// What survives: any pieces, whole writes, or nothing but the lengths of files.
pub(super) fn survival(rng: &mut Rng) -> impl FnMut(&Piece<'_>) -> bool + use<> {
    // From nothing survives to all does.
    let share = *rng.pick(&[0, 100, 500, 900, 1000]);
    let way = rng.below(10);
    let mut chance = rng.fork();
    let salt = chance.next_u64();
    move |piece| match (way, &piece.kind) {
        (0..=5, _) => chance.per_mille(share),
        (6..=8, _) => Rng::new(salt ^ piece.number).per_mille(500),
        (_, PieceKind::Length(_) | PieceKind::Name | PieceKind::OldName) => true,
        (_, PieceKind::Bytes(_)) => false,
    }
}
