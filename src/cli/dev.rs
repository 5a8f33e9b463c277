//! `dev`: placeholder until the private server is wired in.
use super::Global;
use clap::Args;
use std::process::ExitCode;
/// Try everything on a private PostgreSQL.
#[derive(Debug, Args)]
pub struct Dev {}
impl Dev {
    pub(super) async fn run(self, _global: &Global) -> anyhow::Result<ExitCode> {
        Ok(ExitCode::SUCCESS)
    }
}
