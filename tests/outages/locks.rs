//! Other sessions hold locks, for long or for ever: what is behind them waits, and nothing else does. And the worker's own
//! sessions don't wait for each other.

use std::time::Duration;

use serde_json::json;
use tokio_postgres::Client;

use super::server::{complaints, prepare};
use super::support::{
    TestDatabase,
    bench::Bench,
    client::SqlClient,
    flows::{echo, family},
    ledger::Ledger,
    worker::WorkerProcess,
};

async fn held(settings: &[(&str, &str)]) -> (TestDatabase, SqlClient, Ledger, WorkerProcess, Client) {
    let database = TestDatabase::new().await;
    let (client, ledger) = prepare(&database.url()).await;
    let worker = WorkerProcess::start(&database.url(), "w1", settings).await;
    for id in ["EX1", "EX2", "EX3"] {
        client.enqueue(id, "long", json!({"hold": format!("/hold/{id}")})).await;
        ledger.entered(id, 1).await;
        client.until_event(id, "node:started").await;
    }
    let other = database.client().await;
    other.batch_execute("BEGIN").await.unwrap();
    (database, client, ledger, worker, other)
}

/// A session that forgot its transaction has locked EX1 by `lock`: the others end all the same, and EX1 when it lets go.
async fn only_one_waits(lock: &str) {
    let (_database, client, ledger, worker, other) = held(&[("database.lock_timeout", "200ms")]).await;
    other.batch_execute(lock).await.unwrap();
    ledger.release_all();
    client.until("EX2", "SUCCESS").await;
    client.until("EX3", "SUCCESS").await;
    client.enqueue("EX4", "echo", json!({})).await;
    client.until("EX4", "SUCCESS").await;
    worker.says("another session holds locks").await;
    assert_eq!(client.row("EX1").await.unwrap().status, "PENDING");
    other.batch_execute("COMMIT").await.unwrap();
    let row = client.until("EX1", "SUCCESS").await;
    assert_eq!((row.attempts, ledger.not_once().await), (1, vec![]));
    worker.says("the locks are gone").await;
    assert_eq!(complaints(&worker).len(), 1, "{:#?}", complaints(&worker));
    assert!(worker.stop().await.success());
}

#[tokio::test]
async fn a_row_of_the_queue_that_somebody_has_locked_stops_its_execution_alone() {
    only_one_waits("SELECT FROM dbos.workflow_status WHERE workflow_uuid = 'EX1' FOR UPDATE").await;
}

#[tokio::test]
async fn a_row_of_the_executions_that_somebody_has_locked_stops_its_execution_alone() {
    only_one_waits("SELECT FROM fireflow_executions WHERE id = 'EX1' FOR UPDATE").await;
}

#[tokio::test]
async fn a_table_that_is_locked_for_seconds_costs_these_seconds() {
    let (_database, client, ledger, worker, other) = held(&[("database.lock_timeout", "300ms")]).await;
    for table in ["dbos.operation_outputs", "dbos.workflow_status", "fireflow_workers"] {
        other.batch_execute(&format!("LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")).await.unwrap();
    }
    ledger.release_all();
    // Longer than several tries, and shorter than the lease.
    tokio::time::sleep(Duration::from_secs(4)).await;
    other.batch_execute("COMMIT; BEGIN").await.unwrap();
    for id in ["EX1", "EX2", "EX3"] {
        assert_eq!(client.until(id, "SUCCESS").await.attempts, 1);
    }
    assert_eq!(ledger.not_once().await, []);
    let complaints = complaints(&worker);
    assert!(complaints.len() <= 4, "{complaints:#?}");
    assert!(worker.stop().await.success());
}

#[tokio::test]
async fn the_smallest_pool_runs_everything_at_once_and_leaves_no_transaction_open() {
    let bench = Bench::with(|ledger| vec![family(ledger), echo("echo")]).await;
    bench.ledger.release_all();
    let url = bench.database.url();
    let settings = [
        ("database.pool_size", "2"),
        ("database.flows_url", url.as_str()),
        ("database.connect_timeout", "5s"),
        ("queue.worker_concurrency", "30"),
        ("execution.flow_cache", "0"),
        ("log.level", "info"),
    ];
    let worker = bench.worker("w1", &settings).await;
    for number in 0..40 {
        let id = format!("EX{number}");
        let (flow, inputs) = match number % 4 {
            0 => ("family", json!({"hold": format!("/hold/{id}")})),
            _ => ("echo", json!({"text": id})),
        };
        bench.client.enqueue(&id, flow, inputs).await;
        // Messages that nobody asked for are looked at and left.
        bench.client.send(&id, "anything", json!({})).await;
    }
    bench.client.until_count("SUCCESS", 40 + 20).await;
    for number in (0..40).step_by(4) {
        assert_eq!(bench.ledger.entries(&format!("EX{number}")).await, 2);
    }
    // Nothing of ours keeps a vacuum from its work.
    let sql = "SELECT count(*) FROM pg_stat_activity
                WHERE datname = current_database() AND application_name = 'fireflow-worker'
                  AND state LIKE 'idle in transaction%' AND state_change < now() - interval '1 second'";
    assert_eq!(bench.client.sql().query_one(sql, &[]).await.unwrap().get::<_, i64>(0), 0);
    assert!(worker.stop().await.success());
}
