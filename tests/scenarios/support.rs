//! What every scenario needs: a cluster with a leader, writes that are remembered, and an end in
//! which everything comes together.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use indelible::sim::network::{Parcel, Weather};
use indelible::sim::rng::Rng;
use indelible::sim::{DiskSpeed, Plan, Simulation};
use indelible::types::ids::{Ballot, Slot};
use indelible::{Committed, Pending, RawTable, ReplicaId, Result};

pub const NOTES: RawTable<u64> = RawTable::new("notes");

/// The election timeout of the simulated replicas.
pub const TIMEOUT: Duration = Duration::from_millis(500);

/// Within this time after the last fault everything is well again.
pub const BOUND: Duration = Duration::from_secs(5);

const SEEDS: u64 = 20;

/// A power cut of which nothing survives that was not synced.
pub fn nothing_survives(_: &indelible::sim::disk::Piece<'_>) -> bool {
    false
}

/// A formed cluster, the replica that led first, and what was acknowledged.
pub struct Cluster {
    pub sim: Simulation,
    pub leader: ReplicaId,
    pub others: Vec<ReplicaId>,
    rng: RefCell<Rng>,
    acked: RefCell<BTreeMap<u64, Vec<u8>>>,
    keys: Cell<u64>,
}

/// Runs a scenario with a cluster of `replicas` for some seeds.
pub fn for_seeds(replicas: u64, scenario: impl Fn(&Cluster)) {
    for_seeds_of(&Plan { replicas, ..Plan::default() }, scenario);
}

/// Runs a scenario with a cluster that is made so, for some seeds.
pub fn for_seeds_of(plan: &Plan, scenario: impl Fn(&Cluster)) {
    for_few_seeds_of(SEEDS, plan, scenario);
}

/// The same for this many seeds: where each takes long.
pub fn for_few_seeds_of(seeds: u64, plan: &Plan, scenario: impl Fn(&Cluster)) {
    for seed in 0..seeds {
        println!("seed {seed}");
        scenario(&Cluster::new(seed, plan));
    }
}

impl Deref for Cluster {
    type Target = Simulation;

    fn deref(&self) -> &Simulation {
        &self.sim
    }
}

impl Cluster {
    fn new(seed: u64, plan: &Plan) -> Self {
        let sim = Simulation::switched_off(seed, plan);
        sim.keep_trace(300);
        let mut rng = sim.rng();
        let delay = Duration::from_micros(rng.within(100..=3000));
        sim.set_weather(Weather {
            delay: (delay / 4, delay),
            straggle: rng.below(40),
            duplicate: rng.below(40),
            ..Weather::default()
        });
        for id in sim.ids() {
            let sync = Duration::from_micros(rng.within(50..=4000));
            let straggle = rng.below(20);
            sim.set_disk_speed(id, DiskSpeed { sync: (sync / 4, sync), straggle });
            let opened = id.0 > plan.replicas || sim.open(id);
            assert!(opened, "a blank disk can be opened");
        }
        assert!(sim.run_until(BOUND, |sim| sim.leader().is_some()), "nobody leads");
        let leader = sim.leader().unwrap();
        let others = sim.members().into_iter().filter(|id| *id != leader).collect();
        let acked = RefCell::default();
        let cluster =
            Self { sim, leader, others, rng: RefCell::new(rng), acked, keys: Cell::new(0) };
        cluster.write_some(leader, 3);
        cluster
    }

    pub fn below(&self, bound: u64) -> u64 {
        self.rng.borrow_mut().below(bound)
    }

    /// Lets so many election timeouts pass.
    pub fn run_timeouts(&self, count: u32) {
        self.run_for(TIMEOUT * count);
    }

    /// Waits until the condition holds, for as long as anything may take after a fault.
    #[track_caller]
    pub fn expect(&self, what: &str, condition: impl Fn(&Simulation) -> bool) {
        self.expect_within(BOUND, what, condition);
    }

    #[track_caller]
    pub fn expect_within(
        &self,
        time: Duration,
        what: &str,
        condition: impl Fn(&Simulation) -> bool,
    ) {
        if !self.run_until(time, condition) {
            let trace = self.take_trace().join("\n");
            panic!("{what}: not within {time:?}, seed {}\n{trace}", self.seed());
        }
    }

    /// A write of a key of its own begins; what is to be acknowledged is told to [`Self::end`].
    pub fn begin(&self, id: ReplicaId, bytes: usize) -> (u64, Vec<u8>, Pending<Committed>) {
        let key = self.keys.replace(self.keys.get() + 1);
        let mut value = key.to_le_bytes().to_vec();
        value.resize(bytes.max(8), key as u8);
        let pending = self.replica(id).put(NOTES, key, &value);
        (key, value, pending)
    }

    /// A write that began is waited for. What is acknowledged is remembered.
    pub fn end(&self, (key, value, pending): (u64, Vec<u8>, Pending<Committed>)) -> Result<()> {
        pending.wait()?;
        self.acked.borrow_mut().insert(key, value);
        Ok(())
    }

    pub fn write(&self, id: ReplicaId) -> Result<()> {
        self.end(self.begin(id, 64))
    }

    #[track_caller]
    pub fn write_some(&self, id: ReplicaId, count: usize) {
        for _ in 0..count {
            self.write(id).unwrap_or_else(|err| {
                let trace = self.take_trace().join("\n");
                panic!("replica {id}, seed {}: {err}\n{trace}", self.seed())
            });
        }
    }

    /// The machine loses power and everything that was not synced, and is switched on again.
    #[track_caller]
    pub fn power_cycle(&self, id: ReplicaId) {
        self.cut_power(id, &mut nothing_survives);
        self.reopen(id);
    }

    #[track_caller]
    pub fn reopen(&self, id: ReplicaId) {
        assert!(self.open(id), "seed {}: {:?}", self.seed(), self.refusal(id));
    }

    /// Keeps a copy of every message that matches, from now on.
    pub fn record(
        &self,
        matches: impl Fn(&Parcel) -> bool + Send + 'static,
    ) -> Arc<Mutex<Vec<Parcel>>> {
        let copies = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&copies);
        // A rule that matches nothing sees everything.
        self.rule(indelible::sim::network::Fate::Drop, move |parcel| {
            if matches(parcel) {
                kept.lock().unwrap().push(parcel.clone());
            }
            false
        });
        copies
    }

    /// The ballot under which somebody leads and may serve.
    pub fn ballot(&self) -> Option<Ballot> {
        self.report(self.sim.leader()?)?.view?.leader
    }

    /// Everybody who belongs knows the log as far as everybody else, and somebody leads.
    pub fn is_level(sim: &Simulation) -> bool {
        let members = sim.members().into_iter();
        let mut slots = members.map(|id| sim.is_up(id).then(|| sim.slot_chosen(id)));
        let first = slots.next().flatten();
        first.is_some_and(|slot| slot > Slot::ZERO)
            && slots.all(|slot| slot == first)
            && sim.leader().is_some()
    }

    /// Mends everything, and demands that the cluster comes together in time: all who belong know
    /// the same log, writes through each of them succeed, nothing that was acknowledged is lost.
    #[track_caller]
    pub fn settle(&self) {
        self.heal();
        self.set_weather(Weather::default());
        for id in self.ids() {
            self.disk(id).disarm();
            self.disk(id).set_room(None);
            self.set_disk_speed(id, DiskSpeed::default());
            self.resume_disk(id);
            if !self.is_up(id) && !self.is_outside(id) {
                if self.report(id).is_some() {
                    self.crash(id);
                }
                self.reopen(id);
            }
            self.resume(id);
        }
        // Whoever campaigned before may still win; what that one proposes then may be lost.
        self.run_timeouts(2);
        let rest = BOUND - TIMEOUT * 2;
        self.expect_within(rest, "the cluster comes together", Self::is_level);
        for id in self.members() {
            self.write_some(id, 1);
        }
        self.expect("the cluster is level again", Self::is_level);
        self.check_state();
    }

    /// Every replica that is up, and belongs, has what was acknowledged, and the same state as the
    /// others.
    #[track_caller]
    pub fn check_state(&self) {
        let up = self.members().into_iter().filter(|id| self.is_up(*id)).collect::<Vec<_>>();
        for id in &up {
            let snapshot = self.replica(*id).snapshot().wait().unwrap();
            for (key, value) in &*self.acked.borrow() {
                let found = snapshot.get(NOTES, *key).unwrap();
                let found = found.unwrap_or_else(|| panic!("replica {id} lost key {key}"));
                assert!(found.value[..] == value[..], "replica {id}, key {key}: {found:?}");
            }
        }
        self.expect("the cluster is level", |sim| {
            let slots = up.iter().map(|id| sim.slot_chosen(*id)).collect::<Vec<_>>();
            slots.iter().all(|slot| *slot == slots[0])
        });
        let digests = up.iter().map(|id| self.replica(*id).status().digest).collect::<Vec<_>>();
        assert!(digests.iter().all(|digest| *digest == digests[0]), "{digests:x?}");
    }
}

/// Whether a message goes from the one to the other and is called so.
pub fn is(parcel: &Parcel, from: ReplicaId, to: ReplicaId, name: &str) -> bool {
    parcel.link.from == from && parcel.link.to == to && parcel.message.name() == name
}
