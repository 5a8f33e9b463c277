//! The context of one running workflow.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::Value as Json;

use super::{Control, Family, Inbox, MailRoom, Slot, Stop};
use crate::{
    metrics,
    sysdb::{
        Append, ApplicationWrite, Checkpoint, ChildStart, CommitError, Consume, Finish, Message, Owner, Receive,
        StepRecord, WorkflowId, WorkflowView, Write, WriterHandle,
    },
    trace::Trace,
    wire::{self, Format},
};

/// Format of what we record in steps and streams: every SDK reads it.
const PORTABLE: &str = "portable_json";

/// Why a workflow can't go on.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DurableError {
    /// It has to stop here, and nothing more may be written.
    #[error("{0}")]
    Stopped(Stop),
    /// The step that comes now is recorded under another name: the worker or the flow changed in mid-run.
    #[error(
        "step {function_id} should be \"{expected}\" but \"{recorded}\" is recorded: the worker or its settings changed \
         while this execution ran; fork it from step 0, or finish it with the version that began it"
    )]
    UnexpectedStep {
        /// Number of the step.
        function_id: i32,
        /// What comes now.
        expected: String,
        /// What is recorded.
        recorded: String,
    },
    /// A recorded value can't be read.
    #[error("the recorded value of step {function_id} can't be read: {text}")]
    Unreadable {
        /// Number of the step.
        function_id: i32,
        /// Why.
        text: String,
    },
    /// A checkpoint was refused.
    #[error("{0}")]
    Commit(CommitError),
}

impl From<CommitError> for DurableError {
    fn from(error: CommitError) -> DurableError {
        match error {
            CommitError::OwnershipLost | CommitError::Fenced => DurableError::Stopped(Stop::Disowned),
            CommitError::Closed => DurableError::Stopped(Stop::HandBack),
            error => DurableError::Commit(error),
        }
    }
}

/// A step that is about to run: its number is taken, and it isn't recorded yet.
#[derive(Debug)]
pub struct Step {
    function_id: i32,
    name: String,
    started_at: i64,
    began: Instant,
}

impl Step {
    fn new(function_id: i32, name: &str) -> Step {
        Step { function_id, name: name.into(), started_at: now_ms(), began: Instant::now() }
    }

    fn record(self, output: Option<String>, error: Option<String>) -> StepRecord {
        StepRecord {
            function_id: self.function_id,
            name: self.name,
            output,
            error,
            serialization: Some(PORTABLE.into()),
            child: None,
            started_at: self.started_at,
            completed_at: now_ms(),
        }
    }
}

/// What [`Workflow::begin`] found.
#[derive(Debug)]
pub enum Begun {
    /// The step is recorded: its value, or its failure. It doesn't run again.
    Recorded(Result<Json, wire::Failure>),
    /// The step runs now.
    Run(Step),
}

/// One running workflow: who owns it, what it has done, and how it writes.
pub struct Workflow {
    owner: Owner,
    writer: WriterHandle,
    mail: MailRoom,
    family: Family,
    control: Control,
    slot: Slot,
    history: BTreeMap<i32, StepRecord>,
    next: i32,
    /// Goes with the next checkpoint: what would be checkpoints of their own, in their order.
    pending: Pending,
    trace: Trace,
}

impl Workflow {
    /// A workflow that this process owns, with the steps recorded in an earlier life.
    pub fn new(
        owner: Owner,
        history: Vec<StepRecord>,
        slot: Slot,
        control: Control,
        writer: WriterHandle,
        mail: MailRoom,
        family: Family,
    ) -> Workflow {
        let history = history.into_iter().map(|step| (step.function_id, step)).collect();
        Workflow {
            owner,
            writer,
            mail,
            family,
            control,
            slot,
            history,
            next: 0,
            pending: Pending::default(),
            trace: Trace::default(),
        }
    }

    /// From now on, steps are part of this trace.
    pub fn record_in(&mut self, trace: Trace) {
        self.trace = trace;
    }

    /// The trace that it is part of.
    pub fn trace(&self) -> &Trace {
        &self.trace
    }

    /// Whose it is.
    pub fn owner(&self) -> &Owner {
        &self.owner
    }

    /// The switch that stops it.
    pub fn control(&self) -> &Control {
        &self.control
    }

    /// The name recorded for a step of an earlier life.
    pub fn recorded_name(&self, function_id: i32) -> Option<&str> {
        self.history.get(&function_id).map(|step| step.name.as_str())
    }

    /// Take the next number for a step: its recorded outcome if it has one, else the permission to run it.
    pub async fn begin(&mut self, name: &str) -> Result<Begun, DurableError> {
        let function_id = self.take(1);
        if self.control.is_cut_off() {
            return Err(DurableError::Stopped(self.control.cut_off().await));
        }
        let Some(step) = self.recorded(function_id, name)? else {
            return Ok(Begun::Run(Step::new(function_id, name)));
        };
        Ok(Begun::Recorded(match (&step.error, &step.output) {
            (Some(error), _) => Err(format_of(function_id, step.serialization.as_deref(), error)?.decode_error(error)),
            (None, Some(output)) => Ok(decode(function_id, step.serialization.as_deref(), output)?),
            (None, None) => Ok(Json::Null),
        }))
    }

    /// Record a step with its value, and with it rows of the application's tables, together with the next checkpoint.
    pub fn complete_later(&mut self, step: Step, value: &Json, rows: Vec<ApplicationWrite>) {
        let step = self.record(step, Some(value.to_string()), None);
        let mut writes = vec![Write::Step(step)];
        writes.extend(rows.into_iter().map(Write::Application));
        self.pending.push(writes);
    }

    /// Make durable what waits for the next checkpoint.
    pub async fn flush(&mut self) -> Result<(), DurableError> {
        if self.pending.is_empty() {
            return Ok(());
        }
        self.commit(Vec::new()).await.map(drop)
    }

    /// Record a step that failed, together with the next checkpoint.
    pub fn fail_later(&mut self, step: Step, failure: &wire::Failure) {
        let error = Format::Portable.encode_error(failure, self.owner.id.as_str());
        let step = self.record(step, None, Some(error));
        self.pending.push(vec![Write::Step(step)]);
    }

    /// Append to a stream, recorded as a step of its own, and with it rows of the application's tables; together with the
    /// next checkpoint.
    pub async fn write_stream_later(
        &mut self,
        key: &Arc<str>,
        value: String,
        rows: Vec<ApplicationWrite>,
    ) -> Result<(), DurableError> {
        let Begun::Run(step) = self.begin("DBOS.writeStream").await? else { return Ok(()) };
        let append = Append {
            key: key.clone(),
            values: vec![value],
            function_id: step.function_id,
            serialization: Some(PORTABLE),
        };
        let mut writes = vec![Write::Step(self.record(step, None, None)), Write::Append(append)];
        writes.extend(rows.into_iter().map(Write::Application));
        self.pending.push(writes);
        Ok(())
    }

    /// Write rows of the application's tables, with no step to it: the same again must do no harm.
    pub async fn write_rows(&mut self, rows: Vec<ApplicationWrite>) -> Result<(), DurableError> {
        self.commit(rows.into_iter().map(Write::Application).collect()).await.map(drop)
    }

    /// A handle that appends to a stream from inside a step; not recorded. What waits for the next checkpoint goes with the
    /// first append, or comes back by [`retire`](Workflow::retire).
    pub fn appender(&mut self, step: &Step, key: &Arc<str>) -> Appender {
        Appender {
            owner: self.owner.clone(),
            writer: self.writer.clone(),
            control: self.control.clone(),
            key: key.clone(),
            function_id: step.function_id,
            pending: std::mem::take(&mut self.pending),
        }
    }

    /// The step has no more to append: what the appender has yet to write goes with the next checkpoint.
    pub fn retire(&mut self, appender: Appender) {
        let since = std::mem::replace(&mut self.pending, appender.pending);
        self.pending.append(since);
    }

    /// Wait for a message on `topic`, for at most `timeout` from the first time that this workflow waited, over all its
    /// lives. `None` after that. Takes two numbers: the receive, and its timer. The slot is free while waiting.
    pub async fn receive(&mut self, topic: &str, timeout: Duration) -> Result<Option<Json>, DurableError> {
        let function_id = self.take(2);
        if let Some(step) = self.recorded(function_id, "DBOS.recv")? {
            let Some(output) = &step.output else { return Ok(None) };
            return decode(function_id, step.serialization.as_deref(), output).map(Some);
        }
        let (started_at, began) = (now_ms(), Instant::now());
        let waiter = self.mail.enter(&self.owner.id, topic, true); // before the first look, so that nothing slips between
        if let Some(message) = self.try_receive(function_id, topic, started_at).await? {
            self.measure("DBOS.recv", began, None);
            return message.map(Some);
        }
        let deadline = self.timer(function_id + 1, timeout).await?;
        self.slot.suspend();
        self.control.set_waiting(true);
        let message = loop {
            let left = Duration::from_millis(u64::try_from(deadline - now_ms()).unwrap_or(0));
            let control = self.control.clone();
            let timed_out = tokio::select! {
                () = waiter.mail() => false,
                () = tokio::time::sleep(left) => true,
                stop = control.stopped() => return Err(DurableError::Stopped(stop)),
            };
            // Also after the time-out: a message that came in the last moment counts.
            if let Some(message) = self.try_receive(function_id, topic, started_at).await? {
                break Some(message?);
            }
            if timed_out {
                let step = Step { function_id, name: "DBOS.recv".into(), started_at, began };
                let record = StepRecord { serialization: None, ..step.record(None, None) };
                self.commit(vec![Write::Step(record)]).await?;
                break None;
            }
        };
        drop(waiter);
        self.measure("DBOS.recv", began, None);
        self.control.set_waiting(false);
        let control = self.control.clone();
        tokio::select! {
            () = self.slot.resume() => Ok(message),
            stop = control.stopped() => Err(DurableError::Stopped(stop)),
        }
    }

    /// Messages of a topic that come while a step runs.
    pub fn inbox(&self, step: &Step, topic: &str) -> Inbox {
        Inbox { waiter: self.mail.enter(&self.owner.id, topic, false), function_id: step.function_id }
    }

    /// Consume messages that were read, and with that write rows of the application's tables: what they change.
    pub async fn consume(
        &mut self,
        inbox: &Inbox,
        messages: Vec<String>,
        rows: Vec<ApplicationWrite>,
    ) -> Result<(), DurableError> {
        let mut writes = vec![Write::Consume(Consume { messages, function_id: inbox.function_id })];
        writes.extend(rows.into_iter().map(Write::Application));
        self.commit(writes).await.map(drop)
    }

    /// Consume messages together with the next checkpoint, which is what they ask for.
    pub fn consume_next(&mut self, inbox: &Inbox, messages: Vec<String>) {
        self.pending.push(vec![Write::Consume(Consume { messages, function_id: inbox.function_id })]);
    }

    /// Nothing happens until there is mail: the slot is free meanwhile, and a drain hands the workflow back at once.
    pub fn rest(&mut self, inbox: &Inbox) {
        self.slot.suspend();
        inbox.waiter.set_idle(true);
        self.control.set_waiting(true);
    }

    /// Go on after a [`rest`](Workflow::rest), as soon as there is a slot.
    pub async fn wake(&mut self, inbox: &Inbox) -> Result<(), DurableError> {
        inbox.waiter.set_idle(false);
        self.control.set_waiting(false);
        let control = self.control.clone();
        tokio::select! {
            () = self.slot.resume() => Ok(()),
            stop = control.stopped() => Err(DurableError::Stopped(stop)),
        }
    }

    /// It ends, whether it rests or not: what is still to be written is its last, and short.
    pub fn end_rest(&self) {
        self.control.set_waiting(false);
    }

    /// Start child workflows: one step each, under the workflow's own name. All of them exist, with their steps, on
    /// return; those that an earlier life started are not started again.
    pub async fn start_children(&mut self, name: &str, children: Vec<ChildStart>) -> Result<(), DurableError> {
        let mut writes = Vec::new();
        for child in children {
            if let Begun::Run(step) = self.begin(name).await? {
                let record =
                    StepRecord { child: Some(child.id.clone()), serialization: None, ..self.record(step, None, None) };
                writes.extend([Write::Step(record), Write::Start(child)]);
            }
        }
        if !writes.is_empty() {
            self.commit(writes).await?;
            self.family.has_started();
        }
        Ok(())
    }

    /// Wait for a child's end, and record its outcome. The slot is free while waiting.
    pub async fn await_child(&mut self, child: &WorkflowId) -> Result<Result<Json, wire::Failure>, DurableError> {
        let step = match self.begin("DBOS.getResult").await? {
            Begun::Recorded(outcome) => return Ok(outcome),
            Begun::Run(step) => step,
        };
        self.flush().await?; // it may take long
        let view = self.family.end_of(child, &mut self.slot, &self.control).await?;
        let outcome = outcome(view, step.function_id)?;
        let (output, error) = match &outcome {
            Ok(value) => (Some(value.to_string()), None),
            Err(failure) => (None, Some(Format::Portable.encode_error(failure, self.owner.id.as_str()))),
        };
        let record = StepRecord { child: Some(child.as_str().to_owned()), ..self.record(step, output, error) };
        self.commit(vec![Write::Step(record)]).await?;
        Ok(outcome)
    }

    /// End the workflow: its last step, rows of the application's tables and the outcome become durable together.
    pub async fn finish(
        &mut self,
        last: Option<Step>,
        rows: Vec<ApplicationWrite>,
        finish: Finish,
    ) -> Result<(), DurableError> {
        let number = last.as_ref().map(|step| step.function_id);
        let mut writes: Vec<Write> =
            last.map(|step| Write::Step(self.record(step, Some("null".into()), None))).into_iter().collect();
        writes.extend(rows.into_iter().map(Write::Application));
        writes.push(Write::Finish(finish));
        let ended = self.commit(writes).await;
        if let (Err(DurableError::Commit(_)), Some(number)) = (&ended, number) {
            self.next = number; // nothing is recorded under it
        }
        ended.map(drop)
    }

    async fn try_receive(
        &mut self,
        function_id: i32,
        topic: &str,
        started_at: i64,
    ) -> Result<Option<Result<Json, DurableError>>, DurableError> {
        let receive = Receive { topic: topic.into(), function_id, started_at, completed_at: now_ms() };
        let received = self.commit(vec![Write::Receive(receive)]).await?;
        Ok(received.map(|message| decode(function_id, message.serialization.as_deref(), &message.value)))
    }

    /// The absolute deadline of a timer, recorded once, milliseconds since the epoch.
    async fn timer(&mut self, function_id: i32, timeout: Duration) -> Result<i64, DurableError> {
        if let Some(step) = self.recorded(function_id, "DBOS.sleep")? {
            let value = decode(function_id, step.serialization.as_deref(), step.output.as_deref().unwrap_or("0"))?;
            return Ok(value.as_f64().unwrap_or(0.0) as i64);
        }
        let deadline = now_ms().saturating_add(i64::try_from(timeout.as_millis()).unwrap_or(i64::MAX));
        let step = Step::new(function_id, "DBOS.sleep");
        self.commit(vec![Write::Step(step.record(Some(deadline.to_string()), None))]).await?;
        Ok(deadline)
    }

    /// A step that has its outcome.
    fn record(&self, step: Step, output: Option<String>, error: Option<String>) -> StepRecord {
        self.measure(&step.name, step.began, error.is_some().then_some("the step failed"));
        step.record(output, error)
    }

    fn measure(&self, step: &str, began: Instant, error: Option<&str>) {
        self.writer.metrics().steps.of(metrics::Step::named(step)).took(began.elapsed());
        self.trace.step(step, began, error);
    }

    async fn commit(&mut self, writes: Vec<Write>) -> Result<Option<Message>, DurableError> {
        let pending = std::mem::take(&mut self.pending);
        pending.commit(writes, &self.owner, &self.writer, &self.control).await
    }

    fn take(&mut self, numbers: i32) -> i32 {
        let function_id = self.next;
        self.next += numbers;
        function_id
    }

    fn recorded(&self, function_id: i32, expected: &str) -> Result<Option<&StepRecord>, DurableError> {
        match self.history.get(&function_id) {
            Some(step) if step.name != expected => Err(DurableError::UnexpectedStep {
                function_id,
                expected: expected.into(),
                recorded: step.name.clone(),
            }),
            recorded => Ok(recorded),
        }
    }
}

/// Writes that are checkpoints of their own by what they mean, and wait to go in one: nobody has to see them apart.
#[derive(Debug, Default)]
struct Pending {
    writes: Vec<Write>,
    /// Where each of them ends.
    ends: Vec<usize>,
    /// When the oldest event among them came about, milliseconds since the epoch.
    event: Option<i64>,
}

impl Pending {
    fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }

    fn push(&mut self, writes: impl IntoIterator<Item = Write>) {
        let before = self.writes.len();
        self.writes.extend(writes);
        if self.writes.len() > before {
            self.ends.push(self.writes.len());
        }
    }

    fn append(&mut self, later: Pending) {
        let before = self.writes.len();
        self.writes.extend(later.writes);
        self.ends.extend(later.ends.into_iter().map(|end| before + end));
        self.has_event(later.event);
    }

    fn has_event(&mut self, event: Option<i64>) {
        self.event = self.event.into_iter().chain(event).min();
    }

    /// With these writes, which come last. Where the database refuses one of them, they go one after the other, up to the
    /// one at fault.
    async fn commit(
        mut self,
        writes: Vec<Write>,
        owner: &Owner,
        writer: &WriterHandle,
        control: &Control,
    ) -> Result<Option<Message>, DurableError> {
        self.push(writes);
        let event = self.event;
        let ended = self.commit_all(owner, writer, control).await;
        if let (Ok(_), Some(event)) = (&ended, event) {
            let delay = Duration::from_millis(u64::try_from(now_ms() - event).unwrap_or(0));
            writer.metrics().writer.event_delay.took(delay);
        }
        ended
    }

    async fn commit_all(
        self,
        owner: &Owner,
        writer: &WriterHandle,
        control: &Control,
    ) -> Result<Option<Message>, DurableError> {
        let writes = Arc::new(self.writes);
        let checkpoint = |writes: Arc<Vec<Write>>| Checkpoint { owner: owner.clone(), writes };
        match commit(writer, control, checkpoint(writes.clone())).await {
            Err(DurableError::Commit(CommitError::Refused(_) | CommitError::Nondeterminism { .. }))
                if self.ends.len() > 1 => {}
            answer => return answer,
        }
        let mut message = None;
        let mut begin = 0;
        for end in self.ends {
            let part = writes.get(begin..end).unwrap_or_default().to_vec();
            message = commit(writer, control, checkpoint(Arc::new(part))).await?;
            begin = end;
        }
        Ok(message)
    }
}

/// Appends to a stream from inside a step.
pub struct Appender {
    owner: Owner,
    writer: WriterHandle,
    control: Control,
    key: Arc<str>,
    function_id: i32,
    pending: Pending,
}

impl Appender {
    /// Append values in order; returns when they are durable, and with them what waited for it. The oldest of them came about
    /// at `since`, in milliseconds since the epoch.
    pub async fn append(&mut self, values: Vec<String>, since: i64) -> Result<(), DurableError> {
        let write = self.write(values);
        let mut pending = std::mem::take(&mut self.pending);
        pending.has_event(Some(since));
        pending.commit(vec![write], &self.owner, &self.writer, &self.control).await.map(drop)
    }

    /// Append values with the next checkpoint.
    pub fn append_later(&mut self, values: Vec<String>, since: i64) {
        let write = self.write(values);
        self.pending.push(vec![write]);
        self.pending.has_event(Some(since));
    }

    fn write(&self, values: Vec<String>) -> Write {
        Write::Append(Append {
            key: self.key.clone(),
            values,
            function_id: self.function_id,
            serialization: Some(PORTABLE),
        })
    }
}

/// Wait for the commit, unless the workflow has to stop: a database that is away must not hold it. What is on its way then
/// may still become durable, which the token allows as long as the row is ours; after the stop nothing is sent any more,
/// or a flow that is given back would announce its end.
async fn commit(
    writer: &WriterHandle,
    control: &Control,
    checkpoint: Checkpoint,
) -> Result<Option<Message>, DurableError> {
    if control.is_cut_off() {
        return Err(DurableError::Stopped(control.cut_off().await));
    }
    tokio::select! {
        biased; // what is durable counts, also when the stop came at the same moment
        received = writer.commit(checkpoint) => Ok(received?),
        stop = control.cut_off() => Err(DurableError::Stopped(stop)),
    }
}

fn decode(function_id: i32, serialization: Option<&str>, text: &str) -> Result<Json, DurableError> {
    let format = format_of(function_id, serialization, text)?;
    format.decode_value(text).map_err(|error| DurableError::Unreadable { function_id, text: error.to_string() })
}

/// How a child ended. One that was deleted, cancelled or parked has failed.
fn outcome(view: Option<WorkflowView>, function_id: i32) -> Result<Result<Json, wire::Failure>, DurableError> {
    let failed = |text: String| Ok(Err(wire::Failure::new("ChildError", text)));
    let Some(view) = view else { return failed("the child workflow was deleted".into()) };
    match (view.status.as_str(), &view.output, &view.error) {
        ("SUCCESS", Some(output), _) => decode(function_id, view.serialization.as_deref(), output).map(Ok),
        ("SUCCESS", None, _) => Ok(Ok(Json::Null)),
        ("ERROR", _, Some(error)) => {
            Ok(Err(format_of(function_id, view.serialization.as_deref(), error)?.decode_error(error)))
        }
        (status, ..) => failed(format!("the child workflow ended as {status}")),
    }
}

fn format_of(function_id: i32, serialization: Option<&str>, text: &str) -> Result<Format, DurableError> {
    Format::of(serialization, Some(text))
        .map_err(|error| DurableError::Unreadable { function_id, text: error.to_string() })
}

/// Milliseconds since the epoch by this machine's clock: for step times, which are for people.
fn now_ms() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}
