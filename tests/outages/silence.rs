//! A connection that is open and dead: what stands in between takes what is sent, and nothing comes back.

use std::time::{Duration, Instant};

use serde_json::json;

use super::server::{STEPS, complaints, names, prepare};
use super::support::{
    TestDatabase,
    scrape::{LISTENING, address, scrape, until},
    worker::WorkerProcess,
};
use super::wire::Wire;

#[tokio::test]
async fn a_database_that_has_gone_silent_is_given_up_in_seconds_and_work_goes_on_when_it_speaks() {
    let database = TestDatabase::new().await;
    let (client, ledger) = prepare(&database.url()).await;
    let wire = Wire::before(&database.url()).await;
    // The limit for an answer is that for a statement and five seconds.
    let settings = [("database.statement_timeout", "1s"), ("database.connect_timeout", "1s"), ("log.level", "info")];
    let worker = WorkerProcess::start(wire.url(), "w1", &settings).await;
    client.enqueue("EX1", "long", json!({"hold": "/hold/EX1"})).await;
    ledger.entered("EX1", 1).await;
    client.until_event("EX1", "node:started").await;

    wire.silence(true);
    let began = Instant::now();
    ledger.release("EX1"); // the writer has something to say, too
    worker.says("the database is away").await;
    worker.says("can't write checkpoints").await;
    assert!(began.elapsed() < Duration::from_secs(12), "{:?}", began.elapsed());
    wire.silence(false);
    let row = client.until("EX1", "SUCCESS").await;
    assert_eq!((row.attempts, ledger.entries("EX1").await), (1, 1), "it ran on");
    assert_eq!(names(&client, "EX1").await, STEPS);
    client.enqueue("EX2", "echo", json!({})).await;
    client.until("EX2", "SUCCESS").await;
    worker.says("the database is back").await;
    let complaints = complaints(&worker);
    assert!(complaints.len() <= 8, "{complaints:#?}");
    assert!(worker.stop().await.success());
}

#[tokio::test]
async fn renewals_that_hang_until_the_lease_is_over_have_failed() {
    let database = TestDatabase::new().await;
    let wire = Wire::before(&database.url()).await;
    let settings = [&LISTENING[..], &[("worker.lease", "3s")]].concat();
    let worker = WorkerProcess::start(wire.url(), "w1", &settings).await;
    let address = address(&worker).await;
    let failed = "fireflow_lease_renewals_total{result=\"failed\"}";
    assert_eq!(scrape(&address).await.get(failed), 0.0);
    wire.silence(true); // each would wait for longer than the lease is
    let lost = until(&address, |now| now.get("fireflow_lease_losses_total") == 1.0).await;
    assert!(lost.get(failed) >= 1.0, "{lost:#?}");
    wire.silence(false);
    assert!(worker.stop().await.success());
}
