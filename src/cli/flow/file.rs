//! Flows in files: as people write them (YAML, TOML), or in the stored form (JSON).

use std::path::Path;

use anyhow::{Context as _, anyhow, bail};
use serde_json::Value as Json;

use crate::flow::authoring::{self, Lowered, Syntax};
use crate::flow::{self, Source};
use crate::nodes::Registry;

/// Endings of files that hold a flow.
pub(in crate::cli) const ENDINGS: [&str; 4] = ["json", "toml", "yaml", "yml"];

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
    pub problems: Vec<flow::Problem>,
}

/// The syntax of a file as people write it; none for one in the stored form. JSON may be either.
pub(super) fn syntax(source: &str, text: &str) -> Option<Syntax> {
    let ending = Path::new(source).extension().unwrap_or_default().to_string_lossy().to_lowercase();
    match ending.as_str() {
        "yaml" | "yml" => Some(Syntax::Yaml),
        "toml" => Some(Syntax::Toml),
        // Nodes by name are the mark of the form that people write.
        _ => serde_json::from_str::<Json>(text).is_ok_and(|json| json["nodes"].is_object()).then_some(Syntax::Yaml),
    }
}

/// Read a flow, with an id, in either form.
pub(in crate::cli) fn parse(source: &str, text: &str, registry: &Registry) -> anyhow::Result<Document> {
    let (data, version, authored) = match syntax(source, text) {
        Some(syntax) => {
            let lowered = lower(source, text, syntax, registry)?;
            (lowered.data, lowered.version, true)
        }
        None => {
            let mut data: Json = serde_json::from_str(text).with_context(|| format!("{source}: not valid JSON"))?;
            // The version that `flow pull` wrote: what the document was made from, and no part of it.
            let version = data.as_object_mut().and_then(|data| data.shift_remove("version"));
            let version = version.and_then(|version| version.as_i64()).and_then(|version| i32::try_from(version).ok());
            (data, version, false)
        }
    };
    let loaded = flow::Flow::load(&data, registry).with_context(|| format!("{source}: not a flow"))?;
    let id = loaded.flow.id();
    if id.trim().is_empty() {
        bail!("{source}: the flow has no id; give it one at the top level: \"id\": \"my-flow\"");
    }
    Ok(Document {
        id: id.to_owned(),
        name: loaded.flow.name().to_owned(),
        owner: loaded.flow.owner_id().map(str::to_owned),
        version,
        authored,
        problems: loaded.problems,
        data,
    })
}

/// Lower a file as people write it; what is wrong with it is one error, a line each.
pub(super) fn lower(source: &str, text: &str, syntax: Syntax, registry: &Registry) -> anyhow::Result<Lowered> {
    authoring::lower(source, text, syntax, registry).map_err(|found| {
        let file = Source::new(source, text);
        anyhow!(found.iter().map(|found| found.line(&file)).collect::<Vec<_>>().join("\n"))
    })
}
