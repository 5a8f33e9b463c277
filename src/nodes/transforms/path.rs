//! Ways into a value, as text: `a.b[2].c`, `[0].x`, `a.0`.

use std::sync::Arc;

use crate::flow::number::trim;
use crate::flow::text::{MAX_DEPTH, array_index};
use crate::flow::{Object, Value};
use crate::nodes::{NodeError, NodeRun};

/// A way into a value, step by step. Without steps it leads to the whole value.
pub(super) struct Path<'a>(Vec<&'a str>);

impl<'a> Path<'a> {
    /// Read a path: names between dots, whole numbers in brackets. Empty steps don't count.
    pub fn new(text: &'a str) -> Path<'a> {
        let mut steps = Vec::new();
        for name in trim(text).split('.') {
            let mut rest = name;
            while let Some((before, index, after)) = bracketed(rest) {
                steps.extend([before, index].into_iter().filter(|step| !step.is_empty()));
                rest = after;
            }
            steps.extend(Some(rest).filter(|step| !step.is_empty()));
        }
        Path(steps)
    }

    /// What the path leads to: undefined where a step is absent, or null comes on the way.
    pub fn read(&self, value: &Value) -> Value {
        let mut value = value.clone();
        for step in &self.0 {
            value = property(&value, step).unwrap_or_default();
        }
        value
    }
}

/// The first `[digits]` of a name, with what stands before and after it.
fn bracketed(name: &str) -> Option<(&str, &str, &str)> {
    name.match_indices('[').find_map(|(open, _)| {
        let (index, after) = name[open + 1..].split_once(']')?;
        let digits = !index.is_empty() && index.bytes().all(|byte| byte.is_ascii_digit());
        digits.then_some((&name[..open], index, after))
    })
}

/// A property of a value's own as JavaScript has it: texts have letters and a length, lists items and a length.
pub(super) fn property(value: &Value, name: &str) -> Option<Value> {
    match value {
        Value::Object(fields) => fields.get(name).cloned(),
        Value::Array(items) if name == "length" => Some(Value::Number(items.len() as f64)),
        Value::Array(items) => items.get(array_index(name)? as usize).cloned(),
        Value::String(text) if name == "length" => Some(Value::Number(text.encode_utf16().count() as f64)),
        Value::String(text) => {
            let unit = text.encode_utf16().nth(array_index(name)? as usize)?;
            Some(String::from_utf16_lossy(&[unit]).into())
        }
        _ => None,
    }
}

/// An object in which the names between the dots of `text` lead to a value. Brackets mean nothing here; without a
/// name there is no object.
pub(super) fn wrapped(text: &str, value: Value) -> Result<Option<Value>, NodeError> {
    let names: Vec<&str> = trim(text).split('.').filter(|name| !name.is_empty()).collect();
    if names.is_empty() {
        return Ok(None);
    }
    if names.len() >= MAX_DEPTH {
        let text = format!("the path of {} names is too long; at most {} are allowed", names.len(), MAX_DEPTH - 1);
        return Err(NodeError::new(text));
    }
    let wrap = |inner, name: &&str| Value::from(Object::from_iter([(Arc::from(*name), inner)]));
    Ok(Some(names.iter().rev().fold(value, wrap)))
}

impl NodeRun {
    /// What the path on a port leads to, in each item of the list on port `array`.
    pub(super) fn items_at_path(&self, port: &str) -> Vec<Value> {
        let text = self.text(port);
        let path = Path::new(&text);
        self.items("array").iter().map(|item| path.read(item)).collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn paths_lead_through_fields_and_items() {
        let value = Value::from(&json!({"a": {"b": [1, null, {"c": "x"}], "": 5, "b[x]": 6}, "n": null, "t": "né"}));
        for (path, found) in [
            ("a.b[2].c", json!("x")),
            ("a.b.2.c", json!("x")),
            (" a.b[0] ", json!(1)),
            ("a..b[0]", json!(1)),
            ("a.b.length", json!(3)),
            ("a.b[x]", json!(6)),
            ("t.length", json!(2)),
            ("t[1]", json!("é")),
        ] {
            assert_eq!(Path::new(path).read(&value).to_json(), found, "{path}");
        }
        for path in ["x", "a.x.y", "n.x", "a.b[3]", "a.b[-1]", "a.b[1].c", "a.b.02", "t.9", "a.b[99999999999999999999]"]
        {
            assert!(matches!(Path::new(path).read(&value), Value::Undefined), "{path}");
        }
        let rows = Value::from(&json!([[{"x": 1}]]));
        assert_eq!(Path::new("[0][0].x").read(&rows).to_json(), json!(1));
        assert_eq!(Path::new(" ").read(&rows).to_json(), json!([[{"x": 1}]]));
    }

    #[test]
    fn names_wrap_a_value() {
        let wrap = |path: &str| wrapped(path, 1.0.into()).map(|value| value.map(|value| value.to_json()));
        assert_eq!(wrap("a.b").unwrap(), Some(json!({"a": {"b": 1}})));
        assert_eq!(wrap("a[0]").unwrap(), Some(json!({"a[0]": 1})));
        assert_eq!(wrap(" . ").unwrap(), None);
        assert!(wrap(&vec!["a"; 100_000].join(".")).unwrap_err().to_string().contains("100000 names"));
    }
}
