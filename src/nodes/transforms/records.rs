//! Lists whose items are taken apart, put together or renamed.

use super::merge::{merged, or_empty};
use super::path::{Path, wrapped};
use super::{LIST, LIST_OUT, OBJECT, RECORDS, RECORDS_OUT, transform};
use crate::flow::{Object, Value};
use crate::nodes::port::{TEXT, input, output, pass};
use crate::nodes::{NodeError, NodeRun, NodeType};

/// The types of this file.
pub(super) const TYPES: &[NodeType] = &[
    transform(
        "ArrayPluckNode",
        "What a path leads to in each item; without a path the items",
        const { &[pass("array", LIST), input("path", TEXT), output("result", LIST_OUT)] },
        |run| {
            let plucked = run.items_at_path("path");
            run.set("result", plucked);
            Ok(())
        },
    ),
    transform(
        "ArrayPickNode",
        "Of each item the fields that `pickSchema` has",
        const { &[pass("array", RECORDS), pass("pickSchema", OBJECT), output("result", RECORDS_OUT)] },
        pick,
    ),
    transform(
        "ArrayRemapNode",
        "Objects made from each item by mappings from paths to paths",
        const { &[pass("source", RECORDS), pass("mappings", MAPPINGS), output("result", RECORDS_OUT)] },
        remap,
    ),
    transform(
        "ArrayEmbedNode",
        "Each item in an object, at a path of names; without a path as `value`",
        const { &[pass("array", LIST), input("path", TEXT), output("result", RECORDS_OUT)] },
        embed,
    ),
    transform(
        "ArrayZipNode",
        "Pairs {a, b} of two lists' items",
        const { &[pass("arrayA", LIST), pass("arrayB", LIST), input("lengthStrategy", LENGTH), output("result", PAIRS)] },
        zip,
    ),
    transform(
        "ArrayZipMergeNode",
        "The objects of two lists merged pair by pair, up to the shorter one's end; the second list wins",
        const { &[pass("arrayA", RECORDS), pass("arrayB", RECORDS), output("result", RECORDS_OUT)] },
        zip_merge,
    ),
];

const MAPPINGS: &str = r#"{"type":"array","itemConfig":{"type":"object","schema":{"properties":{"from":{"type":"string","defaultValue":""},"to":{"type":"string","defaultValue":""}}}},"isMutable":true,"defaultValue":[]}"#;
const LENGTH: &str = r#"{"type":"enum","options":[{"id":"shortest","type":"string","defaultValue":"shortest"},{"id":"longest","type":"string","defaultValue":"longest"},{"id":"first","type":"string","defaultValue":"first"},{"id":"second","type":"string","defaultValue":"second"}],"defaultValue":"shortest"}"#;
const PAIRS: &str = r#"{"type":"array","itemConfig":{"type":"object","schema":{"properties":{"a":{"type":"any"},"b":{"type":"any"}}}},"isSchemaMutable":true,"defaultValue":[]}"#;

fn pick(run: &mut NodeRun) -> Result<(), NodeError> {
    let picked: Vec<Value> = {
        let keys = run.get("pickSchema").as_object();
        let of = |item: &Value| {
            let fields = item.as_object();
            let field = |key: &std::sync::Arc<str>| Some((key.clone(), fields?.get(key)?.clone()));
            Value::from(keys.into_iter().flat_map(Object::keys).filter_map(field).collect::<Object>())
        };
        run.items("array").iter().map(of).collect()
    };
    run.set("result", picked);
    Ok(())
}

fn remap(run: &mut NodeRun) -> Result<(), NodeError> {
    let mapping = |item: &Value| {
        let field = |key| Some(item.as_object()?.get(key)?.as_str()?.to_owned()).filter(|text| !text.is_empty());
        Some((field("from")?, field("to")?))
    };
    let mappings: Vec<(String, String)> = run.items("mappings").iter().filter_map(mapping).collect();
    let mappings: Vec<(Path, &str)> = mappings.iter().map(|(from, to)| (Path::new(from), to.as_str())).collect();
    let mut result = Vec::with_capacity(run.items("source").len());
    for item in run.items("source") {
        let mut made = Value::empty_object();
        for (from, to) in &mappings {
            if let Some(part) = wrapped(to, from.read(item))? {
                made = merged(&made, &part);
            }
        }
        result.push(made);
    }
    run.set("result", result);
    Ok(())
}

fn embed(run: &mut NodeRun) -> Result<(), NodeError> {
    let path = run.text("path");
    let mut result = Vec::with_capacity(run.items("array").len());
    for item in run.items("array") {
        let made = match wrapped(&path, item.clone())? {
            Some(made) => made,
            None => Value::from(Object::from_iter([("value".into(), item.clone())])),
        };
        result.push(made);
    }
    run.set("result", result);
    Ok(())
}

fn zip(run: &mut NodeRun) -> Result<(), NodeError> {
    let pairs: Vec<Value> = {
        let (first, second) = (run.items("arrayA"), run.items("arrayB"));
        let length = match run.text("lengthStrategy").as_str() {
            "longest" => first.len().max(second.len()),
            "first" => first.len(),
            "second" => second.len(),
            _ => first.len().min(second.len()),
        };
        let side = |items: &[Value], index: usize| items.get(index).cloned().unwrap_or(Value::Null);
        let pair = |index| {
            let sides = [("a".into(), side(first, index)), ("b".into(), side(second, index))];
            Value::from(Object::from_iter(sides))
        };
        (0..length).map(pair).collect()
    };
    run.set("result", pairs);
    Ok(())
}

fn zip_merge(run: &mut NodeRun) -> Result<(), NodeError> {
    let pairs = run.items("arrayA").iter().zip(run.items("arrayB"));
    let merged: Vec<Value> =
        pairs.map(|(first, second)| merged(&or_empty(Some(first)), &or_empty(Some(second)))).collect();
    run.set("result", merged);
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::nodes::testing::{fails, ports};

    #[test]
    fn items_are_taken_apart_and_put_together() {
        let rows = json!([{"id": 1, "user": {"name": "a"}, "x": 0}, {"id": 2, "user": null}, 5, null]);
        for (node, inputs, expected) in [
            ("ArrayPluckNode", json!({"array": rows, "path": "user.name"}), json!(["a", null, null, null])),
            ("ArrayPluckNode", json!({"array": [[1, 2], [3]], "path": "[1]"}), json!([2, null])),
            ("ArrayPluckNode", json!({"array": rows, "path": ""}), rows.clone()),
            ("ArrayPluckNode", json!({"array": "text", "path": "a"}), json!([])),
            (
                "ArrayPickNode",
                json!({"array": rows, "pickSchema": {"x": "", "id": 0, "gone": 1}}),
                json!([{"x": 0, "id": 1}, {"id": 2}, {}, {}]),
            ),
            ("ArrayPickNode", json!({"array": rows, "pickSchema": {}}), json!([{}, {}, {}, {}])),
            ("ArrayPickNode", json!({"array": null, "pickSchema": {"id": 0}}), json!([])),
            (
                "ArrayRemapNode",
                json!({"source": [{"id": 1, "user": {"name": "a", "tags": ["x", "y"]}}, {}], "mappings": [
                    {"from": "id", "to": "key"},
                    {"from": "user.name", "to": "who.name"},
                    {"from": "user.tags[1]", "to": "who.tag"},
                    {"from": "id", "to": ""},
                    {"from": "", "to": "all"},
                    "no mapping",
                    {"from": "id", "to": "list[0]"},
                ]}),
                json!([{"key": 1, "who": {"name": "a", "tag": "y"}, "list[0]": 1}, {"who": {}}]),
            ),
            ("ArrayRemapNode", json!({"source": rows, "mappings": []}), json!([{}, {}, {}, {}])),
            ("ArrayRemapNode", json!({"source": rows, "mappings": null}), json!([{}, {}, {}, {}])),
            ("ArrayRemapNode", json!({"source": {}, "mappings": [{"from": "a", "to": "b"}]}), json!([])),
            (
                "ArrayEmbedNode",
                json!({"array": [1, null], "path": "a.b"}),
                json!([{"a": {"b": 1}}, {"a": {"b": null}}]),
            ),
            ("ArrayEmbedNode", json!({"array": [1], "path": "a[0]"}), json!([{"a[0]": 1}])),
            ("ArrayEmbedNode", json!({"array": [1, {}], "path": ""}), json!([{"value": 1}, {"value": {}}])),
            ("ArrayEmbedNode", json!({"array": 7, "path": "a"}), json!([])),
        ] {
            assert_eq!(ports(node, &inputs)["result"], expected, "{node} {inputs}");
        }
        let (text, _) = fails("ArrayEmbedNode", &json!({"array": [1], "path": vec!["a"; 300].join(".")}));
        assert!(text.contains("too long"), "{text}");
    }

    #[test]
    fn lists_are_paired_by_length() {
        let (a, b) = (json!([1, 2, 3]), json!(["x"]));
        let (one, two, three) = (json!({"a": 1, "b": "x"}), json!({"a": 2, "b": null}), json!({"a": 3, "b": null}));
        for (strategy, expected) in [
            ("shortest", json!([one])),
            ("longest", json!([one, two, three])),
            ("first", json!([one, two, three])),
            ("second", json!([one])),
            ("other", json!([one])),
        ] {
            let inputs = json!({"arrayA": a, "arrayB": b, "lengthStrategy": strategy});
            assert_eq!(ports("ArrayZipNode", &inputs)["result"], expected, "{strategy}");
        }
        let inputs = json!({"arrayA": null, "arrayB": b, "lengthStrategy": "second"});
        assert_eq!(ports("ArrayZipNode", &inputs)["result"], json!([{"a": null, "b": "x"}]));
    }

    #[test]
    fn pairs_are_merged_up_to_the_shorter_end() {
        let inputs = json!({
            "arrayA": [{"a": 1, "in": {"x": 1, "y": [1]}}, null, {"a": 3}, 5, {"beyond": 1}],
            "arrayB": [{"in": {"y": [2, 3], "z": null}}, {"b": 2}, null, {"c": 4}],
        });
        let expected = json!([{"a": 1, "in": {"x": 1, "y": [2, 3], "z": null}}, {"b": 2}, {"a": 3}, {"c": 4}]);
        assert_eq!(ports("ArrayZipMergeNode", &inputs)["result"], expected);
        assert_eq!(ports("ArrayZipMergeNode", &json!({"arrayA": [{}], "arrayB": 1}))["result"], json!([]));
    }
}
