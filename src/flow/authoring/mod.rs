//! Flows as people write them: YAML or TOML that says what an editor would draw, and nothing that follows from it.
//!
//! [`lower`] turns a file into the stored form, with the place of each part; `raise` writes a stored flow as such a
//! file. Names of nodes become their ids, so that the same file always gives the same flow. docs/authoring.md has the form.

mod document;
mod infer;
mod layout;
mod links;
mod lower;
mod reading;
mod reference;
mod shape;
#[cfg(test)]
mod tests;
mod toml;
mod tree;
mod types;
mod yaml;

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
    if text.len() > MAX_LENGTH {
        let message = format!("the file is longer than {} MiB", MAX_LENGTH >> 20);
        return Err(vec![Diagnostic::error("too-large", message)]);
    }
    let tree = match syntax {
        Syntax::Yaml => yaml::read(text)?,
        Syntax::Toml => toml::read(text)?,
    };
    lower::lower(name, text, &tree, registry)
}
