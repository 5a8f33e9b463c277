//! What a scrape of metrics sees: the counters, and the state of the worker at that moment.
//!
//! A scrape waits for nothing but, for a moment, the backlog (`backlog.rs`), and takes no lock that work takes for longer
//! than it takes to read some numbers.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use super::{Phase, Status, backlog::Asking, lease::Remaining, reload::Live};
use crate::{
    durable::{Slots, Usage},
    metrics::{Format, Metrics, QueueState, Scrape, SlotUse},
    postgres::Pool,
};

/// Reads the worker. One for each; the parts come and go with its lives.
#[derive(Default)]
pub(super) struct Monitor {
    metrics: Arc<Metrics>,
    /// None without a worker, as in tests.
    live: OnceLock<Live>,
    stage: Mutex<Stage>,
    /// The asking for what waits on the queues.
    pub backlog: Asking,
}

/// What there is at the moment.
#[derive(Default)]
struct Stage {
    pools: Vec<(&'static str, Pool)>,
    lease: Option<Remaining>,
    slots: Vec<(String, Slots)>,
}

impl std::fmt::Debug for Monitor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Monitor").finish_non_exhaustive()
    }
}

impl Monitor {
    pub fn new(metrics: Arc<Metrics>) -> Monitor {
        Monitor { metrics, ..Monitor::default() }
    }

    /// The counters.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// The settings in force are these, now and after each reload.
    pub fn goes_by(&self, live: Live) {
        let _ = self.live.set(live); // a worker has the same ones all its life
    }

    /// The worker has these pools from now on.
    pub fn connected(&self, pools: Vec<(&'static str, Pool)>) {
        self.lock().pools = pools;
    }

    /// It has a lease, or none any more.
    pub fn holds(&self, lease: Option<Remaining>) {
        self.lock().lease = lease;
    }

    /// It has these slots, by queue.
    pub fn serves(&self, slots: Vec<(String, Slots)>) {
        self.lock().slots = slots;
    }

    /// The text of a scrape.
    pub async fn scrape(&self, status: &Status, format: Format) -> String {
        let snapshot = status.snapshot();
        let database = snapshot.database == "answers";
        let backlog = if database { self.backlog.figures().await } else { Vec::new() };
        let settings = self.live.get().map(Live::settings);
        let queue =
            |name: &str| QueueState { name: name.to_owned(), paused: snapshot.paused.iter().any(|it| it == name) };
        let scrape = {
            let stage = self.lock();
            Scrape {
                phase: snapshot.phase.name(),
                phases: &Phase::NAMES,
                since: status.since(),
                ready: status.is_ready(),
                database,
                running: snapshot.running,
                waiting: snapshot.waiting,
                drain_timeout: settings.as_ref().map(|it| it.worker.drain_timeout).unwrap_or_default(),
                queues: settings.iter().flat_map(|it| it.queue.iter()).map(|it| queue(&it.name)).collect(),
                lease: stage.lease.as_ref().map(Remaining::get).unwrap_or_default(),
                slots: stage.slots.iter().map(|(queue, slots)| slot_use(queue, slots)).collect(),
                backlog,
                pools: stage.pools.iter().map(|(purpose, pool)| pool.usage(purpose)).collect(),
            }
        };
        self.metrics.render(scrape, format)
    }

    fn lock(&self) -> MutexGuard<'_, Stage> {
        self.stage.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn slot_use(queue: &str, slots: &Slots) -> SlotUse {
    let Usage { limit, taken, free, waiting } = slots.usage();
    SlotUse { queue: queue.to_owned(), limit, in_use: taken, free, waiting }
}
