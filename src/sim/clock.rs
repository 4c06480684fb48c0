//! What time it is at one replica: its clock runs too fast or too slow, stands still, and jumps.
//!
//! The simulation has one true time. A replica sees only its own, made of it: a rate that may
//! differ by some percent, and a distance that changes when the clock jumps. The clock of timers
//! never goes back by itself; a simulated one may, since the driver promises to cope with that.
//! The clock of leases does neither jump nor stand still, and its rate is off by a tenth at most:
//! that much is assumed of it. The calendar may be anything.

use std::time::Duration;

use crate::types::time::{Clocks, Moment, Time};

/// One part of a thousand of the true rate.
const RATE_ONE: i128 = 1000;

/// A clock of timers and a calendar.
#[derive(Clone, Debug)]
pub struct LocalClock {
    /// When the rate last changed, truly.
    since: Moment,
    /// What the clock showed then.
    shown: i128,
    /// Thousandths of the true rate.
    rate: i128,
    /// What the clock showed at most before it jumped back.
    highest: i128,
    /// What the calendar is off by, in milliseconds.
    calendar: i64,
    /// When the rate of the clock of leases last changed, truly, and what it showed then.
    uptime: (Moment, Moment),
    /// Thousandths of the true rate, of the clock of leases.
    uptime_rate: u64,
}

impl Default for LocalClock {
    fn default() -> Self {
        Self {
            since: Moment::ZERO,
            shown: 0,
            rate: RATE_ONE,
            highest: 0,
            calendar: CALENDAR_START,
            uptime: (Moment::ZERO, Moment::ZERO + UPTIME_START),
            uptime_rate: 1000,
        }
    }
}

impl LocalClock {
    /// What the clock shows.
    #[must_use]
    pub fn read(&self, now: Moment) -> Moment {
        Moment(u64::try_from(self.exact(now)).unwrap_or(0))
    }

    /// What the clock of leases shows.
    #[must_use]
    pub fn uptime(&self, now: Moment) -> Moment {
        let (since, shown) = self.uptime;
        let passed =
            u128::from(now.0.saturating_sub(since.0)) * u128::from(self.uptime_rate) / 1000;
        Moment(shown.0.saturating_add(u64::try_from(passed).unwrap_or(u64::MAX)))
    }

    /// From now on the clock of leases runs at `per_mille` thousandths of the true rate.
    pub fn set_uptime_rate(&mut self, now: Moment, per_mille: u64) {
        self.uptime = (now, self.uptime(now));
        self.uptime_rate = per_mille;
    }

    /// What the calendar shows.
    #[must_use]
    pub fn calendar(&self, now: Moment) -> Time {
        Time((now.0 / 1_000_000) as i64 + self.calendar)
    }

    /// What all clocks show.
    #[must_use]
    pub fn clocks(&self, now: Moment) -> Clocks {
        Clocks { now: self.read(now), uptime: self.uptime(now), wall: self.calendar(now) }
    }

    /// The true time at which the clock will show `moment`; `None` while it stands still.
    #[must_use]
    pub fn when(&self, moment: Moment) -> Option<Moment> {
        let missing = i128::from(moment.0) - self.shown;
        if missing <= 0 {
            return Some(self.since);
        }
        // Rounded up: woken a nanosecond early, a replica would find nothing to do.
        let wait = match self.rate {
            RATE_ONE => missing,
            rate => (missing * RATE_ONE + rate - 1).checked_div(rate)?,
        };
        Some(Moment(self.since.0.saturating_add(u64::try_from(wait).unwrap_or(u64::MAX))))
    }

    /// From now on it runs at `per_mille` thousandths of the true rate; 0 stands still.
    pub fn set_rate(&mut self, now: Moment, per_mille: u64) {
        self.shown = self.exact(now);
        self.since = now;
        self.rate = i128::from(per_mille);
    }

    /// It jumps ahead, as a clock does that ran while its machine was suspended.
    pub fn jump(&mut self, ahead: Duration) {
        self.shown += ahead.as_nanos() as i128;
    }

    /// It jumps back.
    pub fn jump_back(&mut self, now: Moment, back: Duration) {
        self.highest = self.highest.max(self.exact(now));
        self.shown -= back.as_nanos() as i128;
    }

    /// It is a good clock again: it runs at the true rate, and where it jumped back, it is set to
    /// what it showed before. Until then time would stand still for a replica.
    pub fn mend(&mut self, now: Moment) {
        self.shown = self.exact(now).max(self.highest);
        self.since = now;
        self.rate = RATE_ONE;
    }

    /// The calendar is set ahead, or back, by so many milliseconds.
    pub fn step_calendar(&mut self, millis: i64) {
        self.calendar = self.calendar.saturating_add(millis);
    }

    /// Whether the clock runs at the true rate.
    #[must_use]
    pub fn is_true(&self) -> bool {
        self.rate == RATE_ONE
    }

    fn exact(&self, now: Moment) -> i128 {
        let passed = i128::from(now.0.saturating_sub(self.since.0));
        match self.rate {
            RATE_ONE => self.shown + passed,
            rate => self.shown + passed * rate / RATE_ONE,
        }
    }
}

/// How long the machines have been up at the beginning.
const UPTIME_START: Duration = Duration::from_secs(1);

/// The first of January 2026.
const CALENDAR_START: i64 = 1_767_225_600_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_is_early_late_or_still() {
        let second = |count: u64| Moment(count * 1_000_000_000);
        let mut clock = LocalClock::default();
        assert_eq!(clock.read(second(3)), second(3));
        clock.set_rate(second(3), 1100);
        assert_eq!(clock.read(second(13)), second(14));
        assert_eq!(clock.when(second(14)), Some(second(13)));
        clock.jump(Duration::from_secs(6));
        assert_eq!(clock.read(second(13)), second(20));
        clock.set_rate(second(13), 0);
        assert_eq!((clock.read(second(99)), clock.when(second(21))), (second(20), None));
        clock.jump_back(second(99), Duration::from_secs(99));
        assert_eq!(clock.read(second(99)), Moment::ZERO, "no clock shows less than nothing");
        clock.mend(second(100));
        assert_eq!(clock.read(second(101)), second(21), "it goes on from where it was");
    }
}
