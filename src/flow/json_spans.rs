//! Where the parts of a JSON text stand, for text that was parsed before and so is known to be JSON.

use std::fmt::Write as _;
use std::ops::Range;

use super::Source;

/// Parts deeper than this are found by what is around them.
const MAX_DEPTH: usize = 24;

/// In texts above this size only nodes, edges and the like are marked, so that memory stays in proportion.
const LARGE: usize = 16 << 20;
const LARGE_DEPTH: usize = 3;

/// An object or list that is being read.
struct Open {
    start: usize,
    /// Where its part of the pointer ends.
    pointer: usize,
    /// For lists: the next item's place.
    index: Option<usize>,
}

/// Mark every part of the text in the source. Gives back keys that an object has twice: the bytes of the earlier
/// value, which does not count, and the key.
pub(super) fn mark(source: &mut Source) -> Vec<(Range<usize>, String)> {
    let text = source.text().to_owned();
    let deepest = if text.len() > LARGE { LARGE_DEPTH } else { MAX_DEPTH };
    let bytes = text.as_bytes();
    let mut twice = Vec::new();
    let mut open: Vec<Open> = Vec::new();
    let mut pointer = String::new();
    let mut at = 0;
    let mut note = |pointer: &str, span: Range<usize>, depth: usize, source: &mut Source| {
        if depth <= deepest
            && let Some(earlier) = source.mark(pointer, span)
        {
            let key = pointer.rsplit('/').next().unwrap_or_default();
            twice.push((earlier, key.replace("~1", "/").replace("~0", "~")));
        }
    };
    while at < bytes.len() {
        match bytes[at] {
            b' ' | b'\t' | b'\r' | b'\n' | b':' => at += 1,
            b',' => {
                if let Some(inner) = open.last() {
                    pointer.truncate(inner.pointer);
                }
                at += 1;
            }
            close @ (b'}' | b']') => {
                at += 1;
                if let Some(inner) = open.pop() {
                    pointer.truncate(inner.pointer);
                    note(&pointer, inner.start..at, open.len(), source);
                }
                debug_assert!(matches!(close, b'}' | b']'));
            }
            first => {
                let item = open.last_mut().map(|inner| (inner.pointer, inner.index.as_mut()));
                let key_wanted = item.as_ref().is_some_and(|(end, index)| index.is_none() && pointer.len() == *end);
                if key_wanted {
                    let end = string_end(bytes, at);
                    let key: String = serde_json::from_str(&text[at..end]).unwrap_or_default();
                    pointer.push('/');
                    pointer.push_str(&escaped(&key));
                    at = end;
                    continue;
                }
                if let Some((end, Some(index))) = item {
                    pointer.truncate(end);
                    let _ = write!(pointer, "/{index}"); // texts take every write
                    *index += 1;
                }
                match first {
                    b'{' | b'[' => {
                        let index = (first == b'[').then_some(0);
                        open.push(Open { start: at, pointer: pointer.len(), index });
                        at += 1;
                    }
                    _ => {
                        let end = if first == b'"' { string_end(bytes, at) } else { word_end(bytes, at) };
                        note(&pointer, at..end, open.len(), source);
                        at = end;
                    }
                }
            }
        }
    }
    twice
}

/// A key as JSON pointers have it.
pub(super) fn escaped(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

/// The end of a string that begins here.
fn string_end(bytes: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while at < bytes.len() {
        match bytes[at] {
            b'"' => return at + 1,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    bytes.len()
}

/// The end of a number or word that begins here.
fn word_end(bytes: &[u8], start: usize) -> usize {
    let inside = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.');
    start + bytes[start..].iter().take_while(|byte| inside(byte)).count().max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_is_found_by_its_pointer() {
        let text = r#" {"a": [1, {"b/c": "x\"}"}, []], "": {"~": null}, "e": -1.5e+3, "ü": true} "#;
        let mut source = Source::new("x.json", text);
        assert!(mark(&mut source).is_empty());
        let parsed: serde_json::Value = serde_json::from_str(text).unwrap();
        for pointer in ["", "/a", "/a/0", "/a/1", "/a/1/b~1c", "/a/2", "/", "//~0", "/e", "/ü"] {
            let span = source.find(pointer).unwrap();
            let found: serde_json::Value = serde_json::from_str(&text[span]).unwrap();
            assert_eq!(Some(&found), parsed.pointer(pointer), "{pointer}");
        }
    }

    #[test]
    fn keys_that_come_twice_are_told_with_the_value_that_does_not_count() {
        let text = r#"{"a": {"k": 1, "k": 2}, "b": [{"k": 3}, {"k": 4}]}"#;
        let mut source = Source::new("x.json", text);
        let twice = mark(&mut source);
        assert_eq!(twice.len(), 1);
        assert_eq!((&text[twice[0].0.clone()], twice[0].1.as_str()), ("1", "k"));
        assert_eq!(&text[source.find("/a/k").unwrap()], "2");
    }
}
