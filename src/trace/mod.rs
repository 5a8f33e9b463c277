//! Traces: one for each execution, with a span for each of its durable steps and, below the flow's run, one for each node.
//!
//! Spans are put together here, when what they are about has ended, and go to an exporter (`otlp.rs`) that has a bounded queue
//! and a thread of its own. A collector that is away costs spans and nothing else. Without `trace.endpoint` there is no
//! exporter, and all of this is one look at a `None`.
//!
//! Who enqueues an execution may say of which trace it is a part, with a `traceparent` (see `context.rs`). Without one, the trace's
//! id follows from the execution's, so that all attempts at an execution, by whatever worker, are in one trace. Whether a trace
//! is recorded is decided once: what isn't recorded hands that on to its children, as well as a context that came to a worker
//! without an exporter.

mod context;
#[cfg(feature = "otlp")]
mod otlp;
#[cfg(not(feature = "otlp"))]
#[path = "without.rs"]
mod otlp;

use std::{
    borrow::Cow,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU32, Ordering::Relaxed},
    },
    time::{Duration, Instant, SystemTime},
};

use self::{context::Parent, otlp::Exporter};
use crate::{
    config,
    flow::{Status, engine::NodeEnd},
    metrics::Metrics,
    nodes::secrets::Redactor,
};

/// Spans of nodes in one execution: with more, a trace can't be read anyway.
const MOST_NODES: u32 = 1000;
/// Characters of an error that go into a span.
const LONGEST_ERROR: usize = 1000;

/// Traces can't be sent.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SetupError {
    /// This program was built without them.
    #[error("trace.endpoint: this build has no traces; build it with the feature \"otlp\", or leave the key out")]
    Unsupported,
    /// The headers can't be read.
    #[error("{key}: {why}")]
    Headers {
        /// Which key says where they are.
        key: &'static str,
        /// What is wrong.
        why: String,
    },
    /// The exporter can't be made.
    #[error("trace.endpoint: {0}")]
    Exporter(String),
}

/// Begins traces. Cheap to clone.
#[derive(Clone, Default)]
pub struct Tracer(Option<Arc<Inner>>);

struct Inner {
    exporter: Exporter,
    worker: Arc<str>,
    ratio: f64,
    redactor: Redactor,
}

/// An execution that begins here.
#[derive(Clone, Copy, Debug)]
pub struct Begins<'a> {
    /// The execution.
    pub execution: &'a str,
    /// Its workflow's name: the name of the span.
    pub workflow: &'a str,
    /// Its queue.
    pub queue: &'a str,
    /// The how manieth claim.
    pub attempt: i64,
    /// How long it waited on the queue.
    pub waited: Duration,
    /// The step that is the flow's run: the parent of the nodes.
    pub work: &'static str,
    /// Of which trace it is a part, by those who said so. The first one counts that is a context.
    pub traceparents: [Option<&'a str>; 2],
}

impl Tracer {
    /// As the settings say, for this worker; none without an endpoint.
    ///
    /// # Errors
    /// [`SetupError`].
    pub fn start(
        settings: &config::Trace,
        worker: &str,
        redactor: Redactor,
        metrics: &Arc<Metrics>,
    ) -> Result<Tracer, SetupError> {
        let Some(endpoint) = &settings.endpoint else { return Ok(Tracer(None)) };
        let exporter = Exporter::start(settings, endpoint, worker, metrics)?;
        // Without what else the URL may hold, such as a token.
        let host = url::Url::parse(endpoint).ok().and_then(|url| url.host_str().map(str::to_owned));
        tracing::info!(collector = host, ratio = settings.sample_ratio, "traces are sent");
        let ratio = settings.sample_ratio;
        Ok(Tracer(Some(Arc::new(Inner { exporter, worker: worker.into(), ratio, redactor }))))
    }

    /// The trace of an execution; one that records nothing, where it isn't sampled.
    pub fn begin(&self, begins: &Begins<'_>) -> Trace {
        let parent = begins.traceparents.into_iter().flatten().find_map(Parent::read);
        let Some(inner) = &self.0 else { return Trace::skipped(parent) };
        let trace = parent.as_ref().map_or_else(|| context::trace_of(begins.execution), |parent| parent.trace);
        let sampled =
            parent.as_ref().map_or_else(|| context::is_sampled(trace, inner.ratio), |parent| parent.is_sampled());
        if !sampled {
            return Trace::skipped(parent.or_else(|| Some(Parent::unrecorded(trace))));
        }
        Trace(Course::Recorded(Arc::new(Running {
            inner: inner.clone(),
            trace,
            parent: parent.map(|parent| parent.span),
            root: context::new_span(),
            run: context::new_span(),
            began: (Instant::now(), SystemTime::now()),
            name: begins.workflow.to_owned(),
            execution: begins.execution.into(),
            queue: begins.queue.into(),
            attempt: begins.attempt,
            waited: begins.waited,
            flow: OnceLock::new(),
            error: OnceLock::new(),
            nodes: AtomicU32::new(0),
            work: begins.work,
            work_began: OnceLock::new(),
            work_sent: AtomicBool::new(false),
            ended: AtomicBool::new(false),
        })))
    }

    /// Send what is still to be sent, for so long at most, and end.
    pub async fn stop(self, limit: Duration) {
        let Some(inner) = self.0 else { return };
        if !inner.exporter.stop(limit).await {
            tracing::warn!("the last spans couldn't be sent in time");
        }
    }
}

/// The trace of one execution, as far as it goes on here. Clones are the same one. Its own span ends with
/// [`end`](Trace::end), or with the last clone.
#[derive(Clone, Default)]
pub struct Trace(Course);

#[derive(Clone)]
enum Course {
    /// Nothing is recorded. Who goes on with it gets this context, if there is one.
    Skipped(Option<Arc<Parent>>),
    Recorded(Arc<Running>),
}

impl Default for Course {
    fn default() -> Course {
        Course::Skipped(None)
    }
}

struct Running {
    inner: Arc<Inner>,
    trace: [u8; 16],
    parent: Option<[u8; 8]>,
    /// The execution's own span.
    root: [u8; 8],
    /// The span of the step that is the flow's run: that of the nodes' parent.
    run: [u8; 8],
    began: (Instant, SystemTime),
    name: String,
    execution: Arc<str>,
    queue: Arc<str>,
    attempt: i64,
    waited: Duration,
    flow: OnceLock<Arc<str>>,
    error: OnceLock<String>,
    nodes: AtomicU32,
    /// The name of the flow's run, when its first node began, and whether it was sent.
    work: &'static str,
    work_began: OnceLock<Instant>,
    work_sent: AtomicBool,
    ended: AtomicBool,
}

/// A span that has ended.
#[cfg_attr(not(feature = "otlp"), expect(dead_code, reason = "nobody sends it"))]
#[derive(Clone, Debug)]
struct Span {
    trace: [u8; 16],
    id: [u8; 8],
    parent: Option<[u8; 8]>,
    /// The parent is somebody else's.
    remote: bool,
    name: Cow<'static, str>,
    kind: Kind,
    began: SystemTime,
    ended: SystemTime,
    attributes: Vec<(&'static str, Attribute)>,
    error: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// What was taken from a queue.
    Consumer,
    /// What goes on within.
    Internal,
}

#[cfg_attr(not(feature = "otlp"), expect(dead_code, reason = "nobody sends it"))]
#[derive(Clone, Debug)]
enum Attribute {
    Text(Arc<str>),
    Integer(i64),
    Number(f64),
}

impl Trace {
    fn skipped(context: Option<Parent>) -> Trace {
        Trace(Course::Skipped(context.map(Arc::new)))
    }

    fn running(&self) -> Option<&Running> {
        match &self.0 {
            Course::Skipped(_) => None,
            Course::Recorded(running) => Some(running),
        }
    }

    /// Whether anything is recorded.
    pub fn is_on(&self) -> bool {
        self.running().is_some()
    }

    /// Its flow is this one.
    pub fn of_flow(&self, flow: &str) {
        if let Some(running) = self.running() {
            let _ = running.flow.set(flow.into()); // it doesn't change
        }
    }

    /// For who goes on with this trace: this execution's children. Also where it isn't recorded, so that theirs isn't either.
    pub fn traceparent(&self) -> Option<String> {
        match &self.0 {
            Course::Skipped(context) => context.as_ref().map(|context| context.text()),
            Course::Recorded(running) => Some(context::recorded(running.trace, running.root)),
        }
    }

    /// A step has its outcome.
    pub fn step(&self, name: &str, began: Instant, error: Option<&str>) {
        let Some(running) = self.running() else { return };
        let mut span = if name == running.work {
            running.work_span(began)
        } else {
            running.span(context::new_span(), Some(running.root), name.to_owned().into(), began, Instant::now())
        };
        span.error = error.map(|error| running.clean(error));
        running.inner.exporter.send(span);
    }

    /// A node has ended.
    pub fn node(&self, node: &NodeEnd<'_>) {
        let Some(running) = self.running() else { return };
        if running.nodes.fetch_add(1, Relaxed) >= MOST_NODES {
            return;
        }
        running.work_began.get_or_init(|| node.began);
        let name = node.type_name.to_owned().into();
        let mut span = running.span(context::new_span(), Some(running.run), name, node.began, node.ended);
        span.attributes.extend([
            ("fireflow.node.id", Attribute::Text(node.id.into())),
            ("fireflow.node.category", Attribute::Text(node.category.into())),
            ("fireflow.node.status", Attribute::Text(node.status.as_str().into())),
        ]);
        if node.status == Status::Error {
            span.error = Some("the node failed".into()); // its text is in the flow's events, and may be anything
        }
        running.inner.exporter.send(span);
    }

    /// The execution fails, for this reason.
    pub fn fails(&self, why: &str) {
        if let Some(running) = self.running() {
            let _ = running.error.set(running.clean(why)); // the first one counts
        }
    }

    /// The execution leaves this process.
    pub fn end(&self, outcome: &'static str) {
        if let Some(running) = self.running() {
            running.end(outcome);
        }
    }
}

impl Running {
    fn span(
        &self,
        id: [u8; 8],
        parent: Option<[u8; 8]>,
        name: Cow<'static, str>,
        began: Instant,
        ended: Instant,
    ) -> Span {
        let mut attributes = vec![
            ("fireflow.execution.id", Attribute::Text(self.execution.clone())),
            ("fireflow.queue", Attribute::Text(self.queue.clone())),
            ("fireflow.attempt", Attribute::Integer(self.attempt)),
            ("fireflow.worker.id", Attribute::Text(self.inner.worker.clone())),
        ];
        attributes.extend(self.flow.get().map(|flow| ("fireflow.flow.id", Attribute::Text(flow.clone()))));
        let (began, ended) = (self.time(began), self.time(ended));
        let (remote, kind) = (false, Kind::Internal);
        Span { trace: self.trace, id, parent, remote, name, kind, began, ended, attributes, error: None }
    }

    /// The span of the flow's run, up to now. It counts as sent.
    fn work_span(&self, began: Instant) -> Span {
        self.work_sent.store(true, Relaxed);
        let mut span = self.span(self.run, Some(self.root), self.work.into(), began, Instant::now());
        span.attributes.push(("fireflow.nodes", Attribute::Integer(self.nodes.load(Relaxed).into())));
        span
    }

    /// All times of a trace by one clock, so that they are in order.
    fn time(&self, at: Instant) -> SystemTime {
        let (instant, system) = self.began;
        system + at.saturating_duration_since(instant)
    }

    fn clean(&self, text: &str) -> String {
        self.inner.redactor.text(text).chars().take(LONGEST_ERROR).collect()
    }

    fn end(&self, outcome: &'static str) {
        if self.ended.swap(true, Relaxed) {
            return;
        }
        // A run that goes on elsewhere has no outcome here; its nodes need their parent all the same.
        if let Some(began) = self.work_began.get().filter(|_| !self.work_sent.load(Relaxed)) {
            let mut run = self.work_span(*began);
            run.attributes.push(("fireflow.outcome", Attribute::Text(outcome.into())));
            self.inner.exporter.send(run);
        }
        let mut span = self.span(self.root, self.parent, self.name.clone().into(), self.began.0, Instant::now());
        (span.remote, span.kind) = (self.parent.is_some(), Kind::Consumer);
        span.attributes.push(("fireflow.outcome", Attribute::Text(outcome.into())));
        span.attributes.push(("fireflow.queue.seconds", Attribute::Number(self.waited.as_secs_f64())));
        span.error = self.error.get().cloned();
        self.inner.exporter.send(span);
    }
}

impl Drop for Running {
    /// Of an execution that panicked, or whose task was cut off.
    fn drop(&mut self) {
        if !*self.ended.get_mut() {
            let _ = self.error.set("it ended without an outcome".into());
            self.end("lost");
        }
    }
}
