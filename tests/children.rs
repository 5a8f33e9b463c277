//! Child executions: one for each emitted event, once, whatever happens to their parent meanwhile.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, also in its helpers")]

mod support;

use serde_json::{Value as Json, json};
use support::{bench::Bench, flows::family, worker::WorkerProcess};

impl Bench {
    /// With the flow `family`: two events are emitted; on each of them a child is held by the ledger as `kids`.
    async fn new() -> Bench {
        Bench::with(|ledger| vec![family(ledger)]).await
    }

    async fn begin(&self, children: i64) {
        self.client.enqueue("EX1", "family", json!({"hold": "/hold/kids"})).await;
        self.ledger.entered("kids", children).await;
    }

    /// Ids of the children, in the order of their events.
    async fn children(&self) -> Vec<String> {
        let steps = self.client.steps("EX1").await;
        let flow: Json = serde_json::from_str(steps[2].output.as_deref().unwrap()).unwrap();
        let id = |task: &Json| task["executionId"].as_str().unwrap().to_owned();
        flow["childTasks"].as_array().unwrap().iter().map(id).collect()
    }

    async fn names(&self) -> Vec<String> {
        self.client.steps("EX1").await.into_iter().map(|step| step.name).collect()
    }

    async fn count(&self, sql: &str) -> i64 {
        self.client.sql().query_one(sql, &[]).await.unwrap().get(0)
    }
}

const STEPS: [&str; 8] = [
    "DBOS.writeStream",
    "updateToRunning",
    "executeFlowAtomic",
    "executeFireFlow",
    "executeFireFlow",
    "DBOS.getResult",
    "DBOS.getResult",
    "updateToCompleted",
];

#[tokio::test]
async fn each_event_is_a_child_and_their_parent_waits_without_a_slot() {
    let bench = Bench::new().await;
    let worker = bench.worker("w1", &[("queue.worker_concurrency", "1")]).await;
    bench.begin(1).await; // one slot, and it is a child's
    bench.ledger.release_all();
    let row = bench.client.until("EX1", "SUCCESS").await;

    let children = bench.children().await;
    assert_eq!(children.len(), 2);
    assert_eq!(bench.names().await, STEPS);
    assert_eq!(row.result()["childTasks"].as_array().unwrap().len(), 2);
    for child in &children {
        let row = bench.client.row(child).await.unwrap();
        assert_eq!(row.status, "SUCCESS");
        assert_eq!(row.result()["outputs"], json!({"reply": "held"}));
        assert_eq!(bench.client.execution(child).await.unwrap().0, "completed");
    }
    let rows = "SELECT count(*) FROM fireflow_executions e JOIN dbos.workflow_status w ON w.workflow_uuid = e.id
                 WHERE e.parent_execution_id = 'EX1' AND e.root_execution_id = 'EX1' AND e.execution_depth = 1
                   AND w.parent_workflow_id = 'EX1' AND e.external_events = '[{\"payload\": {}, \"eventName\": \"work\"}]'";
    assert_eq!(bench.count(rows).await, 2);
    assert_eq!(bench.ledger.entries("kids").await, 2);
    assert!(worker.stop().await.success());
}

#[tokio::test]
async fn a_parent_that_is_killed_meets_its_own_children() {
    let bench = Bench::new().await;
    let worker = bench.worker("w1", &[]).await;
    bench.begin(2).await;
    let children = bench.children().await;
    let before = bench.client.steps("EX1").await;
    worker.kill().await;

    let worker = bench.worker("w1", &[]).await;
    bench.ledger.entered("kids", 4).await; // both were cut off in the middle, and run again
    bench.ledger.release_all();
    bench.client.until("EX1", "SUCCESS").await;
    assert_eq!(bench.children().await, children);
    assert_eq!(bench.client.steps("EX1").await[..before.len()], before[..]);
    assert_eq!(bench.names().await, STEPS);
    assert_eq!(bench.count("SELECT count(*) FROM dbos.workflow_status").await, 3);
    assert_eq!(bench.count("SELECT count(*) FROM fireflow_executions").await, 3);
    assert!(worker.stop().await.success());
}

#[tokio::test]
async fn a_stop_of_the_parent_stops_its_children() {
    let bench = Bench::new().await;
    let worker = bench.worker("w1", &[]).await;
    bench.begin(2).await;
    let children = bench.children().await;
    bench.client.cancel("EX1").await;
    bench.client.until_execution("EX1", "stopped").await;
    for child in &children {
        let reason = bench.client.until_execution(child, "stopped").await.unwrap();
        assert!(reason.contains("parent") && reason.contains("CANCELLED"), "{reason}");
        assert!(bench.client.until(child, "ERROR").await.error().contains("parent"));
        let events = bench.client.events(child).await;
        assert!(events.iter().any(|(_, _, kind)| kind == "flow:cancelled"), "{events:?}");
    }
    assert_eq!(bench.client.row("EX1").await.unwrap().status, "CANCELLED");
    assert!(worker.stop().await.success());
}

#[tokio::test]
async fn a_child_that_fails_does_not_fail_its_parent() {
    let bench = Bench::new().await;
    let worker = bench.worker("w1", &[]).await;
    bench.begin(2).await;
    let children = bench.children().await;
    bench.client.cancel(&children[0]).await;
    bench.client.until_execution(&children[0], "stopped").await;
    bench.ledger.release_all();
    bench.client.until("EX1", "SUCCESS").await;
    let results: Vec<_> =
        bench.client.steps("EX1").await.into_iter().filter(|step| step.name == "DBOS.getResult").collect();
    assert!(results[0].output.is_none() && results[1].output.is_some(), "{results:?}");
    assert!(worker.stop().await.success());
}

#[tokio::test]
async fn a_waiting_parent_is_handed_back_at_once_and_goes_on_elsewhere() {
    let bench = Bench::new().await;
    let worker = bench.worker("w1", &[("queue.worker_concurrency", "1"), ("worker.drain_timeout", "1h")]).await;
    bench.begin(1).await;
    worker.signal(rustix::process::Signal::TERM);
    let back = "SELECT count(*) FROM dbos.workflow_status WHERE workflow_uuid = 'EX1' AND status = 'ENQUEUED'";
    assert!(bench.client.comes_true(back, &[], 1).await, "the parent loses nothing by waiting elsewhere");
    let other = WorkerProcess::start(&bench.database.url(), "w2", &[]).await;
    bench.ledger.entered("kids", 2).await; // the second child, on the second worker
    bench.ledger.release_all();
    let row = bench.client.until("EX1", "SUCCESS").await;
    assert_eq!(row.executor.as_deref(), Some("w2"));
    assert_eq!(bench.names().await, STEPS);
    assert_eq!(bench.ledger.entries("kids").await, 2);
    assert!(other.stop().await.success());
}
