//! Limits of a queue, and the table in which DBOS keeps them for everyone.

use std::{fmt, str::FromStr, time::Duration};

use tokio_postgres::Row;

/// Pauses between looks that a registered queue may ask for; what lies outside is brought inside.
const POLLING: (Duration, Duration) = (Duration::from_millis(1), Duration::from_secs(600));

/// At most so many starts within any stretch of this length, over all executors, by the database's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// Most starts.
    pub max: u32,
    /// Length of the stretch, more than nothing.
    pub period: Duration,
}

impl fmt::Display for RateLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} per {}", self.max, humantime::format_duration(self.period))
    }
}

/// A text is no rate limit.
#[derive(Debug, thiserror::Error)]
#[error("expected a number of starts and a duration, such as \"100 per 1m\" or \"5 per 250ms\"")]
pub struct RateLimitError;

impl FromStr for RateLimit {
    type Err = RateLimitError;

    fn from_str(text: &str) -> Result<RateLimit, RateLimitError> {
        let (max, period) = text.split_once(" per ").ok_or(RateLimitError)?;
        let max = max.trim().parse().map_err(|_| RateLimitError)?;
        let period = humantime::parse_duration(period.trim()).map_err(|_| RateLimitError)?;
        if period.is_zero() { Err(RateLimitError) } else { Ok(RateLimit { max, period }) }
    }
}

/// How much of a queue may run. `None` is no limit of that kind, and 0 stops claims.
#[derive(Clone, Debug, PartialEq)]
pub struct QueueLimits {
    /// Most rows of the queue that are PENDING at once, over all executors of the application.
    pub concurrency: Option<u32>,
    /// Most executions of the queue that run at once in one process.
    pub worker_concurrency: Option<u32>,
    /// Most starts within a time, over all executors of the application.
    pub rate: Option<RateLimit>,
    /// Limits of each partition; `None` when the queue has no partitions.
    pub partition: Option<PartitionLimits>,
    /// Pause between looks at the queue while there is nothing to do.
    pub polling_interval: Duration,
}

/// How much of each partition of a queue may run.
#[derive(Clone, Debug, PartialEq)]
pub struct PartitionLimits {
    /// Most rows of a partition that are PENDING at once, over all executors of the application.
    pub concurrency: Option<u32>,
    /// Most executions of a partition in one process, those included that wait.
    pub worker_concurrency: Option<u32>,
    /// Most starts within a time, over all executors of the application.
    pub rate: Option<RateLimit>,
}

impl QueueLimits {
    /// As SDKs of the earlier generation take a queue with the flag `partition_queue`: where there are no limits of partitions,
    /// those of the queue are for each partition, and none is for the queue.
    fn by_flag(self) -> QueueLimits {
        let QueueLimits { concurrency, worker_concurrency, rate, partition, polling_interval } = self;
        let (concurrency, worker_concurrency, rate, partition) = match partition {
            Some(own) => (concurrency, worker_concurrency, rate, own),
            None => (None, None, None, PartitionLimits { concurrency, worker_concurrency, rate }),
        };
        QueueLimits { concurrency, worker_concurrency, rate, partition: Some(partition), polling_interval }
    }

    /// Whether nothing may be claimed at all.
    pub fn is_paused(&self) -> bool {
        let none = |concurrency: Option<u32>, in_worker: Option<u32>, rate: Option<RateLimit>| {
            concurrency == Some(0) || in_worker == Some(0) || rate.is_some_and(|rate| rate.max == 0)
        };
        let in_partition = |own: &PartitionLimits| none(own.concurrency, own.worker_concurrency, own.rate);
        none(self.concurrency, self.worker_concurrency, self.rate) || self.partition.as_ref().is_some_and(in_partition)
    }
}

/// A queue's columns as they are, whatever somebody wrote there.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct QueueColumns {
    /// `concurrency`, `worker_concurrency`.
    pub concurrency: [Option<i32>; 2],
    /// `rate_limit_max` and `rate_limit_period_sec`.
    pub rate: (Option<i32>, Option<f64>),
    /// `partition_concurrency`, `partition_worker_concurrency`.
    pub partition_concurrency: [Option<i32>; 2],
    /// `partition_rate_limit_max` and `partition_rate_limit_period_sec`.
    pub partition_rate: (Option<i32>, Option<f64>),
    /// `polling_interval_sec`.
    pub polling_interval: f64,
    /// `partition_queue`, where that decides.
    pub by_flag: bool,
}

impl QueueColumns {
    /// What they mean; anything means something.
    pub fn limits(&self) -> QueueLimits {
        let partition = PartitionLimits {
            concurrency: self.partition_concurrency[0].map(count),
            worker_concurrency: self.partition_concurrency[1].map(count),
            rate: rate(self.partition_rate),
        };
        let has_partitions =
            partition.concurrency.is_some() || partition.worker_concurrency.is_some() || partition.rate.is_some();
        let limits = QueueLimits {
            partition: has_partitions.then_some(partition),
            concurrency: self.concurrency[0].map(count),
            worker_concurrency: self.concurrency[1].map(count),
            rate: rate(self.rate),
            polling_interval: seconds(self.polling_interval).clamp(POLLING.0, POLLING.1),
        };
        if self.by_flag { limits.by_flag() } else { limits }
    }
}

pub(super) fn read(row: &Row) -> Result<QueueLimits, tokio_postgres::Error> {
    let columns = QueueColumns {
        concurrency: [row.try_get("concurrency")?, row.try_get("worker_concurrency")?],
        rate: (row.try_get("rate_limit_max")?, row.try_get("rate_limit_period_sec")?),
        partition_concurrency: [row.try_get("partition_concurrency")?, row.try_get("partition_worker_concurrency")?],
        partition_rate: (row.try_get("partition_rate_limit_max")?, row.try_get("partition_rate_limit_period_sec")?),
        polling_interval: row.try_get("polling_interval_sec")?,
        by_flag: row.try_get("by_flag")?,
    };
    Ok(columns.limits())
}

/// Less than none is none.
fn count(value: i32) -> u32 {
    u32::try_from(value).unwrap_or(0)
}

/// It takes both columns, and a period that is one.
fn rate((max, period): (Option<i32>, Option<f64>)) -> Option<RateLimit> {
    let period = period.map(seconds).filter(|period| !period.is_zero())?;
    Some(RateLimit { max: count(max?), period })
}

/// What is no time (negative, not a number) is none at all; what is beyond all bounds, very long.
fn seconds(value: f64) -> Duration {
    if value > 0.0 { Duration::try_from_secs_f64(value).unwrap_or(Duration::MAX) } else { Duration::ZERO }
}
