//! Clocks, given from outside: two that only run forward, and the calendar.

use std::fmt;
use std::ops::Add;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A reading of a clock that only runs forward: nanoseconds since some start. For timers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(pub u64);

impl Moment {
    /// The start of the clock.
    pub const ZERO: Self = Self(0);

    /// How long after `earlier` this is; zero where it is not after it.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Moment {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(nanos))
    }
}

/// What is asked of others is told in milliseconds: this time without what is left over.
#[must_use]
pub fn whole_millis(time: Duration) -> Duration {
    Duration::from_millis(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
}

/// What the clocks of a replica show, read after the events came in that they are for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Clocks {
    /// For timers: it may stand still while the machine sleeps.
    pub now: Moment,
    /// For leases: since the machine was started, asleep or awake.
    pub uptime: Moment,
    /// The calendar.
    pub wall: Time,
}

/// A time of the calendar as a leader saw it: milliseconds since 1970 (UTC).
///
/// Every entry of the ledger carries one, clamped so that it never goes back from one entry to the
/// next. It is information, not order: the order of transactions is their [`TxId`](crate::TxId).
///
/// ```
/// use indelible::Time;
/// assert!(Time(1) > Time(0));
/// ```
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Time(pub i64);

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ms", self.0)
    }
}
