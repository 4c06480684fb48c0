//! What strikes a disk: operations that fail, and media that rot.

use std::time::Duration;

use crate::sim::disk::{SyncFailure, When};
use crate::sim::faults::Kind;
use crate::sim::rng::Rng;
use crate::sim::simulation::Simulation;
use crate::types::ids::ReplicaId;
use crate::types::time::Moment;

use super::{Strikes, Undo};

impl Strikes {
    /// Something rots. The replica goes on until it reads it, or is opened anew.
    pub(super) fn strike_medium(
        &mut self,
        sim: &Simulation,
        kind: Kind,
        id: ReplicaId,
        end: Moment,
        rng: &mut Rng,
    ) {
        // Who is set back counts as lost for good.
        if self.taken.is_some() || !self.damaged.strike(sim, kind, id, rng) {
            return;
        }
        if kind == Kind::TailRot {
            self.count(kind);
        }
        if sim.is_up(id) && rng.per_mille(500) {
            return;
        }
        sim.crash(id);
        self.gone.push(id);
        self.later(end, Undo::Open(id));
    }

    /// The next operations of a disk fail. What acts is counted by the disk.
    pub(super) fn strike_disk(
        &mut self,
        sim: &Simulation,
        kind: Kind,
        id: ReplicaId,
        end: Moment,
        rng: &mut Rng,
    ) {
        let disk = sim.disk(id);
        let when = When::after(rng.below(6));
        match kind {
            Kind::WriteFails => disk.fail_write(when, 0),
            Kind::WriteFailsPartly => disk.fail_write(when, rng.within(1..=8192) as usize),
            Kind::SyncFailsKeep => disk.fail_sync(when, SyncFailure::Keep),
            Kind::SyncFailsRevert => disk.fail_sync(when, SyncFailure::Revert),
            Kind::RenameFails => disk.fail_rename(When::NEXT),
            Kind::DirectorySyncFails => disk.fail_directory_sync(When::NEXT, SyncFailure::Keep),
            Kind::CreateFails => disk.fail_create(When::NEXT),
            Kind::OpenFails => disk.fail_open(When::NEXT),
            Kind::ListFails => disk.fail_list(When::NEXT),
            Kind::RemoveFails => disk.fail_remove(When::NEXT),
            Kind::NoSpace => {
                disk.set_room(Some(rng.below(100_000)));
                return self.later(end, Undo::Room(id));
            }
            _ => disk.shorten_read(when, rng.below(4096) as usize),
        }
        let on_opening = matches!(
            kind,
            Kind::RenameFails
                | Kind::DirectorySyncFails
                | Kind::CreateFails
                | Kind::OpenFails
                | Kind::ListFails
                | Kind::RemoveFails
                | Kind::ShortRead
        );
        if on_opening && sim.is_up(id) {
            sim.crash(id);
            self.gone.push(id);
            self.later(sim.now() + Duration::from_millis(500), Undo::Open(id));
        }
        self.later(end, Undo::Disarm(id));
    }
}
