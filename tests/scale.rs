//! That the cost of a flow is in proportion to its size: counted in allocations, so that no clock has a say.
#![allow(clippy::unwrap_used, reason = "a test stops at what must not be")]

#[path = "../benches/shapes/mod.rs"]
mod shapes;

use std::alloc::System;

use fireflow_worker::flow::engine::{self, Abort, End, Outcome, RunOptions};
use fireflow_worker::flow::{Event, Flow, Status};
use fireflow_worker::nodes::{Registry, RunContext};
use serde_json::{Value as Json, json};
use shapes::Shape;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use tokio::sync::mpsc;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// How much was allocated.
#[derive(Clone, Copy, Debug)]
struct Cost {
    times: usize,
    bytes: usize,
}

fn cost<T>(work: impl FnOnce() -> T) -> (T, Cost) {
    let region = Region::new(ALLOCATOR);
    let done = work();
    let change = region.change();
    (done, Cost { times: change.allocations + change.reallocations, bytes: change.bytes_allocated })
}

struct Bench {
    runtime: tokio::runtime::Runtime,
    registry: Registry,
    context: RunContext,
}

impl Bench {
    fn new() -> Bench {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        Bench { runtime, registry: Registry::standard(), context: RunContext::default() }
    }

    /// Run a flow; the bytes of its events.
    fn run(&self, flow: &Flow) -> (Outcome, usize) {
        self.runtime.block_on(async {
            let (sender, mut receiver) = mpsc::channel::<Event>(256);
            let receiving = async {
                let mut bytes = 0;
                while let Some(event) = receiver.recv().await {
                    bytes += event.data.len();
                }
                bytes
            };
            let (options, abort) = (RunOptions::default(), Abort::new());
            let running = engine::run(flow, &options, self.context.clone(), Vec::new(), sender, &abort);
            futures_util::future::join(running, receiving).await
        })
    }

    /// What loading and running a flow cost, all of whose nodes complete.
    fn cost(&self, shape: Shape, count: usize) -> (Cost, Cost) {
        let stored = shape.flow(count, &json!({"name": "gear", "sizes": [4, 6]}));
        let (loaded, load) = cost(|| Flow::load(&stored, &self.registry).unwrap());
        assert!(loaded.problems.is_empty(), "{:?}", loaded.problems.first());
        let ((outcome, _), run) = cost(|| self.run(&loaded.flow));
        assert_eq!(outcome.end, End::Completed);
        assert!(outcome.nodes.iter().all(|node| node.status == Status::Completed), "{shape:?} of {count}");
        (load, run)
    }

    /// Bytes allocated for each byte of the events, when a value goes through a chain.
    fn copies(&self, value: &Json) -> f64 {
        let flow = Flow::load(&Shape::Chain.flow(20, value), &self.registry).unwrap().flow;
        let ((_, events), run) = cost(|| self.run(&flow));
        run.bytes as f64 / events as f64
    }
}

/// One test, since the counts are the process's.
#[test]
fn cost_is_in_proportion_to_size() {
    let bench = Bench::new();
    bench.cost(Shape::Chain, 10); // what is made once
    for shape in Shape::ALL {
        let (small_load, small_run) = bench.cost(shape, 300);
        let (large_load, large_run) = bench.cost(shape, 3_000);
        for (what, small, large) in [("load", small_load, large_load), ("run", small_run, large_run)] {
            // Ten times the nodes; lists that grow by doubling may be at another point of their growth.
            let in_proportion = |small: usize, large: usize| large <= small * 12;
            assert!(
                in_proportion(small.times, large.times),
                "{shape:?}, {what}: {small:?}, ten times as much {large:?}"
            );
            assert!(
                in_proportion(small.bytes, large.bytes),
                "{shape:?}, {what}: {small:?}, ten times as much {large:?}"
            );
        }
    }
    // A value is written into each event that shows it, and nowhere else: edges share it.
    let text = bench.copies(&"x".repeat(1_000_000).into());
    assert!(text < 1.2, "{text} bytes for each byte of events");
    // The text of a list grows by doubling; the list itself takes more room than its text.
    let list = bench.copies(&(0..100_000).collect::<Vec<_>>().into());
    assert!(list < 2.2, "{list} bytes for each byte of events");
}
