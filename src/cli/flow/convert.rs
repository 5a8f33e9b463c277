//! `flow convert`: a flow's file in another form.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use serde_json::{Map, Value as Json};

use super::file::lower;
use crate::cli::output;
use crate::flow::{authoring, syntax};
use crate::nodes::Registry;

/// What a flow is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Form {
    /// As people write it, in YAML
    Yaml,
    /// As people write it, in TOML
    Toml,
    /// As the flows table stores it
    Json,
}

/// Write a flow's file in another form. No database is needed.
///
/// From YAML or TOML to what is stored (JSON), from what is stored to a file for people, or between YAML and TOML. Comments
/// are not carried over.
#[derive(Debug, Args)]
pub struct Convert {
    /// The flow's file
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// What to write; without it, by the ending of --output, else JSON from YAML and TOML, and YAML from JSON
    #[arg(long, value_enum)]
    to: Option<Form>,
    /// The file to write, in place of stdout
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Replace a file that is there
    #[arg(long)]
    force: bool,
}

impl Form {
    /// The form that a file's ending names.
    pub(super) fn of(file: &Path) -> Option<Form> {
        match file.extension()?.to_str()?.to_lowercase().as_str() {
            "yaml" | "yml" => Some(Form::Yaml),
            "toml" => Some(Form::Toml),
            "json" => Some(Form::Json),
            _ => None,
        }
    }
}

impl Convert {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let source = self.file.display().to_string();
        let text = super::file::text(&self.file)?;
        let registry = Registry::standard();
        let from = syntax(&source, &text);
        let usual = if from.is_some() { Form::Json } else { Form::Yaml };
        let to = self.to.or_else(|| Form::of(self.output.as_deref()?)).unwrap_or(usual);
        let converted = match from {
            Some(syntax) => {
                let lowered = lower(&source, &text, syntax, &registry)?;
                match to {
                    Form::Json => format!("{:#}\n", lowered.data),
                    // The same words in the other syntax, and not what would be raised from what they lower to.
                    _ => match authoring::content(&text, syntax) {
                        Ok(Json::Object(document)) => written(&document, to)?,
                        _ => String::new(), // it was lowered, so it is a map
                    },
                }
            }
            None => {
                let data: Json = serde_json::from_str(&text).with_context(|| format!("{source}: not valid JSON"))?;
                if to == Form::Json {
                    format!("{data:#}\n")
                } else {
                    let raised = authoring::raise(&data, &registry).with_context(|| format!("{source}: not a flow"))?;
                    for loss in &raised.losses {
                        output::note(format!("warning: {source}: not in the file: {loss}"));
                    }
                    written(&raised.document, to)?
                }
            }
        };
        output::file(self.output.as_deref(), &converted, self.force)?;
        Ok(ExitCode::SUCCESS)
    }
}

/// A file for people, as text.
pub(super) fn written(document: &Map<String, Json>, form: Form) -> anyhow::Result<String> {
    match form {
        Form::Toml => {
            authoring::toml_text(document).context("this can't be said in TOML, which has no null; take YAML")
        }
        _ => Ok(authoring::yaml_text(document)),
    }
}
