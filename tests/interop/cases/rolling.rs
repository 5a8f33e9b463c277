//! From Fireflow's own worker to ours: its SDK, 4.4.9, made the database, and a worker of it goes on for a while.

use serde_json::json;

use super::stage::{Stage, execution, task, with};
use crate::{
    interop::{
        client::Client,
        executor::{Executor, ExecutorOptions},
        setup::Lang,
    },
    support::{TestDatabase, worker::program},
};

/// Fireflow's worker has this executor id, whatever it is told.
const THEIRS: &str = "local";

#[tokio::test]
async fn fireflows_own_worker_and_client_go_on_over_the_migration_and_beside_ours() {
    let database = TestDatabase::new().await;
    let url = database.url();
    // The SDK's worker makes the schema; its options mean nothing to so early a one but for queue and version.
    let Some(old) = Executor::start(Lang::TypeScript44, &url, &ExecutorOptions::default()).await else { return };
    let Some(client) = Client::start(Lang::TypeScript44, Some(&url), None).await else { return };
    let sql = database.client().await;
    let level = "SELECT version FROM dbos.dbos_migrations";
    assert_eq!(sql.query_one(level, &[]).await.unwrap().get::<_, i64>(0), 28);

    let done = client.enqueue(task("done", json!([{"executionId": "done", "result": "before"}]))).await;
    assert_eq!(client.result(&done).await.unwrap()["result"], "before");
    let waits = client.enqueue(task("waits", json!([{"executionId": "waits", "waitForStart": 300}]))).await;
    let recorded =
        "SELECT 1 FROM dbos.operation_outputs WHERE workflow_uuid = 'waits' AND function_name = 'DBOS.sleep'";
    while sql.query_opt(recorded, &[]).await.unwrap().is_none() {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let unserved = with(execution("unserved", "hello-world", json!({"name": "queue"})), json!({"queue": "later"}));
    let unserved = client.enqueue(unserved).await;

    let planned = program(&url).args(["migrate", "--dry-run"]).output().await.unwrap();
    assert!(String::from_utf8_lossy(&planned.stderr).contains(THEIRS), "{planned:?}");
    assert_eq!(sql.query_one(level, &[]).await.unwrap().get::<_, i64>(0), 28);
    let migrated = program(&url).arg("migrate").output().await.unwrap();
    assert!(migrated.status.success(), "{migrated:?}");
    assert_eq!(sql.query_one(level, &[]).await.unwrap().get::<_, i64>(0), 125);

    // Their worker has noticed nothing: what it runs ends, and is read.
    let Some(stage) = Stage::on(database).await else { return };
    let worker = stage.worker(&[]).await;
    assert!(worker.log().contains("older DBOS SDK") && worker.log().contains(THEIRS), "{}", worker.log());
    client.call("send", json!({"id": waits, "topic": "START_SIGNAL", "message": "GO"})).await.unwrap();
    assert_eq!(client.result(&waits).await.unwrap()["signal"], "GO");
    assert_eq!(client.result(&done).await.unwrap()["result"], "before");

    // Both take from the queue, each execution once, and the client reads the results of both.
    let ids: Vec<String> = (0..30).map(|n| format!("shared-{n}")).collect();
    for id in &ids {
        // Theirs answers with the id that the task names.
        let task = task(id, json!([{"executionId": id, "flowId": "hello-world", "inputs": {"name": id}}]));
        client.enqueue(task).await;
    }
    for id in &ids {
        assert_eq!(client.result(id).await.unwrap()["executionId"], json!(id));
    }
    let attempts = "SELECT count(*) FILTER (WHERE recovery_attempts = 1), count(*) FROM dbos.workflow_status
                     WHERE workflow_uuid LIKE 'shared-%' AND status = 'SUCCESS'";
    let attempts = sql.query_one(attempts, &[]).await.unwrap();
    assert_eq!((attempts.get::<_, i64>(0), attempts.get::<_, i64>(1)), (30, 30));

    // What it enqueued before the migration, ours runs after it, alone.
    old.stop().await;
    let later = stage.worker_named("later-worker", &[("queue.name", "later")]).await;
    assert_eq!(client.result(&unserved).await.unwrap()["outputs"], json!({"greeting": "Hello, queue!"}));
    assert!(later.stop().await.success() && worker.stop().await.success());
}

/// Why the two must not serve newer clients together: their worker takes those rows as well, and finds no inputs.
#[tokio::test]
async fn fireflows_own_worker_strands_what_newer_clients_enqueue() {
    let database = TestDatabase::new().await;
    let url = database.url();
    let Some(old) = Executor::start(Lang::TypeScript44, &url, &ExecutorOptions::default()).await else { return };
    assert!(program(&url).arg("migrate").output().await.unwrap().status.success());
    let Some(stage) = Stage::on(database).await else { return };
    let newest = stage.client(Lang::TypeScript);
    newest.enqueue(execution("stranded", "hello-world", json!({}))).await;
    let taken = "SELECT executor_id FROM dbos.workflow_status WHERE workflow_uuid = $1 AND status = 'PENDING'";
    assert_eq!(stage.until::<String>(taken, "stranded", |_| true).await, THEIRS);
    let worker = stage.worker(&[]).await;
    assert!(worker.log().contains("older DBOS SDK"), "{}", worker.log());
    old.stop().await;
    // Cancelled and resumed, it is ours.
    newest.call("cancel", json!({"id": "stranded"})).await.unwrap();
    newest.call("resume", json!({"id": "stranded"})).await.unwrap();
    assert_eq!(newest.result("stranded").await.unwrap()["outputs"], json!({"greeting": "Hello, world!"}));
    assert!(worker.stop().await.success());
}
