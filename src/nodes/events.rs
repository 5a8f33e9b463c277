//! Events between the runs of a flow: nodes that emit them, nodes that listen, and what a run is in their tree.

use super::port::{input, output, pass};
use super::{Behaviour, NodeError, NodeRun, NodeType, PortSpec};
use crate::flow::{Object, Value};

const NAME: PortSpec = input("eventName", r#"{"type":"string","defaultValue":""}"#);
const OFFSET: PortSpec = input("processedEventsOffset", r#"{"type":"number","defaultValue":0}"#);
const FIELDS: &str = r#"{"type":"object","isSchemaMutable":true,"schema":{"properties":{}},"defaultValue":{}}"#;
const PAYLOAD: &str = r#"{"type":"object","isSchemaMutable":false,"schema":{"properties":{}},"defaultValue":{}}"#;

pub(super) const TYPES: &[NodeType] = &[
    NodeType {
        name: "EventEmitterNode",
        category: "flow",
        about: "Emits an event; after the run, a child run is started for it",
        ports: &[NAME, input("payload", FIELDS)],
        behaviour: Behaviour::Pure(emit),
        disabled_auto_execution: false,
    },
    NodeType {
        name: "EventListenerNode",
        category: "flow",
        about: "Gives the payload of the event that the run was started with (older form)",
        ports: &[NAME, OFFSET, output("outputData", PAYLOAD)],
        behaviour: Behaviour::Pure(|run| listen(run, "outputData")),
        disabled_auto_execution: true,
    },
    NodeType {
        name: "EventListenerNodeV2",
        category: "flow",
        about: "Gives the payload of the event that the run was started with",
        ports: &[NAME, pass("eventSchema", FIELDS), OFFSET, output("eventPayload", PAYLOAD)],
        behaviour: Behaviour::Pure(|run| listen(run, "eventPayload")),
        disabled_auto_execution: true,
    },
    NodeType {
        name: "IsRootExecutionNode",
        category: "flow",
        about: "Tells whether this run has no parent",
        ports: &[output("isRoot", r#"{"type":"boolean","defaultValue":false}"#)],
        behaviour: Behaviour::Pure(|run| {
            let root = run.context().depth == 0 && !run.context().is_child;
            run.set("isRoot", root);
            Ok(())
        }),
        disabled_auto_execution: false,
    },
];

fn emit(run: &mut NodeRun) -> Result<(), NodeError> {
    let name = run.text("eventName");
    if name.is_empty() {
        return Err(NodeError::new("the event has no name; set `eventName`"));
    }
    run.emit(name, run.get("payload").clone());
    Ok(())
}

/// The run's event may be another one: the name at execution decides what is given, not whether the node completes.
/// Fields that the payload lacks keep what the port stores for them.
fn listen(run: &mut NodeRun, port: &str) -> Result<(), NodeError> {
    let Some(event) = &run.context().event else { return Ok(()) };
    if run.get("eventName").as_str() != Some(event.name.as_ref()) {
        return Ok(());
    }
    let given = match (run.get(port), &event.payload) {
        (Value::Object(stored), Value::Object(payload)) => {
            let mut fields = Object::clone(stored);
            fields.extend(payload.iter().map(|(key, value)| (key.clone(), value.clone())));
            Value::from(fields)
        }
        (Value::Object(stored), nothing) if nothing.is_nullish() => Value::Object(stored.clone()),
        (_, nothing) if nothing.is_nullish() => Value::empty_object(),
        (_, payload) => payload.clone(),
    };
    run.set(port, given);
    Ok(())
}
