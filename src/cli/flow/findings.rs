//! Findings as people and editors read them: with the line that says it, marked, and what to do; or as JSON.

use std::io::IsTerminal as _;
use std::ops::Range;

use serde_json::{Value as Json, json};

use crate::cli::output;
use crate::flow::validate::Checked;
use crate::flow::{Diagnostic, Place, Severity, Source};

/// Characters of a line that are shown around a finding; flows may be a single line of any length.
const WINDOW: usize = 120;

/// Characters of a message that are shown.
const LONGEST: usize = 600;

/// Where findings go, which decides about colours.
#[derive(Clone, Copy)]
pub(super) enum Stream {
    /// They are what the command gives.
    Out,
    /// They come beside what the command gives.
    Err,
}

impl Stream {
    fn line(self, text: &str) {
        match self {
            Stream::Out => output::line(text),
            Stream::Err => output::note(text),
        }
    }

    fn coloured(self) -> bool {
        let terminal = match self {
            Stream::Out => std::io::stdout().is_terminal(),
            Stream::Err => std::io::stderr().is_terminal(),
        };
        terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
    }
}

/// Write the findings of a file, with an empty line after each.
pub(super) fn print(source: &Source, checked: &Checked, stream: Stream) {
    let coloured = stream.coloured();
    for finding in &checked.findings {
        stream.line(&text(source, finding, coloured));
        stream.line("");
    }
    if checked.left_out > 0 {
        stream.line(&format!("{}: and {} findings more\n", source.name(), checked.left_out));
    }
}

/// A finding with its place: what, where, the line, and what to do.
pub(super) fn text(source: &Source, finding: &Diagnostic, coloured: bool) -> String {
    let paint = |code: &str, text: &str| {
        if coloured { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    };
    let (word, colour) = match finding.severity {
        Severity::Error => ("error", "1;31"),
        Severity::Warning => ("warning", "1;33"),
    };
    let head = paint(colour, &format!("{word}[{}]", finding.code));
    let mut lines = vec![format!("{head}: {}", paint("1", &shown(&finding.message)))];
    let (start, _) = places(source, finding);
    let number = start.map_or_else(String::new, |place| place.line.to_string());
    let margin = " ".repeat(number.len());
    let bar = paint("1;34", "|");
    let place = start.map_or_else(String::new, |place| format!(":{}:{}", place.line, place.column));
    lines.push(format!("{margin}{} {}{place}", paint("1;34", "-->"), source.name()));
    if let (Some(start), Some(span)) = (start, &finding.span) {
        let (line, mark) = excerpt(source, start, span);
        lines.push(format!("{margin} {bar}"));
        lines.push(format!("{} {bar} {line}", paint("1;34", &number)).trim_end().to_owned());
        lines.push(format!("{margin} {bar} {}", mark_painted(&mark, &|text| paint(colour, text))));
    }
    if let Some(hint) = &finding.hint {
        lines.push(format!("{margin} {} hint: {}", paint("1;34", "="), shown(hint)));
    }
    lines.join("\n")
}

fn mark_painted(mark: &str, paint: &dyn Fn(&str) -> String) -> String {
    let spaces = mark.len() - mark.trim_start().len();
    format!("{}{}", &mark[..spaces], paint(&mark[spaces..]))
}

/// The line's part around a span, and the marks to stand below it. Looks at no more of the line than that.
fn excerpt(source: &Source, start: Place, span: &Range<usize>) -> (String, String) {
    let line = source.line(start.line);
    let mut at = span.start.saturating_sub(source.line_start(start.line)).min(line.len());
    while !line.is_char_boundary(at) {
        at -= 1;
    }
    let (before, after) = line.split_at(at);
    let (ahead, behind) = (before.chars().rev().take(WINDOW).count(), after.chars().take(WINDOW + 1).count());
    // All of a short line; of a long one, a third of the window ahead of the span, or more where little follows.
    let room = if ahead < WINDOW && ahead + behind <= WINDOW { ahead } else { WINDOW / 3 };
    let ahead = ahead.min(room.max(WINDOW.saturating_sub(behind)));
    let mut part: Vec<char> = before.chars().rev().take(ahead).collect();
    part.reverse();
    part.extend(after.chars().take(WINDOW - ahead));
    let (cut_before, cut_after) =
        (before.chars().rev().nth(ahead).is_some(), after.chars().nth(WINDOW - ahead).is_some());
    let marked = span.len().min(after.len());
    let marks = after.char_indices().take(WINDOW - ahead).take_while(|(at, _)| *at < marked).count().max(1);
    let (begin, end) = (if cut_before { "…" } else { "" }, if cut_after { "…" } else { "" });
    let part: String = part.into_iter().map(plain).collect();
    let spaces = " ".repeat(ahead + usize::from(cut_before));
    (format!("{begin}{part}{end}"), format!("{spaces}{}", "^".repeat(marks)))
}

/// A character that a terminal shows as one, and does not obey.
fn plain(character: char) -> char {
    match character {
        '\t' => ' ',
        control if control.is_control() => '\u{fffd}',
        other => other,
    }
}

/// A foreign text on one line, within bounds.
fn shown(text: &str) -> String {
    let mut short: String = text.chars().take(LONGEST).map(plain).collect();
    if text.chars().nth(LONGEST).is_some() {
        short.push('…');
    }
    short
}

fn places(source: &Source, finding: &Diagnostic) -> (Option<Place>, Option<Place>) {
    let span = finding.span.as_ref();
    (span.map(|span| source.place(span.start)), span.map(|span| source.place(span.end)))
}

/// A finding for editors: lines and columns count from 1, the end is the first character that is not part of it.
pub(super) fn json(source: &Source, finding: &Diagnostic) -> Json {
    let (start, end) = places(source, finding);
    json!({
        "file": source.name(),
        "code": finding.code,
        "severity": match finding.severity { Severity::Error => "error", Severity::Warning => "warning" },
        "message": finding.message,
        "line": start.map(|place| place.line),
        "column": start.map(|place| place.column),
        "endLine": end.map(|place| place.line),
        "endColumn": end.map(|place| place.column),
        "hint": finding.hint,
    })
}

/// `2 errors, 1 warning`; nothing where there is nothing.
pub(super) fn count(findings: &[Diagnostic]) -> Option<String> {
    let errors = findings.iter().filter(|finding| finding.severity == Severity::Error).count();
    let counted = |count: usize, what: &str| match count {
        0 => None,
        1 => Some(format!("1 {what}")),
        more => Some(format!("{more} {what}s")),
    };
    let parts = [counted(errors, "error"), counted(findings.len() - errors, "warning")];
    let text = parts.into_iter().flatten().collect::<Vec<_>>().join(", ");
    (!text.is_empty()).then_some(text)
}
