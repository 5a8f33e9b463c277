//! A flow in memory: nodes, their ports with configuration, and edges. Immutable, so that runs share it; what is
//! stored is kept, so that events can show it again.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use indexmap::IndexMap;
use serde_json::value::RawValue;

use super::Value;
use super::graph::Graph;
use super::ports::Falsy;
use crate::nodes::NodeType;

/// A JSON object as stored.
pub type Json = serde_json::Map<String, serde_json::Value>;

/// Position of the flag that lets a node execute, among a node's ports.
pub(super) const EXECUTE: usize = 0;
/// Position of the flag that says that a node succeeded.
pub(super) const SUCCESS: usize = 1;
/// Position of the flag that says that a node failed.
pub(super) const ERROR: usize = 2;
/// Position of the text of a node's failure.
pub(super) const ERROR_MESSAGE: usize = 3;
/// The four ports that every node has, ahead of its own.
pub(super) const SYSTEM_PORTS: [&str; 4] = ["__execute", "__success", "__error", "__errorMessage"];

/// Which way values pass through a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Takes values.
    Input,
    /// Gives values.
    Output,
    /// Both at once.
    Passthrough,
}

impl Direction {
    /// As stored.
    pub fn as_str(self) -> &'static str {
        match self {
            Direction::Input => "input",
            Direction::Output => "output",
            Direction::Passthrough => "passthrough",
        }
    }

    pub(super) fn read(text: &str) -> Option<Direction> {
        match text {
            "input" => Some(Direction::Input),
            "output" => Some(Direction::Output),
            "passthrough" => Some(Direction::Passthrough),
            _ => None,
        }
    }

    /// Whether edges may leave.
    pub fn gives(self) -> bool {
        self != Direction::Input
    }
}

/// What kind of values a port is made for. At run time nothing is converted or refused.
#[derive(Clone, Debug)]
pub enum PortKind {
    /// A text.
    String,
    /// A double.
    Number,
    /// A flag.
    Boolean,
    /// One of several option ids.
    Enum,
    /// A list; its items' configuration.
    Array(Option<Arc<PortConfig>>),
    /// Named fields, in the schema's order.
    Object(IndexMap<Arc<str>, Arc<PortConfig>>),
    /// A live stream; its items' configuration.
    Stream(Option<Arc<PortConfig>>),
    /// An encrypted secret.
    Secret,
    /// Anything; what it stands for at the moment.
    Any(Option<Arc<PortConfig>>),
}

/// A port's configuration.
#[derive(Clone, Debug)]
pub struct PortConfig {
    /// Id within the node. Children: `parent.key`, `parent[index]`.
    pub id: Arc<str>,
    /// Name within the parent.
    pub key: Arc<str>,
    /// Kind of values.
    pub kind: PortKind,
    /// Which way values pass.
    pub direction: Direction,
    /// An edge that brings null or undefined fails.
    pub required: bool,
    /// Value of a port that stores none.
    pub default: Option<serde_json::Value>,
    /// The configuration as it was stored. A child's is without the parts that `kind` holds.
    pub raw: Arc<Json>,
}

impl PortConfig {
    /// What the port stands for: itself, or the innermost type that an any port carries.
    pub fn underlying(&self) -> &PortConfig {
        let mut config = self;
        while let PortKind::Any(Some(inner)) = &config.kind {
            config = inner;
        }
        config
    }
}

/// Where a node stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Status {
    /// Never touched.
    #[default]
    Idle,
    /// Ready to be used in runs.
    Initialized,
    /// Known, and never set by this engine.
    Ready,
    /// Known, and never set by this engine.
    Pending,
    /// At work.
    Executing,
    /// Done.
    Completed,
    /// Did not execute.
    Skipped,
    /// Failed.
    Error,
    /// Known, and never set by this engine.
    Disposed,
}

impl Status {
    /// As stored and announced.
    pub fn as_str(self) -> &'static str {
        match self {
            Status::Idle => "idle",
            Status::Initialized => "initialized",
            Status::Ready => "ready",
            Status::Pending => "pending",
            Status::Executing => "executing",
            Status::Completed => "completed",
            Status::Skipped => "skipped",
            Status::Error => "error",
            Status::Disposed => "disposed",
        }
    }

    pub(super) fn read(text: &str) -> Option<Status> {
        const ALL: [Status; 9] = [
            Status::Idle,
            Status::Initialized,
            Status::Ready,
            Status::Pending,
            Status::Executing,
            Status::Completed,
            Status::Skipped,
            Status::Error,
            Status::Disposed,
        ];
        ALL.into_iter().find(|status| status.as_str() == text)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// A node's place in its flow.
pub(super) type NodeIndex = usize;

/// One way down into a value.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Step {
    Key(Arc<str>),
    Index(usize),
}

/// A port of a flow, nested or not: a path into a root port's value.
#[derive(Clone, Debug)]
pub(super) struct PortRef {
    pub node: NodeIndex,
    pub port: usize,
    pub path: Box<[Step]>,
    /// Configuration of what the path leads to.
    pub config: Arc<PortConfig>,
}

/// A root port with what is stored for it.
#[derive(Clone, Debug)]
pub(super) struct Port {
    pub config: Arc<PortConfig>,
    pub value: Value,
    /// Whether there are streams in the value.
    pub streams: bool,
    /// The configuration as events show it, in JSON; empty for system ports.
    pub text: Box<str>,
    /// The node whose schema this port captures.
    pub captures: Option<Arc<str>>,
}

/// A node as stored.
pub(super) struct Node {
    /// Its place in the stored list, where nodes that could not be used have places as well.
    pub position: usize,
    pub id: Arc<str>,
    pub type_name: Arc<str>,
    pub category: Arc<str>,
    /// What it does; unknown types have none.
    pub node_type: Option<NodeType>,
    pub ports: Vec<Port>,
    /// Configurations of the node's own ports, in their order (system ports are not among them).
    pub configs: Arc<IndexMap<Arc<str>, Arc<PortConfig>>>,
    pub status: Status,
    pub version: u64,
    pub parent: Option<NodeIndex>,
    pub ignores_execute: bool,
    /// Runs only when the run's event asks for it.
    pub listens: bool,
    /// `"id":…,"type":…,"metadata":{…` up to where the version goes.
    pub head: Box<str>,
    /// The stored connections, in JSON.
    pub connections: Box<str>,
}

impl Node {
    /// Position of a root port, system ports included.
    pub fn port_index(&self, key: &str) -> Option<usize> {
        SYSTEM_PORTS
            .iter()
            .position(|name| *name == key)
            .or_else(|| self.configs.get_index_of(key).map(|index| index + SYSTEM_PORTS.len()))
    }
}

/// An edge between two ports that exist.
#[derive(Clone, Debug)]
pub(super) struct Edge {
    /// Its place in the stored list, where edges that could not be used have places as well.
    pub position: usize,
    pub from: PortRef,
    pub to: PortRef,
    /// The edge as events show it, in JSON.
    pub text: Box<str>,
}

impl Flow {
    /// The categories of the nodes' types, in the flow's order; empty where a type isn't known.
    pub fn categories(&self) -> impl Iterator<Item = &'static str> {
        self.nodes.iter().map(|node| node.node_type.map_or("", |known| known.category))
    }
}

/// A loaded flow. Runs share it and never change it.
pub struct Flow {
    pub(super) id: Arc<str>,
    pub(super) metadata: Json,
    pub(super) metadata_text: Box<RawValue>,
    pub(super) nodes: Vec<Node>,
    pub(super) by_id: HashMap<Arc<str>, NodeIndex>,
    pub(super) edges: Vec<Edge>,
    pub(super) graph: Graph,
    /// What becomes of falsy fields while it runs.
    pub(super) falsy: Falsy,
    pub(super) inputs: IndexMap<String, PortRef>,
    /// `None`: no outputs are declared.
    pub(super) outputs: Option<IndexMap<String, PortRef>>,
}

impl Flow {
    /// The flow's id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Its name; empty when it has none.
    pub fn name(&self) -> &str {
        self.metadata.get("name").and_then(serde_json::Value::as_str).unwrap_or_default()
    }

    /// Who owns it, when that is stored.
    pub fn owner_id(&self) -> Option<&str> {
        self.metadata.get("ownerID").and_then(serde_json::Value::as_str)
    }

    /// The document's own version, which lags behind the row's.
    pub fn version(&self) -> Option<u64> {
        let number = self.metadata.get("version").and_then(serde_json::Value::as_f64)?;
        (number >= 0.0).then_some(number as u64)
    }

    /// Metadata as events show it.
    pub fn metadata(&self) -> &Json {
        &self.metadata
    }

    /// Metadata as events show it, as JSON text.
    pub fn metadata_text(&self) -> &RawValue {
        &self.metadata_text
    }

    /// Those of these ids that none of its nodes has.
    pub fn unknown_nodes<'a>(&self, ids: &'a [String]) -> Vec<&'a str> {
        if ids.is_empty() {
            return Vec::new();
        }
        let known: std::collections::HashSet<&str> = self.nodes.iter().map(|node| &*node.id).collect();
        ids.iter().map(String::as_str).filter(|id| !known.contains(id)).collect()
    }

    /// How many nodes it has.
    pub fn node_count(&self) -> usize {
        self.nodes.len()
    }

    /// How many edges it has.
    pub fn edge_count(&self) -> usize {
        self.edges.len()
    }
}

impl fmt::Debug for Flow {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Flow")
            .field("id", &self.id)
            .field("nodes", &self.nodes.len())
            .field("edges", &self.edges.len())
            .finish_non_exhaustive()
    }
}
