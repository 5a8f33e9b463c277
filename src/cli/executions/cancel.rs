//! `executions cancel`

use std::{collections::HashSet, process::ExitCode};

use clap::Args;

use super::{
    report::{self, Told},
    selection::{Selected, Selection},
};
use crate::{
    cli::{Global, access::Access},
    sysdb::operator::{Outcome, Status},
};

/// What can be cancelled. DBOS cancels what is parked as well, when it is named.
const STATES: [Status; 3] = Status::ACTIVE;

/// Cancel executions; what runs is stopped.
///
/// As DBOS's clients do. One that runs is stopped within about a second, and nothing more of it is
/// recorded; `resume` lets it go on from its recorded steps.
///
/// With --all, what is in another state than the asked ones by the time that it comes to it is left alone. Exit code 1 when one of
/// them is unknown, has completed or failed, or was left alone. JSON: [{id, was, done, result, error}], `was` is DBOS's name of the
/// status before.
#[derive(Debug, Args)]
pub struct Cancel {
    #[command(flatten)]
    selection: Selection,
    /// Their children as well, and theirs; at most a quarter of a million
    #[arg(long)]
    tree: bool,
    /// Write JSON
    #[arg(long)]
    json: bool,
}

impl Cancel {
    pub(super) async fn run(self, global: &Global) -> anyhow::Result<ExitCode> {
        let access = Access::to_change(global, &["workflow_status", "executions"]).await?;
        let Some(Selected { ids, only }) = self.selection.ids(&access, "cancel", &STATES).await? else {
            return Ok(report::nothing_done());
        };
        let mut bulk = match self.tree {
            true => access.operator.cancel_trees(&ids, &only).await,
            false => access.operator.cancel(&ids, &only).await,
        };
        // A child that has ended is no failure of a cancelled tree.
        let named: HashSet<&String> = ids.iter().collect();
        bulk.changed.retain(|one| matches!(one.outcome, Outcome::Done | Outcome::Locked) || named.contains(&one.id));
        let (told, failed) = Told::of_all(bulk, "cancelled", |_| String::new());
        report::tell(&told, failed, self.json)
    }
}
