//! Port values from their stored form, by the port's type.

use std::sync::Arc;

use serde_json::Value as JsonValue;

use crate::flow::Value;
use crate::flow::model::{PortConfig, PortKind};
use crate::flow::number::{number_text, read_number};
use crate::flow::stream::Channel;
use crate::flow::value::{Object, in_javascript_order};

/// The value of a port that stores `stored`; its default where nothing is stored, undefined where there is none
/// either. An any port's default counts only when it is truthy. An error names the port.
///
/// Recursion is bounded: the whole document's depth was checked before.
pub(super) fn stored_or_default(stored: Option<&JsonValue>, config: &PortConfig) -> Result<Value, String> {
    if let Some(stored) = stored {
        return decode(Some(stored), config);
    }
    let default = match (&config.kind, &config.default) {
        (PortKind::Any(_), Some(default)) if !Value::from(default).is_truthy() => None,
        (_, default) => default.as_ref(),
    };
    match (&config.kind, default) {
        (PortKind::Object(_), None) if config.required => Ok(Value::empty_object()),
        (_, None) => Ok(Value::Undefined),
        (_, Some(default)) => decode(Some(default), config),
    }
}

/// Read a stored value as the port's type has it.
pub(in crate::flow) fn decode(stored: Option<&JsonValue>, config: &PortConfig) -> Result<Value, String> {
    let nothing = stored.is_none_or(JsonValue::is_null);
    let unfit = |what: &str| Err(format!("port {}: its stored value is no {what}", config.id));
    match (&config.kind, stored) {
        (PortKind::String | PortKind::Enum, _) if nothing => Ok(Value::from("")),
        (PortKind::String, Some(JsonValue::String(text))) => Ok(Value::from(text.as_str())),
        (PortKind::String, Some(JsonValue::Number(number))) => {
            Ok(Value::from(number_text(number.as_f64().unwrap_or(f64::NAN))))
        }
        (PortKind::String, _) => unfit("text"),
        (PortKind::Enum, Some(JsonValue::String(text))) => Ok(Value::from(text.as_str())),
        (PortKind::Enum, _) => unfit("option's id"),
        (PortKind::Number, _) if nothing => Ok(Value::Undefined),
        (PortKind::Number, Some(JsonValue::Number(number))) => {
            Ok(number.as_f64().map_or(Value::Undefined, Value::from))
        }
        (PortKind::Number, Some(JsonValue::String(text))) => match read_number(text) {
            Some(number) if !text.trim().is_empty() => Ok(Value::Number(number)),
            _ => unfit("number"),
        },
        (PortKind::Number, _) => unfit("number"),
        (PortKind::Boolean, _) if nothing => Ok(Value::Bool(false)),
        (PortKind::Boolean, Some(JsonValue::Bool(flag))) => Ok(Value::Bool(*flag)),
        (PortKind::Boolean, _) => unfit("flag"),
        (PortKind::Array(items), Some(JsonValue::Array(stored))) => list(stored, items.as_deref()).map(Value::from),
        (PortKind::Array(_), _) => Ok(Value::from(Vec::new())),
        (PortKind::Object(fields), Some(JsonValue::Object(stored))) => object(stored, fields),
        (PortKind::Object(_), _) if nothing && config.required => Ok(Value::empty_object()),
        (PortKind::Object(_), _) if nothing => Ok(Value::Undefined),
        (PortKind::Object(_), _) => unfit("object"),
        (PortKind::Stream(items), Some(stored)) if !nothing => stream(stored, items.as_deref(), config),
        (PortKind::Stream(_) | PortKind::Secret, _) => Ok(stored.map_or(Value::Undefined, Value::from)),
        (PortKind::Any(Some(inner)), Some(stored)) if !nothing => decode(Some(stored), inner),
        (PortKind::Any(_), _) => Ok(stored.map_or(Value::Undefined, Value::from)),
    }
}

fn list(stored: &[JsonValue], items: Option<&PortConfig>) -> Result<Vec<Value>, String> {
    match items {
        Some(config) => stored.iter().map(|item| decode(Some(item), config)).collect(),
        None => Ok(stored.iter().map(Value::from).collect()),
    }
}

/// Fields that the schema names come first, in its order; absent ones have their defaults; others are kept.
fn object(
    stored: &serde_json::Map<String, JsonValue>,
    fields: &indexmap::IndexMap<Arc<str>, Arc<PortConfig>>,
) -> Result<Value, String> {
    let mut object = Object::with_capacity(stored.len());
    for (key, config) in fields {
        let value = match stored.get(key.as_ref()) {
            Some(value) => decode(Some(value), config)?,
            None => match &config.default {
                Some(default) => decode(Some(default), config)?,
                None => Value::Undefined,
            },
        };
        if !matches!(value, Value::Undefined) {
            object.insert(key.clone(), value);
        }
    }
    for (key, value) in stored {
        if !fields.contains_key(key.as_str()) {
            object.insert(key.as_str().into(), value.into());
        }
    }
    Ok(Value::from(in_javascript_order(object)))
}

fn stream(stored: &JsonValue, items: Option<&PortConfig>, config: &PortConfig) -> Result<Value, String> {
    let buffer = match stored.get("buffer") {
        Some(JsonValue::Array(buffer)) => list(buffer, items)?,
        Some(_) => return Err(format!("port {}: the stored stream's buffer is no list", config.id)),
        None => Vec::new(),
    };
    let closed = stored.get("isClosed").and_then(JsonValue::as_bool).unwrap_or(false);
    Ok(Value::Stream(Channel::with_items(buffer, closed)))
}
