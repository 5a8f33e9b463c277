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
        // The library names a program with a hyphen in two ways, and so completes no words of its commands in bash (4.6.11).
        let script = String::from_utf8_lossy(&script).replace("fireflow__subcmd__worker", "fireflow__worker");
        output::file(None, &script, false)?;
        Ok(ExitCode::SUCCESS)
    }
}
