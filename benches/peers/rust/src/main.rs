//! The bench's application with the Rust SDK, as app.mjs.

use std::time::Duration;

use dbos::{Config, DBOS, Enqueue, Error, QueueConflict, QueueOptions, StartOptions, step};
use serde::{Deserialize, Serialize};
use tokio::io::AsyncReadExt as _;

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Given {
    n: i64,
}

fn setting(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is set"))
}

#[tokio::main]
async fn main() {
    let config = Config {
        executor_id: Some("bench".into()),
        app_version: Some("1".into()),
        ..Config::new("bench", setting("BENCH_DATABASE_URL"))
    };
    let dbos = DBOS::new(config);
    let steps = dbos
        .register_workflow("steps", |given: Given| async move {
            let a = step("one", || async move { Ok::<i64, Error>(given.n + 1) }).await?;
            let b = step("two", || async move { Ok::<i64, Error>(a + 1) }).await?;
            let c = step("three", || async move { Ok::<i64, Error>(b + 1) }).await?;
            Ok::<Given, Error>(Given { n: c })
        })
        .expect("registered");
    let slow = dbos
        .register_workflow("slow", |given: Given| async move {
            step("wait", || async {
                tokio::time::sleep(Duration::from_secs(2)).await;
                Ok::<(), Error>(())
            })
            .await?;
            Ok::<Given, Error>(given)
        })
        .expect("registered");
    dbos.launch().await.expect("launched");
    let options = QueueOptions {
        concurrency: Some(100),
        worker_concurrency: Some(setting("BENCH_SLOTS").parse().expect("a number")),
        polling_interval: Duration::from_millis(setting("BENCH_POLL_MS").parse().expect("a number")),
        ..QueueOptions::default()
    };
    dbos.register_queue("bench", options, QueueConflict::AlwaysUpdate).await.expect("registered");
    if std::env::var("BENCH_PATTERNS").is_ok() {
        for (id, workflow) in [("pattern-steps", &steps), ("pattern-slow", &slow)] {
            let options = StartOptions { workflow_id: Some(id), queue: Some(Enqueue::new("bench")), ..StartOptions::default() };
            let handle = workflow.start_with(Given { n: 1 }, options).await.expect("started");
            handle.result().await.expect("a result");
        }
    }
    println!("ready");
    let _ = tokio::io::stdin().read_to_end(&mut Vec::new()).await;
    std::process::exit(0);
}
