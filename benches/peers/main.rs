//! The worker beside DBOS's own SDKs, on the same PostgreSQL: `cargo bench --bench peers`. Prints tables with ratios;
//! docs/performance.md explains them.
//!
//!   --quick            a tenth of the rows, to see that it works
//!   --only NAMES       ours, typescript, rust, python, with commas between them
//!   --statements       which statements took the server's time
//!   --measure NAMES    throughput, latency, idle, start, crash, takeover, fleets, flows, floors; growth, which takes long, only if
//!                      named
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a bench prints, and stops at what must not be")]

mod contender;
mod floors;
mod flows;
mod growth;
mod measure;
mod process;
mod report;
mod rows;
mod server;
#[allow(dead_code, reason = "the tests use more of it")]
#[path = "../../tests/interop/setup.rs"]
mod setup;
#[path = "../shapes/mod.rs"]
mod shapes;

use contender::Contender;
use measure::Load;
use report::Report;
use server::Bench;

/// What to measure, and how much of it.
struct Plan {
    contenders: Vec<Contender>,
    measures: Vec<String>,
    scale: usize,
}

impl Plan {
    fn of_arguments() -> Plan {
        let arguments: Vec<String> = std::env::args().collect();
        let list = |flag: &str, all: &str| {
            let place = arguments.iter().position(|argument| argument == flag);
            let text = place.and_then(|place| arguments.get(place + 1)).map_or(all, String::as_str);
            text.split(',').map(str::to_owned).collect::<Vec<_>>()
        };
        let names = list("--only", "ours,typescript,rust,python");
        let contenders = Contender::ALL.into_iter().filter(|one| names.iter().any(|name| name == one.name())).collect();
        let measures = list("--measure", "throughput,latency,idle,start,crash,takeover,fleets,flows,floors");
        Plan { contenders, measures, scale: if arguments.iter().any(|it| it == "--quick") { 10 } else { 1 } }
    }

    fn has(&self, measure: &str) -> bool {
        self.measures.iter().any(|name| name == measure)
    }
}

#[tokio::main]
async fn main() {
    let plan = Plan::of_arguments();
    let bench = Bench::start().await;
    let mut report = Report::default();
    for &contender in &plan.contenders {
        let Some(mut stage) = bench.stage(contender).await else { continue };
        stage.history(20_000 / plan.scale).await;
        if plan.has("throughput") {
            for load in Load::ALL {
                eprintln!("{}: {}", contender.name(), load.name());
                report.add(contender, load.name(), measure::throughput(&mut stage, load, plan.scale).await);
            }
        }
        if plan.has("latency") {
            for poll in contender.polls() {
                eprintln!("{}: latency, {}", contender.name(), poll.name);
                report.add(
                    contender,
                    &format!("latency, {}", poll.name),
                    measure::latency(&mut stage, "pattern-steps", poll, plan.scale).await,
                );
            }
        }
        if plan.has("idle") {
            for poll in contender.polls() {
                eprintln!("{}: idle, {}", contender.name(), poll.name);
                report.add(contender, &format!("idle, {}", poll.name), measure::idle(&mut stage, poll).await);
            }
        }
        if plan.has("start") {
            report.add(contender, "start", measure::start(&mut stage).await);
        }
        if plan.has("crash") {
            report.add(contender, "crash", measure::crash(&mut stage).await);
        }
        if contender == Contender::Ours && plan.has("takeover") {
            report.add(contender, "takeover", measure::takeover(&mut stage).await);
        }
        if contender == Contender::Ours && plan.has("flows") {
            flows::measure(&mut stage, plan.scale, &mut report).await;
        }
        if contender == Contender::Ours && plan.has("fleets") {
            growth::fleets(&mut stage, plan.scale, &mut report).await;
        }
        if contender == Contender::Ours && plan.has("growth") {
            growth::measure(&mut stage, plan.scale, &mut report).await;
        }
    }
    if plan.has("floors") {
        floors::measure(&bench, plan.scale, &mut report).await;
    }
    report.print();
}
