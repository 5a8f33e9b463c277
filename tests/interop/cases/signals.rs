//! The start signal: executions that wait for a client's message.

use serde_json::{Value, json};

use super::stage::{QUEUE, Stage, execution, names, task, with};

const WAITED: [&str; 6] =
    ["DBOS.writeStream", "DBOS.recv", "DBOS.sleep", "updateToRunning", "executeFlowAtomic", "updateToCompleted"];

#[tokio::test]
async fn a_message_of_any_client_starts_an_execution_and_waiting_takes_no_slot() {
    let Some(stage) = Stage::set().await else { return };
    let forms: Vec<_> = stage.clients.iter().flat_map(|client| [(client, false), (client, true)]).collect();
    // The first ones have their message before anyone looks for it.
    let mut early = Vec::new();
    let mut late = Vec::new();
    for (client, portable) in forms {
        let more = json!({ "portable": portable });
        for (ids, when) in [(&mut early, "early"), (&mut late, "late")] {
            let id = format!("{when}-{:?}-{portable}", client.lang());
            client.enqueue(with(execution(&id, "hello-world", json!({"name": "you"})), more.clone())).await;
            ids.push((client, portable, id));
        }
    }
    let go =
        |id: &str, portable: bool| json!({"id": id, "topic": "START_SIGNAL", "message": "GO", "portable": portable});
    for (client, portable, id) in &early {
        client.call("send", go(id, *portable)).await.unwrap();
    }
    let worker = stage.worker(&[("execution.start", "signal"), ("queue.worker_concurrency", "1")]).await;
    for (client, _, id) in &early {
        assert_eq!(client.result(id).await.unwrap()["outputs"]["greeting"], "Hello, you!");
        let steps = client.steps(id).await;
        assert_eq!(names(&steps), WAITED.iter().copied().filter(|name| *name != "DBOS.sleep").collect::<Vec<_>>());
        let numbers: Vec<i64> = steps.iter().filter_map(|step| step["step"].as_i64()).collect();
        assert_eq!(numbers, [0, 1, 3, 4, 5], "the timer's number stays free");
    }

    // SQL sends as well.
    let insert = "SELECT dbos.enqueue_workflow('executeFireFlow', $1, ARRAY['{\"flowId\": \"hello-world\"}'::json])";
    let by_sql: String = stage.sql.query_one(insert, &[&QUEUE]).await.unwrap().get(0);
    // All wait at once, though only one may run.
    let waiting = "SELECT function_name FROM dbos.operation_outputs WHERE workflow_uuid = $1 AND function_id = 2";
    for id in late.iter().map(|(_, _, id)| id).chain([&by_sql]) {
        assert_eq!(stage.until::<String>(waiting, id, |_| true).await, "DBOS.sleep");
    }
    for (client, _, id) in &late {
        assert_eq!(client.workflow(id).await["status"], "PENDING");
    }
    for (client, portable, id) in &late {
        client.call("send", with(go(id, *portable), json!({"topic": "SOMETHING_ELSE"}))).await.unwrap();
        client.call("send", go(id, *portable)).await.unwrap();
        assert_eq!(client.result(id).await.unwrap()["outputs"]["greeting"], "Hello, you!");
        let steps = client.steps(id).await;
        assert_eq!(names(&steps), WAITED);
        assert_eq!(steps[1]["output"], "GO");
        assert!(steps[2]["output"].is_i64(), "the time when it would have given up: {steps:?}");
        let events = client.stream(id, "events").await;
        assert_eq!(events.last().unwrap()["event"]["type"], "flow:completed");
    }
    assert_eq!(stage.status(&by_sql).await, "PENDING", "messages for others didn't start it");
    let send = "SELECT dbos.send_message($1, '\"GO\"'::json, 'START_SIGNAL')";
    stage.sql.execute(send, &[&by_sql]).await.unwrap();
    assert_eq!(stage.clients[0].result(&by_sql).await.unwrap()["outputs"]["greeting"], "Hello, world!");

    // Cancelled while it waits, and resumed: it goes on waiting, by the time that it had left.
    for client in &stage.clients {
        let id = format!("cancelled-{:?}", client.lang());
        client.enqueue(execution(&id, "hello-world", json!({"name": "you"}))).await;
        stage.until::<String>(waiting, &id, |_| true).await;
        let until = client.steps(&id).await[1]["output"].clone();
        client.call("cancel", json!({ "id": id })).await.unwrap();
        stage.execution_has(&id, "stopped").await;
        client.call("resume", json!({ "id": id })).await.unwrap();
        stage.execution_has(&id, "created").await;
        client.call("send", go(&id, false)).await.unwrap();
        assert_eq!(client.result(&id).await.unwrap()["outputs"]["greeting"], "Hello, you!");
        let steps = client.steps(&id).await;
        assert_eq!((names(&steps), &steps[2]["output"]), (WAITED.to_vec(), &until));
        stage.execution_has(&id, "completed").await;
    }
    drop(worker);

    // And without a message it gives up.
    let _impatient = stage.worker(&[("execution.start", "signal"), ("execution.start_timeout", "300ms")]).await;
    for client in &stage.clients {
        let id = client.enqueue(execution(&format!("never-{:?}", client.lang()), "hello-world", json!({}))).await;
        let error = client.result(&id).await.unwrap_err();
        assert_eq!(error.message, "no start signal came within 300ms");
        let steps = client.steps(&id).await;
        assert_eq!(names(&steps), ["DBOS.writeStream", "DBOS.recv", "DBOS.sleep", "updateToFailed"]);
        assert_eq!(steps[1]["output"], Value::Null);
        assert_eq!(stage.execution_has(&id, "failed").await, Some(error.message));
    }
}

#[tokio::test]
async fn commands_of_any_client_pause_an_execution_and_let_it_go_on() {
    let Some(stage) = Stage::set().await else { return };
    let mut ids = Vec::new();
    for client in &stage.clients {
        for portable in [false, true] {
            let id = format!("paused-{:?}-{portable}", client.lang());
            let debugged = json!([{"flowId": "hello-world", "inputs": {"name": "you"}, "debug": true}]);
            client.enqueue(task(&id, debugged)).await;
            ids.push((client, portable, id));
        }
    }
    let command = |id: &str, portable: bool, command: &str| {
        let message = json!({"command": command, "reason": "asked by a client"});
        json!({"id": id, "topic": "COMMAND", "message": message, "portable": portable})
    };
    for (client, portable, id) in &ids {
        client.call("send", command(id, *portable, "PAUSE")).await.unwrap();
    }
    let _worker = stage.worker(&[("queue.worker_concurrency", "1")]).await;
    for (client, portable, id) in &ids {
        let status = "SELECT status FROM fireflow_executions WHERE id = $1";
        stage.until::<String>(status, id, |status| status == "paused").await;
        client.call("send", command(id, *portable, "RESUME")).await.unwrap();
        assert_eq!(client.result(id).await.unwrap()["outputs"]["greeting"], "Hello, you!");
        let steps = client.steps(id).await;
        let expected = ["DBOS.writeStream", "updateToRunning", "executeFlowAtomic", "updateToCompleted"];
        assert_eq!(names(&steps), expected);
        let events = client.stream(id, "events").await;
        assert!(events.iter().any(|item| item["event"]["type"] == "debug:breakpoint-hit"));
    }
}
