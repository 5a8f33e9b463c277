//! `flow push`: store flows from files.

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Context as _, bail};
use clap::Args;
use serde_json::json;

use super::{findings, read, store};
use crate::cli::{Global, output};
use crate::{flow::validate, nodes::Registry, worker::Database};

/// Store flows from files.
#[derive(Debug, Args)]
pub struct Push {
    /// Files, each with one flow in the stored form (JSON)
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Owner, where the flow's metadata names none
    #[arg(long, value_name = "ID")]
    owner: Option<String>,
    /// Store flows with errors as well
    #[arg(long)]
    no_validate: bool,
    /// Write JSON
    #[arg(long)]
    json: bool,
}

impl Push {
    pub(super) async fn run(self, global: &Global) -> anyhow::Result<ExitCode> {
        let settings = global.settings(Vec::new())?;
        let registry = Registry::standard();
        // All files first: a bad one stores nothing.
        let (mut flows, mut refused) = (Vec::new(), Vec::new());
        for file in &self.files {
            let document = read(file, &registry)?;
            let checked = validate::check(&document, &registry);
            findings::print(&document.source, &checked, findings::Stream::Err);
            if checked.has_errors() && !self.no_validate {
                refused.push(document.source.name().to_owned());
                continue;
            }
            let (Some(flow), Some(data)) = (checked.flow, document.data) else {
                bail!("{}: not a flow", document.source.name());
            };
            if flow.id().trim().is_empty() {
                bail!("{}: the flow has no id; give it one at the top level: \"id\": \"my-flow\"", document.source.name());
            }
            flows.push((document.source.name().to_owned(), flow, data, checked.findings.len() + checked.left_out));
        }
        if !refused.is_empty() {
            bail!("nothing is stored, for the errors in {}; --no-validate stores all the same", refused.join(", "));
        }
        let database = Database::connect(&settings).await?;
        let store = store(&settings, &database);
        let mut pushed = Vec::new();
        for (source, flow, data, found) in flows {
            let owner = flow.owner_id().or(self.owner.as_deref());
            let version =
                store.push(flow.id(), &data, owner).await.with_context(|| format!("{source}: not stored"))?;
            if !self.json {
                output::line(format!("{} version {version}  {}", flow.id(), flow.name()));
            }
            pushed.push(json!({"id": flow.id(), "version": version, "warnings": found}));
        }
        if self.json {
            output::json(&pushed)?;
        }
        Ok(ExitCode::SUCCESS)
    }
}
