//! Running a case, and what was seen in the form of its expectations.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::BoxFuture;
use serde_json::{Map, Value as JsonValue, json};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::compare::{Difference, Touched, at_work, compare};
use super::server::Server;
use super::{Case, CaseError};
use crate::flow::engine::{self, Abort, Debugger, End, Outcome, RunOptions};
use crate::flow::events::Event;
use crate::flow::{Flow, Value};
use crate::nodes::{ExecutionKeys, FlowEvent, Registry, RunContext};

/// How deep children may nest in a case.
const MAX_DEPTH: u32 = 20;

/// Events on their way.
const EVENTS: usize = 64;

/// How long a case may take, so that one which waits for ever doesn't keep the others from being reported.
const LIMIT: Duration = Duration::from_secs(120);

/// More than the recorded time is fine on a busy machine; less is not.
const SLACK: Duration = Duration::from_millis(1500);

impl Case {
    /// Run the case, with the server that it asks for, and say in what it differs from what is expected.
    ///
    /// # Errors
    /// It can't be run.
    pub async fn check(&self, registry: &Registry, context: &RunContext) -> Result<Vec<Difference>, CaseError> {
        let server = match &self.run.http_server {
            Some(spec) => Some(Server::start(spec).await.map_err(CaseError::Server)?),
            None => None,
        };
        let most = self.wall_ms.map_or(Duration::ZERO, |(_, most)| Duration::from_millis(most));
        let limit = LIMIT.max(most.saturating_mul(2));
        let played = tokio::time::timeout(limit, self.differences(registry, context, server.as_ref())).await;
        let differences = played.unwrap_or_else(|_| {
            Ok(vec![Difference::new("run", "an end", format!("none after {limit:?}; the case was cut off"))])
        });
        if let Some(server) = server {
            server.stop().await;
        }
        differences
    }

    async fn differences(
        &self,
        registry: &Registry,
        context: &RunContext,
        server: Option<&Server>,
    ) -> Result<Vec<Difference>, CaseError> {
        let base = server.map(|server| server.base.as_str());
        let stored = match (&self.run.http_server, base) {
            (Some(server), Some(base)) => replaced(&self.flow, &server.placeholder, base),
            _ => self.flow.clone(),
        };
        let loaded = Flow::load(&stored, registry)?;
        let flow = &loaded.flow;
        let inputs = flow.bind_inputs(&self.run.inputs)?;

        let abort = Abort::new();
        let mut context = context.clone();
        context.event = self.run.event.clone();
        context.is_child = self.run.as_child;
        context.keys = ExecutionKeys::default();
        context.depth = u32::from(self.run.as_child);
        let (sender, receiver) = mpsc::channel(EVENTS);
        let mut options = self.run.options.clone();
        let debugger = self.run.debugger.as_ref().map(|spec| {
            options.debug = true;
            options.breakpoints.extend(spec.breakpoints.iter().cloned());
            (spec, Debugger::new())
        });
        let handle = debugger.as_ref().map(|(_, debugger)| debugger);
        let running = engine::run_debugged(flow, &options, context.clone(), inputs, sender, &abort, handle);
        let over = CancellationToken::new();
        let running = async {
            let outcome = running.await;
            over.cancel();
            outcome
        };
        let cancelling = async {
            if let Some((after, reason)) = &self.run.cancel {
                tokio::select! {
                    () = tokio::time::sleep(*after) => abort.abort(reason.clone()),
                    () = over.cancelled() => {}
                }
            }
        };
        let debugging = async {
            if let Some((spec, debugger)) = &debugger {
                spec.drive(debugger, &over).await;
            }
        };
        let began = Instant::now();
        let (outcome, events, (), ()) =
            futures_util::future::join4(running, collect(receiver), cancelling, debugging).await;
        let took = began.elapsed();

        let touched = Touched::new(&self.flow, flow);
        let mut seen = observed(flow, &outcome, &events, &touched);
        if let Some(server) = server {
            seen.insert("httpRequests".into(), server.requests());
        }
        if self.run.run_children {
            let children = children(flow, &self.run.options, &context, &outcome, &touched, 1).await;
            seen.insert("children".into(), children);
        }
        if self.expect.get("outputs").is_some() {
            seen.insert("outputs".into(), JsonValue::Object(outcome.outputs.clone()));
        }
        if self.expect.get("problems").is_some() {
            let problems =
                loaded.problems.iter().map(|problem| format!("{}: {}", problem.kind.as_str(), problem.subject));
            seen.insert("problems".into(), problems.collect());
        }
        let ordered = self.run.options.max_concurrency == 1;
        let mut seen = JsonValue::Object(seen);
        if let (Some(server), Some(base)) = (&self.run.http_server, base) {
            seen = replaced(&seen, base, &server.placeholder); // expectations know the server by it
        }
        let mut differences = compare(&self.expect, &seen, &self.forms, ordered);
        if let Some((least, most)) = self.wall_ms {
            let (least, most) = (Duration::from_millis(least), Duration::from_millis(most));
            if took < least || took > most + SLACK {
                differences.push(Difference::new("wallMs", format!("{least:?} to {most:?}"), format!("{took:?}")));
            }
        }
        Ok(differences)
    }
}

async fn collect(mut receiver: mpsc::Receiver<Event>) -> Vec<Event> {
    let mut events = Vec::new();
    while let Some(event) = receiver.recv().await {
        events.push(event);
    }
    events
}

/// A run for each emitted event, and for each that those emit.
fn children<'a>(
    flow: &'a Flow,
    options: &'a RunOptions,
    parent: &'a RunContext,
    outcome: &'a Outcome,
    touched: &'a Touched,
    depth: u32,
) -> BoxFuture<'a, JsonValue> {
    Box::pin(async move {
        let mut children = Vec::new();
        for emitted in &outcome.emitted {
            let event = FlowEvent { name: emitted.name.clone(), payload: emitted.payload.clone() };
            let keys = ExecutionKeys::default();
            let context = RunContext { event: Some(event), depth, is_child: true, keys, ..parent.clone() };
            let (sender, receiver) = mpsc::channel(EVENTS);
            let abort = Abort::new();
            let running = engine::run(flow, options, context.clone(), Vec::new(), sender, &abort);
            let (outcome, events) = futures_util::future::join(running, collect(receiver)).await;
            let mut seen = observed(flow, &outcome, &events, touched);
            if depth < MAX_DEPTH {
                let inner = self::children(flow, options, &context, &outcome, touched, depth + 1).await;
                seen.insert("children".into(), inner);
            }
            let event = json!({"eventName": &*emitted.name, "payload": marked(&emitted.payload)});
            children.push(json!({"event": event, "depth": depth, "expect": seen}));
        }
        JsonValue::Array(children)
    })
}

/// What a run showed, in the form of `expect`.
fn observed(flow: &Flow, outcome: &Outcome, events: &[Event], touched: &Touched) -> Map<String, JsonValue> {
    let mut flow_events = Vec::new();
    let mut per_node: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let (mut transferred, mut failed) = (Vec::new(), Vec::new());
    let mut logs = Vec::new();
    let mut order = Vec::new();
    for (position, event) in events.iter().enumerate() {
        let data: JsonValue = serde_json::from_str(&event.data).unwrap_or_default();
        let data = data.get("json").unwrap_or(&JsonValue::Null);
        let word = |key: &str| data.get(key).and_then(JsonValue::as_str).unwrap_or("?").to_owned();
        let node = || match data.get("node") {
            Some(node) => node.get("id").and_then(JsonValue::as_str).unwrap_or("?").to_owned(),
            None => word("nodeId"),
        };
        let edge = || data.get("serializedEdge").and_then(|edge| edge.get("id")).cloned().unwrap_or_default();
        let kind = event.kind.as_str();
        order.push(format!("{position} {kind} {}", node()));
        if event.index != position as i64 {
            flow_events.push(format!("event {position} is numbered {}", event.index));
        }
        match kind {
            "node:status-changed" => {
                let change = format!("{}->{}", word("oldStatus"), word("newStatus"));
                per_node.entry(node()).or_default().push(change);
            }
            "node:skipped" => {
                let reason = word("reason");
                let reason = skip_reason(&reason);
                per_node.entry(node()).or_default().push(format!("node:skipped({reason})"));
            }
            "node:debug-log-string" => {
                per_node.entry(node()).or_default().push(kind.into());
                logs.push(json!({"node": node(), "log": word("log")}));
            }
            "edge:transfer-completed" => transferred.push(edge()),
            "edge:transfer-failed" => failed.push(edge()),
            _ if kind.starts_with("node:") || kind.starts_with("debug:") => {
                per_node.entry(node()).or_default().push(kind.into())
            }
            _ => flow_events.push(kind.into()),
        }
    }
    let by_text = |edge: &JsonValue| edge.as_str().unwrap_or_default().to_owned();
    transferred.sort_by_key(by_text);
    failed.sort_by_key(by_text);
    let emitted = outcome.emitted.iter();
    let seen = json!({
        "flowEvents": flow_events,
        "perNode": per_node,
        "edgesTransferred": transferred,
        "edgesFailed": failed,
        "nodes": nodes(flow, outcome, touched),
        "emitted": emitted
            .map(|event| json!({"name": &*event.name, "payload": marked(&event.payload), "by": &*event.by}))
            .collect::<Vec<_>>(),
        "debugLogs": logs,
        "failed": outcome.end != End::Completed,
        "atWork": at_work(order.iter().map(String::as_str)).collect::<Vec<_>>(),
    });
    match seen {
        JsonValue::Object(seen) => seen,
        _ => Map::new(),
    }
}

/// The cases' words for why a node was skipped.
fn skip_reason(text: &str) -> &str {
    if text.contains("execute flag") {
        "execute_is_false"
    } else if text.contains("failed to transfer") {
        "edge_transfer_failed"
    } else if text.contains("no resolved source") {
        "unresolved_inputs"
    } else {
        text
    }
}

fn nodes(flow: &Flow, outcome: &Outcome, touched: &Touched) -> JsonValue {
    let mut nodes = Map::new();
    for (index, (node, ended)) in flow.nodes.iter().zip(&outcome.nodes).enumerate() {
        let mut shown = Map::new();
        for (key, value) in &ended.ports {
            if !matches!(value, Value::Undefined) {
                shown.insert(key.to_string(), marked(value));
            }
        }
        for id in touched.nested(&node.id) {
            let Some(port) = flow.port(&node.id, id).filter(|port| port.node == index) else { continue };
            let value = ended.orphans.value_of(&ended.ports[port.port].1, &port);
            if !matches!(value, Value::Undefined) {
                shown.insert(id.to_owned(), marked(&value));
            }
        }
        let ended = json!({
            "type": &*node.type_name,
            "status": ended.status.as_str(),
            "ports": shown,
            "touched": touched.nested(&node.id).collect::<Vec<_>>(),
        });
        nodes.insert(node.id.to_string(), ended);
    }
    JsonValue::Object(nodes)
}

/// A value as JSON, with marks for what JSON lacks.
fn marked(value: &Value) -> JsonValue {
    match value {
        Value::Number(number) if number.is_nan() => json!({"$number": "NaN"}),
        Value::Number(number) if number.is_infinite() && *number > 0.0 => json!({"$number": "Infinity"}),
        Value::Number(number) if number.is_infinite() => json!({"$number": "-Infinity"}),
        Value::Number(number) if *number == 0.0 && number.is_sign_negative() => json!({"$number": "-0"}),
        Value::Array(items) => items.iter().map(marked).collect(),
        Value::Object(fields) => {
            let fields = fields.iter().filter(|(_, value)| !matches!(value, Value::Undefined));
            fields.map(|(key, value)| (key.to_string(), marked(value))).collect::<Map<_, _>>().into()
        }
        Value::Stream(channel) => {
            let (items, closed) = channel.contents();
            json!({"$stream": {"items": items.iter().map(marked).collect::<Vec<_>>(), "closed": closed}})
        }
        simple => simple.to_json(),
    }
}

/// The flow with one text in place of another, everywhere.
fn replaced(json: &JsonValue, old: &str, new: &str) -> JsonValue {
    match json {
        JsonValue::String(text) => text.replace(old, new).into(),
        JsonValue::Array(items) => items.iter().map(|item| replaced(item, old, new)).collect(),
        JsonValue::Object(fields) => {
            fields.iter().map(|(key, value)| (key.clone(), replaced(value, old, new))).collect::<Map<_, _>>().into()
        }
        other => other.clone(),
    }
}
