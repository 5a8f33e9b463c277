//! Lists divided by a condition, and lists brought down to one value.

use std::cmp::Ordering;

use super::{LIST, LIST_OUT, transform};
use crate::flow::Value;
use crate::flow::number::read_number;
use crate::flow::text::{compare, text_of, text_or_empty};
use crate::nodes::port::{ANY, TEXT, input, output, pass};
use crate::nodes::{NodeError, NodeRun, NodeType};

/// The types of this file.
pub(super) const TYPES: &[NodeType] = &[
    transform(
        "ArrayPartitionNode",
        "The items for which a comparison holds, and the others",
        const {
            &[
                pass("array", LIST),
                input("path", TEXT),
                input("operator", OPERATOR),
                input("value", ANY),
                output("matching", LIST_OUT),
                output("nonMatching", LIST_OUT),
            ]
        },
        partition,
    ),
    transform(
        "ArrayReduceNode",
        "One value from all items: a sum, an average, an end, a text and the like",
        const {
            &[
                pass("array", LIST),
                input("operation", OPERATION),
                input("path", TEXT),
                input("separator", r#"{"type":"string","defaultValue":","}"#),
                output("result", ANY),
            ]
        },
        reduce,
    ),
];

const OPERATOR: &str = r#"{"type":"enum","options":[{"id":"eq","type":"string","defaultValue":"eq"},{"id":"neq","type":"string","defaultValue":"neq"},{"id":"gt","type":"string","defaultValue":"gt"},{"id":"gte","type":"string","defaultValue":"gte"},{"id":"lt","type":"string","defaultValue":"lt"},{"id":"lte","type":"string","defaultValue":"lte"},{"id":"truthy","type":"string","defaultValue":"truthy"},{"id":"falsy","type":"string","defaultValue":"falsy"},{"id":"contains","type":"string","defaultValue":"contains"},{"id":"startsWith","type":"string","defaultValue":"startsWith"},{"id":"endsWith","type":"string","defaultValue":"endsWith"}],"defaultValue":"eq"}"#;
const OPERATION: &str = r#"{"type":"enum","options":[{"id":"sum","type":"string","defaultValue":"sum"},{"id":"avg","type":"string","defaultValue":"avg"},{"id":"min","type":"string","defaultValue":"min"},{"id":"max","type":"string","defaultValue":"max"},{"id":"count","type":"string","defaultValue":"count"},{"id":"first","type":"string","defaultValue":"first"},{"id":"last","type":"string","defaultValue":"last"},{"id":"concat","type":"string","defaultValue":"concat"},{"id":"join","type":"string","defaultValue":"join"}],"defaultValue":"sum"}"#;

fn partition(run: &mut NodeRun) -> Result<(), NodeError> {
    let tested = run.items_at_path("path");
    let operator = run.text("operator");
    let (mut matching, mut others) = (Vec::new(), Vec::new());
    for (item, value) in run.items("array").iter().zip(&tested) {
        if holds(value, &operator, run.get("value")) { &mut matching } else { &mut others }.push(item.clone());
    }
    run.set("matching", matching);
    run.set("nonMatching", others);
    Ok(())
}

/// Whether a value stands to the other as the operator says. Unknown operators never hold.
fn holds(value: &Value, operator: &str, other: &Value) -> bool {
    let text = |test: fn(&str, &str) -> bool| value.as_str().is_some_and(|value| test(value, &text_of(other)));
    match operator {
        "eq" => value.strictly_equals(other),
        "neq" => !value.strictly_equals(other),
        "gt" => order(value, other).is_some_and(Ordering::is_gt),
        "gte" => order(value, other).is_some_and(Ordering::is_ge),
        "lt" => order(value, other).is_some_and(Ordering::is_lt),
        "lte" => order(value, other).is_some_and(Ordering::is_le),
        "truthy" => value.is_truthy(),
        "falsy" => !value.is_truthy(),
        "contains" => match value {
            Value::Array(items) => items.iter().any(|item| item.strictly_equals(other)),
            _ => text(|value, other| value.contains(other)),
        },
        "startsWith" => text(|value, other| value.starts_with(other)),
        "endsWith" => text(|value, other| value.ends_with(other)),
        _ => false,
    }
}

/// JavaScript's order: of texts by UTF-16, of everything else as numbers; none where one is no number. Lists and
/// objects count as their texts.
fn order(left: &Value, right: &Value) -> Option<Ordering> {
    let composite = |value: &Value| match value {
        Value::Array(_) | Value::Object(_) | Value::Stream(_) => Value::from(text_of(value)),
        simple => simple.clone(),
    };
    match (&composite(left), &composite(right)) {
        (Value::String(left), Value::String(right)) => Some(compare(left, right)),
        (left, right) => number(left)?.partial_cmp(&number(right)?),
    }
}

fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Null => Some(0.0),
        Value::Bool(flag) => Some(f64::from(u8::from(*flag))),
        Value::Number(number) => Some(*number),
        Value::String(text) => read_number(text),
        Value::Undefined | Value::Array(_) | Value::Object(_) | Value::Stream(_) => None,
    }
}

fn reduce(run: &mut NodeRun) -> Result<(), NodeError> {
    let values = run.items_at_path("path");
    let numbers: Vec<f64> = values.iter().filter_map(Value::as_f64).collect();
    let sum: f64 = numbers.iter().sum::<f64>() + 0.0; // the sum of nothing is −0 in Rust
    let result = match run.text("operation").as_str() {
        "sum" => sum.into(),
        "avg" if numbers.is_empty() => 0.0.into(),
        "avg" => (sum / numbers.len() as f64).into(),
        "min" => numbers.iter().copied().reduce(f64::min).unwrap_or(0.0).into(),
        "max" => numbers.iter().copied().reduce(f64::max).unwrap_or(0.0).into(),
        "count" => (values.len() as f64).into(),
        "first" => values.first().cloned().unwrap_or(Value::Null),
        "last" => values.last().cloned().unwrap_or(Value::Null),
        "concat" => {
            let flat = values.iter().flat_map(|value| value.as_array().unwrap_or(std::slice::from_ref(value)));
            flat.cloned().collect::<Vec<_>>().into()
        }
        "join" => {
            let separator = run.get("separator");
            let separator = if separator.is_nullish() { ",".to_owned() } else { text_of(separator) };
            values.iter().map(text_or_empty).collect::<Vec<_>>().join(&separator).into()
        }
        _ => Value::Null,
    };
    run.set("result", result);
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::flow::Value;
    use crate::nodes::testing::{Bench, ports};

    #[test]
    fn items_are_divided_by_what_holds() {
        let rows = json!([{"n": 1, "t": "one"}, {"n": "1", "t": "two"}, {"n": null, "t": ["one", 2]}, {"t": ""}]);
        // Which of the rows match, by position.
        for (path, operator, value, matching) in [
            ("n", "eq", json!(1), vec![0]),
            ("n", "eq", json!("1"), vec![1]),
            ("n", "eq", json!(null), vec![2]),
            ("n", "neq", json!(1), vec![1, 2, 3]),
            ("n", "gt", json!(0), vec![0, 1]),
            ("n", "gte", json!(0), vec![0, 1, 2]), // null is 0, what is absent no number
            ("n", "lt", json!("2"), vec![0, 1, 2]),
            ("n", "lte", json!("x"), vec![1]),     // texts among each other
            ("t", "gt", json!("one"), vec![1, 2]), // "one,2" after "one"
            ("n", "truthy", json!(null), vec![0, 1]),
            ("n", "falsy", json!(null), vec![2, 3]),
            ("t", "contains", json!("o"), vec![0, 1]),
            ("t", "contains", json!("one"), vec![0, 2]),
            ("t", "contains", json!(2), vec![2]),
            ("t", "startsWith", json!("t"), vec![1]),
            ("t", "endsWith", json!("e"), vec![0]),
            ("t", "endsWith", json!(""), vec![0, 1, 3]),
            ("n", "endsWith", json!(1), vec![1]),
            ("n", "like", json!(1), vec![]),
            ("", "eq", json!({"t": ""}), vec![]), // objects by identity
            ("", "truthy", json!(null), vec![0, 1, 2, 3]),
        ] {
            let inputs = json!({"array": rows, "path": path, "operator": operator, "value": value});
            let ports = ports("ArrayPartitionNode", &inputs);
            let (yes, no): (Vec<_>, Vec<_>) = (0..4).partition(|index| matching.contains(index));
            let at = |indexes: Vec<usize>| json!(indexes.into_iter().map(|index| &rows[index]).collect::<Vec<_>>());
            assert_eq!((&ports["matching"], &ports["nonMatching"]), (&at(yes), &at(no)), "{path} {operator} {value}");
        }
        let none = ports("ArrayPartitionNode", &json!({"array": "text", "operator": "truthy"}));
        assert_eq!((&none["matching"], &none["nonMatching"]), (&json!([]), &json!([])));
    }

    #[tokio::test]
    async fn what_is_absent_equals_what_is_unset() {
        let bench = Bench::new("ArrayPartitionNode", &json!({"array": [{"a": 1}, {}, {"a": null}], "path": "a"}));
        let outcome = bench.port("value", Value::Undefined).run().await;
        assert_eq!(outcome.json()["matching"], json!([{}]));
    }

    #[test]
    fn lists_come_down_to_one_value() {
        let items = json!([{"v": 3}, {"v": "2"}, {"v": 0.5}, {"v": null}, {}, {"v": [1, [2]]}, {"v": {"x": 1}}]);
        for (operation, expected) in [
            ("sum", json!(3.5)),
            ("avg", json!(1.75)),
            ("min", json!(0.5)),
            ("max", json!(3)),
            ("count", json!(7)),
            ("first", json!(3)),
            ("last", json!({"x": 1})),
            ("concat", json!([3, "2", 0.5, null, null, 1, [2], {"x": 1}])),
            ("join", json!("3-2-0.5---1,2-[object Object]")),
            ("other", json!(null)),
        ] {
            let inputs = json!({"array": items, "path": "v", "operation": operation, "separator": "-"});
            assert_eq!(ports("ArrayReduceNode", &inputs)["result"], expected, "{operation}");
        }
        for (operation, expected) in [
            ("sum", json!(0)),
            ("avg", json!(0)),
            ("min", json!(0)),
            ("max", json!(0)),
            ("count", json!(0)),
            ("first", json!(null)),
            ("last", json!(null)),
            ("concat", json!([])),
            ("join", json!("")),
        ] {
            for array in [json!([]), json!("text"), json!(null)] {
                let result = &ports("ArrayReduceNode", &json!({"array": array, "operation": operation}))["result"];
                assert_eq!(result, &expected, "{operation} {array}");
            }
            let words = json!({"array": ["a", "b"], "operation": operation});
            let of_words = [("count", json!(2)), ("first", json!("a")), ("last", json!("b")), ("join", json!("a,b"))];
            if let Some((_, expected)) = of_words.iter().find(|(name, _)| *name == operation) {
                assert_eq!(&ports("ArrayReduceNode", &words)["result"], expected, "{operation}");
            }
        }
        let tenth = json!({"array": [0.1, 0.2], "operation": "sum"});
        assert_eq!(ports("ArrayReduceNode", &tenth)["result"], json!(0.30000000000000004)); // no decimal arithmetic
    }
}
