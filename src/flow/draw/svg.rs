//! Pictures: boxes with ports, curves between them, frames around groups.

use std::fmt::Write as _;

use super::layout::{Area, place};
use super::{Drawing, Node};

const ROW: f64 = 18.0;
/// A node's id and type.
const HEAD: f64 = 42.0;
/// A letter's width, about.
const LETTER: f64 = 7.0;
const NARROWEST: f64 = 120.0;
const EDGE: f64 = 20.0;
/// Above the picture, for the flow's name.
const TITLE: f64 = 30.0;

const STYLE: &str = "text{font:12px ui-sans-serif,system-ui,sans-serif;fill:#1f2933}\
    .title{font-size:15px;font-weight:600}.id{font-weight:600}.type{fill:#66788a;font-size:11px}\
    .port{font-size:11px}.node{fill:#fff;stroke:#9aa5b1}.frame{fill:#f0f4f8;fill-opacity:.6;stroke:#9aa5b1;\
    stroke-dasharray:6 3}.edge{fill:none;stroke:#52708f;stroke-width:1.4}.error{stroke:#c0392b;stroke-dasharray:5 4}\
    .dot{fill:#52708f}";

pub(super) fn write(drawing: &Drawing) -> String {
    let mut areas = place(drawing, |node| size(&drawing.nodes[node]));
    for area in &mut areas {
        area.x += EDGE;
        area.y += EDGE + TITLE;
    }
    let right = areas.iter().map(|area| area.x + area.width).fold(letters(&drawing.name) * 9.0, f64::max) + EDGE;
    let bottom = areas.iter().map(|area| area.y + area.height).fold(EDGE + TITLE, f64::max) + EDGE;
    // Writing to a text cannot fail.
    let mut text = String::new();
    let _ = writeln!(
        text,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{right:.0}\" height=\"{bottom:.0}\" \
         viewBox=\"0 0 {right:.0} {bottom:.0}\" role=\"img\">"
    );
    let name = escaped(&drawing.name);
    let _ = writeln!(text, "<title>{name}</title>\n<style>{STYLE}</style>");
    text.push_str(
        "<defs><marker id=\"arrow\" viewBox=\"0 0 8 8\" refX=\"7\" refY=\"4\" markerWidth=\"7\" markerHeight=\"7\" \
         orient=\"auto\"><path d=\"M0 0L8 4L0 8z\" fill=\"#52708f\"/></marker></defs>\n",
    );
    let _ = writeln!(text, "<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>");
    let _ = writeln!(text, "<text class=\"title\" x=\"{EDGE}\" y=\"28\">{name}</text>");
    let visits = drawing.walk();
    for visit in &visits {
        if let super::Visit::Begin(node) = visit {
            boxed(&mut text, &drawing.nodes[*node], &areas[*node], "frame");
        }
    }
    for edge in &drawing.edges {
        curve(&mut text, drawing, &areas, edge);
    }
    for visit in &visits {
        if let super::Visit::Node(node) = visit {
            boxed(&mut text, &drawing.nodes[*node], &areas[*node], "node");
        }
    }
    text.push_str("</svg>\n");
    text
}

fn size(node: &Node) -> (f64, f64) {
    let row = |row: &super::Row| letters(&row.name) * 6.4 + 24.0;
    let widest = node.rows.iter().map(row).fold(0.0, f64::max);
    let head = letters(&node.id).max(letters(&node.type_name)) * LETTER + 24.0;
    let rows = node.rows.len() as f64 * ROW;
    (widest.max(head).max(NARROWEST), HEAD + rows + if node.rows.is_empty() { 0.0 } else { 6.0 })
}

/// Letters as wide as Latin ones; others count twice.
fn letters(text: &str) -> f64 {
    text.chars().map(|letter| if u32::from(letter) < 0x1100 { 1.0 } else { 1.8 }).sum()
}

fn boxed(text: &mut String, node: &Node, area: &Area, class: &str) {
    let Area { x, y, width, height } = *area;
    let _ = writeln!(
        text,
        "<rect class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" rx=\"6\"/>"
    );
    let left = x + 10.0;
    let _ = writeln!(text, "<text class=\"id\" x=\"{left:.1}\" y=\"{:.1}\">{}</text>", y + 18.0, escaped(&node.id));
    let type_name = escaped(&node.type_name);
    let _ = writeln!(text, "<text class=\"type\" x=\"{left:.1}\" y=\"{:.1}\">{type_name}</text>", y + 33.0);
    for (number, row) in node.rows.iter().enumerate() {
        let middle = row_middle(area, number);
        let (at, anchor) = if row.takes { (left, "start") } else { (x + width - 10.0, "end") };
        let _ = writeln!(
            text,
            "<text class=\"port\" x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"{anchor}\">{}</text>",
            middle + 4.0,
            escaped(&row.name)
        );
        for (shown, at) in [(row.takes, x), (row.gives, x + width)] {
            if shown {
                let _ = writeln!(text, "<circle class=\"dot\" cx=\"{at:.1}\" cy=\"{middle:.1}\" r=\"2.5\"/>");
            }
        }
    }
}

fn row_middle(area: &Area, row: usize) -> f64 {
    area.y + HEAD + ROW * row as f64 + ROW / 2.0
}

fn curve(text: &mut String, drawing: &Drawing, areas: &[Area], edge: &super::Line) {
    let (from, to) = (&areas[edge.from], &areas[edge.to]);
    let (x1, y1) = (from.x + from.width, row_middle(from, edge.from_row));
    let (x2, y2) = (to.x - 3.0, row_middle(to, edge.to_row));
    let pull = if x2 > x1 { ((x2 - x1) / 2.0).max(30.0) } else { 80.0 };
    let class = if edge.error { "edge error" } else { "edge" };
    let label =
        format!("{}.{} → {}.{}", drawing.nodes[edge.from].id, edge.from_port, drawing.nodes[edge.to].id, edge.to_port);
    let _ = writeln!(
        text,
        "<path class=\"{class}\" marker-end=\"url(#arrow)\" d=\"M{x1:.1} {y1:.1}C{:.1} {y1:.1} {:.1} {y2:.1} {x2:.1} {y2:.1}\">\
         <title>{}</title></path>",
        x1 + pull,
        x2 - pull,
        escaped(&label)
    );
}

fn escaped(text: &str) -> String {
    let escaped = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    escaped.replace('"', "&quot;").replace('\'', "&#39;")
}
