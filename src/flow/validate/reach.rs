//! Nodes that can't run, whatever happens: the engine's rule of readiness, played through for a run without an event
//! and for one with each listener's, where every node may succeed and fail as it likes.

use std::collections::HashMap;

use super::rings;
use super::view::View;
use crate::flow::Flow;
use crate::flow::graph::{Binding, SourcePort};
use crate::flow::model::{NodeIndex, PortKind};
use crate::nodes::Behaviour;

/// Runs that are played through; flows with more listeners than that are not judged by their events.
const RUNS: usize = 200;

/// Nodes whose failure and success are told apart.
const OUTCOMES: usize = 1024;

/// Nodes of a list that are shown.
const SHOWN: usize = 12;

pub(super) fn check(view: &mut View) {
    let flow = view.flow;
    let (found, mut in_ring) = rings::find(flow);
    for ring in &found {
        let mut names: Vec<&str> = ring.iter().take(SHOWN).map(|node| &*flow.nodes[*node].id).collect();
        if ring.len() > SHOWN {
            names.push("…");
        }
        names.push(&flow.nodes[ring[0]].id);
        let message = format!("these nodes wait for each other and never run: {}", names.join(" → "));
        let at = view.at_node(ring[0]);
        view.report("cycle", &at, message).hint("remove one of the edges between them");
    }
    let torn = torn(flow, &in_ring);
    // Nodes that contain each other have been reported with the parents.
    in_ring.iter_mut().zip(flow.parent_rings()).for_each(|(inside, parents)| *inside |= parents);
    let runs = Runs::new(flow, &torn);
    let never: Vec<bool> = (0..flow.nodes.len()).map(|node| !runs.reached.iter().any(|run| run[node])).collect();
    let causes = causes(flow, &in_ring, &torn, &runs, &never);
    report(view, &never, &causes);
}

/// Why a node never runs.
enum Cause {
    /// It is in a ring, or an unnamed listener, and has been reported.
    Told,
    /// It needs that node's success and its failure.
    Torn(NodeIndex),
    /// It needs the failure of a node that can't fail.
    NeverFails(NodeIndex),
    /// It is kept from running by itself.
    Switch,
    /// No single run brings all of its inputs.
    Starved { source: NodeIndex, runs: String, own: String },
    /// Another node never runs; by its edge, or as a member.
    Behind(NodeIndex),
}

/// By node: a node whose success and failure it needs at once, if it does.
fn torn(flow: &Flow, in_ring: &[bool]) -> Vec<Option<NodeIndex>> {
    let graph = &flow.graph;
    let mut torn = vec![None; flow.nodes.len()];
    let handled = (0..flow.nodes.len())
        .filter(|node| graph.links[*node].sources.iter().any(|source| graph.sources[*source].on_failure()));
    let numbers: HashMap<NodeIndex, usize> =
        handled.take(OUTCOMES).enumerate().map(|(number, node)| (node, number)).collect();
    if numbers.is_empty() {
        return torn;
    }
    let tracked: Vec<NodeIndex> = {
        let mut tracked: Vec<_> = numbers.iter().map(|(node, number)| (*number, *node)).collect();
        tracked.sort_unstable();
        tracked.into_iter().map(|(_, node)| node).collect()
    };
    let words = (2 * numbers.len()).div_ceil(64);
    // What has to have happened before a node runs: bit 2n is the success of the n-th handled node, 2n + 1 its failure.
    let mut needs: Vec<Option<Vec<u64>>> = vec![None; flow.nodes.len()];
    let mut open: Vec<NodeIndex> = Vec::new();
    let mut unseen: Vec<usize> = graph.links.iter().map(|links| links.feeders.len()).collect();
    open.extend((0..flow.nodes.len()).filter(|node| unseen[*node] == 0));
    while let Some(node) = open.pop() {
        let mut need = vec![0_u64; words];
        for target in &graph.links[node].targets {
            let mut common: Option<Vec<u64>> = None;
            for (_, source) in &graph.targets[*target].edges {
                let source = &graph.sources[*source];
                if torn[source.port.node].is_some() {
                    continue; // never comes
                }
                let mut bits = needs[source.port.node].clone().unwrap_or_else(|| vec![0; words]);
                if let Some(bit) = outcome(source, &numbers) {
                    bits[bit / 64] |= 1 << (bit % 64);
                }
                match &mut common {
                    None => common = Some(bits),
                    Some(common) => common.iter_mut().zip(bits).for_each(|(common, bits)| *common &= bits),
                }
            }
            need.iter_mut().zip(common.unwrap_or_default()).for_each(|(need, bits)| *need |= bits);
        }
        torn[node] = (0..numbers.len())
            .find(|number| need[number / 32] >> (2 * (number % 32)) & 3 == 3)
            .map(|number| tracked[number]);
        needs[node] = Some(need);
        for dependent in &graph.links[node].dependents {
            unseen[*dependent] -= 1;
            if unseen[*dependent] == 0 && !in_ring[*dependent] {
                open.push(*dependent);
            }
        }
    }
    torn
}

/// The outcome of its node that a source port stands for. A stream may be resolved while its node works, whatever
/// becomes of it.
fn outcome(source: &SourcePort, numbers: &HashMap<NodeIndex, usize>) -> Option<usize> {
    let number = numbers.get(&source.port.node)?;
    if source.on_failure() {
        return Some(2 * number + 1);
    }
    (!matches!(source.port.config.kind, PortKind::Stream(_) | PortKind::Any(_))).then_some(2 * number)
}

/// Whether a node can fail at all.
fn can_fail(flow: &Flow, node: NodeIndex) -> bool {
    flow.nodes[node].node_type.is_none_or(|known| !matches!(known.behaviour, Behaviour::Passive))
}

/// The runs that differ: without an event, and with each that a listener waits for.
struct Runs {
    events: Vec<Option<String>>,
    /// By run and node: whether the event lets it run.
    allowed: Vec<Vec<bool>>,
    /// By run and node: whether it can become ready.
    reached: Vec<Vec<bool>>,
}

impl Runs {
    fn new(flow: &Flow, torn: &[Option<NodeIndex>]) -> Runs {
        let mut events: Vec<Option<String>> = vec![None];
        let mut known = std::collections::HashSet::new();
        for node in 0..flow.nodes.len() {
            if flow.is_listener(node)
                && let Some(name) = flow.event_name(node)
                && known.insert(name)
            {
                events.push(Some(name.to_owned()));
            }
        }
        let allowed: Vec<Vec<bool>> = if events.len() > RUNS {
            events.truncate(1);
            vec![vec![true; flow.nodes.len()]]
        } else {
            events.iter().map(|event| allowed(flow, event.as_deref())).collect()
        };
        let reached = allowed.iter().map(|allowed| reached(flow, allowed, torn)).collect();
        Runs { events, allowed, reached }
    }

    /// The runs in which something holds, in words.
    fn named(&self, holds: impl Fn(usize) -> bool) -> String {
        let runs: Vec<String> = (0..self.events.len())
            .filter(|run| holds(*run))
            .take(4)
            .map(|run| match &self.events[run] {
                None => "without an event".to_owned(),
                Some(name) => format!("with the event {name:?}"),
            })
            .collect();
        if runs.is_empty() { "in no run".into() } else { format!("only in runs {}", runs.join(" or ")) }
    }
}

fn allowed(flow: &Flow, event: Option<&str>) -> Vec<bool> {
    let binding = Binding::new(flow, event);
    let may = |node: NodeIndex| match event {
        None => !flow.nodes[node].listens && !binding.binds(node),
        Some(_) if !flow.nodes[node].listens => binding.binds(node),
        Some(event) => flow.event_name(node) == Some(event) || !flow.is_listener(node) && listens_to(flow, node, event),
    };
    (0..flow.nodes.len()).map(may).collect()
}

/// A node of another type that asks for an event by the same port.
fn listens_to(flow: &Flow, node: NodeIndex, event: &str) -> bool {
    let node = &flow.nodes[node];
    node.port_index("eventName").is_some_and(|port| node.ports[port].value.as_str() == Some(event))
}

/// By node: whether it can become ready.
fn reached(flow: &Flow, allowed: &[bool], torn: &[Option<NodeIndex>]) -> Vec<bool> {
    let graph = &flow.graph;
    let mut fed = vec![false; graph.targets.len()];
    let mut unfed: Vec<usize> = graph.links.iter().map(|links| links.targets.len()).collect();
    let mut members: Vec<usize> =
        graph.links.iter().map(|links| links.members.iter().filter(|member| allowed[**member]).count()).collect();
    let mut reached = vec![false; flow.nodes.len()];
    let mut open = Vec::new();
    for node in 0..flow.nodes.len() {
        let group = !graph.links[node].members.is_empty();
        if unfed[node] == 0 && members[node] == 0 && (allowed[node] || group) && torn[node].is_none() {
            reached[node] = true;
            open.push(node);
        }
    }
    // Ports that members of a node resolve come whether it runs or not.
    let captured = |source: &SourcePort| flow.nodes[source.port.node].ports[source.port.port].captures.is_some();
    let mut come: Vec<usize> = (0..graph.sources.len()).filter(|source| captured(&graph.sources[*source])).collect();
    loop {
        for source in come.drain(..) {
            for target in &graph.sources[source].feeds {
                if std::mem::replace(&mut fed[*target], true) {
                    continue;
                }
                let node = graph.targets[*target].node;
                unfed[node] -= 1;
                if unfed[node] == 0 && allowed[node] && torn[node].is_none() && !reached[node] {
                    reached[node] = true;
                    open.push(node);
                }
            }
        }
        let Some(node) = open.pop() else { return reached };
        let resolved = |source: &usize| !graph.sources[*source].on_failure() || can_fail(flow, node);
        come.extend(graph.links[node].sources.iter().copied().filter(resolved));
        if let Some(parent) = flow.nodes[node].parent
            && allowed[node]
        {
            members[parent] = members[parent].saturating_sub(1);
            if members[parent] == 0 && graph.links[parent].targets.is_empty() && !reached[parent] {
                reached[parent] = true;
                open.push(parent);
            }
        }
    }
}

fn causes(flow: &Flow, in_ring: &[bool], torn: &[Option<NodeIndex>], runs: &Runs, never: &[bool]) -> Vec<Cause> {
    let of = |node: NodeIndex| {
        if !never[node] || in_ring[node] {
            return Cause::Told;
        }
        if let Some(other) = torn[node] {
            return Cause::Torn(other);
        }
        let allowed = |run: usize| runs.allowed[run][node];
        if !(0..runs.events.len()).any(allowed) {
            let switch = flow.nodes[node].listens && !flow.is_listener(node);
            return if switch { Cause::Switch } else { Cause::Told }; // belongs to a listener without a name
        }
        let links = &flow.graph.links[node];
        for target in &links.targets {
            let edges = &flow.graph.targets[*target].edges;
            let source = |edge: &(usize, usize)| &flow.graph.sources[edge.1];
            let comes = |edge: &(usize, usize), run: usize| {
                let source = source(edge);
                runs.reached[run][source.port.node] && (!source.on_failure() || can_fail(flow, source.port.node))
            };
            if edges.iter().any(|edge| (0..runs.events.len()).any(|run| allowed(run) && comes(edge, run))) {
                continue;
            }
            let Some(first) = edges.first() else { continue };
            let feeder = source(first).port.node;
            if let Some(behind) = edges.iter().map(|edge| source(edge).port.node).find(|node| never[*node]) {
                return Cause::Behind(behind);
            }
            if source(first).on_failure() && !can_fail(flow, feeder) {
                return Cause::NeverFails(feeder);
            }
            let runs_of = runs.named(|run| edges.iter().any(|edge| comes(edge, run)));
            return Cause::Starved { source: feeder, runs: runs_of, own: runs.named(allowed) };
        }
        if let Some(member) = links.members.iter().find(|member| never[**member]) {
            return Cause::Behind(*member);
        }
        match links.targets.first() {
            // Each input comes in some run, and no run brings all.
            Some(target) => {
                let feeder = flow.graph.sources[flow.graph.targets[*target].edges[0].1].port.node;
                Cause::Starved {
                    source: feeder,
                    runs: runs.named(|run| runs.reached[run][feeder]),
                    own: runs.named(allowed),
                }
            }
            None => Cause::Told,
        }
    };
    (0..flow.nodes.len()).map(of).collect()
}

/// By node: the one at the root of its trouble. Members and their groups may be behind each other.
fn roots(causes: &[Cause]) -> Vec<NodeIndex> {
    let mut roots: Vec<Option<NodeIndex>> = vec![None; causes.len()];
    for start in 0..causes.len() {
        let mut way = Vec::new();
        let mut seen = std::collections::HashSet::new();
        let mut at = start;
        let root = loop {
            if let Some(root) = roots[at] {
                break root;
            }
            way.push(at);
            match causes[at] {
                Cause::Behind(before) if seen.insert(at) => at = before,
                _ => break at,
            }
        };
        for node in way {
            roots[node] = Some(root);
        }
    }
    roots.into_iter().enumerate().map(|(node, root)| root.unwrap_or(node)).collect()
}

/// Report causes; nodes that are only behind others are named once for each of those.
fn report(view: &mut View, never: &[bool], causes: &[Cause]) {
    let flow = view.flow;
    let name = |node: NodeIndex| &*flow.nodes[node].id;
    let roots = roots(causes);
    let mut behind: HashMap<NodeIndex, Vec<NodeIndex>> = HashMap::new();
    for node in (0..flow.nodes.len()).filter(|node| never[*node] && matches!(causes[*node], Cause::Behind(_))) {
        behind.entry(roots[node]).or_default().push(node);
    }
    for (node, cause) in causes.iter().enumerate().filter(|(node, _)| never[*node]) {
        let id = name(node);
        let (message, hint) = match cause {
            Cause::Told | Cause::Behind(_) => continue,
            Cause::Torn(other) => (
                format!("node {id:?} never runs: it needs both the success and the failure of node {:?}", name(*other)),
                "an error port gives a value only when its node fails, the others only when it succeeds; use two nodes",
            ),
            Cause::NeverFails(other) => (
                format!(
                    "node {id:?} never runs: it waits for the failure of node {:?}, which can't fail",
                    name(*other)
                ),
                "remove the edge from its error port",
            ),
            Cause::Switch => (
                format!("node {id:?} never runs: its `flowPorts.disabledAutoExecution` is for listeners"),
                "remove that switch",
            ),
            Cause::Starved { source, runs, own } => (
                format!(
                    "node {id:?} never runs: node {:?}, which it waits for, runs {runs}, and the node itself {own}",
                    name(*source)
                ),
                "what feeds a listener, or what is behind one, belongs to its event; give this node a source of its own",
            ),
        };
        let at = view.at_node(node);
        view.report("unreachable", &at, message).hint(hint);
    }
    let mut behind: Vec<_> = behind.into_iter().collect();
    behind.sort_unstable();
    for (root, nodes) in behind {
        let first = nodes[0];
        let at = view.at_node(first);
        let before = match causes[first] {
            Cause::Behind(before) => before,
            _ => root,
        };
        let message =
            format!("node {:?} never runs: it waits for node {:?}, which never runs", name(first), name(before));
        let more = super::names::listed(nodes.iter().skip(1).map(|node| name(*node)));
        let finding = view.report("unreachable", &at, message);
        if !more.is_empty() {
            finding.hint(format!("the same is true of {more}"));
        }
    }
}
