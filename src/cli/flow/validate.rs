//! `flow validate`: find errors in flows before they run.

use std::{path::PathBuf, process::ExitCode};

use clap::Args;

use super::{findings, read};
use crate::cli::{exit, output};
use crate::flow::{Severity, validate};
use crate::nodes::Registry;

/// Find errors in flows before they run. No database is needed.
///
/// docs/validation.md lists what is looked for.
#[derive(Debug, Args)]
pub struct Validate {
    /// Files, each with one flow
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Let warnings count as errors
    #[arg(long)]
    strict: bool,
    /// Write the findings as a JSON list, for editors
    #[arg(long)]
    json: bool,
}

impl Validate {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let registry = Registry::standard();
        let (mut bad, mut listed) = (false, Vec::new());
        for file in &self.files {
            let document = read(file, &registry)?;
            let mut checked = validate::check(&document, &registry);
            if self.strict {
                checked.findings.iter_mut().for_each(|finding| finding.severity = Severity::Error);
            }
            bad |= checked.has_errors();
            if self.json {
                listed.extend(checked.findings.iter().map(|finding| findings::json(&document.source, finding)));
                continue;
            }
            findings::print(&document.source, &checked, findings::Stream::Out);
            let nodes = checked.flow.as_ref().map_or(0, |flow| flow.node_count());
            let edges = checked.flow.as_ref().map_or(0, |flow| flow.edge_count());
            let found = findings::count(&checked.findings);
            let found = found.unwrap_or_else(|| format!("no findings in {nodes} nodes and {edges} edges"));
            output::line(format!("{}: {found}", document.source.name()));
        }
        if self.json {
            output::json(&listed)?;
        }
        Ok(ExitCode::from(if bad { exit::FAILURE } else { 0 }))
    }
}
