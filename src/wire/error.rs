//! Why a payload was not read.

use super::{Format, MAX_PAYLOAD_BYTES, PickleError};

/// A row whose format this worker does not read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UnknownFormat {
    /// The column names a serializer of another language or an application's own.
    #[error(
        "serialization `{0}` is not one of js_superjson, portable_json, py_pickle, rust_serde: \
         enqueue the workflow as portable JSON"
    )]
    Named(String),
    /// The column is NULL and the payload looks like none of the known formats.
    #[error(
        "the row names no serialization and its payload is neither JSON nor a base64 pickle: \
         enqueue the workflow as portable JSON"
    )]
    Shape,
}

impl UnknownFormat {
    /// Keeps a bounded part of the name, since it is foreign text on its way to a log.
    pub(super) fn named(name: &str) -> UnknownFormat {
        UnknownFormat::Named(name.chars().take(64).collect())
    }
}

/// A payload that can't be read as its format.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// Longer than what is read at all.
    #[error("{format} payload of {bytes} bytes is longer than the {MAX_PAYLOAD_BYTES} bytes that are read")]
    TooLarge {
        /// The format it was to be read as.
        format: Format,
        /// Its length.
        bytes: usize,
    },
    /// Not JSON, or nested too deeply.
    #[error("{format} payload is not readable JSON: {source}")]
    Json {
        /// The format it was to be read as.
        format: Format,
        /// Where and why.
        source: serde_json::Error,
    },
    /// JSON or a pickle, but not of the form that inputs have.
    #[error("{format} inputs: expected {expected}, found {found}")]
    Shape {
        /// The format it was to be read as.
        format: Format,
        /// What should stand there, and where.
        expected: &'static str,
        /// What kind of value stands there.
        found: &'static str,
    },
    /// Not a pickle, or one with more than plain data in it.
    #[error(transparent)]
    Pickle(#[from] PickleError),
}

/// The kind of a JSON value, for error texts: kinds, not contents, since contents may be secret.
pub(super) fn kind_of(value: &serde_json::Value) -> &'static str {
    use serde_json::Value;
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}
