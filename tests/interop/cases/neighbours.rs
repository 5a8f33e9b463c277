//! Real DBOS applications on the same database.

use serde_json::json;

use super::stage::{QUEUE, Stage, WORKER, execution, outputs, task, with};
use crate::{
    interop::{
        executor::{Executor, ExecutorOptions},
        setup::Lang,
    },
    support::{TestDatabase, worker::PATIENCE},
};

/// The executor migrates the database as its SDK does; the worker uses what it finds. Both are of one application and
/// one version, each with a queue of its own.
async fn share_a_database_with(lang: Lang) {
    let database = TestDatabase::new().await;
    let options = ExecutorOptions { queue: "sdk-queue", ..ExecutorOptions::default() };
    let Some(executor) = Executor::start(lang, &database.url(), &options).await else { return };
    let earlier = lang != lang.newest();
    let stage = if earlier { Stage::as_it_is(database).await } else { Stage::on(database).await };
    let Some(mut stage) = stage else { return };
    if earlier && !stage.join(&[lang]).await {
        return;
    }
    assert_eq!(stage.has_payload_tables, !earlier);
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
async fn an_application_of_the_earlier_typescript_sdk_goes_on_with_its_schema() {
    share_a_database_with(Lang::TypeScript4).await;
}

#[tokio::test]
async fn an_application_of_the_earlier_python_sdk_goes_on_with_its_schema() {
    share_a_database_with(Lang::Python2).await;
}

/// An executor of the earlier generation and the worker on one queue, on a schema of that generation. Both know the
/// workflow: each execution is run once, by one of them.
async fn share_a_queue_with(lang: Lang) {
    let database = TestDatabase::new().await;
    // It also runs every other queue of its application that it finds.
    let options = ExecutorOptions { queue: "sdk-queue", ..ExecutorOptions::default() };
    let Some(executor) = Executor::start(lang, &database.url(), &options).await else { return };
    let Some(stage) = Stage::as_it_is(database).await else { return };
    assert!(!stage.has_payload_tables);
    // The limit is there before anybody looks: a claim that is under way while it changes goes by the earlier one. Neither
    // process has room for all three, so that both take part.
    let register = "INSERT INTO dbos.queues (name, concurrency, worker_concurrency) VALUES ($1, 0, 2)";
    stage.sql.execute(register, &[&QUEUE]).await.unwrap();
    let worker = stage.worker(&[]).await;
    // All at once, and each a millisecond after the other: of rows that come in between, or that are of the same age and so in
    // no order, some may pass the limit beside an SDK.
    let enqueue = "SELECT dbos.enqueue_workflow('executeFireFlow', $1, class_name => 'ExecutionWorkflows',
                          workflow_id => 's' || n, positional_args => ARRAY[json_build_object('executionId', 's' || n,
                          'flowId', 'parallel', 'inputs', json_build_object('duration', 60))])
                     FROM generate_series(1, 120) n";
    worker.says("limits in force source=\"registered\"").await;
    stage.sql.query(enqueue, &[&QUEUE]).await.unwrap();
    let ages = "UPDATE dbos.workflow_status SET created_at = created_at + substr(workflow_uuid, 2)::bigint";
    stage.sql.batch_execute(ages).await.unwrap();
    let limit = "UPDATE dbos.queues SET concurrency = 3, polling_interval_sec = 0.05";
    stage.sql.batch_execute(limit).await.unwrap();
    let look = "SELECT count(*) FILTER (WHERE status = 'PENDING'), count(*) FILTER (WHERE status = 'SUCCESS')
                  FROM dbos.workflow_status";
    let mut most = 0;
    let all = async {
        loop {
            let row = stage.sql.query_one(look, &[]).await.unwrap();
            most = most.max(row.get::<_, i64>(0));
            if row.get::<_, i64>(1) == 120 {
                return;
            }
        }
    };
    assert!(tokio::time::timeout(PATIENCE, all).await.is_ok(), "{}", worker.log());
    assert_eq!(most, 3, "within the limit, and up to it");
    let shares =
        "SELECT count(*) FILTER (WHERE executor_id = $1), count(*) FILTER (WHERE executor_id = 'sdk-executor'),
                         count(*) FILTER (WHERE recovery_attempts = 1) FROM dbos.workflow_status";
    let shares = stage.sql.query_one(shares, &[&WORKER]).await.unwrap();
    let (ours, theirs, once): (i64, i64, i64) = (shares.get(0), shares.get(1), shares.get(2));
    assert!(ours > 0 && theirs > 0 && ours + theirs == 120 && once == 120, "{ours} {theirs} {once}");
    executor.stop().await;
    assert!(worker.stop().await.success());
}

#[tokio::test]
async fn the_worker_and_one_of_the_earlier_typescript_sdk_share_a_queue() {
    share_a_queue_with(Lang::TypeScript4).await;
}

#[tokio::test]
async fn the_worker_and_one_of_the_earlier_python_sdk_share_a_queue() {
    share_a_queue_with(Lang::Python2).await;
}

#[tokio::test]
async fn a_typescript_application_on_the_same_database_is_not_disturbed() {
    share_a_database_with(Lang::TypeScript).await;
}

/// An application starts the flow workflow by `DBOS.startWorkflow` on the worker's queue: as its own, as a child, and as a
/// child whose deadline is its parent's. The worker belongs to that application, which itself listens to other queues.
#[tokio::test]
async fn flows_started_by_a_typescript_application_run_here() {
    let Some(stage) = Stage::set().await else { return };
    let worker = stage.worker(&[("worker.application_name", "orders")]).await;
    let Some(app) = Executor::start_app(&stage.database.url()).await else { return };
    let sql = "SELECT to_jsonb(w) || jsonb_build_object('result', coalesce(o.output, o.error))
                 FROM dbos.workflow_status w LEFT JOIN dbos.workflow_output o USING (workflow_uuid) WHERE workflow_uuid = $1";
    let row = async |id: &str| stage.sql.query_one(sql, &[&id]).await.unwrap().get::<_, serde_json::Value>(0);
    for (id, parent, greeting) in
        [("direct", json!(null), "Hello, app!"), ("of-order", json!("order"), "Hello, order!")]
    {
        let row = row(id).await;
        assert_eq!((&row["status"], &row["parent_workflow_id"]), (&json!("SUCCESS"), &parent), "{row}");
        assert_eq!((&row["executor_id"], &row["application_name"]), (&json!(WORKER), &json!("orders")), "{row}");
        assert!(row["result"].as_str().unwrap().contains(greeting), "{row}");
    }
    // Its parent, which the application ran, has the flow's result in its own.
    let order = row("order").await;
    assert_eq!((&order["status"], &order["executor_id"]), (&json!("SUCCESS"), &json!("orders-app")));
    assert!(order["result"].as_str().unwrap().contains("Hello, order!"), "{order}");
    // The deadline is handed down, and ends both.
    let status = "SELECT status FROM dbos.workflow_status WHERE workflow_uuid = $1";
    for id in ["slow", "of-slow"] {
        stage.until::<String>(status, id, |status| status == "CANCELLED").await;
    }
    let (slow, child) = (row("slow").await, row("of-slow").await);
    assert!(child["workflow_deadline_epoch_ms"].is_i64(), "{child}");
    assert_eq!(child["workflow_deadline_epoch_ms"], slow["workflow_deadline_epoch_ms"]);
    stage.execution_has("of-slow", "stopped").await;
    app.stop().await;
    assert!(worker.stop().await.success());
}

#[tokio::test]
async fn a_python_application_on_the_same_database_is_not_disturbed() {
    share_a_database_with(Lang::Python).await;
}
