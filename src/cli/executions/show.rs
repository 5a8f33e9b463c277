//! `executions show`

use std::process::ExitCode;

use clap::Args;
use serde_json::Value as Json;

use super::{
    list,
    parts::{as_json, describe, events, known, result, step_error, took},
};
use crate::{
    cli::{
        Global,
        access::Access,
        cells::{self, Cell},
        output::{self, Tone},
        watch::Watch,
    },
    sysdb::{
        WorkflowId,
        operator::{Details, Step},
    },
};

/// A result is shown up to this length, in characters; --json has all of it.
const RESULT: usize = 4000;
/// An event is a line of this width.
const EVENT: usize = 160;

/// Show one execution in all its parts.
///
/// Its rows, its steps with their times, its children, its outcome, and the end of its
/// event stream.
///
/// JSON: the keys of `executions list`, and {result, result_bytes, workflow, execution, steps: [{step, name, started_at, completed_at, duration_ms,
/// child, error}], step_count, children: [{id, status}], child_count, event_count, events, unread: [{topic, messages}], crashes}. A result of more than a megabyte is null
/// here; `result_bytes` is its size. `workflow` and `execution` are columns of the rows by their names in the database. Exit code 1 when there is no such execution.
#[derive(Debug, Args)]
pub struct Show {
    /// Id of the execution
    #[arg(value_name = "ID")]
    id: String,
    /// Events to show, from the end of the stream
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(0..=1000))]
    events: u32,
    /// Write JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    watch: Watch,
}

impl Show {
    pub(super) async fn run(self, global: &Global) -> anyhow::Result<ExitCode> {
        let access = Access::open(global).await?;
        let id = WorkflowId::new(self.id);
        self.watch
            .show(async || {
                let details = access.operator.details(&id, self.events).await?;
                Ok(match (self.json, self.watch.goes_on()) {
                    (true, true) => output::json_line(&as_json(&details))?,
                    (true, false) => output::json_text(&as_json(&details))?,
                    (false, _) => text(&details),
                })
            })
            .await?;
        Ok(ExitCode::SUCCESS)
    }
}

fn text(details: &Details) -> String {
    let (summary, now) = (&details.summary, details.now);
    let column = |name: &str| details.columns.get(name).filter(|value| !value.is_null());
    let word = |name: &str| column(name).map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned));
    let time = |then: i64| format!("{} ({})", cells::iso(then), cells::relative(now, then));
    let status = list::status(&summary.status);
    let paused = details.row.as_ref().is_some_and(|row| row.status == "paused") && summary.status == "PENDING";
    let paused = if paused { ", paused" } else { "" };
    let status = format!("{}{paused}  ({})", status.painted(), cells::clip(&summary.status, 60));
    let mut fields: Vec<(&str, String)> =
        vec![("execution", cells::clip(summary.id.as_str(), 400)), ("status", status)];
    // A colour is not to be cut.
    let mut add = |name, value: Option<String>| fields.extend(value.map(|value| (name, cells::clip(&value, 400))));
    add("flow", list::flow(summary));
    add("workflow", summary.name.clone());
    add("queue", summary.queue.clone());
    add("partition", word("queue_partition_key"));
    add("priority", word("priority").filter(|priority| priority != "0"));
    add("worker", summary.worker.clone());
    add("attempts", Some(summary.attempts.to_string()));
    add("version", word("application_version"));
    add("application", word("application_name"));
    add("parent", summary.parent.clone());
    add("forked from", word("forked_from"));
    add("created", Some(time(summary.created_at)));
    add("due", column("delay_until_epoch_ms").and_then(Json::as_i64).filter(|_| summary.status == "DELAYED").map(time));
    add("started", summary.started_at.map(time));
    add("ended", summary.ended_at.map(time));
    add("deadline", column("workflow_deadline_epoch_ms").and_then(Json::as_i64).map(time));
    add("duration", list::took(summary, now).map(cells::duration));
    let crash = details.crash.as_ref().map(|crash| {
        format!(
            "{} in a row; last on {} {}: {}",
            crash.crashes,
            crash.worker,
            cells::relative(now, crash.at),
            crash.reason
        )
    });
    add("crashes", crash);
    let unread: Vec<_> = details.unread.iter().map(|(topic, count)| format!("{count} on {topic}")).collect();
    add("messages", (!unread.is_empty()).then(|| unread.join(", ")));
    add("events", Some(details.event_count.to_string()));
    let mut text = cells::fields(&fields);
    for part in [steps(details), children(details), tail(details), outcome(details)] {
        if !part.is_empty() {
            text.push('\n');
            text.push_str(&part);
        }
    }
    text
}

fn steps(details: &Details) -> String {
    if details.steps.is_empty() {
        return String::new();
    }
    let row = |step: &Step| {
        let error = step_error(step);
        let said = match (&step.child, &error) {
            (_, Some(error)) => Cell::new(error, 100).toned(Some(Tone::Bad)),
            (Some(child), None) => Cell::new(format!("child {child}"), 100),
            (None, None) => Cell::default(),
        };
        vec![
            Cell::from(step.number),
            Cell::new(&step.name, 40),
            Cell::or_dash(known(step.started_at).map(cells::iso), 30),
            Cell::or_dash(took(step).map(cells::duration), 12),
            said,
        ]
    };
    let mut text =
        cells::table(&["STEP", "NAME", "STARTED", "TOOK", ""], &details.steps.iter().map(row).collect::<Vec<_>>());
    let left = details.step_count - i64::try_from(details.steps.len()).unwrap_or(i64::MAX);
    if left > 0 {
        text.push_str(&format!("… and {left} more\n"));
    }
    text
}

fn children(details: &Details) -> String {
    if details.children.is_empty() {
        return String::new();
    }
    let rows: Vec<_> =
        details.children.iter().map(|(id, status)| vec![Cell::new(id, 60), list::status(status)]).collect();
    let mut text = cells::table(&["CHILD", "STATUS"], &rows);
    let left = details.child_count - i64::try_from(details.children.len()).unwrap_or(i64::MAX);
    if left > 0 {
        text.push_str(&format!("… and {left} more\n"));
    }
    text
}

fn tail(details: &Details) -> String {
    let mut text = String::new();
    for (offset, event) in events(details) {
        let said = event.as_ref().map_or_else(|| "(large)".to_owned(), describe);
        text.push_str(&format!("{}\n", cells::clip(&format!("event {offset}  {said}"), EVENT)));
    }
    text
}

fn outcome(details: &Details) -> String {
    match result(details) {
        None => String::new(),
        Some(Err(error)) => format!("error: {}\n", cells::clip(&error, RESULT)),
        Some(Ok(_)) if details.view.output.is_none() && details.output_size.is_some() => {
            format!("result: {} bytes, too large to be shown\n", details.output_size.unwrap_or_default())
        }
        Some(Ok(result)) => {
            let result = output::escaped(serde_json::to_string_pretty(&result).unwrap_or_default());
            match result.char_indices().nth(RESULT) {
                Some((end, _)) => format!("result: {}\n… cut off; --json has all of it\n", &result[..end]),
                None => format!("result: {result}\n"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::sysdb::{
        WorkflowView,
        operator::{Crash, Row, Summary},
    };

    fn step(number: i32, name: &str, began: i64, took: i64) -> Step {
        Step {
            number,
            name: name.into(),
            started_at: Some(1_700_000_001_000 + began),
            completed_at: Some(1_700_000_001_000 + began + took),
            child: None,
            has_output: true,
            has_error: false,
            error: None,
            serialization: Some("portable_json".into()),
        }
    }

    fn details() -> Details {
        let error = r#"{"name":"FlowError","message":"node fetch: no answer"}"#;
        let summary = Summary {
            id: WorkflowId::new("EX1"),
            status: "ERROR".into(),
            name: Some("executeFireFlow".into()),
            queue: Some("fireflow-executions".into()),
            flow: Some("report".into()),
            worker: Some("worker-1".into()),
            parent: None,
            attempts: 2,
            created_at: 1_700_000_000_000,
            started_at: Some(1_700_000_001_000),
            ended_at: Some(1_700_000_003_450),
            error: Some("node fetch: no answer".into()),
            stored_error: None,
            inputs: None,
            serialization: Some("portable_json".into()),
        };
        let failed = Step {
            has_output: false,
            has_error: true,
            error: Some(error.into()),
            ..step(2, "executeFlowAtomic", 20, 2400)
        };
        let child = Step { child: Some("EX1-child".into()), ..step(3, "executeFireFlow", 0, 0) };
        let event = r#"{"executionId":"EX1","event":{"index":7,"type":"node:failed","timestamp":"2023-11-14T22:13:23.400Z","data":{"json":{"nodeId":"fetch"}}}}"#;
        Details {
            summary,
            columns: json!({"priority": 5, "application_version": "1.0.0", "forked_from": "EX0"}),
            row: Some(Row { columns: json!({"status": "failed"}), status: "failed".into() }),
            view: WorkflowView {
                status: "ERROR".into(),
                serialization: Some("portable_json".into()),
                output: None,
                error: Some(error.into()),
            },
            output_size: None,
            steps: vec![step(0, "DBOS.writeStream", 0, 5), step(1, "updateToRunning", 5, 5), failed, child],
            step_count: 9,
            children: vec![("EX1-child".into(), "CANCELLED".into())],
            child_count: 1,
            event_count: 8,
            events: vec![(6, None), (7, Some(event.into()))],
            unread: vec![("COMMAND".into(), 2)],
            crash: Some(Crash {
                crashes: 1,
                worker: "worker-0".into(),
                reason: "its process was gone".into(),
                at: 1_700_000_000_500,
            }),
            now: 1_700_000_090_000,
        }
    }

    #[test]
    fn an_execution_for_people() {
        let expected = "\
execution    EX1
status       failed  (ERROR)
flow         report
workflow     executeFireFlow
queue        fireflow-executions
priority     5
worker       worker-1
attempts     2
version      1.0.0
forked from  EX0
created      2023-11-14T22:13:20Z (1m ago)
started      2023-11-14T22:13:21Z (1m ago)
ended        2023-11-14T22:13:23.45Z (1m ago)
duration     2.4s
crashes      1 in a row; last on worker-0 1m ago: its process was gone
messages     2 on COMMAND
events       8

STEP  NAME               STARTED                   TOOK
0     DBOS.writeStream   2023-11-14T22:13:21Z      5ms
1     updateToRunning    2023-11-14T22:13:21.005Z  5ms
2     executeFlowAtomic  2023-11-14T22:13:21.02Z   2.4s  node fetch: no answer
3     executeFireFlow    2023-11-14T22:13:21Z      0ms   child EX1-child
… and 5 more

CHILD      STATUS
EX1-child  cancelled

event 6  (large)
event 7  2023-11-14T22:13:23.400Z  node:failed  fetch

error: node fetch: no answer
";
        assert_eq!(text(&details()), expected);
        let mut completed = details();
        completed.view.status = "SUCCESS".into();
        completed.view.output = Some(format!("\"{}\"", "long ".repeat(2000)));
        let shown = outcome(&completed);
        assert!(shown.ends_with("… cut off; --json has all of it\n") && shown.len() < 4100, "{}", shown.len());
        completed.view.output = None;
        completed.output_size = Some(5_000_000);
        assert_eq!(outcome(&completed), "result: 5000000 bytes, too large to be shown\n");
        let shown = as_json(&completed);
        assert_eq!((&shown["result"], &shown["result_bytes"]), (&Json::Null, &json!(5_000_000)));
    }

    #[test]
    fn an_execution_for_scripts() {
        let shown = as_json(&details());
        assert_eq!((&shown["id"], &shown["state"]), (&json!("EX1"), &json!("failed")));
        assert_eq!((&shown["error"], &shown["result"]), (&json!("node fetch: no answer"), &Json::Null));
        let step = json!({
            "step": 2, "name": "executeFlowAtomic", "started_at": "2023-11-14T22:13:21.02Z",
            "completed_at": "2023-11-14T22:13:23.42Z", "duration_ms": 2400, "child": null, "error": "node fetch: no answer",
        });
        assert_eq!((&shown["steps"][2], &shown["step_count"]), (&step, &json!(9)));
        assert_eq!(shown["children"], json!([{"id": "EX1-child", "status": "CANCELLED"}]));
        assert_eq!((&shown["events"][0], &shown["events"][1]["event"]["index"]), (&Json::Null, &json!(7)));
        assert_eq!(shown["unread"], json!([{"topic": "COMMAND", "messages": 2}]));
        assert_eq!(shown["crashes"]["crashes"], 1);
    }
}
