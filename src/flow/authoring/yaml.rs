//! YAML 1.2 by the core schema, JSON included, as a tree. Size, depth and what aliases stand for are bounded.

use std::collections::{HashMap, HashSet};

use saphyr_parser::{Event, Parser, ScalarStyle, Tag};
use serde_json::Number;

use super::tree::{Kind, MAX_DEPTH, Span, Spanned, Tree};
use crate::flow::diagnostic::Diagnostic;
use crate::flow::number::read_number;

/// How many values a file may hold, each alias counted with all that it stands for.
const MAX_VALUES: usize = 200_000;
/// How many of them aliases may repeat: a short text must not stand for a large flow.
const MAX_REPEATED: usize = 20_000;

/// Read a file. Nothing but comments is an empty map.
pub(super) fn read(text: &str) -> Result<Tree, Vec<Diagnostic>> {
    let offsets = Offsets::new(text);
    let mut parser = Parser::new_from_str(text);
    let mut reader = Reader::default();
    while let Some(event) = parser.next_event() {
        let (event, span) = match event {
            Ok(event) => event,
            Err(error) => {
                let at = offsets.byte(error.marker().index());
                let found = Diagnostic::error("syntax", format!("this is no YAML: {}", error.info()));
                reader.findings.push(found.at(Some(at..next(text, at))));
                return Err(reader.findings);
            }
        };
        let span = offsets.byte(span.start.index())..offsets.byte(span.end.index());
        if reader.take(event, span).is_err() {
            return Err(reader.findings);
        }
    }
    match reader.root {
        _ if !reader.findings.is_empty() => Err(reader.findings),
        Some(root) => Ok(root),
        None => Ok(Tree { kind: Kind::Map(Vec::new()), span: 0..0 }),
    }
}

/// The end of the character that begins at a byte.
fn next(text: &str, at: usize) -> usize {
    text.get(at..).and_then(|rest| rest.chars().next()).map_or(at, |character| at + character.len_utf8())
}

/// Bytes of characters: the parser counts characters.
struct Offsets {
    /// Empty where each character is one byte.
    bytes: Vec<usize>,
    end: usize,
}

impl Offsets {
    fn new(text: &str) -> Offsets {
        let bytes = if text.is_ascii() { Vec::new() } else { text.char_indices().map(|(byte, _)| byte).collect() };
        Offsets { bytes, end: text.len() }
    }

    fn byte(&self, character: usize) -> usize {
        if self.bytes.is_empty() { character.min(self.end) } else { *self.bytes.get(character).unwrap_or(&self.end) }
    }
}

/// Nothing sensible follows after this.
struct Stop;

/// A list or map whose end is still to come.
struct Open {
    content: Content,
    anchor: usize,
    start: usize,
    count_before: usize,
}

enum Content {
    List(Vec<Tree>),
    Map { entries: Vec<(Spanned, Tree)>, keys: HashSet<String>, key: Option<Spanned> },
}

#[derive(Default)]
struct Reader {
    open: Vec<Open>,
    root: Option<Tree>,
    /// Values by anchor, each with the number of values that it holds.
    anchors: HashMap<usize, (Tree, usize)>,
    /// How many values the anchors hold together.
    held: usize,
    count: usize,
    /// Of these, what aliases stand for.
    repeated: usize,
    findings: Vec<Diagnostic>,
}

impl Reader {
    fn take(&mut self, event: Event<'_>, span: Span) -> Result<(), Stop> {
        match event {
            Event::DocumentStart(_) if self.root.is_some() => {
                self.stop("several-documents", "the file holds several YAML documents; a file is one flow", span)
            }
            Event::Scalar(text, style, anchor, tag) => {
                let kind = scalar(&text, style, tag.as_deref());
                let kind = kind.unwrap_or_else(|| {
                    let found = Diagnostic::error("not-a-number", format!("{text} is no finite number"));
                    self.findings.push(found.at(Some(span.clone())));
                    Kind::Null
                });
                self.count(1, &span)?;
                self.finish(Tree { kind, span }, anchor, 1)
            }
            Event::Alias(anchor) => match self.anchors.get(&anchor).cloned() {
                Some((tree, size)) => {
                    self.repeated = self.repeated.saturating_add(size);
                    if self.repeated > MAX_REPEATED {
                        let message = format!("the file's aliases repeat more than {MAX_REPEATED} values");
                        return self.stop("too-large", &message, span);
                    }
                    self.count(size, &span)?;
                    self.finish(tree, 0, size)
                }
                None => self.stop("unknown-alias", "the alias stands for nothing that came before it", span),
            },
            Event::SequenceStart(anchor, _) => self.open(Content::List(Vec::new()), anchor, &span),
            Event::MappingStart(anchor, _) => {
                let content = Content::Map { entries: Vec::new(), keys: HashSet::new(), key: None };
                self.open(content, anchor, &span)
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let Some(open) = self.open.pop() else { return Ok(()) }; // the parser pairs starts and ends
                let kind = match open.content {
                    Content::List(items) => Kind::List(items),
                    Content::Map { entries, .. } => Kind::Map(entries),
                };
                let size = self.count - open.count_before;
                // A block's end is told where the next thing begins; what it holds tells where it ends.
                let last = match &kind {
                    Kind::List(items) => items.last().map(|item| item.span.end),
                    Kind::Map(entries) => entries.last().map(|(_, value)| value.span.end),
                    _ => None,
                };
                let end = if span.is_empty() { last.unwrap_or(open.start) } else { span.end };
                self.finish(Tree { kind, span: open.start..end.max(open.start) }, open.anchor, size)
            }
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentStart(_) | Event::DocumentEnd => {
                Ok(())
            }
        }
    }

    fn stop(&mut self, code: &'static str, message: &str, span: Span) -> Result<(), Stop> {
        self.findings.push(Diagnostic::error(code, message).at(Some(span)));
        Err(Stop)
    }

    fn count(&mut self, values: usize, span: &Span) -> Result<(), Stop> {
        self.count = self.count.saturating_add(values);
        if self.count > MAX_VALUES {
            let message =
                format!("the file stands for more than {MAX_VALUES} values, aliases counted as what they repeat");
            return self.stop("too-large", &message, span.clone());
        }
        Ok(())
    }

    fn open(&mut self, content: Content, anchor: usize, span: &Span) -> Result<(), Stop> {
        if self.open.len() == MAX_DEPTH {
            let message = format!("the file nests deeper than {MAX_DEPTH} levels");
            return self.stop("too-deep", &message, span.clone());
        }
        let count_before = self.count;
        self.count(1, span)?;
        self.open.push(Open { content, anchor, start: span.start, count_before });
        Ok(())
    }

    /// Put a finished value where it belongs.
    fn finish(&mut self, tree: Tree, anchor: usize, size: usize) -> Result<(), Stop> {
        if anchor != 0 {
            self.held = self.held.saturating_add(size);
            if self.held > MAX_VALUES {
                let message = format!("the file's anchors hold more than {MAX_VALUES} values");
                return self.stop("too-large", &message, tree.span);
            }
            self.anchors.insert(anchor, (tree.clone(), size));
        }
        let depth = self.open.len();
        match self.open.last_mut().map(|open| &mut open.content) {
            None => self.root = Some(tree),
            Some(Content::List(items)) => items.push(tree),
            Some(Content::Map { entries, keys, key }) => match key.take() {
                None => *key = Some(key_of(tree, &mut self.findings)),
                Some(name) if !keys.insert(name.text.clone()) => {
                    let found = Diagnostic::error("duplicate-key", format!("`{}` stands here twice", name.text));
                    self.findings.push(found.at(Some(name.span)).hint("keep one of the two"));
                }
                Some(name) => entries.push((name, tree)),
            },
        }
        // An alias may stand for something deep.
        if depth + size.min(MAX_DEPTH) >= MAX_DEPTH && self.too_deep() {
            let message = format!("the file nests deeper than {MAX_DEPTH} levels");
            return self.stop("too-deep", &message, 0..0);
        }
        Ok(())
    }

    /// Whether the value that was put last reaches below the limit.
    fn too_deep(&self) -> bool {
        let last = match self.open.last().map(|open| &open.content) {
            Some(Content::List(items)) => items.last(),
            Some(Content::Map { entries, .. }) => entries.last().map(|(_, value)| value),
            None => self.root.as_ref(),
        };
        last.is_some_and(|tree| deeper(tree, MAX_DEPTH - self.open.len().min(MAX_DEPTH)))
    }
}

/// Whether a tree nests deeper. What is looked at was put together within the limit, or from two such parts.
fn deeper(tree: &Tree, limit: usize) -> bool {
    let below = |inner: &Tree| limit.checked_sub(1).is_none_or(|limit| deeper(inner, limit));
    match &tree.kind {
        Kind::List(_) | Kind::Map(_) if limit == 0 => true,
        Kind::List(items) => items.iter().any(below),
        Kind::Map(entries) => entries.iter().any(|(_, value)| below(value)),
        _ => false,
    }
}

fn key_of(tree: Tree, findings: &mut Vec<Diagnostic>) -> Spanned {
    let text = match tree.kind {
        Kind::Text(text) => text,
        Kind::Bool(flag) => flag.to_string(),
        Kind::Number(number) => number.to_string(),
        Kind::Null => String::new(),
        Kind::List(_) | Kind::Map(_) => {
            let found = Diagnostic::error("bad-key", "a key must be a text, not a list or a map");
            findings.push(found.at(Some(tree.span.clone())));
            String::new()
        }
    };
    Spanned { text, span: tree.span }
}

/// What a scalar stands for; none where JSON has no number for it.
fn scalar(text: &str, style: ScalarStyle, tag: Option<&Tag>) -> Option<Kind> {
    let plain = match tag {
        Some(tag) if tag.is_yaml_core_schema() => tag.suffix != "str",
        Some(_) => false,
        None => style == ScalarStyle::Plain,
    };
    if plain { resolve(text) } else { Some(Kind::Text(text.to_owned())) }
}

/// What a plain scalar stands for by the core schema.
pub(super) fn resolve(text: &str) -> Option<Kind> {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Some(Kind::Null),
        "true" | "True" | "TRUE" => return Some(Kind::Bool(true)),
        "false" | "False" | "FALSE" => return Some(Kind::Bool(false)),
        ".nan" | ".NaN" | ".NAN" => return None,
        _ => {}
    }
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    if matches!(unsigned, ".inf" | ".Inf" | ".INF") {
        return None;
    }
    if let Ok(whole) = text.parse::<i64>() {
        return Some(Kind::Number(whole.into()));
    }
    let octal_or_hexadecimal = text.starts_with("0o") || text.starts_with("0x");
    let decimal = !unsigned.is_empty()
        && unsigned.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b'e' | b'E' | b'+' | b'-'));
    match read_number(text) {
        Some(number) if octal_or_hexadecimal || decimal => json_number(number).map(Kind::Number),
        _ => Some(Kind::Text(text.to_owned())),
    }
}

/// A double in the form that a whole number of JSON has, where it is one; none for what isn't finite.
pub(super) fn json_number(number: f64) -> Option<Number> {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if number.fract() == 0.0 && number.abs() <= EXACT {
        return Some((number as i64).into());
    }
    Number::from_f64(number)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_have_the_bytes_that_they_stand_at() {
        let text = "# ä\nä: ö\nlist:\n  - ü\n  - \"two\"\nflow: {x: 1.5}\n";
        let tree = read(text).unwrap();
        assert_eq!(tree.to_json(), json!({"ä": "ö", "list": ["ü", "two"], "flow": {"x": 1.5}}));
        let entries = tree.as_map().unwrap();
        let at = |span: &Span| &text[span.clone()];
        assert_eq!((at(&entries[0].0.span), at(&entries[0].1.span)), ("ä", "ö"));
        assert_eq!(at(&entries[1].1.span), "- ü\n  - \"two\"");
        assert_eq!(at(&entries[2].1.span), "{x: 1.5}");
        assert_eq!(at(&tree.span), text["# ä\n".len()..].trim_end());
    }

    #[test]
    fn bombs_and_depth_are_refused() {
        let mut bomb = "a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n".to_owned();
        for level in 1..30 {
            let items = vec![format!("*a{}", level - 1); 10].join(", ");
            bomb.push_str(&format!("a{level}: &a{level} [{items}]\n"));
        }
        assert_eq!(read(&bomb).unwrap_err()[0].code, "too-large");
        let mut tower = "a0: &a0 [1]\n".to_owned();
        for level in 1..=MAX_DEPTH {
            tower.push_str(&format!("a{level}: &a{level} [*a{}]\n", level - 1));
        }
        assert_eq!(read(&tower).unwrap_err()[0].code, "too-deep");
        let nested = format!("[{}]", vec!["1"; 5000].join(","));
        let anchors: String = (0..60).map(|level| format!("[&a{level} ")).collect();
        assert_eq!(read(&format!("{anchors}{nested}{}", "]".repeat(60))).unwrap_err()[0].code, "too-large");
        for opening in ["[", "- ", "{a: "] {
            let findings = read(&opening.repeat(100_000)).unwrap_err();
            assert!(["too-deep", "syntax"].contains(&findings[0].code), "{findings:?}");
        }
        let level = |levels: usize| "[".repeat(levels) + &"]".repeat(levels);
        assert!(read(&level(MAX_DEPTH)).is_ok() && read(&level(MAX_DEPTH + 1)).is_err());
    }
}
