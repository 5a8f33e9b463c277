//! What a workflow writes: checkpoints, each one atomic and conditional on still owning the row.

use std::sync::Arc;

use super::{Message, Owner};

/// Writes of one workflow that become durable together, or not at all.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    /// Whose they are; nothing is written when the row has another owner by now.
    pub owner: Owner,
    /// The writes. Shared, since they are large, and whoever sent them may need them again.
    pub writes: Arc<Vec<Write>>,
}

impl Checkpoint {
    /// About how many bytes it sends to the database: its large parts.
    pub(super) fn weight(&self) -> usize {
        let text = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        let weigh = |write: &Write| match write {
            Write::Step(step) => text(&step.output) + text(&step.error),
            Write::Append(append) => append.values.iter().map(String::len).sum(),
            Write::Receive(_) | Write::Consume(_) => 0,
            // Texts are what grows large.
            Write::Application(write) => write
                .row
                .as_object()
                .map_or(0, |row| row.values().filter_map(|value| value.as_str()).map(str::len).sum()),
            Write::Start(start) => start.inputs.len(),
            Write::Finish(finish) => finish.outcome.as_ref().map_or_else(String::len, String::len),
        };
        self.writes.iter().map(weigh).sum()
    }
}

/// One write of a checkpoint.
#[derive(Clone, Debug)]
pub enum Write {
    /// Record a step.
    Step(StepRecord),
    /// Append to a stream.
    Append(Append),
    /// Consume the oldest message of a topic and record it as a step. Nothing happens while there is none.
    Receive(Receive),
    /// Mark messages as consumed that were read without a step of their own.
    Consume(Consume),
    /// Start a child workflow, unless it was started before.
    Start(ChildStart),
    /// A row of an application table.
    Application(ApplicationWrite),
    /// The end of the workflow. The last write of the last checkpoint.
    Finish(Finish),
}

/// A step of a workflow, as recorded in `operation_outputs`.
#[derive(Clone, Debug, PartialEq)]
pub struct StepRecord {
    /// Its number in the workflow.
    pub function_id: i32,
    /// Its name.
    pub name: String,
    /// Its outcome; neither, for built-ins without a value.
    pub output: Option<String>,
    /// Its error, when it failed.
    pub error: Option<String>,
    /// Format of output or error.
    pub serialization: Option<String>,
    /// The child that it started or awaited.
    pub child: Option<String>,
    /// Milliseconds since the epoch.
    pub started_at: i64,
    /// Milliseconds since the epoch. Fixed before the first try to commit: it tells a retried commit from another outcome.
    pub completed_at: i64,
}

/// Values for a stream, in order.
#[derive(Clone, Debug)]
pub struct Append {
    /// The stream's key.
    pub key: Arc<str>,
    /// The values as stored.
    pub values: Vec<String>,
    /// The step that they belong to.
    pub function_id: i32,
    /// Format of the values.
    pub serialization: Option<&'static str>,
}

/// A receive from a topic.
#[derive(Clone, Debug)]
pub struct Receive {
    /// The topic.
    pub topic: String,
    /// Its number in the workflow.
    pub function_id: i32,
    /// Milliseconds since the epoch.
    pub started_at: i64,
    /// Milliseconds since the epoch.
    pub completed_at: i64,
}

/// Messages to a workflow that it has read while a step ran.
#[derive(Clone, Debug)]
pub struct Consume {
    /// Their keys.
    pub messages: Vec<String>,
    /// The step.
    pub function_id: i32,
}

/// The message that a [`Receive`] consumed, if there was one.
pub type Received = Option<Message>;

/// A row for an application's own table, in the same transaction.
#[derive(Clone, Debug)]
pub struct ApplicationWrite {
    /// A set-based statement: its one parameter is a `jsonb` array of all rows that share this statement.
    pub statement: Arc<str>,
    /// This row.
    pub row: serde_json::Value,
    /// Rows with the same `id` become one, later fields over earlier ones: what happens to it in one transaction is written
    /// once. These statements run before those of other rows.
    pub merges: bool,
}

/// A child to enqueue. Name, class, application, version and deadline are its parent's.
#[derive(Clone, Debug)]
pub struct ChildStart {
    /// Its id, which is its deduplication id as well.
    pub id: String,
    /// Its queue.
    pub queue: String,
    /// Its inputs.
    pub inputs: String,
    /// Their format.
    pub serialization: &'static str,
    /// Also write the legacy column, for executors that read nothing else.
    pub legacy: bool,
}

/// A workflow's outcome, in the row's own serialisation.
#[derive(Clone, Debug)]
pub struct Finish {
    /// The result, or the error.
    pub outcome: Result<String, String>,
    /// Also write the legacy columns, for the client that enqueued it.
    pub legacy: bool,
}
