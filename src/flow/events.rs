//! The events of a run, in the form that readers of the stream know: numbered, with `data` in superjson.

use std::fmt::Write;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;
use serde_json::json;
use serde_json::value::RawValue;

use super::Flow;
use super::model::{Edge, Status};

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EventKind {
    /// The execution exists; comes before the run.
    ExecutionCreated,
    /// The run began.
    FlowStarted,
    /// The run ended, whatever became of its nodes.
    FlowCompleted,
    /// The run failed as a whole.
    FlowFailed,
    /// The run was cancelled from outside.
    FlowCancelled,
    /// A node's work begins.
    NodeStarted,
    /// A node succeeded.
    NodeCompleted,
    /// A node failed.
    NodeFailed,
    /// A node did not execute.
    NodeSkipped,
    /// A node's status changed.
    NodeStatusChanged,
    /// A node wrote to the log.
    NodeLog,
    /// An edge carried a value.
    EdgeTransferred,
    /// An edge could not carry its value.
    EdgeFailed,
}

impl EventKind {
    /// The name in the stream.
    pub fn as_str(self) -> &'static str {
        match self {
            EventKind::ExecutionCreated => "execution:created",
            EventKind::FlowStarted => "flow:started",
            EventKind::FlowCompleted => "flow:completed",
            EventKind::FlowFailed => "flow:failed",
            EventKind::FlowCancelled => "flow:cancelled",
            EventKind::NodeStarted => "node:started",
            EventKind::NodeCompleted => "node:completed",
            EventKind::NodeFailed => "node:failed",
            EventKind::NodeSkipped => "node:skipped",
            EventKind::NodeStatusChanged => "node:status-changed",
            EventKind::NodeLog => "node:debug-log-string",
            EventKind::EdgeTransferred => "edge:transfer-completed",
            EventKind::EdgeFailed => "edge:transfer-failed",
        }
    }
}

/// One event.
#[derive(Clone, Debug)]
pub struct Event {
    /// From 0 within a run; −1 for the execution's creation.
    pub index: i64,
    /// What happened.
    pub kind: EventKind,
    /// When, in milliseconds since the epoch.
    pub timestamp: i64,
    /// The data as superjson text: `{"json":…,"meta":…}`.
    pub data: Arc<str>,
}

/// What is known of an execution when its creation is announced.
#[derive(Clone, Copy, Debug)]
pub struct Creation<'a> {
    /// The execution's id.
    pub execution_id: &'a str,
    /// The root of its tree; its own id for a root.
    pub root_execution_id: &'a str,
    /// Its parent, if it is a child.
    pub parent_execution_id: Option<&'a str>,
    /// 0 for a root.
    pub depth: u32,
}

impl Event {
    /// The event that announces an execution, with index −1.
    pub fn execution_created(flow: &Flow, creation: &Creation) -> Event {
        let data = Data::new(&json!({
            "executionId": creation.execution_id,
            "flowId": flow.id(),
        }))
        .field("flowMetadata", flow.metadata_text())
        .dates()
        .field("ownerId", &flow.owner_id())
        .field("rootExecutionId", creation.root_execution_id)
        .field("parentExecutionId", &creation.parent_execution_id)
        .field("executionDepth", &creation.depth);
        Event { index: -1, kind: EventKind::ExecutionCreated, timestamp: now(), data: data.text() }
    }

    /// The row of the `events` stream: `{executionId, event, timestamp}`, as plain JSON. `written` is in milliseconds
    /// since the epoch.
    pub fn stream_value(&self, execution_id: &str, written: i64) -> String {
        format!(
            r#"{{"executionId":{},"event":{{"index":{},"type":"{}","timestamp":"{}","data":{}}},"timestamp":{written}}}"#,
            json!(execution_id),
            self.index,
            self.kind.as_str(),
            iso(self.timestamp),
            self.data,
        )
    }
}

/// A superjson document under construction: an object's fields, and annotations of paths into it.
pub(super) struct Data {
    json: String,
    meta: String,
}

impl Data {
    /// With the fields of a JSON object.
    pub fn new(fields: &serde_json::Value) -> Data {
        let mut json = fields.to_string();
        json.pop(); // the closing brace: more fields may follow
        Data { json, meta: String::new() }
    }

    /// With nothing yet.
    pub fn empty() -> Data {
        Data { json: "{".into(), meta: String::new() }
    }

    /// Add a field.
    pub fn field<T: Serialize + ?Sized>(self, name: &str, value: &T) -> Data {
        // Only maps with keys that are no texts have no JSON, and no event has such.
        let text = serde_json::to_string(value).unwrap_or_else(|_| "null".into());
        self.raw(name, &text)
    }

    /// Add a field that is JSON text already.
    pub fn raw(mut self, name: &str, text: &str) -> Data {
        let comma = if self.json.len() > 1 { "," } else { "" };
        let _ = write!(self.json, r#"{comma}"{name}":{text}"#); // texts take every write
        self
    }

    /// Annotate a path; `what` is JSON.
    pub fn annotate(mut self, path: &str, what: &str) -> Data {
        let comma = if self.meta.is_empty() { "" } else { "," };
        let _ = write!(self.meta, r#"{comma}"{path}":{what}"#);
        self
    }

    /// The dates of the flow's metadata.
    pub fn dates(self) -> Data {
        self.annotate("flowMetadata.createdAt", r#"["Date"]"#).annotate("flowMetadata.updatedAt", r#"["Date"]"#)
    }

    /// Add an error.
    pub fn error(self, name: &str, message: &str) -> Data {
        self.field(name, &json!({"name": "Error", "message": message})).annotate(name, r#"["Error"]"#)
    }

    /// Add a node's snapshot.
    pub fn node(self, snapshot: &str) -> Data {
        self.raw("node", snapshot).annotate("node", r#"[["custom","BaseNode"]]"#)
    }

    /// The finished document.
    pub fn text(self) -> Arc<str> {
        let Data { json, meta } = self;
        if meta.is_empty() {
            format!(r#"{{"json":{json}}}}}"#).into()
        } else {
            format!(r#"{{"json":{json}}},"meta":{{"values":{{{meta}}},"v":1}}}}"#).into()
        }
    }
}

/// Data of `flow:*` events: the flow's metadata, to which more is added.
pub(super) fn flow_data(metadata: &RawValue) -> Data {
    Data::empty().field("flowMetadata", metadata).dates()
}

/// Data of a status change.
pub(super) fn status_data(node: &str, old: Status, new: Status) -> Data {
    Data::empty().field("nodeId", node).field("oldStatus", old.as_str()).field("newStatus", new.as_str())
}

/// Data of an edge's event.
pub(super) fn edge_data(edge: &Edge) -> Data {
    Data::empty().raw("serializedEdge", &edge.text)
}

/// Milliseconds since the epoch.
pub(super) fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// A moment as JavaScript's dates print it.
fn iso(milliseconds: i64) -> String {
    let moment = jiff::Timestamp::from_millisecond(milliseconds).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    format!("{moment:.3}")
}

/// The present moment as JavaScript's dates print it.
pub fn iso_now() -> String {
    iso(now())
}
