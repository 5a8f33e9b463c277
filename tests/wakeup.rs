//! Workers are told of what comes onto their queues, where the operator allows it; else they look for it.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, also in its helpers")]

mod support;

use serde_json::{Value as Json, json};
use support::{
    bench::Bench,
    client::QUEUE,
    flows::echo,
    worker::{WorkerProcess, program},
};

const ON: (&str, &str) = ("FIREFLOW__QUEUE__NOTIFY_TRIGGER", "true");
const TOLD: &str = "told of work";

/// The steps of `migrate`.
async fn migrate(url: &str, arguments: &[&str]) -> Vec<String> {
    let mut command = program(url);
    let output = command.args(["migrate", "--json"]).args(arguments).env(ON.0, ON.1).output().await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let told: Json = serde_json::from_slice(&output.stdout).unwrap();
    told["steps"].as_array().unwrap().iter().map(|step| step.as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn migrate_makes_the_triggers_only_where_they_are_asked_for_and_once() {
    let bench = Bench::with(|_| vec![]).await;
    let url = bench.database.url();
    let triggers = "SELECT string_agg(tgname, ' ' ORDER BY tgname) FROM pg_trigger WHERE tgname LIKE 'fireflow%'";
    let there = async || bench.client.sql().query_one(triggers, &[]).await.unwrap().get::<_, Option<String>>(0);
    let output = program(&url).arg("migrate").output().await.unwrap();
    assert!(output.status.success());
    assert_eq!(there().await, None);

    let plan = migrate(&url, &["--dry-run"]).await;
    assert_eq!(plan, ["CREATE TRIGGER, two, on dbos.workflow_status: announce enqueues"]);
    assert_eq!(there().await, None);
    let made = migrate(&url, &[]).await;
    assert_eq!(made, ["created triggers on dbos.workflow_status that announce enqueues"]);
    assert_eq!(there().await.as_deref(), Some("fireflow_enqueued fireflow_requeued"));
    assert_eq!(migrate(&url, &[]).await, [""; 0]);
}

#[tokio::test]
async fn an_announced_enqueue_wakes_the_worker_whatever_brings_the_row() {
    let bench = Bench::with(|_| vec![echo("echo")]).await;
    migrate(&bench.database.url(), &[]).await;
    let worker = bench.worker("told", &[]).await;
    worker.says("announcements are heard").await;
    let told = async |times: usize| worker.says_times(TOLD, times).await;
    bench.client.enqueue("one", "echo", json!({"text": "1"})).await;
    told(1).await;
    bench.client.until("one", "SUCCESS").await;
    // Somebody else's queue is none of its business.
    let other = "SELECT dbos.enqueue_workflow('executeFireFlow', 'others', ARRAY['{}'::json], workflow_id => 'other')";
    bench.client.sql().query(other, &[]).await.unwrap();
    // Many at once are one announcement.
    let many = "SELECT dbos.enqueue_workflow('executeFireFlow', $1, class_name => 'ExecutionWorkflows', workflow_id => 'm' || n,
                       positional_args => ARRAY[json_build_object('executionId', 'm' || n, 'flowId', 'echo',
                       'inputs', json_build_object('text', 'x'))]) FROM generate_series(1, 20) n";
    bench.client.sql().query(many, &[&QUEUE]).await.unwrap();
    told(2).await;
    bench.client.until("m20", "SUCCESS").await;
    // A resumed one comes back by the internal queue, which is announced as well.
    let cancelled =
        "UPDATE dbos.workflow_status SET status = 'CANCELLED', queue_name = NULL WHERE workflow_uuid = 'other'";
    bench.client.execute(cancelled, &[]).await;
    let resumed = "UPDATE dbos.workflow_status SET status = 'ENQUEUED', queue_name = '_dbos_internal_queue',
                          class_name = 'ExecutionWorkflows' WHERE workflow_uuid = 'other'";
    bench.client.execute(resumed, &[]).await;
    told(3).await;
    bench.client.until("other", "ERROR").await; // its task is empty
    assert_eq!(worker.log().matches(TOLD).count(), 3, "{}", worker.log());
}

#[tokio::test]
async fn without_triggers_it_looks_by_itself() {
    let bench = Bench::with(|_| vec![echo("echo")]).await;
    let worker: WorkerProcess = bench.worker("looks", &[]).await;
    bench.client.enqueue("one", "echo", json!({"text": "1"})).await;
    bench.client.until("one", "SUCCESS").await;
    assert!(!worker.log().contains(TOLD));
}
