//! The parts of one execution, as they are told: its events, its outcome, its steps; and all of them for scripts.

use serde_json::{Value as Json, json};

use super::list;
use crate::{
    cli::{access, cells, enqueue},
    sysdb::operator::{Details, Step},
};

/// Events of the stream, as they are stored.
pub(super) fn events(details: &Details) -> impl Iterator<Item = (i32, Option<Json>)> {
    let read = |text: &String| serde_json::from_str(text).ok();
    details.events.iter().map(move |(offset, value)| (*offset, value.as_ref().and_then(read)))
}

/// All of it, for scripts.
pub(super) fn as_json(details: &Details) -> Json {
    let mut all = list::summary(&details.summary, details.now);
    let step = |step: &Step| {
        json!({
            "step": step.number,
            "name": step.name,
            "started_at": known(step.started_at).map(cells::iso),
            "completed_at": known(step.completed_at).map(cells::iso),
            "duration_ms": took(step),
            "child": step.child,
            "error": step_error(step),
        })
    };
    let more = json!({
        "result": result(details).and_then(Result::ok),
        "result_bytes": details.output_size,
        "workflow": details.columns,
        "execution": details.row.as_ref().map(|row| &row.columns),
        "steps": details.steps.iter().map(step).collect::<Vec<_>>(),
        "step_count": details.step_count,
        "children": details.children.iter().map(|(id, status)| json!({"id": id, "status": status})).collect::<Vec<_>>(),
        "child_count": details.child_count,
        "event_count": details.event_count,
        "events": events(details).map(|(_, event)| event).collect::<Vec<_>>(),
        "unread": details.unread.iter().map(|(topic, count)| json!({"topic": topic, "messages": count})).collect::<Vec<_>>(),
        "crashes": details.crash.as_ref().map(|crash| json!({
            "crashes": crash.crashes, "worker": crash.worker, "reason": crash.reason, "at": cells::iso(crash.at),
        })),
    });
    if let (Some(all), Json::Object(more)) = (all.as_object_mut(), more) {
        all.extend(more);
        if let Some(error) = result(details).and_then(Result::err) {
            all.insert("error".into(), error.into());
        }
    }
    all
}

/// Its outcome, once it has one.
pub(super) fn result(details: &Details) -> Option<Result<Json, String>> {
    if !details.view.has_ended() {
        return None;
    }
    if details.view.output.is_none() && details.output_size.is_some() {
        return Some(Ok(Json::Null)); // too large to be read here
    }
    Some(match enqueue::outcome(&details.view) {
        // What the row says is more than the status alone.
        Err(_) if details.view.error.is_none() && details.summary.error.is_some() => {
            Err(details.summary.error.clone().unwrap_or_default())
        }
        outcome => outcome,
    })
}

/// An event in a few words: when, what, and of which node.
pub(super) fn describe(event: &Json) -> String {
    let at = |path: &str| event.pointer(path).and_then(Json::as_str);
    let node = at("/event/data/json/node/id").or_else(|| at("/event/data/json/nodeId"));
    let error = at("/event/data/json/error/message").or_else(|| at("/event/data/json/error"));
    let parts = [at("/event/timestamp"), at("/event/type"), node, error];
    parts.into_iter().flatten().collect::<Vec<_>>().join("  ")
}

/// Some SDKs leave times out.
pub(super) fn known(time: Option<i64>) -> Option<i64> {
    time.filter(|time| *time > 0)
}

/// How long a step took, in milliseconds.
pub(super) fn took(step: &Step) -> Option<i64> {
    Some(known(step.completed_at)?.saturating_sub(known(step.started_at)?).max(0))
}

/// What is known of a step that failed.
pub(super) fn step_error(step: &Step) -> Option<String> {
    if !step.has_error {
        return None;
    }
    let stored = step.error.as_deref().map(|error| access::error_text(error, step.serialization.as_deref()));
    Some(stored.unwrap_or_else(|| "failed; the error is too large to be shown".into()))
}
