//! What must never be in the log, whatever level is asked for.

mod support;

use serde_json::json;
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
    let worker = WorkerProcess::start(&database.url(), "w1", &[("log.level", "trace,tokio_postgres=trace")]).await;
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
