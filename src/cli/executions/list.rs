//! `executions list`

use std::process::ExitCode;

use clap::Args;
use serde_json::{Value as Json, json};

use super::filter::Filters;
use crate::{
    cli::{
        Global,
        access::{self, Access},
        cells::{self, Cell},
        output::{self, Tone},
        watch::Watch,
    },
    sysdb::{
        WorkflowId,
        operator::{Looked, Page, Status, Summary},
    },
};

/// Rows that one list may skip and show.
const MOST: u32 = 10_000;

/// List executions, newest first.
///
/// JSON: {executions: [{id, flow, status, state, name, queue, worker, parent, attempts, created_at, started_at, ended_at,
/// duration_ms, error}], next, looked_until}. `status` is DBOS's name, `state` what people call it; times are ISO 8601; `next` is
/// the value for --after that gives the next page, or null; `looked_until` is when the last one was created that was looked at, where
/// not all were.
#[derive(Debug, Args)]
pub struct List {
    #[command(flatten)]
    filters: Filters,
    /// Rows to show
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000))]
    limit: u32,
    /// Rows to skip first
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=9000))]
    offset: u32,
    /// Go on after this execution, the last one of the page before
    #[arg(long, value_name = "ID")]
    after: Option<String>,
    /// Write JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    watch: Watch,
}

impl List {
    pub(super) async fn run(self, global: &Global) -> anyhow::Result<ExitCode> {
        let filter = self.filters.filter(&[])?;
        let access = Access::open(global).await?;
        let after = self.after.map(WorkflowId::new);
        let (limit, offset) = (self.limit as usize, self.offset.min(MOST) as usize);
        self.watch
            .show(async || {
                let mut page = access.operator.list(&filter, after.as_ref(), limit + offset).await?;
                page.executions.drain(..offset.min(page.executions.len()));
                if self.json {
                    return if self.watch.goes_on() {
                        output::json_line(&as_json(&page))
                    } else {
                        output::json_text(&as_json(&page))
                    };
                }
                let notes = notes(&page).into_iter().map(|note| note + "\n").collect::<String>();
                // What is seen in place is seen whole; and an end of who reads is noticed by writing.
                if self.watch.goes_on() {
                    return Ok(table(&page) + &notes);
                }
                notes.lines().for_each(output::note);
                Ok(if page.executions.is_empty() { String::new() } else { table(&page) })
            })
            .await?;
        Ok(ExitCode::SUCCESS)
    }
}

fn notes(page: &Page) -> Vec<String> {
    let mut notes = Vec::new();
    if page.executions.is_empty() {
        notes.push("no executions fit".into());
    }
    if let (true, Some(last)) = (page.more, page.executions.last()) {
        notes.push(format!("there are more: --after {}", last.id));
    }
    if let Some(Looked { at, after }) = &page.looked_until {
        notes.push(format!(
            "looked no further back than {}; narrow the filter, or go on with --after {after}",
            cells::iso(*at)
        ));
    }
    notes
}

fn table(page: &Page) -> String {
    let row = |execution: &Summary| {
        vec![
            Cell::new(execution.id.as_str(), 40),
            Cell::or_dash(flow(execution), 32),
            status(&execution.status),
            Cell::or_dash(execution.queue.as_deref(), 32),
            Cell::from(cells::relative(page.now, execution.created_at)),
            Cell::or_dash(took(execution, page.now).map(cells::duration), 12),
            Cell::or_dash(execution.worker.as_deref(), 24),
            Cell::from(execution.attempts),
            Cell::new(error(execution).unwrap_or_default(), 80),
        ]
    };
    let rows: Vec<_> = page.executions.iter().map(row).collect();
    cells::table(&["ID", "FLOW", "STATUS", "QUEUE", "CREATED", "DURATION", "WORKER", "ATTEMPTS", "ERROR"], &rows)
}

fn as_json(page: &Page) -> Json {
    let executions: Vec<Json> = page.executions.iter().map(|execution| summary(execution, page.now)).collect();
    let looked = page.looked_until.as_ref();
    let last = page.executions.last().filter(|_| page.more).map(|last| last.id.as_str());
    let next = last.or(looked.map(|looked| looked.after.as_str()));
    json!({"executions": executions, "next": next, "looked_until": looked.map(|looked| cells::iso(looked.at))})
}

/// An execution for scripts.
pub(super) fn summary(execution: &Summary, now: i64) -> Json {
    json!({
        "id": execution.id.as_str(),
        "flow": flow(execution),
        "status": execution.status,
        "state": word(&execution.status),
        "name": execution.name,
        "queue": execution.queue,
        "worker": execution.worker,
        "parent": execution.parent,
        "attempts": execution.attempts,
        "created_at": cells::iso(execution.created_at),
        "started_at": execution.started_at.map(cells::iso),
        "ended_at": execution.ended_at.map(cells::iso),
        "duration_ms": took(execution, now),
        "error": error(execution),
    })
}

/// From its start to its end, or to now.
pub(super) fn took(execution: &Summary, now: i64) -> Option<i64> {
    let until = match execution.ended_at {
        Some(ended) => ended,
        None if execution.status == Status::Running.stored() => now,
        None => return None,
    };
    Some(until.saturating_sub(execution.started_at?).max(0))
}

pub(super) fn flow(execution: &Summary) -> Option<String> {
    let stored = || access::flow_of(execution.inputs.as_deref(), execution.serialization.as_deref());
    execution.flow.clone().or_else(stored)
}

pub(super) fn error(execution: &Summary) -> Option<String> {
    let stored = || Some(access::error_text(execution.stored_error.as_deref()?, execution.serialization.as_deref()));
    execution.error.clone().or_else(stored)
}

/// A stored status as people call it.
pub(super) fn word(stored: &str) -> String {
    Status::of(stored).map_or_else(|| stored.to_owned(), |status| status.word().to_owned())
}

/// The same, in its colour.
pub(super) fn status(stored: &str) -> Cell {
    let tone = match Status::of(stored) {
        Some(Status::Completed) => Some(Tone::Good),
        Some(Status::Failed | Status::Parked) => Some(Tone::Bad),
        Some(Status::Cancelled | Status::Running) => Some(Tone::Odd),
        _ => None,
    };
    Cell::new(word(stored), 32).toned(tone)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn execution(id: &str, status: Status) -> Summary {
        let inputs = r#"{"positionalArgs":[{"flowId":"of-its-task"}]}"#;
        Summary {
            id: WorkflowId::new(id),
            status: status.stored().into(),
            name: Some("executeFireFlow".into()),
            queue: Some("fireflow-executions".into()),
            flow: None,
            worker: None,
            parent: None,
            attempts: 0,
            created_at: 1_700_000_000_000,
            started_at: None,
            ended_at: None,
            error: None,
            stored_error: None,
            inputs: Some(inputs.into()),
            serialization: Some("portable_json".into()),
        }
    }

    fn page() -> Page {
        let failed = Summary {
            flow: Some("report".into()),
            worker: Some("worker-1".into()),
            attempts: 2,
            started_at: Some(1_700_000_001_000),
            ended_at: Some(1_700_000_003_450),
            stored_error: Some(r#"{"name":"FlowError","message":"node fetch:\nno answer"}"#.into()),
            inputs: None,
            ..execution("EXfailed", Status::Failed)
        };
        let running = Summary {
            worker: Some("worker-2".into()),
            attempts: 1,
            started_at: Some(1_700_000_030_000),
            ..execution("EXrunning", Status::Running)
        };
        let parked =
            Summary { queue: None, error: Some("parked: ".repeat(20)), ..execution("EXparked", Status::Parked) };
        let executions = vec![execution("EXqueued", Status::Queued), running, failed, parked];
        Page { executions, more: true, looked_until: None, now: 1_700_000_090_000 }
    }

    #[test]
    fn a_list_for_people() {
        let expected = "\
ID         FLOW         STATUS   QUEUE                CREATED  DURATION  WORKER    ATTEMPTS  ERROR
EXqueued   of-its-task  queued   fireflow-executions  1m ago   -         -         0
EXrunning  of-its-task  running  fireflow-executions  1m ago   1m 0s     worker-2  1
EXfailed   report       failed   fireflow-executions  1m ago   2.4s      worker-1  2         node fetch: no answer
EXparked   of-its-task  parked   -                    1m ago   -         -         0         parked: parked: parked: parked: parked: parked: parked: parked: parked: parked:…
";
        assert_eq!(table(&page()), expected);
        assert_eq!(notes(&page()), ["there are more: --after EXparked"]);
        let until = Looked { at: 1_700_000_000_000, after: WorkflowId::new("EXold") };
        let looked = Page { executions: vec![], more: false, looked_until: Some(until), now: 0 };
        assert_eq!(as_json(&looked)["next"], "EXold");
        let expected = [
            "no executions fit",
            "looked no further back than 2023-11-14T22:13:20Z; narrow the filter, or go on with --after EXold",
        ];
        assert_eq!(notes(&looked), expected);
    }

    #[test]
    fn a_list_for_scripts() {
        let list = as_json(&page());
        assert_eq!((&list["next"], &list["looked_until"]), (&json!("EXparked"), &Json::Null));
        let expected = json!({
            "id": "EXfailed", "flow": "report", "status": "ERROR", "state": "failed", "name": "executeFireFlow",
            "queue": "fireflow-executions", "worker": "worker-1", "parent": null, "attempts": 2,
            "created_at": "2023-11-14T22:13:20Z", "started_at": "2023-11-14T22:13:21Z", "ended_at": "2023-11-14T22:13:23.45Z",
            "duration_ms": 2450, "error": "node fetch:\nno answer",
        });
        assert_eq!(list["executions"][2], expected);
        assert_eq!(list["executions"][1]["duration_ms"], 60_000);
    }
}
