//! Loading a stored flow. Forgiving: what cannot be used is left out and reported, and the rest runs.

mod config;
pub(super) mod decode;
pub(super) mod node;
#[cfg(test)]
mod tests;
mod v1;

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use indexmap::IndexMap;
use serde_json::Value as JsonValue;
use serde_json::json;
use serde_json::value::RawValue;

use super::events::iso_now;
use super::graph::{self, Graph};
use super::model::{Edge, Flow, Json, Node, NodeIndex, PortRef};
use super::ports::{self, Falsy};
use super::problems::{LoadError, Problem, ProblemKind};
use crate::nodes::Registry;

/// How deep a stored flow may nest; editors stay far below, and parsers of JSON text stop here by default.
const MAX_DEPTH: usize = 128;

/// A flow, and what was wrong with its stored form.
#[derive(Debug)]
pub struct Loaded {
    /// The flow, without the parts that could not be used.
    pub flow: Arc<Flow>,
    /// What was left out or will not run, and why.
    pub problems: Vec<Problem>,
}

impl Flow {
    /// Load a flow as the flows table stores it, in either form.
    pub fn load(json: &JsonValue, registry: &Registry) -> Result<Loaded, LoadError> {
        let stored = json.as_object().ok_or(LoadError::NotAnObject(kind_name(json)))?;
        if nests_deeper(json, MAX_DEPTH) {
            return Err(LoadError::TooDeep(MAX_DEPTH));
        }
        let metadata = metadata(stored)?;
        let mut problems = Vec::new();

        let mut stored_nodes = Cow::Borrowed(list(stored, "nodes")?);
        let mut renamed = v1::Renamed::default();
        if stored_nodes.iter().filter_map(JsonValue::as_object).any(v1::is_old) {
            renamed = v1::modernise(stored_nodes.to_mut());
        }
        let nodes = nodes(&stored_nodes, registry, &mut problems);
        let mut flow = Flow {
            id: text(stored, "id").or_else(|| text(&metadata, "id")).unwrap_or_default().into(),
            by_id: nodes.iter().enumerate().map(|(index, node)| (node.id.clone(), index)).collect(),
            nodes,
            edges: Vec::new(),
            graph: Graph::default(),
            falsy: match metadata.get("keepFalsyFields") {
                Some(JsonValue::Bool(true)) => Falsy::Kept,
                _ => Falsy::Filled,
            },
            inputs: IndexMap::new(),
            outputs: None,
            metadata_text: raw(&metadata),
            metadata,
        };
        parents(&mut flow, &stored_nodes, &mut problems);
        let marked = text(&flow.metadata, "schemaVersion") == Some("v2");
        for (position, edge) in list(stored, "edges")?.iter().enumerate() {
            if let Some(edge) = self::edge(&flow, edge, &renamed, marked, &mut problems)? {
                flow.edges.push(Edge { position, ..edge });
            }
        }
        flow.graph = Graph::new(&flow.nodes, &flow.edges);
        graph::report_cycles(&flow, &mut problems);
        declarations(&mut flow, &mut problems);
        Ok(Loaded { flow: Arc::new(flow), problems })
    }

    pub(super) fn node_index(&self, id: &str) -> Option<NodeIndex> {
        self.by_id.get(id).copied()
    }

    /// A port by its node's id and its own id, nested ones included.
    pub(super) fn port(&self, node: &str, port: &str) -> Option<PortRef> {
        let index = self.node_index(node)?;
        ports::resolve(&self.nodes[index], index, port)
    }
}

fn metadata(stored: &Json) -> Result<Json, LoadError> {
    let mut metadata = match stored.get("metadata") {
        None | Some(JsonValue::Null) => Json::new(),
        Some(JsonValue::Object(metadata)) => metadata.clone(),
        Some(_) => return Err(LoadError::Shape { part: "metadata", expected: "an object" }),
    };
    if let Some(id) = stored.get("id").filter(|_| !metadata.contains_key("id")) {
        metadata.insert("id".into(), id.clone());
    }
    if let Some(version) = stored.get("version").filter(|version| version.is_number()) {
        metadata.insert("version".into(), version.clone());
    }
    for date in ["createdAt", "updatedAt"] {
        if !metadata.get(date).is_some_and(JsonValue::is_string) {
            let date_of_flow = stored.get(date).filter(|date| date.is_string()).cloned();
            metadata.insert(date.into(), date_of_flow.unwrap_or_else(|| iso_now().into()));
        }
    }
    Ok(metadata)
}

fn nodes(stored: &[JsonValue], registry: &Registry, problems: &mut Vec<Problem>) -> Vec<Node> {
    let mut nodes: Vec<Node> = Vec::with_capacity(stored.len());
    let mut seen: HashSet<Arc<str>> = HashSet::with_capacity(stored.len());
    for (position, json) in stored.iter().enumerate() {
        let id = json.get("id").and_then(JsonValue::as_str).map_or_else(|| format!("#{position}"), str::to_owned);
        let built = match json.as_object() {
            None => Err("it is no object".to_owned()),
            Some(json) if text(json, "schemaVersion") == Some("v3") => {
                Err("it is stored in the form v3, which this worker does not know".to_owned())
            }
            Some(json) => node::build(json, registry, problems),
        };
        match built {
            Ok(node) if !seen.insert(node.id.clone()) => {
                let what = "another node has the same id; the first one counts";
                problems.push(Problem::new(ProblemKind::NodeDropped, id, what));
            }
            Ok(node) => nodes.push(Node { position, ..node }),
            Err(why) => problems.push(Problem::new(ProblemKind::NodeDropped, id, why)),
        }
    }
    nodes
}

fn parents(flow: &mut Flow, stored: &[JsonValue], problems: &mut Vec<Problem>) {
    let mut wanted: HashMap<&str, &str> = HashMap::new();
    for node in stored {
        let id = node.get("id").and_then(JsonValue::as_str);
        let parent = node.get("metadata").and_then(|metadata| metadata.get("parentNodeId"));
        if let Some((id, parent)) = id.zip(parent.and_then(JsonValue::as_str)) {
            wanted.entry(id).or_insert(parent);
        }
    }
    for (index, node) in flow.nodes.iter_mut().enumerate() {
        let Some(parent) = wanted.get(node.id.as_ref()).filter(|parent| !parent.is_empty()) else { continue };
        match flow.by_id.get(*parent) {
            Some(found) if *found != index => node.parent = Some(*found),
            Some(_) => problems.push(Problem::new(ProblemKind::Parent, node.id.clone(), "it is its own parent")),
            None => {
                let what = format!("its parent {parent} is not part of the flow; it runs as if it had none");
                problems.push(Problem::new(ProblemKind::Parent, node.id.clone(), what));
            }
        }
    }
}

fn edge(
    flow: &Flow,
    stored: &JsonValue,
    renamed: &v1::Renamed,
    marked: bool,
    problems: &mut Vec<Problem>,
) -> Result<Option<Edge>, LoadError> {
    let part = |key: &str| stored.get(key).and_then(JsonValue::as_str).unwrap_or_default();
    let id = part("id");
    let mut ends = Vec::with_capacity(2);
    for (node_key, port_key) in [("sourceNodeId", "sourcePortId"), ("targetNodeId", "targetPortId")] {
        let (node, old) = (part(node_key), part(port_key));
        let port = renamed.port(node, old).unwrap_or(old);
        let missing = match flow.port(node, port) {
            Some(found) => {
                ends.push((node, port, found));
                continue;
            }
            None if !flow.by_id.contains_key(node) => format!("its node {node:?} is not part of the flow"),
            None if renamed.knows(node) && !marked => {
                return Err(LoadError::OldPort { edge: id.into(), node: node.into(), port: old.into() });
            }
            None => format!("node {node} has no port {port:?}"),
        };
        problems.push(Problem::new(ProblemKind::EdgeDropped, id, missing));
        return Ok(None);
    }
    let Some((to, from)) = ends.pop().zip(ends.pop()) else { return Ok(None) };
    let shown = json!({
        "id": id,
        "metadata": stored.get("metadata").filter(|metadata| metadata.is_object()).unwrap_or(&json!({})),
        "status": "inactive",
        "sourceNodeId": from.0,
        "sourcePortId": from.1,
        "targetNodeId": to.0,
        "targetPortId": to.1,
    });
    Ok(Some(Edge { position: 0, text: shown.to_string().into(), from: from.2, to: to.2 }))
}

/// The inputs and outputs that the flow's metadata names: `{name: {nodeId, portId}}`.
fn declarations(flow: &mut Flow, problems: &mut Vec<Problem>) {
    for what in ["inputs", "outputs"] {
        let Some(JsonValue::Object(declared)) = flow.metadata.get(what) else { continue };
        let mut found = IndexMap::with_capacity(declared.len());
        for (name, place) in declared {
            let part = |key: &str| place.get(key).and_then(JsonValue::as_str).unwrap_or_default();
            let (node, port) = (part("nodeId"), part("portId"));
            match flow.port(node, port) {
                Some(port) => {
                    found.insert(name.clone(), port);
                }
                None => {
                    let text = format!("{what} names port {port:?} of node {node:?}, which is not part of the flow");
                    problems.push(Problem::new(ProblemKind::Declaration, name.as_str(), text));
                }
            }
        }
        match what {
            "inputs" => flow.inputs = found,
            _ => flow.outputs = Some(found),
        }
    }
}

fn list<'a>(stored: &'a Json, part: &'static str) -> Result<&'a [JsonValue], LoadError> {
    match stored.get(part) {
        None | Some(JsonValue::Null) => Ok(&[]),
        Some(JsonValue::Array(items)) => Ok(items),
        Some(_) => Err(LoadError::Shape { part, expected: "a list" }),
    }
}

fn raw(metadata: &Json) -> Box<RawValue> {
    // A map of JSON values always has a JSON text; null stands for the case that cannot be.
    serde_json::value::to_raw_value(metadata).unwrap_or_else(|_| RawValue::NULL.to_owned())
}

fn nests_deeper(json: &JsonValue, limit: usize) -> bool {
    let mut open = vec![(json, 0)];
    while let Some((json, depth)) = open.pop() {
        if depth > limit {
            return true;
        }
        match json {
            JsonValue::Array(items) => open.extend(items.iter().map(|item| (item, depth + 1))),
            JsonValue::Object(fields) => open.extend(fields.values().map(|field| (field, depth + 1))),
            _ => {}
        }
    }
    false
}

fn kind_name(json: &JsonValue) -> &'static str {
    match json {
        JsonValue::Null => "null",
        JsonValue::Bool(_) => "a flag",
        JsonValue::Number(_) => "a number",
        JsonValue::String(_) => "a text",
        JsonValue::Array(_) => "a list",
        JsonValue::Object(_) => "an object",
    }
}

fn text<'a>(json: &'a Json, key: &str) -> Option<&'a str> {
    json.get(key).and_then(JsonValue::as_str)
}
