//! `executions fork`

use std::process::ExitCode;

use anyhow::bail;
use clap::Args;
use serde_json::json;

use super::{destination::Destination, selection};
use crate::{
    cli::{Global, access::Access, cells, enqueue::execution_id, output},
    execution::START_TOPIC,
    sysdb::{
        WorkflowId,
        operator::{self, Signal},
    },
};

/// Make a new execution that begins with another one's first steps.
///
/// Of the same task, as DBOS's clients do. The other one stays as it is, whatever its state.
///
/// Steps are counted from 0, and `executions show` numbers them: with --from-step 2, steps 0 and 1 are taken along, and the fork
/// does the rest. Without --to-queue it goes to DBOS's internal queue, which every worker serves. JSON: {id, forked_from, from_step, steps}.
#[derive(Debug, Args)]
pub struct Fork {
    /// Id of the execution
    #[arg(value_name = "ID")]
    source: String,
    /// The first step that the fork does itself
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(0..))]
    from_step: i32,
    /// Id of the fork. Default: a new one
    #[arg(long, value_name = "ID", value_parser = selection::id)]
    id: Option<String>,
    #[command(flatten)]
    destination: Destination,
    /// For this version of the application. Default: the other one's
    #[arg(long, value_name = "VERSION")]
    app_version: Option<String>,
    /// Longest time from its start to its end. Default: no limit
    #[arg(long, value_name = "DURATION", value_parser = cells::span)]
    timeout: Option<std::time::Duration>,
    /// Write JSON
    #[arg(long)]
    json: bool,
}

impl Fork {
    pub(super) async fn run(self, global: &Global) -> anyhow::Result<ExitCode> {
        const CHANGED: [&str; 7] = [
            "workflow_status",
            "workflow_input",
            "operation_outputs",
            "streams",
            "notifications",
            "workflow_events",
            "workflow_events_history",
        ];
        let access = Access::to_change(global, &CHANGED).await?;
        let queue = self.destination.queue(&access).await?;
        let source = WorkflowId::new(self.source);
        let id = WorkflowId::new(self.id.unwrap_or_else(execution_id));
        let next = access.operator.next_step(&source).await?;
        if self.from_step > next {
            match next {
                0 => bail!("execution \"{source}\" has no recorded steps; --from-step can only be 0"),
                _ => {
                    bail!("execution \"{source}\" has recorded steps 0 to {}; --from-step can be 0 to {next}", next - 1)
                }
            }
        }
        let go = json!("GO");
        let fork = operator::Fork {
            id: &id,
            step: self.from_step,
            queue,
            partition: None,
            version: self.app_version.as_deref(),
            timeout_ms: self.timeout.map(|timeout| i64::try_from(timeout.as_millis()).unwrap_or(i64::MAX)),
            signal: Some(Signal { topic: START_TOPIC, message: &go }),
        };
        let forked = access.operator.fork(&source, &fork).await?;
        if self.json {
            output::json(&json!({
                "id": id.as_str(), "forked_from": source.as_str(), "from_step": self.from_step, "steps": forked.steps,
            }))?;
        } else {
            output::line(id.as_str());
            output::note(format!("took {} recorded steps of {source} along", forked.steps));
        }
        Ok(ExitCode::SUCCESS)
    }
}
