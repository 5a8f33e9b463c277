//! White space as a browser shows it: runs are one space, and none stands at the edges of a block. Text in `pre` stays.

use super::dom::{Id, Kind, Tree};
use super::elements::{is_block, is_void};

/// Collapse the white space below an element.
pub(super) fn collapse(tree: &mut Tree, root: Id) {
    if tree.nodes[root].first_child.is_none() || is_pre(tree, root) {
        return;
    }
    let mut text_before: Option<Id> = None;
    let mut keep_leading = false;
    let mut previous: Option<Id> = None;
    let mut node = following(tree, previous, root);
    while node != root {
        match &mut tree.nodes[node].kind {
            Kind::Text(text) => {
                let mut collapsed = one_space(text);
                let after_space =
                    text_before.is_none_or(|before| tree.text(before).is_some_and(|text| text.ends_with(' ')));
                if after_space && !keep_leading && collapsed.starts_with(' ') {
                    collapsed.remove(0);
                }
                if collapsed.is_empty() {
                    node = take_out(tree, node, root);
                    continue;
                }
                tree.nodes[node].kind = Kind::Text(collapsed);
                text_before = Some(node);
            }
            Kind::Element(_) => {
                let tag = tree.tag(node);
                if is_block(tag) || tag == "br" {
                    cut_end(tree, text_before);
                    (text_before, keep_leading) = (None, false);
                } else if is_void(tag) || tag == "pre" {
                    (text_before, keep_leading) = (None, true);
                } else if text_before.is_some() {
                    keep_leading = false;
                }
            }
            Kind::Fragment | Kind::Other => {
                node = take_out(tree, node, root);
                continue;
            }
        }
        let next = following(tree, previous, node);
        (previous, node) = (Some(node), next);
    }
    cut_end(tree, text_before);
    if let Some(text) = text_before.filter(|text| tree.text(*text) == Some("")) {
        tree.detach(text);
    }
}

fn is_pre(tree: &Tree, node: Id) -> bool {
    tree.tag(node) == "pre"
}

/// The next node on the way, which meets each element on the way down and again on the way up.
fn following(tree: &Tree, previous: Option<Id>, node: Id) -> Id {
    let links = &tree.nodes[node];
    let goes_up = previous.is_some_and(|previous| tree.nodes[previous].parent == Some(node)) || is_pre(tree, node);
    let down = if goes_up { None } else { links.first_child };
    down.or(links.next).or(links.parent).unwrap_or(node)
}

fn take_out(tree: &mut Tree, node: Id, root: Id) -> Id {
    let next = tree.nodes[node].next.or(tree.nodes[node].parent).unwrap_or(root);
    tree.detach(node);
    next
}

fn cut_end(tree: &mut Tree, node: Option<Id>) {
    if let Some(node) = node
        && let Kind::Text(text) = &mut tree.nodes[node].kind
        && text.ends_with(' ')
    {
        text.pop();
    }
}

fn one_space(text: &str) -> String {
    let mut result = String::with_capacity(text.len());
    let mut in_run = false;
    for character in text.chars() {
        let blank = matches!(character, ' ' | '\r' | '\n' | '\t');
        if !blank {
            result.push(character);
        } else if !in_run {
            result.push(' ');
        }
        in_run = blank;
    }
    result
}
