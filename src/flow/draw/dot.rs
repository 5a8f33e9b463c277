//! Graphviz digraphs.

use std::fmt::Write as _;

use super::{Drawing, Visit};

pub(super) fn write(drawing: &Drawing) -> String {
    // Writing to a text cannot fail.
    let mut text = String::new();
    let _ = writeln!(text, "digraph {} {{", quoted(&drawing.name));
    text.push_str("  rankdir=LR;\n  node [shape=box, style=rounded, fontname=\"sans-serif\"];\n");
    text.push_str("  edge [fontname=\"sans-serif\", fontsize=10];\n");
    let mut linked = vec![false; drawing.nodes.len()];
    for edge in &drawing.edges {
        linked[edge.from] = true;
        linked[edge.to] = true;
    }
    for visit in drawing.walk() {
        match visit {
            Visit::Node(node) => {
                let known = &drawing.nodes[node];
                let label = format!("{}\n{}", known.id, known.type_name);
                let _ = writeln!(text, "  n{node} [label={}];", quoted(&label));
            }
            Visit::Begin(node) => {
                let label = quoted(&drawing.nodes[node].id);
                let _ = writeln!(text, "  subgraph cluster_{node} {{\n  label={label};");
                // A cluster has no edges of its own, so the group's end at a node in it.
                if linked[node] {
                    let _ = writeln!(text, "  n{node} [label={label}, style=dashed];");
                }
            }
            Visit::End => text.push_str("  }\n"),
        }
    }
    for edge in &drawing.edges {
        let label = quoted(&format!("{} → {}", edge.from_port, edge.to_port));
        let style = if edge.error { ", style=dashed, color=red" } else { "" };
        let _ = writeln!(text, "  n{} -> n{} [label={label}{style}];", edge.from, edge.to);
    }
    text.push_str("}\n");
    text
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
}
