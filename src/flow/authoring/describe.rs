//! Configurations of ports as a file declares them: the reverse of [`super::types`].

use serde_json::{Map, Value as Json, json};

use super::types::{PLAIN_KEYS, empty};
use crate::flow::model::{Json as Object, PortConfig};
use crate::nodes::PortSpec;

/// A type: its name where that says it all, else a map.
pub(super) fn config(stored: &Object) -> Json {
    let name = stored.get("type").and_then(Json::as_str).unwrap_or("any");
    let mut written = Object::new();
    written.insert("type".into(), name.into());
    let part = |key: &str| stored.get(key).filter(|part| !part.is_null());
    match name {
        "object" => {
            let properties = part("schema").and_then(|schema| schema.get("properties")?.as_object());
            written.insert("fields".into(), properties.map(fields).unwrap_or_default().into());
        }
        "array" | "stream" => {
            let items = part("itemConfig").and_then(Json::as_object).map_or_else(|| "any".into(), config);
            if let Some(items) = items.as_str() {
                let text = if name == "array" { format!("{items}[]") } else { format!("stream<{items}>") };
                written.insert("type".into(), text.into());
            } else {
                written.insert("items".into(), items);
            }
        }
        "enum" => {
            let options = part("options").and_then(Json::as_array).into_iter().flatten();
            let option = |option: &Json| {
                let id = option["id"].as_str();
                let plain = id.is_some() && *option == json!({"id": id, "type": "string", "defaultValue": id});
                if plain { option["id"].clone() } else { option.clone() }
            };
            written.insert("options".into(), options.map(option).collect());
        }
        "secret" => {
            written.extend(part("secretType").map(|secret| ("secret".to_owned(), secret.clone())));
        }
        "any" => {
            let inner = part("underlyingType").and_then(Json::as_object);
            written.extend(inner.map(|inner| ("of".to_owned(), config(inner))));
        }
        _ => {}
    }
    if let Some(required) = part("required").filter(|required| **required == true) {
        written.insert("required".into(), required.clone());
    }
    if written.len() == 1 && name != "secret" { written.remove("type").unwrap_or_default() } else { written.into() }
}

fn fields(properties: &Map<String, Json>) -> Map<String, Json> {
    let field = |(key, stored): (&String, &Json)| {
        let empty_config = Object::new();
        let stored = stored.as_object().unwrap_or(&empty_config);
        let written = config(stored);
        let name = stored.get("type").and_then(Json::as_str).unwrap_or("any");
        let usual = if name == "stream" { None } else { empty(name) };
        let default = stored.get("defaultValue");
        if default.map(Json::to_string) == usual.map(|usual| usual.to_string()) {
            return (key.clone(), written);
        }
        let mut written = match written {
            Json::Object(written) => written,
            name => Object::from_iter([("type".to_owned(), name)]),
        };
        written.insert("default".into(), default.cloned().unwrap_or_default());
        (key.clone(), written.into())
    };
    properties.iter().map(field).collect()
}

/// A root port's whole declaration.
pub(super) fn root(config: &PortConfig, class: Option<&PortSpec>) -> Object {
    let mut written = match self::config(&config.raw) {
        Json::Object(written) => written,
        name => Object::from_iter([("type".to_owned(), name)]),
    };
    if class.is_none_or(|spec| spec.direction != config.direction) {
        written.insert("direction".into(), config.direction.as_str().into());
    }
    if class.is_some_and(|spec| spec.required != config.required) {
        written.insert("required".into(), config.required.into());
    }
    let usual: Object = class.and_then(|spec| serde_json::from_str(spec.config).ok()).unwrap_or_default();
    for key in PLAIN_KEYS {
        let skipped = ["required", "order", "ui", "isOptional"].contains(&key) || config.raw.get(key) == usual.get(key);
        if let (false, Some(value)) = (skipped, config.raw.get(key).filter(|value| !value.is_null())) {
            written.insert(key.into(), value.clone());
        }
    }
    if let Some(capture) = config.raw.get("ui").and_then(|ui| ui.get("nodeSchemaCapture")) {
        written.insert("ui".into(), json!({"nodeSchemaCapture": capture}));
    }
    written
}

/// What a stored configuration adds to its class's, besides the type.
pub(super) fn plain_extras(stored: &Object, class: &PortSpec) -> Object {
    let class: Object = serde_json::from_str(class.config).unwrap_or_default();
    let mut written = Object::new();
    for key in ["name", "title", "description", "min", "max", "step", "integer", "minLength", "maxLength", "pattern"] {
        let value = stored.get(key).filter(|value| !value.is_null() && **value != "");
        if let Some(value) = value.filter(|value| class.get(key) != Some(value)) {
            written.insert(key.into(), value.clone());
        }
    }
    written
}
