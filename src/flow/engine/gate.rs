//! The gate that every node passes before its transfers while a run has a debugger, as plain data.

use std::collections::{HashSet, VecDeque};

use crate::flow::model::NodeIndex;

/// A node that began and waits before its transfers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Held {
    pub node: NodeIndex,
    /// The edges that were chosen when it began.
    pub edges: Vec<usize>,
}

/// Who waits at the gate, and whether it is shut.
#[derive(Clone, Debug, Default)]
pub(super) struct Gate {
    breakpoints: HashSet<NodeIndex>,
    paused: bool,
    held: Vec<Held>,
    released: VecDeque<Held>,
}

impl Gate {
    /// Open, but for nodes with a breakpoint.
    pub fn new(breakpoints: HashSet<NodeIndex>) -> Gate {
        Gate { breakpoints, ..Gate::default() }
    }

    /// Whether a node has to wait here. One that meets its breakpoint shuts the gate for all that come after it.
    pub fn stops(&mut self, node: NodeIndex) -> bool {
        self.paused |= self.breakpoints.contains(&node);
        self.paused
    }

    pub fn hold(&mut self, node: NodeIndex, edges: Vec<usize>) {
        self.held.push(Held { node, edges });
    }

    /// Shut or open it. Who waits goes on only when [`release`](Gate::release)d.
    pub fn set_paused(&mut self, paused: bool) {
        self.paused = paused;
    }

    pub fn is_paused(&self) -> bool {
        self.paused
    }

    /// All that wait go on, in the order in which they came.
    pub fn release(&mut self) {
        self.released.extend(self.held.drain(..));
    }

    /// The next one that goes on.
    pub fn next_released(&mut self) -> Option<Held> {
        self.released.pop_front()
    }

    /// Those that wait.
    pub fn held(&self) -> impl Iterator<Item = NodeIndex> {
        self.held.iter().map(|held| held.node)
    }

    /// How many have begun and not gone on: they keep their place among the nodes at work.
    pub fn len(&self) -> usize {
        self.held.len() + self.released.len()
    }

    /// Everybody, when the run is called off.
    pub fn clear(&mut self) -> Vec<Held> {
        self.release();
        self.released.drain(..).collect()
    }
}
