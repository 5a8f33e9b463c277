//! A run as it goes: a line for each node that ended, and on terminals what is at work.

use std::io::IsTerminal as _;
use std::time::Duration;

use indexmap::{IndexMap, IndexSet};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Map, Value as Json};

use super::brief;
use crate::cli::output;
use crate::flow::{Event, EventKind};

/// Nodes at work that are named.
const NAMED: usize = 4;
/// A line of a log or a message that is shown.
const LONGEST: usize = 300;

/// What is known of a node that had its turn.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub type_name: String,
    /// How long it worked, in milliseconds.
    pub time: Option<i64>,
    /// What its ports give.
    pub outputs: Map<String, Json>,
    /// Why it failed, or did not execute.
    pub why: Option<String>,
    pub logs: Vec<String>,
}

/// The display of one run.
pub(super) struct Show {
    bar: Option<ProgressBar>,
    coloured: bool,
    trace: bool,
    began: Option<i64>,
    count: usize,
    done: usize,
    running: IndexSet<String>,
    nodes: IndexMap<String, Seen>,
}

impl Show {
    pub fn new(count: usize, trace: bool) -> Show {
        let terminal = std::io::stderr().is_terminal();
        let bar = terminal.then(|| {
            let bar = ProgressBar::new_spinner();
            if let Ok(style) = ProgressStyle::with_template("{spinner} {wide_msg}") {
                bar.set_style(style);
            }
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        let coloured = terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let (running, nodes) = (IndexSet::new(), IndexMap::new());
        Show { bar, coloured, trace, began: None, count, done: 0, running, nodes }
    }

    /// Write a line, above what is at work.
    pub fn line(&self, text: &str) {
        let text: String = text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect();
        match &self.bar {
            Some(bar) => bar.println(text),
            None => output::note(text),
        }
    }

    /// Take an event in.
    pub fn event(&mut self, event: &Event) {
        let data: Json = serde_json::from_str(&event.data).unwrap_or_default();
        let data = data.get("json").unwrap_or(&Json::Null);
        if self.trace {
            let since = event.timestamp - *self.began.get_or_insert(event.timestamp);
            self.line(&format!("{:>4} {since:>6} ms  {}{}", event.index, event.kind.as_str(), detail(data)));
        }
        let text = |value: Option<&Json>| value.and_then(Json::as_str).unwrap_or_default().to_owned();
        let node = data.get("node");
        let id = text(node.and_then(|node| node.get("id")).or_else(|| data.get("nodeId")));
        match event.kind {
            EventKind::NodeStarted => {
                self.seen(&id, node);
                self.running.insert(id);
            }
            EventKind::NodeCompleted => {
                let time = data.get("executionTime").and_then(Json::as_i64);
                let seen = self.seen(&id, node);
                seen.time = time;
                seen.outputs = node.map(outputs).unwrap_or_default();
                let shown: Vec<String> =
                    seen.outputs.iter().map(|(name, value)| format!("{name} = {}", brief(value))).collect();
                self.ended("✓", "32", &id, &shown.join(", "));
            }
            EventKind::NodeFailed => {
                let why = text(data.get("error").and_then(|error| error.get("message")));
                let time = data.get("executionTime").and_then(Json::as_i64);
                let seen = self.seen(&id, node);
                (seen.time, seen.why) = (time, Some(why.clone()));
                self.ended("✗", "31", &id, &why);
            }
            EventKind::NodeSkipped => {
                let why = text(data.get("reason"));
                self.seen(&id, node).why = Some(why.clone());
                self.ended("–", "33", &id, &format!("skipped: {why}"));
            }
            EventKind::NodeLog => {
                let log = text(data.get("log"));
                self.line(&format!("  log {id}: {}", cut(&log)));
                self.seen(&id, node).logs.push(log);
            }
            _ => {}
        }
        self.tick();
    }

    fn seen(&mut self, id: &str, node: Option<&Json>) -> &mut Seen {
        let seen = self.nodes.entry(id.to_owned()).or_default();
        if let Some(name) = node.and_then(|node| node.get("type")).and_then(Json::as_str) {
            seen.type_name = name.to_owned();
        }
        seen
    }

    fn ended(&mut self, mark: &str, colour: &str, id: &str, what: &str) {
        self.running.shift_remove(id);
        self.done += 1;
        let mark = if self.coloured { format!("\u{1b}[{colour}m{mark}\u{1b}[0m") } else { mark.to_owned() };
        let seen = self.nodes.get(id);
        let type_name = seen.map(|seen| seen.type_name.as_str()).filter(|name| !name.is_empty());
        let type_name = type_name.map_or_else(String::new, |name| format!(" ({name})"));
        let time = seen.and_then(|seen| seen.time).map_or_else(String::new, |time| format!(" {time} ms"));
        let what = if what.is_empty() { String::new() } else { format!("  {}", cut(what)) };
        // The mark's colour is no control character of anybody's text, so the line is put together here.
        let plain: String = format!("{id}{type_name}{time}{what}")
            .chars()
            .map(|letter| if letter.is_control() { ' ' } else { letter })
            .collect();
        match &self.bar {
            Some(bar) => bar.println(format!("{mark} {plain}")),
            None => output::note(format!("{mark} {plain}")),
        }
    }

    fn tick(&self) {
        let Some(bar) = &self.bar else { return };
        let names: Vec<&str> = self.running.iter().take(NAMED).map(String::as_str).collect();
        let more = if self.running.len() > NAMED { ", …" } else { "" };
        bar.set_message(format!("{}/{}  {}{more}", self.done, self.count, names.join(", ")));
    }

    /// The run is over; what was seen of its nodes.
    pub fn end(self) -> IndexMap<String, Seen> {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        self.nodes
    }
}

/// What a node's ports give: its outputs; of nodes without any, what they pass on.
fn outputs(node: &Json) -> Map<String, Json> {
    let ports = || node.get("ports").and_then(Json::as_array).into_iter().flatten();
    let direction =
        |port: &Json| port.pointer("/config/direction").and_then(Json::as_str).unwrap_or_default().to_owned();
    let wanted = if ports().any(|port| direction(port) == "output") { "output" } else { "passthrough" };
    let given = ports().filter(|port| direction(port) == wanted).filter_map(|port| {
        let name = port.pointer("/config/id")?.as_str()?;
        Some((name.to_owned(), port.get("value")?.clone()))
    });
    given.collect()
}

/// What an event is about, in a few words.
fn detail(data: &Json) -> String {
    let text = |path: &str| data.pointer(path).and_then(Json::as_str);
    if let Some(edge) = data.get("serializedEdge") {
        let part = |key: &str| edge.get(key).and_then(Json::as_str).unwrap_or("?");
        let ends = (part("sourceNodeId"), part("sourcePortId"), part("targetNodeId"), part("targetPortId"));
        let why = text("/error/message").map_or_else(String::new, |why| format!(": {why}"));
        return format!("  {}.{} → {}.{}{why}", ends.0, ends.1, ends.2, ends.3);
    }
    let id = text("/node/id").or_else(|| text("/nodeId")).map_or_else(String::new, |id| format!("  {id}"));
    let change = text("/oldStatus").zip(text("/newStatus"));
    let change = change.map_or_else(String::new, |(old, new)| format!("  {old} → {new}"));
    let why = text("/error/message").or_else(|| text("/reason")).or_else(|| text("/log"));
    let why = why.map_or_else(String::new, |why| format!(": {}", cut(why)));
    format!("{id}{change}{why}")
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(LONGEST) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}
