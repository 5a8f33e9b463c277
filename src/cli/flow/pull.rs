//! `flow pull`: a stored flow as a file.

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Context as _, bail};
use clap::Args;

use super::convert::{Form, written};
use super::store;
use crate::cli::{Global, output};
use crate::{flow::authoring, nodes::Registry, worker::Database};

/// Write a stored flow as a file to edit; `flow push` takes it back, and knows by its `version` what it was made from.
#[derive(Debug, Args)]
pub struct Pull {
    /// The flow's id
    #[arg(value_name = "ID")]
    id: String,
    /// The file to write, in place of stdout
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// The file's form; without it, by the file's ending, or YAML
    #[arg(long, value_enum)]
    to: Option<Form>,
    /// Replace a file that is there
    #[arg(long)]
    force: bool,
}

impl Pull {
    pub(super) async fn run(self, global: &Global) -> anyhow::Result<ExitCode> {
        let settings = global.settings(Vec::new())?;
        let database = Database::connect(&settings).await?;
        let row = store(&settings, &database).row(&self.id).await.context("can't read the flow")?;
        let Some(row) = row else {
            bail!("there is no flow \"{}\"; `fireflow-worker flow list` shows the ones there are", self.id);
        };
        let form = self.to.or_else(|| Form::of(self.output.as_deref()?)).unwrap_or(Form::Yaml);
        let text = match form {
            Form::Json => {
                let mut data = row.data;
                if let Some(metadata) = data["metadata"].as_object_mut() {
                    metadata.remove("pushed");
                }
                data["version"] = row.version.into();
                format!("{:#}\n", data)
            }
            Form::Yaml | Form::Toml => {
                let raised = authoring::raise(&row.data, &Registry::standard())
                    .with_context(|| format!("flow \"{}\" can't be loaded", self.id))?;
                for loss in &raised.losses {
                    output::note(format!("warning: not in the file: {loss}"));
                }
                let mut document = raised.document;
                document.shift_insert(1, "version".into(), row.version.into());
                written(&document, form)?
            }
        };
        output::file(self.output.as_deref(), &text, self.force)?;
        Ok(ExitCode::SUCCESS)
    }
}
