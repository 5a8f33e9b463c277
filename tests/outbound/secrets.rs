//! Secrets by reference: what is sent, what comes back, and what is left in the database and the log.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value as Json, json};

use super::servers::Echo;
use super::support::client::SqlClient;
use super::support::flows::FlowBuilder;
use super::support::{TestDatabase, worker::WorkerProcess};
use super::{fetch, outbound, refusal};

const CONFIG: &str = "[secrets]\nenvironment = [\"TOKEN\", \"QUOTED\"]\n";
const ENVIRONMENT: [(&str, &str); 2] = [("TOKEN", "hush-4711-token"), ("QUOTED", "say \"hush\"/&now=1")];

#[tokio::test]
async fn a_reference_becomes_its_value_only_in_what_is_sent() {
    let server = Echo::start().await;
    let open = outbound(CONFIG, &ENVIRONMENT);
    let json_type = "Content-Type: application/json";
    let form = "Content-Type: application/x-www-form-urlencoded";
    for (inputs, parts) in [
        (json!({"path": "/a/secret://TOKEN/b"}), vec!["GET /a/[secret TOKEN]/b\n"]),
        (json!({"path": "/a?k=secret://QUOTED&n=1"}), vec!["GET /a?k=[secret QUOTED]&n=1\n"]),
        (
            json!({"path": "/a", "headers": "X-Key: secret://TOKEN\nAuthorization: Bearer secret://TOKEN"}),
            vec!["x-key: [secret TOKEN]\n", "authorization: Bearer [secret TOKEN]\n"],
        ),
        (
            json!({"path": "/a", "method": "POST", "headers": json_type, "body": "{\"a\": [\"<secret://QUOTED>\"]}"}),
            vec!["{\"a\":[\"<[secret QUOTED]>\"]}"],
        ),
        (
            json!({"path": "/a", "method": "POST", "headers": form, "body": "a=secret://QUOTED&b=2"}),
            vec!["a=[secret QUOTED]&b=2"],
        ),
        (
            json!({"path": "/a", "method": "POST", "headers": "Content-Type: text/plain", "body": "<secret://QUOTED>"}),
            vec!["<[secret QUOTED]>"],
        ),
        (json!({"path": "/pieces", "headers": "X-Key: secret://TOKEN"}), vec!["x-key: [secret TOKEN]\n"]),
        (
            json!({"path": "/json", "headers": "X-Key: secret://TOKEN", "responseType": "json"}),
            vec!["x-key: [secret TOKEN]\\n"],
        ),
    ] {
        let mut inputs = inputs;
        inputs["baseUri"] = json!(server.base);
        let (ports, error) = fetch(&open, inputs.clone()).await;
        assert_eq!(error, None, "{inputs}");
        let response = ports["response"].as_str().unwrap();
        for part in parts {
            assert!(response.contains(part), "{inputs}: {response}");
        }
        // The answer has the request once more in base64.
        if let Some((_, encoded)) = response.rsplit_once('\n').filter(|_| !response.starts_with('{')) {
            assert!(encoded.contains("[secret ") || inputs["path"] == "/pieces", "{inputs}: {response}");
        }
        let all = ports.to_string();
        assert!(!all.contains("hush") && all.contains("secret://"), "{all}");
    }
}

#[tokio::test]
async fn a_secret_that_cannot_be_used_is_named() {
    let (server, other) = (Echo::start().await, Echo::start().await);
    let toml = format!("{CONFIG}[secrets.hosts]\nTOKEN = [\"127.0.0.1:{}\"]\n", server.port);
    let bound = outbound(&toml, &[("TOKEN", "hush-4711-token"), ("QUOTED", "short")]);
    let elsewhere = refusal(&bound, &other.base, "/?secret://TOKEN").await;
    assert!(elsewhere.contains("port `path`: the secret TOKEN may not be sent to 127.0.0.1"), "{elsewhere}");
    for (inputs, words) in [
        (json!({"path": "/", "headers": "A: secret://NONE"}), "port `headers`: there is no secret NONE"),
        (json!({"path": "/", "headers": "A: secret://QUOTED"}), "the secret QUOTED can't be used: it has 5 bytes"),
        (
            json!({"path": "/", "method": "POST", "headers": "Content-Type: text/plain", "body": "secret://PATH"}),
            "port `body`: there is no secret PATH",
        ),
        (json!({"path": "/", "baseUri": "http://secret://TOKEN/"}), "port `baseUri` refers to a secret"),
    ] {
        let mut inputs = inputs;
        if inputs.get("baseUri").is_none() {
            inputs["baseUri"] = json!(server.base);
        }
        let error = fetch(&bound, inputs.clone()).await.1.unwrap_or_else(|| panic!("{inputs}"));
        assert!(error.contains(words), "{inputs}: {error}");
    }
    assert_eq!((server.count(), other.count()), (0, 0));

    // To its host, and from there nowhere else.
    let to = |target: &str| json!({"baseUri": server.base, "path": format!("/to?{target}"), "headers": "X-Key: secret://TOKEN"});
    let (ports, error) = fetch(&bound, to("/end")).await;
    assert!(error.is_none() && ports["response"].as_str().unwrap().contains("x-key: [secret TOKEN]"));
    let (ports, error) = fetch(&bound, to(&format!("{}/end", other.base))).await;
    assert!(error.is_none() && !ports["response"].as_str().unwrap().contains("x-key"), "{ports}");
    let mut with_body = to(&format!("{}/end", other.base));
    with_body["method"] = json!("POST");
    with_body["headers"] = json!("Content-Type: text/plain");
    with_body["body"] = json!("secret://TOKEN");
    let error = fetch(&bound, with_body).await.1.unwrap();
    assert!(error.contains("the body holds the secret TOKEN"), "{error}");
    assert_eq!(other.count(), 1);
    // A server that puts it into the host of a redirect.
    let (_, error) = fetch(&bound, json!({"baseUri": server.base, "path": "/to?gopher://x/"})).await;
    assert!(error.is_some());
    let (_, error) = fetch(&bound, json!({"baseUri": server.base, "path": "/to?http://secret://TOKEN/"})).await;
    assert!(!error.unwrap().contains("hush"));
}

#[tokio::test]
async fn the_value_is_in_no_row_and_in_no_line_of_the_log() {
    let (database, server) = (TestDatabase::new().await, Echo::start().await);
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("TOKEN"), "hush-4711-token\n").unwrap();
    std::fs::write(folder.path().join("LOGGED"), "loud-execution-1").unwrap();
    let client = SqlClient::open(&database).await;
    let ask = [
        ("baseUri", json!(server.base)),
        ("path", json!("/x?k=secret://TOKEN")),
        ("headers", json!("A: b")),
        ("retries", json!(1)),
    ];
    let flow = FlowBuilder::new("calls")
        .node("ask", "HttpRequestNode", &ask)
        .node("log", "DebugLogNode", &[("message", json!(""))])
        .node("emit", "EventEmitterNode", &[("eventName", json!(""))])
        .input("headers", "ask", "headers")
        .input("base", "ask", "baseUri")
        .edge(("ask", "response"), ("log", "message"))
        .edge(("ask", "response"), ("emit", "eventName"))
        .output("response", "ask", "response")
        .build();
    client.store(&flow).await;
    let file = format!(
        "[worker]\nid = \"w1\"\n[log]\nlevel = \"trace\"\n[secrets]\nfolder = {:?}\n[secrets.hosts]\nTOKEN = [\"127.0.0.1:{}\"]\n",
        folder.path(),
        server.port
    );
    let worker = WorkerProcess::with_file(&database.url(), "w1", &file).await;
    client.enqueue("EX1", "calls", json!({"headers": "Authorization: Bearer secret://TOKEN"})).await;
    client.enqueue("EX2", "calls", json!({"base": "http://127.0.0.1:9"})).await;
    let result = client.until("EX1", "SUCCESS").await.result();
    client.until("EX2", "SUCCESS").await;
    assert!(
        result["outputs"]["response"].as_str().unwrap().contains("authorization: Bearer [secret TOKEN]"),
        "{result}"
    );
    assert!(count(&client, "[secret TOKEN]").await > 4, "events, result, log line, emitted event and its child");
    assert!(count(&client, "TOKEN may not be sent to 127.0.0.1").await > 0);

    // A rotated secret is used without a restart.
    std::fs::write(folder.path().join(".new"), "hush-next-token").unwrap();
    std::fs::rename(folder.path().join(".new"), folder.path().join("TOKEN")).unwrap();
    client.enqueue("EX3", "calls", json!({})).await;
    let result: Json = client.until("EX3", "SUCCESS").await.result();
    assert!(result["outputs"]["response"].as_str().unwrap().contains("k=[secret TOKEN]"), "{result}");

    // The log has ids of executions, and this one is a secret.
    client.enqueue("loud-execution-1", "calls", json!({})).await;
    client.until("loud-execution-1", "SUCCESS").await;
    worker.says("[secret LOGGED]").await;
    let log = worker.log();
    assert!(!log.contains("loud-execution-1"), "{log}");
    assert!(log.contains("EX3"), "the log is at work: {log}");
    let encoded = STANDARD.encode("hush-4711-token");
    for value in ["hush-", &encoded[..16]] {
        assert_eq!(count(&client, value).await, 0, "{value} is in the database");
        assert!(!log.contains(value), "{value} is in the log");
    }
}

/// Rows with this text, in all tables of the database.
async fn count(client: &SqlClient, text: &str) -> i64 {
    let tables = "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables WHERE schemaname IN ('dbos', 'public')";
    let mut found = 0;
    for table in client.sql().query(tables, &[]).await.unwrap() {
        let table: String = table.get(0);
        let sql = format!("SELECT count(*) FROM {table} t WHERE position($1 in t::text) > 0");
        found += client.sql().query_one(&sql, &[&text]).await.unwrap().get::<_, i64>(0);
    }
    found
}
