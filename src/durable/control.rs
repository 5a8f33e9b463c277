//! Stopping a running workflow from outside.

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use tokio_util::sync::CancellationToken;

/// Why a workflow has to stop here. Nothing more is written for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stop {
    /// Its row has another owner, or has ended (with this status), or is gone (`None`).
    Lost(Option<String>),
    /// The worker gives it back to the queue.
    HandBack,
}

/// Status of a row that refused a checkpoint: another one by now, without a word which.
const UNKNOWN: &str = "unknown";

impl Stop {
    /// A checkpoint was refused, since the row is no longer ours.
    pub(super) fn refused() -> Stop {
        Stop::Lost(Some(UNKNOWN.into()))
    }

    /// Whether a cancel may be behind it. The row's status decides.
    pub fn may_be_cancelled(&self) -> bool {
        matches!(self, Stop::Lost(Some(status)) if status == "CANCELLED" || status == UNKNOWN)
    }
}

impl std::fmt::Display for Stop {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Stop::Lost(None) => f.write_str("the workflow was deleted"),
            Stop::Lost(Some(status)) => {
                write!(f, "the workflow is no longer owned by this worker; its status is {status}")
            }
            Stop::HandBack => f.write_str("the worker gives the workflow back to the queue"),
        }
    }
}

/// The switch of one running workflow. Clones are the same switch.
#[derive(Clone, Debug, Default)]
pub struct Control {
    reason: Arc<OnceLock<Stop>>,
    waiting: Arc<AtomicBool>,
    token: CancellationToken,
}

impl Control {
    /// Stop the workflow; the first reason counts.
    pub fn stop(&self, reason: Stop) {
        let _ = self.reason.set(reason); // already stopped for another reason
        self.token.cancel();
    }

    /// Completes when the workflow has to stop.
    pub async fn stopped(&self) -> Stop {
        self.token.cancelled().await;
        self.reason.get().cloned().unwrap_or(Stop::HandBack)
    }

    /// Why the workflow has to stop, if it has to.
    pub fn stop_reason(&self) -> Option<&Stop> {
        self.reason.get()
    }

    /// Whether the workflow waits for a message, and so loses nothing by stopping.
    pub fn is_waiting(&self) -> bool {
        self.waiting.load(Relaxed)
    }

    pub(super) fn set_waiting(&self, waiting: bool) {
        self.waiting.store(waiting, Relaxed);
    }
}
