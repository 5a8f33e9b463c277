//! A node as events show it: the stored form with its present status, version and values.

use std::io::Write;
use std::sync::Arc;

use serde::ser::{SerializeMap, SerializeStruct};
use serde::{Serialize, Serializer};

use super::model::{ERROR, ERROR_MESSAGE, EXECUTE, Node, PortConfig, PortKind, SUCCESS, SYSTEM_PORTS, Status};
use super::number::{number_text, read_number};
use super::stream::Channel;
use super::value::Object;
use super::{Value, events};

/// A node at this moment.
pub(super) struct Snapshot<'a> {
    pub node: &'a Node,
    pub status: Status,
    pub version: u64,
    /// Values of its root ports, system ports first.
    pub values: &'a [Value],
}

impl Snapshot<'_> {
    /// About how long its JSON text is: room for a large text is taken once, and not by growing into it.
    pub fn size(&self) -> usize {
        let ports = self.node.ports.iter().map(|port| port.text.len() + 32);
        let values = self.values.iter().map(|value| match value {
            Value::String(text) => text.len(),
            Value::Array(items) => items.len() * 8,
            _ => 0,
        });
        self.node.head.len() + self.node.connections.len() + 256 + ports.sum::<usize>() + values.sum::<usize>()
    }

    /// Append its JSON text, straight from the values: they may be large.
    pub fn write(&self, text: &mut Vec<u8>) {
        let Snapshot { node, status, version, values } = self;
        // Writing to memory cannot fail.
        let _ =
            write!(text, r#"{{{},"version":{version}}},"status":"{}","systemPorts":{{"#, node.head, status.as_str());
        for (position, name) in
            [(ERROR, "error"), (ERROR_MESSAGE, "errorMessage"), (EXECUTE, "execute"), (SUCCESS, "success")]
        {
            let comma = if position == ERROR { "" } else { "," };
            let _ = write!(text, r#"{comma}"{name}":{{"id":"{}""#, SYSTEM_PORTS[position]);
            value(text, Shown { value: &values[position], kind: None });
            text.push(b'}');
        }
        text.extend_from_slice(br#"},"ports":["#);
        for (offset, (port, held)) in node.ports.iter().zip(values.iter()).skip(SYSTEM_PORTS.len()).enumerate() {
            let comma = if offset == 0 { "" } else { "," };
            let _ = write!(text, r#"{comma}{{"config":{}"#, port.text);
            value(text, Shown { value: held, kind: Some(&port.config.kind) });
            text.push(b'}');
        }
        let _ = write!(text, r#"],"connections":{},"schemaVersion":"v2"}}"#, node.connections);
    }
}

fn value(text: &mut Vec<u8>, shown: Shown) {
    if shown.is_there() {
        text.extend_from_slice(br#","value":"#);
        events::push_json(text, &shown);
    }
}

/// A value in the form of its port's type, down to fields and items. Values of other types than the port's do occur:
/// nothing converts them on their way, and what has no such form is shown as it is.
#[derive(Clone, Copy)]
struct Shown<'a> {
    value: &'a Value,
    kind: Option<&'a PortKind>,
}

impl<'a> Shown<'a> {
    /// What stands at a place of that configuration. Ports for anything stand for what they carry.
    fn new(value: &'a Value, config: Option<&'a Arc<PortConfig>>) -> Shown<'a> {
        Shown { value, kind: config.map(|config| &config.kind) }.underlying()
    }

    fn underlying(self) -> Shown<'a> {
        match self.kind {
            Some(PortKind::Any(None)) => Shown { kind: None, ..self },
            Some(PortKind::Any(Some(inner))) => Shown { kind: Some(&inner.underlying().kind), ..self },
            _ => self,
        }
    }

    /// Whether the type shows the value at all: a number and an object that are null are left out.
    fn is_there(self) -> bool {
        !matches!(
            (self.underlying().kind, self.value),
            (_, Value::Undefined) | (Some(PortKind::Number | PortKind::Object(_)), Value::Null)
        )
    }
}

impl Serialize for Shown<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Shown { value, kind } = self.underlying();
        let Some(kind) = kind else { return value.serialize(serializer) };
        match (kind, value) {
            (PortKind::String | PortKind::Enum, Value::Null) => serializer.serialize_str(""),
            (PortKind::String, Value::Number(number)) => serializer.serialize_str(&number_text(*number)),
            (PortKind::String, Value::Bool(flag)) => serializer.serialize_str(if *flag { "true" } else { "false" }),
            (PortKind::String, Value::Array(_) | Value::Object(_)) => {
                let mut text = Vec::new();
                events::push_json(&mut text, value);
                serializer.serialize_str(&String::from_utf8_lossy(&text))
            }
            (PortKind::Number, Value::String(text)) => match read_number(text) {
                Some(number) if !text.trim().is_empty() => Value::Number(number).serialize(serializer),
                _ => value.serialize(serializer),
            },
            (PortKind::Boolean, Value::Null) => serializer.serialize_bool(false),
            (PortKind::Array(_), Value::Null) => serializer.collect_seq([(); 0]),
            (PortKind::Array(Some(config)), Value::Array(items)) if is_converted(config) => {
                serializer.collect_seq(items.iter().map(|item| Shown::new(item, Some(config))))
            }
            (PortKind::Object(schema), Value::Object(fields)) => Fields { schema, fields }.serialize(serializer),
            (PortKind::Stream(config), Value::Stream(channel)) => {
                StreamShown { channel, config: config.as_ref() }.serialize(serializer)
            }
            _ => value.serialize(serializer),
        }
    }
}

/// Whether values of that configuration may be shown in another form than they have.
fn is_converted(config: &PortConfig) -> bool {
    !matches!(config.underlying().kind, PortKind::Any(None) | PortKind::Secret)
}

struct Fields<'a> {
    schema: &'a indexmap::IndexMap<Arc<str>, Arc<PortConfig>>,
    fields: &'a Object,
}

impl Serialize for Fields<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (key, value) in self.fields {
            let shown = Shown::new(value, self.schema.get(key));
            if shown.is_there() {
                map.serialize_entry(key, &shown)?;
            }
        }
        map.end()
    }
}

/// A stream's contents so far.
struct StreamShown<'a> {
    channel: &'a Channel,
    config: Option<&'a Arc<PortConfig>>,
}

impl Serialize for StreamShown<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (items, closed) = self.channel.contents();
        let mut shown = serializer.serialize_struct("stream", 3)?;
        shown.serialize_field("type", "stream")?;
        let buffer: Vec<Shown> = items.iter().map(|item| Shown::new(item, self.config)).collect();
        shown.serialize_field("buffer", &buffer)?;
        shown.serialize_field("isClosed", &closed)?;
        shown.end()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value as Json, json};

    use super::*;
    use crate::flow::Flow;
    use crate::nodes::Registry;

    /// What an event shows for a port of that configuration which holds the value.
    fn shown(config: Json, value: &Value) -> Option<Json> {
        let mut config = config;
        config["id"] = "x".into();
        config["key"] = "x".into();
        let stored = json!({"metadata": {"schemaVersion": "v2"}, "nodes": [{"id": "NOa", "schemaVersion": "v2",
            "metadata": {"type": "GroupNode"}, "ports": [{"config": config}]}]});
        let flow = Flow::load(&stored, &Registry::standard()).unwrap().flow;
        let mut values: Vec<Value> = flow.nodes[0].ports.iter().map(|port| port.value.clone()).collect();
        values[SYSTEM_PORTS.len()] = value.clone();
        let mut text = Vec::new();
        Snapshot { node: &flow.nodes[0], status: Status::Idle, version: 1, values: &values }.write(&mut text);
        let snapshot: Json = serde_json::from_slice(&text).unwrap();
        snapshot["ports"][0].get("value").cloned()
    }

    #[test]
    fn values_are_shown_by_their_ports_types_down_to_fields_and_items() {
        let text = json!({"type": "string"});
        let number = json!({"type": "number"});
        let list = json!({"type": "array", "itemConfig": text});
        let object = json!({"type": "object", "schema": {"properties": {"t": text, "n": number, "l": list}}});
        for (config, value, expected) in [
            (text.clone(), json!(null), Some(json!(""))),
            (text.clone(), json!(1e21), Some(json!("1e+21"))),
            (text.clone(), json!(true), Some(json!("true"))),
            (text.clone(), json!({"a": [1]}), Some(json!(r#"{"a":[1]}"#))),
            (number.clone(), json!(null), None),
            (number.clone(), json!("1.50"), Some(json!(1.5))),
            (number.clone(), json!("x"), Some(json!("x"))),
            (json!({"type": "boolean"}), json!(null), Some(json!(false))),
            (json!({"type": "enum"}), json!(null), Some(json!(""))),
            (list.clone(), json!(null), Some(json!([]))),
            (list.clone(), json!([1, true, null]), Some(json!(["1", "true", ""]))),
            (object.clone(), json!(null), None),
            (
                object.clone(),
                json!({"t": 5, "n": null, "l": [6], "more": null}),
                Some(json!({"t": "5", "l": ["6"], "more": null})),
            ),
            (json!({"type": "any"}), json!({"t": 5}), Some(json!({"t": 5}))),
            (
                json!({"type": "any", "underlyingType": {"type": "any", "underlyingType": object}}),
                json!({"t": 5}),
                Some(json!({"t": "5"})),
            ),
            (json!({"type": "any", "underlyingType": text}), json!(null), Some(json!(""))),
        ] {
            assert_eq!(shown(config.clone(), &Value::from(&value)), expected, "{value} on {config}");
        }
        let stream = Value::Stream(Channel::with_items(vec![Value::from(1.0)], true));
        let expected = json!({"type": "stream", "buffer": ["1"], "isClosed": true});
        assert_eq!(shown(json!({"type": "stream", "itemConfig": {"type": "string"}}), &stream), Some(expected.clone()));
        let raw = json!({"type": "stream", "buffer": [1], "isClosed": true});
        assert_eq!(shown(json!({"type": "any"}), &stream), Some(raw));
    }
}
