//! The parts of a stored flow in a file's words.

use std::collections::HashMap;

use serde_json::{Map, Value as Json, json};

use super::describe::{self, plain_extras};
use super::layout;
use super::links::FRIENDLY;
use super::raise::{Way, Ways};
use crate::flow::Value;
use crate::flow::model::{Direction, EXECUTE, Edge, Flow, Json as Object, Port, PortRef, SYSTEM_PORTS, Status, Step};
use crate::nodes::PortSpec;

/// A flow, and what is needed to write it.
pub(super) struct Raiser<'a> {
    pub flow: &'a Flow,
    pub metadata: HashMap<&'a str, &'a Object>,
    pub names: Vec<String>,
    pub spots: Vec<layout::Spot>,
}

impl Raiser<'_> {
    /// The file's content, written in these ways; what it can't say is noted.
    pub fn document(&self, ways: &Ways, lost: &mut Vec<String>) -> Object {
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
            if let ("object" | "array", Json::Object(described)) = (*name, describe::config(&port.config.raw)) {
                input.insert("type".into(), described.into());
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
            let gives_only = port.config.direction == Direction::Output;
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
        let tags = metadata.get("tags").and_then(Json::as_array);
        if let Some(tags) = tags.filter(|tags| !tags.is_empty() && tags.iter().all(Json::is_string)) {
            written.insert("tags".into(), tags.clone().into());
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
    fn value(&self, port: &Port, class: Option<&PortSpec>, forced: bool) -> Option<Json> {
        if matches!(port.value, Value::Undefined) {
            return None;
        }
        let value = port.value.to_json();
        let default = class.and_then(|spec| serde_json::from_str::<Object>(spec.config).ok());
        let default = default.and_then(|config| config.get("defaultValue").cloned());
        // As texts: the order of fields counts.
        let usual = default.map(|default| default.to_string()) == Some(value.to_string());
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
    fn within(&self, edges: &[&Edge], literal: Option<Json>) -> Option<Json> {
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
