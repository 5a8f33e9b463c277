//! A node as events show it: the stored form with its present status, version and values.

use std::fmt::Write;

use super::Value;
use super::model::{ERROR, ERROR_MESSAGE, EXECUTE, Node, PortKind, SUCCESS, SYSTEM_PORTS, Status};
use super::number::number_text;

/// A node's JSON text at this moment.
pub(super) fn snapshot(node: &Node, status: Status, version: u64, values: &[Value]) -> String {
    let mut text = String::with_capacity(
        node.head.len() + 256 + node.ports.iter().map(|port| port.text.len() + 32).sum::<usize>(),
    );
    // Writing to a text cannot fail.
    let _ = write!(text, r#"{{{},"version":{version}}},"status":"{}","systemPorts":{{"#, node.head, status.as_str());
    for (position, name) in
        [(ERROR, "error"), (ERROR_MESSAGE, "errorMessage"), (EXECUTE, "execute"), (SUCCESS, "success")]
    {
        let comma = if position == ERROR { "" } else { "," };
        let _ = write!(text, r#"{comma}"{name}":{{"id":"{}""#, SYSTEM_PORTS[position]);
        value(&mut text, &values[position]);
        text.push('}');
    }
    text.push_str(r#"},"ports":["#);
    for (offset, (port, held)) in node.ports.iter().zip(values).skip(SYSTEM_PORTS.len()).enumerate() {
        let comma = if offset == 0 { "" } else { "," };
        let _ = write!(text, r#"{comma}{{"config":{}"#, port.text);
        value(&mut text, &shown(held, &port.config.kind));
        text.push('}');
    }
    let _ = write!(text, r#"],"connections":{},"schemaVersion":"v2"}}"#, node.connections);
    text
}

fn value(text: &mut String, value: &Value) {
    if !matches!(value, Value::Undefined) {
        text.push_str(r#","value":"#);
        text.push_str(&json(value));
    }
}

fn json(value: &Value) -> String {
    // Values have texts as keys, so that they always have a JSON text.
    serde_json::to_string(value).unwrap_or_else(|_| "null".into())
}

/// A value in the form of the port's type. Values of other types than the port's do occur: nothing converts them.
fn shown(value: &Value, kind: &PortKind) -> Value {
    match (kind, value) {
        (PortKind::String | PortKind::Enum, Value::Null) => Value::from(""),
        (PortKind::String, Value::Number(number)) => Value::from(number_text(*number)),
        (PortKind::String, Value::Bool(flag)) => Value::from(if *flag { "true" } else { "false" }),
        (PortKind::String, Value::Array(_) | Value::Object(_)) => Value::from(json(value)),
        (PortKind::Boolean, Value::Null) => Value::Bool(false),
        (PortKind::Array(_), Value::Null) => Value::from(Vec::new()),
        (PortKind::Number | PortKind::Object(_), Value::Null) => Value::Undefined,
        (PortKind::Any(Some(inner)), _) => shown(value, &inner.kind),
        _ => value.clone(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;
    use crate::flow::model::{Direction, PortConfig};

    #[test]
    fn an_any_port_shows_its_value_as_its_underlying_type_does() {
        let carrying = |kind| {
            let config = PortConfig {
                id: "p".into(),
                key: "p".into(),
                kind,
                direction: Direction::Input,
                required: false,
                default: None,
                raw: Arc::default(),
            };
            PortKind::Any(Some(Arc::new(config)))
        };
        assert_eq!(shown(&Value::from(1e21), &carrying(PortKind::String)).to_json(), json!("1e+21"));
        assert_eq!(shown(&Value::Null, &carrying(carrying(PortKind::Boolean))).to_json(), json!(false));
        assert!(matches!(shown(&Value::Null, &carrying(PortKind::Number)), Value::Undefined));
        assert_eq!(shown(&Value::from(1.0), &PortKind::Any(None)).to_json(), json!(1));
    }
}
