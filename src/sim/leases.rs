//! Which seeds have leases for reads, how long ones, and how fast the clocks run that measure them.
//!
//! In a part of these seeds the replicas differ, and each may have a longer one, a shorter one or
//! none whenever it is opened.
//!
//! All that is drawn here comes from the seed by a way of its own: a seed without leases is what it
//! would be if there were none.

use std::time::Duration;

use crate::types::ids::ReplicaId;
use crate::types::time::whole_millis;

use super::rng::Rng;
use super::simulation::Simulation;

/// The leases of a swarm.
pub(super) fn draw(seed: u64) -> Option<Duration> {
    let mut rng = Rng::new(seed ^ SALT);
    let length = length(&mut rng);
    rng.per_mille(LEASED).then_some(length)
}

/// The leases that the replicas of a swarm are opened with, where these differ.
#[derive(Debug)]
pub(super) struct Lengths {
    rng: Rng,
}

impl Lengths {
    /// `None` where all replicas have the same for good.
    fn of(seed: u64) -> Option<Self> {
        let mut rng = Rng::new(seed ^ SALT ^ 3);
        let differ = draw(seed).is_some() && rng.per_mille(DIFFERENT);
        differ.then_some(Self { rng })
    }

    /// A replica is about to be opened: sometimes with another lease than before.
    pub(super) fn exchange(&mut self, sim: &Simulation, id: ReplicaId) {
        let (length, none) = (length(&mut self.rng), self.rng.per_mille(NONE));
        if self.rng.per_mille(EXCHANGED) {
            let length = (!none).then_some(length);
            sim.change_settings(id, |settings| settings.driver.read_lease = length);
        }
    }
}

/// The clocks of a swarm that has leases: each as fast or as slow as is allowed, or in between.
pub(super) fn draw_clocks(seed: u64, sim: &Simulation) {
    let ids = sim.ids();
    if draw(seed).is_some() {
        let rates = rates(&mut Rng::new(seed ^ SALT ^ 1), ids.len());
        for (id, rate) in ids.into_iter().zip(rates) {
            set_rate(sim, id, rate);
        }
    }
}

/// The leases of a swarm whose replicas differ, which they do from the beginning.
pub(super) fn draw_lengths(seed: u64, sim: &Simulation) -> Option<Lengths> {
    let mut lengths = Lengths::of(seed)?;
    sim.ids().into_iter().for_each(|id| lengths.exchange(sim, id));
    Some(lengths)
}

/// The leases and the clocks of a schedule of cores.
pub(super) fn of_schedule(seed: u64, replicas: usize) -> (Option<Duration>, Vec<u64>) {
    let mut rng = Rng::new(seed ^ SALT ^ 2);
    if !rng.per_mille(LEASED / 2) {
        return (None, Vec::new());
    }
    let length = rng.time(Duration::from_millis(50)..=Duration::from_millis(450));
    (Some(whole_millis(length)), rates(&mut rng, replicas))
}

fn length(rng: &mut Rng) -> Duration {
    whole_millis(rng.time(Duration::from_millis(300)..=Duration::from_millis(3000)))
}

fn set_rate(sim: &Simulation, id: ReplicaId, rate: u64) {
    sim.change_clock(id, |clock, now| clock.set_uptime_rate(now, rate));
}

fn rates(rng: &mut Rng, count: usize) -> Vec<u64> {
    let between = |rng: &mut Rng| rng.within(SLOWEST..=FASTEST);
    let rate = |rng: &mut Rng| match rng.below(5) {
        0 | 1 => SLOWEST,
        2 | 3 => FASTEST,
        _ => between(rng),
    };
    (0..count).map(|_| rate(rng)).collect()
}

/// Of a thousand seeds, so many have leases.
const LEASED: u64 = 350;

/// Of a thousand seeds that have leases, in so many the replicas differ.
const DIFFERENT: u64 = 600;

/// Of a thousand openings there, before so many the lease is drawn anew; and of these, so many have
/// none.
const EXCHANGED: u64 = 400;
const NONE: u64 = 250;

/// Thousandths of the true rate: what is allowed.
const SLOWEST: u64 = 900;
const FASTEST: u64 = 1100;

const SALT: u64 = 0x5afe_0f5e_ed00_0020;
