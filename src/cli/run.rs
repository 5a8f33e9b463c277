//! `run`: the worker itself.

use std::process::ExitCode;

use clap::Args;

use super::{Global, exit, first, logs, reload::Reload};
use crate::{
    admin,
    service::Service,
    worker::{Hangups, Worker},
};

/// Run the worker until SIGTERM or SIGINT, then drain; the same as no command. SIGHUP reads the configuration again.
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
        // Before all else: without a handler it ends the process. One that comes during the start is obeyed after it.
        let hangups = Hangups::listen()?;
        let mut flags = Vec::new();
        flags.extend(self.worker_id.map(|id| ("worker.id", id)));
        flags.extend(self.queue.map(|name| ("queue.name", name)));
        let settings = global.settings(flags.clone())?;
        let log = logs::start(&settings.log);
        let listener = settings.admin.clone();
        let worker = Worker::new(settings).on_stuck(exit::stuck);
        logs::without_secrets(worker.redactor());
        let signals = tokio::spawn(worker.shutdown().obey_signals()?);
        first::signals_are_handled();
        let orphans = tokio::spawn(first::adopt_orphans()?);
        let id = worker.status().snapshot().worker;
        tracing::info!(version = env!("CARGO_PKG_VERSION"), worker = id, "fireflow-worker starts");

        let reloader = worker.reloader();
        let service = Service::of_this_process(worker.status(), reloader.clone());
        let watch = tokio::spawn(service.clone().watch());
        let reload = Reload { global: global.clone(), flags, reloader, log, service: service.clone() };
        let reload = tokio::spawn(reload.obey(hangups));
        let served = async {
            let admin = admin::start(&listener, worker.status()).await?;
            let served = worker.run().await;
            admin.stop().await;
            anyhow::Ok(served?)
        };
        let served = served.await;
        for task in [watch, reload, signals, orphans] {
            task.abort();
        }
        service.ended(served.as_ref().err().map(|error| error as &dyn std::fmt::Display)).await;
        served?;
        Ok(ExitCode::SUCCESS)
    }
}
