//! From a tree to Markdown: each element's text is made of its children's, from the innermost out.

use super::MarkdownError;
use super::dom::{Id, Tree};
use super::elements::{is_block, is_void, means_something_blank};
use super::rules;
use crate::flow::number::{is_space, trim};

/// The Markdown of what an element holds, `limit` bytes at most. `go_on` is asked now and then, and may end the work.
pub(super) fn convert(
    tree: &Tree,
    root: Id,
    limit: usize,
    mut go_on: impl FnMut() -> Result<(), MarkdownError>,
) -> Result<String, MarkdownError> {
    let facts = Facts::of(tree, root);
    let mut open = vec![Open { node: root, in_code: false, text: String::new(), next: tree.nodes[root].first_child }];
    loop {
        let Some(innermost) = open.last_mut() else { return Ok(String::new()) }; // the root is the last to go
        if let Some(child) = innermost.next {
            innermost.next = tree.nodes[child].next;
            if let Some(text) = tree.text(child) {
                let text = if innermost.in_code { text.to_owned() } else { escape(text) };
                join(&mut innermost.text, &text);
            } else if tree.is_element(child) {
                let in_code = innermost.in_code || tree.tag(child) == "code";
                let first = tree.nodes[child].first_child;
                open.push(Open { node: child, in_code, text: String::new(), next: first });
            }
            continue;
        }
        let Some(done) = open.pop() else { return Ok(String::new()) };
        let Some(outer) = open.last_mut() else { return Ok(done.text) };
        go_on()?;
        let text = replaced(tree, &facts, done.node, done.text);
        join(&mut outer.text, &text);
        if outer.text.len() > limit {
            return Err(MarkdownError::TooLong(limit));
        }
    }
}

/// An element whose children are not all done.
struct Open {
    node: Id,
    in_code: bool,
    text: String,
    next: Option<Id>,
}

/// What is known of all nodes below the root, by their places.
pub(super) struct Facts(Vec<Fact>);

#[derive(Clone, Copy, Default)]
struct Fact {
    has_text: bool,
    has_void: bool,
    has_meaning: bool,
}

impl Facts {
    fn of(tree: &Tree, root: Id) -> Facts {
        let mut facts = vec![Fact::default(); tree.nodes.len()];
        let order: Vec<Id> = tree.walk(root).collect();
        for node in order.into_iter().rev() {
            let Fact { has_text, has_void, has_meaning } = facts[node];
            let tag = tree.tag(node);
            let own_text = tree.text(node).is_some_and(|text| !text.chars().all(is_space));
            facts[node].has_text = has_text || own_text;
            let Some(parent) = tree.nodes[node].parent else { continue };
            let above = &mut facts[parent];
            above.has_text |= has_text || own_text;
            above.has_void |= has_void || is_void(tag);
            above.has_meaning |= has_meaning || means_something_blank(tag);
        }
        Facts(facts)
    }

    /// Whether an element shows nothing.
    pub fn is_blank(&self, tree: &Tree, node: Id) -> bool {
        let Fact { has_text, has_void, has_meaning } = self.0[node];
        let tag = tree.tag(node);
        !(has_text || has_void || has_meaning || is_void(tag) || means_something_blank(tag))
    }
}

/// The Markdown of an element with its content's. White space at an inline element's edges goes outside of its marks.
fn replaced(tree: &Tree, facts: &Facts, node: Id, content: String) -> String {
    let edges = if is_block(tree.tag(node)) { Edges::default() } else { Edges::of(tree, node) };
    if edges.leading.is_empty() && edges.trailing.is_empty() {
        return rules::replacement(tree, facts, node, content);
    }
    let inner = rules::replacement(tree, facts, node, trim(&content).to_owned());
    format!("{}{inner}{}", edges.leading, edges.trailing)
}

/// White space at the edges of an inline element's text, less what its neighbours have anyway.
#[derive(Default)]
struct Edges {
    leading: String,
    trailing: String,
}

impl Edges {
    fn of(tree: &Tree, node: Id) -> Edges {
        let mut leading = String::new();
        let mut has_text = false;
        for text in tree.walk(node).filter_map(|node| tree.text(node)) {
            let inner = text.trim_start_matches(is_space);
            leading.push_str(&text[..text.len() - inner.len()]);
            if !inner.is_empty() {
                has_text = true;
                break;
            }
        }
        let mut trailing = String::new();
        if has_text {
            for text in backwards(tree, node) {
                let inner = text.trim_end_matches(is_space);
                trailing.insert_str(0, &text[inner.len()..]);
                if !inner.is_empty() {
                    break;
                }
            }
        }
        let beyond = leading.trim_start_matches(is_ascii_blank);
        if beyond.len() < leading.len() && touches_space(tree, tree.nodes[node].previous, Side::Left) {
            leading = beyond.to_owned();
        }
        let beyond = trailing.trim_end_matches(is_ascii_blank);
        if beyond.len() < trailing.len() && touches_space(tree, tree.nodes[node].next, Side::Right) {
            trailing.truncate(beyond.len());
        }
        Edges { leading, trailing }
    }
}

fn is_ascii_blank(character: char) -> bool {
    matches!(character, ' ' | '\t' | '\r' | '\n')
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Left,
    Right,
}

/// Whether the neighbour on that side ends with a space towards us.
fn touches_space(tree: &Tree, neighbour: Option<Id>, side: Side) -> bool {
    let Some(neighbour) = neighbour else { return false };
    if tree.text(neighbour).is_none() && (!tree.is_element(neighbour) || is_block(tree.tag(neighbour))) {
        return false;
    }
    if side == Side::Left {
        backwards(tree, neighbour).find(|text| !text.is_empty()).is_some_and(|text| text.ends_with(' '))
    } else {
        let mut texts = tree.walk(neighbour).filter_map(|node| tree.text(node));
        texts.find(|text| !text.is_empty()).is_some_and(|text| text.starts_with(' '))
    }
}

/// The texts of a node and all below it, from the last one on.
fn backwards(tree: &Tree, from: Id) -> impl Iterator<Item = &str> {
    let last = move |mut node: Id| {
        while let Some(child) = tree.nodes[node].last_child {
            node = child;
        }
        node
    };
    let mut at = Some(last(from));
    let nodes = std::iter::from_fn(move || {
        let here = at?;
        at = if here == from { None } else { tree.nodes[here].previous.map(last).or(tree.nodes[here].parent) };
        Some(here)
    });
    nodes.filter_map(|node| tree.text(node))
}

/// Append with the line ends that both sides ask for, two at most.
fn join(text: &mut String, more: &str) {
    let kept = text.trim_end_matches('\n').len();
    let rest = more.trim_start_matches('\n');
    let line_ends = (text.len() - kept).max(more.len() - rest.len()).min(2);
    text.truncate(kept);
    text.extend(std::iter::repeat_n('\n', line_ends));
    text.push_str(rest);
}

/// A text without what would be Markdown.
fn escape(text: &str) -> String {
    let mut result = String::with_capacity(text.len() + 8);
    let mut rest = text;
    let heading = text.len() - text.trim_start_matches('#').len();
    let digits = text.len() - text.trim_start_matches(|character: char| character.is_ascii_digit()).len();
    let starts_item = text.starts_with('-') || text.starts_with("+ ") || text.starts_with(['=', '>']);
    if starts_item || text.starts_with("~~~") || ((1..=6).contains(&heading) && text[heading..].starts_with(' ')) {
        result.push('\\');
    } else if digits > 0 && text[digits..].starts_with(". ") {
        result.push_str(&text[..digits]);
        result.push('\\');
        rest = &text[digits..];
    }
    for character in rest.chars() {
        if matches!(character, '\\' | '*' | '`' | '[' | ']' | '_') {
            result.push('\\');
        }
        result.push(character);
    }
    result
}
