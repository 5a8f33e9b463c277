//! Files as text: YAML as a person would lay it out, and TOML.

use serde_json::{Map, Value as Json};

use super::tree::Kind;
use super::yaml::resolve;

/// What fits into a line is written in one, with brackets.
const WIDTH: usize = 100;
/// Keys longer than this can't stand before a colon on one line.
const MAX_KEY: usize = 1000;

/// A file in YAML. Recursion is bounded: what is written was read from something bounded.
pub(super) fn yaml(document: &Map<String, Json>) -> String {
    let mut text = String::new();
    for (key, value) in document {
        // Parts with an entry a line have room around them.
        let part = matches!(key.as_str(), "inputs" | "outputs" | "nodes" | "edges");
        if part && !text.is_empty() {
            text.push('\n');
        }
        let levels = match key.as_str() {
            "nodes" => 2,
            "inputs" | "outputs" | "edges" => 1,
            _ => 0,
        };
        entry(&mut text, key, value, 0, levels);
    }
    text
}

/// A file in TOML.
pub(super) fn toml(document: &Map<String, Json>) -> Result<String, toml::ser::Error> {
    toml::to_string_pretty(document)
}

/// `key: value` with its line end. So many levels of the value keep a line for each entry.
fn entry(text: &mut String, name: &str, value: &Json, indent: usize, levels: usize) {
    let written = key(name);
    if written.len() > MAX_KEY {
        text.push_str(&format!("{:indent$}? {written}\n{:indent$}:", "", ""));
    } else {
        text.push_str(&format!("{:indent$}{written}:", ""));
    }
    after(text, value, indent, indent + written.len() + 2, levels);
}

/// What follows a colon or dash, with its line end.
fn after(text: &mut String, value: &Json, indent: usize, column: usize, levels: usize) {
    let inline = if levels == 0 || is_small(value) { flow(value) } else { None };
    match (inline, value) {
        (Some(line), _) if column + line.chars().count() <= WIDTH || is_small(value) => {
            text.push_str(&format!(" {line}\n"));
        }
        (_, Json::Object(fields)) => {
            text.push('\n');
            for (index, (name, value)) in fields.iter().enumerate() {
                // A blank line between nodes.
                if levels == 2 && index > 0 {
                    text.push('\n');
                }
                entry(text, name, value, indent + 2, levels.saturating_sub(1));
            }
        }
        (_, Json::Array(items)) => {
            text.push('\n');
            for item in items {
                text.push_str(&format!("{:width$}-", "", width = indent + 2));
                after(text, item, indent + 2, indent + 4, levels.saturating_sub(1));
            }
        }
        (_, Json::String(long)) => {
            let chomp = if long.ends_with('\n') { "" } else { "-" };
            text.push_str(&format!(" |{chomp}\n"));
            for line in long.strip_suffix('\n').unwrap_or(long).split('\n') {
                match line {
                    "" => text.push('\n'),
                    line => text.push_str(&format!("{:width$}{line}\n", "", width = indent + 2)),
                }
            }
        }
        (Some(line), _) => text.push_str(&format!(" {line}\n")),
        (None, _) => text.push('\n'),
    }
}

/// Whether a value has no parts, and no lines of its own.
fn is_small(value: &Json) -> bool {
    match value {
        Json::Object(fields) => fields.is_empty(),
        Json::Array(items) => items.is_empty(),
        Json::String(text) => !is_block(text),
        _ => true,
    }
}

/// A value on one line; none where a text has lines of its own.
fn flow(value: &Json) -> Option<String> {
    Some(match value {
        Json::Object(fields) => {
            let inner =
                |(name, value): (&String, &Json)| Some(format!("{}: {}", quoted_in_flow(name), in_flow(value)?));
            let parts: Option<Vec<_>> = fields.iter().map(inner).collect();
            format!("{{{}}}", parts?.join(", "))
        }
        Json::Array(items) => {
            let parts: Option<Vec<_>> = items.iter().map(in_flow).collect();
            format!("[{}]", parts?.join(", "))
        }
        Json::String(text) if is_block(text) => return None,
        Json::String(text) => scalar(text, false),
        simple => simple.to_string(),
    })
}

fn in_flow(value: &Json) -> Option<String> {
    match value {
        Json::String(text) if !is_block(text) => Some(quoted_in_flow(text)),
        value => flow(value),
    }
}

fn quoted_in_flow(text: &str) -> String {
    if text.len() > MAX_KEY { double_quoted(text) } else { scalar(text, true) }
}

fn key(text: &str) -> String {
    scalar(text, false)
}

/// Whether a text reads best as a block of lines, and survives it.
fn is_block(text: &str) -> bool {
    let inner = text.strip_suffix('\n').unwrap_or(text);
    text.contains('\n')
        && !inner.is_empty()
        && !inner.starts_with([' ', '\t', '\n'])
        && !inner.ends_with('\n')
        && text.chars().all(|character| character == '\n' || is_printable(character))
        && inner.split('\n').all(|line| line.is_empty() || !line.trim_matches([' ', '\t']).is_empty())
}

fn is_printable(character: char) -> bool {
    !character.is_control() && !matches!(character, '\u{feff}' | '\u{2028}' | '\u{2029}' | '\u{fffe}' | '\u{ffff}')
}

fn scalar(text: &str, in_flow: bool) -> String {
    if is_plain(text, in_flow) {
        return text.to_owned();
    }
    if !text.contains('\'') && text.chars().all(is_printable) {
        return format!("'{text}'");
    }
    double_quoted(text)
}

fn is_plain(text: &str, in_flow: bool) -> bool {
    let Some(first) = text.chars().next() else { return false };
    let starts_well = !first.is_whitespace() && !"-?:,[]{}#&*!|>'\"%@`=".contains(first)
        || (first == '-' && text[1..].starts_with(|next: char| next.is_alphanumeric()));
    starts_well
        && !text.ends_with([' ', ':'])
        && !text.contains(": ")
        && !text.contains(" #")
        && !text.starts_with("---")
        && !text.starts_with("...")
        && !(in_flow && (text.contains([',', '[', ']', '{', '}']) || text.contains(':')))
        && text.chars().all(|character| is_printable(character) && (character == ' ' || !character.is_whitespace()))
        && matches!(resolve(text), Some(Kind::Text(_)))
}

fn double_quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for character in text.chars() {
        match character {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            '\r' => quoted.push_str("\\r"),
            other if is_printable(other) => quoted.push(other),
            other => quoted.push_str(&format!("\\U{:08x}", u32::from(other))),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn value() -> impl Strategy<Value = Json> {
        let text = prop_oneof![
            "[ -~]{0,12}",
            "[a-z:# \\-\\n\\t{}\\[\\],'\"$|>%@`!&*?.0-9\u{85}\u{feff}\u{2028}é\u{1F600}]{0,14}",
            Just("null".to_owned()),
            Just("1e3".to_owned()),
            Just("~".to_owned()),
        ];
        let leaf = prop_oneof![
            Just(Json::Null),
            any::<bool>().prop_map(Json::from),
            any::<i32>().prop_map(Json::from),
            (-1e9..1e9_f64).prop_map(Json::from),
            text.clone().prop_map(Json::from),
        ];
        leaf.prop_recursive(4, 40, 5, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Json::from),
                prop::collection::vec((text.clone(), inner), 0..5)
                    .prop_map(|entries| Json::Object(entries.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(inner in value(), key in "[ -~\\n]{1,12}") {
            for name in ["nodes", "edges", "metadata", key.as_str()] {
                let document = Map::from_iter([(name.to_owned(), inner.clone()), ("last".to_owned(), "x".into())]);
                let text = yaml(&document);
                let read = super::super::yaml::read(&text);
                let read = read.unwrap_or_else(|found| panic!("{found:?}\n{text}"));
                prop_assert_eq!(read.to_json().to_string(), Json::Object(document).to_string(), "{}", text);
            }
        }
    }
}
