//! Carrying out the faults of a swarm, and taking them back after a while.
//!
//! Safety is owed whatever happens here. So that the cluster comes together in the end, every fault
//! has an end: a link that is cut is mended, a machine that is down is switched on. What a fault
//! does to a replica that is down, or is hit already, is nothing, and is not counted.

mod checkpoint;
mod disk;
mod image;
mod network;
mod power;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::time::Duration;

use crate::types::error::ErrorKind;
use crate::types::ids::ReplicaId;
use crate::types::membership::Membership;
use crate::types::time::Moment;

use super::checkers::Violation;
use super::churn::NEXT;
use super::faults::{Kind, Planned};
use super::leases::Lengths;
use super::machine::DiskSpeed;
use super::network::RuleId;
use super::rng::Rng;
use super::rot::Damaged;
use super::simulation::Simulation;

use image::Taken;

/// The faults under way.
pub(super) struct Strikes {
    ids: Vec<ReplicaId>,
    /// What is to be done, and when.
    undos: BinaryHeap<Reverse<(Moment, u64, Undo)>>,
    numbers: u64,
    fired: BTreeMap<&'static str, u64>,
    /// Replicas that died since the last look.
    gone: Vec<ReplicaId>,
    damaged: Damaged,
    /// Checkpoints that were damaged.
    rotten: BTreeSet<(ReplicaId, String)>,
    /// Replicas that stopped since they were removed, and were opened again.
    leaving: Vec<ReplicaId>,
    /// Replicas that were asked to close, and were not opened since.
    closing: Vec<ReplicaId>,
    /// The image of a disk, once one was taken in this run.
    taken: Option<Taken>,
    /// Whether a machine that stands still may sleep: its timers stand still, too.
    suspends: bool,
    /// The leases that replicas are opened with, where these differ.
    lengths: Option<Lengths>,
    /// Everything was taken back: from now on nothing excuses a refusal.
    healed: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Undo {
    Open(ReplicaId),
    Mend(Vec<(ReplicaId, ReplicaId)>),
    Flap(ReplicaId, ReplicaId, u64),
    Release(u64, u64),
    Resume(ReplicaId),
    ResumeDisk(ReplicaId),
    DiskSpeed(ReplicaId),
    ClockRate(ReplicaId),
    Disarm(ReplicaId),
    Room(ReplicaId),
    /// Who loses power, when it is back, and the seed of what survives.
    CutPower(Kind, Vec<ReplicaId>, Moment, u64),
    /// Who dies or is cut off, and the seed of how.
    Interrupt(ReplicaId, u64),
    /// A replica that stopped by itself is switched off and on.
    Look,
}

impl Strikes {
    pub(super) fn new(ids: Vec<ReplicaId>) -> Self {
        let mut strikes = Self {
            ids,
            undos: BinaryHeap::new(),
            numbers: 0,
            fired: BTreeMap::new(),
            gone: Vec::new(),
            damaged: Damaged::default(),
            rotten: BTreeSet::new(),
            leaving: Vec::new(),
            closing: Vec::new(),
            taken: None,
            suspends: false,
            lengths: None,
            healed: false,
        };
        strikes.later(Moment::ZERO + LOOK_EVERY, Undo::Look);
        strikes
    }

    /// Whether machines may sleep.
    pub(super) fn suspend(&mut self, suspends: bool) {
        self.suspends = suspends;
    }

    /// Replicas are opened with other leases than before.
    pub(super) fn exchange_leases(&mut self, lengths: Option<Lengths>) {
        self.lengths = lengths;
    }

    /// Whom faults hit: all that were opened, and have not left for good.
    pub(super) fn ids(&self) -> &[ReplicaId] {
        &self.ids
    }

    /// From now on, faults hit this one, too.
    pub(super) fn hit_also(&mut self, id: ReplicaId) {
        self.ids.push(id);
    }

    /// In the middle of what this one was asked for, it dies or is cut off.
    pub(super) fn interrupt(&mut self, id: ReplicaId, at: Moment, seed: u64) {
        self.later(at, Undo::Interrupt(id, seed));
    }

    /// This one is switched off, if it is on, and on again.
    pub(super) fn restart(&mut self, sim: &Simulation, id: ReplicaId) {
        if sim.report(id).is_some() {
            sim.crash(id);
            self.gone.push(id);
            self.later(sim.now() + LOOK_EVERY, Undo::Open(id));
        }
    }

    /// These are switched off for good.
    pub(super) fn retire(&mut self, sim: &Simulation, ids: &[ReplicaId]) {
        self.ids.retain(|id| !ids.contains(id));
        for id in ids.iter().filter(|id| sim.report(**id).is_some()) {
            sim.crash(*id);
            self.gone.push(*id);
        }
    }

    /// The faults that acted, but those of the disks.
    pub(super) fn fired(&self) -> &BTreeMap<&'static str, u64> {
        &self.fired
    }

    /// The replicas that died since the last call.
    pub(super) fn take_gone(&mut self) -> Vec<ReplicaId> {
        std::mem::take(&mut self.gone)
    }

    /// When something is to be taken back.
    pub(super) fn next(&self) -> Option<Moment> {
        self.undos.peek().map(|Reverse((at, _, _))| *at)
    }

    /// The replica is opened at that time, if it is down.
    pub(super) fn open_later(&mut self, id: ReplicaId, at: Moment) {
        self.later(at, Undo::Open(id));
    }

    fn later(&mut self, at: Moment, undo: Undo) {
        self.numbers += 1;
        self.undos.push(Reverse((at, self.numbers, undo)));
    }

    fn count(&mut self, kind: Kind) {
        *self.fired.entry(kind.name()).or_default() += 1;
    }

    /// A fault of the plan happens.
    pub(super) fn strike(&mut self, sim: &Simulation, fault: &Planned) -> Result<(), Violation> {
        let mut rng = Rng::new(fault.seed);
        let id = *rng.pick(&self.ids);
        let end = sim.now() + rng.time(Duration::from_millis(50)..=Duration::from_secs(12));
        match fault.kind {
            Kind::CutLink
            | Kind::Isolate
            | Kind::Deafen
            | Kind::Mute
            | Kind::Partition
            | Kind::Clog
            | Kind::Flap
            | Kind::Reorder
            | Kind::Replay
            | Kind::CorruptFrame => self.strike_network(sim, fault.kind, id, end, &mut rng),
            Kind::Crash | Kind::PowerCut | Kind::Blackout | Kind::CloseAndOpen => {
                self.strike_process(sim, fault.kind, id, end, &mut rng)
            }
            Kind::HandOver => self.strike_leader(sim, id),
            Kind::Checkpoint => self.ask_for_checkpoint(sim, id),
            Kind::CheckpointRot => self.strike_checkpoint(sim, id, end, &mut rng),
            Kind::CrashInOpening => self.strike_opening(sim, id, end, &mut rng)?,
            Kind::Pause
            | Kind::DiskStall
            | Kind::SlowDisk
            | Kind::ClockDrift
            | Kind::ClockStall
            | Kind::ClockJump
            | Kind::ClockBack
            | Kind::Calendar => self.strike_machine(sim, fault.kind, id, end, &mut rng),
            Kind::BitRot | Kind::Zeroed | Kind::Unreadable | Kind::Swapped | Kind::TailRot => {
                self.strike_medium(sim, fault.kind, id, end, &mut rng);
            }
            Kind::SetBack => self.strike_image(sim, id, end, &mut rng),
            _ => self.strike_disk(sim, fault.kind, id, end, &mut rng),
        }
        Ok(())
    }

    fn strike_process(
        &mut self,
        sim: &Simulation,
        kind: Kind,
        id: ReplicaId,
        end: Moment,
        rng: &mut Rng,
    ) {
        let hit = if kind == Kind::Blackout { self.ids.clone() } else { vec![id] };
        let hit = hit.into_iter().filter(|id| sim.is_up(*id)).collect::<Vec<_>>();
        if hit.is_empty() {
            return;
        }
        if matches!(kind, Kind::PowerCut | Kind::Blackout) {
            return self.strike_power(sim, kind, hit, end, rng);
        }
        self.count(kind);
        for id in hit {
            if kind == Kind::CloseAndOpen && rng.per_mille(500) {
                // It takes its time, and is opened again when somebody looks.
                sim.begin_close(id, Duration::from_secs(5));
                self.closing.push(id);
                continue;
            }
            if kind == Kind::CloseAndOpen {
                sim.close_now(id);
            }
            sim.crash(id);
            self.gone.push(id);
            let at = end + rng.time(Duration::ZERO..=Duration::from_secs(1));
            self.later(at, Undo::Open(id));
        }
    }

    /// Whoever leads is asked to let `to` lead.
    fn strike_leader(&mut self, sim: &Simulation, to: ReplicaId) {
        if let Some(leader) = sim.leader().filter(|leader| *leader != to) {
            self.count(Kind::HandOver);
            drop(sim.replica(leader).transfer_leadership(to));
        }
    }

    /// The power goes in the middle of an opening, and perhaps in the middle of the next one.
    fn strike_opening(
        &mut self,
        sim: &Simulation,
        id: ReplicaId,
        end: Moment,
        rng: &mut Rng,
    ) -> Result<(), Violation> {
        if sim.is_up(id) {
            let mut chance = rng.fork();
            sim.cut_power(id, &mut |_| chance.per_mille(500));
            self.gone.push(id);
        } else if sim.report(id).is_some() {
            return Ok(());
        }
        let is_back = self.taken.as_ref().is_some_and(|taken| taken.is_back(id));
        // Who was set back must meet somebody before too many of them.
        let openings = rng.within(1..=3) * u64::from(!is_back);
        for _ in 0..openings {
            let disk = sim.disk(id);
            disk.stop_at(disk.boundaries() + rng.within(0..=30));
            self.exchange_lease(sim, id);
            if sim.lock().open(id) {
                // It came through. What it wrote since is as good as anything.
                self.gone.push(id);
            }
            sim.cut_power(id, &mut power::survival(rng));
            self.count(Kind::CrashInOpening);
        }
        self.later(end, Undo::Open(id));
        Ok(())
    }

    fn strike_machine(
        &mut self,
        sim: &Simulation,
        kind: Kind,
        id: ReplicaId,
        end: Moment,
        rng: &mut Rng,
    ) {
        if !sim.is_up(id) {
            return;
        }
        self.count(kind);
        let jump = rng.time(Duration::from_millis(100)..=Duration::from_secs(3600));
        match kind {
            Kind::Pause => {
                sim.pause(id);
                self.later(end, Undo::Resume(id));
                if self.suspends && rng.per_mille(500) {
                    sim.change_clock(id, |clock, now| clock.set_rate(now, 0));
                    self.later(end, Undo::ClockRate(id));
                }
            }
            Kind::DiskStall => {
                sim.pause_disk(id);
                self.later(end, Undo::ResumeDisk(id));
            }
            Kind::SlowDisk => {
                let slow = (Duration::from_millis(5), Duration::from_millis(rng.within(20..=800)));
                sim.set_disk_speed(id, DiskSpeed { sync: slow, straggle: 0 });
                self.later(end, Undo::DiskSpeed(id));
            }
            Kind::ClockDrift => {
                let rate = rng.within(900..=1100);
                sim.change_clock(id, |clock, now| clock.set_rate(now, rate));
                self.later(end, Undo::ClockRate(id));
            }
            Kind::ClockStall => {
                sim.change_clock(id, |clock, now| clock.set_rate(now, 0));
                self.later(end, Undo::ClockRate(id));
            }
            Kind::ClockJump => sim.change_clock(id, |clock, _| clock.jump(jump)),
            Kind::ClockBack => sim.change_clock(id, |clock, now| clock.jump_back(now, jump / 100)),
            _ => {
                let years = 10 * 366 * 24 * 3600 * 1000;
                let millis = rng.below(2 * years) as i64 - years as i64;
                sim.change_clock(id, |clock, _| clock.step_calendar(millis));
            }
        }
    }

    // Taking back.

    /// Does what is due.
    pub(super) fn undo_due(&mut self, sim: &Simulation) -> Result<(), Violation> {
        while let Some(Reverse((at, _, _))) = self.undos.peek()
            && *at <= sim.now()
            && let Some(Reverse((_, _, undo))) = self.undos.pop()
        {
            self.undo(sim, undo)?;
        }
        Ok(())
    }

    fn undo(&mut self, sim: &Simulation, undo: Undo) -> Result<(), Violation> {
        match undo {
            Undo::Open(id) => self.open(sim, id)?,
            Undo::Mend(pairs) => pairs.into_iter().for_each(|(from, to)| sim.mend(from, to)),
            Undo::Flap(from, to, left) => {
                let cut = left % 2 == 0 && left > 0;
                if cut {
                    sim.cut(from, to)
                } else {
                    sim.mend(from, to)
                }
                if left > 0 {
                    let at = sim.now() + Duration::from_millis(100);
                    self.later(at, Undo::Flap(from, to, left - 1));
                }
            }
            Undo::Release(rule, seed) => {
                let mut rng = Rng::new(seed);
                sim.release_in(RuleId(rule), |parcels| {
                    for index in (1..parcels.len()).rev() {
                        parcels.swap(index, rng.below(index as u64 + 1) as usize);
                    }
                });
            }
            Undo::Resume(id) => sim.resume(id),
            Undo::ResumeDisk(id) => sim.resume_disk(id),
            Undo::DiskSpeed(id) => sim.set_disk_speed(id, DiskSpeed::default()),
            Undo::ClockRate(id) => sim.change_clock(id, |clock, now| clock.set_rate(now, 1000)),
            Undo::Disarm(id) => sim.disk(id).disarm(),
            Undo::Room(id) => sim.disk(id).set_room(None),
            Undo::CutPower(kind, hit, end, seed) => {
                self.cut_power(sim, (kind, &hit), end, seed);
            }
            Undo::Interrupt(id, seed) => {
                let mut rng = Rng::new(seed);
                let end = sim.now() + rng.time(Duration::from_millis(50)..=Duration::from_secs(6));
                match *rng.pick(&[Kind::Crash, Kind::Isolate, Kind::Mute, Kind::Deafen]) {
                    Kind::Crash => self.strike_process(sim, Kind::Crash, id, end, &mut rng),
                    kind => self.strike_network(sim, kind, id, end, &mut rng),
                }
            }
            Undo::Look => {
                self.look(sim);
                self.later(sim.now() + LOOK_EVERY, Undo::Look);
            }
        }
        Ok(())
    }

    /// An operator looks: what stopped by itself is switched off, and on a little later.
    fn look(&mut self, sim: &Simulation) {
        self.damaged.look(sim);
        for id in self.ids.clone() {
            let Some(report) = sim.report(id).filter(|_| !sim.is_up(id)) else { continue };
            if report.stopped.as_ref().is_some_and(|err| err.kind() == ErrorKind::Removed) {
                self.look_at_removed(sim, id);
            } else {
                if report.stopped.is_some_and(|err| err.kind() == ErrorKind::Outdated) {
                    sim.change_settings(id, |settings| settings.driver.knows = NEXT);
                }
                self.restart(sim, id);
            }
        }
    }

    /// Who left is opened once more, since somebody did not know that it has left; and again, until
    /// one that leads knows. It stops again, and stays so: it may be the only one that could tell.
    fn look_at_removed(&mut self, sim: &Simulation, id: ReplicaId) {
        let membership = |leader| sim.report(leader).and_then(|report| report.membership);
        let is_gone = |members: Membership| members.removed().contains(&id);
        if self.leaving.contains(&id) {
            if sim.leader().and_then(membership).is_some_and(is_gone) {
                return self.retire(sim, &[id]);
            }
        } else {
            self.leaving.push(id);
        }
        sim.crash(id);
        self.gone.push(id);
        self.later(sim.now() + 10 * LOOK_EVERY, Undo::Open(id));
    }

    /// Switches a replica on. Where it does not open for a reason, that is tried again.
    fn open(&mut self, sim: &Simulation, id: ReplicaId) -> Result<(), Violation> {
        if sim.report(id).is_some() || !self.ids.contains(&id) {
            return Ok(());
        }
        if !self.may_open(sim, id) {
            self.later(sim.now() + Duration::from_secs(5), Undo::Open(id));
            return Ok(());
        }
        let before = sim.disk(id).fired().total();
        self.exchange_lease(sim, id);
        if sim.lock().open(id) {
            self.note_opened(sim, id);
            return Ok(());
        }
        let fired = sim.disk(id).fired().total() - before;
        if self.healed || fired == 0 {
            let why = sim.refusal(id).unwrap_or_default();
            return Err(Violation::new("D1", format!("{id} does not open: {why}")));
        }
        sim.crash(id);
        self.later(sim.now() + Duration::from_secs(1), Undo::Open(id));
        Ok(())
    }

    fn exchange_lease(&mut self, sim: &Simulation, id: ReplicaId) {
        if let Some(lengths) = &mut self.lengths {
            lengths.exchange(sim, id);
        }
    }

    /// Takes everything back, now.
    pub(super) fn heal(&mut self, sim: &Simulation) -> Result<(), Violation> {
        self.undos.clear();
        for id in self.ids.clone() {
            sim.disk(id).disarm();
            sim.disk(id).set_room(None);
            sim.set_disk_speed(id, DiskSpeed::default());
            sim.change_clock(id, |clock, now| clock.mend(now));
            sim.resume(id);
            sim.resume_disk(id);
        }
        // Whoever still closes would serve nobody, and not be looked at before it has ended.
        for id in std::mem::take(&mut self.closing) {
            sim.crash(id);
            self.gone.push(id);
        }
        self.look(sim);
        self.healed = true;
        for id in self.ids.clone() {
            self.open(sim, id)?;
        }
        self.undos.clear();
        self.later(sim.now() + LOOK_EVERY, Undo::Look);
        Ok(())
    }
}

const LOOK_EVERY: Duration = Duration::from_millis(700);
