//! Somebody who is told how long nodes took.

use std::time::Instant;

use crate::flow::model::{Node, Status};

/// Told of nodes as they end. It is called in the run's loop, and so must be quick.
pub trait Observer: Send + Sync {
    /// Whether nodes that only compute are timed as well. Looking at the clock twice takes longer than most of them.
    fn wants_all(&self) -> bool;

    /// A node has ended.
    fn ended(&self, node: &NodeEnd<'_>);
}

/// The end of a node.
#[derive(Clone, Copy, Debug)]
pub struct NodeEnd<'a> {
    /// Its id.
    pub id: &'a str,
    /// Its type.
    pub type_name: &'a str,
    /// The category of its type; empty for a type that isn't known.
    pub category: &'static str,
    /// It worked in a task of its own, since it waits for something.
    pub waits: bool,
    /// When it began.
    pub began: Instant,
    /// When it ended.
    pub ended: Instant,
    /// What became of it.
    pub status: Status,
}

pub(super) fn tell(observer: &dyn Observer, node: &Node, waits: bool, began: Instant, status: Status) {
    observer.ended(&NodeEnd {
        id: &node.id,
        type_name: &node.type_name,
        category: node.node_type.map_or("", |known| known.category),
        waits,
        began,
        ended: Instant::now(),
        status,
    });
}
