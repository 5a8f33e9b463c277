//! `healthcheck`: 0 when the worker says that all is well, 1 and the reason in any other case.

use std::io::Write as _;

use rustix::process::Signal;
use serde_json::json;

use super::free_port;
use super::support::bench::Bench;
use super::support::flows::FlowBuilder;
use super::support::worker::{WorkerProcess, program};

/// Exit code, and what it said.
async fn healthcheck(arguments: &[&str], environment: &[(&str, &str)]) -> (i32, String) {
    let mut command = program("");
    let output = command.arg("healthcheck").args(arguments).envs(environment.iter().copied()).output().await.unwrap();
    let said = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap()).concat();
    (output.status.code().unwrap(), said)
}

fn fails_with(ended: &(i32, String), parts: &[&str]) {
    let (code, said) = ended;
    assert!(*code == 1 && parts.iter().all(|part| said.contains(part)), "{parts:?} aren't in: {ended:?}");
}

#[tokio::test]
async fn tells_whether_the_worker_lives_and_whether_it_takes_executions() {
    let bench = Bench::with(|ledger| vec![FlowBuilder::new("long").get("hold", ledger).build()]).await;
    let listen = format!("127.0.0.1:{}", free_port());
    let environment = [("FIREFLOW__ADMIN__LISTEN", listen.as_str())];
    fails_with(&healthcheck(&[], &environment).await, &["/livez", &listen, "admin.listen", "no worker listens there"]);

    let settings = [("admin.enabled", "true"), ("admin.listen", listen.as_str()), ("worker.drain_timeout", "10m")];
    let mut worker = WorkerProcess::start(&bench.database.url(), "w1", &settings).await;
    assert_eq!(healthcheck(&[], &environment).await.0, 0);
    assert_eq!(healthcheck(&["--ready"], &environment).await.0, 0);

    // What drains lives, and takes nothing.
    bench.client.enqueue("EX1", "long", json!({"hold": "/hold/EX1"})).await;
    bench.ledger.entered("EX1", 1).await;
    worker.signal(Signal::TERM);
    worker.says("draining").await;
    assert_eq!(healthcheck(&[], &environment).await.0, 0);
    fails_with(&healthcheck(&["--ready"], &environment).await, &["/readyz", "503", "draining"]);
    bench.ledger.release("EX1");
    assert!(worker.ended().await.success());
    fails_with(&healthcheck(&[], &environment).await, &["no worker listens there"]);
}

#[tokio::test]
async fn a_listener_that_says_nothing_is_given_up() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let listen = silent.local_addr().unwrap().to_string();
    let ended = healthcheck(&["--timeout", "100ms"], &[("FIREFLOW__ADMIN__LISTEN", &listen)]).await;
    fails_with(&ended, &["no answer within 100ms"]);
}

#[tokio::test]
async fn says_what_keeps_it_from_asking() {
    let off = healthcheck(&[], &[("FIREFLOW__ADMIN__ENABLED", "false")]).await;
    fails_with(&off, &["admin.enabled is false"]);
    let any = healthcheck(&[], &[("FIREFLOW__ADMIN__LISTEN", "127.0.0.1:0")]).await;
    fails_with(&any, &["admin.listen has port 0"]);
    let wrong = healthcheck(&[], &[("FIREFLOW__ADMIN__LISTEN", "nowhere")]).await;
    fails_with(&wrong, &["variable FIREFLOW__ADMIN__LISTEN", "admin.listen"]);
    let unknown = healthcheck(&[], &[("FIREFLOW__ADMIN__PORT", "1")]).await;
    fails_with(&unknown, &["admin.port", "unknown key"]);
    let missing = healthcheck(&["--config", "/nowhere/worker.toml"], &[]).await;
    fails_with(&missing, &["/nowhere/worker.toml"]);
}

/// A worker goes on with the configuration that it started with; a file that is being edited must not make it look dead.
#[tokio::test]
async fn nothing_but_the_listener_s_section_counts() {
    let database = super::support::TestDatabase::new().await;
    let listen = format!("127.0.0.1:{}", free_port());
    let settings = [("admin.enabled", "true"), ("admin.listen", listen.as_str())];
    let worker = WorkerProcess::start(&database.url(), "w1", &settings).await;
    let mut file = tempfile::NamedTempFile::new().unwrap();
    write!(file, "[queue]\nconcurrency = \"many\"\n[[nonsense]]\n[admin]\nlisten = \"{listen}\"\n").unwrap();
    let config = file.path().to_str().unwrap();
    let ended = healthcheck(&["--config", config], &[("FIREFLOW__QUEUE__NAMES", "x")]).await;
    assert_eq!(ended.0, 0, "{ended:?}");
    // What `run` says of the same file.
    let refused = program(&database.url()).args(["run", "--config", config]).output().await.unwrap();
    assert_eq!(refused.status.code(), Some(78));
    assert!(worker.stop().await.success());
}
