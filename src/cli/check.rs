//! `check`: would `run` start?

use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use super::{Global, exit, output};
use crate::{
    admin,
    sysdb::{Standing, schema::State},
    worker::Database,
};

/// Check the configuration, reach the database and look at its schemas. Changes nothing.
///
/// Exit code 0 when the worker would start, 78 for a bad configuration, 69 for an unreachable database, 1 for a schema
/// that can't be used, rights that are missing, and tables that are missing and that the role may not make.
#[derive(Debug, Args)]
pub struct Check {
    /// Write JSON
    #[arg(long)]
    json: bool,
}

impl Check {
    pub(super) async fn run(self, global: &Global) -> anyhow::Result<ExitCode> {
        let settings = global.settings(Vec::new())?;
        admin::check(&settings.admin)?;
        let database = Database::connect(&settings).await?;
        let state = database.inspect().await?;
        // The plan refuses what can't be used, with what to do.
        let (missing, refusal) = match database.plan_for(&state).await {
            Ok(_) => (database.missing_tables().await?, None),
            Err(error) if error.is_transient() => return Err(error.into()),
            Err(error) => (Vec::new(), Some(error.to_string())),
        };
        let refusal = match refusal {
            Some(refusal) => Some(refusal),
            None => refused(&database.lacking_to_make(&state).await?),
        };
        let shown = match &state {
            State::Usable { level } | State::Older { level } => format!("usable, at level {level}"),
            State::Empty => "not there yet; the worker or `migrate` creates it".into(),
            _ => refusal.clone().unwrap_or_default(),
        };
        let warning = database.sysdb.standing().await?.and_then(Standing::shortfall).filter(|_| refusal.is_none());
        if self.json {
            output::json(&json!({
                "configuration": "ok", "database": "ok", "schema": settings.database.schema,
                "system_schema": shown, "missing": missing, "usable": refusal.is_none(), "refusal": refusal,
                "warning": warning, "pooler": database.pooling(),
            }))?;
        } else {
            let file = global
                .config
                .as_ref()
                .map_or_else(|| "environment and defaults".into(), |file| file.display().to_string());
            output::line(format!("configuration  ok ({file})"));
            output::line("database       reached");
            output::line(format!("system schema  {}: {shown}", settings.database.schema));
            if !missing.is_empty() {
                let who = if refusal.is_none() { "; the worker or `migrate` makes them" } else { "" };
                output::line(format!("tables         missing: {}{who}", missing.join(", ")));
            }
            match &refusal {
                Some(refusal) if *refusal != shown => output::line(format!("tables         {refusal}")),
                _ => {}
            }
            for warning in warning.iter().map(String::as_str).chain(database.pooled()) {
                output::note(format!("warning: {warning}"));
            }
        }
        Ok(if refusal.is_none() { ExitCode::SUCCESS } else { ExitCode::from(exit::FAILURE) })
    }
}

/// Why what is missing can't be made.
fn refused(lacking: &[String]) -> Option<String> {
    (!lacking.is_empty()).then(|| {
        format!(
            "something is missing, and this role may not make it, since it lacks {}; let a role that may, their owner, \
             run: fireflow-worker migrate",
            lacking.join(", ")
        )
    })
}
