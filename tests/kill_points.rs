//! A worker that is killed between any two statements, before the server has seen the next one or before it has heard of the
//! last one: nothing is lost, and nothing happens twice.
//!
//! Each test runs one execution for each boundary, and kills the worker at it; a second life of the worker finishes. It ends
//! with the first boundary that an execution doesn't reach. A run takes one of several boundaries, other ones each time;
//! `KILL_POINTS=all` takes all of them (some minutes), and `KILL_POINTS=17` the one that failed.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, also in its helpers")]

mod support;

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value as Json, json};
use support::{
    bench::Bench,
    client::QUEUE,
    flows::{FlowBuilder, echo},
    tripwire::Tripwire,
    worker::WorkerProcess,
};

/// An execution never takes so many.
const MOST: i64 = 400;

struct Stage {
    bench: Bench,
    tripwire: Tripwire,
    settings: &'static [(&'static str, &'static str)],
    worker: Option<WorkerProcess>,
}

impl Stage {
    async fn set(flows: Vec<Json>, settings: &'static [(&'static str, &'static str)]) -> Stage {
        let bench = Bench::with(|_| flows).await;
        let tripwire = Tripwire::before(&bench.database.url()).await;
        Stage { bench, tripwire, settings, worker: None }
    }

    /// The worker, in a new life if it has none.
    async fn worker(&mut self) -> &WorkerProcess {
        if self.worker.is_none() {
            let settings = [&[("log.level", "info")], self.settings].concat();
            self.worker = Some(WorkerProcess::start(self.tripwire.url(), "w1", &settings).await);
        }
        self.worker.as_ref().unwrap()
    }

    /// Run `play` with the worker killed at this boundary, and again alive. False when the boundary wasn't reached.
    async fn killed_at(&mut self, boundary: i64, play: impl AsyncFnOnce(&Bench, &Tripwire), end: &str) -> bool {
        let pid = self.worker().await.pid();
        self.tripwire.arm(pid, boundary);
        play(&self.bench, &self.tripwire).await;
        // It ends in this life, or this life does.
        while !self.tripwire.has_tripped() && self.bench.client.row(end).await.is_none_or(|row| row.status != "SUCCESS")
        {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let killed = self.tripwire.disarm();
        if killed {
            self.worker.take().unwrap().ended().await;
        }
        self.worker().await;
        let row = self.bench.client.until(end, "SUCCESS").await;
        assert!((1..=2).contains(&row.attempts), "boundary {boundary}: {} attempts", row.attempts);
        killed
    }

    async fn rows(&self, sql: &str, id: &str) -> Vec<String> {
        let rows = self.bench.client.sql().query(sql, &[&id]).await.unwrap();
        rows.iter().map(|row| row.get(0)).collect()
    }

    /// The stream has no gaps, begins once, and ends with the end of a flow that began at most twice.
    async fn has_a_whole_stream(&self, id: &str, boundary: i64) {
        let events = self.bench.client.events(id).await;
        let offsets: Vec<i32> = events.iter().map(|(offset, ..)| *offset).collect();
        assert_eq!(offsets, (0..i32::try_from(events.len()).unwrap()).collect::<Vec<_>>(), "boundary {boundary}");
        let count = |kind: &str| events.iter().filter(|(.., its)| its == kind).count();
        assert_eq!(count("execution:created"), 1, "boundary {boundary}: {events:?}");
        assert!((1..=2).contains(&count("flow:started")), "boundary {boundary}: {events:?}");
        assert!(count("flow:completed") >= 1 && events.last().unwrap().2 == "flow:completed", "{events:?}");
    }
}

/// One of `step` boundaries, from a random one on; or those asked for.
fn boundaries(step: i64) -> Vec<i64> {
    match std::env::var("KILL_POINTS").as_deref() {
        Ok("all") => (1..MOST).collect(),
        Ok(one) => vec![one.parse().unwrap()],
        Err(_) => (rand::random_range(1..=step)..MOST).step_by(usize::try_from(step).unwrap()).collect(),
    }
}

const NAMES: &str = "SELECT function_id || ' ' || function_name FROM dbos.operation_outputs WHERE workflow_uuid = $1
                      ORDER BY function_id";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_is_received_once() {
    let mut stage = Stage::set(vec![echo("echo")], &[("execution.start", "signal")]).await;
    let mut reached = 0;
    for boundary in boundaries(4) {
        let id = format!("EX{boundary}");
        // The message comes early, or when it is waited for.
        let early = boundary % 8 < 4;
        let play = async |bench: &Bench, tripwire: &Tripwire| {
            let task = json!({"executionId": id, "flowId": "echo", "inputs": {"text": id}});
            bench.client.enqueue_task(&id, &task).await;
            let waits = "SELECT count(*) FROM dbos.operation_outputs WHERE workflow_uuid = $1 AND function_id = 2";
            let waits = async || bench.client.sql().query_one(waits, &[&id]).await.unwrap().get::<_, i64>(0) > 0;
            while !early && !tripwire.has_tripped() && !waits().await {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            for (topic, message) in [("OTHER", "x"), ("START_SIGNAL", "first"), ("START_SIGNAL", "second")] {
                bench.client.send(&id, topic, json!(message)).await;
            }
        };
        if !stage.killed_at(boundary, play, &id).await {
            break;
        }
        reached = boundary;
        let steps = stage.rows(NAMES, &id).await;
        let waited = steps.iter().any(|step| step == "2 DBOS.sleep");
        let expected = [
            "0 DBOS.writeStream",
            "1 DBOS.recv",
            "2 DBOS.sleep",
            "3 updateToRunning",
            "4 executeFlowAtomic",
            "5 updateToCompleted",
        ];
        let expected: Vec<_> = expected.iter().filter(|step| waited || !step.starts_with('2')).collect();
        assert_eq!(steps.iter().collect::<Vec<_>>(), expected, "boundary {boundary}");
        let received = "SELECT output FROM dbos.operation_outputs WHERE workflow_uuid = $1 AND function_id = 1";
        assert_eq!(stage.rows(received, &id).await, ["\"first\""], "boundary {boundary}");
        let left =
            "SELECT topic || ' ' || message || ' ' || consumed FROM dbos.notifications WHERE destination_uuid = $1
                     ORDER BY 1";
        let left = stage.rows(left, &id).await;
        assert_eq!(left, ["OTHER \"x\" false", "START_SIGNAL \"first\" true", "START_SIGNAL \"second\" false"]);
        stage.has_a_whole_stream(&id, boundary).await;
    }
    assert!(
        reached > 20 || std::env::var_os("KILL_POINTS").is_some(),
        "an execution has more than {reached} boundaries"
    );
    assert!(stage.worker.take().unwrap().stop().await.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn children_are_started_once_and_heard_once() {
    let event = |name: &str| [("eventName", json!(name))];
    // Two children, the first of which has one of its own.
    let family = FlowBuilder::new("family")
        .node("first", "EventEmitterNode", &event("child"))
        .node("second", "EventEmitterNode", &event("other"))
        .node("on-child", "EventListenerNodeV2", &event("child"))
        .node("again", "EventEmitterNode", &event("grandchild"))
        .then("on-child", "again")
        .node("on-other", "EventListenerNodeV2", &event("other"))
        .node("on-grandchild", "EventListenerNodeV2", &event("grandchild"))
        .build();
    let mut stage = Stage::set(vec![family], &[]).await;
    let mut reached = 0;
    for boundary in boundaries(12) {
        let id = format!("EX{boundary}");
        let play = async |bench: &Bench, _: &Tripwire| bench.client.enqueue(&id, "family", json!({})).await;
        if !stage.killed_at(boundary, play, &id).await {
            break;
        }
        reached = boundary;
        let steps = stage.rows(NAMES, &id).await;
        let expected = [
            "0 DBOS.writeStream",
            "1 updateToRunning",
            "2 executeFlowAtomic",
            "3 executeFireFlow",
            "4 executeFireFlow",
            "5 DBOS.getResult",
            "6 DBOS.getResult",
            "7 updateToCompleted",
        ];
        assert_eq!(steps, expected, "boundary {boundary}");
        let tree = "WITH RECURSIVE tree AS (
                        SELECT workflow_uuid, 0 AS depth FROM dbos.workflow_status WHERE workflow_uuid = $1
                        UNION ALL
                        SELECT w.workflow_uuid, depth + 1
                          FROM dbos.workflow_status w JOIN tree ON w.parent_workflow_id = tree.workflow_uuid)
                    SELECT depth || ' ' || w.status || ' ' || e.status FROM tree
                      JOIN dbos.workflow_status w USING (workflow_uuid) JOIN fireflow_executions e ON e.id = workflow_uuid
                     ORDER BY 1";
        let once = ["0 SUCCESS completed", "1 SUCCESS completed", "1 SUCCESS completed", "2 SUCCESS completed"];
        assert_eq!(stage.rows(tree, &id).await, once, "boundary {boundary}");
        let rows = "SELECT count(*)::text FROM fireflow_executions WHERE root_execution_id = $1";
        assert_eq!(stage.rows(rows, &id).await, ["4"], "boundary {boundary}");
        stage.has_a_whole_stream(&id, boundary).await;
    }
    assert!(reached > 20 || std::env::var_os("KILL_POINTS").is_some(), "a family has more than {reached} boundaries");
    let every = "SELECT status, count(*) FROM dbos.workflow_status WHERE queue_name = $1 GROUP BY 1";
    let every = stage.bench.client.sql().query(every, &[&QUEUE]).await.unwrap();
    let every: BTreeMap<String, i64> = every.iter().map(|row| (row.get(0), row.get(1))).collect();
    assert_eq!(every.keys().collect::<Vec<_>>(), ["SUCCESS"], "{every:?}");
    assert!(stage.worker.take().unwrap().stop().await.success());
}
