//! Category `math`: decimal calculation, logic, and random numbers.

use super::decimal::{Decimal, Undefined};
use super::port::{FLAG, NUMBER, input, output, pass};
use super::{Behaviour, NodeError, NodeRun, NodeType, PortSpec};
use crate::flow::Value;
use crate::flow::text::text_or_empty;

/// The types of this category.
pub(super) const TYPES: &[NodeType] = &[
    math(
        "MathNode",
        "A calculation with two numbers, in decimal with 20 digits",
        const { &[pass("a", NUMBER), pass("b", NUMBER), pass("operation", OPERATION), output("result", NUMBER)] },
        calculate,
    ),
    math(
        "AndNode",
        "Whether both inputs are true",
        const { &[input("inputX", FLAG), input("inputY", FLAG), output("result", FLAG)] },
        |run| choose(run, false),
    ),
    math(
        "OrNode",
        "Whether one of the inputs is true",
        const { &[input("inputX", FLAG), input("inputY", FLAG), output("result", FLAG)] },
        |run| choose(run, true),
    ),
    math("NotNode", "The opposite", const { &[input("input", FLAG), output("result", FLAG)] }, |run| {
        let opposite = !run.flag("input");
        run.set("result", opposite);
        Ok(())
    }),
    math(
        "RandomNode",
        "A random number from a range, in steps from its start",
        const {
            &[
                input("rangeFrom", NUMBER),
                input("rangeTo", r#"{"type":"number","defaultValue":100}"#),
                input("step", r#"{"type":"number","defaultValue":1}"#),
                output("result", NUMBER),
            ]
        },
        random,
    ),
];

const OPERATION: &str = r#"{"type":"enum","options":[{"id":"add","type":"string","defaultValue":"add"},{"id":"subtract","type":"string","defaultValue":"subtract"},{"id":"multiply","type":"string","defaultValue":"multiply"},{"id":"divide","type":"string","defaultValue":"divide"},{"id":"modulo","type":"string","defaultValue":"modulo"},{"id":"power","type":"string","defaultValue":"power"},{"id":"min","type":"string","defaultValue":"min"},{"id":"max","type":"string","defaultValue":"max"},{"id":"average","type":"string","defaultValue":"average"},{"id":"absolute_difference","type":"string","defaultValue":"absolute_difference"},{"id":"percentage","type":"string","defaultValue":"percentage"},{"id":"log_base","type":"string","defaultValue":"log_base"}]}"#;

const fn math(
    name: &'static str,
    about: &'static str,
    ports: &'static [PortSpec],
    work: fn(&mut NodeRun) -> Result<(), NodeError>,
) -> NodeType {
    NodeType { name, category: "math", about, ports, behaviour: Behaviour::Pure(work), disabled_auto_execution: false }
}

fn calculate(run: &mut NodeRun) -> Result<(), NodeError> {
    let operation = run.text("operation");
    let (a, b) = (number(run, "a", 0.0)?, number(run, "b", 0.0)?);
    let result = match operation.as_str() {
        "add" => Ok(a.add(&b)),
        "subtract" => Ok(a.subtract(&b)),
        "multiply" => Ok(a.multiply(&b)),
        "divide" => a.divide(&b),
        "modulo" => a.modulo(&b),
        "power" => a.power(&b),
        "min" => Ok(if b < a { b } else { a }),
        "max" => Ok(if b > a { b } else { a }),
        "average" => a.add(&b).divide(&number_of(2.0)?),
        "absolute_difference" => Ok(a.subtract(&b).abs()),
        "percentage" => a.divide(&b).and_then(|part| Ok(part.multiply(&number_of(100.0)?))),
        "log_base" => a.logarithm_to(&b),
        "" => return Err(NodeError::new("port `operation` is empty; choose one, such as add or divide")),
        _ => {
            return Err(NodeError::new("port `operation` names no known operation; choose one, such as add or divide"));
        }
    };
    let result = result.map_err(|undefined| describe(undefined, &operation))?;
    run.set("result", result.to_f64());
    Ok(())
}

fn describe(undefined: Undefined, operation: &str) -> NodeError {
    let change = match undefined {
        Undefined::DivisionByZero => "port `b` must not be 0",
        Undefined::NegativeBase => "with a negative `a`, port `b` must be whole",
        Undefined::NotFinite => "change port `a` or `b`",
        Undefined::Logarithm => "port `a` must be above 0",
        Undefined::LogarithmBase => "port `b` must be above 0 and not 1",
    };
    NodeError::new(format!("{operation}: {undefined}; {change}"))
}

fn number(run: &NodeRun, key: &str, fallback: f64) -> Result<Decimal, NodeError> {
    Ok(number_of(run.finite(key, fallback))?)
}

fn number_of(number: f64) -> Result<Decimal, Undefined> {
    Decimal::new(number).ok_or(Undefined::NotFinite)
}

impl From<Undefined> for NodeError {
    fn from(undefined: Undefined) -> NodeError {
        NodeError::new(undefined.to_string())
    }
}

/// JavaScript's `&&` and `||`: the first input when it decides, else the second.
fn choose(run: &mut NodeRun, decisive: bool) -> Result<(), NodeError> {
    let chosen = if run.flag("inputX") == decisive { run.get("inputX") } else { run.get("inputY") };
    let chosen = chosen.clone();
    run.set("result", chosen);
    Ok(())
}

fn random(run: &mut NodeRun) -> Result<(), NodeError> {
    let from = number(run, "rangeFrom", 0.0)?;
    let to = number(run, "rangeTo", 100.0)?;
    let step = run.get("step").as_f64().filter(|step| step.is_finite() && *step > 0.0).unwrap_or(1.0);
    if from > to {
        let text = format!(
            "port `rangeFrom` is {}, above `rangeTo`, which is {}; exchange them",
            text_or_empty(&Value::Number(from.to_f64())),
            text_or_empty(&Value::Number(to.to_f64()))
        );
        return Err(NodeError::new(text));
    }
    let step = number_of(step)?;
    let last = to.subtract(&from).divide(&step)?.floor();
    const EXACT: f64 = 9_007_199_254_740_992.0; // 2^53
    let count = if last.to_f64() < EXACT {
        number_of(rand::random_range(0..=last.to_f64() as u64) as f64)?
    } else {
        number_of(rand::random::<f64>())?.multiply(&last).floor() // more steps than doubles between 0 and 1
    };
    let result = from.add(&count.multiply(&step));
    run.set("result", result.to_f64());
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::nodes::testing::{fails, ports};

    #[test]
    fn operations() {
        // Expected values are what decimal.js with 20 digits, half up, gives.
        for (a, operation, b, result) in [
            (10.5, "add", 3.0, 13.5),
            (10.5, "subtract", 3.0, 7.5),
            (10.5, "multiply", 3.0, 31.5),
            (10.5, "divide", 3.0, 3.5),
            (10.5, "modulo", 3.0, 1.5),
            (10.5, "power", 3.0, 1157.625),
            (10.5, "min", 3.0, 3.0),
            (10.5, "max", 3.0, 10.5),
            (10.5, "average", 3.0, 6.75),
            (10.5, "absolute_difference", 3.0, 7.5),
            (3.0, "absolute_difference", 10.5, 7.5),
            (10.5, "percentage", 3.0, 350.0),
            (10.5, "log_base", 3.0, 2.1403139955899646),
            (0.1, "add", 0.2, 0.3),
            (0.3, "subtract", 0.1, 0.2),
            (0.7, "multiply", 0.1, 0.07),
            (1.0, "divide", 3.0, 0.3333333333333333),
            (1.0, "percentage", 3.0, 33.333333333333336),
            (2.0, "percentage", 3.0, 66.66666666666667),
            (1.1, "multiply", 1.1, 1.21),
            (-7.5, "modulo", 2.0, -1.5),
            (7.5, "modulo", -2.0, 1.5),
            (1e308, "modulo", 3.0, 1.0),
            (5.3, "modulo", 0.1, 0.0),
            (1000.0, "log_base", 10.0, 3.0),
            (8.0, "log_base", 2.0, 3.0),
            (0.001, "log_base", 10.0, -3.0),
            (2.0, "power", 0.5, std::f64::consts::SQRT_2),
            (2.0, "power", -2.0, 0.25),
            (-2.0, "power", 3.0, -8.0),
            (-2.0, "power", -3.0, -0.125),
            (0.0, "power", 0.0, 1.0),
            (0.0, "power", 2.0, 0.0),
            (1.0, "power", 1e300, 1.0),
            (0.5, "power", 1e300, 0.0),
            (1.0000000000000002, "power", 1e20, f64::INFINITY),
            (1.0000001, "power", 1e9, 2.6881037012649237e43),
            (1e308, "add", 1e-308, 1e308),
            (1.5, "power", 100.5, 497933717093180160.0),
            (123.456, "power", -7.89, 3.147521672492618e-17),
            (100.0, "log_base", 0.5, -6.643856189774724),
        ] {
            let ports = ports("MathNode", &json!({"a": a, "b": b, "operation": operation}));
            let expected = crate::flow::Value::Number(result).to_json();
            assert_eq!(ports["result"], expected, "{a} {operation} {b}");
        }
    }

    #[test]
    fn what_is_no_finite_number_counts_as_zero() {
        for (a, b) in [(json!(null), json!(2)), (json!("5"), json!(2)), (json!([1]), json!(2))] {
            assert_eq!(ports("MathNode", &json!({"a": a, "b": b, "operation": "add"}))["result"], json!(2), "{a}");
        }
    }

    #[test]
    fn undefined_calculations_fail_and_keep_the_result() {
        for (a, operation, b, word) in [
            (1.0, "divide", 0.0, "`b`"),
            (1.0, "modulo", 0.0, "`b`"),
            (1.0, "percentage", 0.0, "`b`"),
            (-8.0, "power", 0.5, "`b`"),
            (-1.0, "log_base", 10.0, "`a`"),
            (0.0, "log_base", 10.0, "`a`"),
            (5.0, "log_base", 1.0, "`b`"),
            (5.0, "log_base", -2.0, "`b`"),
            (0.0, "power", -1.0, "finite"),
            (10.0, "power", 1e16, "finite"),
            (1.0, "", 1.0, "`operation`"),
            (1.0, "root", 1.0, "`operation`"),
        ] {
            let (text, ports) = fails("MathNode", &json!({"a": a, "b": b, "operation": operation, "result": 7}));
            assert!(text.contains(word), "{a} {operation} {b}: {text}");
            assert_eq!(ports["result"], json!(7));
        }
    }

    #[test]
    fn logic_hands_on_the_deciding_input() {
        for (node, x, y, result) in [
            ("AndNode", json!(true), json!(true), json!(true)),
            ("AndNode", json!(0), json!(true), json!(0)),
            ("AndNode", json!(1), json!("y"), json!("y")),
            ("OrNode", json!(false), json!(""), json!("")),
            ("OrNode", json!("x"), json!(true), json!("x")),
            ("OrNode", json!(null), json!(false), json!(false)),
        ] {
            assert_eq!(ports(node, &json!({"inputX": x, "inputY": y}))["result"], result, "{node} {x} {y}");
        }
        for (input, result) in [(json!(""), true), (json!("0"), false), (json!([]), false), (json!(null), true)] {
            assert_eq!(ports("NotNode", &json!({"input": input}))["result"], json!(result), "{input}");
        }
    }

    #[test]
    fn random_numbers_lie_on_the_steps() {
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..200 {
            let ports = ports("RandomNode", &json!({"rangeFrom": 0.1, "rangeTo": 0.45, "step": 0.1}));
            seen.insert(ports["result"].to_string());
        }
        assert_eq!(seen.into_iter().collect::<Vec<_>>(), ["0.1", "0.2", "0.3", "0.4"]);
        assert_eq!(ports("RandomNode", &json!({"rangeFrom": 5, "rangeTo": 5, "step": -1}))["result"], json!(5));
        let far = ports("RandomNode", &json!({"rangeFrom": -1e308, "rangeTo": 1e308, "step": 1e-300}));
        assert!(far["result"].as_f64().unwrap().is_finite());
        let (text, _) = fails("RandomNode", &json!({"rangeFrom": 2, "rangeTo": 1}));
        assert!(text.contains("rangeFrom"), "{text}");
    }
}
