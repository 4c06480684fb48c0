//! Where the world meets the checkers that see every event, besides the witness.
//!
//! Each checker is a file of its own in [`checkers`](super::checkers); here stands which event each
//! is told of, and when.

use std::collections::{BTreeMap, BTreeSet};

use crate::journal::checkpoint::{checkpoint_name, checkpoint_slot};
use crate::journal::identity::{IDENTITY_NAME, Identity};
use crate::runtime::requests::Answer;
use crate::runtime::turn::Event;
use crate::types::error::ErrorKind;
use crate::types::ids::{ReplicaId, Slot};
use crate::types::marks;
use crate::types::message::Message;
use crate::types::slots::SlotSet;

use super::checkers::doubts::{Causes, Doubted};
use super::checkers::kept::{Found, Kept};
use super::checkers::membership::{FirstMembership, check_known, check_serving};
use super::checkers::validity::Validity;
use super::checkers::{Violation, kept, names, overwrites, poison, served, twice};
use super::disk::Mount;
use super::durable::{Group, journal_from};
use super::rng::Rng;
use super::witness::Witness;
use super::world::{World, index};

/// The checkers that remember something.
#[derive(Debug, Default)]
pub(super) struct Judges {
    pub(super) validity: Validity,
    pub(super) doubted: Doubted,
    membership: FirstMembership,
    kept: Kept,
    /// What had happened to each disk when its replica was last opened.
    causes: BTreeMap<ReplicaId, Causes>,
    /// Groups that are synced, while one before them may not be. Of a replica that doubts nothing,
    /// without their frames.
    waiting: BTreeMap<ReplicaId, Vec<Group>>,
    /// The checkpoints that were looked at.
    checkpoints: BTreeMap<ReplicaId, BTreeSet<Slot>>,
    openings: u64,
    /// The messages that left, by sender and kind, while somebody wants to know.
    pub(super) sent: Option<BTreeMap<(ReplicaId, &'static str), u64>>,
}

impl Judges {
    /// A replica is about to take a turn with these events.
    pub(super) fn on_events(&mut self, events: &[Event<Mount>]) {
        for event in events {
            if let Event::Propose { command, .. } | Event::Resolve { command, .. } = event {
                self.validity.on_call(&command.bytes);
            }
            if let Event::Change { .. } = event {
                self.validity.on_change();
            }
        }
    }

    /// A message leaves a replica.
    pub(super) fn on_leave(
        &mut self,
        from: ReplicaId,
        message: &Message,
        witness: &Witness,
    ) -> Result<(), Violation> {
        if let Some(sent) = &mut self.sent {
            *sent.entry((from, message.name())).or_default() += 1;
        }
        if let Message::Accept(accept) = message {
            let mut slot = accept.first_slot;
            for entry in &accept.entries {
                self.validity.on_entry(from, slot, entry)?;
                slot = slot.next();
            }
        }
        served::check(from, message, witness)
    }

    /// Groups are written, and not synced yet.
    pub(super) fn on_written(&mut self, id: ReplicaId, groups: &[Group]) {
        for seen in groups.iter().flat_map(|group| &group.frames) {
            self.doubted.on_written(id, seen);
        }
    }

    /// An opening doubts this no more, and need not have voted there: what it was told by a leader
    /// had been written, though not synced.
    fn forget(&mut self, id: ReplicaId, found: &Found, settled: &SlotSet, witness: &mut Witness) {
        let mut settled = settled.clone();
        found.votes.iter().for_each(|(slot, _)| settled.remove_slot(*slot));
        for slots in settled.ranges() {
            self.doubted.forget(id, found.promised, *slots);
            witness.forget_cast(id, *slots, found.promised);
        }
    }

    /// A group is synced; the witness is told of it next.
    pub(super) fn on_synced(&mut self, id: ReplicaId, group: &Group) {
        let Group { first, end, slot_chosen, .. } = *group;
        let doubts = self.doubted.of(id).is_some();
        let frames = if doubts { group.frames.clone() } else { Vec::new() };
        let group = Group { first, end, slot_chosen, frames };
        self.waiting.entry(id).or_default().push(group);
    }

    /// The witness took in what is durable.
    pub(super) fn on_durable(
        &mut self,
        id: ReplicaId,
        witness: &mut Witness,
    ) -> Result<(), Violation> {
        let waiting = self.waiting.entry(id).or_default();
        let frontier = witness.frontier(id);
        if waiting.iter().all(|group| frontier < group.end) {
            return Ok(());
        }
        let mut durable = match waiting.iter().all(|group| group.end <= frontier) {
            true => std::mem::take(waiting),
            false => waiting.extract_if(.., |group| group.end <= frontier).collect::<Vec<_>>(),
        };
        durable.sort_by_key(|group| group.first);
        for group in durable {
            self.kept.on_durable(id, group.slot_chosen);
            for seen in &group.frames {
                for slots in self.doubted.on_durable(id, seen, witness)? {
                    witness.forget_cast(id, slots, witness.promised(id));
                }
            }
        }
        Ok(())
    }
}

impl World {
    /// Work on a disk succeeded: these groups are synced; or, without any, there may be a
    /// checkpoint.
    pub(super) fn judge_done(&mut self, id: ReplicaId, groups: Vec<Group>) {
        if groups.is_empty() {
            self.judge_checkpoints(id);
        }
        for group in groups {
            self.trace.line(self.now, || format!("{id} synced {:?}", group.frames));
            self.judges.on_synced(id, &group);
            let result = self.witness.on_durable(id, group);
            self.judge(result);
            let result = self.judges.on_durable(id, &mut self.witness);
            self.judge(result);
        }
    }

    /// A write of a replica ended, with its sync.
    pub(super) fn judge_write(&mut self, id: ReplicaId) {
        let seen = self.machine(id).disk.take_overwritten();
        self.judge(overwrites::check(id, &seen, false));
    }

    /// Looks at the checkpoints that are new.
    fn judge_checkpoints(&mut self, id: ReplicaId) {
        let disk = self.machine(id).disk.clone();
        let looked_at = self.judges.checkpoints.entry(id).or_default();
        let new: Vec<_> = disk.with_durable_names(|names| {
            let slots = names.filter_map(|name| checkpoint_slot(name));
            slots.filter(|slot| looked_at.insert(*slot)).collect()
        });
        for slot in new {
            let from = disk.durable(&checkpoint_name(slot)).and_then(|bytes| journal_from(&bytes));
            let result = self.witness.on_checkpoint(id, from.unwrap_or_default());
            self.judge(result);
        }
    }

    /// A lease that is granted outlives whatever may happen to the disk.
    pub(super) fn judge_grant(&mut self, id: ReplicaId, message: &Message) {
        if let Message::Granted { millis, .. } = message {
            let durable = self.machine(id).disk.durable_names();
            self.judge(names::check_granted(id, *millis, &durable));
        }
    }

    /// A replica is about to be opened, on what was left of its disk.
    pub(super) fn judge_left(&mut self, id: ReplicaId) {
        self.judges.openings += 1;
        let machine = self.machine(id);
        let (disk, options) = (machine.disk.clone(), machine.settings.journal);
        let who = machine.settings.driver.id;
        drop((disk.take_overwritten(), disk.take_after_failure()));
        self.judge(disk.with_names(|names| names::check_left(id, names)));
        let mut chance = Rng::new(self.now.0 ^ self.judges.openings << 48);
        if chance.below(TWICE_ONE_IN) == 0 {
            let cut = chance.next_u64();
            let twice = || twice::check(who, &disk.image(), options, cut);
            self.judge(marks::unmarked(twice));
        }
    }

    /// A replica was opened, or was not.
    pub(super) fn judge_opened(&mut self, id: ReplicaId, opened: bool) {
        let disk = self.machine(id).disk.clone();
        self.judge(overwrites::check(id, &disk.take_overwritten(), true));
        self.judge(poison::check(id, &disk.take_after_failure()));
        if opened {
            self.judge(disk.with_names(|names| names::check_opened(id, names)));
            let report = self.machine(id).life.as_ref().map(|life| life.driver.report());
            let missing = report.and_then(|report| report.repair?.first);
            let damaged = Causes::of(&disk.fired()).damaged > 0;
            self.judge(kept::check_whole(id, missing, damaged));
        }
    }

    /// What an opening, or the end of formation, wrote by itself, and what it found.
    pub(super) fn witness_opening(&mut self, id: ReplicaId) {
        let machine = &self.machines[index(id)];
        let Some(life) = &machine.life else { return };
        let groups = machine.groups_begun();
        let joins = machine.settings.driver.join.is_some();
        let membership = life.driver.membership().cloned();
        let (Some(membership), Some(view)) = (membership, life.driver.view()) else { return };
        let causes = Causes::of(&machine.disk.fired());
        let before = self.judges.causes.insert(id, causes).unwrap_or_default();
        let since = causes.since(before);
        let found = Found {
            promised: view.promised,
            slot_chosen: view.slot_chosen,
            votes: life.driver.votes(),
            doubts: life.driver.report().doubts,
        };
        // Who was set back has lost what it had, and may not know. To open such a disk is a mistake
        // that peers notice, not the replica.
        let (set_back, damaged) = (since.set_back > 0, causes.damaged > 0);
        self.judges.waiting.remove(&id);
        let doubts = (&found.doubts, found.slot_chosen);
        let settled = self.judges.doubted.on_opened(id, doubts, (since, causes));
        let settled = settled.map(|settled| {
            self.judges.forget(id, &found, &settled, &mut self.witness);
        });
        let result = settled
            .and_then(|()| self.judges.membership.on_formed(id, &membership, joins))
            .and_then(|()| match set_back {
                true => {
                    self.judges.kept.set_back(id);
                    Ok(())
                }
                false => self.judges.kept.on_opened(id, &found, damaged, &self.witness),
            })
            .and_then(|()| self.witness.form(id, &membership))
            .and_then(|()| self.witness.on_opened(id, &groups, &found.votes));
        self.judge(result);
        // What is written since may be behind one that came before the core began.
        self.judges.checkpoints.remove(&id);
        self.judge_checkpoints(id);
    }

    /// Keeps what a replica may forget soon, of what is new.
    pub(super) fn keep_history(&mut self, id: ReplicaId) {
        let Some(life) = &self.machines[index(id)].life else { return };
        let (store, reader) = (life.driver.store(), life.driver.reader());
        let end = life.driver.slot_checkpointed();
        while (self.archive.len() as u64) < end.0 {
            let slot = Slot(self.archive.len() as u64);
            let read = reader.read(slot, slot.next(), 0).ok().and_then(|mut read| read.pop());
            // Another one may have it, where it rotted here.
            let Some(kept) = read.zip(store.outcome(slot)) else { return };
            self.archive.push(kept);
        }
    }

    /// A replica took a turn: whether it knows who decides in its next slot.
    pub(super) fn judge_membership(&mut self, id: ReplicaId) {
        let Some(life) = &self.machines[index(id)].life else { return };
        let (Some(view), Some(known)) = (life.driver.view(), life.driver.members()) else { return };
        let chosen = self.witness.governing(view.slot_chosen);
        let result = check_known(id, view.slot_chosen, (known, chosen), view.role);
        self.judge(result);
    }

    /// A replica stopped by itself.
    pub(super) fn on_stopped(&mut self, id: ReplicaId) {
        let machine = &mut self.machines[index(id)];
        let fired = machine.disk.fired().total();
        // What was handed out before it knew of a failure may have been done.
        drop(machine.disk.take_after_failure());
        let life = machine.life.as_mut().expect("it took a turn");
        life.stopped = true;
        life.flights.clear();
        let Some(err) = life.driver.report().stopped else { return };
        // A mistake of its own, or a log that differs, has no source below it.
        let failed = std::error::Error::source(&err).is_some();
        let removed = life.driver.members().is_some_and(|known| known.removed().contains(&id));
        // Whoever is no member any more is not asked before an upgrade.
        let newest = self.witness.governing(Slot(u64::MAX));
        let left = newest.is_some_and(|newest| newest.member(id).is_none());
        let excused = failed && fired > life.faults_before
            || removed && err.kind() == ErrorKind::Removed
            || left && err.kind() == ErrorKind::Outdated;
        self.trace.line(self.now, || format!("{id} stopped: {err}"));
        if err.kind() == ErrorKind::Closed {
            return;
        }
        self.counts.poisoned += u64::from(!removed);
        if !excused {
            self.judge(Err(Violation::new("S1", format!("{id} stopped without a reason: {err}"))));
        }
    }

    /// A caller is answered.
    pub(super) fn judge_answer(&mut self, answer: &Answer) {
        if let Answer::Membership(_, Ok(membership)) = answer {
            let result = self.witness.on_told(membership);
            self.judge(result);
        }
    }

    /// A turn ends. Whether nothing but time led to it, and it `wants_another` at once: that may
    /// be; twice in a row, and turns follow one another until something happens.
    pub(super) fn judge_rest(&mut self, id: ReplicaId, wants_another: bool) {
        let Some(life) = &mut self.machine_mut(id).life else { return };
        let was_due = std::mem::replace(&mut life.turn_due, wants_another);
        if was_due && life.turn_due {
            let message = format!("{id} takes one turn after another, and nothing happens");
            self.judge(Err(Violation::new("S2", message)));
        }
    }

    /// Whoever called a replica that stopped closes it, as `Engine::end` does it.
    pub(super) fn release(&mut self, id: ReplicaId) {
        if let Some(life) = &mut self.machine_mut(id).life {
            // One that has not stopped keeps it, and is judged by that.
            let _ = life.driver.release();
        }
    }

    /// A replica is about to die.
    pub(super) fn judge_end(&mut self, id: ReplicaId) {
        let machine = self.machine(id);
        let Some(life) = &machine.life else { return };
        if life.stopped {
            let tried = machine.disk.take_after_failure();
            self.judge(poison::check(id, &tried));
        } else if life.driver.view().is_some() {
            let identity = machine.disk.durable(IDENTITY_NAME);
            let identity = identity.and_then(|bytes| Identity::decode(&bytes).ok());
            self.judge(check_serving(id, identity.map(|identity| identity.formed)));
        }
    }
}

/// Of so many openings, one is tried on a copy of the disk several times before.
const TWICE_ONE_IN: u64 = 64;
