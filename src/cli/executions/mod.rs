//! `executions …`: what an operator asks about executions, and does with them.

mod cancel;
mod destination;
mod filter;
mod fork;
mod list;
mod parts;
mod report;
mod resume;
mod retry;
mod selection;
mod show;
mod tail;

use std::process::ExitCode;

use clap::Subcommand;

use super::Global;

/// List, show and follow executions; cancel, resume, retry and fork them.
#[derive(Debug, Subcommand)]
pub enum Executions {
    List(list::List),
    Show(show::Show),
    Cancel(cancel::Cancel),
    Resume(resume::Resume),
    Retry(retry::Retry),
    Fork(fork::Fork),
    Tail(tail::Tail),
}

impl Executions {
    pub(super) async fn run(self, global: &Global) -> anyhow::Result<ExitCode> {
        match self {
            Executions::List(list) => list.run(global).await,
            Executions::Show(show) => show.run(global).await,
            Executions::Cancel(cancel) => cancel.run(global).await,
            Executions::Resume(resume) => resume.run(global).await,
            Executions::Retry(retry) => retry.run(global).await,
            Executions::Fork(fork) => fork.run(global).await,
            Executions::Tail(tail) => tail.run(global).await,
        }
    }
}
