//! Real DBOS applications on the same database.

use serde_json::json;

use super::stage::{QUEUE, Stage, WORKER, execution, outputs, task, with};
use crate::{
    interop::{
        executor::{Executor, ExecutorOptions},
        setup::Lang,
    },
    support::TestDatabase,
};

/// The executor migrates the database as its SDK does; the worker uses what it finds. Both are of one application and
/// one version, each with a queue of its own.
async fn share_a_database_with(lang: Lang) {
    let database = TestDatabase::new().await;
    let options = ExecutorOptions { queue: "sdk-queue", ..ExecutorOptions::default() };
    let Some(executor) = Executor::start(lang, &database.url(), &options).await else { return };
    let Some(stage) = Stage::on(database).await else { return };
    let client = stage.client(lang);
    let waits =
        with(task("theirs", json!([{"executionId": "theirs", "waitForStart": 60}])), json!({"queue": "sdk-queue"}));
    client.enqueue(waits).await;
    let recorded =
        "SELECT function_id FROM dbos.operation_outputs WHERE workflow_uuid = $1 AND function_name = 'DBOS.sleep'";
    stage.until::<i32>(recorded, "theirs", |_| true).await;
    let row = "SELECT to_jsonb(w) FROM dbos.workflow_status w WHERE workflow_uuid = $1";
    let before: serde_json::Value = stage.sql.query_one(row, &[&"theirs"]).await.unwrap().get(0);
    assert_eq!((&before["status"], &before["executor_id"]), (&json!("PENDING"), &json!("sdk-executor")));

    // Started twice: the second start recovers what the first one left, and nothing else.
    client.enqueue(with(execution("ours", "parallel", json!({"duration": 1000})), json!({"queue": QUEUE}))).await;
    let worker = stage.worker(&[]).await;
    stage.engine_runs("ours").await;
    worker.kill().await;
    let _worker = stage.worker(&[("worker.lease", "2s")]).await;
    assert_eq!(outputs(client.result("ours").await), json!({"message": "all three are done"}));
    let row_of_ours = client.workflow("ours").await;
    assert_eq!((&row_of_ours["executorId"], &row_of_ours["attempts"]), (&json!(WORKER), &json!(2)));

    let after: serde_json::Value = stage.sql.query_one(row, &[&"theirs"]).await.unwrap().get(0);
    assert_eq!(after, before, "its row is as it was");
    client.call("send", json!({"id": "theirs", "topic": "START_SIGNAL", "message": "GO"})).await.unwrap();
    assert_eq!(client.result("theirs").await.unwrap()["signal"], "GO");
    let row_of_theirs = client.workflow("theirs").await;
    assert_eq!((&row_of_theirs["executorId"], &row_of_theirs["attempts"]), (&json!("sdk-executor"), &json!(1)));
    executor.stop().await;
}

#[tokio::test]
async fn a_typescript_application_on_the_same_database_is_not_disturbed() {
    share_a_database_with(Lang::TypeScript).await;
}

#[tokio::test]
async fn a_python_application_on_the_same_database_is_not_disturbed() {
    share_a_database_with(Lang::Python).await;
}
