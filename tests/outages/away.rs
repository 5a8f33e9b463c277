//! The database isn't there yet, goes away for a moment or for long, and comes back.

use std::time::{Duration, Instant};

use serde_json::json;

use super::server::{PrivateServer, STEPS, complaints, names, prepare};
use super::support::{
    TestDatabase,
    client::SqlClient,
    worker::{WorkerProcess, program},
};

#[tokio::test]
async fn a_worker_waits_at_its_start_for_a_database_that_is_not_there_yet() {
    let mut server = PrivateServer::new().await;
    let url = server.url.clone();
    let (client, _ledger) = prepare(&url).await;
    client.enqueue("EX1", "echo", json!({"text": "at last"})).await;
    drop(client);
    server.stop().await;

    let worker = WorkerProcess::spawn(&url, "w1", &[]);
    worker.says("waiting for the database").await;
    let password = url.split([':', '@']).nth(2).unwrap();
    assert!(!worker.log().contains(password), "{}", worker.log());

    let mut hasty = WorkerProcess::spawn(&url, "w2", &[("database.startup_wait", "0s")]);
    assert_eq!(hasty.ended().await.code(), Some(69), "{}", hasty.log());
    hasty.says("can't reach PostgreSQL").await;
    let output = program(&url).arg("check").output().await.unwrap();
    assert_eq!(output.status.code(), Some(69));

    server.start().await;
    worker.says("serving").await;
    let client = SqlClient::open_at(&url).await;
    assert_eq!(client.until("EX1", "SUCCESS").await.result()["outputs"]["text"], "at last");
    assert!(worker.stop().await.success());
    // And one that is told to stop while it waits does so.
    server.stop().await;
    let worker = WorkerProcess::spawn(&url, "w1", &[]);
    worker.says("waiting for the database").await;
    assert!(worker.stop().await.success());
}

#[tokio::test]
async fn sessions_that_are_cut_are_made_again_and_nothing_runs_twice() {
    let database = TestDatabase::new().await;
    let (client, ledger) = prepare(&database.url()).await;
    let worker = WorkerProcess::start(&database.url(), "w1", &[]).await;
    let cut = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
                WHERE datname = current_database() AND application_name = 'fireflow-worker'";
    for round in 0..5 {
        let id = format!("EX{round}");
        client.enqueue(&id, "long", json!({"hold": format!("/hold/{id}")})).await;
        ledger.entered(&id, 1).await;
        let sessions: i64 = client.sql().query_one(cut, &[]).await.unwrap().get(0);
        assert!(sessions >= 2, "{sessions} sessions");
        ledger.release(&id);
        client.until(&id, "SUCCESS").await;
        assert_eq!(names(&client, &id).await, STEPS);
        assert_eq!(client.row(&id).await.unwrap().attempts, 1);
    }
    assert_eq!(ledger.not_once().await, []);
    let complaints = complaints(&worker);
    assert!(complaints.len() <= 25, "{complaints:#?}");
    assert!(worker.stop().await.success());
}

#[tokio::test]
async fn a_flow_outlives_a_restart_of_the_database() {
    let mut server = PrivateServer::new().await;
    let (client, ledger) = prepare(&server.url).await;
    let worker = WorkerProcess::start(&server.url, "w1", &[]).await;
    client.enqueue("EX1", "long", json!({"hold": "/hold/EX1"})).await;
    ledger.entered("EX1", 1).await;
    server.stop().await;
    worker.says("can't look for work").await;
    server.start().await;
    let client = SqlClient::open_at(&server.url).await;
    ledger.release("EX1");
    let row = client.until("EX1", "SUCCESS").await;
    assert_eq!((row.attempts, ledger.entries("EX1").await), (1, 1), "it ran on");
    assert_eq!(names(&client, "EX1").await, STEPS);
    client.enqueue("EX2", "echo", json!({})).await;
    client.until("EX2", "SUCCESS").await;
    let complaints = complaints(&worker);
    assert!(complaints.len() <= 15, "{complaints:#?}");
    assert!(worker.stop().await.success());
}

#[tokio::test]
async fn after_an_outage_that_is_longer_than_the_lease_the_worker_starts_over_by_itself() {
    let mut server = PrivateServer::new().await;
    let (client, ledger) = prepare(&server.url).await;
    let worker = WorkerProcess::start(&server.url, "w1", &[("worker.lease", "2s")]).await;
    client.enqueue("EX1", "long", json!({"hold": "/hold/EX1"})).await;
    ledger.entered("EX1", 1).await;
    client.until_event("EX1", "node:started").await;
    let steps = client.steps("EX1").await;
    server.stop().await;
    worker.says("lease lost").await;
    worker.says("execution stopped").await;
    server.start().await;
    let client = SqlClient::open_at(&server.url).await;
    ledger.entered("EX1", 2).await;
    ledger.release("EX1");
    client.until("EX1", "SUCCESS").await;
    assert_eq!(client.steps("EX1").await[..2], steps[..], "recorded steps didn't run again");
    assert_eq!(names(&client, "EX1").await, STEPS);
    let runs = client.events("EX1").await.iter().filter(|event| event.2 == "flow:started").count();
    assert!(runs >= 2, "{runs}");
    assert!(worker.stop().await.success());
}

/// Time of the processor that a process has used.
fn processor_time(worker: &WorkerProcess) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", worker.pid().as_raw_nonzero())).unwrap();
    // The name in parentheses may hold anything; user and system time are the 14th and 15th field.
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_millis(ticks * 10)
}

async fn until_ready(worker: &WorkerProcess, code: u16) {
    let wait = async {
        while worker.ask("/readyz").await.0 != code {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(super::support::worker::PATIENCE, wait).await.unwrap();
}

/// Ten seconds, or as long as `OUTAGE` says (`OUTAGE=10m`).
#[tokio::test]
async fn a_long_outage_is_told_in_few_lines_costs_no_processor_and_ends_at_once() {
    let outage = std::env::var("OUTAGE").unwrap_or_else(|_| "10s".into());
    let outage = humantime::parse_duration(&outage).unwrap();
    let mut server = PrivateServer::new().await;
    let (client, ledger) = prepare(&server.url).await;
    let settings =
        [("admin.enabled", "true"), ("admin.listen", "127.0.0.1:0"), ("worker.lease", "4s"), ("log.level", "info")];
    let worker = WorkerProcess::start(&server.url, "w1", &settings).await;
    client.enqueue("EX1", "long", json!({"hold": "/hold/EX1"})).await;
    ledger.entered("EX1", 1).await;
    until_ready(&worker, 200).await;
    let (lines, used) = (worker.log().lines().count(), processor_time(&worker));

    server.stop().await;
    let began = Instant::now();
    until_ready(&worker, 503).await;
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
    assert_eq!(worker.ask("/livez").await.0, 200);
    assert!(worker.ask("/status").await.1.contains("\"database\":\"away\""));
    tokio::time::sleep(outage.saturating_sub(began.elapsed())).await;
    let (length, used) = (began.elapsed(), processor_time(&worker) - used);
    let lines = worker.log().lines().count() - lines;
    // A handful when it begins and when the lease ends, and a few in each minute that follows.
    let allowed = 12 + 4 * usize::try_from(length.as_secs() / 60).unwrap();
    assert!(lines <= allowed, "{lines} lines in {length:?}:\n{}", worker.log());
    assert!(used < length / 10, "{used:?} of the processor in {length:?}");

    server.start().await;
    let back = Instant::now();
    let client = SqlClient::open_at(&server.url).await;
    client.enqueue("EX2", "echo", json!({})).await;
    ledger.release("EX1");
    client.until("EX2", "SUCCESS").await;
    // Pauses never exceed five seconds, and a fifth.
    assert!(back.elapsed() < Duration::from_secs(12), "{:?}", back.elapsed());
    client.until("EX1", "SUCCESS").await;
    assert_eq!(names(&client, "EX1").await, STEPS);
    until_ready(&worker, 200).await;
    assert!(worker.stop().await.success());
}
