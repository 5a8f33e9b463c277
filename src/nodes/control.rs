//! Category `flow`: decisions, meeting points and pauses.

use std::cmp::Ordering;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::port::{ANY, FLAG, TEXT, input, output, pass};
use super::{Behaviour, NodeError, NodeRun, NodeType, PortSpec};
use crate::flow::number::read_number;
use crate::flow::text::{compare, text_or_empty};
use crate::flow::{Object, Value};

const OPERATOR: &str = r#"{"type":"enum","options":[{"id":"equals","type":"string","defaultValue":"equals"},{"id":"notEquals","type":"string","defaultValue":"notEquals"},{"id":"greaterThan","type":"string","defaultValue":"greaterThan"},{"id":"lessThan","type":"string","defaultValue":"lessThan"},{"id":"greaterThanOrEquals","type":"string","defaultValue":"greaterThanOrEquals"},{"id":"lessThanOrEquals","type":"string","defaultValue":"lessThanOrEquals"},{"id":"contains","type":"string","defaultValue":"contains"},{"id":"notContains","type":"string","defaultValue":"notContains"},{"id":"startsWith","type":"string","defaultValue":"startsWith"},{"id":"endsWith","type":"string","defaultValue":"endsWith"}],"defaultValue":"equals"}"#;
const OBJECT: &str = r#"{"type":"object","schema":{"properties":{}},"isSchemaMutable":true,"defaultValue":{}}"#;

/// The types of this file.
pub(super) const TYPES: &[NodeType] = &[
    flow(
        "BranchNode",
        "Compares two values",
        const { &[input("leftValue", ANY), input("operator", OPERATOR), input("rightValue", ANY), output("result", FLAG)] },
        Behaviour::Pure(branch),
    ),
    flow(
        "SwitchNode",
        "Raises the flag of the case that is named like the input, or `default`",
        const { &[input("input", TEXT), output("caseObject", OBJECT), output("default", FLAG)] },
        Behaviour::Pure(switch),
    ),
    flow(
        "GateNodeV2",
        "Opens when all connected fields have arrived, and hands them on",
        const { &[pass("gate", OBJECT)] },
        Behaviour::Passive,
    ),
    flow(
        "GateNode",
        "Hands on fields by a map of names (older form of GateNodeV2)",
        const {
            &[
                input("inputObject", OBJECT),
                input("connectionsMap", r#"{"type":"string","defaultValue":"{}"}"#),
                output("outputObject", OBJECT),
            ]
        },
        Behaviour::Pure(gate),
    ),
    flow(
        "SleepNode",
        "Waits for so many milliseconds",
        const {
            &[
                input("duration", r#"{"type":"number","defaultValue":1000,"min":0}"#),
                output("actualDuration", super::port::NUMBER),
            ]
        },
        Behaviour::Async(|run| Box::pin(sleep(run))),
    ),
];

const fn flow(name: &'static str, about: &'static str, ports: &'static [PortSpec], behaviour: Behaviour) -> NodeType {
    NodeType { name, category: "flow", about, ports, behaviour, disabled_auto_execution: false }
}

fn branch(run: &mut NodeRun) -> Result<(), NodeError> {
    let (left, right) = (run.get("leftValue"), run.get("rightValue"));
    let operator = run.text("operator");
    let result = match operator.as_str() {
        "equals" => equals(left, right),
        "notEquals" => !equals(left, right),
        "greaterThan" => order(left, right).is_some_and(Ordering::is_gt),
        "lessThan" => order(left, right).is_some_and(Ordering::is_lt),
        "greaterThanOrEquals" => order(left, right).is_some_and(Ordering::is_ge),
        "lessThanOrEquals" => order(left, right).is_some_and(Ordering::is_le),
        "contains" => text_or_empty(left).contains(&text_or_empty(right)),
        "notContains" => !text_or_empty(left).contains(&text_or_empty(right)),
        "startsWith" => text_or_empty(left).starts_with(&text_or_empty(right)),
        "endsWith" => text_or_empty(left).ends_with(&text_or_empty(right)),
        _ => false,
    };
    run.set("result", result);
    Ok(())
}

/// A value as a number for comparison, if it can be read as one.
fn reading(value: &Value) -> Option<f64> {
    match value {
        Value::Null => Some(0.0),
        Value::Bool(flag) => Some(f64::from(u8::from(*flag))),
        Value::Number(number) if number.is_nan() => None,
        Value::Number(number) => Some(*number),
        Value::String(text) => read_number(text),
        Value::Undefined | Value::Array(_) | Value::Object(_) | Value::Stream(_) => None,
    }
}

fn equals(left: &Value, right: &Value) -> bool {
    if left.is_nullish() || right.is_nullish() {
        return left.is_nullish() && right.is_nullish();
    }
    if let (Some(left), Some(right)) = (reading(left), reading(right)) {
        return left == right;
    }
    left.strictly_equals(right)
}

fn order(left: &Value, right: &Value) -> Option<Ordering> {
    match (reading(left), reading(right)) {
        (Some(left), Some(right)) => left.partial_cmp(&right),
        _ => Some(compare(&text_or_empty(left), &text_or_empty(right))),
    }
}

fn switch(run: &mut NodeRun) -> Result<(), NodeError> {
    let input = run.get("input").as_str();
    let cases = run.get("caseObject").as_object();
    let found = cases.zip(input).is_some_and(|(cases, input)| cases.contains_key(input));
    let cases: Object = cases
        .into_iter()
        .flat_map(Object::keys)
        .map(|key| (Arc::clone(key), Value::Bool(input == Some(key))))
        .collect();
    run.set("caseObject", cases);
    run.set("default", !found);
    Ok(())
}

fn gate(run: &mut NodeRun) -> Result<(), NodeError> {
    let map: serde_json::Map<String, serde_json::Value> =
        serde_json::from_str(&run.text("connectionsMap")).unwrap_or_default();
    let mut output = run.get("outputObject").as_object().cloned().unwrap_or_default();
    if let Some(inputs) = run.get("inputObject").as_object() {
        for (from, to) in &map {
            let (Some(value), Some(to)) = (inputs.get(from.as_str()).filter(|value| value.is_truthy()), to.as_str())
            else {
                continue;
            };
            let merged = match (value, output.get(to)) {
                (Value::Object(new), Some(Value::Object(old))) => {
                    let mut fields = Object::clone(old);
                    fields.extend(new.iter().map(|(key, value)| (Arc::clone(key), value.clone())));
                    Value::from(fields)
                }
                _ => value.clone(),
            };
            output.insert(to.into(), merged);
        }
    }
    run.set("outputObject", output);
    Ok(())
}

async fn sleep(run: &mut NodeRun) -> Result<(), NodeError> {
    let milliseconds = run.finite("duration", 0.0).max(0.0);
    let start = Instant::now();
    // The conversion saturates, and tokio holds longer sleeps than anyone waits for.
    let slept = tokio::select! {
        () = tokio::time::sleep(Duration::from_millis(milliseconds as u64)) => Ok(()),
        () = run.cancelled().cancelled() => Err(NodeError::stopped("the time on port `duration`")),
    };
    run.set("actualDuration", (start.elapsed().as_secs_f64() * 1000.0).round());
    slept
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::flow::Value;
    use crate::nodes::testing::{Bench, ports};

    #[test]
    fn comparisons() {
        for (left, operator, right, result) in [
            (json!(5), "equals", json!("5"), true),
            (json!(" 0x10 "), "equals", json!(16), true),
            (json!(""), "equals", json!(0), true),
            (json!(true), "equals", json!(1), true),
            (json!("1"), "equals", json!(true), true),
            (json!(null), "equals", json!(null), true),
            (json!(null), "equals", json!(0), false),
            (json!(null), "notEquals", json!(""), true),
            (json!("a"), "equals", json!("a"), true),
            (json!("a"), "equals", json!("A"), false),
            (json!("a"), "notEquals", json!(1), true),
            (json!({}), "equals", json!({}), false),
            (json!([1]), "equals", json!([1]), false),
            (json!(10), "greaterThan", json!("9"), true),
            (json!("10"), "lessThan", json!("9"), false),
            (json!("10a"), "lessThan", json!("9"), true),
            (json!(null), "lessThan", json!(1), true),
            (json!(null), "greaterThanOrEquals", json!(0), true),
            (json!(null), "lessThanOrEquals", json!("abc"), true),
            (json!("b"), "greaterThanOrEquals", json!("b"), true),
            (json!("b"), "lessThanOrEquals", json!("a"), false),
            (json!("hello"), "contains", json!("ell"), true),
            (json!([1, 2]), "contains", json!("1,2"), true),
            (json!(1234), "contains", json!(23), true),
            (json!("x"), "contains", json!(null), true),
            (json!("hello"), "notContains", json!("z"), true),
            (json!("hello"), "startsWith", json!("he"), true),
            (json!("hello"), "endsWith", json!("he"), false),
            (json!(1), "like", json!(1), false),
        ] {
            let inputs = json!({"leftValue": left, "operator": operator, "rightValue": right});
            assert_eq!(ports("BranchNode", &inputs)["result"], json!(result), "{inputs}");
        }
    }

    #[tokio::test]
    async fn unset_values_and_identities_compare() {
        let shared = Value::from(&json!({"a": 1}));
        for (left, operator, right, result) in [
            (Value::Undefined, "equals", Value::Null, true),
            (Value::Undefined, "lessThan", Value::Number(1.0), true), // as texts: "" before "1"
            (Value::Number(f64::NAN), "equals", Value::Number(f64::NAN), false),
            (Value::Number(f64::NAN), "greaterThan", Value::Number(1.0), true), // as texts: "NaN" after "1"
            (shared.clone(), "equals", shared.clone(), true),
        ] {
            let bench = Bench::new("BranchNode", &json!({"operator": operator}))
                .port("leftValue", left.clone())
                .port("rightValue", right.clone());
            assert_eq!(bench.run().await.json()["result"], json!(result), "{left:?} {operator} {right:?}");
        }
    }

    #[test]
    fn switches_open_one_case() {
        for (input, cases, default) in [
            (json!("green"), json!({"red": false, "green": true}), false),
            (json!("Green"), json!({"red": false, "green": false}), true),
            (json!(5), json!({"red": false, "green": false}), true),
        ] {
            let ports = ports("SwitchNode", &json!({"input": input, "caseObject": {"red": true, "green": false}}));
            assert_eq!((&ports["caseObject"], &ports["default"]), (&cases, &json!(default)), "{input}");
        }
        assert_eq!(ports("SwitchNode", &json!({"input": "5", "caseObject": null}))["default"], json!(true));
    }

    #[test]
    fn old_gates_map_names() {
        let inputs = json!({
            "inputObject": {"a": {"x": 1}, "b": {"y": 2}, "c": 0, "d": "text"},
            "connectionsMap": "{\"a\":\"out\",\"b\":\"out\",\"c\":\"zero\",\"d\":\"note\",\"e\":\"gone\"}",
        });
        assert_eq!(ports("GateNode", &inputs)["outputObject"], json!({"out": {"x": 1, "y": 2}, "note": "text"}));
        let inputs = json!({"inputObject": {"a": 1}, "connectionsMap": "{oops"});
        assert_eq!(ports("GateNode", &inputs)["outputObject"], json!({}));
    }

    #[tokio::test]
    async fn sleeping_takes_the_time_given() {
        for (duration, least) in [(json!(30), 30.0), (json!(-5), 0.0), (json!(null), 0.0)] {
            let outcome = Bench::new("SleepNode", &json!({"duration": duration, "actualDuration": -1})).run().await;
            assert!(outcome.result.is_ok());
            let actual = outcome.json()["actualDuration"].as_f64().unwrap();
            assert!(actual >= least && actual < least + 5_000.0, "{duration}: {actual}");
        }
    }

    #[tokio::test]
    async fn sleepers_wake_when_stopped() {
        let bench = Bench::new("SleepNode", &json!({"duration": 1e300, "actualDuration": -1}));
        let cancel = bench.cancel.clone();
        let sleeper = tokio::spawn(bench.run());
        tokio::task::yield_now().await;
        cancel.cancel();
        let outcome = sleeper.await.unwrap();
        assert!(outcome.result.unwrap_err().to_string().contains("stopped"));
        assert!(outcome.ports["actualDuration"].as_f64().unwrap() >= 0.0);
    }
}
