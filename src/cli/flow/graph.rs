//! `flow graph`: draw a flow.

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Context as _, bail};
use clap::{Args, ValueEnum};

use super::{findings, read};
use crate::cli::output;
use crate::flow::{Flow, draw, validate};
use crate::nodes::Registry;

/// Draw a flow. No database is needed.
#[derive(Debug, Args)]
pub struct Graph {
    /// File with a flow
    file: PathBuf,
    /// What to write
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
    /// File to write, instead of stdout
    #[arg(long, short, value_name = "OUT")]
    output: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    /// For a terminal: layer by layer, with where the ports lead
    Text,
    /// A picture
    Svg,
    /// A flowchart for Markdown
    Mermaid,
    /// A digraph for Graphviz
    Dot,
}

impl Graph {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let registry = Registry::standard();
        let file = read(&self.file, &registry)?;
        let name = file.source.name();
        let Some(data) = &file.data else {
            findings::print(&file.source, &validate::check(&file, &registry), findings::Stream::Err);
            bail!("{name}: there is no flow to draw");
        };
        let loaded = Flow::load(data, &registry).with_context(|| format!("{name}: not a flow"))?;
        for problem in &loaded.problems {
            output::note(format!("warning: {name}: {problem}"));
        }
        let format = match self.format {
            Format::Text => draw::Format::Text,
            Format::Svg => draw::Format::Svg,
            Format::Mermaid => draw::Format::Mermaid,
            Format::Dot => draw::Format::Dot,
        };
        let drawing = draw::draw(&loaded.flow, format);
        match &self.output {
            Some(path) => std::fs::write(path, drawing).with_context(|| format!("{}: can't write", path.display()))?,
            None => output::line(drawing.trim_end_matches('\n')),
        }
        Ok(ExitCode::SUCCESS)
    }
}
