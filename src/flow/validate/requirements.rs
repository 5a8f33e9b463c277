//! Inputs that a node can't do without.

use super::view::{View, own_ports};
use crate::flow::Value;
use crate::flow::model::{Direction, Port};

/// Texts without which a node fails, or a listener never runs, though their types don't call them required.
const NEEDED: &[(&str, &str, &str)] = &[
    ("EventEmitterNode", "eventName", "the node fails; name the event"),
    ("HandlebarsTemplateNode", "template", "the node fails; give it a text such as Hello {{name}}"),
    ("LangchainTemplateNode", "template", "the node fails; give it a text such as Hello {name}"),
];

pub(super) fn check(view: &mut View) {
    for (index, node) in view.flow.nodes.iter().enumerate() {
        for (position, port) in own_ports(node) {
            let takes = port.config.direction != Direction::Output;
            if !takes || view.is_fed(index, position) {
                continue;
            }
            let key = &port.config.key;
            let name = &*node.id;
            let at = view.at_value(index, key);
            let class = node.node_type.and_then(|known| known.ports.iter().find(|spec| *spec.key == **key));
            let needed = NEEDED.iter().find(|(node_type, port, _)| **node_type == *node.type_name && **port == **key);
            if missing(port, class.is_some_and(|spec| spec.required)) {
                view.report("missing-input", &at, format!("node {name:?}: the required input {key} has no value"))
                    .hint("give it a value or an edge, or declare it as an input of the flow");
            } else if let Some((_, _, why)) = needed
                && empty(port)
            {
                view.report("empty-text", &at, format!("node {name:?}: {key} is empty")).hint(*why);
            }
        }
        // The stored name binds a listener, also where another one arrives by an edge.
        if view.flow.is_listener(index) && view.flow.event_name(index).is_none() {
            let at = view.at_value(index, "eventName");
            view.report("empty-text", &at, format!("listener {:?} has no event name, so it never runs", &*node.id))
                .hint("store the name; one that arrives by an edge comes too late");
        }
    }
}

/// A required port without a value. That a text is empty counts where the node type itself asks for one.
fn missing(port: &Port, by_class: bool) -> bool {
    let asked = by_class || port.config.required;
    asked && (port.value.is_nullish() || by_class && empty(port))
}

fn empty(port: &Port) -> bool {
    matches!(&port.value, Value::Undefined | Value::Null) || port.value.as_str().is_some_and(str::is_empty)
}
