//! Recorded cases: a stored flow, how to run it, and what the run must show. For tests, and for checking flows of
//! one's own.

mod compare;
mod play;
mod server;
mod stream_source;

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header::CONTENT_TYPE};
use serde_json::Value as JsonValue;

use super::authoring::{self, Syntax};
use super::engine::{AbortReason, OptionsError, RunOptions};
use super::{Diagnostic, Source, Value};
use crate::nodes::{FlowEvent, Registry};

pub use compare::Difference;
pub use stream_source::STREAM_SOURCE;

/// A case as recorded.
#[derive(Clone, Debug)]
pub struct Case {
    /// Its name.
    pub name: String,
    /// What it shows.
    pub about: String,
    /// The stored flow.
    pub flow: JsonValue,
    /// How it is run.
    pub run: RunSpec,
    /// How long the run should take, in milliseconds.
    pub wall_ms: Option<(u64, u64)>,
    /// Regular expressions for values that differ each time, by `node/port`.
    pub forms: Vec<(String, String)>,
    /// Whether the behaviour looks unintended.
    pub quirk: bool,
    /// What must be seen.
    pub expect: JsonValue,
}

/// How a case is run.
#[derive(Clone, Debug)]
pub struct RunSpec {
    /// The engine's limits.
    pub options: RunOptions,
    /// The run's event.
    pub event: Option<FlowEvent>,
    /// Whether the run has a parent.
    pub as_child: bool,
    /// When and why it is called off.
    pub cancel: Option<(Duration, AbortReason)>,
    /// Whether it drives the debugger.
    pub debugger: bool,
    /// The server that it needs.
    pub http_server: Option<HttpServer>,
    /// Whether each emitted event starts a run of its own.
    pub run_children: bool,
    /// Values for named inputs.
    pub inputs: serde_json::Map<String, JsonValue>,
}

/// A server for a case's requests.
#[derive(Clone, Debug)]
pub struct HttpServer {
    /// The text in the flow that its base takes the place of.
    pub placeholder: String,
    /// What it answers.
    pub routes: Vec<Route>,
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Route {
    /// For this path.
    pub path: String,
    /// After this time.
    pub delay: Duration,
    /// With this status.
    pub status: StatusCode,
    /// With these headers.
    pub headers: HeaderMap,
    /// With this body, unless it echoes.
    pub body: String,
    /// With `{method, url, body}` of the request.
    pub echo: bool,
}

/// A case that cannot be read or run.
#[derive(Debug, thiserror::Error)]
pub enum CaseError {
    /// No JSON.
    #[error("the case is no JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// A file in YAML or TOML is wrong.
    #[error("{0}")]
    Authored(String),
    /// A part is missing or of the wrong shape.
    #[error("the case's `{part}` must be {expected}")]
    Shape {
        /// The part.
        part: &'static str,
        /// What it must be.
        expected: &'static str,
    },
    /// Its options make no sense.
    #[error(transparent)]
    Options(#[from] OptionsError),
    /// Its flow cannot be loaded.
    #[error(transparent)]
    Load(#[from] super::LoadError),
    /// It names an input that the flow lacks.
    #[error(transparent)]
    Input(#[from] super::UnknownInput),
    /// A file cannot be read.
    #[error("can't read {}: {source}", path.display())]
    File {
        /// The case's file, or the flow's that it names.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The server for its requests cannot be started.
    #[error("can't start a server on the loopback address: {0}")]
    Server(io::Error),
}

impl Case {
    /// Read a case from its file, JSON, YAML or TOML. Its flow may be the name of another file, beside it; a flow is in the
    /// stored form, or as people write it.
    ///
    /// # Errors
    /// One of the files is missing or malformed.
    pub fn load(path: &Path) -> Result<Case, CaseError> {
        let read = |path: &Path| {
            let text = std::fs::read_to_string(path);
            text.map_err(|source| CaseError::File { path: path.to_owned(), source })
        };
        let mut json = content(path, &read(path)?)?;
        if let Some(JsonValue::String(file)) = json.get("flow") {
            let file = path.with_file_name(file);
            let text = read(&file)?;
            let flow = content(&file, &text)?;
            json["flow"] = if flow["nodes"].is_object() { lowered(&file, &text)? } else { flow };
        } else if json["flow"]["nodes"].is_object() {
            json["flow"] = lowered(Path::new("the case's flow"), &json["flow"].to_string())?;
        }
        let mut case = Case::from_json(&json)?;
        if case.name.is_empty() {
            case.name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        }
        Ok(case)
    }

    /// Read a case from its JSON text.
    ///
    /// # Errors
    /// It is malformed.
    pub fn parse(text: &str) -> Result<Case, CaseError> {
        Case::from_json(&serde_json::from_str(text)?)
    }

    fn from_json(json: &JsonValue) -> Result<Case, CaseError> {
        let part = |key: &'static str| match json.get(key) {
            Some(part) if part.is_object() => Ok(part),
            _ => Err(CaseError::Shape { part: key, expected: "an object" }),
        };
        let word = |key: &str| json.get(key).and_then(JsonValue::as_str).unwrap_or_default().to_owned();
        let pair = |wall: &JsonValue| Some((wall.get(0)?.as_u64()?, wall.get(1)?.as_u64()?));
        let forms = json.get("forms").and_then(JsonValue::as_object).into_iter().flatten();
        Ok(Case {
            name: word("name"),
            about: word("about"),
            flow: part("flow")?.clone(),
            run: RunSpec::read(json.get("run").unwrap_or(&JsonValue::Null))?,
            wall_ms: json.get("wallMs").and_then(pair),
            forms: forms.filter_map(|(place, form)| Some((place.clone(), form.as_str()?.to_owned()))).collect(),
            quirk: json.get("quirk").and_then(JsonValue::as_bool).unwrap_or(false),
            expect: part("expect")?.clone(),
        })
    }

    /// The node types in its flow.
    pub fn node_types(&self) -> impl Iterator<Item = &str> {
        let nodes = self.flow.get("nodes").and_then(JsonValue::as_array).into_iter().flatten();
        nodes.filter_map(|node| node.get("metadata")?.get("type")?.as_str())
    }
}

/// What a file of a case holds.
fn content(path: &Path, text: &str) -> Result<JsonValue, CaseError> {
    match syntax(path) {
        Some(syntax) => authoring::content(text, syntax).map_err(|found| unreadable(path, text, &found)),
        None => Ok(serde_json::from_str(text)?),
    }
}

/// A flow that people wrote, in the stored form.
fn lowered(path: &Path, text: &str) -> Result<JsonValue, CaseError> {
    let mut registry = Registry::standard();
    registry.register(STREAM_SOURCE);
    let syntax = syntax(path).unwrap_or(Syntax::Yaml); // JSON is YAML
    let lowered = authoring::lower(&path.display().to_string(), text, syntax, &registry);
    lowered.map(|lowered| lowered.data).map_err(|found| unreadable(path, text, &found))
}

fn syntax(path: &Path) -> Option<Syntax> {
    match path.extension()?.to_str()?.to_lowercase().as_str() {
        "yaml" | "yml" => Some(Syntax::Yaml),
        "toml" => Some(Syntax::Toml),
        _ => None,
    }
}

fn unreadable(path: &Path, text: &str, found: &[Diagnostic]) -> CaseError {
    let source = Source::new(path.display().to_string(), text);
    CaseError::Authored(found.iter().map(|found| found.line(&source)).collect::<Vec<_>>().join("; "))
}

impl RunSpec {
    fn read(json: &JsonValue) -> Result<RunSpec, CaseError> {
        let flag = |json: &JsonValue, key: &str| json.get(key).and_then(JsonValue::as_bool).unwrap_or(false);
        let time = |json: &JsonValue, key: &str| {
            Duration::from_millis(json.get(key).and_then(JsonValue::as_u64).unwrap_or_default())
        };
        let cancel = json.get("cancel").filter(|cancel| cancel.is_object()).map(|cancel| {
            let reason = cancel.get("reason").and_then(JsonValue::as_str);
            let reason = match reason {
                reason if flag(cancel, "reasonIsError") => AbortReason::Error(reason.unwrap_or("error").into()),
                Some(reason) => AbortReason::Text(reason.into()),
                None => AbortReason::None,
            };
            (time(cancel, "afterMs"), reason)
        });
        let http_server = match json.get("httpServer").filter(|server| server.is_object()) {
            Some(server) => {
                let routes = server.get("routes").and_then(JsonValue::as_array).into_iter().flatten();
                Some(HttpServer {
                    placeholder: server.get("placeholder").and_then(JsonValue::as_str).unwrap_or_default().into(),
                    routes: routes.map(Route::read).collect::<Result<_, _>>()?,
                })
            }
            None => None,
        };
        Ok(RunSpec {
            options: RunOptions::from_json(json.get("options").unwrap_or(&JsonValue::Null))?,
            event: json.get("event").and_then(read_event),
            as_child: flag(json, "asChild"),
            cancel,
            debugger: json.get("debugger").is_some_and(|debugger| !debugger.is_null()),
            http_server,
            run_children: flag(json, "runChildren"),
            inputs: json.get("inputs").and_then(JsonValue::as_object).cloned().unwrap_or_default(),
        })
    }
}

impl Route {
    fn read(json: &JsonValue) -> Result<Route, CaseError> {
        let text = |key: &str| json.get(key).and_then(JsonValue::as_str);
        let number = |key: &str| json.get(key).and_then(JsonValue::as_u64);
        let mut headers = HeaderMap::new();
        for (name, value) in json.get("headers").and_then(JsonValue::as_object).into_iter().flatten() {
            let value = value.as_str().and_then(|value| HeaderValue::from_str(value).ok());
            let header = name.parse::<HeaderName>().ok().zip(value);
            let shape = CaseError::Shape { part: "run.httpServer.routes.headers", expected: "names with texts" };
            let (name, value) = header.ok_or(shape)?;
            headers.insert(name, value);
        }
        headers.entry(CONTENT_TYPE).or_insert(HeaderValue::from_static("application/json"));
        let status = number("status").unwrap_or(200);
        let status = u16::try_from(status).ok().and_then(|status| StatusCode::from_u16(status).ok());
        Ok(Route {
            path: text("path").unwrap_or_default().into(),
            delay: Duration::from_millis(number("delayMs").unwrap_or_default()),
            status: status.ok_or(CaseError::Shape { part: "run.httpServer.routes.status", expected: "100 to 999" })?,
            headers,
            body: text("body").unwrap_or_default().into(),
            echo: json.get("echo").and_then(JsonValue::as_bool).unwrap_or(false),
        })
    }
}

fn read_event(json: &JsonValue) -> Option<FlowEvent> {
    let name = json.get("eventName")?.as_str()?;
    Some(FlowEvent { name: name.into(), payload: json.get("payload").map_or(Value::Undefined, Value::from) })
}
