//! Texts as YAML scalars: plain where that reads back as the same text, else quoted or as a block.

use super::fold::{LINE_WIDTH, Mode, fold};
use super::read::resolve;
use crate::flow::Value;
use crate::flow::text::quoted;

/// Where a scalar stands.
#[derive(Clone, Copy)]
pub(super) struct Place {
    /// Indentation in spaces of the lines that belong to it.
    pub indent: usize,
    /// It is a key, and has to stay on one line.
    pub key: bool,
    /// Column at which it starts, when that is not the indentation.
    pub start_column: Option<usize>,
}

/// Write a text.
pub(super) fn write_text(text: &str, place: Place) -> String {
    if text.chars().any(needs_escape) {
        return double_quoted(text, place);
    }
    if place.key && text.contains('\n') {
        return in_quotes(text, place);
    }
    if !can_be_plain(text) {
        return if place.key || !text.contains('\n') { in_quotes(text, place) } else { block(text, place, false) };
    }
    if !place.key && text.contains('\n') {
        return block(text, place, false);
    }
    if has_document_marker(text) {
        if place.indent == 0 {
            return block(text, place, true);
        }
        if place.key && place.indent == 2 {
            return in_quotes(text, place);
        }
    }
    if !matches!(resolve(text), Value::String(_)) {
        return in_quotes(text, place);
    }
    if place.key { text.to_owned() } else { folded(text, place.indent, Mode::Flow, place.start_column).0 }
}

/// Control characters can only be shown escaped. (Tabs and line feeds are no control characters here.)
fn needs_escape(character: char) -> bool {
    matches!(character, '\0'..='\x08' | '\x0b'..='\x1f' | '\x7f'..='\u{9f}')
}

/// Whether nothing in the text would be taken for syntax.
fn can_be_plain(text: &str) -> bool {
    let bytes = text.as_bytes();
    let starts_badly = match bytes {
        [b'?' | b'-'] | [b'?' | b'-', b' ' | b'\t', ..] => true,
        [first, ..] => b"\n\t ,[]{}#&*!|>'\"%@`".contains(first),
        [] => false,
    };
    let ends_badly = bytes.last().is_some_and(|last| b"\n\t :".contains(last));
    let pair_is_bad = |pair: &[u8]| {
        matches!(pair, [b'\n' | b':', b' ' | b'\t'] | [b' ' | b'\t', b'\n'] | [b'\n' | b'\t' | b' ', b'#'])
    };
    !starts_badly && !ends_badly && !bytes.windows(2).any(pair_is_bad)
}

/// Whether a line could be taken for a directive or a document's end.
fn has_document_marker(text: &str) -> bool {
    text.split(['\n', '\r', '\u{2028}', '\u{2029}'])
        .any(|line| line.starts_with('%') || line.starts_with("---") || line.starts_with("..."))
}

fn in_quotes(text: &str, place: Place) -> String {
    if text.contains('"') && !text.contains('\'') { single_quoted(text, place) } else { double_quoted(text, place) }
}

fn quote_indent(text: &str, place: Place) -> usize {
    if place.indent == 0 && has_document_marker(text) { 2 } else { place.indent }
}

fn single_quoted(text: &str, place: Place) -> String {
    // A line end must not touch blanks: they would be lost.
    let touched = text.as_bytes().windows(2).any(|pair| matches!(pair, [b' ' | b'\t', b'\n'] | [b'\n', b' ' | b'\t']));
    if touched || (place.key && text.contains('\n')) {
        return double_quoted(text, place);
    }
    let indent = quote_indent(text, place);
    let inner = after_newlines(&text.replace('\'', "''"), &format!("\n{}", " ".repeat(indent)), false);
    let text = format!("'{inner}'");
    if place.key { text } else { folded(&text, indent, Mode::Flow, place.start_column).0 }
}

/// Texts shorter than this as JSON keep their line ends as `\n` in double quotes.
const MIN_MULTI_LINE: usize = 40;

fn double_quoted(text: &str, place: Place) -> String {
    let json: Vec<char> = quoted(text).chars().collect();
    let json_length: usize = json.iter().map(|character| character.len_utf16()).sum();
    let indent = quote_indent(text, place);
    let is = |position: usize, character: char| json.get(position) == Some(&character);
    let newline_at = |position: usize| is(position, '\\') && is(position + 1, 'n');
    let mut result = String::new();
    let mut at = 0;
    while let Some(&character) = json.get(at) {
        if character == ' ' && newline_at(at + 1) {
            result.push_str("\\ "); // a blank before a line end would be folded away
            at += 1;
        }
        if !is(at, '\\') {
            result.push(json[at]);
            at += 1;
            continue;
        }
        match json.get(at + 1) {
            Some('u') => {
                let code: String = json[at + 2..].iter().take(4).collect();
                result.push_str(&short_escape(&code));
                at += 6;
            }
            Some('n') if !place.key && !is(at + 2, '"') && json_length >= MIN_MULTI_LINE => {
                result.push_str("\n\n"); // folding eats the first
                while newline_at(at + 2) && !is(at + 4, '"') {
                    result.push('\n');
                    at += 2;
                }
                result.extend(std::iter::repeat_n(' ', indent));
                if is(at + 2, ' ') {
                    result.push('\\'); // a blank after a line end as well
                }
                at += 2;
            }
            Some(escaped) => {
                result.extend(['\\', *escaped]);
                at += 2;
            }
            None => at += 1, // JSON never ends in a backslash
        }
    }
    if place.key { result } else { folded(&result, indent, Mode::Quoted, place.start_column).0 }
}

fn short_escape(code: &str) -> String {
    match code {
        "0000" => "\\0".to_owned(),
        "0007" => "\\a".to_owned(),
        "000b" => "\\v".to_owned(),
        "001b" => "\\e".to_owned(),
        _ => match code.strip_prefix("00") {
            Some(short) => format!("\\x{short}"),
            None => format!("\\u{code}"),
        },
    }
}

fn block(text: &str, place: Place, force_indent: bool) -> String {
    let trailing_blanks = text.trim_end_matches([' ', '\t']);
    if trailing_blanks.len() < text.len() && trailing_blanks.ends_with('\n') {
        return in_quotes(text, place); // the last line would vanish
    }
    let indent = if place.indent == 0 && (force_indent || has_document_marker(text)) { 2 } else { place.indent };
    let margin = " ".repeat(indent);

    let body_end = text.trim_end_matches(['\n', '\t', ' ']).len();
    let (body, end) = text.split_at(body_end);
    let chomp = match end.find('\n') {
        None => "-",
        Some(first) if body.is_empty() || first + 1 != end.len() => "+",
        Some(_) => "",
    };
    let end = after_newlines(end.strip_suffix('\n').unwrap_or(end), &margin, true);

    let lead = &body[..body.len() - body.trim_start_matches([' ', '\n']).len()];
    let starts_with_space = lead.contains(' ');
    let start_length = lead.rfind('\n').map_or(0, |newline| newline + 1);
    let (start, body) = body.split_at(start_length);
    let start = after_newlines(start, &margin, false);
    let width = if indent > 0 { "2" } else { "1" };
    let header = format!("{}{chomp}", if starts_with_space { width } else { "" });

    if has_long_line(text, LINE_WIDTH.saturating_sub(indent)) {
        let doubled = double_newlines(body);
        let inner = after_newlines(&join_indented_lines(&doubled), &margin, false);
        let (folded, overflow) = folded(&format!("{start}{inner}{end}"), indent, Mode::Block, Some(place.indent));
        if !overflow {
            return format!(">{header}\n{margin}{folded}");
        }
    }
    let body = after_newlines(body, &margin, false);
    format!("|{header}\n{margin}{start}{body}{end}")
}

/// Put `margin` behind each run of line feeds; `inner_only`: not behind one at the text's end.
fn after_newlines(text: &str, margin: &str, inner_only: bool) -> String {
    let mut result = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    while let Some(character) = rest.next() {
        result.push(character);
        let run_ends = character == '\n' && rest.peek() != Some(&'\n');
        if run_ends && !(inner_only && rest.peek().is_none()) {
            result.push_str(margin);
        }
    }
    result
}

/// One more line feed in each run: in a folded block a single one means a space.
fn double_newlines(text: &str) -> String {
    let mut result = String::with_capacity(text.len());
    let mut previous = None;
    for character in text.chars() {
        if character == '\n' && previous != Some('\n') {
            result.push('\n');
        }
        result.push(character);
        previous = Some(character);
    }
    result
}

/// Lines that start with a blank are not folded, so around them the added line feeds go again.
fn join_indented_lines(text: &str) -> String {
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    let mut at_start = true;
    loop {
        let line_start = if at_start { Some(rest) } else { rest.strip_prefix('\n') };
        at_start = false;
        match line_start {
            Some(line) if line.starts_with([' ', '\t']) => {
                let line_end = line.find(['\n', '\r', '\u{2028}', '\u{2029}']).unwrap_or(line.len());
                result.push_str(&line[..line_end]);
                rest = &line[line_end..];
                let blanks = rest.len() - rest.trim_start_matches(['\n', '\t', ' ']).len();
                if let Some(kept) = rest[..blanks].strip_suffix('\n') {
                    result.push_str(kept);
                    rest = &rest[blanks..];
                }
            }
            _ => {
                let mut characters = rest.chars();
                let Some(character) = characters.next() else {
                    return result;
                };
                result.push(character);
                rest = characters.as_str();
            }
        }
    }
}

/// Whether a line of the text is longer than `limit`.
fn has_long_line(text: &str, limit: usize) -> bool {
    text.split('\n').any(|line| line.encode_utf16().count() > limit)
}

fn folded(text: &str, indent: usize, mode: Mode, start_column: Option<usize>) -> (String, bool) {
    let units: Vec<u16> = text.encode_utf16().collect();
    let folded = fold(&units, indent, mode, start_column);
    (String::from_utf16_lossy(&folded.text), folded.overflow)
}
