//! A flow as its file says it: what stands where, before anything is looked up.

use serde_json::Value as Json;

use super::reading::Reading;
use super::reference::{self, End};
use super::tree::{Kind, Span, Spanned, Tree};
use super::types::{self, Declared};
use crate::flow::model::Json as Object;

pub(super) const TOP_KEYS: [&str; 12] = [
    "id",
    "name",
    "description",
    "tags",
    "owner",
    "parent",
    "version",
    "metadata",
    "inputs",
    "outputs",
    "nodes",
    "edges",
];
pub(super) const NODE_KEYS: [&str; 14] = [
    "type",
    "inputs",
    "when",
    "title",
    "description",
    "in",
    "ports",
    "id",
    "category",
    "tags",
    "at",
    "size",
    "flowPorts",
    "metadata",
];
const INPUT_KEYS: [&str; 5] = ["port", "type", "default", "description", "fields"];
const OUTPUT_KEYS: [&str; 2] = ["port", "description"];
const EDGE_KEYS: [&str; 3] = ["from", "to", "label"];

/// A flow.
pub(super) struct Document<'t> {
    pub id: Spanned,
    pub name: Option<Spanned>,
    /// The version of the stored flow that the file was made from.
    pub version: Option<(i32, Span)>,
    /// What the metadata takes over: description, tags, owner and so on.
    pub metadata: Object,
    pub inputs: Vec<Input<'t>>,
    /// None: the flow declares no outputs.
    pub outputs: Option<Vec<Output>>,
    pub nodes: Vec<Node<'t>>,
    pub edges: Vec<Edge>,
}

/// An input of the flow.
pub(super) struct Input<'t> {
    pub name: Spanned,
    /// Where it goes; none: to a value node of its own.
    pub port: Option<End>,
    /// Type of the value node.
    pub declared: Option<Declared<'t>>,
    pub default: Option<&'t Tree>,
    pub description: Option<Spanned>,
    pub span: Span,
    /// The value node that was made for it.
    pub own: Option<usize>,
}

/// An output of the flow.
pub(super) struct Output {
    pub name: Spanned,
    pub port: End,
    pub description: Option<Spanned>,
}

/// A node.
pub(super) struct Node<'t> {
    pub name: Spanned,
    pub id: Spanned,
    pub type_name: Spanned,
    pub group: Option<Spanned>,
    pub when: Option<&'t Tree>,
    pub inputs: Vec<(Spanned, &'t Tree)>,
    pub ports: Vec<(Spanned, Declared<'t>)>,
    /// What the node's metadata takes over: title, tags and so on.
    pub metadata: Object,
    pub at: Option<[f64; 2]>,
    pub size: Option<[f64; 2]>,
}

/// An edge that stands by itself.
pub(super) struct Edge {
    pub from: End,
    pub to: End,
    pub label: Option<Spanned>,
    pub span: Span,
}

/// Read a file's tree. Findings tell whether it can be relied on.
pub(super) fn read<'t>(tree: &'t Tree, reading: &mut Reading) -> Document<'t> {
    let entries = match &tree.kind {
        Kind::Map(entries) => entries.as_slice(),
        _ => {
            reading.wrong("a flow: a map with `id` and `nodes`", tree);
            &[]
        }
    };
    if entries.iter().any(|(key, value)| key.text == "nodes" && matches!(value.kind, Kind::List(_))) {
        let nodes = tree.get("nodes").map_or(&tree.span, |nodes| &nodes.span);
        let hint = "in a file of this form `nodes` is a map of names; a flow in the stored form is a .json file";
        reading.hint("wrong-kind", "this must be a map of nodes by name, and is a list", nodes, hint);
        let nothing = Spanned { text: String::new(), span: 0..0 };
        return Document {
            id: nothing,
            name: None,
            version: None,
            metadata: Object::new(),
            inputs: Vec::new(),
            outputs: None,
            nodes: Vec::new(),
            edges: Vec::new(),
        };
    }
    reading.known_keys(entries, &TOP_KEYS, "a flow");
    let id = reading.text_of(tree, "id").filter(|id| !id.text.trim().is_empty());
    if id.is_none() && tree.as_map().is_some() {
        reading.hint("missing-id", "the flow has no id", &(0..0), "begin the file with `id: my-flow`");
    }
    let mut metadata = Object::new();
    for (key, stored) in [("description", "description"), ("owner", "ownerID"), ("parent", "parentId")] {
        if let Some(text) = reading.text_of(tree, key) {
            metadata.insert(stored.into(), text.text.into());
        }
    }
    if let Some(tags) = tags(tree, reading) {
        metadata.insert("tags".into(), tags);
    }
    for (key, value) in reading.map_of(tree, "metadata", "a map").unwrap_or_default() {
        metadata.insert(key.text.clone(), value.to_json());
    }
    Document {
        id: id.unwrap_or(Spanned { text: String::new(), span: 0..0 }),
        name: reading.text_of(tree, "name"),
        version: version(tree, reading),
        metadata,
        inputs: inputs(tree, reading),
        outputs: outputs(tree, reading),
        nodes: nodes(tree, reading),
        edges: edges(tree, reading),
    }
}

fn tags(tree: &Tree, reading: &mut Reading) -> Option<Json> {
    let tags = tree.get("tags")?;
    match &tags.kind {
        Kind::List(items) if items.iter().all(|item| item.as_text().is_some()) => Some(tags.to_json()),
        _ => {
            reading.wrong("a list of texts", tags);
            None
        }
    }
}

fn version(tree: &Tree, reading: &mut Reading) -> Option<(i32, Span)> {
    let version = tree.get("version")?;
    let number = match &version.kind {
        Kind::Number(number) => number.as_i64().and_then(|number| i32::try_from(number).ok()),
        _ => None,
    };
    let number = number.filter(|number| *number > 0);
    if number.is_none() {
        reading.error(
            "wrong-kind",
            "`version` is the stored version that the file was made from, a number from 1",
            &version.span,
        );
    }
    Some((number?, version.span.clone()))
}

fn inputs<'t>(tree: &'t Tree, reading: &mut Reading) -> Vec<Input<'t>> {
    let entries = reading.map_of(tree, "inputs", "a map of inputs: `name: node.port`").unwrap_or_default();
    let mut inputs = Vec::with_capacity(entries.len());
    for (name, value) in entries {
        let mut input = Input {
            name: name.clone(),
            port: None,
            declared: None,
            default: None,
            description: None,
            span: value.span.clone(),
            own: None,
        };
        match &value.kind {
            Kind::Text(_) => input.port = whole_end(value, reading),
            Kind::Map(entries) => {
                reading.known_keys(entries, &INPUT_KEYS, "an input");
                input.port = value.get("port").and_then(|port| whole_end(port, reading));
                input.default = value.get("default");
                input.description = reading.text_of(value, "description");
                match (value.get("port"), value.get("type").or(value.get("fields"))) {
                    (None, Some(_)) => input.declared = Some(types::input(value, reading)),
                    (Some(_), Some(extra)) => {
                        let message = "an input has a `port`, or a `type` and a node of its own, not both";
                        reading.error("bad-input", message, &extra.span);
                    }
                    (None, None) => {
                        let hint = "write `name: node.port`, or `name: {type: string, default: …}`";
                        reading.hint("bad-input", "the input says neither `port` nor `type`", &value.span, hint);
                    }
                    (Some(_), None) => {}
                }
            }
            _ => reading.wrong("a port (`node.port`), or a map with `type` and `default`", value),
        }
        inputs.push(input);
    }
    inputs
}

fn outputs(tree: &Tree, reading: &mut Reading) -> Option<Vec<Output>> {
    let entries = reading.map_of(tree, "outputs", "a map of outputs: `name: node.port`")?;
    let mut outputs = Vec::with_capacity(entries.len());
    for (name, value) in entries {
        let mut description = None;
        let port = match &value.kind {
            Kind::Text(_) => whole_end(value, reading),
            Kind::Map(entries) => {
                reading.known_keys(entries, &OUTPUT_KEYS, "an output");
                description = reading.text_of(value, "description");
                match value.get("port") {
                    Some(port) => whole_end(port, reading),
                    None => {
                        reading.hint("bad-output", "the output says no `port`", &value.span, "write `name: node.port`");
                        None
                    }
                }
            }
            _ => {
                reading.wrong("a port (`node.port`)", value);
                None
            }
        };
        outputs.extend(port.map(|port| Output { name: name.clone(), port, description }));
    }
    Some(outputs)
}

/// A value that is one reference.
pub(super) fn whole_end(value: &Tree, reading: &mut Reading) -> Option<End> {
    let Some(text) = value.as_text() else {
        reading.wrong("a port (`node.port`)", value);
        return None;
    };
    let whole = Spanned { text: text.to_owned(), span: value.span.clone() };
    match reference::end(&whole, reading.file) {
        Ok(end) => Some(end),
        Err(bad) => {
            reading.bad_reference("bad-reference", bad, &whole, None);
            None
        }
    }
}

fn nodes<'t>(tree: &'t Tree, reading: &mut Reading) -> Vec<Node<'t>> {
    let entries = reading.map_of(tree, "nodes", "a map of nodes by name").unwrap_or_default();
    entries.iter().map(|(name, value)| node(name, value, reading)).collect()
}

fn node<'t>(name: &Spanned, value: &'t Tree, reading: &mut Reading) -> Node<'t> {
    if !reference::is_name(&name.text) {
        let hint = "use letters, digits, `_` and `-`; an id of another form goes below, as `id: …`";
        reading.hint("bad-name", format!("`{}` is no name for a node", name.text), &name.span, hint);
    }
    let is_map = value.as_map().is_some();
    match &value.kind {
        Kind::Map(entries) => reading.known_keys(entries, &NODE_KEYS, "a node"),
        _ => {
            let hint = format!("write `{}: {{type: TextNode}}`", name.text);
            let message = format!("a node must be a map with `type`, and is {}", value.noun());
            reading.hint("wrong-kind", message, if value.span.is_empty() { &name.span } else { &value.span }, hint);
        }
    }
    let type_name = reading.text_of(value, "type");
    if is_map && type_name.is_none() && value.get("type").is_none_or(|found| matches!(found.kind, Kind::Null)) {
        let hint = "add `type: …`, one of the catalogue's types";
        reading.hint("missing-type", format!("node {} has no type", name.text), &name.span, hint);
    }
    let mut metadata = Object::new();
    for key in ["title", "description"] {
        if let Some(text) = reading.text_of(value, key) {
            metadata.insert(key.into(), text.text.into());
        }
    }
    if let Some(tags) = tags(value, reading) {
        metadata.insert("tags".into(), tags);
    }
    if let Some(category) = reading.text_of(value, "category") {
        metadata.insert("category".into(), category.text.into());
    }
    if let Some(switches) = reading.map_of(value, "flowPorts", "a map") {
        let switches: Object = switches.iter().map(|(key, value)| (key.text.clone(), value.to_json())).collect();
        metadata.insert("flowPorts".into(), switches.into());
    }
    for (key, value) in reading.map_of(value, "metadata", "a map").unwrap_or_default() {
        metadata.insert(key.text.clone(), value.to_json());
    }
    let given = reading.map_of(value, "inputs", "a map of values by port").unwrap_or_default();
    let declared = reading.map_of(value, "ports", "a map of ports").unwrap_or_default();
    Node {
        id: reading.text_of(value, "id").unwrap_or_else(|| name.clone()),
        name: name.clone(),
        type_name: type_name.unwrap_or(Spanned { text: String::new(), span: name.span.clone() }),
        group: reading.text_of(value, "in"),
        when: value.get("when"),
        inputs: given.iter().map(|(key, value)| (key.clone(), value)).collect(),
        ports: declared.iter().map(|(key, value)| (key.clone(), types::root(value, reading))).collect(),
        metadata,
        at: pair(value, "at", reading),
        size: pair(value, "size", reading),
    }
}

fn pair(tree: &Tree, key: &str, reading: &mut Reading) -> Option<[f64; 2]> {
    let value = tree.get(key)?;
    let number = |item: &Tree| match &item.kind {
        Kind::Number(number) => number.as_f64(),
        _ => None,
    };
    let found = match &value.kind {
        Kind::List(items) if items.len() == 2 => number(&items[0]).zip(number(&items[1])),
        _ => None,
    };
    if found.is_none() {
        reading.error("wrong-kind", format!("`{key}` must be two numbers: `[40, 60]`"), &value.span);
    }
    found.map(|(x, y)| [x, y])
}

fn edges(tree: &Tree, reading: &mut Reading) -> Vec<Edge> {
    let Some(value) = tree.get("edges") else { return Vec::new() };
    let items = match &value.kind {
        Kind::List(items) => items.as_slice(),
        Kind::Null => &[],
        _ => {
            reading.wrong("a list of edges: `- node.port -> other.port`", value);
            &[]
        }
    };
    items.iter().filter_map(|item| edge(item, reading)).collect()
}

fn edge(item: &Tree, reading: &mut Reading) -> Option<Edge> {
    match &item.kind {
        Kind::Text(text) => {
            let whole = Spanned { text: text.clone(), span: item.span.clone() };
            match reference::edge(&whole, reading.file) {
                Ok((from, to)) => Some(Edge { from, to, label: None, span: item.span.clone() }),
                Err(bad) => {
                    reading.bad_reference("bad-edge", bad, &whole, None);
                    None
                }
            }
        }
        Kind::Map(entries) => {
            reading.known_keys(entries, &EDGE_KEYS, "an edge");
            let label = reading.text_of(item, "label");
            let mut end = |key: &str| match item.get(key) {
                Some(end) => whole_end(end, reading),
                None => {
                    let message = format!("the edge has no `{key}`");
                    reading.hint("bad-edge", message, &item.span, "write `{from: node.port, to: other.port}`");
                    None
                }
            };
            let (from, to) = (end("from"), end("to"));
            Some(Edge { from: from?, to: to?, label, span: item.span.clone() })
        }
        _ => {
            reading.wrong("an edge: `node.port -> other.port`", item);
            None
        }
    }
}
