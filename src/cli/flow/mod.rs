//! `flow …`: stored flows, and flows in files.

mod convert;
mod file;
mod findings;
mod graph;
mod list;
mod pull;
mod push;
mod run;
mod test;
mod validate;
mod versions;

use std::{process::ExitCode, sync::Arc};

use clap::Subcommand;

use super::Global;
use crate::{config::Settings, execution::FlowStore, nodes::Registry, worker::Database};

use file::read;
pub(super) use file::{Document, in_folder, parse};

/// Flows, stored and in files.
#[derive(Debug, Subcommand)]
pub enum Flow {
    Push(push::Push),
    Pull(pull::Pull),
    Convert(convert::Convert),
    List(list::List),
    Validate(validate::Validate),
    Graph(graph::Graph),
    Run(run::Run),
    Test(test::Test),
}

impl Flow {
    pub(super) async fn run(self, global: &Global) -> anyhow::Result<ExitCode> {
        match self {
            Flow::Push(push) => push.run(global).await,
            Flow::Pull(pull) => pull.run(global).await,
            Flow::Convert(convert) => convert.run(),
            Flow::List(list) => list.run(global).await,
            Flow::Validate(validate) => validate.run(),
            Flow::Graph(graph) => graph.run(),
            Flow::Run(run) => run.run().await,
            Flow::Test(test) => test.run().await,
        }
    }
}

/// The flow store of these settings.
pub(super) fn store(settings: &Settings, database: &Database) -> FlowStore {
    let registry = Arc::new(Registry::standard());
    FlowStore::new(database.flows.clone(), &database.prefix, registry, settings.execution.flow_cache)
}
