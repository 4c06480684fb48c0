//! A cluster under simulation, in the caller's hands: whatever can happen to it, step by step.
//!
//! Every method does one thing at the present moment; time passes only in [`Simulation::run_for`],
//! [`Simulation::run_until`], and where a caller waits for an answer. A method that is told of a
//! replica that is not there panics, and says which method was called; so does one that is called
//! while another is under way, from a closure that this one was given or from a second thread.

use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use parking_lot::{MappedMutexGuard, Mutex, MutexGuard};

use crate::replica::Replica;
use crate::runtime::report::{Report, Unfinished};
use crate::runtime::turn::Event;
use crate::types::ids::{ReplicaId, Slot};
use crate::types::limits::VOTERS_MAX;
use crate::types::time::Moment;

use super::calls;
use super::checkers::Violation;
use super::clock::LocalClock;
use super::disk::SimDisk;
use super::exclusive;
use super::links::Link;
use super::machine::{DiskSpeed, Machine, Settings};
use super::network::{Fate, Parcel, RuleId, Weather};
use super::plan::Plan;
use super::rng::Rng;
use super::world::{Counts, World};

/// A cluster under simulation. See the [module](super) for an example.
///
/// The replicas are the shipped ones: driver, protocol core, journal and store. Disks, clocks and
/// the network are simulated. From the first event on, everything is checked against what is
/// durable; the first violation ends the simulation with a panic that names it.
pub struct Simulation {
    seed: u64,
    world: Arc<Mutex<World>>,
}

impl Simulation {
    /// Three replicas on blank disks, all opened, on a good network.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let simulation = Self::switched_off(seed, &Plan::default());
        for id in simulation.ids() {
            assert!(simulation.open(id), "a blank disk can be opened");
        }
        simulation
    }

    /// As many replicas as the plan says, and outsiders, on blank disks, none of them opened yet.
    ///
    /// # Panics
    ///
    /// Where there are none, or more than a cluster can have.
    #[must_use]
    pub fn switched_off(seed: u64, plan: &Plan) -> Self {
        let (count, most) = (plan.replicas, VOTERS_MAX as u64);
        let is_few = (1..=most).contains(&count);
        assert!(is_few, "Simulation::switched_off: {count} replicas, wanted 1 to {most}");
        let settings = plan.ids().into_iter().map(|id| plan.settings(id));
        let mut world = World::new(seed, settings.collect());
        for machine in world.machines.iter_mut().skip(plan.replicas as usize) {
            machine.is_outside = true;
        }
        Self { seed, world: Arc::new(Mutex::new(world)) }
    }

    /// The seed.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// All replicas, in order.
    #[must_use]
    pub fn ids(&self) -> Vec<ReplicaId> {
        self.enter("ids").ids()
    }

    // Time.

    /// The true time.
    #[must_use]
    pub fn now(&self) -> Moment {
        self.enter("now").now
    }

    /// Lets time pass.
    ///
    /// # Panics
    ///
    /// Where an invariant is broken.
    pub fn run_for(&self, time: Duration) {
        let mut world = self.enter("run_for");
        let end = world.now + time;
        while !world.run_until(end) {
            world.answered.lock().clear();
            world.check();
        }
        world.check();
    }

    /// Lets time pass until `condition` holds, asked before and after each event. Returns whether
    /// it came to hold: not where `patience` is over, which is seen at the first event behind it,
    /// or where nothing happens any more.
    ///
    /// # Panics
    ///
    /// Where an invariant is broken.
    pub fn run_until(&self, patience: Duration, condition: impl Fn(&Self) -> bool) -> bool {
        let end = self.now() + patience;
        loop {
            if condition(self) {
                return true;
            }
            let mut world = self.enter("run_until");
            if end < world.now || !world.step() {
                return false;
            }
            world.check();
        }
    }

    /// Lets time pass until a future is ready, as `wait` does for one answer: for code that awaits.
    /// No other executor makes time pass.
    ///
    /// # Panics
    ///
    /// Where an invariant is broken, nothing happens any more, or an hour of simulated time passes
    /// in which nobody at all was answered.
    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        let mut future = std::pin::pin!(future);
        let began = self.now();
        loop {
            let mut context = Context::from_waker(Waker::noop());
            if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
                return output;
            }
            let mut world = self.enter("block_on");
            let happened = world.step() && world.now < world.answered_at.max(began) + PATIENCE;
            world.check();
            assert!(
                happened,
                "Simulation::block_on: nobody is answered any more: is who was asked paused, or of \
                 another simulation?"
            );
        }
    }

    // Replicas.

    /// The replica that runs on machine `id`, to be called like any other. After that replica died
    /// or was closed, ask again for the one that was opened since.
    ///
    /// # Panics
    ///
    /// Where it is down. One that stopped by itself is still there, and answers with errors.
    #[must_use]
    pub fn replica(&self, id: impl Into<ReplicaId>) -> Replica {
        let (world, id) = self.at("replica", id);
        let life = world.machine(id).life.as_ref();
        let life = life.unwrap_or_else(|| panic!("Simulation::replica: replica {id} is down"));
        Replica::of(calls::handle(id, life, Arc::downgrade(&self.world), &world.called))
    }

    /// Opens the replica on machine `id`; it must be down, or have been closed or stopped by
    /// itself. Its machine runs, and so does the disk. Returns whether it could be opened; if not,
    /// [`Simulation::refusal`] says why.
    ///
    /// # Panics
    ///
    /// Where it is open, or is an outsider that did not [join](Simulation::join).
    #[must_use = "an opening may be refused"]
    pub fn open(&self, id: impl Into<ReplicaId>) -> bool {
        let (mut world, id) = self.at("open", id);
        if world.machine(id).life.as_ref().is_some_and(|life| life.stopped) {
            world.kill(id);
            world.machine(id).disk.process_crash();
        }
        let machine = world.machine(id);
        assert!(machine.life.is_none(), "Simulation::open: replica {id} is open");
        let is_told = !machine.is_outside || machine.settings.driver.join.is_some();
        assert!(is_told, "Simulation::open: replica {id} is an outsider, and has to join first");
        let opened = world.open(id);
        world.check();
        opened
    }

    /// Why the last opening of replica `id` was refused.
    #[must_use]
    pub fn refusal(&self, id: impl Into<ReplicaId>) -> Option<String> {
        self.machine("refusal", id).refused.as_ref().map(ToString::to_string)
    }

    /// Whether replica `id` is open, and did not stop by itself.
    #[must_use]
    pub fn is_up(&self, id: impl Into<ReplicaId>) -> bool {
        self.machine("is_up", id).life.as_ref().is_some_and(|life| !life.stopped)
    }

    /// What replica `id` tells of itself; `None` while it is down.
    #[must_use]
    pub fn report(&self, id: impl Into<ReplicaId>) -> Option<Report> {
        Some(self.machine("report", id).life.as_ref()?.driver.report())
    }

    /// What replica `id` has still to do; `None` while it is down.
    #[must_use]
    pub fn unfinished(&self, id: impl Into<ReplicaId>) -> Option<Unfinished> {
        Some(self.machine("unfinished", id).life.as_ref()?.driver.unfinished())
    }

    /// Who leads and may serve, of those that are up: the one with the highest ballot.
    #[must_use]
    pub fn leader(&self) -> Option<ReplicaId> {
        let world = self.enter("leader");
        let lives = world.machines.iter().filter(|machine| !machine.paused);
        let lives = lives.filter_map(|machine| Some((machine.id, machine.life.as_ref()?)));
        let ready = lives.filter(|(_, life)| !life.stopped).filter_map(|(id, life)| {
            let view = life.driver.view()?;
            view.ready.then_some((view.promised, id))
        });
        ready.max().map(|(_, id)| id)
    }

    /// How far replica `id` knows the log; slot 0 while it is down.
    #[must_use]
    pub fn slot_chosen(&self, id: impl Into<ReplicaId>) -> Slot {
        let machine = self.machine("slot_chosen", id);
        let life = machine.life.as_ref();
        life.and_then(|life| life.driver.view()).map_or(Slot::ZERO, |view| view.slot_chosen)
    }

    /// The process of replica `id` dies (SIGKILL); what it wrote is still in the system's cache.
    pub fn crash(&self, id: impl Into<ReplicaId>) {
        let (mut world, id) = self.at("crash", id);
        world.kill(id);
        world.machine(id).disk.process_crash();
    }

    /// Replica `id` is asked to close, and given no time for it.
    pub fn close_now(&self, id: impl Into<ReplicaId>) {
        let (mut world, id) = self.at("close_now", id);
        world.turn(id, [Event::Close(Duration::ZERO)]);
    }

    /// Replica `id` is asked to close, and goes on meanwhile: it has this long for what was
    /// proposed, and to hand over where it leads. [`Replica::close`] waits for the end of it.
    pub fn begin_close(&self, id: impl Into<ReplicaId>, patience: Duration) {
        let (mut world, id) = self.at("begin_close", id);
        world.turn(id, [Event::Close(patience)]);
    }

    /// The machine of replica `id` loses power. Of each piece that is not synced (at most 512
    /// bytes, a length, a change of the names), `keeps` says whether it survives.
    pub fn cut_power(
        &self,
        id: impl Into<ReplicaId>,
        keeps: &mut dyn FnMut(&super::disk::Piece) -> bool,
    ) {
        let (mut world, id) = self.at("cut_power", id);
        world.kill(id);
        world.machine(id).disk.power_cut(keeps);
    }

    /// Machine `id` stands still (SIGSTOP, a migration): what arrives, waits. Its writes may end.
    pub fn pause(&self, id: impl Into<ReplicaId>) {
        self.machine("pause", id).paused = true;
    }

    /// Machine `id` goes on, with everything that waited.
    pub fn resume(&self, id: impl Into<ReplicaId>) {
        let (mut world, id) = self.at("resume", id);
        world.machine_mut(id).paused = false;
        world.turn(id, []);
        world.check();
    }

    /// No write of machine `id` ends from now on.
    pub fn pause_disk(&self, id: impl Into<ReplicaId>) {
        self.machine("pause_disk", id).disk_paused = true;
    }

    /// The writes of machine `id` end.
    pub fn resume_disk(&self, id: impl Into<ReplicaId>) {
        let (mut world, id) = self.at("resume_disk", id);
        world.resume_disk(id);
    }

    /// How long the disk of machine `id` takes from now on.
    pub fn set_disk_speed(&self, id: impl Into<ReplicaId>, speed: DiskSpeed) {
        self.machine("set_disk_speed", id).speed = speed;
    }

    /// Changes what replica `id` will be opened with the next time: another identity, other peers,
    /// other limits.
    pub fn change_settings(&self, id: impl Into<ReplicaId>, change: impl FnOnce(&mut Settings)) {
        change(&mut self.machine("change_settings", id).settings);
    }

    /// The disk of machine `id`: to fail it and to damage it. What takes the disk away from whoever
    /// has it open ([`SimDisk::restore`], [`SimDisk::stop_at`]) is for machines that are down: a
    /// replica that stops for it breaks S1. [`Simulation::restore_disk`] does both.
    #[must_use]
    pub fn disk(&self, id: impl Into<ReplicaId>) -> SimDisk {
        self.machine("disk", id).disk.clone()
    }

    /// Changes the clock of machine `id`; `now` is the true time.
    pub fn change_clock(
        &self,
        id: impl Into<ReplicaId>,
        change: impl FnOnce(&mut LocalClock, Moment),
    ) {
        let (mut world, id) = self.at("change_clock", id);
        let now = world.now;
        change(&mut world.machine_mut(id).clock, now);
        world.set_alarm(id);
    }

    // The network.

    /// What is sent on the link is lost from now on.
    pub fn cut(&self, from: impl Into<ReplicaId>, to: impl Into<ReplicaId>) {
        let link = self.link("cut", from.into(), to.into());
        self.enter("cut").network.cut(link);
    }

    /// The link works again.
    pub fn mend(&self, from: impl Into<ReplicaId>, to: impl Into<ReplicaId>) {
        let link = self.link("mend", from.into(), to.into());
        self.enter("mend").network.mend(link);
    }

    /// Nothing that is sent from now on reaches or leaves replica `id`; what is on its way arrives.
    pub fn isolate(&self, id: impl Into<ReplicaId>) {
        let (mut world, id) = self.at("isolate", id);
        for peer in world.ids() {
            world.network.cut(Link { from: id, to: peer });
            world.network.cut(Link { from: peer, to: id });
        }
    }

    /// All links work, no rule is left, and what was held is lost. The weather stays.
    pub fn heal(&self) {
        self.enter("heal").network.heal();
    }

    /// How chance treats messages from now on.
    pub fn set_weather(&self, weather: Weather) {
        self.enter("set_weather").network.set_weather(weather);
    }

    /// From now on, this happens to all messages that match. The newest rule that matches counts.
    pub fn rule(&self, fate: Fate, matches: impl Fn(&Parcel) -> bool + Send + 'static) -> RuleId {
        self.enter("rule").network.add_rule(fate, matches)
    }

    /// The messages that rules hold back, oldest first.
    #[must_use]
    pub fn held(&self) -> Vec<Parcel> {
        self.enter("held").network.held().iter().map(|(_, parcel)| parcel.clone()).collect()
    }

    /// The rule counts no more, if it still did; what it held is lost.
    pub fn drop_held(&self, rule: RuleId) {
        drop(self.enter("drop_held").network.remove_rule(rule));
    }

    /// The rule counts no more, if it still did; what it held arrives, in the order of sending,
    /// also where the sender or the receiver was opened anew since.
    pub fn release(&self, rule: RuleId) {
        self.release_in(rule, |_| {});
    }

    /// As [`Simulation::release`], in the order that `reorder` makes.
    pub fn release_in(&self, rule: RuleId, reorder: impl FnOnce(&mut Vec<Parcel>)) {
        let mut world = self.enter("release_in");
        let mut parcels = world.network.remove_rule(rule);
        reorder(&mut parcels);
        for (place, parcel) in parcels.into_iter().enumerate() {
            world.deliver_after(parcel, Duration::from_micros(1 + place as u64));
        }
    }

    /// A message arrives that nobody sent now: an old one, or a forged one.
    pub fn inject(&self, parcel: Parcel) {
        self.link("inject", parcel.link.from, parcel.link.to);
        self.enter("inject").deliver_after(parcel, Duration::from_micros(1));
    }

    // What there is to see.

    /// What happened so far, in numbers.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.enter("counts").counts.clone()
    }

    /// From now on the newest `count` lines of the trace are kept.
    pub fn keep_trace(&self, count: usize) {
        self.enter("keep_trace").trace.keep(count);
    }

    /// The lines of the trace since the last call.
    #[must_use]
    pub fn take_trace(&self) -> Vec<String> {
        self.enter("take_trace").trace.take_lines()
    }

    /// The hash of all events so far: equal for equal seeds and equal calls.
    #[must_use]
    pub fn trace_hash(&self) -> u64 {
        self.enter("trace_hash").trace.hash()
    }

    /// Random numbers that follow from the seed, for the caller's own choices.
    #[must_use]
    pub fn rng(&self) -> Rng {
        self.enter("rng").rng.fork()
    }

    /// The first invariant that was broken, for those who catch the panic.
    #[must_use]
    pub fn violation(&self) -> Option<Violation> {
        self.enter("violation").violation.clone()
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, World> {
        self.world.lock()
    }

    /// The world, for a method of this name.
    fn enter(&self, method: &str) -> MutexGuard<'_, World> {
        exclusive::enter(&self.world, format_args!("Simulation::{method}"))
    }

    /// The same, of a method that is told of replica `id`.
    pub(super) fn at(
        &self,
        method: &str,
        id: impl Into<ReplicaId>,
    ) -> (MutexGuard<'_, World>, ReplicaId) {
        let (world, id) = (self.enter(method), id.into());
        let is_there = world.machines.iter().any(|machine| machine.id == id);
        assert!(is_there, "Simulation::{method}: there is no replica {id}");
        (world, id)
    }

    pub(super) fn machine(
        &self,
        method: &str,
        id: impl Into<ReplicaId>,
    ) -> MappedMutexGuard<'_, Machine> {
        let (world, id) = self.at(method, id);
        MutexGuard::map(world, |world| world.machine_mut(id))
    }

    pub(super) fn downgrade(&self) -> Weak<Mutex<World>> {
        Arc::downgrade(&self.world)
    }

    fn link(&self, method: &str, from: ReplicaId, to: ReplicaId) -> Link {
        for id in [from, to] {
            drop(self.at(method, id));
        }
        Link { from, to }
    }
}

impl std::fmt::Debug for Simulation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Simulation").field("seed", &self.seed).finish_non_exhaustive()
    }
}

/// Who waits so long for any answer would wait for ever.
const PATIENCE: Duration = Duration::from_secs(3600);
