//! References: `node.port`, `$node.port | $other.port`, `node.port -> other.port`.

use std::ops::Range;

use super::tree::{Span, Spanned};

/// One end of an edge, as written.
#[derive(Clone, Debug)]
pub(super) struct End {
    pub node: Spanned,
    /// None: the node's only one.
    pub port: Option<Spanned>,
    /// Both.
    pub span: Span,
}

/// What is wrong with a reference, and in which part of the text.
#[derive(Debug)]
pub(super) struct BadReference {
    pub text: String,
    pub part: Range<usize>,
}

/// Whether a name can be written in references.
pub(super) fn is_name(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|character| character.is_alphanumeric() || matches!(character, '_' | '-'))
}

/// A text that begins with `$` and isn't escaped by another one is a reference.
pub(super) fn is_reference(text: &str) -> bool {
    text.starts_with('$') && !text.starts_with("$$")
}

/// What a text that is no reference says: a first `$` is written twice.
pub(super) fn literal(text: &str) -> &str {
    if text.starts_with("$$") { &text[1..] } else { text }
}

/// One end: `node.port`, or a node alone. A `$` in front changes nothing.
pub(super) fn end(whole: &Spanned, file: &str) -> Result<End, BadReference> {
    end_in(whole, 0..whole.text.len(), file)
}

/// One or more ends, the first that has something counts: `$a.b | $c.d`.
pub(super) fn ends(whole: &Spanned, file: &str) -> Result<Vec<End>, BadReference> {
    let mut start = 0;
    let mut found = Vec::new();
    for part in whole.text.split('|') {
        found.push(end_in(whole, start..start + part.len(), file)?);
        start += part.len() + 1;
    }
    Ok(found)
}

/// An edge: `from -> to`.
pub(super) fn edge(whole: &Spanned, file: &str) -> Result<(End, End), BadReference> {
    let arrows: Vec<usize> = whole.text.match_indices("->").map(|(at, _)| at).collect();
    match arrows[..] {
        [at] => Ok((end_in(whole, 0..at, file)?, end_in(whole, at + 2..whole.text.len(), file)?)),
        _ => {
            Err(BadReference { text: "an edge is written `node.port -> other.port`".into(), part: 0..whole.text.len() })
        }
    }
}

fn end_in(whole: &Spanned, part: Range<usize>, file: &str) -> Result<End, BadReference> {
    let text = &whole.text[part.clone()];
    let start = part.start + (text.len() - text.trim_start().len());
    let text = text.trim();
    let all = start..start + text.len();
    let bad = |text: String| BadReference { text, part: if all.is_empty() { part.clone() } else { all.clone() } };
    if text.is_empty() {
        return Err(bad("a reference is missing: `node.port`".into()));
    }
    let dollar = usize::from(text.starts_with('$'));
    let reference = &text[dollar..];
    let (node, port) = match reference.split_once('.') {
        Some((node, port)) => (node, Some(port)),
        None => (reference, None),
    };
    if !is_name(node) || port.is_some_and(str::is_empty) {
        return Err(bad(format!("`{text}` is no reference; one is written `node.port`")));
    }
    let at = |part: Range<usize>, text: &str| Spanned { text: text.to_owned(), span: whole.part(file, part) };
    let node_start = start + dollar;
    let node_end = node_start + node.len();
    Ok(End {
        node: at(node_start..node_end, node),
        port: port.map(|port| at(node_end + 1..node_end + 1 + port.len(), port)),
        span: whole.part(file, all),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(text: &str) -> Spanned {
        Spanned { text: text.into(), span: 0..text.len() }
    }

    #[test]
    fn parts_of_references_have_their_own_bytes() {
        let text = "$a.x[0].y | $b";
        let found = ends(&whole(text), text).unwrap();
        assert_eq!((found[0].node.text.as_str(), &found[0].node.span), ("a", &(1..2)));
        assert_eq!(found[0].port.as_ref().map(|port| (port.text.as_str(), port.span.clone())), Some(("x[0].y", 3..9)));
        assert_eq!((found[1].node.text.as_str(), &found[1].span), ("b", &(12..14)));
        assert!(found[1].port.is_none());
        let text = "some-node.out ->  other.in.field";
        let (from, to) = edge(&whole(text), text).unwrap();
        assert_eq!((&text[from.span], &text[to.node.span]), ("some-node.out", "other"));
        assert_eq!(to.port.unwrap().text, "in.field");
        for bad in ["a.b", "a -> b -> c", "-> b.c", "a.b ->", "a. -> b.c", "a b.c -> d.e"] {
            assert!(edge(&whole(bad), bad).is_err(), "{bad}");
        }
        for bad in ["$", "$.x", "$5.", "$a.b |", "$^x"] {
            assert!(ends(&whole(bad), bad).is_err(), "{bad}");
        }
    }
}
