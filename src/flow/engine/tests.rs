//! The engine's own rules, with nodes made for the purpose.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use proptest::prelude::*;
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

fn registry() -> Registry {
    let mut registry = Registry::standard();
    let behaviours: [(&'static str, Behaviour); 9] = [
        ("Pass", Behaviour::Passive),
        ("Panic", Behaviour::Pure(|_| panic!("on purpose"))),
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

async fn debugged(flow: &Flow, options: &RunOptions, abort: &Abort, debugger: &Debugger) -> (Outcome, Vec<Event>) {
    let (sender, mut receiver) = mpsc::channel(8);
    let collecting = async {
        let mut events = Vec::new();
        while let Some(event) = receiver.recv().await {
            events.push(event);
        }
        events
    };
    let running = run_debugged(flow, options, context(), Vec::new(), sender, abort, Some(debugger));
    futures_util::future::join(running, collecting).await
}

fn chain(count: usize) -> Arc<Flow> {
    let name = |number: usize| format!("n{number}");
    let nodes = (0..count).map(|number| node(&name(number), "Pass")).collect();
    let edges = (1..count).map(|number| edge(number, (&name(number - 1), "out"), (&name(number), "in"))).collect();
    load(nodes, edges)
}

/// Ids of the nodes that events of this kind are about.
fn about(events: &[Event], kind: EventKind) -> Vec<String> {
    let id = |event: &Event| {
        let data: serde_json::Value = serde_json::from_str(&event.data).unwrap();
        data["json"]["node"]["id"].as_str().unwrap().to_owned()
    };
    events.iter().filter(|event| event.kind == kind).map(id).collect()
}

#[tokio::test]
async fn a_paused_run_holds_each_node_once_and_steps_from_one_to_the_next() {
    let flow = chain(3);
    let debugger = Debugger::paused();
    let mut state = debugger.state();
    let ordering = async {
        for held in ["n0", "n1", "n2"] {
            let shown = state.wait_for(|state| state.held.iter().any(|id| **id == *held)).await.unwrap().clone();
            assert!(shown.is_at_rest() && shown.held.len() == 1, "{shown:?}");
            if held == "n2" { debugger.resume() } else { debugger.step() }
        }
    };
    let (options, abort) = (RunOptions::default(), Abort::new());
    let ((outcome, events), ()) =
        futures_util::future::join(debugged(&flow, &options, &abort, &debugger), ordering).await;
    assert_eq!(outcome.end, End::Completed);
    assert_eq!(about(&events, EventKind::BreakpointHit), ["n0", "n1", "n2"]);
    // Started, then held, then its transfer.
    let kinds: Vec<_> = events.iter().map(|event| event.kind).collect();
    let hit = kinds.iter().rposition(|kind| *kind == EventKind::BreakpointHit).unwrap();
    assert_eq!(kinds[hit - 1..hit + 2], [EventKind::NodeStarted, EventKind::BreakpointHit, EventKind::EdgeTransferred]);
}

#[tokio::test]
async fn held_nodes_keep_their_places_and_all_go_on_together() {
    let flow = load((0..5).map(|number| node(&format!("n{number}"), "Pass")).collect(), vec![]);
    let options = RunOptions {
        max_concurrency: 2,
        debug: true,
        breakpoints: vec!["n0".into(), "n4".into(), "nowhere".into()],
        ..RunOptions::default()
    };
    let debugger = Debugger::new();
    let mut state = debugger.state();
    let ordering = async {
        let shown = state.wait_for(|state| state.held.len() == 2).await.unwrap().clone();
        assert_eq!(shown.held.iter().map(|id| &**id).collect::<Vec<_>>(), ["n0", "n1"], "n1 came while it was paused");
        debugger.resume();
        let shown = state.wait_for(|state| state.orders == 1 && state.paused).await.unwrap().clone();
        assert_eq!(shown.held.iter().map(|id| &**id).collect::<Vec<_>>(), ["n4"]);
        debugger.stop("seen enough");
        debugger.stop("more than enough");
    };
    let abort = Abort::new();
    let ((outcome, events), ()) =
        futures_util::future::join(debugged(&flow, &options, &abort, &debugger), ordering).await;
    assert_eq!(outcome.end, End::Cancelled { reason: "seen enough".into() });
    assert_eq!(status(&outcome, "n4"), Status::Error);
    assert_eq!(port(&outcome, "n4", "__error"), json!(false), "it didn't fail by itself");
    let cancelled = events.iter().find(|event| event.kind == EventKind::FlowCancelled).unwrap();
    assert!(cancelled.data.contains(r#""reason":["Error"]"#), "{}", cancelled.data);
    assert_eq!(events.last().unwrap().kind, EventKind::NodeFailed);
}

#[tokio::test]
async fn breakpoints_hold_only_where_debugging_was_asked_for_and_an_abort_ends_a_pause() {
    let flow = chain(2);
    let options = RunOptions { breakpoints: vec!["n1".into()], ..RunOptions::default() };
    let (outcome, _) = debugged(&flow, &options, &Abort::new(), &Debugger::new()).await;
    assert_eq!(outcome.end, End::Completed);

    let options = RunOptions { debug: true, ..options };
    let (abort, debugger) = (Abort::new(), Debugger::new());
    let mut state = debugger.state();
    let aborting = async {
        state.wait_for(DebugState::is_at_rest).await.unwrap();
        abort.abort("enough");
    };
    let ((outcome, events), ()) =
        futures_util::future::join(debugged(&flow, &options, &abort, &debugger), aborting).await;
    assert_eq!(outcome.end, End::Cancelled { reason: "enough".into() });
    assert_eq!(about(&events, EventKind::NodeFailed), ["n1"]);
}

/// A graph without cycles: each node takes from earlier ones, at several ports, of which some never resolve.
fn random_flow() -> impl Strategy<Value = Arc<Flow>> {
    let types = prop::sample::select(vec!["Pass", "Wrap", "HalfFail", "AsyncPanic", "Brief", "NoSuchType"]);
    let links = prop::collection::vec((any::<prop::sample::Index>(), 0..4_usize, 0..3_usize), 0..4);
    prop::collection::vec((types, links), 1..25).prop_map(|plan| {
        let name = |number: usize| format!("n{number}");
        let mut nodes = Vec::new();
        let mut edges = Vec::new();
        for (number, (type_name, links)) in plan.iter().enumerate() {
            nodes.push(node(&name(number), type_name));
            for (from, source, target) in links.iter().filter(|_| number > 0) {
                let from = name(from.index(number));
                let source = ["out", "__success", "__error", "__errorMessage"][*source];
                let target = ["in", "__execute", "in"][*target];
                edges.push(edge(edges.len(), (&from, source), (&name(number), target)));
            }
        }
        load(nodes, edges)
    })
}

/// What each node went through, and whether starts follow the resolution of what feeds them.
fn check_history(outcome: &Outcome, events: &[Event]) -> Result<(), TestCaseError> {
    let mut started: std::collections::HashMap<String, usize> = Default::default();
    let mut ended: std::collections::HashMap<String, usize> = Default::default();
    for (position, event) in events.iter().enumerate() {
        prop_assert_eq!(event.index, position as i64);
        let data: serde_json::Value = serde_json::from_str(&event.data).unwrap();
        let id = data["json"]["node"]["id"].as_str().or(data["json"]["nodeId"].as_str()).unwrap_or("").to_owned();
        match event.kind {
            EventKind::NodeStarted => *started.entry(id).or_default() += 1,
            EventKind::NodeCompleted | EventKind::NodeFailed | EventKind::NodeSkipped => {
                *ended.entry(id).or_default() += 1
            }
            _ => {}
        }
    }
    prop_assert!(started.values().chain(ended.values()).all(|times| *times == 1), "a node ran twice");
    for node in &outcome.nodes {
        let has_ended = ended.contains_key(&*node.id);
        prop_assert!(!has_ended || node.ran);
        if outcome.end == End::Completed {
            prop_assert_eq!(has_ended, node.ran, "a node that began has not ended");
        }
    }
    Ok(())
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn nodes_run_at_most_once_and_all_that_begin_end(flow in random_flow(), max_concurrency in 1..4_usize) {
        let options = RunOptions { max_concurrency, ..RunOptions::default() };
        let (outcome, events) = runtime().block_on(play(&flow, &options, &Abort::new()));
        prop_assert_eq!(&outcome.end, &End::Completed);
        check_history(&outcome, &events)?;
        // Ready means run: a node stays only when one of its connected ports has no resolved source.
        for (index, node) in outcome.nodes.iter().enumerate() {
            let fed = flow.graph.links[index].targets.iter().all(|target| {
                flow.graph.targets[*target].edges.iter().any(|(_, source)| {
                    let port = &flow.graph.sources[*source];
                    let feeder = &outcome.nodes[port.port.node];
                    match feeder.status {
                        Status::Completed => port.on_success(&flow.nodes),
                        Status::Error => port.on_failure(),
                        _ => false,
                    }
                })
            });
            prop_assert_eq!(node.ran, fed, "node {}", node.id);
        }
    }

    #[test]
    fn a_run_that_is_called_off_always_ends(flow in random_flow(), after in 0..30_usize) {
        let abort = Abort::new();
        let (sender, mut receiver) = mpsc::channel(1);
        let options = RunOptions::default();
        let (outcome, events) = runtime().block_on(async {
            let running = run(&flow, &options, context(), Vec::new(), sender, &abort);
            let calling = async {
                let mut events: Vec<Event> = Vec::new();
                while let Some(event) = receiver.recv().await {
                    events.push(event);
                    if events.len() == after {
                        abort.abort("now");
                    }
                }
                events
            };
            futures_util::future::join(running, calling).await
        });
        check_history(&outcome, &events)?;
        let ends = [EventKind::FlowCompleted, EventKind::FlowCancelled];
        prop_assert_eq!(events.iter().filter(|event| ends.contains(&event.kind)).count(), 1);
    }

    #[test]
    fn a_run_that_is_paused_and_stepped_does_what_it_does_without(
        flow in random_flow(),
        max_concurrency in 1..4_usize,
        breakpoints in prop::collection::vec(0..25_usize, 0..6),
        orders in prop::collection::vec(0..3_u8, 0..8),
    ) {
        let breakpoints = breakpoints.iter().map(|number| format!("n{number}")).collect();
        let options = RunOptions { max_concurrency, debug: true, breakpoints, ..RunOptions::default() };
        let (plain, _) = runtime().block_on(play(&flow, &options, &Abort::new()));
        let debugger = Debugger::new();
        let (outcome, events) = runtime().block_on(async {
            let abort = Abort::new();
            let ordering = async {
                let mut state = debugger.state();
                for order in orders {
                    match order {
                        0 => debugger.pause(),
                        1 => debugger.step(),
                        _ => debugger.resume(),
                    }
                    tokio::task::yield_now().await;
                }
                // Whoever rests goes on.
                loop {
                    let given = debugger.orders();
                    if state.wait_for(|state| state.is_at_rest() && state.orders == given).await.is_err() {
                        return;
                    }
                    debugger.resume();
                }
            };
            tokio::select! {
                ended = debugged(&flow, &options, &abort, &debugger) => ended,
                () = ordering => unreachable!("the debugger lives"),
            }
        });
        prop_assert_eq!(&outcome.end, &End::Completed);
        check_history(&outcome, &events)?;
        for (node, plain) in outcome.nodes.iter().zip(&plain.nodes) {
            prop_assert_eq!((node.status, node.ran), (plain.status, plain.ran), "node {}", node.id);
        }
    }
}
