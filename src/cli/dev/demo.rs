//! `dev --demo`: an execution of every example flow, followed by its event stream, and compared with what is expected.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Deserialize;
use serde_json::{Map, Value as Json};

use super::examples::DEMO;
use crate::{
    cli::{enqueue, output},
    config::Settings,
    sysdb::{SystemDatabase, WorkflowId},
};

/// Longest time for one execution; the longest example takes half a second.
const PATIENCE: Duration = Duration::from_secs(60);
/// Pause between looks at the stream.
const LOOK: Duration = Duration::from_millis(50);
/// An expected value that only has to be there: error texts are free.
const ANY: &str = "{any}";

/// One run of the demo.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    flow: String,
    inputs: Map<String, Json>,
    outputs: Map<String, Json>,
}

/// Run all of them side by side; false when one didn't come as expected.
pub(super) async fn run(settings: &Settings, sysdb: &SystemDatabase, admin: Option<&str>) -> anyhow::Result<bool> {
    let text = DEMO.replace("{queue}", &settings.queue.first().name).replace("{admin}", admin.unwrap_or_default());
    let cases: Vec<Case> = serde_json::from_str(&text).context("examples/demo.json")?;
    output::note(format!("running {} executions of the example flows", cases.len()));
    let screen = MultiProgress::with_draw_target(ProgressDrawTarget::stderr());
    let style = ProgressStyle::with_template("{spinner} {prefix:16} {msg}")
        .unwrap_or_else(|_| ProgressStyle::default_spinner());
    let runs = cases.iter().map(|case| {
        let bar = screen.add(ProgressBar::new_spinner().with_style(style.clone()).with_prefix(case.flow.clone()));
        follow(settings, sysdb, case, bar)
    });
    let ended = futures_util::future::join_all(runs).await;
    screen.clear().ok();
    let mut good = 0;
    for (case, ended) in cases.iter().zip(ended) {
        let ended = ended.with_context(|| case.flow.clone())?;
        good += usize::from(show(case, &ended));
    }
    output::line(match good == cases.len() {
        true => format!("\nall {good} executions ended as expected"),
        false => format!("\n{} of {} executions did not end as expected", cases.len() - good, cases.len()),
    });
    Ok(good == cases.len())
}

struct Ended {
    id: WorkflowId,
    took: Duration,
    events: usize,
    outcome: Result<Json, String>,
}

async fn follow(settings: &Settings, sysdb: &SystemDatabase, case: &Case, bar: ProgressBar) -> anyhow::Result<Ended> {
    let id = WorkflowId::new(enqueue::execution_id());
    let began = Instant::now();
    enqueue::enqueue(settings, sysdb, &id, &case.flow, case.inputs.clone()).await?;
    bar.set_message("waiting in the queue");
    let mut events = 0;
    loop {
        let view = sysdb.workflow(&id).await?;
        let new = sysdb.stream(&id, "events", i32::try_from(events).unwrap_or(i32::MAX)).await?;
        events += new.len();
        if let Some(event) = new.last() {
            bar.set_message(describe(event));
        }
        match view {
            Some(view) if view.has_ended() => {
                bar.finish_with_message("done");
                return Ok(Ended { id, took: began.elapsed(), events, outcome: enqueue::outcome(&view) });
            }
            _ if began.elapsed() > PATIENCE => bail!("execution {id} didn't end within {PATIENCE:?}"),
            _ => {
                bar.tick();
                tokio::time::sleep(LOOK).await;
            }
        }
    }
}

/// A stream value in a few words: what happened, and to which node.
fn describe(event: &str) -> String {
    let event: Json = serde_json::from_str(event).unwrap_or_default();
    let kind = event.pointer("/event/type").and_then(Json::as_str).unwrap_or_default();
    let node =
        ["/event/data/json/node/id", "/event/data/json/nodeId"].iter().find_map(|path| event.pointer(path)?.as_str());
    format!("{kind} {}", node.unwrap_or_default()).trim_end().to_owned()
}

/// Show one result; false when it isn't the expected one.
fn show(case: &Case, ended: &Ended) -> bool {
    let outputs = match &ended.outcome {
        Ok(result) => result.get("outputs").and_then(Json::as_object).cloned().unwrap_or_default(),
        Err(_) => Map::new(),
    };
    let matches = |expected: &Json, found: &Json| expected == ANY || expected == found;
    let expected = ended.outcome.is_ok()
        && outputs.len() == case.outputs.len()
        && case.outputs.iter().all(|(name, value)| outputs.get(name).is_some_and(|found| matches(value, found)));
    let mark = if expected { "✓" } else { "✗" };
    let inputs = Json::Object(case.inputs.clone());
    output::line(format!("\n{mark} {} {}", case.flow, shorten(&inputs.to_string())));
    output::line(format!("    execution {}, {} events, {} ms", ended.id, ended.events, ended.took.as_millis()));
    for (name, value) in &outputs {
        output::line(format!("    {name} = {}", shorten(&value.to_string())));
    }
    if let Err(error) = &ended.outcome {
        output::line(format!("    error: {error}"));
    }
    if !expected {
        output::line(format!("    expected: {}", Json::Object(case.outputs.clone())));
    }
    expected
}

fn shorten(text: &str) -> String {
    const WIDTH: usize = 100;
    match text.char_indices().nth(WIDTH) {
        Some((cut, _)) => format!("{}…", &text[..cut]),
        None => text.to_owned(),
    }
}
