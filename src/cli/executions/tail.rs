//! `executions tail`

use std::{process::ExitCode, time::Duration};

use anyhow::bail;
use clap::Args;
use serde_json::{Value as Json, json};

use super::{list::word, parts::describe};
use crate::{
    cli::{Global, access::Access, cells, enqueue, exit, output, trouble::Trouble},
    sysdb::{
        SysdbError, SystemDatabase, WorkflowId,
        operator::{Happened, News, Operator, OperatorError},
    },
};

/// Pause between looks at one execution.
const LOOK: Duration = Duration::from_millis(200);
/// Pause between looks at all.
const LOOK_AT_ALL: Duration = Duration::from_millis(500);
/// As many values as a look at a stream gives.
const FULL: usize = 1000;
/// A line for people is no wider.
const WIDTH: usize = 240;

/// Follow one execution's events to its end, or what happens on the queues.
///
/// The exit code tells how the execution ended: 0 completed, 1 failed, 3 cancelled, 4 parked. With --json each event is a line as
/// it is stored, and the last line is {id, status, state, result, error}. Without an id it tells what comes, begins and ends, until it is interrupted, and the
/// lines are {at, happened, id, flow, queue, worker, status, state, duration_ms, error}; `happened` is created, started or ended.
#[derive(Debug, Args)]
pub struct Tail {
    /// Id of the execution. Without one, all of them
    #[arg(value_name = "ID")]
    id: Option<String>,
    /// Begin with the last N events instead of the first one
    #[arg(long, short = 'n', value_name = "N", requires = "id", value_parser = clap::value_parser!(u32).range(0..=100_000))]
    lines: Option<u32>,
    /// Only on this queue. Without it, all queues of the application. What was cancelled or parked is on none, and is told here if it
    /// was seen on the queue before
    #[arg(long, value_name = "NAME", conflicts_with = "id")]
    queue: Option<String>,
    /// Write a line of JSON for each
    #[arg(long)]
    json: bool,
}

impl Tail {
    pub(super) async fn run(self, global: &Global) -> anyhow::Result<ExitCode> {
        let access = Access::open(global).await?;
        match &self.id {
            Some(id) => self.one(&access.operator, &WorkflowId::new(id.as_str())).await,
            None => self.all(&access.operator).await,
        }
    }

    async fn one(&self, operator: &Operator, id: &WorkflowId) -> anyhow::Result<ExitCode> {
        let sysdb = operator.database();
        if !operator.exists(id).await? {
            return Err(OperatorError::Unknown(id.clone()).into());
        }
        let mut next = match self.lines {
            Some(lines) => {
                operator.stream_length(id).await?.saturating_sub(i32::try_from(lines).unwrap_or(i32::MAX)).max(0)
            }
            None => 0,
        };
        let mut trouble = Trouble::default();
        loop {
            let Some((view, events)) = trouble.or(look(sysdb, id, next).await.map_err(OperatorError::from))? else {
                tokio::time::sleep(LOOK * 5).await;
                continue;
            };
            let Some(view) = view else { bail!("execution \"{id}\" was deleted") };
            for event in &events {
                let line = match (self.json, serde_json::from_str::<Json>(event)) {
                    (true, Ok(event)) => output::json_line(&event)?,
                    (true, Err(_)) => output::json_line(&event)?,
                    (false, Ok(event)) => cells::clip(&describe(&event), WIDTH) + "\n",
                    (false, Err(_)) => cells::clip(event, WIDTH) + "\n",
                };
                if !output::text(line) {
                    return Ok(ExitCode::SUCCESS); // nobody reads on
                }
            }
            next = next.saturating_add(i32::try_from(events.len()).unwrap_or(i32::MAX));
            if view.has_ended() && events.len() < FULL {
                let outcome = enqueue::outcome(&view);
                let (result, error) = (outcome.as_ref().ok(), outcome.as_ref().err());
                match (self.json, error) {
                    (true, _) => {
                        let state = word(&view.status);
                        let end = json!({"id": id.as_str(), "status": view.status, "state": state, "result": result, "error": error});
                        output::text(output::json_line(&end)?);
                    }
                    (false, None) => output::note(format!("execution {id} completed")),
                    (false, Some(error)) => output::note(format!("execution {id} is {}: {error}", word(&view.status))),
                }
                return Ok(ExitCode::from(code(&view.status)));
            }
            if events.len() < FULL {
                tokio::time::sleep(LOOK).await;
            }
        }
    }

    async fn all(&self, operator: &Operator) -> anyhow::Result<ExitCode> {
        let mut since = operator.now(self.queue.as_deref()).await?;
        let (mut trouble, mut more) = (Trouble::default(), false);
        loop {
            if !more {
                tokio::time::sleep(LOOK_AT_ALL).await;
            }
            let Some((news, rest)) = trouble.or(operator.news(&mut since).await)? else {
                more = false;
                continue;
            };
            more = rest;
            for news in news {
                let line = if self.json { output::json_line(&as_json(&news))? } else { line(&news) };
                if !output::text(line) {
                    return Ok(ExitCode::SUCCESS);
                }
            }
        }
    }
}

/// The status first: what was written before the end is there then.
async fn look(
    sysdb: &SystemDatabase,
    id: &WorkflowId,
    from: i32,
) -> Result<(Option<crate::sysdb::WorkflowView>, Vec<String>), SysdbError> {
    let view = sysdb.workflow(id).await?;
    Ok((view, sysdb.stream(id, "events", from).await?))
}

fn code(status: &str) -> u8 {
    match status {
        "SUCCESS" => 0,
        "CANCELLED" => exit::CANCELLED,
        "MAX_RECOVERY_ATTEMPTS_EXCEEDED" => exit::PARKED,
        _ => exit::FAILURE,
    }
}

fn happened(news: &News) -> &'static str {
    match news.happened {
        Happened::Created => "created",
        Happened::Started => "started",
        Happened::Ended => "ended",
    }
}

/// From its creation, waiting in the queue included: when it began is no longer known for all.
fn took(news: &News) -> Option<i64> {
    (news.happened == Happened::Ended).then(|| news.at.saturating_sub(news.created_at).max(0))
}

fn as_json(news: &News) -> Json {
    json!({
        "at": cells::iso(news.at), "happened": happened(news), "id": news.id, "flow": news.flow, "queue": news.queue,
        "worker": news.worker, "status": news.status, "state": word(&news.status), "duration_ms": took(news), "error": news.error,
    })
}

fn line(news: &News) -> String {
    let mut parts = vec![cells::iso(news.at), format!("{:7}", happened(news)), news.id.clone()];
    match news.happened {
        Happened::Created => parts.extend(news.queue.as_ref().map(|queue| format!("on {queue}"))),
        Happened::Started => parts.extend(news.worker.as_ref().map(|worker| format!("by {worker}"))),
        Happened::Ended => {
            parts.push(word(&news.status));
            parts.extend(took(news).map(|took| format!("after {}", cells::duration(took))));
        }
    }
    parts.extend(news.flow.as_ref().map(|flow| format!("flow {flow}")));
    parts.extend(news.error.clone());
    cells::clip(&parts.join("  "), WIDTH) + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_happens_is_a_line_each() {
        let news = News {
            happened: Happened::Created,
            at: 1_700_000_000_000,
            id: "EX1".into(),
            status: "ENQUEUED".into(),
            queue: Some("fireflow-executions".into()),
            flow: None,
            worker: None,
            created_at: 1_700_000_000_000,
            error: None,
        };
        let started = News {
            happened: Happened::Started,
            at: 1_700_000_000_250,
            status: "PENDING".into(),
            flow: Some("report".into()),
            worker: Some("w1".into()),
            ..news.clone()
        };
        let ended = News {
            happened: Happened::Ended,
            at: 1_700_000_012_300,
            status: "ERROR".into(),
            error: Some("no\nanswer".into()),
            ..started.clone()
        };
        let expected = "\
2023-11-14T22:13:20Z  created  EX1  on fireflow-executions
2023-11-14T22:13:20.25Z  started  EX1  by w1  flow report
2023-11-14T22:13:32.3Z  ended    EX1  failed  after 12.3s  flow report  no answer
";
        assert_eq!([&news, &started, &ended].map(line).concat(), expected);
        let expected = json!({
            "at": "2023-11-14T22:13:32.3Z", "happened": "ended", "id": "EX1", "flow": "report", "queue": "fireflow-executions",
            "worker": "w1", "status": "ERROR", "state": "failed", "duration_ms": 12_300, "error": "no\nanswer",
        });
        assert_eq!(as_json(&ended), expected);
    }
}
