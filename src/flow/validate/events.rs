//! Events that are emitted and not heard, or waited for and not emitted.

use std::collections::HashSet;

use super::view::View;
use crate::flow::Flow;
use crate::flow::model::NodeIndex;

const EMITTER: &str = "EventEmitterNode";

pub(super) fn check(view: &mut View) {
    let flow = view.flow;
    let listeners: Vec<NodeIndex> = (0..flow.nodes.len()).filter(|node| flow.is_listener(*node)).collect();
    let emitters: Vec<NodeIndex> =
        (0..flow.nodes.len()).filter(|node| &*flow.nodes[*node].type_name == EMITTER).collect();
    let heard: HashSet<&str> = listeners.iter().filter_map(|node| flow.event_name(*node)).collect();
    let emitted: HashSet<&str> =
        emitters.iter().filter(|node| !named_late(view, **node)).filter_map(|node| name(flow, *node)).collect();
    let any_late = emitters.iter().any(|node| named_late(view, *node));
    for node in emitters {
        let Some(event) = name(flow, node).filter(|event| !heard.contains(event)) else { continue };
        if named_late(view, node) {
            continue;
        }
        let hint = match view.meant(event, heard.iter().copied()) {
            Some(known) => format!("did you mean {known:?}?"),
            None => "the run that it starts would do nothing; add a listener of that name".into(),
        };
        let at = view.at_value(node, "eventName");
        let message = format!("node {:?} emits {event:?}, and no listener waits for it", &*flow.nodes[node].id);
        view.report("unheard-event", &at, message).hint(hint);
    }
    for node in listeners.into_iter().filter(|_| !any_late) {
        let Some(event) = flow.event_name(node).filter(|event| !emitted.contains(event)) else { continue };
        let hint = match view.meant(event, emitted.iter().copied()) {
            Some(known) => format!("did you mean {known:?}?"),
            None => "it runs only in executions that are started with this event".into(),
        };
        let at = view.at_value(node, "eventName");
        let message = format!("listener {:?} waits for {event:?}, which no node emits", &*flow.nodes[node].id);
        view.report("silent-event", &at, message).hint(hint);
    }
}

fn name(flow: &Flow, node: NodeIndex) -> Option<&str> {
    flow.event_name(node)
}

/// Whether the name may be another one when the node runs.
fn named_late(view: &View, node: NodeIndex) -> bool {
    view.flow.nodes[node].port_index("eventName").is_some_and(|port| view.is_fed(node, port))
}
