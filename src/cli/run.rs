//! `run`: the worker itself.

use std::process::ExitCode;

use clap::Args;

use super::{Global, exit, logs};
use crate::{admin, worker::Worker};

/// Load the configuration, serve until SIGTERM or SIGINT, drain.
#[derive(Debug, Default, Args)]
pub struct Run {
    /// Id of this worker, kept over restarts
    #[arg(long, value_name = "ID")]
    worker_id: Option<String>,
    /// Name of the queue
    #[arg(long, value_name = "NAME")]
    queue: Option<String>,
}

impl Run {
    pub(super) async fn run(self, global: &Global) -> anyhow::Result<ExitCode> {
        let mut flags = Vec::new();
        flags.extend(self.worker_id.map(|id| ("worker.id", id)));
        flags.extend(self.queue.map(|name| ("queue.name", name)));
        let settings = global.settings(flags)?;
        let _log = logs::start(&settings.log);
        let listener = settings.admin.clone();
        let worker = Worker::new(settings).on_stuck(exit::stuck);
        logs::without_secrets(worker.redactor());
        let signals = tokio::spawn(worker.shutdown().obey_signals()?);
        let id = worker.status().snapshot().worker;
        tracing::info!(version = env!("CARGO_PKG_VERSION"), worker = id, "fireflow-worker starts");

        let admin = admin::start(&listener, worker.status()).await?;
        let served = worker.run().await;
        admin.stop().await;
        signals.abort();
        served?;
        Ok(ExitCode::SUCCESS)
    }
}
