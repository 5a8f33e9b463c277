//! This machine's own clock, which also counts the time that the machine sleeps.

use std::{ops::Add, time::Duration};

/// A point on the machine's clock since boot. Nobody sets that clock, and it goes on while the machine is suspended:
/// [`std::time::Instant`] stands still then on Linux, and a worker that woke up would think its lease young.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment(Duration);

impl Moment {
    /// Before all others.
    pub const LONG_AGO: Moment = Moment(Duration::ZERO);

    /// Now.
    pub fn now() -> Moment {
        #[cfg(any(target_os = "linux", target_os = "android"))]
        let clock = rustix::time::ClockId::Boottime;
        #[cfg(not(any(target_os = "linux", target_os = "android")))]
        let clock = rustix::time::ClockId::Monotonic;
        let now = rustix::time::clock_gettime(clock);
        // Neither is negative on a clock that begins with the boot.
        let seconds = u64::try_from(now.tv_sec).unwrap_or_default();
        Moment(Duration::new(seconds, u32::try_from(now.tv_nsec).unwrap_or_default()))
    }

    /// So long after the boot.
    pub const fn since_boot(time: Duration) -> Moment {
        Moment(time)
    }

    /// Time from an earlier moment to this one; nothing when that one is later.
    pub fn since(self, earlier: Moment) -> Duration {
        self.0.saturating_sub(earlier.0)
    }

    /// In nanoseconds, for an atomic.
    pub fn nanoseconds(self) -> u64 {
        u64::try_from(self.0.as_nanos()).unwrap_or(u64::MAX)
    }
}

impl Add<Duration> for Moment {
    type Output = Moment;

    fn add(self, time: Duration) -> Moment {
        Moment(self.0.saturating_add(time))
    }
}
