//! The statements that are sent for each claim and each look, and for each batch of `gc`, ride indexes, whatever the tables hold:
//! as the server says that it ran them.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, also in its helpers")]

mod support;

use serde_json::Value as Json;
use support::{TestServer, bench::Bench, client::QUEUE, flows::echo, worker::program};

/// Rows that wait, and rows that have ended.
const FILL: &str = "
INSERT INTO dbos.workflow_status (workflow_uuid, status, name, class_name, queue_name, application_name, priority, created_at,
       updated_at, inputs, serialization, executor_id, started_at_epoch_ms)
SELECT 'f' || n, CASE WHEN n % 5 = 0 THEN 'ENQUEUED' ELSE 'SUCCESS' END, 'executeFireFlow', 'ExecutionWorkflows', $1, NULL, n % 3,
       1000 + n, 1000 + n, '{\"positionalArgs\":[{\"executionId\":\"f' || n || '\",\"flowId\":\"echo\"}]}', 'portable_json',
       'gone', 1000 FROM generate_series(1, 30000) n";

/// All plans that the server has logged for statements with this text.
fn plans(log: &str, text: &str) -> Vec<Json> {
    let plans = log.split("plan:\n").skip(1).filter_map(|rest| {
        // The document is indented by a tab; the next line of the log is not.
        let document: String = rest.lines().take_while(|line| line.starts_with('\t')).collect();
        serde_json::from_str::<Json>(&document).ok()
    });
    plans.filter(|plan| plan["Query Text"].as_str().is_some_and(|query| query.contains(text))).collect()
}

/// Every node of a plan.
fn nodes<'p>(plan: &'p Json, found: &mut Vec<&'p Json>) {
    found.push(plan);
    for child in plan["Plans"].as_array().into_iter().flatten() {
        nodes(child, found);
    }
}

fn check(plan: &Json, most_rows: f64) {
    let mut all = Vec::new();
    nodes(&plan["Plan"], &mut all);
    for node in &all {
        let (kind, rows) = (node["Node Type"].as_str().unwrap(), node["Actual Rows"].as_f64().unwrap());
        let on_workflows = node["Relation Name"] == "workflow_status";
        assert!(kind != "Seq Scan" || !on_workflows, "a sequential scan: {plan:#}");
        assert!(kind != "Bitmap Heap Scan" || !on_workflows || rows <= most_rows, "{rows} rows in a bitmap: {plan:#}");
        assert!(rows <= most_rows, "{kind} of {rows} rows: {plan:#}");
        let dropped = node["Rows Removed by Filter"].as_f64().unwrap_or(0.0);
        assert!(!on_workflows || dropped <= most_rows, "{kind} drops {dropped} rows: {plan:#}");
    }
}

/// From now on the server logs the plan of every statement in this database.
async fn explain(bench: &Bench) {
    let name = bench.database.name();
    for setting in [
        "session_preload_libraries = 'auto_explain'",
        "auto_explain.log_min_duration = 0",
        "auto_explain.log_analyze = on",
        "auto_explain.log_timing = off",
        "auto_explain.log_format = 'json'",
    ] {
        bench.client.sql().batch_execute(&format!("ALTER DATABASE {name} SET {setting}")).await.unwrap();
    }
}

#[tokio::test]
async fn claims_and_looks_ride_indexes_and_touch_no_more_rows_than_they_take() {
    let bench = Bench::with(|_| vec![echo("echo")]).await;
    let sql = bench.client.sql();
    sql.execute(FILL, &[&QUEUE]).await.unwrap();
    sql.batch_execute("VACUUM ANALYZE dbos.workflow_status").await.unwrap();
    explain(&bench).await;
    let settings = [("queue.worker_concurrency", "20"), ("log.level", "info")];
    let worker = bench.worker("planned", &settings).await;
    let done = "SELECT count(*) / 300 FROM dbos.workflow_status WHERE executor_id = 'planned' AND status = 'SUCCESS'";
    while sql.query_one(done, &[]).await.unwrap().get::<_, i64>(0) < 1 {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    worker.stop().await;
    let log = std::fs::read_to_string(TestServer::get().folder().join("server.log")).unwrap();
    let claims = plans(&log, "AS has_history");
    let of_queue: Vec<&Json> =
        claims.iter().filter(|plan| plan["Query Text"].as_str().unwrap().contains("NOWAIT")).collect();
    assert!(of_queue.len() > 5, "{} claims of {}", of_queue.len(), claims.len());
    // A generic plan comes after the fifth.
    claims.iter().for_each(|plan| check(plan, 100.0));
    let looks = plans(&log, "transaction_read_only");
    assert!(!looks.is_empty());
    looks.iter().for_each(|plan| check(plan, 100.0));
}

/// Others' old executions, with ours in between, and steps and messages of all.
const OLD: &str = "
INSERT INTO dbos.workflow_status (workflow_uuid, status, name, application_name, parent_workflow_id, created_at, completed_at)
SELECT 'g' || n, 'SUCCESS', 'executeFireFlow', CASE WHEN n % 15 = 0 THEN 'fireflow-executor' ELSE 'shop' END,
       CASE WHEN n % 2 = 0 THEN 'g' || n + 1 END, 1000 + n, 1000 + n / 3 FROM generate_series(1, 30000) n;
INSERT INTO dbos.operation_outputs (workflow_uuid, function_id) SELECT 'g' || n, m FROM generate_series(1, 30000) n, generate_series(1, 2) m;
INSERT INTO dbos.workflow_input (workflow_uuid, inputs) SELECT 'g' || n, '' FROM generate_series(1, 30000) n;
INSERT INTO dbos.notifications (destination_uuid, topic, message) SELECT 'g' || n, 't', '' FROM generate_series(1, 30000, 9) n;
VACUUM ANALYZE";

#[tokio::test]
async fn a_batch_of_gc_touches_no_more_rows_than_it_passes() {
    let bench = Bench::with(|_| vec![]).await;
    for statement in OLD.split(';') {
        bench.client.sql().batch_execute(statement).await.unwrap();
    }
    explain(&bench).await;
    let mut gc = program(&bench.database.url());
    gc.args(["gc", "--older-than", "30d", "--batch-size", "100", "--pause", "0ms", "--max-duration", "5s"]);
    let ended = gc.output().await.unwrap();
    assert!(ended.status.success(), "{ended:?}");
    let log = std::fs::read_to_string(TestServer::get().folder().join("server.log")).unwrap();
    let batches = plans(&log, "of_outputs");
    assert!(batches.len() > 10, "{}", batches.len());
    // Each of a hundred passed rows, and what belongs to those that go.
    batches.iter().for_each(|plan| check(plan, 400.0));
}
