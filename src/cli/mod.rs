//! The command line: one file a subcommand, and output.
//!
//! stdout is data, stderr is talk. Exit codes: 0 done, 1 refused or failed, 2 wrong usage, 3 and 4 how an execution ended that was
//! followed, 69 database unreachable, 70 a bug, 71 the lease ended under executions that can't be stopped, 75 another worker
//! holds the id, 78 bad configuration.

mod access;
mod cells;
mod check;
mod completions;
mod confirm;
mod dev;
mod doctor;
mod drain;
mod enqueue;
mod executions;
mod exit;
mod first;
mod flow;
mod gc;
mod grants;
mod healthcheck;
mod logs;
mod man;
mod migrate;
mod output;
mod queue;
mod reload;
mod run;
mod trouble;
mod watch;
mod workers;

use std::{
    ffi::OsString,
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    process::ExitCode,
};

use clap::{Args, Parser, Subcommand};

use crate::{
    config::{self, ConfigError, Settings},
    postgres::DatabaseUrl,
};

/// Executes Fireflow flows from a DBOS queue in PostgreSQL.
///
/// `fireflow-worker --config worker.toml` runs the worker until SIGTERM; `fireflow-worker dev --demo` shows it at work
/// on a private database, with nothing to set up.
#[derive(Debug, Parser)]
#[command(
    name = "fireflow-worker",
    version,
    arg_required_else_help = true,
    subcommand_negates_reqs = true,
    after_help = "Exit codes: 0 done, 1 refused or failed, 2 wrong usage, 3 cancelled, 4 parked (executions tail), \
                  69 database unreachable, 70 a bug, 71 the lease ended under executions that can't be stopped, 75 another live worker holds the id, 78 bad configuration."
)]
pub struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Option<Command>,
}

/// Settings that every command takes.
#[derive(Clone, Debug, Args)]
pub struct Global {
    /// Configuration file (TOML). Without one, environment and defaults apply.
    #[arg(long, short, global = true, value_name = "FILE", env = "FIREFLOW_CONFIG")]
    config: Option<PathBuf>,
    /// PostgreSQL URL; wins over the file and DATABASE_URL.
    #[arg(long, global = true, value_name = "URL", hide_env_values = true)]
    database_url: Option<String>,
    /// What to log: error, warn, info, debug, trace, or directives.
    #[arg(long, global = true, value_name = "LEVEL")]
    log_level: Option<String>,
}

/// What each says of itself stands at its type: a word here would hide it.
#[derive(Debug, Subcommand)]
enum Command {
    Run(run::Run),
    Dev(dev::Dev),
    Migrate(migrate::Migrate),
    Grants(grants::Grants),
    Check(check::Check),
    Healthcheck(healthcheck::Healthcheck),
    Enqueue(enqueue::Enqueue),
    #[command(subcommand)]
    Flow(flow::Flow),
    #[command(subcommand)]
    Executions(executions::Executions),
    #[command(subcommand)]
    Queue(queue::Queue),
    Workers(workers::Workers),
    Drain(drain::Drain),
    Doctor(doctor::Doctor),
    Gc(gc::Gc),
    Completions(completions::Completions),
    Man(man::Man),
}

impl Global {
    /// The settings from all layers.
    fn settings(&self, more: config::Overrides) -> Result<Settings, ConfigError> {
        let mut flags = more;
        flags.extend(self.database_url.clone().map(|url| ("database.url", url)));
        flags.extend(self.log_level.clone().map(|level| ("log.level", level)));
        let (settings, _) = config::load(self.config.as_deref(), std::env::vars(), flags)?;
        // A process's arguments are for all to read, its environment isn't.
        let given = self.database_url.as_deref().and_then(|url| url.parse::<DatabaseUrl>().ok());
        if given.is_some_and(|url| url.has_password()) {
            output::note(
                "warning: the password in --database-url can be seen by every user of this machine (ps); give the URL by \
                 DATABASE_URL, or the password by database.password_file",
            );
        }
        Ok(settings)
    }
}

/// Parse, run, and say how it ended.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    first::obey_signals();
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    // One provider for all TLS of the process; an error only says that there is one already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return exit::report(&anyhow::anyhow!("can't start the runtime: {error}")),
    };
    // The panic has been reported by the time that it gets here.
    match catch_unwind(AssertUnwindSafe(|| runtime.block_on(dispatch(cli)))) {
        Ok(Ok(code)) => code,
        Ok(Err(error)) => exit::report(&error),
        Err(_) => ExitCode::from(exit::BUG),
    }
}

async fn dispatch(cli: Cli) -> anyhow::Result<ExitCode> {
    let global = cli.global;
    match cli.command.unwrap_or_else(|| Command::Run(run::Run::default())) {
        Command::Run(command) => command.run(&global).await,
        Command::Dev(command) => command.run(&global).await,
        Command::Migrate(command) => command.run(&global).await,
        Command::Grants(command) => command.run(&global).await,
        Command::Check(command) => command.run(&global).await,
        Command::Healthcheck(command) => command.run(&global).await,
        Command::Enqueue(command) => command.run(&global).await,
        Command::Flow(command) => command.run(&global).await,
        Command::Doctor(command) => command.run(&global).await,
        Command::Gc(command) => command.run(&global).await,
        Command::Completions(command) => command.run(),
        Command::Man(command) => command.run(),
        Command::Executions(command) => command.run(&global).await,
        Command::Queue(command) => command.run(&global).await,
        Command::Workers(command) => command.run(&global).await,
        Command::Drain(command) => command.run(&global).await,
    }
}
