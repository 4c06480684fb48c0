//! The public face, on one replica and on three: what a program that embeds the crate may rely on.
//!
//! Real disks in temporary directories; TCP over loopback, or the network within the process where
//! links are cut. Nothing sleeps for a fixed time.

#![allow(clippy::unwrap_used, reason = "a test panics on what it does not expect")]

#[path = "support/cluster.rs"]
mod cluster;

#[path = "api/addresses.rs"]
mod addresses;
#[path = "api/alone.rs"]
mod alone;
#[path = "api/checkpoints.rs"]
mod checkpoints;
#[path = "api/deadlines.rs"]
mod deadlines;
#[path = "api/failover.rs"]
mod failover;
#[path = "api/leadership.rs"]
mod leadership;
#[path = "api/leases.rs"]
mod leases;
#[path = "api/ledger.rs"]
mod ledger;
#[path = "api/membership.rs"]
mod membership;
#[path = "api/pending.rs"]
mod pending;
#[path = "api/quorums.rs"]
mod quorums;
#[path = "api/resolve.rs"]
mod resolve;
#[path = "api/restoring.rs"]
mod restoring;
#[path = "api/together.rs"]
mod together;
