//! Edges: their ends, directions and types, and those that never carry anything.

use std::collections::HashMap;

use serde_json::Value as JsonValue;

use super::kinds::{self, Fit};
use super::view::{View, own_ports};
use crate::flow::model::{Direction, NodeIndex, PortKind, SYSTEM_PORTS};
use crate::flow::ports;

const ENDS: [(&str, &str, &str); 2] =
    [("sourceNodeId", "sourcePortId", "source"), ("targetNodeId", "targetPortId", "target")];

pub(super) fn check(view: &mut View) {
    missing_ends(view);
    for edge in &view.flow.edges {
        let stored = view.stored_edges().get(edge.position);
        let part = |key: &str| stored.and_then(|edge| edge.get(key)).and_then(JsonValue::as_str).unwrap_or("?");
        let (from, to) = (&edge.from, &edge.to);
        let at = |part: &str| format!("/edges/{}/{part}", edge.position);
        if !from.config.direction.gives() {
            let message = format!(
                "port {} of node {:?} is an input; no edge can leave it",
                part("sourcePortId"),
                part("sourceNodeId")
            );
            let hint = with_direction(view, from.node, Direction::gives, "ports that give values");
            view.report("wrong-direction", &at("sourcePortId"), message).hint(hint);
            continue;
        }
        if to.config.direction == Direction::Output {
            let message = format!(
                "port {} of node {:?} is an output; no edge can enter it",
                part("targetPortId"),
                part("targetNodeId")
            );
            let hint =
                with_direction(view, to.node, |direction| direction != Direction::Output, "ports that take values");
            view.report("wrong-direction", &at("targetPortId"), message).hint(hint);
            continue;
        }
        let ends = format!(
            "{}.{} to {}.{}",
            part("sourceNodeId"),
            part("sourcePortId"),
            part("targetNodeId"),
            part("targetPortId")
        );
        let at = at("targetPortId");
        let (source, target) = (kinds::name(&from.config), kinds::name(&to.config));
        match kinds::fit(&from.config, &to.config) {
            Fit::Fits => {}
            Fit::Never(why) => {
                let hint = conversion(&from.config.underlying().kind, &to.config.kind);
                let detail =
                    if why == format!("{source} is not {target}") { String::new() } else { format!(": {why}") };
                view.report("type-mismatch", &at, format!("{source} into {target}, from {ends}{detail}")).hint(hint);
            }
            Fit::Loose(why) => {
                view.report("loose-type", &at, format!("{source} into {target}, from {ends}: {why}"));
            }
            Fit::Lacks(fields) => {
                view.report(
                    "missing-field",
                    &at,
                    format!("the objects from {ends} lack what the target names: {fields}"),
                );
            }
        }
    }
    idle(view);
}

/// Edges that the flow was loaded without.
fn missing_ends(view: &mut View) {
    let loaded: std::collections::HashSet<usize> = view.flow.edges.iter().map(|edge| edge.position).collect();
    let stored_ids: std::collections::HashSet<&str> =
        view.stored_nodes().iter().filter_map(|node| node.get("id")?.as_str()).collect();
    for (position, stored) in view.stored_edges().iter().enumerate() {
        if loaded.contains(&position) {
            continue;
        }
        for (node_key, port_key, end) in ENDS {
            let part = |key: &str| stored.get(key).and_then(JsonValue::as_str);
            let id = stored.get("id").and_then(JsonValue::as_str).unwrap_or_default();
            let edge = if id.is_empty() { format!("edge {}", position + 1) } else { format!("edge {id:?}") };
            let at = |key: &str| format!("/edges/{position}/{key}");
            let (Some(node), Some(port)) = (part(node_key), part(port_key)) else {
                let missing = if part(node_key).is_none() { node_key } else { port_key };
                view.report("unknown-node", &format!("/edges/{position}"), format!("{edge} has no text `{missing}`"));
                continue;
            };
            let Some(index) = view.flow.node_index(node) else {
                // A node that is there and can't be used has a finding of its own.
                if !stored_ids.contains(node) {
                    let flow = view.flow;
                    let hint = view.instead(node, "nodes", flow.nodes.iter().map(|node| &*node.id));
                    let message = format!("{edge}: there is no node {node:?} to be its {end}");
                    view.report("unknown-node", &at(node_key), message).hint(hint);
                }
                continue;
            };
            // The ports of unknown types are unknown as well.
            if view.flow.port(node, port).is_none() && view.flow.nodes[index].node_type.is_some() {
                let hint = port_hint(view, index, port);
                let message = format!("{edge}: node {node:?} has no port {port:?}");
                view.report("unknown-port", &at(port_key), message).hint(hint);
            }
        }
    }
}

/// What a port's id could be instead.
pub(super) fn port_hint(view: &mut View, node: NodeIndex, wrong: &str) -> String {
    let flow = view.flow;
    let known = &flow.nodes[node];
    // The longest beginning that is a port, and its fields.
    let cuts: Vec<usize> = wrong.match_indices(['.', '[']).map(|(at, _)| at).take(50).collect();
    for cut in cuts.into_iter().rev() {
        let Some(parent) = ports::resolve(known, node, &wrong[..cut]) else { continue };
        if let Some(rest) = wrong[cut..].strip_prefix('.') {
            let fields = kinds::field_names(&parent.config);
            if fields.is_empty() {
                return format!("`{}` has no fields: its type is {}", &wrong[..cut], kinds::name(&parent.config));
            }
            return view.instead(rest, &format!("fields of {}", &wrong[..cut]), fields.iter().copied());
        }
        let elements = ports::read(&known.ports[parent.port].value, &parent.path);
        let count = elements.as_array().map_or(0, <[_]>::len);
        return format!("only stored elements are ports; `{}` stores {count}", &wrong[..cut]);
    }
    let keys: Vec<&str> = known.configs.keys().map(|key| &**key).chain(SYSTEM_PORTS).collect();
    match view.meant(wrong, keys.iter().copied()) {
        Some(name) => format!("did you mean `{name}`?"),
        None => {
            let own: Vec<&str> = known.configs.keys().map(|key| &**key).collect();
            if own.is_empty() {
                "it has no ports but __execute, __success, __error and __errorMessage".into()
            } else {
                format!("its ports: {}", super::names::listed(own))
            }
        }
    }
}

fn with_direction(view: &View, node: NodeIndex, wanted: impl Fn(Direction) -> bool, what: &str) -> String {
    let node = &view.flow.nodes[node];
    let own = own_ports(node).filter(|(_, port)| wanted(port.config.direction)).map(|(_, port)| &*port.config.key);
    let names = super::names::listed(own);
    if names.is_empty() { format!("it has no {what}") } else { format!("its {what}: {names}") }
}

/// What to put between two ports.
fn conversion(from: &PortKind, to: &PortKind) -> &'static str {
    match (from, to) {
        (PortKind::Number, PortKind::String) => "put a NumberToStringNode between them",
        (PortKind::Object(_) | PortKind::Array(_) | PortKind::Boolean, PortKind::String) => {
            "put a JSONSerializerNode between them"
        }
        (PortKind::String, PortKind::Object(_) | PortKind::Array(_) | PortKind::Number | PortKind::Boolean) => {
            "put a JsonYamlDeserializerNode between them"
        }
        (PortKind::Stream(_), PortKind::String) => "put a StreamBufferNode between them",
        _ => "nothing converts values on their way; a node between them has to",
    }
}

/// Of several edges into one port, the first one whose source is resolved counts. Two that are resolved at the same
/// moment leave nothing for the second.
fn idle(view: &mut View) {
    for target in &view.flow.graph.targets {
        if target.edges.len() < 2 {
            continue;
        }
        let mut first: HashMap<(NodeIndex, bool), usize> = HashMap::new();
        for (edge, source) in &target.edges {
            let source = &view.flow.graph.sources[*source];
            // A stream may be resolved while its node works.
            if matches!(source.port.config.kind, PortKind::Stream(_) | PortKind::Any(_)) {
                continue;
            }
            let Some(earlier) = first.get(&(source.port.node, source.on_failure())) else {
                first.insert((source.port.node, source.on_failure()), *edge);
                continue;
            };
            let position = view.flow.edges[*edge].position;
            let earlier = view.flow.edges[*earlier].position;
            let message = format!(
                "this edge never carries a value: edge {} from node {:?} enters the same port, and comes first",
                earlier + 1,
                &*view.flow.nodes[source.port.node].id
            );
            view.report("idle-edge", &format!("/edges/{position}/targetPortId"), message).hint("remove one of the two");
        }
    }
}
