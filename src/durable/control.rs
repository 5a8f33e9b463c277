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
        let cut = !matches!(reason, Stop::Abort(_));
        // Before anybody wakes up, who asks for it.
        let _ = self.reason.set(reason); // already stopped for another reason
        if cut {
            self.cut.cancel();
        }
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

#[cfg(test)]
mod tests {
    use std::{
        pin::pin,
        sync::Mutex,
        task::{Context, Poll, Wake},
    };

    use super::*;

    /// Looks for the reason in the moment when it is woken.
    struct Sleeper {
        control: Control,
        found: Mutex<Vec<Option<Stop>>>,
    }

    impl Wake for Sleeper {
        fn wake(self: Arc<Self>) {
            self.found.lock().unwrap().push(self.control.stop_reason().cloned());
        }
    }

    #[test]
    fn who_is_woken_by_a_stop_knows_why() {
        let control = Control::default();
        let sleeper = Arc::new(Sleeper { control: control.clone(), found: Mutex::default() });
        let waker = sleeper.clone().into();
        let mut context = Context::from_waker(&waker);
        let (mut cut, mut stopped) = (pin!(control.cut_off()), pin!(control.stopped()));
        assert!(cut.as_mut().poll(&mut context).is_pending() && stopped.as_mut().poll(&mut context).is_pending());
        control.stop(Stop::HandBack);
        assert_eq!(*sleeper.found.lock().unwrap(), [Some(Stop::HandBack), Some(Stop::HandBack)]);
        assert_eq!(cut.poll(&mut context), Poll::Ready(Stop::HandBack));
        assert_eq!(stopped.poll(&mut context), Poll::Ready(Stop::HandBack));
    }

    #[test]
    fn what_was_to_end_by_itself_and_is_cut_off_then_has_lost_its_row() {
        let control = Control::default();
        control.stop(Stop::Abort("the deadline has passed".into()));
        assert!(!control.is_cut_off());
        control.stop(Stop::Lost(Some("CANCELLED".into())));
        let mut context = Context::from_waker(std::task::Waker::noop());
        assert_eq!(pin!(control.cut_off()).poll(&mut context), Poll::Ready(Stop::Lost(Some("unknown".into()))));
    }
}
