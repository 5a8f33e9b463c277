//! Whose row it is, and whose turn.

use serde_json::{Value, json};

use super::stage::{Stage, execution, outputs, with};
use crate::interop::client::Client;

#[tokio::test]
async fn rows_of_others_stay_where_they_are_and_block_nothing() {
    let Some(stage) = Stage::set().await else { return };
    // Enqueued before anyone serves, so that the worker comes by them first.
    let others = [
        ("name", json!({"workflow": "someoneElses"})),
        ("class", json!({"class": "SomeoneElses"})),
        ("instance", json!({"config": "someone-elses"})),
        ("format", json!({})),
        ("version", json!({"appVersion": "2.0.0"})),
        ("application", json!({"application": "someone-else"})),
        ("client", json!({})), // a client that acts for another application
    ];
    for client in &stage.clients {
        let url = stage.database.url();
        let Some(theirs) = Client::start(client.lang(), Some(&url), Some("someone-else")).await else { return };
        for (other, fields) in &others {
            let client = if *other == "client" { &theirs } else { client };
            client.enqueue(with(hello(client, other), fields.clone())).await;
        }
        client.enqueue(with(hello(client, "pinned"), json!({"appVersion": "1.0.0"}))).await;
        client.enqueue(with(hello(client, "ours"), json!({"application": "fireflow-executor"}))).await;
        client.enqueue(hello(client, "plain")).await;
        let foreign = "UPDATE dbos.workflow_status SET serialization = 'java_jackson' WHERE workflow_uuid = $1";
        stage.sql.execute(foreign, &[&id(client, "format")]).await.unwrap();
    }
    let _worker = stage.worker(&[("queue.worker_concurrency", "1"), ("queue.concurrency", "1")]).await;
    for client in &stage.clients {
        for ours in ["pinned", "ours", "plain"] {
            assert_eq!(outputs(client.result(&id(client, ours)).await), json!({"greeting": "Hello, world!"}));
        }
    }
    for client in &stage.clients {
        for (other, _) in &others {
            let row = client.workflow(&id(client, other)).await;
            let untouched = (&row["status"], &row["executorId"], &row["attempts"], &row["dequeuedAt"]);
            assert_eq!(untouched, (&json!("ENQUEUED"), &Value::Null, &json!(0), &Value::Null), "{other}: {row}");
        }
    }
    // They were waiting for workers such as these.
    let _newer = stage.worker_named("newer", &[("worker.application_version", "2.0.0")]).await;
    let other = [("worker.application_name", "someone-else"), ("worker.application_version", "else-1")];
    let _other = stage.worker_named("other", &other).await;
    for client in &stage.clients {
        for (theirs, worker) in [("version", "newer"), ("application", "other"), ("client", "other")] {
            let id = id(client, theirs);
            assert_eq!(outputs(client.result(&id).await), json!({"greeting": "Hello, world!"}));
            assert_eq!(client.workflow(&id).await["executorId"], worker);
        }
    }
}

fn id(client: &Client, what: &str) -> String {
    format!("{what}-{:?}", client.lang())
}

fn hello(client: &Client, what: &str) -> Value {
    execution(&id(client, what), "hello-world", json!({}))
}

#[tokio::test]
async fn priority_decides_and_then_age() {
    let Some(stage) = Stage::set().await else { return };
    let mut enqueued = Vec::new();
    for (number, priority) in [5, 1, 0, 3, 1, 2_147_483_647, 2, 5].into_iter().enumerate() {
        let client = &stage.clients[number % stage.clients.len()];
        let fields = execution(&number.to_string(), "hello-world", json!({}));
        let fields = if priority == 0 { fields } else { with(fields, json!({ "priority": priority })) };
        enqueued.push((client, client.enqueue(fields).await));
    }
    let _worker = stage.worker(&[("queue.worker_concurrency", "1")]).await;
    let mut rows = Vec::new();
    for (client, id) in &enqueued {
        client.result(id).await.unwrap();
        rows.push(client.workflow(id).await);
    }
    rows.sort_by_key(|row| row["dequeuedAt"].as_i64());
    let order: Vec<_> = rows.iter().map(|row| (row["priority"].as_i64(), row["createdAt"].as_i64())).collect();
    assert!(order.is_sorted(), "{order:?}");
    assert_eq!(order.len(), 8);
    let alone = rows.windows(2).all(|pair| pair[0]["completedAt"].as_i64() <= pair[1]["dequeuedAt"].as_i64());
    assert!(alone, "one slot, one at a time: {rows:?}");
}
