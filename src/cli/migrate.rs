//! `migrate`: create the schemas, and bring an older system schema forward.

use std::process::ExitCode;

use clap::Args;

use super::{Global, output};
use crate::{
    sysdb::schema::{Advanced, Task},
    worker::{Database, Migrated},
};

/// As much of a statement as a line of progress shows; --dry-run has all.
const SHOWN: usize = 100;

/// Create the DBOS system schema and the application tables where they are missing, and bring an older system schema to
/// the newest level.
///
/// A system schema that an SDK made earlier, at whatever level, is brought to level 125, as the newest SDK would do; rows
/// stay. Below level 100, where each language's SDK counted for itself, what is there decides, not the number.
/// Workers of older SDKs (TypeScript 4, Python 2, Rust 0.5 and before) can't use it afterwards: stop them first. Safe to
/// run twice, by two at once, and again after it was interrupted.
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
        let seen = database.recent_executors().await?;
        if !seen.is_empty() {
            output::note(format!(
                "schema {}: these executors took workflows within the last hour: {}. Workers of older DBOS SDKs can't serve \
                 newer clients from level 109 on: stop them first, or soon after (docs/schema.md)",
                settings.database.schema,
                seen.join(", ")
            ));
        }
        let steps = match self.dry_run {
            true => database.plan_migration().await?,
            false => {
                let schema = &settings.database.schema;
                told(schema, database.migrate_schemas(|task| output::note(begun(schema, task))).await?)
            }
        };
        if self.json {
            output::json(&serde_json::json!({"dry_run": self.dry_run, "steps": steps}))?;
        } else if steps.is_empty() {
            output::line("nothing to do: all schemas are there");
        } else {
            steps.iter().for_each(output::line);
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn begun(schema: &str, task: &Task) -> String {
    let online = if task.online { " (online, may take a while)" } else { "" };
    let purpose = match task.purpose.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{} …", &task.purpose[..end]),
        None => task.purpose.clone(),
    };
    format!("schema {schema}: {}{online}: {purpose}", task.name)
}

fn told(schema: &str, Migrated { advanced, created }: Migrated) -> Vec<String> {
    let advanced =
        advanced.map(|Advanced { from, to }| format!("brought system schema {schema} from level {from} to {to}"));
    advanced.into_iter().chain(created.into_iter().map(|made| format!("created {made}"))).collect()
}
