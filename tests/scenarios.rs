//! What happened to other systems that do this job, staged with whole replicas: each function is
//! named after what must hold, and its first comment says where it was seen.
//!
//! Each runs for several seeds with other timings, ends with everything mended, and demands that
//! the cluster comes together within ten election timeouts. The witness checks every event.

#![allow(clippy::unwrap_used, reason = "a test panics on what it does not expect")]

#[path = "scenarios/support.rs"]
mod support;

#[path = "scenarios/core.rs"]
mod core;

#[path = "scenarios/partition.rs"]
mod partition;

#[path = "scenarios/reads.rs"]
mod reads;

#[path = "scenarios/disks.rs"]
mod disks;

#[path = "scenarios/damage.rs"]
mod damage;

#[path = "scenarios/checkpoints.rs"]
mod checkpoints;

#[path = "scenarios/transfers.rs"]
mod transfers;

#[path = "scenarios/leadership.rs"]
mod leadership;

#[path = "scenarios/priorities.rs"]
mod priorities;

#[path = "scenarios/clients.rs"]
mod clients;

#[path = "scenarios/exactly_once.rs"]
mod exactly_once;

#[path = "scenarios/editions.rs"]
mod editions;

#[path = "scenarios/leases.rs"]
mod leases;

#[path = "scenarios/membership.rs"]
mod membership;

#[path = "scenarios/addresses.rs"]
mod addresses;

#[path = "scenarios/alone.rs"]
mod alone;

#[path = "scenarios/leaving.rs"]
mod leaving;

#[path = "scenarios/newcomers.rs"]
mod newcomers;

#[path = "scenarios/promotions.rs"]
mod promotions;

#[path = "scenarios/refusals.rs"]
mod refusals;

#[path = "scenarios/forced.rs"]
mod forced;

#[path = "scenarios/hostile.rs"]
mod hostile;
