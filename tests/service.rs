//! The worker under a service manager and behind probes: what it says of itself is true, and at the right time.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, also in its helpers")]

#[path = "service/manager.rs"]
mod manager;
#[path = "service/reload.rs"]
mod reload;
mod support;
#[path = "service/units.rs"]
mod units;

use std::{io::Write as _, time::Duration};

use manager::Manager;
use rustix::process::Signal;
use serde_json::json;
use support::{
    TestServer,
    bench::Bench,
    client::{QUEUE, SqlClient},
    flows::{FlowBuilder, echo},
    worker::{PATIENCE, WorkerProcess, program},
};
use tempfile::NamedTempFile;
use tokio::process::Command;

const WATCHDOG: Duration = Duration::from_secs(4);

/// With the flows `long` (enters, is held, leaves) and `echo`.
async fn bench() -> Bench {
    Bench::with(|ledger| {
        let long = FlowBuilder::new("long").get("hold", ledger).output("reply", "hold", "response");
        vec![long.build(), echo("echo")]
    })
    .await
}

/// Enqueue an execution that is held inside until it is released.
async fn hold(bench: &Bench, id: &str) {
    bench.client.enqueue(id, "long", json!({"hold": format!("/hold/{id}")})).await;
}

/// A configuration file.
fn file(toml: &str) -> NamedTempFile {
    let mut file = tempfile::Builder::new().prefix("worker").suffix(".toml").tempfile().unwrap();
    let basis = "[admin]\nlisten = \"127.0.0.1:0\"\n";
    file.write_all(format!("{basis}{toml}").as_bytes()).unwrap();
    file
}

fn worker(bench: &Bench, file: &NamedTempFile, change: impl FnOnce(&mut Command)) -> WorkerProcess {
    WorkerProcess::by_file(&bench.database.url(), "w1", file.path(), change)
}

#[tokio::test]
async fn a_manager_follows_the_whole_life() {
    let (bench, manager) = (bench().await, Manager::at_a_path());
    let file = file("[queue]\npolling_interval = \"50ms\"\n[worker]\ndrain_timeout = \"1m\"\n");
    let worker = worker(&bench, &file, |command| manager.manage(command, Some(WATCHDOG)));
    let ready = manager.hears("READY=1", 1).await;
    assert!(ready.contains("\nSTATUS=running"), "{ready}");
    let before: Vec<String> = manager.heard().into_iter().take_while(|message| !message.contains("READY=1")).collect();
    assert!(before[0].contains("EXTEND_TIMEOUT_USEC=") && before[0].contains("STATUS=starting"), "{before:?}");
    assert!(!before.concat().contains("RELOADING") && !before.concat().contains("STOPPING"), "{before:?}");
    worker.until_answer("/readyz", 200).await;

    hold(&bench, "EX1").await;
    bench.ledger.entered("EX1", 1).await;
    manager.is_told("1 in flight, 0 of them waiting; fireflow-executions: 1 of 5 slots, nothing is queued").await;
    let pings = manager.times("WATCHDOG=1");
    manager.hears("WATCHDOG=1", pings + 2).await;
    assert_eq!(manager.times("READY=1"), 1);

    worker.signal(Signal::TERM);
    // At once, and not when the drain is over.
    manager.hears("STOPPING=1", 1).await;
    let answer = worker.until_answer("/readyz", 503).await;
    assert!(answer.contains("draining: told to end"), "{answer}");
    assert_eq!(worker.ask("/livez").await.0, 200);
    let extended = manager.times("EXTEND_TIMEOUT_USEC=");
    manager.hears("EXTEND_TIMEOUT_USEC=", extended + 3).await;
    manager.is_told("draining: told to end; 1 in flight").await;
    // A hangup in the drain is no end.
    worker.signal(Signal::HUP);
    worker.says("the configuration is in force").await;
    bench.ledger.release("EX1");
    let mut worker = worker;
    assert!(worker.ended().await.success(), "{}", worker.log());
    manager.hears("STATUS=stopped", 1).await;
    assert_eq!((manager.times("READY=1"), manager.times("RELOADING=1")), (1, 0), "{:#?}", manager.heard());
    assert_eq!(bench.client.until("EX1", "SUCCESS").await.attempts, 1);
}

#[tokio::test]
async fn nobody_is_ready_before_there_is_a_database() {
    let (bench, manager) = (bench().await, Manager::at_a_name());
    // A port on which nobody listens.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let url = format!("postgres://localhost:{port}/nothing");
    let file = file("");
    let mut worker = worker(&bench, &file, |command| {
        command.env("DATABASE_URL", url);
        manager.manage(command, None);
    });
    manager.is_told("starting: waiting for the database: ").await;
    manager.hears("EXTEND_TIMEOUT_USEC=15000000", 3).await;
    let answer = worker.until_answer("/readyz", 503).await;
    assert!(answer.contains("starting: waiting for the database"), "{answer}");
    let (_, answer) = worker.ask("/status").await;
    assert!(answer.contains("\"database\":\"away\""), "at once, and not when it has been silent for long: {answer}");
    assert_eq!(worker.ask("/livez").await.0, 200);
    worker.signal(Signal::HUP);
    worker.says("the configuration is in force").await;
    worker.signal(Signal::TERM);
    assert!(worker.ended().await.success(), "{}", worker.log());
    for never in ["READY=1", "RELOADING=1", "WATCHDOG=1"] {
        assert_eq!(manager.times(never), 0, "{:#?}", manager.heard());
    }
}

#[tokio::test]
async fn a_start_that_fails_says_why() {
    let (bench, manager) = (bench().await, Manager::at_a_path());
    let file = file("[database]\nstartup_wait = \"0s\"\nurl = \"postgres://localhost:1/nothing\"\n");
    let mut worker = worker(&bench, &file, |command| {
        command.env_remove("DATABASE_URL");
        manager.manage(command, None);
    });
    assert_eq!(worker.ended().await.code(), Some(69));
    let last = manager.hears("STATUS=failed: ", 1).await;
    assert!(last.contains("STOPPING=1") && last.contains("localhost:1"), "{last}");
}

#[tokio::test]
async fn a_dispatch_loop_that_hangs_is_told_on() {
    let (bench, manager) = (bench().await, Manager::at_a_path());
    let file = file("[queue]\npolling_interval = \"50ms\"\n");
    let worker = worker(&bench, &file, |command| {
        command.env("FIREFLOW_FAILPOINTS", "dispatch.round=pause@8");
        manager.manage(command, Some(WATCHDOG));
    });
    manager.hears("READY=1", 1).await;
    assert_eq!(worker.ask("/livez").await.0, 200);
    // It comes round with each of them, until it doesn't.
    for number in 0..8 {
        bench.client.enqueue(&format!("EX{number}"), "echo", json!({})).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    worker.says("the service manager isn't told that this process is well").await;
    let pings = manager.times("WATCHDOG=1");
    assert!(pings > 0);
    let answer = worker.until_answer("/livez", 503).await;
    assert!(
        answer.contains("the dispatch loop of queue \"fireflow-executions\" has been silent since 20")
            && answer.contains("going round"),
        "{answer}"
    );
    let answer = worker.until_answer("/readyz", 503).await;
    assert!(answer.contains("running, but the dispatch loop"), "{answer}");
    assert_eq!(manager.times("WATCHDOG=1"), pings, "seconds later");
    assert!(manager.times("STATUS=") > 1, "the rest of it lives");
    worker.kill().await;
}

/// A log that nobody reads takes every thread of the runtime that writes to it.
#[tokio::test]
async fn a_runtime_that_is_stuck_is_silent() {
    let (bench, manager) = (bench().await, Manager::at_a_path());
    let (reader, mut writer) = std::io::pipe().unwrap();
    let file = file("[queue]\npolling_interval = \"50ms\"\n");
    let mut command = program(&bench.database.url());
    command.arg("run").arg("--config").arg(file.path()).env("FIREFLOW__WORKER__ID", "w1");
    command.env("TOKIO_WORKER_THREADS", "2").env("FIREFLOW__LOG__LEVEL", "debug").stderr(writer.try_clone().unwrap());
    manager.manage(&mut command, Some(WATCHDOG));
    let mut worker = command.spawn().unwrap();
    drop(command); // it has an end of the pipe
    manager.hears("WATCHDOG=1", 2).await;
    let (progress, mut filled) = tokio::sync::watch::channel(());
    let filler = std::thread::spawn(move || {
        while writer.write_all(b".").is_ok() {
            progress.send_replace(())
        }
    });
    while tokio::time::timeout(Duration::from_millis(500), filled.changed()).await.is_ok() {}
    // They come at once, and each has something to say when it begins.
    let five = "SELECT dbos.enqueue_workflow('executeFireFlow', $1, ARRAY['{\"flowId\": \"echo\"}'::json],
                       workflow_id => 'EX' || n) FROM generate_series(1, 5) n";
    assert_eq!(bench.client.sql().query(five, &[&QUEUE]).await.unwrap().len(), 5);
    let silent = async {
        loop {
            let pings = manager.times("WATCHDOG=1");
            tokio::time::sleep(WATCHDOG).await;
            if manager.times("WATCHDOG=1") == pings {
                return pings;
            }
        }
    };
    let pings = tokio::time::timeout(PATIENCE, silent).await.expect("the pings end");
    // Without a reader lines are lost, and nothing waits for them.
    drop(reader);
    filler.join().unwrap();
    manager.hears("WATCHDOG=1", pings + 2).await;
    bench.client.until_count("SUCCESS", 5).await;
    let pid = rustix::process::Pid::from_raw(worker.id().unwrap().cast_signed()).unwrap();
    rustix::process::kill_process(pid, Signal::TERM).unwrap();
    assert!(tokio::time::timeout(PATIENCE, worker.wait()).await.unwrap().unwrap().success());
}

/// Nobody gets in any more, or everybody does.
async fn open_the_database(bench: &Bench, open: bool) {
    let (admin, connection) =
        tokio_postgres::connect(&TestServer::get().url("postgres"), tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    let name = bench.database.name();
    admin.batch_execute(&format!("ALTER DATABASE {name} ALLOW_CONNECTIONS {open}")).await.unwrap();
    if !open {
        let cut = format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'");
        admin.batch_execute(&cut).await.unwrap();
    }
}

#[tokio::test]
async fn a_database_that_is_away_ends_readiness_and_nothing_else() {
    let (bench, manager) = (bench().await, Manager::at_a_path());
    let file = file("[queue]\npolling_interval = \"50ms\"\n[worker]\nlease = \"3s\"\n");
    let worker = worker(&bench, &file, |command| manager.manage(command, Some(WATCHDOG)));
    manager.hears("READY=1", 1).await;
    hold(&bench, "EX1").await;
    manager.is_told("1 in flight").await;
    open_the_database(&bench, false).await;
    let answer = worker.until_answer("/readyz", 503).await;
    assert!(answer.contains("running, but the database is away") || answer.contains("suspended: "), "{answer}");
    manager.is_told("suspended: ").await; // it has lost its lease
    let answer = worker.until_answer("/readyz", 503).await;
    assert!(answer.contains("lease"), "{answer}");
    // What it ran is stopped, and nothing is known of the queue.
    let settled = async {
        loop {
            let (_, answer) = worker.ask("/status").await;
            let status: serde_json::Value = serde_json::from_str(answer.split("\r\n\r\n").nth(1).unwrap()).unwrap();
            if status["running"] == 0 && status["queues"] == json!([]) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, settled).await.expect("nothing runs there any more");
    let pings = manager.times("WATCHDOG=1");
    manager.hears("WATCHDOG=1", pings + 5).await;
    assert_eq!(worker.ask("/livez").await.0, 200, "{}", worker.log());
    open_the_database(&bench, true).await;
    worker.until_answer("/readyz", 200).await;
    bench.ledger.release_all();
    SqlClient::attach(&bench.database.url()).await.until("EX1", "SUCCESS").await;
    assert_eq!((manager.times("READY=1"), manager.times("STOPPING=1")), (1, 0));
    assert!(worker.stop().await.success());
}
