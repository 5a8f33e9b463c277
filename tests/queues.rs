//! Several queues in one process: limits of their own, a fair share of what all have together, and each row its queue.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, also in its helpers")]

mod support;

use serde_json::json;
use support::{
    bench::Bench,
    flows::{FlowBuilder, echo, gated, reporting},
    worker::WorkerProcess,
};

/// Two queues that may run four each.
const TWO: &str = "
[[queue]]
name = \"a\"
worker_concurrency = 4
polling_interval = \"50ms\"
[[queue]]
name = \"b\"
worker_concurrency = 4
polling_interval = \"50ms\"
";

impl Bench {
    async fn new() -> Bench {
        Bench::with(|ledger| vec![reporting("reporting", ledger), echo("echo")]).await
    }

    async fn serve(&self, toml: &str) -> WorkerProcess {
        WorkerProcess::with_file(&self.database.url(), "w1", toml).await
    }

    /// Put executions that enter and wait at the gate on a queue: `a-0`, `a-1` and so on on `a`.
    async fn flood(&self, queue: &str, numbers: std::ops::Range<u32>) {
        for n in numbers {
            let id = format!("{queue}-{n}");
            let task = json!({"executionId": id, "flowId": "reporting", "inputs": gated(&id)});
            self.enqueue(queue, &id, &task).await;
        }
    }

    async fn enqueue(&self, queue: &str, id: &str, task: &serde_json::Value) {
        let sql = "SELECT dbos.enqueue_workflow('executeFireFlow', $1, ARRAY[$2::text::json], workflow_id => $3)";
        self.client.sql().query_one(sql, &[&queue, &task.to_string(), &id]).await.unwrap();
    }

    /// Wait until so many of a queue's executions have entered.
    async fn entered(&self, queue: &str, count: i64) {
        let sql = "SELECT count(*) FROM ledger WHERE change = 1 AND execution LIKE $1 || '-%'";
        let reached = self.client.comes_true(sql, &[&queue], count).await;
        assert!(reached, "not {count} of {queue} entered");
    }

    /// Let executions of `b` end, one after the other, until the query gives so many. Which of two queues has a slot that
    /// comes free depends on whether the other one asks at that moment; of a few it has one.
    async fn end_until(&self, ended: &mut u32, sql: &str, count: i64) {
        loop {
            assert!(*ended < 16, "{sql}");
            self.ledger.release(&format!("b-{ended}"));
            *ended += 1;
            for _ in 0..30 {
                if self.client.sql().query_one(sql, &[]).await.unwrap().get::<_, i64>(0) >= count {
                    return;
                }
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
        }
    }

    /// How many of a queue's executions were inside at once, at most.
    async fn most(&self, queue: &str) -> i64 {
        let sql = "SELECT max(inside) FROM (SELECT sum(change) OVER (ORDER BY number) AS inside FROM ledger
                                             WHERE execution LIKE $1 || '-%') s";
        self.client.sql().query_one(sql, &[&queue]).await.unwrap().get(0)
    }

    async fn queue_of(&self, id: &str) -> Option<String> {
        let sql = "SELECT queue_name FROM dbos.workflow_status WHERE workflow_uuid = $1";
        self.client.sql().query_one(sql, &[&id]).await.unwrap().get(0)
    }
}

#[tokio::test]
async fn each_queue_has_its_own_limits_and_a_busy_or_paused_one_delays_no_other() {
    let bench = Bench::new().await;
    let toml = "
        [[queue]]
        name = \"a\"
        worker_concurrency = 3
        polling_interval = \"50ms\"
        [[queue]]
        name = \"b\"
        concurrency = 2
        worker_concurrency = 2
        polling_interval = \"50ms\"
        [[queue]]
        name = \"paused\"
        polling_interval = \"50ms\"
        [[queue]]
        name = \"rare\"
        rate_limit = \"1 per 1h\"
        polling_interval = \"50ms\"";
    let sql = "INSERT INTO dbos.queues (name, concurrency) VALUES ('paused', 0)";
    bench.client.sql().batch_execute(sql).await.unwrap();
    let worker = bench.serve(toml).await;
    worker.says("serving queue=\"a, b, paused, rare\"").await;
    for queue in ["a", "b", "paused", "rare"] {
        bench.flood(queue, 0..8).await;
    }
    bench.ledger.inside(6).await; // three of a, two of b, one of rare
    bench.ledger.release_all();
    let done = "SELECT count(*) FROM dbos.workflow_status WHERE status = 'SUCCESS' AND workflow_uuid ~ '^[ab]-'";
    assert!(bench.client.comes_true(done, &[], 16).await);
    assert_eq!((bench.most("a").await, bench.most("b").await, bench.most("rare").await), (3, 2, 1));
    let still =
        "SELECT count(*) FROM dbos.workflow_status WHERE status = 'ENQUEUED' AND workflow_uuid ~ '^(paused|rare)-'";
    assert_eq!(bench.client.sql().query_one(still, &[]).await.unwrap().get::<_, i64>(0), 15);
    assert_eq!(bench.ledger.not_once().await, []);
    assert!(worker.stop().await.success());
}

#[tokio::test]
async fn a_flood_on_one_queue_leaves_the_other_its_share_and_has_the_rest() {
    let bench = Bench::new().await;
    let worker = bench.serve(&format!("[worker]\nconcurrency = 4\n{TWO}")).await;
    bench.flood("a", 0..20).await;
    bench.entered("a", 4).await; // what b doesn't use is lent
    bench.flood("b", 0..10).await;
    // Half is b's: as a's end, b's come in their place, until each has two.
    let b_waits = "waiting for a slot queue=\"b\"";
    worker.says_times(b_waits, 1).await;
    bench.ledger.release("a-0");
    bench.entered("b", 1).await;
    worker.says_times(b_waits, 2).await;
    bench.ledger.release("a-1");
    bench.entered("b", 2).await;
    // From here on each takes its own place.
    bench.ledger.release("a-2");
    bench.entered("a", 5).await;
    bench.ledger.release("b-0");
    bench.entered("b", 3).await;
    bench.ledger.inside(4).await;
    for n in 1..10 {
        bench.ledger.release(&format!("b-{n}"));
    }
    // b has nothing left: all is a's again.
    bench.entered("b", 10).await;
    bench.entered("a", 7).await;
    bench.ledger.release_all();
    bench.client.until_count("SUCCESS", 30).await;
    assert_eq!(bench.ledger.most().await, 4);
    assert_eq!(bench.ledger.not_once().await, []);
    assert!(worker.stop().await.success());
}

#[tokio::test]
async fn what_is_resumed_runs_beside_a_flood_and_a_drain_gives_each_back_to_its_queue() {
    let bench = Bench::new().await;
    let worker = bench.serve(&format!("[worker]\nconcurrency = 4\ndrain_timeout = \"100ms\"\n{TWO}")).await;
    bench.flood("b", 0..20).await;
    bench.entered("b", 4).await;
    let internal = "_dbos_internal_queue";
    bench.enqueue(internal, "resumed", &json!({"executionId": "resumed", "flowId": "echo"})).await;
    // The first queue looks at the internal one, and has a share: of the slots that come free, when it asks.
    let mut ended = 0;
    bench
        .end_until(
            &mut ended,
            "SELECT count(*) FROM dbos.workflow_status WHERE workflow_uuid = 'resumed' AND status = 'SUCCESS'",
            1,
        )
        .await;
    bench.flood("a", 0..2).await;
    bench.end_until(&mut ended, "SELECT count(*) FROM ledger WHERE change = 1 AND execution LIKE 'a-%'", 2).await;
    bench.client.until_count("SUCCESS", i64::from(ended) + 1).await;
    assert!(worker.stop().await.success());
    let sql = "SELECT count(*) FROM dbos.workflow_status
                WHERE status = 'ENQUEUED' AND queue_name = split_part(workflow_uuid, '-', 1)";
    let back = "SELECT count(*) FROM dbos.workflow_status WHERE status <> 'SUCCESS'";
    let count = async |sql: &str| bench.client.sql().query_one(sql, &[]).await.unwrap().get::<_, i64>(0);
    let left = 22 - i64::from(ended);
    assert_eq!(
        (count(sql).await, count("SELECT count(*) FROM dbos.workflow_status WHERE status = 'PENDING'").await),
        (left, 0)
    );
    assert_eq!(count(back).await, left);
    // Killed and started again, it finds its own of both queues.
    let worker = bench.serve(TWO).await;
    bench.ledger.inside(8).await;
    worker.kill().await;
    let worker = bench.serve(TWO).await;
    bench.ledger.release_all();
    bench.client.until_count("SUCCESS", 23).await;
    assert_eq!(bench.queue_of("a-1").await.as_deref(), Some("a"));
    assert!(worker.stop().await.success());
}

#[tokio::test]
async fn children_run_on_the_queue_of_their_parent() {
    let bench = Bench::new().await;
    let event = [("eventName", json!("work"))];
    let parent = FlowBuilder::new("parent").node("emitter", "EventEmitterNode", &event);
    bench.client.store(&parent.node("listener", "EventListenerNodeV2", &event).build()).await;
    let worker = bench.serve(TWO).await;
    for queue in ["a", "b"] {
        let id = format!("{queue}-parent");
        bench.enqueue(queue, &id, &json!({"executionId": id, "flowId": "parent"})).await;
        bench.client.until(&id, "SUCCESS").await;
        let sql = "SELECT count(*) FROM dbos.workflow_status WHERE parent_workflow_id = $1 AND queue_name = $2";
        let children: i64 = bench.client.sql().query_one(sql, &[&id, &queue]).await.unwrap().get(0);
        assert_eq!(children, 1, "{queue}");
    }
    assert!(worker.stop().await.success());
}
