//! The HTTP listener: health and status. On loopback by default; it tells nothing that is secret, and changes nothing.
//! `listen.rs` opens and serves it, `auth.rs` says who may ask for what.
//!
//! `/livez` never touches the database; `/readyz` is 200 while the worker takes executions, and so not while
//! the database is away; `/status` is JSON.

mod auth;
mod listen;

use std::{net::SocketAddr, sync::Arc};

use axum::{Json, Router, extract::State, http::StatusCode, routing::get};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub use listen::ListenError;

use self::{auth::Access, listen::Bound};
use crate::{
    config,
    worker::{Phase, Snapshot, Status},
};

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
    Router::new()
        .route("/livez", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .route("/status", get(async |State(status): State<Arc<Status>>| Json::<Snapshot>(status.snapshot())))
        .with_state(status)
}

async fn ready(State(status): State<Arc<Status>>) -> (StatusCode, String) {
    let phase = status.phase();
    if phase == Phase::Running && !status.is_ready() {
        return (StatusCode::SERVICE_UNAVAILABLE, "running, but the database is away\n".into());
    }
    let code = if phase == Phase::Running { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (code, format!("{phase:?}\n").to_lowercase())
}
