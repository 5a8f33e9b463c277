//! `executions resume`

use std::process::ExitCode;

use clap::Args;

use super::{
    report::{self, Told},
    selection::Selection,
};
use crate::{
    cli::{Global, access::Access},
    sysdb::operator::Status,
};

/// What goes on only when somebody says so.
const STATES: [Status; 2] = [Status::Cancelled, Status::Parked];

/// Put executions back on a queue with their recorded steps, as DBOS's clients do: what was cancelled or parked goes on. Its
/// attempts, its deadline and its account of crashes begin anew.
///
/// Without --to-queue they go to DBOS's internal queue, which every worker serves whatever the limits and pauses of its own queues.
/// One that runs or waits is put back as well, when it is named: it begins again elsewhere. Exit code 1 when one of them is
/// unknown, or has completed or failed. JSON: [{id, was, done, result, error}].
#[derive(Debug, Args)]
pub struct Resume {
    #[command(flatten)]
    selection: Selection,
    /// Put them on this queue
    #[arg(long = "to-queue", value_name = "NAME")]
    to_queue: Option<String>,
    /// Write JSON
    #[arg(long)]
    json: bool,
}

impl Resume {
    pub(super) async fn run(self, global: &Global) -> anyhow::Result<ExitCode> {
        let access = Access::to_change(global, &["workflow_status", "crashes"]).await?;
        let Some(ids) = self.selection.ids(&access, "resume", &STATES).await? else {
            return Ok(report::nothing_done());
        };
        let changed = access.operator.resume(&ids, self.to_queue.as_deref()).await?;
        let instead = |was: &str| match was {
            "ERROR" => "; `executions retry` runs it again".into(),
            _ => "; `executions fork` makes a new one of it".into(),
        };
        let told: Vec<_> = changed.into_iter().map(|changed| Told::of(changed, "resumed", instead)).collect();
        report::tell(&told, self.json)
    }
}
