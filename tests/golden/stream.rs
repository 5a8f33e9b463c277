//! The rows of the event stream: each event by itself, and their order as far as it is promised.

use std::collections::BTreeMap;

use serde_json::{Value as Json, json};

use super::compare::{Comparison, mark};

/// The value of a stream's row, whether it is recorded (under a mark), or ours (a text).
fn value(row: &Json) -> Json {
    match (mark(&row["value"]), row["value"].as_str()) {
        (Some(("$json", value)), _) => value.clone(),
        (_, Some(text)) => serde_json::from_str(text).unwrap(),
        _ => panic!("no value of a stream: {row}"),
    }
}

fn kind(event: &Json) -> &str {
    event["type"].as_str().unwrap()
}

/// What an event is about, so that events of nodes side by side may come in any order.
fn subject(event: &Json) -> String {
    let data = &event["data"]["json"];
    let edge = data["serializedEdge"]["id"].as_str();
    let status = data["newStatus"].as_str().unwrap_or("");
    format!("{} {} {status}", kind(event), edge.or(node(event)).unwrap_or(""))
}

/// The node that an event belongs to; a transfer belongs to its target.
fn node(event: &Json) -> Option<&str> {
    let data = &event["data"]["json"];
    data["node"]["id"].as_str().or(data["nodeId"].as_str()).or(data["serializedEdge"]["targetNodeId"].as_str())
}

/// Compare a recorded stream with ours, row by row in the tables' form: `{"value": ..., "offset": n, ...}`.
pub fn compare(place: &str, recorded: &[Json], ours: &[Json], comparison: &mut Comparison) {
    let offsets: Vec<_> = ours.iter().map(|row| row["offset"].as_i64()).collect();
    if offsets != (0..ours.len() as i64).map(Some).collect::<Vec<_>>() {
        comparison.found.push(format!("{place}: offsets have gaps: {offsets:?}"));
    }
    let (recorded, ours) = (runs(recorded), runs(ours));
    if recorded.len() != ours.len() {
        comparison.found.push(format!("{place}: {} runs recorded, ours {}", recorded.len() - 1, ours.len() - 1));
    }
    for (number, (recorded, ours)) in recorded.iter().zip(&ours).enumerate() {
        compare_run(&format!("{place} run {number}"), recorded, ours, comparison);
    }
}

/// What was before the first run (`execution:created`), then each run.
fn runs(rows: &[Json]) -> Vec<Vec<Json>> {
    let mut runs = vec![Vec::new()];
    for row in rows {
        if kind(&value(row)["event"]) == "flow:started" {
            runs.push(Vec::new());
        }
        runs.last_mut().unwrap().push(row.clone());
    }
    runs
}

fn compare_run(place: &str, recorded: &[Json], ours: &[Json], comparison: &mut Comparison) {
    let events = |rows: &[Json]| rows.iter().map(|row| value(row)["event"].clone()).collect::<Vec<_>>();
    let (old, new) = (events(recorded), events(ours));
    let first = old.first().map_or(0, |event| event["index"].as_i64().unwrap());
    let indexes: Vec<_> = new.iter().map(|event| event["index"].as_i64()).collect();
    if indexes != (first..first + new.len() as i64).map(Some).collect::<Vec<_>>() {
        comparison.found.push(format!("{place}: indexes are not dense: {indexes:?}"));
    }
    if orders(&old) != orders(&new) {
        comparison.found.push(format!("{place}: recorded order {:#?}, ours {:#?}", orders(&old), orders(&new)));
        return;
    }
    versions(place, &new, comparison);
    causes(place, &new, comparison);
    let (recorded, ours) = (by_subject(recorded), by_subject(ours));
    for (subject, recorded) in &recorded {
        comparison.compare(&format!("{place} {subject}"), recorded, &ours[subject]);
    }
}

/// The order that is promised: the flow's own events, and each node's. Transfers into one node may come in any order.
fn orders(events: &[Json]) -> BTreeMap<String, Vec<String>> {
    let mut orders: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for event in events {
        orders.entry(node(event).unwrap_or("").to_owned()).or_default().push(subject(event));
    }
    for order in orders.values_mut() {
        for transfers in order.chunk_by_mut(|a, b| a.starts_with("edge:") && b.starts_with("edge:")) {
            transfers.sort();
        }
    }
    orders
}

fn by_subject(rows: &[Json]) -> BTreeMap<String, Json> {
    rows.iter()
        .map(|row| {
            let (mut row, mut value) = (row.clone(), value(row));
            let subject = subject(&value["event"]);
            value["event"]["index"] = json!(null);
            row["value"] = value;
            row["offset"] = json!(null);
            (subject, row)
        })
        .collect()
}

/// A node's version never goes down: the editor would take the newer state for a stale one.
fn versions(place: &str, events: &[Json], comparison: &mut Comparison) {
    let mut versions: BTreeMap<&str, u64> = BTreeMap::new();
    for event in events {
        let node = &event["data"]["json"]["node"];
        let (Some(id), Some(version)) = (node["id"].as_str(), node["metadata"]["version"].as_u64()) else { continue };
        let before = versions.insert(id, version).unwrap_or(0);
        if version < before {
            comparison.found.push(format!("{place}: the version of {id} goes down from {before} to {version}"));
        }
    }
}

/// Nothing is handed on by a node that hasn't completed; and the flow's events come first and last.
fn causes(place: &str, events: &[Json], comparison: &mut Comparison) {
    for (at, event) in events.iter().enumerate() {
        let source = event["data"]["json"]["serializedEdge"]["sourceNodeId"].as_str();
        let is_source = |event: &&Json| kind(event) == "node:completed" && node(event) == source;
        if source.is_some() && !events[..at].iter().any(|event| is_source(&event)) {
            comparison.found.push(format!("{place}: {} before its source has completed", subject(event)));
        }
        let is_end = matches!(kind(event), "flow:completed" | "flow:failed" | "flow:cancelled");
        if kind(event) == "flow:started" && at > 0 || is_end && kind(event) == "flow:completed" && at + 1 < events.len()
        {
            comparison.found.push(format!("{place}: {} in the middle", kind(event)));
        }
    }
}
