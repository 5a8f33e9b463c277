//! Nodes: whether they can be built, their ids, types and parents.

use std::collections::{HashMap, HashSet};

use serde_json::Value as JsonValue;

use super::view::{View, port_key};
use crate::flow::ProblemKind;
use crate::flow::stored::node::{PortFault, port_fault};

pub(super) fn check(view: &mut View) {
    if view.flow.id().trim().is_empty() {
        view.report("no-id", "", "the flow has no id").hint("give it one at the top level: \"id\": \"my-flow\"");
    }
    duplicates(view, "nodes", "node");
    duplicates(view, "edges", "edge");
    dropped(view);
    types(view);
    services(view);
    parents(view);
    switches(view);
}

/// Ids that stand for two nodes or two edges.
fn duplicates(view: &mut View, list: &str, what: &str) {
    let stored = if list == "nodes" { view.stored_nodes() } else { view.stored_edges() };
    let mut first: HashMap<&str, usize> = HashMap::with_capacity(stored.len());
    for (position, item) in stored.iter().enumerate() {
        let Some(id) = item.get("id").and_then(JsonValue::as_str) else { continue };
        let Some(earlier) = first.get(id) else {
            first.insert(id, position);
            continue;
        };
        let line = view.source.find(&format!("/{list}/{earlier}/id")).map(|span| view.source.place(span.start).line);
        let at = line.map_or_else(String::new, |line| format!("; the first one is in line {line}"));
        let message = format!("two {what}s have the id {id:?}{at}");
        view.report("duplicate-id", &format!("/{list}/{position}/id"), message)
            .hint(format!("give each {what} an id of its own"));
    }
}

/// Nodes that the flow was loaded without.
fn dropped(view: &mut View) {
    let built: HashSet<usize> = view.flow.nodes.iter().map(|node| node.position).collect();
    let mut why: HashMap<&str, &str> = HashMap::new();
    for problem in view.problems.iter().filter(|problem| problem.kind == ProblemKind::NodeDropped) {
        why.entry(&*problem.subject).or_insert(&problem.text);
    }
    for (position, stored) in view.stored_nodes().iter().enumerate() {
        if built.contains(&position) {
            continue;
        }
        let unnamed = format!("#{position}");
        let id = stored.get("id").and_then(JsonValue::as_str).unwrap_or(&unnamed);
        if view.flow.by_id.contains_key(id) {
            continue; // the second of two with the same id
        }
        if faulty_ports(view, id, position, stored) {
            continue;
        }
        let text = why.get(id).copied().unwrap_or("it has the wrong shape");
        let named = stored.get("connections").and_then(JsonValue::as_object).filter(|_| text.contains("connections"));
        let part = if named.is_some() { "connections" } else { "id" };
        let message = format!("node {id:?} can't be used: {text}");
        view.report("bad-node", &format!("/nodes/{position}/{part}"), message)
            .hint("a flow with this node would run without it, and without its edges");
    }
}

/// Report the ports that keep a node from being built; false when it is not for a port.
fn faulty_ports(view: &mut View, id: &str, position: usize, stored: &JsonValue) -> bool {
    let named = stored.get("metadata").and_then(|metadata| metadata.get("type")).or_else(|| stored.get("type"));
    let node_type = named.and_then(JsonValue::as_str).and_then(|name| view.registry.get(name));
    let ports = stored.get("ports").and_then(JsonValue::as_array).into_iter().flatten();
    let mut any = false;
    for (port, entry) in ports.enumerate() {
        let Some(fault) = port_fault(entry, node_type) else { continue };
        any = true;
        let at = format!("/nodes/{position}/ports/{port}");
        match fault {
            PortFault::Config(why) => {
                view.report("bad-port", &format!("{at}/config"), format!("node {id:?}, {why}"))
                    .hint("a flow with this node would run without it");
            }
            PortFault::Value(why) => {
                let part = if entry.get("value").is_some() { "value" } else { "config/defaultValue" };
                let kind = entry.get("config").and_then(|config| config.get("type")).and_then(JsonValue::as_str);
                let kind = kind.unwrap_or("any");
                let key = port_key(entry).unwrap_or_default();
                view.report("bad-value", &format!("{at}/{part}"), format!("node {id:?}, {why}"))
                    .hint(format!("`{key}` takes {}", super::values::wanted(kind)));
            }
        }
    }
    any
}

/// Types that this worker doesn't know.
fn types(view: &mut View) {
    for (index, node) in view.flow.nodes.iter().enumerate() {
        if node.node_type.is_some() {
            continue;
        }
        let message =
            format!("node {:?} has the type {:?}, which this worker does not know", &*node.id, &*node.type_name);
        let registry = view.registry;
        let hint = match view.meant(&node.type_name, registry.iter().map(|known| known.name)) {
            Some(name) => format!("did you mean `{name}`?"),
            None => "the node would fail when it is to run, and what depends on it would not run".into(),
        };
        let in_metadata = format!("/nodes/{}/metadata/type", view.flow.nodes[index].position);
        view.report("unknown-type", &in_metadata, message).hint(hint);
    }
}

/// Types that need what this worker doesn't reach.
fn services(view: &mut View) {
    for problem in view.problems.iter().filter(|problem| problem.kind.as_str() == "needs a service") {
        let Some(index) = view.flow.node_index(&problem.subject) else { continue };
        let at = format!("/nodes/{}/metadata/type", view.flow.nodes[index].position);
        view.report("needs-service", &at, format!("node {:?}: {}", &*problem.subject, problem.text));
    }
}

fn parents(view: &mut View) {
    let problems = view.problems.iter().filter(|problem| problem.kind == ProblemKind::Parent);
    for problem in problems {
        let Some(index) = view.flow.node_index(&problem.subject) else { continue };
        let at = format!("/nodes/{}/metadata/parentNodeId", view.flow.nodes[index].position);
        let message = format!("node {:?}: {}", &*problem.subject, problem.text);
        view.report("bad-parent", &at, message);
    }
}

/// Nodes that are skipped since nothing says that they may execute.
fn switches(view: &mut View) {
    use crate::flow::model::EXECUTE;
    for (index, node) in view.flow.nodes.iter().enumerate() {
        let nothing = matches!(node.ports[EXECUTE].value, crate::flow::Value::Undefined);
        if nothing && !node.ignores_execute && !view.is_fed(index, EXECUTE) {
            let at = view.at_node(index);
            let message = format!("node {:?} is skipped: it stores no value for `__execute`", &*node.id);
            view.report("switched-off", &at, message)
                .hint("add \"systemPorts\": {\"execute\": {\"id\": \"__execute\", \"value\": true}}, or false if it is meant so");
        }
    }
}
