//! The database isn't there yet, goes away, and comes back.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, also in its helpers")]

mod support;

use std::os::unix::fs::PermissionsExt as _;

use fireflow_worker::postgres::embedded::{Data, Options, Server, locate};
use serde_json::json;
use support::{
    TestDatabase,
    client::SqlClient,
    flows::{FlowBuilder, echo},
    ledger::Ledger,
    worker::{WorkerProcess, program},
};

/// A server of one test alone, that can be stopped and started again on the same port with the same data.
struct PrivateServer {
    folder: tempfile::TempDir,
    port: u16,
    url: String,
    server: Option<Server>,
}

impl PrivateServer {
    async fn new() -> PrivateServer {
        let folder = tempfile::tempdir().unwrap();
        // The server's account can reach it also when the tests run as root.
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let mut private = PrivateServer { folder, port: 0, url: String::new(), server: None };
        private.start().await;
        private
    }

    async fn start(&mut self) {
        let data = Data::Kept(self.folder.path().join("data"));
        let port = Some(self.port).filter(|port| *port != 0);
        let server = Server::start(Options { programs: locate(None).unwrap(), data, port }).await.unwrap();
        self.port = server.port();
        self.url = server.url("postgres");
        self.server = Some(server);
    }

    async fn stop(&mut self) {
        self.server.take().unwrap().stop().await;
    }
}

/// The flows `echo` and `long`, which is held in its middle.
async fn prepare(url: &str) -> (SqlClient, Ledger) {
    let client = SqlClient::open_at(url).await;
    let ledger = Ledger::open_at(url).await;
    client.store(&FlowBuilder::new("long").get("hold", ledger.base()).build()).await;
    client.store(&echo("echo")).await;
    (client, ledger)
}

/// Warnings and errors: an outage is told, not repeated.
fn complaints(worker: &WorkerProcess) -> Vec<String> {
    let log = worker.log();
    log.lines().filter(|line| line.contains(" WARN ") || line.contains(" ERROR ")).map(str::to_owned).collect()
}

const STEPS: [&str; 4] = ["DBOS.writeStream", "updateToRunning", "executeFlowAtomic", "updateToCompleted"];

async fn names(client: &SqlClient, id: &str) -> Vec<String> {
    client.steps(id).await.into_iter().map(|step| step.name).collect()
}

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
    worker.says("can't claim").await;
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
