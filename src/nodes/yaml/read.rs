//! Reading one YAML 1.2 document by the core schema, within limits on size, depth and aliases.

use std::collections::HashMap;
use std::sync::Arc;

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Tag};

use crate::flow::number::read_number;
use crate::flow::text::text_of;
use crate::flow::{Object, Value};

/// How deep lists and objects may nest; as deep as the JSON reader goes.
const MAX_DEPTH: usize = 128;
/// How many values a document may hold, each alias counted with all that it stands for.
const MAX_VALUES: usize = 1_000_000;

/// Why a text could not be read.
#[derive(Debug, thiserror::Error)]
pub(in crate::nodes) enum ReadError {
    /// No YAML.
    #[error("not valid YAML: {0}")]
    Syntax(#[from] ScanError),
    /// The last of several documents is as wrong as the first.
    #[error("the text holds several YAML documents; keep one")]
    SeveralDocuments,
    /// JavaScript's objects have texts as keys.
    #[error("a list or object stands as a key; use a text")]
    CompositeKey,
    /// Which of the two is meant?
    #[error("the key `{0}` stands twice in one object")]
    DuplicateKey(String),
    /// An alias inside of what it stands for, or of nothing.
    #[error("an alias stands for nothing that came before it")]
    UnknownAlias,
    /// Nested too deeply.
    #[error("the text nests deeper than {MAX_DEPTH} levels")]
    TooDeep,
    /// Too many values, perhaps by aliases of aliases.
    #[error("the text stands for more than {MAX_VALUES} values")]
    TooLarge,
}

/// Read a document; none at all is null.
pub(in crate::nodes) fn read(text: &str) -> Result<Value, ReadError> {
    let mut parser = Parser::new_from_str(text);
    let mut builder = Builder::default();
    while let Some(event) = parser.next_event() {
        builder.take(event?.0)?;
    }
    Ok(builder.root.unwrap_or(Value::Null))
}

/// A list or object whose end is still to come.
struct Open {
    content: Content,
    anchor: usize,
    count_before: usize,
}

enum Content {
    List(Vec<Value>),
    Fields(Object, Option<Arc<str>>),
}

#[derive(Default)]
struct Builder {
    open: Vec<Open>,
    root: Option<Value>,
    /// Values by anchor, each with the number of values that it holds.
    anchors: HashMap<usize, (Value, usize)>,
    count: usize,
}

impl Builder {
    fn take(&mut self, event: Event<'_>) -> Result<(), ReadError> {
        match event {
            Event::DocumentStart(_) if self.root.is_some() => Err(ReadError::SeveralDocuments),
            Event::Scalar(text, style, anchor, tag) => {
                let value = scalar(&text, style, tag.as_deref());
                self.count(1)?;
                self.finish(value, anchor, 1)
            }
            Event::Alias(anchor) => {
                let (value, size) = self.anchors.get(&anchor).cloned().ok_or(ReadError::UnknownAlias)?;
                self.count(size)?;
                self.finish(value, 0, size)
            }
            Event::SequenceStart(anchor, _) => self.open(Content::List(Vec::new()), anchor),
            Event::MappingStart(anchor, _) => self.open(Content::Fields(Object::new(), None), anchor),
            Event::SequenceEnd | Event::MappingEnd => {
                let Some(open) = self.open.pop() else {
                    return Ok(()); // the parser pairs starts and ends
                };
                let value = match open.content {
                    Content::List(items) => Value::from(items),
                    Content::Fields(fields, _) => Value::from(fields),
                };
                self.finish(value, open.anchor, self.count - open.count_before)
            }
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentStart(_) | Event::DocumentEnd => {
                Ok(())
            }
        }
    }

    fn count(&mut self, values: usize) -> Result<(), ReadError> {
        self.count = self.count.saturating_add(values);
        if self.count > MAX_VALUES { Err(ReadError::TooLarge) } else { Ok(()) }
    }

    fn open(&mut self, content: Content, anchor: usize) -> Result<(), ReadError> {
        if self.open.len() == MAX_DEPTH {
            return Err(ReadError::TooDeep);
        }
        let count_before = self.count;
        self.count(1)?;
        self.open.push(Open { content, anchor, count_before });
        Ok(())
    }

    /// Put a finished value where it belongs.
    fn finish(&mut self, value: Value, anchor: usize, size: usize) -> Result<(), ReadError> {
        if anchor != 0 {
            self.anchors.insert(anchor, (value.clone(), size));
        }
        match self.open.last_mut().map(|open| &mut open.content) {
            None => self.root = Some(value),
            Some(Content::List(items)) => items.push(value),
            Some(Content::Fields(fields, key)) => match key.take() {
                None => *key = Some(key_text(&value)?),
                Some(name) if fields.contains_key(&name) => return Err(ReadError::DuplicateKey(name.to_string())),
                Some(name) => {
                    fields.insert(name, value);
                }
            },
        }
        Ok(())
    }
}

fn key_text(value: &Value) -> Result<Arc<str>, ReadError> {
    match value {
        Value::Array(_) | Value::Object(_) | Value::Stream(_) => Err(ReadError::CompositeKey),
        Value::String(text) => Ok(Arc::clone(text)),
        Value::Null | Value::Undefined => Ok("".into()),
        Value::Bool(_) | Value::Number(_) => Ok(text_of(value).into()),
    }
}

fn scalar(text: &str, style: ScalarStyle, tag: Option<&Tag>) -> Value {
    let wanted = match tag {
        Some(tag) if tag.is_yaml_core_schema() => Some(tag.suffix.as_str()),
        Some(_) => Some("str"), // a tag that nobody here knows
        None if style != ScalarStyle::Plain => Some("str"),
        None => None,
    };
    let resolved = resolve(text);
    let fits = match wanted {
        None => true,
        Some("int") => resolved.as_f64().is_some_and(|number| number.fract() == 0.0),
        Some("float") => resolved.as_f64().is_some() && text.contains(['.', 'e', 'E']) && !text.starts_with("0x"),
        Some("bool") => resolved.as_bool().is_some(),
        Some("null") => matches!(resolved, Value::Null),
        Some(_) => false,
    };
    if fits { resolved } else { Value::from(text) }
}

/// What a plain scalar stands for by the core schema.
pub(super) fn resolve(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" => return Value::Bool(true),
        "false" | "False" | "FALSE" => return Value::Bool(false),
        ".nan" | ".NaN" | ".NAN" => return Value::Number(f64::NAN),
        _ => {}
    }
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    if matches!(unsigned, ".inf" | ".Inf" | ".INF") {
        return Value::Number(if text.starts_with('-') { f64::NEG_INFINITY } else { f64::INFINITY });
    }
    let octal_or_hexadecimal = text.starts_with("0o") || text.starts_with("0x");
    let decimal = !unsigned.is_empty()
        && unsigned.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b'e' | b'E' | b'+' | b'-'));
    match read_number(text) {
        Some(number) if octal_or_hexadecimal || decimal => Value::Number(number),
        _ => Value::from(text),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn core_schema_scalars() {
        for (text, expected) in [
            ("12", json!(12)),
            ("+012", json!(12)),
            ("0o17", json!(15)),
            ("0x1F", json!(31)),
            ("-1.5e3", json!(-1500)),
            (".5", json!(0.5)),
            ("5.", json!(5)),
            ("~", json!(null)),
            ("Null", json!(null)),
            ("TRUE", json!(true)),
            ("yes", json!("yes")),
            ("1_000", json!("1_000")),
            ("0b1", json!("0b1")),
            ("-0x1", json!("-0x1")),
            ("Infinity", json!("Infinity")),
            ("2026-01-02", json!("2026-01-02")),
            ("1-2", json!("1-2")),
            ("'12'", json!("12")),
            ("!!str 12", json!("12")),
            ("!!int '12'", json!(12)),
            ("!!float 12", json!("12")),
            ("!!float 12.0", json!(12)),
            ("!other 12", json!("12")),
            ("# nothing", json!(null)),
        ] {
            assert_eq!(read(text).unwrap().to_json(), expected, "{text}");
        }
    }

    #[test]
    fn documents() {
        let text = "a: &x\n  - 1\n  - {b: |\n      }}\n1: *x\nnull: ''\ntrue: ~\n";
        assert!(read(text).is_err());
        let text = "a: &x [1, {b: two}]\n1: *x\nnull: ''\ntrue: ~\nc: >-\n  long\n  text\n";
        assert_eq!(
            read(text).unwrap().to_json(),
            json!({"a": [1, {"b": "two"}], "1": [1, {"b": "two"}], "": "", "true": null, "c": "long text"})
        );
    }

    #[test]
    fn broken_texts_are_refused() {
        for text in ["a: b: c", "{a: 1", "a: 1\na: 2", "--- 1\n--- 2", "[1]: x", "a: *b", "a: &b [*b]", "\"open"] {
            assert!(read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn depth_and_aliases_are_bounded() {
        for opening in ["[", "- ", "{a: "] {
            assert!(read(&opening.repeat(100_000)).is_err(), "{opening}");
        }
        let mut bomb = "a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n".to_owned();
        for level in 1..30 {
            let items = vec![format!("*a{}", level - 1); 10].join(", ");
            bomb.push_str(&format!("a{level}: &a{level} [{items}]\n"));
        }
        assert!(matches!(read(&bomb), Err(ReadError::TooLarge)));
    }
}
