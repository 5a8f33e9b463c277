//! `check`: would `run` start?

use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use super::{Global, exit, output};
use crate::{sysdb::schema, worker::Database};

/// Check the configuration, reach the database and look at its schemas. Changes nothing.
///
/// Exit code 0 when the worker would start, 78 for a bad configuration, 69 for an unreachable database, 1 for a schema
/// that can't be used.
#[derive(Debug, Args)]
pub struct Check {
    /// Write JSON
    #[arg(long)]
    json: bool,
}

impl Check {
    pub(super) async fn run(self, global: &Global) -> anyhow::Result<ExitCode> {
        let settings = global.settings(Vec::new())?;
        let database = Database::connect(&settings).await?;
        let state = schema::inspect_pool(&database.pool, &settings.database.schema).await?;
        let usable = state.is_usable_or_empty();
        if self.json {
            output::json(&json!({
                "configuration": "ok", "database": "ok", "schema": settings.database.schema,
                "system_schema": state.to_string(), "usable": usable,
            }))?;
        } else {
            let file = global
                .config
                .as_ref()
                .map_or_else(|| "environment and defaults".into(), |file| file.display().to_string());
            output::line(format!("configuration  ok ({file})"));
            output::line("database       reached");
            output::line(format!("system schema  {}: {state}", settings.database.schema));
        }
        Ok(if usable { ExitCode::SUCCESS } else { ExitCode::from(exit::FAILURE) })
    }
}
