//! What waits for what: port by port, so that a node starts as soon as each of its connected inputs has a source.
//! Built once a flow; everything here costs time in proportion to nodes and edges.

use std::collections::HashMap;

use super::model::{ERROR, ERROR_MESSAGE, Edge, Flow, Node, NodeIndex, PortRef, Step};
use super::problems::{Problem, ProblemKind};

/// A source port's place in the graph.
pub(super) type Source = usize;
/// A target port's place in the graph.
pub(super) type Target = usize;

/// A port that edges leave.
#[derive(Debug)]
pub(super) struct SourcePort {
    pub port: PortRef,
    /// Target ports that it feeds, each once.
    pub feeds: Vec<Target>,
}

/// A port that edges enter.
#[derive(Debug)]
pub(super) struct TargetPort {
    pub node: NodeIndex,
    /// The edges and their sources, in the flow's order.
    pub edges: Vec<(usize, Source)>,
}

/// A node's place among the others.
#[derive(Debug, Default)]
pub(super) struct Links {
    /// Its source ports.
    pub sources: Vec<Source>,
    /// Its target ports, in the order of their first edges.
    pub targets: Vec<Target>,
    /// Nodes that have it as parent.
    pub members: Vec<NodeIndex>,
    /// The nodes whose ports it feeds, each once.
    pub dependents: Vec<NodeIndex>,
    /// The nodes that feed it, each once.
    pub feeders: Vec<NodeIndex>,
}

/// The dependencies of a flow.
#[derive(Debug, Default)]
pub(super) struct Graph {
    pub sources: Vec<SourcePort>,
    pub targets: Vec<TargetPort>,
    pub links: Vec<Links>,
}

impl Graph {
    pub fn new(nodes: &[Node], edges: &[Edge]) -> Graph {
        type Place<'a> = (NodeIndex, usize, &'a [Step]);
        fn place(port: &PortRef) -> Place<'_> {
            (port.node, port.port, &port.path)
        }
        let mut graph = Graph { links: nodes.iter().map(|_| Links::default()).collect(), ..Graph::default() };
        let mut sources: HashMap<Place, Source> = HashMap::new();
        let mut targets: HashMap<Place, Target> = HashMap::new();
        for (index, edge) in edges.iter().enumerate() {
            let source = *sources.entry(place(&edge.from)).or_insert_with(|| {
                graph.sources.push(SourcePort { port: edge.from.clone(), feeds: Vec::new() });
                graph.links[edge.from.node].sources.push(graph.sources.len() - 1);
                graph.sources.len() - 1
            });
            let target = *targets.entry(place(&edge.to)).or_insert_with(|| {
                graph.targets.push(TargetPort { node: edge.to.node, edges: Vec::new() });
                graph.links[edge.to.node].targets.push(graph.targets.len() - 1);
                graph.targets.len() - 1
            });
            graph.sources[source].feeds.push(target);
            graph.targets[target].edges.push((index, source));
            graph.links[edge.from.node].dependents.push(edge.to.node);
            graph.links[edge.to.node].feeders.push(edge.from.node);
        }
        for source in &mut graph.sources {
            once_each(&mut source.feeds);
        }
        for (index, node) in nodes.iter().enumerate() {
            if let Some(parent) = node.parent {
                graph.links[parent].members.push(index);
            }
        }
        for links in &mut graph.links {
            once_each(&mut links.dependents);
            once_each(&mut links.feeders);
        }
        graph
    }
}

fn once_each(places: &mut Vec<usize>) {
    places.sort_unstable();
    places.dedup();
}

impl SourcePort {
    /// Whether a successful end of its node resolves it.
    pub fn on_success(&self, nodes: &[Node]) -> bool {
        let direction = nodes[self.port.node].ports[self.port.port].config.direction;
        direction.gives() && !self.on_failure()
    }

    /// Whether its node's failure resolves it.
    pub fn on_failure(&self) -> bool {
        matches!(self.port.port, ERROR | ERROR_MESSAGE)
    }
}

/// Which nodes may run for an event, or without one. Empty where the flow has no listeners.
#[derive(Debug)]
pub(super) struct Binding(Vec<bool>);

impl Binding {
    /// Nodes bound to listeners of that name; `None`: to any listener, unnamed ones included.
    ///
    /// Bound are the listeners, what is upstream and what is downstream of them, and what is upstream of the latter,
    /// where the way does not lead through another listener.
    pub fn new(flow: &Flow, name: Option<&str>) -> Binding {
        if !flow.nodes.iter().any(is_listener) {
            return Binding(Vec::new());
        }
        let listener: Vec<bool> = flow.nodes.iter().map(is_listener).collect();
        let starts: Vec<NodeIndex> = (0..flow.nodes.len())
            .filter(|index| listener[*index] && name.is_none_or(|name| event_name(&flow.nodes[*index]) == Some(name)))
            .collect();
        let links = &flow.graph.links;
        let mut bound = vec![false; flow.nodes.len()];
        walk(&starts, &mut bound, |node| &links[node].feeders, |_| true);
        let mut down = vec![false; flow.nodes.len()];
        walk(&starts, &mut down, |node| &links[node].dependents, |_| true);
        let downstream: Vec<NodeIndex> = (0..down.len()).filter(|node| down[*node]).collect();
        let mut up = vec![false; flow.nodes.len()];
        walk(&downstream, &mut up, |node| &links[node].feeders, |node| !listener[node]);
        for (index, bound) in bound.iter_mut().enumerate() {
            *bound = *bound || up[index];
        }
        Binding(bound)
    }

    /// Whether the node is bound.
    pub fn binds(&self, node: NodeIndex) -> bool {
        self.0.get(node).copied().unwrap_or(false)
    }
}

/// Mark everything reachable from `starts`, which are marked whatever they are; others only if they `may` be entered.
fn walk<'a>(
    starts: &[NodeIndex],
    seen: &mut [bool],
    next: impl Fn(NodeIndex) -> &'a [NodeIndex],
    may: impl Fn(NodeIndex) -> bool,
) {
    let mut open = starts.to_vec();
    for start in starts {
        seen[*start] = true;
    }
    while let Some(node) = open.pop() {
        for neighbour in next(node) {
            if !seen[*neighbour] && may(*neighbour) {
                seen[*neighbour] = true;
                open.push(*neighbour);
            }
        }
    }
}

impl Flow {
    /// Whether a node waits for an event.
    pub(super) fn is_listener(&self, node: NodeIndex) -> bool {
        is_listener(&self.nodes[node])
    }

    /// By node: whether it is its own parent, over others or directly.
    pub(super) fn parent_rings(&self) -> Vec<bool> {
        let mut inside = vec![false; self.nodes.len()];
        let mut walk_of = vec![usize::MAX; self.nodes.len()];
        for start in 0..self.nodes.len() {
            let mut at = Some(start);
            while let Some(node) = at.filter(|node| walk_of[*node] == usize::MAX) {
                walk_of[node] = start;
                at = self.nodes[node].parent;
            }
            // The way came back to itself, and not to one that was walked before.
            while let Some(node) = at.filter(|node| walk_of[*node] == start && !inside[*node]) {
                inside[node] = true;
                at = self.nodes[node].parent;
            }
        }
        inside
    }

    /// The event that a listener is stored with; unnamed ones have none.
    pub(super) fn event_name(&self, node: NodeIndex) -> Option<&str> {
        event_name(&self.nodes[node])
    }
}

/// Whether events are bound by this node.
pub(super) fn is_listener(node: &Node) -> bool {
    matches!(node.type_name.as_ref(), "EventListenerNode" | "EventListenerNodeV2")
}

/// A listener's stored event name; unnamed ones have none.
fn event_name(node: &Node) -> Option<&str> {
    let port = node.port_index("eventName")?;
    node.ports[port].value.as_str().filter(|name| !name.is_empty())
}

/// Report nodes that wait for each other, and parents that contain each other.
pub(super) fn report_cycles(flow: &Flow, problems: &mut Vec<Problem>) {
    let links = &flow.graph.links;
    let waiting = knot(flow.nodes.len(), |node| &links[node].feeders, |node| &links[node].dependents);
    report(flow, &waiting, ProblemKind::Cycle, "these nodes wait for each other and never run", problems);

    let parents: Vec<Vec<NodeIndex>> = flow.nodes.iter().map(|node| node.parent.into_iter().collect()).collect();
    let nested = knot(flow.nodes.len(), |node| &parents[node], |node| &links[node].members);
    report(flow, &nested, ProblemKind::Parent, "these nodes are each other's parents and never run", problems);
}

fn report(flow: &Flow, nodes: &[NodeIndex], kind: ProblemKind, what: &str, problems: &mut Vec<Problem>) {
    const NAMED: usize = 10;
    let Some(first) = nodes.first() else { return };
    let names: Vec<&str> = nodes.iter().take(NAMED).map(|node| flow.nodes[*node].id.as_ref()).collect();
    let more = nodes.len().saturating_sub(NAMED);
    let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
    problems.push(Problem::new(kind, flow.nodes[*first].id.clone(), format!("{what}: {}{rest}", names.join(", "))));
}

/// Nodes on cycles, and on ways from one cycle to another: what is left when nodes without feeders, then nodes
/// without dependents, are taken away again and again.
fn knot<'a>(
    count: usize,
    feeders: impl Fn(NodeIndex) -> &'a [NodeIndex],
    dependents: impl Fn(NodeIndex) -> &'a [NodeIndex],
) -> Vec<NodeIndex> {
    let mut left = vec![true; count];
    for (into, out) in
        [(&feeders as &dyn Fn(NodeIndex) -> &'a [NodeIndex], &dependents as &dyn Fn(_) -> _), (&dependents, &feeders)]
    {
        let mut inner: Vec<usize> =
            (0..count).map(|node| into(node).iter().filter(|neighbour| left[**neighbour]).count()).collect();
        let mut open: Vec<NodeIndex> = (0..count).filter(|node| left[*node] && inner[*node] == 0).collect();
        while let Some(node) = open.pop() {
            left[node] = false;
            for neighbour in out(node) {
                if left[*neighbour] {
                    inner[*neighbour] -= 1;
                    if inner[*neighbour] == 0 {
                        open.push(*neighbour);
                    }
                }
            }
        }
    }
    (0..count).filter(|node| left[*node]).collect()
}
