//! What is fuzzed: each decoder of foreign bytes, and what must hold whatever they are. Shared by the fuzzer and by
//! `tests/fuzz.rs`. None may panic, overflow the stack, or take memory beyond all proportion.

use std::sync::{Arc, LazyLock};

use fireflow_worker::execution::{Command, Task};
use fireflow_worker::flow::authoring::raise;
use fireflow_worker::flow::draw::{Format as Drawing, draw};
use fireflow_worker::flow::engine::RunOptions;
use fireflow_worker::flow::model::{Direction, PortConfig, PortKind};
use fireflow_worker::flow::validate::check;
use fireflow_worker::flow::{Flow, FlowFile, Value};
use fireflow_worker::nodes::{Behaviour, NodeRun, Registry, RunContext};
use fireflow_worker::postgres::DatabaseUrl;
use fireflow_worker::sysdb::{Message, QueueColumns, Unread};
use fireflow_worker::wire::{Arguments, Failure, Format};
use fireflow_worker::worker::Status;
use fireflow_worker::{admin, config};
use indexmap::IndexMap;
use serde_json::Value as Json;
use tokio_util::sync::CancellationToken;

/// Takes any bytes.
pub type Target = fn(&[u8]);

/// All of them, by name.
pub const TARGETS: [(&str, Target); 18] = [
    ("superjson", |data| payload(Format::Superjson, data)),
    ("portable", |data| payload(Format::Portable, data)),
    ("pickle", |data| payload(Format::Pickle, data)),
    ("rust", |data| payload(Format::RustSerde, data)),
    ("task", task),
    ("flow", flow),
    ("checks", |data| file("flow.json", data)),
    ("authored", |data| file("flow.yaml", data)),
    ("toml", |data| file("flow.toml", data)),
    ("placeholders", placeholders),
    ("template", template),
    ("yaml", yaml),
    ("url", url),
    ("settings", settings),
    ("row", row),
    ("message", message),
    ("limits", limits),
    ("admin", request),
];

static REGISTRY: LazyLock<Registry> = LazyLock::new(Registry::standard);

/// A flow whose inputs are bound.
static FLOW: LazyLock<Arc<Flow>> = LazyLock::new(|| {
    let text = "id: f\nnodes:\n  a: {type: TextNode, inputs: {text: hi}}\n  b: {type: NumberNode, inputs: {num: 1}}\n\
                inputs:\n  text: a.text\n  num: b.num\n";
    let file = FlowFile::read("flow.yaml", text, &REGISTRY);
    check(&file, &REGISTRY).flow.expect("a flow")
});

/// One for all: making its client takes a while.
static CONTEXT: LazyLock<Arc<RunContext>> = LazyLock::new(|| {
    let _ = rustls::crypto::ring::default_provider().install_default(); // an error says that there is one already
    Arc::default()
});

fn payload(format: Format, data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    if let Ok(arguments) = format.decode_inputs(&text) {
        // What was read can be written, and read again for the same.
        let again = format.decode_inputs(&format.encode_inputs(&arguments)).expect("what we wrote can be read");
        assert_eq!(again, arguments);
    }
    if let Ok(value) = format.decode_value(&text) {
        let again = format.decode_value(&format.encode_value(&value)).expect("what we wrote can be read");
        assert_eq!(again, value);
    }
    let _ = format.decode_error(&text);
    let _ = Format::of(None, Some(&text));
}

fn task(data: &[u8]) {
    let Ok(json) = serde_json::from_slice::<Json>(data) else { return };
    let _ = Task::read(&Arguments::one(json));
}

fn flow(data: &[u8]) {
    let Ok(json) = serde_json::from_slice::<Json>(data) else { return };
    if let Ok(loaded) = Flow::load(&json, &REGISTRY) {
        loaded.problems.iter().for_each(|problem| drop(problem.to_string()));
    }
}

/// A flow's file as every command reads it: what is wrong with it is said, at places that are there; what is right is
/// written as a file again, and drawn.
fn file(name: &str, data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let file = FlowFile::read(name, &text, &REGISTRY);
    let checked = check(&file, &REGISTRY);
    for finding in &checked.findings {
        if let Some(span) = &finding.span {
            assert!(span.start <= span.end && span.end <= text.len(), "{finding:?}");
            let _ = file.source.place(span.start);
        }
    }
    if let (Some(flow), Some(stored)) = (&checked.flow, &file.data) {
        draw(flow, Drawing::Text);
        let _ = raise(stored, &REGISTRY).map(|raised| raised.yaml());
    }
}

fn placeholders(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let variables: Json = serde_json::json!({"name": "n", "list": [1, {"a": 2}]});
    node("LangchainTemplateNode", [("template", Value::from(&*text)), ("variables", Value::from(&variables))]);
    node("SchemaInferNode", [("input", Value::from(&*text))]);
}

fn template(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    // The template, a zero, and its variables.
    let (template, variables) = text.split_once('\0').unwrap_or((&text, "{\"name\":\"n\",\"list\":[1,{\"a\":2}]}"));
    let variables: Json = serde_json::from_str(variables).unwrap_or_default();
    node("HandlebarsTemplateNode", [("template", Value::from(template)), ("variables", Value::from(&variables))]);
}

fn yaml(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let ports =
        node("JsonYamlDeserializerNode", [("inputString", Value::from(&*text)), ("inputFormat", "auto".into())]);
    if let Some(output) = ports.get("deserializedObject").filter(|output| !output.is_nullish()) {
        node("YAMLSerializerNode", [("data", output.clone())]);
    }
}

fn url(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    if let Ok(url) = text.parse::<DatabaseUrl>() {
        let _ = format!("{url:?}");
    }
}

/// A configuration file, and after a zero the environment, a variable a line: settings that can be used, or an error that says
/// where.
fn settings(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (file, environment) = text.split_once('\0').unwrap_or((&text, ""));
    let variables = environment.lines().filter_map(|line| line.split_once('='));
    let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
    match config::load_text(Some(("worker.toml".as_ref(), file)), variables, Vec::new()) {
        Ok((settings, _)) => {
            assert!(settings.queue.iter().all(|queue| !queue.name.is_empty() && queue.worker_concurrency > 0));
            assert!(settings.worker.lease >= std::time::Duration::from_secs(2));
        }
        Err(config::ConfigError::Invalid(problems)) => {
            assert!(!problems.is_empty());
            for problem in problems {
                assert!(!problem.key.is_empty() && !problem.text.is_empty(), "{problem:?}");
            }
        }
        Err(error) => assert!(error.to_string().contains("worker.toml"), "{error}"),
    }
}

/// A row as a claim reads it, in parts with zeros between: serialization, inputs, and of the execution's row the options. Either
/// there is a task that can be bound to a flow, or an error that its client can read.
fn row(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let mut parts = text.splitn(3, '\0');
    let serialization = parts.next().filter(|name| !name.is_empty());
    let inputs = parts.next();
    let options: Json = parts.next().and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
    let format = Format::of(serialization, inputs);
    let read = format.as_ref().map_err(ToString::to_string).and_then(|format| {
        let arguments = format.decode_inputs(inputs.unwrap_or_default()).map_err(|error| error.to_string())?;
        Task::read(&arguments).map_err(|error| error.to_string())
    });
    let outcome = read.and_then(|task| {
        RunOptions::from_json(&options).map_err(|error| error.to_string())?;
        FLOW.bind_inputs(&task.inputs).map(drop).map_err(|error| error.to_string())
    });
    if let Err(error) = outcome {
        assert!(!error.is_empty());
        let format = format.unwrap_or(Format::Portable);
        let written = format.encode_error(&Failure::new("InvalidTask", error), "EX1");
        let _ = format.decode_error(&written);
    }
}

/// A message as it is stored, after a zero: what stands before it is the name of its serialization.
fn message(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (serialization, value) = text.split_once('\0').unwrap_or(("", &text));
    let serialization = Some(serialization).filter(|name| !name.is_empty()).map(str::to_owned);
    let message = Message { value: value.to_owned(), serialization };
    // The start signal: whether it is true.
    if let Ok(format) = Format::of(message.serialization.as_deref(), Some(&message.value))
        && let Ok(signal) = format.decode_value(&message.value)
    {
        let _ = Value::from(&signal).is_truthy();
    }
    if let Err(why) = Command::decode(&Unread { id: "1".into(), message: Some(message) }) {
        assert!(!why.is_empty());
    }
}

/// The columns of a registered queue: whatever stands there, limits that the loop can work with.
fn limits(data: &[u8]) {
    let mut bytes = data.iter().copied().chain(std::iter::repeat(0));
    let mut next = || -> u64 { (0..8).fold(0, |number, _| number << 8 | u64::from(bytes.next().unwrap_or(0))) };
    let number = |bits: u64| (bits & 1 == 0).then(|| u32::try_from(bits >> 32).unwrap_or(0).cast_signed());
    let time = |bits: u64| (bits & 2 == 0).then(|| f64::from_bits(bits));
    let columns = QueueColumns {
        concurrency: [number(next()), number(next())],
        rate: (number(next()), time(next())),
        partition_concurrency: [number(next()), number(next())],
        partition_rate: (number(next()), time(next())),
        polling_interval: f64::from_bits(next()),
        by_flag: next() & 1 == 1,
    };
    let limits = columns.limits();
    // A pause that is neither a hot loop nor for ever, with its jitter.
    assert!((1..=600_000).contains(&limits.polling_interval.as_millis()), "{columns:?}: {limits:?}");
    let _ = limits.polling_interval.mul_f64(1.1);
    let rates = [limits.rate, limits.partition.as_ref().and_then(|own| own.rate)];
    for rate in rates.into_iter().flatten() {
        assert!(!rate.period.is_zero(), "{columns:?}");
        let _ = rate.to_string();
    }
    let _ = limits.is_paused();
}

/// What a connection to the admin listener sends: HTTP comes back, or nothing.
fn request(data: &[u8]) {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    static RUNTIME: LazyLock<std::sync::Mutex<tokio::runtime::Runtime>> = LazyLock::new(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        std::sync::Mutex::new(runtime.expect("a runtime"))
    });
    let runtime = RUNTIME.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    runtime.block_on(async {
        let (mut client, server) = tokio::io::duplex(1 << 20);
        let router = admin::router(Arc::new(Status::new("w1", "queue")));
        let serving = tokio::spawn(async move { axum::serve(Only(Some(server)), router).await });
        // More than a connection takes ends with the connection.
        let _ = client.write_all(data).await;
        let _ = client.shutdown().await;
        let mut answer = Vec::new();
        let read = client.read_to_end(&mut answer);
        let read = tokio::time::timeout(std::time::Duration::from_secs(10), read).await;
        assert!(read.is_ok(), "the connection stays open");
        // Frames of HTTP/2, for whoever begins so, have their length first.
        let known = answer.is_empty() || answer.starts_with(b"HTTP/1.") || answer.starts_with(&[0, 0]);
        assert!(known, "{}", String::from_utf8_lossy(&answer));
        serving.abort();
        assert!(!serving.await.is_err_and(|error| error.is_panic()));
    });
}

/// A listener with one connection.
struct Only(Option<tokio::io::DuplexStream>);

impl axum::serve::Listener for Only {
    type Io = tokio::io::DuplexStream;
    type Addr = ();

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        match self.0.take() {
            Some(connection) => (connection, ()),
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> std::io::Result<Self::Addr> {
        Ok(())
    }
}

/// Run a node that only computes; its ports afterwards.
fn node<const N: usize>(name: &str, inputs: [(&str, Value); N]) -> IndexMap<Arc<str>, Value> {
    let node = REGISTRY.get(name).expect("a node of the catalogue");
    let ports = inputs.into_iter().map(|(key, value)| (Arc::from(key), value)).collect();
    let (effects, _seen) = tokio::sync::mpsc::unbounded_channel();
    // Lists of anything come out.
    let list = PortConfig {
        id: "deserializedObject".into(),
        key: "deserializedObject".into(),
        kind: PortKind::Array(None),
        direction: Direction::Output,
        required: false,
        default: None,
        raw: Arc::default(),
    };
    let any = PortConfig { kind: PortKind::Any(Some(Arc::new(list.clone()))), ..list };
    let configs = IndexMap::from([(any.key.clone(), Arc::new(any))]);
    let mut run = NodeRun::new(ports, configs, CONTEXT.clone(), CancellationToken::new(), effects);
    match node.behaviour {
        Behaviour::Pure(work) => _ = work(&mut run),
        _ => panic!("{name} does more than compute"),
    }
    run.into_ports()
}
