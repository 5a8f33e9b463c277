//! `flow run`: run a flow here and now, without a database.

mod arguments;
mod report;
mod show;

use std::{path::PathBuf, process::ExitCode, sync::Arc, time::Duration};

use clap::Args;
use serde_json::{Map, Value as Json};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use self::report::{Ran, Report};
use self::show::Show;
use super::{findings, read};
use crate::cli::{exit, first, output};
use crate::flow::engine::{self, Abort, AbortReason, RunOptions};
use crate::flow::{Flow, Input, Value, validate};
use crate::nodes::{FlowEvent, Registry, RunContext};
use crate::worker::Shutdown;

/// Bad arguments, or a flow with errors.
const USAGE: u8 = 2;
/// Ctrl-C, by custom: 128 and the signal's number.
const INTERRUPTED: u8 = 130;

/// How deep events may start runs that emit events.
const DEEPEST: u32 = 20;
/// How many runs one command makes at most.
const MOST_RUNS: usize = 1000;
/// Events on their way to the display.
const EVENTS: usize = 64;

/// Run a flow here and now. No database is needed, and nothing is stored.
///
/// What happens is told on stderr; stdout gets the flow's outputs as a JSON object. Exit codes: 0 completed, 1 the flow or
/// a node failed, 2 wrong usage or errors in the flow, 130 interrupted.
#[derive(Debug, Args)]
pub struct Run {
    /// File with a flow
    file: PathBuf,
    /// Value for an input: NAME=VALUE, where VALUE is JSON or else a text, and @FILE reads it from a file; or an object
    /// with several: '{"NAME": VALUE}'
    #[arg(long = "input", short, value_name = "INPUT")]
    inputs: Vec<String>,
    /// Event that the run is started with, and its payload
    #[arg(long, value_name = "NAME[=JSON]")]
    event: Option<String>,
    /// Nodes that may be at work at once
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    max_concurrency: Option<u32>,
    /// Stop the run after this time: 500ms, 30s, 2m
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    timeout: Option<Duration>,
    /// Run the flow again for each event that it emits, as a worker does
    #[arg(long)]
    children: bool,
    /// Run a flow with errors as well
    #[arg(long)]
    no_validate: bool,
    /// Write all that is known of the run as JSON, with whole values
    #[arg(long)]
    json: bool,
    /// Tell every event of the run
    #[arg(long)]
    trace: bool,
}

/// A run that is to be made: the first one, or one for an emitted event.
struct Planned {
    event: Option<FlowEvent>,
    depth: u32,
}

impl Run {
    pub(super) async fn run(self) -> anyhow::Result<ExitCode> {
        let registry = Registry::standard();
        let file = read(&self.file, &registry)?;
        let checked = validate::check(&file, &registry);
        findings::print(&file.source, &checked, findings::Stream::Err);
        let Some(flow) = checked.flow.clone().filter(|_| self.no_validate || !checked.has_errors()) else {
            let found = findings::count(&checked.findings).unwrap_or_default();
            output::note(format!("error: {}: {found}; nothing was run", file.source.name()));
            return Ok(ExitCode::from(USAGE));
        };
        let bound = arguments::inputs(&self.inputs).and_then(|inputs| bind(&flow, &inputs));
        let event = self.event.as_deref().map(arguments::event).transpose();
        let (inputs, event) = match bound.and_then(|inputs| Ok((inputs, event?))) {
            Ok(given) => given,
            Err(error) => {
                let _ = exit::report(&error);
                return Ok(ExitCode::from(USAGE));
            }
        };
        let context = RunContext::default(); // with the HTTP client, which takes a moment
        let stop = Stop::new(self.timeout)?;
        let report = self.all_runs(&flow, &context, inputs, event, &stop).await;
        stop.end();
        if self.json {
            output::json(&report.json())?;
        } else if let Some(first) = report.runs.first() {
            output::json(&first.outcome.outputs)?;
        }
        report.tell(self.children);
        Ok(ExitCode::from(match (stop.interrupted(), report.failed()) {
            (true, _) => INTERRUPTED,
            (_, true) => exit::FAILURE,
            _ => 0,
        }))
    }

    /// The run, and those for its events, one after the other.
    async fn all_runs(
        &self,
        flow: &Arc<Flow>,
        context: &RunContext,
        inputs: Vec<Input>,
        event: Option<FlowEvent>,
        stop: &Stop,
    ) -> Report {
        let mut report = Report::default();
        let mut planned = std::collections::VecDeque::from([Planned { event, depth: 0 }]);
        let mut inputs = Some(inputs);
        while let Some(next) = planned.pop_front() {
            if stop.abort.token().is_cancelled() {
                report.not_run += 1;
                continue;
            }
            let depth = next.depth;
            let context = RunContext {
                execution_id: crate::cli::enqueue::execution_id().into(),
                event: next.event,
                depth,
                is_child: depth > 0,
                ..context.clone()
            };
            let ran = self.one_run(flow, context, inputs.take().unwrap_or_default(), stop).await;
            for emitted in ran.outcome.emitted.iter().filter(|_| self.children) {
                if depth >= DEEPEST || report.runs.len() + planned.len() + 1 >= MOST_RUNS {
                    report.not_run += 1;
                    continue;
                }
                let event = FlowEvent { name: emitted.name.clone(), payload: emitted.payload.clone() };
                planned.push_back(Planned { event: Some(event), depth: depth + 1 });
            }
            report.runs.push(ran);
        }
        report
    }

    async fn one_run(&self, flow: &Flow, context: RunContext, inputs: Vec<Input>, stop: &Stop) -> Ran {
        let mut options = RunOptions::default();
        if let Some(count) = self.max_concurrency {
            options.max_concurrency = usize::try_from(count).unwrap_or(usize::MAX);
        }
        let (event, depth) = (context.event.clone(), context.depth);
        let mut show = Show::new(flow.node_count(), self.trace);
        if let Some(event) = event.as_ref().filter(|_| depth > 0) {
            show.line(&format!("child for {:?}, depth {depth}", &*event.name));
        }
        let (sender, mut receiver) = mpsc::channel(EVENTS);
        let running = engine::run(flow, &options, context, inputs, sender, &stop.abort);
        let showing = async {
            while let Some(event) = receiver.recv().await {
                show.event(&event);
            }
        };
        let (outcome, ()) = futures_util::future::join(running, showing).await;
        let nodes = show.end();
        Ran { event, depth, outcome, nodes }
    }
}

fn bind(flow: &Flow, inputs: &Map<String, Json>) -> anyhow::Result<Vec<Input>> {
    flow.bind_inputs(inputs).map_err(|error| anyhow::anyhow!("--input: {error}"))
}

/// What ends a run early: the time limit, and signals.
struct Stop {
    abort: Abort,
    shutdown: Shutdown,
    over: CancellationToken,
}

impl Stop {
    fn new(limit: Option<Duration>) -> anyhow::Result<Stop> {
        let stop = Stop { abort: Abort::new(), shutdown: Shutdown::new(), over: CancellationToken::new() };
        let signals = stop.shutdown.obey_signals()?;
        first::signals_are_handled();
        let (abort, shutdown, over) = (stop.abort.clone(), stop.shutdown.clone(), stop.over.clone());
        let timer = async move {
            match limit {
                Some(limit) => tokio::time::sleep(limit).await,
                None => std::future::pending().await,
            }
        };
        tokio::spawn(async move {
            tokio::select! {
                () = over.cancelled() => {}
                () = signals => {}
                () = shutdown.draining() => abort.abort("interrupted"),
                () = timer => {
                    let limit = humantime::format_duration(limit.unwrap_or_default());
                    abort.abort(AbortReason::Error(format!("the time limit of {limit} is over")));
                }
            }
        });
        Ok(stop)
    }

    fn end(&self) {
        self.over.cancel();
    }

    fn interrupted(&self) -> bool {
        self.shutdown.is_draining()
    }
}

/// A value on one line, shortened.
fn brief(json: &Json) -> String {
    const LONGEST: usize = 72;
    // Long texts are cut before they are written out.
    let text = match json {
        Json::String(text) => Json::from(text.chars().take(LONGEST + 1).collect::<String>()).to_string(),
        other => other.to_string(),
    };
    match text.char_indices().nth(LONGEST) {
        Some((cut, _)) => format!("{}…", &text[..cut]),
        None => text,
    }
}

/// A value that a node emitted, as JSON.
fn payload(value: &Value) -> Json {
    value.to_json()
}
