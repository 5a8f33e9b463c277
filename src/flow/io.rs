//! Named inputs and outputs of a flow: what its metadata declares, or any port by `nodeId.portId`.

use std::sync::Arc;

use super::Value;
use super::engine::NodeOutcome;
use super::model::{Direction, Flow, Json, PortKind, PortRef, SYSTEM_PORTS, Status};
use super::stream::Channel;

/// A value for a port, put there when the run starts.
#[derive(Clone, Debug)]
pub struct Input {
    pub(super) port: PortRef,
    pub(super) value: Value,
}

/// A name that is no input of the flow.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the flow has no input {name:?}; {hint}")]
pub struct UnknownInput {
    /// The name that was given.
    pub name: String,
    /// What would be an input.
    pub hint: String,
}

impl Flow {
    /// The ports that the given inputs set. Names are those that the flow's metadata declares under `inputs`, or
    /// `nodeId.portId`, or `nodeId/portId`.
    pub fn bind_inputs(&self, inputs: &Json) -> Result<Vec<Input>, UnknownInput> {
        inputs
            .iter()
            .map(|(name, json)| {
                let port = self.inputs.get(name).cloned().or_else(|| self.port_by_name(name));
                let port = port.ok_or_else(|| UnknownInput { name: name.clone(), hint: self.hint(name) })?;
                let value = match (&port.config.kind, json) {
                    (PortKind::Stream(_), serde_json::Value::Array(items)) => {
                        Value::Stream(Channel::with_items(items.iter().map(Value::from).collect(), true))
                    }
                    _ => Value::from(json),
                };
                Ok(Input { port, value })
            })
            .collect()
    }

    /// The names of the declared inputs.
    pub fn input_names(&self) -> impl Iterator<Item = &str> {
        self.inputs.keys().map(String::as_str)
    }

    /// Node ids may hold dots as well, so each place where the name could be cut is tried.
    fn port_by_name(&self, name: &str) -> Option<PortRef> {
        name.match_indices(['/', '.']).find_map(|(cut, _)| self.port(&name[..cut], &name[cut + 1..]))
    }

    fn hint(&self, name: &str) -> String {
        const NAMED: usize = 20;
        let node = name.match_indices(['/', '.']).find_map(|(cut, _)| self.node_index(&name[..cut]));
        let (what, names): (String, Vec<&str>) = match node.map(|index| &self.nodes[index]) {
            Some(node) => (format!("ports of node {}", node.id), node.configs.keys().map(|key| &**key).collect()),
            None if self.inputs.is_empty() => {
                return "it declares none, so name a port: `nodeId.portId`".into();
            }
            None => ("its inputs".into(), self.input_names().collect()),
        };
        if names.is_empty() {
            return format!("{what}: none");
        }
        let more = if names.len() > NAMED { ", …" } else { "" };
        format!("{what}: {}{more}", names[..names.len().min(NAMED)].join(", "))
    }

    /// What the flow gives: the declared outputs; without a declaration, the outputs of completed nodes (of nodes
    /// without outputs, their passthrough ports) that no edge leaves, as `nodeId.portId`. Undefined ones are left out,
    /// streams are lists of their items.
    pub(super) fn outputs_of(&self, nodes: &[NodeOutcome]) -> Json {
        let mut outputs = Json::new();
        let mut put = |name: String, value: &Value| {
            if !matches!(value, Value::Undefined) {
                outputs.insert(name, plain(value));
            }
        };
        if let Some(declared) = &self.outputs {
            for (name, port) in declared {
                let outcome = &nodes[port.node];
                let failure = port.port < SYSTEM_PORTS.len() && outcome.status == Status::Error;
                if outcome.ran && (outcome.status == Status::Completed || failure) {
                    put(name.clone(), &outcome.orphans.value_of(&outcome.ports[port.port].1, port));
                }
            }
            return outputs;
        }
        let mut taken: Vec<Vec<bool>> = self.nodes.iter().map(|node| vec![false; node.ports.len()]).collect();
        for edge in &self.edges {
            taken[edge.from.node][edge.from.port] = true;
        }
        for (index, (node, outcome)) in self.nodes.iter().zip(nodes).enumerate() {
            if outcome.status != Status::Completed || !outcome.ran {
                continue;
            }
            // A passthrough port is what a value node gives; where there are outputs, it is one of their inputs.
            let own = &node.ports[SYSTEM_PORTS.len()..];
            let computes = own.iter().any(|port| port.config.direction == Direction::Output);
            for (position, port) in node.ports.iter().enumerate().skip(SYSTEM_PORTS.len()) {
                let direction = port.config.direction;
                let gives = direction == Direction::Output || direction == Direction::Passthrough && !computes;
                if gives && !taken[index][position] {
                    put(format!("{}.{}", node.id, port.config.id), &outcome.ports[position].1);
                }
            }
        }
        outputs
    }
}

/// A value as JSON, streams as lists of their items.
fn plain(value: &Value) -> serde_json::Value {
    match value {
        Value::Stream(channel) => channel.contents().0.iter().map(plain).collect(),
        Value::Array(items) => items.iter().map(plain).collect(),
        Value::Object(fields) => fields
            .iter()
            .filter(|(_, value)| !matches!(value, Value::Undefined))
            .map(|(key, value): (&Arc<str>, _)| (key.to_string(), plain(value)))
            .collect::<Json>()
            .into(),
        simple => simple.to_json(),
    }
}
