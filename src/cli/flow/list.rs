//! `flow list`: what is stored.

use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;

use super::store;
use crate::cli::{Global, output};
use crate::worker::Database;

/// List the stored flows.
#[derive(Debug, Args)]
pub struct List {
    /// Write JSON
    #[arg(long)]
    json: bool,
}

impl List {
    pub(super) async fn run(self, global: &Global) -> anyhow::Result<ExitCode> {
        let settings = global.settings(Vec::new())?;
        let database = Database::connect(&settings).await?;
        let flows = store(&settings, &database)
            .list()
            .await
            .context("can't list the flows; `fireflow-worker migrate` creates the tables")?;
        if self.json {
            output::json(&flows)?;
            return Ok(ExitCode::SUCCESS);
        }
        if flows.is_empty() {
            output::note("no flows yet; `fireflow-worker flow push FILE` stores one");
            return Ok(ExitCode::SUCCESS);
        }
        let rows = flows.into_iter().map(|flow| {
            vec![
                flow.id,
                flow.name,
                flow.version.to_string(),
                flow.nodes.to_string(),
                flow.owner.unwrap_or_default(),
                flow.created_at,
            ]
        });
        output::table(&["ID", "NAME", "VERSION", "NODES", "OWNER", "CREATED"], rows);
        Ok(ExitCode::SUCCESS)
    }
}
