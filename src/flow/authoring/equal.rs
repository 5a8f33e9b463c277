//! Whether two flows do the same: nodes, ports, values and edges. Looks, ids of edges and what a run left behind don't
//! count.

use indexmap::IndexMap;
use serde_json::Value as Json;

use crate::flow::model::{EXECUTE, Edge, Flow, Node, Port, PortConfig, PortKind, PortRef, SYSTEM_PORTS, Step};
use crate::flow::{Value, ports};

/// Something that differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Difference {
    /// The node's position in the first flow, where it is about one.
    pub node: Option<usize>,
    /// The root port, where it is about one.
    pub port: Option<String>,
    pub what: What,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// The node itself, or its type, category, group or switches.
    Node,
    /// The port's type, direction, or whether it is required.
    Config,
    Value,
    /// The edges that enter it.
    Edges,
    Inputs,
    Outputs,
    Metadata,
}

/// All that differs. Nodes are told apart by their ids.
pub(super) fn differences(one: &Flow, other: &Flow) -> Vec<Difference> {
    let mut found = Vec::new();
    let mut note = |node: Option<usize>, port: Option<&str>, what: What| {
        found.push(Difference { node, port: port.map(str::to_owned), what });
    };
    let ids = |flow: &Flow| flow.nodes.iter().map(|node| node.id.clone()).collect::<Vec<_>>();
    if ids(one) != ids(other) {
        // A node is left out when one of its ports can't hold what is stored; which one isn't known any more.
        let left_out = one.nodes.iter().enumerate().filter(|(_, node)| !other.by_id.contains_key(&node.id));
        for (index, node) in left_out {
            for port in &node.ports[SYSTEM_PORTS.len()..] {
                note(Some(index), Some(&port.config.key), What::Config);
            }
        }
        note(None, None, What::Node);
        return found;
    }
    let (edges, other_edges) = (entering(one), entering(other));
    for (index, (a, b)) in one.nodes.iter().zip(&other.nodes).enumerate() {
        if !same_node(a, b) {
            note(Some(index), None, What::Node);
        }
        for (position, port) in a.ports.iter().enumerate().skip(SYSTEM_PORTS.len()) {
            let key = &*port.config.key;
            let Some(place) = b.port_index(key) else {
                note(Some(index), Some(key), What::Config);
                continue;
            };
            if !same_port(port, &b.ports[place]) {
                note(Some(index), Some(key), What::Config);
            }
            if !same_value(&port.value, &b.ports[place].value) {
                note(Some(index), Some(key), What::Value);
            }
            if edges.get(&(index, position)) != other_edges.get(&(index, place)) {
                note(Some(index), Some(key), What::Edges);
            }
        }
        for (system, name) in SYSTEM_PORTS.iter().enumerate() {
            if edges.get(&(index, system)) != other_edges.get(&(index, system)) {
                note(Some(index), Some(name), What::Edges);
            }
        }
        let more = b.ports.iter().skip(SYSTEM_PORTS.len()).find(|port| a.port_index(&port.config.key).is_none());
        if let Some(port) = more {
            note(Some(index), Some(&port.config.key), What::Config);
        }
    }
    let places = |flow: &Flow, ports: &IndexMap<String, PortRef>| -> Vec<(String, String)> {
        ports.iter().map(|(name, port)| (name.clone(), place(flow, port))).collect()
    };
    if places(one, &one.inputs) != places(other, &other.inputs) {
        note(None, None, What::Inputs);
    }
    let outputs = |flow: &Flow| flow.outputs.as_ref().map(|ports| places(flow, ports));
    if outputs(one) != outputs(other) {
        note(None, None, What::Outputs);
    }
    let told =
        |flow: &Flow| (flow.id().to_owned(), flow.name().to_owned(), flow.owner_id().map(str::to_owned), flow.falsy);
    if told(one) != told(other) {
        note(None, None, What::Metadata);
    }
    found
}

fn same_node(a: &Node, b: &Node) -> bool {
    let runs = |node: &Node| node.ports[EXECUTE].value.as_bool() == Some(true);
    a.type_name == b.type_name
        && a.category == b.category
        && a.parent == b.parent
        && a.ignores_execute == b.ignores_execute
        && a.listens == b.listens
        && runs(a) == runs(b)
}

fn same_port(a: &Port, b: &Port) -> bool {
    a.captures == b.captures && same_config(&a.config, &b.config, Standing::Root)
}

/// Where a configuration stands: only a field's default is ever asked for.
#[derive(Clone, Copy)]
enum Standing {
    Root,
    Field,
    Item,
}

/// Recursion ends with the configurations' depth, which is bounded.
fn same_config(a: &PortConfig, b: &PortConfig, standing: Standing) -> bool {
    let options = |config: &PortConfig| -> Vec<Json> {
        let options = config.raw.get("options").and_then(Json::as_array).into_iter().flatten();
        options.map(|option| option.get("id").cloned().unwrap_or_default()).collect()
    };
    let inner = |a: &Option<std::sync::Arc<PortConfig>>, b: &Option<std::sync::Arc<PortConfig>>| match (a, b) {
        (Some(a), Some(b)) => same_config(a, b, Standing::Item),
        (None, None) => true,
        _ => false,
    };
    let kind = match (&a.kind, &b.kind) {
        (PortKind::Object(a), PortKind::Object(b)) => {
            a.len() == b.len()
                && a.iter().zip(b).all(|((key, field), (other_key, other))| {
                    key == other_key && same_config(field, other, Standing::Field)
                })
        }
        (PortKind::Array(a), PortKind::Array(b)) | (PortKind::Stream(a), PortKind::Stream(b)) => inner(a, b),
        (PortKind::Any(a), PortKind::Any(b)) => inner(a, b),
        (PortKind::Enum, PortKind::Enum) => options(a) == options(b),
        (PortKind::Secret, PortKind::Secret) => a.raw.get("secretType") == b.raw.get("secretType"),
        (a, b) => std::mem::discriminant(a) == std::mem::discriminant(b),
    };
    let own = match standing {
        Standing::Root => a.direction == b.direction, // its default shows in its value
        Standing::Field => a.default == b.default,
        Standing::Item => true,
    };
    kind && own && a.required == b.required
}

fn same_value(a: &Value, b: &Value) -> bool {
    // As texts: the order of fields counts.
    let texts = [a, b].map(|value| (matches!(value, Value::Undefined), value.to_json().to_string()));
    texts[0] == texts[1]
}

/// Where an edge comes from, and where below a root port it leads.
type Entering = (String, Box<[Step]>);

/// The edges that enter each root port, in order: where from, and where to below it.
fn entering(flow: &Flow) -> IndexMap<(usize, usize), Vec<Entering>> {
    let mut found: IndexMap<_, Vec<Entering>> = IndexMap::new();
    for Edge { from, to, .. } in &flow.edges {
        found.entry((to.node, to.port)).or_default().push((place(flow, from), to.path.clone()));
    }
    const MANY: usize = 200;
    for ((node, port), edges) in found.iter_mut().filter(|(_, edges)| edges.len() <= MANY) {
        // Edges into parts that are there and apart from each other don't get in each other's way.
        let value = &flow.nodes[*node].ports[*port].value;
        let there = edges.iter().all(|(_, path)| !matches!(ports::read(value, path), Value::Undefined));
        let apart = edges.iter().all(|(_, path)| {
            edges.iter().all(|(_, other)| path == other || !(other.starts_with(path) || path.starts_with(other)))
        });
        if there && apart {
            edges.sort_by_cached_key(|(_, path)| format!("{path:?}"));
        }
    }
    found
}

/// A port, as text.
fn place(flow: &Flow, port: &PortRef) -> String {
    let node = &flow.nodes[port.node];
    format!("{}.{}{:?}", node.id, node.ports[port.port].config.id, port.path)
}
