//! The HTTP listener: health and status. On loopback by default; it tells nothing that is secret, and changes nothing.
//!
//! `/livez` never touches the database; `/readyz` is 200 while the worker takes executions, and so not while
//! the database is away; `/status` is JSON; `/metrics` is text for Prometheus.

use std::{net::SocketAddr, sync::Arc};

use axum::{
    Json, Router,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use crate::{
    config,
    metrics::Format,
    worker::{Phase, Snapshot, Status},
};

/// The listener can't be opened.
#[derive(Debug, thiserror::Error)]
#[error(
    "can't listen on {address} (admin.listen): {source}; choose another port, 0 for a free one, or admin.enabled = false"
)]
pub struct ListenError {
    address: SocketAddr,
    source: std::io::Error,
}

/// A running listener, or none when it is switched off.
pub struct Admin {
    address: Option<SocketAddr>,
    stop: CancellationToken,
    task: Option<JoinHandle<()>>,
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
    let failed = |source| ListenError { address: settings.listen, source };
    let listener = TcpListener::bind(settings.listen).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    tracing::info!(%address, "admin listener");
    let stopped = stop.clone().cancelled_owned();
    let task = tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, router(status)).with_graceful_shutdown(stopped).await {
            tracing::error!(%error, "admin listener failed");
        }
    });
    Ok(Admin { address: Some(address), stop, task: Some(task) })
}

impl Admin {
    /// Where it listens.
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
        .route("/metrics", get(metrics))
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

async fn metrics(State(status): State<Arc<Status>>, headers: HeaderMap) -> Response {
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    let format = Format::accepted(accept);
    let text = status.metrics_text(format).await;
    ([(header::CONTENT_TYPE, format.content_type())], text).into_response()
}
