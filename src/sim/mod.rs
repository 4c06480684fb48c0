//! The shipped replica under simulation: seeded, in one thread, in virtual time.
//!
//! [`Simulation`] runs whole replicas, the very driver, protocol core, journal and store that a
//! service links, on simulated disks, clocks and a simulated network, all of which fail in every
//! way that is known of them. Everything that happens follows from a seed. What becomes durable is
//! read from the bytes on the disks and held against all that the replicas say and do
//! ([`witness`]); what callers are told is held against what can be right ([`checkers`]).
//!
//! Code for a service runs here as it is: a simulated [`Replica`](crate::Replica) is called like a
//! real one, and time passes while somebody waits for an answer.
//!
//! ```
//! use std::time::Duration;
//!
//! use indelible::RawTable;
//! use indelible::sim::Simulation;
//!
//! # fn main() -> indelible::Result<()> {
//! const NOTES: RawTable<u64> = RawTable::new("notes");
//! let sim = Simulation::new(7);
//! let written = sim.replica(1).put(NOTES, 1, b"text").wait()?;
//!
//! // The leader's machine loses power, and nothing of what was not synced survives.
//! let leader = sim.leader().expect("somebody answered");
//! sim.cut_power(leader, &mut |_| false);
//! let other = sim.replica(if leader == 1.into() { 2 } else { 1 });
//! let read = other.get(NOTES, 1).wait()?.expect("what is acknowledged is not lost");
//! assert_eq!(Some(read.version), written.txid);
//! # Ok(())
//! # }
//! ```
//!
//! A simulation has the replicas' faults in the caller's hands. Random faults, random clients and
//! all checkers together make a *swarm*: [`swarm::run`] takes a seed and tells what happened.
//!
//! [`cores::Cores`] is older and smaller: protocol cores only, each step in the caller's hands. The
//! protocol's scripts are written against it, and its random [schedules](schedule). One journal by
//! itself lives its random [`lives`]. In all of these [arenas](arena) seeded mistakes are hunted.
//!
//! Code of a service runs here where it is given its [`Replica`](crate::Replica); one that opens it
//! by itself, with a builder and a [`Config`](crate::Config), does not: here the [`Plan`] and the
//! [`Settings`] say how a replica is opened. Time passes in the methods of a simulation, in `wait`
//! and in `wait_timeout`, and in no other executor than [`Simulation::block_on`]. A handle is of
//! one opening: after a crash calls on it fail, and its `status` panics. To drop the last handle of
//! a simulated replica stops nothing.
//!
//! A step that breaks an invariant panics, with the name of the invariant and what broke it. Same
//! calls, same seed: same trace.
//!
//! There is no promise of stability here.

mod calls;
mod exclusive;
mod members;
pub mod places;
pub mod plan;
pub mod simulation;

mod agenda;
mod fence;
mod machine;
mod world;

pub mod clock;
pub mod disk;
pub mod network;

pub mod durable;
pub mod witness;

pub mod checkers;
mod judges;

pub mod arena;
pub mod campaign;
mod churn;
pub mod faults;
pub mod floors;
mod rot;
mod settling;
mod strike;
pub mod swarm;
pub mod workload;

pub mod rng;
pub mod trace;

pub use machine::{DiskSpeed, Settings};
pub use places::{Place, Target};
pub use plan::Plan;
pub use simulation::Simulation;
pub use world::Counts;

pub mod cluster;
pub mod cores;

pub mod links;

pub mod checks;
pub mod healing;
mod installs;
pub mod journal;
pub mod lives;
mod openings;
mod opinions;
mod ravage;
pub mod schedule;

mod leases;
pub mod lines;
