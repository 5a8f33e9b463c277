//! `flow …`: stored flows, and flows in files.

mod list;
mod push;
mod test;

use std::{process::ExitCode, sync::Arc};

use anyhow::{Context as _, bail};
use clap::Subcommand;
use serde_json::Value as Json;

use super::Global;
use crate::{config::Settings, execution::FlowStore, flow, nodes::Registry, worker::Database};

/// Flows, stored and in files.
#[derive(Debug, Subcommand)]
pub enum Flow {
    /// Store flows from files; each push of a flow is its next version
    Push(push::Push),
    /// List the stored flows
    List(list::List),
    /// Run cases of flows, and compare with what they expect
    Test(test::Test),
}

impl Flow {
    pub(super) async fn run(self, global: &Global) -> anyhow::Result<ExitCode> {
        match self {
            Flow::Push(push) => push.run(global).await,
            Flow::List(list) => list.run(global).await,
            Flow::Test(test) => test.run().await,
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
