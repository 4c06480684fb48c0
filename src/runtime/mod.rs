//! One replica, running.
//!
//! ```text
//!  caller threads          reader of peer 2, 3        writer 1 to 4            clock
//!  put().wait()            TCP bytes -> messages      write + sync a group     wakes on time
//!       |                         |                         |                    |
//!       |  push an event          |                         |                    |
//!       v                         v                         v                    v
//!  +---------------------------- inbox ----------------------------------------------+
//!       |   whoever pushed, and finds nobody driving, drives
//!       v
//!    driver: one turn after the other -----> messages (sent from here), journal jobs (queued);
//!       |   let go of the driver             a lone caller runs its job itself
//!       v
//!    answers: wake who waits
//! ```
//!
//! There is no driver thread. Every thread that brings an event tries to take the driver, but for
//! a call that is left (`gathering`); who has it takes all events there are, and who does not may
//! leave: its event is seen. So an event costs no hand-off, and a write costs at most one wake-up
//! on its way in (a journal writer) and one on its way out (the caller). A lone replica's caller
//! runs the journal job itself and needs neither. Answers are given when the driver is free again:
//! whoever is woken may call the replica at once.
//!
//! * [`driver`] is everything that a replica decides, without threads; [`turn`] is what goes into a
//!   turn and comes out. Each file says what its part of the driver is; docs/architecture.md has
//!   them all. Events wait for it in the `inbox`; `gathering` says which calls are left there
//!   without a turn.
//! * [`threads`] is the only file of the crate that spawns and reads a clock; `signals` is what the
//!   threads wait for. It asks the [`gate`] whom to talk to.
//! * [`opening`] is how the facade starts a replica, [`handle`] how it calls it, [`pending`] what
//!   it gets back.

mod admission;
mod applying;
pub mod backups;
mod calls;
pub mod changes;
mod checkpoints;
pub mod driver;
mod editions;
mod ending;
mod fence;
mod forming;
mod forwards;
mod gathering;
mod handover;
mod held;
mod journaling;
mod leases;
mod leaving;
mod lost;
mod next_leader;
mod priorities;
mod receiving;
mod repair;
pub mod report;
pub mod restoring;
mod search;
mod sending;
mod sharing;
mod space;
mod stalled;
pub mod turn;

pub mod batcher;
pub mod gate;
pub mod requests;
pub mod tail;
pub mod tickets;
mod trimming;
mod waking;
pub mod writes;

pub mod handle;
pub mod pending;

mod events;
mod inbox;
mod installing;
pub mod opening;
pub mod signals;
pub mod threads;
