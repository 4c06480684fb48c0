//! The world: everything that happens, one thing after the other, in the order of one true time.
//!
//! ```text
//!   agenda (by time) ---> arrival, wake-up, end of a write ---> a turn of one driver
//!      ^                                                          |
//!      +---- messages, wake-ups, writes <---- effects <-----------+---> checked by the witness
//!                                                                    and the judges
//! ```
//!
//! Nothing here is decided by anything but the seed and the calls from outside, so the same seed
//! gives the same events. Each event goes into the trace: always into its hash, and as a line of
//! text where lines are wanted.
//!
//! Not here: which checker is told of what (`judges`), who is let in (`fence`), the faults and the
//! clients of a swarm (`swarm`), the calls for users (`simulation`).

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use crate::runtime::report::RoleName;
use crate::runtime::turn::{Effects, Event};
use crate::store::ledger::SlotOutcome;
use crate::transport::Arrival;
use crate::types::entry::Entry;
use crate::types::ids::ReplicaId;
use crate::types::message::Envelope;
use crate::types::time::Moment;

use super::agenda::{Agenda, Happening};
use super::checkers::Violation;
use super::disk::{Mount, SimDisk};
use super::judges::Judges;
use super::lines;
use super::links::Link;
use super::machine::{Machine, Settings};
use super::network::{Network, Parcel};
use super::rng::Rng;
use super::trace::{Note, Trace};
use super::witness::Witness;

/// Machines, the network between them, and time.
pub(super) struct World {
    seed: u64,
    pub(super) now: Moment,
    agenda: Agenda,
    /// In the order of their ids, which are 1, 2, 3 and so on.
    pub(super) machines: Vec<Machine>,
    pub(super) network: Network,
    pub(super) witness: Witness,
    pub(super) judges: Judges,
    /// What was chosen and applied in each slot from 0 on, as far as journals may forget it.
    pub(super) archive: Vec<(Entry, SlotOutcome)>,
    pub(super) rng: Rng,
    pub(super) trace: Trace,
    pub(super) counts: Counts,
    /// The first thing that must not happen and did.
    pub(super) violation: Option<Violation>,
    /// Which replicas were called since the last step.
    pub(super) called: Arc<Mutex<Vec<ReplicaId>>>,
    /// Answers that somebody asked to be told of.
    pub(super) answered: Arc<Mutex<Vec<u64>>>,
    /// When somebody was answered last.
    pub(super) answered_at: Moment,
}

/// What happened, in numbers.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    /// Turns of drivers.
    pub turns: u64,
    /// Messages that arrived.
    pub delivered: u64,
    /// Times that somebody began to lead.
    pub leaders: u64,
    /// Hellos that the gate refused.
    pub refused: u64,
    /// Openings that were refused.
    pub openings_refused: u64,
    /// Replicas that stopped by themselves.
    pub poisoned: u64,
}

impl World {
    /// Machines with blank disks, all switched off.
    pub(super) fn new(seed: u64, settings: Vec<Settings>) -> Self {
        let mut rng = Rng::new(seed);
        let machines = settings.into_iter().map(|settings| {
            let id = settings.driver.id;
            Machine::new(id, settings, SimDisk::seeded(rng.next_u64()))
        });
        let machines = machines.collect::<Vec<_>>();
        let ids = (1..).map(ReplicaId);
        assert!(machines.iter().map(|machine| machine.id).eq(ids.take(machines.len())), "a gap");
        Self {
            seed,
            now: Moment::ZERO,
            agenda: Agenda::new(machines.len()),
            machines,
            network: Network::default(),
            witness: Witness::default(),
            judges: Judges::default(),
            archive: Vec::new(),
            rng,
            trace: Trace::default(),
            counts: Counts::default(),
            violation: None,
            called: Arc::default(),
            answered: Arc::default(),
            answered_at: Moment::ZERO,
        }
    }

    /// All machines.
    pub(super) fn ids(&self) -> Vec<ReplicaId> {
        self.machines.iter().map(|machine| machine.id).collect()
    }

    pub(super) fn machine(&self, id: ReplicaId) -> &Machine {
        let machine = self.machines.get(index(id));
        machine.unwrap_or_else(|| panic!("Simulation: there is no replica {id}"))
    }

    pub(super) fn machine_mut(&mut self, id: ReplicaId) -> &mut Machine {
        let machine = self.machines.get_mut(index(id));
        machine.unwrap_or_else(|| panic!("Simulation: there is no replica {id}"))
    }

    // Time.

    /// Lets everything happen until `end`, or until somebody is answered who asked to be told, or
    /// an invariant is broken. Returns whether `end` was reached.
    pub(super) fn run_until(&mut self, end: Moment) -> bool {
        loop {
            self.take_calls();
            if self.violation.is_some() || !self.answered.lock().is_empty() {
                return false;
            }
            if self.agenda.next_at().is_none_or(|at| end < at) {
                self.now = self.now.max(end);
                return true;
            }
            self.next();
        }
    }

    /// Lets the next thing happen. Returns whether there was one.
    pub(super) fn step(&mut self) -> bool {
        self.take_calls();
        self.next()
    }

    /// The next thing of the agenda happens.
    fn next(&mut self) -> bool {
        let Some((at, what)) = self.agenda.pop() else { return false };
        self.now = self.now.max(at);
        match what {
            Happening::Arrive(parcel) => self.arrive(*parcel),
            Happening::Wake { id } => self.wake(id),
            Happening::Written { id, life, flight } => self.end_write(id, life, flight),
            Happening::Down { id, peer } => {
                self.trace.note(self.now, Note::Down, id.0, peer.0);
                let arrival = Arrival::Down { peer };
                self.note_down(id, peer, &arrival);
                self.turn(id, [Event::Arrived(arrival)]);
            }
        }
        true
    }

    /// Callers brought events; their replicas take a turn.
    fn take_calls(&mut self) {
        loop {
            let called = {
                let mut called = self.called.lock();
                if called.is_empty() {
                    return;
                }
                std::mem::take(&mut *called)
            };
            for id in called {
                let life = self.machine_mut(id).life.as_mut();
                let events = life.map(|life| std::mem::take(&mut *life.inbox.lock()));
                if let Some(events) = events.filter(|events| !events.is_empty()) {
                    self.trace.note(self.now, Note::Called, id.0, events.len() as u64);
                    self.turn(id, events);
                }
            }
        }
    }

    // What happens.

    fn arrive(&mut self, parcel: Parcel) {
        let Parcel { link, hello, message } = parcel;
        if !self.let_in(link, &hello) {
            return;
        }
        self.counts.delivered += 1;
        self.trace.line(self.now, || {
            format!("{} -> {} {}", link.from, link.to, lines::message(&message))
        });
        self.trace.note(self.now, Note::Arrive, link.from.0, link.to.0);
        let arrival = Arrival::Message { from: link.from, boot: hello.boot, message };
        let Some(life) = &mut self.machine_mut(link.to).life else { return };
        life.gate.note(&arrival);
        self.turn(link.to, [Event::Arrived(arrival)]);
    }

    fn wake(&mut self, id: ReplicaId) {
        if !self.machine(id).paused {
            self.turn(id, []);
        }
    }

    fn end_write(&mut self, id: ReplicaId, life: u64, flight: u64) {
        let machine = self.machine_mut(id);
        if machine.lives != life || machine.disk_paused {
            return;
        }
        let Some(life) = &mut machine.life else { return };
        let Some(flight) = life.flights.remove(&flight) else { return };
        let done = flight.begun.finish();
        self.trace.note(self.now, Note::Written, id.0, u64::from(done.is_done()));
        if done.is_done() {
            self.judge_done(id, flight.groups);
        }
        self.judge_write(id);
        self.turn(id, [Event::Written(done)]);
    }

    /// A replica takes a turn, unless its machine is paused; then the events wait.
    pub(super) fn turn<E>(&mut self, id: ReplicaId, events: E)
    where
        E: IntoIterator<Item = Event<Mount>> + AsRef<[Event<Mount>]>,
    {
        let machine = self.machine_mut(id);
        let Some(life) = &mut machine.life else { return };
        if !machine.paused && life.waiting.is_empty() {
            return self.take_turn(id, events);
        }
        life.waiting.extend(events);
        if !machine.paused {
            let events = std::mem::take(&mut life.waiting);
            self.take_turn(id, events);
        }
    }

    fn take_turn<E>(&mut self, id: ReplicaId, events: E)
    where
        E: IntoIterator<Item = Event<Mount>> + AsRef<[Event<Mount>]>,
    {
        self.judges.on_events(events.as_ref());
        let timed = events.as_ref().is_empty();
        let now = self.now;
        let machine = self.machine_mut(id);
        let clocks = machine.clock.clocks(now);
        let Some(life) = &mut machine.life else { return };
        let effects = life.driver.turn(clocks, events);
        self.counts.turns += 1;
        self.observe(id);
        self.judge_rest(id, timed && effects.wake_at.is_some_and(|at| at <= clocks.now));
        self.perform(id, effects);
    }

    /// Holds what a replica now knows against the truth.
    fn observe(&mut self, id: ReplicaId) {
        let Some(life) = &mut self.machines[index(id)].life else { return };
        let Some(view) = life.driver.view() else { return };
        let before = life.seen;
        let applied = life.driver.store().applied();
        life.seen.formed = true;
        life.seen.role = view.role;
        life.seen.chosen = (view.slot_chosen, view.chain);
        life.seen.applied = applied.slot;
        self.keep_history(id);
        if !before.formed {
            self.witness_opening(id);
        }
        if before.role != view.role {
            self.counts.leaders += u64::from(view.role == RoleName::Leader);
            self.trace.note(self.now, Note::Role, id.0, view.promised.round);
            self.trace.line(self.now, || format!("{id} is {:?} {}", view.role, view.promised));
            self.judge_membership(id);
        }
        if before.chosen.0 != view.slot_chosen || !before.formed {
            self.trace.note(
                self.now,
                Note::Progress,
                id.0,
                view.slot_chosen.0 ^ view.chain.0 as u64,
            );
            let result = self.witness.on_progress(id, view.slot_chosen, view.chain);
            self.judge(result);
            self.judge_membership(id);
        }
        if before.applied != applied.slot || !before.formed {
            let state = (applied.txid, applied.digest);
            let result = self.witness.on_state(id, applied.slot, state);
            self.judge(result);
        }
    }

    /// Carries out what a turn decided.
    fn perform(&mut self, id: ReplicaId, effects: Effects<Mount>) {
        let Effects { sends, jobs, answers, former: _, standing, wake_at, stopped } = effects;
        let life = self.machine_mut(id).life.as_mut().expect("it took a turn");
        let mut news = Vec::new();
        if let Some(standing) = standing {
            news.extend(life.gate.update(&standing).into_iter().map(Event::Met));
            // The connection of who left has ended: it is judged anew.
            let is_member = |id| standing.members.iter().any(|member| member.id == id);
            life.admitted.retain(|(id, _)| is_member(*id));
            life.hello = standing.hello;
        }
        for envelope in sends {
            self.send(id, envelope);
        }
        for job in jobs {
            let prepares = job.is_background();
            let machine = &mut self.machines[index(id)];
            let life = machine.life.as_mut().expect("it took a turn");
            let flight = life.begin(job);
            self.judges.on_written(id, &life.flights[&flight].groups);
            let (least, most) = machine.speed.sync;
            let mut time = self.rng.time(least..=most);
            if prepares || machine.speed.straggle > 0 && self.rng.per_mille(machine.speed.straggle)
            {
                time *= self.rng.within(2..=100) as u32;
            }
            let life = machine.lives;
            self.agenda.plan(self.now + time, Happening::Written { id, life, flight });
        }
        for answer in answers {
            self.answered_at = self.now;
            self.judge_answer(&answer);
            if let Some(waker) = answer.give() {
                waker.wake();
            }
        }
        if stopped {
            self.on_stopped(id);
            self.release(id);
            self.end_connections(id);
        } else {
            let life = self.machine_mut(id).life.as_mut().expect("it took a turn");
            life.wake_at = wake_at;
            self.set_alarm(id);
        }
        if !news.is_empty() {
            self.turn(id, news);
        }
    }

    /// The connections of a replica end. Not every peer notices.
    fn end_connections(&mut self, id: ReplicaId) {
        for peer in self.ids() {
            if peer != id && self.rng.per_mille(700) {
                let delay = self.rng.time(Duration::ZERO..=Duration::from_millis(20));
                self.agenda.plan(self.now + delay, Happening::Down { id: peer, peer: id });
            }
        }
    }

    /// Sets the wake-up that a replica asked for, at the time when its clock will show it. Only the
    /// newest counts.
    pub(super) fn set_alarm(&mut self, id: ReplicaId) {
        let now = self.now;
        let machine = self.machine_mut(id);
        let Some(life) = &machine.life else { return };
        let at = life.wake_at.and_then(|at| machine.clock.when(at));
        // A replica that is late already is woken soon, but time goes on.
        let at = at.map(|at| at.max(now + Duration::from_micros(1)));
        self.agenda.set_alarm(id, at);
    }

    fn send(&mut self, from: ReplicaId, envelope: Envelope) {
        let Envelope { to, message } = envelope;
        let result = self.witness.on_leave(from, &message);
        let judged = self.judges.on_leave(from, &message, &self.witness);
        self.judge(result.and(judged));
        self.judge_grant(from, &message);
        let Some(life) = &self.machine(from).life else { return };
        let mut hello = life.hello.clone();
        hello.receiver = to;
        if index(to) >= self.machines.len() {
            return;
        }
        self.dispatch(Parcel { link: Link { from, to }, hello, message });
    }

    /// A parcel sets out, with what chance and rules make of it.
    pub(super) fn dispatch(&mut self, parcel: Parcel) {
        let mut delays = self.network.send(&parcel, &mut self.rng);
        let Some(last) = delays.next_back() else { return };
        for delay in delays {
            self.agenda.plan(self.now + delay, Happening::Arrive(Box::new(parcel.clone())));
        }
        self.agenda.plan(self.now + last, Happening::Arrive(Box::new(parcel)));
    }

    /// A parcel arrives after `delay`, whatever chance and rules say.
    pub(super) fn deliver_after(&mut self, parcel: Parcel, delay: Duration) {
        self.agenda.plan(self.now + delay, Happening::Arrive(Box::new(parcel)));
    }

    // Machines on and off.

    /// Opens a replica. Returns whether it could be opened.
    pub(super) fn open(&mut self, id: ReplicaId) -> bool {
        let now = self.now;
        self.judge_left(id);
        let machine = self.machine_mut(id);
        let opened = machine.open(now);
        machine.paused = false;
        machine.disk_paused = false;
        self.trace.note(now, Note::Opened, id.0, u64::from(opened.is_ok()));
        self.judge_opened(id, opened.is_ok());
        match opened {
            Ok(()) => {
                self.trace.line(now, || format!("{id} opens"));
                self.turn(id, []);
                true
            }
            Err(err) => {
                self.counts.openings_refused += 1;
                self.trace.line(now, || format!("{id} does not open: {err}"));
                false
            }
        }
    }

    /// The replica is gone from one moment to the next; who waits is told that it stopped. Its
    /// machine and its peers go on.
    pub(super) fn kill(&mut self, id: ReplicaId) {
        self.judge_end(id);
        self.trace.note(self.now, Note::Died, id.0, 0);
        self.trace.line(self.now, || format!("{id} dies"));
        self.agenda.set_alarm(id, None);
        let machine = self.machine_mut(id);
        machine.lives += 1;
        let life = machine.life.take();
        machine.paused = false;
        machine.disk_paused = false;
        if let Some(life) = life {
            // Who called and was not heard yet is told, too, that nobody answers.
            life.inbox.lock().clear();
            if !life.stopped {
                self.end_connections(id);
            }
        }
    }

    /// The connection of a link ends; both sides learn of it.
    pub(super) fn hang_up(&mut self, link: Link) {
        let Link { from, to } = link;
        self.agenda.plan(self.now, Happening::Down { id: from, peer: to });
        self.agenda.plan(self.now, Happening::Down { id: to, peer: from });
    }

    /// Writes that ended while the disk was paused end now.
    pub(super) fn resume_disk(&mut self, id: ReplicaId) {
        let machine = self.machine_mut(id);
        machine.disk_paused = false;
        let life = machine.lives;
        let flights = machine.life.as_ref().map(|life| life.flights.keys().copied());
        let flights: Vec<_> = flights.into_iter().flatten().collect();
        for flight in flights {
            let time = self.rng.time(Duration::ZERO..=Duration::from_millis(2));
            self.agenda.plan(self.now + time, Happening::Written { id, life, flight });
        }
    }

    /// Ends a simulation in its caller's hands at the first violation.
    ///
    /// # Panics
    ///
    /// With it, if there is one.
    pub(super) fn check(&self) {
        if let Some(violation) = &self.violation {
            panic!("seed {}: {violation}", self.seed);
        }
    }

    /// Remembers the first violation.
    pub(super) fn judge(&mut self, result: Result<(), Violation>) {
        if let Err(violation) = result {
            self.trace.line(self.now, || format!("VIOLATION {violation}"));
            self.violation.get_or_insert(violation);
        }
    }
}

/// Where a machine stands among all.
pub(super) fn index(id: ReplicaId) -> usize {
    usize::try_from(id.0).unwrap_or(usize::MAX).wrapping_sub(1)
}
