//! HttpRequestNode: one HTTP request, with retries when the network fails.
//!
//! Error texts end up in events and logs, so they name ports and never show a URL, a header's value or a body.
//! References to secrets become values here, and only in what is sent: the ports keep the references.

use std::borrow::Cow;
use std::time::Duration;

use indexmap::IndexMap;
use reqwest::Method;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use tokio_util::sync::CancellationToken;
use url::Url;

use super::outbound::{self, Reply};
use super::port::{NUMBER, TEXT, input, output};
use super::secrets::{self, Form, Secrets};
use super::utilities::utility;
use super::{Behaviour, NodeError, NodeRun, NodeType, markdown};
use crate::flow::Value;
use crate::flow::number::trim;
use crate::flow::text::json_text;

/// Limit in milliseconds until the response's head has arrived, when the port holds no number.
const DEFAULT_TIMEOUT: f64 = 30_000.0;
/// However many retries are asked for, the wait between two does not grow beyond this.
const MAX_WAIT: Duration = Duration::from_secs(3600);

/// The types of this file.
pub(super) const TYPES: &[NodeType] = &[utility(
    "HttpRequestNode",
    "Sends an HTTP request; any status counts as success",
    const {
        &[
            input("baseUri", TEXT).required(),
            input("path", TEXT).required(),
            input("method", METHOD).required(),
            input("headers", TEXT),
            input("body", TEXT),
            input("responseType", RESPONSE_TYPE).required(),
            input("timeout", r#"{"type":"number","defaultValue":30000}"#).required(),
            input("retries", NUMBER),
            output("statusCode", NUMBER),
            output("response", TEXT),
        ]
    },
    Behaviour::Async(|run| Box::pin(request(run))),
)];

const METHOD: &str = r#"{"type":"enum","options":[{"id":"GET","type":"string","defaultValue":"GET"},{"id":"POST","type":"string","defaultValue":"POST"},{"id":"PUT","type":"string","defaultValue":"PUT"},{"id":"PATCH","type":"string","defaultValue":"PATCH"},{"id":"HEAD","type":"string","defaultValue":"HEAD"},{"id":"DELETE","type":"string","defaultValue":"DELETE"}],"defaultValue":"GET"}"#;
const RESPONSE_TYPE: &str = r#"{"type":"enum","options":[{"id":"json","type":"string","defaultValue":"json"},{"id":"text","type":"string","defaultValue":"text"},{"id":"blob","type":"string","defaultValue":"blob"},{"id":"html-to-markdown","type":"string","defaultValue":"html-to-markdown"}],"defaultValue":"text"}"#;

/// What becomes of the response's body.
#[derive(Clone, Copy)]
enum ResponseType {
    Text,
    Json,
    Blob,
    Markdown,
}

async fn request(run: &mut NodeRun) -> Result<(), NodeError> {
    let outbound = run.context().outbound.clone();
    outbound.prepare().await.map_err(|error| NodeError::new(error.to_string()))?;
    let request = Request::read(run)?;
    let response_type = match run.text("responseType").as_str() {
        "text" => ResponseType::Text,
        "json" => ResponseType::Json,
        "blob" => ResponseType::Blob,
        "html-to-markdown" => ResponseType::Markdown,
        _ => return Err(NodeError::new("port `responseType` must be text, json, blob or html-to-markdown")),
    };
    let retries = run.finite("retries", 0.0).max(0.0) as u32;
    let cancel = run.cancelled().clone();
    let work = async {
        let response = request.send(run, retries).await?;
        run.set("statusCode", f64::from(response.status().as_u16()));
        receive(response, response_type, &cancel).await
    };
    let text = tokio::select! {
        text = work => text?,
        () = cancel.cancelled() => return Err(NodeError::stopped("the response")),
    };
    run.set("response", text);
    Ok(())
}

/// A request that passed all checks.
struct Request {
    sent: outbound::Request,
    timeout: Duration,
}

impl Request {
    fn read(run: &mut NodeRun) -> Result<Request, NodeError> {
        let base = run.text("baseUri");
        if trim(&base).is_empty() {
            return Err(NodeError::new("port `baseUri` is empty; give it a URL such as https://example.org"));
        }
        if secrets::refers(&base) {
            let text = "port `baseUri` refers to a secret; path, headers and body may, and the host is no secret";
            return Err(NodeError::new(text));
        }
        let base = Url::parse(&base)
            .ok()
            .filter(|url| matches!(url.scheme(), "http" | "https"))
            .ok_or_else(|| NodeError::new("port `baseUri` holds no URL that starts with http:// or https://"))?;
        let mut path = run.text("path");
        if trim(&path).is_empty() {
            return Err(NodeError::new("port `path` is empty; give it at least /"));
        }
        let method = match run.text("method").as_str() {
            "GET" => Method::GET,
            "POST" => Method::POST,
            "PUT" => Method::PUT,
            "PATCH" => Method::PATCH,
            "HEAD" => Method::HEAD,
            "DELETE" => Method::DELETE,
            _ => return Err(NodeError::new("port `method` must be GET, POST, PUT, PATCH, HEAD or DELETE")),
        };
        let header_text = run.text("headers");
        let body = run.text("body");
        let has_body = !matches!(method, Method::GET | Method::HEAD);
        if has_body && !trim(&body).is_empty() && !header_text.contains("Content-Type") {
            return Err(NodeError::new("port `headers` needs a line `Content-Type: …` when port `body` is not empty"));
        }
        if !path.starts_with('/') {
            path.insert(0, '/');
            run.set("path", path.as_str());
        }
        // Resolving drops a path that the base has; stored flows count on it.
        let url = base.join(&path).map_err(|_| NodeError::new("port `path` makes no URL with port `baseUri`"))?;
        let lines = header_lines(&header_text);
        let border = Border { secrets: run.context().outbound.secrets(), url: &url };
        let secret_in_body = secrets::first(&body).filter(|_| has_body).map(str::to_owned);
        let body = if has_body { Some(sent_body(&body, &lines, &border)?) } else { None };
        let mut headers = header_map(&lines, &border)?;
        if body.is_some() && !headers.contains_key(CONTENT_TYPE) {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain;charset=UTF-8")); // as fetch does
        }
        let url = border.secrets.url(&url).map_err(|error| NodeError::new(format!("port `path`: {error}")))?;
        let timeout = Duration::from_millis(run.finite("timeout", DEFAULT_TIMEOUT).max(0.0) as u64);
        let body = body.map(Into::into);
        Ok(Request { sent: outbound::Request { url, method, headers, body, secret_in_body }, timeout })
    }

    /// Send until there is a response's head, at most `retries` times more.
    async fn send(&self, run: &NodeRun, retries: u32) -> Result<Reply, NodeError> {
        let mut attempt = 0;
        loop {
            let outbound = &run.context().outbound;
            let error = match tokio::time::timeout(self.timeout, outbound.send(self.sent.clone())).await {
                Ok(Ok(reply)) => return Ok(reply),
                Ok(Err(error)) if error.is_transient() => error.to_string(),
                Ok(Err(error)) => return Err(NodeError::new(format!("the request failed: {error}"))),
                Err(_) => format!(
                    "no response within {} ms; raise port `timeout` if the server is slow",
                    self.timeout.as_millis()
                ),
            };
            if attempt >= retries {
                return Err(NodeError::new(format!("the request failed: {error}")));
            }
            let wait = Duration::from_secs(1 << attempt.min(12)).min(MAX_WAIT);
            tracing::debug!(tries = attempt + 1, ?wait, error, "http request failed, trying again");
            tokio::time::sleep(wait).await;
            attempt += 1;
        }
    }
}

/// The headers by name: one a line, the last of those with the same name.
fn header_lines(text: &str) -> IndexMap<&str, &str> {
    text.lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (trim(name), trim(value)))
        .filter(|(name, value)| !name.is_empty() && !value.is_empty())
        .collect()
}

/// Where secrets are put in, and for which URL.
struct Border<'a> {
    secrets: &'a Secrets,
    url: &'a Url,
}

impl Border<'_> {
    fn text<'t>(&self, port: &str, text: &'t str, form: Form) -> Result<Cow<'t, str>, NodeError> {
        let resolved = self.secrets.text(text, form, self.url);
        resolved.map_err(|error| NodeError::new(format!("port `{port}`: {error}")))
    }
}

fn header_map(lines: &IndexMap<&str, &str>, border: &Border) -> Result<HeaderMap, NodeError> {
    let mut headers = HeaderMap::new();
    for (name, text) in lines {
        let text = border.text("headers", text, Form::Plain)?;
        let parsed = HeaderName::from_bytes(name.as_bytes()).ok().zip(HeaderValue::from_str(&text).ok());
        let Some((name, mut value)) = parsed else {
            let text = "port `headers` has a line that is no header; write `Name: value`, one a line";
            return Err(NodeError::new(text));
        };
        value.set_sensitive(matches!(text, Cow::Owned(_)));
        headers.append(name, value);
    }
    Ok(headers)
}

/// The body as sent: JSON compactly when the headers say that it is JSON, all else as it is.
fn sent_body(body: &str, lines: &IndexMap<&str, &str>, border: &Border) -> Result<String, NodeError> {
    if trim(body).is_empty() {
        return Ok(String::new());
    }
    let content_type = lines.get("Content-Type").or_else(|| lines.get("content-type"));
    if !content_type.is_some_and(|content_type| content_type.contains("application/json")) {
        let form = content_type.is_some_and(|content_type| content_type.contains("x-www-form-urlencoded"));
        let form = if form { Form::Encoded } else { Form::Plain };
        return Ok(border.text("body", body, form)?.into_owned());
    }
    let wrong = |error: String| NodeError::new(format!("port `body` is no JSON, as `headers` says: {error}"));
    let mut json = serde_json::from_str(body).map_err(|error| wrong(error.to_string()))?;
    let put = border.secrets.json(&mut json, border.url);
    put.map_err(|error| NodeError::new(format!("port `body`: {error}")))?;
    compact(&json).map_err(wrong)
}

fn compact_json(text: &str) -> Result<String, String> {
    let json: serde_json::Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
    compact(&json)
}

fn compact(json: &serde_json::Value) -> Result<String, String> {
    json_text(&Value::from(json), false).map_err(|error| error.to_string())
}

async fn receive(
    mut response: Reply,
    response_type: ResponseType,
    cancel: &CancellationToken,
) -> Result<String, NodeError> {
    let content_type = response.header(&CONTENT_TYPE).unwrap_or_default().to_lowercase();
    let mut body = Vec::new();
    let mut length = 0;
    loop {
        let chunk = response.chunk().await;
        let chunk = chunk.map_err(|error| NodeError::new(format!("the response broke off: {error}")))?;
        let Some(chunk) = chunk else { break };
        length += chunk.len();
        if !matches!(response_type, ResponseType::Blob) {
            body.extend_from_slice(&chunk);
        }
    }
    match response_type {
        ResponseType::Blob => Ok(format!("Blob: {content_type}, {length} bytes")),
        ResponseType::Text => Ok(decode(&body)),
        ResponseType::Markdown => markdown::of_page(decode(&body), cancel)
            .await
            .map_err(|error| NodeError::new(format!("the response can't be turned into Markdown: {error}"))),
        ResponseType::Json => compact_json(&decode(&body))
            .map_err(|error| NodeError::new(format!("the response is no JSON: {error}; set `responseType` to text"))),
    }
}

/// UTF-8 whatever the server says, as fetch decodes; without a byte order mark.
fn decode(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    text.strip_prefix('\u{feff}').unwrap_or(&text).to_owned()
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use axum::Router;
    use axum::extract::Request;
    use axum::response::IntoResponse;
    use serde_json::{Value as Json, json};
    use tokio::net::TcpListener;

    use crate::nodes::testing::{Bench, Outcome};

    /// A server on a free port that answers by path and notes what it was asked.
    struct Server {
        base: String,
        seen: Arc<Mutex<Vec<String>>>,
    }

    impl Server {
        async fn start() -> Server {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let base = format!("http://{}", listener.local_addr().unwrap());
            let seen: Arc<Mutex<Vec<String>>> = Arc::default();
            let notes = Arc::clone(&seen);
            let app = Router::new().fallback(move |request: Request| answer(request, Arc::clone(&notes)));
            tokio::spawn(async move { axum::serve(listener, app).await });
            Server { base, seen }
        }

        async fn ask(&self, inputs: Json) -> Outcome {
            let mut inputs = inputs;
            inputs["baseUri"] = json!(self.base);
            Bench::new("HttpRequestNode", &inputs).run().await
        }
    }

    async fn answer(request: Request, notes: Arc<Mutex<Vec<String>>>) -> axum::response::Response {
        let (head, body) = request.into_parts();
        let header = |name: &str| {
            let values: Vec<_> = head.headers.get_all(name).iter().map(|value| value.to_str().unwrap()).collect();
            values.join("+")
        };
        let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
        notes.lock().unwrap().push(format!(
            "{} {} type={} x={} {}",
            head.method,
            head.uri,
            header("content-type"),
            header("x-test"),
            String::from_utf8_lossy(&body)
        ));
        let json = [("content-type", "application/JSON; charset=x")];
        match head.uri.path() {
            "/json" => (json, "{ \"a\" : [1e21, \"\u{e9}\"] }").into_response(),
            "/page" => axum::response::Html("<title>x</title><h1>Gears</h1><p>A <b>big</b> one").into_response(),
            "/frames" => axum::response::Html("<frameset secret></frameset>").into_response(),
            "/bom" => "\u{feff}hi".into_response(),
            "/moved" => axum::response::Redirect::temporary("/json").into_response(),
            "/loop" => axum::response::Redirect::temporary("/loop").into_response(),
            "/empty" => axum::http::StatusCode::NO_CONTENT.into_response(),
            "/never" => std::future::pending().await,
            "/huge" => vec![b'x'; (64 << 20) + 1].into_response(),
            _ => (axum::http::StatusCode::NOT_FOUND, "nothing here").into_response(),
        }
    }

    #[tokio::test]
    async fn responses_in_all_forms() {
        let server = Server::start().await;
        for (inputs, status, response) in [
            (json!({"path": "/json"}), 200, "{ \"a\" : [1e21, \"\u{e9}\"] }"),
            (json!({"path": "/json", "responseType": "json"}), 200, "{\"a\":[1e+21,\"\u{e9}\"]}"),
            (json!({"path": "/json", "responseType": "blob"}), 200, "Blob: application/json; charset=x, 22 bytes"),
            (json!({"path": "/page", "responseType": "html-to-markdown"}), 200, "# Gears\n\nA **big** one"),
            (json!({"path": "/bom"}), 200, "hi"),
            (json!({"path": "/moved"}), 200, "{ \"a\" : [1e21, \"\u{e9}\"] }"),
            (json!({"path": "/missing"}), 404, "nothing here"),
            (json!({"path": "/empty", "responseType": "blob"}), 204, "Blob: , 0 bytes"),
            (json!({"path": "/json", "method": "HEAD"}), 200, ""),
        ] {
            let outcome = server.ask(inputs.clone()).await;
            assert!(outcome.result.is_ok(), "{inputs}: {:?}", outcome.result);
            let ports = outcome.json();
            assert_eq!((&ports["statusCode"], &ports["response"]), (&json!(status), &json!(response)), "{inputs}");
        }
    }

    #[tokio::test]
    async fn requests_are_sent_as_fetch_sends_them() {
        let server = Server::start().await;
        let json_type = "Content-Type: application/json";
        for (inputs, sent) in [
            (json!({"path": "echo?x=1&y=a%20b"}), "GET /echo?x=1&y=a%20b type= x= "),
            (
                json!({"path": "/e", "headers": "X-Test: a:b\nno header\n: x\nX-Test:  c \nx-test: d"}),
                "GET /e type= x=c+d ",
            ),
            (json!({"path": "/e", "body": "ignored"}), "GET /e type= x= "),
            (json!({"path": "/e", "method": "POST"}), "POST /e type=text/plain;charset=UTF-8 x= "),
            (
                json!({"path": "/e", "method": "PUT", "headers": json_type, "body": "{ \"b\": 1.0 }"}),
                "PUT /e type=application/json x= {\"b\":1}",
            ),
            (
                json!({"path": "/e", "method": "PATCH", "headers": "Content-Type: text/x", "body": " as it is "}),
                "PATCH /e type=text/x x=  as it is ",
            ),
            (json!({"path": "/e", "method": "DELETE", "headers": json_type}), "DELETE /e type=application/json x= "),
        ] {
            let outcome = server.ask(inputs.clone()).await;
            assert!(outcome.result.is_ok(), "{inputs}: {:?}", outcome.result);
            assert_eq!(server.seen.lock().unwrap().pop().as_deref(), Some(sent), "{inputs}");
        }
        // A path in the base is lost, and the port shows the slash that was added.
        let inputs = json!({"baseUri": format!("{}/prefix/", server.base), "path": "echo"});
        let outcome = Bench::new("HttpRequestNode", &inputs).run().await;
        assert_eq!(outcome.json()["path"], json!("/echo"));
        assert!(server.seen.lock().unwrap()[0].starts_with("GET /echo "));
    }

    #[tokio::test]
    async fn failures_name_the_port_and_keep_secrets() {
        let server = Server::start().await;
        let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap(); // nobody listens any more
        for (inputs, words) in [
            (json!({"baseUri": "", "path": "/"}), "`baseUri` is empty"),
            (json!({"baseUri": "secret:x", "path": "/"}), "`baseUri` holds no URL"),
            (json!({"baseUri": "file:///secret", "path": "/"}), "`baseUri` holds no URL"),
            (json!({"path": " "}), "`path` is empty"),
            (json!({"path": "/", "method": "BREW"}), "`method`"),
            (json!({"path": "/", "method": "POST", "body": "secret"}), "`headers` needs a line"),
            (json!({"path": "/", "headers": "X: secret\u{1}"}), "`headers` has a line"),
            (json!({"path": "/", "headers": "bad name: secret"}), "`headers` has a line"),
            (
                json!({"path": "/", "method": "POST", "headers": "Content-Type: application/json", "body": "secret"}),
                "`body` is no JSON",
            ),
            (json!({"path": "/frames", "responseType": "html-to-markdown"}), "consists of frames"),
            (json!({"path": "/", "responseType": "xml"}), "`responseType`"),
            (json!({"path": "/missing", "responseType": "json"}), "the response is no JSON"),
            (json!({"path": "/loop?secret"}), "too many redirects"),
            (json!({"path": "/never?secret", "timeout": 30}), "within 30 ms"),
            (json!({"path": "/huge"}), "larger than"),
            (json!({"baseUri": format!("http://secret:secret@{closed}"), "path": "/secret"}), "could not connect"),
        ] {
            let mut inputs = inputs;
            if inputs.get("baseUri").is_none() {
                inputs["baseUri"] = json!(server.base);
            }
            let outcome = Bench::new("HttpRequestNode", &inputs).run().await;
            let text = outcome.result.as_ref().expect_err(words).to_string();
            assert!(text.contains(words), "{inputs}: {text}");
            assert!(!text.contains("secret"), "{text}");
            let status = if words.contains("is no JSON") && words.contains("response") { 404 } else { 0 };
            if words != "larger than" && words != "consists of frames" {
                assert_eq!(outcome.json()["statusCode"], json!(status), "{inputs}");
            }
        }
    }

    #[tokio::test]
    async fn a_failed_network_is_tried_again() {
        let server = Server::start().await;
        let outcome = server.ask(json!({"path": "/never", "timeout": 30, "retries": 1})).await;
        assert!(outcome.result.is_err());
        assert_eq!(server.seen.lock().unwrap().len(), 2);
    }

    #[tokio::test]
    async fn a_stopped_run_does_not_wait_for_the_response() {
        let server = Server::start().await;
        let inputs = json!({"baseUri": server.base, "path": "/never"});
        let bench = Bench::new("HttpRequestNode", &inputs);
        let cancel = bench.cancel.clone();
        let asker = tokio::spawn(bench.run());
        while server.seen.lock().unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
        cancel.cancel();
        assert!(asker.await.unwrap().result.unwrap_err().to_string().contains("stopped"));
    }
}
