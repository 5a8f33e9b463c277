//! docs/nodes.md says what the catalogue of node types says. `FIREFLOW_WRITE_DOCS=1 cargo test --test catalogue` writes it
//! anew.
#![allow(clippy::unwrap_used, reason = "a test stops at what must not be")]

use std::fmt::Write as _;
use std::path::Path;

use fireflow_worker::flow::model::Direction;
use fireflow_worker::nodes::{Behaviour, NodeType, PortSpec, Registry};
use serde_json::Value as Json;

/// Categories with their titles, in the order of the document. Others follow under their own names.
const CATEGORIES: &[(&str, &str)] = &[
    ("basic-values", "Values"),
    ("math", "Arithmetic and logic"),
    ("data", "Texts and streams"),
    ("flow", "Flow control and events"),
    ("group", "Groups"),
    ("transforms", "Lists and objects"),
    ("utilities", "Utilities"),
    ("secret", "Secrets"),
    ("mcp", "MCP"),
];

const HEAD: &str = "\
# Node types

Every node type that the worker knows, by category, with the ports that its class has before anything is stored. What is
stored for a port wins. Every node also has the ports `__execute` (in), `__success`, `__error` and `__errorMessage` (out).

**in** takes values, **out** gives them, **pass** does both; `!` marks a port on which an edge that brings null or undefined
fails. A default is shown where it isn't the empty one of its type.

This file is generated: `FIREFLOW_WRITE_DOCS=1 cargo test --test catalogue` writes it.
";

const VENDORS: &str = "
## Types that need a service

Known by name. A flow that has one loads, with a warning; the node keeps its stored ports and fails when it would run, so that its
error ports work and what depends on it doesn't run.

| type | needs | what it is for |
|---|---|---|
";

fn document(registry: &Registry) -> String {
    let mut text = HEAD.to_owned();
    let here = |node_type: &&NodeType| !matches!(node_type.behaviour, Behaviour::Unavailable { .. });
    let known = |category: &str| CATEGORIES.iter().any(|(known, _)| *known == category);
    let mut others: Vec<&str> =
        registry.iter().filter(here).map(|node_type| node_type.category).filter(|category| !known(category)).collect();
    others.sort_unstable();
    others.dedup();
    let categories = CATEGORIES.iter().copied().chain(others.into_iter().map(|category| (category, category)));
    for (category, title) in categories {
        let types: Vec<_> = registry.iter().filter(here).filter(|node_type| node_type.category == category).collect();
        if types.is_empty() {
            continue;
        }
        write!(text, "\n## {title}\n").unwrap();
        for node_type in types {
            describe(&mut text, node_type);
        }
    }
    text.push_str(VENDORS);
    for node_type in registry.iter() {
        if let Behaviour::Unavailable { service } = node_type.behaviour {
            writeln!(text, "| `{}` | {service} | {} |", node_type.name, cell(node_type.about)).unwrap();
        }
    }
    text
}

fn describe(text: &mut String, node_type: &NodeType) {
    let listens = if node_type.disabled_auto_execution { " Runs only for its event." } else { "" };
    write!(text, "\n### `{}`\n\n{}.{listens}\n", node_type.name, node_type.about).unwrap();
    if node_type.ports.is_empty() {
        return;
    }
    text.push_str("\n| port | | type | default |\n|---|---|---|---|\n");
    for port in node_type.ports {
        let config: Json = serde_json::from_str(port.config)
            .unwrap_or_else(|error| panic!("{}, port {}: {error}", node_type.name, port.key));
        let direction = match port.direction {
            Direction::Input => "in",
            Direction::Output => "out",
            Direction::Passthrough => "pass",
        };
        let PortSpec { key, required, .. } = port;
        let mark = if *required { " !" } else { "" };
        let (kind, default) = (cell(&kind(&config)), cell(&default(&config)));
        writeln!(text, "| `{key}` | {direction}{mark} | {kind} | {default} |").unwrap();
    }
}

fn kind(config: &Json) -> String {
    let of = |inner: &Json| if inner.is_null() { String::new() } else { format!("&lt;{}&gt;", kind(inner)) };
    match config["type"].as_str().unwrap() {
        name @ ("array" | "stream") => format!("{name}{}", of(&config["itemConfig"])),
        "any" => format!("any{}", of(&config["underlyingType"])),
        "secret" => format!("secret&lt;{}&gt;", config["secretType"].as_str().unwrap()),
        "object" => match config["schema"]["properties"].as_object() {
            Some(fields) if !fields.is_empty() => {
                let fields: Vec<_> = fields.iter().map(|(name, field)| format!("{name}: {}", kind(field))).collect();
                format!("object {{{}}}", fields.join(", "))
            }
            _ => "object".to_owned(),
        },
        "enum" => {
            let options = config["options"].as_array().unwrap();
            let ids: Vec<_> = options.iter().map(|option| format!("`{}`", option["id"].as_str().unwrap())).collect();
            if ids.is_empty() { "enum".to_owned() } else { format!("enum: {}", ids.join(", ")) }
        }
        name => name.to_owned(),
    }
}

fn default(config: &Json) -> String {
    let default = &config["defaultValue"];
    let is_empty = match default {
        Json::Null | Json::Bool(false) => true,
        Json::Bool(true) => false,
        Json::Number(number) => number.as_f64() == Some(0.0),
        Json::String(text) => text.is_empty(),
        Json::Array(items) => items.is_empty(),
        Json::Object(fields) => fields.is_empty() || config["type"] == "stream",
    };
    if is_empty { String::new() } else { format!("`{default}`") }
}

/// A text as one cell of a table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

#[test]
fn the_document_is_what_the_catalogue_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/nodes.md");
    let text = document(&Registry::standard());
    if std::env::var_os("FIREFLOW_WRITE_DOCS").is_some() {
        std::fs::write(&path, text).unwrap();
        return;
    }
    let written = std::fs::read_to_string(&path).unwrap();
    let line = text.lines().zip(written.lines()).position(|(new, old)| new != old);
    assert!(
        text == written,
        "docs/nodes.md is out of date from line {} on; FIREFLOW_WRITE_DOCS=1 cargo test --test catalogue writes it anew",
        line.map_or(text.lines().count().min(written.lines().count()), |line| line) + 1
    );
}

#[test]
fn every_type_says_what_it_is() {
    for node_type in Registry::standard().iter() {
        assert!(!node_type.category.is_empty() && !node_type.about.is_empty(), "{}", node_type.name);
        assert!(!node_type.about.ends_with('.'), "{}: the document adds the full stop", node_type.name);
        let mut keys: Vec<_> = node_type.ports.iter().map(|port| port.key).collect();
        keys.sort_unstable();
        assert!(keys.windows(2).all(|pair| pair[0] != pair[1]), "{}: a port stands twice", node_type.name);
    }
}
