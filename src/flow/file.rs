//! A flow's file, read: the stored document that it stands for, and where in the text each part of it is.

use serde_json::Value as JsonValue;

use super::authoring::{Syntax, lower};
use super::validate::codes;
use super::{Diagnostic, Source, json_spans};
use crate::nodes::Registry;

/// A file that holds a flow, or should.
#[derive(Debug)]
pub struct FlowFile {
    /// The flow in its stored form; none where the file can't be read as a flow, which the findings then say.
    pub data: Option<JsonValue>,
    /// The text, and what in it says what.
    pub source: Source,
    /// What was wrong with the text itself.
    pub findings: Vec<Diagnostic>,
    /// The stored version that the file says it was made from.
    pub version: Option<i32>,
    /// Whether it was written by hand, and not in the stored form.
    pub authored: bool,
}

impl FlowFile {
    /// Read a flow from its file's text, in the form that people write or in the stored form; [`syntax`] says which.
    pub fn read(name: &str, text: &str, registry: &Registry) -> FlowFile {
        match ending(name) {
            Some(syntax) => FlowFile::written(name, text, syntax, registry),
            None => FlowFile::json(name, text, registry),
        }
    }

    fn written(name: &str, text: &str, syntax: Syntax, registry: &Registry) -> FlowFile {
        let (data, source, findings, version) = match lower(name, text, syntax, registry) {
            Ok(lowered) => (Some(lowered.data), lowered.source, Vec::new(), lowered.version),
            Err(findings) => (None, Source::new(name, text), findings, None),
        };
        FlowFile { data, source, findings, version, authored: true }
    }

    fn json(name: &str, text: &str, registry: &Registry) -> FlowFile {
        let mut source = Source::new(name, text);
        let (data, findings) = match serde_json::from_str::<JsonValue>(text) {
            Ok(data) if is_written(&data) => return FlowFile::written(name, text, Syntax::Yaml, registry),
            Ok(data) => {
                let twice = json_spans::mark(&mut source).into_iter().map(|(span, key)| {
                    let message = format!("the key {key:?} stands twice in one object; this value does not count");
                    codes::finding("duplicate-key", message).at(Some(span)).hint("remove one of the two")
                });
                (Some(data), twice.collect())
            }
            Err(error) => {
                // Columns are counted in bytes from 1, and are 0 at the start of a line.
                let offset = (source.line_start(error.line()) + error.column().saturating_sub(1)).min(text.len());
                let message = error.to_string();
                let message = message.split(" at line ").next().unwrap_or_default().to_owned();
                let finding = codes::finding("syntax", format!("this is not JSON: {message}"))
                    .at(Some(offset..(offset + 1).min(text.len())));
                (None, vec![finding])
            }
        };
        let mut file = FlowFile { data, source, findings, version: None, authored: false };
        // The version that `flow pull` wrote: what the document was made from, and no part of it.
        let version =
            file.data.as_mut().and_then(JsonValue::as_object_mut).and_then(|data| data.shift_remove("version"));
        file.version = version.and_then(|version| i32::try_from(version.as_i64()?).ok());
        file
    }
}

/// The syntax of a file as people write it; none for one in the stored form. JSON may be either.
pub fn syntax(name: &str, text: &str) -> Option<Syntax> {
    let written = || serde_json::from_str(text).is_ok_and(|json: JsonValue| is_written(&json));
    ending(name).or_else(|| written().then_some(Syntax::Yaml))
}

fn ending(name: &str) -> Option<Syntax> {
    let ending = std::path::Path::new(name).extension().unwrap_or_default().to_string_lossy().to_lowercase();
    match ending.as_str() {
        "yaml" | "yml" => Some(Syntax::Yaml),
        "toml" => Some(Syntax::Toml),
        _ => None,
    }
}

/// Nodes by name are the mark of the form that people write.
fn is_written(json: &JsonValue) -> bool {
    json.get("nodes").is_some_and(JsonValue::is_object)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_syntax_are_at_their_place() {
        for (text, line, column, words) in [
            ("{\n  \"ä\": 1,\n  \"b\" 2\n}", 3, 7, "expected `:`"),
            ("{\"a\": [1, 2", 1, 11, "EOF while parsing a list"),
            ("", 1, 1, "EOF"),
            ("{\"a\": 1}}", 1, 9, "trailing characters"),
        ] {
            let document = FlowFile::read("x.json", text, &Registry::standard());
            assert!(document.data.is_none());
            let [finding] = document.findings.as_slice() else { panic!("{:?}", document.findings) };
            assert!(finding.message.contains(words), "{}", finding.message);
            let place = document.source.place(finding.span.clone().unwrap().start);
            assert_eq!((place.line, place.column), (line, column), "{text}");
        }
    }
}
