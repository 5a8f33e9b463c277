//! The events of a run, in the form that readers of the stream know: numbered, with `data` in superjson.

use std::fmt::Write;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;
use serde_json::json;
use serde_json::value::RawValue;

use super::Flow;
use super::model::{Edge, Status};
use super::snapshot::Snapshot;

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
    /// The debugger holds a node before its transfers.
    BreakpointHit,
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
            EventKind::BreakpointHit => "debug:breakpoint-hit",
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
    pub data: String,
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
        let mut row = String::with_capacity(self.data.len() + execution_id.len() + 192);
        let (execution, moment, kind) = (json!(execution_id), iso(self.timestamp), self.kind.as_str());
        // Texts take every write.
        let _ = write!(row, r#"{{"executionId":{execution},"event":{{"index":{},"type":"{kind}""#, self.index);
        let _ = write!(row, r#","timestamp":"{moment}","data":{}}},"timestamp":{written}}}"#, self.data);
        row
    }
}

/// A superjson document under construction: an object's fields, and annotations of paths into it. Fields are written
/// once, to where the event keeps them.
pub(super) struct Data {
    json: Vec<u8>,
    meta: String,
}

/// How a document begins.
const START: &[u8] = br#"{"json":{"#;

/// What surrounds the fields of a document, with its annotations.
const FRAME: usize = 128;

impl Data {
    /// With the fields of a JSON object.
    pub fn new(fields: &serde_json::Value) -> Data {
        let fields = fields.as_object().into_iter().flatten();
        fields.fold(Data::empty(), |data, (name, value)| data.field(name, value))
    }

    /// With nothing yet.
    pub fn empty() -> Data {
        Data { json: START.to_vec(), meta: String::new() }
    }

    /// Add a field.
    pub fn field<T: Serialize + ?Sized>(mut self, name: &str, value: &T) -> Data {
        self.name(name);
        push_json(&mut self.json, value);
        self
    }

    /// Add a field that is JSON text already.
    pub fn raw(mut self, name: &str, text: &str) -> Data {
        self.name(name);
        self.json.extend_from_slice(text.as_bytes());
        self
    }

    fn name(&mut self, name: &str) {
        if self.json.len() > START.len() {
            self.json.push(b',');
        }
        push_json(&mut self.json, name);
        self.json.push(b':');
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
    pub fn node(mut self, snapshot: &Snapshot) -> Data {
        self.json.reserve(snapshot.size() + FRAME);
        self.name("node");
        snapshot.write(&mut self.json);
        self.annotate("node", r#"[["custom","BaseNode"]]"#)
    }

    /// The finished document.
    pub fn text(self) -> String {
        let Data { mut json, meta } = self;
        json.push(b'}');
        if !meta.is_empty() {
            json.extend_from_slice(br#","meta":{"values":{"#);
            json.extend_from_slice(meta.as_bytes());
            json.extend_from_slice(br#"},"v":1}"#);
        }
        json.push(b'}');
        if json.capacity() / 2 > json.len() {
            json.shrink_to_fit(); // events wait for their turn, and a large one's slack would wait with it
        }
        // JSON is UTF-8: what is written here are texts and serde_json's output.
        String::from_utf8(json).unwrap_or_default()
    }
}

/// Append a value's JSON text.
pub(super) fn push_json<T: Serialize + ?Sized>(text: &mut Vec<u8>, value: &T) {
    let before = text.len();
    // Only maps with keys that are no texts have no JSON, and nothing here has such; memory takes every write.
    if serde_json::to_writer(&mut *text, value).is_err() {
        text.truncate(before);
        text.extend_from_slice(b"null");
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
