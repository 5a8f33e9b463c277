//! The rules of a run: when a node starts, what its end sets off. Changes state and produces events; knows no tasks
//! and no clock but its own, so that what happens is decided here alone.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use tokio::time::Instant;

use indexmap::IndexMap;
use rand::Rng;

use super::gate::{Gate, Held};
use super::state::{Emitted, NodeState, Phase, RunState};
use crate::flow::engine::End;
use crate::flow::events::{self, Data, Event, EventKind};
use crate::flow::graph::{Binding, Source, Target, is_listener};
use crate::flow::model::{
    ERROR, ERROR_MESSAGE, EXECUTE, Edge, Flow, NodeIndex, PortKind, PortRef, SUCCESS, SYSTEM_PORTS, Status, Step,
};
use crate::flow::snapshot::Snapshot;
use crate::flow::text::MAX_DEPTH;
use crate::flow::{Input, Value, ports};
use crate::nodes::{Behaviour, Effect, FlowEvent, NodeError};

/// What is to be done for a node that began.
pub(super) enum Begun {
    /// Nothing: it has ended.
    Ended,
    /// Nothing yet: it is held at the gate.
    Held,
    /// Its work.
    Work(Behaviour),
}

/// How a node's work ended.
pub(super) enum WorkEnd {
    /// By itself, with these ports.
    Returned(IndexMap<Arc<str>, Value>, Result<(), NodeError>),
    /// Its time was over.
    TimedOut,
    /// It panicked.
    Panicked(String),
}

/// Why a node did not execute.
#[derive(Clone, Copy)]
enum Skip {
    Unresolved,
    Transfer,
    Execute,
}

/// What befalls a node that is held when its run is called off.
const CALLED_OFF: &str = "the run was called off while the debugger held the node";

impl Skip {
    fn text(self) -> &'static str {
        match self {
            Skip::Unresolved => "a connected input has no resolved source",
            Skip::Transfer => "an incoming edge failed to transfer its value",
            Skip::Execute => "its execute flag is not true",
        }
    }
}

/// A run's state together with the rules that advance it.
pub(super) struct Machine<'a> {
    flow: &'a Flow,
    pub state: RunState,
    event: Option<FlowEvent>,
    binding: Binding,
    started: Instant,
    outbox: VecDeque<Event>,
}

impl<'a> Machine<'a> {
    /// A run that has not begun.
    pub fn new(flow: &'a Flow, event: Option<FlowEvent>, inputs: Vec<Input>) -> Machine<'a> {
        let started = Instant::now();
        let mut state = RunState::new(flow, started);
        for Input { port, value } in inputs {
            ports::put(&mut state.nodes[port.node].values[port.port], &port.path, &port.config, value, flow.falsy);
        }
        let binding = Binding::new(flow, event.as_ref().map(|event| event.name.as_ref()));
        Machine { flow, state, event, binding, started, outbox: VecDeque::new() }
    }

    /// Announce the run and queue the nodes that wait for nothing.
    pub fn open(&mut self) {
        self.announce(EventKind::FlowStarted, events::flow_data(&self.flow.metadata_text));
        for node in 0..self.flow.nodes.len() {
            let state = &self.state.nodes[node];
            if state.unfed == 0 && state.open_members == 0 && self.may_run(node) {
                let id = &self.flow.nodes[node].id;
                let data = events::status_data(id, Status::Idle, Status::Initialized);
                self.announce(EventKind::NodeStatusChanged, data);
                self.enqueue(node);
            }
        }
    }

    /// Announce the run's end.
    pub fn close(&mut self, end: &End) {
        let data = events::flow_data(&self.flow.metadata_text);
        let (kind, data) = match end {
            End::Completed => (EventKind::FlowCompleted, data),
            End::Failed { error } => (EventKind::FlowFailed, data.error("error", error)),
            // The debugger's stop is known by an error for a reason.
            End::Cancelled { reason } if self.state.stopped => (EventKind::FlowCancelled, data.error("reason", reason)),
            End::Cancelled { reason } => (EventKind::FlowCancelled, data.field("reason", reason)),
        };
        let time = milliseconds(self.started);
        self.announce(kind, data.field("executionTime", &time));
    }

    /// Events that nobody was told yet.
    pub fn next_event(&mut self) -> Option<Event> {
        self.outbox.pop_front()
    }

    /// When the run began.
    pub fn started(&self) -> Instant {
        self.started
    }

    /// The next node whose turn it is.
    pub fn next_ready(&mut self) -> Option<NodeIndex> {
        self.state.ready.pop_front()
    }

    /// Let a debugger in: nodes pass its gate, and those of these ids stop there.
    pub fn debug(&mut self, breakpoints: &[String]) {
        let wanted: HashSet<&str> = breakpoints.iter().map(String::as_str).collect();
        let indexes = (0..self.flow.nodes.len()).filter(|node| wanted.contains(&*self.flow.nodes[*node].id));
        self.state.gate = Some(Gate::new(if wanted.is_empty() { HashSet::new() } else { indexes.collect() }));
    }

    /// Begin a node: choose its edges, announce it, and unless it is held, let it go on.
    pub fn begin(&mut self, node: NodeIndex) -> Begun {
        let state = &mut self.state.nodes[node];
        (state.phase, state.ran, state.started) = (Phase::Running, true, Instant::now());

        let chosen = if self.may_execute(node) {
            let Some(chosen) = self.resolved_edges(node) else { return self.skip(node, Skip::Unresolved) };
            self.set_status(node, Status::Executing);
            let data = Data::empty().node(&self.snapshot(node));
            self.announce(EventKind::NodeStarted, data);
            chosen
        } else {
            self.all_edges(node)
        };
        if self.state.gate.as_mut().is_some_and(|gate| gate.stops(node)) {
            let data = Data::empty().node(&self.snapshot(node));
            self.announce(EventKind::BreakpointHit, data);
            if let Some(gate) = &mut self.state.gate {
                gate.hold(node, chosen);
            }
            return Begun::Held;
        }
        self.enter(node, chosen)
    }

    /// Nodes that the debugger has let go on: the next one goes on.
    pub fn next_released(&mut self) -> Option<(NodeIndex, Begun)> {
        let Held { node, edges } = self.state.gate.as_mut()?.next_released()?;
        self.state.nodes[node].started = Instant::now(); // the wait is not its work
        Some((node, self.enter(node, edges)))
    }

    /// How many nodes are at the gate. They keep their place among the nodes at work.
    pub fn at_gate(&self) -> usize {
        self.state.gate.as_ref().map_or(0, Gate::len)
    }

    /// The run is called off: nodes at the gate fail. Not by themselves, so their ports keep their values.
    pub fn fail_held(&mut self) {
        for held in self.state.gate.as_mut().map(Gate::clear).unwrap_or_default() {
            self.fail(held.node, CALLED_OFF);
        }
    }

    /// A node has passed the gate: transfer, and say what work is to be done.
    fn enter(&mut self, node: NodeIndex, edges: Vec<usize>) -> Begun {
        let flow = self.flow;
        let mut failed = false;
        for edge in edges {
            failed |= !self.transfer(edge);
        }
        if failed {
            return self.skip(node, Skip::Transfer);
        }
        if let Some(parent) = flow.nodes[node].parent.filter(|parent| &*flow.nodes[*parent].category != "group") {
            self.succeed(node);
            self.resolve_captures(parent, node);
            return Begun::Ended;
        }
        if !self.may_execute(node) {
            return self.skip(node, Skip::Execute);
        }
        match flow.nodes[node].node_type {
            Some(node_type) => Begun::Work(node_type.behaviour),
            None => {
                let name = &flow.nodes[node].type_name;
                let text = format!("this worker does not know the node type {name}; update it or replace the node");
                self.fail_by_itself(node, &text);
                Begun::Ended
            }
        }
    }

    /// For each connected port of a node the first edge whose source is resolved, in the flow's order; `None` when a
    /// port has no such edge.
    fn resolved_edges(&self, node: NodeIndex) -> Option<Vec<usize>> {
        let graph = &self.flow.graph;
        let first = |target: &Target| {
            let mut edges = graph.targets[*target].edges.iter();
            edges.find(|(_, source)| self.state.resolved[*source]).map(|(edge, _)| *edge)
        };
        let mut chosen = graph.links[node].targets.iter().map(first).collect::<Option<Vec<_>>>()?;
        chosen.sort_unstable();
        Some(chosen)
    }

    /// All edges into a node, in the flow's order: what a node gets whose flag doesn't let it execute.
    fn all_edges(&self, node: NodeIndex) -> Vec<usize> {
        let graph = &self.flow.graph;
        let targets = graph.links[node].targets.iter();
        let mut edges: Vec<usize> =
            targets.flat_map(|target| graph.targets[*target].edges.iter().map(|(edge, _)| *edge)).collect();
        edges.sort_unstable();
        edges
    }

    /// A node's own ports, for its work.
    pub fn own_ports(&self, node: NodeIndex) -> IndexMap<Arc<str>, Value> {
        let keys = self.flow.nodes[node].configs.keys().cloned();
        keys.zip(self.state.nodes[node].values.iter().skip(SYSTEM_PORTS.len()).cloned()).collect()
    }

    /// What a node did besides setting its ports.
    pub fn effect(&mut self, node: NodeIndex, effect: Effect) {
        let id = &self.flow.nodes[node].id;
        match effect {
            Effect::Log(text) => {
                self.announce(EventKind::NodeLog, Data::empty().field("nodeId", &**id).field("log", &text));
            }
            Effect::Emit(FlowEvent { name, payload }) => {
                let at = events::now();
                self.state.emitted.push(Emitted { id: event_id(), name, payload, by: id.clone(), at });
            }
            Effect::Resolve(key, value) => {
                // A value that nests too deeply fails the node at its end; until then nobody gets it.
                let port = self.flow.nodes[node].port_index(&key).filter(|_| !value.nests_deeper(MAX_DEPTH));
                if let Some(port) = port {
                    let config = &self.flow.nodes[node].ports[port].config;
                    let held = &mut self.state.nodes[node].values[port];
                    *held = ports::set_by_node(held, value, config, self.flow.falsy);
                    let flow = self.flow;
                    for source in &flow.graph.links[node].sources {
                        if flow.graph.sources[*source].port.port == port {
                            self.resolve(*source);
                        }
                    }
                }
            }
        }
    }

    /// A node's work has ended.
    pub fn finish(&mut self, node: NodeIndex, end: WorkEnd) {
        match end {
            WorkEnd::Returned(values, result) => match result.and(self.keep(node, values)) {
                Ok(()) => self.succeed(node),
                Err(error) => self.fail_by_itself(node, &error.to_string()),
            },
            WorkEnd::Panicked(text) => self.fail_by_itself(node, &format!("the node's code panicked: {text}")),
            // The three ports keep their values, so that handlers see an error flag that is not set. Flows know it so.
            WorkEnd::TimedOut => self.fail(node, "the node's time limit is over"),
        }
    }

    /// A passive node has ended: its ports hold what came in.
    pub fn finish_passive(&mut self, node: NodeIndex) {
        self.succeed(node);
    }

    /// A node that needs what this worker doesn't reach has failed.
    pub fn finish_unavailable(&mut self, node: NodeIndex, service: &str) {
        let name = &self.flow.nodes[node].type_name;
        let text = format!("{name} needs {service}, which this worker does not reach; replace the node");
        self.fail_by_itself(node, &text);
    }

    /// Take over what a node set. What it set before it failed counts as well.
    fn keep(&mut self, node: NodeIndex, values: IndexMap<Arc<str>, Value>) -> Result<(), NodeError> {
        let known = &self.flow.nodes[node];
        let mut kept = Ok(());
        for (key, new) in values {
            let Some(index) = known.configs.get_index_of(&key) else { continue };
            let held = &mut self.state.nodes[node].values[index + SYSTEM_PORTS.len()];
            if held.is(&new) {
                continue;
            }
            if new.nests_deeper(MAX_DEPTH) {
                let text = format!("its value for port {key} nests deeper than {MAX_DEPTH} levels; flatten it");
                kept = Err(NodeError::new(text));
                continue;
            }
            *held = ports::set_by_node(held, new, &known.configs[index], self.flow.falsy);
        }
        kept
    }

    fn succeed(&mut self, node: NodeIndex) {
        let flow = self.flow;
        self.state.nodes[node].values[SUCCESS] = Value::Bool(true);
        for source in &flow.graph.links[node].sources {
            if flow.graph.sources[*source].on_success(&flow.nodes) {
                self.resolve(*source);
            }
        }
        self.set_status(node, Status::Completed);
        let data = Data::empty().node(&self.snapshot(node));
        let time = milliseconds(self.state.nodes[node].started);
        self.announce(EventKind::NodeCompleted, data.field("executionTime", &time));
        self.settle(node);
    }

    fn fail_by_itself(&mut self, node: NodeIndex, message: &str) {
        let values = &mut self.state.nodes[node].values;
        values[SUCCESS] = Value::Bool(false);
        values[ERROR] = Value::Bool(true);
        values[ERROR_MESSAGE] = message.into();
        self.fail(node, message);
    }

    fn fail(&mut self, node: NodeIndex, message: &str) {
        let flow = self.flow;
        for source in &flow.graph.links[node].sources {
            if flow.graph.sources[*source].on_failure() {
                self.resolve(*source);
            }
        }
        self.set_status(node, Status::Error);
        let data = Data::empty().node(&self.snapshot(node)).error("error", message);
        let time = milliseconds(self.state.nodes[node].started);
        self.announce(EventKind::NodeFailed, data.field("executionTime", &time));
        self.settle(node);
    }

    fn skip(&mut self, node: NodeIndex, why: Skip) -> Begun {
        self.set_status(node, Status::Skipped);
        let id = &self.flow.nodes[node].id;
        self.announce(EventKind::NodeSkipped, Data::empty().field("nodeId", &**id).field("reason", why.text()));
        self.settle(node);
        Begun::Ended
    }

    /// A node has ended, in whatever way: its group may be next, and dependents that may not run are done.
    fn settle(&mut self, node: NodeIndex) {
        let flow = self.flow;
        self.state.nodes[node].phase = Phase::Done;
        self.leave_group(node);
        for dependent in &flow.graph.links[node].dependents {
            if self.state.nodes[*dependent].phase == Phase::Waiting && !self.may_run(*dependent) {
                self.state.nodes[*dependent].phase = Phase::Done;
                self.leave_group(*dependent);
            }
        }
    }

    fn leave_group(&mut self, member: NodeIndex) {
        let Some(parent) = self.flow.nodes[member].parent else { return };
        let group = &mut self.state.nodes[parent];
        group.open_members = group.open_members.saturating_sub(1);
        // A group with edges of its own goes by these alone. Members queue their group whatever the run's event is.
        if group.open_members == 0 && self.flow.graph.links[parent].targets.is_empty() {
            self.enqueue(parent);
        }
    }

    /// A source port's value may be taken: nodes for which that was the last one missing are ready.
    fn resolve(&mut self, source: Source) {
        let flow = self.flow;
        if std::mem::replace(&mut self.state.resolved[source], true) {
            return;
        }
        for target in &flow.graph.sources[source].feeds {
            if std::mem::replace(&mut self.state.fed[*target], true) {
                continue;
            }
            let node = flow.graph.targets[*target].node;
            self.state.nodes[node].unfed -= 1;
            if self.state.nodes[node].unfed == 0 && self.may_run(node) {
                self.enqueue(node);
            }
        }
    }

    /// A member of a node that is no group was captured: the port that holds its schema is resolved.
    fn resolve_captures(&mut self, parent: NodeIndex, member: NodeIndex) {
        let flow = self.flow;
        for source in &flow.graph.links[parent].sources {
            let port = &flow.nodes[parent].ports[flow.graph.sources[*source].port.port];
            if port.captures.as_ref() == Some(&flow.nodes[member].id) {
                self.resolve(*source);
            }
        }
    }

    fn enqueue(&mut self, node: NodeIndex) {
        let phase = &mut self.state.nodes[node].phase;
        if *phase == Phase::Waiting {
            *phase = Phase::Queued;
            self.state.ready.push_back(node);
        }
    }

    /// Whether the run's event, or its absence, lets a node run.
    fn may_run(&self, node: NodeIndex) -> bool {
        let known = &self.flow.nodes[node];
        let Some(event) = &self.event else { return !known.listens && !self.binding.binds(node) };
        if !known.listens {
            return self.binding.binds(node);
        }
        if !is_listener(known) {
            return false; // no event can be meant for it
        }
        let name = known.port_index("eventName").map(|port| &self.state.nodes[node].values[port]);
        name.and_then(Value::as_str) == Some(event.name.as_ref())
    }

    /// A node that ignores its execute flag always executes, unless it is one that waits for events.
    fn may_execute(&self, node: NodeIndex) -> bool {
        let known = &self.flow.nodes[node];
        if known.ignores_execute { !known.listens } else { self.state.nodes[node].values[EXECUTE].is_truthy() }
    }

    /// Carry a value along an edge. False when that failed.
    fn transfer(&mut self, index: usize) -> bool {
        let flow = self.flow;
        let edge = &flow.edges[index];
        let began = Instant::now();
        let result = self.carried(index);
        let data = events::edge_data(edge);
        match result {
            Ok(value) => {
                let value = self.shadowed(edge, value);
                self.put(edge, value);
                let target = &mut self.state.nodes[edge.to.node];
                target.version += 1;
                self.announce(EventKind::EdgeTransferred, data.field("transferTime", &milliseconds(began)));
                true
            }
            Err(why) => {
                self.announce(EventKind::EdgeFailed, data.error("error", &why));
                false
            }
        }
    }

    /// A list that enters a port which stores elements: those keep their positions, and since the list is one and the
    /// same for all who hold it, they show them too. Looks unintended, but it is what flows were tried out with.
    fn shadowed(&mut self, edge: &Edge, value: Value) -> Value {
        let (Value::Array(incoming), PortKind::Array(_)) = (&value, &edge.to.config.kind) else { return value };
        let stored = self.stored(&edge.to, &edge.to.path);
        let count = stored.as_array().map_or(0, <[Value]>::len);
        if count == 0 {
            return value;
        }
        let held = ports::read(&self.state.nodes[edge.to.node].values[edge.to.port], &edge.to.path);
        let held = held.as_array().unwrap_or_default();
        let mut items = Vec::clone(incoming);
        items.resize(items.len().max(count), Value::Undefined);
        for (item, element) in items.iter_mut().zip(held).take(count) {
            *item = element.clone();
        }
        let shared = Value::from(items);
        self.replace_list(incoming, &shared);
        shared
    }

    /// Set what an edge leads to. An element of a list that came by an edge is written in the list that others hold.
    fn put(&mut self, edge: &Edge, value: Value) {
        let PortRef { node, port, path, .. } = &edge.to;
        let list = path.iter().position(|step| matches!(step, Step::Index(_))).map(|first| &path[..first]);
        // Nobody else to see it, then: no copy is kept, so that the list is written where it is.
        let list = list.filter(|list| !ports::is_alone(&self.state.nodes[*node].values[*port], list));
        let held = |machine: &Machine| list.map(|list| ports::read(&machine.state.nodes[*node].values[*port], list));
        let before = held(self);
        let target = &mut self.state.nodes[*node];
        target.orphans.set(&mut target.values[*port], &edge.to, value, self.flow.falsy);
        if let (Some(list), Some(Value::Array(before)), Some(after)) = (list, before, held(self)) {
            let own = self.stored(&edge.to, list).is(&Value::Array(before.clone()));
            if !own && !after.is(&Value::Array(before.clone())) {
                self.replace_list(&before, &after);
            }
        }
    }

    /// What the flow stores at a path of a port.
    fn stored(&self, port: &PortRef, path: &[Step]) -> Value {
        ports::read(&self.flow.nodes[port.node].ports[port.port].value, path)
    }

    fn replace_list(&mut self, old: &Arc<Vec<Value>>, new: &Value) {
        let values = self.state.nodes.iter_mut().flat_map(|node| node.values.iter_mut());
        values.for_each(|value| ports::replace_list(value, old, new));
    }

    /// The value that an edge brings, if it may.
    fn carried(&self, index: usize) -> Result<Value, String> {
        let edge = &self.flow.edges[index];
        let NodeState { status, values, orphans, .. } = &self.state.nodes[edge.from.node];
        if !matches!(edge.from.port, ERROR | ERROR_MESSAGE) {
            let source = &self.flow.nodes[edge.from.node].id;
            if matches!(status, Status::Error | Status::Skipped | Status::Disposed) {
                return Err(format!("its source node {source} ended as {status}"));
            }
            if values[ERROR].is_truthy() {
                return Err(format!("the error flag of its source node {source} is set"));
            }
            if !values[SUCCESS].is_truthy() {
                return Err(format!("the success flag of its source node {source} is not set"));
            }
        }
        let value = orphans.value_of(&values[edge.from.port], &edge.from);
        if value.is_nullish() && edge.to.config.required {
            return Err(format!("it has no value for the required port {}", edge.to.config.id));
        }
        // Only a way down makes a value deeper than it was.
        if !edge.to.path.is_empty() && value.nests_deeper(MAX_DEPTH.saturating_sub(edge.to.path.len())) {
            return Err(format!("its value would nest deeper than {MAX_DEPTH} levels"));
        }
        Ok(value)
    }

    fn set_status(&mut self, node: NodeIndex, status: Status) {
        let state = &mut self.state.nodes[node];
        let old = std::mem::replace(&mut state.status, status);
        state.version += 1;
        let data = events::status_data(&self.flow.nodes[node].id, old, status);
        self.announce(EventKind::NodeStatusChanged, data);
    }

    fn snapshot(&self, node: NodeIndex) -> Snapshot<'_> {
        let NodeState { status, version, values, .. } = &self.state.nodes[node];
        Snapshot { node: &self.flow.nodes[node], status: *status, version: *version, values }
    }

    fn announce(&mut self, kind: EventKind, data: Data) {
        let index = self.state.next_event;
        self.state.next_event += 1;
        self.outbox.push_back(Event { index, kind, timestamp: events::now(), data: data.text() });
    }
}

fn milliseconds(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}

/// An id in the form that emitted events have.
fn event_id() -> String {
    const LETTERS: &[u8; 49] = b"346789ABCDEFGHJKLMNPQRTUVWXYabcdefghijkmnpqrtwxyz";
    let mut random = rand::rng();
    let letters = (0..24).map(|_| char::from(LETTERS[random.random_range(0..LETTERS.len())]));
    std::iter::once("EV".to_owned()).chain(letters.map(String::from)).collect()
}
