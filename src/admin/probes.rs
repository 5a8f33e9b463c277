//! The probes. None of them asks the database anything.
//!
//! - `/livez`: 200 unless a loop hangs without which the worker does nothing; then 503, with which one and since when. For who
//!   restarts the process: a database that is away fails it never.
//! - `/readyz`: 200 while executions are taken, under a lease, from a database that answers; else 503, with why not.
//! - `/status`: figures, as JSON.
//!
//! Strangers (`auth.rs`) get the codes of the first two, and no reasons.

use std::sync::Arc;

use axum::{Extension, Json, Router, extract::State, http::StatusCode, routing::get};

use super::auth::Stranger;
use crate::worker::{Phase, Snapshot, Status};

/// The probes' paths.
pub(super) fn routes() -> Router<Arc<Status>> {
    Router::new().route("/livez", get(live)).route("/readyz", get(ready)).route("/status", get(status))
}

async fn live(State(status): State<Arc<Status>>, stranger: Option<Extension<Stranger>>) -> (StatusCode, String) {
    let silent = status.silent();
    if silent.is_empty() {
        return (StatusCode::OK, "ok\n".into());
    }
    if stranger.is_some() {
        return (StatusCode::SERVICE_UNAVAILABLE, "a loop hangs\n".into());
    }
    (StatusCode::SERVICE_UNAVAILABLE, silent.iter().map(|silence| format!("the {silence}\n")).collect())
}

async fn ready(State(status): State<Arc<Status>>, stranger: Option<Extension<Stranger>>) -> (StatusCode, String) {
    match status.unready() {
        Some(_) if stranger.is_some() => {
            let phase = status.phase();
            let but = if phase == Phase::Running { ", but not ready" } else { "" };
            (StatusCode::SERVICE_UNAVAILABLE, format!("{}{but}\n", phase.name()))
        }
        None => (StatusCode::OK, "running\n".into()),
        Some(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
    }
}

async fn status(State(status): State<Arc<Status>>) -> Json<Snapshot> {
    Json(status.snapshot())
}
