//! YAML files of this repository as JSON: aliases and merge keys (`<<`) replaced by what they stand for.

#![allow(dead_code, reason = "each test binary uses a part of it")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, also in its helpers")]

use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle};
use serde_json::{Map, Value as Json};

/// A list or object whose end is still to come, with its anchor.
enum Open {
    List(Vec<Json>, usize),
    Fields(Map<String, Json>, Option<String>, usize),
}

/// The documents of a file.
pub fn documents(name: &str, text: &str) -> Vec<Json> {
    let (mut open, mut anchors, mut documents) = (Vec::new(), HashMap::new(), Vec::new());
    let mut parser = Parser::new_from_str(text);
    while let Some(event) = parser.next_event() {
        let (event, _) = event.unwrap_or_else(|error| panic!("{name}: {error}"));
        let (value, anchor) = match event {
            Event::Scalar(text, style, anchor, _) => (scalar(&text, style), anchor),
            Event::Alias(anchor) => (anchors.get(&anchor).cloned().unwrap_or_else(|| panic!("{name}: alias")), 0),
            Event::SequenceStart(anchor, _) => {
                open.push(Open::List(Vec::new(), anchor));
                continue;
            }
            Event::MappingStart(anchor, _) => {
                open.push(Open::Fields(Map::new(), None, anchor));
                continue;
            }
            Event::SequenceEnd | Event::MappingEnd => match open.pop().unwrap() {
                Open::List(items, anchor) => (Json::from(items), anchor),
                Open::Fields(fields, _, anchor) => (merged(name, fields), anchor),
            },
            _ => continue,
        };
        if anchor != 0 {
            anchors.insert(anchor, value.clone());
        }
        match open.last_mut() {
            None => documents.push(value),
            Some(Open::List(items, _)) => items.push(value),
            Some(Open::Fields(fields, key, _)) => match key.take() {
                None => *key = Some(value.as_str().map_or_else(|| value.to_string(), str::to_owned)),
                Some(key) => assert!(fields.insert(key.clone(), value).is_none(), "{name}: {key} stands twice"),
            },
        }
    }
    documents
}

/// Fields that stand there win over merged ones.
fn merged(name: &str, mut fields: Map<String, Json>) -> Json {
    if let Some(more) = fields.shift_remove("<<") {
        let Json::Object(more) = more else { panic!("{name}: << needs an object") };
        for (key, value) in more {
            fields.entry(key).or_insert(value);
        }
    }
    fields.into()
}

fn scalar(text: &str, style: ScalarStyle) -> Json {
    if style != ScalarStyle::Plain {
        return text.into();
    }
    match text {
        "" | "~" | "null" => Json::Null,
        "true" => true.into(),
        "false" => false.into(),
        _ => text.parse::<i64>().map_or_else(|_| text.into(), Json::from),
    }
}
