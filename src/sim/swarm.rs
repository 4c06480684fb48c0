//! A swarm: one seed is one cluster with random clients and random faults, judged by all checkers.
//!
//! A run has two parts. In the first, for some minutes of simulated time, everything fails that the
//! plan of its seed makes fail; nothing is expected but safety. Then all is healed, and the cluster
//! is expected to come together: everyone up, one log, one state, every call answered, and a new
//! write through each replica. At the end the history of all clients is judged.
//!
//! ```no_run
//! use indelible::sim::swarm::{self, Limits};
//!
//! let outcome = swarm::run(7, &Limits::default());
//! assert!(outcome.violation.is_none(), "{:?}", outcome.violation);
//! println!("{} commits, trace {:016x}", outcome.commits, outcome.trace_hash);
//! ```
//!
//! Not here: what a fault does (`strike`), the clients (`workload`), what is demanded once all is
//! healed (`settling`).

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use parking_lot::Mutex;

use crate::types::edition::Edition;
use crate::types::ids::Slot;
use crate::types::limits::{SESSION_WINDOW, SESSIONS_MAX};
use crate::types::marks::{self, Mark};
use crate::types::time::Moment;

use super::arena;
use super::calls;
use super::checkers::history::{Outcome as CallOutcome, Record};
use super::checkers::once::Once;
use super::checkers::{Conclusion, Violation, occ, replay, search};
use super::churn::{self, Churn, Habit, Step};
use super::faults::{self, Planned};
use super::leases;
use super::machine::{DiskSpeed, Life};
use super::network::Weather;
use super::plan::Plan;
use super::rng::Rng;
use super::simulation::Simulation;
use super::strike::Strikes;
use super::workload::{self, Habits, Told, Workload};

/// How long a run is, and what it must have seen.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Simulated time with faults.
    pub time: Duration,
    /// A run with fewer commits proved nothing.
    pub commits_min: u64,
    /// A run with fewer faults proved nothing.
    pub faults_min: u64,
    /// How many lines of the trace to keep.
    pub trace_lines: usize,
}

impl Default for Limits {
    fn default() -> Self {
        let time = Duration::from_secs(300);
        Self { time, commits_min: 200, faults_min: 5, trace_lines: 0 }
    }
}

/// What a run was.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// The first thing that must not happen and did.
    pub violation: Option<Violation>,
    /// Transactions that were committed and told so.
    pub commits: u64,
    /// Calls that were made.
    pub calls: u64,
    /// Times that somebody began to lead.
    pub leaders: u64,
    /// Simulated time.
    pub simulated: Duration,
    /// Faults that acted, by kind. Lost, late and doubled messages are not among them.
    pub faults: BTreeMap<&'static str, u64>,
    /// The marks that were reached, and how often.
    pub marks: BTreeMap<&'static str, u64>,
    /// Memberships that were chosen behind the first one.
    pub memberships: u64,
    /// Whether the cluster was blocked in the end by what it could not tell of its votes.
    pub blocked: bool,
    /// What a checker could not judge, for want of time.
    pub inconclusive: u64,
    /// Whether the run had too few commits or faults to prove anything.
    pub vacuous: bool,
    /// The hash of all events.
    pub trace_hash: u64,
    /// The newest lines of the trace.
    pub trace: Vec<String>,
}

/// Runs the swarm of a seed.
#[must_use]
pub fn run(seed: u64, limits: &Limits) -> Outcome {
    let plan = planned(seed, limits);
    compared(seed, || run_plan(seed, limits, &plan))
}

/// A5: of a hundred seeds, one is run twice, and must be the same both times.
fn compared(seed: u64, mut run: impl FnMut() -> Outcome) -> Outcome {
    let mut outcome = run();
    if outcome.violation.is_none() && Rng::new(seed ^ TWICE_SALT).below(100) == 0 {
        let (hash, again) = (outcome.trace_hash, run().trace_hash);
        let event = || format!("the trace was {hash:016x}, and another time {again:016x}");
        outcome.violation = (hash != again).then(|| Violation::new("A5", event()));
    }
    outcome
}

/// The faults that belong to a seed.
#[must_use]
pub fn planned(seed: u64, limits: &Limits) -> Vec<Planned> {
    let mut plan = faults::plan(&mut Rng::new(seed ^ PLAN_SALT), limits.time);
    plan.retain(|fault| Habit::of(seed).is_none() || churn::may_strike(fault.kind));
    plan
}

/// Runs a seed with other faults than its own: to cut a failure down to those that it needs.
#[must_use]
pub fn run_plan(seed: u64, limits: &Limits, plan: &[Planned]) -> Outcome {
    drop(marks::take());
    let mut swarm = Swarm::new(seed, limits);
    let result = catch_unwind(AssertUnwindSafe(|| swarm.run(plan)));
    let result = result.unwrap_or_else(|panic| Err(arena::violation_of(panic.as_ref())));
    swarm.outcome(result)
}

pub(super) struct Swarm {
    limits: Limits,
    pub(super) sim: Simulation,
    pub(super) workload: Workload,
    pub(super) strikes: Strikes,
    /// Who makes members come and go, where they do.
    pub(super) churn: Option<Churn>,
    answered: Arc<Mutex<Vec<u64>>>,
    rng: Rng,
    inconclusive: u64,
    /// Calls that were made, once the history was taken away.
    calls: u64,
    blocked: bool,
    /// The highest round promised when the replicas had come together.
    pub(super) round_at_peace: u64,
    /// When everything was healed.
    pub(super) healed_at: Moment,
    /// How the cluster was made.
    pub(super) plan: Plan,
}

impl Swarm {
    pub(super) fn new(seed: u64, limits: &Limits) -> Self {
        let mut rng = Rng::new(seed);
        let mut plan = draw_plan(&mut rng);
        let habit = Habit::of(seed);
        plan.outsiders = habit.map_or(0, |habit| habit.outsiders);
        plan.knows = Edition::FIRST;
        plan.priorities = draw_priorities(&mut Rng::new(seed ^ PRIORITIES_SALT), plan.ids().len());
        plan.read_lease = leases::draw(seed);
        let sim = Simulation::switched_off(rng.next_u64(), &plan);
        leases::draw_clocks(seed, &sim);
        sim.keep_trace(limits.trace_lines);
        sim.set_weather(draw_weather(&mut rng));
        let habits = Habits {
            clients: rng.within(2..=6),
            keys: rng.within(2..=12),
            pause: (Duration::from_millis(20), Duration::from_millis(rng.within(400..=1600))),
        };
        let ids = sim.ids();
        for id in &ids {
            let sync = rng.within(100..=4000);
            sim.set_disk_speed(
                *id,
                DiskSpeed {
                    sync: (Duration::from_micros(100), Duration::from_micros(100 + sync)),
                    straggle: *rng.pick(&[0, 0, 10]),
                },
            );
        }
        let answered = Arc::clone(&sim.lock().answered);
        let workload = Workload::new(habits, rng.fork());
        let (ids, outsiders) = ids.split_at(plan.replicas as usize);
        let churn = habit.map(|habit| Churn::new(seed, habit, outsiders.to_vec()));
        let mut strikes = Strikes::new(ids.to_vec());
        strikes.suspend(plan.read_lease.is_some());
        strikes.exchange_leases(leases::draw_lengths(seed, &sim));
        Self {
            limits: *limits,
            sim,
            workload,
            strikes,
            churn,
            answered,
            rng,
            inconclusive: 0,
            blocked: false,
            calls: 0,
            round_at_peace: 0,
            healed_at: Moment::ZERO,
            plan,
        }
    }

    fn run(&mut self, plan: &[Planned]) -> Result<(), Violation> {
        for id in self.strikes.ids().to_vec() {
            // A cluster forms when all are there; some come late.
            let late = self.rng.time(Duration::ZERO..=Duration::from_secs(2));
            self.strikes.open_later(id, Moment::ZERO + late);
        }
        let mut plan = plan.iter().peekable();
        let end = Moment::ZERO + self.limits.time;
        loop {
            let fault = plan.peek().map(|fault| Moment::ZERO + fault.at);
            let churn = self.churn.as_ref().map(Churn::next);
            let call = self.workload.next().map(|(at, _)| at);
            let next = [fault, self.strikes.next(), churn, call];
            let next = next.into_iter().flatten().min().unwrap_or(end).min(end);
            self.run_until(next)?;
            let now = self.sim.now();
            if end <= now {
                break;
            }
            while let Some(fault) = plan.next_if(|fault| Moment::ZERO + fault.at <= now) {
                self.strikes.strike(&self.sim, fault)?;
            }
            self.strikes.undo_due(&self.sim)?;
            self.churn_due();
            self.call_due();
        }
        self.heal()?;
        match self.converge() {
            Err(Violation { invariant: "V1" | "V2" | "V4", .. }) if self.is_blocked() => {
                self.blocked = true;
                self.check_answered()?;
            }
            result => result?,
        }
        self.judge()?;
        if self.blocked { Ok(()) } else { self.check_calm() }
    }

    /// Lets time pass, and hands answers to the clients as they come.
    pub(super) fn run_until(&mut self, end: Moment) -> Result<(), Violation> {
        loop {
            let (reached, violation) = {
                let mut world = self.sim.lock();
                (world.run_until(end), world.violation.clone())
            };
            if let Some(violation) = violation {
                return Err(violation);
            }
            self.take_answers();
            if let Some(violation) = self.workload.violation.take() {
                return Err(violation);
            }
            for id in self.strikes.take_gone() {
                self.workload.unbind(id);
            }
            if reached {
                return Ok(());
            }
        }
    }

    fn take_answers(&mut self) {
        let now = self.sim.now();
        let answered = std::mem::take(&mut *self.answered.lock());
        for client in answered {
            let told = Told { client, answered: Arc::clone(&self.answered) };
            self.workload.poll(client as usize, now, &Waker::from(Arc::new(told)));
        }
    }

    /// The operator takes a step, if it is time.
    fn churn_due(&mut self) {
        let now = self.sim.now();
        let Some(churn) = self.churn.as_mut().filter(|churn| churn.next() <= now) else { return };
        match churn.act(&self.sim) {
            Some(Step::Joined(id)) => self.strikes.hit_also(id),
            Some(Step::Rebuilt(id)) => self.strikes.restart(&self.sim, id),
            Some(Step::Interrupted { id, at, seed }) => self.strikes.interrupt(id, at, seed),
            None => {}
        }
    }

    /// The clients whose time has come make their calls.
    fn call_due(&mut self) {
        let now = self.sim.now();
        while let Some((at, client)) = self.workload.next()
            && at <= now
        {
            if self.workload.bound(client).is_none_or(|id| !self.sim.is_up(id))
                || self.rng.per_mille(60)
            {
                let id = *self.rng.pick(self.strikes.ids());
                if !self.sim.is_up(id) {
                    self.workload.put_off(client, now);
                    continue;
                }
                let world = self.sim.lock();
                let life = world.machine(id).life.as_ref().expect("it is up");
                let weak = self.sim.downgrade();
                let handle = calls::handle(id, life, weak, &world.called);
                drop(world);
                self.workload.bind(client, id, handle);
            }
            self.workload.call(client, now, &self.answered);
        }
    }

    /// The ledger as the replicas have it now. One of them may have rotten places that nobody has
    /// read yet; what it gives out all the same must be right (D5).
    fn ledger(&self) -> Result<Vec<Record>, Violation> {
        let world = self.sim.lock();
        world.judges.doubted.check_forgotten(&world.witness)?;
        let mut validity = world.judges.validity.clone();
        let mut once = Once::default();
        let lives = world.machines.iter().filter_map(|machine| machine.life.as_ref());
        let mut lives = lives.collect::<Vec<_>>();
        // The others may have been left behind.
        lives.sort_by_key(|life| Reverse(life.driver.store().applied().slot));
        let store = lives[0].driver.store();
        let mut records = Vec::new();
        for slot in (0..store.applied().slot.0).map(Slot) {
            // Who trimmed it knows no more how it ended than what it was.
            let read = |life: &&Life| {
                let (_, entry) = calls::entries(life, slot, slot.next()).next()?.ok()?;
                Some((entry, life.driver.store().outcome(slot)?))
            };
            let kept = world.archive.get(slot.0 as usize).cloned();
            let Some((entry, outcome)) = kept.or_else(|| lives.iter().find_map(read)) else {
                return Err(Violation::new("D5", format!("nobody can read slot {slot}")));
            };
            if world.witness.chosen(slot) != Some(entry.hash()) {
                return Err(Violation::new("D5", format!("slot {slot} is read as another entry")));
            }
            validity.on_entry(world.machines[0].id, slot, &entry)?;
            once.on_entry(slot, &entry, &outcome.took_id)?;
            let mut txid = outcome.after.counter();
            for (command, took) in entry.commands().zip(&outcome.took_id) {
                if !took {
                    continue;
                }
                txid += 1;
                // The last writes of all are no part of the history.
                let Some(((client, number), transaction)) = workload::decode(command) else {
                    return Ok(records);
                };
                records.push(Record { txid, client, number, transaction });
            }
        }
        Ok(records)
    }

    /// What the clients were told, against the final ledger and by itself.
    fn judge(&mut self) -> Result<(), Violation> {
        if let Some(churn) = &self.churn {
            churn.check_refused(&self.sim)?;
        }
        let ledger = self.ledger()?;
        self.calls = self.workload.history.operations.len() as u64;
        let mut history = std::mem::take(&mut self.workload.history);
        // A blocked cluster may show less than it acknowledged: the rest is in uncounted votes.
        let complete = Some(&ledger[..]).filter(|_| !self.blocked);
        if replay::check(&history, complete)? != Conclusion::Passed {
            self.inconclusive += 1;
        }
        occ::check(&history)?;
        // A search that may leave every call out whose outcome nobody knows takes for ever. Which
        // of them happened, the ledger tells; in which order, it is not asked.
        let happened = ledger.iter().map(|record| (record.client, record.number));
        let happened = happened.collect::<BTreeSet<_>>();
        history.operations.retain(|operation| {
            let call = (operation.client, operation.number);
            let open = operation.outcome != CallOutcome::Unknown || self.blocked;
            open || happened.contains(&call)
        });
        if search::check(&history, SEARCH_STEPS_MAX)?.conclusion() != Conclusion::Passed {
            self.inconclusive += 1;
        }
        Ok(())
    }

    fn outcome(self, result: Result<(), Violation>) -> Outcome {
        let mut faults = self.strikes.fired().clone();
        for id in self.sim.ids() {
            for (fault, count) in self.sim.disk(id).fired().iter() {
                *faults.entry(fault.name()).or_default() += count;
            }
        }
        let total: u64 = faults.values().sum();
        let commits = self.workload.committed;
        let marks = Mark::ALL.iter().map(|mark| mark.name()).zip(marks::take());
        Outcome {
            violation: result.err(),
            commits,
            calls: self.calls.max(self.workload.history.operations.len() as u64),
            leaders: self.sim.counts().leaders,
            memberships: self.sim.memberships().len().saturating_sub(1) as u64,
            simulated: self.sim.now().since(Moment::ZERO),
            vacuous: commits < self.limits.commits_min || total < self.limits.faults_min,
            faults,
            marks: marks.filter(|(_, count)| *count > 0).collect(),
            inconclusive: self.inconclusive,
            blocked: self.blocked,
            trace_hash: self.sim.trace_hash(),
            trace: self.sim.take_trace(),
        }
    }
}

fn draw_plan(rng: &mut Rng) -> Plan {
    let heartbeat = Duration::from_millis(rng.within(100..=500));
    let mut plan = Plan {
        replicas: *rng.pick(&[1, 2, 3, 3, 3, 3, 3, 4, 5, 5]),
        heartbeat_interval: heartbeat,
        election_timeout: heartbeat * rng.within(4..=12) as u32,
        retransmit_interval: heartbeat * rng.within(1..=3) as u32,
        request_timeout: Duration::from_millis(rng.within(1000..=8000)),
        message_bytes_max: *rng.pick(&[500, 4096, 32 * 1024]),
        checkpoint_bytes: *rng.pick(&[4 * 1024, 16 * 1024, 64 * 1024, u64::MAX]),
        history_bytes_min: *rng.pick(&[0, 0, 200 * 1024, u64::MAX]),
        ..Plan::default()
    };
    // Few sessions, so that some are forgotten; and small windows, so that there are many.
    plan.sessions_max = *rng.pick(&[2, 3, 4, 8, SESSIONS_MAX, SESSIONS_MAX]);
    plan.session_window = *rng.pick(&[1, 2, 8, SESSION_WINDOW, SESSION_WINDOW]);
    // Two votes choose, and nearly all must promise.
    let all_but_one = (plan.replicas as u32).saturating_sub(1);
    plan.quorums = (plan.replicas > 3 && rng.per_mille(400)).then_some((all_but_one, 2));
    plan.journal.inflight_max = rng.within(1..=3) as usize;
    // Small ones, so that what belongs together often stands in several groups.
    plan.journal.group_bytes_max = *rng.pick(&[1024, 4096, 32 * 1024]);
    plan
}

/// Of some clusters, the replicas have priorities, seldom each another one.
fn draw_priorities(rng: &mut Rng, replicas: usize) -> Vec<u32> {
    let highest = *rng.pick(&[0, 0, 1, 2]);
    (0..replicas).map(|_| rng.within(0..=highest) as u32).collect()
}

fn draw_weather(rng: &mut Rng) -> Weather {
    let slowest = *rng.pick(&[1, 1, 5, 5, 20, 100]);
    Weather {
        delay: (Duration::from_micros(100), Duration::from_micros(100 + 1000 * slowest)),
        straggle: *rng.pick(&[0, 5, 20, 100]),
        loss: *rng.pick(&[0, 0, 5, 20, 100, 250]),
        duplicate: *rng.pick(&[0, 0, 5, 20, 200]),
        remember: *rng.pick(&[5, 20]),
    }
}

/// So that the faults of a seed do not draw the numbers that its cluster draws.
const PLAN_SALT: u64 = 0x5afe_0f5e_ed00_0001;

/// So that the priorities of a seed do not either.
const PRIORITIES_SALT: u64 = 0x5afe_0f5e_ed00_0003;

/// So that which seeds are run twice depends on nothing else.
const TWICE_SALT: u64 = 0x5afe_0f5e_ed00_0002;

/// Tries of the search for an order; beyond, it is left open, and counted.
const SEARCH_STEPS_MAX: u64 = 200_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_whose_second_run_differs_is_told() {
        let mut twice = 0;
        for seed in 0..1000 {
            let mut runs = 0;
            let mut run = |trace_hash: fn(u64) -> u64| {
                runs = 0;
                let outcome = compared(seed, || {
                    runs += 1;
                    Outcome { trace_hash: trace_hash(runs), ..Outcome::default() }
                });
                (outcome.violation, runs)
            };
            let (same, _) = run(|_| 7);
            assert_eq!(same, None, "seed {seed}");
            let (other, runs) = run(|runs| runs);
            let event = "the trace was 0000000000000001, and another time 0000000000000002";
            assert_eq!(other, (runs == 2).then(|| Violation::new("A5", event)), "seed {seed}");
            twice += runs - 1;
        }
        assert!((1..50).contains(&twice), "{twice} of 1,000 seeds are run twice");
    }
}
