//! From a file's parts to the stored form, with the place of each part.

use std::collections::HashMap;

use serde_json::{Value as Json, json};

use super::Lowered;
use super::document::{self, Document, Input};
use super::infer::{self, Root};
use super::layout;
use super::links::{Link, Links, Site};
use super::reading::Reading;
use super::shape::{Shape, ShapeKind};
use super::tree::{Spanned, Tree};
use crate::flow::model::{Flow, Json as Object};
use crate::flow::problems::ProblemKind;
use crate::flow::{Diagnostic, Source};
use crate::nodes::Registry;

/// How many ports of a node a file may name.
const MAX_PORTS: usize = 1000;

/// Value nodes for inputs of the flow: type, node, port.
pub(super) const VALUE_NODES: [(&str, &str, &str); 5] = [
    ("string", "TextNode", "text"),
    ("number", "NumberNode", "num"),
    ("boolean", "BooleanNode", "flag"),
    ("object", "ObjectNode", "object"),
    ("array", "ArrayNode", "array"),
];

/// What a node's metadata has beyond its ports.
struct Head {
    id: Spanned,
    type_name: Spanned,
    metadata: Object,
    group: Option<Spanned>,
    at: Option<[f64; 2]>,
    size: Option<[f64; 2]>,
}

pub(super) fn lower(name: &str, text: &str, tree: &Tree, registry: &Registry) -> Result<Lowered, Vec<Diagnostic>> {
    let mut reading = Reading { file: text, findings: Vec::new() };
    let mut document = document::read(tree, &mut reading);
    let (heads, sites) = nodes(&mut document, registry, &mut reading);
    ids(&heads, &sites, &mut reading);
    let mut links = Links::new(sites, &mut reading);
    links.connect(&document, &mut reading);
    let groups: Vec<Option<usize>> = heads.iter().map(|head| links.node(head.group.as_ref()?, &mut reading)).collect();
    let inputs = inputs(&document, &mut links, &mut reading);
    let outputs = outputs(&document, &links, &mut reading);

    let mut source = Source::new(name, text);
    source.mark("", tree.span.clone());
    source.mark("/id", document.id.span.clone());
    let edges = edges(&links, &heads, &mut source);
    let nodes = stored_nodes(&links, &heads, &groups, &mut source);
    let mut metadata = Object::new();
    metadata.insert("id".into(), document.id.text.as_str().into());
    let title = document.name.as_ref().unwrap_or(&document.id);
    metadata.insert("name".into(), title.text.as_str().into());
    metadata.extend(document.metadata);
    metadata.insert("version".into(), 1.into());
    metadata.insert("schemaVersion".into(), "v2".into());
    for (what, ports) in [("inputs", Some(inputs)), ("outputs", outputs)] {
        let Some(ports) = ports else { continue };
        let mut entries = Object::new();
        for port in ports {
            let pointer = format!("/metadata/{what}/{}", escaped(&port.name.text));
            source.mark(pointer, port.span);
            let mut entry = Object::new();
            entry.insert("nodeId".into(), heads[port.node].id.text.as_str().into());
            entry.insert("portId".into(), port.port.into());
            entry.extend(port.description.map(|text| ("description".to_owned(), text.into())));
            entries.insert(port.name.text, entry.into());
        }
        metadata.insert(what.into(), entries.into());
    }
    if !reading.findings.is_empty() {
        reading.findings.sort_by_key(|found| found.span.as_ref().map_or(0, |span| span.start));
        return Err(reading.findings);
    }
    let mut data = json!({"id": document.id.text, "metadata": metadata, "nodes": nodes, "edges": edges});
    connections(&mut data, registry)?;
    Ok(Lowered { data, source, version: document.version.map(|(version, _)| version) })
}

/// The file's nodes, those of its typed inputs first.
fn nodes<'t>(document: &mut Document<'t>, registry: &Registry, reading: &mut Reading) -> (Vec<Head>, Vec<Site<'t>>) {
    let (mut heads, mut sites) = (Vec::new(), Vec::new());
    for input in &mut document.inputs {
        let Some(declared) = input.declared.take() else { continue };
        let name = declared.config.get("type").and_then(Json::as_str).unwrap_or_default();
        let Some((_, type_name, port)) = VALUE_NODES.iter().find(|(known, ..)| *known == name) else {
            if !name.is_empty() {
                let hint = "let the input name a node's port: `{port: node.port}`";
                reading.hint("bad-input", format!("there is no value node for the type {name}"), &input.span, hint);
            }
            continue;
        };
        if !super::reference::is_name(&input.name.text) {
            let hint = "use letters, digits, `_` and `-`, or let the input name a node's port: `{port: node.port}`";
            let message = format!("`{}` is no name for the node of an input", input.name.text);
            reading.hint("bad-name", message, &input.name.span, hint);
        }
        let mut site = Site::new(input.name.clone(), type_name, registry);
        let key = Spanned { text: (*port).to_owned(), span: input.span.clone() };
        if declared.closed {
            site.ports.push((key, declared));
        }
        sites.push(site);
        heads.push(Head {
            id: input.name.clone(),
            type_name: Spanned { text: (*type_name).to_owned(), span: input.span.clone() },
            metadata: Object::new(),
            group: None,
            at: None,
            size: None,
        });
        input.own = Some(sites.len() - 1);
    }
    for node in document.nodes.drain(..) {
        for (what, count) in [("inputs", node.inputs.len()), ("ports", node.ports.len())] {
            if count > MAX_PORTS {
                let message = format!("node {} has more than {MAX_PORTS} {what}", node.name.text);
                reading.error("too-large", message, &node.name.span);
                return (heads, sites);
            }
        }
        let mut site = Site::new(node.name, &node.type_name.text, registry);
        (site.inputs, site.ports, site.when) = (node.inputs, node.ports, node.when);
        sites.push(site);
        heads.push(Head {
            id: node.id,
            type_name: node.type_name,
            metadata: node.metadata,
            group: node.group,
            at: node.at,
            size: node.size,
        });
    }
    (heads, sites)
}

/// Names that stand twice are another finding.
fn ids(heads: &[Head], sites: &[Site], reading: &mut Reading) {
    let mut seen: HashMap<&str, usize> = HashMap::new();
    for (index, head) in heads.iter().enumerate() {
        let before = seen.insert(&head.id.text, index);
        if before.is_some_and(|before| sites[before].name.text != sites[index].name.text) {
            let message = format!("two nodes have the id `{}`", head.id.text);
            reading.hint("duplicate-id", message, &head.id.span, "a node's name is its id, unless it says another one");
        }
    }
}

/// A declared input or output of the flow.
struct Declaration {
    name: Spanned,
    node: usize,
    port: String,
    description: Option<String>,
    span: super::tree::Span,
}

fn inputs(document: &Document, links: &mut Links, reading: &mut Reading) -> Vec<Declaration> {
    let mut found = Vec::new();
    for input in &document.inputs {
        let (node, port) = match (&input.port, input.own) {
            (Some(end), _) => match links.resolve(end, false, reading) {
                Some(place) => place,
                None => continue,
            },
            (None, Some(node)) => {
                let port = VALUE_NODES.iter().find(|(_, name, _)| *name == links.sites[node].type_name);
                (node, port.map_or("", |(.., port)| port).to_owned())
            }
            (None, None) => continue,
        };
        if let Some(default) = input.default {
            set_default(input, default, &mut links.sites[node], &port, reading);
        }
        let span = input.port.as_ref().map_or_else(|| input.name.span.clone(), |end| end.span.clone());
        let description = input.description.as_ref().map(|text| text.text.clone());
        found.push(Declaration { name: input.name.clone(), node, port, description, span });
    }
    found
}

/// Put an input's default on its port.
fn set_default(input: &Input, default: &Tree, site: &mut Site, port: &str, reading: &mut Reading) {
    let (root, path) = site.split(port);
    let place = site.shapes.entry(root.to_owned()).or_default().at_path(path);
    match place {
        Some(place) if !matches!(place.kind, ShapeKind::Unknown) => {
            let message = format!("the input `{}` and the node both give {port} a value", input.name.text);
            reading.hint("given-twice", message, &default.span, "keep one of the two");
        }
        Some(place) => {
            let from = std::mem::take(&mut place.from);
            *place = Shape::verbatim(default);
            place.from = from;
            mark_given(site.shapes.entry(root.to_owned()).or_default(), path);
        }
        None => {
            let message = format!("{port} can't hold a default: the node gives another kind of value around it");
            reading.error("given-twice", message, &default.span);
        }
    }
}

/// What is around a given part is given as well.
fn mark_given(root: &mut Shape, path: &str) {
    let ends: Vec<usize> = path.match_indices(['.', '[']).map(|(at, _)| at).chain([path.len()]).collect();
    for end in ends {
        if let Some(shape) = root.at_path(&path[..end]) {
            shape.given = true;
        }
    }
}

fn outputs(document: &Document, links: &Links, reading: &mut Reading) -> Option<Vec<Declaration>> {
    let mut found = Vec::new();
    for output in document.outputs.as_ref()? {
        if let Some((node, port)) = links.resolve(&output.port, true, reading) {
            found.push(Declaration {
                name: output.name.clone(),
                node,
                port,
                description: output.description.as_ref().map(|text| text.text.clone()),
                span: output.port.span.clone(),
            });
        }
    }
    Some(found)
}

fn edges(links: &Links, heads: &[Head], source: &mut Source) -> Vec<Json> {
    let edge = |(index, link): (usize, &Link)| {
        let (from, to) = (&heads[link.from.0].id.text, &heads[link.to.0].id.text);
        source.mark(format!("/edges/{index}"), link.span.clone());
        for (key, span) in [
            ("sourceNodeId", &link.from_spans[0]),
            ("sourcePortId", &link.from_spans[1]),
            ("targetNodeId", &link.to_spans[0]),
            ("targetPortId", &link.to_spans[1]),
        ] {
            source.mark(format!("/edges/{index}/{key}"), span.clone());
        }
        let label = link.label.as_ref().map_or_else(|| json!({}), |label| json!({"label": label}));
        json!({
            "id": format!("{from}.{}->{to}.{}", link.from.1, link.to.1),
            "sourceNodeId": from,
            "sourcePortId": link.from.1,
            "targetNodeId": to,
            "targetPortId": link.to.1,
            "metadata": label,
        })
    };
    links.links.iter().enumerate().map(edge).collect()
}

fn stored_nodes(links: &Links, heads: &[Head], groups: &[Option<usize>], source: &mut Source) -> Vec<Json> {
    let between: Vec<(usize, usize)> = links.links.iter().map(|link| (link.from.0, link.to.0)).collect();
    let spots = layout::spots(groups, &between);
    let mut nodes = Vec::with_capacity(heads.len());
    for (index, (head, site)) in heads.iter().zip(&links.sites).enumerate() {
        let pointer = format!("/nodes/{index}");
        source.mark(pointer.clone(), site.name.span.clone());
        source.mark(format!("{pointer}/id"), head.id.span.clone());
        source.mark(format!("{pointer}/type"), head.type_name.span.clone());
        source.mark(format!("{pointer}/metadata/type"), head.type_name.span.clone());
        if let Some(when) = site.when {
            source.mark(format!("{pointer}/systemPorts/execute"), when.span.clone());
        }
        if let Some(group) = &head.group {
            source.mark(format!("{pointer}/metadata/parentNodeId"), group.span.clone());
        }
        let mut ports = Vec::new();
        for root in infer::roots(site) {
            let pointer = format!("{pointer}/ports/{}", ports.len());
            ports.push(port(links, index, &head.id.text, &root, &pointer, source));
        }
        nodes.push(json!({
            "id": head.id.text,
            "type": head.type_name.text,
            "metadata": node_metadata(head, site, groups[index].map(|group| heads[group].id.text.as_str()), &spots[index]),
            "status": "initialized",
            "systemPorts": {
                "execute": {"id": "__execute", "value": site.execute},
                "success": {"id": "__success", "value": true},
                "error": {"id": "__error", "value": false},
                "errorMessage": {"id": "__errorMessage", "value": ""},
            },
            "ports": ports,
            "connections": {},
            "schemaVersion": "v2",
        }));
    }
    nodes
}

fn node_metadata(head: &Head, site: &Site, group: Option<&str>, spot: &layout::Spot) -> Object {
    let mut metadata = Object::new();
    metadata.insert("type".into(), head.type_name.text.as_str().into());
    if let Some(known) = site.node_type {
        metadata.insert("category".into(), known.category.into());
    }
    metadata.extend(head.metadata.clone());
    metadata.insert("version".into(), 1.into());
    if let Some(group) = group {
        metadata.insert("parentNodeId".into(), group.into());
    }
    let [x, y] = head.at.unwrap_or(spot.position).map(number);
    let mut ui = Object::new();
    ui.insert("position".into(), json!({"x": x, "y": y}));
    if let Some([width, height]) = head.size.or(spot.size) {
        ui.insert("dimensions".into(), json!({"width": number(width), "height": number(height)}));
    }
    metadata.insert("ui".into(), ui.into());
    metadata
}

pub(super) fn number(value: f64) -> Json {
    super::yaml::json_number(value).map_or(Json::Null, Json::Number)
}

fn port(links: &Links, node: usize, id: &str, root: &Root, pointer: &str, source: &mut Source) -> Json {
    if let Some(span) = &root.span {
        source.mark(pointer, span.clone());
    }
    let mut config = links.config(node, root);
    config.insert("nodeId".into(), id.into());
    let shape = links.sites[node].shapes.get(&root.key);
    let given = shape.and_then(|shape| infer::value(shape, &config));
    let pointer = format!("{pointer}/value");
    if let Some(shape) = shape {
        mark_value(shape, &pointer, source);
    }
    match given {
        Some(value) => json!({"config": config, "value": value}),
        None => json!({"config": config}),
    }
}

/// Recursion is bounded: a file's depth is.
fn mark_value(shape: &Shape, pointer: &str, source: &mut Source) {
    if let Some(span) = &shape.span {
        source.mark(pointer, span.clone());
    }
    match &shape.kind {
        ShapeKind::Object(fields) => {
            fields.iter().for_each(|(key, field)| mark_value(field, &format!("{pointer}/{}", escaped(key)), source));
        }
        ShapeKind::List(items) => {
            items.iter().enumerate().for_each(|(at, item)| mark_value(item, &format!("{pointer}/{at}"), source));
        }
        _ => {}
    }
}

/// Note each node's edges at the node, as editors show them: those that lead somewhere, since an entry for a port that
/// a node lacks makes the original engine drop the node.
fn connections(data: &mut Json, registry: &Registry) -> Result<(), Vec<Diagnostic>> {
    let loaded = Flow::load(data, registry).map_err(|error| vec![Diagnostic::error("too-deep", error.to_string())])?;
    let dropped = loaded.problems.iter().filter(|problem| problem.kind == ProblemKind::EdgeDropped);
    let dropped: std::collections::HashSet<&str> = dropped.map(|problem| &*problem.subject).collect();
    let mut entries: HashMap<String, Object> = HashMap::new();
    for edge in data["edges"].as_array().into_iter().flatten() {
        let part = |key: &str| edge[key].as_str().unwrap_or_default();
        if dropped.contains(part("id")) {
            continue;
        }
        let (from, to) = ((part("sourceNodeId"), part("sourcePortId")), (part("targetNodeId"), part("targetPortId")));
        for ((node, port), (other, other_port)) in [(from, to), (to, from)] {
            let list = entries.entry(node.to_owned()).or_default().entry(port).or_insert_with(|| json!([]));
            if let Some(list) = list.as_array_mut() {
                list.push(json!({"nodeId": other, "portId": other_port}));
            }
        }
    }
    for node in data["nodes"].as_array_mut().into_iter().flatten() {
        let id = node["id"].as_str().unwrap_or_default();
        if let Some(entries) = entries.remove(id) {
            node["connections"] = entries.into();
        }
    }
    Ok(())
}

/// A key as a JSON pointer has it.
pub(super) fn escaped(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}
