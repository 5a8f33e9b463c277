//! `workers`: who lives, and what they have.

use std::process::ExitCode;

use clap::Args;
use serde_json::{Value as Json, json};

use super::{
    Global,
    access::Access,
    cells::{self, Cell},
    output::{self, Tone},
    watch::Watch,
};
use crate::{
    execution::WORKED,
    sysdb::operator::{WorkerRow, WorkerState},
};

/// Show the workers, their leases, and what they have.
///
/// All of the application: those that live, those that ended or died within the last day, and executors of other SDKs that have
/// claimed executions.
///
/// What runs and waits is counted in the database. JSON: [{id, state, alive, incarnation, host, pid, version, application_version, queues,
/// since, renewed_at, expires_at, expires_in_ms, drain_asked_at, running, waiting, at_least}]; `state` is running, draining, stopped,
/// expired or unregistered. The 20,000 oldest claimed executions are looked at; where there are more, a worker may have more than is
/// shown, and `at_least` is true.
#[derive(Debug, Args)]
pub struct Workers {
    /// Only those that live
    #[arg(long)]
    alive: bool,
    /// Write JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    watch: Watch,
}

impl Workers {
    pub(super) async fn run(self, global: &Global) -> anyhow::Result<ExitCode> {
        let access = Access::open(global).await?;
        self.watch
            .show(async || {
                let (mut workers, now) = access.operator.workers(WORKED).await?;
                workers.retain(|worker| !self.alive || is_alive(worker));
                if self.json {
                    let all: Vec<_> = workers.iter().map(|worker| as_json(worker, now)).collect();
                    return if self.watch.goes_on() { output::json_line(&all) } else { output::json_text(&all) };
                }
                if workers.is_empty() && !self.watch.goes_on() {
                    output::note("no workers");
                    return Ok(String::new());
                }
                Ok(table(&workers, now))
            })
            .await?;
        Ok(ExitCode::SUCCESS)
    }
}

fn is_alive(worker: &WorkerRow) -> bool {
    matches!(worker.state, WorkerState::Running | WorkerState::Draining)
}

fn word(state: WorkerState) -> &'static str {
    match state {
        WorkerState::Running => "running",
        WorkerState::Draining => "draining",
        WorkerState::Stopped => "stopped",
        WorkerState::Expired => "expired",
        WorkerState::Unregistered => "unregistered",
    }
}

fn table(workers: &[WorkerRow], now: i64) -> String {
    let row = |worker: &WorkerRow| {
        let tone = match worker.state {
            WorkerState::Running => Some(Tone::Good),
            WorkerState::Draining | WorkerState::Unregistered => Some(Tone::Odd),
            WorkerState::Expired => Some(Tone::Bad),
            WorkerState::Stopped => None,
        };
        let held = |count: i64| Cell::from(format!("{count}{}", if worker.at_least { "+" } else { "" }));
        let ago = |then: Option<i64>| Cell::or_dash(then.map(|then| cells::relative(now, then)), 16);
        vec![
            Cell::new(&worker.id, 40),
            Cell::from(word(worker.state)).toned(tone),
            ago(worker.since),
            ago(worker.renewed_at),
            ago(worker.expires_at),
            held(worker.running),
            held(worker.waiting),
            Cell::or_dash(worker.version.as_deref(), 16),
            Cell::or_dash(worker.host.as_deref(), 32),
            Cell::or_dash(worker.queues.as_deref(), 60),
        ]
    };
    let header =
        ["WORKER", "STATE", "SINCE", "RENEWED", "LEASE ENDS", "RUNNING", "WAITING", "VERSION", "HOST", "QUEUES"];
    cells::table(&header, &workers.iter().map(row).collect::<Vec<_>>())
}

fn as_json(worker: &WorkerRow, now: i64) -> Json {
    json!({
        "id": worker.id,
        "state": word(worker.state),
        "alive": is_alive(worker),
        "incarnation": worker.incarnation.map(|incarnation| incarnation.to_string()),
        "host": worker.host,
        "pid": worker.pid,
        "version": worker.version,
        "application_version": worker.application_version,
        "queues": worker.queues,
        "since": worker.since.map(cells::iso),
        "renewed_at": worker.renewed_at.map(cells::iso),
        "expires_at": worker.expires_at.map(cells::iso),
        "expires_in_ms": worker.expires_at.map(|expires| expires.saturating_sub(now)),
        "drain_asked_at": worker.drain_asked_at.map(cells::iso),
        "running": worker.running,
        "waiting": worker.waiting,
        "at_least": worker.at_least,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn worker(id: &str, state: WorkerState) -> WorkerRow {
        WorkerRow {
            id: id.into(),
            incarnation: None,
            state,
            host: Some("host-1".into()),
            pid: Some(7),
            version: Some("0.1.0".into()),
            application_version: Some("1.0.0".into()),
            queues: Some("fireflow-executions".into()),
            since: Some(1_700_000_000_000),
            renewed_at: Some(1_700_007_198_000),
            expires_at: Some(1_700_007_228_000),
            drain_asked_at: None,
            running: 3,
            waiting: 1,
            at_least: false,
        }
    }

    #[test]
    fn workers_for_people_and_scripts() {
        let dead = WorkerRow { expires_at: Some(1_700_007_000_000), ..worker("worker-2", WorkerState::Expired) };
        let foreign = WorkerRow {
            at_least: true,
            host: None,
            version: None,
            queues: None,
            since: None,
            renewed_at: None,
            expires_at: None,
            waiting: 0,
            ..worker("local", WorkerState::Unregistered)
        };
        let workers = [worker("worker-1", WorkerState::Running), dead, foreign];
        let expected = "\
WORKER    STATE         SINCE   RENEWED  LEASE ENDS  RUNNING  WAITING  VERSION  HOST    QUEUES
worker-1  running       2h ago  2s ago   in 28s      3        1        0.1.0    host-1  fireflow-executions
worker-2  expired       2h ago  2s ago   3m ago      3        1        0.1.0    host-1  fireflow-executions
local     unregistered  -       -        -           3+       0+       -        -       -
";
        assert_eq!(table(&workers, 1_700_007_200_000), expected);
        let shown = as_json(&workers[0], 1_700_007_200_000);
        assert_eq!((&shown["alive"], &shown["expires_in_ms"]), (&json!(true), &json!(28_000)));
        assert_eq!(as_json(&workers[1], 0)["state"], "expired");
    }
}
