//! The inputs and outputs that a flow declares in its metadata: `{name: {nodeId, portId}}`.

use serde_json::Value as JsonValue;

use super::edges::port_hint;
use super::view::{View, below};
use crate::flow::model::Direction;

pub(super) fn check(view: &mut View) {
    for (list, what) in [("inputs", "input"), ("outputs", "output")] {
        let declared = view.data.get("metadata").and_then(|metadata| metadata.get(list));
        let at = format!("/metadata/{list}");
        let declared = match declared {
            None | Some(JsonValue::Null) => continue,
            Some(JsonValue::Object(declared)) => declared,
            Some(_) => {
                view.report("bad-declaration", &at, format!("{list} must be an object: {{name: {{nodeId, portId}}}}"));
                continue;
            }
        };
        for (name, place) in declared {
            let at = below(&at, name);
            let part = |key: &str| place.get(key).and_then(JsonValue::as_str);
            let (Some(node), Some(port)) = (part("nodeId"), part("portId")) else {
                view.report(
                    "bad-declaration",
                    &at,
                    format!("the {what} {name:?} must have the texts nodeId and portId"),
                );
                continue;
            };
            let flow = view.flow;
            let Some(index) = flow.node_index(node) else {
                let hint = view.instead(node, "nodes", flow.nodes.iter().map(|node| &*node.id));
                let message = format!("the {what} {name:?} names node {node:?}, which is not there");
                view.report("bad-declaration", &below(&at, "nodeId"), message).hint(hint);
                continue;
            };
            match flow.port(node, port) {
                None => {
                    let hint = port_hint(view, index, port);
                    let message = format!("the {what} {name:?}: node {node:?} has no port {port:?}");
                    view.report("bad-declaration", &below(&at, "portId"), message).hint(hint);
                }
                Some(found) if what == "input" && found.config.direction == Direction::Output => {
                    let message = format!("the input {name:?}: port {port:?} of node {node:?} is an output");
                    view.report("bad-declaration", &below(&at, "portId"), message)
                        .hint("what an input puts there, the node replaces");
                }
                Some(_) => {}
            }
        }
    }
}
