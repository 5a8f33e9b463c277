//! `executeFireFlow`: announce on the stream, wait for the start if asked, running, run the flow, completed.
//!
//! The order of durable operations, and their numbers in a run:
//!
//! | operation | started at once | with start signal |
//! |---|---|---|
//! | `DBOS.writeStream`: execution:created | 0 | 0 |
//! | `DBOS.recv` of START_SIGNAL, and its `DBOS.sleep` when it has to wait | – | 1, 2 |
//! | `updateToRunning` | 1 | 3 |
//! | `executeFlowAtomic`: the engine runs here | 2 | 4 |
//! | the start of each child, then its result (`DBOS.getResult`) | 3 … | 5 … |
//! | `updateToCompleted`, `updateToFailed` or `updateToStopped` | next | next |

use std::time::Duration;

use serde_json::{Value as Json, json};
use tokio::{sync::mpsc, time::Instant};

use super::{
    ExecutionRow, ExecutionStore, Failed, FlowStore, FlowVersions, StoredFlow, Task, children,
    commands::{Commands, Life},
    events,
    nodes::Watch,
    patience::patiently,
};
use crate::{
    config::{FlowVersion, Start},
    durable::{Begun, DurableError, Step, Stop, Workflow},
    failpoint::failpoint,
    flow::{
        Creation, Event, Value,
        engine::{self, Abort, Attendants, Debugger, End, RunOptions},
    },
    nodes::{ExecutionKeys, FlowEvent, RunContext, outbound::Outbound},
    sysdb::{ChildStart, Claimed, Finish, SysdbError, SystemDatabase, Taken, WorkflowId},
    trace::{Begins, Tracer},
    wire::{Arguments, Failure, Format},
};

/// Topic of the start signal.
pub const START_TOPIC: &str = "START_SIGNAL";
/// The step that the flow's run is. Once it is recorded, an execution only waits for its children, and ends.
pub const WORKED: &str = "executeFlowAtomic";
/// In a task, and among a row's attributes: the trace that an execution is a part of, as the W3C's Trace Context writes it.
const TRACEPARENT: &str = "traceparent";
/// Kind of failure of an execution that was stopped.
const STOPPED: &str = "ExecutionStopped";
/// Deepest tree of executions, unless the task allows more.
const MAX_DEPTH: u64 = 100;

/// What an execution may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// When an execution begins to run.
    pub start: Start,
    /// How long it waits for its signal.
    pub start_timeout: Duration,
    /// Largest task argument, in bytes.
    pub max_input: u64,
}

/// Runs executions.
pub struct Executor {
    /// The rows of its workflows.
    pub sysdb: SystemDatabase,
    /// Execution rows.
    pub executions: ExecutionStore,
    /// Flows.
    pub flows: FlowStore,
    /// The contents that executions began with.
    pub versions: FlowVersions,
    /// Which content an execution begins with.
    pub flow_version: FlowVersion,
    /// The way out for nodes that speak to the network.
    pub outbound: Outbound,
    /// The worker's queues. Children go to their parent's; one that came by DBOS's internal queue has them on the first.
    pub queues: Vec<String>,
    /// What an execution may take.
    pub limits: Limits,
    /// Begins their traces.
    pub tracer: Tracer,
}

/// How an execution ends without completing.
#[derive(Clone, Copy, Debug)]
enum Ending {
    Failed,
    Stopped,
}

impl Ending {
    fn status(self) -> &'static str {
        match self {
            Ending::Failed => "failed",
            Ending::Stopped => "stopped",
        }
    }

    fn step(self) -> &'static str {
        match self {
            Ending::Failed => "updateToFailed",
            Ending::Stopped => "updateToStopped",
        }
    }
}

/// What an earlier life left of a run.
#[derive(Clone, Copy)]
struct Earlier {
    /// It was paused.
    paused: bool,
    /// There was one.
    recovered: bool,
}

/// An execution, ready to run.
struct Prepared {
    task: Task,
    row: ExecutionRow,
    exists: bool,
    flow: StoredFlow,
}

impl Executor {
    /// Run a claimed workflow to its end, and record the outcome in the form that its client reads.
    pub async fn execute(&self, claimed: &Claimed, workflow: &mut Workflow) -> Result<&'static str, Stop> {
        let task = self.task(claimed);
        let given = task.as_ref().ok().and_then(|task| task.fields.get(TRACEPARENT)?.as_str());
        let trace = self.tracer.begin(&Begins {
            execution: claimed.owner.id.as_str(),
            workflow: &claimed.name,
            queue: &claimed.queue,
            attempt: claimed.attempts,
            waited: waited(claimed.due_at, claimed.owner.since),
            work: WORKED,
            traceparents: [given, claimed.traceparent.as_deref()],
        });
        workflow.record_in(trace.clone());
        let outcome = self.execute_task(claimed, task, workflow).await;
        trace.end(match &outcome {
            Ok(outcome) => outcome,
            Err(Stop::HandBack) => "handed_back",
            Err(_) => "lost",
        });
        outcome
    }

    async fn execute_task(
        &self,
        claimed: &Claimed,
        task: Result<Task, Failed>,
        workflow: &mut Workflow,
    ) -> Result<&'static str, Stop> {
        // A fork has its source's task, and is an execution of its own.
        let named = task.as_ref().ok().and_then(|task| task.execution_id.clone());
        let named = named.filter(|_| claimed.forked_from.is_none());
        let execution = named.unwrap_or_else(|| claimed.owner.id.as_str().to_owned());
        let ended = match task {
            Ok(task) => self.run(claimed, &execution, task, workflow).await,
            Err(failed) => Err(failed),
        };
        let stopped = match ended {
            Ok(outcome) => return Ok(outcome),
            Err(Failed::Stopped(stop)) => stop,
            Err(Failed::Error(failure)) => {
                // Also when an earlier life has recorded the stop, and not come to its end.
                let ending = if failure.name == STOPPED { Ending::Stopped } else { Ending::Failed };
                match self.fail(claimed, &execution, workflow, &failure, ending).await {
                    Ok(outcome) => return Ok(outcome),
                    Err(stop) => stop,
                }
            }
        };
        // Still ours, and asked to end: it ends as stopped.
        let stopped = match stopped {
            Stop::Abort(reason) => {
                let failure = Failure::new(STOPPED, reason);
                match self.fail(claimed, &execution, workflow, &failure, Ending::Stopped).await {
                    Ok(outcome) => return Ok(outcome),
                    Err(stop) => stop,
                }
            }
            stop => stop,
        };
        match self.mark_stopped(claimed, &execution, &stopped).await {
            Ok(()) | Err(SysdbError::Fenced) => {} // the worker has lost its lease, and nobody has stopped the execution
            Err(error) => tracing::warn!(%error, "can't mark the execution stopped"),
        }
        Err(stopped)
    }

    /// A workflow that was cancelled or deleted leaves no execution behind that seems to run. Fireflow's own stop has
    /// written the row already, and a row that another worker has is that worker's.
    async fn mark_stopped(&self, claimed: &Claimed, execution: &str, stop: &Stop) -> Result<(), SysdbError> {
        if !matches!(stop, Stop::Lost(_) | Stop::Disowned) {
            return Ok(());
        }
        let stopped = |taken| {
            let reason = match taken {
                Taken::Cancelled => "the workflow was cancelled",
                Taken::Deleted => "the workflow was deleted",
            };
            self.executions.stopped(execution, reason)
        };
        self.sysdb.settle(&claimed.owner.id, stopped).await.map(drop)
    }

    async fn run(
        &self,
        claimed: &Claimed,
        id: &str,
        task: Task,
        workflow: &mut Workflow,
    ) -> Result<&'static str, Failed> {
        let Prepared { task, row, exists, flow } = self.prepare(id, task, workflow).await?;
        tracing::Span::current().record("flow", row.flow_id.as_str());
        workflow.trace().of_flow(&row.flow_id);

        let created = Event::execution_created(
            &flow.flow,
            &Creation {
                execution_id: &row.id,
                root_execution_id: row.root_execution_id.as_deref().unwrap_or(&row.id),
                parent_execution_id: row.parent_execution_id.as_deref(),
                depth: u32::try_from(row.depth).unwrap_or(0),
            },
        );
        let began = Instant::now();
        let mut rows = if exists { Vec::new() } else { vec![self.executions.create(&row)] };
        let is_new = row.pinned.as_deref() != Some(&*flow.hash);
        if is_new {
            rows.extend(self.versions.pin(workflow.owner().id.as_str(), &flow));
        }
        // A fork brings the first steps of another execution along, but not its row; and another worker pins nothing.
        if !rows.is_empty() && workflow.recorded_name(0).is_some() {
            workflow.write_rows(rows.clone()).await?;
        }
        workflow.write_stream_later(&events::STREAM.into(), events::row(&created, &row.id), rows).await?;
        if is_new && !self.versions.is_stored(&flow.hash) {
            workflow.flush().await?;
            self.versions.has_stored(&flow, began);
        }

        if row.parent_execution_id.is_none() && self.waits_for_start(workflow) {
            let signal = workflow.receive(START_TOPIC, self.limits.start_timeout).await?;
            if !signal.is_some_and(|signal| truthy(&signal)) {
                let waited = humantime::format_duration(self.limits.start_timeout);
                return Err(Failed::error("StartTimeout", format!("no start signal came within {waited}")));
            }
        }

        // What an earlier life left paused comes back so.
        let mut paused = row.status == "paused";
        if let Begun::Run(step) = workflow.begin("updateToRunning").await? {
            workflow.complete_later(step, &Json::Null, vec![self.executions.running(&row.id)]);
            paused = false;
        }
        let result = match workflow.begin(WORKED).await? {
            Begun::Recorded(outcome) => outcome?,
            Begun::Run(step) => {
                failpoint!(FlowBegins, about = id);
                let earlier = Earlier { paused, recovered: claimed.has_history };
                self.run_flow(workflow, step, &task, &row, &flow, earlier).await?
            }
        };
        self.run_children(claimed, workflow, &result).await?;
        let last = match workflow.begin("updateToCompleted").await? {
            Begun::Run(step) => Some(step),
            Begun::Recorded(_) => None,
        };
        let finish = Finish { outcome: Ok(self.format(claimed)?.encode_value(&result)), legacy: claimed.legacy };
        let rows = vec![self.executions.completed(&row.id), self.versions.unpin(workflow.owner().id.as_str())];
        workflow.finish(last, rows, finish).await?;
        Ok("completed")
    }

    /// Read the execution's row and the flow. Nothing is recorded yet.
    async fn prepare(&self, id: &str, task: Task, workflow: &mut Workflow) -> Result<Prepared, Failed> {
        let control = &workflow.control().clone();
        let own = workflow.owner().id.clone();
        // One that begins runs what its task names, as a rule: that is asked for at the same time. An error there comes again.
        let likely = task.flow_id.as_deref().filter(|_| workflow.recorded_name(0).is_none());
        let newest = async || match likely {
            Some(flow) => self.flows.get(flow).await.ok(),
            None => None,
        };
        let both = async || {
            let (row, newest) = futures_util::future::join(self.executions.get(id, own.as_str()), newest()).await;
            row.map(|row| (row, newest))
        };
        let (row, newest) =
            patiently(control, both).await?.map_err(|error| Failed::error("DatabaseError", error.to_string()))?;
        if let Some(row) = row.as_ref().filter(|row| row.has_ended()) {
            // A workflow that has ended is claimed again only after it was resumed or rewound: that is its execution's
            // wish as well. Another workflow's execution stays what it is.
            if workflow.owner().id.as_str() == id {
                workflow.write_rows(vec![self.executions.reopened(id)]).await?;
            } else {
                return Err(Failed::error(
                    "ExecutionEnded",
                    format!("execution \"{id}\" has already ended: it is {}", row.status),
                ));
            }
        }
        let flow_id = task.flow_id.clone().or_else(|| row.as_ref().map(|row| row.flow_id.clone()));
        let Some(flow_id) = flow_id else {
            return Err(Failed::error(
                "UnknownExecution",
                format!("there is no execution \"{id}\", and the task names no flow"),
            ));
        };
        let newest = newest.filter(|_| likely == Some(flow_id.as_str()));
        let flow = self.flow(control, &flow_id, &task, row.as_ref(), newest).await?;
        let exists = row.is_some();
        let row = match row {
            Some(row) => row,
            None => {
                // What the task of a plain enqueue says, or what the execution that this one is a fork of has.
                let source = match task.execution_id.as_deref().filter(|source| *source != id) {
                    Some(source) => {
                        patiently(control, || self.executions.get(source, source)).await?.unwrap_or_default()
                    }
                    None => None,
                };
                let (options, integration, events) = match source {
                    Some(source) => (Some(source.options), Some(source.integration), Some(source.external_events)),
                    None => (task.options.clone(), task.integration.clone(), task.events.clone()),
                };
                ExecutionRow {
                    id: id.to_owned(),
                    flow_id,
                    owner_id: flow.owner(),
                    root_execution_id: Some(id.to_owned()),
                    parent_execution_id: None,
                    status: "created".into(),
                    depth: 0,
                    options: options.unwrap_or_else(|| json!({})),
                    integration: integration.unwrap_or_else(|| json!({})),
                    external_events: events.unwrap_or_else(|| json!([])),
                    pinned: None,
                }
            }
        };
        let deepest = MAX_DEPTH.max(task.max_depth.unwrap_or(0));
        if u64::try_from(row.depth).unwrap_or(0) > deepest {
            return Err(Failed::error(
                "DepthExceeded",
                format!("executions nest {} deep; at most {deepest} are allowed", row.depth),
            ));
        }
        Ok(Prepared { task, row, exists, flow })
    }

    fn task(&self, claimed: &Claimed) -> Result<Task, Failed> {
        let Some(inputs) = &claimed.inputs else {
            return Err(match claimed.inputs_size {
                0 => Failed::error("InvalidTask", "the workflow has no inputs"),
                size => Failed::error(
                    "InputTooLarge",
                    format!("the task argument has {size} bytes; execution.max_input allows {}", self.limits.max_input),
                ),
            });
        };
        let arguments = self
            .format(claimed)?
            .decode_inputs(inputs)
            .map_err(|error| Failed::error("InvalidTask", format!("the task argument can't be decoded: {error}")))?;
        Task::read(&arguments).map_err(|error| Failed::error("InvalidTask", error.to_string()))
    }

    /// The step itself: the engine runs, and its events go to the stream; all are there before the step ends.
    async fn run_flow(
        &self,
        workflow: &mut Workflow,
        step: Step,
        task: &Task,
        row: &ExecutionRow,
        flow: &StoredFlow,
        earlier: Earlier,
    ) -> Result<Json, Failed> {
        let invalid = |text: String| Box::new(Failure::new("InvalidInput", text));
        let ready =
            RunOptions::from_json(&row.options).map_err(|error| invalid(error.to_string())).and_then(|options| {
                Ok((options, flow.flow.bind_inputs(&task.inputs).map_err(|error| invalid(error.to_string()))?))
            });
        let (mut options, inputs) = match ready {
            Ok(ready) => ready,
            Err(failure) => {
                workflow.fail_later(step, &failure);
                return Err(Failed::Error(failure));
            }
        };
        options.debug |= task.debug;
        if options.debug {
            let unknown = flow.flow.unknown_nodes(&options.breakpoints);
            if let Some(node) = unknown.first() {
                let count = unknown.len();
                tracing::warn!(node, count, "there is no such node in the flow; its breakpoint is ignored");
            }
        }
        let context = RunContext {
            execution_id: row.id.as_str().into(),
            event: first_event(&row.external_events),
            depth: u32::try_from(row.depth).unwrap_or(0),
            is_child: row.parent_execution_id.is_some(),
            integration: (&row.integration).into(),
            outbound: self.outbound.clone(),
            keys: ExecutionKeys::default(),
            falsy: Default::default(), // the engine knows
        };
        let (sender, receiver) = mpsc::channel(events::AHEAD);
        let abort = Abort::default();
        if options.debug || earlier.recovered {
            workflow.flush().await?; // before commands of an earlier life are obeyed
        }
        let mut appender = workflow.appender(&step, &events::STREAM.into());
        let publish = async {
            let published = events::publish(receiver, row.id.as_str().into(), &mut appender).await;
            if published.is_err() {
                abort.abort("the event stream can't be written"); // nobody takes its events any more
            }
            published
        };
        let debugger = if earlier.paused { Debugger::paused() } else { Debugger::new() };
        let (control, trace) = (workflow.control().clone(), workflow.trace().clone());
        let life = Life { workflow: &mut *workflow, step: &step, debugger: &debugger, paused: earlier.paused };
        let mut commands = Commands::new(self, &row.id, life);
        if options.debug || earlier.recovered {
            commands.look_first().await?; // others are found at the next announcement, or within a second
        }
        let watch = Watch::new(self.sysdb.metrics(), &trace);
        let attendants = Attendants { debugger: Some(&debugger), observer: Some(&watch) };
        let run = engine::run_attended(&flow.flow, &options, context, inputs, sender, &abort, attendants);
        // The run first: if it ends without waiting for anything, its events go with its end.
        let mut work = Box::pin(async { tokio::join!(run, publish) });
        let mut refused = None;
        let (outcome, published) = tokio::select! {
            biased; // an end counts, also when a command came at the same moment
            ended = &mut work => ended,
            stop = control.stopped() => {
                abort.abort(stop.to_string().as_str());
                (&mut work).await
            }
            Err(error) = commands.obey() => {
                abort.abort(error.to_string().as_str());
                refused = Some(error);
                (&mut work).await
            }
        };
        drop(work);
        watch.count(&flow.flow, &outcome);
        workflow.retire(appender);
        workflow.end_rest();
        if let Some(stop) = control.stop_reason() {
            if let Stop::Abort(reason) = stop {
                workflow.fail_later(step, &Failure::new(STOPPED, reason.as_str()));
            }
            return Err(Failed::Stopped(stop.clone()));
        }
        refused.map_or(Ok(()), Err)?;
        published?;
        match outcome.end {
            End::Completed => {
                let children = children::of(row, task, flow, &outcome.emitted);
                let rows = children.iter().map(|child| self.executions.create(&child.row));
                // They run what their parent runs.
                let pins = children.iter().map(|child| self.versions.pin_stored(&child.row.id, flow));
                let rows = rows.chain(pins).collect();
                let tasks: Vec<Json> = children.into_iter().map(|child| child.task).collect();
                let result = json!({
                    "executionId": row.id,
                    "status": "completed",
                    "duration": u64::try_from(outcome.duration.as_millis()).unwrap_or(u64::MAX),
                    "childTasks": tasks,
                    "outputs": outcome.outputs,
                });
                workflow.complete_later(step, &result, rows);
                Ok(result)
            }
            End::Failed { error } | End::Cancelled { reason: error } => {
                let failure = Failure::new("FlowError", error);
                workflow.fail_later(step, &failure);
                Err(failure.into())
            }
        }
    }

    fn queue_of_children<'a>(&'a self, parent: &'a Claimed) -> &'a str {
        let own = self.queues.iter().find(|queue| **queue == parent.queue).or(self.queues.first());
        own.map_or(parent.queue.as_str(), String::as_str)
    }

    /// Start the children that the run asks for, all at once, and wait for all of them. One that fails doesn't fail its
    /// parent.
    async fn run_children(&self, claimed: &Claimed, workflow: &mut Workflow, result: &Json) -> Result<(), Failed> {
        let tasks = result.get("childTasks").and_then(Json::as_array).map_or(&[][..], Vec::as_slice);
        let format = self.format(claimed)?;
        let mut ids = Vec::new();
        let mut starts = Vec::new();
        for task in tasks {
            let id = task.get("executionId").and_then(Json::as_str).unwrap_or_default();
            ids.push(WorkflowId::new(id));
            let mut task = task.clone();
            if let (Some(parent), Some(fields)) = (workflow.trace().traceparent(), task.as_object_mut()) {
                fields.insert(TRACEPARENT.into(), parent.into());
            }
            starts.push(ChildStart {
                id: id.to_owned(),
                queue: self.queue_of_children(claimed).to_owned(),
                inputs: format.encode_inputs(&Arguments::one(task)),
                serialization: format.name(),
                legacy: claimed.legacy,
            });
        }
        workflow.start_children(&claimed.name, starts).await?;
        for id in &ids {
            if let Err(failure) = workflow.await_child(id).await? {
                tracing::warn!(child = %id, error = failure.message, "a child execution failed");
            }
        }
        Ok(())
    }

    /// Record a failure: the execution's row becomes `failed`, the workflow ERROR.
    async fn fail(
        &self,
        claimed: &Claimed,
        execution: &str,
        workflow: &mut Workflow,
        failure: &Failure,
        ending: Ending,
    ) -> Result<&'static str, Stop> {
        tracing::warn!(error = failure.message, kind = failure.name, "execution {}", ending.status());
        workflow.trace().fails(&failure.message);
        let last = match workflow.begin(ending.step()).await {
            Ok(Begun::Run(step)) => Some(step),
            Err(DurableError::Stopped(stop)) => return Err(stop),
            // Where the history took another way, the outcome is recorded without a step of its own.
            Ok(Begun::Recorded(_)) | Err(_) => None,
        };
        let error = match self.end_with(claimed, execution, workflow, last, failure, ending).await {
            Ok(()) => return Ok(ending.status()),
            Err(DurableError::Stopped(stop)) => return Err(stop),
            Err(error) => error,
        };
        // The outcome itself was refused, by its size or its content. A plain one must do.
        tracing::error!(%error, "the failure can't be recorded as it is; recording its kind only");
        let plain = Failure::new(failure.name.as_str(), error.to_string());
        match self.end_with(claimed, execution, workflow, None, &plain, ending).await {
            Ok(()) => Ok(ending.status()),
            Err(DurableError::Stopped(stop)) => Err(stop),
            Err(error) => {
                tracing::error!(%error, "the outcome can't be recorded; the row stays PENDING until the next recovery");
                Err(Stop::Lost(Some("PENDING".into())))
            }
        }
    }

    async fn end_with(
        &self,
        claimed: &Claimed,
        execution: &str,
        workflow: &mut Workflow,
        last: Option<Step>,
        failure: &Failure,
        ending: Ending,
    ) -> Result<(), DurableError> {
        let format = self.format(claimed).unwrap_or(Format::Portable);
        let error = format.encode_error(failure, claimed.owner.id.as_str());
        let finish = Finish { outcome: Err(error), legacy: claimed.legacy };
        let row = match ending {
            Ending::Failed => self.executions.failed(execution, &failure.message),
            Ending::Stopped => self.executions.stopped(execution, &failure.message),
        };
        let rows = vec![row, self.versions.unpin(workflow.owner().id.as_str())];
        workflow.finish(last, rows, finish).await
    }

    fn format(&self, claimed: &Claimed) -> Result<Format, Failed> {
        Format::of(claimed.serialization.as_deref(), claimed.inputs.as_deref())
            .map_err(|error| Failed::error("InvalidTask", error.to_string()))
    }

    /// A run that began to wait goes on waiting, and one that didn't doesn't, whatever the setting says now.
    fn waits_for_start(&self, workflow: &Workflow) -> bool {
        match workflow.recorded_name(1) {
            Some(name) => name == "DBOS.recv",
            // The timer is recorded before the message is there.
            None => workflow.recorded_name(2) == Some("DBOS.sleep") || self.limits.start == Start::Signal,
        }
    }
}

/// The time from then to its claim, both in milliseconds by the database's clock. Whoever enqueues writes the former, and may write
/// anything.
fn waited(from: i64, claimed: i64) -> Duration {
    Duration::from_millis(u64::try_from(claimed.saturating_sub(from)).unwrap_or(0))
}

/// Element 0 becomes the run's event.
fn first_event(events: &Json) -> Option<FlowEvent> {
    let first = events.get(0)?;
    let name = first.get("eventName")?.as_str()?;
    Some(FlowEvent { name: name.into(), payload: first.get("payload").map_or(Value::Undefined, Value::from) })
}

/// JavaScript's truth, for the signal: the server sends `"GO"`.
fn truthy(value: &Json) -> bool {
    Value::from(value).is_truthy()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_that_a_client_wrote_is_no_panic() {
        for (from, claimed, expected) in [(1000, 4500, 3500), (4500, 1000, 0), (i64::MAX, 1000, 0)] {
            assert_eq!(waited(from, claimed), Duration::from_millis(expected), "{from}");
        }
        assert_eq!(waited(i64::MIN, 1000), Duration::from_millis(i64::MAX as u64));
    }
}
