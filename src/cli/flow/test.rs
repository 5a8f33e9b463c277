//! `flow test`: run cases, and compare with what they expect.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::Args;
use futures_util::{StreamExt as _, stream};
use serde_json::{Value as Json, json};

use crate::cli::output;
use crate::cli::output::Tone;
use crate::flow::authoring::{self, Syntax};
use crate::flow::cases::{Case, CaseError, Difference, STREAM_SOURCE};
use crate::nodes::{Registry, RunContext};

/// Cases that run at the same time: few, since some measure how long they take.
const AT_ONCE: usize = 4;

/// Run cases of flows, and compare with what they expect. No database is needed.
///
/// A case is a file in JSON, YAML or TOML: `flow` (a flow, or the name of its file), `run` (inputs, event, options, a server for its
/// requests) and `expect` (outputs, emitted events, statuses and values of nodes, and more). docs/flow-tests.md has the form.
#[derive(Debug, Args)]
pub struct Test {
    /// Cases, or folders of them
    #[arg(required = true, value_name = "CASE")]
    cases: Vec<PathBuf>,
    /// Write JSON
    #[arg(long)]
    json: bool,
}

/// Differences of a case that are shown; later ones mostly follow from earlier ones.
const SHOWN: usize = 8;

/// How a case ended.
struct Report {
    file: PathBuf,
    name: String,
    quirk: bool,
    outcome: Result<Vec<Difference>, CaseError>,
}

impl Test {
    pub(super) async fn run(self) -> anyhow::Result<ExitCode> {
        let mut files = Vec::new();
        for path in &self.cases {
            let before = files.len();
            collect(path, &mut files).with_context(|| format!("{}: can't read the folder", path.display()))?;
            if files.len() == before {
                bail!(
                    "{}: no cases here; a case is a .json, .yaml or .toml file with `flow` and `expect`",
                    path.display()
                );
            }
        }
        let mut registry = Registry::standard();
        registry.register(STREAM_SOURCE);
        let context = RunContext::default();
        let mut reports =
            stream::iter(files.into_iter().map(|file| check(file, &registry, &context))).buffered(AT_ONCE);
        let (mut lines, mut passed, mut failed, mut quirks) = (Vec::new(), 0, 0, 0);
        while let Some(report) = reports.next().await {
            match report.status() {
                "passed" => passed += 1,
                "quirk" => quirks += 1,
                _ => failed += 1,
            }
            if self.json {
                lines.push(report.json());
            } else {
                report.print();
            }
        }
        let total = passed + failed + quirks;
        if self.json {
            output::json(&json!({
                "cases": lines, "total": total, "passed": passed, "failed": failed, "quirks": quirks,
            }))?;
        } else {
            let quirks = if quirks > 0 { format!(", {quirks} quirks not reproduced") } else { String::new() };
            output::line(format!("\n{total} cases: {passed} passed, {failed} failed{quirks}"));
        }
        Ok(ExitCode::from(u8::from(failed > 0)))
    }
}

/// A case's file, or all in a folder and the folders in it, by name.
fn collect(path: &Path, files: &mut Vec<PathBuf>) -> std::io::Result<()> {
    if !path.is_dir() {
        files.push(path.to_owned());
        return Ok(());
    }
    let found = path.read_dir()?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>();
    let mut found = found?;
    found.sort();
    for inner in found {
        if inner.is_dir() || may_be_case(&inner) {
            collect(&inner, files)?;
        }
    }
    Ok(())
}

/// Flows may lie beside their cases: an object without expectations is none.
fn may_be_case(file: &Path) -> bool {
    let ending = file.extension().unwrap_or_default().to_string_lossy().to_lowercase();
    let read = |syntax| authoring::content(&std::fs::read_to_string(file).ok()?, syntax).ok();
    let content = match ending.as_str() {
        "json" => std::fs::read(file).ok().and_then(|bytes| serde_json::from_slice::<Json>(&bytes).ok()),
        "yaml" | "yml" => read(Syntax::Yaml),
        "toml" => read(Syntax::Toml),
        _ => return false,
    };
    content.is_none_or(|content| !content.is_object() || content.get("expect").is_some())
}

async fn check(file: PathBuf, registry: &Registry, context: &RunContext) -> Report {
    let stem = || file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    match Case::load(&file) {
        Ok(case) => {
            let outcome = case.check(registry, context).await;
            Report { name: case.name, quirk: case.quirk, outcome, file }
        }
        Err(error) => Report { name: stem(), quirk: false, outcome: Err(error), file },
    }
}

impl Report {
    fn status(&self) -> &'static str {
        match &self.outcome {
            Ok(differences) if differences.is_empty() => "passed",
            Ok(_) if self.quirk => "quirk",
            _ => "failed",
        }
    }

    fn json(&self) -> Json {
        let differences = self.outcome.as_deref().unwrap_or_default().iter();
        let differences = differences.map(
            |difference| json!({"path": difference.path, "expected": difference.expected, "found": difference.found}),
        );
        let mut report = json!({
            "name": self.name,
            "file": self.file.display().to_string(),
            "status": self.status(),
            "differences": differences.collect::<Vec<_>>(),
        });
        if let Err(error) = &self.outcome {
            report["error"] = error.to_string().into();
        }
        report
    }

    fn print(&self) {
        let (word, tone) = match self.status() {
            "passed" => ("ok   ", Tone::Good),
            "quirk" => ("quirk", Tone::Odd),
            _ => ("FAIL ", Tone::Bad),
        };
        output::line(format!("{} {}", output::paint(word, tone), self.name));
        match &self.outcome {
            Ok(differences) => {
                for difference in differences.iter().take(SHOWN) {
                    output::line(format!("      {}", difference.path));
                    output::line(format!("        expected {}", difference.expected));
                    output::line(format!("        found    {}", difference.found));
                }
                if differences.len() > SHOWN {
                    output::line(format!("      and {} more; --json has all", differences.len() - SHOWN));
                }
            }
            Err(error) => output::line(format!("      {}: {error}", self.file.display())),
        }
    }
}
