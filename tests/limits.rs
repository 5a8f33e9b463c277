//! Limits that come from the table of queues, and change while workers run.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, also in its helpers")]

mod support;

use std::time::Duration;

use support::{
    TestDatabase,
    client::{QUEUE, SqlClient},
    flows::{echo, gated, reporting},
    ledger::Ledger,
    worker::{PATIENCE, WorkerProcess},
};

struct Bench {
    database: TestDatabase,
    client: SqlClient,
    ledger: Ledger,
}

impl Bench {
    /// A database with a registered queue without limits, a ledger, and the flows `reporting` and `echo`.
    async fn new() -> Bench {
        let database = TestDatabase::new().await;
        let client = SqlClient::open(&database).await;
        let ledger = Ledger::open(&database).await;
        client.store(&reporting("reporting", ledger.base())).await;
        client.store(&echo("echo")).await;
        let register = "INSERT INTO dbos.queues (name, polling_interval_sec) VALUES ($1, 0.05)";
        client.execute(register, &[&QUEUE]).await;
        Bench { database, client, ledger }
    }

    async fn worker(&self, id: &str, settings: &[(&str, &str)]) -> WorkerProcess {
        let worker = WorkerProcess::start(&self.database.url(), id, settings).await;
        worker.says("limits in force").await;
        worker
    }

    /// Change the registered limits: `column = value, …`.
    async fn register(&self, change: &str) {
        assert_eq!(
            self.client.execute(&format!("UPDATE dbos.queues SET {change} WHERE name = $1"), &[&QUEUE]).await,
            1
        );
    }

    /// Enqueue executions that are held inside until they are released.
    async fn enqueue(&self, ids: &[&str]) {
        for id in ids {
            self.client.enqueue(id, "reporting", gated(id)).await;
        }
    }

    /// Return when each worker has looked at its queue once more: it looks at the internal queue first in each round.
    async fn look(&self) {
        for _ in 0..2 {
            let id = format!("look-{}", uuid::Uuid::new_v4());
            let sql = "SELECT dbos.enqueue_workflow('executeFireFlow', '_dbos_internal_queue',
                              ARRAY['{\"flowId\": \"echo\"}'::json], workflow_id => $1)";
            self.client.sql().query_one(sql, &[&id]).await.unwrap();
            self.client.until(&id, "SUCCESS").await;
        }
    }
}

/// Wait until these limits are the worker's latest.
async fn in_force(worker: &WorkerProcess, limits: &str) {
    let is = || worker.log().lines().rfind(|line| line.contains("limits in force")).is_some_and(|l| l.contains(limits));
    let reached = async {
        while !is() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, reached).await.is_ok(), "not in force: {limits}\n{}", worker.log());
}

#[tokio::test]
async fn registered_limits_hold_and_change_while_the_worker_runs() {
    let bench = Bench::new().await;
    bench.register("concurrency = 1").await;
    bench.enqueue(&["a", "b", "c", "d", "e", "f", "g", "h"]).await;
    let worker = bench.worker("w1", &[("queue.concurrency", "9"), ("queue.worker_concurrency", "4")]).await;
    in_force(&worker, r#"source="registered" concurrency=1 worker_concurrency=4 polling_interval=50ms"#).await;
    bench.ledger.inside(1).await;
    bench.look().await;
    assert_eq!(bench.ledger.most().await, 1, "the configuration allows more");

    bench.register("concurrency = 3").await;
    bench.ledger.inside(3).await;
    bench.look().await;
    assert_eq!(bench.ledger.most().await, 3);

    // Nobody is thrown out, and nobody comes in.
    bench.register("concurrency = 0").await;
    in_force(&worker, "concurrency=0 worker_concurrency=4").await;
    bench.ledger.release("a");
    bench.client.until("a", "SUCCESS").await;
    bench.look().await;
    assert_eq!(bench.ledger.executions().await, 3);
    bench.register("concurrency = NULL, worker_concurrency = 0").await;
    in_force(&worker, "worker_concurrency=0").await;
    bench.look().await;
    assert_eq!(bench.ledger.executions().await, 3);

    bench.register("worker_concurrency = 3").await;
    bench.ledger.inside(3).await;
    bench.register("worker_concurrency = 1000").await;
    bench.ledger.inside(4).await; // the worker has no more slots

    // One of two slots that are given back vanishes.
    bench.register("worker_concurrency = 3").await;
    in_force(&worker, "worker_concurrency=3").await;
    for id in ["b", "c"] {
        bench.ledger.release(id);
        bench.client.until(id, "SUCCESS").await;
    }
    bench.ledger.entered("f", 1).await;
    bench.ledger.release("d");
    bench.ledger.entered("g", 1).await;
    assert_eq!(bench.ledger.executions().await, 7, "d, e and f were inside, and now e, f and g");
    assert_eq!(bench.ledger.most().await, 4);
    bench.ledger.release_all();
    bench.client.until_count("ENQUEUED", 0).await;
    bench.client.until_count("PENDING", 0).await;
    assert_eq!(bench.ledger.not_once().await, []);
    assert!(worker.stop().await.success());
}

#[tokio::test]
async fn the_configuration_holds_where_it_is_wanted_or_the_queue_is_not_ours() {
    let bench = Bench::new().await;
    bench.register("concurrency = 1").await;
    bench.enqueue(&["a", "b", "c"]).await;
    let limits = [("queue.concurrency", "2"), ("queue.worker_concurrency", "2"), ("queue.limits", "configured")];
    let worker = bench.worker("w1", &limits).await;
    bench.ledger.inside(2).await;
    for id in ["a", "b", "c"] {
        bench.ledger.release(id);
    }
    bench.client.until_count("ENQUEUED", 0).await;
    bench.client.until_count("PENDING", 0).await;
    assert_eq!(bench.ledger.most().await, 2);
    assert!(worker.stop().await.success());

    bench.register("application_name = 'other-app'").await;
    bench.enqueue(&["d", "e", "f", "g"]).await;
    let worker = bench.worker("w1", &[("queue.concurrency", "3"), ("queue.worker_concurrency", "3")]).await;
    bench.ledger.inside(3).await;
    bench.register("application_name = 'fireflow-executor'").await;
    in_force(&worker, r#"source="registered" concurrency=1"#).await;
    bench.client.execute("DELETE FROM dbos.queues", &[]).await;
    in_force(&worker, r#"source="configured" concurrency=3"#).await;
    bench.ledger.release_all();
    bench.client.until_count("ENQUEUED", 0).await;
    bench.client.until_count("PENDING", 0).await;
    assert_eq!(bench.ledger.most().await, 3);
    assert!(worker.stop().await.success());
}
