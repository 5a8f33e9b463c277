//! The older form of stored nodes (ports in a map, ids with random suffixes), rewritten as the newer form.

use std::collections::HashMap;

use serde_json::Value as JsonValue;
use serde_json::json;

use crate::flow::model::{Json, SYSTEM_PORTS};

/// New port ids by (node, old port id), for the nodes that were rewritten.
#[derive(Default)]
pub(super) struct Renamed(HashMap<String, HashMap<String, String>>);

impl Renamed {
    /// Whether the node was in the older form.
    pub fn knows(&self, node: &str) -> bool {
        self.0.contains_key(node)
    }

    /// The port's new id.
    pub fn port(&self, node: &str, old: &str) -> Option<&str> {
        self.0.get(node)?.get(old).map(String::as_str)
    }
}

/// Whether a node is stored in the older form.
pub(super) fn is_old(node: &Json) -> bool {
    node.get("schemaVersion").and_then(JsonValue::as_str) != Some("v2")
        && node.get("ports").is_some_and(JsonValue::is_object)
}

/// Rewrite all nodes that are in the older form, in place.
pub(super) fn modernise(nodes: &mut [JsonValue]) -> Renamed {
    let mut renamed = Renamed::default();
    let old = |node: &JsonValue| node.as_object().is_some_and(is_old);
    for node in nodes.iter().filter(|node| old(node)) {
        if let Some(id) = node.get("id").and_then(JsonValue::as_str) {
            renamed.0.insert(id.to_owned(), new_ids(ports_of(node)));
        }
    }
    for node in nodes.iter_mut().filter(|node| old(node)) {
        if let Some(id) = node.get("id").and_then(JsonValue::as_str) {
            let id = id.to_owned();
            rewrite(node, &id, &renamed);
        }
    }
    renamed
}

fn ports_of(node: &JsonValue) -> impl Iterator<Item = (&String, &Json)> {
    let ports = node.get("ports").and_then(JsonValue::as_object);
    ports.into_iter().flatten().filter_map(|(id, port)| Some((id, port.get("config")?.as_object()?)))
}

fn new_ids<'a>(ports: impl Iterator<Item = (&'a String, &'a Json)>) -> HashMap<String, String> {
    let configs: HashMap<&str, &Json> = ports.map(|(id, config)| (id.as_str(), config)).collect();
    let mut new: HashMap<String, String> = HashMap::with_capacity(configs.len());
    for start in configs.keys() {
        // Up to the first ancestor that has its name already, then down again, so that depth costs no stack.
        let mut chain: Vec<&str> = Vec::new();
        let mut at = *start;
        while !new.contains_key(at) && chain.len() <= configs.len() {
            chain.push(at);
            match configs.get(at).and_then(|config| text(config, "parentId")) {
                Some(parent) if configs.contains_key(parent) => at = parent,
                _ => break,
            }
        }
        if chain.len() > configs.len() {
            continue; // ports that are each other's parents have no name
        }
        for id in chain.into_iter().rev() {
            let config = configs[id];
            let key = text(config, "key").filter(|key| !key.is_empty());
            let parent = text(config, "parentId").and_then(|parent| Some((configs.get(parent)?, new.get(parent)?)));
            let name = match (parent, key) {
                (Some((parent, name)), Some(key)) if text(parent, "type") == Some("array") => format!("{name}[{key}]"),
                (Some((_, name)), Some(key)) => format!("{name}.{key}"),
                (None, Some(key)) if is_system(config) && !key.starts_with("__") => format!("__{key}"),
                (None, Some(key)) => key.to_owned(),
                (_, None) => id.split(":PO").next().unwrap_or(id).to_owned(),
            };
            new.insert(id.to_owned(), name);
        }
    }
    new
}

fn is_system(config: &Json) -> bool {
    let marked = config.get("metadata").and_then(|metadata| metadata.get("isSystemPort"));
    marked.and_then(JsonValue::as_bool).unwrap_or(false)
}

fn rewrite(node: &mut JsonValue, node_id: &str, renamed: &Renamed) {
    let mut system = Json::new();
    let mut roots: Vec<JsonValue> = Vec::new();
    let mut connections = Json::new();
    let stored = node.get("ports").and_then(JsonValue::as_object).cloned().unwrap_or_default();
    for (old, port) in stored {
        let Some(config) = port.get("config").and_then(JsonValue::as_object) else { continue };
        let Some(id) = renamed.port(node_id, &old) else { continue };
        let mut config = config.clone();
        if let Some(JsonValue::Array(ends)) = config.get_mut("connections") {
            ends.iter_mut().for_each(|end| rename_end(end, renamed));
            if !ends.is_empty() {
                connections.insert(id.to_owned(), JsonValue::Array(ends.clone()));
            }
        }
        let value = port.get("value");
        if SYSTEM_PORTS.contains(&id) {
            let mut entry = json!({ "id": id });
            if let (Some(value), Some(entry)) = (value, entry.as_object_mut()) {
                entry.insert("value".into(), value.clone());
            }
            system.insert(id.trim_start_matches('_').to_owned(), entry);
        } else if text(&config, "parentId").is_none_or(str::is_empty) {
            config.insert("id".into(), id.into());
            config.insert("key".into(), id.into());
            let mut entry = json!({ "config": config });
            if let (Some(value), Some(entry)) = (value, entry.as_object_mut()) {
                entry.insert("value".into(), value.clone());
            }
            roots.push(entry);
        }
    }
    if let Some(node) = node.as_object_mut() {
        node.insert("ports".into(), JsonValue::Array(roots));
        node.insert("systemPorts".into(), JsonValue::Object(system));
        node.insert("connections".into(), JsonValue::Object(connections));
        node.insert("schemaVersion".into(), "v2".into());
    }
}

fn rename_end(end: &mut JsonValue, renamed: &Renamed) {
    let node = end.get("nodeId").and_then(JsonValue::as_str);
    let port = end.get("portId").and_then(JsonValue::as_str);
    let new = node.zip(port).and_then(|(node, port)| renamed.port(node, port)).map(JsonValue::from);
    if let (Some(new), Some(end)) = (new, end.as_object_mut()) {
        end.insert("portId".into(), new);
    }
}

fn text<'a>(json: &'a Json, key: &str) -> Option<&'a str> {
    json.get(key).and_then(JsonValue::as_str)
}
