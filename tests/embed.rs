//! The worker inside another program.

mod support;

use fireflow_worker::{
    config::{Database, Settings},
    worker::{StartError, Worker},
};
use serde_json::json;
use support::{TestDatabase, client::SqlClient, flows::echo};

fn settings(url: String, id: &str) -> Settings {
    let mut settings = Settings { database: Database { url, ..Database::default() }, ..Settings::default() };
    settings.worker.id = Some(id.into());
    settings
}

#[tokio::test]
async fn a_program_starts_and_stops_a_worker() {
    let database = TestDatabase::new().await;
    let client = SqlClient::open(&database).await;
    client.store(&echo("echo")).await;
    let worker = Worker::new(settings(database.url(), "inside")).start();
    assert_eq!(worker.queue_name(), "fireflow-executions");
    client.enqueue("EX1", "echo", json!({})).await;
    let row = client.until("EX1", "SUCCESS").await;
    assert_eq!(row.executor.as_deref(), Some("inside"));
    assert!(worker.is_running());

    // The id is taken, also within the same process.
    let twin = Worker::new(settings(database.url(), "inside")).start();
    assert!(matches!(twin.ended().await, Err(StartError::Lease(_))));

    worker.stop().await.unwrap();
    let again = Worker::new(settings(database.url(), "inside")).start();
    client.enqueue("EX2", "echo", json!({})).await;
    client.until("EX2", "SUCCESS").await;
    again.stop().await.unwrap();
}
