//! What is wrong with a flow as somebody wrote it: where, why, and what to do.

use std::ops::Range;

use super::Source;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The flow runs; something in it may not be meant so.
    Warning,
    /// The flow can't be stored, or will not do what it says.
    Error,
}

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// A short stable name, such as `unknown-port`.
    pub code: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong, in one sentence without a full stop.
    pub message: String,
    /// The bytes of the source that say it; none where nothing in particular does.
    pub span: Option<Range<usize>>,
    /// What to do.
    pub hint: Option<String>,
}

impl Diagnostic {
    /// Something that has to be mended.
    pub fn error(code: &'static str, message: impl Into<String>) -> Diagnostic {
        Diagnostic { code, severity: Severity::Error, message: message.into(), span: None, hint: None }
    }

    /// Something to look at.
    pub fn warning(code: &'static str, message: impl Into<String>) -> Diagnostic {
        Diagnostic { severity: Severity::Warning, ..Diagnostic::error(code, message) }
    }

    /// The same, at these bytes.
    pub fn at(self, span: Option<Range<usize>>) -> Diagnostic {
        Diagnostic { span, ..self }
    }

    /// The same, with what to do.
    pub fn hint(self, hint: impl Into<String>) -> Diagnostic {
        Diagnostic { hint: Some(hint.into()), ..self }
    }

    /// All of it in one line: `file:line:column: what is wrong; what to do [code]`.
    pub fn line(&self, source: &Source) -> String {
        let place = self.span.as_ref().map(|span| source.place(span.start));
        let place = place.map_or_else(String::new, |place| format!(":{}:{}", place.line, place.column));
        let hint = self.hint.as_ref().map_or_else(String::new, |hint| format!("; {hint}"));
        format!("{}{place}: {}{hint} [{}]", source.name(), self.message, self.code)
    }
}
