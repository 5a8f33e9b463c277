//! One node from its stored form (the newer one), with what its class adds.

use std::sync::Arc;

use indexmap::IndexMap;
use serde_json::Value as JsonValue;

use super::config::{self, Place};
use super::decode::stored_or_default;
use crate::flow::model::{Direction, Json, Node, Port, PortConfig, PortKind, SYSTEM_PORTS, Status};
use crate::flow::problems::{Problem, ProblemKind};
use crate::flow::{Value, ports};
use crate::nodes::{Behaviour, NodeType, PortSpec, Registry};

/// Keys of the system ports' values, in the order of the system ports.
const SYSTEM_KEYS: [&str; 4] = ["execute", "success", "error", "errorMessage"];

/// Build a node. An error says in words why it cannot be part of the flow.
pub(super) fn build(stored: &Json, registry: &Registry, problems: &mut Vec<Problem>) -> Result<Node, String> {
    let id = text(stored, "id").ok_or("it has no id")?;
    let empty = Json::new();
    let metadata = stored.get("metadata").and_then(JsonValue::as_object).unwrap_or(&empty);
    let type_name = text(metadata, "type").or_else(|| text(stored, "type")).ok_or("it has no type")?;
    let node_type = registry.get(type_name).copied();

    let mut own = root_ports(id, stored, node_type.as_ref())?;
    own.sort_by(|a, b| order(a).total_cmp(&order(b)).then_with(|| a.config.id.cmp(&b.config.id)));
    let configs: IndexMap<_, _> = own.iter().map(|port| (port.config.key.clone(), port.config.clone())).collect();
    let mut all = system_ports(stored);
    all.append(&mut own);

    let flow_ports = metadata.get("flowPorts").and_then(JsonValue::as_object);
    let switch = |name: &str| flow_ports.and_then(|ports| ports.get(name)).and_then(JsonValue::as_bool);
    let class_listens = node_type.is_some_and(|known| known.disabled_auto_execution) && flow_ports.is_none();
    let category = text(metadata, "category").or(node_type.map(|known| known.category)).unwrap_or_default();
    let node = Node {
        position: 0,
        id: id.into(),
        type_name: type_name.into(),
        category: category.into(),
        node_type,
        ports: all,
        configs: Arc::new(configs),
        status: text(stored, "status").and_then(Status::read).unwrap_or_default(),
        version: metadata.get("version").and_then(JsonValue::as_f64).map_or(1, |version| version.max(0.0) as u64),
        parent: None,
        ignores_execute: switch("disabledFlowPorts").unwrap_or(false),
        listens: class_listens || switch("disabledAutoExecution").unwrap_or(false),
        head: head(id, type_name, metadata, class_listens).into(),
        connections: stored.get("connections").map_or_else(|| "{}".into(), |json| json.to_string().into()),
    };
    let problem = match node_type.map(|known| known.behaviour) {
        None => Some((ProblemKind::UnknownType, format!("this worker does not know the node type {type_name}"))),
        Some(Behaviour::Unavailable { service }) => {
            Some((ProblemKind::NeedsService, format!("{type_name} needs {service}, which this worker does not reach")))
        }
        Some(_) => None,
    };
    if let Some((kind, what)) = problem {
        problems.push(Problem::new(kind, id, format!("{what}; the node fails when it would run")));
    } else if let Some(connections) = stored.get("connections").and_then(JsonValue::as_object) {
        let missing = connections.keys().find(|port| ports::resolve(&node, 0, port).is_none());
        if let Some(port) = missing {
            return Err(format!("its connections name port {port}, which it does not have"));
        }
    }
    Ok(node)
}

/// The stored ports, and the class's for which nothing is stored.
fn root_ports(node_id: &str, stored: &Json, node_type: Option<&NodeType>) -> Result<Vec<Port>, String> {
    let specs = node_type.map_or(&[][..], |known| known.ports);
    let entries = || stored.get("ports").and_then(JsonValue::as_array).into_iter().flatten();
    let is_stored = |key: &str| {
        let mut configs = entries().filter_map(|entry| entry.get("config").and_then(JsonValue::as_object));
        configs.any(|config| text(config, "key").or_else(|| text(config, "id")) == Some(key))
    };
    let mut ports: IndexMap<Arc<str>, Port> = IndexMap::new();
    for (index, spec) in specs.iter().enumerate().filter(|(_, spec)| !is_stored(spec.key)) {
        let mut raw: Json = serde_json::from_str(spec.config)
            .map_err(|error| format!("class port {}: its configuration is no JSON object: {error}", spec.key))?;
        for (key, value) in [
            ("id", spec.key.into()),
            ("key", spec.key.into()),
            ("nodeId", node_id.into()),
            ("direction", spec.direction.as_str().into()),
            ("order", (index + 1).into()),
        ] {
            raw.insert(key.into(), value);
        }
        if spec.required {
            raw.insert("required".into(), true.into());
        }
        let place = Place { id: spec.key, key: spec.key, direction: spec.direction };
        let port = port(config::root(raw, &place)?, None)?;
        ports.insert(port.config.key.clone(), port);
    }
    for entry in entries() {
        if let Some(config) = stored_config(entry, specs)? {
            let port = port(config, entry.get("value"))?;
            ports.insert(port.config.key.clone(), port);
        }
    }
    Ok(ports.into_values().collect())
}

/// A stored port's configuration; none for system ports, which are stored elsewhere.
fn stored_config(entry: &JsonValue, specs: &[PortSpec]) -> Result<Option<PortConfig>, String> {
    let raw = entry.get("config").and_then(JsonValue::as_object).ok_or("one of its ports has no configuration")?;
    let key = text(raw, "key").or_else(|| text(raw, "id")).ok_or("one of its ports has neither id nor key")?;
    if SYSTEM_PORTS.contains(&key) {
        return Ok(None);
    }
    let spec = specs.iter().find(|spec| spec.key == key);
    let direction = spec.map_or(Direction::Passthrough, |spec| spec.direction);
    let place = Place { id: text(raw, "id").unwrap_or(key), key, direction };
    config::root(raw.clone(), &place).map(Some)
}

/// What is wrong with one port of a node's stored list.
pub(in crate::flow) enum PortFault {
    /// Its configuration.
    Config(String),
    /// Its value.
    Value(String),
}

/// Why a node can't be built with a port of its stored list.
pub(in crate::flow) fn port_fault(entry: &JsonValue, node_type: Option<&NodeType>) -> Option<PortFault> {
    let config = match stored_config(entry, node_type.map_or(&[][..], |known| known.ports)) {
        Ok(config) => config?,
        Err(why) => return Some(PortFault::Config(why)),
    };
    stored_or_default(entry.get("value"), &config).err().map(PortFault::Value)
}

fn port(config: PortConfig, stored: Option<&JsonValue>) -> Result<Port, String> {
    let value = stored_or_default(stored, &config)?;
    let captures = config.raw.get("ui").and_then(|ui| ui.get("nodeSchemaCapture")).and_then(|capture| {
        let enabled = capture.get("enabled").and_then(JsonValue::as_bool).unwrap_or(false);
        capture.get("capturedNodeId").and_then(JsonValue::as_str).filter(|_| enabled)
    });
    let captures = captures.map(Arc::from);
    let text = shown(&config, &value).into();
    Ok(Port { config: Arc::new(config), streams: value.holds_stream(), value, text, captures })
}

/// The four ports that every node has. Their values are what is stored, nothing included.
fn system_ports(stored: &Json) -> Vec<Port> {
    let values = stored.get("systemPorts");
    SYSTEM_PORTS
        .iter()
        .zip(SYSTEM_KEYS)
        .map(|(name, key)| {
            let value = values.and_then(|values| values.get(key)).and_then(|port| port.get("value"));
            let config = PortConfig {
                id: (*name).into(),
                key: (*name).into(),
                kind: if key == "errorMessage" { PortKind::String } else { PortKind::Boolean },
                direction: if key == "execute" { Direction::Input } else { Direction::Output },
                required: false,
                default: None,
                raw: Arc::default(),
            };
            let value = value.map_or(Value::Undefined, Value::from);
            Port { config: Arc::new(config), value, streams: false, text: Box::default(), captures: None }
        })
        .collect()
}

/// A port's configuration as events show it: the stored one, with the type's colours where it has none.
fn shown(config: &PortConfig, value: &Value) -> String {
    let (name, background, border) = match config.kind {
        PortKind::String => ("string", "#e70d0d", "#460707"),
        PortKind::Number => ("number", "#1f5eec", "#0c2454"),
        PortKind::Boolean => ("boolean", "#4cd53b", "#176510"),
        PortKind::Enum => ("enum", "#eedf3c", "#443f17"),
        PortKind::Array(_) => ("array", "#1acbe8", "#0f4852"),
        PortKind::Object(_) => ("object", "#e44df5", "#541e5d"),
        PortKind::Stream(_) => ("stream", "#ffa047", "#4b2e12"),
        PortKind::Secret => ("secret", "#008080", "#004040"),
        PortKind::Any(_) => ("any", "#cccccc", "#333333"),
    };
    let mut shown = Json::clone(&config.raw);
    shown.insert("type".into(), name.into());
    shown.insert("id".into(), config.id.as_ref().into());
    shown.insert("key".into(), config.key.as_ref().into());
    shown.insert("direction".into(), config.direction.as_str().into());
    if matches!(config.kind, PortKind::Enum) && !shown.contains_key("defaultValue") && value.is_truthy() {
        shown.insert("defaultValue".into(), value.to_json());
    }
    let ui = shown.entry("ui").or_insert_with(|| Json::new().into());
    if let Some(ui) = ui.as_object_mut() {
        ui.entry("bgColor").or_insert_with(|| background.into());
        ui.entry("borderColor").or_insert_with(|| border.into());
    }
    JsonValue::Object(shown).to_string()
}

/// The part of a node's snapshot ahead of its version.
fn head(id: &str, type_name: &str, metadata: &Json, class_listens: bool) -> String {
    let mut shown = metadata.clone();
    shown.shift_remove("version");
    shown.insert("type".into(), type_name.into());
    if class_listens {
        shown.insert("flowPorts".into(), serde_json::json!({"disabledAutoExecution": true}));
    }
    let mut metadata = JsonValue::Object(shown).to_string();
    metadata.pop(); // the closing brace: the version follows; the object is never empty, it has the type
    format!(r#""id":{},"type":{},"metadata":{metadata}"#, JsonValue::from(id), JsonValue::from(type_name))
}

fn order(port: &Port) -> f64 {
    port.config.raw.get("order").and_then(JsonValue::as_f64).unwrap_or(0.0)
}

fn text<'a>(json: &'a Json, key: &str) -> Option<&'a str> {
    json.get(key).and_then(JsonValue::as_str)
}
