//! `js_superjson`: `{"json": …, "meta": …, "__dbos_serializer": "superjson"}`, as the TypeScript SDK writes it.
//!
//! `json` holds the value as plain JSON, `meta` says which places held something that JSON has no kind for.
//! Almost all of that can be ignored: the plain form is what a flow works with. Two kinds change the value
//! itself: *undefined*, written as null, and −0, written as a text.

use std::collections::{HashMap, HashSet};

use serde::Serialize;
use serde_json::{Map, Value};

use super::error::kind_of;
use super::{Arguments, DecodeError, Format, json};

/// The envelope's third key and its only value.
const BRAND: (&str, &str) = ("__dbos_serializer", "superjson");

/// Deepest place that an annotation can name: the parser admits no deeper JSON.
const MAX_PATH: usize = 128;

/// Whether this is an envelope.
pub fn is_branded(value: &Value) -> bool {
    value.get(BRAND.0).is_some_and(|brand| brand == BRAND.1) && value.get("json").is_some()
}

/// Reads inputs: an array in the envelope, or, in rows of old SDKs, the bare array.
pub fn decode_inputs(text: &str) -> Result<Arguments, DecodeError> {
    match decode_value(text)? {
        Value::Array(positional) => Ok(Arguments { positional, named: Map::new() }),
        other => Err(DecodeError::Shape {
            format: Format::Superjson,
            expected: "the array of arguments in `json`",
            found: kind_of(&other),
        }),
    }
}

/// Reads a value; text without the brand is plain JSON of an old SDK.
pub fn decode_value(text: &str) -> Result<Value, DecodeError> {
    let mut value = json::decode(Format::Superjson, text)?;
    if !is_branded(&value) {
        return Ok(value);
    }
    let mut plain = value["json"].take();
    apply(&value["meta"], &mut plain);
    Ok(plain)
}

/// Writes a value in the envelope. The text is compact because old SDKs look for the brand as a substring, and
/// `meta` is left out because plain JSON needs no annotation.
pub fn encode<T: Serialize + ?Sized>(value: &T) -> String {
    #[derive(Serialize)]
    struct Envelope<'v, T: ?Sized> {
        json: &'v T,
        __dbos_serializer: &'static str,
    }
    serde_json::to_string(&Envelope { json: value, __dbos_serializer: BRAND.1 })
        // Only maps with keys that aren't text and failing writers make this fail; JSON values are neither.
        .unwrap_or_default()
}

/// Writes undefined, the result of a function that returns nothing.
pub fn encode_void() -> String {
    r#"{"json":null,"meta":{"values":["undefined"]},"__dbos_serializer":"superjson"}"#.into()
}

/// Changes `plain` where `meta` says that it held undefined or −0. Annotations that are unknown, malformed or
/// point nowhere are ignored.
fn apply(meta: &Value, plain: &mut Value) {
    // Since version 1 of the annotations a backslash in a key is escaped too, not only a dot.
    let legacy = meta.get("v").and_then(Value::as_u64).unwrap_or(0) < 1;
    let mut notes = Notes { legacy, path: Vec::new(), undefined: HashMap::new(), numbers: Vec::new() };
    if let Some(values) = meta.get("values") {
        notes.collect(values);
    }
    for path in notes.numbers {
        if let Some(place) = descend(plain, &path).filter(|place| *place == "-0") {
            *place = Value::from(-0.0);
        }
    }
    // One pass over each object, however many of its fields go: removing them singly would be quadratic.
    for (parent, fields) in notes.undefined {
        if let Some(Value::Object(object)) = descend(plain, &parent) {
            object.retain(|key, value| !(value.is_null() && fields.contains(key.as_str())));
        }
    }
}

struct Notes {
    legacy: bool,
    path: Vec<String>,
    undefined: HashMap<Vec<String>, HashSet<String>>,
    numbers: Vec<Vec<String>>,
}

impl Notes {
    /// Walks the annotation tree: an object is places under here, an array is the kind of this very place and
    /// perhaps an object of places under it. Its depth is bounded by the JSON parser.
    fn collect(&mut self, tree: &Value) {
        match tree {
            Value::Object(places) => {
                for (key, subtree) in places {
                    let depth = self.path.len();
                    if self.descend_into(key) {
                        self.collect(subtree);
                    }
                    self.path.truncate(depth);
                }
            }
            Value::Array(node) => {
                if let Some(places @ Value::Object(_)) = node.get(1) {
                    self.collect(places);
                }
                match node.first().and_then(Value::as_str) {
                    Some("undefined") => {
                        if let Some((field, parent)) = self.path.split_last() {
                            self.undefined.entry(parent.to_vec()).or_default().insert(field.clone());
                        }
                    }
                    // A number is annotated when JSON can't hold it. NaN and the infinities keep their names.
                    Some("number") => self.numbers.push(self.path.clone()),
                    _ => {}
                }
            }
            _ => {}
        }
    }

    /// Appends the segments of a dotted key to the path; false when it leads deeper than JSON can be.
    fn descend_into(&mut self, key: &str) -> bool {
        let mut segment = String::new();
        let mut chars = key.chars().peekable();
        while let Some(char) = chars.next() {
            match (char, chars.peek()) {
                ('\\', Some('.')) => segment.extend(chars.next()),
                ('\\', Some('\\')) if !self.legacy => segment.extend(chars.next()),
                ('.', _) => self.path.push(std::mem::take(&mut segment)),
                _ => segment.push(char),
            }
            if self.path.len() >= MAX_PATH {
                return false;
            }
        }
        self.path.push(segment);
        true
    }
}

/// The place that a path names.
fn descend<'v>(root: &'v mut Value, path: &[String]) -> Option<&'v mut Value> {
    path.iter().try_fold(root, |place, segment| match place {
        Value::Array(items) => items.get_mut(segment.parse::<usize>().ok()?),
        Value::Object(fields) => fields.get_mut(segment),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn envelope(json: Value, meta: Value) -> String {
        json!({"json": json, "meta": meta, "__dbos_serializer": "superjson"}).to_string()
    }

    #[test]
    fn rich_types_lose_only_their_type() {
        // As the TypeScript SDK wrote it.
        let text = r#"{"json":[{"d":"2023-11-14T22:13:20.000Z","u":null,"b":"10","m":[["a",1]],"s":[1],"n":null,"buf":[104,105],"nan":"NaN","re":"/x/g"}],"meta":{"values":{"0.d":["Date"],"0.u":["undefined"],"0.b":["bigint"],"0.m":["map"],"0.s":["set"],"0.buf":[["custom","Buffer"]],"0.nan":["number"],"0.re":["regexp"]}},"__dbos_serializer":"superjson"}"#;
        let read = decode_inputs(text).unwrap().positional;
        let expected = json!({"d":"2023-11-14T22:13:20.000Z","b":"10","m":[["a",1]],"s":[1],"n":null,"buf":[104,105],"nan":"NaN","re":"/x/g"});
        assert_eq!(read, vec![expected]);
    }

    #[test]
    fn undefined_is_left_out_of_objects_and_null_elsewhere() {
        let values = json!({"a.0": ["undefined"], "b.c.d": ["undefined"], "x\\.y": ["undefined"], "m": ["map", {"0.1.u": ["undefined"]}]});
        let text = envelope(
            json!({"a": [null, 1], "b": {"c": {"d": null, "e": null}}, "x.y": null, "m": [["k", {"u": null}]]}),
            json!({"values": values}),
        );
        assert_eq!(decode_value(&text).unwrap(), json!({"a": [null, 1], "b": {"c": {"e": null}}, "m": [["k", {}]]}));
        assert_eq!(decode_value(&encode_void()).unwrap(), Value::Null);
    }

    #[test]
    fn negative_zero_comes_back_and_names_of_numbers_stay() {
        let text = envelope(
            json!(["-0", "NaN", "-Infinity"]),
            json!({"values": {"0": ["number"], "1": ["number"], "2": ["number"]}}),
        );
        let read = decode_value(&text).unwrap();
        assert!(read[0].as_f64().unwrap().is_sign_negative());
        assert_eq!(read[1], "NaN");
        assert_eq!(read[2], "-Infinity");
    }

    #[test]
    fn backslashes_in_keys_follow_the_annotations_version() {
        let json = json!({"a\\": {"b": null}, "a\\.b": 1});
        let old = envelope(json.clone(), json!({"values": {"a\\": {"b": ["undefined"]}}}));
        assert_eq!(decode_value(&old).unwrap(), json!({"a\\": {}, "a\\.b": 1}));
        let new = envelope(json, json!({"values": {"a\\\\.b": ["undefined"]}, "v": 1}));
        assert_eq!(decode_value(&new).unwrap(), json!({"a\\": {}, "a\\.b": 1}));
    }

    #[test]
    fn strange_annotations_are_ignored() {
        for meta in [
            json!(null),
            json!(7),
            json!({"values": null}),
            json!({"values": "x"}),
            json!({"values": []}),
            json!({"values": [[]]}),
            json!({"values": {"9.x": ["undefined"], "a.b.c": ["undefined"], "": ["number"], "a": [["class", 3]]}}),
            json!({"values": {("a.".repeat(100_000)): ["undefined"]}}),
            json!({"values": {"a": ["undefined"]}, "referentialEqualities": {"a": ["b"]}}),
        ] {
            assert_eq!(decode_value(&envelope(json!({"a": 1}), meta)).unwrap(), json!({"a": 1}));
        }
    }

    #[test]
    fn many_undefined_fields_cost_one_pass() {
        let fields: Map<String, Value> = (0..200_000).map(|field| (field.to_string(), Value::Null)).collect();
        let notes: Map<String, Value> = (0..200_000).map(|field| (field.to_string(), json!(["undefined"]))).collect();
        let text = envelope(Value::Object(fields), json!({"values": notes}));
        assert_eq!(decode_value(&text).unwrap(), json!({}));
    }

    #[test]
    fn the_brand_is_an_exact_substring() {
        assert_eq!(encode(&json!({"ok": true})), r#"{"json":{"ok":true},"__dbos_serializer":"superjson"}"#);
    }

    #[test]
    fn plain_arrays_of_old_rows_are_arguments_and_other_shapes_are_errors() {
        assert_eq!(decode_inputs("[1,null]").unwrap().positional, vec![json!(1), Value::Null]);
        let error = decode_inputs(r#"{"json":{},"__dbos_serializer":"superjson"}"#).unwrap_err();
        assert_eq!(
            error.to_string(),
            "js_superjson inputs: expected the array of arguments in `json`, found an object"
        );
    }
}
