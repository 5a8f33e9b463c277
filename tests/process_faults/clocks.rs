//! Wall clocks that are set while a worker or its database runs, by libfaketime (Debian's package `faketime`).

use std::{
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use fireflow_worker::postgres::embedded::{Data, Options, Programs, Server, locate};
use serde_json::json;

use super::support::{
    client::SqlClient,
    flows::{FlowBuilder, echo},
    ledger::Ledger,
    worker::WorkerProcess,
};

/// The library, where it is installed. Without it a test says so and ends; where tests have to be complete, it fails.
fn faketime() -> Option<PathBuf> {
    let folders = std::fs::read_dir("/usr/lib").into_iter().flatten().filter_map(Result::ok);
    let library = folders.map(|folder| folder.path().join("faketime/libfaketimeMT.so.1")).find(|path| path.is_file());
    if library.is_none() {
        assert!(std::env::var_os("CI").is_none(), "libfaketime is not installed (Debian: apt-get install faketime)");
        eprintln!("skipped: libfaketime is not installed (Debian: apt-get install faketime)");
    }
    library
}

/// A wall clock that the test sets.
struct Clock {
    folder: tempfile::TempDir,
}

impl Clock {
    fn new() -> Clock {
        let folder = tempfile::tempdir().unwrap();
        // Whatever account the server runs as can read it.
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let clock = Clock { folder };
        clock.set("+0");
        clock
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("offset")
    }

    /// Ahead of the true time by so much.
    fn set(&self, offset: &str) {
        let next = self.folder.path().join("next");
        std::fs::write(&next, offset).unwrap();
        std::fs::rename(next, self.file()).unwrap();
    }

    /// What makes a process go by this clock. Its other clocks stay as they are.
    fn environment(&self, library: &Path) -> Vec<(&'static str, String)> {
        vec![
            ("LD_PRELOAD", library.display().to_string()),
            ("FAKETIME_TIMESTAMP_FILE", self.file().display().to_string()),
            ("FAKETIME_NO_CACHE", "1".into()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".into()),
        ]
    }

    /// A folder of programs like that one, whose server goes by this clock.
    fn programs(&self, library: &Path) -> Programs {
        let real = locate(None).unwrap();
        let bin = self.folder.path().join("bin");
        std::fs::create_dir(&bin).unwrap();
        for entry in std::fs::read_dir(&real.bin).unwrap() {
            let name = entry.unwrap().file_name();
            let mut script = String::from("#!/bin/sh\n");
            if name == "postgres" {
                for (key, value) in self.environment(library) {
                    script += &format!("export {key}='{value}'\n");
                }
            }
            script += &format!("exec '{}' \"$@\"\n", real.bin.join(&name).display());
            std::fs::write(bin.join(&name), script).unwrap();
            std::fs::set_permissions(bin.join(&name), std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        Programs { bin, ..real }
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

async fn hours_ahead(client: &SqlClient) -> f64 {
    let sql = "SELECT extract(epoch FROM clock_timestamp())::float8";
    let theirs: f64 = client.sql().query_one(sql, &[]).await.unwrap().get(0);
    let ours = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
    ((theirs - ours) / 360.0).round() / 10.0
}

#[tokio::test]
async fn a_wall_clock_of_the_worker_that_is_set_costs_nothing() {
    let Some(library) = faketime() else { return };
    let bench = super::bench().await;
    let clock = Clock::new();
    let mut command = super::program(&bench.database.url());
    command.envs(clock.environment(&library));
    let mut worker = super::with_log_of(command, "w1", "4s", std::process::Stdio::null());
    super::begin(&bench, "EX0").await;
    let began = super::lease(&bench, "w1").await.unwrap().1;
    for (number, offset) in ["+2d", "-2d", "+0"].into_iter().enumerate() {
        clock.set(offset);
        super::stays_held(&bench, "w1", 5).await; // for more than a lease
        let id = format!("EX-echo-{number}");
        bench.client.enqueue(&id, "echo", json!({})).await;
        assert_eq!(bench.client.until(&id, "SUCCESS").await.attempts, 1);
    }
    bench.ledger.release("EX0");
    assert_eq!(bench.client.until("EX0", "SUCCESS").await.attempts, 1);
    assert_eq!((bench.ledger.entries("EX0").await, super::lease(&bench, "w1").await.unwrap().1), (1, began));
    super::stop(&mut worker, 0).await;
}

#[tokio::test]
async fn a_wall_clock_of_the_database_that_is_set_loses_nothing() {
    let Some(library) = faketime() else { return };
    let clock = Clock::new();
    let programs = clock.programs(&library);
    let server = Server::start(Options { programs, data: Data::Temporary, port: None }).await.unwrap();
    let url = server.url("postgres");
    let (client, ledger) = prepare(&url).await;
    let lease = [("worker.lease", "3s")];
    let workers = [WorkerProcess::start(&url, "w1", &lease).await, WorkerProcess::start(&url, "w2", &lease).await];
    client.enqueue("EX-held", "long", json!({"hold": "/hold/EX-held"})).await;
    ledger.entered("EX-held", 1).await;
    for (number, (offset, hours)) in [("+3h", 3.0), ("+1h", 1.0), ("+0", 0.0)].into_iter().enumerate() {
        clock.set(offset);
        assert_eq!(hours_ahead(&client).await, hours, "the server goes by the clock");
        for echo in 0..5 {
            let id = format!("EX-{number}-{echo}");
            client.enqueue(&id, "echo", json!({})).await;
            client.until(&id, "SUCCESS").await;
        }
    }
    // Forward, every lease had ended at once: its execution may have begun anew, but not be lost, nor end twice.
    ledger.release("EX-held");
    client.until("EX-held", "SUCCESS").await;
    let steps: Vec<String> = client.steps("EX-held").await.into_iter().map(|step| step.name).collect();
    assert_eq!(steps, ["DBOS.writeStream", "updateToRunning", "executeFlowAtomic", "updateToCompleted"]);
    for worker in workers {
        assert!(worker.stop().await.success());
    }
    drop(client);
    server.stop().await;
}
