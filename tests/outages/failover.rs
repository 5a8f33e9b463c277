//! A primary that dies, and a standby that takes its place: the worker finds it by itself.

use std::time::Duration;

use serde_json::json;
use tokio_postgres::Client;

use super::cluster::Cluster;
use super::server::{STEPS, names, prepare};
use super::support::{client::SqlClient, ledger::Ledger, worker::WorkerProcess};
use super::wire::{Cut, Wire};

struct Pair {
    primary: Cluster,
    standby: Cluster,
    /// A session on each.
    sessions: (Client, Client),
}

impl Pair {
    async fn new() -> Pair {
        let mut primary = Cluster::new("wal_level = replica\nmax_wal_senders = 4\nhot_standby = on");
        primary.start();
        let session = primary.client().await;
        let mut standby = primary.standby("second");
        standby.start();
        let sessions = (session, standby.client().await);
        Pair { primary, standby, sessions }
    }

    async fn replicated(&self, how: &str) {
        let sql = "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming' AND sync_state = $1";
        until(&self.sessions.0, sql, &[&how]).await;
    }

    /// The standby has all that the primary has.
    async fn caught_up(&self) {
        let lsn = "SELECT pg_current_wal_flush_lsn()::text";
        let at: String = self.sessions.0.query_one(lsn, &[]).await.unwrap().get(0);
        let sql = "SELECT (pg_last_wal_replay_lsn() >= $1::text::pg_lsn)::int::bigint";
        until(&self.sessions.1, sql, &[&at]).await;
    }

    async fn fail_over(&mut self) {
        self.primary.crash();
        assert!(self.sessions.1.query_one("SELECT pg_promote()", &[]).await.unwrap().get::<_, bool>(0));
    }

    /// URL of both, in this order.
    fn url(&self, first: u16) -> String {
        format!(
            "postgresql://postgres@127.0.0.1:{first},127.0.0.1:{}/postgres?sslmode=disable&target_session_attrs=read-write",
            self.standby.port
        )
    }
}

async fn until(session: &Client, sql: &str, parameters: &[&(dyn tokio_postgres::types::ToSql + Sync)]) {
    let wait = async {
        while session.query_one(sql, parameters).await.unwrap().get::<_, i64>(0) != 1 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(super::support::worker::PATIENCE, wait).await.unwrap_or_else(|_| panic!("{sql}"));
}

#[tokio::test]
async fn the_worker_goes_on_at_the_promoted_standby_and_what_was_acknowledged_is_there() {
    let mut pair = Pair::new().await;
    let configure = "ALTER SYSTEM SET synchronous_standby_names = 'second'";
    pair.sessions.0.batch_execute(configure).await.unwrap();
    pair.sessions.0.batch_execute("SELECT pg_reload_conf()").await.unwrap();
    pair.replicated("sync").await;
    let (client, _) = prepare(&pair.primary.url()).await;
    // The ledger of what flows did must not fail over: it is on a server of its own.
    let other = super::support::TestDatabase::new().await;
    let elsewhere = SqlClient::open(&other).await;
    let ledger = Ledger::open(&other).await;
    client.store(&super::support::flows::FlowBuilder::new("held").get("hold", ledger.base()).build()).await;

    let worker = WorkerProcess::start(&pair.url(pair.primary.port), "w1", &[("log.level", "info")]).await;
    for number in 0..20 {
        client.enqueue(&format!("EX{number}"), "echo", json!({"text": "kept"})).await;
    }
    client.enqueue("HELD", "held", json!({"hold": "/hold/HELD"})).await;
    ledger.entered("HELD", 1).await;
    client.until_count("SUCCESS", 20).await;
    pair.fail_over().await;

    let client = SqlClient::open_at(&pair.standby.url()).await;
    for number in 0..20 {
        assert_eq!(client.row(&format!("EX{number}")).await.unwrap().result()["outputs"]["text"], "kept");
    }
    ledger.release("HELD");
    let row = client.until("HELD", "SUCCESS").await;
    assert_eq!((row.attempts, ledger.entries("HELD").await), (1, 1), "it ran on");
    assert_eq!(names(&client, "HELD").await, STEPS);
    client.enqueue("NEW", "echo", json!({})).await;
    client.until("NEW", "SUCCESS").await;
    drop(elsewhere);
    assert!(worker.stop().await.success());
}

/// The commit's answer is lost, and then the commit itself, since the standby never got it; and on the new primary another
/// transaction has the same number, and was committed.
#[tokio::test]
async fn a_commit_that_the_new_primary_never_got_is_made_there() {
    let mut pair = Pair::new().await;
    pair.replicated("async").await;
    let (client, _) = prepare(&pair.primary.url()).await;
    let other = super::support::TestDatabase::new().await;
    let elsewhere = SqlClient::open(&other).await;
    let ledger = Ledger::open(&other).await;
    client.store(&super::support::flows::FlowBuilder::new("held").get("hold", ledger.base()).build()).await;
    let wire = Wire::before(&pair.primary.url()).await;
    // The worker hears the new primary when the number is taken there, and not before.
    let second = Wire::before(&pair.standby.url()).await;
    let url =
        format!("postgresql://postgres@127.0.0.1:{},127.0.0.1:{}/postgres?sslmode=disable", wire.port(), second.port());
    let settings = [("log.level", "info"), ("database.connect_timeout", "1s")];
    let worker = WorkerProcess::start(&url, "w1", &settings).await;
    second.silence(true);
    client.enqueue("EX1", "held", json!({"hold": "/hold/EX1"})).await;
    ledger.entered("EX1", 1).await;
    client.until_event("EX1", "node:started").await;
    pair.caught_up().await;

    // From now on nothing reaches the standby.
    pair.sessions.1.batch_execute("ALTER SYSTEM SET primary_conninfo = ''").await.unwrap();
    pair.sessions.1.batch_execute("SELECT pg_reload_conf()").await.unwrap();
    until(&pair.sessions.0, "SELECT 1 - count(*) FROM pg_stat_replication", &[]).await;
    let before = client.events("EX1").await.len();
    wire.arm(Cut { within: "NO KEY UPDATE", at: "COMMIT", done: true, for_good: true });
    ledger.release("EX1");
    wire.tripped(1).await;
    let number = "SELECT pg_current_xact_id()::text::bigint";
    let lost: i64 = pair.sessions.0.query_one(number, &[]).await.unwrap().get(0);
    assert!(client.events("EX1").await.len() > before, "it was committed at the old primary");
    pair.sessions.1.batch_execute("SELECT pg_last_wal_receive_lsn()").await.unwrap();
    pair.primary.crash();
    assert!(pair.sessions.1.query_one("SELECT pg_promote()", &[]).await.unwrap().get::<_, bool>(0));
    while pair.sessions.1.query_one(number, &[]).await.unwrap().get::<_, i64>(0) < lost {}
    second.silence(false);

    let client = SqlClient::open_at(&pair.standby.url()).await;
    let row = client.until("EX1", "SUCCESS").await;
    assert_eq!((row.attempts, ledger.entries("EX1").await), (1, 1));
    worker.says("that commit was lost").await;
    assert_eq!(names(&client, "EX1").await, STEPS);
    let events = client.events("EX1").await;
    let indices: Vec<i64> = events.iter().map(|event| event.1).collect();
    assert_eq!(indices, (indices[0]..indices[0] + i64::try_from(events.len()).unwrap()).collect::<Vec<_>>(), "no gap");
    drop(elsewhere);
    assert!(worker.stop().await.success());
}
