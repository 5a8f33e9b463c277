//! Traces, as a collector gets them: which spans there are, whose children they are, what they say, and that a collector which is
//! away costs nothing but spans.

#![cfg(feature = "otlp")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, also in its helpers")]

mod support;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use axum::{Router, body::Bytes, extract::State, http::HeaderMap, routing::post};
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{KeyValue, any_value::Value},
    trace::v1::{Span, span::SpanKind, status::StatusCode},
};
use prost::Message as _;
use serde_json::json;
use support::{
    bench::Bench,
    flows::{echo, family, reporting},
    scrape::{LISTENING, address, until},
};
use tokio_util::sync::{CancellationToken, DropGuard};

/// What came to the collector.
#[derive(Default)]
struct Heard {
    spans: Vec<Span>,
    resources: Vec<Vec<KeyValue>>,
    headers: Vec<HeaderMap>,
}

/// A collector of traces.
struct Collector {
    endpoint: String,
    heard: Arc<Mutex<Heard>>,
    _stop: DropGuard,
}

impl Collector {
    async fn open() -> Collector {
        let heard = Arc::new(Mutex::new(Heard::default()));
        let take = async |State(heard): State<Arc<Mutex<Heard>>>, headers: HeaderMap, body: Bytes| {
            let request = ExportTraceServiceRequest::decode(body).unwrap();
            let mut heard = heard.lock().unwrap();
            heard.headers.push(headers);
            for spans in request.resource_spans {
                heard.resources.push(spans.resource.unwrap().attributes);
                heard.spans.extend(spans.scope_spans.into_iter().flat_map(|spans| spans.spans));
            }
        };
        let router = Router::new().route("/v1/traces", post(take)).with_state(heard.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let stop = CancellationToken::new();
        let stopped = stop.clone().cancelled_owned();
        tokio::spawn(async move { axum::serve(listener, router).with_graceful_shutdown(stopped).await });
        Collector { endpoint, heard, _stop: stop.drop_guard() }
    }

    /// All spans so far.
    fn spans(&self) -> Vec<Span> {
        self.heard.lock().unwrap().spans.clone()
    }
}

fn text(value: &KeyValue) -> String {
    match value.value.clone().unwrap().value.unwrap() {
        Value::StringValue(text) => text,
        Value::IntValue(number) => number.to_string(),
        Value::DoubleValue(number) => number.to_string(),
        other => format!("{other:?}"),
    }
}

fn attributes(values: &[KeyValue]) -> HashMap<String, String> {
    values.iter().map(|value| (value.key.clone(), text(value))).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The spans of an execution with this name, in the order of their beginning.
fn named<'s>(spans: &'s [Span], execution: &str, name: &str) -> Vec<&'s Span> {
    let of = |span: &&Span| attributes(&span.attributes)["fireflow.execution.id"] == execution && span.name == name;
    let mut found: Vec<&Span> = spans.iter().filter(of).collect();
    found.sort_by_key(|span| span.start_time_unix_nano);
    found
}

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const SPAN: &str = "00f067aa0ba902b7";

#[tokio::test]
async fn an_execution_is_one_trace_with_its_steps_and_nodes_in_the_context_of_who_enqueued_it() {
    let collector = Collector::open().await;
    let bench = Bench::with(|ledger| vec![reporting("work", ledger), echo("echo")]).await;
    let (client, sql) = (&bench.client, bench.client.sql());
    // By the row's attributes, and by the task.
    client.enqueue("EX1", "work", json!({"enter": "/enter/EX1", "leave": "/leave/EX1"})).await;
    let attributes_of = "UPDATE dbos.workflow_status SET attributes = jsonb_build_object('traceparent', $1::text) WHERE workflow_uuid = $2";
    sql.execute(attributes_of, &[&format!("00-{TRACE}-{SPAN}-01"), &"EX1"]).await.unwrap();
    let unsampled = format!("00-{TRACE}-{SPAN}-00");
    // What is no context in the task hides none among the attributes.
    client.enqueue_task("EX4", &json!({"executionId": "EX4", "flowId": "echo", "traceparent": "nonsense"})).await;
    sql.execute(attributes_of, &[&format!("00-{TRACE}-{SPAN}-01"), &"EX4"]).await.unwrap();
    client.enqueue_task("EX2", &json!({"executionId": "EX2", "flowId": "echo", "traceparent": unsampled})).await;
    client.enqueue("EX3", "no-such-flow", json!({})).await;
    sql.execute(attributes_of, &[&"nonsense", &"EX3"]).await.unwrap();

    let settings = [("trace.endpoint", collector.endpoint.as_str())];
    let worker = bench.worker("traced", &settings).await;
    for (id, status) in [("EX1", "SUCCESS"), ("EX2", "SUCCESS"), ("EX3", "ERROR"), ("EX4", "SUCCESS")] {
        client.until(id, status).await;
    }
    assert!(worker.stop().await.success());

    let spans = collector.spans();
    let [root] = named(&spans, "EX1", "executeFireFlow")[..] else { panic!("{spans:#?}") };
    assert_eq!((hex(&root.trace_id), hex(&root.parent_span_id)), (TRACE.to_owned(), SPAN.to_owned()));
    assert_eq!(root.kind(), SpanKind::Consumer);
    let about = attributes(&root.attributes);
    for (name, value) in [
        ("fireflow.flow.id", "work"),
        ("fireflow.queue", "fireflow-executions"),
        ("fireflow.attempt", "1"),
        ("fireflow.worker.id", "traced"),
        ("fireflow.outcome", "completed"),
    ] {
        assert_eq!(about[name], value, "{name}");
    }
    assert!(about["fireflow.queue.seconds"].parse::<f64>().unwrap() >= 0.0);
    for step in ["DBOS.writeStream", "updateToRunning", "executeFlowAtomic", "updateToCompleted"] {
        let [span] = named(&spans, "EX1", step)[..] else { panic!("{step}: {spans:#?}") };
        assert_eq!((hex(&span.trace_id), &span.parent_span_id), (TRACE.to_owned(), &root.span_id), "{step}");
        assert!(span.start_time_unix_nano >= root.start_time_unix_nano, "{step}");
        assert!(span.end_time_unix_nano <= root.end_time_unix_nano, "{step}");
    }
    let [run] = named(&spans, "EX1", "executeFlowAtomic")[..] else { panic!() };
    let nodes = named(&spans, "EX1", "HttpRequestNode");
    assert_eq!(nodes.len(), 2);
    for (node, id) in nodes.into_iter().zip(["enter", "leave"]) {
        assert_eq!((hex(&node.trace_id), &node.parent_span_id), (TRACE.to_owned(), &run.span_id));
        let about = attributes(&node.attributes);
        assert_eq!((about["fireflow.node.id"].as_str(), about["fireflow.node.status"].as_str()), (id, "completed"));
        assert!(node.end_time_unix_nano > node.start_time_unix_nano);
    }

    assert!(named(&spans, "EX2", "executeFireFlow").is_empty(), "its enqueuer doesn't record it");
    let [other] = named(&spans, "EX4", "executeFireFlow")[..] else { panic!("{spans:#?}") };
    assert_eq!((hex(&other.trace_id), hex(&other.parent_span_id)), (TRACE.to_owned(), SPAN.to_owned()));
    let [failed] = named(&spans, "EX3", "executeFireFlow")[..] else { panic!("{spans:#?}") };
    assert!(failed.parent_span_id.is_empty() && hex(&failed.trace_id) != TRACE);
    let status = failed.status.clone().unwrap();
    assert_eq!(status.code(), StatusCode::Error);
    assert!(status.message.contains("no-such-flow"), "{}", status.message);

    let ids: std::collections::HashSet<_> = spans.iter().map(|span| &span.span_id).collect();
    assert_eq!(ids.len(), spans.len(), "each span has an id of its own");
    let resource = attributes(&collector.heard.lock().unwrap().resources[0]);
    assert_eq!(resource["service.name"], "fireflow-worker");
    assert_eq!(resource["service.instance.id"], "traced");
}

#[tokio::test]
async fn children_are_in_the_trace_of_their_parent() {
    let collector = Collector::open().await;
    let bench = Bench::with(|ledger| vec![family(ledger)]).await;
    bench.client.enqueue("EX1", "family", json!({})).await;
    let worker = bench.worker("traced", &[("trace.endpoint", collector.endpoint.as_str())]).await;
    bench.client.until("EX1", "SUCCESS").await;
    assert!(worker.stop().await.success());
    let spans = collector.spans();
    let roots: Vec<_> = spans.iter().filter(|span| span.kind() == SpanKind::Consumer).collect();
    assert_eq!(roots.len(), 3, "{roots:#?}");
    // The start of a child is a step of that name.
    let [parent, ..] = named(&spans, "EX1", "executeFireFlow")[..] else { panic!() };
    assert!(parent.parent_span_id.is_empty());
    for child in roots.into_iter().filter(|span| span.span_id != parent.span_id) {
        assert_eq!((&child.trace_id, &child.parent_span_id), (&parent.trace_id, &parent.span_id));
    }
}

/// The contexts that the children of an execution were started with.
async fn handed_on(bench: &Bench) -> Vec<String> {
    let inputs = "SELECT inputs FROM dbos.workflow_input WHERE workflow_uuid <> 'EX1'";
    let rows = bench.client.sql().query(inputs, &[]).await.unwrap();
    let context = |row: &tokio_postgres::Row| {
        let inputs: String = row.get(0);
        let (_, rest) = inputs.split_once("traceparent")?;
        let start = rest.find("00-")?;
        Some(rest[start..start + 55].to_owned())
    };
    assert_eq!(rows.len(), 2);
    rows.iter().map(|row| context(row).unwrap_or_default()).collect()
}

#[tokio::test]
async fn children_of_what_is_not_recorded_are_not_recorded_either() {
    let collector = Collector::open().await;
    for (sample_ratio, task) in [
        ("1.0", json!({"executionId": "EX1", "flowId": "family", "traceparent": format!("00-{TRACE}-{SPAN}-00")})),
        ("0.0", json!({"executionId": "EX1", "flowId": "family"})),
    ] {
        let bench = Bench::with(|ledger| vec![family(ledger)]).await;
        bench.client.enqueue_task("EX1", &task).await;
        let settings = [("trace.endpoint", collector.endpoint.as_str()), ("trace.sample_ratio", sample_ratio)];
        let worker = bench.worker("traced", &settings).await;
        bench.client.until("EX1", "SUCCESS").await;
        assert!(worker.stop().await.success());
        assert!(collector.spans().is_empty(), "{:#?}", collector.spans());
        let contexts = handed_on(&bench).await;
        assert!(contexts.iter().all(|context| context.ends_with("-00")), "{contexts:?}");
    }
}

#[tokio::test]
async fn a_worker_without_a_collector_hands_a_context_on_as_it_came() {
    let bench = Bench::with(|ledger| vec![family(ledger)]).await;
    let context = format!("00-{TRACE}-{SPAN}-03");
    let task = json!({"executionId": "EX1", "flowId": "family", "traceparent": context});
    bench.client.enqueue_task("EX1", &task).await;
    let worker = bench.worker("untraced", &[]).await;
    bench.client.until("EX1", "SUCCESS").await;
    assert!(worker.stop().await.success());
    assert_eq!(handed_on(&bench).await, [context.clone(), context]);
}

#[tokio::test]
async fn nodes_of_a_run_that_is_handed_back_have_a_parent() {
    let collector = Collector::open().await;
    let bench = Bench::with(|ledger| vec![reporting("work", ledger)]).await;
    bench.client.enqueue("EX1", "work", json!({"enter": "/enter/EX1", "leave": "/hold/EX1"})).await;
    let settings = [("trace.endpoint", collector.endpoint.as_str()), ("worker.drain_timeout", "0s")];
    let worker = bench.worker("traced", &settings).await;
    bench.ledger.entered("EX1", 1).await;
    bench.client.until_event("EX1", "node:completed").await;
    assert!(worker.stop().await.success());
    bench.ledger.release("EX1");
    let spans = collector.spans();
    let [node, ..] = named(&spans, "EX1", "HttpRequestNode")[..] else { panic!("{spans:#?}") };
    let [run] = named(&spans, "EX1", "executeFlowAtomic")[..] else { panic!("{spans:#?}") };
    let [root] = named(&spans, "EX1", "executeFireFlow")[..] else { panic!("{spans:#?}") };
    assert_eq!((&node.parent_span_id, &run.parent_span_id), (&run.span_id, &root.span_id));
    assert!(run.start_time_unix_nano <= node.start_time_unix_nano);
    for span in [run, root] {
        assert_eq!(attributes(&span.attributes)["fireflow.outcome"], "handed_back");
    }
}

#[tokio::test]
async fn a_collector_that_is_away_costs_spans_and_nothing_else() {
    let bench = Bench::with(|_| vec![echo("echo")]).await;
    // Takes connections, and never answers.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", silent.local_addr().unwrap());
    let mut settings = LISTENING.to_vec();
    settings.extend([("trace.endpoint", endpoint.as_str()), ("trace.timeout", "500ms")]);
    let worker = bench.worker("traced", &settings).await;
    let address = address(&worker).await;
    for number in 0..20 {
        bench.client.enqueue(&format!("EX{number}"), "echo", json!({})).await;
    }
    for number in 0..20 {
        bench.client.until(&format!("EX{number}"), "SUCCESS").await;
    }
    until(&address, |now| now.get("fireflow_trace_exports_total{result=\"failed\"}") > 0.0).await;
    worker.says("can't send spans").await;
    bench.client.enqueue("LAST", "echo", json!({})).await;
    bench.client.until("LAST", "SUCCESS").await;
    let began = Instant::now();
    assert!(worker.stop().await.success());
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
}

#[tokio::test]
async fn headers_reach_the_collector_and_nothing_else() {
    let collector = Collector::open().await;
    let bench = Bench::with(|_| vec![echo("echo")]).await;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "x-api-key: hush-hush\n\nx-tenant: us\n").unwrap();
    let settings = [
        ("trace.endpoint", collector.endpoint.as_str()),
        ("trace.headers_file", file.path().to_str().unwrap()),
        ("log.level", "trace"),
    ];
    let worker = bench.worker("traced", &settings).await;
    bench.client.enqueue("EX1", "echo", json!({})).await;
    bench.client.until("EX1", "SUCCESS").await;
    let log = worker.log();
    assert!(worker.stop().await.success());
    let headers = collector.heard.lock().unwrap().headers.first().unwrap().clone();
    assert_eq!((&headers["x-api-key"], &headers["x-tenant"]), (&"hush-hush".parse().unwrap(), &"us".parse().unwrap()));
    assert!(!log.contains("hush-hush"));

    std::fs::write(file.path(), "hush-hush\n").unwrap();
    let mut wrong = support::worker::WorkerProcess::spawn(&bench.database.url(), "wrong", &settings);
    assert_eq!(wrong.ended().await.code(), Some(78));
    wrong.says("line 1: no header").await;
    assert!(!wrong.log().contains("hush-hush"), "{}", wrong.log());
}
