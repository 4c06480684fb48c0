//! Replicas without threads, disks or sockets, driven step by step.
//!
//! [`cores::Cores`] is a cluster of protocol cores in one thread: time, the network and every sync
//! are in the caller's hands, and each step is checked by someone who sees all journals at once
//! ([`checks`]). Scripts and random schedules are both written against it.
//!
//! A step that breaks an invariant panics, with the name of the invariant, the replica and the
//! slot. Same calls, same seed: same trace.
//!
//! ```
//! use indelible::ReplicaId;
//! use indelible::sim::cluster::Cluster;
//! use indelible::sim::cores::Cores;
//!
//! let mut cores = Cores::new(Cluster::of(3));
//! cores.campaign(ReplicaId(1));
//! cores.stabilize();
//! assert!(cores.propose(ReplicaId(1), "a"));
//! cores.stabilize();
//! assert_eq!(cores.chosen(ReplicaId(3)).len(), 2, "the membership, and the entry");
//! ```

pub mod cluster;
pub mod cores;

pub mod links;

pub mod journal;
mod openings;

pub mod checks;

pub mod trace;
