//! The HTTP listener: health and status. On loopback by default; it tells nothing that is secret, and changes nothing.
//!
//! `listen.rs` opens and serves it, `auth.rs` says who may ask for what, and what it answers is in `probes.rs` and `figures.rs`.

mod auth;
mod figures;
mod listen;
mod probes;

use std::{net::SocketAddr, sync::Arc};

use axum::Router;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub use listen::ListenError;

use self::{auth::Access, listen::Bound};
use crate::{config, worker::Status};

/// A running listener, or none when it is switched off.
pub struct Admin {
    address: Option<SocketAddr>,
    stop: CancellationToken,
    task: Option<JoinHandle<()>>,
}

/// Whether the token can be used that these settings name, if they do.
///
/// # Errors
/// [`ListenError`], as [`start`] would give it.
pub fn check(settings: &config::Admin) -> Result<(), ListenError> {
    if settings.enabled { Access::of(settings).map(drop) } else { Ok(()) }
}

/// Open the listener and serve.
///
/// # Errors
/// [`ListenError`], for instance when the port is taken.
pub async fn start(settings: &config::Admin, status: Arc<Status>) -> Result<Admin, ListenError> {
    let stop = CancellationToken::new();
    if !settings.enabled {
        return Ok(Admin { address: None, stop, task: None });
    }
    let access = Access::of(settings)?;
    let listener = Bound::open(&settings.listen).await?;
    let address = listener.address();
    match address {
        Some(address) => tracing::info!(%address, "admin listener"),
        None => tracing::info!(listen = %settings.listen, "admin listener"),
    }
    let router = access.guard(router(status));
    let task = tokio::spawn(listener.serve(router, stop.clone()));
    Ok(Admin { address, stop, task: Some(task) })
}

impl Admin {
    /// Where it listens; none for a Unix socket.
    pub fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// Stop listening.
    pub async fn stop(self) {
        self.stop.cancel();
        if let Some(task) = self.task {
            // A client that keeps its connection open must not hold the exit.
            let _ = tokio::time::timeout(std::time::Duration::from_secs(1), task).await;
        }
    }
}

/// What is answered.
pub fn router(status: Arc<Status>) -> Router {
    probes::routes().merge(figures::routes()).with_state(status)
}
