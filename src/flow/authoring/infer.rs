//! Configurations and values of ports: what the class has, what the file declares, and what follows from values and edges.

use serde_json::{Map, Value as Json, json};

use super::links::{Links, Site};
use super::shape::{Shape, ShapeKind};
use super::tree::Span;
use super::types::{self, Declared};
use crate::flow::model::{Direction, Json as Object};
use crate::nodes::PortSpec;

/// How many edges a type is followed along, from field to field.
const MAX_HOPS: usize = 16;

/// Keys of a configuration that a declared type takes the place of.
const STRUCTURE: [&str; 5] = ["schema", "itemConfig", "underlyingType", "options", "secretType"];

/// A root port of a node, in the making.
pub(super) struct Root<'a, 't> {
    pub key: String,
    pub class: Option<(usize, &'static PortSpec)>,
    pub declared: Option<&'a Declared<'t>>,
    /// Where the file names it first.
    pub span: Option<Span>,
}

/// The root ports of a node: its class's, those that the file gives or declares, and those of a node of unknown type
/// that edges name.
pub(super) fn roots<'a, 't>(site: &'a Site<'t>) -> Vec<Root<'a, 't>> {
    let class = site.node_type.map_or(&[][..], |known| known.ports);
    let mut roots: Vec<Root> = Vec::new();
    for (index, spec) in class.iter().enumerate() {
        roots.push(Root { key: spec.key.into(), class: Some((index, spec)), declared: None, span: None });
    }
    let place = |roots: &mut Vec<Root<'a, 't>>, key: &str| match roots.iter().position(|root| root.key == key) {
        Some(at) => at,
        None => {
            roots.push(Root { key: key.into(), class: None, declared: None, span: None });
            roots.len() - 1
        }
    };
    for (key, declared) in &site.ports {
        let at = place(&mut roots, &key.text);
        roots[at].declared = Some(declared);
        roots[at].span = Some(key.span.clone());
    }
    for (key, _) in &site.inputs {
        if site.shapes.contains_key(&key.text) {
            let at = place(&mut roots, &key.text);
            roots[at].span = Some(key.span.clone());
        }
    }
    if site.node_type.is_none() {
        for key in site.shapes.keys().chain(site.taken.keys()) {
            if !key.starts_with("__") {
                place(&mut roots, key);
            }
        }
    }
    roots
}

impl Links<'_> {
    /// A root port's configuration in the stored form.
    pub fn config(&self, node: usize, root: &Root) -> Object {
        let site = &self.sites[node];
        let (shape, taken) = (site.shapes.get(&root.key), site.taken.get(&root.key));
        let mut config = Object::new();
        config.insert("id".into(), root.key.as_str().into());
        config.insert("key".into(), root.key.as_str().into());
        config.insert("nodeId".into(), Json::Null); // its place; the id comes with the node
        let mut class = root.class.map(|(_, spec)| parsed(spec)).unwrap_or_default();
        if let Some(declared) = root.declared {
            if let Some(name) = declared.config.get("type") {
                STRUCTURE.iter().for_each(|key| drop(class.shift_remove(*key)));
                if class.get("type").is_some_and(|own| own != name) {
                    class.shift_remove("defaultValue");
                }
            }
            class.extend(declared.config.clone());
        }
        if !class.contains_key("type") {
            class.insert("type".into(), self.guess(shape, taken).into());
        }
        let direction = class.get("direction").and_then(Json::as_str).map(str::to_owned);
        let direction = direction.unwrap_or_else(|| self.direction(site, root).as_str().to_owned());
        config.insert("type".into(), class["type"].clone());
        config.insert("direction".into(), direction.into());
        if let Some((index, _)) = root.class {
            config.insert("order".into(), (index + 1).into());
        }
        config.extend(class);
        let closed = root.declared.is_some_and(|declared| declared.closed);
        self.refine(&mut config, shape, taken, closed);
        if config.get("defaultValue").is_some_and(Json::is_null) {
            config.shift_remove("defaultValue"); // said to be nothing
        }
        config
    }

    fn direction(&self, site: &Site, root: &Root) -> Direction {
        if let Some((_, spec)) = root.class {
            return spec.direction;
        }
        match (site.shapes.contains_key(&root.key), site.taken.contains_key(&root.key)) {
            (true, false) => Direction::Input,
            (false, true) => Direction::Output,
            _ => Direction::Passthrough,
        }
    }

    /// Add what follows from the value and the edges to an object's schema, a list's items, or what an any port carries.
    fn refine(&self, config: &mut Object, shape: Option<&Shape>, taken: Option<&Shape>, closed: bool) {
        let name = config.get("type").and_then(Json::as_str).unwrap_or_default().to_owned();
        let seen = [shape, taken].into_iter().flatten().find(|shape| !matches!(shape.kind, ShapeKind::Unknown));
        let seen = seen.filter(|_| !closed);
        match name.as_str() {
            "object" => {
                let schema = config.entry("schema").or_insert_with(|| json!({"properties": {}}));
                let properties = schema.as_object_mut().map(|schema| schema.entry("properties").or_insert(json!({})));
                if let (Some(ShapeKind::Object(fields)), Some(Json::Object(properties))) =
                    (seen.map(|shape| &shape.kind), properties)
                {
                    for (key, field) in fields {
                        if !properties.contains_key(key) {
                            properties.insert(key.clone(), self.field(key, field, 0).into());
                        }
                    }
                }
            }
            "array" | "stream" => {
                config.entry("itemConfig").or_insert_with(|| json!({"type": "any"}));
                let open = config["itemConfig"].get("type").is_some_and(|item| item == "any");
                if let (true, Some(ShapeKind::List(items))) = (open, seen.map(|shape| &shape.kind)) {
                    config.insert("itemConfig".into(), self.items(items, 0).into());
                }
            }
            "any" => {
                let below = [shape, taken].into_iter().flatten().any(Shape::has_links_below);
                if let (true, Some(seen)) = (below && !config.contains_key("underlyingType"), seen) {
                    let key = config.get("key").and_then(Json::as_str).unwrap_or_default().to_owned();
                    config.insert("underlyingType".into(), self.field(&key, seen, 0).into());
                }
            }
            _ => {}
        }
    }

    /// A field's configuration by what is seen of it. Recursion is bounded: a file's depth is, and so is a port's path.
    fn field(&self, key: &str, shape: &Shape, depth: usize) -> Object {
        let mut config = Object::new();
        config.insert("type".into(), self.guess(Some(shape), None).into());
        match &shape.kind {
            ShapeKind::Object(fields) => {
                let below = fields.iter().map(|(key, field)| (key.clone(), self.field(key, field, depth + 1).into()));
                let properties: Map<String, Json> = below.collect();
                config.insert("schema".into(), json!({"properties": properties}));
            }
            ShapeKind::List(items) => {
                config.insert("itemConfig".into(), self.items(items, depth + 1).into());
                config.insert("isMutable".into(), true.into());
            }
            _ => {}
        }
        types::complete(key, &mut config);
        config
    }

    /// What the items of a list have in common. Objects stay open, unless edges enter or leave their fields.
    fn items(&self, items: &[Shape], depth: usize) -> Object {
        let any = || Object::from_iter([("type".to_owned(), "any".into())]);
        let mut names = items.iter().map(|item| self.guess(Some(item), None));
        let Some(first) = names.next().filter(|first| names.all(|name| name == *first)) else { return any() };
        match first {
            "object" | "array" if items.iter().any(Shape::has_links_below) => {
                // The one with most fields stands for all.
                let fields = |item: &Shape| match &item.kind {
                    ShapeKind::Object(fields) => fields.len(),
                    _ => 0,
                };
                match items.iter().max_by_key(|item| fields(item)) {
                    Some(fullest) => {
                        let mut config = self.field("", fullest, depth + 1);
                        config.shift_remove("key");
                        config
                    }
                    None => any(),
                }
            }
            "object" | "array" | "any" => any(),
            simple => Object::from_iter([("type".to_owned(), simple.into())]),
        }
    }

    /// The type of what is seen: that of the value, of where an edge comes from, or of where one goes.
    fn guess(&self, shape: Option<&Shape>, taken: Option<&Shape>) -> &'static str {
        self.guess_within(shape, taken, MAX_HOPS)
    }

    fn guess_within(&self, shape: Option<&Shape>, taken: Option<&Shape>, hops: usize) -> &'static str {
        let Some(shape) = shape.or(taken) else { return "any" };
        match &shape.kind {
            ShapeKind::Object(_) => return "object",
            ShapeKind::List(_) => return "array",
            ShapeKind::Leaf(Json::String(_)) => return "string",
            ShapeKind::Leaf(Json::Number(_)) => return "number",
            ShapeKind::Leaf(Json::Bool(_)) => return "boolean",
            ShapeKind::Leaf(_) | ShapeKind::Unknown => {}
        }
        let Some(hops) = hops.checked_sub(1) else { return "any" };
        let end = |index: &usize, source: bool| {
            let link = &self.links[*index];
            let (node, port) = if source { &link.from } else { &link.to };
            self.simple(*node, port, hops)
        };
        let mut names = shape.from.iter().map(|index| end(index, true));
        if let Some(first) = names.next() {
            return if names.all(|name| name == first) { first } else { "any" };
        }
        let mut names = shape.to.iter().map(|index| end(index, false));
        match names.next() {
            Some(first) if names.all(|name| name == first) => first,
            _ => "any",
        }
    }

    /// The type of a port when it is a simple one, `any` otherwise: what is carried whole needs no structure.
    fn simple(&self, node: usize, port: &str, hops: usize) -> &'static str {
        let site = &self.sites[node];
        match port {
            "__execute" | "__success" | "__error" => return "boolean",
            "__errorMessage" => return "string",
            _ => {}
        }
        let (key, path) = site.split(port);
        let declared = site.ports.iter().find(|(name, _)| name.text == key).map(|(_, declared)| &declared.config);
        let declared = declared.filter(|config| config.contains_key("type")).cloned();
        let class = || site.node_type.and_then(|known| known.ports.iter().find(|port| port.key == key)).map(parsed);
        let config = declared.or_else(class);
        let named = config.as_ref().and_then(|config| below(config, path));
        if let Some(name) = named {
            return plain(name);
        }
        if path.is_empty() {
            return "any";
        }
        // A field that no configuration names: as it is seen.
        let seen = |shape: &Shape| find(shape, path).map(|shape| self.guess_within(Some(shape), None, hops));
        plain(site.shapes.get(key).and_then(seen).unwrap_or("any"))
    }
}

/// A class's configuration of a port.
fn parsed(spec: &PortSpec) -> Object {
    // The catalogue's texts are JSON objects: its own tests say so.
    let mut config: Object = serde_json::from_str(spec.config).unwrap_or_default();
    if spec.required {
        config.insert("required".into(), true.into());
    }
    config
}

/// The type that a configuration names at a path.
fn below<'c>(config: &'c Object, path: &str) -> Option<&'c str> {
    let mut config = config;
    let mut rest = path;
    loop {
        while let Some(inner) = config.get("underlyingType").and_then(Json::as_object) {
            config = inner;
        }
        if rest.is_empty() {
            return config.get("type").and_then(Json::as_str);
        }
        if let Some(inner) = rest.strip_prefix('.') {
            let properties = config.get("schema")?.get("properties")?.as_object()?;
            let end = super::shape::key_end(inner, |key| properties.contains_key(key));
            config = properties.get(&inner[..end])?.as_object()?;
            rest = &inner[end..];
        } else {
            config = config.get("itemConfig")?.as_object()?;
            rest = rest.split_once(']')?.1;
        }
    }
}

/// The part of a shape at a path.
fn find<'s>(shape: &'s Shape, path: &str) -> Option<&'s Shape> {
    let mut shape = shape;
    let mut rest = path;
    while !rest.is_empty() {
        match (&shape.kind, rest.strip_prefix('.')) {
            (ShapeKind::Object(fields), Some(inner)) => {
                let end = super::shape::key_end(inner, |key| fields.contains_key(key));
                shape = fields.get(&inner[..end])?;
                rest = &inner[end..];
            }
            (ShapeKind::List(items), None) => {
                let (index, after) = rest.strip_prefix('[')?.split_once(']')?;
                shape = items.get(index.parse::<usize>().ok()?)?;
                rest = after;
            }
            _ => return None,
        }
    }
    Some(shape)
}

fn plain(name: &str) -> &'static str {
    match name {
        "string" | "enum" => "string",
        "number" => "number",
        "boolean" => "boolean",
        _ => "any",
    }
}

/// What is stored as a root port's value; none where the file gives none.
pub(super) fn value(shape: &Shape, config: &Object) -> Option<Json> {
    if shape.has_value() { part(shape, Some(config)) } else { None }
}

/// A part of a value. What an edge brings has its type's empty value until then.
fn part(shape: &Shape, config: Option<&Object>) -> Option<Json> {
    let config = config.map(underlying);
    match &shape.kind {
        ShapeKind::Leaf(json) => Some(json.clone()),
        ShapeKind::Object(fields) => {
            let properties = config.and_then(|config| config.get("schema")?.get("properties")?.as_object());
            let field = |key: &str| properties.and_then(|properties| properties.get(key)?.as_object());
            let mut held: Vec<(&String, Option<Json>)> = Vec::with_capacity(fields.len());
            for (key, inner) in fields.iter().filter(|(_, inner)| inner.given) {
                held.push((key, part(inner, field(key))));
            }
            // A field that only an edge brings stands as null where others follow: so it keeps its place among them.
            let last = held.iter().rposition(|(_, value)| value.is_some());
            let kept = held.into_iter().enumerate().filter(|(at, (_, value))| value.is_some() || Some(*at) < last);
            Some(kept.map(|(_, (key, value))| (key.clone(), value.unwrap_or(Json::Null))).collect::<Map<_, _>>().into())
        }
        ShapeKind::List(items) => {
            let inner = config.and_then(|config| config.get("itemConfig")?.as_object());
            Some(items.iter().map(|item| part(item, inner).unwrap_or(Json::Null)).collect())
        }
        ShapeKind::Unknown => config
            .and_then(|config| config.get("type")?.as_str())
            .filter(|name| *name != "stream")
            .and_then(types::empty),
    }
}

fn underlying(config: &Object) -> &Object {
    let mut config = config;
    while let Some(inner) = config.get("underlyingType").and_then(Json::as_object) {
        config = inner;
    }
    config
}
