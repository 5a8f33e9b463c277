//! A client of the TypeScript SDK, unmodified, that enqueues in its own serialisation and awaits results by its own means, through
//! all outages.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value as Json, json};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use crate::clients::Known;
use crate::interop::client::Client;
use crate::verdict::Violations;
use crate::work::Order;

/// Executions that it has under way.
const AT_ONCE: usize = 4;
/// So long it may take, outages included.
const PATIENCE: Duration = Duration::from_secs(120);

/// Enqueue until `until`, and await each. Returns when all were awaited; at once where there is no such SDK.
pub async fn run(url: String, known: Known, violations: Violations, until: Instant) {
    let mut number = 0;
    'lives: loop {
        let Some(client) = Client::typescript(&url).await else { return };
        let client = Arc::new(client);
        let tasks = TaskTracker::new();
        while Instant::now() < until {
            if tasks.len() >= AT_ONCE {
                tokio::time::sleep(Duration::from_millis(20)).await;
                continue;
            }
            number += 1;
            let order = Order::plain(format!("TS{number:06}"));
            let (client, known) = (client.clone(), known.clone());
            let (told, asked) = (violations.clone(), order.id.clone());
            let one = tokio::spawn(async move { execution(&client, &order, &known, &told).await });
            // The SDK's process may not outlive an outage; that is not the worker's doing. It begins anew.
            let ended = tasks.spawn(one);
            if number % 16 == 0 && ended.await.is_ok_and(|one| one.is_err_and(|error| error.is_panic())) {
                println!("chaos: the SDK's client ended at {asked}; it is started again");
                continue 'lives;
            }
        }
        tasks.close();
        tasks.wait().await;
        return;
    }
}

async fn execution(client: &Client, order: &Order, known: &Known, violations: &Violations) {
    let fields = json!({"workflow": "executeFireFlow", "class": "ExecutionWorkflows", "queue": order.queue(),
                        "id": order.id, "args": [order.task()]});
    let until = Instant::now() + PATIENCE;
    // With the same id it is the same execution, however often it is asked for.
    while let Err(error) = client.call_within(PATIENCE, "enqueue", fields.clone()).await {
        if Instant::now() > until {
            return violations.add(format!("the SDK can't enqueue {}: {error:?}", order.id));
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    known.accepted(order);
    loop {
        match client.call_within(PATIENCE * 2, "result", json!({"id": order.id})).await {
            Ok(result) => {
                known.did("results that the SDK awaited");
                let text: &Json = &result["outputs"]["text"];
                if *text != *order.text {
                    violations.add(format!("the SDK got another result of {}: {result}", order.id));
                }
                return;
            }
            Err(error) if Instant::now() > until => {
                return violations.add(format!("the SDK got no result of {}: {error:?}", order.id));
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(200)).await,
        }
    }
}
