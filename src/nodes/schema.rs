//! Nodes whose main work is done while a flow is designed: what shape a text has, what a port is, which texts are options.

use super::port::{ANY, TEXT, input, output, pass};
use super::utilities::utility;
use super::{Behaviour, NodeError, NodeRun, NodeType, yaml};
use crate::flow::Value;
use crate::flow::number::trim;
use crate::flow::text::text_of;

/// The longest text that is parsed, in bytes; values take several times that.
const MAX_TEXT: usize = 16 * 1024 * 1024;
/// How many allowed values an error names.
const NAMED: usize = 10;

/// The types of this file.
pub(super) const TYPES: &[NodeType] = &[
    utility(
        "SchemaInferNode",
        "Parses JSON or YAML, null where it is neither; the output's shape is inferred while the flow is designed",
        const { &[pass("input", TEXT), pass("options", OPTIONS), output("output", ANY)] },
        Behaviour::Pure(|run| {
            let value = parsed(&run.text("input"));
            run.set("output", value);
            Ok(())
        }),
    ),
    utility(
        "GetPortSchemaNode",
        "What a port is, filled in while the flow is designed; does nothing when it runs",
        const { &[input("input", ANY), output("portSchema", PORT_SCHEMA)] },
        Behaviour::Passive,
    ),
    utility(
        "StringToEnumNode",
        "A text as one of several options; fails when it is none of the allowed values",
        const {
            &[
                input("inputString", TEXT),
                input(
                    "allowedValues",
                    r#"{"type":"array","itemConfig":{"type":"string","defaultValue":""},"isMutable":true,"defaultValue":[]}"#,
                ),
                output("outputEnum", r#"{"type":"enum","options":[]}"#),
            ]
        },
        Behaviour::Pure(string_to_enum),
    ),
];

const OPTIONS: &str = r#"{"type":"object","schema":{"properties":{
    "allRequired":{"type":"boolean","defaultValue":false},
    "inferArrayItemType":{"type":"boolean","defaultValue":true},
    "maxDepth":{"type":"number","defaultValue":10}}},
    "defaultValue":{"allRequired":false,"inferArrayItemType":true,"maxDepth":10}}"#;

const PORT_SCHEMA: &str = r#"{"type":"object","schema":{"properties":{
    "type":{"type":"string","defaultValue":""},
    "config":{"type":"any"}}},
    "defaultValue":{"type":""}}"#;

/// JSON, else YAML, else null: the node never fails.
fn parsed(text: &str) -> Value {
    let text = trim(text);
    if text.is_empty() || text.len() > MAX_TEXT {
        return Value::Null;
    }
    match serde_json::from_str::<serde_json::Value>(text) {
        Ok(json) => Value::from(&json),
        Err(_) => yaml::read(text).unwrap_or(Value::Null),
    }
}

fn string_to_enum(run: &mut NodeRun) -> Result<(), NodeError> {
    let input = run.get("inputString").clone();
    if !input.is_truthy() {
        run.set("outputEnum", Value::Undefined);
        return Ok(());
    }
    let allowed = run.items("allowedValues");
    if !allowed.is_empty() && !allowed.iter().any(|value| value.is(&input)) {
        let mut names: Vec<_> = allowed.iter().take(NAMED).map(|value| format!("`{}`", text_of(value))).collect();
        if allowed.len() > NAMED {
            names.push(format!("{} more", allowed.len() - NAMED));
        }
        let text = format!("port `inputString` holds `{}`; allowed is {}", text_of(&input), names.join(", "));
        return Err(NodeError::new(text));
    }
    run.set("outputEnum", input);
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::nodes::testing::{fails, ports};

    #[test]
    fn texts_are_parsed_without_ever_failing() {
        for (text, value) in [
            (json!(" {\"a\": [1, null, 0]} "), json!({"a": [1, null, 0]})),
            (json!("a: 1\nb:\n  - x\n"), json!({"a": 1, "b": ["x"]})),
            (json!("12"), json!(12)),
            (json!("just words"), json!("just words")),
            (json!(""), json!(null)),
            (json!(" \n\t"), json!(null)),
            (json!(null), json!(null)),
            (json!("{\"a\": "), json!(null)),
            (json!("a: b: c"), json!(null)),
            (json!("--- 1\n--- 2\n"), json!(null)),
            (json!("[".repeat(100_000)), json!(null)),
        ] {
            let ports = ports("SchemaInferNode", &json!({"input": text, "output": "old"}));
            assert_eq!(ports["output"], value, "{text}");
            assert_eq!(ports["input"], text);
        }
    }

    #[test]
    fn texts_become_options_when_they_are_allowed() {
        for (input, allowed, option) in [
            (json!("red"), json!(["red", "blue"]), json!("red")),
            (json!("red"), json!([]), json!("red")),
            (json!("red"), json!(null), json!("red")),
            (json!(""), json!(["red"]), json!(null)),
            (json!(null), json!(["red"]), json!(null)),
        ] {
            let inputs = json!({"inputString": input, "allowedValues": allowed, "outputEnum": "old"});
            assert_eq!(ports("StringToEnumNode", &inputs)["outputEnum"], option, "{inputs}");
        }
        let (text, ports) = fails(
            "StringToEnumNode",
            &json!({"inputString": "Red", "outputEnum": "old",
                "allowedValues": ["red", "a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k"]}),
        );
        assert!(text.contains("`Red`") && text.contains("`i`, 2 more") && !text.contains("`j`"), "{text}");
        assert_eq!(ports["outputEnum"], json!("old"));
    }

    #[test]
    fn a_ports_schema_stays_what_it_was_designed_to_be() {
        let inputs = json!({"input": {"a": 1}, "portSchema": {"type": "string", "config": {"id": "x"}}});
        assert_eq!(ports("GetPortSchemaNode", &inputs)["portSchema"], inputs["portSchema"]);
    }
}
