//! What is found wrong while a file is read, and the questions that the reader asks of its values.

use super::reference::BadReference;
use super::tree::{Kind, Span, Spanned, Tree};
use crate::flow::diagnostic::Diagnostic;

/// Findings, and the text that they are about.
pub(super) struct Reading<'a> {
    pub file: &'a str,
    pub findings: Vec<Diagnostic>,
}

impl Reading<'_> {
    pub fn error(&mut self, code: &'static str, message: impl Into<String>, span: &Span) {
        self.findings.push(Diagnostic::error(code, message).at(Some(span.clone())));
    }

    pub fn hint(&mut self, code: &'static str, message: impl Into<String>, span: &Span, hint: impl Into<String>) {
        self.findings.push(Diagnostic::error(code, message).at(Some(span.clone())).hint(hint));
    }

    /// A value of the wrong kind.
    pub fn wrong(&mut self, expected: &str, found: &Tree) {
        self.error("wrong-kind", format!("this must be {expected}, and is {}", found.noun()), &found.span);
    }

    /// A reference that can't be read.
    pub fn bad_reference(&mut self, code: &'static str, bad: BadReference, whole: &Spanned, hint: Option<&str>) {
        let span = whole.part(self.file, bad.part);
        let found = Diagnostic::error(code, bad.text).at(Some(span));
        self.findings.push(match hint {
            Some(hint) => found.hint(hint),
            None => found,
        });
    }

    /// A name that isn't among the known ones; the nearest of them is the hint.
    pub fn unknown<'k>(
        &mut self,
        code: &'static str,
        message: &str,
        name: &str,
        known: impl Iterator<Item = &'k String>,
        span: &Span,
    ) {
        let known: Vec<&String> = known.collect();
        let hint = match nearest(name, known.iter().map(|known| known.as_str())) {
            Some(nearest) => format!("did you mean `{nearest}`?"),
            None if known.is_empty() => return self.error(code, message, span),
            None => {
                const SHOWN: usize = 12;
                let more = if known.len() > SHOWN { ", …" } else { "" };
                let names: Vec<_> = known.iter().take(SHOWN).map(|known| known.as_str()).collect();
                format!("there is {}{more}", names.join(", "))
            }
        };
        self.hint(code, message, span, hint);
    }

    /// Report the keys that aren't known.
    pub fn known_keys(&mut self, entries: &[(Spanned, Tree)], known: &[&str], what: &str) {
        for (key, _) in entries {
            if !known.contains(&key.text.as_str()) {
                let names: Vec<String> = known.iter().map(|&name| name.to_owned()).collect();
                let message = format!("{what} has no key `{}`", key.text);
                self.unknown("unknown-key", &message, &key.text, names.iter(), &key.span);
            }
        }
    }

    /// The text under a key, when there is one. A number or flag is taken by its text.
    pub fn text_of(&mut self, tree: &Tree, key: &str) -> Option<Spanned> {
        let value = tree.get(key)?;
        let text = match &value.kind {
            Kind::Text(text) => text.clone(),
            Kind::Number(number) => number.to_string(),
            Kind::Null => return None,
            _ => {
                self.wrong("a text", value);
                return None;
            }
        };
        Some(Spanned { text, span: value.span.clone() })
    }

    /// The map under a key, when there is one. Nothing counts as an empty one.
    pub fn map_of<'t>(&mut self, tree: &'t Tree, key: &str, expected: &str) -> Option<&'t [(Spanned, Tree)]> {
        let value = tree.get(key)?;
        match &value.kind {
            Kind::Map(entries) => Some(entries),
            Kind::Null => Some(&[]),
            _ => {
                self.wrong(expected, value);
                None
            }
        }
    }
}

/// The most similar of some names, when it is similar enough to be meant.
fn nearest<'n>(name: &str, known: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    const SIMILAR: f64 = 0.75;
    let score = |known: &str| strsim::jaro_winkler(&name.to_lowercase(), &known.to_lowercase());
    let scored = known.map(|known| (score(known), known));
    let best = scored.max_by(|(a, _), (b, _)| a.total_cmp(b))?;
    (best.0 >= SIMILAR).then_some(best.1)
}
