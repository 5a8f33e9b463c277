//! What loading and running cost as flows and values grow: `cargo bench --bench engine`. Without a database; events are
//! received and dropped.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a bench prints, and stops at what must not be")]

mod shapes;

use std::time::{Duration, Instant};

use fireflow_worker::flow::engine::{self, Abort, End, RunOptions};
use fireflow_worker::flow::{Event, Flow};
use fireflow_worker::nodes::{Registry, RunContext};
use serde_json::{Value as Json, json};
use shapes::Shape;
use tokio::sync::mpsc;

/// How long each figure is measured, at least.
const AT_LEAST: Duration = Duration::from_millis(300);

fn main() {
    rustls::crypto::ring::default_provider().install_default().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (registry, context) = (Registry::standard(), RunContext::default());
    println!("microseconds a node; a small object goes through the flow\n");
    println!("{:<14}{:>8}{:>10}{:>10}{:>14}", "shape", "nodes", "load", "run", "bytes a node");
    let small = json!({"name": "gear", "sizes": [4, 6], "more": {"kept": true}});
    for shape in Shape::ALL {
        for count in [10, 100, 1_000, 10_000] {
            let stored = shape.flow(count, &small);
            let load = measure(|| drop(Flow::load(&stored, &registry).unwrap()));
            let flow = Flow::load(&stored, &registry).unwrap().flow;
            let mut bytes = 0;
            let run = measure(|| bytes = runtime.block_on(run(&flow, &context)));
            let each = |time: Duration| time.as_secs_f64() * 1e6 / count as f64;
            println!("{:<14}{count:>8}{:>10.2}{:>10.2}{:>14}", shape.name(), each(load), each(run), bytes / count);
        }
    }
    println!("\na chain of 20 nodes, by what goes through it\n");
    println!("{:<22}{:>14}{:>16}{:>14}", "value", "ms an edge", "event MB/edge", "MB/s");
    let text = |bytes: usize| Json::from("x".repeat(bytes));
    let list = |count: usize| Json::from((0..count).collect::<Vec<_>>());
    let values = [
        ("text of 1 kB", text(1_000)),
        ("text of 100 kB", text(100_000)),
        ("text of 10 MB", text(10_000_000)),
        ("text of 50 MB", text(50_000_000)),
        ("list of 100 numbers", list(100)),
        ("list of 10,000", list(10_000)),
        ("list of 1,000,000", list(1_000_000)),
    ];
    for (name, value) in values {
        const NODES: usize = 20;
        let flow = Flow::load(&Shape::Chain.flow(NODES, &value), &registry).unwrap().flow;
        let mut bytes = 0;
        let time = measure(|| bytes = runtime.block_on(run(&flow, &context)));
        let (each, megabytes) = (time.as_secs_f64() / NODES as f64, bytes as f64 / NODES as f64 / 1e6);
        println!("{name:<22}{:>14.3}{megabytes:>16.3}{:>14.0}", each * 1e3, megabytes / each);
    }
}

/// The mean time of as many calls as fit, one at least.
fn measure(mut call: impl FnMut()) -> Duration {
    call(); // memory and caches warm
    let (began, mut calls) = (Instant::now(), 0);
    while calls == 0 || began.elapsed() < AT_LEAST {
        call();
        calls += 1;
    }
    began.elapsed() / calls
}

/// Run a flow; the bytes of its events.
async fn run(flow: &Flow, context: &RunContext) -> usize {
    let (sender, mut receiver) = mpsc::channel::<Event>(256);
    let receiving = async {
        let mut bytes = 0;
        while let Some(event) = receiver.recv().await {
            bytes += event.data.len();
        }
        bytes
    };
    let (options, abort) = (RunOptions::default(), Abort::new());
    let running = engine::run(flow, &options, context.clone(), Vec::new(), sender, &abort);
    let (outcome, bytes) = futures_util::future::join(running, receiving).await;
    assert_eq!(outcome.end, End::Completed);
    bytes
}
