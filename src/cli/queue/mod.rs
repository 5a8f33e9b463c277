//! `queue …`: what stands on the queues, and pausing them.

mod pause;
mod show;

use std::process::ExitCode;

use clap::Subcommand;

use super::Global;

/// Show queues, pause and resume them.
#[derive(Debug, Subcommand)]
pub enum Queue {
    Show(show::Show),
    Pause(pause::Pause),
    Resume(pause::Resume),
}

impl Queue {
    pub(super) async fn run(self, global: &Global) -> anyhow::Result<ExitCode> {
        match self {
            Queue::Show(show) => show.run(global).await,
            Queue::Pause(pause) => pause.run(global).await,
            Queue::Resume(resume) => resume.run(global).await,
        }
    }
}
