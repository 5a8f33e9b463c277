//! What is stored, written as a file and lowered again, is the same flow.

use std::path::Path;

use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::equal::differences;
use super::{Lowered, Syntax, lower, raise};
use crate::flow::Flow;
use crate::flow::model::Direction;
use crate::nodes::Registry;

/// Raise, lower, and compare. What is lost is said; nothing is lost silently.
fn round(stored: &Json, registry: &Registry) -> (Lowered, Vec<String>) {
    let raised = raise(stored, registry).unwrap();
    let text = raised.yaml();
    let lowered = lower("raised.yaml", &text, Syntax::Yaml, registry);
    let lowered = lowered.unwrap_or_else(|found| panic!("{found:#?}\n{text}\n{stored:#}"));
    let before = Flow::load(stored, registry).unwrap();
    let after = Flow::load(&lowered.data, registry).unwrap();
    let found = differences(&before.flow, &after.flow);
    assert!(found.is_empty(), "{found:#?}\n{text}\n{stored:#}");
    // And a file that was raised stays as it is.
    assert_eq!(raise(&lowered.data, registry).unwrap().document, raised.document, "{text}");
    (lowered, raised.losses)
}

fn files(folder: &str) -> Vec<(String, Json)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let Ok(found) = std::fs::read_dir(&folder) else { return Vec::new() };
    let mut paths: Vec<_> = found.map(|file| file.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
    paths.sort();
    let read = |path: &std::path::PathBuf| serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    paths.iter().map(|path| (path.display().to_string(), read(path))).collect()
}

#[test]
fn stored_flows_survive() {
    let mut registry = Registry::standard();
    registry.register(crate::flow::cases::STREAM_SOURCE);
    let examples = files("examples/flows");
    assert!(!examples.is_empty());
    for (file, flow) in examples {
        assert_eq!(round(&flow, &registry).1, [] as [&str; 0], "{file}");
    }
    let mut cases = files("tests/cases/conformance");
    cases.extend(files("../shared/conformance"));
    assert!(cases.len() > 10);
    for (file, case) in cases.iter().filter(|(_, case)| case["flow"].is_object()) {
        if Flow::load(&case["flow"], &registry).is_err() {
            continue;
        }
        println!("{file}");
        let (_, losses) = round(&case["flow"], &registry);
        let known = ["dropped", "bad declaration", "that a run left", "counts as false", "looks in the editor"];
        let left = losses.iter().any(|loss| !known.iter().any(|known| loss.contains(known)));
        assert!(!left, "{file}: {losses:?}");
    }
}

/// A value of a port's type.
fn value(config: &Json, seed: u64) -> Json {
    match config["type"].as_str().unwrap() {
        "string" => ["", "text", "$dollar", "two\nlines\n", "$$", "null", "a: b"][seed as usize % 7].into(),
        "number" => [json!(0), json!(1), json!(-2.5), json!(1e21)][seed as usize % 4].clone(),
        "boolean" => json!(seed.is_multiple_of(2)),
        "enum" => config["options"][0]["id"].clone(),
        "array" if config["itemConfig"]["type"] == "object" => json!([{"a": 1, "b": "$x"}, {}]),
        "array" if config["itemConfig"]["type"] != "any" => json!(["one", "$two"]),
        "array" => [json!([]), json!([1, "two", {"three": [null]}]), json!([0, 0])][seed as usize % 3].clone(),
        "object" => [json!({}), json!({"a": 1, "b": "x"}), json!({"$from": {"c": "$c"}})][seed as usize % 3].clone(),
        "any" => [Json::Null, json!("$any"), json!({"deep": [{"er": true}]}), json!(0)][seed as usize % 4].clone(),
        _ => json!({"type": "stream", "buffer": [1], "isClosed": true}),
    }
}

/// A stored flow of nodes by type, odd ones among them, and edges by chance.
fn flow(nodes: Vec<(usize, u64, u8)>, edges: Vec<(usize, usize, usize, usize)>) -> Json {
    let registry = Registry::standard();
    let types: Vec<_> = registry.iter().collect();
    let mut stored: Vec<Json> = Vec::new();
    let mut gives: Vec<(String, String)> = Vec::new();
    let mut takes: Vec<(String, String)> = Vec::new();
    for (index, (kind, seed, looks)) in nodes.iter().enumerate() {
        let node_type = types[kind % types.len()];
        let id = match looks % 3 {
            0 => format!("node-{index}"),
            1 => format!("NOaB3dE6fG7hJ8k{index:03}"),
            _ => format!("odd id.{index}[x]"),
        };
        gives.extend(["__success", "__errorMessage"].map(|port| (id.clone(), port.to_owned())));
        takes.push((id.clone(), "__execute".into()));
        let mut ports = Vec::new();
        for (at, spec) in node_type.ports.iter().enumerate() {
            let mut config: Json = serde_json::from_str(spec.config).unwrap();
            config["id"] = spec.key.into();
            config["key"] = spec.key.into();
            config["direction"] = spec.direction.as_str().into();
            if spec.required != (seed >> at).is_multiple_of(5) {
                config["required"] = true.into();
            }
            let seed = seed.rotate_left(at as u32 * 7);
            if spec.direction != Direction::Input {
                gives.push((id.clone(), spec.key.into()));
            }
            if spec.direction != Direction::Output {
                takes.push((id.clone(), spec.key.into()));
            }
            let mut held = value(&config, seed);
            if config["type"] == "object" && seed.is_multiple_of(3) {
                config["schema"]["properties"] = json!({
                    "x": {"type": "number", "key": "x"},
                    "y.z": {"type": "any", "key": "y.z", "underlyingType": {"type": "array", "itemConfig": {"type": "string"}}},
                    "s": {"type": "string", "key": "s", "defaultValue": "d"},
                });
                held = [json!({}), json!({"x": 3, "s": ""})][seed as usize % 2].clone();
                for field in ["x", "y.z", "s"] {
                    takes.push((id.clone(), format!("{}.{field}", spec.key)));
                    gives.push((id.clone(), format!("{}.{field}", spec.key)));
                }
            }
            // What a required object without value and default holds can't be said when its fields have defaults; see below.
            let unsayable = config["required"] == true && config["schema"]["properties"]["s"].is_object();
            let kept = unsayable || !seed.is_multiple_of(4);
            if kept && config["type"] == "array" && held.as_array().is_some_and(|items| items.len() > 1) {
                takes.push((id.clone(), format!("{}[1]", spec.key)));
            }
            let mut port = json!({"config": config});
            if kept {
                port["value"] = held;
            }
            ports.push(port);
        }
        let mut metadata = json!({"type": node_type.name, "category": node_type.category});
        if looks % 4 == 1 && index > 0 {
            metadata["parentNodeId"] = stored[index - 1]["id"].clone();
        }
        if looks % 5 == 1 {
            metadata["title"] = "A: title".into();
            metadata["ui"] = json!({"position": {"x": index, "y": 1.5}});
        }
        stored.push(json!({
            "id": id, "type": node_type.name, "metadata": metadata, "status": "initialized", "schemaVersion": "v2",
            "systemPorts": {
                "execute": {"id": "__execute", "value": looks % 7 != 1},
                "success": {"id": "__success", "value": true},
                "error": {"id": "__error", "value": false},
                "errorMessage": {"id": "__errorMessage", "value": ""},
            },
            "ports": ports,
        }));
    }
    let mut seen = std::collections::HashSet::new();
    let edge = |(at, (from, to, ..)): (usize, (usize, usize, usize, usize))| {
        let (from, to) = (gives.get(from % gives.len().max(1))?, takes.get(to % takes.len().max(1))?);
        seen.insert((from.clone(), to.clone())).then(|| {
            json!({
                "id": format!("E{at}"), "sourceNodeId": from.0, "sourcePortId": from.1,
                "targetNodeId": to.0, "targetPortId": to.1,
                "metadata": if at % 6 == 5 { json!({"label": "why"}) } else { json!({}) },
            })
        })
    };
    let edges: Vec<Json> = edges.into_iter().enumerate().filter_map(edge).collect();
    let named = |(node, port): &(String, String)| json!({"nodeId": node, "portId": port});
    let mut metadata = json!({"id": "V2x", "name": "Random", "schemaVersion": "v2"});
    if let (Some(first), Some(last)) = (takes.get(1), gives.last()) {
        metadata["inputs"] = json!({"in put": named(first)});
        metadata["outputs"] = json!({"out": named(last)});
    }
    json!({"id": "V2x", "metadata": metadata, "nodes": stored, "edges": edges})
}

/// Such a port holds an empty object, and one that is written out takes its fields' defaults.
#[test]
fn a_required_object_without_a_value_is_said_to_lose_it() {
    let fields = json!({"s": {"type": "string", "key": "s", "defaultValue": "d"}});
    let config = json!({"id": "object", "key": "object", "type": "object", "direction": "passthrough", "required": true,
        "schema": {"properties": fields}});
    let stored = json!({"id": "V2x", "metadata": {"id": "V2x", "schemaVersion": "v2"}, "edges": [], "nodes": [{"id": "a",
        "metadata": {"type": "ObjectNode"}, "systemPorts": {"execute": {"value": true}}, "schemaVersion": "v2",
        "ports": [{ "config": config }]}]});
    let losses = raise(&stored, &Registry::standard()).unwrap().losses;
    assert!(losses.iter().any(|loss| loss.contains("port object: its value")), "{losses:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    #[test]
    fn random_flows_survive(
        nodes in prop::collection::vec((any::<usize>(), any::<u64>(), any::<u8>()), 0..7),
        edges in prop::collection::vec((any::<usize>(), any::<usize>(), any::<usize>(), any::<usize>()), 0..14),
    ) {
        let stored = flow(nodes, edges);
        let registry = Registry::standard();
        let losses = round(&stored, &registry).1;
        prop_assert!(losses.is_empty(), "{losses:?}");
    }
}
