//! Objects and values of any shape: listed, focused, wrapped, merged.

use std::sync::Arc;

use super::merge::{merged, or_empty};
use super::path::Path;
use super::{LIST_OUT, OBJECT, transform};
use crate::flow::model::PortKind;
use crate::flow::text::ordered_fields;
use crate::flow::value::in_javascript_order;
use crate::flow::{Object, Value};
use crate::nodes::port::{ANY, TEXT, input, output, pass};
use crate::nodes::{NodeError, NodeRun, NodeType};

/// The types of this file.
pub(super) const TYPES: &[NodeType] = &[
    transform(
        "ObjectKeysNode",
        "The names of an object's fields",
        const {
            &[
                pass("object", OBJECT),
                output(
                    "keys",
                    r#"{"type":"array","itemConfig":{"type":"string","defaultValue":""},"defaultValue":[]}"#,
                ),
            ]
        },
        |run| {
            let keys: Vec<_> =
                fields(run.get("object")).into_iter().map(|(key, _)| Value::String(Arc::clone(key))).collect();
            run.set("keys", keys);
            Ok(())
        },
    ),
    transform(
        "ObjectValuesNode",
        "The values of an object's fields",
        const { &[pass("object", OBJECT), output("values", LIST_OUT)] },
        |run| {
            let values: Vec<_> = fields(run.get("object")).into_iter().map(|(_, value)| value.clone()).collect();
            run.set("values", values);
            Ok(())
        },
    ),
    transform(
        "TypeFocusNode",
        "What a path leads to; without a path the whole value",
        const { &[pass("source", ANY), input("path", TEXT), output("focused", ANY)] },
        |run| {
            let focused = Path::new(&run.text("path")).read(run.get("source"));
            run.set("focused", focused);
            Ok(())
        },
    ),
    transform(
        "TypeUnwrapNode",
        "The first item of a list, or null; what is no list as it is",
        const { &[pass("container", ANY), output("element", ANY)] },
        |run| {
            let element = match run.get("container") {
                Value::Array(items) => items.first().cloned().unwrap_or(Value::Null),
                other => other.clone(),
            };
            run.set("element", element);
            Ok(())
        },
    ),
    transform(
        "TypeWrapNode",
        "A list with the value as its item; an empty one without a value",
        const { &[pass("element", ANY), output("wrapped", LIST_OUT)] },
        |run| {
            let element = run.get("element").clone();
            run.set("wrapped", if element.is_nullish() { Vec::new() } else { vec![element] });
            Ok(())
        },
    ),
    transform(
        "TypeMergeNode",
        "Two objects merged deeply; the second one wins",
        const { &[pass("typeA", OBJECT), pass("typeB", OBJECT), output("merged", OBJECT)] },
        merge,
    ),
];

/// What JavaScript lists as an object's own fields.
fn fields(value: &Value) -> Vec<(&Arc<str>, &Value)> {
    value.as_object().map(ordered_fields).unwrap_or_default()
}

fn merge(run: &mut NodeRun) -> Result<(), NodeError> {
    let object = |key| or_empty(Some(run.get(key)).filter(|value| value.as_object().is_some()));
    let mut result = merged(&object("typeA"), &object("typeB"));
    let schema = run.config("merged").map(|config| &config.kind);
    if let (Some(PortKind::Object(schema)), Value::Object(fields)) = (schema, &result) {
        let first = schema.keys().filter_map(|key| fields.get_key_value(key));
        let mut ordered: Object = first.map(|(key, value)| (key.clone(), value.clone())).collect();
        let rest = fields.iter().filter(|(key, _)| !schema.contains_key(*key));
        ordered.extend(rest.map(|(key, value)| (key.clone(), value.clone())));
        result = Value::from(in_javascript_order(ordered));
    }
    run.set("merged", result);
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::flow::Value;
    use crate::nodes::testing::{Bench, ports};

    #[test]
    fn fields_are_listed_in_javascripts_order() {
        let object = json!({"b": 1, "10": 2, "2": 3, "a": 4});
        assert_eq!(ports("ObjectKeysNode", &json!({"object": object}))["keys"], json!(["2", "10", "b", "a"]));
        assert_eq!(ports("ObjectValuesNode", &json!({"object": object}))["values"], json!([3, 2, 1, 4]));
        for nothing in [json!([1]), json!(null), json!("text")] {
            assert_eq!(ports("ObjectKeysNode", &json!({"object": nothing}))["keys"], json!([]));
            assert_eq!(ports("ObjectValuesNode", &json!({"object": nothing}))["values"], json!([]));
        }
    }

    #[test]
    fn values_are_focused_wrapped_and_merged() {
        let source = json!({"user": {"tags": ["x", "y"]}, "zero": 0});
        for (node, inputs, port, expected) in [
            ("TypeFocusNode", json!({"source": source, "path": "user.tags[1]"}), "focused", json!("y")),
            ("TypeFocusNode", json!({"source": source, "path": "zero"}), "focused", json!(0)),
            ("TypeFocusNode", json!({"source": source, "path": "user.none.x"}), "focused", json!(null)),
            ("TypeFocusNode", json!({"source": source, "path": ""}), "focused", source.clone()),
            ("TypeUnwrapNode", json!({"container": [7, 8]}), "element", json!(7)),
            ("TypeUnwrapNode", json!({"container": []}), "element", json!(null)),
            ("TypeUnwrapNode", json!({"container": {"a": 1}}), "element", json!({"a": 1})),
            ("TypeUnwrapNode", json!({"container": "text"}), "element", json!("text")),
            ("TypeWrapNode", json!({"element": 0}), "wrapped", json!([0])),
            ("TypeWrapNode", json!({"element": [1]}), "wrapped", json!([[1]])),
            ("TypeWrapNode", json!({"element": null}), "wrapped", json!([])),
            (
                "TypeMergeNode",
                json!({"typeA": {"a": 1, "in": {"x": 1, "l": [1]}}, "typeB": {"in": {"l": [2], "y": 0}, "b": null}}),
                "merged",
                json!({"a": 1, "in": {"x": 1, "l": [2], "y": 0}, "b": null}),
            ),
            ("TypeMergeNode", json!({"typeA": null, "typeB": {"b": 1}}), "merged", json!({"b": 1})),
            ("TypeMergeNode", json!({"typeA": {"a": 1}, "typeB": "text"}), "merged", json!({"a": 1})),
        ] {
            assert_eq!(ports(node, &inputs)[port], expected, "{node} {inputs}");
        }
    }

    #[tokio::test]
    async fn nothing_wraps_to_nothing_and_stays_undefined() {
        let wrapped = Bench::new("TypeWrapNode", &json!({})).port("element", Value::Undefined).run().await;
        assert_eq!(wrapped.json()["wrapped"], json!([]));
        let focused = Bench::new("TypeFocusNode", &json!({"source": {"a": null}, "path": "a.b"})).run().await;
        assert!(matches!(focused.ports["focused"], Value::Undefined));
    }
}
