//! Figures for those who scrape: `/metrics`, as OpenMetrics or as Prometheus' older text, whichever is asked for.

use std::sync::Arc;

use axum::{
    Router,
    extract::State,
    http::{HeaderMap, header},
    response::{IntoResponse, Response},
    routing::get,
};

use crate::{metrics::Format, worker::Status};

pub(super) fn routes() -> Router<Arc<Status>> {
    Router::new().route("/metrics", get(metrics))
}

async fn metrics(State(status): State<Arc<Status>>, headers: HeaderMap) -> Response {
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    let format = Format::accepted(accept);
    let text = status.metrics_text(format).await;
    ([(header::CONTENT_TYPE, format.content_type())], text).into_response()
}
