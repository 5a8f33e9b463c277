//! What must never be in the log, whatever level is asked for.

mod support;

use serde_json::{Value as Json, json};
use support::{
    TestDatabase,
    client::SqlClient,
    flows::{FlowBuilder, echo},
    ledger::Ledger,
    worker::WorkerProcess,
};

#[tokio::test]
async fn values_and_passwords_stay_out_of_the_log_at_every_level() {
    let database = TestDatabase::new().await;
    let client = SqlClient::open(&database).await;
    let ledger = Ledger::open(&database).await;
    client.store(&echo("echo")).await;
    let headers =
        [("baseUri", json!(ledger.base())), ("path", json!("/enter/EX2")), ("headers", json!("X-Key: hush-3"))];
    client.store(&FlowBuilder::new("fetch").node("get", "HttpRequestNode", &headers).build()).await;
    let level = "trace,tokio_postgres=trace,tokio_postgres::query=trace,hyper_util::client=trace,[execution]=trace";
    let worker = WorkerProcess::start(&database.url(), "w1", &[("log.level", level)]).await;
    client.enqueue("EX1", "echo", json!({"text": "hush-1"})).await;
    client.enqueue("EX2", "fetch", json!({})).await;
    assert!(client.until("EX1", "SUCCESS").await.result().to_string().contains("hush-1"));
    client.until("EX2", "SUCCESS").await;
    let log = worker.log();
    assert!(log.contains("EX1") && log.contains("DEBUG"), "the log is at work: {log}");
    let url = database.url();
    let password = url.split(['@', ':']).nth(2).unwrap_or_default();
    assert!(password.len() > 20, "{url}");
    for secret in ["hush-1", "hush-3", password] {
        let line = log.lines().find(|line| line.contains(secret));
        assert!(line.is_none(), "{line:?}");
    }
}

/// The lines of a log in JSON; all of them have to be so.
fn lines(log: &str) -> Vec<Json> {
    log.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

#[tokio::test]
async fn in_json_every_line_of_an_execution_says_whose_it_is_and_holds_no_secret() {
    let database = TestDatabase::new().await;
    let client = SqlClient::open(&database).await;
    client.store(&echo("echo")).await;
    // The port is closed: the node tries again, and says so.
    let values = [("baseUri", json!("http://127.0.0.1:1")), ("path", json!("/")), ("retries", json!(1))];
    client.store(&FlowBuilder::new("fetch").node("get", "HttpRequestNode", &values).build()).await;
    // The worker's own name is one of the secrets, in a form that JSON writes in another way.
    let (folder, secret) = (tempfile::tempdir().unwrap(), "w\"hush-4\u{e4}");
    std::fs::write(folder.path().join("KEY"), secret).unwrap();
    let folder = folder.path().to_str().unwrap();
    let settings = [("log.format", "json"), ("log.level", "debug"), ("secrets.folder", folder)];
    let worker = WorkerProcess::start(&database.url(), secret, &settings).await;
    client.enqueue("EX1", "echo", json!({"text": "a"})).await;
    client.enqueue("EX2", "fetch", json!({})).await;
    client.until("EX1", "SUCCESS").await;
    client.until("EX2", "SUCCESS").await;
    worker.says_times("execution completed", 2).await;
    let log = worker.log();
    assert!(worker.stop().await.success());
    let found = lines(&log);
    let said = |message: &str, execution: &str| {
        let is = |line: &&Json| line["message"] == message && line["execution"] == execution;
        found.iter().find(is).unwrap_or_else(|| panic!("{execution} doesn't say {message}: {log}"))
    };
    let completed = said("execution completed", "EX1");
    assert_eq!(
        (&completed["flow"], &completed["attempt"], &completed["worker"], &completed["level"]),
        (&json!("echo"), &json!(1), &json!("[secret KEY]"), &json!("INFO"))
    );
    assert!(completed["timestamp"].as_str().unwrap().ends_with('Z'), "{completed}");
    let tried = said("http request failed, trying again", "EX2");
    assert_eq!((&tried["flow"], &tried["node"], &tried["attempt"]), (&json!("fetch"), &json!("get"), &json!(1)));
    let started = found.iter().find(|line| line["message"] == "fireflow-worker starts").unwrap();
    assert!(started.get("execution").is_none() && started["worker"] == "[secret KEY]", "{started}");
    assert!(!log.contains("hush-4"), "{log}");
}
