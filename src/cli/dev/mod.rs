//! `dev`: worker and database in one, with nothing installed or configured but PostgreSQL's server programs.

mod demo;
mod examples;
mod server;

use std::{path::PathBuf, process::ExitCode, time::Duration};

use anyhow::Context as _;
use clap::Args;

use super::{Global, exit, first, flow, logs, output};
use crate::{
    admin,
    config::Settings,
    worker::{Database, Drain, Shutdown, Worker},
};

/// Name of the database on the private server.
const DATABASE: &str = "fireflow";

/// Start a private PostgreSQL, load the example flows, and run the worker until Ctrl-C.
///
/// The data stays in its folder for the next time. PostgreSQL's server programs are found by --pg-bin, PATH, pg_config
/// or in the usual folders; where there are none, they are downloaded once. Works as root, too: the server then runs as
/// user "postgres" or "nobody".
#[derive(Debug, Args)]
pub struct Dev {
    /// Run an execution of every example flow, show the results, and exit: 0 when all came as expected
    #[arg(long)]
    demo: bool,
    /// Folder for the database's data [default: fireflow-worker/dev in the user's data folder]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Folder with PostgreSQL's server programs (initdb, postgres)
    #[arg(long, value_name = "DIR", env = "FIREFLOW_PG_BIN")]
    pg_bin: Option<PathBuf>,
    /// Folder with flows (*.json) to load instead of the examples
    #[arg(long, value_name = "DIR", conflicts_with = "demo")]
    flows: Option<PathBuf>,
    /// Port of the database on 127.0.0.1 [default: a free one]
    #[arg(long, value_name = "PORT")]
    port: Option<u16>,
}

impl Dev {
    pub(super) async fn run(self, global: &Global) -> anyhow::Result<ExitCode> {
        // Not the database that the environment names: this one is private.
        let mut settings = global.settings(vec![("worker.id", "dev".into())])?;
        if global.config.is_none() {
            settings.queue.first_mut().polling_interval = Duration::from_millis(100); // someone watches
        }
        if self.demo && global.log_level.is_none() {
            settings.log.level = "warn".into();
        }
        logs::start(&settings.log);
        let documents = match &self.flows {
            Some(folder) => examples::from_folder(folder)?,
            None => examples::built_in()?,
        };
        let shutdown = Shutdown::new();
        let signals = tokio::spawn(shutdown.obey_signals()?);
        first::signals_are_handled();

        let server = tokio::select! {
            server = server::start(self.pg_bin.as_deref(), self.data, self.port) => server?,
            () = shutdown.draining() => return Ok(ExitCode::SUCCESS),
        };
        settings.database.url = server.url(DATABASE);
        settings.database.flows_url = None;
        let ran = serve(self.demo, &settings, &documents, &server, &shutdown).await;
        signals.abort();
        output::note("stopping the database");
        server.stop().await;
        ran
    }
}

/// Worker, flows, and what was asked for; everything is ended on return.
async fn serve(
    demo: bool,
    settings: &Settings,
    documents: &[flow::Document],
    server: &crate::postgres::embedded::Server,
    shutdown: &Shutdown,
) -> anyhow::Result<ExitCode> {
    server::create_database(server, DATABASE).await?;
    let database = Database::connect(settings).await?;
    database.ensure_schemas().await?;
    let store = flow::store(settings, &database);
    for document in documents {
        if !store.holds(&document.id, &document.data).await? {
            store.push(&document.id, &document.data, document.owner.as_deref()).await?;
        }
    }

    let worker = Worker::new(settings.clone()).with_shutdown(shutdown.clone()).on_stuck(exit::stuck);
    logs::without_secrets(worker.redactor());
    let status = worker.status();
    let mut listener = settings.admin.clone();
    let admin = match admin::start(&listener, status.clone()).await {
        Ok(admin) => admin,
        Err(error) => {
            tracing::info!(%error, "taking a free port instead");
            listener.listen.set_port(0);
            admin::start(&listener, status.clone()).await?
        }
    };
    let page = admin.address().map(|address| format!("http://{address}"));
    if !demo {
        invite(documents.len(), &settings.database.url, page.as_deref(), server.folder());
    }
    let mut worker = tokio::spawn(worker.run());
    let outcome = tokio::select! {
        all_good = demo::run(settings, &database.sysdb, page.as_deref()), if demo => all_good,
        () = shutdown.draining() => Ok(!demo), // a demo that is cut short has not shown what it should
        ended = &mut worker => return ended.context("the worker failed")?.map(|()| ExitCode::SUCCESS).map_err(Into::into),
    };
    shutdown.begin(Drain::Graceful);
    let ended = worker.await.context("the worker failed");
    admin.stop().await;
    ended??;
    Ok(if outcome? { ExitCode::SUCCESS } else { ExitCode::from(exit::FAILURE) })
}

fn invite(flows: usize, url: &str, page: Option<&str>, folder: &std::path::Path) {
    let program = std::env::args().next().unwrap_or_else(|| "fireflow-worker".into());
    output::line(format!(
        "\nThe worker runs, with {flows} flows loaded. Try in another terminal:\n\n  \
         export DATABASE_URL='{url}'\n  \
         {program} flow list\n  \
         {program} enqueue hello-world --input name=Ada --wait\n  \
         {program} enqueue shipping --input total=60 --wait\n  \
         psql \"$DATABASE_URL\" -c 'SELECT workflow_uuid, status, name FROM dbos.workflow_status'"
    ));
    if let Some(page) = page {
        output::line(format!("  curl {page}/status"));
    }
    output::line(format!("\nCtrl-C stops worker and database. The data stays in {}\n", folder.display()));
}
