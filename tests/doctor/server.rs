//! The server, its settings, and sessions of others.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::Duration;

use fireflow_worker::postgres::embedded::{Data, Options, Server, locate};
use serde_json::Value as Json;
use tokio_postgres::NoTls;

use super::{Patient, visit};
use crate::support::{TestDatabase, TestServer, pgbouncer::PgBouncer, worker::WorkerProcess, worker::program};

/// A server that writes carefully, as those that people need, in this folder, which goes last.
async fn durable(folder: &tempfile::TempDir) -> Server {
    // It may run as another account.
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let data = Data::Kept(folder.path().join("server"));
    let options = Options { programs: locate(None).unwrap(), data, port: None };
    tokio::task::spawn_blocking(move || Server::start_blocking(&options)).await.unwrap().unwrap()
}

async fn run(url: &str, sql: &str) {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    let driver = tokio::spawn(connection);
    // One by one: ALTER SYSTEM can't be in a transaction.
    for statement in sql.split(';').map(str::trim).filter(|statement| !statement.is_empty()) {
        client.batch_execute(statement).await.unwrap_or_else(|error| panic!("{statement}: {error:?}"));
    }
    drop(client);
    driver.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_healthy_house_has_no_warnings_and_a_server_that_is_not_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let server = durable(&folder).await;
    let url = server.url("postgres");
    assert!(program(&url).arg("migrate").output().await.unwrap().status.success());
    let worker = WorkerProcess::start(&url, "w1", &[]).await;
    let healthy = visit(&url, &["--strict"], &[]).await;
    assert_eq!(healthy.code, 0, "{:#}", healthy.said);
    assert_eq!([&healthy.said["errors"], &healthy.said["warnings"]], [&Json::from(0), &Json::from(0)]);
    for check in [
        "durability",
        "memory",
        "autovacuum",
        "archiving",
        "replication-slots",
        "prepared-transactions",
        "workers",
        "server",
    ] {
        healthy.is_well(check);
    }
    let text = program(&url).args(["doctor", "--quiet"]).output().await.unwrap();
    assert!(text.status.success());
    assert!(String::from_utf8(text.stdout).unwrap().starts_with("0 errors, 0 warnings, "));
    assert!(worker.stop().await.success());
    // A warning is no error, unless that is asked for.
    assert_eq!((visit(&url, &[], &[]).await.code, visit(&url, &["--strict"], &[]).await.code), (0, 1));

    run(&url, "ALTER SYSTEM SET autovacuum = off; ALTER SYSTEM SET max_prepared_transactions = 5; ALTER SYSTEM SET archive_mode = on; ALTER SYSTEM SET archive_command = '/bin/false'").await;
    drop(server);
    let server = durable(&folder).await;
    let url = server.url("postgres");
    run(&url, "SELECT pg_create_physical_replication_slot('replica', true); CREATE TABLE t (a int)").await;
    let (client, connection) = tokio_postgres::connect(&url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client.batch_execute("BEGIN; INSERT INTO t VALUES (1); PREPARE TRANSACTION 'forgotten'").await.unwrap();
    client.batch_execute("SELECT pg_switch_wal()").await.unwrap();
    let told = async {
        loop {
            let visit = visit(&url, &["--patience", "0s"], &[]).await;
            if visit.findings("archiving")[0]["level"] == "error" {
                return visit;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    let visit = tokio::time::timeout(Duration::from_secs(60), told).await.expect("the archiver has failed");
    visit.has("archiving", "error", &["can't be archived", "disk is full", "archive_command"]);
    visit.has("autovacuum", "error", &["autovacuum is off", "ALTER SYSTEM SET autovacuum = on"]);
    visit.has("prepared-transactions", "error", &["forgotten", "ROLLBACK PREPARED 'forgotten'"]);
    visit.has("replication-slots", "warning", &["replica", "that nobody reads", "pg_drop_replication_slot('replica')"]);
    // The figures stay when nothing is to be archived any more.
    run(&url, "ALTER SYSTEM SET archive_mode = off").await;
    drop(client);
    drop(server);
    let server = durable(&folder).await;
    super::visit(&server.url("postgres"), &[], &[]).await.is_well("archiving");
}

#[tokio::test]
async fn a_server_that_forgets_and_sessions_that_begin_badly_are_told() {
    let patient = Patient::new().await;
    // The tests' server has nothing to lose.
    let visit = patient.visit(&[]).await;
    visit.has("durability", "error", &["fsync is off", "destroy the database", "set fsync = on"]);
    visit.has("durability", "error", &["full_page_writes is off"]);
    visit.has("durability", "warning", &["synchronous_commit is off", "acknowledged"]);
    visit.has("memory", "note", &["shared_buffers is 32", "a quarter"]);
    visit.is_well("defaults");
    visit.is_well("connections");
    visit.is_well("tls");
    let name = patient.database.name();
    let set = |setting: &str| format!("ALTER DATABASE {name} SET {setting}");
    patient
        .has(
            &set("default_transaction_isolation = 'serializable'"),
            "defaults",
            "warning",
            &["is serializable (from database)", "read committed"],
        )
        .await;
    patient
        .has(
            &set("idle_session_timeout = '5min'"),
            "defaults",
            "warning",
            &["idle_session_timeout is 300000 ms", "ALTER ROLE"],
        )
        .await;
    patient
        .has(
            &format!("ALTER DATABASE {name} CONNECTION LIMIT 5"),
            "connections",
            "warning",
            &["may take 9 connections", "lets in 5", "pool_size"],
        )
        .await;
    let large = super::visit(&patient.url, &[], &[("FIREFLOW__DATABASE__POOL_SIZE", "900")]).await;
    large.has("connections", "warning", &["may take 903 connections", "max_connections"]);
    // It can't be written to: that is told by the connection already.
    patient.sql(&set("default_transaction_read_only = on")).await;
    let refused = program(&patient.url).arg("doctor").output().await.unwrap();
    assert_eq!(refused.status.code(), Some(69), "{refused:?}");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("read-only"), "{refused:?}");
}

#[tokio::test]
async fn adatabase_of_another_encoding_is_told() {
    let database = TestDatabase::new().await;
    let name = format!("latin_{}", database.name());
    let create = format!("CREATE DATABASE {name} ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0");
    run(&database.url(), &create).await;
    visit(&TestServer::get().url(&name), &[], &[]).await.has("server", "error", &["LATIN1", "ENCODING 'UTF8'"]);
    run(&database.url(), &format!("DROP DATABASE {name} WITH (FORCE)")).await;
}

#[tokio::test]
async fn transactions_and_locks_that_stay_are_told_with_whom_to_end() {
    let patient = Patient::new().await;
    let (holder, waiter) = (patient.database.client().await, patient.database.client().await);
    holder.batch_execute("SET application_name = 'report'; BEGIN; LOCK TABLE fireflow_flows").await.unwrap();
    let pid: i32 = holder.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0);
    let waiting = tokio::spawn(async move { waiter.batch_execute("TABLE fireflow_flows").await });
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    assert!(patient.client.comes_true(waits, &[], 1).await);
    let visit = patient.visit(&["--patience", "0s"]).await;
    visit.has(
        "transactions",
        "warning",
        &[&format!("session {pid} (report as"), "idle in transaction", &format!("pg_terminate_backend({pid})")],
    );
    visit.has("locks", "warning", &[&format!("waits for {pid}"), "pg_terminate_backend"]);
    let patiently = patient.visit(&["--patience", "1h"]).await;
    patiently.is_well("transactions");
    patiently.is_well("locks");
    holder.batch_execute("ROLLBACK").await.unwrap();
    waiting.await.unwrap().unwrap();
    // A transaction of another database holds back nothing in this one.
    let elsewhere = TestDatabase::new().await;
    let other = elsewhere.client().await;
    other.batch_execute("SET application_name = 'elsewhere'; BEGIN; CREATE TABLE t ()").await.unwrap();
    let visit = patient.visit(&["--patience", "0s"]).await;
    assert!(!visit.said.to_string().contains("elsewhere"), "{:#}", visit.said);

    // A check that can't look says so, and the others go on.
    holder.batch_execute("BEGIN; LOCK TABLE fireflow_crashes").await.unwrap();
    let blind = patient.visit(&[]).await;
    blind.has("crashes", "warning", &["can't tell", "somebody holds a lock", "`locks`"]);
    blind.is_well("parked");
    holder.batch_execute("ROLLBACK").await.unwrap();
}

#[tokio::test]
async fn a_pooler_and_what_it_hides_are_told() {
    let patient = Patient::new().await;
    let Some(pooler) = PgBouncer::start(&patient.database, "transaction", 5, "").await else { return };
    patient.sql(&format!("ALTER DATABASE {} SET statement_timeout = '3s'", patient.database.name())).await;
    let visit = visit(&pooler.url(&patient.database), &[], &[]).await;
    visit.has("pooler", "note", &["transaction mode", "session mode"]);
    visit.has("defaults", "warning", &["statement_timeout is 3000 ms", "behind a pooler"]);
    visit.has("defaults", "note", &["idle_in_transaction_session_timeout", "behind a pooler"]);
    visit.has("defaults", "note", &["jit is on"]);
    // What the server knows of its sessions is about the pooler's.
    visit.has("tls", "note", &["a pooler ends the connection", "sslmode=verify-full"]);
    let many = [("FIREFLOW__DATABASE__POOL_SIZE", "900")];
    let visit = super::visit(&pooler.url(&patient.database), &[], &many).await;
    visit.has("connections", "ok", &["a worker takes up to 902 of the pooler's"]);
}

#[tokio::test]
async fn a_clock_that_differs_from_the_server_s_is_told() {
    let folders = std::fs::read_dir("/usr/lib").into_iter().flatten().filter_map(Result::ok);
    let library =
        folders.map(|folder| folder.path().join("faketime/libfaketimeMT.so.1")).find(|path: &PathBuf| path.is_file());
    let Some(library) = library else {
        assert!(std::env::var_os("CI").is_none(), "libfaketime is not installed (Debian: apt-get install faketime)");
        eprintln!("skipped: libfaketime is not installed (Debian: apt-get install faketime)");
        return;
    };
    let patient = Patient::new().await;
    patient.visit(&[]).await.is_well("clock");
    let library = library.display().to_string();
    let fake = [("LD_PRELOAD", library.as_str()), ("FAKETIME", "-3h"), ("FAKETIME_DONT_FAKE_MONOTONIC", "1")];
    visit(&patient.url, &[], &fake).await.has("clock", "warning", &["ahead of", "NTP", "deadlines"]);
}

/// An address of this machine that others on its network can reach.
fn own_address() -> Option<std::net::IpAddr> {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?; // sends nothing
    Some(socket.local_addr().ok()?.ip()).filter(|address| !address.is_loopback() && !address.is_unspecified())
}

#[tokio::test]
async fn a_way_over_the_network_without_tls_is_told() {
    let Some(address) = own_address() else {
        eprintln!("skipped: this machine has no network");
        return;
    };
    let patient = Patient::new().await;
    // The tests' server listens to this machine only; this passes on what comes over the network.
    let listener = tokio::net::TcpListener::bind((address, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let relay = tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut server = tokio::net::TcpStream::connect(("127.0.0.1", TestServer::get().port())).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
            });
        }
    });
    let mut url = url::Url::parse(&patient.url).unwrap();
    url.set_host(Some(&address.to_string())).unwrap();
    url.set_port(Some(port)).unwrap();
    visit(url.as_str(), &[], &[]).await.has(
        "tls",
        "warning",
        &[&address.to_string(), "not encrypted", "sslmode=verify-full"],
    );
    relay.abort();
}
