//! Values as YAML in block style, two spaces a level.

use super::scalar::{Place, write_text};
use crate::flow::Value;
use crate::flow::number::number_text;
use crate::flow::text::{MAX_DEPTH, TooDeep, ordered_fields};

/// Keys longer than this can't stand before a colon on one line.
const MAX_KEY: usize = 1024;

/// A document with its final line end; `directives` puts `---` before it.
pub(in crate::nodes) fn write(value: &Value, directives: bool) -> Result<String, TooDeep> {
    let body = node(value, 0, None, 0)?;
    Ok(match (directives, body.starts_with(['|', '>'])) {
        (false, _) => format!("{body}\n"),
        (true, true) => format!("--- {body}\n"),
        (true, false) => format!("---\n{body}\n"),
    })
}

/// A value whose lines after the first are indented by `indent`.
fn node(value: &Value, indent: usize, start_column: Option<usize>, depth: usize) -> Result<String, TooDeep> {
    Ok(match value {
        Value::Undefined | Value::Null => "null".to_owned(),
        Value::Bool(flag) => flag.to_string(),
        Value::Number(number) => number_scalar(*number),
        Value::String(text) => write_text(text, Place { indent, key: false, start_column }),
        Value::Stream(channel) => node(&Value::from(&channel.snapshot()), indent, start_column, depth)?,
        Value::Array(_) | Value::Object(_) if depth == MAX_DEPTH => return Err(TooDeep),
        Value::Array(items) if items.is_empty() => "[]".to_owned(),
        Value::Array(items) => {
            let lines: Result<Vec<_>, _> =
                items.iter().map(|item| Ok(format!("- {}", node(item, indent + 2, None, depth + 1)?))).collect();
            lines?.join(&line_start(indent))
        }
        Value::Object(fields) => {
            let fields = ordered_fields(fields).into_iter().filter(|(_, value)| !matches!(value, Value::Undefined));
            let lines: Result<Vec<_>, _> = fields.map(|(key, value)| pair(key, value, indent, depth + 1)).collect();
            let lines = lines?;
            if lines.is_empty() { "{}".to_owned() } else { lines.join(&line_start(indent)) }
        }
    })
}

fn pair(key: &str, value: &Value, indent: usize, depth: usize) -> Result<String, TooDeep> {
    let inner = indent + 2;
    let key = write_text(key, Place { indent: inner, key: true, start_column: None });
    let key_width = key.encode_utf16().count() + 1;
    if key_width > MAX_KEY + 1 {
        return Ok(format!("? {key}{}: {}", line_start(indent), node(value, inner, None, depth)?));
    }
    let is_collection = matches!(value, Value::Array(_) | Value::Object(_) | Value::Stream(_));
    let text = node(value, inner, (!is_collection).then_some(key_width + 1), depth)?;
    let gap = if is_collection && !matches!(text.as_str(), "[]" | "{}") {
        line_start(inner)
    } else if text.starts_with('\n') {
        String::new()
    } else {
        " ".to_owned()
    };
    Ok(format!("{key}:{gap}{text}"))
}

fn line_start(indent: usize) -> String {
    format!("\n{}", " ".repeat(indent))
}

fn number_scalar(number: f64) -> String {
    if number.is_nan() {
        ".nan".to_owned()
    } else if number.is_infinite() {
        if number < 0.0 { "-.inf" } else { ".inf" }.to_owned()
    } else if number == 0.0 && number.is_sign_negative() {
        "-0".to_owned()
    } else {
        number_text(number)
    }
}
