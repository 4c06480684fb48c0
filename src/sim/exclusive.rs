//! One call at a time: what a simulation is made of has a lock, and whoever would wait for it would
//! wait for ever.

use std::fmt::Display;

use parking_lot::{Mutex, MutexGuard};

/// Takes the lock, for `call`.
///
/// # Panics
///
/// Where it is taken. Everything here happens in one thread.
pub(super) fn enter<'a, T>(lock: &'a Mutex<T>, call: impl Display) -> MutexGuard<'a, T> {
    let free = lock.try_lock();
    free.unwrap_or_else(|| {
        panic!(
            "{call}: a call is under way: this one comes from its closure, or from a second thread"
        )
    })
}
