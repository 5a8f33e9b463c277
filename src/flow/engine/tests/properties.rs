//! Properties of any run: graphs and behaviours at random.

use std::collections::{BTreeMap, HashMap};

use proptest::prelude::*;
use proptest::sample::Index;

use super::*;

/// What a node does, and for how long: see the registry of these tests.
const TYPES: [&str; 9] = ["Pass", "Wrap", "HalfFail", "Nap", "NapFail", "AsyncPanic", "Brief", "NoSuchType", "Panic"];

/// Ports that an edge of a plan may leave; the last one stands for an edge from the value and one from the error text.
const SOURCES: [&str; 5] = ["out", "__success", "__error", "__errorMessage", "either"];

/// One node at random.
#[derive(Clone, Debug)]
struct Plan {
    type_name: &'static str,
    /// For those that take their time, in milliseconds.
    delay: u32,
    /// Whether its stored flag lets it execute.
    executes: bool,
    /// From which earlier node and port it takes a value, and its flag.
    value: Option<(Index, usize)>,
    flag: Option<(Index, usize)>,
    /// Which of the groups holds it.
    group: Option<Index>,
}

fn plan() -> impl Strategy<Value = Plan> {
    let link = || prop::option::weighted(0.7, (any::<Index>(), 0..SOURCES.len()));
    let flag = prop::option::weighted(0.2, (any::<Index>(), 0..3_usize));
    let types = prop::sample::select(TYPES.to_vec());
    (types, 0..20_u32, prop::bool::weighted(0.9), link(), flag, prop::option::weighted(0.3, any::<Index>())).prop_map(
        |(type_name, delay, executes, value, flag, group)| Plan { type_name, delay, executes, value, flag, group },
    )
}

/// A flow whose outcome doesn't depend on what comes first: a port has one source, or two of which one node resolves
/// exactly one. Nodes that fail after they gave something early aren't among them.
fn settled_flow() -> impl Strategy<Value = Arc<Flow>> {
    let listeners = prop::collection::vec((any::<Index>(), prop::bool::ANY), 0..3);
    (prop::collection::vec(plan(), 1..25), 0..4_usize, listeners).prop_map(|(plans, groups, listeners)| {
        let name = |number: usize| format!("n{number}");
        let mut nodes = Vec::new();
        let mut edges = Vec::new();
        for (number, plan) in plans.iter().enumerate() {
            let mut node = node(&name(number), plan.type_name);
            node["systemPorts"]["execute"]["value"] = plan.executes.into();
            node["ports"] = json!([{"config": {"id": "delay", "key": "delay", "type": "number"}, "value": plan.delay}]);
            if let Some(group) = plan.group.filter(|_| groups > 0) {
                node["metadata"]["parentNodeId"] = format!("g{}", group.index(groups)).into();
            }
            nodes.push(node);
            let links = [(&plan.value, "in"), (&plan.flag, "__execute")];
            for (from, source, target) in
                links.iter().filter_map(|(link, target)| link.as_ref().map(|(from, source)| (from, source, target)))
            {
                let Some(from) = (number > 0).then(|| name(from.index(number))) else { continue };
                let sources = match SOURCES[*source] {
                    "either" => &["out", "__errorMessage"][..],
                    _ => &SOURCES[*source..=*source],
                };
                for source in sources {
                    edges.push(edge(edges.len(), (&from, source), (&name(number), target)));
                }
            }
        }
        for group in 0..groups {
            let mut node = node(&format!("g{group}"), "GroupNode");
            node["metadata"]["category"] = "group".into();
            if group > 0 {
                node["metadata"]["parentNodeId"] = format!("g{}", group - 1).into();
            }
            nodes.push(node);
        }
        for (number, (to, matches)) in listeners.iter().enumerate() {
            let id = format!("l{number}");
            let mut node = node(&id, "EventListenerNodeV2");
            let name_of_event = if *matches { "e" } else { "other" };
            node["ports"] =
                json!([{"config": {"id": "eventName", "key": "eventName", "type": "string"}, "value": name_of_event}]);
            nodes.push(node);
            edges.push(edge(edges.len(), (&id, "__success"), (&name(to.index(plans.len())), "delay")));
        }
        load(nodes, edges)
    })
}

/// Any graph without cycles, with several sources for a port, whose outcome may depend on what comes first.
fn wild_flow() -> impl Strategy<Value = Arc<Flow>> {
    let links = prop::collection::vec((any::<Index>(), 0..4_usize, 0..3_usize), 0..4);
    prop::collection::vec((plan(), links), 1..25).prop_map(|plans| {
        let name = |number: usize| format!("n{number}");
        let mut nodes = Vec::new();
        let mut edges = Vec::new();
        for (number, (plan, links)) in plans.iter().enumerate() {
            let mut node = node(&name(number), plan.type_name);
            node["systemPorts"]["execute"]["value"] = plan.executes.into();
            node["ports"] = json!([{"config": {"id": "delay", "key": "delay", "type": "number"}, "value": plan.delay}]);
            nodes.push(node);
            for (from, source, target) in links.iter().filter(|_| number > 0) {
                let target = ["in", "__execute", "in"][*target];
                edges.push(edge(edges.len(), (&name(from.index(number)), SOURCES[*source]), (&name(number), target)));
            }
        }
        load(nodes, edges)
    })
}

/// What a run shows whatever the order of its nodes: of each node its events in order, of edges what became of them, and
/// each node's status and values.
#[derive(Debug, PartialEq)]
struct Settled {
    end: End,
    per_node: BTreeMap<String, Vec<String>>,
    edges: Vec<String>,
    nodes: Vec<(String, Status, bool, Vec<serde_json::Value>)>,
    emitted: usize,
}

fn subject(event: &Event) -> (String, serde_json::Value) {
    let data: serde_json::Value = serde_json::from_str(&event.data).unwrap();
    let data = data["json"].clone();
    let id = data["node"]["id"].as_str().or(data["nodeId"].as_str()).or(data["serializedEdge"]["id"].as_str());
    (id.unwrap_or("").to_owned(), data)
}

fn settled(outcome: &Outcome, events: &[Event]) -> Settled {
    let mut per_node: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut edges = Vec::new();
    for event in events {
        let (id, data) = subject(event);
        let kind = event.kind.as_str();
        match event.kind {
            EventKind::EdgeTransferred | EventKind::EdgeFailed => edges.push(format!("{kind} {id}")),
            EventKind::NodeStatusChanged => {
                per_node.entry(id).or_default().push(format!("{}->{}", data["oldStatus"], data["newStatus"]))
            }
            _ => per_node.entry(id).or_default().push(kind.into()),
        }
    }
    edges.sort();
    let nodes = outcome.nodes.iter().map(|node| {
        (node.id.to_string(), node.status, node.ran, node.ports.iter().map(|(_, value)| value.to_json()).collect())
    });
    let nodes = nodes.collect();
    Settled { end: outcome.end.clone(), per_node, edges, nodes, emitted: outcome.emitted.len() }
}

/// Events are dense and in causal order, and no node runs twice.
fn check_history(flow: &Flow, outcome: &Outcome, events: &[Event]) -> Result<(), TestCaseError> {
    let mut started: HashMap<String, usize> = HashMap::new();
    let mut ended: HashMap<String, usize> = HashMap::new();
    let mut versions: HashMap<String, u64> = HashMap::new();
    for (position, event) in events.iter().enumerate() {
        prop_assert_eq!(event.index, position as i64);
        let (id, data) = subject(event);
        if let Some(version) = data["node"]["metadata"]["version"].as_u64() {
            prop_assert!(versions.insert(id.clone(), version).is_none_or(|before| before <= version), "{}", id);
        }
        match event.kind {
            EventKind::NodeStarted => {
                prop_assert!(started.insert(id.clone(), position).is_none(), "{} started twice", id);
            }
            EventKind::NodeCompleted | EventKind::NodeFailed | EventKind::NodeSkipped => {
                prop_assert!(ended.insert(id.clone(), position).is_none(), "{} ended twice", id);
            }
            EventKind::EdgeTransferred => {
                // What it brings was there: its source has ended before the target began, unless it gives early or the
                // target never waited for it.
                let edge = flow.edges.iter().find(|edge| edge.text.contains(&format!(r#""id":"{id}""#))).unwrap();
                let (from, to) = (&flow.nodes[edge.from.node], &flow.nodes[edge.to.node]);
                let early = &*from.type_name == "Brief";
                if let Some(begin) = started.get(&*to.id).filter(|_| !early) {
                    let end = ended.get(&*from.id);
                    prop_assert!(end.is_some_and(|end| end < begin), "{} began before {} ended", to.id, from.id);
                }
            }
            _ => {}
        }
    }
    for (id, end) in &ended {
        prop_assert!(started.get(id).is_none_or(|start| start < end));
    }
    for node in &outcome.nodes {
        let has_ended = ended.contains_key(&*node.id);
        prop_assert!(!has_ended || node.ran);
        if outcome.end == End::Completed {
            prop_assert_eq!(has_ended, node.ran, "{} began and has not ended", node.id);
        }
    }
    Ok(())
}

/// On a clock that jumps ahead when all wait.
fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap()
}

fn with_event(event: bool) -> RunContext {
    let event = event.then(|| crate::nodes::FlowEvent { name: "e".into(), payload: Value::empty_object() });
    RunContext { event, ..context() }
}

async fn play_with(flow: &Flow, limit: usize, context: RunContext) -> (Outcome, Vec<Event>) {
    let (sender, mut receiver) = mpsc::channel(8);
    let collecting = async {
        let mut events = Vec::new();
        while let Some(event) = receiver.recv().await {
            events.push(event);
        }
        events
    };
    let options = RunOptions { max_concurrency: limit, ..RunOptions::default() };
    let abort = Abort::new();
    let running = run(flow, &options, context, Vec::new(), sender, &abort);
    futures_util::future::join(running, collecting).await
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_outcome_does_not_depend_on_what_comes_first(flow in settled_flow(), event: bool, limit in 1..60_usize) {
        let (outcome, events) = runtime().block_on(play_with(&flow, 1, with_event(event)));
        check_history(&flow, &outcome, &events)?;
        let reference = settled(&outcome, &events);
        prop_assert_eq!(&reference.end, &End::Completed);
        let (outcome, events) = runtime().block_on(play_with(&flow, limit, with_event(event)));
        check_history(&flow, &outcome, &events)?;
        prop_assert_eq!(settled(&outcome, &events), reference);
    }

    #[test]
    fn nodes_run_at_most_once_and_all_that_begin_end(flow in wild_flow(), limit in 1..4_usize) {
        let (outcome, events) = runtime().block_on(play_with(&flow, limit, context()));
        prop_assert_eq!(&outcome.end, &End::Completed);
        check_wild(&outcome, &events)?;
        // Ready means run: a node stays only when one of its connected ports has no resolved source.
        for (index, node) in outcome.nodes.iter().enumerate() {
            let fed = flow.graph.links[index].targets.iter().all(|target| {
                flow.graph.targets[*target].edges.iter().any(|(_, source)| {
                    let port = &flow.graph.sources[*source];
                    match outcome.nodes[port.port.node].status {
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
    fn a_run_that_is_called_off_always_ends(
        flow in wild_flow(), after in 0..30_usize, pause in 0..40_u64, stubborn: bool, text: bool,
    ) {
        let flow = if stubborn { stubborn_too(&flow) } else { flow };
        let abort = Abort::new();
        let (sender, mut receiver) = mpsc::channel(1);
        let options = RunOptions::default();
        let context = context();
        let (outcome, events, took) = runtime().block_on(async {
            let running = run(&flow, &options, context, Vec::new(), sender, &abort);
            let aborted = std::cell::Cell::new(None);
            let calling = async {
                let mut events: Vec<Event> = Vec::new();
                while let Some(event) = receiver.recv().await {
                    events.push(event);
                    if events.len() == after {
                        tokio::time::sleep(Duration::from_millis(pause)).await;
                        aborted.set(Some(tokio::time::Instant::now()));
                        abort.abort(if text { AbortReason::from("now") } else { AbortReason::None });
                    }
                }
                events
            };
            // One that never ends by itself is called off whatever happens.
            let at_last = async {
                tokio::time::sleep(Duration::from_secs(60)).await;
                abort.abort("at last");
                std::future::pending::<()>().await
            };
            let both = futures_util::future::join(running, calling);
            tokio::select! {
                (outcome, events) = both => (outcome, events, aborted.get().map(|at| at.elapsed())),
                () = at_last => unreachable!("it waits for ever"),
            }
        });
        check_wild(&outcome, &events)?;
        let ends = [EventKind::FlowCompleted, EventKind::FlowCancelled, EventKind::FlowFailed];
        prop_assert_eq!(events.iter().filter(|event| ends.contains(&event.kind)).count(), 1);
        prop_assert!(took.is_none_or(|took| took <= GRACE + Duration::from_millis(100)), "took {took:?}");
        prop_assert_eq!(LINGERING.with(std::cell::Cell::get), 0, "a task outlived its run");
    }
}

/// The same flow with a node that never ends.
fn stubborn_too(flow: &Flow) -> Arc<Flow> {
    let mut nodes: Vec<_> = flow.nodes.iter().map(|known| node(&known.id, &known.type_name)).collect();
    nodes.push(node("stubborn", "Lingering"));
    load(nodes, Vec::new())
}

/// As [`check_history`], where several sources for a port make the order of ends no promise.
fn check_wild(outcome: &Outcome, events: &[Event]) -> Result<(), TestCaseError> {
    let loose: Vec<Event> = events.iter().filter(|event| event.kind != EventKind::EdgeTransferred).cloned().collect();
    prop_assert!(events.iter().enumerate().all(|(position, event)| event.index == position as i64));
    let renumbered = loose.into_iter().enumerate().map(|(index, event)| Event { index: index as i64, ..event });
    let nothing = load(Vec::new(), Vec::new());
    check_history(&nothing, outcome, &renumbered.collect::<Vec<_>>())
}
