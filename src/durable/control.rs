//! Stopping a running workflow from outside.

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use tokio_util::sync::CancellationToken;

/// Why a workflow has to stop here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stop {
    /// Its row has another owner, or has ended (with this status), or is gone (`None`). Nothing more is written for it.
    Lost(Option<String>),
    /// A checkpoint was refused because its row has another owner, or has ended, or is gone: nobody has looked yet.
    Disowned,
    /// The worker gives it back to the queue. Nothing more is written for it.
    HandBack,
    /// It is still ours, and has to end now, for this reason.
    Abort(String),
}

impl std::fmt::Display for Stop {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Stop::Lost(None) => f.write_str("the workflow was deleted"),
            Stop::Lost(Some(status)) => {
                write!(f, "the workflow is no longer owned by this worker; its status is {status}")
            }
            Stop::Abort(reason) => f.write_str(reason),
            Stop::Disowned => f.write_str("the workflow is no longer owned by this worker"),
            Stop::HandBack => f.write_str("the worker gives the workflow back to the queue"),
        }
    }
}

/// The switch of one running workflow. Clones are the same switch.
#[derive(Clone, Debug, Default)]
pub struct Control {
    reason: Arc<OnceLock<Stop>>,
    waiting: Arc<AtomicBool>,
    /// It has to stop.
    token: CancellationToken,
    /// It has to stop, and may not write.
    cut: CancellationToken,
}

impl Control {
    /// Stop the workflow; the first reason counts.
    pub fn stop(&self, reason: Stop) {
        if !matches!(reason, Stop::Abort(_)) {
            self.cut.cancel();
        }
        let _ = self.reason.set(reason); // already stopped for another reason
        self.token.cancel();
    }

    /// Completes when the workflow has to stop.
    pub async fn stopped(&self) -> Stop {
        self.token.cancelled().await;
        self.reason.get().cloned().unwrap_or(Stop::HandBack)
    }

    /// Completes when the workflow may not write any more.
    pub(super) async fn cut_off(&self) -> Stop {
        self.cut.cancelled().await;
        match self.reason.get() {
            // It was to end by itself first, and then lost its row.
            None | Some(Stop::Abort(_)) => Stop::Lost(Some("unknown".into())),
            Some(reason) => reason.clone(),
        }
    }

    /// Whether the workflow may not write any more.
    pub(super) fn is_cut_off(&self) -> bool {
        self.cut.is_cancelled()
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
