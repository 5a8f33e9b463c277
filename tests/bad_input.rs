//! What a worker is given may be wrong in any way: it says so where its sender looks, and all else goes on.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, also in its helpers")]

mod support;

use std::process::Output;

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use serde_json::{Value as Json, json};
use support::{
    TestDatabase, TestServer,
    client::{Raw, SqlClient},
    flows::{FlowBuilder, echo},
    worker::{WorkerProcess, program},
};

/// Run `fireflow-worker run` to its end, with some environment.
async fn refused(url: &str, environment: &[(&str, &str)]) -> (Option<i32>, String) {
    let output = program(url)
        .arg("run")
        .env("FIREFLOW__ADMIN__ENABLED", "false")
        .envs(environment.iter().copied())
        .output()
        .await
        .unwrap();
    (output.status.code(), said(&output))
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[tokio::test]
async fn a_bad_configuration_is_refused_by_file_and_place() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("worker.toml");
    for (text, parts) in [
        ("[queue]\nname = \"q\"\nconcurrency = = 7\n", &["worker.toml", "not valid TOML", "line 3"][..]),
        ("[queue]\nconcurency = 7\n", &["worker.toml", "queue", "did you mean `concurrency`"]),
        ("[worker]\nlease = \"soon\"\n", &["worker.toml", "worker.lease", "soon"]),
        ("[queue]\nconcurrency = 2\nworker_concurrency = 3\n", &["worker.toml", "queue.worker_concurrency", "1 to 2"]),
        ("[execution]\nmax_input = \"many\"\n", &["worker.toml", "execution.max_input"]),
        ("[database]\nurl = \"postgres://u:verysecret@h:port/d\"\n", &["database.url"]),
    ] {
        std::fs::write(&file, text).unwrap();
        let mut command = program("postgres://localhost/unused");
        command.env_remove("DATABASE_URL").arg("--config").arg(&file);
        let output = command.output().await.unwrap();
        let said = said(&output);
        assert_eq!(output.status.code(), Some(78), "{text}: {said}");
        for part in parts {
            assert!(said.contains(part), "{text}: {said}");
        }
        assert!(!said.contains("verysecret"), "{said}");
    }
    let (code, said) = refused("postgres://localhost/unused", &[("FIREFLOW__QUEUE__CONCURENCY", "7")]).await;
    assert_eq!(code, Some(78), "{said}");
    assert!(said.contains("FIREFLOW__QUEUE__CONCURENCY"), "{said}");
}

#[tokio::test]
async fn a_database_that_refuses_is_told_at_once_and_without_the_password() {
    let good = TestServer::get().url("postgres");
    let password = good.split([':', '@']).nth(2).unwrap().to_owned();
    let loud = [("FIREFLOW__LOG__LEVEL", "trace")];
    for (url, secret, part) in [
        (good.replace(&password, "wrongsecret"), "wrongsecret", "check user and password"),
        (TestServer::get().url("nowhere"), password.as_str(), "createdb nowhere"),
    ] {
        let (code, said) = refused(&url, &loud).await;
        assert_eq!(code, Some(69), "{said}");
        assert!(said.contains(part), "{said}");
        assert!(!said.contains(secret), "{said}");
    }
}

#[tokio::test]
async fn a_schema_that_can_not_be_used_is_refused_with_a_way_out_and_left_as_it_is() {
    for (change, parts) in [
        ("DROP TABLE dbos.streams, dbos.notifications", &["incomplete", "table streams", "dbos migrate"][..]),
        ("UPDATE dbos.dbos_migrations SET version = 28", &["level 28", "fireflow-worker migrate"]),
        ("DROP SCHEMA dbos CASCADE; CREATE SCHEMA dbos; CREATE TABLE dbos.workflow_status (x int)", &["incomplete"]),
        (
            "ALTER TABLE fireflow_flows DROP COLUMN data",
            &["fireflow_flows", "without column data", "another prefix than \"fireflow_\""],
        ),
    ] {
        let database = TestDatabase::new().await;
        let client = SqlClient::open(&database).await;
        client.sql().batch_execute(change).await.unwrap();
        let columns = "SELECT count(*) FROM information_schema.columns WHERE table_schema IN ('dbos', 'public')";
        let before: i64 = client.sql().query_one(columns, &[]).await.unwrap().get(0);
        let (code, said) = refused(&database.url(), &[("FIREFLOW__WORKER__ID", "w1")]).await;
        assert_eq!(code, Some(1), "{change}: {said}");
        for part in parts {
            assert!(said.contains(part), "{change}: {said}");
        }
        assert_eq!(client.sql().query_one(columns, &[]).await.unwrap().get::<_, i64>(0), before, "{change}");
    }
}

/// A bad row, and what its error says.
struct Bad {
    id: String,
    format: Option<&'static str>,
    inputs: String,
    says: &'static str,
}

fn bad_tasks() -> Vec<Bad> {
    let mut rows = Vec::new();
    let mut add = |format, inputs: String, says| {
        rows.push(Bad { id: format!("bad-{}", rows.len()), format, inputs, says });
    };
    let mut task = |arguments: Json, says| {
        add(Some("portable_json"), json!({"positionalArgs": arguments}).to_string(), says);
    };
    task(json!([]), "there are no arguments");
    task(json!(["echo"]), "it is a text");
    task(json!([{"flowId": "echo"}, {}]), "2 arguments");
    task(json!([{}]), "neither flowId nor executionId");
    task(json!([{"flowId": 7}]), "flowId should be a text");
    task(json!([{"flowId": " "}]), "flowId is blank");
    task(json!([{"flowId": "a\0b"}]), "flowId holds a NUL");
    task(json!([{"flowId": "echo", "executionId": "a\0b"}]), "executionId holds a NUL");
    task(json!([{"flowId": "echo", "inputs": ["x"]}]), "inputs should be an object");
    task(json!([{"flowId": "echo", "events": {}}]), "events should be a list");
    task(json!([{"flowId": "echo", "options": []}]), "options should be an object");
    task(json!([{"flowId": "echo", "integration": "x"}]), "integration should be an object");
    task(json!([{"flowId": "echo", "inputs": {"txet": "x"}}]), "the flow has no input \\\"txet\\\"; its inputs: text");
    task(json!([{"flowId": "missing"}]), "there is no flow \\\"missing\\\"");
    task(json!([{"flowId": "a-list"}]), "\\\"a-list\\\" can't be loaded");
    task(json!([{"flowId": "a-text"}]), "\\\"a-text\\\" can't be loaded");
    task(json!([{"flowId": "bad-nodes"}]), "`nodes` must be a list");
    task(json!([{"flowId": "too-deep"}]), "\\\"too-deep\\\" can't be loaded: recursion limit exceeded");
    for (format, inputs, says) in [
        ("portable_json", r#"{"positionalArgs": [{"flowId": "echo"}"#, "can't be decoded"),
        ("portable_json", r#"[{"flowId": "echo"}]"#, "an object with `positionalArgs`"),
        ("portable_json", r#"{"positionalArgs": {"flowId": "echo"}}"#, "an array in `positionalArgs`"),
        ("js_superjson", "undefined", "can't be decoded"),
        ("js_superjson", r#"{"json":{"flowId":"echo"},"__dbos_serializer":"superjson"}"#, "array of arguments"),
        ("py_pickle", "gASVnot base64!", "can't be decoded"),
        ("py_pickle", "gASVBAAAAAAAAABLAU", "can't be decoded"),
        ("rust_serde", "{flowId: echo}", "can't be decoded"),
    ] {
        add(Some(format), inputs.into(), says);
    }
    // os.system("true"): a pickle that calls is refused, not run.
    let calls = b"\x80\x04\x8c\x05posix\x94\x8c\x06system\x94\x93\x94\x8c\x04true\x94\x85\x94R\x94.";
    add(Some("py_pickle"), BASE64.encode(calls), "can't be decoded");
    add(None, "<xml/>".into(), "neither JSON nor a base64 pickle");
    add(Some("portable_json"), format!("{}1{}", "[".repeat(5000), "]".repeat(5000)), "can't be decoded");
    rows
}

#[tokio::test]
async fn each_bad_row_fails_with_its_reason_and_the_good_ones_between_them_complete() {
    let database = TestDatabase::new().await;
    let client = SqlClient::open(&database).await;
    client.store(&echo("echo")).await;
    client.store_as("a-list", &json!([1])).await;
    client.store_as("a-text", &json!("flow")).await;
    client.store_as("bad-nodes", &json!({"id": "bad-nodes", "nodes": 7, "edges": []})).await;
    let deep = (0..300).fold(json!(1), |inner, _| json!([inner]));
    client.store_as("too-deep", &json!({"id": "too-deep", "nodes": [], "edges": [], "more": deep})).await;
    let rows = bad_tasks();
    for (place, bad) in rows.iter().enumerate() {
        client.create_execution(&bad.id, "echo").await;
        client.enqueue_raw(&Raw::new(&bad.id, bad.format, &bad.inputs)).await;
        client.enqueue(&format!("good-{place}"), "echo", json!({"text": place.to_string()})).await;
    }
    client.create_execution("bad-no-inputs", "echo").await;
    client.enqueue_raw(&Raw::new("bad-no-inputs", Some("portable_json"), "")).await;
    client.execute("DELETE FROM dbos.workflow_input WHERE workflow_uuid = 'bad-no-inputs'", &[]).await;

    let worker = WorkerProcess::start(&database.url(), "w1", &[]).await;
    for (place, bad) in rows.iter().enumerate() {
        let row = client.until(&bad.id, "ERROR").await;
        let text = match bad.format {
            Some("py_pickle") => String::from_utf8_lossy(&BASE64.decode(row.error()).unwrap()).into_owned(),
            _ => row.error().to_owned(),
        };
        assert!(text.contains(bad.says), "{}: {:?}: {text}", bad.id, bad.inputs);
        let (status, error) = client.execution(&bad.id).await.unwrap();
        assert_eq!(status, "failed", "{}", bad.inputs);
        let says = bad.says.replace('\\', "");
        assert!(error.as_deref().unwrap().contains(&says), "{}: {error:?}", bad.inputs);
        let good = client.until(&format!("good-{place}"), "SUCCESS").await;
        assert_eq!(good.result()["outputs"]["text"], place.to_string());
    }
    let row = client.until("bad-no-inputs", "ERROR").await;
    assert!(row.error().contains("no inputs"), "{row:?}");
    assert!(!worker.log().contains("panicked"), "{}", worker.log());
    assert!(worker.stop().await.success());
}

/// PostgreSQL's text has no NUL and its JSON no lone surrogates; JavaScript has both.
#[tokio::test]
async fn odd_characters_come_through_or_fail_alone() {
    let database = TestDatabase::new().await;
    let client = SqlClient::open(&database).await;
    client.store(&echo("echo")).await;
    let odd = r#"[{"flowId": "echo", "inputs": {"text": "a\u0000b\ud800c\udc00\ud83d\ude00"}}]"#;
    client.enqueue_raw(&Raw::new("portable", Some("portable_json"), &format!(r#"{{"positionalArgs": {odd}}}"#))).await;
    let enveloped = format!(r#"{{"json":{odd},"__dbos_serializer":"superjson"}}"#);
    client.enqueue_raw(&Raw::new("superjson", Some("js_superjson"), &enveloped)).await;
    client.enqueue_raw(&Raw::new("unnamed", None, odd)).await;
    // What has to go into a jsonb column can't be stored with a NUL.
    client.enqueue_task("integration", &json!({"flowId": "echo", "integration": {"key": "a\0b"}})).await;
    client.create_execution("unknown-input", "echo").await;
    client.enqueue_task("unknown-input", &json!({"flowId": "echo", "inputs": {"a\0b": 1}})).await;
    let worker = WorkerProcess::start(&database.url(), "w1", &[]).await;

    for (id, path) in
        [("portable", "/outputs/text"), ("superjson", "/json/outputs/text"), ("unnamed", "/json/outputs/text")]
    {
        let row = client.until(id, "SUCCESS").await;
        assert_eq!(row.result().pointer(path).unwrap(), "a\0b\u{fffd}c\u{fffd}😀", "{row:?}");
        let last = client.events(id).await.pop().unwrap();
        assert_eq!(last.2, "flow:completed");
    }
    let row = client.until("integration", "ERROR").await;
    assert!(row.error().contains("\\\\u0000"), "{row:?}");
    let row = client.until("unknown-input", "ERROR").await;
    assert!(row.error().contains("no input"), "{row:?}");
    assert_eq!(client.execution("unknown-input").await.unwrap().0, "failed");
    assert!(worker.stop().await.success());
}

#[tokio::test]
async fn large_inputs_run_and_too_large_ones_are_refused_by_size() {
    let database = TestDatabase::new().await;
    let client = SqlClient::open(&database).await;
    client.store(&echo("echo")).await;
    let large = "x".repeat(5 << 20);
    client.enqueue("large", "echo", json!({"text": large})).await;
    let worker = WorkerProcess::start(&database.url(), "w1", &[]).await;
    let row = client.until("large", "SUCCESS").await;
    assert_eq!(row.result()["outputs"]["text"].as_str().unwrap().len(), 5 << 20);
    assert!(worker.log().len() < 100_000, "no input in the log");
    assert!(worker.stop().await.success());

    client.create_execution("too-large", "echo").await;
    client.enqueue("too-large", "echo", json!({"text": large})).await;
    client.enqueue("small", "echo", json!({"text": "y"})).await;
    let worker = WorkerProcess::start(&database.url(), "w1", &[("execution.max_input", "1MiB")]).await;
    let row = client.until("too-large", "ERROR").await;
    assert!(row.error().contains("execution.max_input allows 1048576"), "{row:?}");
    assert!(client.until_execution("too-large", "failed").await.unwrap().contains("bytes"));
    client.until("small", "SUCCESS").await;
    assert!(worker.stop().await.success());
}

#[tokio::test]
async fn of_a_flow_with_a_cycle_or_a_dangling_edge_the_rest_runs() {
    let database = TestDatabase::new().await;
    let client = SqlClient::open(&database).await;
    let text = |text: &str| [("text", json!(text))];
    let cycle = FlowBuilder::new("cycle")
        .node("alone", "TextNode", &text("alone"))
        .node("one", "TextNode", &text("one"))
        .node("two", "TextNode", &text("two"))
        .edge(("one", "text"), ("two", "text"))
        .edge(("two", "text"), ("one", "text"));
    client.store(&cycle.build()).await;
    let dangling = FlowBuilder::new("dangling")
        .node("from", "TextNode", &text("through"))
        .node("to", "TextNode", &text("before"))
        .edge(("from", "text"), ("gone", "text"))
        .edge(("from", "text"), ("to", "no-such-port"))
        .edge(("from", "text"), ("to", "text"));
    client.store(&dangling.build()).await;
    let unknown = FlowBuilder::new("unknown-node").node("alone", "TextNode", &text("alone")).node(
        "strange",
        "FutureNode",
        &text("later"),
    );
    client.store(&unknown.build()).await;
    for flow in ["cycle", "dangling", "unknown-node"] {
        client.enqueue(flow, flow, json!({})).await;
    }
    let worker = WorkerProcess::start(&database.url(), "w1", &[]).await;
    let outputs = async |id: &str| client.until(id, "SUCCESS").await.result()["outputs"].clone();
    assert_eq!(outputs("cycle").await, json!({"alone.text": "alone"}));
    assert_eq!(outputs("dangling").await, json!({"to.text": "through"}));
    assert_eq!(outputs("unknown-node").await, json!({"alone.text": "alone"}));
    for part in ["wait for each other", "edge dropped: edge-1", "edge dropped: edge-2", "does not know the node type"] {
        assert!(worker.log().contains(part), "{part}: {}", worker.log());
    }
    assert!(client.events("unknown-node").await.iter().any(|(.., kind)| kind == "node:failed"));
    assert!(worker.stop().await.success());
}
