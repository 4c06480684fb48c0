//! The clock that leases are measured by: it runs while the machine sleeps.
//!
//! On Linux that is `CLOCK_BOOTTIME`. Nobody can set it; but who corrects the calendar by changing
//! the rate of clocks changes its rate, too. The monotonic clock that timers use will not do: it
//! stands still in suspend, and a leader that slept for an hour would believe its lease. Elsewhere
//! there is none that can be read without `unsafe`, and no lease.
//!
//! A virtual machine that is paused, or moved while it runs, may find all its clocks late
//! afterwards, this one too; and where no clock runs in suspend, the system adds what it takes for
//! the time that was slept, in steps that may be a second. That no clock within it can tell.

use std::time::Duration;

/// How long the machine has been up, asleep or awake; `None` where no clock tells.
#[cfg(any(target_os = "linux", target_os = "android"))]
#[must_use]
pub fn uptime() -> Option<Duration> {
    let read = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Duration::try_from(read).ok()
}

/// How long the machine has been up, asleep or awake; `None` where no clock tells.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
#[must_use]
pub fn uptime() -> Option<Duration> {
    None
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn it_runs() {
        let (first, second) = (uptime(), uptime());
        assert!(first.is_some() && first <= second, "{first:?}, then {second:?}");
    }
}
