//! Flows as drawings: for documents (Mermaid, SVG, Graphviz), and for terminals.
//!
//! Costs time and memory in proportion to nodes and edges, so that a flow of any size that loads can be drawn.

mod dot;
mod layout;
mod mermaid;
mod svg;
mod text;

use std::collections::HashMap;

use super::Flow;
use super::model::{Direction, NodeIndex, PortRef, SYSTEM_PORTS, Step};

/// What a drawing is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A Mermaid flowchart, which Markdown viewers draw.
    Mermaid,
    /// A picture.
    Svg,
    /// Text for a terminal.
    Text,
    /// A Graphviz digraph.
    Dot,
}

/// Draw a flow.
pub fn draw(flow: &Flow, format: Format) -> String {
    let drawing = Drawing::new(flow);
    match format {
        Format::Mermaid => mermaid::write(&drawing),
        Format::Svg => svg::write(&drawing),
        Format::Text => text::write(&drawing),
        Format::Dot => dot::write(&drawing),
    }
}

/// Rows of ports that a node shows; edges of later ones meet in the last row.
const MOST_ROWS: usize = 40;

/// Characters of a name that are shown.
const LONGEST: usize = 32;

/// A flow as it is drawn.
struct Drawing {
    name: String,
    nodes: Vec<Node>,
    edges: Vec<Line>,
}

struct Node {
    id: String,
    type_name: String,
    /// The node that it is a member of.
    parent: Option<NodeIndex>,
    /// Whether it has members, which are drawn in a frame.
    holds: bool,
    rows: Vec<Row>,
}

/// A port of a node.
struct Row {
    name: String,
    takes: bool,
    gives: bool,
}

/// An edge.
struct Line {
    from: NodeIndex,
    to: NodeIndex,
    /// Rows of the ports in their nodes.
    from_row: usize,
    to_row: usize,
    from_port: String,
    to_port: String,
    /// Whether it leaves an error port.
    error: bool,
}

impl Drawing {
    fn new(flow: &Flow) -> Drawing {
        // Ports with edges, besides the roots: by node and id.
        let mut nested: Vec<Vec<(usize, String)>> = vec![Vec::new(); flow.nodes.len()];
        for edge in &flow.edges {
            for port in [&edge.from, &edge.to] {
                if port.port < SYSTEM_PORTS.len() || !port.path.is_empty() {
                    nested[port.node].push((port.port, port_name(flow, port)));
                }
            }
        }
        let rings = flow.parent_rings();
        let mut places: Vec<HashMap<String, usize>> = Vec::with_capacity(flow.nodes.len());
        let mut nodes = Vec::with_capacity(flow.nodes.len());
        for (index, node) in flow.nodes.iter().enumerate() {
            let mut more = std::mem::take(&mut nested[index]);
            more.sort();
            more.dedup();
            let mut rows: Vec<Row> = Vec::new();
            let mut place: HashMap<String, usize> = HashMap::new();
            for (position, port) in node.ports.iter().enumerate() {
                let direction = port.config.direction;
                let own = (position >= SYSTEM_PORTS.len()).then(|| port.config.key.to_string());
                let start = more.partition_point(|(root, _)| *root < position);
                let inner =
                    more[start..].iter().take_while(|(root, _)| *root == position).map(|(_, name)| name.clone());
                for name in own.into_iter().chain(inner) {
                    let row = if rows.len() < MOST_ROWS {
                        let (takes, gives) = (direction != Direction::Output, direction.gives());
                        rows.push(Row { name: short(&name), takes, gives });
                        rows.len() - 1
                    } else {
                        rows[MOST_ROWS - 1] = Row { name: "…".into(), takes: true, gives: true };
                        MOST_ROWS - 1
                    };
                    place.insert(name, row);
                }
            }
            places.push(place);
            nodes.push(Node {
                id: short(&node.id),
                type_name: short(&node.type_name),
                // Nodes that contain each other have no frame to stand in.
                parent: node.parent.filter(|_| !rings[index]),
                holds: flow.graph.links[index].members.iter().any(|member| !rings[*member]),
                rows,
            });
        }
        let edges = flow.edges.iter().map(|edge| {
            let (from_port, to_port) = (port_name(flow, &edge.from), port_name(flow, &edge.to));
            let row = |node: NodeIndex, name: &str| places[node].get(name).copied().unwrap_or_default();
            Line {
                from: edge.from.node,
                to: edge.to.node,
                from_row: row(edge.from.node, &from_port),
                to_row: row(edge.to.node, &to_port),
                error: matches!(SYSTEM_PORTS.get(edge.from.port), Some(&"__error" | &"__errorMessage")),
                from_port: short(&from_port),
                to_port: short(&to_port),
            }
        });
        let name = if flow.name().is_empty() { flow.id() } else { flow.name() };
        Drawing { name: short(name), edges: edges.collect(), nodes }
    }

    /// The members of each node, and first those of none.
    fn members(&self) -> (Vec<NodeIndex>, Vec<Vec<NodeIndex>>) {
        let mut members = vec![Vec::new(); self.nodes.len()];
        let mut top = Vec::new();
        for (index, node) in self.nodes.iter().enumerate() {
            match node.parent {
                Some(parent) => members[parent].push(index),
                None => top.push(index),
            }
        }
        (top, members)
    }

    /// What is to be written for nested nodes, in order: a node, or the begin or end of a frame. No recursion: frames
    /// may nest as deep as there are nodes.
    fn walk(&self) -> Vec<Visit> {
        let (top, members) = self.members();
        let mut visits = Vec::with_capacity(self.nodes.len() * 2);
        let mut open: Vec<Visit> = top.iter().rev().map(|node| Visit::Begin(*node)).collect();
        while let Some(visit) = open.pop() {
            match visit {
                Visit::Begin(node) if self.nodes[node].holds => {
                    visits.push(Visit::Begin(node));
                    open.push(Visit::End);
                    open.extend(members[node].iter().rev().map(|member| Visit::Begin(*member)));
                }
                Visit::Begin(node) => visits.push(Visit::Node(node)),
                other => visits.push(other),
            }
        }
        visits
    }
}

enum Visit {
    Node(NodeIndex),
    Begin(NodeIndex),
    End,
}

/// A port's id within its node.
fn port_name(flow: &Flow, port: &PortRef) -> String {
    let mut name = flow.nodes[port.node].ports[port.port].config.key.to_string();
    for step in &port.path {
        match step {
            Step::Key(key) => {
                name.push('.');
                name.push_str(key);
            }
            Step::Index(index) => name.push_str(&format!("[{index}]")),
        }
    }
    name
}

/// A foreign name on one line, within bounds.
fn short(name: &str) -> String {
    let plain = |character: char| if character.is_control() { '\u{fffd}' } else { character };
    let mut short: String = name.chars().take(LONGEST).map(plain).collect();
    if name.chars().nth(LONGEST).is_some() {
        short.pop();
        short.push('…');
    }
    short
}
