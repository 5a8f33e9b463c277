//! Groups: nodes that hold others together.

use super::{Behaviour, NodeType};

pub(super) const TYPES: &[NodeType] = &[NodeType {
    name: "GroupNode",
    category: "group",
    about: "Holds nodes together; runs after all of them have ended",
    ports: &[],
    behaviour: Behaviour::Passive,
    disabled_auto_execution: false,
}];
