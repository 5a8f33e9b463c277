//! Nodes that wait for each other. None of them ever runs, and the engine says nothing about it.

use std::collections::VecDeque;

use crate::flow::Flow;
use crate::flow::model::NodeIndex;

/// One ring for each set of nodes that all reach each other, in the order of the edges; and, by node, whether it is in
/// such a set.
pub(super) fn find(flow: &Flow) -> (Vec<Vec<NodeIndex>>, Vec<bool>) {
    let sets = knots(flow);
    let mut inside = vec![false; flow.nodes.len()];
    let mut set_of = vec![usize::MAX; flow.nodes.len()];
    for (set, nodes) in sets.iter().enumerate() {
        for node in nodes {
            inside[*node] = true;
            set_of[*node] = set;
        }
    }
    let rings = sets.iter().map(|nodes| shortest(flow, nodes.iter().copied().min().unwrap_or_default(), &set_of));
    (rings.collect(), inside)
}

/// Sets of nodes that all reach each other (Tarjan's algorithm, without recursion).
fn knots(flow: &Flow) -> Vec<Vec<NodeIndex>> {
    const NEW: usize = usize::MAX;
    let links = &flow.graph.links;
    let count = links.len();
    let (mut order, mut low) = (vec![NEW; count], vec![0; count]);
    let mut waiting = vec![false; count];
    let (mut stack, mut sets, mut next) = (Vec::new(), Vec::new(), 0);
    for start in 0..count {
        if order[start] != NEW {
            continue;
        }
        let mut way = vec![(start, 0)];
        while let Some((node, edge)) = way.last_mut() {
            let node = *node;
            if *edge == 0 {
                order[node] = next;
                low[node] = next;
                next += 1;
                stack.push(node);
                waiting[node] = true;
            }
            if let Some(target) = links[node].dependents.get(*edge).copied() {
                *edge += 1;
                if order[target] == NEW {
                    way.push((target, 0));
                } else if waiting[target] {
                    low[node] = low[node].min(order[target]);
                }
                continue;
            }
            way.pop();
            if let Some((above, _)) = way.last() {
                low[*above] = low[*above].min(low[node]);
            }
            if low[node] == order[node] {
                let from = stack.iter().rposition(|other| *other == node).unwrap_or_default();
                let set: Vec<NodeIndex> = stack.split_off(from);
                set.iter().for_each(|node| waiting[*node] = false);
                if set.len() > 1 || links[node].dependents.contains(&node) {
                    sets.push(set);
                }
            }
        }
    }
    sets.sort_by_key(|set| set.iter().copied().min());
    sets
}

/// The shortest way from a node back to it, within its set.
fn shortest(flow: &Flow, start: NodeIndex, set_of: &[usize]) -> Vec<NodeIndex> {
    let mut before: std::collections::HashMap<NodeIndex, NodeIndex> = std::collections::HashMap::new();
    let mut open = VecDeque::from([start]);
    while let Some(node) = open.pop_front() {
        for next in &flow.graph.links[node].dependents {
            if *next == start {
                let mut ring = vec![node];
                let mut at = node;
                while let Some(earlier) = before.get(&at) {
                    ring.push(*earlier);
                    at = *earlier;
                }
                ring.reverse();
                return ring;
            }
            if set_of[*next] == set_of[start] && !before.contains_key(next) {
                before.insert(*next, node);
                open.push_back(*next);
            }
        }
    }
    vec![start]
}
