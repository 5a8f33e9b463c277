//! What is taken out of a page before anything else: programs, styles, embedded things, comments. First from its text,
//! as the original does, so that what is left is read as if it had never been there; then from the tree, where
//! the text hid it.

use super::dom::{Id, Kind, Tree};
use super::elements::is_stripped;

/// Elements that go with all that they hold.
const ELEMENTS: [&str; 6] = ["script", "style", "noscript", "iframe", "object", "svg"];
/// Tags that go. They hold nothing.
const TAGS: [&str; 4] = ["embed", "meta", "link", "base"];

/// The page's text without all that.
pub(super) fn strip(page: &str) -> String {
    let mut page = page.to_owned();
    for name in ELEMENTS {
        page = without(&page, |lower, from| {
            let (start, inner) = tag(lower, from, "<", name)?;
            let (_, end) = tag(lower, inner, "</", name)?;
            Some((start, end))
        });
    }
    page = without(&page, |lower, from| {
        let start = from + lower[from..].find("<!--")?;
        let end = start + 4 + lower[start + 4..].find("-->")? + 3;
        Some((start, end))
    });
    for name in TAGS {
        page = without(&page, |lower, from| tag(lower, from, "<", name));
    }
    const SCRIPT: &str = "javascript:";
    without(&page, |lower, from| {
        let start = from + lower[from..].find(SCRIPT)?;
        Some((start, start + SCRIPT.len()))
    })
}

/// The text without the parts that `next` finds in its lower-case form, from a place on.
fn without(page: &str, next: impl Fn(&str, usize) -> Option<(usize, usize)>) -> String {
    let lower = page.to_ascii_lowercase(); // of the same length
    let mut result = String::with_capacity(page.len());
    let mut from = 0;
    while let Some((start, end)) = next(&lower, from) {
        result.push_str(&page[from..start]);
        from = end;
    }
    result.push_str(&page[from..]);
    result
}

/// Where the next tag of that name begins and ends.
fn tag(lower: &str, from: usize, opening: &str, name: &str) -> Option<(usize, usize)> {
    let mut from = from;
    loop {
        let start = from + lower[from..].find(opening)?;
        let rest = &lower[start + opening.len()..];
        from = start + opening.len();
        let Some(rest) = rest.strip_prefix(name) else { continue };
        if rest.starts_with(|character: char| character.is_ascii_alphanumeric() || character == '_') {
            continue;
        }
        let end = lower.len() - rest.len() + rest.find('>')? + 1;
        return Some((start, end));
    }
}

/// Take out of the tree what is still there.
pub(super) fn take_out(tree: &mut Tree, root: Id) {
    let mut at = tree.nodes[root].first_child;
    while let Some(node) = at {
        let goes = is_stripped(tree.local_name(node)) || matches!(tree.nodes[node].kind, Kind::Other);
        if !goes {
            at = tree.nodes[node].first_child.or_else(|| tree.after(node, root));
            continue;
        }
        let previous = tree.nodes[node].previous;
        at = tree.after(node, root);
        tree.remove(node);
        // Of two texts that became one, the first is still there.
        if let Some(next) = at
            && tree.nodes[next].parent.is_none()
        {
            at = previous.and_then(|previous| tree.after(previous, root));
        }
    }
}
