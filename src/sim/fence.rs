//! The identity fence in the simulation: who is let in, who is refused and told so, and directories
//! that are set back to an earlier state.
//!
//! A message stands for its connection: the gate of the receiver judges the hello that it bears.
//! Who is refused as set back learns it at once, as it does where it connects.
//!
//! * **F1, fence**: only a directory that was set back, or copied, is refused as such.

use crate::runtime::report::Report;
use crate::runtime::turn::Event;
use crate::transport::{Arrival, Refusal};
use crate::types::hello::Hello;
use crate::types::ids::{Boot, ReplicaId};
use crate::types::record::Sighting;

use super::checkers::Violation;
use super::disk::Image;
use super::links::Link;
use super::simulation::Simulation;
use super::trace::Note;
use super::world::World;

impl World {
    /// Whether the receiver of a link lets in who says this hello.
    pub(super) fn let_in(&mut self, link: Link, hello: &Hello) -> bool {
        let Some(life) = &mut self.machine_mut(link.to).life else { return false };
        let opening = (link.from, hello.boot);
        if life.stopped || life.admitted.contains(&opening) {
            return !life.stopped;
        }
        let mut met = None;
        let verdict = life.gate.admit(hello, |sighting| met = Some(sighting));
        if verdict.is_ok() {
            life.admitted.insert(opening);
        }
        if let Some(sighting) = met {
            self.turn(link.to, [Event::Met(sighting)]);
        }
        match verdict {
            Ok(()) => self.machine(link.to).life.as_ref().is_some_and(|life| !life.stopped),
            Err(refusal) => {
                self.refuse(link, hello.boot, &refusal);
                false
            }
        }
    }

    /// The connection from `peer` ended. That of a stranger is judged anew when it comes back: the
    /// gate lists those who are there.
    pub(super) fn note_down(&mut self, id: ReplicaId, peer: ReplicaId, arrival: &Arrival) {
        let Some(life) = &mut self.machine_mut(id).life else { return };
        let is_stranger = life.gate.strangers().iter().any(|stranger| stranger.id == peer);
        life.gate.note(arrival);
        if is_stranger {
            life.admitted.retain(|(from, _)| *from != peer);
        }
    }

    fn refuse(&mut self, link: Link, boot: Boot, refusal: &Refusal) {
        let Link { from, to } = link;
        self.counts.refused += 1;
        self.trace.note(self.now, Note::Refused, from.0, to.0);
        self.trace.line(self.now, || format!("{to} refuses {from}: {refusal:?}"));
        let life = self.machine(from).life.as_ref();
        let is_open = life.is_some_and(|life| life.hello.boot == boot);
        if *refusal != Refusal::Regressed || !is_open {
            return;
        }
        if !self.machine(from).was_set_back {
            let event = format!("{to} takes {from}, which is open, for a copy or an earlier state");
            self.judge(Err(Violation::new("F1", event)));
        }
        if !self.network.is_cut(Link { from: to, to: from }) {
            self.turn(from, [Event::Arrived(Arrival::Fenced { by: to })]);
        }
    }
}

impl Simulation {
    /// The disk of machine `id`, which is down, is set back to `image`, an earlier state of it.
    /// Whatever has it open has lost it.
    /// What the replica promised and voted for since is lost: it must not take part any more.
    pub fn set_back(&self, id: impl Into<ReplicaId>, image: &Image) {
        let (mut world, id) = self.at("set_back", id);
        world.machine(id).disk.restore(image);
        world.machine_mut(id).was_set_back = true;
        world.witness.set_back(id);
    }

    /// What was done to the disk of machine `id` may look as if it had been set back: F1 is not
    /// demanded of it.
    pub fn excuse_set_back(&self, id: impl Into<ReplicaId>) {
        self.machine("excuse_set_back", id).was_set_back = true;
    }

    /// Whether the disk of machine `id` was ever set back.
    #[must_use]
    pub fn was_set_back(&self, id: impl Into<ReplicaId>) -> bool {
        self.machine("was_set_back", id).was_set_back
    }

    /// Whether the disk of machine `id` was set back, and replica `id` was told: it takes part no
    /// more, and may be left behind.
    #[must_use]
    pub fn is_fenced(&self, id: impl Into<ReplicaId>) -> bool {
        let id = id.into();
        let knows = |report: Report| report.doubts.promise_lost && report.stopped.is_none();
        self.was_set_back(id) && self.report(id).is_some_and(knows)
    }

    /// What replica `id` remembers durably of a peer.
    #[must_use]
    pub fn remembers(&self, id: impl Into<ReplicaId>, peer: ReplicaId) -> Option<Sighting> {
        self.machine("remembers", id).life.as_ref()?.driver.remembers(peer)
    }
}
