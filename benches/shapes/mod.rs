//! Flows of a given size, for what measures or counts their cost.
#![allow(dead_code, reason = "each of those who include this uses a part")]

use serde_json::{Value as Json, json};

/// How a flow's nodes hang together.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Shape {
    /// One after the other.
    Chain,
    /// One feeds all others.
    FanOut,
    /// All others feed one port of one node each, and the flag of the last.
    FanIn,
    /// Layers of ten, each node fed by two of the layer before.
    Lattice,
    /// Groups in groups, the innermost one with a member.
    Groups,
}

impl Shape {
    pub const ALL: [Shape; 5] = [Shape::Chain, Shape::FanOut, Shape::FanIn, Shape::Lattice, Shape::Groups];

    pub fn name(self) -> &'static str {
        match self {
            Shape::Chain => "chain",
            Shape::FanOut => "fan out",
            Shape::FanIn => "fan in",
            Shape::Lattice => "lattice",
            Shape::Groups => "nested groups",
        }
    }

    /// A stored flow of about so many nodes, through which a value goes.
    pub fn flow(self, count: usize, value: &Json) -> Json {
        let carrier = |id: usize, first: bool| {
            let value = if first { value.clone() } else { Json::Null };
            let config = json!({"id": "object", "key": "object", "type": "any", "direction": "passthrough"});
            let port = json!({"config": config, "value": value});
            node(id, "ObjectNode", "basic-values", vec![port])
        };
        let link = |from: usize, to: usize| edge(from, "object", to, "object");
        let mut nodes: Vec<Json> = Vec::with_capacity(count);
        let mut edges: Vec<Json> = Vec::with_capacity(count);
        match self {
            Shape::Chain => {
                nodes.extend((0..count).map(|id| carrier(id, id == 0)));
                edges.extend((1..count).map(|id| link(id - 1, id)));
            }
            Shape::FanOut => {
                nodes.extend((0..count).map(|id| carrier(id, id == 0)));
                edges.extend((1..count).map(|id| link(0, id)));
            }
            Shape::FanIn => {
                nodes.extend((0..count - 1).map(|id| carrier(id, true)));
                let items = vec![json!(0); count - 1];
                let config = json!({"id": "array", "key": "array", "type": "array", "direction": "passthrough",
                    "itemConfig": {"type": "any"}});
                nodes.push(node(
                    count - 1,
                    "ArrayNode",
                    "basic-values",
                    vec![json!({"config": config, "value": items})],
                ));
                edges.extend((0..count - 1).map(|id| edge(id, "object", count - 1, &format!("array[{id}]"))));
            }
            Shape::Lattice => {
                const WIDTH: usize = 10;
                nodes.extend((0..count).map(|id| carrier(id, id < WIDTH)));
                for id in WIDTH..count {
                    let (layer, place) = (id / WIDTH, id % WIDTH);
                    let above = |place: usize| (layer - 1) * WIDTH + place % WIDTH;
                    edges.push(link(above(place), id));
                    edges.push(edge(above(place + 1), "__success", id, "__execute"));
                }
            }
            Shape::Groups => {
                for id in 0..count - 1 {
                    let mut group = node(id, "GroupNode", "group", Vec::new());
                    if id > 0 {
                        group["metadata"]["parentNodeId"] = format!("n{}", id - 1).into();
                    }
                    nodes.push(group);
                }
                let mut member = carrier(count - 1, true);
                member["metadata"]["parentNodeId"] = format!("n{}", count - 2).into();
                nodes.push(member);
            }
        }
        json!({"id": "V2shape", "metadata": {"name": self.name(), "schemaVersion": "v2"}, "nodes": nodes, "edges": edges})
    }
}

fn node(id: usize, type_name: &str, category: &str, ports: Vec<Json>) -> Json {
    json!({
        "id": format!("n{id}"), "type": type_name, "schemaVersion": "v2", "status": "initialized",
        "metadata": {"type": type_name, "category": category, "version": 1},
        "systemPorts": {"execute": {"value": true}, "success": {"value": true}, "error": {"value": false},
            "errorMessage": {"value": ""}},
        "ports": ports,
    })
}

fn edge(from: usize, source: &str, to: usize, target: &str) -> Json {
    json!({"id": format!("e{from}-{to}{source}"), "sourceNodeId": format!("n{from}"), "sourcePortId": source,
        "targetNodeId": format!("n{to}"), "targetPortId": target})
}
