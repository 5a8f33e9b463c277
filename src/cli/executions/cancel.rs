//! `executions cancel`

use std::{collections::HashSet, process::ExitCode};

use clap::Args;

use super::{
    report::{self, Told},
    selection::Selection,
};
use crate::{
    cli::{Global, access::Access},
    sysdb::operator::{Outcome, Status},
};

/// What can be cancelled. DBOS cancels what is parked as well, when it is named.
const STATES: [Status; 3] = Status::ACTIVE;

/// Cancel executions, as DBOS's clients do. One that runs is stopped within about a second, and nothing more of it is
/// recorded; `resume` lets it go on from its recorded steps.
///
/// Exit code 1 when one of them is unknown, or has completed or failed. JSON: [{id, was, done, result, error}], `was` is DBOS's
/// name of the status before.
#[derive(Debug, Args)]
pub struct Cancel {
    #[command(flatten)]
    selection: Selection,
    /// Their children as well, and theirs
    #[arg(long)]
    tree: bool,
    /// Write JSON
    #[arg(long)]
    json: bool,
}

impl Cancel {
    pub(super) async fn run(self, global: &Global) -> anyhow::Result<ExitCode> {
        let access = Access::to_change(global, &["workflow_status", "executions"]).await?;
        let Some(ids) = self.selection.ids(&access, "cancel", &STATES).await? else {
            return Ok(report::nothing_done());
        };
        let changed = match self.tree {
            true => access.operator.cancel_trees(&ids).await?,
            false => access.operator.cancel(&ids).await?,
        };
        // A child that has ended is no failure of a cancelled tree.
        let named: HashSet<&String> = ids.iter().collect();
        let told = changed.into_iter().filter(|one| one.outcome == Outcome::Done || named.contains(&one.id));
        let told: Vec<_> = told.map(|changed| Told::of(changed, "cancelled", |_| String::new())).collect();
        report::tell(&told, self.json)
    }
}
