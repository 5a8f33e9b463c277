//! How runs ended: for people, and as JSON.

use indexmap::IndexMap;
use serde_json::{Value as Json, json};

use super::show::Seen;
use super::{brief, payload};
use crate::cli::output;
use crate::flow::Status;
use crate::flow::engine::{End, Outcome};
use crate::nodes::FlowEvent;

/// Names of nodes that are shown.
const NAMED: usize = 12;

/// A run that was made.
pub(super) struct Ran {
    pub event: Option<FlowEvent>,
    pub depth: u32,
    pub outcome: Outcome,
    pub nodes: IndexMap<String, Seen>,
}

/// All runs of a command, the first one first.
#[derive(Default)]
pub(super) struct Report {
    pub runs: Vec<Ran>,
    /// Events for which no run was made, since there were too many, or the command was stopped.
    pub not_run: usize,
}

impl Ran {
    fn failed_nodes(&self) -> Vec<&str> {
        let failed = self.outcome.nodes.iter().filter(|node| node.ran && node.status == Status::Error);
        failed.map(|node| &*node.id).collect()
    }

    fn failed(&self) -> bool {
        self.outcome.end != End::Completed || !self.failed_nodes().is_empty()
    }

    fn json(&self) -> Json {
        let (end, why) = match &self.outcome.end {
            End::Completed => ("completed", None),
            End::Failed { error } => ("failed", Some(error)),
            End::Cancelled { reason } => ("cancelled", Some(reason)),
        };
        let nodes = self.outcome.nodes.iter().map(|node| {
            let seen = self.nodes.get(&*node.id);
            json!({
                "id": &*node.id,
                "type": seen.map(|seen| &seen.type_name).filter(|name| !name.is_empty()),
                "status": node.status.as_str(),
                "ran": node.ran,
                "milliseconds": seen.and_then(|seen| seen.time),
                "outputs": seen.map(|seen| &seen.outputs),
                "why": seen.and_then(|seen| seen.why.as_ref()),
                "logs": seen.map(|seen| &seen.logs).filter(|logs| !logs.is_empty()),
            })
        });
        let event = self.event.as_ref();
        let event = event.map(|event| json!({"name": &*event.name, "payload": payload(&event.payload)}));
        let emitted = self.outcome.emitted.iter();
        let emitted =
            emitted.map(|event| json!({"name": &*event.name, "payload": payload(&event.payload), "by": &*event.by}));
        json!({
            "end": end,
            "why": why,
            "event": event,
            "depth": self.depth,
            "milliseconds": u64::try_from(self.outcome.duration.as_millis()).unwrap_or(u64::MAX),
            "outputs": self.outcome.outputs,
            "emitted": emitted.collect::<Vec<_>>(),
            "nodes": nodes.collect::<Vec<_>>(),
        })
    }

    fn tell(&self, children: bool) {
        for event in self.outcome.emitted.iter().filter(|_| !children || self.depth == 0) {
            let payload = brief(&payload(&event.payload));
            output::note(format!("emitted {:?} by {}: {payload}", &*event.name, event.by));
        }
        let took = self.outcome.duration.as_millis();
        let run = match &self.event {
            Some(event) if self.depth > 0 => format!("child for {:?}", &*event.name),
            _ => "flow".into(),
        };
        match &self.outcome.end {
            End::Completed => output::note(format!("{run} completed in {took} ms")),
            End::Failed { error } => output::note(format!("{run} failed after {took} ms: {error}")),
            End::Cancelled { reason } => output::note(format!("{run} cancelled after {took} ms: {reason}")),
        }
        let failed = self.failed_nodes();
        if !failed.is_empty() {
            output::note(format!("{} failed: {}", counted(failed.len()), named(&failed)));
        }
        if self.depth == 0 {
            let idle: Vec<&str> = self.outcome.nodes.iter().filter(|node| !node.ran).map(|node| &*node.id).collect();
            if !idle.is_empty() {
                output::note(format!("{} did not run: {}", counted(idle.len()), named(&idle)));
            }
        }
    }
}

impl Report {
    /// Whether a run or a node in one failed.
    pub fn failed(&self) -> bool {
        self.runs.iter().any(Ran::failed)
    }

    /// The first run, with the others as a list.
    pub fn json(&self) -> Json {
        let mut runs = self.runs.iter().map(Ran::json);
        let mut first = runs.next().unwrap_or_default();
        let children: Vec<Json> = runs.collect();
        if let Some(first) = first.as_object_mut() {
            first.insert("children".into(), children.into());
            first.insert("eventsNotRun".into(), self.not_run.into());
        }
        first
    }

    /// Say how it went, on stderr.
    pub fn tell(&self, children: bool) {
        self.runs.iter().for_each(|run| run.tell(children));
        let emitted = self.runs.first().map_or(0, |run| run.outcome.emitted.len());
        if emitted > 0 && !children {
            output::note("a worker would run the flow again for each emitted event; --children does it here");
        }
        if self.not_run > 0 {
            output::note(format!(
                "{} events got no run: they are too many, too deep, or the run was stopped",
                self.not_run
            ));
        }
    }
}

fn counted(count: usize) -> String {
    if count == 1 { "1 node".into() } else { format!("{count} nodes") }
}

fn named(names: &[&str]) -> String {
    let more = if names.len() > NAMED { ", …" } else { "" };
    format!("{}{more}", names[..names.len().min(NAMED)].join(", "))
}
