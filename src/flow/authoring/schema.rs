//! A JSON Schema of the form, for editors: made from the catalogue, so that node types and their ports complete.

use serde_json::{Map, Value as Json, json};

use super::{document, types};
use crate::flow::model::{Direction, Json as Object};
use crate::nodes::{NodeType, PortSpec, Registry};

/// The schema, draft 7: what editors know best.
pub fn schema(registry: &Registry) -> Json {
    let mut node = object("A node: one step of the flow.", node_keys());
    node["required"] = json!(["type"]);
    // By its type, what a node's inputs and ports are called and take.
    node["allOf"] = registry.iter().map(by_type).collect();
    let names = r"^[\p{L}\p{N}_-]+$";
    let mut flow = object("A flow as people write it: docs/authoring.md.", flow_keys());
    flow["$schema"] = "http://json-schema.org/draft-07/schema#".into();
    flow["title"] = "Fireflow flow".into();
    flow["required"] = json!(["id"]);
    flow["properties"]["nodes"] = json!({
        "type": "object",
        "description": "The nodes, by name. A node's name is its id, unless it says another one.",
        "propertyNames": {"pattern": names},
        "additionalProperties": {"$ref": "#/definitions/node"},
    });
    flow["definitions"] = json!({
        "node": node,
        "reference": {"type": "string", "description": "A port: `node.port`, or `node` where it has only one to give.", "minLength": 1},
        "type": type_schema(false),
        "field": type_schema(false),
        "port": type_schema(true),
        "edge": {
            "description": "`node.port -> other.port`",
            "anyOf": [
                {"type": "string", "pattern": "->"},
                object("", json!({
                    "from": {"$ref": "#/definitions/reference"},
                    "to": {"$ref": "#/definitions/reference"},
                    "label": {"type": "string"},
                })),
            ],
        },
        "text": {"type": ["string", "number"]},
        "pair": {"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2},
    });
    flow
}

/// A map with these keys and no others.
fn object(description: &str, properties: Json) -> Json {
    let mut schema = json!({"type": "object", "additionalProperties": false, "properties": properties});
    if !description.is_empty() {
        schema["description"] = description.into();
    }
    schema
}

fn flow_keys() -> Json {
    let reference = json!({"$ref": "#/definitions/reference"});
    let input = json!({
        "anyOf": [
            reference,
            object("", json!({
                "port": reference,
                "type": {"$ref": "#/definitions/type"},
                "fields": {"type": "object", "additionalProperties": {"$ref": "#/definitions/field"}},
                "default": {"description": "What it is when an execution doesn't say."},
                "description": {"type": "string"},
            })),
        ],
    });
    let output = json!({
        "anyOf": [reference, object("", json!({"port": reference, "description": {"type": "string"}}))],
    });
    let keys = json!({
        "id": {"$ref": "#/definitions/text", "description": "The flow's id."},
        "name": {"$ref": "#/definitions/text", "description": "What it is called; otherwise, its id."},
        "description": {"type": "string", "description": "What it does."},
        "tags": {"type": "array", "items": {"type": "string"}},
        "owner": {"type": "string", "description": "Who owns it."},
        "parent": {"type": "string", "description": "The flow that it was forked from."},
        "version": {"type": "integer", "minimum": 1, "description": "The stored version that this file was made from."},
        "metadata": {"type": "object", "description": "More of the flow's metadata, as it is stored."},
        "inputs": {
            "type": "object", "description": "What an execution may be given: ports, or values with a type and a default.",
            "additionalProperties": input,
        },
        "outputs": {
            "type": "object", "description": "What an execution gives.", "additionalProperties": output,
        },
        "nodes": {},
        "edges": {
            "type": ["array", "null"], "description": "Edges besides those that stand in the nodes' inputs.",
            "items": {"$ref": "#/definitions/edge"},
        },
    });
    complete(&keys, &document::TOP_KEYS);
    keys
}

fn node_keys() -> Json {
    let keys = json!({
        "type": {"type": "string", "description": "The node's type, from the catalogue."},
        "inputs": {
            "type": ["object", "null"],
            "description": "Values by port. `$node.port` is an edge, also within a value; `$a.x | $b.y` takes the first that comes.",
        },
        "when": {
            "description": "Whether it runs: true, false, or a port that says so, `$node.port`.",
            "anyOf": [{"type": "boolean"}, {"type": "string"}, {"type": "object"}],
        },
        "title": {"$ref": "#/definitions/text", "description": "What an editor calls it."},
        "description": {"type": "string"},
        "in": {"type": "string", "description": "The group that it is in."},
        "ports": {
            "type": ["object", "null"], "description": "Types of ports, where their class leaves them open.",
            "additionalProperties": {"$ref": "#/definitions/port"},
        },
        "id": {"$ref": "#/definitions/text", "description": "Its id, where that isn't its name."},
        "category": {"type": "string"},
        "tags": {"type": "array", "items": {"type": "string"}},
        "at": {"$ref": "#/definitions/pair", "description": "Where an editor shows it: [x, y]."},
        "size": {"$ref": "#/definitions/pair", "description": "How large an editor shows it: [width, height]."},
        "flowPorts": {"type": "object", "description": "Switches of the system ports, as they are stored."},
        "metadata": {"type": "object", "description": "More of the node's metadata, as it is stored."},
    });
    complete(&keys, &document::NODE_KEYS);
    keys
}

/// The schema names the keys that the reader knows.
fn complete(keys: &Json, known: &[&str]) {
    debug_assert!(
        keys.as_object()
            .is_some_and(|keys| { keys.len() == known.len() && known.iter().all(|key| keys.contains_key(*key)) })
    );
}

fn type_schema(is_root: bool) -> Json {
    let inner = json!({"$ref": "#/definitions/type"});
    let mut keys = json!({
        "type": {"anyOf": [{"enum": types::TYPES}, inner]},
        "fields": {"type": "object", "additionalProperties": {"$ref": "#/definitions/field"}},
        "items": inner,
        "options": {"type": "array"},
        "secret": {"type": "string", "description": "The kind of secret: openai, anthropic, string …"},
        "of": inner,
        "default": {"description": "Its value when nothing else says one; null for none."},
    });
    for key in types::PLAIN_KEYS {
        keys[key] = json!({});
    }
    if is_root {
        keys["direction"] = json!({"enum": ["input", "output", "passthrough"]});
        keys["value"] = json!({"description": "What is stored as its value."});
    }
    let names = r"^(string|number|boolean|object|array|stream|any)(\[\])*$|^stream<.+>(\[\])*$";
    json!({"anyOf": [{"type": "string", "pattern": names}, object("", keys)]})
}

/// What a type's nodes may say.
fn by_type(known: &NodeType) -> Json {
    let mut inputs = Map::new();
    let mut ports = Map::new();
    for spec in known.ports {
        if spec.direction != Direction::Output {
            inputs.insert(spec.key.into(), value(spec));
        }
        ports.insert(spec.key.into(), json!({"$ref": "#/definitions/port"}));
    }
    json!({
        "if": {"properties": {"type": {"const": known.name}}},
        "then": {
            "description": known.about,
            "properties": {
                "inputs": {"type": ["object", "null"], "additionalProperties": false, "properties": inputs},
                "ports": {"type": ["object", "null"], "properties": ports},
            },
        },
    })
}

/// What a port takes: a value of its type, or edges.
fn value(spec: &PortSpec) -> Json {
    let config: Object = serde_json::from_str(spec.config).unwrap_or_default();
    let name = config.get("type").and_then(Json::as_str).unwrap_or("any");
    let mut description = name.to_owned();
    if let Some(default) = config.get("defaultValue").filter(|default| !default.is_object()) {
        description.push_str(&format!(", {default} by default"));
    }
    if spec.required {
        description.push_str("; nothing may not come by an edge");
    }
    let reference = json!({"type": "string", "pattern": r"^\$[^$]"});
    let long = json!({"type": "object", "required": ["$from"]});
    let wrapped = json!({"type": "object", "required": ["$value"]});
    let own = match name {
        "string" => json!({"type": ["string", "number"]}),
        "number" => json!({"type": "number"}),
        "boolean" => json!({"type": "boolean"}),
        "array" => json!({"type": "array"}),
        "object" | "stream" | "secret" => json!({"type": "object"}),
        "enum" => {
            let options = config.get("options").and_then(Json::as_array).into_iter().flatten();
            json!({"enum": options.map(|option| option["id"].clone()).collect::<Vec<_>>()})
        }
        _ => return json!({"description": description}),
    };
    json!({"description": description, "anyOf": [own, reference, long, wrapped]})
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use boon::{Compiler, SchemaIndex, Schemas};

    use super::super::{Syntax, content};
    use super::*;

    fn compiled() -> (Schemas, SchemaIndex) {
        let (mut schemas, mut compiler) = (Schemas::new(), Compiler::new());
        compiler.add_resource("flow.json", schema(&Registry::standard())).unwrap();
        let index = compiler.compile("flow.json", &mut schemas).unwrap();
        (schemas, index)
    }

    #[test]
    fn the_published_schema_is_current() {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/flow.schema.json");
        let current = format!("{:#}\n", schema(&Registry::standard()));
        if std::env::var_os("UPDATE_SCHEMA").is_some() {
            std::fs::write(&file, &current).unwrap();
        }
        let published = std::fs::read_to_string(&file).unwrap();
        assert!(
            published == current,
            "docs/flow.schema.json is not current: UPDATE_SCHEMA=1 cargo test --lib authoring::schema"
        );
    }

    #[test]
    fn the_examples_are_as_the_schema_has_it() {
        let (schemas, index) = compiled();
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/flows");
        let mut checked = 0;
        for file in std::fs::read_dir(folder).unwrap() {
            let path = file.unwrap().path();
            let syntax = match path.extension().and_then(|ending| ending.to_str()) {
                Some("yaml") => Syntax::Yaml,
                Some("toml") => Syntax::Toml,
                _ => continue,
            };
            let content = content(&std::fs::read_to_string(&path).unwrap(), syntax).unwrap();
            schemas.validate(&content, index).unwrap_or_else(|error| panic!("{}: {error:#}", path.display()));
            checked += 1;
        }
        assert!(checked > 5);
    }

    #[test]
    fn the_schema_tells_what_is_wrong() {
        let (schemas, index) = compiled();
        let good = "id: a\nnodes: {b: {type: SleepNode, inputs: {duration: $b.x}}, c: {type: OfAnotherWorker, inputs: {x: 1}}}";
        let fits = |text: &str| schemas.validate(&content(text, Syntax::Yaml).unwrap(), index).is_ok();
        assert!(fits(good));
        for (right, wrong) in [
            ("id: a", "idd: a"),
            ("SleepNode,", "SleepNode, whenn: true,"),
            ("duration:", "durations:"),
            ("$b.x", "fast"),
            ("type: SleepNode, ", ""),
            ("b: {", "b c: {"),
        ] {
            assert!(!fits(&good.replacen(right, wrong, 1)), "{wrong}");
        }
    }
}
