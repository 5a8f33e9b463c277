//! What the checks look at: the stored document, the flow that it loads as, and where in the text its parts are.

use std::collections::HashSet;

use serde_json::Value as JsonValue;

use crate::flow::json_spans::escaped;
use crate::flow::model::{Node, NodeIndex, Port, SYSTEM_PORTS};
use crate::flow::stored::Loaded;
use crate::flow::validate::{codes, names};
use crate::flow::{Diagnostic, Flow, Problem, Source};
use crate::nodes::Registry;

/// A flow under check, and what was found so far.
pub(super) struct View<'a> {
    pub flow: &'a Flow,
    pub problems: &'a [Problem],
    pub data: &'a JsonValue,
    pub source: &'a Source,
    pub registry: &'a Registry,
    /// Root ports that get values when the flow runs: an edge enters them or a part of them, or they are declared as
    /// inputs.
    fed: HashSet<(NodeIndex, usize)>,
    findings: Vec<Diagnostic>,
    /// Searches for a meant name that are left; each one looks at many names.
    searches: usize,
}

/// A finding that was just added.
pub(super) struct Reported<'a>(Option<&'a mut Diagnostic>);

impl Reported<'_> {
    /// Say what to do.
    pub fn hint(self, hint: impl Into<String>) {
        if let Some(finding) = self.0 {
            finding.hint = Some(hint.into());
        }
    }
}

/// Names that are searched for; whoever has more wrong names sees what happened.
const SEARCHES: usize = 200;

impl<'a> View<'a> {
    pub fn new(loaded: &'a Loaded, data: &'a JsonValue, source: &'a Source, registry: &'a Registry) -> View<'a> {
        let flow = &*loaded.flow;
        let entered = flow.edges.iter().map(|edge| (edge.to.node, edge.to.port));
        let declared = flow.inputs.values().map(|port| (port.node, port.port));
        let fed = entered.chain(declared).collect();
        View { flow, problems: &loaded.problems, data, source, registry, fed, findings: Vec::new(), searches: SEARCHES }
    }

    /// Add a finding at a part of the document.
    pub fn report(&mut self, code: &'static str, pointer: &str, message: impl Into<String>) -> Reported<'_> {
        let finding = codes::finding(code, message).at(self.source.find(pointer));
        self.findings.push(finding);
        Reported(self.findings.last_mut())
    }

    /// The name that was probably meant.
    pub fn meant<'n>(&mut self, wrong: &str, known: impl IntoIterator<Item = &'n str>) -> Option<&'n str> {
        self.searches = self.searches.checked_sub(1)?;
        names::meant(wrong, known)
    }

    /// What to write instead of a wrong name.
    pub fn instead<'n>(&mut self, wrong: &str, what: &str, known: impl IntoIterator<Item = &'n str> + Clone) -> String {
        match self.meant(wrong, known.clone()) {
            Some(name) => format!("did you mean `{name}`?"),
            None => names::choices(what, known),
        }
    }

    pub fn into_findings(self) -> Vec<Diagnostic> {
        self.findings
    }

    /// Whether an edge or an input of the flow may change the port.
    pub fn is_fed(&self, node: NodeIndex, port: usize) -> bool {
        self.fed.contains(&(node, port))
    }

    /// The nodes as stored.
    pub fn stored_nodes(&self) -> &'a [JsonValue] {
        self.data.get("nodes").and_then(JsonValue::as_array).map_or(&[], Vec::as_slice)
    }

    /// The edges as stored.
    pub fn stored_edges(&self) -> &'a [JsonValue] {
        self.data.get("edges").and_then(JsonValue::as_array).map_or(&[], Vec::as_slice)
    }

    /// A node's ports as stored; none for the older form, where they have other names.
    pub fn stored_ports(&self, node: &Node) -> &'a [JsonValue] {
        let stored = self.stored_nodes().get(node.position);
        let ports = stored.and_then(|node| node.get("ports")).and_then(JsonValue::as_array);
        ports.map_or(&[], Vec::as_slice)
    }

    /// Where a node's id stands.
    pub fn at_node(&self, node: NodeIndex) -> String {
        format!("/nodes/{}/id", self.flow.nodes[node].position)
    }

    /// Where one of a node's own ports stands; the node where it is not stored. `part` goes on from there.
    pub fn at_port(&self, node: NodeIndex, key: &str, part: &str) -> String {
        let node = &self.flow.nodes[node];
        let ports = self.stored_ports(node);
        match ports.iter().position(|entry| port_key(entry) == Some(key)) {
            Some(port) => format!("/nodes/{}/ports/{port}{part}", node.position),
            None => format!("/nodes/{}/id", node.position),
        }
    }

    /// Where the value of one of a node's ports stands, or its default where it has none of its own.
    pub fn at_value(&self, node: NodeIndex, key: &str) -> String {
        let ports = self.stored_ports(&self.flow.nodes[node]);
        let entry = ports.iter().find(|entry| port_key(entry) == Some(key));
        let part = match entry {
            Some(entry) if entry.get("value").is_some() => "/value",
            Some(entry) if entry.get("config").and_then(|config| config.get("defaultValue")).is_some() => {
                "/config/defaultValue"
            }
            _ => "/config/key",
        };
        self.at_port(node, key, part)
    }
}

/// The key of an entry in a node's stored list of ports.
pub(super) fn port_key(entry: &JsonValue) -> Option<&str> {
    let config = entry.get("config")?;
    config.get("key").or_else(|| config.get("id")).and_then(JsonValue::as_str)
}

/// A JSON pointer with one more step.
pub(super) fn below(pointer: &str, key: &str) -> String {
    format!("{pointer}/{}", escaped(key))
}

/// A node's own ports, with their positions among all of them.
pub(super) fn own_ports(node: &Node) -> impl Iterator<Item = (usize, &Port)> {
    node.ports.iter().enumerate().skip(SYSTEM_PORTS.len())
}
