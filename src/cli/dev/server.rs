//! The private server of `dev`.

use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::{
    cli::output,
    postgres::{
        self, Statements,
        embedded::{Data, Options, Programs, Server},
    },
};

/// Find the programs, and start the server on its folder.
pub(super) async fn start(pg_bin: Option<&Path>, data: Option<PathBuf>, port: Option<u16>) -> anyhow::Result<Server> {
    let programs = programs(pg_bin).await?;
    let folder = data.map_or_else(data_folder, Ok)?;
    output::note(format!("starting PostgreSQL {} in {}", programs.major, folder.display()));
    Ok(Server::start(Options { programs, data: Data::Kept(folder), port }).await?)
}

/// Create the database, unless an earlier run did.
pub(super) async fn create_database(server: &Server, name: &str) -> anyhow::Result<()> {
    let settings = postgres::Settings { pool_size: 1, ..postgres::Settings::new(server.url("postgres").parse()?) };
    let pool = postgres::connect(&settings).await?;
    let client = pool.get().await?;
    if Statements::query_opt(&client, "SELECT FROM pg_database WHERE datname = $1", &[&name]).await?.is_none() {
        client.batch_execute(&format!("CREATE DATABASE {name}")).await?;
    }
    Ok(())
}

#[cfg(feature = "download")]
async fn programs(explicit: Option<&Path>) -> anyhow::Result<Programs> {
    use crate::postgres::embedded::{Progress, locate_or_download};

    let bar = indicatif::ProgressBar::new_spinner();
    let programs = locate_or_download(explicit, |progress| {
        bar.enable_steady_tick(std::time::Duration::from_millis(100));
        let text = match progress {
            Progress::Downloading(url) => format!("no PostgreSQL found; downloading one from {url}"),
            Progress::Unpacking(folder) => format!("unpacking into {}", folder.display()),
        };
        match bar.is_hidden() {
            true => output::note(text), // no terminal
            false => bar.set_message(text),
        }
    })
    .await;
    bar.finish_and_clear();
    Ok(programs?)
}

#[cfg(not(feature = "download"))]
async fn programs(explicit: Option<&Path>) -> anyhow::Result<Programs> {
    Ok(crate::postgres::embedded::locate(explicit)?)
}

/// Root's home is closed to the account that the server runs as, so root's data lives where services have theirs.
fn data_folder() -> anyhow::Result<PathBuf> {
    if rustix::process::geteuid().is_root() {
        return Ok("/var/lib/fireflow-worker/dev".into());
    }
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let base = variable("XDG_DATA_HOME").or_else(|| Some(variable("HOME")?.join(".local/share")));
    let base = base.context("neither XDG_DATA_HOME nor HOME is set; name a folder with --data DIR")?;
    Ok(base.join("fireflow-worker/dev"))
}
