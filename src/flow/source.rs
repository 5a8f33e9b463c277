//! The text that a flow was read from, and where in it each part of the stored document stands.

use std::collections::HashMap;
use std::ops::Range;

/// A place in a text, as editors count: both from 1, columns in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The line.
    pub line: usize,
    /// The character in the line.
    pub column: usize,
}

/// A flow's file.
#[derive(Clone, Debug, Default)]
pub struct Source {
    name: String,
    text: String,
    /// Where the lines begin.
    lines: Vec<usize>,
    /// Every byte is a character, so that columns need no counting; a flow may be one very long line.
    ascii: bool,
    spans: HashMap<String, Range<usize>>,
}

impl Source {
    /// A text, with nothing marked in it; the name is that of its file.
    pub fn new(name: impl Into<String>, text: impl Into<String>) -> Source {
        let text = text.into();
        let lines = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Source { name: name.into(), ascii: text.is_ascii(), text, lines, spans: HashMap::new() }
    }

    /// The file's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The whole text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Note which bytes say what stands at a JSON pointer into the stored document (`/nodes/3/ports/0/value`).
    /// What was noted for it before is given back.
    pub fn mark(&mut self, pointer: impl Into<String>, span: Range<usize>) -> Option<Range<usize>> {
        self.spans.insert(pointer.into(), span)
    }

    /// The bytes for a JSON pointer: its own, or those of the nearest part around it that is marked.
    pub fn find(&self, pointer: &str) -> Option<Range<usize>> {
        let mut pointer = pointer;
        loop {
            if let Some(span) = self.spans.get(pointer) {
                return Some(span.clone());
            }
            pointer = &pointer[..pointer.rfind('/')?];
        }
    }

    /// The byte at which a line begins; the text's end where there is no such line.
    pub fn line_start(&self, number: usize) -> usize {
        number.checked_sub(1).and_then(|index| self.lines.get(index)).copied().unwrap_or(self.text.len())
    }

    /// Line and column of a byte.
    pub fn place(&self, offset: usize) -> Place {
        let mut offset = offset.min(self.text.len());
        while !self.text.is_char_boundary(offset) {
            offset -= 1;
        }
        let line = self.lines.partition_point(|start| *start <= offset).max(1);
        let start = self.lines.get(line - 1).copied().unwrap_or_default();
        let before = if self.ascii { offset - start } else { self.text[start..offset].chars().count() };
        Place { line, column: before + 1 }
    }

    /// A line's text, without its end; empty where there is none.
    pub fn line(&self, number: usize) -> &str {
        let start = number.checked_sub(1).and_then(|index| self.lines.get(index));
        start.and_then(|start| self.text[*start..].lines().next()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_found_by_itself_or_by_what_is_around_it() {
        let mut source = Source::new("a.yaml", "ä: 1\nnodes:\n  b: 2\n");
        source.mark("", 0..18);
        source.mark("/nodes/0", 15..19);
        assert_eq!(source.find("/nodes/0/ports/1"), Some(15..19));
        assert_eq!(source.find("/nodes/1"), Some(0..18));
        assert_eq!(Source::new("b", "").find("/x"), None);
        assert_eq!(source.place(15), Place { line: 3, column: 3 });
        assert_eq!(source.place(1), Place { line: 1, column: 1 });
        assert_eq!(source.place(2), Place { line: 1, column: 2 });
        assert_eq!(source.place(99), Place { line: 4, column: 1 });
        assert_eq!((source.line(2), source.line(9)), ("nodes:", ""));
    }
}
