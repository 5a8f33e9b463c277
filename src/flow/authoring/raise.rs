//! A stored flow as a file. What is written is lowered again and compared; where the short form says something else than
//! what is stored, the longer one is taken.

use std::collections::{BTreeSet, HashMap, HashSet};

use serde_json::{Map, Value as Json, json};

use super::describe::{self, plain_extras};
use super::equal::{Difference, What, differences};
use super::links::FRIENDLY;
use super::reference::is_name;
use super::{Syntax, layout, lower, write};
use crate::flow::model::{EXECUTE, Flow, Json as Object, Node, Port, PortRef, SYSTEM_PORTS, Status, Step};
use crate::flow::{LoadError, Value};
use crate::nodes::Registry;

/// A file, and what of the stored flow it doesn't say.
#[derive(Clone, Debug)]
pub struct Raised {
    /// The file's content.
    pub document: Object,
    /// What is lost, in words.
    pub losses: Vec<String>,
}

impl Raised {
    /// The file in YAML.
    pub fn yaml(&self) -> String {
        write::yaml(&self.document)
    }
}

/// What is written longer than it might be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Way {
    /// No typed inputs stand for the first nodes.
    Unfolded,
    /// The port's type is written out.
    Explicit,
    /// Its value is written out, also where it looks like the default.
    Valued,
    /// Its edges are listed, in place of standing in its value.
    Listed,
}

/// What is written longer, by node and port.
#[derive(Clone, Default)]
struct Ways(BTreeSet<(Way, usize, String)>);

/// Write a stored flow as a file.
///
/// # Errors
/// It can't be loaded at all.
pub fn raise(stored: &Json, registry: &Registry) -> Result<Raised, LoadError> {
    const PASSES: usize = 6;
    const TRIALS: usize = 64;
    let loaded = Flow::load(stored, registry)?;
    let flow = &loaded.flow;
    let mut losses: Vec<String> =
        loaded.problems.iter().filter(|problem| problem.kind.loses()).map(|problem| problem.to_string()).collect();
    let groups: Vec<Option<usize>> = flow.nodes.iter().map(|node| node.parent).collect();
    let between: Vec<_> = flow.edges.iter().map(|edge| (edge.from.node, edge.to.node)).collect();
    let raiser = Raiser {
        flow,
        metadata: metadata_by_id(stored),
        names: names(flow, stored),
        spots: layout::spots(&groups, &between),
    };
    let mut ways = Ways::default();
    let mut found = raiser.compare(&ways, registry);
    for _ in 0..PASSES {
        let Ok(differences) = &found else { break };
        if differences.is_empty() || !ways.learn(differences, flow.inputs.len()) {
            break;
        }
        found = raiser.compare(&ways, registry);
    }
    let same = |found: &Result<Vec<Difference>, _>| found.as_ref().is_ok_and(Vec::is_empty);
    if same(&found) {
        // What was written longer only because of something else may be short again.
        for way in ways.0.clone().iter().take(TRIALS) {
            let mut tried = ways.clone();
            tried.0.remove(way);
            if same(&raiser.compare(&tried, registry)) {
                ways = tried;
            }
        }
    }
    let document = raiser.document(&ways, &mut losses);
    losses.extend(match found {
        Ok(differences) => differences.iter().map(|difference| raiser.describe(difference)).collect(),
        Err(messages) => messages,
    });
    losses.dedup();
    Ok(Raised { document, losses })
}

impl Ways {
    fn has(&self, way: Way, node: usize, port: &str) -> bool {
        self.0.contains(&(way, node, port.to_owned()))
    }

    /// Write what differs in another way. False: there is none left.
    fn learn(&mut self, found: &[Difference], inputs: usize) -> bool {
        let before = self.0.len();
        for difference in found {
            let node = difference.node.unwrap_or(0);
            if node < inputs || difference.port.is_none() {
                self.0.insert((Way::Unfolded, 0, String::new()));
            }
            let Some(port) = &difference.port else { continue };
            let ways = match difference.what {
                What::Config => [Way::Explicit, Way::Explicit],
                What::Value => [Way::Valued, Way::Listed],
                _ => [Way::Listed, Way::Explicit],
            };
            if !self.0.insert((ways[0], node, port.clone())) {
                self.0.insert((ways[1], node, port.clone()));
            }
        }
        self.0.len() > before
    }
}

fn metadata_by_id(stored: &Json) -> HashMap<&str, &Object> {
    let mut found = HashMap::new();
    for node in stored.get("nodes").and_then(Json::as_array).into_iter().flatten() {
        if let (Some(id), Some(metadata)) = (node["id"].as_str(), node["metadata"].as_object()) {
            found.entry(id).or_insert(metadata);
        }
    }
    found
}

/// Names for nodes: their ids, where a person could have written them, else by their titles and types.
fn names(flow: &Flow, stored: &Json) -> Vec<String> {
    const RANDOM: usize = 16;
    let metadata = metadata_by_id(stored);
    let made = |id: &str| id.strip_prefix("NO").is_some_and(|rest| rest.len() == RANDOM);
    let mut taken: HashSet<String> =
        flow.nodes.iter().map(|node| &*node.id).filter(|id| is_name(id) && !made(id)).map(str::to_owned).collect();
    let mut name = |node: &Node| {
        if is_name(&node.id) && !made(&node.id) {
            return node.id.to_string();
        }
        let title = metadata.get(&*node.id).and_then(|metadata| metadata.get("title")?.as_str());
        let from = title.filter(|title| title.chars().any(char::is_alphanumeric)).unwrap_or(&node.type_name);
        let base = kebab(from.trim_end_matches("V2").trim_end_matches("Node"));
        let base = if base.is_empty() { "node".to_owned() } else { base };
        let free = |name: &String| !taken.contains(name);
        let numbered = (2..).map(|number| format!("{base}-{number}"));
        let name = std::iter::once(base.clone()).chain(numbered).find(free).unwrap_or(base);
        taken.insert(name.clone());
        name
    };
    flow.nodes.iter().map(&mut name).collect()
}

/// `HTTPRequest` as `http-request`.
fn kebab(text: &str) -> String {
    const LONGEST: usize = 40;
    let mut name = String::new();
    let mut before = ' ';
    let mut rest = text.chars().peekable();
    while let Some(character) = rest.next() {
        if character.is_alphanumeric() {
            let begins = character.is_uppercase()
                && (before.is_lowercase()
                    || before.is_uppercase() && rest.peek().is_some_and(|next| next.is_lowercase()));
            if !name.is_empty() && (begins || !before.is_alphanumeric()) {
                name.push('-');
            }
            name.extend(character.to_lowercase());
        }
        before = character;
    }
    name.chars().take(LONGEST).collect::<String>().trim_matches('-').to_owned()
}

struct Raiser<'a> {
    flow: &'a Flow,
    metadata: HashMap<&'a str, &'a Object>,
    names: Vec<String>,
    spots: Vec<layout::Spot>,
}

impl Raiser<'_> {
    /// What is different when the file is lowered again; or why it can't be.
    fn compare(&self, ways: &Ways, registry: &Registry) -> Result<Vec<Difference>, Vec<String>> {
        let text = write::yaml(&self.document(ways, &mut Vec::new()));
        let lowered = lower("", &text, Syntax::Yaml, registry);
        let lowered = lowered.map_err(|found| found.into_iter().map(|found| found.message).collect::<Vec<_>>())?;
        let again = Flow::load(&lowered.data, registry).map_err(|error| vec![error.to_string()])?;
        Ok(differences(self.flow, &again.flow))
    }

    fn document(&self, ways: &Ways, lost: &mut Vec<String>) -> Object {
        let flow = self.flow;
        let mut document = Object::new();
        document.insert("id".into(), flow.id().into());
        let metadata = flow.metadata();
        for (key, stored) in [
            ("name", "name"),
            ("description", "description"),
            ("tags", "tags"),
            ("owner", "ownerID"),
            ("parent", "parentId"),
        ] {
            let empty = |value: &Json| value == "" || value.as_array().is_some_and(Vec::is_empty) || value.is_null();
            let fits = |value: &Json| {
                if key == "tags" {
                    value.as_array().is_some_and(|tags| tags.iter().all(Json::is_string))
                } else {
                    value.is_string()
                }
            };
            if let Some(value) = metadata.get(stored).filter(|value| !empty(value) && fits(value)) {
                document.insert(key.into(), value.clone());
            }
        }
        const OWN: [&str; 14] = [
            "id",
            "name",
            "description",
            "tags",
            "ownerID",
            "parentId",
            "version",
            "schemaVersion",
            "inputs",
            "outputs",
            "createdAt",
            "updatedAt",
            "title",
            "pushed",
        ];
        let more: Object = metadata
            .iter()
            .filter(|(key, value)| !OWN.contains(&key.as_str()) && !value.is_null())
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        if !more.is_empty() {
            document.insert("metadata".into(), more.into());
        }
        let folded = if ways.has(Way::Unfolded, 0, "") { 0 } else { self.folded() };
        let described = |what: &str, name: &str| -> Option<Json> {
            metadata.get(what)?.get(name)?.get("description").filter(|text| text.is_string()).cloned()
        };
        let mut inputs = Object::new();
        for (index, (name, port)) in flow.inputs.iter().enumerate() {
            let entry = if index < folded { self.typed_input(port.node) } else { self.end(port).into() };
            inputs.insert(name.clone(), with_description(entry, described("inputs", name)));
        }
        if !inputs.is_empty() {
            document.insert("inputs".into(), inputs.into());
        }
        if let Some(outputs) = &flow.outputs {
            let entry = |(name, port): (&String, &PortRef)| {
                (name.clone(), with_description(self.end(port).into(), described("outputs", name)))
            };
            document.insert("outputs".into(), outputs.iter().map(entry).collect::<Map<_, _>>().into());
        }
        let mut listed = Vec::new();
        let mut nodes = Object::new();
        for index in folded..flow.nodes.len() {
            nodes.insert(self.names[index].clone(), self.node(index, ways, &mut listed, lost).into());
        }
        if !nodes.is_empty() {
            document.insert("nodes".into(), nodes.into());
        }
        // In the flow's order.
        listed.sort_by_key(|(position, _)| *position);
        if !listed.is_empty() {
            document.insert("edges".into(), listed.into_iter().map(|(_, edge)| edge).collect());
        }
        document
    }

    /// How many of the first inputs are value nodes that stand for nothing else.
    fn folded(&self) -> usize {
        let flow = self.flow;
        let fits = |(index, (name, port)): (usize, (&String, &PortRef))| {
            let node = &flow.nodes[index];
            let metadata = self.metadata.get(&*node.id);
            let plain = metadata.is_none_or(|metadata| {
                metadata.keys().all(|key| ["type", "category", "version", "ui"].contains(&key.as_str()))
            });
            port.node == index
                && port.path.is_empty()
                && *name == *node.id
                && self.names[index] == **name
                && plain
                && super::lower::VALUE_NODES
                    .iter()
                    .any(|(_, known, key)| *known == &*node.type_name && *key == &*port.config.key)
                && node.parent.is_none()
                && node.ports[EXECUTE].value.as_bool() == Some(true)
                && flow.edges.iter().all(|edge| edge.to.node != index)
        };
        let nodes = flow.nodes.len();
        flow.inputs.iter().enumerate().take(nodes).take_while(|entry| fits(*entry)).count()
    }

    fn typed_input(&self, index: usize) -> Json {
        let node = &self.flow.nodes[index];
        let known = super::lower::VALUE_NODES.iter().find(|(_, name, _)| *name == &*node.type_name);
        let Some((name, _, key)) = known else { return Json::Null };
        let port = node.port_index(key).map(|position| &node.ports[position]);
        let mut input = Object::new();
        input.insert("type".into(), (*name).into());
        if let Some(port) = port {
            if matches!(*name, "object" | "array") {
                if let Json::Object(described) = describe::config(&port.config.raw) {
                    input.insert("type".into(), described.into());
                }
            }
            if !matches!(port.value, Value::Undefined) {
                input.insert("default".into(), port.value.to_json());
            }
        }
        input.into()
    }

    fn node(&self, index: usize, ways: &Ways, listed: &mut Vec<(usize, Json)>, lost: &mut Vec<String>) -> Object {
        let node = &self.flow.nodes[index];
        let name = &self.names[index];
        let mut written = Object::new();
        written.insert("type".into(), (*node.type_name).into());
        if **name != *node.id {
            written.insert("id".into(), (*node.id).into());
        }
        self.head(index, &mut written, lost);
        if let Some(when) = self.when(index, ways, listed, lost) {
            written.insert("when".into(), when);
        }
        let (mut inputs, mut ports) = (Object::new(), Object::new());
        for (position, port) in node.ports.iter().enumerate().skip(SYSTEM_PORTS.len()) {
            let key = port.config.key.to_string();
            let class = node.node_type.and_then(|known| known.ports.iter().find(|spec| spec.key == key));
            let explicit = ways.has(Way::Explicit, index, &key) || (class.is_none());
            let mut declared = match (explicit, class) {
                (true, _) => describe::root(&port.config, class),
                (false, Some(spec)) => plain_extras(&port.config.raw, spec),
                (false, None) => Object::new(),
            };
            let gives_only = port.config.direction == crate::flow::model::Direction::Output;
            let value = self.value(port, class, ways.has(Way::Valued, index, &key));
            if matches!(port.value, Value::Undefined) && ways.has(Way::Valued, index, &key) {
                declared.insert("default".into(), Json::Null);
            }
            let inline = self.inputs_of(index, position, value, ways.has(Way::Listed, index, &key), listed);
            match inline {
                Some(value) if gives_only && !has_reference(&value) => {
                    declared.insert("value".into(), unescaped(value));
                }
                Some(value) => {
                    inputs.insert(key.clone(), value);
                }
                None => {}
            }
            if !declared.is_empty() {
                ports.insert(key, declared.into());
            }
        }
        for (key, part) in [("inputs", inputs), ("ports", ports)] {
            if !part.is_empty() {
                written.insert(key.into(), part.into());
            }
        }
        written
    }

    /// Title, group, place and the like.
    fn head(&self, index: usize, written: &mut Object, lost: &mut Vec<String>) {
        let node = &self.flow.nodes[index];
        let name = &self.names[index];
        let empty = Object::new();
        let metadata = self.metadata.get(&*node.id).copied().unwrap_or(&empty);
        let text = |key: &str| metadata.get(key).filter(|text| text.as_str().is_some_and(|text| !text.is_empty()));
        for key in ["title", "description"] {
            written.extend(text(key).map(|text| (key.to_owned(), text.clone())));
        }
        if let Some(tags) = metadata.get("tags").and_then(Json::as_array) {
            if !tags.is_empty() && tags.iter().all(Json::is_string) {
                written.insert("tags".into(), tags.clone().into());
            }
        }
        if *node.category != *node.node_type.map_or("", |known| known.category) {
            written.insert("category".into(), (*node.category).into());
        }
        if let Some(parent) = node.parent {
            written.insert("in".into(), self.names[parent].as_str().into());
        }
        if let Some(Json::Object(switches)) = metadata.get("flowPorts") {
            let plain = node.node_type.is_some_and(|known| known.disabled_auto_execution)
                && *switches == Object::from_iter([("disabledAutoExecution".to_owned(), true.into())]);
            if !plain {
                written.insert("flowPorts".into(), switches.clone().into());
            }
        }
        let ui = metadata.get("ui");
        let pair = |part: &str, x: &str, y: &str| {
            let part = ui?.get(part)?;
            let number = |key: &str| part.get(key)?.as_f64().and_then(super::yaml::json_number);
            Some(json!([number(x)?, number(y)?]))
        };
        // Where it would be put anyway needs no word.
        let spot = &self.spots[index];
        let usual = |pair: [f64; 2]| json!(pair.map(super::lower::number));
        let at = pair("position", "x", "y").filter(|at| *at != usual(spot.position));
        written.extend(at.map(|at| ("at".to_owned(), at)));
        let size = pair("dimensions", "width", "height").filter(|size| Some(size) != spot.size.map(usual).as_ref());
        written.extend(size.map(|size| ("size".to_owned(), size)));
        let looks = ui.and_then(Json::as_object).into_iter().flat_map(Map::keys);
        let looks: Vec<&str> =
            looks.map(String::as_str).filter(|key| !["position", "dimensions"].contains(key)).collect();
        if !looks.is_empty() {
            lost.push(format!("node {name}: looks in the editor (ui.{})", looks.join(", ui.")));
        }
        const OWN: [&str; 10] =
            ["type", "category", "title", "description", "tags", "version", "parentNodeId", "ui", "flowPorts", "id"];
        let more: Object = metadata
            .iter()
            .filter(|(key, value)| !OWN.contains(&key.as_str()) && !value.is_null())
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        if !more.is_empty() {
            written.insert("metadata".into(), more.into());
        }
        if !matches!(node.status, Status::Idle | Status::Initialized) {
            lost.push(format!("node {name}: the status {} that a run left", node.status));
        }
        let usual = [Value::Bool(true), Value::Bool(true), Value::Bool(false), Value::from("")];
        for system in 1..SYSTEM_PORTS.len() {
            let value = &node.ports[system].value;
            if value.to_json() != usual[system].to_json() {
                lost.push(format!("node {name}: the value of {} that a run left", SYSTEM_PORTS[system]));
            }
        }
    }

    fn when(&self, index: usize, ways: &Ways, listed: &mut Vec<(usize, Json)>, lost: &mut Vec<String>) -> Option<Json> {
        let execute = &self.flow.nodes[index].ports[EXECUTE].value;
        let runs = execute.as_bool();
        if runs.is_none() {
            lost.push(format!("node {}: no flag says whether it runs, which counts as false", self.names[index]));
        }
        let runs = runs.unwrap_or(false);
        let listed_only = ways.has(Way::Listed, index, SYSTEM_PORTS[EXECUTE]);
        let edges = self.inputs_of(index, EXECUTE, None, listed_only, listed);
        match (runs, edges) {
            (true, edges) => edges,
            (false, None) => Some(false.into()),
            (false, Some(Json::String(text))) => {
                let ends = text.split(" | ").map(|end| Json::from(end.trim_start_matches('$')));
                Some(json!({"$from": ends.collect::<Vec<_>>(), "$value": false}))
            }
            (false, Some(mut long)) => {
                long["$value"] = false.into();
                Some(long)
            }
        }
    }

    /// A root port's value as the file gives it; none where it follows by itself.
    fn value(&self, port: &Port, class: Option<&crate::nodes::PortSpec>, forced: bool) -> Option<Json> {
        if matches!(port.value, Value::Undefined) {
            return None;
        }
        let value = port.value.to_json();
        let default = class.and_then(|spec| serde_json::from_str::<Object>(spec.config).ok());
        let default = default.and_then(|config| config.get("defaultValue").cloned());
        let usual = match (&default, &value) {
            (Some(default), value) => default.to_string() == value.to_string(),
            (None, _) => false,
        };
        if usual && !forced { None } else { Some(value) }
    }

    /// What the file gives a root port: its value with edges in it. Edges that find no place there are listed.
    fn inputs_of(
        &self,
        index: usize,
        position: usize,
        value: Option<Json>,
        listed_only: bool,
        listed: &mut Vec<(usize, Json)>,
    ) -> Option<Json> {
        let edges: Vec<_> = self
            .flow
            .edges
            .iter()
            .enumerate()
            .filter(|(_, edge)| edge.to.node == index && edge.to.port == position)
            .collect();
        let literal = value.clone().map(escaped);
        let whole = edges.iter().filter(|(_, edge)| edge.to.path.is_empty()).count();
        let labelled = edges.iter().any(|(_, edge)| self.label(&edge.text).is_some());
        let mixed = whole > 0 && whole < edges.len();
        if edges.is_empty() {
            return literal;
        }
        let inline = if listed_only || mixed || labelled {
            None
        } else if whole > 0 {
            Some(self.from(edges.iter().map(|(_, edge)| &edge.from), value))
        } else {
            self.within(&edges.iter().map(|(_, edge)| *edge).collect::<Vec<_>>(), literal.clone())
        };
        if inline.is_some() {
            return inline;
        }
        for (at, edge) in edges {
            let (from, to) = (self.end(&edge.from), self.end(&edge.to));
            let label = self.label(&edge.text);
            let simple = label.is_none() && ![&from, &to].iter().any(|end| end.contains("->") || end.contains(' '));
            let entry = if simple { format!("{from} -> {to}").into() } else { json!({"from": from, "to": to}) };
            listed.push((
                at,
                match label {
                    Some(label) => json!({"from": entry["from"], "to": entry["to"], "label": label}),
                    None => entry,
                },
            ));
        }
        literal
    }

    fn label(&self, edge: &str) -> Option<String> {
        let edge: Json = serde_json::from_str(edge).ok()?;
        edge["metadata"]["label"].as_str().filter(|label| !label.is_empty()).map(str::to_owned)
    }

    /// Edges into a place, and what is stored there.
    fn from<'e>(&self, ends: impl Iterator<Item = &'e PortRef>, value: Option<Json>) -> Json {
        let ends: Vec<String> = ends.map(|end| self.end(end)).collect();
        let simple = !ends.iter().any(|end| end.contains('|') || end.contains(' '));
        match value {
            None if simple => ends.iter().map(|end| format!("${end}")).collect::<Vec<_>>().join(" | ").into(),
            None => json!({"$from": ends}),
            Some(value) if ends.len() == 1 => json!({"$from": ends[0], "$value": value}),
            Some(value) => json!({"$from": ends, "$value": value}),
        }
    }

    /// Edges into parts of a value, put into it. None: they don't fit.
    fn within(&self, edges: &[&crate::flow::model::Edge], literal: Option<Json>) -> Option<Json> {
        let first = &edges.first()?.to.path[0];
        let mut value = literal.unwrap_or_else(|| match first {
            Step::Key(_) => json!({}),
            Step::Index(_) => json!([]),
        });
        let mut places: Vec<(&[Step], Vec<&PortRef>)> = Vec::new();
        for edge in edges {
            match places.iter_mut().find(|(path, _)| **path == *edge.to.path) {
                Some((_, ends)) => ends.push(&edge.from),
                None => places.push((&edge.to.path, vec![&edge.from])),
            }
        }
        for (path, ends) in places {
            let mut place = &mut value;
            for step in path {
                place = match step {
                    Step::Key(key) => {
                        let fields = place.as_object_mut()?;
                        fields.entry(key.to_string()).or_insert(Json::Null)
                    }
                    Step::Index(at) => place.as_array_mut()?.get_mut(*at)?,
                };
                if place.is_null() && step != path.last()? {
                    *place = json!({});
                }
            }
            *place = self.from(ends.into_iter(), None);
        }
        Some(value)
    }

    /// A port as references name it.
    fn end(&self, port: &PortRef) -> String {
        let node = &self.flow.nodes[port.node];
        let mut text = format!("{}.", self.names[port.node]);
        let root = &*node.ports[port.port].config.id;
        let friendly = FRIENDLY.iter().find(|(name, system)| *system == root && node.port_index(name).is_none());
        text.push_str(friendly.map_or(root, |(name, _)| name));
        for step in &port.path {
            match step {
                Step::Key(key) => text.push_str(&format!(".{key}")),
                Step::Index(at) => text.push_str(&format!("[{at}]")),
            }
        }
        text
    }

    fn describe(&self, difference: &Difference) -> String {
        let what = match difference.what {
            What::Node => "its type, category, group or switches",
            What::Config => "its type",
            What::Value => "its value",
            What::Edges => "its edges",
            What::Inputs => "the flow's inputs",
            What::Outputs => "the flow's outputs",
            What::Metadata => "the flow's id, name or owner",
        };
        let node = difference.node.map(|node| format!("node {}", self.names[node]));
        let port = difference.port.as_ref().map(|port| format!("port {port}"));
        let place: Vec<String> = node.into_iter().chain(port).chain([what.to_owned()]).collect();
        place.join(": ")
    }
}

fn with_description(entry: Json, description: Option<Json>) -> Json {
    match (entry, description) {
        (entry, None) => entry,
        (Json::Object(mut entry), Some(text)) => {
            entry.insert("description".into(), text);
            entry.into()
        }
        (port, Some(text)) => json!({"port": port, "description": text}),
    }
}

/// A value in which `$` has no meaning, as a file writes it.
fn escaped(value: Json) -> Json {
    match value {
        Json::String(text) if text.starts_with('$') => format!("${text}").into(),
        Json::Array(items) => items.into_iter().map(escaped).collect(),
        Json::Object(fields) if fields.keys().any(|key| key.starts_with('$')) => json!({"$value": fields}),
        Json::Object(fields) => {
            fields.into_iter().map(|(key, value)| (key, escaped(value))).collect::<Map<_, _>>().into()
        }
        simple => simple,
    }
}

/// The reverse.
fn unescaped(value: Json) -> Json {
    match value {
        Json::String(text) if text.starts_with("$$") => text[1..].into(),
        Json::Array(items) => items.into_iter().map(unescaped).collect(),
        Json::Object(mut fields) if fields.contains_key("$value") => fields.remove("$value").unwrap_or_default(),
        Json::Object(fields) => {
            fields.into_iter().map(|(key, value)| (key, unescaped(value))).collect::<Map<_, _>>().into()
        }
        simple => simple,
    }
}

fn has_reference(value: &Json) -> bool {
    match value {
        Json::String(text) => super::reference::is_reference(text),
        Json::Array(items) => items.iter().any(has_reference),
        Json::Object(fields) => fields.contains_key("$from") || fields.values().any(has_reference),
        _ => false,
    }
}
