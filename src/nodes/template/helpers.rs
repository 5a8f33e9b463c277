//! The helpers that give values: lookup, log, json, yaml and the cases of letters.

use super::render::RenderError;
use crate::flow::Value;
use crate::flow::text::{array_index, json_text, text_of, text_or_empty};
use crate::nodes::yaml;

/// Whether a name is that of a helper for values. (`if`, `each` and the like are blocks.)
pub(super) fn is_helper(name: &str) -> bool {
    matches!(name, "lookup" | "log" | "json" | "yaml" | "yml" | "uppercase" | "lowercase")
}

/// What a helper gives. Missing arguments are undefined; too many are ignored.
pub(super) fn call(name: &str, arguments: &[Value], logged: &mut Vec<String>) -> Result<Value, RenderError> {
    let first = arguments.first().unwrap_or(&Value::Undefined);
    Ok(match name {
        "lookup" if !first.is_truthy() && !arguments.is_empty() => first.clone(),
        "lookup" => match arguments {
            [_, name] => property(first, &text_of(name)),
            _ => return Err(RenderError::TwoArguments),
        },
        "log" => {
            let parts: Result<Vec<_>, _> = arguments.iter().map(log_text).collect();
            logged.push(parts?.join(" "));
            Value::Undefined
        }
        "json" | "yaml" | "yml" if matches!(first, Value::Undefined) => Value::Undefined,
        "json" => json_text(first, true)?.into(),
        "yaml" | "yml" => yaml::write(first, false)?.into(),
        "uppercase" => text_or_empty(first).to_uppercase().into(),
        "lowercase" => text_or_empty(first).to_lowercase().into(),
        _ => Value::Undefined,
    })
}

fn log_text(value: &Value) -> Result<String, RenderError> {
    match value {
        Value::Array(_) | Value::Object(_) => Ok(json_text(value, false)?),
        _ => Ok(crate::flow::text::text_of(value)),
    }
}

/// A value's property: a field, an item, a length.
pub(super) fn property(value: &Value, name: &str) -> Value {
    match value {
        Value::Null => Value::Null,
        Value::Object(fields) => fields.get(name).cloned().unwrap_or_default(),
        Value::Array(items) if name == "length" => Value::Number(items.len() as f64),
        Value::Array(items) => {
            array_index(name).and_then(|index| items.get(index as usize)).cloned().unwrap_or_default()
        }
        Value::String(text) if name == "length" => Value::Number(text.encode_utf16().count() as f64),
        Value::String(text) => match array_index(name).and_then(|index| text.encode_utf16().nth(index as usize)) {
            Some(unit) => String::from_utf16_lossy(&[unit]).into(),
            None => Value::Undefined,
        },
        _ => Value::Undefined,
    }
}
