//! `man`: the manual, one page a command, made from what the commands say of themselves.

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Context as _, bail};
use clap::{Args, Command, CommandFactory as _};
use clap_mangen::Man as Page;

use super::{Cli, output};

/// Write the manual: a page of section 1 for each command.
///
/// Without --dir, one page goes to stdout: `fireflow-worker man flow push | man -l -`.
#[derive(Debug, Args)]
pub struct Man {
    /// The command whose page is written; default: the program's own
    #[arg(value_name = "COMMAND", conflicts_with = "dir")]
    command: Vec<String>,
    /// Write all pages into this folder, as fireflow-worker-COMMAND.1
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

impl Man {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let mut root = Cli::command().disable_help_subcommand(true);
        root.build();
        let Some(dir) = &self.dir else {
            let mut command = &root;
            for word in &self.command {
                let Some(next) = command.find_subcommand(word) else {
                    let known: Vec<&str> = command.get_subcommands().map(Command::get_name).collect();
                    bail!("{word}: no command of {}; there are: {}", name(command), known.join(", "));
                };
                command = next;
            }
            output::file(None, &page(command)?, false)?;
            return Ok(ExitCode::SUCCESS);
        };
        std::fs::create_dir_all(dir).with_context(|| format!("{}: can't make this folder", dir.display()))?;
        let mut commands = vec![&root];
        let mut count = 0;
        while let Some(command) = commands.pop() {
            commands.extend(command.get_subcommands().filter(|command| !command.is_hide_set()));
            output::file(Some(&dir.join(format!("{}.1", name(command)))), &page(command)?, true)?;
            count += 1;
        }
        output::note(format!("wrote {count} pages into {}", dir.display()));
        Ok(ExitCode::SUCCESS)
    }
}

/// `fireflow-worker-flow-push`
fn name(command: &Command) -> String {
    command.get_display_name().unwrap_or_else(|| command.get_name()).to_owned()
}

fn page(command: &Command) -> anyhow::Result<String> {
    let page = Page::new(command.clone())
        .title(name(command))
        .section("1")
        .source(format!("fireflow-worker {}", env!("CARGO_PKG_VERSION")))
        .manual("fireflow-worker");
    let mut text = Vec::new();
    page.render(&mut text)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}
