//! `run`: the worker itself.

use std::{process::ExitCode, sync::Arc};

use clap::Args;

use super::{Global, logs};
use crate::{
    admin,
    worker::{self, Identity, Shutdown, Status},
};

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
        logs::start(&settings.log);
        let (shutdown, obey) = Shutdown::on_signals()?;
        let signals = tokio::spawn(obey);
        let id = Identity::of_this_process(settings.worker.id.as_deref()).id;
        tracing::info!(version = env!("CARGO_PKG_VERSION"), worker = id, "fireflow-worker starts");

        let status = Arc::new(Status::new(&id, &settings.queue.name));
        let admin = admin::start(&settings.admin, status.clone()).await?;
        let served = worker::run(settings, status, shutdown).await;
        admin.stop().await;
        signals.abort();
        served?;
        Ok(ExitCode::SUCCESS)
    }
}
