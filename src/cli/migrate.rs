//! `migrate`: create the schemas.

use std::process::ExitCode;

use clap::Args;

use super::{Global, output};
use crate::worker::Database;

/// Create the DBOS system schema and the application tables where they are missing.
///
/// An existing system schema at a usable level is left as it is. Safe to run twice, and by two at once.
#[derive(Debug, Args)]
pub struct Migrate {
    /// Show what would be done, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Write JSON
    #[arg(long)]
    json: bool,
}

impl Migrate {
    pub(super) async fn run(self, global: &Global) -> anyhow::Result<ExitCode> {
        let settings = global.settings(Vec::new())?;
        let database = Database::connect(&settings).await?;
        let plan = match self.dry_run {
            true => database.plan_schemas().await?,
            false => database.ensure_schemas().await?,
        };
        if self.json {
            output::json(&serde_json::json!({"dry_run": self.dry_run, "steps": plan}))?;
        } else if plan.is_empty() {
            output::line("nothing to do: all schemas are there");
        } else {
            for step in &plan {
                output::line(if self.dry_run { step.clone() } else { format!("created {step}") });
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}
