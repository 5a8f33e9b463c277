//! Signals: the first SIGTERM or SIGINT begins the drain, the second hands everything back at once; SIGHUP asks for other
//! settings.

use futures_util::StreamExt as _;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook_tokio::Signals;
use tokio_util::sync::CancellationToken;

/// How far the shutdown has gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drain {
    /// Let running executions finish.
    Graceful,
    /// Give them back now.
    AtOnce,
}

/// Tells the worker to end. Clones are the same shutdown.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    drain: CancellationToken,
    at_once: CancellationToken,
}

impl Shutdown {
    /// One that [`Shutdown::begin`] starts.
    pub fn new() -> Shutdown {
        Shutdown::default()
    }

    /// Begin, or go further.
    pub fn begin(&self, drain: Drain) {
        self.drain.cancel();
        if drain == Drain::AtOnce {
            self.at_once.cancel();
        }
    }

    /// Completes when the drain begins.
    pub async fn draining(&self) {
        self.drain.cancelled().await;
    }

    /// Completes when everything is to be given back at once.
    pub async fn at_once(&self) {
        self.at_once.cancelled().await;
    }

    /// Whether the drain has begun.
    pub fn is_draining(&self) -> bool {
        self.drain.is_cancelled()
    }

    /// Whether everything is to be given back at once.
    pub fn is_at_once(&self) -> bool {
        self.at_once.is_cancelled()
    }

    /// Obey SIGTERM and SIGINT from now on, for as long as the future is polled.
    ///
    /// # Errors
    /// The handlers can't be installed.
    pub fn obey_signals(&self) -> std::io::Result<impl Future<Output = ()> + use<>> {
        let mut signals = Signals::new([SIGTERM, SIGINT])?;
        let shutdown = self.clone();
        Ok(async move {
            while let Some(signal) = signals.next().await {
                let name = if signal == SIGTERM { "SIGTERM" } else { "SIGINT" };
                if shutdown.is_draining() {
                    tracing::warn!(signal = name, "second signal: giving running executions back at once");
                    shutdown.begin(Drain::AtOnce);
                } else {
                    let text = "draining: no new executions; a second signal gives running ones back at once";
                    tracing::info!(signal = name, "{text}");
                    shutdown.begin(Drain::Graceful);
                }
            }
        })
    }
}

/// SIGHUPs. From the moment that this is made they don't end the process any more, also when this value is gone.
pub struct Hangups(Signals);

impl Hangups {
    /// Listen to them from now on.
    ///
    /// # Errors
    /// The handler can't be installed.
    pub fn listen() -> std::io::Result<Hangups> {
        Signals::new([SIGHUP]).map(Hangups)
    }

    /// Completes when there was one since the last time. Several may count as one.
    pub async fn next(&mut self) {
        if self.0.next().await.is_none() {
            std::future::pending::<()>().await; // nobody closes it
        }
    }
}

impl std::fmt::Debug for Hangups {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hangups")
    }
}
