//! The rows of the `events` stream against those that the original worker left in PostgreSQL, event for event.
//!
//! The recorded rows are found by `FIREFLOW_GOLDEN`, or beside this package in `../shared/golden`.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test stops at what must not be, and tells what it saw")]

use fireflow_worker::flow::engine::{Abort, RunOptions, run};
use fireflow_worker::flow::{Creation, Event, Flow, Value};
use fireflow_worker::nodes::{FlowEvent, Registry, RunContext};
use serde_json::{Value as JsonValue, json};
use tokio::sync::mpsc;

#[path = "golden/mod.rs"]
mod golden;

use golden::{cases, compare::Comparison, stream};

/// Scenarios in which the engine runs undisturbed.
const SCENARIOS: &[&str] = &[
    "chain-10",
    "emitter-children",
    "event-tree",
    "external-event",
    "failing-node",
    "linear-math",
    "node-timeout",
    "skipped-node",
];

/// Our rows for one recorded execution.
async fn our_rows(flow: &Flow, row: &JsonValue, options: &JsonValue) -> Vec<String> {
    let id = row["id"].as_str().unwrap();
    let depth = row["execution_depth"].as_u64().unwrap() as u32;
    let event = row["external_events"].get(0).map(|event| FlowEvent {
        name: event["eventName"].as_str().unwrap().into(),
        payload: event.get("payload").map_or(Value::Undefined, Value::from),
    });
    let creation = Creation {
        execution_id: id,
        root_execution_id: row["root_execution_id"].as_str().unwrap(),
        parent_execution_id: row["parent_execution_id"].as_str(),
        depth,
    };
    let context = RunContext {
        execution_id: id.into(),
        event,
        depth,
        is_child: creation.parent_execution_id.is_some(),
        ..RunContext::default()
    };
    let (sender, mut receiver) = mpsc::channel::<Event>(16);
    let abort = Abort::new();
    let options = RunOptions::from_json(options).unwrap();
    let mut events = vec![Event::execution_created(flow, &creation)];
    let collecting = async {
        while let Some(event) = receiver.recv().await {
            events.push(event);
        }
    };
    futures_util::future::join(run(flow, &options, context, Vec::new(), sender, &abort), collecting).await;
    events.iter().map(|event| event.stream_value(id, event.timestamp)).collect()
}

#[tokio::test]
async fn stream_rows_are_those_of_the_original() {
    let Some(folder) = cases::original() else {
        println!("no recorded rows here; set FIREFLOW_GOLDEN");
        return;
    };
    let _ = rustls::crypto::ring::default_provider().install_default();
    let registry = Registry::standard();
    let mut comparison = Comparison::default();
    for scenario in SCENARIOS {
        let golden = cases::load(&folder, scenario);
        let flow = Flow::load(&golden["flow"], &registry).unwrap().flow;
        for execution in golden["executions"].as_array().unwrap() {
            let row = &execution["rows"]["public.<prefix>executions"][0];
            let recorded: Vec<JsonValue> = execution["rows"]["dbos.streams"]
                .as_array()
                .unwrap()
                .iter()
                .map(|row| json!({"value": row["value"], "offset": row["offset"]}))
                .collect();
            let ours: Vec<JsonValue> = our_rows(&flow, row, &row["options"])
                .await
                .into_iter()
                .enumerate()
                .map(|(offset, value)| json!({"value": value, "offset": offset}))
                .collect();
            stream::compare(&format!("{scenario} {}", row["id"]), &recorded, &ours, &mut comparison);
        }
    }
    let wrong = comparison.found;
    assert!(wrong.is_empty(), "{} differences:\n{}", wrong.len(), wrong.join("\n"));
}
