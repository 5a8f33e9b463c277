//! What happens to executions and to the worker as a whole: each event is one value that says its line in the log and is
//! counted, so that the log and the metrics can't tell different stories.

use std::time::Duration;

use super::status::{Count, Status};
use crate::metrics::{Outcome, ParkReason};

/// An execution has left this process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// With its result.
    Completed,
    /// With a failure or by a bug of ours, which was told with its text.
    Failed,
    /// By somebody's wish, which was told as well.
    Stopped,
    /// To go on elsewhere.
    HandedBack,
    /// It isn't this worker's any more, for this reason.
    Lost(String),
    /// It had been started too often, and didn't begin.
    Parked,
}

impl Ended {
    /// Log and count it, as an execution of this queue which took so long here.
    pub fn tell(self, status: &Status, queue: &str, took: Duration) {
        let (outcome, count) = match self {
            Ended::Completed => {
                tracing::info!("execution completed");
                (Outcome::Completed, Some(Count::Completed))
            }
            Ended::Failed => (Outcome::Failed, Some(Count::Failed)),
            Ended::Stopped => (Outcome::Stopped, Some(Count::Failed)),
            Ended::HandedBack => {
                tracing::info!("execution goes back to the queue");
                (Outcome::HandedBack, None) // counted there when it is back
            }
            Ended::Lost(reason) => {
                tracing::warn!(reason, "execution stopped");
                (Outcome::Lost, Some(Count::Lost))
            }
            Ended::Parked => (Outcome::Parked, None),
        };
        if let Some(count) = count {
            status.count(count, 1);
        }
        if let Some(queue) = status.metrics().queue(queue) {
            queue.ended.of(outcome).took(took);
        }
    }
}

/// An execution doesn't run any more, until somebody resumes it.
pub(super) struct Parked<'a> {
    pub execution: &'a str,
    pub why: &'a str,
    pub reason: ParkReason,
}

impl Parked<'_> {
    pub fn tell(&self, status: &Status) {
        let Parked { execution, why, reason } = *self;
        tracing::error!(execution, "execution parked as MAX_RECOVERY_ATTEMPTS_EXCEEDED: {why}");
        status.metrics().parked.of(reason).increment();
    }
}

/// The lease is lost.
pub(super) struct LeaseLost<'a> {
    pub reason: &'a str,
    /// What ran under it.
    pub executions: usize,
}

impl LeaseLost<'_> {
    pub fn tell(&self, status: &Status) {
        let LeaseLost { reason, executions } = *self;
        tracing::error!(reason, executions, "lease lost; everything that runs here stops, others may take it");
        status.metrics().lease_losses.increment();
    }
}
