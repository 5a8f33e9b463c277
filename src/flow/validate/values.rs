//! Stored values against their ports' types: what loads as something else than it says, and enum values that are no
//! option. Values that keep a node from loading are found with the nodes.

use serde_json::Value as JsonValue;

use super::view::{View, below, own_ports, port_key};
use crate::flow::model::{PortConfig, PortKind};

/// Findings in one value; a long list of wrong items is one mistake.
const MOST: usize = 5;

pub(super) fn check(view: &mut View) {
    for (index, node) in view.flow.nodes.iter().enumerate() {
        for (port, entry) in view.stored_ports(node).iter().enumerate() {
            let Some(key) = port_key(entry) else { continue };
            let Some(position) = node.port_index(key) else { continue };
            let Some(own) = node.ports.get(position) else { continue };
            let Some(value) = entry.get("value") else { continue };
            let at = format!("/nodes/{}/ports/{port}/value", node.position);
            let mut found = Vec::new();
            look(value, &own.config, &at, &mut found);
            for (at, what) in found {
                let message = format!("node {:?}, port {key}: {what}", &*node.id);
                view.report("bad-value", &at, message)
                    .hint(format!("it would be taken for an empty list; write {}", wanted("array")));
            }
        }
        for (position, own) in own_ports(node) {
            if !view.is_fed(index, position) {
                option(view, index, position, &own.config);
            }
        }
    }
}

/// What a port of a type takes, in words.
pub(super) fn wanted(kind: &str) -> &'static str {
    match kind {
        "string" => "a text",
        "number" => "a number",
        "boolean" => "true or false",
        "enum" => "the id of one of its options, a text",
        "array" => "a list: [...]",
        "object" => "an object: {...}",
        "stream" => "a stream: {\"type\": \"stream\", \"buffer\": [...], \"isClosed\": true}",
        _ => "what its type says",
    }
}

/// Lists that are none. Recursion ends with the configuration's depth, which is bounded.
fn look(value: &JsonValue, config: &PortConfig, at: &str, found: &mut Vec<(String, String)>) {
    if found.len() >= MOST || value.is_null() {
        return;
    }
    match (&config.kind, value) {
        (PortKind::Array(Some(items)), JsonValue::Array(stored)) => {
            for (index, item) in stored.iter().enumerate() {
                look(item, items, &format!("{at}/{index}"), found);
            }
        }
        (PortKind::Array(_), JsonValue::Array(_)) => {}
        (PortKind::Array(_), other) => {
            found.push((at.to_owned(), format!("{} is no list", short(other))));
        }
        (PortKind::Object(fields), JsonValue::Object(stored)) => {
            for (key, field) in fields {
                if let Some(value) = stored.get(key.as_ref()) {
                    look(value, field, &below(at, key), found);
                }
            }
        }
        (PortKind::Any(Some(inner)), value) => look(value, inner, at, found),
        _ => {}
    }
}

/// The value of an enum port is one of its options.
fn option(view: &mut View, node: usize, position: usize, config: &PortConfig) {
    if !matches!(config.kind, PortKind::Enum) {
        return;
    }
    let known = &view.flow.nodes[node];
    let value = known.ports[position].value.as_str().filter(|value| !value.is_empty());
    let Some(value) = value.map(str::to_owned) else { return };
    let stored = config.raw.get("options").map(ids).filter(|ids| !ids.is_empty());
    let own = || {
        let spec = known.node_type?.ports.iter().find(|spec| *spec.key == *config.key)?;
        let class: JsonValue = serde_json::from_str(spec.config).ok()?;
        Some(ids(class.get("options")?))
    };
    let Some(options) = stored.or_else(own).filter(|options| !options.is_empty()) else { return };
    if options.contains(&value) {
        return;
    }
    let message = format!("node {:?}, port {}: {value:?} is no option", &*known.id, config.key);
    let hint = view.instead(&value, "options", options.iter().map(String::as_str));
    let at = view.at_value(node, &config.key);
    view.report("no-option", &at, message).hint(hint);
}

fn ids(options: &JsonValue) -> Vec<String> {
    let options = options.as_array().into_iter().flatten();
    let id = |option: &JsonValue| match option {
        JsonValue::String(id) => Some(id.clone()),
        option => option.get("id").and_then(JsonValue::as_str).map(str::to_owned),
    };
    options.filter_map(id).collect()
}

fn short(value: &JsonValue) -> String {
    match value {
        JsonValue::Object(_) => "an object".into(),
        JsonValue::String(_) => "a text".into(),
        other => other.to_string(),
    }
}
