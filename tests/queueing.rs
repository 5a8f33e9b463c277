//! Who runs when: limits that hold over all workers, order, and rows that are for others.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, also in its helpers")]

mod support;

use serde_json::json;
use support::{
    bench::Bench,
    client::{QUEUE, Raw},
    flows::{echo, gated, reporting},
};

impl Bench {
    /// With the flows `reporting` and `echo`.
    async fn new() -> Bench {
        Bench::with(|ledger| vec![reporting("reporting", ledger), echo("echo")]).await
    }

    /// Return when the worker has looked at its queue once more: it looks at the internal queue, which has no limits,
    /// first in each round.
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

#[tokio::test]
async fn a_thousand_run_once_each_within_both_limits_on_two_workers() {
    let bench = Bench::new().await;
    let sql = "SELECT count(dbos.enqueue_workflow('executeFireFlow', $1, ARRAY[json_build_object(
                      'flowId', 'reporting',
                      'inputs', json_build_object('enter', '/gate/EX' || n, 'leave', '/leave/EX' || n))],
                      class_name => 'ExecutionWorkflows', workflow_id => 'EX' || n, deduplication_id => 'EX' || n))
                 FROM generate_series(1, 1000) n";
    bench.client.sql().query_one(sql, &[&QUEUE]).await.unwrap();
    let limits = [("queue.concurrency", "7"), ("queue.worker_concurrency", "5"), ("log.level", "info")];
    let first = bench.worker("w1", &limits).await;
    let second = bench.worker("w2", &limits).await;
    bench.ledger.inside(7).await; // both limits are reached
    bench.ledger.release_all();
    bench.client.until_count("SUCCESS", 1000).await;

    assert_eq!(bench.ledger.executions().await, 1000);
    assert_eq!(bench.ledger.not_once().await, []);
    assert_eq!(bench.ledger.most().await, 7, "at once in all workers");
    assert_eq!(bench.ledger.most_in_one_worker().await, 5, "at once in one worker");
    let workers = bench.ledger.workers().await;
    assert_eq!(workers.iter().map(|(id, _)| id.as_str()).collect::<Vec<_>>(), ["w1", "w2"]);
    let completed = "SELECT count(*) FROM fireflow_executions WHERE status = 'completed'";
    assert_eq!(bench.client.sql().query_one(completed, &[]).await.unwrap().get::<_, i64>(0), 1000);
    for worker in [first, second] {
        assert!(!worker.log().contains("ERROR"), "{}", worker.log());
        assert!(worker.stop().await.success());
    }
}

#[tokio::test]
async fn the_lowest_priority_number_goes_first_and_then_the_oldest() {
    let bench = Bench::new().await;
    // Id, priority, age in seconds; in the order in which they should run.
    let expected = [("c", 0, 300), ("a", 0, 200), ("f", 1, 400), ("b", 1, 100), ("e", 1, 90), ("d", 7, 999)];
    for (id, priority, age) in [3, 0, 5, 2, 4, 1].map(|place| expected[place]) {
        let task = json!({"positionalArgs": [{"flowId": "reporting", "inputs": gated(id)}]}).to_string();
        let raw = Raw { priority, ..Raw::new(id, Some("portable_json"), &task) };
        bench.client.enqueue_raw(&raw).await;
        let older =
            "UPDATE dbos.workflow_status SET created_at = created_at - $2 * 1000::bigint WHERE workflow_uuid = $1";
        bench.client.execute(older, &[&id, &i64::from(age)]).await;
    }
    bench.ledger.release_all();
    let worker = bench.worker("w1", &[("queue.concurrency", "1"), ("queue.worker_concurrency", "1")]).await;
    bench.client.until_count("SUCCESS", 6).await;
    assert_eq!(bench.ledger.order().await, expected.map(|(id, ..)| id));
    assert_eq!(bench.ledger.most().await, 1);
    assert!(worker.stop().await.success());
}

#[tokio::test]
async fn what_others_run_of_the_same_queue_counts_against_its_limit() {
    let bench = Bench::new().await;
    let foreign = |id: &str, queue: &str, application: &str| {
        format!(
            "INSERT INTO dbos.workflow_status (workflow_uuid, status, name, queue_name, executor_id, owner_xid,
                    application_name) VALUES ('{id}', 'PENDING', 'theirs', '{queue}', 'sdk', 'token', {application});"
        )
    };
    let theirs = [
        foreign("theirs-1", QUEUE, "NULL"),
        foreign("theirs-2", QUEUE, "'fireflow-executor'"),
        foreign("another-queue", "other", "NULL"),
        foreign("another-application", QUEUE, "'other-app'"),
    ];
    bench.client.sql().batch_execute(&theirs.concat()).await.unwrap();
    for id in ["a", "b", "c", "d"] {
        bench.client.enqueue(id, "reporting", gated(id)).await;
    }
    let worker = bench.worker("w1", &[("queue.concurrency", "3"), ("queue.worker_concurrency", "3")]).await;
    bench.ledger.inside(1).await;
    bench.look().await;
    assert_eq!(bench.ledger.most().await, 1, "two of three places are theirs");
    let end = "UPDATE dbos.workflow_status SET status = 'SUCCESS' WHERE workflow_uuid = 'theirs-1'";
    bench.client.execute(end, &[]).await;
    bench.ledger.inside(2).await;
    bench.look().await;
    assert_eq!(bench.ledger.most().await, 2);
    bench.ledger.release_all();
    for id in ["a", "b", "c", "d"] {
        bench.client.until(id, "SUCCESS").await;
    }
    assert_eq!(bench.ledger.most().await, 2);
    let row = bench.client.row("theirs-2").await.unwrap();
    assert_eq!((row.status.as_str(), row.executor.as_deref()), ("PENDING", Some("sdk")), "theirs is left alone");
    assert!(worker.stop().await.success());
}

#[tokio::test]
async fn blank_class_and_configuration_are_none_and_rows_for_others_wait_for_them() {
    let bench = Bench::new().await;
    let task = r#"{"positionalArgs": [{"flowId": "echo"}]}"#;
    let mut ours = Vec::new();
    for (place, class) in [None, Some(""), Some("ExecutionWorkflows")].into_iter().enumerate() {
        for (other, config) in [None, Some("")].into_iter().enumerate() {
            let id = format!("ours-{place}-{other}");
            bench.client.enqueue_raw(&Raw { class, config, ..Raw::new(&id, Some("portable_json"), task) }).await;
            ours.push(id);
        }
    }
    for (id, change) in [
        ("theirs-class", "class_name = 'Other'"),
        ("theirs-config", "config_name = 'second'"),
        ("theirs-name", "name = 'executeSomethingElse'"),
        ("theirs-format", "serialization = 'java_jackson'"),
        ("theirs-version", "application_version = '2.0.0'"),
        ("theirs-application", "application_name = 'other-app'"),
        ("theirs-queue", "queue_name = 'other'"),
    ] {
        // All of them are ahead of ours: nothing blocks.
        let raw = Raw { priority: -1, ..Raw::new(id, Some("portable_json"), task) };
        bench.client.enqueue_raw(&raw).await;
        let sql = format!("UPDATE dbos.workflow_status SET {change} WHERE workflow_uuid = $1");
        bench.client.execute(&sql, &[&id]).await;
    }
    let worker = bench.worker("w1", &[("queue.concurrency", "1"), ("queue.worker_concurrency", "1")]).await;
    for id in &ours {
        bench.client.until(id, "SUCCESS").await;
    }
    bench.look().await;
    bench.client.until_count("ENQUEUED", 7).await;
    let touched = "SELECT count(*) FROM dbos.workflow_status
                    WHERE workflow_uuid LIKE 'theirs-%' AND (executor_id IS NOT NULL OR owner_xid IS NOT NULL)";
    assert_eq!(bench.client.sql().query_one(touched, &[]).await.unwrap().get::<_, i64>(0), 0);
    assert!(worker.stop().await.success());
}

#[tokio::test]
async fn a_row_of_the_internal_queue_that_can_t_be_claimed_holds_up_nothing_else() {
    let bench = Bench::new().await;
    let poison = "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'refused'; END $$;
                  CREATE TRIGGER refuse BEFORE UPDATE ON dbos.workflow_status FOR EACH ROW
                  WHEN (OLD.queue_name = '_dbos_internal_queue') EXECUTE FUNCTION refuse();
                  SELECT dbos.enqueue_workflow('executeFireFlow', '_dbos_internal_queue', ARRAY['{\"flowId\": \"echo\"}'::json])";
    bench.client.sql().batch_execute(poison).await.unwrap();
    let worker = bench.worker("w1", &[("log.level", "info")]).await;
    worker.says("can't claim what was resumed, forked or recovered").await;
    bench.client.enqueue("own", "echo", json!({})).await;
    bench.client.until("own", "SUCCESS").await;
}
