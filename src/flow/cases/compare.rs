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
    let mut comparison = Comparison { forms, ordered_requests, volatile: BTreeSet::new(), differences: Vec::new() };
    comparison.runs("", expected, found);
    comparison.differences
}

struct Comparison<'a> {
    forms: &'a [(String, String)],
    ordered_requests: bool,
    /// Paths that aren't compared, of the run and of its children.
    volatile: BTreeSet<String>,
    differences: Vec<Difference>,
}

/// Ports that hold measured milliseconds, and by how much they may be more than recorded: clocks are no promise.
const MEASURED: (&str, f64) = ("actualDuration", 100.0);

const NOTHING: JsonValue = JsonValue::Null;

/// Parts of a run that are compared value by value.
const PARTS: [&str; 6] = ["flowEvents", "emitted", "debugLogs", "failed", "outputs", "problems"];

impl Comparison<'_> {
    /// A run; `at` is empty, or where a child's part begins: `children/0/`.
    fn runs(&mut self, at: &str, expected: &JsonValue, found: &JsonValue) {
        self.volatile.extend(list(expected.get("volatile")).filter_map(JsonValue::as_str).map(|path| {
            // Children's parts are named with or without the step `expect`.
            format!("{at}{}", path.replace("/expect/", "/"))
        }));
        for part in PARTS {
            if let Some(expected) = expected.get(part) {
                self.values(&format!("{at}{part}"), expected, found.get(part).unwrap_or(&NOTHING));
            }
        }
        for part in ["edgesTransferred", "edgesFailed"] {
            if let Some(expected) = expected.get(part) {
                self.sets(&format!("{at}{part}"), expected, found.get(part).unwrap_or(&NOTHING));
            }
        }
        if expected.get("perNode").is_some() {
            self.events(at, expected, found);
        }
        if let Some(expected) = expected.get("nodes") {
            self.nodes(&format!("{at}nodes"), expected, &found["nodes"]);
        }
        if let Some(expected) = expected.get("httpRequests") {
            self.requests(&format!("{at}httpRequests"), expected, found.get("httpRequests").unwrap_or(&NOTHING));
        }
        if let Some(JsonValue::Array(children)) = expected.get("children") {
            self.children(&format!("{at}children"), children, found);
        }
    }

    fn children(&mut self, path: &str, expected: &[JsonValue], found: &JsonValue) {
        if self.volatile.contains(path) {
            return;
        }
        let seen: Vec<&JsonValue> = list(found.get("children")).collect();
        if seen.len() != expected.len() {
            self.differ(path, expected.len(), seen.len());
        }
        for (index, (expected, found)) in expected.iter().zip(seen).enumerate() {
            let path = format!("{path}/{index}");
            if self.volatile.contains(&path) {
                continue;
            }
            for part in ["event", "depth"] {
                if let Some(expected) = expected.get(part) {
                    self.values(&format!("{path}/{part}"), expected, &found[part]);
                }
            }
            if let Some(expected) = expected.get("expect") {
                self.runs(&format!("{path}/"), expected, &found["expect"]);
            }
        }
    }

    fn differ(&mut self, path: &str, expected: impl ToString, found: impl ToString) {
        self.differences.push(Difference::new(path, expected, found));
    }

    /// Lists whose order and repetitions don't count.
    fn sets(&mut self, path: &str, expected: &JsonValue, found: &JsonValue) {
        let set = |json: &JsonValue| list(Some(json)).map(JsonValue::to_string).collect::<BTreeSet<_>>();
        if !self.volatile.contains(path) && set(expected) != set(found) {
            self.differ(path, expected, found);
        }
    }

    /// Events by node. Of nodes that were at work when the run failed, those after the start are a matter of timing.
    fn events(&mut self, at: &str, expected: &JsonValue, found: &JsonValue) {
        let failed = expected.get("failed").and_then(JsonValue::as_bool).unwrap_or(false);
        let at_work: BTreeSet<String> = match failed {
            true => at_work(list(expected.get("observedOrder")).filter_map(JsonValue::as_str))
                .chain(list(found.get("atWork")).filter_map(JsonValue::as_str).map(str::to_owned))
                .collect(),
            false => BTreeSet::new(),
        };
        let (expected, found) = (&expected["perNode"], found.get("perNode").unwrap_or(&NOTHING));
        let place = format!("{at}perNode");
        if self.volatile.contains(&place) {
            return;
        }
        for node in keys(expected).union(&keys(found)) {
            let path = format!("{place}/{node}");
            if self.volatile.contains(&path) {
                continue;
            }
            let (expected, found) = (texts(&expected[node]), texts(&found[node]));
            let same_but_volatile = || {
                let mut pairs = expected.iter().zip(&found).enumerate();
                expected.len() == found.len()
                    && pairs.all(|(index, (a, b))| a == b || self.volatile.contains(&format!("{path}/{index}")))
            };
            let same_at_work = || at_work.contains(node) && until_started(&expected) == until_started(&found);
            if !same_but_volatile() && !same_at_work() {
                self.differ(&path, expected.join(", "), found.join(", "));
            }
        }
    }

    fn nodes(&mut self, at: &str, expected: &JsonValue, found: &JsonValue) {
        if self.volatile.contains(at) {
            return;
        }
        for node in keys(expected).union(&keys(found)) {
            let path = format!("{at}/{node}");
            if self.volatile.contains(&path) {
                continue;
            }
            let (Some(expected), Some(found)) = (expected.get(node), found.get(node)) else {
                let there = |json: &JsonValue| if json.get(node).is_some() { "a node" } else { "none" };
                self.differ(&path, there(expected), there(found));
                continue;
            };
            if let Some(expected) = expected.get("status") {
                self.values(&format!("{path}/status"), expected, &found["status"]);
            }
            if let Some(expected) = expected.get("ports") {
                self.ports(&format!("{path}/ports"), node, expected, found);
            }
        }
    }

    fn ports(&mut self, at: &str, node: &str, expected: &JsonValue, found: &JsonValue) {
        if self.volatile.contains(at) {
            return;
        }
        let touched: BTreeSet<&str> = list(found.get("touched")).filter_map(JsonValue::as_str).collect();
        let found = &found["ports"];
        for port in keys(expected).union(&keys(found)) {
            let path = format!("{at}/{port}");
            if self.volatile.contains(&path) || is_nested(port) && !touched.contains(port.as_str()) {
                continue;
            }
            let forms = self.forms.iter().filter(|(place, _)| *place == format!("{node}/{port}"));
            let forms: Vec<&str> = forms.map(|(_, form)| form.as_str()).collect();
            match (expected.get(port), found.get(port)) {
                (_, Some(found)) if !forms.is_empty() => {
                    let text = found.as_str().map_or_else(|| found.to_string(), str::to_owned);
                    for form in forms.into_iter().filter(|form| !is_match(form, &text)) {
                        self.differ(&path, format!("the form {form}"), &text);
                    }
                }
                (Some(expected), Some(found)) if port == MEASURED.0 && measured(expected, found) => {}
                (Some(expected), Some(found)) => self.values(&path, expected, found),
                (Some(expected), None) if is_undefined(expected) => {}
                (expected, found) => {
                    let text = |value: Option<&JsonValue>| value.map_or("no value".into(), JsonValue::to_string);
                    self.differ(&path, text(expected), text(found));
                }
            }
        }
    }

    /// Requests in order of arrival where nodes ran one at a time, else in any order.
    fn requests(&mut self, at: &str, expected: &JsonValue, found: &JsonValue) {
        if self.volatile.contains(at) {
            return;
        }
        // With the places that they have in the expectations.
        let requests = |json: &JsonValue| -> Vec<(String, JsonValue, usize)> {
            let requests = list(Some(json)).enumerate().map(|(index, one)| {
                let part = |key: &str| one.get(key).and_then(JsonValue::as_str).unwrap_or_default().to_owned();
                (format!("{} {} {}", part("method"), part("url"), part("body")), one["headers"].clone(), index)
            });
            let mut requests: Vec<_> = requests.collect();
            if !self.ordered_requests {
                requests.sort_by(|a, b| a.0.cmp(&b.0));
            }
            requests
        };
        let (expected, found) = (requests(expected), requests(found));
        let lines = |list: &[(String, JsonValue, usize)]| {
            list.iter().map(|(line, ..)| line.trim_end().to_owned()).collect::<Vec<_>>()
        };
        let is_volatile = |place: usize, part: &str| {
            let path = format!("{at}/{place}");
            self.volatile.contains(&path) || self.volatile.contains(&format!("{path}/{part}"))
        };
        let line_is_volatile =
            |place: usize| ["method", "url", "body"].into_iter().any(|part| is_volatile(place, part));
        let same = expected.len() == found.len()
            && expected.iter().zip(&found).all(|(a, b)| a.0 == b.0 || line_is_volatile(a.2));
        let mut differences = Vec::new();
        if !same {
            differences.push(Difference::new(at, lines(&expected).join("; "), lines(&found).join("; ")));
        }
        for ((line, expected, place), (_, found, _)) in expected.iter().zip(&found).filter(|_| same) {
            for (name, value) in expected.as_object().into_iter().flatten() {
                let volatile = is_volatile(*place, "headers") || is_volatile(*place, &format!("headers/{name}"));
                if found.get(name) != Some(value) && !volatile {
                    let path = format!("{at}/{line}/{name}");
                    differences.push(Difference::new(path, value, found.get(name).unwrap_or(&NOTHING)));
                }
            }
        }
        self.differences.append(&mut differences);
    }

    /// Values, exactly, but for marks and for what is volatile.
    fn values(&mut self, path: &str, expected: &JsonValue, found: &JsonValue) {
        if self.volatile.contains(path) {
            return;
        }
        let same = match (expected, found) {
            (JsonValue::Object(mark), found)
                if mark.contains_key("$errorText") || mark.contains_key("$containsErrorText") =>
            {
                found.as_str().is_some_and(|text| !text.is_empty())
            }
            (mark, JsonValue::Null) if is_undefined(mark) => true,
            (JsonValue::Number(expected), JsonValue::Number(found)) => expected.as_f64() == found.as_f64(),
            // Where a zero is recorded without its sign, both are meant.
            (JsonValue::Number(expected), found) if found.get("$number") == Some(&"-0".into()) => {
                expected.as_f64() == Some(0.0)
            }
            (JsonValue::Array(expected), JsonValue::Array(found)) if expected.len() == found.len() => {
                for (index, (expected, found)) in expected.iter().zip(found).enumerate() {
                    self.values(&format!("{path}/{index}"), expected, found);
                }
                true
            }
            (JsonValue::Object(wanted), JsonValue::Object(seen)) => {
                for (key, found) in seen {
                    let path = format!("{path}/{key}");
                    match wanted.get(key) {
                        Some(expected) => self.values(&path, expected, found),
                        None if self.volatile.contains(&path) => {}
                        None => self.differ(&path, "no value", found),
                    }
                }
                for (key, expected) in wanted.iter().filter(|(key, _)| !seen.contains_key(*key)) {
                    let path = format!("{path}/{key}");
                    if !self.volatile.contains(&path) && !is_undefined(expected) {
                        self.differ(&path, expected, "no value");
                    }
                }
                true
            }
            (expected, found) => expected == found,
        };
        if !same {
            self.differ(path, expected, found);
        }
    }
}

fn measured(expected: &JsonValue, found: &JsonValue) -> bool {
    let pair = expected.as_f64().zip(found.as_f64());
    pair.is_some_and(|(expected, found)| (expected - 2.0..=expected + MEASURED.1).contains(&found))
}

/// The mark for a value that is not there.
fn is_undefined(mark: &JsonValue) -> bool {
    mark.get("$undefined").is_some()
}

/// The nodes that were at work when the flow ended, from its events in order: `index event node`, as recorded.
pub(super) fn at_work<'a>(lines: impl Iterator<Item = &'a str>) -> impl Iterator<Item = String> {
    let mut at_work = BTreeSet::new();
    for line in lines {
        let mut words = line.splitn(3, ' ').skip(1);
        let (event, node) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        match event {
            "flow:failed" | "flow:cancelled" => break,
            "node:started" => {
                at_work.insert(node.to_owned());
            }
            "node:completed" | "node:failed" => {
                at_work.remove(node);
            }
            skipped if skipped.starts_with("node:skipped") => {
                at_work.remove(node);
            }
            _ => {}
        }
    }
    at_work.into_iter()
}

fn list(json: Option<&JsonValue>) -> impl Iterator<Item = &JsonValue> {
    json.and_then(JsonValue::as_array).into_iter().flatten()
}

fn keys(json: &JsonValue) -> BTreeSet<String> {
    json.as_object().into_iter().flat_map(|fields| fields.keys().cloned()).collect()
}

fn texts(json: &JsonValue) -> Vec<&str> {
    list(Some(json)).filter_map(JsonValue::as_str).collect()
}

fn until_started<'a>(events: &[&'a str]) -> Vec<&'a str> {
    let end = events.iter().position(|event| *event == "node:started").map_or(events.len(), |at| at + 1);
    events[..end].to_vec()
}

#[cfg(test)]
#[path = "compare_tests.rs"]
mod tests;
