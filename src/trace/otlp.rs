//! Sends spans to a collector, as OTLP over HTTP, by OpenTelemetry's own exporter. All that is known of its crates is in this
//! file: they change with each of their versions.
//!
//! The exporter gathers spans on a thread of its own. Its queue is bounded, and what doesn't fit is dropped. It doesn't say so,
//! and therefore we keep count of what waits there. It gets our HTTP client, so that there is no second one in the program.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use opentelemetry::{
    InstrumentationScope, KeyValue, Value,
    trace::{SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState},
};
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    trace::{BatchConfigBuilder, BatchSpanProcessor, SpanData, SpanProcessor as _},
};

use super::{Attribute, Kind, SetupError, Span};
use crate::{
    config,
    metrics::{ExportResult, Metrics},
    nodes::outbound,
    postgres::Telling,
};

/// Spans that may wait; more are dropped.
const WAITING: usize = 4096;
/// Spans in one request.
const BATCH: usize = 512;
/// Longest time that a span waits for others.
const GATHER: Duration = Duration::from_secs(1);

/// Takes spans.
pub(super) struct Exporter {
    processor: Arc<BatchSpanProcessor>,
    scope: InstrumentationScope,
    waiting: Arc<AtomicUsize>,
    metrics: Arc<Metrics>,
    told: Mutex<Telling>,
}

/// The exporter, with a count of what waits for it.
#[derive(Debug)]
struct Counting {
    exporter: SpanExporter,
    waiting: Arc<AtomicUsize>,
}

impl opentelemetry_sdk::trace::SpanExporter for Counting {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        self.waiting.fetch_sub(batch.len(), Relaxed);
        self.exporter.export(batch).await
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

impl Exporter {
    /// To this endpoint, as this worker.
    pub fn start(
        settings: &config::Trace,
        endpoint: &str,
        worker: &str,
        metrics: &Arc<Metrics>,
    ) -> Result<Exporter, SetupError> {
        let failed = |error: &dyn std::fmt::Display| SetupError::Exporter(error.to_string());
        let client = Client {
            http: outbound::plain_client(settings.timeout).map_err(|error| failed(&error))?,
            runtime: tokio::runtime::Handle::current(),
            metrics: metrics.clone(),
            told: Mutex::default(),
        };
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(client)
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(format!("{}/v1/traces", endpoint.trim_end_matches('/')))
            .with_headers(headers(settings)?)
            .with_timeout(settings.timeout)
            .build()
            .map_err(|error| failed(&error))?;
        let batches = BatchConfigBuilder::default()
            .with_max_queue_size(WAITING)
            .with_max_export_batch_size(BATCH)
            .with_scheduled_delay(GATHER)
            .build();
        let waiting = Arc::default();
        let exporter = Counting { exporter, waiting: Arc::clone(&waiting) };
        let mut processor = BatchSpanProcessor::builder(exporter).with_batch_config(batches).build();
        let about = [
            KeyValue::new("service.instance.id", worker.to_owned()),
            KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
        ];
        let name = settings.service_name.clone();
        processor.set_resource(&Resource::builder_empty().with_service_name(name).with_attributes(about).build());
        let scope =
            InstrumentationScope::builder(env!("CARGO_PKG_NAME")).with_version(env!("CARGO_PKG_VERSION")).build();
        let processor = Arc::new(processor);
        Ok(Exporter { processor, scope, waiting, metrics: metrics.clone(), told: Mutex::default() })
    }

    /// Take a span, if there is room for it. Never waits.
    pub fn send(&self, span: Span) {
        let one_more = |waiting: usize| (waiting < WAITING).then_some(waiting + 1);
        if self.waiting.fetch_update(Relaxed, Relaxed, one_more).is_err() {
            self.metrics.spans_dropped.increment();
            if self.told.lock().unwrap_or_else(PoisonError::into_inner).is_due() {
                tracing::warn!("the collector doesn't keep up; spans are dropped, and nothing else is");
            }
            return;
        }
        self.processor.on_end(self.data(span));
    }

    /// Send what is left, for so long at most. Whether that was possible.
    pub async fn stop(&self, limit: Duration) -> bool {
        let processor = self.processor.clone();
        let stopped = tokio::task::spawn_blocking(move || processor.shutdown_with_timeout(limit));
        // It keeps its time by itself; this is for a thread that hangs.
        matches!(tokio::time::timeout(limit + Duration::from_secs(1), stopped).await, Ok(Ok(Ok(()))))
    }

    fn data(&self, span: Span) -> SpanData {
        let trace = TraceId::from_bytes(span.trace);
        let id = SpanId::from_bytes(span.id);
        SpanData {
            span_context: SpanContext::new(trace, id, TraceFlags::SAMPLED, false, TraceState::NONE),
            parent_span_id: span.parent.map_or(SpanId::INVALID, SpanId::from_bytes),
            parent_span_is_remote: span.remote,
            span_kind: match span.kind {
                Kind::Consumer => SpanKind::Consumer,
                Kind::Internal => SpanKind::Internal,
            },
            name: span.name,
            start_time: span.began,
            end_time: span.ended,
            attributes: span.attributes.into_iter().map(|(name, value)| KeyValue::new(name, told(value))).collect(),
            dropped_attributes_count: 0,
            events: Default::default(),
            links: Default::default(),
            status: span.error.map_or(Status::Unset, Status::error),
            instrumentation_scope: self.scope.clone(),
        }
    }
}

fn told(value: Attribute) -> Value {
    match value {
        Attribute::Text(text) => Value::String(text.into()),
        Attribute::Integer(number) => Value::I64(number),
        Attribute::Number(number) => Value::F64(number),
    }
}

/// Those of the file and of the variable. What is in them isn't told, also where it is wrong.
fn headers(settings: &config::Trace) -> Result<HashMap<String, String>, SetupError> {
    let mut headers = HashMap::new();
    let wrong = |key, why: String| SetupError::Headers { key, why };
    if let Some(file) = &settings.headers_file {
        let key = "trace.headers_file";
        let text = std::fs::read_to_string(file).map_err(|error| wrong(key, format!("{}: {error}", file.display())))?;
        for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let header = line.split_once(':').and_then(|(name, value)| header(name, value));
            let why = || format!("{}, line {}: no header; expected `name: value`", file.display(), number + 1);
            headers.extend([header.ok_or_else(|| wrong(key, why()))?]);
        }
    }
    if let Some(variable) = &settings.headers_variable {
        let key = "trace.headers_variable";
        let text = std::env::var(variable).map_err(|_| wrong(key, format!("there is no variable {variable}")))?;
        for pair in text.split(',').filter(|pair| !pair.trim().is_empty()) {
            let header = pair.split_once('=').and_then(|(name, value)| header(name, value));
            let why = || format!("{variable} holds no headers; expected `name=value,name=value`");
            headers.extend([header.ok_or_else(|| wrong(key, why()))?]);
        }
    }
    Ok(headers)
}

fn header(name: &str, value: &str) -> Option<(String, String)> {
    let (name, value) = (name.trim(), value.trim());
    let fits =
        reqwest::header::HeaderName::try_from(name).is_ok() && reqwest::header::HeaderValue::try_from(value).is_ok();
    fits.then(|| (name.to_owned(), value.to_owned()))
}

/// Our HTTP client, for a thread that has no runtime.
struct Client {
    http: reqwest::Client,
    runtime: tokio::runtime::Handle,
    metrics: Arc<Metrics>,
    told: Mutex<Telling>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Client")
    }
}

#[async_trait::async_trait]
impl HttpClient for Client {
    async fn send_bytes(&self, request: http::Request<Bytes>) -> Result<http::Response<Bytes>, HttpError> {
        let began = Instant::now();
        let http = self.http.clone();
        let sent = self.runtime.spawn(async move {
            let answer = http.execute(request.try_into()?).await?.error_for_status()?;
            let status = answer.status();
            let body = answer.bytes().await?;
            let mut response = http::Response::new(body);
            *response.status_mut() = status;
            Ok::<_, reqwest::Error>(response)
        });
        let sent = sent.await.map_err(HttpError::from).and_then(|sent| {
            sent.map_err(|error| HttpError::from(error.without_url())) // it may hold a token
        });
        match &sent {
            Ok(_) => self.metrics.exports.of(ExportResult::Sent).increment(),
            Err(error) => {
                self.metrics.exports.of(ExportResult::Failed).increment();
                // Once a minute, also where every other batch is taken.
                if self.told.lock().unwrap_or_else(PoisonError::into_inner).is_due() {
                    tracing::warn!(%error, took = ?began.elapsed(), "can't send spans; they are lost, and nothing else is");
                }
            }
        }
        sent
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    #[tokio::test]
    async fn what_does_not_fit_is_dropped_and_counted() {
        // Takes connections, and never answers.
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", silent.local_addr().unwrap());
        let settings = config::Trace { timeout: Duration::from_secs(60), ..config::Trace::default() };
        let metrics = Arc::new(Metrics::default());
        let exporter = Exporter::start(&settings, &endpoint, "w1", &metrics).unwrap();
        let now = SystemTime::now();
        let span = Span {
            trace: [1; 16],
            id: [2; 8],
            parent: None,
            remote: false,
            name: "span".into(),
            kind: Kind::Internal,
            began: now,
            ended: now,
            attributes: Vec::new(),
            error: None,
        };
        // One batch is under way for a minute; the others wait.
        for _ in 0..WAITING + BATCH + 100 {
            exporter.send(span.clone());
        }
        let dropped = metrics.spans_dropped.get();
        assert!((100..=100 + BATCH as u64).contains(&dropped), "{dropped}");
    }
}
