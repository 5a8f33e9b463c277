//! Mermaid flowcharts.

use std::fmt::Write as _;

use super::{Drawing, Visit};

pub(super) fn write(drawing: &Drawing) -> String {
    // Writing to a text cannot fail.
    let mut text = String::from("flowchart LR\n");
    let mut depth = 1;
    for visit in drawing.walk() {
        match visit {
            Visit::Node(node) => {
                let known = &drawing.nodes[node];
                let (id, type_name) = (escaped(&known.id), escaped(&known.type_name));
                let _ = writeln!(text, "{:depth$}n{node}[\"{id}<br>{type_name}\"]", "", depth = indent(depth));
            }
            Visit::Begin(node) => {
                let id = escaped(&drawing.nodes[node].id);
                let _ = writeln!(text, "{:depth$}subgraph n{node}[\"{id}\"]", "", depth = indent(depth));
                depth += 1;
            }
            Visit::End => {
                depth -= 1;
                let _ = writeln!(text, "{:depth$}end", "", depth = indent(depth));
            }
        }
    }
    for edge in &drawing.edges {
        let label = format!("{} → {}", escaped(&edge.from_port), escaped(&edge.to_port));
        let (begin, end) = if edge.error { ("-.", ".->") } else { ("--", "-->") };
        let _ = writeln!(text, "  n{} {begin} \"{label}\" {end} n{}", edge.from, edge.to);
    }
    text
}

/// Frames may nest deep; the text stays readable, and in proportion.
fn indent(depth: usize) -> usize {
    2 * depth.min(20)
}

/// Mermaid reads HTML and Markdown in labels, and has its own marks; entities keep all of it out.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '"' | '#' | '&' | '<' | '>' | '`' | '*' | '\\' | '|' | '[' | ']' | '{' | '}' | '(' | ')' | ';' | '%' => {
                let _ = write!(escaped, "#{};", u32::from(character));
            }
            plain => escaped.push(plain),
        }
    }
    escaped
}
