//! `flow …`: stored flows, and flows in files.

mod findings;
mod graph;
mod list;
mod push;
mod run;
mod test;
mod validate;

use std::{path::Path, process::ExitCode, sync::Arc};

use anyhow::{Context as _, bail};
use clap::Subcommand;
use serde_json::Value as Json;

use super::Global;
use crate::{config::Settings, execution::FlowStore, flow::{self, FlowFile}, nodes::Registry, worker::Database};

/// Flows, stored and in files.
#[derive(Debug, Subcommand)]
pub enum Flow {
    /// Store flows from files; each push of a flow is its next version
    Push(push::Push),
    /// List the stored flows
    List(list::List),
    /// Find errors in flows before they run
    Validate(validate::Validate),
    /// Draw a flow
    Graph(graph::Graph),
    /// Run a flow here and now, without a database
    Run(run::Run),
    /// Run cases of flows, and compare with what they expect
    Test(test::Test),
}

impl Flow {
    pub(super) async fn run(self, global: &Global) -> anyhow::Result<ExitCode> {
        match self {
            Flow::Push(push) => push.run(global).await,
            Flow::List(list) => list.run(global).await,
            Flow::Validate(validate) => validate.run(),
            Flow::Graph(graph) => graph.run(),
            Flow::Run(run) => run.run().await,
            Flow::Test(test) => test.run().await,
        }
    }
}

/// A flow that can be stored, and what is worth a warning.
pub(super) struct Document {
    pub id: String,
    pub owner: Option<String>,
    pub data: Json,
    #[cfg_attr(not(test), expect(dead_code, reason = "the examples' test reads it"))]
    pub problems: Vec<flow::Problem>,
}

/// Read a flow that is to be stored as it is.
pub(super) fn parse(source: &str, text: &str, registry: &Registry) -> anyhow::Result<Document> {
    let file = FlowFile::read(source, text, registry);
    let Some(data) = file.data else {
        let why = file.findings.first().map_or("it can't be read", |finding| &finding.message);
        bail!("{source}: {why}; `fireflow-worker flow validate` shows where");
    };
    let loaded = flow::Flow::load(&data, registry).with_context(|| format!("{source}: not a flow"))?;
    let id = loaded.flow.id().to_owned();
    if id.trim().is_empty() {
        bail!("{source}: the flow has no id; give it one at the top level: \"id\": \"my-flow\"");
    }
    Ok(Document { id, owner: loaded.flow.owner_id().map(str::to_owned), problems: loaded.problems, data })
}

/// Larger files hold no flow.
const LARGEST: u64 = 256 << 20;

/// Read a flow's file, for all commands that take one.
pub(super) fn read(file: &Path, registry: &Registry) -> anyhow::Result<FlowFile> {
    let name = file.display().to_string();
    let size = std::fs::metadata(file).with_context(|| format!("{name}: can't read"))?.len();
    if size > LARGEST {
        bail!("{name}: {size} bytes are too many for a flow; the limit is {LARGEST}");
    }
    let text = std::fs::read_to_string(file).with_context(|| format!("{name}: can't read"))?;
    Ok(FlowFile::read(&name, &text, registry))
}

/// The flow store of these settings.
pub(super) fn store(settings: &Settings, database: &Database) -> FlowStore {
    let registry = Arc::new(Registry::standard());
    FlowStore::new(database.flows.clone(), &database.prefix, registry, settings.execution.flow_cache)
}
