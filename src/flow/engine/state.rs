//! Where a run stands, as plain data.

use std::collections::VecDeque;
use std::sync::Arc;
use tokio::time::Instant;

use super::gate::Gate;
use crate::flow::Value;
use crate::flow::model::{Flow, NodeIndex, Port, Status};
use crate::flow::ports::Orphans;

/// An event that a node emitted; a child run is started for it afterwards.
#[derive(Clone, Debug)]
pub struct Emitted {
    /// An id of its own.
    pub id: String,
    /// The event's name.
    pub name: Arc<str>,
    /// Its payload, as it was at that moment.
    pub payload: Value,
    /// Id of the node that emitted it.
    pub by: Arc<str>,
    /// When, in milliseconds since the epoch.
    pub at: i64,
}

/// How far a node is in this run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Waits for its inputs.
    Waiting,
    /// Waits for its turn.
    Queued,
    /// At work.
    Running,
    /// Was worked on, or never will be.
    Done,
}

/// A node in this run.
#[derive(Debug)]
pub(super) struct NodeState {
    pub phase: Phase,
    /// Whether it had its turn.
    pub ran: bool,
    pub status: Status,
    pub version: u64,
    /// Values of its root ports, system ports first.
    pub values: Vec<Value>,
    /// What ports below something absent hold.
    pub orphans: Orphans,
    /// Connected ports that have no resolved source yet.
    pub unfed: usize,
    /// Members that have not ended.
    pub open_members: usize,
    pub started: Instant,
}

/// A run's state: which ports are resolved, what they hold, and what comes next.
#[derive(Debug)]
pub(super) struct RunState {
    pub nodes: Vec<NodeState>,
    /// By source port: whether its value may be taken.
    pub resolved: Vec<bool>,
    /// By target port: whether a source of it is resolved.
    pub fed: Vec<bool>,
    pub ready: VecDeque<NodeIndex>,
    pub emitted: Vec<Emitted>,
    /// Number of the next event.
    pub next_event: i64,
    /// Where nodes are held, if there is a debugger.
    pub gate: Option<Gate>,
    /// The debugger has stopped the run.
    pub stopped: bool,
}

impl RunState {
    /// Before anything has run: all as stored.
    pub fn new(flow: &Flow, now: Instant) -> RunState {
        let nodes = flow.nodes.iter().zip(&flow.graph.links).map(|(node, links)| NodeState {
            phase: Phase::Waiting,
            ran: false,
            status: node.status,
            version: node.version,
            values: node.ports.iter().map(held).collect(),
            orphans: Orphans::default(),
            unfed: links.targets.len(),
            open_members: links.members.len(),
            started: now,
        });
        RunState {
            nodes: nodes.collect(),
            resolved: vec![false; flow.graph.sources.len()],
            fed: vec![false; flow.graph.targets.len()],
            ready: VecDeque::new(),
            emitted: Vec::new(),
            next_event: 0,
            gate: None,
            stopped: false,
        }
    }
}

/// A port's stored value for one run: shared, except streams, of which each run has its own.
fn held(port: &Port) -> Value {
    if port.streams { own(&port.value) } else { port.value.clone() }
}

fn own(value: &Value) -> Value {
    use crate::flow::stream::Channel;
    match value {
        Value::Stream(channel) => {
            let (items, closed) = channel.contents();
            Value::Stream(Channel::with_items(items, closed))
        }
        Value::Array(items) => Value::from(items.iter().map(own).collect::<Vec<_>>()),
        Value::Object(fields) => {
            Value::Object(Arc::new(fields.iter().map(|(key, value)| (key.clone(), own(value))).collect()))
        }
        simple => simple.clone(),
    }
}
