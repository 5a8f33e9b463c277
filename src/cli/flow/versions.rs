//! Who may replace what is stored: a file that was made from it.
//!
//! A flow's row counts its versions, also those that an editor saves. A push replaces a row only while it is at the version
//! that the file was made from. Where that is known from: `--expect-version`; the file's `version`, which `flow pull`
//! writes; or a note in the stored flow that says which file its last push came from.

use std::path::Path;

use serde_json::{Value as Json, json};
use uuid::Uuid;

use super::file::Document;
use crate::execution::FlowRow;
use crate::flow::authoring::{self, Syntax};
use crate::flow::events::iso_now;
use crate::nodes::Registry;

/// What a push does.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Plan {
    /// Nothing: the stored flow says the same.
    Keep(i32),
    /// Make the row.
    Create,
    /// Replace this version.
    Replace(i32),
    /// Replace whatever is there.
    Force,
}

/// What the command line says of versions.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Wanted {
    pub expected: Option<i32>,
    pub force: bool,
}

/// Decide. An error says why the file may not be pushed, and the way out.
pub(super) fn plan(
    document: &Document,
    owner: Option<&str>,
    file: &Path,
    row: Option<&FlowRow>,
    wanted: Wanted,
    registry: &Registry,
) -> Result<Plan, String> {
    let id = &document.id;
    let Some(row) = row else {
        return match wanted.expected {
            Some(expected) if expected > 0 && !wanted.force => Err(format!(
                "flow {id:?} isn't stored, so there is no version {expected} to replace; push it without --expect-version"
            )),
            _ => Ok(Plan::Create),
        };
    };
    // An owner that the document names is compared with the rest of it.
    let same_owner = document.owner.is_some() || owner.is_none_or(|owner| row.owner.as_deref() == Some(owner));
    if same_owner && says_the_same(document, &row.data, registry) {
        return Ok(Plan::Keep(row.version));
    }
    if wanted.force {
        return Ok(Plan::Force);
    }
    let stored = row.version;
    let way_out = format!(
        "`fireflow-worker flow pull {id}` shows it; then push with `--expect-version {stored}`, or with `--force` to \
         replace whatever is stored"
    );
    match wanted.expected {
        Some(expected) if expected == stored => return Ok(Plan::Replace(stored)),
        Some(expected) => {
            return Err(format!("flow {id:?} is stored at version {stored}, not {expected}; {way_out}"));
        }
        None => {}
    }
    let pushed = &row.data["metadata"]["pushed"];
    let last_push_is_ours = pushed["version"] == stored && pushed["origin"] == origin(file);
    match document.version {
        Some(version) if version == stored => Ok(Plan::Replace(stored)),
        Some(version) if last_push_is_ours && pushed["from"] == version => Ok(Plan::Replace(stored)),
        None if last_push_is_ours => Ok(Plan::Replace(stored)),
        Some(version) => Err(format!(
            "flow {id:?} is stored at version {stored}, and the file was made from version {version}: it was changed in \
             between; {way_out}"
        )),
        None => Err(format!(
            "flow {id:?} is stored at version {stored}, and not from this file, which names no version that it was made \
             from; {way_out}"
        )),
    }
}

/// The document as it is stored: with a note on where it comes from, and dates where its form has none.
pub(super) fn stamped(document: &Document, file: &Path, row: Option<&FlowRow>) -> Json {
    let mut data = document.data.clone();
    let now = iso_now();
    let created = row.and_then(|row| row.data["metadata"]["createdAt"].as_str()).unwrap_or(&now).to_owned();
    if !data["metadata"].is_object() {
        data["metadata"] = json!({});
    }
    if document.authored {
        data["metadata"]["createdAt"] = created.as_str().into();
        data["metadata"]["updatedAt"] = now.as_str().into();
        data["createdAt"] = created.into();
        data["updatedAt"] = now.into();
    }
    data["metadata"]["pushed"] = json!({"origin": origin(file), "from": document.version, "version": 1});
    data
}

/// A name for a file on this machine that says nothing of either.
fn origin(file: &Path) -> String {
    let path = std::fs::canonicalize(file).unwrap_or_else(|_| file.to_owned());
    let place = format!("{}\0{}", gethostname::gethostname().to_string_lossy(), path.display());
    Uuid::new_v5(&Uuid::NAMESPACE_URL, place.as_bytes()).to_string()
}

/// Whether a push would change nothing but dates and versions: the same document, or one that reads the same as a file.
fn says_the_same(document: &Document, stored: &Json, registry: &Registry) -> bool {
    let own = bare(&document.data);
    if own == bare(stored) {
        return true;
    }
    if !document.authored {
        return false;
    }
    let Ok(raised) = authoring::raise(stored, registry) else { return false };
    let lowered = authoring::lower("", &raised.yaml(), Syntax::Yaml, registry);
    lowered.is_ok_and(|lowered| own == bare(&lowered.data))
}

/// A document without what each save changes.
fn bare(data: &Json) -> Json {
    let mut bare = data.clone();
    for key in ["createdAt", "updatedAt", "version"] {
        bare.as_object_mut().map(|data| data.remove(key));
        bare["metadata"].as_object_mut().map(|metadata| metadata.remove(key));
    }
    bare["metadata"].as_object_mut().map(|metadata| metadata.remove("pushed"));
    bare
}
