//! Port configurations from their stored form.

use std::sync::Arc;

use indexmap::IndexMap;
use serde_json::Value as JsonValue;

use crate::flow::model::{Direction, Json, PortConfig, PortKind};

/// Keys whose content a parsed configuration holds in its `kind`.
const STRUCTURE: [&str; 3] = ["schema", "itemConfig", "underlyingType"];

/// Where a configuration stands.
pub(super) struct Place<'a> {
    pub id: &'a str,
    pub key: &'a str,
    pub direction: Direction,
}

/// Read a root port's configuration. The text of an error names what is wrong with it.
///
/// Recursion is bounded: the whole document's depth was checked before.
pub(super) fn root(raw: Json, place: &Place) -> Result<PortConfig, String> {
    let direction = raw.get("direction").and_then(JsonValue::as_str).and_then(Direction::read);
    let place = Place { direction: direction.unwrap_or(place.direction), ..*place };
    let mut config = parse(&raw, &place)?;
    config.raw = Arc::new(raw);
    Ok(config)
}

fn parse(raw: &Json, place: &Place) -> Result<PortConfig, String> {
    Ok(PortConfig {
        id: place.id.into(),
        key: place.key.into(),
        kind: kind(raw, place)?,
        direction: place.direction,
        required: raw.get("required").and_then(JsonValue::as_bool).unwrap_or(false),
        default: raw.get("defaultValue").cloned(),
        raw: Arc::default(),
    })
}

/// A configuration within another one.
fn child(raw: &JsonValue, place: &Place) -> Result<Arc<PortConfig>, String> {
    let raw = raw.as_object().ok_or_else(|| format!("port {}: its configuration is no object", place.id))?;
    let mut config = parse(raw, place)?;
    let own = raw.iter().filter(|(key, _)| !STRUCTURE.contains(&key.as_str()));
    config.raw = Arc::new(own.map(|(key, value)| (key.clone(), value.clone())).collect());
    Ok(Arc::new(config))
}

fn kind(raw: &Json, place: &Place) -> Result<PortKind, String> {
    let name = raw.get("type").and_then(JsonValue::as_str);
    let name = name.ok_or_else(|| format!("port {}: its configuration has no type", place.id))?;
    Ok(match name {
        "string" => PortKind::String,
        "number" => PortKind::Number,
        "boolean" => PortKind::Boolean,
        "enum" => PortKind::Enum,
        "array" => PortKind::Array(items(raw, place)?),
        "object" => PortKind::Object(fields(raw, place)?),
        "stream" => PortKind::Stream(items(raw, place)?),
        "secret" => PortKind::Secret,
        "any" => match raw.get("underlyingType").filter(|inner| !inner.is_null()) {
            Some(inner) => PortKind::Any(Some(child(inner, place)?)),
            None => PortKind::Any(None),
        },
        other => return Err(format!("port {}: its type {other:?} is not known", place.id)),
    })
}

fn items(raw: &Json, place: &Place) -> Result<Option<Arc<PortConfig>>, String> {
    let Some(items) = raw.get("itemConfig").filter(|items| !items.is_null()) else { return Ok(None) };
    let id = format!("{}[]", place.id);
    child(items, &Place { id: &id, key: "", direction: place.direction }).map(Some)
}

fn fields(raw: &Json, place: &Place) -> Result<IndexMap<Arc<str>, Arc<PortConfig>>, String> {
    let schema = raw.get("schema").and_then(JsonValue::as_object);
    let schema = schema.ok_or_else(|| format!("port {}: an object port needs a schema", place.id))?;
    let Some(properties) = schema.get("properties").and_then(JsonValue::as_object) else {
        return Ok(IndexMap::new());
    };
    let mut fields = IndexMap::with_capacity(properties.len());
    for (key, property) in properties {
        let id = format!("{}.{key}", place.id);
        let field = child(property, &Place { id: &id, key, direction: place.direction })?;
        fields.insert(Arc::from(key.as_str()), field);
    }
    Ok(fields)
}
