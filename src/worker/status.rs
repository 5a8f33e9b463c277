//! What the worker is doing, for probes and people.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use serde::Serialize;

use super::monitor::Monitor;
use crate::{
    metrics::{self, Metrics},
    postgres::Pooling,
};

/// Where in its life the worker is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Connecting, checking schemas, acquiring the lease, recovering.
    Starting,
    /// Taking executions.
    Running,
    /// The lease was lost, or the database is away: nothing is claimed.
    Suspended,
    /// Finishing what runs.
    Draining,
    /// Done.
    Stopped,
}

impl Phase {
    /// The names of all.
    pub(super) const NAMES: [&str; 5] = ["starting", "running", "suspended", "draining", "stopped"];

    /// As it is shown.
    pub fn name(self) -> &'static str {
        Phase::NAMES[self as usize] // in the order of the declaration
    }
}

/// A worker at work asks the database something every second. One that has heard nothing for so long isn't ready, whether
/// or not it knows why.
const SILENCE: Duration = Duration::from_secs(10);

/// What is known of the database.
#[derive(Clone, Copy, Debug)]
enum Contact {
    /// It answered, last at this time.
    Heard(Instant),
    /// It failed, first at this time.
    Away(Instant),
}

/// Shared figures.
#[derive(Debug)]
pub struct Status {
    phase: Mutex<(Phase, jiff::Timestamp)>,
    database: Mutex<Contact>,
    worker: String,
    queue: String,
    pooler: Mutex<Option<Pooling>>,
    running: AtomicU64,
    waiting: AtomicU64,
    claimed: AtomicU64,
    completed: AtomicU64,
    failed: AtomicU64,
    handed_back: AtomicU64,
    lost: AtomicU64,
    recovered: AtomicU64,
    monitor: Monitor,
}

/// [`Status`] at one moment.
#[derive(Clone, Debug, Serialize)]
pub struct Snapshot {
    /// Version of the program.
    pub version: &'static str,
    /// The worker's id.
    pub worker: String,
    /// The queue that it serves; several with commas between them.
    pub queue: String,
    /// Where in its life it is.
    pub phase: Phase,
    /// Since when.
    pub since: String,
    /// Whether the database answers.
    pub database: &'static str,
    /// Whether a pooler in transaction mode stands before the database; none as long as there was no connection.
    pub pooler: Option<Pooling>,
    /// Executions in this process, waiting ones included.
    pub running: u64,
    /// Executions that wait for their start signal.
    pub waiting: u64,
    /// Executions taken since the start.
    pub claimed: u64,
    /// Executions that completed here.
    pub completed: u64,
    /// Executions that failed here.
    pub failed: u64,
    /// Executions given back to the queue.
    pub handed_back: u64,
    /// Executions that were cancelled, deleted or taken over while they ran here.
    pub lost: u64,
    /// Rows of dead workers that this one put back on the queue.
    pub recovered: u64,
}

/// One more of these.
#[derive(Clone, Copy, Debug)]
pub(super) enum Count {
    Claimed,
    Completed,
    Failed,
    HandedBack,
    Lost,
    Recovered,
}

impl Status {
    /// Of a worker that starts.
    pub fn new(worker: &str, queue: &str) -> Status {
        Status {
            phase: Mutex::new((Phase::Starting, jiff::Timestamp::now())),
            database: Mutex::new(Contact::Heard(Instant::now())),
            worker: worker.into(),
            queue: queue.into(),
            pooler: Mutex::default(),
            running: AtomicU64::default(),
            waiting: AtomicU64::default(),
            claimed: AtomicU64::default(),
            completed: AtomicU64::default(),
            failed: AtomicU64::default(),
            handed_back: AtomicU64::default(),
            lost: AtomicU64::default(),
            recovered: AtomicU64::default(),
            monitor: Monitor::default(),
        }
    }

    /// The same, with these counters.
    #[must_use]
    pub fn counted(self, metrics: Arc<Metrics>) -> Status {
        Status { monitor: Monitor::new(metrics), ..self }
    }

    /// What is shown to who scrapes metrics.
    pub(super) fn monitor(&self) -> &Monitor {
        &self.monitor
    }

    /// What is counted.
    pub(super) fn metrics(&self) -> &Arc<Metrics> {
        self.monitor.metrics()
    }

    /// All metrics as text, for a scrape. Waits for the database for a quarter of a second at most, and not at all while it
    /// is away.
    pub async fn metrics_text(&self, format: metrics::Format) -> String {
        self.monitor.scrape(self, format).await
    }

    /// Since when it is in its phase, in seconds since 1970.
    pub(super) fn since(&self) -> f64 {
        let (_, since) = *self.phase.lock().unwrap_or_else(PoisonError::into_inner);
        since.as_duration().as_secs_f64()
    }

    /// Where in its life the worker is.
    pub fn phase(&self) -> Phase {
        self.phase.lock().unwrap_or_else(PoisonError::into_inner).0
    }

    /// Whether executions are taken at this moment: the worker is running, and the database answers.
    pub fn is_ready(&self) -> bool {
        self.phase() == Phase::Running && self.hears()
    }

    fn hears(&self) -> bool {
        match *self.database.lock().unwrap_or_else(PoisonError::into_inner) {
            Contact::Heard(at) => at.elapsed() < SILENCE,
            Contact::Away(_) => false,
        }
    }

    /// The database has answered.
    pub(super) fn database_answers(&self) {
        let contact = &mut *self.database.lock().unwrap_or_else(PoisonError::into_inner);
        if let Contact::Away(since) = *contact {
            tracing::info!(away = %humantime::format_duration(whole(since.elapsed())), "the database is back");
        }
        *contact = Contact::Heard(Instant::now());
    }

    /// The database can't be used.
    pub(super) fn database_fails(&self, error: &dyn std::fmt::Display) {
        let contact = &mut *self.database.lock().unwrap_or_else(PoisonError::into_inner);
        if let Contact::Heard(_) = contact {
            tracing::warn!(%error, "the database is away; the worker waits for it and isn't ready meanwhile");
            self.metrics().outages.increment();
            *contact = Contact::Away(Instant::now());
        }
    }

    pub(super) fn enter(&self, phase: Phase) {
        *self.phase.lock().unwrap_or_else(PoisonError::into_inner) = (phase, jiff::Timestamp::now());
    }

    pub(super) fn connected(&self, pooler: Pooling) {
        *self.pooler.lock().unwrap_or_else(PoisonError::into_inner) = Some(pooler);
    }

    pub(super) fn count(&self, what: Count, by: u64) {
        let counter = match what {
            Count::Claimed => &self.claimed,
            Count::Completed => &self.completed,
            Count::Failed => &self.failed,
            Count::HandedBack => &self.handed_back,
            Count::Lost => &self.lost,
            Count::Recovered => &self.recovered,
        };
        counter.fetch_add(by, Relaxed);
    }

    pub(super) fn gauge(&self, running: usize, waiting: usize) {
        self.running.store(running as u64, Relaxed);
        self.waiting.store(waiting as u64, Relaxed);
    }

    /// The figures now.
    pub fn snapshot(&self) -> Snapshot {
        let (phase, since) = *self.phase.lock().unwrap_or_else(PoisonError::into_inner);
        Snapshot {
            version: env!("CARGO_PKG_VERSION"),
            worker: self.worker.clone(),
            queue: self.queue.clone(),
            pooler: *self.pooler.lock().unwrap_or_else(PoisonError::into_inner),
            phase,
            since: since.to_string(),
            database: if self.hears() { "answers" } else { "away" },
            running: self.running.load(Relaxed),
            waiting: self.waiting.load(Relaxed),
            claimed: self.claimed.load(Relaxed),
            completed: self.completed.load(Relaxed),
            failed: self.failed.load(Relaxed),
            handed_back: self.handed_back.load(Relaxed),
            lost: self.lost.load(Relaxed),
            recovered: self.recovered.load(Relaxed),
        }
    }
}

/// Without the fractions of a second, which nobody wants to read.
fn whole(duration: Duration) -> Duration {
    Duration::from_secs(duration.as_secs())
}
