//! `portable_json`: plain JSON, inputs in an object of `positionalArgs` and `namedArgs`.

use serde_json::{Map, Value};

use super::error::kind_of;
use super::{Arguments, DecodeError, Format, json};

/// Reads inputs. Either key may be missing or null, and unknown keys are ignored, as the SDKs do.
pub fn decode_inputs(text: &str) -> Result<Arguments, DecodeError> {
    let wrong =
        |expected, found: &Value| DecodeError::Shape { format: Format::Portable, expected, found: kind_of(found) };
    let mut fields = match json::decode(Format::Portable, text)? {
        Value::Object(fields) => fields,
        other => return Err(wrong("an object with `positionalArgs` and `namedArgs`", &other)),
    };
    let positional = match fields.remove("positionalArgs") {
        Some(Value::Array(items)) => items,
        None | Some(Value::Null) => Vec::new(),
        Some(other) => return Err(wrong("an array in `positionalArgs`", &other)),
    };
    let named = match fields.remove("namedArgs") {
        Some(Value::Object(named)) => named,
        None | Some(Value::Null) => Map::new(),
        Some(other) => return Err(wrong("an object in `namedArgs`", &other)),
    };
    Ok(Arguments { positional, named })
}

/// Writes inputs with both keys.
pub fn encode_inputs(arguments: &Arguments) -> String {
    let mut fields = Map::new();
    fields.insert("positionalArgs".into(), Value::Array(arguments.positional.clone()));
    fields.insert("namedArgs".into(), Value::Object(arguments.named.clone()));
    Value::Object(fields).to_string()
}
