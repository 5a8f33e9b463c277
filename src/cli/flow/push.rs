//! `flow push`: store flows from files.

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Context as _, bail};
use clap::Args;
use serde_json::json;

use super::file::{document, in_folder};
use super::versions::{Plan, Wanted, plan, stamped};
use super::{findings, read, store};
use crate::cli::{Global, output};
use crate::{flow::validate, nodes::Registry, worker::Database};

/// Store flows from files.
///
/// A flow that is stored already is replaced only when the file was made from what is stored: the file names its version
/// (`version`, as `flow pull` writes it), or the last push of the flow came from this same file. A flow that says the same
/// as what is stored isn't stored again.
#[derive(Debug, Args)]
pub struct Push {
    /// Files, each with one flow: YAML or TOML as people write it, or the stored form (JSON); or folders of such files
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Owner, where the flow's metadata names none
    #[arg(long, value_name = "ID")]
    owner: Option<String>,
    /// Store flows with errors as well
    #[arg(long)]
    no_validate: bool,
    /// Replace exactly this stored version, and no other; 0: store only what isn't there yet
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(0..), conflicts_with = "force")]
    expect_version: Option<i32>,
    /// Replace whatever is stored
    #[arg(long)]
    force: bool,
    /// Write JSON
    #[arg(long)]
    json: bool,
}

impl Push {
    pub(super) async fn run(self, global: &Global) -> anyhow::Result<ExitCode> {
        let settings = global.settings(Vec::new())?;
        let registry = Registry::standard();
        // All files first: a bad one stores nothing.
        let (mut documents, mut refused) = (Vec::new(), Vec::new());
        let mut files = Vec::new();
        for path in &self.files {
            if path.is_dir() { files.extend(in_folder(path)?) } else { files.push(path.clone()) }
        }
        for file in &files {
            let read = read(file, &registry)?;
            let source = read.source.name().to_owned();
            let checked = validate::check(&read, &registry);
            findings::print(&read.source, &checked, findings::Stream::Err);
            if checked.has_errors() && !self.no_validate {
                refused.push(source);
                continue;
            }
            let document = document(read, &registry)?;
            if documents.iter().any(|(.., other, _): &(_, _, super::Document, _)| other.id == document.id) {
                bail!("{source}: flow {:?} stands in another of the files as well", document.id);
            }
            documents.push((file, source, document, checked.findings.len() + checked.left_out));
        }
        if !refused.is_empty() {
            bail!("nothing is stored, for the errors in {}; --no-validate stores all the same", refused.join(", "));
        }
        let database = Database::connect(&settings).await?;
        let store = store(&settings, &database);
        let wanted = Wanted { expected: self.expect_version, force: self.force };
        let mut plans = Vec::new();
        for (file, source, document, _) in &documents {
            let owner = document.owner.as_deref().or(self.owner.as_deref());
            let row = store.row(&document.id).await.with_context(|| format!("{source}: not stored"))?;
            let plan = plan(document, owner, file, row.as_ref(), wanted, &registry);
            let plan = plan.map_err(|refusal| anyhow::anyhow!("{source}: not stored: {refusal}"))?;
            plans.push((plan, stamped(document, file, row.as_ref()), owner));
        }
        let mut pushed = Vec::new();
        for ((_, source, document, warnings), (plan, data, owner)) in documents.iter().zip(plans) {
            let id = &document.id;
            let changed = !matches!(plan, Plan::Keep(_));
            let version = match plan {
                Plan::Keep(version) => Ok(Some(version)),
                Plan::Create => store.create(id, &data, owner).await,
                Plan::Replace(version) => store.replace(id, &data, owner, version).await,
                Plan::Force => store.push(id, &data, owner).await.map(Some),
            };
            let version = version.with_context(|| format!("{source}: not stored"))?;
            let Some(version) = version else {
                bail!(
                    "{source}: not stored: somebody else stored flow {id:?} at the same moment; push again to see what there is"
                );
            };
            if !self.json {
                let note = if changed { "" } else { "  (unchanged)" };
                output::line(format!("{id} version {version}  {}{note}", document.name));
            }
            pushed.push(json!({"id": id, "version": version, "changed": changed, "warnings": warnings}));
        }
        if self.json {
            output::json(&pushed)?;
        }
        Ok(ExitCode::SUCCESS)
    }
}
