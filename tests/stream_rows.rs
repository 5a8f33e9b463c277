//! The rows of the `events` stream against those that the original worker left in PostgreSQL, event for event.
//!
//! The recorded rows are found by `FIREFLOW_GOLDEN`, or beside this package in `../shared/golden`.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test stops at what must not be, and tells what it saw")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use fireflow_worker::flow::engine::{Abort, RunOptions, run};
use fireflow_worker::flow::{Creation, Event, Flow, Value};
use fireflow_worker::nodes::{FlowEvent, Registry, RunContext};
use serde_json::{Value as JsonValue, json};
use tokio::sync::mpsc;

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

fn folder() -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/golden");
    let folder = std::env::var_os("FIREFLOW_GOLDEN").map_or(beside, PathBuf::from);
    folder.is_dir().then_some(folder)
}

/// What an event is about, so that events of nodes side by side may come in any order.
fn subject(event: &JsonValue) -> String {
    let data = &event["data"]["json"];
    let id = data["node"]["id"].as_str().or(data["nodeId"].as_str()).or(data["serializedEdge"]["id"].as_str());
    format!("{} {} {}", event["type"].as_str().unwrap(), id.unwrap_or(""), data["newStatus"].as_str().unwrap_or(""))
}

/// Where a recorded value and ours differ; marks stand for anything of their kind, and versions only must not be absent.
fn differences(path: &str, recorded: &JsonValue, ours: &JsonValue, found: &mut Vec<String>) {
    let mark = |name: &str| recorded.as_object().is_some_and(|object| object.len() == 1 && object.contains_key(name));
    let same = if mark("$iso") {
        ours.as_str().is_some_and(|text| text.len() == "2026-01-02T03:04:05.678Z".len() && text.ends_with('Z'))
    } else if mark("$ms") || mark("$took") || path.ends_with("/metadata/version") {
        ours.is_u64()
    } else if mark("$errorText") {
        ours.as_str().is_some_and(|text| !text.is_empty())
    } else {
        match (recorded, ours) {
            (JsonValue::Object(recorded), JsonValue::Object(ours)) => {
                let keys: std::collections::BTreeSet<&String> = recorded.keys().chain(ours.keys()).collect();
                for key in keys {
                    match (recorded.get(key), ours.get(key)) {
                        (Some(recorded), Some(ours)) => differences(&format!("{path}/{key}"), recorded, ours, found),
                        (recorded, ours) => found.push(format!("{path}/{key}: recorded {recorded:?}, ours {ours:?}")),
                    }
                }
                true
            }
            (JsonValue::Array(recorded), JsonValue::Array(ours)) if recorded.len() == ours.len() => {
                for (index, (recorded, ours)) in recorded.iter().zip(ours).enumerate() {
                    differences(&format!("{path}/{index}"), recorded, ours, found);
                }
                true
            }
            (JsonValue::Number(recorded), JsonValue::Number(ours)) => recorded.as_f64() == ours.as_f64(),
            (recorded, ours) => recorded == ours,
        }
    };
    if !same {
        found.push(format!("{path}: recorded {recorded}, ours {ours}"));
    }
}

/// Our rows for one recorded execution.
async fn our_rows(flow: &Flow, row: &JsonValue, options: &JsonValue) -> Vec<JsonValue> {
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
    events.iter().map(|event| serde_json::from_str(&event.stream_value(id, event.timestamp)).unwrap()).collect()
}

#[tokio::test]
async fn stream_rows_are_those_of_the_original() {
    let Some(folder) = folder() else {
        println!("no recorded rows here; set FIREFLOW_GOLDEN");
        return;
    };
    let _ = rustls::crypto::ring::default_provider().install_default();
    let registry = Registry::standard();
    let mut wrong = Vec::new();
    for scenario in SCENARIOS {
        let text = std::fs::read_to_string(folder.join(format!("{scenario}.json"))).unwrap();
        let golden: JsonValue = serde_json::from_str(&text).unwrap();
        let flow = Flow::load(&golden["flow"], &registry).unwrap().flow;
        for execution in golden["executions"].as_array().unwrap() {
            let row = &execution["rows"]["public.<prefix>executions"][0];
            let recorded: Vec<&JsonValue> = execution["rows"]["dbos.streams"]
                .as_array()
                .unwrap()
                .iter()
                .map(|row| &row["value"]["$json"])
                .collect();
            let ours = our_rows(&flow, row, &row["options"]).await;
            let indexes: Vec<i64> = ours.iter().map(|row| row["event"]["index"].as_i64().unwrap()).collect();
            assert_eq!(indexes, (-1..ours.len() as i64 - 1).collect::<Vec<_>>(), "{scenario}: dense numbers");
            let by_subject = |rows: Vec<JsonValue>| -> BTreeMap<String, JsonValue> {
                rows.into_iter()
                    .map(|mut row| {
                        row["event"]["index"] = json!(null); // the order of nodes side by side is no promise
                        (subject(&row["event"]), row)
                    })
                    .collect()
            };
            let (recorded, ours) = (by_subject(recorded.into_iter().cloned().collect()), by_subject(ours));
            let names = |rows: &BTreeMap<String, JsonValue>| rows.keys().cloned().collect::<Vec<_>>();
            assert_eq!(names(&recorded), names(&ours), "{scenario} {}", row["id"]);
            for (subject, recorded) in &recorded {
                let place = format!("{scenario} {} {subject}", row["id"]);
                differences(&place, recorded, &ours[subject], &mut wrong);
            }
        }
    }
    assert!(wrong.is_empty(), "{} differences:\n{}", wrong.len(), wrong.join("\n"));
}
