//! The engine's own rules, with nodes made for the purpose.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use serde_json::json;

use super::*;
use crate::flow::events::EventKind;
use crate::flow::model::Direction;
use crate::nodes::{NodeError, NodeType, PortSpec, Registry};

const TEXT: &str = r#"{"type":"string","defaultValue":""}"#;
const PORTS: &[PortSpec] = &[
    PortSpec { key: "in", direction: Direction::Input, config: r#"{"type":"any"}"#, required: false },
    PortSpec { key: "out", direction: Direction::Output, config: TEXT, required: false },
];

static AT_WORK: AtomicUsize = AtomicUsize::new(0);
static MOST_AT_WORK: AtomicUsize = AtomicUsize::new(0);
static STUBBORN: AtomicUsize = AtomicUsize::new(0);

/// Counts down when a task's future goes away.
struct Present(&'static AtomicUsize);

impl Present {
    fn new(count: &'static AtomicUsize) -> Present {
        count.fetch_add(1, Ordering::SeqCst);
        Present(count)
    }
}

impl Drop for Present {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

thread_local! {
    /// Nodes of this thread's runs that are at work.
    static LINGERING: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

struct Lingering;

impl Lingering {
    fn new() -> Lingering {
        LINGERING.with(|count| count.set(count.get() + 1));
        Lingering
    }
}

impl Drop for Lingering {
    fn drop(&mut self) {
        LINGERING.with(|count| count.set(count.get() - 1));
    }
}

/// Waits as long as the port says, then gives what came in.
async fn nap(run: &mut NodeRun) -> Result<(), NodeError> {
    let _lingering = Lingering::new();
    let delay = run.get("delay").as_f64().unwrap_or(0.0);
    tokio::time::sleep(Duration::from_millis(delay as u64)).await;
    let value = run.get("in").clone();
    run.set("out", value);
    Ok(())
}

fn registry() -> Registry {
    let mut registry = Registry::standard();
    let behaviours: [(&'static str, Behaviour); 12] = [
        ("Pass", Behaviour::Passive),
        ("Panic", Behaviour::Pure(|_| panic!("on purpose"))),
        ("Nap", Behaviour::Async(|run| nap(run).boxed())),
        (
            "NapFail",
            Behaviour::Async(|run| {
                async {
                    nap(run).await?;
                    Err(NodeError::new("woke up"))
                }
                .boxed()
            }),
        ),
        (
            "Lingering",
            Behaviour::Async(|_| {
                async {
                    let _lingering = Lingering::new();
                    std::future::pending().await
                }
                .boxed()
            }),
        ),
        ("AsyncPanic", Behaviour::Async(|_| async { panic!("in a task") }.boxed())),
        (
            "Stubborn",
            Behaviour::Async(|_| {
                async {
                    let _present = Present::new(&STUBBORN);
                    std::future::pending().await
                }
                .boxed()
            }),
        ),
        (
            "Late",
            Behaviour::Async(|run| {
                async {
                    run.set("out", "early");
                    run.log("before");
                    tokio::time::sleep(Duration::from_millis(300)).await;
                    run.set("out", "late");
                    run.log("after");
                    Ok(())
                }
                .boxed()
            }),
        ),
        (
            "Counted",
            Behaviour::Async(|_| {
                async {
                    let _present = Present::new(&AT_WORK);
                    MOST_AT_WORK.fetch_max(AT_WORK.load(Ordering::SeqCst), Ordering::SeqCst);
                    tokio::time::sleep(Duration::from_millis(5)).await;
                    Ok(())
                }
                .boxed()
            }),
        ),
        (
            "Brief",
            Behaviour::Async(|run| {
                async {
                    run.set("out", "begun");
                    run.resolve("out");
                    tokio::task::yield_now().await;
                    Ok(())
                }
                .boxed()
            }),
        ),
        (
            "Wrap",
            Behaviour::Pure(|run| {
                let inner = run.get("in").clone();
                run.set("out", vec![inner]);
                Ok(())
            }),
        ),
        (
            "HalfFail",
            Behaviour::Pure(|run| {
                run.set("out", "set before");
                Err(NodeError::new("then failed"))
            }),
        ),
    ];
    for (name, behaviour) in behaviours {
        registry.register(NodeType {
            name,
            category: "test",
            about: "for a test",
            ports: PORTS,
            behaviour,
            disabled_auto_execution: false,
        });
    }
    registry
}

/// The HTTP client in it needs a provider of cryptography, and takes a while to build.
fn context() -> RunContext {
    static CONTEXT: OnceLock<RunContext> = OnceLock::new();
    let built = CONTEXT.get_or_init(|| {
        let _ = rustls::crypto::ring::default_provider().install_default();
        RunContext::default()
    });
    built.clone()
}

fn node(id: &str, type_name: &str) -> serde_json::Value {
    json!({
        "id": id, "schemaVersion": "v2", "status": "initialized", "metadata": {"type": type_name, "version": 1},
        "systemPorts": {"execute": {"value": true}, "success": {"value": true}, "error": {"value": false},
            "errorMessage": {"value": ""}},
    })
}

fn edge(number: usize, from: (&str, &str), to: (&str, &str)) -> serde_json::Value {
    json!({"id": format!("ED{number}"), "sourceNodeId": from.0, "sourcePortId": from.1,
        "targetNodeId": to.0, "targetPortId": to.1})
}

fn load(nodes: Vec<serde_json::Value>, edges: Vec<serde_json::Value>) -> Arc<Flow> {
    let stored = json!({"id": "V2test", "metadata": {"schemaVersion": "v2"}, "nodes": nodes, "edges": edges});
    Flow::load(&stored, &registry()).unwrap().flow
}

async fn play(flow: &Flow, options: &RunOptions, abort: &Abort) -> (Outcome, Vec<Event>) {
    let (sender, mut receiver) = mpsc::channel(8);
    let collecting = async {
        let mut events = Vec::new();
        while let Some(event) = receiver.recv().await {
            events.push(event);
        }
        events
    };
    let running = run(flow, options, context(), Vec::new(), sender, abort);
    futures_util::future::join(running, collecting).await
}

fn port(outcome: &Outcome, node: &str, key: &str) -> serde_json::Value {
    let node = outcome.nodes.iter().find(|found| *found.id == *node).unwrap();
    node.ports.iter().find(|(found, _)| **found == *key).unwrap().1.to_json()
}

fn status(outcome: &Outcome, node: &str) -> Status {
    outcome.nodes.iter().find(|found| *found.id == *node).unwrap().status
}

#[tokio::test]
async fn a_panic_fails_its_node_and_no_other() {
    let flow = load(
        vec![node("a", "Panic"), node("b", "AsyncPanic"), node("c", "Pass"), node("h", "Pass")],
        vec![edge(1, ("b", "__errorMessage"), ("h", "in"))],
    );
    let (outcome, _) = play(&flow, &RunOptions::default(), &Abort::new()).await;
    assert_eq!(outcome.end, End::Completed);
    assert_eq!(status(&outcome, "a"), Status::Error);
    assert_eq!(status(&outcome, "c"), Status::Completed);
    assert!(port(&outcome, "a", "__errorMessage").as_str().unwrap().contains("on purpose"));
    assert!(port(&outcome, "h", "in").as_str().unwrap().contains("in a task"));
}

#[tokio::test]
async fn an_aborted_run_ends_nodes_that_do_not_listen() {
    let flow = load(vec![node("s", "Stubborn"), node("t", "Stubborn")], vec![]);
    let abort = Abort::new();
    let aborting = async {
        while STUBBORN.load(Ordering::SeqCst) < 2 {
            tokio::task::yield_now().await;
        }
        abort.abort("enough");
        abort.abort(AbortReason::Error("too late to matter".into()));
    };
    let options = RunOptions::default();
    let ((outcome, events), ()) = futures_util::future::join(play(&flow, &options, &abort), aborting).await;
    assert_eq!(outcome.end, End::Cancelled { reason: "enough".into() });
    assert_eq!(events.last().unwrap().kind, EventKind::FlowCancelled);
    assert_eq!(STUBBORN.load(Ordering::SeqCst), 0, "all tasks have ended when the run has");
}

#[tokio::test]
async fn what_a_node_does_after_its_time_does_not_land() {
    let flow = load(vec![node("l", "Late")], vec![]);
    let options = RunOptions { node_timeout: Duration::from_millis(40), ..RunOptions::default() };
    let (outcome, events) = play(&flow, &options, &Abort::new()).await;
    assert_eq!(outcome.end, End::Completed);
    assert_eq!(status(&outcome, "l"), Status::Error);
    assert_eq!(port(&outcome, "l", "out"), json!(""));
    assert_eq!(events.iter().filter(|event| event.kind == EventKind::NodeLog).count(), 1);
}

#[tokio::test]
async fn what_a_node_set_before_it_failed_stays() {
    let flow = load(vec![node("h", "HalfFail")], vec![]);
    let (outcome, _) = play(&flow, &RunOptions::default(), &Abort::new()).await;
    assert_eq!(port(&outcome, "h", "out"), json!("set before"));
    assert_eq!(port(&outcome, "h", "__errorMessage"), json!("then failed"));
}

#[tokio::test]
async fn no_more_nodes_work_at_once_than_allowed() {
    let flow = load((0..20).map(|number| node(&format!("n{number}"), "Counted")).collect(), vec![]);
    let options = RunOptions { max_concurrency: 3, ..RunOptions::default() };
    let (outcome, _) = play(&flow, &options, &Abort::new()).await;
    assert!(outcome.nodes.iter().all(|node| node.status == Status::Completed));
    assert_eq!(MOST_AT_WORK.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn the_flow_runs_on_when_nobody_takes_its_events() {
    let flow = load(vec![node("a", "Pass"), node("b", "Pass")], vec![edge(1, ("a", "out"), ("b", "in"))]);
    let (sender, receiver) = mpsc::channel(1);
    drop(receiver);
    let options = RunOptions::default();
    let outcome = run(&flow, &options, context(), Vec::new(), sender, &Abort::new()).await;
    assert_eq!(outcome.end, End::Completed);
    assert_eq!(status(&outcome, "b"), Status::Completed);
}

#[tokio::test]
async fn a_very_long_chain_and_a_very_wide_fan_are_no_problem() {
    const COUNT: usize = 10_000;
    let name = |number: usize| format!("n{number}");
    let mut nodes: Vec<_> = (0..COUNT).map(|number| node(&name(number), "Pass")).collect();
    let mut edges: Vec<_> =
        (1..COUNT).map(|number| edge(number, (&name(number - 1), "__success"), (&name(number), "__execute"))).collect();
    nodes.push(node("end", "Pass"));
    edges.extend((0..COUNT).map(|number| edge(COUNT + number, (&name(number), "out"), ("end", "in"))));
    let flow = load(nodes, edges);
    let (outcome, events) = play(&flow, &RunOptions::default(), &Abort::new()).await;
    assert_eq!(outcome.end, End::Completed);
    assert!(outcome.nodes.iter().all(|node| node.status == Status::Completed));
    assert!(events.iter().enumerate().all(|(position, event)| event.index == position as i64));
}

#[tokio::test]
async fn values_that_nest_too_deeply_fail_the_node_that_made_them() {
    let count = crate::flow::text::MAX_DEPTH + 10;
    let name = |number: usize| format!("n{number}");
    let nodes = (0..count).map(|number| node(&name(number), "Wrap")).collect();
    let edges = (1..count).map(|number| edge(number, (&name(number - 1), "out"), (&name(number), "in"))).collect();
    let (outcome, _) = play(&load(nodes, edges), &RunOptions::default(), &Abort::new()).await;
    let failed: Vec<_> = outcome.nodes.iter().filter(|node| node.status == Status::Error).collect();
    assert_eq!(failed.len(), 1);
    assert!(port(&outcome, &failed[0].id, "__errorMessage").as_str().unwrap().contains("nests deeper"));
}

#[tokio::test]
async fn a_limit_on_the_flow_is_looked_at_between_quick_nodes_too() {
    let name = |number: usize| format!("n{number}");
    let nodes = (0..1000).map(|number| node(&name(number), "Pass")).collect();
    let options = RunOptions { flow_timeout: Duration::from_nanos(1), ..RunOptions::default() };
    let (outcome, events) = play(&load(nodes, vec![]), &options, &Abort::new()).await;
    assert!(matches!(outcome.end, End::Failed { .. }));
    assert_eq!(events.last().unwrap().kind, EventKind::FlowFailed);
    assert!(outcome.nodes.iter().any(|node| !node.ran));
}

mod debugging;
mod properties;
