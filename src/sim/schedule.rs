//! Random schedules of protocol cores: everything that a network, a disk and a clock may do, in any
//! order, with every invariant of [`checks`](super::checks) checked on every step.
//!
//! A seed draws a cluster, how often what happens, and then some hundred steps, each of which
//! delivers, reorders, loses, doubles or replays a message, syncs in part, proposes, reads, lets
//! time pass, crashes, restarts, tears, damages, cuts a link, makes somebody campaign or a leader
//! hand over, or has members come and go. Then the faults end, and the cluster must come together
//! ([`healing`]). A schedule takes about a millisecond, a hundredth of what a seed of the
//! [`swarm`](super::swarm) takes, and meets rare interleavings of messages that much sooner. What
//! stands above the core, and the bytes of the journal, it does not have.
//!
//! ```
//! use indelible::sim::schedule;
//!
//! let ended = schedule::run(7, 0);
//! assert_eq!(ended.violation, None);
//! assert!(ended.learned > 1);
//! ```
//!
//! Damage stays within what the rules promise to outlive: of each slot, at most `phase2 - 1` votes
//! are lost at a time, and both quorums can do without those that forget a promise.

mod changing;
mod deposing;
mod superseding;
mod usurping;

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use crate::types::ids::{ReplicaId, Slot};
use crate::types::message::Message;

use super::arena::violation_of;
use super::checkers::Violation;
use super::cluster::Cluster;
use super::cores::Cores;
use super::healing;
use super::journal::Damage;
use super::leases;
use super::links::Link;
use super::rng::Rng;

/// How many old messages are kept, to be delivered again long after, also to later openings.
const OLD_MAX: usize = 64;

/// What came of a schedule.
#[derive(Clone, Debug, Default)]
pub struct Ended {
    /// The first thing that must not happen and did.
    pub violation: Option<Violation>,
    /// How many slots somebody learned.
    pub learned: u64,
    /// Whether the cluster came together in the end. With too much damage it need not.
    pub healed: bool,
    /// The newest lines of the trace.
    pub trace: Vec<String>,
}

/// Runs the schedule of a seed, and keeps so many lines of its trace.
#[must_use]
pub fn run(seed: u64, trace_lines: usize) -> Ended {
    let mut schedule = Schedule::new(seed, trace_lines > 0);
    // The schedule is kept outside, so that its trace survives the panic.
    let result = catch_unwind(AssertUnwindSafe(|| schedule.run()));
    let (healed, violation) = match result {
        Ok(healed) => (healed, None),
        Err(panic) => (false, Some(violation_of(panic.as_ref()))),
    };
    let mut trace = schedule.cores.take_trace();
    trace.drain(..trace.len().saturating_sub(trace_lines));
    Ended { violation, learned: schedule.cores.checks().learned().0, healed, trace }
}

/// What a step can be.
#[derive(Clone, Copy, Debug)]
enum Act {
    Deliver,
    Reorder,
    Lose,
    Duplicate,
    Sync,
    Propose,
    Read,
    Time,
    Crash,
    Restart,
    Cut,
    Mend,
    Campaign,
    Replay,
    PeerDown,
    Power,
    Damage,
    Forget,
    Depose,
    HandOver,
    Change,
    Install,
    /// Comes last, so that a seed without leases is what it would be if there were none.
    Usurp,
}

/// How often what happens, drawn for each seed, so that seeds differ in kind.
#[derive(Debug)]
struct Weights {
    acts: [(Act, u64); 23],
    sum: u64,
    /// Whether what catches up is delivered late.
    lags: bool,
    /// How many of a thousand links are slow.
    slow: u64,
}

#[derive(Debug)]
struct Schedule {
    rng: Rng,
    weights: Weights,
    cores: Cores,
    /// What is sent there arrives late.
    slow: BTreeSet<Link>,
    proposed: u64,
    old: Vec<(Link, Message)>,
    /// The newest question for what is chosen that arrived, of each link.
    asked: BTreeMap<Link, Message>,
    /// What gave leases up.
    released: Vec<(Link, Message)>,
}

impl Weights {
    /// Where members come and go, nobody forgets a promise, and no leader is led into the trap that
    /// is laid for one membership.
    fn draw(changes: bool, leased: bool, installs: u64, rng: &mut Rng) -> Self {
        let rare = |rng: &mut Rng, most: u64| match rng.per_mille(500) {
            true => rng.within(0..=most),
            false => 0,
        };
        let mood = |rng: &mut Rng, much: u64| if rng.per_mille(200) { much } else { 0 };
        let acts = [
            (Act::Deliver, 300),
            (Act::Reorder, rare(rng, 200)),
            (Act::Lose, rare(rng, 60)),
            (Act::Duplicate, rare(rng, 60)),
            (Act::Sync, 60 + rare(rng, 100)),
            (Act::Propose, 20 + rare(rng, 40)),
            (Act::Read, 3 + rare(rng, 10) + mood(rng, 60)),
            (Act::Time, if rng.per_mille(200) { 4 } else { 20 + rare(rng, 60) }),
            (Act::Crash, rare(rng, 8) + mood(rng, 10)),
            (Act::Restart, 8 + mood(rng, 20)),
            (Act::Cut, rare(rng, 8)),
            (Act::Mend, 6),
            (Act::Campaign, rare(rng, 4) + mood(rng, 20)),
            (Act::Replay, rare(rng, 20)),
            (Act::PeerDown, rare(rng, 4)),
            (Act::Power, rare(rng, 4)),
            (Act::Damage, rare(rng, 10) + mood(rng, 30)),
            (Act::Forget, rare(rng, 1) + mood(rng, 4)),
            (Act::Depose, rare(rng, 4)),
            (Act::HandOver, rare(rng, 10) + mood(rng, 30)),
            (Act::Change, if changes { rng.within(4..=40) } else { 0 }),
            (Act::Install, installs),
            (Act::Usurp, if leased { 4 } else { 0 }),
        ];
        let harmless = |(act, weight): (Act, u64)| match act {
            Act::Forget | Act::Depose if changes => (act, 0),
            _ => (act, weight),
        };
        let acts = acts.map(harmless);
        let sum = acts.iter().map(|(_, weight)| weight).sum();
        let slow = if rng.per_mille(300) { rng.within(50..=300) } else { 0 };
        Self { acts, sum, lags: rng.per_mille(250), slow }
    }

    fn choose(&self, rng: &mut Rng) -> Act {
        let mut left = rng.below(self.sum);
        for (act, weight) in &self.acts {
            if left < *weight {
                return *act;
            }
            left -= weight;
        }
        unreachable!("a number below the sum falls into one weight")
    }
}

impl Schedule {
    fn new(seed: u64, traces: bool) -> Self {
        let mut rng = Rng::new(seed);
        let mut cluster = cluster(seed, &mut rng);
        cluster.traces = traces;
        cluster.traces_heartbeats = traces;
        let changes = !cluster.membership.observers().is_empty() || cluster.outsiders > 0;
        let mut apart = Rng::new(seed ^ INSTALLS_SALT);
        let installs = if apart.per_mille(400) { apart.within(1..=20) } else { 0 };
        let leased = cluster.read_lease.is_some();
        let weights = Weights::draw(changes, leased, installs, &mut rng);
        let cores = Cores::new(cluster);
        let ids = cores.ids();
        let links = ids.iter().flat_map(|from| ids.iter().map(|to| Link { from: *from, to: *to }));
        let slow = links.filter(|_| rng.per_mille(weights.slow)).collect();
        Self {
            rng,
            weights,
            cores,
            slow,
            proposed: 0,
            old: Vec::new(),
            asked: BTreeMap::new(),
            released: Vec::new(),
        }
    }

    fn run(&mut self) -> bool {
        for _ in 0..self.rng.within(200..=2000) {
            self.act();
        }
        healing::heal(&mut self.cores)
    }

    fn act(&mut self) {
        let ids = self.cores.ids();
        let id = *self.rng.pick(&ids);
        let other = *self.rng.pick(&ids);
        match self.weights.choose(&mut self.rng) {
            Act::Deliver => self.deliver(true),
            Act::Reorder => self.deliver(false),
            Act::Lose => {
                if let Some((link, index)) = self.message(false) {
                    drop(self.cores.links().take_at(link, index));
                }
            }
            Act::Duplicate => self.duplicate(),
            Act::Replay => self.replay(),
            Act::Sync => match self.rng.per_mille(700) {
                true => self.cores.sync(id),
                false => self.cores.sync_some(id, self.rng.within(1..=3) as usize),
            },
            Act::Propose => self.propose(&ids),
            Act::Read => assert!(self.cores.read(id) > 0),
            Act::Time => self.cores.advance(Duration::from_millis(self.rng.below(60))),
            Act::Crash => self.cores.crash(id),
            Act::Restart => self.cores.restart(id),
            Act::Cut => self.cut(id, other, &ids),
            Act::Mend => match self.rng.per_mille(300) {
                true => self.cores.links().heal(),
                false => self.cores.links().mend(Link { from: id, to: other }),
            },
            Act::Campaign => self.cores.campaign(id),
            Act::PeerDown => self.cores.peer_down(id, other),
            // All at once, or one.
            Act::Power => match self.rng.per_mille(500) {
                true => ids.iter().for_each(|id| self.cores.cut_power(*id)),
                false => self.cores.cut_power(id),
            },
            Act::Damage => self.damage(id),
            Act::Forget => self.forget_promise(id),
            Act::Depose => self.depose(&ids),
            Act::Change => self.change(&ids),
            Act::Install => {
                if !self.cores.install(id, other) {
                    self.cores.install_older(id, other);
                }
            }
            Act::Usurp => self.usurp(&ids),
            Act::HandOver => {
                let stalled = self.rng.per_mille(200);
                ids.iter().for_each(|id| self.cores.hand_over(*id, other, stalled));
            }
        }
    }

    /// A message at random, the next of its link or any. What catches up stays on its way, where
    /// the weights say so, until others have been elected.
    fn message(&mut self, in_order: bool) -> Option<(Link, usize)> {
        let waiting = self.cores.links().waiting().collect::<Vec<_>>();
        if waiting.is_empty() {
            return None;
        }
        let (link, count) = *self.rng.pick(&waiting);
        let is_slow = self.slow.contains(&link) || self.cores.links().is_held(link);
        if is_slow && !self.rng.per_mille(20) {
            return None;
        }
        let lags = self.weights.lags && !self.rng.per_mille(20);
        let mut index = if in_order { 0 } else { self.rng.below(count as u64) as usize };
        while lags
            && let Some(Message::Fetch { .. } | Message::Chosen(_) | Message::Settled { .. }) =
                self.cores.links().peek_at(link, index)
        {
            index += 1;
        }
        (index < count).then_some((link, index))
    }

    fn deliver(&mut self, in_order: bool) {
        let Some((link, index)) = self.message(in_order) else { return };
        // A question that arrives once more makes somebody tell much at an unusual time.
        if let Some(question @ Message::Fetch { .. }) = self.cores.links().peek_at(link, index) {
            self.asked.insert(link, question.clone());
        }
        self.cores.deliver_at(link, index);
    }

    /// Sends a message twice, and keeps it for much later.
    fn duplicate(&mut self) {
        if let Some((link, index)) = self.message(false) {
            self.cores.links().copy_at(link, index);
            self.keep(link, index);
        }
    }

    fn keep(&mut self, link: Link, index: usize) {
        let copy = self.cores.links().peek_at(link, index).cloned();
        self.old.extend(copy.map(|message| (link, message)));
        if self.old.len() > OLD_MAX {
            let at = self.rng.below(self.old.len() as u64) as usize;
            self.old.swap_remove(at);
        }
    }

    /// A message of long ago arrives once more, perhaps at another opening.
    fn replay(&mut self) {
        if !self.old.is_empty() {
            let (link, message) = self.rng.pick(&self.old).clone();
            self.cores.inject(link, message);
        }
    }

    fn propose(&mut self, ids: &[ReplicaId]) {
        let leaders = ids.iter().filter(|id| self.cores.has_room(**id)).copied();
        let leaders = leaders.collect::<Vec<_>>();
        if !leaders.is_empty() {
            self.proposed += 1;
            self.cores.propose(*self.rng.pick(&leaders), &format!("v{}", self.proposed));
        }
    }

    /// All that goes to or comes from one replica, or only one direction of one link.
    fn cut(&mut self, id: ReplicaId, other: ReplicaId, ids: &[ReplicaId]) {
        let links = self.cores.links();
        if self.rng.per_mille(300) {
            ids.iter().for_each(|other| {
                links.cut(Link { from: id, to: *other });
                links.cut(Link { from: *other, to: id });
            });
        } else {
            links.cut(Link { from: id, to: other });
        }
    }

    /// Loses what is durable: without a trace never more than the rules promise to outlive; where
    /// it is known to be lost, sometimes more, and nothing else may be chosen in its place.
    fn damage(&mut self, id: ReplicaId) {
        let slot = Slot(1 + self.rng.below(self.cores.checks().learned().0 + 4));
        let kinds = [Damage::Slot(slot), Damage::Somewhere(slot), Damage::End];
        let damage = *self.rng.pick(&kinds);
        let checks = self.cores.checks();
        let spare = checks.smallest_phase2() as usize - 1;
        let mut endangered = self.cores.endangered(id, damage).into_iter();
        let spares = endangered.all(|slot| checks.lost_elsewhere(id, slot) < spare);
        let is_known = damage != Damage::End && self.rng.per_mille(50);
        if self.cores.view(id).is_none() && (spares || is_known) {
            self.cores.damage(id, damage);
        }
    }

    /// Loses a promise, but of no more replicas than both quorums can do without.
    fn forget_promise(&mut self, id: ReplicaId) {
        let membership = &self.cores.cluster().membership;
        let quorum = u64::from(membership.phase1().max(membership.phase2()));
        // Only the last replicas ever forget, so that it need not be counted which did.
        if quorum < id.0 && self.cores.view(id).is_none() {
            self.cores.damage(id, Damage::Promise);
        }
    }
}

fn cluster(seed: u64, rng: &mut Rng) -> Cluster {
    let shapes = [
        (3, 2, 2),
        (3, 2, 2),
        (5, 3, 3),
        (5, 3, 3),
        (4, 3, 2),
        (4, 3, 3),
        (3, 3, 1),
        (5, 4, 2),
        (5, 4, 4),
    ];
    let (count, phase1, phase2) = *rng.pick(&shapes);
    let mut cluster = Cluster::flexible(count, phase1, phase2, *rng.pick(&[2, 4, 64]));
    if rng.per_mille(250) {
        cluster = cluster.observed(rng.within(0..=3));
        cluster.outsiders = rng.within(1..=3);
    }
    cluster.seed = seed;
    cluster.inflight_slots_max = cluster.membership.alpha().min(*rng.pick(&[2, 16]));
    cluster.message_bytes_max = *rng.pick(&[20, 64, 4096]);
    cluster.remembers_chosen = rng.per_mille(500);
    (cluster.read_lease, cluster.uptime_rates) = leases::of_schedule(seed, cluster.ids().len());
    cluster
}

/// So that what else is drawn does not depend on installs.
const INSTALLS_SALT: u64 = 0x5afe_0f5e_ed00_0012;
