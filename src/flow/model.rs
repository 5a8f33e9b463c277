//! A flow in memory: nodes, their ports with configuration, and edges. What is stored is kept (`raw`), so that
//! events can show it again.

use std::sync::Arc;

use indexmap::IndexMap;

/// A JSON object as stored.
pub type Json = serde_json::Map<String, serde_json::Value>;

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
    /// The configuration as it was stored.
    pub raw: Arc<Json>,
}
