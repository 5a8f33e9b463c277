//! JsonYamlDeserializerNode: text in JSON or YAML, parsed and cut to the shape of the output port.

use std::sync::Arc;

use super::port::{ANY, FLAG, NUMBER, TEXT, output, pass};
use super::utilities::utility;
use super::{Behaviour, NodeError, NodeRun, NodeType, yaml};
use crate::flow::model::{PortConfig, PortKind};
use crate::flow::number::trim;
use crate::flow::ports::filled;
use crate::flow::{Object, Value};

/// How many levels are checked against the schema when the node does not say.
const DEFAULT_DEPTH: u32 = 6;
/// The longest text that is parsed, in bytes; values take several times that.
const MAX_TEXT: usize = 16 * 1024 * 1024;

/// The types of this file.
pub(super) const TYPES: &[NodeType] = &[utility(
    "JsonYamlDeserializerNode",
    "Parses JSON or YAML and cuts it to the output's schema",
    const {
        &[
            pass("outputSchema", ANY),
            pass("inputString", TEXT),
            pass("inputFormat", FORMAT),
            pass("ignoreMissingFields", FLAG),
            pass("maxDepth", NUMBER),
            output("deserializedObject", ANY),
        ]
    },
    Behaviour::Pure(deserialize),
)];

const FORMAT: &str = r#"{"type":"enum","options":[{"id":"auto","type":"string"},{"id":"json","type":"string"},{"id":"yaml","type":"string"}],"defaultValue":"auto"}"#;

fn deserialize(run: &mut NodeRun) -> Result<(), NodeError> {
    let data = parse(&run.text("inputString"), &run.text("inputFormat"))?;
    let schema =
        ["deserializedObject", "outputSchema"].into_iter().find_map(|key| Some(carried(run.config(key)?)?.clone()));
    let Some(schema) = schema else {
        let text = "port `outputSchema` says nothing of the output; connect it to a value of the wanted shape";
        return Err(NodeError::new(text));
    };
    if !matches!(
        schema.kind,
        PortKind::Number | PortKind::Boolean | PortKind::String | PortKind::Object(_) | PortKind::Array(_)
    ) {
        let text = "port `outputSchema` must be a number, a flag, a text, an object or a list";
        return Err(NodeError::new(text));
    }
    let depth = run.finite("maxDepth", 0.0);
    let depth = if depth == 0.0 { DEFAULT_DEPTH } else { depth.max(0.0).ceil() as u32 };
    let filter = Filter { lenient: run.flag("ignoreMissingFields") };
    let value = filter
        .apply(&data, &schema, depth)
        .map_err(|misfit| NodeError::new(format!("port `inputString`: {}", misfit.describe())))?;
    run.set("deserializedObject", filled(value, &schema, run.context().falsy));
    Ok(())
}

/// JSON is tried first whatever the format; only `auto` goes on to YAML. Stored flows expect `yaml` to fail there.
fn parse(text: &str, format: &str) -> Result<Value, NodeError> {
    if text.len() > MAX_TEXT {
        let text = format!("port `inputString` holds {} bytes; at most {MAX_TEXT} can be parsed", text.len());
        return Err(NodeError::new(text));
    }
    if trim(text).is_empty() {
        return Ok(Value::Null);
    }
    let error = match serde_json::from_str::<serde_json::Value>(text) {
        Ok(json) => return Ok(Value::from(&json)),
        Err(error) => error,
    };
    match format {
        "auto" => yaml::read(text)
            .map_err(|yaml| NodeError::new(format!("port `inputString` is no JSON ({error}), and {yaml}"))),
        "yaml" => Err(NodeError::new(format!(
            "port `inputString` is no JSON ({error}); for YAML set `inputFormat` to auto, since yaml takes JSON only"
        ))),
        _ => Err(NodeError::new(format!("port `inputString` is no JSON: {error}"))),
    }
}

/// What a port carries: an any port's underlying type, any other port itself.
fn carried(config: &Arc<PortConfig>) -> Option<&Arc<PortConfig>> {
    let mut config = config;
    while let PortKind::Any(inner) = &config.kind {
        config = inner.as_ref()?;
    }
    Some(config)
}

/// A part of the text does not fit the schema.
struct Misfit {
    /// The way from the misfit up to the root.
    path: Vec<String>,
    problem: &'static str,
}

impl Misfit {
    fn new(problem: &'static str) -> Misfit {
        Misfit { path: Vec::new(), problem }
    }

    fn below(mut self, step: String) -> Misfit {
        self.path.push(step);
        self
    }

    fn describe(&self) -> String {
        if self.path.is_empty() {
            return format!("the value {}", self.problem);
        }
        let path: Vec<_> = self.path.iter().rev().map(String::as_str).collect();
        format!("`{}` {}", path.join("."), self.problem)
    }
}

struct Filter {
    /// Missing and misfit fields become null.
    lenient: bool,
}

impl Filter {
    /// Cut a value to a schema. Recursion ends with the schema, whose depth is that of the stored flow, or sooner.
    fn apply(&self, value: &Value, schema: &PortConfig, depth: u32) -> Result<Value, Misfit> {
        let fits = |fits: bool, problem| if fits { Ok(value.clone()) } else { Err(Misfit::new(problem)) };
        match (&schema.kind, value) {
            (_, Value::Null | Value::Undefined) => Ok(Value::Null),
            (PortKind::Any(_), _) => Ok(value.clone()),
            (PortKind::String, _) => fits(value.as_str().is_some(), "must be a text"),
            (PortKind::Number, _) => fits(value.as_f64().is_some(), "must be a number"),
            (PortKind::Boolean, _) => fits(value.as_bool().is_some(), "must be true or false"),
            (PortKind::Array(_) | PortKind::Object(_), _) if depth == 0 => Ok(value.clone()),
            (PortKind::Array(items), Value::Array(values)) => match items {
                None => Ok(value.clone()),
                Some(items) => self.items(values, items, depth).map(Value::from),
            },
            (PortKind::Array(_), _) => Err(Misfit::new("must be a list")),
            (PortKind::Object(schema), Value::Object(fields)) => {
                let mut result = Object::new();
                for (key, schema) in schema {
                    let field = match fields.get(key) {
                        Some(field) => self.apply(field, schema, depth - 1),
                        None => Err(Misfit::new("is missing")),
                    };
                    let field = match field {
                        Err(_) if self.lenient => Value::Null,
                        field => field.map_err(|misfit| misfit.below(key.to_string()))?,
                    };
                    result.insert(Arc::clone(key), field);
                }
                Ok(Value::from(result))
            }
            (PortKind::Object(_), _) => Err(Misfit::new("must be an object")),
            (PortKind::Enum | PortKind::Stream(_) | PortKind::Secret, _) => {
                Err(Misfit::new("has a type that can't be parsed; use a text, number, flag, object or list"))
            }
        }
    }

    fn items(&self, values: &[Value], items: &PortConfig, depth: u32) -> Result<Vec<Value>, Misfit> {
        let filtered = values.iter().enumerate().map(|(index, value)| {
            self.apply(value, items, depth - 1).map_err(|misfit| misfit.below(index.to_string()))
        });
        filtered.collect()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use indexmap::IndexMap;
    use serde_json::{Value as Json, json};

    use super::*;
    use crate::flow::model::Direction;
    use crate::nodes::testing::Bench;

    fn config(kind: PortKind, default: Option<Json>) -> PortConfig {
        PortConfig {
            id: "x".into(),
            key: "x".into(),
            kind,
            direction: Direction::Output,
            required: false,
            default,
            raw: Arc::default(),
        }
    }

    fn part() -> PortConfig {
        let ok = config(PortKind::Boolean, Some(json!(false)));
        let deep = PortKind::Object([(Arc::from("ok"), Arc::new(ok))].into_iter().collect());
        let tags = PortKind::Array(Some(Arc::new(config(PortKind::String, Some(json!(""))))));
        let fields: IndexMap<Arc<str>, Arc<PortConfig>> = [
            (Arc::from("name"), Arc::new(config(PortKind::String, Some(json!(""))))),
            (Arc::from("qty"), Arc::new(config(PortKind::Number, Some(json!(0))))),
            (Arc::from("tags"), Arc::new(config(tags, Some(json!([]))))),
            (Arc::from("deep"), Arc::new(config(deep, None))),
        ]
        .into_iter()
        .collect();
        config(PortKind::Object(fields), None)
    }

    fn parsed(inputs: &Json, schema: PortConfig) -> Result<Json, String> {
        let any = config(PortKind::Any(Some(Arc::new(schema))), None);
        let outcome = Bench::new("JsonYamlDeserializerNode", inputs)
            .config("deserializedObject", any)
            .run()
            .now_or_never()
            .expect("does not wait");
        outcome.result.as_ref().map_err(ToString::to_string)?;
        Ok(outcome.json()["deserializedObject"].clone())
    }

    #[test]
    fn texts_are_cut_to_the_schema() {
        for (text, format, lenient, depth, expected) in [
            (
                r#"{"name":"nut","qty":2,"tags":["a"],"deep":{"ok":true,"x":1},"extra":9}"#,
                "auto",
                false,
                0,
                json!({"name": "nut", "qty": 2, "tags": ["a"], "deep": {"ok": true}}),
            ),
            (r#"{"name":"nut"}"#, "auto", true, 0, json!({"name": "nut", "qty": 0, "tags": []})),
            (
                r#"{"name":5,"qty":2,"tags":[],"deep":{"ok":true}}"#,
                "auto",
                true,
                0,
                json!({"name": "", "qty": 2, "tags": [], "deep": {"ok": true}}),
            ),
            (
                "name: bolt\nqty: 3\ntags:\n  - x\n  - y\ndeep:\n  ok: false\n",
                "auto",
                false,
                0,
                json!({"name": "bolt", "qty": 3, "tags": ["x", "y"], "deep": {"ok": false}}),
            ),
            (" \n", "json", false, 0, json!(null)),
            (
                r#"{"name":null,"qty":1,"tags":null,"deep":null}"#,
                "yaml",
                false,
                0,
                json!({"name": "", "qty": 1, "tags": []}),
            ),
            (
                r#"{"name":"d","qty":1,"tags":[],"deep":{"bad":1}}"#,
                "auto",
                false,
                1,
                json!({"name": "d", "qty": 1, "tags": [], "deep": {"bad": 1, "ok": false}}),
            ),
        ] {
            let inputs =
                json!({"inputString": text, "inputFormat": format, "ignoreMissingFields": lenient, "maxDepth": depth});
            assert_eq!(parsed(&inputs, part()).as_ref(), Ok(&expected), "{inputs}");
        }
    }

    #[test]
    fn what_does_not_fit_fails_by_name() {
        for (text, format, problem) in [
            (r#"{"name":"nut"}"#, "auto", "`qty` is missing"),
            (r#"{"name":5,"qty":2,"tags":[],"deep":{"ok":true}}"#, "auto", "`name` must be a text"),
            (r#"{"name":"","qty":2,"tags":["a",1],"deep":{"ok":true}}"#, "auto", "`tags.1` must be a text"),
            (r#"{"name":"","qty":2,"tags":[],"deep":{"ok":1}}"#, "auto", "`deep.ok` must be true or false"),
            ("[1]", "auto", "the value must be an object"),
            ("name: bolt", "yaml", "set `inputFormat` to auto"),
            ("name: bolt", "json", "is no JSON"),
            ("{}", "auto", "`name` is missing"),
            ("a: b: c", "auto", "not valid YAML"),
        ] {
            let inputs = json!({"inputString": text, "inputFormat": format});
            let error = parsed(&inputs, part()).unwrap_err();
            assert!(error.contains(problem), "{text}: {error}");
        }
    }

    #[test]
    fn simple_shapes() {
        let numbers = || config(PortKind::Array(Some(Arc::new(config(PortKind::Number, None)))), None);
        let text = |text: &str| json!({"inputString": text});
        assert_eq!(parsed(&text("[1,2,3]"), numbers()), Ok(json!([1, 2, 3])));
        assert!(parsed(&text("[1,\"x\"]"), numbers()).unwrap_err().contains("`1` must be a number"));
        assert_eq!(parsed(&text("\"text\""), config(PortKind::String, None)), Ok(json!("text")));
        assert!(parsed(&text("1"), config(PortKind::Any(None), None)).unwrap_err().contains("`outputSchema`"));
        assert!(parsed(&text("1"), config(PortKind::Enum, None)).unwrap_err().contains("`outputSchema`"));
    }
}
