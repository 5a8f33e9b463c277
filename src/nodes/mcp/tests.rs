//! MCP nodes against a server that answers in all the ways that the protocol allows, and in some that it doesn't.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::{Method, StatusCode, header::CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde_json::{Value as Json, json};
use tokio::net::TcpListener;

use super::server::Server;
use super::session::{Patience, Session};
use crate::flow::Value;
use crate::nodes::outbound::Outbound;
use crate::nodes::testing::{Bench, Outcome};

struct McpServer {
    url: String,
    seen: Arc<Mutex<Vec<String>>>,
}

impl McpServer {
    async fn start() -> McpServer {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/mcp", listener.local_addr().unwrap());
        let seen: Arc<Mutex<Vec<String>>> = Arc::default();
        let notes = seen.clone();
        let app = Router::new().fallback(move |request: Request| answer(request, notes.clone()));
        tokio::spawn(async move { axum::serve(listener, app).await });
        McpServer { url, seen }
    }

    fn seen(&self) -> Vec<String> {
        std::mem::take(&mut *self.seen.lock().unwrap())
    }

    async fn call(&self, tool: &str, arguments: Json) -> Outcome {
        let connection = json!({"serverUrl": self.url, "headers": {"X-Key": "{{key}}"}});
        let inputs = json!({"connection": connection, "toolName": tool, "arguments": arguments,
            "templateVariables": {"key": "k-1"}});
        Bench::new("MCPToolCallNode", &inputs).run().await
    }

    async fn session<'a>(&self, outbound: &'a Outbound, patience: Patience) -> Session<'a> {
        let url: url::Url = self.url.parse().unwrap();
        let server = Server { url: url.clone(), public: url, headers: Default::default() };
        Session::open(outbound, server, patience).await.unwrap()
    }
}

async fn answer(request: Request, notes: Arc<Mutex<Vec<String>>>) -> Response {
    let (head, body) = request.into_parts();
    let header = |name: &str| head.headers.get(name).map_or("-", |value| value.to_str().unwrap()).to_owned();
    let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
    let message: Json = serde_json::from_slice(&body).unwrap_or_default();
    let method = message["method"].as_str().unwrap_or("-").to_owned();
    notes.lock().unwrap().push(format!(
        "{} {method} {} {} {}",
        head.method,
        header("mcp-session-id"),
        header("mcp-protocol-version"),
        header("x-key")
    ));
    if head.method == Method::DELETE || message.get("id").is_none() {
        return StatusCode::ACCEPTED.into_response();
    }
    if message.get("method").is_none() {
        notes.lock().unwrap().push(message.to_string());
        return StatusCode::ACCEPTED.into_response();
    }
    assert_eq!(header("accept"), "application/json, text/event-stream");
    let (id, params) = (message["id"].clone(), message["params"].clone());
    let reply = |result: Json| json!({"jsonrpc": "2.0", "id": id, "result": result});
    let progress = |done: u64| {
        let params = json!({"progressToken": params["_meta"]["progressToken"], "progress": done});
        json!({"jsonrpc": "2.0", "method": "notifications/progress", "params": params})
    };
    let text = |text: &str| json!({"content": [{"type": "text", "text": text}]});
    match (method.as_str(), params["name"].as_str().unwrap_or_default()) {
        ("initialize", _) => {
            assert!(params["clientInfo"]["version"].is_string());
            let result = json!({"protocolVersion": "2025-03-26", "capabilities": {}, "serverInfo": {}});
            ([("mcp-session-id", "s-1")], axum::Json(reply(result))).into_response()
        }
        (_, "plain") => {
            let mut result = text("hello");
            result["structuredContent"] = params["arguments"].clone();
            axum::Json(reply(result)).into_response()
        }
        (_, "stream") => {
            let other = json!({"jsonrpc": "2.0", "id": 77, "result": text("not yours")});
            let ping = json!({"jsonrpc": "2.0", "id": "p", "method": "ping"});
            let roots = json!({"jsonrpc": "2.0", "id": "r", "method": "roots/list"});
            events(vec![other, ping, roots, progress(1), progress(2), reply(text("at last"))], Duration::ZERO)
        }
        (_, "fails") => {
            let mut result = text("no such city");
            result["isError"] = json!(true);
            axum::Json(reply(result)).into_response()
        }
        (_, "error") => {
            let error = json!({"code": -32602, "message": "unknown tool"});
            axum::Json(json!({"jsonrpc": "2.0", "id": id, "error": error})).into_response()
        }
        (_, "cut") => events(vec![progress(1)], Duration::ZERO),
        (_, "noise") => ([(CONTENT_TYPE, "application/json")], "<html>").into_response(),
        (_, "refused") => (StatusCode::UNAUTHORIZED, "hidden").into_response(),
        (_, "silent") => std::future::pending().await,
        (_, "slow") => {
            let mut messages: Vec<_> = (1..=15).map(progress).collect();
            messages.push(reply(text("done")));
            events(messages, Duration::from_millis(100))
        }
        (_, "endless") => events((1..10_000).map(progress).collect(), Duration::from_millis(20)),
        ("resources/read", _) => {
            axum::Json(reply(json!({"contents": [{"uri": params["uri"]}], "more": 1}))).into_response()
        }
        _ => {
            axum::Json(reply(json!({"description": params["name"], "messages": [params["arguments"]]}))).into_response()
        }
    }
}

/// Messages as events, with a pause before each.
fn events(messages: Vec<Json>, pause: Duration) -> Response {
    let events = stream::unfold(messages.into_iter(), move |mut messages| async move {
        let message = messages.next()?;
        tokio::time::sleep(pause).await;
        Some((Ok::<_, std::convert::Infallible>(format!("event: message\ndata: {message}\n\n")), messages))
    });
    ([(CONTENT_TYPE, "text/event-stream")], Body::from_stream(events)).into_response()
}

#[tokio::test]
async fn a_tool_is_called_in_a_session_of_its_own() {
    let server = McpServer::start().await;
    let outcome = server.call("plain", json!({"city": "Ulm", "n": 2})).await;
    assert!(outcome.result.is_ok(), "{:?}", outcome.result);
    let ports = outcome.json();
    let content = json!([{"type": "text", "text": "hello"}]);
    assert_eq!((&ports["content"], &ports["structuredContent"]), (&content, &json!({"city": "Ulm", "n": 2})));
    assert_eq!(ports["contentStream"], json!({"type": "stream", "buffer": content, "isClosed": true}));
    assert_eq!(ports["progressStream"], json!({"type": "stream", "buffer": [], "isClosed": true}));
    assert_eq!(
        server.seen(),
        [
            "POST initialize - - k-1",
            "POST notifications/initialized s-1 2025-03-26 k-1",
            "POST tools/call s-1 2025-03-26 k-1",
            "DELETE - s-1 2025-03-26 k-1",
        ]
    );
}

#[tokio::test]
async fn events_bring_progress_and_requests_before_the_answer() {
    let server = McpServer::start().await;
    let outcome = server.call("stream", json!({})).await;
    assert!(outcome.result.is_ok(), "{:?}", outcome.result);
    let ports = outcome.json();
    assert_eq!(ports["content"][0]["text"], json!("at last"));
    let reports: Vec<_> =
        ports["progressStream"]["buffer"].as_array().unwrap().iter().map(|item| &item["progress"]).collect();
    assert_eq!(reports, [1, 2]);
    let seen = server.seen();
    assert!(seen.contains(&json!({"jsonrpc": "2.0", "id": "p", "result": {}}).to_string()), "{seen:?}");
    assert!(seen.iter().any(|note| note.contains("-32601")), "{seen:?}");
}

#[tokio::test]
async fn resources_and_prompts() {
    let server = McpServer::start().await;
    let connection = json!({"serverUrl": "{{base}}", "headers": "X-Key: a:b\nno header"});
    let inputs = json!({"connection": connection, "templateVariables": {"base": server.url}, "uri": "notes://{id}{?page}",
        "promptName": "greet", "arguments": {"id": "a b", "page": 2, "none": null}});
    let read = Bench::new("MCPResourceReadNode", &inputs).run().await;
    assert!(read.result.is_ok(), "{:?}", read.result);
    assert_eq!(read.json()["resourceResult"], json!({"contents": [{"uri": "notes://a%20b?page=2"}]}));
    assert!(server.seen()[0].ends_with(" a:b"));
    let got = Bench::new("MCPPromptGetNode", &inputs).run().await;
    assert!(got.result.is_ok(), "{:?}", got.result);
    assert_eq!(got.json()["promptResult"], json!({"description": "greet", "messages": [{"id": "a b", "page": "2"}]}));
}

#[tokio::test]
async fn failures_say_whose_they_are() {
    let server = McpServer::start().await;
    for (tool, words) in [
        ("fails", "the tool fails failed: no such city"),
        ("error", "reports error -32602: unknown tool"),
        ("cut", "ended its response to tools/call without an answer"),
        ("noise", "is no JSON"),
        ("refused", "status 401; do the headers"),
        ("", "port `toolName` is empty"),
    ] {
        let outcome = server.call(tool, json!({})).await;
        let error = outcome.result.as_ref().expect_err(tool).to_string();
        assert!(error.contains(words) && !error.contains("hidden"), "{tool}: {error}");
        if !tool.is_empty() {
            let ports = outcome.json();
            assert!(
                ports["contentStream"]["isClosed"] == true && ports["progressStream"]["isClosed"] == true,
                "{ports}"
            );
        }
    }
    for (connection, words) in [
        (json!({}), "port `connection`: serverUrl is empty"),
        (json!({"serverUrl": "file:///x"}), "holds no URL"),
        (json!({"serverUrl": "{{#if}}"}), "no template"),
        (json!({"serverUrl": "https://secret://KEY/"}), "a secret outside of its path and query"),
        (json!({"serverUrl": "https://x/", "headers": {"A": "secret://KEY"}}), "there is no secret KEY"),
        (json!({"serverUrl": "http://169.254.169.254/"}), "not allowed: its address is link-local"),
    ] {
        let inputs = json!({"connection": connection, "toolName": "plain", "arguments": {}});
        let error = Bench::new("MCPToolCallNode", &inputs).run().await.result.unwrap_err().to_string();
        assert!(error.contains(words), "{connection}: {error}");
    }
}

#[tokio::test]
async fn progress_renews_the_time_up_to_its_end() {
    let server = McpServer::start().await;
    let outbound = Outbound::default();
    outbound.prepare().await.unwrap();
    let call = async |name: &str, patience: Patience| {
        let mut session = server.session(&outbound, patience).await;
        session.call("tools/call", json!({"name": name}), None, &mut |_| {}).await
    };
    let (short, long) = (Duration::from_secs(1), Duration::from_secs(60));
    assert!(call("slow", Patience { quiet: short, most: long }).await.is_ok());
    let error = call("silent", Patience { quiet: short, most: long }).await.unwrap_err().to_string();
    assert!(error.contains("1s without news"), "{error}");
    server.seen();
    let error = call("endless", Patience { quiet: long, most: short }).await.unwrap_err().to_string();
    assert!(error.contains("1s in all"), "{error}");
    assert!(server.seen().iter().any(|note| note.contains("notifications/cancelled")));
}

#[tokio::test]
async fn a_stopped_run_does_not_wait() {
    let server = McpServer::start().await;
    let inputs = json!({"connection": {"serverUrl": server.url}, "toolName": "silent", "arguments": {}});
    let bench = Bench::new("MCPToolCallNode", &inputs);
    let cancel = bench.cancel.clone();
    let caller = tokio::spawn(bench.run());
    while !server.seen.lock().unwrap().iter().any(|note| note.contains("tools/call")) {
        tokio::task::yield_now().await;
    }
    cancel.cancel();
    let outcome = caller.await.unwrap();
    assert!(outcome.result.unwrap_err().to_string().contains("stopped"));
    let Value::Stream(items) = &outcome.ports["contentStream"] else { panic!("no stream") };
    assert!(items.contents().1);
}
