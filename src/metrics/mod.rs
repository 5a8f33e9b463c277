//! What the worker counts and measures of itself, and how that is shown to Prometheus.
//!
//! One value, [`Metrics`], holds every instrument of a worker. There is no global registry, so that several workers in one
//! process, as in tests, don't mix theirs. Who counts something holds the instrument itself: no name is looked up, and there
//! is no lock (`instruments.rs`). What is better asked for than counted, such as the pools, is asked when it is scraped, and
//! comes as [`Scrape`]. Names are in `names.rs`.

mod instruments;
mod names;
mod process;
mod scrape;
mod text;

use std::sync::Arc;

pub use instruments::{Counter, Histogram, Label, Per};
pub use scrape::{Backlog, PoolUse, QueueState, Scrape, SlotUse};
pub use text::Format;

use instruments::{LONG, SHORT, SIZES, label};

label! {
    /// What a claim came to.
    ClaimResult {
        /// Executions.
        Rows = "rows",
        /// Nothing.
        Empty = "empty",
        /// Another worker was at the same rows.
        Contended = "contended",
        /// An error.
        Failed = "failed",
    }
}

label! {
    /// How an execution left this process.
    Outcome {
        /// It completed.
        Completed = "completed",
        /// It failed, by its own fault or a bug.
        Failed = "failed",
        /// Somebody stopped it.
        Stopped = "stopped",
        /// It went back to the queue.
        HandedBack = "handed_back",
        /// It was cancelled, deleted or taken over.
        Lost = "lost",
        /// It had been started too often.
        Parked = "parked",
    }
}

label! {
    /// A durable step, by its name.
    Step {
        /// An append to a stream.
        Stream = "DBOS.writeStream",
        /// A wait for a message.
        Receive = "DBOS.recv",
        /// The start.
        Running = "updateToRunning",
        /// The flow's run.
        Flow = "executeFlowAtomic",
        /// A wait for a child.
        Result = "DBOS.getResult",
        /// The end.
        Completed = "updateToCompleted",
        /// The end, after a failure.
        Failed = "updateToFailed",
        /// The end, after a stop.
        Stopped = "updateToStopped",
        /// Any other: the start of a child has its workflow's name.
        Other = "other",
    }
}

impl Step {
    /// The one of this name.
    pub fn named(name: &str) -> Step {
        Step::ALL.iter().copied().find(|step| step.text() == name).unwrap_or(Step::Other)
    }
}

label! {
    /// What became of a node that had its turn.
    NodeOutcome {
        /// Done.
        Completed = "completed",
        /// Failed.
        Failed = "failed",
        /// It had nothing to do, or the run ended before it had.
        Skipped = "skipped",
    }
}

label! {
    /// Why an execution was parked.
    ParkReason {
        /// It took its worker down too often.
        Crashes = "crashes",
        /// It was claimed too often.
        Attempts = "attempts",
    }
}

label! {
    /// Why an execution was put back on the queue.
    Recovery {
        /// Its worker died, or lost its lease.
        Died = "died",
        /// Its executor's executions are to be adopted (`recovery.adopt_executors`).
        Adopted = "adopted",
        /// It was claimed here and never began: the answer to the claim was lost.
        Stranded = "stranded",
    }
}

label! {
    /// What came of a question for a renewal of the lease.
    Renewal {
        /// The lease is renewed.
        Granted = "granted",
        /// It isn't ours any more.
        Refused = "refused",
        /// No answer.
        Failed = "failed",
    }
}

label! {
    /// What came of a batch of spans.
    ExportResult {
        /// The collector has it.
        Sent = "sent",
        /// It is lost.
        Failed = "failed",
    }
}

label! {
    /// What a connection is for.
    Purpose {
        /// Queue and executions.
        Work = "work",
        /// Flows, where they are in a database of their own.
        Flows = "flows",
        /// Registering and recovering.
        Registry = "registry",
        /// Renewing the lease.
        Lease = "lease",
        /// Listening.
        Listen = "listen",
    }
}

/// All instruments of one worker.
#[derive(Debug)]
pub struct Metrics {
    queues: Box<[(Box<str>, Queue)]>,
    /// Durable steps.
    pub steps: Per<Step, Histogram>,
    /// Nodes.
    pub nodes: Nodes,
    /// Executions that were put back on the queue.
    pub recovered: Per<Recovery, Counter>,
    /// Executions that were parked.
    pub parked: Per<ParkReason, Counter>,
    /// What is written.
    pub writer: Arc<Writer>,
    /// Questions for a renewal of the lease.
    pub renewals: Per<Renewal, Counter>,
    /// Leases that were lost.
    pub lease_losses: Counter,
    /// Times that the database went away.
    pub outages: Counter,
    /// Connections.
    pub connections: Per<Purpose, Arc<Connections>>,
    /// Batches of spans.
    pub exports: Per<ExportResult, Counter>,
    /// Spans that found no room.
    pub spans_dropped: Counter,
    /// Who this is.
    worker: Worker,
}

/// Who a worker is.
#[derive(Clone, Debug, Default)]
pub struct Worker {
    /// Its id.
    pub id: String,
    /// The application that it works for.
    pub application: String,
    /// That application's version.
    pub application_version: String,
    /// Length of the lease, in seconds.
    pub lease: f64,
}

/// Instruments of one queue.
#[derive(Debug)]
pub struct Queue {
    /// Claims by their result.
    pub claims: Per<ClaimResult, Counter>,
    /// Executions that they brought.
    pub claimed: Counter,
    /// Time of a claim.
    pub claim_duration: Histogram,
    /// Time from enqueue to the first claim.
    pub wait: Histogram,
    /// Time from claim to end.
    pub ended: Per<Outcome, Histogram>,
}

impl Default for Queue {
    fn default() -> Queue {
        Queue {
            claims: Per::default(),
            claimed: Counter::default(),
            claim_duration: Histogram::durations(SHORT),
            wait: Histogram::durations(LONG),
            ended: Per::new(|| Histogram::durations(LONG)),
        }
    }
}

/// Instruments of what is written.
#[derive(Debug)]
pub struct Writer {
    /// From handing over a checkpoint until it is durable.
    pub wait: Histogram,
    /// Time of a transaction.
    pub duration: Histogram,
    /// Checkpoints in one.
    pub size: Histogram,
    /// Batches that were tried again.
    pub retries: Counter,
    /// Checkpoints that were put off.
    pub put_off: Counter,
    /// Checkpoints that weren't written.
    pub refused: Counter,
    /// From an event of a flow until it is durable.
    pub event_delay: Histogram,
}

impl Default for Writer {
    fn default() -> Writer {
        Writer {
            wait: Histogram::durations(SHORT),
            duration: Histogram::durations(SHORT),
            size: Histogram::sizes(SIZES),
            retries: Counter::default(),
            put_off: Counter::default(),
            refused: Counter::default(),
            event_delay: Histogram::durations(SHORT),
        }
    }
}

/// Instruments of connections to a database.
#[derive(Debug)]
pub struct Connections {
    /// Connections made.
    pub opened: Counter,
    /// Connections that couldn't be made.
    pub failed: Counter,
    /// Time until a connection of the pool was had.
    pub wait: Histogram,
}

impl Default for Connections {
    fn default() -> Connections {
        Connections { opened: Counter::default(), failed: Counter::default(), wait: Histogram::durations(SHORT) }
    }
}

/// Instruments of nodes, by category.
#[derive(Debug)]
pub struct Nodes(Box<[(&'static str, Category)]>);

/// Instruments of the nodes of one category.
#[derive(Debug)]
pub struct Category {
    /// Nodes that had their turn.
    pub turns: Per<NodeOutcome, Counter>,
    /// Time of those that wait for something.
    pub duration: Histogram,
}

/// The category of nodes whose type isn't known.
const UNKNOWN: &str = "unknown";

impl Nodes {
    /// For these categories, and for nodes that have none of them.
    fn new(categories: impl IntoIterator<Item = &'static str>) -> Nodes {
        let mut names: Vec<&'static str> = categories.into_iter().chain([UNKNOWN]).collect();
        names.sort_unstable();
        names.dedup();
        let category = || Category { turns: Per::default(), duration: Histogram::durations(LONG) };
        Nodes(names.into_iter().map(|name| (name, category())).collect())
    }

    /// The instruments of a category.
    pub fn of(&self, category: &str) -> &Category {
        let found = |name: &str| self.0.binary_search_by_key(&name, |(name, _)| name).ok();
        let place = found(category).or_else(|| found(UNKNOWN)).unwrap_or_default(); // there is that one
        &self.0[place].1
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &Category)> {
        self.0.iter().map(|(name, category)| (*name, category))
    }
}

impl Metrics {
    /// Of a worker that serves these queues, for nodes of these categories.
    pub fn new<'a>(
        worker: Worker,
        queues: impl IntoIterator<Item = &'a str>,
        categories: impl IntoIterator<Item = &'static str>,
    ) -> Metrics {
        Metrics {
            queues: queues.into_iter().map(|name| (name.into(), Queue::default())).collect(),
            steps: Per::new(|| Histogram::durations(LONG)),
            nodes: Nodes::new(categories),
            recovered: Per::default(),
            parked: Per::default(),
            writer: Arc::default(),
            renewals: Per::default(),
            lease_losses: Counter::default(),
            outages: Counter::default(),
            connections: Per::default(),
            exports: Per::default(),
            spans_dropped: Counter::default(),
            worker,
        }
    }

    /// Executions that were put back on the queue, for whatever reason.
    pub fn recovered_in_all(&self) -> u64 {
        self.recovered.iter().map(|(_, count)| count.get()).sum()
    }

    /// The instruments of a queue: one of those that it was made with, else the last of them.
    pub fn queue(&self, name: &str) -> Option<&Queue> {
        self.queues.iter().find(|(known, _)| **known == *name).or(self.queues.last()).map(|(_, queue)| queue)
    }
}

impl Default for Metrics {
    /// For what runs without a worker. Counts as well; nobody looks.
    fn default() -> Metrics {
        Metrics::new(Worker::default(), [], [])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_unknown_has_a_place_as_well() {
        let metrics = Metrics::new(Worker::default(), ["a", "b"], ["math", "flow", "math"]);
        metrics.nodes.of("math").turns.of(NodeOutcome::Completed).increment();
        metrics.nodes.of("somebody's own").turns.of(NodeOutcome::Failed).increment();
        let turns: Vec<_> = metrics
            .nodes
            .iter()
            .map(|(name, category)| (name, category.turns.iter().map(|(_, count)| count.get()).sum::<u64>()))
            .collect();
        assert_eq!(turns, [("flow", 0), ("math", 1), ("unknown", 1)]);
        assert_eq!((Step::named("DBOS.recv"), Step::named("executeFireFlow")), (Step::Receive, Step::Other));
        metrics.queue("elsewhere").unwrap().claimed.increment();
        assert_eq!(metrics.queue("b").unwrap().claimed.get(), 1);
        assert!(Metrics::default().queue("a").is_none());
    }
}
