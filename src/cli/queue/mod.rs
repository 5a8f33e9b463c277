//! `queue …`: what stands on the queues, and pausing them.

mod pause;
mod show;

use std::process::ExitCode;

use clap::Subcommand;

use super::Global;

/// Show queues, pause and resume them.
#[derive(Debug, Subcommand)]
pub enum Queue {
    /// Show what stands on queues, their limits and their pace
    Show(show::Show),
    /// Let no worker claim from a queue; what runs goes on
    Pause(pause::Pause),
    /// Let workers claim from a paused queue again
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
