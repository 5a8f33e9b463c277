//! `executions retry`

use std::process::ExitCode;

use anyhow::bail;
use clap::Args;
use serde_json::json;

use super::{
    report::{self, Told},
    selection::Selection,
};
use crate::{
    cli::{Global, access::Access},
    execution::{START_TOPIC, step_at_fault},
    sysdb::{
        WorkflowId,
        operator::{Operator, Rewind, Signal, Status},
    },
};

/// What didn't come to a good end.
const STATES: [Status; 3] = [Status::Failed, Status::Parked, Status::Cancelled];

/// Run executions again that failed, were parked or were cancelled, under their own ids.
///
/// A failed one goes back to the step that failed, which for most is the run of its flow: steps from there on, and its outcome,
/// are forgotten (a rewind, in DBOS's words). A parked or cancelled one keeps its steps, and goes on with them (a resume). The account of
/// crashes is closed. They go back to the queue that they came from where the row still names it, otherwise to the first one
/// of the configuration. Exit code 1 when one of them is unknown, runs, waits, or has completed. JSON: [{id, was, done, result, error}].
#[derive(Debug, Args)]
pub struct Retry {
    #[command(flatten)]
    selection: Selection,
    /// Forget all steps, and begin at the beginning
    #[arg(long, conflicts_with = "from_step")]
    from_start: bool,
    /// Forget the steps from this number on
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(0..))]
    from_step: Option<i32>,
    /// Put them on this queue
    #[arg(long = "to-queue", value_name = "NAME")]
    to_queue: Option<String>,
    /// Write JSON
    #[arg(long)]
    json: bool,
}

impl Retry {
    pub(super) async fn run(self, global: &Global) -> anyhow::Result<ExitCode> {
        const CHANGED: [&str; 8] = [
            "workflow_status",
            "workflow_output",
            "operation_outputs",
            "streams",
            "notifications",
            "workflow_events",
            "workflow_events_history",
            "crashes",
        ];
        let access = Access::to_change(global, &CHANGED).await?;
        let Some(ids) = self.selection.ids(&access, "retry", &STATES).await? else {
            return Ok(report::nothing_done());
        };
        if self.from_step.is_some() && ids.len() > 1 {
            bail!("--from-step is for one execution; these are {}", ids.len());
        }
        let mut told = Vec::new();
        for id in ids {
            told.push(self.retry(&access, &id).await?);
        }
        report::tell(&told, self.json)
    }

    async fn retry(&self, access: &Access, id: &str) -> anyhow::Result<Told> {
        let operator = &access.operator;
        let found = operator.state(&WorkflowId::new(id)).await?;
        let Some(state) = found else {
            return Ok(Told { id: id.into(), was: None, result: Err("there is no such execution".into()) });
        };
        let told = |result| Told { id: id.into(), was: Some(state.status.clone()), result };
        let status = match Status::of(&state.status) {
            Some(status) if STATES.contains(&status) => status,
            Some(Status::Completed) => {
                return Ok(told(Err("it has completed, which stands; `executions fork` makes a new one of it".into())));
            }
            _ => return Ok(told(Err(format!("it is {}; cancel it first", super::list::word(&state.status))))),
        };
        let own = state.queue.as_deref().filter(|queue| *queue != crate::sysdb::INTERNAL_QUEUE);
        let queue = self.to_queue.as_deref().or(own).unwrap_or(&access.settings.queue.first().name);
        // A partition is one of its own queue.
        let partition = state.partition.as_deref().filter(|_| self.to_queue.is_none());
        let step = match (self.from_start, self.from_step) {
            (true, _) => 0,
            (false, Some(step)) => step,
            (false, None) if status == Status::Failed => at_fault(operator, id).await?,
            (false, None) => i32::MAX,
        };
        let go = json!("GO");
        let signal = Some(Signal { topic: START_TOPIC, message: &go });
        let rewind = Rewind { step, queue: Some(queue), partition, signal };
        let done = match step {
            // Nothing is forgotten: messages that wait for it stay.
            i32::MAX => {
                operator.resume(&[id.to_owned()], Some(queue)).await.map(|_| "from its recorded steps".to_owned())
            }
            0 => operator.rewind(&WorkflowId::new(id), &rewind).await.map(|()| "from its start".to_owned()),
            step => operator.rewind(&WorkflowId::new(id), &rewind).await.map(|()| format!("from step {step}")),
        };
        match done {
            Ok(from) => Ok(told(Ok(format!("runs again {from}, on queue {queue}")))),
            Err(crate::sysdb::operator::OperatorError::Database(error)) => Err(error.into()),
            Err(refused) => Ok(told(Err(refused.to_string()))),
        }
    }
}

async fn at_fault(operator: &Operator, id: &str) -> anyhow::Result<i32> {
    Ok(step_at_fault(&operator.steps(&WorkflowId::new(id)).await?))
}
