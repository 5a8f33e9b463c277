//! `executions resume`

use std::{collections::HashSet, process::ExitCode};

use clap::Args;

use super::{
    destination::Destination,
    report::{self, Told},
    selection::{Selected, Selection},
};
use crate::{
    cli::{Global, access::Access},
    sysdb::operator::{Outcome, Status},
};

/// What goes on only when somebody says so.
const STATES: [Status; 2] = [Status::Cancelled, Status::Parked];

/// Put cancelled or parked executions back on a queue, with their recorded steps.
///
/// As DBOS's clients do: what was cancelled or parked goes on. Its
/// attempts, its deadline and its account of crashes begin anew. All of them go on at the same moment, parents and children.
///
/// Without --to-queue they go to DBOS's internal queue, which every worker serves whatever the limits and pauses of its own queues.
/// One that runs or waits is put back as well, when it is named: it begins again elsewhere. With --all or --tree, what is neither
/// cancelled nor parked by then is left alone. Exit code 1 when one of them is unknown, has completed or failed, or was left
/// alone. JSON: [{id, was, done, result, error}].
#[derive(Debug, Args)]
pub struct Resume {
    #[command(flatten)]
    selection: Selection,
    /// Those of their children that are cancelled or parked as well, and of theirs
    #[arg(long)]
    tree: bool,
    #[command(flatten)]
    destination: Destination,
    /// Write JSON
    #[arg(long)]
    json: bool,
}

impl Resume {
    pub(super) async fn run(self, global: &Global) -> anyhow::Result<ExitCode> {
        let access = Access::to_change(global, &["workflow_status", "crashes"]).await?;
        let queue = self.destination.queue(&access).await?;
        let Some(Selected { ids: named, mut only }) = self.selection.ids(&access, "resume", &STATES).await? else {
            return Ok(report::nothing_done());
        };
        let mut ids = named.clone();
        if self.tree {
            if only.is_empty() {
                only = STATES.to_vec();
            }
            ids.extend(access.operator.descendants(&named, &only).await?);
        }
        let mut changed = access.operator.resume(&ids, &only, queue).await?;
        let named: HashSet<String> = named.into_iter().collect();
        changed.retain(|one| matches!(one.outcome, Outcome::Done | Outcome::Locked) || named.contains(&one.id));
        let instead = |was: &str| match was {
            "ERROR" => "; `executions retry` runs it again".into(),
            _ => "; `executions fork` makes a new one of it".into(),
        };
        let told: Vec<_> = changed.into_iter().map(|changed| Told::of(changed, "resumed", instead)).collect();
        let code = report::tell(&told, None, self.json)?;
        report::warn_of_versions(&access, &told).await;
        Ok(code)
    }
}
