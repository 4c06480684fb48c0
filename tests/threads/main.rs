//! The threads of a replica under many schedules: no wake-up is lost, every call is answered, and
//! all threads end.
//!
//! Empty but under the flag: `RUSTFLAGS="--cfg shuttle" cargo test --release --test threads`. With
//! `SCHEDULES=n` each test runs n times its share of schedules, with `SEED=n` others than usual.
//! The same seed runs the same ones.

#![cfg(shuttle)]
#![allow(clippy::unwrap_used, reason = "a test panics on what it does not expect")]

mod ends;
mod engine;
mod explore;
mod pending;
mod replica;
mod signals;
