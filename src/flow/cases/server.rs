//! A loopback server for the cases with requests.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::body::{Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value as JsonValue, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::HttpServer;

/// Larger than any body in the cases.
const BODY_LIMIT: usize = 1 << 20;

pub(super) struct Server {
    /// Where it listens: `http://127.0.0.1:port`.
    pub base: String,
    shared: Arc<Shared>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

struct Shared {
    spec: HttpServer,
    requests: Mutex<Vec<JsonValue>>,
}

impl Shared {
    fn requests(&self) -> MutexGuard<'_, Vec<JsonValue>> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner) // a list is whole after each push
    }
}

impl Server {
    pub async fn start(spec: &HttpServer) -> std::io::Result<Server> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let base = format!("http://{}", listener.local_addr()?);
        let shared = Arc::new(Shared { spec: spec.clone(), requests: Mutex::default() });
        let router = Router::new().fallback(answer).with_state(shared.clone());
        let stop = CancellationToken::new();
        let stopped = stop.clone().cancelled_owned();
        let task = tokio::spawn(async move {
            // What goes wrong here is seen by the case's requests.
            let _ = axum::serve(listener, router).with_graceful_shutdown(stopped).await;
        });
        Ok(Server { base, shared, stop, task })
    }

    /// The requests so far: `{method, url, headers, body}`.
    pub fn requests(&self) -> JsonValue {
        JsonValue::Array(self.shared.requests().clone())
    }

    pub async fn stop(self) {
        self.stop.cancel();
        self.task.abort(); // clients may keep connections open, and nobody asks any more
        let _ = self.task.await;
    }
}

async fn answer(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let body = to_bytes(body, BODY_LIMIT).await.unwrap_or_else(|_| Bytes::new());
    let body = String::from_utf8_lossy(&body).into_owned();
    let (method, url) = (head.method.to_string(), head.uri.to_string());
    let headers: BTreeMap<&str, &str> =
        head.headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap_or_default())).collect();
    let seen = json!({"method": method, "url": url, "headers": headers, "body": body});
    shared.requests().push(seen);
    let whole = head.uri.path_and_query().map_or("", |whole| whole.as_str());
    let route = |path: &str| shared.spec.routes.iter().find(|route| route.path == path);
    let Some(route) = route(whole).or_else(|| route(head.uri.path())) else {
        return (StatusCode::NOT_FOUND, "nothing here").into_response();
    };
    tokio::time::sleep(route.delay).await;
    let text =
        if route.echo { json!({"method": method, "url": url, "body": body}).to_string() } else { route.body.clone() };
    let mut response = (route.status, text).into_response();
    response.headers_mut().extend(route.headers.clone());
    response
}
