//! Comparing what a run showed with what is expected, by the rules of the recorded cases.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde_json::Value as JsonValue;

use crate::flow::Flow;
use crate::nodes::javascript::is_match;

/// Something that is not as expected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Where, as a path into the expectations.
    pub path: String,
    /// What is expected there.
    pub expected: String,
    /// What was seen.
    pub found: String,
}

impl Difference {
    pub(super) fn new(path: impl Into<String>, expected: impl ToString, found: impl ToString) -> Difference {
        Difference { path: path.into(), expected: expected.to_string(), found: found.to_string() }
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: expected {}, found {}", self.path, self.expected, self.found)
    }
}

/// The nested ports that edges touch, by node. Only these are compared.
pub(super) struct Touched(BTreeMap<String, BTreeSet<String>>);

impl Touched {
    /// Of a stored flow; older ports are named as they are once loaded.
    pub fn new(stored: &JsonValue, flow: &Flow) -> Touched {
        let mut touched: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for edge in stored.get("edges").and_then(JsonValue::as_array).into_iter().flatten() {
            for (node, port) in [("sourceNodeId", "sourcePortId"), ("targetNodeId", "targetPortId")] {
                let part = |key: &str| edge.get(key).and_then(JsonValue::as_str).unwrap_or_default();
                let (node, port) = (part(node), part(port));
                let port = without_suffixes(port);
                if is_nested(&port) && flow.port(node, &port).is_some() {
                    touched.entry(node.to_owned()).or_default().insert(port);
                }
            }
        }
        Touched(touched)
    }

    pub fn nested(&self, node: &str) -> impl Iterator<Item = &str> {
        self.0.get(node).into_iter().flatten().map(String::as_str)
    }
}

fn is_nested(port: &str) -> bool {
    port.contains(['.', '['])
}

/// A port's id without the random parts of the older form: `a:PO….b:PO…` is `a.b`.
fn without_suffixes(port: &str) -> String {
    port.split('.').map(|part| part.split(":PO").next().unwrap_or(part)).collect::<Vec<_>>().join(".")
}

/// The differences between what is expected and what was seen, children included.
pub(super) fn compare(
    expected: &JsonValue,
    found: &JsonValue,
    forms: &[(String, String)],
    ordered_requests: bool,
) -> Vec<Difference> {
    let mut comparison = Comparison { forms, ordered_requests, differences: Vec::new() };
    comparison.runs("", expected, found);
    comparison.differences
}

struct Comparison<'a> {
    forms: &'a [(String, String)],
    ordered_requests: bool,
    differences: Vec<Difference>,
}

/// Ports that hold measured milliseconds, and by how much they may be more than recorded: clocks are no promise.
const MEASURED: (&str, f64) = ("actualDuration", 100.0);

const NOTHING: JsonValue = JsonValue::Null;

impl Comparison<'_> {
    fn runs(&mut self, at: &str, expected: &JsonValue, found: &JsonValue) {
        let volatile: BTreeSet<&str> = expected
            .get("volatile")
            .and_then(JsonValue::as_array)
            .into_iter()
            .flatten()
            .filter_map(JsonValue::as_str)
            .collect();
        let parts =
            ["flowEvents", "edgesTransferred", "edgesFailed", "emitted", "debugLogs", "failed", "outputs", "problems"];
        for part in parts {
            if let Some(expected) = expected.get(part).filter(|_| !volatile.contains(part)) {
                self.values(&format!("{at}{part}"), part, expected, found.get(part).unwrap_or(&NOTHING), &volatile);
            }
        }
        let failed = expected.get("failed").and_then(JsonValue::as_bool).unwrap_or(false);
        if let Some(expected) = expected.get("perNode") {
            self.events(at, expected, &found["perNode"], failed, &volatile);
        }
        if let Some(expected) = expected.get("nodes") {
            self.nodes(at, expected, &found["nodes"], &volatile);
        }
        if let Some(expected) = expected.get("httpRequests") {
            self.requests(at, expected, found.get("httpRequests").unwrap_or(&NOTHING));
        }
        if let Some(JsonValue::Array(children)) = expected.get("children") {
            let empty = Vec::new();
            let seen = found.get("children").and_then(JsonValue::as_array).unwrap_or(&empty);
            if seen.len() != children.len() {
                let place = format!("{at}children");
                self.differences.push(Difference::new(place, children.len(), seen.len()));
            }
            for (index, (expected, found)) in children.iter().zip(seen).enumerate() {
                let place = format!("{at}children/{index}/");
                self.values(&format!("{place}event"), "", &expected["event"], &found["event"], &BTreeSet::new());
                self.values(&format!("{place}depth"), "", &expected["depth"], &found["depth"], &BTreeSet::new());
                self.runs(&place, &expected["expect"], &found["expect"]);
            }
        }
    }

    /// Events by node. Where the run failed, those of nodes that were still at work are a matter of timing.
    fn events(&mut self, at: &str, expected: &JsonValue, found: &JsonValue, failed: bool, volatile: &BTreeSet<&str>) {
        for node in keys(expected).union(&keys(found)) {
            let path = format!("perNode/{node}");
            if volatile.contains(path.as_str()) {
                continue;
            }
            let (expected, found) = (texts(&expected[node]), texts(&found[node]));
            let same = expected == found || (failed && until_started(&expected) == until_started(&found));
            if !same {
                self.differences.push(Difference::new(format!("{at}{path}"), expected.join(", "), found.join(", ")));
            }
        }
    }

    fn nodes(&mut self, at: &str, expected: &JsonValue, found: &JsonValue, volatile: &BTreeSet<&str>) {
        for node in keys(expected).union(&keys(found)) {
            let path = format!("nodes/{node}");
            if volatile.contains(path.as_str()) {
                continue;
            }
            let (Some(expected), Some(found)) = (expected.get(node), found.get(node)) else {
                let there = |json: &JsonValue| if json.get(node).is_some() { "a node" } else { "none" };
                self.differences.push(Difference::new(format!("{at}{path}"), there(expected), there(found)));
                continue;
            };
            let status = format!("{path}/status");
            self.values(&format!("{at}{status}"), &status, &expected["status"], &found["status"], volatile);
            let (expected, found) = (&expected["ports"], &found["ports"]);
            for port in keys(expected).union(&keys(found)) {
                // Nested ports that no edge touches are not looked at, and so not among what was found.
                if is_nested(port) && found.get(port).is_none() {
                    continue;
                }
                let place = format!("{path}/ports/{port}");
                match (expected.get(port), found.get(port)) {
                    (Some(_), Some(found)) if self.has_form(node, port) => self.form(at, &place, node, port, found),
                    (Some(expected), Some(found)) if port == MEASURED.0 && measured(expected, found) => {}
                    (Some(expected), Some(found)) => {
                        self.values(&format!("{at}{place}"), &place, expected, found, volatile);
                    }
                    (expected, found) if !volatile.contains(place.as_str()) => {
                        let text = |value: Option<&JsonValue>| value.map_or("no value".into(), JsonValue::to_string);
                        self.differences.push(Difference::new(format!("{at}{place}"), text(expected), text(found)));
                    }
                    _ => {}
                }
            }
        }
    }

    fn has_form(&self, node: &str, port: &str) -> bool {
        self.forms.iter().any(|(place, _)| *place == format!("{node}/{port}"))
    }

    fn form(&mut self, at: &str, path: &str, node: &str, port: &str, found: &JsonValue) {
        let text = found.as_str().map_or_else(|| found.to_string(), str::to_owned);
        for (_, form) in self.forms.iter().filter(|(place, _)| *place == format!("{node}/{port}")) {
            if !is_match(form, &text) {
                self.differences.push(Difference::new(format!("{at}{path}"), format!("the form {form}"), &text));
            }
        }
    }

    /// Requests in order of arrival where nodes ran one at a time, else in any order.
    fn requests(&mut self, at: &str, expected: &JsonValue, found: &JsonValue) {
        let list = |json: &JsonValue| -> Vec<(String, JsonValue)> {
            let mut list: Vec<_> = json
                .as_array()
                .into_iter()
                .flatten()
                .map(|one| (format!("{} {} {}", one["method"], one["url"], one["body"]), one["headers"].clone()))
                .collect();
            if !self.ordered_requests {
                list.sort_by(|a, b| a.0.cmp(&b.0));
            }
            list
        };
        let (expected, found) = (list(expected), list(found));
        let lines = |list: &[(String, JsonValue)]| list.iter().map(|(line, _)| line.clone()).collect::<Vec<_>>();
        if lines(&expected) != lines(&found) {
            let path = format!("{at}httpRequests");
            self.differences.push(Difference::new(path, lines(&expected).join("; "), lines(&found).join("; ")));
            return;
        }
        for ((line, expected), (_, found)) in expected.iter().zip(&found) {
            for (name, value) in expected.as_object().into_iter().flatten() {
                if found.get(name) != Some(value) {
                    let path = format!("{at}httpRequests/{line}/{name}");
                    self.differences.push(Difference::new(path, value, found.get(name).unwrap_or(&NOTHING)));
                }
            }
        }
    }

    /// Values, exactly, but for marks and for what is volatile. `place` is the path as volatile ones are named.
    fn values(&mut self, path: &str, place: &str, expected: &JsonValue, found: &JsonValue, volatile: &BTreeSet<&str>) {
        if volatile.contains(place) {
            return;
        }
        let same = match (expected, found) {
            (JsonValue::Object(mark), found) if mark.contains_key("$errorText") => {
                found.as_str().is_some_and(|text| !text.is_empty())
            }
            (JsonValue::Object(mark), found) if mark.contains_key("$containsErrorText") => {
                found.as_str().is_some_and(|text| !text.is_empty())
            }
            (JsonValue::Number(expected), JsonValue::Number(found)) => expected.as_f64() == found.as_f64(),
            (JsonValue::Array(expected), JsonValue::Array(found)) if expected.len() == found.len() => {
                for (index, (expected, found)) in expected.iter().zip(found).enumerate() {
                    let (path, place) = (format!("{path}/{index}"), format!("{place}/{index}"));
                    self.values(&path, &place, expected, found, volatile);
                }
                true
            }
            (JsonValue::Object(wanted), JsonValue::Object(seen)) if wanted.keys().all(|key| seen.contains_key(key)) => {
                for (key, found) in seen {
                    let (path, place) = (format!("{path}/{key}"), format!("{place}/{key}"));
                    match wanted.get(key) {
                        Some(expected) => self.values(&path, &place, expected, found, volatile),
                        None => self.differences.push(Difference::new(path, "no value", found)),
                    }
                }
                true
            }
            (expected, found) => expected == found,
        };
        if !same {
            self.differences.push(Difference::new(path, expected, found));
        }
    }
}

fn measured(expected: &JsonValue, found: &JsonValue) -> bool {
    let pair = expected.as_f64().zip(found.as_f64());
    pair.is_some_and(|(expected, found)| (expected - 2.0..=expected + MEASURED.1).contains(&found))
}

fn keys(json: &JsonValue) -> BTreeSet<String> {
    json.as_object().into_iter().flat_map(|fields| fields.keys().cloned()).collect()
}

fn texts(json: &JsonValue) -> Vec<&str> {
    json.as_array().into_iter().flatten().filter_map(JsonValue::as_str).collect()
}

fn until_started<'a>(events: &[&'a str]) -> Vec<&'a str> {
    let end = events.iter().position(|event| *event == "node:started").map_or(events.len(), |at| at + 1);
    events[..end].to_vec()
}
