//! Lists as they are: joined, cut, turned, and items taken by position.

use super::{LIST, LIST_OUT, transform};
use crate::flow::Value;
use crate::flow::number::number_text;
use crate::nodes::port::{ANY, NUMBER, input, output, pass};
use crate::nodes::{NodeError, NodeRun, NodeType};

const INTEGER: &str = r#"{"type":"number","defaultValue":0,"integer":true}"#;

/// The types of this file.
pub(super) const TYPES: &[NodeType] = &[
    transform(
        "ArrayConcatNode",
        "One list after the other",
        const { &[pass("arrayA", LIST), pass("arrayB", LIST), output("result", LIST_OUT)] },
        concat,
    ),
    transform(
        "ArrayElementNode",
        "The item at a position, counted from 0; fails outside the list",
        const { &[pass("array", LIST), pass("index", INTEGER), output("element", ANY)] },
        element,
    ),
    transform(
        "ArrayFirstNode",
        "The first item, or null",
        const { &[pass("array", LIST), output("element", ANY), output("isEmpty", EMPTY)] },
        |run| end(run, <[Value]>::first),
    ),
    transform(
        "ArrayLastNode",
        "The last item, or null",
        const { &[pass("array", LIST), output("element", ANY), output("isEmpty", EMPTY)] },
        |run| end(run, <[Value]>::last),
    ),
    transform(
        "ArrayLengthNode",
        "The number of items",
        const {
            &[
                input("array", r#"{"type":"array","itemConfig":{"type":"any"},"defaultValue":[]}"#),
                output("length", NUMBER).required(),
            ]
        },
        |run| {
            let length = run.items("array").len();
            run.set("length", length as f64);
            Ok(())
        },
    ),
    transform(
        "ArrayReverseNode",
        "The list backwards",
        const { &[pass("array", LIST), output("result", LIST_OUT)] },
        |run| {
            let reversed: Vec<_> = run.items("array").iter().rev().cloned().collect();
            run.set("result", reversed);
            Ok(())
        },
    ),
    transform(
        "ArraySliceNode",
        "The items from `start` to before `end`; negative positions count from the end, −1 as `end` is the end itself",
        const {
            &[
                pass("array", LIST),
                input("start", INTEGER),
                input("end", r#"{"type":"number","defaultValue":-1,"integer":true}"#),
                output("result", LIST_OUT),
            ]
        },
        slice,
    ),
];

const EMPTY: &str = r#"{"type":"boolean","defaultValue":true}"#;

fn concat(run: &mut NodeRun) -> Result<(), NodeError> {
    let joined = [run.items("arrayA"), run.items("arrayB")].concat();
    run.set("result", joined);
    Ok(())
}

fn element(run: &mut NodeRun) -> Result<(), NodeError> {
    run.set("element", Value::Null);
    let Some(items) = run.get("array").as_array() else {
        return Err(NodeError::new("port `array` holds no list; connect it to a list"));
    };
    let element = match run.get("index").as_f64() {
        Some(index) if index < 0.0 || index >= items.len() as f64 => {
            let text = format!(
                "port `index` is {}, outside a list of {} items; positions count from 0",
                number_text(index),
                items.len()
            );
            return Err(NodeError::new(text));
        }
        Some(index) if index.fract() == 0.0 => items[index as usize].clone(), // in range by the arm above
        _ => Value::Undefined,
    };
    run.set("element", element);
    Ok(())
}

fn end(run: &mut NodeRun, pick: fn(&[Value]) -> Option<&Value>) -> Result<(), NodeError> {
    let picked = pick(run.items("array")).cloned();
    run.set("isEmpty", picked.is_none());
    run.set("element", picked.unwrap_or(Value::Null));
    Ok(())
}

fn slice(run: &mut NodeRun) -> Result<(), NodeError> {
    let items = run.items("array");
    let start = position(run.get("start").as_f64().unwrap_or(0.0), items.len());
    let end = match run.get("end").as_f64() {
        None => items.len(),
        Some(-1.0) => items.len(),
        Some(end) => position(end, items.len()),
    };
    let part = items.get(start..end).unwrap_or(&[]).to_vec();
    run.set("result", part);
    Ok(())
}

/// A position as JavaScript's slice reads it: whole part, negative ones from the end, held within the list.
fn position(number: f64, length: usize) -> usize {
    let whole = if number.is_nan() { 0.0 } else { number.trunc() };
    let length = length as f64;
    (if whole < 0.0 { (length + whole).max(0.0) } else { whole.min(length) }) as usize
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::nodes::testing::{fails, ports};

    #[test]
    fn lists_are_cut_joined_and_turned() {
        let five = json!([1, 2, 3, 4, 5]);
        for (node, inputs, port, expected) in [
            ("ArrayConcatNode", json!({"arrayA": [1, 2, 3], "arrayB": [4, 5]}), "result", five.clone()),
            ("ArrayConcatNode", json!({"arrayA": "text", "arrayB": [4]}), "result", json!([4])),
            ("ArrayReverseNode", json!({"array": five}), "result", json!([5, 4, 3, 2, 1])),
            ("ArrayReverseNode", json!({"array": null}), "result", json!([])),
            ("ArraySliceNode", json!({"array": five, "start": 1, "end": 3}), "result", json!([2, 3])),
            ("ArraySliceNode", json!({"array": five, "start": -2, "end": -1}), "result", json!([4, 5])),
            ("ArraySliceNode", json!({"array": five, "start": 0, "end": -2}), "result", json!([1, 2, 3])),
            ("ArraySliceNode", json!({"array": five, "start": 4, "end": 2}), "result", json!([])),
            ("ArraySliceNode", json!({"array": five, "start": -99, "end": 99}), "result", five.clone()),
            ("ArraySliceNode", json!({"array": five, "start": 1.9, "end": null}), "result", json!([2, 3, 4, 5])),
            ("ArraySliceNode", json!({"array": {"length": 3}}), "result", json!([])),
            ("ArrayLengthNode", json!({"array": five}), "length", json!(5)),
            ("ArrayLengthNode", json!({"array": "text"}), "length", json!(0)),
            ("ArrayFirstNode", json!({"array": five}), "element", json!(1)),
            ("ArrayFirstNode", json!({"array": five}), "isEmpty", json!(false)),
            ("ArrayFirstNode", json!({"array": []}), "isEmpty", json!(true)),
            ("ArrayLastNode", json!({"array": five}), "element", json!(5)),
            ("ArrayLastNode", json!({"array": null}), "element", json!(null)),
            ("ArrayElementNode", json!({"array": five, "index": 3}), "element", json!(4)),
            ("ArrayElementNode", json!({"array": five, "index": 1.5}), "element", json!(null)),
        ] {
            assert_eq!(ports(node, &inputs)[port], expected, "{node} {inputs}");
        }
    }

    #[test]
    fn positions_outside_the_list_fail_and_leave_null() {
        for inputs in [
            json!({"array": [1], "index": 1, "element": 7}),
            json!({"array": [1], "index": -1, "element": 7}),
            json!({"array": "x", "index": 0, "element": 7}),
        ] {
            let (text, ports) = fails("ArrayElementNode", &inputs);
            assert!(text.starts_with("port `"), "{text}");
            assert_eq!(ports["element"], json!(null));
        }
    }
}
