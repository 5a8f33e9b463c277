//! Nodes for servers of the Model Context Protocol: a connection as a value, and nodes that call a tool, read a resource or
//! get a prompt. Each of them has a session of its own.

mod server;
mod session;
mod sse;
#[cfg(test)]
mod tests;
mod uri;

use serde_json::{Value as Json, json};

use self::server::Server;
use self::session::{Patience, Session, shown};
use super::data::STREAM_OF_ANY;
use super::port::{TEXT, output, pass};
use super::{Behaviour, NodeError, NodeRun, NodeType, PortSpec};
use crate::flow::stream::Channel;
use crate::flow::text::text_or_empty;
use crate::flow::{Object, Value};

const OBJECT: &str = r#"{"type":"object","schema":{"properties":{}},"isSchemaMutable":true,"defaultValue":{}}"#;
const LIST: &str = r#"{"type":"array","itemConfig":{"type":"any"},"defaultValue":[]}"#;
/// Arguments that nest deeper aren't sent.
const MAX_DEPTH: usize = 100;

/// The types of this folder.
pub(super) const TYPES: &[NodeType] = &[
    mcp(
        "MCPConnectionNode",
        "Holds the URL and headers of an MCP server",
        const { &[CONNECTION.required()] },
        Behaviour::Passive,
    ),
    mcp(
        "MCPToolCallNode",
        "Calls a tool of an MCP server",
        const {
            &[
                CONNECTION,
                pass("toolName", TEXT).required(),
                VARIABLES,
                ARGUMENTS,
                pass("outputSchema", OBJECT),
                output("content", LIST),
                output("structuredContent", OBJECT),
                output("contentStream", STREAM_OF_ANY),
                PROGRESS,
            ]
        },
        Behaviour::Async(|run| Box::pin(call_tool(run))),
    ),
    mcp(
        "MCPResourceReadNode",
        "Reads a resource of an MCP server",
        const {
            &[
                CONNECTION,
                pass("uri", TEXT).required(),
                VARIABLES,
                ARGUMENTS,
                output("resourceResult", OBJECT),
                PROGRESS,
            ]
        },
        Behaviour::Async(|run| Box::pin(read_resource(run))),
    ),
    mcp(
        "MCPPromptGetNode",
        "Gets a prompt of an MCP server",
        const {
            &[
                CONNECTION,
                pass("promptName", TEXT).required(),
                VARIABLES,
                ARGUMENTS,
                output("promptResult", OBJECT),
                PROGRESS,
            ]
        },
        Behaviour::Async(|run| Box::pin(get_prompt(run))),
    ),
];

const CONNECTION: PortSpec = pass("connection", OBJECT);
const VARIABLES: PortSpec = pass("templateVariables", OBJECT);
const ARGUMENTS: PortSpec = pass("arguments", OBJECT).required();
const PROGRESS: PortSpec = output("progressStream", STREAM_OF_ANY);

const fn mcp(name: &'static str, about: &'static str, ports: &'static [PortSpec], behaviour: Behaviour) -> NodeType {
    NodeType { name, category: "mcp", about, ports, behaviour, disabled_auto_execution: false }
}

async fn call_tool(run: &mut NodeRun) -> Result<(), NodeError> {
    let name = named(run, "toolName")?;
    let items = Channel::default();
    run.set("contentStream", Value::Stream(items.clone()));
    let result = match arguments(run) {
        Ok(arguments) => ask(run, "tools/call", json!({"name": name, "arguments": arguments})).await,
        Err(error) => Err(error),
    };
    let failed = result.as_ref().err().map(ToString::to_string);
    let result = result.unwrap_or_default();
    let content = result["content"].as_array().cloned().unwrap_or_default();
    for item in &content {
        let _ = items.send(item.into()); // closed below, and nowhere else
    }
    run.set("content", content.iter().map(Value::from).collect::<Vec<_>>());
    if let structured @ Json::Object(_) = &result["structuredContent"] {
        run.set("structuredContent", Value::from(structured));
    }
    let failed = failed.or_else(|| {
        let texts: Vec<_> = content.iter().filter_map(|item| item["text"].as_str()).collect();
        (result["isError"] == true).then(|| format!("the tool {name} failed: {}", shown(&texts.join("\n"))))
    });
    items.close(failed.clone());
    failed.map_or(Ok(()), |text| Err(NodeError::new(text)))
}

async fn read_resource(run: &mut NodeRun) -> Result<(), NodeError> {
    let template = named(run, "uri")?;
    let uri = uri::expand(&template, run.get("arguments").as_object().unwrap_or(&Object::new()));
    let result = ask(run, "resources/read", json!({"uri": uri})).await?;
    run.set("resourceResult", picked(&result, &["contents", "_meta"]));
    Ok(())
}

async fn get_prompt(run: &mut NodeRun) -> Result<(), NodeError> {
    let name = named(run, "promptName")?;
    // A prompt's arguments are texts.
    let texts: serde_json::Map<String, Json> =
        run.get("arguments").as_object().map_or_else(Default::default, |fields| {
            let given = fields.iter().filter(|(_, value)| !value.is_nullish());
            given.map(|(name, value)| (name.to_string(), text_or_empty(value).into())).collect()
        });
    let result = ask(run, "prompts/get", json!({"name": name, "arguments": texts})).await?;
    run.set("promptResult", picked(&result, &["description", "messages"]));
    Ok(())
}

/// Open a session, ask, and close it. Reports of progress go to the port `progressStream`, which is closed in any case.
async fn ask(run: &mut NodeRun, method: &str, params: Json) -> Result<Json, NodeError> {
    let progress = Channel::default();
    run.set("progressStream", Value::Stream(progress.clone()));
    let cancel = run.cancelled().clone();
    let result = tokio::select! {
        result = converse(run, method, params, &progress) => result,
        () = cancel.cancelled() => Err(NodeError::stopped("the MCP server")),
    };
    progress.close(result.as_ref().err().map(ToString::to_string));
    result
}

async fn converse(run: &NodeRun, method: &str, mut params: Json, progress: &Channel) -> Result<Json, NodeError> {
    let outbound = &run.context().outbound;
    outbound.prepare().await.map_err(|error| NodeError::new(error.to_string()))?;
    let server = Server::read(run)?;
    let secret = outbound.secrets().json(&mut params, &server.public);
    let secret = secret.map_err(|error| NodeError::new(format!("port `arguments`: {error}")))?;
    let mut session = Session::open(outbound, server, Patience::STANDARD).await?;
    let mut report = |news: Json| {
        let _ = progress.send(Value::from(&news)); // closed only afterwards
    };
    let result = session.call(method, params, secret, &mut report).await;
    session.close().await;
    result
}

fn named(run: &NodeRun, port: &str) -> Result<String, NodeError> {
    let name = run.text(port);
    if name.trim().is_empty() { Err(NodeError::new(format!("port `{port}` is empty"))) } else { Ok(name) }
}

fn arguments(run: &NodeRun) -> Result<Json, NodeError> {
    let arguments = run.get("arguments");
    if arguments.nests_deeper(MAX_DEPTH) {
        return Err(NodeError::new(format!("port `arguments` nests deeper than {MAX_DEPTH} levels")));
    }
    Ok(if arguments.as_object().is_some() { arguments.to_json() } else { json!({}) })
}

/// Some fields of a result.
fn picked(result: &Json, names: &[&str]) -> Value {
    let fields = names.iter().filter_map(|name| Some(((*name).into(), Value::from(result.get(name)?))));
    Value::from(fields.collect::<Object>())
}
