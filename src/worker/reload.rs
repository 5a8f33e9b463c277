//! Settings that change while the worker runs.
//!
//! What a worker holds on to for its whole life, such as its id, needs a restart; all else is taken over at once. `keys.rs`
//! says which key is which. Whoever uses a setting that may change either asks for it each time, or listens.

mod keys;

use std::{fmt, sync::Arc};

use tokio::sync::{Mutex, watch};

pub use self::keys::Change;
use super::embed::environment;
use crate::{
    config::Settings,
    nodes::{
        outbound::{Outbound, SetupError},
        secrets::Secrets,
    },
};

/// The settings in force. Clones are the same.
#[derive(Clone)]
pub(super) struct Live(Arc<Inner>);

struct Inner {
    settings: watch::Sender<Arc<Settings>>,
    outbound: Outbound,
    /// Held while settings are taken over: one after the other.
    applying: Mutex<()>,
}

/// New settings can't be used; the old ones stay in force, all of them.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReloadError {
    /// The HTTP client of the nodes can't be made with them.
    #[error(transparent)]
    Outbound(#[from] SetupError),
}

/// What came of new settings.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Reloaded {
    /// What is in force now.
    pub settings: Arc<Settings>,
    /// What has changed.
    pub changed: Vec<Change>,
    /// What is otherwise in the new settings, and can't change before a restart.
    pub needs_restart: Vec<Change>,
}

/// Gives a worker other settings while it runs. Clones are for the same worker.
#[derive(Clone)]
pub struct Reloader(Live);

impl Reloader {
    pub(super) fn new(live: Live) -> Reloader {
        Reloader(live)
    }

    /// Take over these settings, as far as that can be done without a restart. They are used as they are:
    /// [`config::load`](crate::config::load) validates. What they say of `[admin]` and `[log]` is for the program around the
    /// worker.
    ///
    /// Limits, `[outbound]`, `[secrets]`, `[recovery]`, and the times and numbers of the drain, of waiting executions and of
    /// attempts take effect at once; nobody who runs loses a slot.
    ///
    /// # Errors
    /// [`ReloadError`]: nothing has changed then.
    pub async fn reload(&self, settings: Settings) -> Result<Reloaded, ReloadError> {
        self.0.take_over(settings).await
    }

    /// The settings in force.
    pub fn settings(&self) -> Arc<Settings> {
        self.0.settings()
    }
}

impl fmt::Debug for Reloader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Reloader").field(&self.0.settings()).finish()
    }
}

impl Live {
    /// These, to begin with.
    pub fn new(settings: Settings) -> Live {
        let secrets = Secrets::default();
        secrets.reserve(settings.files());
        secrets.change(&settings.secrets, environment());
        let outbound = Outbound::with_defaults(secrets);
        Live(Arc::new(Inner { settings: watch::Sender::new(Arc::new(settings)), outbound, applying: Mutex::default() }))
    }

    /// The settings in force now.
    pub fn settings(&self) -> Arc<Settings> {
        self.0.settings.borrow().clone()
    }

    /// The settings in force, to listen to.
    pub fn changes(&self) -> watch::Receiver<Arc<Settings>> {
        self.0.settings.subscribe()
    }

    /// The way out. It keeps to the settings in force once it is [set up](Live::set_up).
    pub fn outbound(&self) -> &Outbound {
        &self.0.outbound
    }

    /// Make ready what takes a while.
    ///
    /// # Errors
    /// The HTTP client of the nodes can't be made.
    pub async fn set_up(&self) -> Result<(), SetupError> {
        let _one = self.0.applying.lock().await;
        let settings = self.settings();
        self.blocking(move |live| live.0.outbound.change(&settings.outbound)).await
    }

    async fn take_over(&self, new: Settings) -> Result<Reloaded, ReloadError> {
        let _one = self.0.applying.lock().await;
        let old = self.settings();
        let next = Arc::new(keys::merged(&old, &new));
        let (changed, needs_restart) = keys::changes(&old, &new);
        let (now, then) = (next.clone(), old);
        self.blocking(move |live| {
            // Certificates may have changed in their file.
            if now.outbound != then.outbound || now.outbound.ca_file.is_some() {
                live.0.outbound.change(&now.outbound)?;
            }
            live.0.outbound.secrets().reserve(now.files());
            live.0.outbound.secrets().change(&now.secrets, environment());
            Ok::<_, SetupError>(())
        })
        .await?;
        self.0.settings.send_replace(next.clone());
        Ok(Reloaded { settings: next, changed, needs_restart })
    }

    /// What reads files.
    async fn blocking<T: Send + 'static>(&self, what: impl FnOnce(&Live) -> T + Send + 'static) -> T {
        let live = self.clone();
        let done = tokio::task::spawn_blocking(move || what(&live)).await;
        done.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic())) // never cancelled
    }
}

impl fmt::Debug for Live {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Live").field(&self.settings()).finish()
    }
}
