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
}

impl FlowFile {
    /// Read a flow from its file's text. The name tells the syntax: `.yaml`, `.yml` and `.toml` are written by people;
    /// everything else is JSON and holds a flow in the stored form.
    pub fn read(name: &str, text: &str, registry: &Registry) -> FlowFile {
        let extension = name.rsplit_once('.').map(|(_, extension)| extension.to_ascii_lowercase());
        let syntax = match extension.as_deref() {
            Some("yaml" | "yml") => Syntax::Yaml,
            Some("toml") => Syntax::Toml,
            _ => return FlowFile::json(name, text),
        };
        match lower(name, text, syntax, registry) {
            Ok(lowered) => FlowFile { data: Some(lowered.data), source: lowered.source, findings: Vec::new() },
            Err(findings) => FlowFile { data: None, source: Source::new(name, text), findings },
        }
    }

    fn json(name: &str, text: &str) -> FlowFile {
        let mut source = Source::new(name, text);
        match serde_json::from_str(text) {
            Ok(data) => {
                let twice = json_spans::mark(&mut source).into_iter().map(|(span, key)| {
                    let message = format!("the key {key:?} stands twice in one object; this value does not count");
                    codes::finding("duplicate-key", message).at(Some(span)).hint("remove one of the two")
                });
                FlowFile { data: Some(data), findings: twice.collect(), source }
            }
            Err(error) => {
                // Columns are counted in bytes from 1, and are 0 at the start of a line.
                let offset = (source.line_start(error.line()) + error.column().saturating_sub(1)).min(text.len());
                let message = error.to_string();
                let message = message.split(" at line ").next().unwrap_or_default().to_owned();
                let finding = codes::finding("syntax", format!("this is not JSON: {message}"))
                    .at(Some(offset..(offset + 1).min(text.len())));
                FlowFile { data: None, findings: vec![finding], source }
            }
        }
    }
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
