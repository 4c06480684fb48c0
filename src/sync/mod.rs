//! What the threads of a replica share and wait by: locks, condition variables, atomics, the time.
//!
//! In every build that ships these are those of `parking_lot` and the standard library, by their
//! own names; nothing stands between. Under `--cfg shuttle`, a flag of the compiler and no feature,
//! so that no `--all-features` turns it on, they are stand-ins of the same shape (`explored`), by
//! which [shuttle](https://docs.rs/shuttle) decides who runs next and when time passes.
//! `tests/threads/` then runs the same code through many schedules.
//!
//! Not here: locks that are never held while their thread waits for anything else. They cannot make
//! a schedule that these do not, and stay what they are: the store's, the tail's, the gate's.

#[cfg(shuttle)]
mod explored;
pub mod uptime;

#[cfg(not(shuttle))]
pub use parking_lot::{Condvar, Mutex, MutexGuard};

#[cfg(shuttle)]
pub use explored::{Condvar, Instant, Mutex, MutexGuard, elapsed, pass_time};

/// Numbers and flags that threads share.
pub mod atomic {
    #[cfg(shuttle)]
    pub use shuttle::sync::atomic::{AtomicBool, AtomicUsize};

    #[cfg(not(shuttle))]
    pub use std::sync::atomic::{AtomicBool, AtomicUsize};
}

#[cfg(not(shuttle))]
pub use std::{thread, thread_local, time::Instant};

#[cfg(shuttle)]
pub use shuttle::{thread, thread_local};
