//! Cancelling, resuming, deadlines and delays.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::stage::{QUEUE, Stage, execution, long, names, outputs, shared, task, with};
use crate::interop::{client::Client, setup::Lang};

#[tokio::test]
async fn a_cancelled_execution_stops_and_its_slot_is_free() {
    let Some(stage) = Stage::set().await else { return };
    let _worker = stage.worker(&[("queue.worker_concurrency", "1")]).await;
    for client in &stage.clients {
        let [running, waiting, timed, next] =
            ["running", "waiting", "timed", "next"].map(|what| format!("{what}-{:?}", client.lang()));
        client.enqueue(long(&running)).await;
        stage.engine_runs(&running).await;
        client.enqueue(execution(&waiting, "hello-world", json!({}))).await;
        // A deadline does the same, without anyone's word.
        client.enqueue(with(long(&timed), json!({"timeoutMs": 200}))).await;
        client.enqueue(execution(&next, "hello-world", json!({}))).await;
        client.call("cancel", json!({ "id": waiting })).await.unwrap();
        client.call("cancel", json!({ "id": running })).await.unwrap();
        let cancelled = Instant::now();

        // The first one learns of it by a write that is refused, the second one, which has nothing to write, by looking.
        for id in [&running, &timed] {
            let reason = stage.execution_has(id, "stopped").await;
            assert!(cancelled.elapsed() < Duration::from_secs(15), "it took {:?}", cancelled.elapsed());
            assert!(reason.is_some_and(|reason| reason.contains("cancelled")));
            was_cancelled(client, id).await;
            assert_eq!(names(&client.steps(id).await), ["DBOS.writeStream", "updateToRunning"]);
            let events = client.stream(id, "events").await; // ends, though the flow didn't
            assert_eq!(events[0]["event"]["type"], "execution:created");
        }
        assert_eq!(outputs(client.result(&next).await), json!({"greeting": "Hello, world!"}));
        was_cancelled(client, &waiting).await;
        assert!(client.steps(&waiting).await.is_empty(), "it never began");
        assert!(client.stream(&waiting, "events").await.is_empty());
    }
}

async fn was_cancelled(client: &Client, id: &str) {
    let error = client.result(id).await.unwrap_err();
    let code = if client.lang() == Lang::TypeScript { 27 } else { 13 };
    assert_eq!(error.code, code, "{error:?}");
    let row = client.workflow(id).await;
    assert_eq!((&row["status"], &row["queue"], &row["output"]), (&json!("CANCELLED"), &Value::Null, &Value::Null));
    assert!(row["completedAt"].is_i64(), "{row}");
}

#[test]
fn a_cancelled_execution_can_be_resumed() {
    shared(async |stage| {
        for client in &stage.clients {
            let [begun, elsewhere] = ["begun", "elsewhere"].map(|what| format!("{what}-{:?}", client.lang()));
            client.enqueue(execution(&begun, "parallel", json!({"duration": 1500}))).await;
            stage.engine_runs(&begun).await;
            client.call("cancel", json!({ "id": begun })).await.unwrap();
            stage.execution_has(&begun, "stopped").await;
            // One that never began, on a queue that nobody serves: a resumed one comes by the internal queue.
            client.enqueue(with(execution(&elsewhere, "hello-world", json!({})), json!({"queue": "unserved"}))).await;
            client.call("cancel", json!({ "id": elsewhere })).await.unwrap();
            assert_eq!(stage.status(&elsewhere).await, "CANCELLED");

            client.call("resume", json!({ "id": elsewhere })).await.unwrap();
            assert_eq!(outputs(client.result(&elsewhere).await), json!({"greeting": "Hello, world!"}));
            client.call("resume", json!({"id": begun, "queue": QUEUE})).await.unwrap();
            assert_eq!(outputs(client.result(&begun).await), json!({"message": "all three are done"}));
            let expected = ["DBOS.writeStream", "updateToRunning", "executeFlowAtomic", "updateToCompleted"];
            assert_eq!(names(&client.steps(&begun).await), expected);
            assert_eq!(stage.execution_has(&begun, "completed").await, None, "the reason of the stop is gone");
            let events = client.stream(&begun, "events").await;
            assert_eq!(events.last().unwrap()["event"]["type"], "flow:completed");
        }
    });
}

#[tokio::test]
async fn one_that_takes_its_worker_down_is_parked_and_can_be_resumed() {
    let Some(stage) = Stage::set().await else { return };
    let id = |client: &Client| format!("guilty-{:?}", client.lang());
    for client in &stage.clients {
        client.enqueue(execution(&id(client), "hello-world", json!({}))).await;
        // As a worker left it that died, for the third time.
        let left = "UPDATE dbos.workflow_status SET status = 'PENDING', executor_id = 'lost', owner_xid = 'gone',
                           started_at_epoch_ms = 1, recovery_attempts = 3 WHERE workflow_uuid = $1";
        assert_eq!(stage.sql.execute(left, &[&id(client)]).await.unwrap(), 1);
        let twice = "INSERT INTO fireflow_crashes (workflow_id, crashes, steps, attempts, worker_id, reason)
                     VALUES ($1, 2, 0, 2, 'lost', 'it died')";
        stage.sql.execute(twice, &[&id(client)]).await.unwrap();
    }
    let died = "INSERT INTO fireflow_workers (id, incarnation, expires_at, state)
                VALUES ('lost', gen_random_uuid(), now(), 'running')";
    stage.sql.execute(died, &[]).await.unwrap();
    let _worker = stage.worker(&[]).await;
    for client in &stage.clients {
        let id = id(client);
        let error = client.result(&id).await.unwrap_err();
        let code = if client.lang() == Lang::TypeScript { 30 } else { 14 };
        assert_eq!(error.code, code, "{error:?}");
        let row = client.workflow(&id).await;
        let expected = json!("MAX_RECOVERY_ATTEMPTS_EXCEEDED");
        assert_eq!((&row["status"], &row["queue"], &row["output"]), (&expected, &Value::Null, &Value::Null));
        assert!(row["completedAt"].is_i64(), "{row}");
        client.call("resume", json!({ "id": id })).await.unwrap();
        assert_eq!(outputs(client.result(&id).await), json!({"greeting": "Hello, world!"}));
    }
}

#[test]
fn an_execution_can_be_rewound_and_forked() {
    shared(async |stage| {
        for client in &stage.clients {
            // As the server sends it, with the execution's own id in the task: a fork is another execution all the same.
            let id = format!("first-{:?}", client.lang());
            client.enqueue(task(&id, json!([{"executionId": id, "flowId": "hello-world"}]))).await;
            let first = client.result(&id).await.unwrap();
            let before = client.steps(&id).await;

            // From the flow itself on: what came before isn't done again.
            client.call("rewind", json!({"id": id, "step": 2, "queue": QUEUE})).await.unwrap();
            assert_eq!(outputs(client.result(&id).await), first["outputs"]);
            let steps = client.steps(&id).await;
            assert_eq!((&steps[..2], names(&steps)), (&before[..2], names(&before)));
            assert!(steps[2]["startedAt"].as_i64() >= before[3]["completedAt"].as_i64(), "{steps:?}");
            stage.execution_has(&id, "completed").await;

            for step in [1, 2] {
                let fork = client.call("fork", json!({"id": id, "step": step})).await.unwrap();
                let fork = fork["id"].as_str().unwrap();
                let result = client.result(fork).await.unwrap();
                assert_eq!((&result["executionId"], &result["outputs"]), (&json!(fork), &first["outputs"]));
                assert_eq!(names(&client.steps(fork).await), names(&before));
                assert_eq!(client.workflow(fork).await["forkedFrom"], json!(id));
                assert_eq!(client.stream(fork, "events").await.last().unwrap()["event"]["type"], "flow:completed");
                stage.execution_has(fork, "completed").await;
            }
        }
    });
}

#[test]
fn a_delayed_execution_runs_when_its_time_has_come() {
    shared(async |stage| {
        for client in &stage.clients {
            let id = format!("later-{:?}", client.lang());
            client.enqueue(with(execution(&id, "hello-world", json!({})), json!({"delayMs": 1500}))).await;
            let now = format!("now-{:?}", client.lang());
            client.enqueue(execution(&now, "hello-world", json!({}))).await;
            assert!(client.result(&now).await.is_ok());
            assert_eq!(stage.status(&id).await, "DELAYED");
        }
        for client in &stage.clients {
            let id = format!("later-{:?}", client.lang());
            assert_eq!(outputs(client.result(&id).await), json!({"greeting": "Hello, world!"}));
            let row = client.workflow(&id).await;
            let (due, begun) = (row["delayUntilMs"].as_i64().unwrap(), row["dequeuedAt"].as_i64().unwrap());
            assert!(begun >= due, "{row}");
        }
    });
}
