//! `flow push`: store flows from files.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Context as _;
use clap::Args;
use serde_json::json;

use super::{parse, store};
use crate::cli::{Global, output};
use crate::{nodes::Registry, worker::Database};

/// Store flows from files.
#[derive(Debug, Args)]
pub struct Push {
    /// Files, each with one flow in the stored form (JSON)
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Owner, where the flow's metadata names none
    #[arg(long, value_name = "ID")]
    owner: Option<String>,
    /// Write JSON
    #[arg(long)]
    json: bool,
}

impl Push {
    pub(super) async fn run(self, global: &Global) -> anyhow::Result<ExitCode> {
        let settings = global.settings(Vec::new())?;
        let registry = Registry::standard();
        // All files first: a bad one stores nothing.
        let mut documents = Vec::new();
        for file in &self.files {
            let source = file.display().to_string();
            let text = std::fs::read_to_string(file).with_context(|| format!("{source}: can't read"))?;
            documents.push((source.clone(), parse(&source, &text, &registry)?));
        }
        let database = Database::connect(&settings).await?;
        let store = store(&settings, &database);
        let mut pushed = Vec::new();
        for (source, document) in documents {
            for problem in &document.problems {
                output::note(format!("warning: {source}: {problem}"));
            }
            let owner = document.owner.as_deref().or(self.owner.as_deref());
            let version = store
                .push(&document.id, &document.data, owner)
                .await
                .with_context(|| format!("{source}: not stored"))?;
            if !self.json {
                output::line(format!("{} version {version}  {}", document.id, document.name));
            }
            pushed.push(json!({"id": document.id, "version": version, "warnings": document.problems.len()}));
        }
        if self.json {
            output::json(&pushed)?;
        }
        Ok(ExitCode::SUCCESS)
    }
}
