//! Flows in the stored form, written as short as they can be.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use serde_json::{Map, Value as Json, json};

/// A flow under construction.
pub struct FlowBuilder {
    id: String,
    nodes: Vec<Json>,
    edges: Vec<Json>,
    inputs: Map<String, Json>,
    outputs: Map<String, Json>,
}

impl FlowBuilder {
    /// An empty flow; it is named like its id.
    pub fn new(id: &str) -> FlowBuilder {
        FlowBuilder { id: id.into(), nodes: vec![], edges: vec![], inputs: Map::new(), outputs: Map::new() }
    }

    /// A node with the values of some of its ports: texts, numbers, flags; anything else is a port of any type.
    pub fn node(mut self, id: &str, kind: &str, values: &[(&str, Json)]) -> FlowBuilder {
        let port = |(key, value): &(&str, Json)| {
            let kind = match value {
                Json::String(_) => "string",
                Json::Number(_) => "number",
                Json::Bool(_) => "boolean",
                _ => "any",
            };
            json!({"config": {"id": key, "key": key, "nodeId": id, "type": kind}, "value": value})
        };
        self.nodes.push(json!({
            "id": id,
            "type": kind,
            "metadata": {"type": kind, "version": 1},
            "status": "initialized",
            "systemPorts": {
                "execute": {"id": "__execute", "value": true},
                "success": {"id": "__success", "value": true},
                "error": {"id": "__error", "value": false},
                "errorMessage": {"id": "__errorMessage", "value": ""},
            },
            "ports": values.iter().map(port).collect::<Vec<_>>(),
            "schemaVersion": "v2",
        }));
        self
    }

    /// A GET request to a path below `base`; the path is an input of the flow, named like the node.
    pub fn get(self, id: &str, base: &str) -> FlowBuilder {
        self.node(id, "HttpRequestNode", &[("baseUri", json!(base)), ("path", json!("/"))]).input(id, id, "path")
    }

    /// An edge from a port to a port, each `(node, port)`.
    pub fn edge(mut self, from: (&str, &str), to: (&str, &str)) -> FlowBuilder {
        self.edges.push(json!({
            "id": format!("edge-{}", self.edges.len() + 1),
            "sourceNodeId": from.0, "sourcePortId": from.1, "targetNodeId": to.0, "targetPortId": to.1,
            "metadata": {},
        }));
        self
    }

    /// The second node runs when the first has succeeded.
    pub fn then(self, first: &str, second: &str) -> FlowBuilder {
        self.edge((first, "__success"), (second, "__execute"))
    }

    /// Declare an input.
    pub fn input(mut self, name: &str, node: &str, port: &str) -> FlowBuilder {
        self.inputs.insert(name.into(), json!({"nodeId": node, "portId": port}));
        self
    }

    /// Declare an output.
    pub fn output(mut self, name: &str, node: &str, port: &str) -> FlowBuilder {
        self.outputs.insert(name.into(), json!({"nodeId": node, "portId": port}));
        self
    }

    /// The document.
    pub fn build(self) -> Json {
        let time = "2026-11-22T12:00:00.000Z";
        let mut metadata = json!({
            "id": self.id, "name": self.id, "createdAt": time, "updatedAt": time, "ownerID": "tests", "version": 1,
            "schemaVersion": "v2", "inputs": self.inputs,
        });
        if !self.outputs.is_empty() {
            metadata["outputs"] = self.outputs.into();
        }
        json!({
            "id": self.id, "metadata": metadata, "nodes": self.nodes, "edges": self.edges,
            "createdAt": time, "updatedAt": time,
        })
    }
}

/// A flow that gives back its input `text`.
pub fn echo(id: &str) -> Json {
    FlowBuilder::new(id)
        .node("text", "TextNode", &[("text", json!("nothing"))])
        .input("text", "text", "text")
        .output("text", "text", "text")
        .build()
}

/// A flow that reports to a [`Ledger`](super::ledger::Ledger) when it starts and when it ends.
pub fn reporting(id: &str, ledger: &str) -> Json {
    FlowBuilder::new(id).get("enter", ledger).get("leave", ledger).then("enter", "leave").build()
}

/// The inputs of [`reporting`] for an execution that is held once it has entered.
pub fn gated(execution: &str) -> Json {
    json!({"enter": format!("/gate/{execution}"), "leave": format!("/leave/{execution}")})
}

/// `family` emits two events; on each of them a child is held by the ledger at `hold`.
pub fn family(ledger: &str) -> Json {
    let emitter = [("eventName", json!("work"))];
    FlowBuilder::new("family")
        .node("first", "EventEmitterNode", &emitter)
        .node("second", "EventEmitterNode", &emitter)
        .node("listener", "EventListenerNodeV2", &emitter)
        .get("hold", ledger)
        .then("listener", "hold")
        .output("reply", "hold", "response")
        .build()
}
