//! What is fuzzed: each decoder of foreign bytes, and what must hold whatever they are. Shared by the fuzzer and by
//! `tests/fuzz.rs`. None may panic, overflow the stack, or take memory beyond all proportion.

use std::sync::{Arc, LazyLock};

use fireflow_worker::flow::authoring::raise;
use fireflow_worker::flow::draw::{Format as Drawing, draw};
use fireflow_worker::flow::model::{Direction, PortConfig, PortKind};
use fireflow_worker::flow::validate::check;
use fireflow_worker::flow::{Flow, FlowFile, Value};
use fireflow_worker::nodes::{Behaviour, NodeRun, Registry, RunContext};
use fireflow_worker::postgres::DatabaseUrl;
use fireflow_worker::wire::{Arguments, Format};
use indexmap::IndexMap;
use serde_json::Value as Json;
use tokio_util::sync::CancellationToken;

/// Takes any bytes.
pub type Target = fn(&[u8]);

/// All of them, by name.
pub const TARGETS: [(&str, Target); 13] = [
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
];

static REGISTRY: LazyLock<Registry> = LazyLock::new(Registry::standard);

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
    let _ = fireflow_worker::execution::Task::read(&Arguments::one(json));
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
