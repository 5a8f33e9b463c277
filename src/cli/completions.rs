//! `completions`: a script that lets a shell complete this program's words.

use std::process::ExitCode;

use clap::{Args, CommandFactory as _};
use clap_complete::{Shell, generate};

use super::{Cli, output};

/// Write a script that lets a shell complete commands and options.
///
/// For bash: `fireflow-worker completions bash > /etc/bash_completion.d/fireflow-worker`; for zsh into a file `_fireflow-worker` in a
/// folder of `$fpath`; for fish into `~/.config/fish/completions/fireflow-worker.fish`.
#[derive(Debug, Args)]
pub struct Completions {
    /// The shell
    shell: Shell,
}

impl Completions {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let mut script = Vec::new();
        generate(self.shell, &mut Cli::command(), "fireflow-worker", &mut script);
        output::file(None, &String::from_utf8_lossy(&script), false)?;
        Ok(ExitCode::SUCCESS)
    }
}
