//! Plays a scenario's steps against the real worker on a real database, and gives the rows that are there then.

use std::time::Duration;

use serde_json::{Value as Json, json};
use tokio_postgres::Client;

use super::{
    api::Api,
    rows::{self, Rows},
};
use crate::{
    golden::compare::Comparison,
    support::TestDatabase,
    support::worker::{PATIENCE, WorkerProcess, program},
};

/// The worker with the names of the original's server.
const SETTINGS: &[(&str, &str)] = &[
    ("database.table_prefix", "chaingraph_"),
    ("queue.name", "chaingraph-executions"),
    ("execution.workflow_name", "executeChainGraph"),
    ("execution.start", "signal"),
    ("worker.application_name", "chaingraph-executor"),
];
/// Its id.
pub const WORKER: &str = "golden";

/// Of an execution's children, one sleeps and has nothing else to do; the others have ended.
const ONE_CHILD_SLEEPS: &str = "
WITH child AS (SELECT workflow_uuid, status FROM dbos.workflow_status WHERE parent_workflow_id = $1),
     event AS (SELECT value::jsonb #>> '{event,type}' AS kind, value::jsonb #>> '{event,data,json,node,id}' AS node
                 FROM dbos.streams JOIN child USING (workflow_uuid) WHERE status = 'PENDING')
SELECT (SELECT count(*) FROM child WHERE status <> 'SUCCESS') = 1
   AND ARRAY(SELECT node FROM event WHERE kind = 'node:started' EXCEPT SELECT node FROM event WHERE kind = 'node:completed')
     = '{NOsleep}'
   AND EXISTS (SELECT FROM event WHERE kind = 'node:completed' AND node = 'NOlen')";
/// All of an execution's children have ended.
const NO_CHILD_RUNS: &str = "
SELECT bool_and(status NOT IN ('ENQUEUED', 'PENDING', 'DELAYED')) FROM dbos.workflow_status WHERE parent_workflow_id = $1";

/// A scenario being played.
struct Play<'a> {
    scenario: &'a Json,
    url: String,
    api: Api<'a>,
    settings: Vec<(&'a str, &'a str)>,
    worker: Option<WorkerProcess>,
}

/// All rows of the execution and its children, after the last step and after the worker has ended: nothing can write to them any more.
pub async fn play(scenario: &Json) -> Vec<Rows> {
    let database = TestDatabase::new().await;
    let client = database.client().await;
    // Times in the tables are UTC, wherever the server stands.
    let zone = format!("ALTER DATABASE {} SET timezone = 'Asia/Kolkata'", database.name());
    client.batch_execute(&format!("{zone}; SET timezone = 'Asia/Kolkata'")).await.unwrap();
    let mut settings = SETTINGS.to_vec();
    for (key, value) in scenario["settings"].as_object().into_iter().flatten() {
        settings.push((key.as_str(), value.as_str().unwrap()));
    }
    let url = database.url();
    migrate(&url).await;
    let api = Api { client: &client, id: execution_id() };
    api.store_flow(&scenario["flow"]).await;
    let mut play = Play { scenario, url, api, settings, worker: None };
    let steps: Vec<&str> = scenario["steps"].as_array().unwrap().iter().map(|step| step.as_str().unwrap()).collect();
    if steps[0] != "no worker runs" {
        play.start_worker().await;
    }
    for (at, step) in steps.iter().enumerate() {
        // In one go: the worker doesn't see the workflow before its signal.
        if steps.get(at + 1).is_some_and(|next| next.ends_with("start at once")) {
            client.batch_execute("BEGIN").await.unwrap();
        }
        play.step(step).await;
        if step.ends_with("start at once") {
            client.batch_execute("COMMIT").await.unwrap();
        }
    }
    let ended = play.worker.take().unwrap().stop().await;
    assert!(ended.success(), "{}: the worker ended with {ended}", scenario["name"]);
    let rows = rows::read(&client, &play.api.id).await;
    // Dropping blocks until the server has dropped the database, for which every session that logs in has to answer it:
    // never on a thread that another scenario's login needs.
    tokio::task::spawn_blocking(move || drop(database)).await.unwrap();
    rows
}

impl Play<'_> {
    async fn step(&mut self, step: &str) {
        let row = &self.scenario["executions"][0]["rows"]["public.<prefix>executions"][0];
        let task = &self.scenario["task"];
        match step {
            "no worker runs" | "nothing for 300 s" => {} // start_timeout is shorter here
            "API create" | "API create with options.debug" => self.api.create(row, task).await,
            "API start" | "API start at once" => self.api.start().await,
            "API stop with a reason" | "API stop of the parent with a reason" => {
                self.api.stop("stopped by the test").await
            }
            "API stop without a reason" => self.api.stop("stopped by the user").await,
            "API pause with a reason" => self.api.pause("asked by the test").await,
            "wait for debug:breakpoint-hit" => {
                self.wait_for_event("debug:breakpoint-hit").await;
                self.wait_until("SELECT status = 'paused' FROM chaingraph_executions WHERE id = $1").await;
            }
            "API resume" => self.api.resume().await,
            "SQL enqueue" => self.api.enqueue_by_sql(task).await,
            "SQL start" | "SQL start at once" => self.api.start_by_sql().await,
            "SDK cancel" => self.api.cancel_by_sdk().await,
            "the flow row is deleted" => self.api.delete_flow(row["flow_id"].as_str().unwrap()).await,
            "a worker starts" | "a new worker starts" => self.start_worker().await,
            "SIGKILL" => {
                self.worker.take().unwrap().kill().await;
                self.compare_at_the_kill().await;
            }
            "wait for the execution:created event" | "wait for execution:created" => {
                self.wait_for_event("execution:created").await;
                // The timer is recorded next, then it waits.
                self.wait_until(
                    "SELECT EXISTS (SELECT FROM dbos.operation_outputs WHERE workflow_uuid = $1 AND function_id = 2)",
                )
                .await;
            }
            // The other child has nothing to do, and a node beside the sleeping one ends.
            "wait for node:started of NOsleep in the child" => {
                self.wait_until(ONE_CHILD_SLEEPS).await;
            }
            "wait for the first node:started" => self.wait_for_event("node:started").await,
            "wait for the end" => {
                self.wait_until(
                    "SELECT status NOT IN ('ENQUEUED', 'PENDING', 'DELAYED') FROM dbos.workflow_status WHERE workflow_uuid = $1",
                )
                .await;
            }
            // Short pauses let rows arrive, for which we wait; the long ones follow a stop.
            "wait 300 ms" | "wait 500 ms" | "wait 1 s" => {}
            "wait 4 s" | "wait 5 s" => self.settle().await,
            "wait 8 s" => self.wait_until(NO_CHILD_RUNS).await,
            _ => panic!("{}: nobody knows how to \"{step}\"", self.scenario["name"]),
        }
    }

    /// What is there at the moment of the kill, where a scenario tells it.
    async fn compare_at_the_kill(&self) {
        let recorded = &self.scenario["note"]["rowsAtTheKill"];
        if recorded.is_null() {
            return;
        }
        let rows = rows::read(self.api.client, &self.api.id).await.swap_remove(0);
        let workflow = &rows["dbos.workflow_status"][0];
        let steps = rows["dbos.operation_outputs"].as_array().unwrap().iter();
        let ours = json!({
            "status": workflow["status"],
            "executor_id": workflow["executor_id"].as_str().filter(|id| *id == WORKER).map(|_| "local"),
            "recovery_attempts": workflow["recovery_attempts"],
            "queue_name": workflow["queue_name"],
            "deduplication_id": workflow["deduplication_id"],
            "started_at_epoch_ms": workflow["started_at_epoch_ms"],
            "operation_outputs": steps.map(|step| json!([step["function_id"], step["function_name"]])).collect::<Vec<_>>(),
            "streams": rows["dbos.streams"].as_array().unwrap().len(),
            "executions.status": rows["public.<prefix>executions"][0]["status"],
        });
        let mut comparison = Comparison::default();
        comparison.compare("at the kill", recorded, &ours);
        assert!(comparison.found.is_empty(), "{}: {:#?}", self.scenario["name"], comparison.found);
    }

    async fn start_worker(&mut self) {
        self.worker = Some(WorkerProcess::start(&self.url, WORKER, &self.settings).await);
    }

    /// After a stop: the worker has let go of the execution, or, when it never had it, has run one that came later.
    async fn settle(&self) {
        let taken = "SELECT recovery_attempts > 0 FROM dbos.workflow_status WHERE workflow_uuid = $1";
        if ask(self.api.client, taken, &self.api.id).await {
            return self.worker.as_ref().unwrap().says("execution stopped").await;
        }
        let api = Api { client: self.api.client, id: execution_id() };
        let (url, settings) = (self.url.clone(), self.settings.clone());
        let mut later = Play { scenario: self.scenario, url, api, settings, worker: None };
        for step in ["API create", "API start", "wait for the end"] {
            Box::pin(later.step(step)).await;
        }
    }

    async fn wait_for_event(&self, kind: &str) {
        let sql = format!(
            "SELECT EXISTS (SELECT FROM dbos.streams WHERE workflow_uuid = $1 AND value::jsonb #>> '{{event,type}}' = '{kind}')"
        );
        self.wait_until(&sql).await;
    }

    async fn wait_until(&self, sql: &str) {
        let waiting = async {
            while !ask(self.api.client, sql, &self.api.id).await {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        if tokio::time::timeout(PATIENCE, waiting).await.is_err() {
            let log = self.worker.as_ref().map(WorkerProcess::log).unwrap_or_default();
            panic!("{}: waited in vain for {sql}\n{log}", self.scenario["name"]);
        }
    }
}

async fn ask(client: &Client, sql: &str, id: &str) -> bool {
    client.query_one(sql, &[&id]).await.unwrap().get(0)
}

async fn migrate(url: &str) {
    let mut command = program(url);
    command.arg("migrate").env("FIREFLOW__DATABASE__TABLE_PREFIX", "chaingraph_");
    let output = command.output().await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn execution_id() -> String {
    format!("EX{}", &uuid::Uuid::new_v4().simple().to_string()[..24])
}
