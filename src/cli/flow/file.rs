//! Flows in files: as people write them (YAML, TOML), or in the stored form (JSON).

use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow, bail};
use serde_json::Value as Json;

use crate::flow::authoring::{self, Lowered, Syntax};
use crate::flow::{self, Diagnostic, FlowFile, Source};
use crate::nodes::Registry;

/// Endings of files that hold a flow.
const ENDINGS: [&str; 4] = ["json", "toml", "yaml", "yml"];

/// A flow read from a file, and what is worth a warning.
pub(in crate::cli) struct Document {
    pub id: String,
    pub name: String,
    pub owner: Option<String>,
    pub data: Json,
    /// The stored version that the file says it was made from.
    pub version: Option<i32>,
    /// Whether it was written by hand, and not in the stored form.
    pub authored: bool,
    #[cfg_attr(not(test), expect(dead_code, reason = "the examples' test reads it; commands show findings"))]
    pub problems: Vec<flow::Problem>,
}

/// Larger files hold no flow.
const LARGEST: u64 = 256 << 20;

/// The files with flows in a folder, by name.
pub(in crate::cli) fn in_folder(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .with_context(|| format!("{}: can't read the folder", folder.display()))?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|ending| ENDINGS.iter().any(|known| *known == ending)))
        .collect();
    files.sort();
    if files.is_empty() {
        bail!("{}: no flows (*.yaml, *.toml, *.json) there", folder.display());
    }
    Ok(files)
}

/// Read a flow's file, for all commands that take one.
pub(super) fn read(file: &Path, registry: &Registry) -> anyhow::Result<FlowFile> {
    Ok(FlowFile::read(&file.display().to_string(), &text(file)?, registry))
}

/// The text of a file that may be a flow.
pub(super) fn text(file: &Path) -> anyhow::Result<String> {
    let name = file.display();
    let size = std::fs::metadata(file).with_context(|| format!("{name}: can't read"))?.len();
    if size > LARGEST {
        bail!("{name}: {size} bytes are too many for a flow; the limit is {LARGEST}");
    }
    std::fs::read_to_string(file).with_context(|| format!("{name}: can't read"))
}

/// Read a flow, with an id, in either form.
pub(in crate::cli) fn parse(source: &str, text: &str, registry: &Registry) -> anyhow::Result<Document> {
    document(FlowFile::read(source, text, registry), registry)
}

/// A flow that can be stored, from its file.
pub(super) fn document(file: FlowFile, registry: &Registry) -> anyhow::Result<Document> {
    let Some(data) = file.data else {
        bail!(lines(&file.source, &file.findings));
    };
    let source = file.source.name();
    let loaded = flow::Flow::load(&data, registry).with_context(|| format!("{source}: not a flow"))?;
    let id = loaded.flow.id();
    if id.trim().is_empty() {
        bail!("{source}: the flow has no id; give it one at the top level: \"id\": \"my-flow\"");
    }
    Ok(Document {
        id: id.to_owned(),
        name: loaded.flow.name().to_owned(),
        owner: loaded.flow.owner_id().map(str::to_owned),
        version: file.version,
        authored: file.authored,
        problems: loaded.problems,
        data,
    })
}

/// Lower a file as people write it; what is wrong with it is one error, a line each.
pub(super) fn lower(source: &str, text: &str, syntax: Syntax, registry: &Registry) -> anyhow::Result<Lowered> {
    authoring::lower(source, text, syntax, registry).map_err(|found| anyhow!(lines(&Source::new(source, text), &found)))
}

fn lines(source: &Source, found: &[Diagnostic]) -> String {
    found.iter().map(|found| found.line(source)).collect::<Vec<_>>().join("\n")
}
