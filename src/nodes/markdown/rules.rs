//! What Markdown each element becomes.

use super::convert::Facts;
use super::dom::{Id, Tree};
use super::elements::{is_block, is_dropped};
use crate::flow::number::{is_space, number_text, read_number, trim};

/// The Markdown of an element, given that of its content.
pub(super) fn replacement(tree: &Tree, facts: &Facts, node: Id, content: String) -> String {
    let tag = tree.tag(node);
    if facts.is_blank(tree, node) {
        return if is_block(tag) { "\n\n".to_owned() } else { String::new() };
    }
    match tag {
        "p" => apart(&content),
        "br" => "  \n".to_owned(),
        "h1" | "h2" | "h3" | "h4" | "h5" | "h6" => {
            let level = usize::from(tag.as_bytes()[1] - b'0');
            apart(&format!("{} {content}", "#".repeat(level)))
        }
        "blockquote" => apart(&quoted(trim_newlines(&content))),
        "ul" | "ol" => list(tree, node, content),
        "li" => item(tree, node, &content),
        "pre" if first_is_code(tree, node) => code_block(tree, node),
        "hr" => apart("* * *"),
        "a" if has_text(tree.attribute(node, "href")) => link(tree, node, &content),
        "em" | "i" => marked(&content, "*"),
        "strong" | "b" => marked(&content, "**"),
        "code" if !is_code_of_block(tree, node) => code(&content),
        "img" => image(tree, node),
        _ if is_dropped(tag) => String::new(),
        _ if is_block(tag) => apart(&content),
        _ => content,
    }
}

fn apart(text: &str) -> String {
    format!("\n\n{text}\n\n")
}

fn trim_newlines(text: &str) -> &str {
    text.trim_matches('\n')
}

/// JavaScript's line ends.
fn is_line_end(character: char) -> bool {
    matches!(character, '\n' | '\r' | '\u{2028}' | '\u{2029}')
}

fn quoted(text: &str) -> String {
    let mut result = "> ".to_owned();
    for character in text.chars() {
        result.push(character);
        if is_line_end(character) {
            result.push_str("> ");
        }
    }
    result
}

fn list(tree: &Tree, node: Id, content: String) -> String {
    let in_item = tree.nodes[node].parent.is_some_and(|parent| tree.tag(parent) == "li");
    let mut later = std::iter::successors(tree.nodes[node].next, |sibling| tree.nodes[*sibling].next);
    let ends_item = in_item && !later.any(|sibling| tree.is_element(sibling));
    if ends_item { format!("\n{content}") } else { apart(&content) }
}

fn item(tree: &Tree, node: Id, content: &str) -> String {
    let parent = tree.nodes[node].parent.filter(|parent| tree.tag(*parent) == "ol");
    let prefix = match parent {
        None => "-   ".to_owned(),
        Some(list) => {
            let elements = tree.children(list).filter(|child| tree.is_element(*child));
            let index = elements.take_while(|child| *child != node).count() as f64;
            let start = tree.attribute(list, "start").filter(|start| !start.is_empty());
            let number = start.map_or(1.0, |start| read_number(start).unwrap_or(f64::NAN)) + index;
            format!("{}.  ", number_text(number))
        }
    };
    let margin = format!("\n{}", " ".repeat(prefix.len()));
    let mut lines = trim_newlines(content).to_owned();
    if content.ends_with('\n') {
        lines.push('\n');
    }
    let end = if tree.nodes[node].next.is_some() { "\n" } else { "" };
    format!("{prefix}{}{end}", lines.replace('\n', &margin))
}

fn first_is_code(tree: &Tree, node: Id) -> bool {
    tree.nodes[node].first_child.is_some_and(|first| tree.tag(first) == "code")
}

fn code_block(tree: &Tree, node: Id) -> String {
    let Some(code) = tree.nodes[node].first_child else { return String::new() };
    let class = tree.attribute(code, "class").unwrap_or_default();
    let language = class.match_indices("language-").find_map(|(at, mark)| {
        let rest = &class[at + mark.len()..];
        let end = rest.find(is_space).unwrap_or(rest.len());
        (end > 0).then_some(&rest[..end])
    });
    let text = tree.text_content(code);
    let longest = text.split(is_line_end).map(|line| line.len() - line.trim_start_matches('`').len()).max();
    let fence = "`".repeat(longest.filter(|length| *length >= 3).map_or(3, |length| length + 1));
    let text = text.strip_suffix('\n').unwrap_or(&text);
    apart(&format!("{fence}{}\n{text}\n{fence}", language.unwrap_or_default()))
}

/// Whether a `code` is all that its `pre` holds: then the `pre` says what becomes of it.
fn is_code_of_block(tree: &Tree, node: Id) -> bool {
    let links = &tree.nodes[node];
    let alone = links.previous.is_none() && links.next.is_none();
    alone && links.parent.is_some_and(|parent| tree.tag(parent) == "pre")
}

fn code(content: &str) -> String {
    if content.is_empty() {
        return String::new();
    }
    let content = content.replace("\r\n", " ").replace(['\n', '\r'], " ");
    let spaced =
        content.len() > 1 && content.starts_with(' ') && content.ends_with(' ') && content.contains(|c| c != ' ');
    let space = if content.starts_with('`') || content.ends_with('`') || spaced { " " } else { "" };
    let runs: Vec<usize> = content.split(|character| character != '`').map(str::len).collect();
    let mut length = 1;
    while runs.contains(&length) {
        length += 1;
    }
    let delimiter = "`".repeat(length);
    format!("{delimiter}{space}{content}{space}{delimiter}")
}

fn has_text(attribute: Option<&str>) -> bool {
    attribute.is_some_and(|text| !text.is_empty())
}

fn link(tree: &Tree, node: Id, content: &str) -> String {
    let href = tree.attribute(node, "href").unwrap_or_default().replace('(', "\\(").replace(')', "\\)");
    let title = clean(tree.attribute(node, "title")).replace('"', "\\\"");
    let title = if title.is_empty() { title } else { format!(" \"{title}\"") };
    format!("[{content}]({href}{title})")
}

fn image(tree: &Tree, node: Id) -> String {
    let source = tree.attribute(node, "src").unwrap_or_default();
    if source.is_empty() {
        return String::new();
    }
    let title = clean(tree.attribute(node, "title"));
    let title = if title.is_empty() { title } else { format!(" \"{title}\"") };
    format!("![{}]({source}{title})", clean(tree.attribute(node, "alt")))
}

/// A text of an attribute in which line ends and the white space behind them are one line end.
fn clean(attribute: Option<&str>) -> String {
    let mut rest = attribute.unwrap_or_default();
    let mut result = String::with_capacity(rest.len());
    while let Some(at) = rest.find('\n') {
        result.push_str(&rest[..=at]);
        rest = rest[at..].trim_start_matches(is_space);
    }
    result.push_str(rest);
    result
}

fn marked(content: &str, mark: &str) -> String {
    if trim(content).is_empty() { String::new() } else { format!("{mark}{content}{mark}") }
}
