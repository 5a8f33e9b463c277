//! Values as text: JavaScript's `String(value)` and `JSON.stringify(value)`.

use std::cmp::Ordering;
use std::sync::Arc;

use super::number::number_text;
use super::{Object, Value};

/// How deep a value may nest to be written. Deeper ones can't come from parsed text, whose parsers stop earlier.
pub const MAX_DEPTH: usize = 256;

/// A value nests deeper than [`MAX_DEPTH`].
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the value nests deeper than {MAX_DEPTH} levels; flatten it first")]
pub struct TooDeep;

/// The text form that JavaScript's `String(value)` gives: arrays comma-joined with nothing for null and undefined,
/// objects `[object Object]`.
pub fn text_of(value: &Value) -> String {
    let mut text = String::new();
    push_text(&mut text, value, 0);
    text
}

fn push_text(text: &mut String, value: &Value, depth: usize) {
    match value {
        Value::Undefined => text.push_str("undefined"),
        Value::Null => text.push_str("null"),
        Value::Bool(flag) => text.push_str(if *flag { "true" } else { "false" }),
        Value::Number(number) => text.push_str(&number_text(*number)),
        Value::String(string) => text.push_str(string),
        Value::Array(_) if depth == MAX_DEPTH => {}
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    text.push(',');
                }
                if !item.is_nullish() {
                    push_text(text, item, depth + 1);
                }
            }
        }
        Value::Object(_) | Value::Stream(_) => text.push_str("[object Object]"),
    }
}

/// The text form, with nothing for null and undefined.
pub fn text_or_empty(value: &Value) -> String {
    if value.is_nullish() { String::new() } else { text_of(value) }
}

/// JSON text as `JSON.stringify` writes it, on one line or indented by two spaces a level. Undefined is `null` at the
/// top and in lists, and left out of objects; numbers that JSON lacks are `null`; a stream is its snapshot.
pub fn json_text(value: &Value, pretty: bool) -> Result<String, TooDeep> {
    let mut text = String::new();
    push_json(&mut text, value, pretty, 0)?;
    Ok(text)
}

fn push_json(text: &mut String, value: &Value, pretty: bool, depth: usize) -> Result<(), TooDeep> {
    match value {
        Value::Undefined | Value::Null => text.push_str("null"),
        Value::Bool(flag) => text.push_str(if *flag { "true" } else { "false" }),
        Value::Number(number) if number.is_finite() => text.push_str(&number_text(*number)),
        Value::Number(_) => text.push_str("null"),
        Value::String(string) => text.push_str(&quoted(string)),
        Value::Stream(channel) => push_json(text, &Value::from(&channel.snapshot()), pretty, depth)?,
        Value::Array(_) | Value::Object(_) if depth == MAX_DEPTH => return Err(TooDeep),
        Value::Array(items) => {
            text.push('[');
            for (index, item) in items.iter().enumerate() {
                start_entry(text, index == 0, pretty, depth + 1);
                push_json(text, item, pretty, depth + 1)?;
            }
            end_entries(text, items.is_empty(), pretty, depth);
            text.push(']');
        }
        Value::Object(fields) => {
            text.push('{');
            let mut empty = true;
            for (key, field) in ordered_fields(fields) {
                if matches!(field, Value::Undefined) {
                    continue;
                }
                start_entry(text, empty, pretty, depth + 1);
                empty = false;
                text.push_str(&quoted(key));
                text.push_str(if pretty { ": " } else { ":" });
                push_json(text, field, pretty, depth + 1)?;
            }
            end_entries(text, empty, pretty, depth);
            text.push('}');
        }
    }
    Ok(())
}

fn start_entry(text: &mut String, first: bool, pretty: bool, depth: usize) {
    if !first {
        text.push(',');
    }
    if pretty {
        new_line(text, depth);
    }
}

fn end_entries(text: &mut String, empty: bool, pretty: bool, depth: usize) {
    if pretty && !empty {
        new_line(text, depth);
    }
}

fn new_line(text: &mut String, depth: usize) {
    text.push('\n');
    text.extend(std::iter::repeat_n("  ", depth));
}

/// A text as a JSON string, quotes included.
pub fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// An object's fields in the order that JavaScript lists them: keys that are array indexes first, ascending, then
/// the others as they were inserted.
pub fn ordered_fields(fields: &Object) -> Vec<(&Arc<str>, &Value)> {
    let mut entries: Vec<_> = fields.iter().collect();
    if entries.iter().any(|(key, _)| array_index(key).is_some()) {
        // Stable, so names keep their order.
        entries.sort_by_key(|(key, _)| array_index(key).map_or((1, 0), |index| (0, index)));
    }
    entries
}

/// The number that a key stands for when it is an array index: canonical decimal below 2^32 − 1.
pub fn array_index(key: &str) -> Option<u32> {
    let canonical =
        !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_digit()) && (key == "0" || !key.starts_with('0'));
    if canonical { key.parse().ok().filter(|index| *index < u32::MAX) } else { None }
}

/// JavaScript's order of texts: by UTF-16 code units.
pub fn compare(left: &str, right: &str) -> Ordering {
    left.encode_utf16().cmp(right.encode_utf16())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn value(json: serde_json::Value) -> Value {
        Value::from(&json)
    }

    #[test]
    fn text_forms_are_javascripts() {
        for (json, text) in [
            (json!([1, null, [true, ["x"]], {"a": 1}]), "1,,true,x,[object Object]"),
            (json!([]), ""),
            (json!([null]), ""),
            (json!(null), "null"),
            (json!(1e21), "1e+21"),
        ] {
            assert_eq!(text_of(&value(json)), text);
        }
        assert_eq!(text_of(&Value::Undefined), "undefined");
    }

    #[test]
    fn json_is_what_javascript_writes() {
        let sample =
            value(json!({"b": [], "2": {}, "10": [1e21, 1e-7, -0.0, 1.5], "1": "a\"\u{1}\n/é\u{7f}", "n": null}));
        assert_eq!(
            json_text(&sample, false).unwrap(),
            "{\"1\":\"a\\\"\\u0001\\n/é\u{7f}\",\"2\":{},\"10\":[1e+21,1e-7,0,1.5],\"b\":[],\"n\":null}"
        );
        assert_eq!(
            json_text(&value(json!({"a": [1, {"b": {}}]})), true).unwrap(),
            "{\n  \"a\": [\n    1,\n    {\n      \"b\": {}\n    }\n  ]\n}"
        );
        let holes = Value::from(vec![Value::Undefined, Value::Number(f64::NAN)]);
        let fields: Object = [(Arc::from("gone"), Value::Undefined), (Arc::from("list"), holes)].into_iter().collect();
        assert_eq!(json_text(&fields.into(), false).unwrap(), "{\"list\":[null,null]}");
    }

    #[test]
    fn depth_is_limited() {
        let mut deep = Value::Null;
        for _ in 0..=MAX_DEPTH {
            deep = Value::from(vec![deep]);
        }
        assert!(json_text(&deep, false).is_err());
        assert_eq!(text_of(&deep), "");
    }

    #[test]
    fn texts_are_ordered_by_utf16() {
        assert_eq!(compare("\u{ff00}", "\u{1f600}"), Ordering::Greater); // the other way round by code point
        assert_eq!(compare("a", "ab"), Ordering::Less);
    }

    #[test]
    fn array_indexes_are_canonical() {
        for (key, index) in [
            ("0", Some(0)),
            ("10", Some(10)),
            ("01", None),
            ("4294967295", None),
            ("-1", None),
            ("", None),
            ("1.0", None),
        ] {
            assert_eq!(array_index(key), index, "{key}");
        }
    }
}
