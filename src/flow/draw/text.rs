//! A drawing for terminals: layer by layer, each node with where its ports lead.

use std::collections::HashMap;
use std::fmt::Write as _;

use super::Drawing;
use super::layout::layers;

pub(super) fn write(drawing: &Drawing) -> String {
    let pairs: Vec<(usize, usize)> = drawing.edges.iter().map(|edge| (edge.from, edge.to)).collect();
    let layer_of = layers(drawing.nodes.len(), &pairs);
    let mut layers: Vec<Vec<usize>> = vec![Vec::new(); layer_of.iter().max().map_or(0, |last| last + 1)];
    for (node, layer) in layer_of.iter().enumerate() {
        layers[*layer].push(node);
    }
    let mut leaving: Vec<Vec<usize>> = vec![Vec::new(); drawing.nodes.len()];
    for (index, edge) in drawing.edges.iter().enumerate() {
        leaving[edge.from].push(index);
    }
    // Writing to a text cannot fail.
    let mut text = String::new();
    let (nodes, edges) = (drawing.nodes.len(), drawing.edges.len());
    let _ = writeln!(text, "{}: {nodes} nodes, {edges} edges", drawing.name);
    for (number, layer) in layers.iter().enumerate() {
        let _ = writeln!(text, "\n── {} ──", number + 1);
        for node in layer {
            let known = &drawing.nodes[*node];
            let parent = known.parent.map_or_else(String::new, |parent| format!("  in {}", drawing.nodes[parent].id));
            let mark = if known.holds { "▣" } else { "●" };
            let _ = writeln!(text, "{mark} {}  {}{parent}", known.id, known.type_name);
            let mut ports: Vec<(&str, bool, Vec<String>)> = Vec::new();
            let mut place: HashMap<&str, usize> = HashMap::new();
            for edge in leaving[*node].iter().map(|edge| &drawing.edges[*edge]) {
                let position = *place.entry(&edge.from_port).or_insert_with(|| {
                    ports.push((&edge.from_port, edge.error, Vec::new()));
                    ports.len() - 1
                });
                ports[position].2.push(format!("{}.{}", drawing.nodes[edge.to].id, edge.to_port));
            }
            let widest = ports.iter().map(|(port, ..)| port.chars().count()).max().unwrap_or_default();
            for (position, (port, error, targets)) in ports.iter().enumerate() {
                let branch = if position + 1 == ports.len() { "└" } else { "├" };
                let arrow = if *error { "╌╌▶" } else { "──▶" };
                let padding = " ".repeat(widest - port.chars().count());
                let _ = writeln!(text, "  {branch} {port}{padding} {arrow} {}", targets.join(", "));
            }
        }
    }
    text
}
