//! Work survives: killed workers, drained workers, workers that twin, rows that are taken away.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, also in its helpers")]

mod support;

use rustix::process::Signal;
use serde_json::json;
use support::{
    bench::Bench,
    client::Step,
    flows::{FlowBuilder, echo, gated, reporting},
    worker::WorkerProcess,
};

impl Bench {
    /// With the flows `long` (enters, is held, leaves) and `echo`.
    async fn new() -> Bench {
        Bench::with(|ledger| {
            let long = FlowBuilder::new("long").get("hold", ledger).output("reply", "hold", "response");
            vec![long.build(), echo("echo")]
        })
        .await
    }

    /// Enqueue a long execution, and wait until it is in its middle, with all events up to there written.
    async fn begin(&self, id: &str) {
        self.client.enqueue(id, "long", json!({"hold": format!("/hold/{id}")})).await;
        self.ledger.entered(id, 1).await;
        self.client.until_event(id, "node:started").await;
    }

    async fn names(&self, id: &str) -> Vec<String> {
        self.client.steps(id).await.into_iter().map(|step| step.name).collect()
    }
}

const RUNNING: [&str; 2] = ["DBOS.writeStream", "updateToRunning"];
const COMPLETED: [&str; 4] = ["DBOS.writeStream", "updateToRunning", "executeFlowAtomic", "updateToCompleted"];

/// Offsets are dense, and the indexes of the engine's events start at 0 once a run.
fn assert_runs(events: &[(i32, i64, String)], runs: usize) {
    for (place, (offset, ..)) in events.iter().enumerate() {
        assert_eq!(usize::try_from(*offset).unwrap(), place, "{events:?}");
    }
    let (created, rest) = events.split_first().unwrap();
    assert_eq!((created.1, created.2.as_str()), (-1, "execution:created"));
    let mut begun = 0;
    let mut next = 0;
    for (_, index, kind) in rest {
        if *index == 0 {
            (begun, next) = (begun + 1, 0);
            assert_eq!(kind, "flow:started", "{events:?}");
        }
        assert_eq!(*index, next, "{events:?}");
        next += 1;
    }
    assert_eq!(begun, runs, "{events:?}");
}

#[tokio::test]
async fn a_killed_worker_that_comes_back_goes_on_at_once() {
    let bench = Bench::new().await;
    let settings = [("worker.lease", "1h")]; // so that it can't be the lease's end that helps
    let worker = bench.worker("w1", &settings).await;
    bench.begin("EX1").await;
    let before: Vec<Step> = bench.client.steps("EX1").await;
    assert_eq!(before.iter().map(|step| step.name.as_str()).collect::<Vec<_>>(), RUNNING);
    let first_run = bench.client.events("EX1").await;
    worker.kill().await;
    assert_eq!(bench.client.row("EX1").await.unwrap().status, "PENDING");

    let worker = bench.worker("w1", &settings).await;
    bench.ledger.entered("EX1", 2).await; // the step ran again from its start
    bench.ledger.release("EX1");
    let row = bench.client.until("EX1", "SUCCESS").await;
    assert_eq!(row.result()["outputs"], json!({"reply": "held"}));
    assert_eq!(row.attempts, 2);
    assert_eq!(bench.client.execution("EX1").await.unwrap().0, "completed");
    let after = bench.client.steps("EX1").await;
    assert_eq!(after[..2], before[..], "recorded steps didn't run again");
    assert_eq!(bench.names("EX1").await, COMPLETED);
    let events = bench.client.events("EX1").await;
    assert_eq!(events[..first_run.len()], first_run[..]);
    assert_runs(&events, 2);
    assert_eq!(events.last().unwrap().2, "flow:completed");
    assert_eq!(bench.ledger.entries("EX1").await, 2);
    assert!(worker.stop().await.success());
}

#[tokio::test]
async fn another_worker_takes_over_when_the_lease_has_ended() {
    let bench = Bench::new().await;
    let lease = [("worker.lease", "3s")];
    let worker = bench.worker("w1", &lease).await;
    bench.begin("EX1").await;
    let other = bench.worker("w2", &lease).await;
    worker.kill().await;
    let left = "SELECT count(*) FROM fireflow_workers WHERE id = 'w1' AND expires_at > now()";
    assert_eq!(bench.client.sql().query_one(left, &[]).await.unwrap().get::<_, i64>(0), 1, "the lease goes on");
    bench.ledger.entered("EX1", 2).await;
    let early = "SELECT count(*) FROM fireflow_workers w JOIN ledger l ON l.at < w.expires_at AND l.worker = 'w2'
                  WHERE w.id = 'w1'";
    assert_eq!(bench.client.sql().query_one(early, &[]).await.unwrap().get::<_, i64>(0), 0, "but not before its end");
    bench.ledger.release("EX1");
    let row = bench.client.until("EX1", "SUCCESS").await;
    assert_eq!(row.executor.as_deref(), Some("w2"));
    assert!(other.log().contains("a worker died"), "{}", other.log());
    assert_runs(&bench.client.events("EX1").await, 2);
}

#[tokio::test]
async fn sigterm_waits_for_what_fits_in_the_drain_time() {
    let bench = Bench::new().await;
    for signal in [Signal::TERM, Signal::INT] {
        let id = format!("EX-{signal:?}");
        let mut worker = bench.worker("w1", &[]).await;
        bench.begin(&id).await;
        worker.signal(signal);
        worker.says("draining executions=1").await;
        bench.client.enqueue(&format!("{id}-late"), "echo", json!({})).await;
        bench.ledger.release(&id);
        assert!(worker.ended().await.success(), "{}", worker.log());
        assert_eq!(bench.client.row(&id).await.unwrap().status, "SUCCESS");
        assert_eq!(bench.client.row(&format!("{id}-late")).await.unwrap().status, "ENQUEUED", "nothing new is taken");
        assert_runs(&bench.client.events(&id).await, 1);
        bench.client.cancel(&format!("{id}-late")).await;
    }
    let state = "SELECT state FROM fireflow_workers WHERE id = 'w1' AND expires_at <= now()";
    assert_eq!(bench.client.sql().query_one(state, &[]).await.unwrap().get::<_, &str>(0), "stopped");
}

#[tokio::test]
async fn what_does_not_fit_in_the_drain_time_is_handed_back_and_goes_on_elsewhere() {
    let bench = Bench::new().await;
    let mut worker = bench.worker("w1", &[("worker.drain_timeout", "200ms")]).await;
    bench.begin("EX1").await;
    let before = bench.client.steps("EX1").await;
    worker.signal(Signal::TERM);
    assert!(worker.ended().await.success(), "{}", worker.log());
    assert!(worker.log().contains("given back to the queue executions=1"), "{}", worker.log());
    let row = bench.client.row("EX1").await.unwrap();
    assert_eq!((row.status.as_str(), row.attempts), ("ENQUEUED", 0), "a hand-over is no failed attempt");
    assert_eq!(bench.client.steps("EX1").await, before, "its checkpoints stay, and nothing is added");
    let first_run = bench.client.events("EX1").await;
    assert!(!first_run.iter().any(|(.., kind)| kind == "flow:cancelled"), "it goes on: {first_run:?}");

    let other = bench.worker("w2", &[]).await;
    bench.ledger.entered("EX1", 2).await;
    bench.ledger.release("EX1");
    assert_eq!(bench.client.until("EX1", "SUCCESS").await.attempts, 1);
    assert_eq!(bench.names("EX1").await, COMPLETED);
    assert_runs(&bench.client.events("EX1").await, 2);
    assert!(other.stop().await.success());
}

#[tokio::test]
async fn a_second_signal_hands_back_at_once() {
    let bench = Bench::new().await;
    for (first, second) in [(Signal::TERM, Signal::TERM), (Signal::INT, Signal::INT), (Signal::INT, Signal::TERM)] {
        let id = format!("EX-{first:?}-{second:?}");
        let mut worker = bench.worker("w1", &[("worker.drain_timeout", "1h")]).await;
        bench.begin(&id).await;
        worker.signal(first);
        worker.says("draining executions=1").await;
        worker.signal(second);
        assert!(worker.ended().await.success(), "{}", worker.log());
        assert!(worker.log().contains("giving running executions back at once"), "{}", worker.log());
        let row = bench.client.row(&id).await.unwrap();
        assert_eq!((row.status.as_str(), row.attempts), ("ENQUEUED", 0));
        assert!(!bench.client.events(&id).await.iter().any(|(.., kind)| kind == "flow:cancelled"));
        bench.client.cancel(&id).await;
    }
}

#[tokio::test]
async fn who_waits_for_its_signal_holds_no_slot_and_is_handed_back_while_others_drain() {
    let bench = Bench::new().await;
    let settings = [("execution.start", "signal"), ("queue.worker_concurrency", "1"), ("worker.drain_timeout", "1h")];
    let mut worker = bench.worker("w1", &settings).await;
    bench.client.enqueue("EX-waits", "echo", json!({})).await;
    bench.client.until_step("EX-waits", "DBOS.sleep").await;
    // Its signal is there before it is taken.
    bench.client.sql().batch_execute("BEGIN").await.unwrap();
    bench.client.enqueue("EX-runs", "long", json!({"hold": "/hold/EX-runs"})).await;
    bench.client.send("EX-runs", "START_SIGNAL", json!("GO")).await;
    bench.client.sql().batch_execute("COMMIT").await.unwrap();
    bench.ledger.entered("EX-runs", 1).await;
    assert_eq!(bench.client.row("EX-waits").await.unwrap().status, "PENDING");

    worker.signal(Signal::TERM);
    let row = bench.client.until("EX-waits", "ENQUEUED").await;
    assert_eq!(row.attempts, 0);
    assert_eq!(bench.client.row("EX-runs").await.unwrap().status, "PENDING", "the other is still at work");
    bench.ledger.release("EX-runs");
    assert!(worker.ended().await.success(), "{}", worker.log());
    assert_eq!(bench.client.row("EX-runs").await.unwrap().status, "SUCCESS");
    // It didn't wait, so there is no timer.
    let numbers: Vec<i32> = bench.client.steps("EX-runs").await.iter().map(|step| step.function_id).collect();
    assert_eq!(numbers, [0, 1, 3, 4, 5]);
}

#[tokio::test]
async fn the_start_signal_may_come_late_or_never_but_must_be_true() {
    let bench = Bench::new().await;
    let worker = bench.worker("w1", &[("execution.start", "signal"), ("execution.start_timeout", "1s")]).await;
    bench.client.create_execution("EX-never", "echo").await;
    bench.client.enqueue("EX-never", "echo", json!({})).await;
    bench.client.create_execution("EX-no", "echo").await;
    bench.client.enqueue("EX-no", "echo", json!({})).await;
    bench.client.until_step("EX-no", "DBOS.sleep").await;
    bench.client.send("EX-no", "START_SIGNAL", json!(false)).await;
    bench.client.create_execution("EX-large", "echo").await;
    bench.client.enqueue("EX-large", "echo", json!({})).await;
    bench.client.until_step("EX-large", "DBOS.sleep").await;
    bench.client.send("EX-large", "START_SIGNAL", json!("x".repeat(70_000))).await;
    bench.client.enqueue("EX-late", "echo", json!({"text": "hi"})).await;
    bench.client.until_step("EX-late", "DBOS.sleep").await;
    bench.client.send("EX-late", "OTHER", json!("GO")).await;
    bench.client.send("EX-late", "START_SIGNAL", json!("GO")).await;
    assert_eq!(bench.client.until("EX-late", "SUCCESS").await.result()["outputs"]["text"], "hi");

    for id in ["EX-never", "EX-no", "EX-large"] {
        let row = bench.client.until(id, "ERROR").await;
        assert!(row.error().contains("no start signal came within 1s"), "{row:?}");
        let (status, error) = bench.client.execution(id).await.unwrap();
        assert_eq!(status, "failed");
        assert!(error.unwrap().contains("no start signal"));
        assert_eq!(bench.names(id).await, ["DBOS.writeStream", "DBOS.recv", "DBOS.sleep", "updateToFailed"]);
    }
    assert!(worker.stop().await.success());
}

#[tokio::test]
async fn a_wait_goes_on_with_its_first_deadline_after_a_kill() {
    let bench = Bench::new().await;
    let short = [("execution.start", "signal"), ("execution.start_timeout", "3s")];
    let worker = bench.worker("w1", &short).await;
    bench.client.enqueue("EX1", "echo", json!({})).await;
    bench.client.until_step("EX1", "DBOS.sleep").await;
    let sleep = "SELECT output::bigint FROM dbos.operation_outputs WHERE function_name = 'DBOS.sleep'";
    let deadline: i64 = bench.client.sql().query_one(sleep, &[]).await.unwrap().get(0);
    worker.kill().await;
    // A worker that would give it an hour, and start it at once, were it a new one.
    let worker = bench.worker("w1", &[("execution.start_timeout", "1h")]).await;
    let row = bench.client.until("EX1", "ERROR").await;
    assert!(row.error().contains("no start signal"), "{row:?}");
    assert_eq!(bench.client.sql().query_one(sleep, &[]).await.unwrap().get::<_, i64>(0), deadline);
    let ended = "SELECT completed_at FROM dbos.workflow_status WHERE workflow_uuid = 'EX1'";
    let late = bench.client.sql().query_one(ended, &[]).await.unwrap().get::<_, i64>(0) - deadline;
    assert!((0..30_000).contains(&late), "{late} ms after the deadline");
    assert!(worker.stop().await.success());
}

#[tokio::test]
async fn two_live_workers_can_not_share_an_id() {
    let bench = Bench::new().await;
    let worker = bench.worker("twin", &[]).await;
    let mut second = WorkerProcess::spawn(&bench.database.url(), "twin", &[]);
    assert_eq!(second.ended().await.code(), Some(75), "{}", second.log());
    let host = gethostname::gethostname().to_string_lossy().into_owned();
    let pid = worker.pid().as_raw_nonzero();
    second.says(&format!("(process {pid} on {host})")).await;
    second.says("worker.id").await;
    second.says(" UTC; give this one another").await; // until when
    // The first one hasn't noticed anything.
    bench.client.enqueue("EX1", "echo", json!({"text": "still here"})).await;
    bench.client.until("EX1", "SUCCESS").await;
    assert!(worker.stop().await.success());
}

#[tokio::test]
async fn what_kills_its_worker_each_time_is_parked() {
    let bench = Bench::new().await;
    bench.client.enqueue("EX-last-try", "echo", json!({})).await;
    bench.client.enqueue("EX-too-often", "echo", json!({})).await;
    let tried = "UPDATE dbos.workflow_status SET recovery_attempts = $2 WHERE workflow_uuid = $1";
    bench.client.execute(tried, &[&"EX-last-try", &3_i64]).await;
    bench.client.execute(tried, &[&"EX-too-often", &4_i64]).await;
    let worker = bench.worker("w1", &[("execution.max_recovery_attempts", "3")]).await;
    bench.client.until("EX-last-try", "SUCCESS").await;
    bench.client.until("EX-too-often", "MAX_RECOVERY_ATTEMPTS_EXCEEDED").await;
    assert_eq!(bench.client.steps("EX-too-often").await, []);
    let freed = "SELECT count(*) FROM dbos.workflow_status
                  WHERE workflow_uuid = 'EX-too-often' AND queue_name IS NULL AND deduplication_id IS NULL";
    assert_eq!(bench.client.sql().query_one(freed, &[]).await.unwrap().get::<_, i64>(0), 1);
    worker.says("parked").await;
    assert!(worker.stop().await.success());
}

#[tokio::test]
async fn a_cancelled_or_deleted_flow_stops_and_writes_nothing_more() {
    let bench = Bench::new().await;
    let worker = bench.worker("w1", &[("queue.worker_concurrency", "2")]).await;
    bench.begin("EX-cancelled").await;
    bench.begin("EX-deleted").await;
    let before = (bench.client.steps("EX-cancelled").await, bench.client.events("EX-cancelled").await);
    bench.client.cancel("EX-cancelled").await;
    let tables = ["workflow_status", "workflow_input", "workflow_output", "operation_outputs", "streams"];
    for table in tables {
        bench.client.execute(&format!("DELETE FROM dbos.{table} WHERE workflow_uuid = 'EX-deleted'"), &[]).await;
    }

    // They stop although nobody answers their requests.
    let cancelled = bench.client.until_execution("EX-cancelled", "stopped").await;
    assert_eq!(cancelled.as_deref(), Some("the workflow was cancelled"));
    let deleted = bench.client.until_execution("EX-deleted", "stopped").await;
    assert_eq!(deleted.as_deref(), Some("the workflow was deleted"));
    bench.ledger.release_all();
    // Both slots are free again, and what is written now is written after all that the two would have written.
    for id in ["EX2", "EX3", "EX4"] {
        bench.client.enqueue(id, "echo", json!({})).await;
    }
    bench.client.until_count("SUCCESS", 3).await;
    let after = (bench.client.steps("EX-cancelled").await, bench.client.events("EX-cancelled").await);
    assert_eq!(after, before);
    let row = bench.client.row("EX-cancelled").await.unwrap();
    assert_eq!((row.status.as_str(), row.output, row.error), ("CANCELLED", None, None));
    for table in tables {
        let sql = format!("SELECT count(*) FROM dbos.{table} WHERE workflow_uuid = 'EX-deleted'");
        let rows: i64 = bench.client.sql().query_one(&sql, &[]).await.unwrap().get(0);
        assert_eq!(rows, 0, "{table}");
    }
    assert!(worker.stop().await.success());
}

/// Here the flow's own next write finds out, long before anybody looks.
#[tokio::test]
async fn a_flow_that_writes_after_its_cancel_is_stopped_by_the_write() {
    let bench = Bench::new().await;
    bench.client.store(&reporting("busy", bench.ledger.base())).await;
    let worker = bench.worker("w1", &[]).await;
    bench.client.enqueue("EX1", "busy", gated("EX1")).await;
    bench.ledger.entered("EX1", 1).await;
    bench.client.until_event("EX1", "node:started").await;
    bench.client.cancel("EX1").await;
    bench.ledger.release("EX1");
    assert!(bench.client.until_execution("EX1", "stopped").await.is_some());
    worker.says("execution stopped").await;
    assert_eq!(bench.names("EX1").await, RUNNING);
    assert!(worker.stop().await.success());
}

/// A claim that was committed, but whose answer was lost with the connection: the row names the living worker as its
/// executor, under a token that nobody has.
#[tokio::test]
async fn a_row_that_its_living_worker_does_not_know_goes_back_to_the_queue() {
    let bench = Bench::new().await;
    let worker = bench.worker("w1", &[("worker.lease", "4s")]).await;
    bench.begin("EX-known").await;
    // This one becomes as old, and stays. Its age can't be feigned: the time of its claim tells whose it is.
    let old = "SELECT count(*) FROM dbos.workflow_status WHERE workflow_uuid = 'EX-known'
                  AND started_at_epoch_ms < (extract(epoch FROM now()) * 1000)::bigint - 15500";
    assert!(bench.client.comes_true(old, &[], 1).await);
    let strand = "UPDATE dbos.workflow_status
                     SET status = 'PENDING', executor_id = 'w1', owner_xid = 'lost',
                         started_at_epoch_ms = (extract(epoch FROM now() - interval '1 minute') * 1000)::bigint
                   WHERE workflow_uuid = $1";
    bench.client.sql().batch_execute("BEGIN").await.unwrap();
    bench.client.enqueue("EX1", "echo", json!({})).await;
    bench.client.execute(strand, &[&"EX1"]).await;
    bench.client.sql().batch_execute("COMMIT").await.unwrap();
    worker.says("claimed but never ran").await;
    bench.client.until("EX1", "SUCCESS").await;
    bench.ledger.release("EX-known");
    assert_eq!(bench.client.until("EX-known", "SUCCESS").await.attempts, 1);
    assert_eq!(bench.ledger.entries("EX-known").await, 1);
    assert!(worker.stop().await.success());
}
