//! `flow push`, `flow list`: stored flows.

use std::{path::PathBuf, process::ExitCode, sync::Arc};

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use serde_json::{Value as Json, json};

use super::{Global, output};
use crate::{config::Settings, execution::FlowStore, flow, nodes::Registry, worker::Database};

/// Stored flows.
#[derive(Debug, Subcommand)]
pub enum Flow {
    /// Store flows from files; each push of a flow is its next version
    Push(Push),
    /// List the stored flows
    List(List),
}

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

/// List the stored flows.
#[derive(Debug, Args)]
pub struct List {
    /// Write JSON
    #[arg(long)]
    json: bool,
}

impl Flow {
    pub(super) async fn run(self, global: &Global) -> anyhow::Result<ExitCode> {
        match self {
            Flow::Push(push) => push.run(global).await,
            Flow::List(list) => list.run(global).await,
        }
    }
}

/// A flow read from a file, and what is worth a warning.
pub(super) struct Document {
    pub id: String,
    pub name: String,
    pub owner: Option<String>,
    pub data: Json,
    pub problems: Vec<flow::Problem>,
}

/// Read a flow document: JSON in the stored form, with an id.
pub(super) fn parse(source: &str, text: &str, registry: &Registry) -> anyhow::Result<Document> {
    let data: Json = serde_json::from_str(text).with_context(|| format!("{source}: not valid JSON"))?;
    let loaded = flow::Flow::load(&data, registry).with_context(|| format!("{source}: not a flow"))?;
    let id = loaded.flow.id();
    if id.trim().is_empty() {
        bail!("{source}: the flow has no id; give it one at the top level: \"id\": \"my-flow\"");
    }
    Ok(Document {
        id: id.to_owned(),
        name: loaded.flow.name().to_owned(),
        owner: loaded.flow.owner_id().map(str::to_owned),
        problems: loaded.problems,
        data,
    })
}

/// The flow store of these settings.
pub(super) fn store(settings: &Settings, database: &Database) -> FlowStore {
    let registry = Arc::new(Registry::standard());
    FlowStore::new(database.flows.clone(), &database.prefix, registry, settings.execution.flow_cache)
}

impl Push {
    async fn run(self, global: &Global) -> anyhow::Result<ExitCode> {
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

impl List {
    async fn run(self, global: &Global) -> anyhow::Result<ExitCode> {
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
