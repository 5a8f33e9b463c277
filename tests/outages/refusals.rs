//! The server is there, and refuses: no connections left, another password, read-only, a full disk, not ready.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::json;

use super::cluster::Cluster;
use super::server::{PrivateServer, STEPS, complaints, names, prepare};
use super::support::{
    TestDatabase, TestServer, client::SqlClient, flows::FlowBuilder, ledger::Ledger, worker::WorkerProcess,
};

/// Ends the worker's connections, those too that are being opened and aren't listed yet.
async fn cut(client: &SqlClient) {
    let statement = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
                      WHERE datname = current_database() AND application_name = 'fireflow-worker'";
    let mut quiet = 0;
    while quiet < 3 {
        let ended: i64 = client.sql().query_one(statement, &[]).await.unwrap().get(0);
        quiet = if ended == 0 { quiet + 1 } else { 0 };
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// With a held execution: make trouble, let it go on, wait until the worker says `told`, mend it, and see it through.
async fn paused(
    client: &SqlClient,
    ledger: &Ledger,
    worker: WorkerProcess,
    id: &str,
    trouble: &str,
    told: &str,
    mend: &str,
) -> WorkerProcess {
    client.enqueue(id, "long", json!({"hold": format!("/hold/{id}")})).await;
    ledger.entered(id, 1).await;
    client.until_event(id, "node:started").await;
    // Committed before the cut: what connects again at once is to meet it.
    client.sql().batch_execute(trouble).await.unwrap();
    cut(client).await;
    ledger.release(id);
    worker.says(told).await;
    worker.says("the database is away").await;
    assert_eq!(client.row(id).await.unwrap().status, "PENDING");
    client.sql().batch_execute(mend).await.unwrap();
    let row = client.until(id, "SUCCESS").await;
    assert_eq!((row.attempts, ledger.entries(id).await), (1, 1), "it ran on");
    assert_eq!(names(client, id).await, STEPS);
    worker.says("the database is back").await;
    worker
}

#[tokio::test]
async fn without_a_connection_left_the_worker_waits_at_its_start_and_later() {
    let database = TestDatabase::new().await;
    let (client, ledger) = prepare(&database.url()).await;
    let sql = client.sql();
    sql.batch_execute("CREATE ROLE few LOGIN PASSWORD 'right' CONNECTION LIMIT 0; GRANT postgres TO few")
        .await
        .unwrap();
    let url = format!("postgresql://few:right@127.0.0.1:{}/{}", TestServer::get().port(), database.name());
    let worker = WorkerProcess::spawn(&url, "w1", &[]);
    worker.says("PostgreSQL has no connection left").await;
    sql.batch_execute("ALTER ROLE few CONNECTION LIMIT -1").await.unwrap();
    worker.says("serving").await;
    let trouble = "ALTER ROLE few CONNECTION LIMIT 0";
    let mend = "ALTER ROLE few CONNECTION LIMIT -1";
    let worker = paused(&client, &ledger, worker, "EX1", trouble, "too many connections for role", mend).await;
    let complaints = complaints(&worker);
    assert!(complaints.len() <= 12, "{complaints:#?}");
    assert!(worker.stop().await.success());
}

#[tokio::test]
async fn a_password_that_was_changed_meanwhile_pauses_the_worker_and_is_told() {
    let database = TestDatabase::new().await;
    let (client, ledger) = prepare(&database.url()).await;
    client.sql().batch_execute("CREATE ROLE known LOGIN PASSWORD 'right'; GRANT postgres TO known").await.unwrap();
    let url = format!("postgresql://known:right@127.0.0.1:{}/{}", TestServer::get().port(), database.name());
    let worker = WorkerProcess::start(&url, "w1", &[]).await;
    let trouble = "ALTER ROLE known PASSWORD 'other'";
    let mend = "ALTER ROLE known PASSWORD 'right'";
    let worker = paused(&client, &ledger, worker, "EX1", trouble, "password authentication failed", mend).await;
    let complaints = complaints(&worker);
    assert!(complaints.len() <= 8, "{complaints:#?}");
    assert!(!worker.log().contains("right"), "{}", worker.log());
    assert!(worker.stop().await.success());
}

#[tokio::test]
async fn a_server_that_was_made_read_only_is_waited_for() {
    let server = PrivateServer::new().await;
    let (client, ledger) = prepare(&server.url).await;
    client.sql().batch_execute("SET default_transaction_read_only = off").await.unwrap();
    // The ledger's session writes as well; and its own setting outlives a reload.
    let own = "ALTER ROLE postgres SET default_transaction_read_only = off; CREATE ROLE plain LOGIN PASSWORD 'x'; \
               GRANT postgres TO plain; ALTER ROLE postgres RESET default_transaction_read_only";
    client.sql().batch_execute(own).await.unwrap();
    let url = format!("postgresql://plain:x@127.0.0.1:{}/postgres", server.port);
    let worker = WorkerProcess::start(&url, "w1", &[]).await;
    let trouble = "ALTER ROLE plain SET default_transaction_read_only = on";
    let mend = "ALTER ROLE plain RESET default_transaction_read_only";
    let worker = paused(&client, &ledger, worker, "EX1", trouble, "does not allow writes", mend).await;
    // Sessions that are open already, too.
    client.enqueue("EX2", "long", json!({"hold": "/hold/EX2"})).await;
    ledger.entered("EX2", 1).await;
    client.sql().batch_execute("ALTER SYSTEM SET default_transaction_read_only = on").await.unwrap();
    client.sql().batch_execute("SELECT pg_reload_conf()").await.unwrap();
    worker.says("read-only transaction").await;
    client.sql().batch_execute("ALTER SYSTEM RESET default_transaction_read_only").await.unwrap();
    client.sql().batch_execute("SELECT pg_reload_conf()").await.unwrap();
    ledger.release("EX2");
    assert_eq!(client.until("EX2", "SUCCESS").await.attempts, 1);
    assert!(worker.stop().await.success());
}

#[tokio::test]
async fn a_server_that_is_starting_up_is_waited_for() {
    // A standby that takes no queries answers as a server does that recovers from a crash.
    let mut cluster = Cluster::new("hot_standby = off");
    let signal = cluster.data().join("standby.signal");
    std::fs::write(&signal, "").unwrap();
    cluster.start();
    let worker = WorkerProcess::spawn(&cluster.url(), "w1", &[]);
    worker.says("PostgreSQL is not ready").await;
    cluster.crash();
    std::fs::remove_file(&signal).unwrap();
    cluster.start();
    worker.says("serving").await;
    assert!(worker.stop().await.success());
}

/// A small file system of its own; unmounted when dropped.
struct Mount(tempfile::TempDir);

impl Mount {
    fn new(size: &str) -> Result<Mount, String> {
        let folder = tempfile::tempdir().unwrap();
        let options = format!("size={size},uid=postgres,gid=postgres,mode=700");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(folder.path()).output();
        match mounted {
            Ok(output) if output.status.success() => Ok(Mount(folder)),
            Ok(output) => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
            Err(error) => Err(error.to_string()),
        }
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}

#[tokio::test]
async fn a_full_disk_pauses_executions_until_there_is_room() {
    let mount = match Mount::new("48m") {
        Ok(mount) => mount,
        Err(why) => return eprintln!("skipped: a small file system can't be mounted here: {why}"),
    };
    // Opened to all on the way, so that the server's account gets there.
    let server = PrivateServer::new().await;
    std::fs::set_permissions(mount.path().parent().unwrap(), std::os::unix::fs::PermissionsExt::from_mode(0o1777))
        .unwrap();
    let admin = SqlClient::open_at(&server.url).await;
    let tablespace = format!("CREATE TABLESPACE small LOCATION '{}'", mount.path().display());
    admin.sql().batch_execute(&tablespace).await.unwrap();
    admin.sql().batch_execute("CREATE DATABASE narrow TABLESPACE small").await.unwrap();
    let url = server.url.replace("/postgres", "/narrow").replace("//narrow", "//postgres");
    // What flows did is told elsewhere, where there is room.
    let other = TestDatabase::new().await;
    let elsewhere = SqlClient::open(&other).await;
    let ledger = Ledger::open(&other).await;
    let client = SqlClient::open_at(&url).await;
    let flow = FlowBuilder::new("large")
        .get("hold", ledger.base())
        .node("text", "TextNode", &[("text", json!(""))])
        .input("text", "text", "text")
        .output("text", "text", "text");
    client.store(&flow.build()).await;
    let worker = WorkerProcess::start(&url, "w1", &[]).await;
    // Of hexadecimal digits, so that it doesn't become small by compression.
    let text: String = (0..20_000).map(|_| format!("{:016x}", rand::random::<u64>())).collect();
    client.enqueue("EX1", "large", json!({"hold": "/hold/EX1", "text": text})).await;
    ledger.entered("EX1", 1).await;
    client.until_event("EX1", "node:started").await;
    let filler = mount.path().join("filler");
    let full = std::io::copy(&mut std::io::repeat(b'x'), &mut std::fs::File::create(&filler).unwrap());
    assert!(full.is_err(), "the disk is full");
    ledger.release("EX1");
    worker.says("No space left on device").await;
    worker.says("can't write checkpoints").await;
    std::fs::remove_file(&filler).unwrap();
    let row = client.until("EX1", "SUCCESS").await;
    assert_eq!((row.attempts, ledger.entries("EX1").await), (1, 1));
    assert_eq!(row.result()["outputs"]["text"], text);
    let complaints = complaints(&worker);
    assert!(complaints.len() <= 6, "{complaints:#?}");
    assert!(worker.stop().await.success());
    drop((elsewhere, client, admin));
    server.stop_now().await;
}
