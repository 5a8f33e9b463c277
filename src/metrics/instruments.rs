//! What is counted and measured with: atomics, and nothing else. No lock is taken and nothing is allocated where something is
//! counted, however many threads do; that is what the library's own histograms and families can't promise.

use std::{
    marker::PhantomData,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

/// Counts up.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// One more.
    pub fn increment(&self) {
        self.add(1);
    }

    /// So many more.
    pub fn add(&self, more: u64) {
        self.0.fetch_add(more, Relaxed);
    }

    /// How many so far.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// Bounds for what takes milliseconds: statements, commits, waits for a connection.
pub(super) const SHORT: &[f64] =
    &[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];
/// Bounds for what takes from milliseconds to hours: executions, steps, nodes, waits on the queue.
pub(super) const LONG: &[f64] =
    &[0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 7200.0];
/// Bounds for the size of a batch.
pub(super) const SIZES: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0];

const NANOSECOND: f64 = 1e-9;
/// A longer duration counts as this one: some follow from times that others write, and the sum has an end.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

/// How often a value was within which bounds.
#[derive(Debug)]
pub struct Histogram {
    bounds: &'static [f64],
    /// One for each bound, and one for what is above all of them.
    counts: Box<[AtomicU64]>,
    /// In `unit`s: integers are added in one step.
    sum: AtomicU64,
    unit: f64,
}

impl Histogram {
    /// Of durations, with bounds in seconds.
    pub(super) fn durations(bounds: &'static [f64]) -> Histogram {
        Histogram::new(bounds, NANOSECOND)
    }

    /// Of numbers.
    pub(super) fn sizes(bounds: &'static [f64]) -> Histogram {
        Histogram::new(bounds, 1.0)
    }

    fn new(bounds: &'static [f64], unit: f64) -> Histogram {
        let counts = (0..=bounds.len()).map(|_| AtomicU64::default()).collect();
        Histogram { bounds, counts, sum: AtomicU64::default(), unit }
    }

    /// Something took so long; a year at most.
    pub fn took(&self, duration: Duration) {
        let duration = duration.min(LONGEST);
        self.put(duration.as_secs_f64(), u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX));
    }

    /// Something was so large.
    pub fn measured(&self, size: usize) {
        self.put(size as f64, size as u64);
    }

    fn put(&self, value: f64, units: u64) {
        let place = self.bounds.partition_point(|bound| *bound < value);
        self.counts[place].fetch_add(1, Relaxed); // a place is at most the number of bounds
        self.sum.fetch_add(units, Relaxed);
    }

    /// How many values there were.
    pub fn count(&self) -> u64 {
        self.counts.iter().map(|count| count.load(Relaxed)).sum()
    }

    /// The sum of the values; how many there were up to each bound and above the one before.
    pub(super) fn read(&self) -> (f64, Vec<(f64, u64)>) {
        let bounds = self.bounds.iter().copied().chain([f64::INFINITY]);
        let buckets = bounds.zip(self.counts.iter().map(|count| count.load(Relaxed))).collect();
        (self.sum.load(Relaxed) as f64 * self.unit, buckets)
    }
}

/// The values of a label, all known beforehand.
pub trait Label: Copy + 'static {
    /// All of them; each one's place is its number.
    const ALL: &'static [Self];
    /// Its place.
    fn place(self) -> usize;
    /// As it is shown.
    fn text(self) -> &'static str;
}

/// Declares an enum that is a label.
macro_rules! label {
    ($(#[$about:meta])* $name:ident { $($(#[$of:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $($(#[$of])* $variant,)+ }

        impl $crate::metrics::Label for $name {
            const ALL: &'static [$name] = &[$($name::$variant,)+];

            fn place(self) -> usize {
                self as usize
            }

            fn text(self) -> &'static str {
                match self { $($name::$variant => $text,)+ }
            }
        }
    };
}
pub(super) use label;

/// One instrument for each value of a label.
#[derive(Debug)]
pub struct Per<L, T>(Box<[T]>, PhantomData<fn() -> L>);

impl<L: Label, T> Per<L, T> {
    pub(super) fn new(make: impl Fn() -> T) -> Per<L, T> {
        Per(L::ALL.iter().map(|_| make()).collect(), PhantomData)
    }

    /// The one of this value.
    pub fn of(&self, value: L) -> &T {
        &self.0[value.place()] // there is one for each
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&'static str, &T)> {
        L::ALL.iter().map(|value| value.text()).zip(&self.0)
    }
}

impl<L: Label, T: Default> Default for Per<L, T> {
    fn default() -> Per<L, T> {
        Per::new(T::default)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_counts_in_the_first_bucket_that_holds_it() {
        let histogram = Histogram::durations(&[0.001, 0.01]);
        for milliseconds in [0.5, 1.0, 1.5, 10.0, 11.0] {
            histogram.took(Duration::from_secs_f64(milliseconds / 1000.0));
        }
        let (sum, buckets) = histogram.read();
        assert_eq!(buckets, [(0.001, 2), (0.01, 2), (f64::INFINITY, 1)]);
        assert!((sum - 0.024).abs() < 1e-6, "{sum}");
        let sizes = Histogram::sizes(SIZES);
        sizes.measured(256);
        sizes.measured(1000);
        assert_eq!((sizes.read().0, sizes.count()), (1256.0, 2));
        assert_eq!(sizes.read().1[8..], [(256.0, 1), (f64::INFINITY, 1)]);
    }

    #[test]
    fn a_duration_of_centuries_is_no_panic_and_a_year_in_the_sum() {
        let histogram = Histogram::durations(LONG);
        histogram.took(Duration::MAX);
        histogram.took(Duration::from_secs(1));
        assert_eq!(histogram.count(), 2);
        let sum = histogram.read().0;
        assert!((sum - LONGEST.as_secs_f64() - 1.0).abs() < 1e-3, "{sum}");
    }
}
