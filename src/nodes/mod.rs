//! The node catalogue: what each node type is called, which ports it has and what it does.
//!
//! A node type is plain data ([`NodeType`]); its work is a function on a [`NodeRun`], which shows the node's
//! port values and takes its effects. One file a category.

mod control;
mod data;
mod decimal;
mod deserializer;
mod events;
mod group;
mod http;
pub(crate) mod javascript;
mod langchain;
mod markdown;
mod math;
mod mcp;
pub mod outbound;
mod port;
mod regexp;
mod schema;
mod sealed;
pub mod secrets;
mod template;
#[cfg(test)]
mod testing;
mod time;
mod transforms;
mod utilities;
mod values;
mod vendors;
mod yaml;

pub(crate) use regexp::pattern_fault;
pub(crate) use template::template_fault;

use std::sync::Arc;

pub use sealed::{ExecutionKeys, SecretError};

use futures_util::future::BoxFuture;
use indexmap::IndexMap;
use tokio::sync::mpsc::UnboundedSender;
use tokio_util::sync::CancellationToken;

use crate::flow::Value;
use crate::flow::model::{Direction, PortConfig};
use crate::flow::ports::Falsy;

/// What a node does when it executes.
#[derive(Clone, Copy)]
pub enum Behaviour {
    /// Nothing: its passthrough ports carry the values.
    Passive,
    /// Pure and quick: runs inline in the engine's loop.
    Pure(fn(&mut NodeRun) -> Result<(), NodeError>),
    /// Waits for something: runs in a task of its own, under the node timeout.
    Async(for<'a> fn(&'a mut NodeRun) -> BoxFuture<'a, Result<(), NodeError>>),
    /// Fails: it needs something that this worker doesn't reach. A node of the type keeps the ports that are stored.
    Unavailable {
        /// What it needs, in words: `a language model`.
        service: &'static str,
    },
}

/// A node failed. The text becomes the port `__errorMessage`.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub struct NodeError(pub String);

impl NodeError {
    /// With this text.
    pub fn new(text: impl Into<String>) -> NodeError {
        NodeError(text.into())
    }
}

/// A port that a node type has by its class, before anything is stored.
#[derive(Clone, Copy, Debug)]
pub struct PortSpec {
    /// Id and key.
    pub key: &'static str,
    /// Which way values pass.
    pub direction: Direction,
    /// The port's configuration beyond key and direction, as compact JSON text with at least `type`:
    /// `{"type":"number","defaultValue":0}`.
    pub config: &'static str,
    /// An edge that brings null or undefined fails.
    pub required: bool,
}

/// One node type of the catalogue.
#[derive(Clone, Copy)]
pub struct NodeType {
    /// As stored in `metadata.type`.
    pub name: &'static str,
    /// As stored in `metadata.category`.
    pub category: &'static str,
    /// What it does, in one line, for documentation.
    pub about: &'static str,
    /// The class's own ports, without the four system ports.
    pub ports: &'static [PortSpec],
    /// What it does when it executes.
    pub behaviour: Behaviour,
    /// Runs only when the run's event asks for it (listeners).
    pub disabled_auto_execution: bool,
}

/// The node types that a worker knows, by name.
#[derive(Clone, Default)]
pub struct Registry {
    types: std::collections::BTreeMap<&'static str, NodeType>,
}

impl Registry {
    /// The whole catalogue.
    pub fn standard() -> Registry {
        let mut registry = Registry::default();
        let families = [
            values::TYPES,
            math::TYPES,
            data::TYPES,
            control::TYPES,
            events::TYPES,
            group::TYPES,
            utilities::TYPES,
            deserializer::TYPES,
            http::TYPES,
            mcp::TYPES,
            regexp::TYPES,
            template::TYPES,
            langchain::TYPES,
            schema::TYPES,
            time::TYPES,
            sealed::TYPES,
            vendors::TYPES,
        ];
        for types in families.into_iter().chain(transforms::FAMILIES.iter().copied()) {
            types.iter().for_each(|node_type| registry.register(*node_type));
        }
        registry
    }

    /// Add a type, or replace the one of that name.
    pub fn register(&mut self, node_type: NodeType) {
        self.types.insert(node_type.name, node_type);
    }

    /// The type of that name.
    pub fn get(&self, name: &str) -> Option<&NodeType> {
        self.types.get(name)
    }

    /// All types, by name.
    pub fn iter(&self) -> impl Iterator<Item = &NodeType> {
        self.types.values()
    }
}

/// An event that a run was started with, or that a node emitted.
#[derive(Clone, Debug)]
pub struct FlowEvent {
    /// The event's name.
    pub name: Arc<str>,
    /// Its payload.
    pub payload: Value,
}

/// What a node may know of the run that it is part of.
#[derive(Clone, Debug, Default)]
pub struct RunContext {
    /// Id of this execution.
    pub execution_id: Arc<str>,
    /// The event that this run was started with.
    pub event: Option<FlowEvent>,
    /// Depth in the tree of executions: 0 for a root.
    pub depth: u32,
    /// Whether this execution has a parent.
    pub is_child: bool,
    /// The integration object of the execution.
    pub integration: Value,
    /// The way out for nodes that speak to the network, and the secrets that flows may refer to.
    pub outbound: outbound::Outbound,
    /// The execution's key pair, for which its secrets are encrypted.
    pub keys: ExecutionKeys,
    /// What becomes of falsy fields; the engine puts in what the flow says.
    pub falsy: Falsy,
}

/// What a node did besides setting its ports, in order.
#[derive(Clone, Debug)]
pub enum Effect {
    /// A line for the run's log.
    Log(String),
    /// An event emitted; children are started for it after the run.
    Emit(FlowEvent),
    /// A port whose value is ready before the node ends.
    Resolve(Arc<str>, Value),
}

/// One execution of a node: its port values, and where its effects go.
///
/// Reads and writes are of root ports by key. What is set becomes visible to other nodes when the node ends, or
/// when it resolves that port early; effects are seen at once.
pub struct NodeRun {
    ports: IndexMap<Arc<str>, Value>,
    configs: Arc<IndexMap<Arc<str>, Arc<PortConfig>>>,
    context: Arc<RunContext>,
    cancel: CancellationToken,
    effects: UnboundedSender<Effect>,
}

impl NodeRun {
    /// A run on these ports. Effects go to `effects`; `cancel` ends when the flow is aborted or the node timed out.
    pub fn new(
        ports: IndexMap<Arc<str>, Value>,
        configs: IndexMap<Arc<str>, Arc<PortConfig>>,
        context: Arc<RunContext>,
        cancel: CancellationToken,
        effects: UnboundedSender<Effect>,
    ) -> NodeRun {
        NodeRun::sharing(ports, Arc::new(configs), context, cancel, effects)
    }

    /// As [`NodeRun::new`], with configurations that the flow's other runs have as well.
    pub fn sharing(
        ports: IndexMap<Arc<str>, Value>,
        configs: Arc<IndexMap<Arc<str>, Arc<PortConfig>>>,
        context: Arc<RunContext>,
        cancel: CancellationToken,
        effects: UnboundedSender<Effect>,
    ) -> NodeRun {
        NodeRun { ports, configs, context, cancel, effects }
    }

    /// A port's value; undefined when there is no such port.
    pub fn get(&self, key: &str) -> &Value {
        static NOTHING: Value = Value::Undefined;
        self.ports.get(key).unwrap_or(&NOTHING)
    }

    /// Set a port's value.
    pub fn set(&mut self, key: &str, value: impl Into<Value>) {
        self.ports.insert(key.into(), value.into());
    }

    /// A port's configuration.
    pub fn config(&self, key: &str) -> Option<&Arc<PortConfig>> {
        self.configs.get(key)
    }

    /// What is known of the flow's run.
    pub fn context(&self) -> &RunContext {
        &self.context
    }

    /// Ends when the node should stop: the flow was aborted, or the node's time is over.
    pub fn cancelled(&self) -> &CancellationToken {
        &self.cancel
    }

    /// Write a line to the run's log.
    pub fn log(&self, text: impl Into<String>) {
        self.effect(Effect::Log(text.into()));
    }

    /// Emit an event.
    pub fn emit(&self, name: impl Into<Arc<str>>, payload: Value) {
        self.effect(Effect::Emit(FlowEvent { name: name.into(), payload }));
    }

    /// Hand a port's present value to the nodes that wait for it, before this node ends.
    pub fn resolve(&self, key: &str) {
        self.effect(Effect::Resolve(key.into(), self.get(key).clone()));
    }

    /// The port values as they are now.
    pub fn into_ports(self) -> IndexMap<Arc<str>, Value> {
        self.ports
    }

    fn effect(&self, effect: Effect) {
        let _ = self.effects.send(effect); // nobody listens any more: the run is over, and so is the effect's use
    }
}
