//! Two workers and the database, each in a network of its own: cut cables, slow ones, and such that lose.
//!
//! As root on Linux, with iproute2 and Python; elsewhere these tests say why they are skipped.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, also in its helpers")]

#[path = "outages/cluster.rs"]
mod cluster;
#[path = "network/namespaces.rs"]
mod namespaces;
mod support;

use std::time::{Duration, Instant};

use cluster::Cluster;
use namespaces::Networks;
use serde_json::json;
use support::{
    client::SqlClient,
    flows::{FlowBuilder, echo, reporting},
    ledger::Ledger,
    worker::WorkerProcess,
};

/// Everything but the cables from the workers to the database. Fields drop from the top: first the server, then its network.
struct Stage {
    client: SqlClient,
    ledger: Ledger,
    cluster: Cluster,
    networks: Networks,
}

impl Stage {
    async fn new() -> Option<Stage> {
        let networks = Networks::new()?;
        let mut cluster = Cluster::new("listen_addresses = '*'");
        cluster.start_within(&networks.namespace("d"));
        let url = cluster.socket_url();
        drop(cluster.client_at(&url).await);
        let client = SqlClient::open_at(&url).await;
        let ledger = Ledger::open_at(&url).await;
        let base = networks.publish(ledger.base()).await;
        client.store(&FlowBuilder::new("long").get("hold", &base).build()).await;
        client.store(&reporting("short", &base)).await;
        client.store(&echo("echo")).await;
        Some(Stage { client, ledger, cluster, networks })
    }

    /// A worker in its network.
    async fn worker(&self, side: &str, settings: &[(&str, &str)]) -> WorkerProcess {
        let url = format!(
            "postgresql://postgres@{}:{}/postgres?sslmode=disable",
            self.networks.database(side),
            self.cluster.port
        );
        let worker = WorkerProcess::spawn_within(&self.networks.namespace(side), &url, side, settings);
        worker.says("serving").await;
        worker
    }

    async fn enqueue_short(&self, ids: impl Iterator<Item = String>) {
        for id in ids {
            let inputs = json!({"enter": format!("/enter/{id}"), "leave": format!("/leave/{id}")});
            self.client.enqueue(&id, "short", inputs).await;
        }
    }
}

#[tokio::test]
async fn a_worker_that_is_cut_off_stops_in_time_the_other_takes_over_and_the_healed_one_comes_back_clean() {
    let Some(stage) = Stage::new().await else { return };
    stage.networks.connect("a");
    stage.networks.connect("b");
    let settings = [("worker.lease", "4s"), ("log.level", "info")];
    let a = stage.worker("a", &settings).await;
    stage.client.enqueue("EX1", "long", json!({"hold": "/hold/EX1"})).await;
    stage.ledger.entered("EX1", 1).await;
    stage.client.until_event("EX1", "node:started").await;
    let b = stage.worker("b", &settings).await;

    stage.networks.cut("a", true);
    stage.ledger.entered("EX1", 2).await;
    // The other one may not begin before the first has stopped: it counts its own lease, and stops before the end.
    a.says("execution stopped").await;
    assert_eq!(stage.ledger.workers().await, [("a".into(), 1), ("b".into(), 1)]);
    stage.ledger.release("EX1");
    let row = stage.client.until("EX1", "SUCCESS").await;
    assert_eq!((row.attempts, row.executor.as_deref()), (2, Some("b")));
    let (steps, events) = (stage.client.steps("EX1").await, stage.client.events("EX1").await);

    stage.networks.cut("a", false);
    let served = async {
        while a.log().matches("serving").count() < 2 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(support::worker::PATIENCE, served).await.unwrap_or_else(|_| panic!("{}", a.log()));
    // It takes its share again: the other one is full.
    for id in ["H1", "H2", "H3", "H4", "H5", "H6", "H7"] {
        stage.client.enqueue(id, "long", json!({"hold": format!("/hold/{id}")})).await;
        stage.ledger.entered(id, 1).await;
    }
    stage.ledger.release_all();
    stage.client.until_count("SUCCESS", 8).await;
    let workers = stage.ledger.workers().await;
    assert!(workers.len() == 2 && workers[0].1 >= 3, "{workers:?}");
    assert_eq!((stage.client.steps("EX1").await, stage.client.events("EX1").await), (steps, events));
    let lines = a.log().lines().filter(|line| line.contains(" WARN ") || line.contains(" ERROR ")).count();
    assert!(lines <= 10, "{}", a.log());
    assert!(a.stop().await.success() && b.stop().await.success());
}

#[tokio::test]
async fn over_a_slow_cable_that_loses_all_executions_end_right_and_once() {
    let Some(mut stage) = Stage::new().await else { return };
    let mut cable = stage.networks.connect_by_relay("a");
    stage.networks.connect("b");
    let a = stage.worker("a", &[("log.level", "info"), ("queue.worker_concurrency", "6")]).await;
    cable.set(100, 10); // 200 ms there and back
    stage.enqueue_short((0..6).map(|number| format!("EX{number}"))).await;
    stage.ledger.inside(1).await;
    let b = stage.worker("b", &[("log.level", "info")]).await;
    stage.enqueue_short((6..40).map(|number| format!("EX{number}"))).await;
    stage.client.until_count("SUCCESS", 40).await;
    assert_eq!(stage.ledger.not_once().await, []);
    let workers = stage.ledger.workers().await;
    assert!(workers.len() == 2, "{workers:?}");
    let again = "SELECT count(*) FROM dbos.workflow_status WHERE recovery_attempts > 1";
    assert_eq!(stage.client.sql().query_one(again, &[]).await.unwrap().get::<_, i64>(0), 0);
    cable.set(0, 0);
    assert!(a.stop().await.success() && b.stop().await.success());
}

/// By the defaults: nobody says goodbye, and the sockets stay open on both sides.
#[tokio::test]
async fn a_cable_that_loses_everything_is_noticed_in_seconds_and_the_flow_runs_on_when_it_is_mended() {
    let Some(mut stage) = Stage::new().await else { return };
    let mut cable = stage.networks.connect_by_relay("a");
    let a = stage.worker("a", &[("log.level", "info")]).await;
    stage.client.enqueue("EX1", "long", json!({"hold": "/hold/EX1"})).await;
    stage.ledger.entered("EX1", 1).await;
    stage.client.until_event("EX1", "node:started").await;
    cable.set(0, 100);
    let began = Instant::now();
    stage.ledger.release("EX1");
    a.says("the database is away").await;
    assert!(began.elapsed() < Duration::from_secs(16), "{:?}", began.elapsed());
    // The server's side gives up as well: nothing of the worker's holds a lock or a place there for long.
    let sessions = "SELECT count(*) FROM pg_stat_activity
                     WHERE application_name = 'fireflow-worker' AND backend_type = 'client backend'";
    assert!(stage.client.comes_true(sessions, &[], 0).await);
    assert!(began.elapsed() < Duration::from_secs(25), "{:?}", began.elapsed());
    cable.set(0, 0);
    let row = stage.client.until("EX1", "SUCCESS").await;
    assert_eq!(stage.ledger.entries("EX1").await, row.attempts, "what ran, ran for a claim");
    stage.client.enqueue("EX2", "echo", json!({})).await;
    stage.client.until("EX2", "SUCCESS").await;
    assert!(a.stop().await.success());
}
