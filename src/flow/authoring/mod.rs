//! Flows as people write them: YAML or TOML that says what an editor would draw, and nothing that follows from it.
//!
//! [`lower`] turns a file into the stored form, with the place of each part; [`raise`] writes a stored flow as such a
//! file. Names of nodes become their ids, so that the same file always gives the same flow. docs/authoring.md has the form.

mod describe;
mod document;
mod equal;
#[cfg(test)]
mod findings;
mod infer;
mod layout;
mod links;
mod lower;
mod names;
mod raise;
mod reading;
mod reference;
#[cfg(test)]
mod round_trip;
mod schema;
mod shape;
#[cfg(test)]
mod tests;
mod toml;
mod tree;
mod types;
mod words;
mod write;
mod yaml;

pub use raise::{Raised, raise};
pub use schema::schema;

use super::model::Json;
use super::{Diagnostic, Source};
use crate::nodes::Registry;

/// What a file is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Syntax {
    /// YAML 1.2; JSON is YAML.
    Yaml,
    /// TOML 1.0.
    Toml,
}

/// A flow in the stored form, and where its parts stand in the file.
#[derive(Clone, Debug)]
pub struct Lowered {
    /// As the flows table stores it.
    pub data: serde_json::Value,
    /// The file, with the bytes of each part of `data`.
    pub source: Source,
    /// The stored version that the file says it was made from.
    pub version: Option<i32>,
}

/// The longest text that is read.
const MAX_LENGTH: usize = 8 << 20;

/// Lower a file to the stored form. The name is the file's, for messages.
///
/// What a node's type says of its ports is looked up; whether types and ports exist isn't judged here, but on what comes
/// out.
///
/// # Errors
/// All that is wrong with the form, each with its place.
pub fn lower(name: &str, text: &str, syntax: Syntax, registry: &Registry) -> Result<Lowered, Vec<Diagnostic>> {
    lower::lower(name, text, &read(text, syntax)?, registry)
}

/// A file's content as it stands, without comments and places.
///
/// # Errors
/// What is wrong with its syntax.
pub fn content(text: &str, syntax: Syntax) -> Result<serde_json::Value, Vec<Diagnostic>> {
    Ok(read(text, syntax)?.to_json())
}

fn read(text: &str, syntax: Syntax) -> Result<tree::Tree, Vec<Diagnostic>> {
    if text.len() > MAX_LENGTH {
        let message = format!("the file is longer than {} MiB", MAX_LENGTH >> 20);
        return Err(vec![Diagnostic::error("too-large", message)]);
    }
    match syntax {
        Syntax::Yaml => yaml::read(text),
        Syntax::Toml => toml::read(text),
    }
}

/// A file's content in YAML.
pub fn yaml_text(document: &Json) -> String {
    write::yaml(document)
}

/// A file's content in TOML.
///
/// # Errors
/// It holds a null, which TOML can't say.
pub fn toml_text(document: &Json) -> Result<String, ::toml::ser::Error> {
    write::toml(document)
}
