//! A single node, run with what it is given.

#![allow(dead_code, reason = "each test binary uses a part of it")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, also in its helpers")]

use fireflow_worker::flow::Value;
use fireflow_worker::nodes::outbound::Outbound;
use fireflow_worker::nodes::{Behaviour, NodeRun, Registry, RunContext};
use indexmap::IndexMap;
use serde_json::Value as Json;

/// Run a node that waits: its ports, and its error. What isn't given has the type's default.
pub async fn run(name: &str, outbound: &Outbound, inputs: &Json) -> (Json, Option<String>) {
    let registry = Registry::standard();
    let node = registry.get(name).unwrap();
    let mut ports: IndexMap<_, _> = node
        .ports
        .iter()
        .map(|port| {
            let config: Json = serde_json::from_str(port.config).unwrap();
            (port.key.into(), config.get("defaultValue").map_or(Value::Undefined, Value::from))
        })
        .collect();
    for (key, value) in inputs.as_object().unwrap() {
        ports.insert(key.as_str().into(), Value::from(value));
    }
    let context = RunContext { outbound: outbound.clone(), ..RunContext::default() };
    let (sender, _effects) = tokio::sync::mpsc::unbounded_channel();
    let mut run = NodeRun::new(ports, IndexMap::new(), context.into(), Default::default(), sender);
    let Behaviour::Async(work) = node.behaviour else { panic!("{name} does not wait") };
    let result = work(&mut run).await;
    let ports = run.into_ports().iter().map(|(key, value)| (key.to_string(), value.to_json())).collect();
    (Json::Object(ports), result.err().map(|error| error.to_string()))
}
