//! One replica, running.
//!
//! ```text
//!  caller threads          reader of peer 2, 3        writer 1, 2, 3           clock
//!  put().wait()            TCP bytes -> messages      write + sync a group     wakes on time
//!       |                         |                         |                    |
//!       |  push an event          |                         |                    |
//!       v                         v                         v                    v
//!  +---------------------------- inbox ----------------------------------------------+
//!       |   whoever pushed, and finds nobody driving, drives
//!       v
//!    driver: one turn after the other -----> messages (sent from here), journal jobs (queued),
//!                                            answers (given from here)
//! ```
//!
//! There is no driver thread. Every thread that brings an event tries to take the driver; who has
//! it takes all events there are, and who does not may leave: its event is seen. So an event costs
//! no hand-off, and a write costs at most one wake-up on its way in (a journal writer) and one on
//! its way out (the caller). A lone replica's caller runs the journal job itself and needs neither.
//!
//! The layers: [`driver`] is everything that a replica decides, without threads; [`threads`] is the
//! only file of the crate that spawns and reads a clock.

pub mod driver;
mod forming;
mod forwards;
mod journaling;
pub mod report;
pub mod turn;

pub mod batcher;
pub mod gate;
pub mod requests;
pub mod tail;

pub mod handle;
pub mod pending;

mod events;
pub mod opening;
mod signals;
pub mod threads;
