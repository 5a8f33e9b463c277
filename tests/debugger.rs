//! Commands to executions that run: pause, resume, step, stop, breakpoints; and what becomes of a paused one.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, also in its helpers")]

mod support;

use rustix::process::Signal;
use serde_json::{Value as Json, json};
use support::{
    bench::Bench,
    flows::{FlowBuilder, echo},
    worker::WorkerProcess,
};

impl Bench {
    /// With the flows `two` (enters and is held, then enters as `second`), `steps` (three texts in a row) and `echo`.
    async fn new() -> Bench {
        Bench::with(|ledger| {
            let two = FlowBuilder::new("two").get("first", ledger).get("second", ledger).then("first", "second");
            let steps = FlowBuilder::new("steps")
                .node("a", "TextNode", &[("text", json!("a"))])
                .node("b", "TextNode", &[("text", json!(""))])
                .node("c", "TextNode", &[("text", json!(""))])
                .edge(("a", "text"), ("b", "text"))
                .edge(("b", "text"), ("c", "text"))
                .output("text", "c", "text");
            vec![two.build(), steps.build(), echo("echo")]
        })
        .await
    }

    /// Enqueue `two`, and wait until its first node is at work.
    async fn begin(&self, id: &str) {
        let inputs = json!({"first": format!("/hold/{id}"), "second": format!("/enter/{id}-second")});
        self.client.enqueue(id, "two", inputs).await;
        self.ledger.entered(id, 1).await;
    }

    /// Enqueue `steps` with breakpoints, as the server does.
    async fn debug(&self, id: &str, breakpoints: Json) {
        let task = json!({"executionId": id, "flowId": "steps", "debug": true,
            "options": {"debug": true, "breakpoints": breakpoints}});
        self.client.enqueue_task(id, &task).await;
    }

    async fn command(&self, id: &str, command: &str) {
        self.client.send(id, "COMMAND", json!({"command": command, "reason": "asked by the test"})).await;
    }

    /// Wait until so many nodes were held.
    async fn held(&self, id: &str, times: i64) {
        let sql = "SELECT count(*) FROM dbos.streams
                    WHERE workflow_uuid = $1 AND value::jsonb #>> '{event,type}' = 'debug:breakpoint-hit'";
        assert!(self.client.comes_true(sql, &[&id], times).await, "{:?}", self.client.events(id).await);
    }

    /// Wait until all commands have been obeyed.
    async fn obeyed(&self) {
        let sql = "SELECT count(*) FROM dbos.notifications WHERE NOT consumed";
        assert!(self.client.comes_true(sql, &[], 0).await);
    }

    async fn unconsumed(&self) -> i64 {
        let sql = "SELECT count(*) FROM dbos.notifications WHERE NOT consumed";
        self.client.sql().query_one(sql, &[]).await.unwrap().get(0)
    }
}

#[tokio::test]
async fn a_pause_holds_what_comes_next_until_it_is_resumed() {
    let bench = Bench::new().await;
    let worker = bench.worker("w1", &[("queue.worker_concurrency", "1")]).await;
    bench.begin("EX1").await;
    bench.command("EX1", "PAUSE").await;
    bench.client.until_execution("EX1", "paused").await; // at once, while its first node is at work
    bench.ledger.release("EX1");
    bench.held("EX1", 1).await;
    // It holds no slot while nothing happens: the only one is free for another.
    bench.client.enqueue("EX2", "echo", json!({"text": "hi"})).await;
    bench.client.until("EX2", "SUCCESS").await;
    assert_eq!(bench.client.row("EX1").await.unwrap().status, "PENDING");
    assert_eq!(bench.ledger.entries("EX1-second").await, 0);

    bench.command("EX1", "RESUME").await;
    bench.client.until("EX1", "SUCCESS").await;
    assert_eq!(bench.client.execution("EX1").await.unwrap(), ("completed".into(), None));
    assert_eq!(bench.ledger.entries("EX1-second").await, 1);
    // Commands are no steps, and are consumed.
    let names: Vec<_> = bench.client.steps("EX1").await.into_iter().map(|step| step.name).collect();
    assert_eq!(names, ["DBOS.writeStream", "updateToRunning", "executeFlowAtomic", "updateToCompleted"]);
    assert_eq!(bench.unconsumed().await, 0);
    assert!(worker.stop().await.success());
}

#[tokio::test]
async fn breakpoints_hold_their_node_and_a_step_goes_to_the_next() {
    let bench = Bench::new().await;
    let worker = bench.worker("w1", &[]).await;
    bench.debug("EX1", json!(["b", "nowhere"])).await;
    bench.client.until_execution("EX1", "paused").await;
    bench.held("EX1", 1).await;
    bench.client.send("EX1", "COMMAND", json!({"command": "JUMP"})).await; // nobody knows it
    bench.command("EX1", "STEP").await;
    bench.held("EX1", 2).await;
    assert_eq!(bench.client.execution("EX1").await.unwrap().0, "paused");
    bench.command("EX1", "RESUME").await;
    let row = bench.client.until("EX1", "SUCCESS").await;
    assert_eq!(row.result()["outputs"]["text"], "a");
    let kinds: Vec<String> = bench.client.events("EX1").await.into_iter().map(|(.., kind)| kind).collect();
    let hit = kinds.iter().position(|kind| kind == "debug:breakpoint-hit").unwrap();
    assert_eq!(kinds[hit - 1..hit + 2], ["node:started", "debug:breakpoint-hit", "edge:transfer-completed"]);
    assert!(worker.log().contains("its breakpoint is ignored"), "{}", worker.log());
    assert!(worker.log().contains("is no command"), "{}", worker.log());
    assert_eq!(bench.unconsumed().await, 0);

    // Breakpoints without debugging are as nothing.
    let task = json!({"executionId": "EX2", "flowId": "steps", "options": {"breakpoints": ["b"]}});
    bench.client.enqueue_task("EX2", &task).await;
    bench.client.until("EX2", "SUCCESS").await;
    assert!(worker.stop().await.success());
}

#[tokio::test]
async fn a_stop_ends_a_paused_execution_and_a_running_one() {
    let bench = Bench::new().await;
    let worker = bench.worker("w1", &[]).await;
    bench.debug("EX1", json!(["a"])).await;
    bench.begin("EX2").await;
    bench.held("EX1", 1).await;
    for id in ["EX1", "EX2"] {
        bench.command(id, "STOP").await;
        let reason = bench.client.until_execution(id, "stopped").await;
        assert_eq!(reason.as_deref(), Some("asked by the test"));
        assert!(bench.client.until(id, "ERROR").await.error().contains("asked by the test"));
        let names: Vec<_> = bench.client.steps(id).await.into_iter().map(|step| step.name).collect();
        assert_eq!(names, ["DBOS.writeStream", "updateToRunning", "executeFlowAtomic", "updateToStopped"]);
        let events = bench.client.events(id).await;
        assert!(events.iter().any(|(.., kind)| kind == "flow:cancelled"), "{events:?}");
    }
    assert_eq!(bench.unconsumed().await, 0);

    // A worker that died after it recorded the stop: the next life ends what it began.
    bench.client.sql().batch_execute("BEGIN").await.unwrap();
    bench.client.enqueue("EX3", "echo", json!({})).await;
    let columns =
        "function_id, function_name, output, error, serialization, started_at_epoch_ms, completed_at_epoch_ms";
    let recorded = format!(
        "INSERT INTO dbos.operation_outputs (workflow_uuid, {columns})
         SELECT 'EX3', {columns} FROM dbos.operation_outputs WHERE workflow_uuid = 'EX1' AND function_id < 3"
    );
    assert_eq!(bench.client.execute(&recorded, &[]).await, 3);
    bench.client.sql().batch_execute("COMMIT").await.unwrap();
    assert_eq!(bench.client.until_execution("EX3", "stopped").await.as_deref(), Some("asked by the test"));
    assert_eq!(bench.client.steps("EX3").await.last().unwrap().name, "updateToStopped");
    assert!(worker.stop().await.success());
}

#[tokio::test]
async fn a_cancel_and_a_deadline_end_a_paused_execution() {
    let bench = Bench::new().await;
    let worker = bench.worker("w1", &[]).await;
    for id in ["EX1", "EX2"] {
        bench.debug(id, json!(["a"])).await;
        bench.client.until_execution(id, "paused").await;
    }
    bench.client.cancel("EX1").await;
    let due = "UPDATE dbos.workflow_status SET workflow_deadline_epoch_ms = 1 WHERE workflow_uuid = 'EX2'";
    bench.client.execute(due, &[]).await;
    for id in ["EX1", "EX2"] {
        bench.client.until_execution(id, "stopped").await;
        assert_eq!(bench.client.row(id).await.unwrap().status, "CANCELLED");
    }
    assert!(worker.stop().await.success());
}

#[tokio::test]
async fn a_drain_hands_a_paused_execution_back_at_once_and_it_comes_back_paused() {
    let bench = Bench::new().await;
    let mut worker = bench.worker("w1", &[("worker.drain_timeout", "1h")]).await;
    bench.debug("EX1", json!(["b"])).await;
    bench.held("EX1", 1).await;
    bench.client.until_execution("EX1", "paused").await;
    worker.signal(Signal::TERM);
    assert!(worker.ended().await.success(), "{}", worker.log());
    assert_eq!(bench.client.row("EX1").await.unwrap().status, "ENQUEUED");
    assert_eq!(bench.client.execution("EX1").await.unwrap().0, "paused");

    let other = bench.worker("w2", &[]).await;
    bench.held("EX1", 2).await; // its first node, before it did anything
    assert_eq!(bench.client.execution("EX1").await.unwrap().0, "paused");
    bench.command("EX1", "RESUME").await;
    bench.held("EX1", 3).await; // and then its breakpoint
    bench.command("EX1", "RESUME").await;
    bench.client.until("EX1", "SUCCESS").await;
    assert_eq!(bench.client.execution("EX1").await.unwrap().0, "completed");
    assert!(other.stop().await.success());
}

#[tokio::test]
async fn a_killed_worker_loses_no_command() {
    let bench = Bench::new().await;
    let lease = [("worker.lease", "1h")];
    let worker = bench.worker("w1", &lease).await;
    bench.begin("EX1").await;
    bench.begin("EX2").await;
    bench.command("EX1", "PAUSE").await;
    bench.client.until_execution("EX1", "paused").await; // consumed, and nothing is held yet
    worker.kill().await;
    bench.command("EX2", "PAUSE").await; // nobody hears it
    bench.command("EX2", "STEP").await;
    bench.ledger.release_all();
    let worker = WorkerProcess::start(&bench.database.url(), "w1", &lease).await;
    bench.held("EX1", 1).await;
    assert_eq!(bench.ledger.entries("EX1").await, 1, "held before it began anything");
    bench.held("EX2", 1).await;
    assert_eq!(bench.client.execution("EX2").await.unwrap().0, "paused");
    for id in ["EX1", "EX2"] {
        bench.command(id, "RESUME").await;
        bench.client.until(id, "SUCCESS").await;
        assert_eq!(bench.client.execution(id).await.unwrap().0, "completed");
    }
    assert_eq!(bench.unconsumed().await, 0);
    assert!(worker.stop().await.success());
}

#[tokio::test]
async fn what_the_server_has_stopped_is_never_paused() {
    let bench = Bench::new().await;
    let worker = bench.worker("w1", &[]).await;
    bench.begin("EX1").await;
    bench.client.execute("UPDATE fireflow_executions SET status = 'stopped' WHERE id = 'EX1'", &[]).await;
    bench.command("EX1", "PAUSE").await;
    bench.obeyed().await;
    bench.ledger.release("EX1");
    bench.held("EX1", 1).await;
    assert_eq!(bench.client.execution("EX1").await.unwrap().0, "stopped");
    bench.command("EX1", "RESUME").await;
    bench.client.until("EX1", "SUCCESS").await;
    assert_eq!(bench.client.execution("EX1").await.unwrap().0, "stopped");
    assert!(worker.stop().await.success());
}
