//! Runs with a debugger.

use proptest::prelude::*;

use super::*;
use crate::flow::engine::debugger::DebugState;

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

/// A graph without cycles: each node takes from earlier ones, at several ports, of which some never resolve. With
/// choices, several edges may lead to one port.
fn random_flow(choices: bool) -> impl Strategy<Value = Arc<Flow>> {
    let types = prop::sample::select(vec!["Pass", "Wrap", "HalfFail", "AsyncPanic", "Brief", "NoSuchType"]);
    let links = prop::collection::vec((any::<prop::sample::Index>(), 0..4_usize, 0..3_usize), 0..4);
    prop::collection::vec((types, links), 1..25).prop_map(move |plan| {
        let name = |number: usize| format!("n{number}");
        let mut nodes = Vec::new();
        let mut edges = Vec::new();
        for (number, (type_name, links)) in plan.iter().enumerate() {
            nodes.push(node(&name(number), type_name));
            let mut taken = std::collections::HashSet::new();
            for (from, source, target) in links.iter().filter(|_| number > 0) {
                let from = name(from.index(number));
                let source = ["out", "__success", "__error", "__errorMessage"][*source];
                let target = ["in", "__execute", "in"][*target];
                if !choices && !taken.insert(target) {
                    continue;
                }
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
    fn a_run_that_is_paused_and_stepped_does_what_it_does_without(
        (choices, flow) in any::<bool>().prop_flat_map(|choices| (Just(choices), random_flow(choices))),
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
        // Which of several edges a port takes depends on what has ended by then, so on who waited.
        for (node, plain) in outcome.nodes.iter().zip(&plain.nodes).filter(|_| !choices) {
            prop_assert_eq!((node.status, node.ran), (plain.status, plain.ran), "node {}", node.id);
        }
    }
}
