//! A session with a server of the Model Context Protocol, over streamable HTTP: JSON-RPC in POST requests, answered as JSON
//! or as server-sent events.
//!
//! Of what a server may ask its client, `ping` is answered, and the rest refused. The older transport with a stream of its
//! own (HTTP+SSE) and resuming a broken stream are not supported.

use std::time::Duration;

use reqwest::Method;
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderName, HeaderValue};
use serde_json::{Value as Json, json};
use tokio::time::{Instant, timeout, timeout_at};

use super::server::Server;
use super::sse::Events;
use crate::nodes::NodeError;
use crate::nodes::outbound::{Outbound, Reply, Request};

/// The newest version that we speak, and those that a server may answer with.
const PROTOCOL: &str = "2025-06-18";
const PROTOCOLS: [&str; 4] = [PROTOCOL, "2025-11-25", "2025-03-26", "2024-11-05"];
const SESSION: HeaderName = HeaderName::from_static("mcp-session-id");
const VERSION: HeaderName = HeaderName::from_static("mcp-protocol-version");
/// Time for what nobody waits for: the end of a session, a request called off.
const FAREWELL: Duration = Duration::from_secs(2);
/// Longest text of a server's error that is shown, in characters.
const SHOWN: usize = 2000;

/// How long to wait for an answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// Without news.
    pub quiet: Duration,
    /// In all, however much progress is reported.
    pub most: Duration,
}

impl Patience {
    /// As the original has it.
    pub const STANDARD: Patience = Patience { quiet: Duration::from_secs(30), most: Duration::from_secs(15 * 60) };
}

/// An open session.
pub(super) struct Session<'a> {
    outbound: &'a Outbound,
    server: Server,
    patience: Patience,
    id: Option<HeaderValue>,
    protocol: Option<HeaderValue>,
    requests: u64,
}

/// What a message from the server is.
enum Message {
    Answer(Result<Json, NodeError>),
    Progress(Json),
    /// A request of the server's, with the answer to it.
    Asked(Json),
    Other,
}

impl<'a> Session<'a> {
    /// Begin: agree on a version.
    pub async fn open(outbound: &'a Outbound, server: Server, patience: Patience) -> Result<Session<'a>, NodeError> {
        let mut session = Session { outbound, server, patience, id: None, protocol: None, requests: 0 };
        let client = json!({"name": "fireflow-worker", "version": env!("CARGO_PKG_VERSION")});
        let hello = json!({"protocolVersion": PROTOCOL, "capabilities": {}, "clientInfo": client});
        let welcome = session.call("initialize", hello, None, &mut |_| {}).await?;
        let version = welcome.get("protocolVersion").and_then(Json::as_str).unwrap_or_default();
        let known = PROTOCOLS.iter().find(|known| **known == version);
        let known = known
            .ok_or_else(|| NodeError::new("the MCP server speaks no version of the protocol that is known here"))?;
        session.protocol = Some(HeaderValue::from_static(known));
        let ready = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
        let reply = timeout(patience.quiet, session.post(&ready, None)).await;
        reply.map_err(|_| session.silent())?.and_then(|reply| accepted(&reply))?;
        Ok(session)
    }

    /// Ask, and wait for the answer. `secret` is the name of one that the parameters hold.
    pub async fn call(
        &mut self,
        method: &str,
        params: Json,
        secret: Option<String>,
        progress: &mut (dyn FnMut(Json) + Send),
    ) -> Result<Json, NodeError> {
        self.requests += 1;
        let id = self.requests;
        let mut params = params;
        if method != "initialize" {
            params["_meta"] = json!({"progressToken": id});
        }
        let message = json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params});
        let begun = Instant::now();
        let latest = begun + self.patience.most;
        let mut until = latest.min(begun + self.patience.quiet);

        let reply = timeout_at(until, self.post(&message, secret)).await;
        let mut reply = reply.map_err(|_| self.silent())??;
        accepted(&reply)?;
        if method == "initialize" {
            self.id = reply.header(&SESSION).and_then(|id| HeaderValue::from_str(&id).ok());
        }
        let content = reply.header(&CONTENT_TYPE).unwrap_or_default();
        let mut events = content.starts_with("text/event-stream").then(Events::default);
        let mut whole = Vec::new();
        loop {
            let Ok(chunk) = timeout_at(until, reply.chunk()).await else {
                self.call_off(id).await;
                return Err(self.silent());
            };
            let chunk = chunk.map_err(|error| NodeError::new(format!("the MCP server's answer broke off: {error}")))?;
            let ended = chunk.is_none();
            let texts = match (&mut events, chunk) {
                (Some(events), Some(chunk)) => events.push(&chunk),
                (None, Some(chunk)) => {
                    whole.extend_from_slice(&chunk);
                    continue;
                }
                (None, None) => vec![String::from_utf8_lossy(&whole).into_owned()],
                (Some(_), None) => Vec::new(),
            };
            for text in texts {
                let Ok(json) = serde_json::from_str::<Json>(&text) else {
                    return Err(NodeError::new("the MCP server's answer is no JSON"));
                };
                let messages = match json {
                    Json::Array(messages) => messages,
                    message => vec![message],
                };
                for message in messages {
                    match read(message, id) {
                        Message::Answer(answer) => return answer,
                        Message::Progress(report) => {
                            until = latest.min(Instant::now() + self.patience.quiet);
                            progress(report);
                        }
                        Message::Asked(answer) => drop(timeout(FAREWELL, self.post(&answer, None)).await),
                        Message::Other => {}
                    }
                }
            }
            if ended {
                return Err(NodeError::new(format!("the MCP server ended its response to {method} without an answer")));
            }
        }
    }

    /// End the session, if the server keeps one. Whether it hears of that is its own matter.
    pub async fn close(self) {
        if self.id.is_some() {
            let request = self.request(Method::DELETE);
            drop(timeout(FAREWELL, self.outbound.send(request)).await);
        }
    }

    async fn call_off(&self, id: u64) {
        let params = json!({"requestId": id, "reason": "it took too long"});
        let message = json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": params});
        drop(timeout(FAREWELL, self.post(&message, None)).await);
    }

    async fn post(&self, message: &Json, secret: Option<String>) -> Result<Reply, NodeError> {
        let mut request = self.request(Method::POST);
        request.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        request.headers.insert(ACCEPT, HeaderValue::from_static("application/json, text/event-stream"));
        request.body = Some(message.to_string().into());
        request.secret_in_body = secret;
        let reply = self.outbound.send(request).await;
        reply.map_err(|error| NodeError::new(format!("the request to the MCP server failed: {error}")))
    }

    fn request(&self, method: Method) -> Request {
        let mut headers = self.server.headers.clone();
        for (name, value) in [(SESSION, &self.id), (VERSION, &self.protocol)] {
            if let Some(value) = value {
                headers.insert(name, value.clone());
            }
        }
        Request { method, url: self.server.url.clone(), headers, body: None, secret_in_body: None }
    }

    fn silent(&self) -> NodeError {
        let Patience { quiet, most } = self.patience;
        let [quiet, most] = [quiet, most].map(humantime::format_duration);
        NodeError::new(format!(
            "the MCP server gave no answer; it has {quiet} without news of progress, and {most} in all"
        ))
    }
}

/// Whether a reply is one at all: what stands in the body of a refusal is the server's own.
fn accepted(reply: &Reply) -> Result<(), NodeError> {
    let status = reply.status();
    if status.is_success() {
        return Ok(());
    }
    let hint = match status.as_u16() {
        401 | 403 => "; do the headers have its credentials?",
        404 | 405 => "; is this the address of an MCP server with streamable HTTP?",
        _ => "",
    };
    Err(NodeError::new(format!("the MCP server answers with status {}{hint}", status.as_u16())))
}

fn read(mut message: Json, id: u64) -> Message {
    match (message.get("method").and_then(Json::as_str), message.get("id")) {
        (Some("ping"), Some(asked)) => Message::Asked(json!({"jsonrpc": "2.0", "id": asked, "result": {}})),
        (Some(_), Some(asked)) => {
            let error = json!({"code": -32601, "message": "this client has no such method"});
            Message::Asked(json!({"jsonrpc": "2.0", "id": asked, "error": error}))
        }
        (Some("notifications/progress"), None) if message["params"]["progressToken"] == id => {
            Message::Progress(message["params"].take())
        }
        (None, Some(answered)) if *answered == id => Message::Answer(match message.get_mut("error") {
            Some(error) => {
                let text = error["message"].as_str().unwrap_or("without a text");
                Err(NodeError::new(format!("the MCP server reports error {}: {}", error["code"], shown(text))))
            }
            None => Ok(message["result"].take()),
        }),
        _ => Message::Other,
    }
}

/// A text of the server's for people.
pub(super) fn shown(text: &str) -> String {
    text.chars().take(SHOWN).collect()
}
