//! Who is connected with whom: edges of a file's nodes, inline and listed, with their ports' real names.

use std::collections::{HashMap, HashSet};

use indexmap::IndexMap;

use super::document::{self, Document};
use super::reading::Reading;
use super::reference::{self, End};
use super::shape::{LinkIndex, Shape, ShapeKind, key_end};
use super::tree::{Kind, Span, Spanned, Tree};
use super::types::Declared;
use crate::flow::model::{Direction, SYSTEM_PORTS};
use crate::nodes::{NodeType, Registry};

/// What a person calls the system ports.
pub(super) const FRIENDLY: [(&str, &str); 4] =
    [("run", "__execute"), ("success", "__success"), ("failed", "__error"), ("error", "__errorMessage")];

/// A node and what is known of its ports.
pub(super) struct Site<'t> {
    pub name: Spanned,
    pub type_name: String,
    pub node_type: Option<NodeType>,
    pub inputs: Vec<(Spanned, &'t Tree)>,
    pub ports: Vec<(Spanned, Declared<'t>)>,
    pub when: Option<&'t Tree>,
    /// What is seen of each root port: what the file gives and what edges bring.
    pub shapes: IndexMap<String, Shape>,
    /// What edges take from each root port.
    pub taken: IndexMap<String, Shape>,
    /// Whether it starts executable.
    pub execute: bool,
}

/// An edge.
pub(super) struct Link {
    pub from: (usize, String),
    pub to: (usize, String),
    pub label: Option<String>,
    pub span: Span,
    pub from_spans: [Span; 2],
    pub to_spans: [Span; 2],
}

/// Nodes and edges.
pub(super) struct Links<'t> {
    pub sites: Vec<Site<'t>>,
    by_name: HashMap<String, usize>,
    pub links: Vec<Link>,
    seen: HashSet<(usize, String, usize, String)>,
}

impl<'t> Site<'t> {
    pub fn new(name: Spanned, type_name: &str, registry: &Registry) -> Site<'t> {
        Site {
            name,
            type_name: type_name.to_owned(),
            node_type: registry.get(type_name).copied(),
            inputs: Vec::new(),
            ports: Vec::new(),
            when: None,
            shapes: IndexMap::new(),
            taken: IndexMap::new(),
            execute: true,
        }
    }

    /// The node's own root ports that are known before its edges are.
    pub fn own_ports(&self) -> impl Iterator<Item = &str> {
        let class = self.node_type.iter().flat_map(|known| known.ports).map(|port| port.key);
        let declared = self.ports.iter().map(|(key, _)| key.text.as_str());
        class.chain(declared).chain(self.inputs.iter().map(|(key, _)| key.text.as_str()))
    }

    /// Whether a root port is its own, and not made up by who gives it a value. Of an unknown type all are.
    fn has(&self, key: &str) -> bool {
        match &self.node_type {
            None => self.own_ports().any(|own| own == key),
            Some(known) => {
                known.ports.iter().any(|port| port.key == key) || self.ports.iter().any(|(name, _)| name.text == key)
            }
        }
    }

    /// A port as stored: a friendly name counts where the node has no port of that name itself.
    pub fn port(&self, written: &str) -> String {
        let friendly = FRIENDLY.iter().find(|(name, _)| *name == written);
        match friendly {
            Some((_, system)) if !self.has(written) => (*system).to_owned(),
            _ => written.to_owned(),
        }
    }

    /// The root port of a port, and the path below.
    pub fn split<'p>(&self, port: &'p str) -> (&'p str, &'p str) {
        port.split_at(key_end(port, |key| self.shapes.contains_key(key) || self.own_ports().any(|own| own == key)))
    }

    /// Which way values pass through a root port, as far as its class and the file say.
    pub fn direction(&self, key: &str) -> Option<Direction> {
        let declared = self.ports.iter().find(|(name, _)| name.text == key);
        let declared = declared.and_then(|(_, port)| port.config.get("direction")?.as_str());
        let class = || self.node_type?.ports.iter().find(|port| port.key == key).map(|port| port.direction);
        declared.and_then(Direction::read).or_else(class)
    }

    /// The one port that a node alone stands for: its one output (or input); where there is none, its one passthrough port.
    fn sole(&self, gives: bool) -> Result<&str, Vec<&str>> {
        let wanted = if gives { Direction::Output } else { Direction::Input };
        for direction in [wanted, Direction::Passthrough] {
            let fitting: Vec<&str> = self.own_ports().filter(|key| self.direction(key) == Some(direction)).collect();
            let distinct: HashSet<&str> = fitting.iter().copied().collect();
            match fitting[..] {
                [] => {}
                [port, ..] if distinct.len() == 1 => return Ok(port),
                _ => return Err(fitting),
            }
        }
        Err(Vec::new())
    }
}

impl<'t> Links<'t> {
    /// Nodes by name. Names that stand twice are reported.
    pub fn new(sites: Vec<Site<'t>>, reading: &mut Reading) -> Links<'t> {
        let mut by_name = HashMap::with_capacity(sites.len());
        for (index, site) in sites.iter().enumerate() {
            if by_name.insert(site.name.text.clone(), index).is_some() {
                let message = format!("`{}` is the name of an input and of a node", site.name.text);
                let hint =
                    "an input with a type is a node itself: rename one of them, or let the input name the node's port";
                reading.hint("duplicate-name", message, &site.name.span, hint);
            }
        }
        Links { sites, by_name, links: Vec::new(), seen: HashSet::new() }
    }

    /// A node by its name in the file.
    pub fn node(&self, name: &Spanned, reading: &mut Reading) -> Option<usize> {
        let found = self.by_name.get(&name.text).copied();
        if found.is_none() {
            let mut known: Vec<&String> = self.by_name.keys().collect();
            known.sort();
            let message = format!("there is no node `{}`", name.text);
            reading.unknown("unknown-node", &message, &name.text, known.into_iter(), &name.span);
        }
        found
    }

    /// The node and port of one end of an edge.
    pub fn resolve(&self, end: &End, gives: bool, reading: &mut Reading) -> Option<(usize, String)> {
        let node = self.node(&end.node, reading)?;
        let site = &self.sites[node];
        if let Some(port) = &end.port {
            return Some((node, site.port(&port.text)));
        }
        match site.sole(gives) {
            Ok(port) => Some((node, port.to_owned())),
            Err(ports) => {
                let name = &site.name.text;
                let message = format!("`{name}` alone doesn't say which port");
                match ports.first() {
                    Some(_) => {
                        let all: Vec<_> = ports.iter().map(|port| format!("{name}.{port}")).collect();
                        reading.hint("which-port", message, &end.span, format!("there is {}", all.join(", ")));
                    }
                    None => reading.hint("which-port", message, &end.span, format!("write `{name}.port`")),
                }
                None
            }
        }
    }

    /// All edges: those of each node, in order, then the listed ones.
    pub fn connect(&mut self, document: &Document, reading: &mut Reading) {
        for node in 0..self.sites.len() {
            if let Some(when) = self.sites[node].when {
                self.condition(node, when, reading);
            }
            for index in 0..self.sites[node].inputs.len() {
                let (key, tree) = self.sites[node].inputs[index].clone();
                let port = self.sites[node].port(&key.text);
                if SYSTEM_PORTS.contains(&port.as_str()) {
                    let hint = "whether a node runs is said by `when: …`, beside `inputs`";
                    let message = format!("`{}` is no port for values", key.text);
                    reading.hint("system-port", message, &key.span, hint);
                    continue;
                }
                let mut shape = self.walk(node, &port, tree, false, &key.span, reading);
                shape.given = true;
                self.sites[node].shapes.insert(port, shape);
            }
        }
        for site in &mut self.sites {
            for (key, declared) in &site.ports {
                let Some(value) = declared.value else { continue };
                if site.shapes.contains_key(&key.text) {
                    let message = format!("the port {} has a value in `inputs` and in `ports`", key.text);
                    reading.hint("given-twice", message, &value.span, "keep one of the two");
                }
                site.shapes.insert(key.text.clone(), Shape::verbatim(value));
            }
        }
        for edge in &document.edges {
            let from = self.resolve(&edge.from, true, reading);
            let to = self.resolve(&edge.to, false, reading);
            let (Some(from), Some(to)) = (from, to) else { continue };
            let (node, port) = to.clone();
            let link = Link {
                from,
                to,
                label: edge.label.as_ref().map(|label| label.text.clone()),
                span: edge.span.clone(),
                from_spans: spans(&edge.from),
                to_spans: spans(&edge.to),
            };
            if let Some(index) = self.add(link, reading) {
                self.enter(node, &port, index);
            }
        }
        for index in 0..self.links.len() {
            let (node, port) = self.links[index].from.clone();
            let site = &mut self.sites[node];
            let (root, path) = site.split(&port);
            if let Some(shape) = site.taken.entry(root.to_owned()).or_default().at_path(path) {
                shape.to.push(index);
            }
        }
    }

    /// Note an edge at what it enters.
    fn enter(&mut self, node: usize, port: &str, index: LinkIndex) {
        let site = &mut self.sites[node];
        let (root, path) = site.split(port);
        if SYSTEM_PORTS.contains(&root) {
            return;
        }
        if let Some(shape) = site.shapes.entry(root.to_owned()).or_default().at_path(path) {
            shape.from.push(index);
        }
    }

    fn add(&mut self, link: Link, reading: &mut Reading) -> Option<LinkIndex> {
        let ends = (link.from.0, link.from.1.clone(), link.to.0, link.to.1.clone());
        if !self.seen.insert(ends) {
            reading.error("duplicate-edge", "this edge is there already", &link.span);
            return None;
        }
        self.links.push(link);
        Some(self.links.len() - 1)
    }

    /// `when`: a flag, or edges to the port that lets a node run.
    fn condition(&mut self, node: usize, when: &Tree, reading: &mut Reading) {
        match &when.kind {
            Kind::Bool(flag) => self.sites[node].execute = *flag,
            Kind::Text(text) => {
                let whole = Spanned { text: text.clone(), span: when.span.clone() };
                self.references(node, "__execute", &whole, &when.span, reading);
            }
            Kind::Map(entries) if when.get("$from").is_some() => {
                reading.known_keys(entries, &["$from", "$value"], "an edge with a value");
                self.long(node, "__execute", when, &when.span, reading);
                match when.get("$value").map(|value| &value.kind) {
                    Some(Kind::Bool(flag)) => self.sites[node].execute = *flag,
                    Some(_) => reading.wrong("true or false", when.get("$value").unwrap_or(when)),
                    None => {}
                }
            }
            _ => reading.wrong("true, false, or a port that says it: `$node.port`", when),
        }
    }

    /// Edges of one text, `$a.b | $c.d`, into a port.
    fn references(
        &mut self,
        node: usize,
        port: &str,
        whole: &Spanned,
        target: &Span,
        reading: &mut Reading,
    ) -> Vec<LinkIndex> {
        match reference::ends(whole, reading.file) {
            Ok(ends) => ends.into_iter().filter_map(|end| self.inline(node, port, end, target, reading)).collect(),
            Err(bad) => {
                let hint = format!("a text that begins with `$` is written with two: `${}`", whole.text);
                let hint = if port == "__execute" { "write true, false or `$node.port`".into() } else { hint };
                reading.bad_reference("bad-reference", bad, whole, Some(&hint));
                Vec::new()
            }
        }
    }

    fn inline(&mut self, node: usize, port: &str, end: End, target: &Span, reading: &mut Reading) -> Option<LinkIndex> {
        let from = self.resolve(&end, true, reading)?;
        let name = self.sites[node].name.span.clone();
        let link = Link {
            from,
            to: (node, port.to_owned()),
            label: None,
            span: end.span.clone(),
            from_spans: spans(&end),
            to_spans: [name, target.clone()],
        };
        self.add(link, reading)
    }

    /// `{$from: a.b, $value: …}`: edges, and what is stored in their place.
    fn long(&mut self, node: usize, port: &str, tree: &Tree, target: &Span, reading: &mut Reading) -> Vec<LinkIndex> {
        let Some(from) = tree.get("$from") else { return Vec::new() };
        let list = match &from.kind {
            Kind::List(items) => items.iter().collect(),
            _ => vec![from],
        };
        let mut found = Vec::new();
        for item in list {
            if let Some(end) = document::whole_end(item, reading) {
                found.extend(self.inline(node, port, end, target, reading));
            }
        }
        found
    }

    /// A value with references in it. Recursion is bounded: a file's depth is.
    fn walk(
        &mut self,
        node: usize,
        port: &str,
        tree: &Tree,
        verbatim: bool,
        target: &Span,
        reading: &mut Reading,
    ) -> Shape {
        let mut shape = Shape { given: true, span: Some(tree.span.clone()), ..Shape::default() };
        match &tree.kind {
            Kind::Text(text) if !verbatim && reference::is_reference(text) => {
                let whole = Spanned { text: text.clone(), span: tree.span.clone() };
                shape.from = self.references(node, port, &whole, target, reading);
            }
            Kind::Text(text) if !verbatim => shape.kind = ShapeKind::Leaf(reference::literal(text).into()),
            Kind::Map(entries) if !verbatim && entries.iter().any(|(key, _)| key.text.starts_with('$')) => {
                for (key, _) in entries {
                    if !["$from", "$value"].contains(&key.text.as_str()) {
                        let message =
                            format!("`{}` beside or in place of `$from` and `$value` means nothing", key.text);
                        let hint = "a map that is data and has keys with `$` goes below `$value`: `{$value: {…}}`";
                        reading.hint("dollar-key", message, &key.span, hint);
                    }
                }
                if let Some(value) = tree.get("$value") {
                    shape = self.walk(node, port, value, true, target, reading);
                }
                shape.from = self.long(node, port, tree, target, reading);
            }
            Kind::Map(entries) => {
                let mut fields = IndexMap::with_capacity(entries.len());
                for (key, value) in entries {
                    let port = format!("{port}.{}", key.text);
                    let field = self.walk(node, &port, value, verbatim, &key.span, reading);
                    fields.insert(key.text.clone(), field);
                }
                shape.kind = ShapeKind::Object(fields);
            }
            Kind::List(items) => {
                let mut list = Vec::with_capacity(items.len());
                for (index, item) in items.iter().enumerate() {
                    list.push(self.walk(node, &format!("{port}[{index}]"), item, verbatim, &item.span, reading));
                }
                shape.kind = ShapeKind::List(list);
            }
            _ => shape.kind = ShapeKind::Leaf(tree.to_json()),
        }
        shape
    }
}

fn spans(end: &End) -> [Span; 2] {
    let port = end.port.as_ref().map_or_else(|| end.span.clone(), |port| port.span.clone());
    [end.node.span.clone(), port]
}
