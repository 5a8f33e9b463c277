//! `py_pickle`: a Python pickle in base64.
//!
//! A pickle is a program for a stack machine, and the full machine can call any Python function. This room has
//! its own reader for the part that builds plain data ([`read`](read::read)), which refuses every opcode that
//! names a class or calls one, and a writer for JSON values.

mod build;
mod error;
mod opcode;
mod read;
mod text;
mod write;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Map, Value};

pub use error::PickleError;

use super::error::kind_of;
use super::{Arguments, DecodeError, Failure, Format};

/// Reads inputs: a dict of `args` and `kwargs`.
pub fn decode_inputs(text: &str) -> Result<Arguments, DecodeError> {
    let wrong =
        |expected, found: &Value| DecodeError::Shape { format: Format::Pickle, expected, found: kind_of(found) };
    let mut fields = match decode_value(text)? {
        Value::Object(fields) => fields,
        other => return Err(wrong("a dict of `args` and `kwargs`", &other)),
    };
    let positional = match fields.remove("args") {
        Some(Value::Array(items)) => items,
        other => return Err(wrong("a tuple in `args`", &other.unwrap_or_default())),
    };
    let named = match fields.remove("kwargs") {
        Some(Value::Object(named)) => named,
        None | Some(Value::Null) => Map::new(),
        Some(other) => return Err(wrong("a dict in `kwargs`", &other)),
    };
    Ok(Arguments { positional, named })
}

/// Reads a value.
pub fn decode_value(text: &str) -> Result<Value, PickleError> {
    let bytes = BASE64.decode(text.trim())?;
    build::value(&read::read(&bytes, read::Objects::Refuse)?)
}

/// Reads an exception by its class's name and its first argument, without making one.
pub fn decode_error(text: &str) -> Option<Failure> {
    let bytes = BASE64.decode(text.trim()).ok()?;
    build::failure(&read::read(&bytes, read::Objects::Describe).ok()?)
}

/// Writes inputs.
pub fn encode_inputs(arguments: &Arguments) -> String {
    BASE64.encode(write::inputs(arguments))
}

/// Writes a value.
pub fn encode_value(value: &Value) -> String {
    BASE64.encode(write::value(value))
}

/// Writes a plain `Exception`: the only class that every reader of the row is sure to have.
pub fn encode_error(message: &str) -> String {
    BASE64.encode(write::exception(message))
}
