//! This machine's own clock, which also counts the time that the machine sleeps.

use std::{ops::Add, time::Duration};

/// A point on the machine's clock, in nanoseconds since boot. Nobody sets that clock, and it goes on while the machine is suspended:
/// [`std::time::Instant`] stands still then on Linux, and a worker that woke up would think its lease young.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment(u64);

impl Moment {
    /// Before all others.
    pub const LONG_AGO: Moment = Moment(0);

    /// Now.
    pub fn now() -> Moment {
        #[cfg(any(target_os = "linux", target_os = "android"))]
        let clock = rustix::time::ClockId::Boottime;
        #[cfg(not(any(target_os = "linux", target_os = "android")))]
        let clock = rustix::time::ClockId::Monotonic;
        let now = rustix::time::clock_gettime(clock);
        // Neither is negative on a clock that begins with the boot.
        let seconds = u64::try_from(now.tv_sec).unwrap_or_default();
        Moment(seconds.saturating_mul(1_000_000_000).saturating_add(u64::try_from(now.tv_nsec).unwrap_or_default()))
    }

    /// So many nanoseconds after the boot.
    #[cfg(test)]
    pub const fn of_nanoseconds(nanoseconds: u64) -> Moment {
        Moment(nanoseconds)
    }

    /// In nanoseconds after the boot, for an atomic.
    pub const fn nanoseconds(self) -> u64 {
        self.0
    }

    /// Time from an earlier moment to this one; nothing when that one is later.
    pub const fn since(self, earlier: Moment) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Moment {
    type Output = Moment;

    fn add(self, time: Duration) -> Moment {
        Moment(self.0.saturating_add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)))
    }
}
