//! Running single nodes in tests: ports as JSON in, ports as JSON out.

use std::sync::{Arc, LazyLock};

use indexmap::IndexMap;
use serde_json::Value as Json;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::outbound::Outbound;
use super::{Behaviour, Effect, ExecutionKeys, NodeError, NodeRun, Registry, RunContext};
use crate::flow::Value;
use crate::flow::model::PortConfig;

/// One for all: making its client takes a while.
static OUTBOUND: LazyLock<Outbound> = LazyLock::new(Outbound::default);

/// What one execution of a node left.
pub(super) struct Outcome {
    pub result: Result<(), NodeError>,
    pub ports: IndexMap<Arc<str>, Value>,
    pub effects: Vec<Effect>,
}

impl Outcome {
    /// All ports as JSON.
    pub fn json(&self) -> Json {
        Json::Object(self.ports.iter().map(|(key, value)| (key.to_string(), value.to_json())).collect())
    }
}

/// A node about to run; what isn't given has the class's default.
pub(super) struct Bench {
    node: &'static str,
    ports: IndexMap<Arc<str>, Value>,
    configs: IndexMap<Arc<str>, Arc<PortConfig>>,
    pub cancel: CancellationToken,
    pub context: RunContext,
}

impl Bench {
    pub fn new(node: &'static str, inputs: &Json) -> Bench {
        let registry = Registry::standard();
        let node_type = registry.get(node).unwrap_or_else(|| panic!("{node} is not registered"));
        let mut ports = IndexMap::new();
        for port in node_type.ports {
            let config: Json = serde_json::from_str(port.config).unwrap();
            ports.insert(Arc::from(port.key), config.get("defaultValue").map_or(Value::Undefined, Value::from));
        }
        for (key, value) in inputs.as_object().unwrap() {
            ports.insert(Arc::from(key.as_str()), Value::from(value));
        }
        let context = RunContext {
            execution_id: Arc::default(),
            event: None,
            depth: 0,
            is_child: false,
            integration: Value::Undefined,
            outbound: OUTBOUND.clone(),
            keys: ExecutionKeys::default(),
            falsy: Default::default(),
        };
        Bench { node, ports, configs: IndexMap::new(), cancel: CancellationToken::new(), context }
    }

    pub fn port(mut self, key: &str, value: Value) -> Bench {
        self.ports.insert(key.into(), value);
        self
    }

    pub fn config(mut self, key: &str, config: PortConfig) -> Bench {
        self.configs.insert(key.into(), Arc::new(config));
        self
    }

    pub async fn run(self) -> Outcome {
        let registry = Registry::standard();
        let (sender, mut receiver) = mpsc::unbounded_channel();
        let mut run = NodeRun::new(self.ports, self.configs, Arc::new(self.context), self.cancel, sender);
        let result = match registry.get(self.node).unwrap().behaviour {
            Behaviour::Passive => Ok(()),
            Behaviour::Pure(work) => work(&mut run),
            Behaviour::Async(work) => work(&mut run).await,
            Behaviour::Unavailable { service } => Err(NodeError::new(service)),
        };
        let ports = run.into_ports();
        let mut effects = Vec::new();
        while let Ok(effect) = receiver.try_recv() {
            effects.push(effect);
        }
        Outcome { result, ports, effects }
    }
}

/// Run a pure node that must succeed; its ports.
pub(super) fn ports(node: &'static str, inputs: &Json) -> Json {
    let outcome = now(node, inputs);
    assert!(outcome.result.is_ok(), "{node} {inputs}: {:?}", outcome.result);
    outcome.json()
}

/// Run a pure node that must fail; the text and its ports.
pub(super) fn fails(node: &'static str, inputs: &Json) -> (String, Json) {
    let outcome = now(node, inputs);
    let ports = outcome.json();
    match outcome.result {
        Ok(()) => panic!("{node} {inputs} should fail, gave {ports}"),
        Err(error) => (error.to_string(), ports),
    }
}

fn now(node: &'static str, inputs: &Json) -> Outcome {
    futures_util::FutureExt::now_or_never(Bench::new(node, inputs).run()).expect("a pure node does not wait")
}
