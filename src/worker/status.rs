//! What the worker is doing, for probes and people.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use serde::Serialize;
use tokio::sync::watch;

use super::{
    heartbeat::{self, Heartbeats, Silence},
    monitor::Monitor,
};
use crate::{
    metrics::{self, Metrics},
    postgres::Pooling,
    sysdb::Fence,
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
    /// Told to end; finishing what runs.
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
/// or not it knows why. While it starts or waits for a lease, it asks less often, and what it heard last holds.
const SILENCE: Duration = Duration::from_secs(10);

/// What is known of the database.
#[derive(Clone, Copy, Debug)]
enum Contact {
    /// It is asked all the time, and answered last at this time.
    Heard(Instant),
    /// It answered, and isn't asked all the time.
    Answered,
    /// It failed, first at this time.
    Away(Instant),
}

/// A phase, since when, and what there is to say of it.
#[derive(Clone, Debug)]
struct Stage {
    phase: Phase,
    since: jiff::Timestamp,
    why: Option<String>,
}

/// What is known of one queue of the worker, from the last look at it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct QueueFigures {
    /// Its name.
    pub name: String,
    /// Whether there is something to claim on it, if the limits allow it.
    pub queued: bool,
    /// Slots of this process that executions of it hold now.
    pub busy: u32,
    /// Slots that they may hold at most.
    pub slots: u32,
}

/// Shared figures.
#[derive(Debug)]
pub struct Status {
    stage: watch::Sender<Stage>,
    database: Mutex<Contact>,
    /// Why the database is away.
    trouble: Mutex<String>,
    /// Open while the lease may be relied on.
    lease: Mutex<Option<Fence>>,
    heartbeats: Heartbeats,
    queues: Mutex<Vec<QueueFigures>>,
    worker: String,
    queue: String,
    pooler: Mutex<Option<Pooling>>,
    paused: Mutex<Vec<String>>,
    running: AtomicU64,
    waiting: AtomicU64,
    claimed: AtomicU64,
    completed: AtomicU64,
    failed: AtomicU64,
    handed_back: AtomicU64,
    lost: AtomicU64,
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
    /// Why the worker takes no executions now; none while it does.
    pub unready: Option<String>,
    /// Whether the database answers.
    pub database: &'static str,
    /// Whether a pooler in transaction mode stands before the database; none as long as there was no connection.
    pub pooler: Option<Pooling>,
    /// Those of its queues that an operator has paused.
    pub paused: Vec<String>,
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
    /// Executions that this worker put back on the queue: of dead workers, adopted ones, and what it never got to run.
    pub recovered: u64,
    /// The queues, one by one; none before the first look at them.
    pub queues: Vec<QueueFigures>,
}

/// One more of these.
#[derive(Clone, Copy, Debug)]
pub(super) enum Count {
    Claimed,
    Completed,
    Failed,
    HandedBack,
    Lost,
}

impl Status {
    /// Of a worker that starts.
    pub fn new(worker: &str, queue: &str) -> Status {
        Status {
            stage: watch::Sender::new(Stage { phase: Phase::Starting, since: jiff::Timestamp::now(), why: None }),
            database: Mutex::new(Contact::Heard(Instant::now())),
            trouble: Mutex::default(),
            lease: Mutex::default(),
            heartbeats: Heartbeats::default(),
            queues: Mutex::default(),
            worker: worker.into(),
            queue: queue.into(),
            pooler: Mutex::default(),
            paused: Mutex::default(),
            running: AtomicU64::default(),
            waiting: AtomicU64::default(),
            claimed: AtomicU64::default(),
            completed: AtomicU64::default(),
            failed: AtomicU64::default(),
            handed_back: AtomicU64::default(),
            lost: AtomicU64::default(),
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
        self.stage.borrow().since.as_duration().as_secs_f64()
    }

    /// Where in its life the worker is.
    pub fn phase(&self) -> Phase {
        self.stage.borrow().phase
    }

    /// Completes when the worker has another phase than this one; gives it.
    pub async fn left(&self, phase: Phase) -> Phase {
        let mut stages = self.stage.subscribe();
        // The sender lives as long as we do, so it can't fail.
        stages.wait_for(|stage| stage.phase != phase).await.map_or(Phase::Stopped, |stage| stage.phase)
    }

    /// Whether executions are taken at this moment: the worker is running under its lease, the database answers, and no
    /// dispatch loop hangs.
    pub fn is_ready(&self) -> bool {
        self.unready().is_none()
    }

    /// Why no executions are taken at this moment, for people; `None` while they are.
    pub fn unready(&self) -> Option<String> {
        let Stage { phase, why, .. } = self.stage.borrow().clone();
        if phase != Phase::Running {
            let phase = format!("{phase:?}").to_lowercase();
            return Some(why.map_or_else(|| phase.clone(), |why| format!("{phase}: {why}")));
        }
        let lease = lock(&self.lease).as_ref().is_none_or(Fence::is_open);
        if !lease {
            return Some("running, but the lease has ended".into());
        }
        if let Some(trouble) = self.trouble() {
            return Some(format!("running, but {trouble}"));
        }
        self.silent().first().map(|silence| format!("running, but the {silence}"))
    }

    /// Loops without which the worker does nothing, and which have been silent for longer than an overloaded machine could
    /// explain. Empty while the process is well; a database that is away makes none of them silent.
    pub fn silent(&self) -> Vec<Silence> {
        self.heartbeats.silent(heartbeat::LIMIT)
    }

    /// As [`Status::silent`], by a stricter limit if this one is.
    pub fn silent_for(&self, limit: Duration) -> Vec<Silence> {
        self.heartbeats.silent(limit.min(heartbeat::LIMIT))
    }

    pub(super) fn heartbeats(&self) -> &Heartbeats {
        &self.heartbeats
    }

    /// The lease under which the work goes on.
    pub(super) fn under(&self, lease: Fence) {
        *lock(&self.lease) = Some(lease);
    }

    pub(super) fn queues_seen(&self, queues: Vec<QueueFigures>) {
        *lock(&self.queues) = queues;
    }

    /// What keeps the database from being used.
    fn trouble(&self) -> Option<String> {
        match *lock(&self.database) {
            Contact::Answered => None,
            Contact::Heard(at) if at.elapsed() < SILENCE => None,
            Contact::Heard(at) => Some(format!(
                "the database is away: nothing heard for {}",
                humantime::format_duration(whole(at.elapsed()))
            )),
            Contact::Away(at) => {
                let length = humantime::format_duration(whole(at.elapsed()));
                Some(format!("the database is away for {length}: {}", lock(&self.trouble)))
            }
        }
    }

    fn hears(&self) -> bool {
        self.trouble().is_none()
    }

    /// The database has answered, and is asked again within a second.
    pub(super) fn database_answers(&self) {
        self.in_contact(Contact::Heard(Instant::now()));
    }

    /// The database has answered. Nobody knows when it is asked again.
    pub(super) fn database_answered(&self) {
        self.in_contact(Contact::Answered);
    }

    fn in_contact(&self, now: Contact) {
        let contact = &mut *lock(&self.database);
        if let Contact::Away(since) = *contact {
            tracing::info!(away = %humantime::format_duration(whole(since.elapsed())), "the database is back");
        }
        *contact = now;
    }

    /// The database can't be used.
    pub(super) fn database_fails(&self, error: &dyn std::fmt::Display) {
        if self.database_is_lost(error) {
            tracing::warn!(%error, "the database is away; the worker waits for it and isn't ready meanwhile");
        }
    }

    /// The same, where the log has the reason already; whether that is new.
    pub(super) fn database_is_lost(&self, error: &dyn std::fmt::Display) -> bool {
        let contact = &mut *lock(&self.database);
        let new = !matches!(contact, Contact::Away(_));
        if new {
            self.metrics().outages.increment();
            *contact = Contact::Away(Instant::now());
        }
        *lock(&self.trouble) = error.to_string();
        new
    }

    pub(crate) fn enter(&self, phase: Phase) {
        self.enter_because(phase, None);
    }

    /// Enter a phase, or say more of it. Who drains does nothing else until it stops.
    pub(super) fn enter_because(&self, phase: Phase, why: Option<String>) {
        self.stage.send_if_modified(|stage| {
            let over = stage.phase == Phase::Stopped || (stage.phase == Phase::Draining && phase != Phase::Stopped);
            if over && stage.phase != phase {
                return false;
            }
            if stage.phase != phase {
                *stage = Stage { phase, since: jiff::Timestamp::now(), why };
                return true;
            }
            stage.why = why;
            false
        });
    }

    pub(super) fn connected(&self, pooler: Pooling) {
        *lock(&self.pooler) = Some(pooler);
    }

    /// These queues are paused now, and no others.
    pub(super) fn paused(&self, queues: Vec<String>) {
        *lock(&self.paused) = queues;
    }

    pub(super) fn count(&self, what: Count, by: u64) {
        let counter = match what {
            Count::Claimed => &self.claimed,
            Count::Completed => &self.completed,
            Count::Failed => &self.failed,
            Count::HandedBack => &self.handed_back,
            Count::Lost => &self.lost,
        };
        counter.fetch_add(by, Relaxed);
    }

    /// So many executions were put back on the queue, for this reason.
    pub(super) fn recovered(&self, cause: metrics::Recovery, by: u64) {
        self.metrics().recovered.of(cause).add(by);
    }

    pub(super) fn gauge(&self, running: usize, waiting: usize) {
        self.running.store(running as u64, Relaxed);
        self.waiting.store(waiting as u64, Relaxed);
    }

    /// The figures now.
    pub fn snapshot(&self) -> Snapshot {
        let Stage { phase, since, .. } = self.stage.borrow().clone();
        Snapshot {
            version: env!("CARGO_PKG_VERSION"),
            worker: self.worker.clone(),
            queue: self.queue.clone(),
            pooler: *lock(&self.pooler),
            paused: lock(&self.paused).clone(),
            phase,
            since: since.to_string(),
            unready: self.unready(),
            database: if self.hears() { "answers" } else { "away" },
            running: self.running.load(Relaxed),
            waiting: self.waiting.load(Relaxed),
            claimed: self.claimed.load(Relaxed),
            completed: self.completed.load(Relaxed),
            failed: self.failed.load(Relaxed),
            handed_back: self.handed_back.load(Relaxed),
            lost: self.lost.load(Relaxed),
            recovered: self.metrics().recovered_in_all(),
            queues: lock(&self.queues).clone(),
        }
    }
}

fn lock<T>(what: &Mutex<T>) -> MutexGuard<'_, T> {
    what.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Without the fractions of a second, which nobody wants to read.
fn whole(duration: Duration) -> Duration {
    Duration::from_secs(duration.as_secs())
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    };

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn readiness_falls_for_each_reason_and_says_which() {
        let status = Status::new("w1", "flows");
        status.enter_because(Phase::Starting, Some("acquiring a lease".into()));
        assert_eq!(status.unready().as_deref(), Some("starting: acquiring a lease"));
        let open = Arc::new(AtomicBool::new(true));
        let lease = open.clone();
        status.under(Fence::new(move || lease.load(SeqCst)));
        status.enter(Phase::Running);
        assert!(status.is_ready());

        open.store(false, SeqCst);
        assert_eq!(status.unready().as_deref(), Some("running, but the lease has ended"));
        open.store(true, SeqCst);

        status.database_fails(&"no route");
        assert_eq!(status.unready().as_deref(), Some("running, but the database is away for 0s: no route"));
        status.database_answers();
        assert!(status.is_ready());

        let _silent = status.heartbeats().begin("dispatch loop");
        tokio::time::advance(heartbeat::LIMIT + Duration::from_secs(1)).await;
        let why = status.unready().unwrap();
        assert!(why.starts_with("running, but the dispatch loop has been silent since "), "{why}");
        assert_eq!(status.silent().len(), 1);
    }

    #[test]
    fn a_database_that_has_answered_is_not_away_while_nobody_asks_it() {
        let status = Status::new("w1", "flows");
        let long_ago = Instant::now().checked_sub(SILENCE * 2).unwrap();
        *lock(&status.database) = Contact::Heard(long_ago);
        assert_eq!(status.snapshot().database, "away", "nothing was heard yet, or not any more");
        status.database_answered();
        assert_eq!(status.snapshot().database, "answers");
        assert!(status.database_is_lost(&"no route") && !status.database_is_lost(&"no route"));
        assert_eq!((status.snapshot().database, status.metrics().outages.get()), ("away", 1));
        status.database_answered();
        assert_eq!(status.snapshot().database, "answers");
    }

    #[tokio::test]
    async fn who_drains_does_nothing_else_until_it_stops() {
        let status = Status::new("w1", "flows");
        status.enter(Phase::Running);
        assert_eq!(status.left(Phase::Starting).await, Phase::Running);
        status.enter_because(Phase::Draining, Some("told to end".into()));
        status.enter(Phase::Running);
        status.enter_because(Phase::Suspended, Some("the lease was lost".into()));
        assert_eq!(status.snapshot().unready.as_deref(), Some("draining: told to end"));
        status.enter(Phase::Stopped);
        assert_eq!(status.left(Phase::Draining).await, Phase::Stopped);
        status.enter(Phase::Draining);
        assert_eq!(status.phase(), Phase::Stopped);
    }
}
