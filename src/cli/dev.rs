//! `dev`: placeholder until the private server is wired in.
use std::process::ExitCode;
use clap::Args;
use super::Global;
/// Try everything on a private PostgreSQL.
#[derive(Debug, Args)]
pub struct Dev {}
impl Dev {
    pub(super) async fn run(self, _global: &Global) -> anyhow::Result<ExitCode> { Ok(ExitCode::SUCCESS) }
}
