//! Loading: what is forgiven, what is refused, and that nothing stored makes it panic.

use proptest::prelude::*;
use serde_json::{Value as JsonValue, json};

use crate::flow::{Flow, LoadError, ProblemKind, Value};
use crate::nodes::Registry;

fn load(stored: &JsonValue) -> super::Loaded {
    Flow::load(stored, &Registry::standard()).unwrap()
}

fn kinds(loaded: &super::Loaded) -> Vec<(ProblemKind, &str)> {
    loaded.problems.iter().map(|problem| (problem.kind, &*problem.subject)).collect()
}

fn value(loaded: &super::Loaded, node: &str, port: &str) -> JsonValue {
    let port = loaded.flow.port(node, port).unwrap_or_else(|| panic!("no port {port}"));
    let root = &loaded.flow.nodes[port.node].ports[port.port].value;
    crate::flow::ports::read(root, &port.path).to_json()
}

fn object_node(config: &JsonValue, value: &JsonValue) -> JsonValue {
    json!({"id": "V2", "metadata": {"schemaVersion": "v2"}, "nodes": [{
        "id": "NOo", "schemaVersion": "v2", "metadata": {"type": "ObjectNode"},
        "ports": [{"config": config, "value": value}],
    }]})
}

#[test]
fn what_is_no_flow_is_refused() {
    let registry = Registry::standard();
    for (stored, text) in [
        (json!(null), "this is null"),
        (json!([]), "this is a list"),
        (json!({"nodes": {}}), "`nodes` must be a list"),
        (json!({"edges": 5}), "`edges` must be a list"),
        (json!({"metadata": "x"}), "`metadata` must be an object"),
    ] {
        let error = Flow::load(&stored, &registry).unwrap_err().to_string();
        assert!(error.contains(text), "{error}");
    }
    let mut deep = json!({});
    for _ in 0..200 {
        deep = json!({ "metadata": deep });
    }
    assert!(matches!(Flow::load(&deep, &registry), Err(LoadError::TooDeep(_))));
}

#[test]
fn nodes_that_cannot_be_built_are_left_out_with_a_reason() {
    let stored = json!({"metadata": {"schemaVersion": "v2"}, "nodes": [
        5,
        {"id": "NOuntyped", "schemaVersion": "v2"},
        {"id": "NOnewer", "schemaVersion": "v3", "metadata": {"type": "TextNode"}},
        {"id": "NOvalue", "schemaVersion": "v2", "metadata": {"type": "TextNode"},
            "ports": [{"config": {"id": "text", "type": "string"}, "value": {}}]},
        {"id": "NOschema", "schemaVersion": "v2", "metadata": {"type": "ObjectNode"},
            "ports": [{"config": {"id": "object", "type": "object"}}]},
        {"id": "NOends", "schemaVersion": "v2", "metadata": {"type": "TextNode"}, "connections": {"nowhere": []}},
        {"id": "NOgood", "schemaVersion": "v2", "metadata": {"type": "TextNode", "parentNodeId": "NOgone"}},
        {"id": "NOgood", "schemaVersion": "v2", "metadata": {"type": "TextNode"}},
    ]});
    let loaded = load(&stored);
    let dropped = ["#0", "NOuntyped", "NOnewer", "NOvalue", "NOschema", "NOends", "NOgood"];
    let mut expected: Vec<_> = dropped.into_iter().map(|id| (ProblemKind::NodeDropped, id)).collect();
    expected.push((ProblemKind::Parent, "NOgood"));
    assert_eq!(kinds(&loaded), expected);
    assert_eq!(loaded.flow.node_count(), 1);
    assert_eq!(value(&loaded, "NOgood", "text"), json!(""), "the class's port is there without being stored");
}

#[test]
fn a_type_that_needs_a_service_is_known_and_keeps_what_is_stored() {
    let stored = json!({"metadata": {"schemaVersion": "v2"}, "nodes": [
        {"id": "NOllm", "schemaVersion": "v2", "metadata": {"type": "LLMCallNode"}, "connections": {"elsewhere": []},
            "ports": [{"config": {"id": "prompt", "type": "string"}, "value": "hello"}]},
        {"id": "NOnone", "schemaVersion": "v2", "metadata": {"type": "NoSuchNode"}},
    ]});
    let loaded = load(&stored);
    let known = [(ProblemKind::NeedsService, "NOllm"), (ProblemKind::UnknownType, "NOnone")];
    assert_eq!(kinds(&loaded), known);
    assert_eq!(value(&loaded, "NOllm", "prompt"), json!("hello"));
    assert_eq!(
        loaded.problems[0].to_string(),
        "needs a service: NOllm: LLMCallNode needs a language model, which this worker does not reach; \
        the node fails when it would run"
    );
}

#[test]
fn nested_ports_are_found_even_when_keys_look_like_paths() {
    let text = json!({"type": "string"});
    let config = json!({"id": "object", "key": "object", "type": "object", "schema": {"properties": {
        "a.b": text, "a": {"type": "object", "schema": {"properties": {"b": text, "c": text}}},
        "list": {"type": "array", "itemConfig": {"type": "object", "schema": {"properties": {"x": {"type": "number"}}}}},
        "any": {"type": "any", "underlyingType": {"type": "any", "underlyingType":
            {"type": "object", "schema": {"properties": {"y": text}}}}},
    }}});
    let stored =
        json!({"a.b": "dotted", "a": {"b": "inner", "c": "C"}, "list": [{"x": 1}, {"x": 2}], "any": {"y": "Y"}});
    let loaded = load(&object_node(&config, &stored));
    assert!(loaded.problems.is_empty(), "{:?}", loaded.problems);
    for (port, expected) in [
        ("object.a.c", json!("C")),
        ("object.list[1].x", json!(2)),
        ("object.list[0]", json!({"x": 1})),
        ("object.any.y", json!("Y")),
        ("object.a.b", json!("inner")),
    ] {
        assert_eq!(value(&loaded, "NOo", port), expected, "{port}");
    }
    for port in ["object.list[2]", "object.list[x]", "object.list[", "object.", "object.none", "object[0]", ".", ""] {
        assert!(loaded.flow.port("NOo", port).is_none(), "{port:?}");
    }
}

#[test]
fn values_are_read_by_their_ports_types() {
    let config = json!({"id": "object", "key": "object", "type": "object", "schema": {"properties": {
        "text": {"type": "string"}, "number": {"type": "number"}, "flag": {"type": "boolean"},
        "list": {"type": "array", "itemConfig": {"type": "string"}},
        "missing": {"type": "string", "defaultValue": "default"}, "absent": {"type": "number"},
        "secret": {"type": "secret"}, "choice": {"type": "enum", "options": []},
    }}});
    let stored = json!({"2": "index keys come first", "extra": [1], "text": 1e21, "number": "1.50", "flag": null,
        "list": "none", "secret": {"encrypted": "x"}, "choice": null});
    let loaded = load(&object_node(&config, &stored));
    let read = value(&loaded, "NOo", "object");
    assert_eq!(
        read.to_string(),
        json!({"2": "index keys come first", "text": "1e+21", "number": 1.5, "flag": false, "list": [],
            "missing": "default", "secret": {"encrypted": "x"}, "choice": "", "extra": [1]})
        .to_string()
    );
}

#[test]
fn metadata_is_completed_and_the_document_s_version_wins() {
    let loaded = load(&json!({"id": "V2x", "version": 7, "createdAt": "2026-01-02T03:04:05.000Z",
        "metadata": {"name": "N", "ownerID": "USR", "version": 3, "more": {"kept": true}}}));
    let flow = &loaded.flow;
    assert_eq!((flow.id(), flow.name(), flow.owner_id(), flow.version()), ("V2x", "N", Some("USR"), Some(7)));
    assert_eq!(flow.metadata()["more"], json!({"kept": true}));
    assert_eq!(flow.metadata()["createdAt"], "2026-01-02T03:04:05.000Z");
    assert!(flow.metadata()["updatedAt"].as_str().unwrap().ends_with('Z'));
}

#[test]
fn inputs_that_do_not_exist_are_refused_with_what_does() {
    let loaded =
        load(&json!({"metadata": {"schemaVersion": "v2", "inputs": {"who": {"nodeId": "NO.a", "portId": "text"}}},
        "nodes": [{"id": "NO.a", "schemaVersion": "v2", "metadata": {"type": "TextNode"}}]}));
    let bind = |name: &str| {
        let mut inputs = serde_json::Map::new();
        inputs.insert(name.into(), json!("x"));
        loaded.flow.bind_inputs(&inputs).map_err(|error| error.to_string())
    };
    for name in ["who", "NO.a.text", "NO.a/text", "NO.a.__execute"] {
        assert_eq!(bind(name).unwrap().len(), 1, "{name}");
    }
    assert!(bind("whom").unwrap_err().contains("its inputs: who"));
    assert!(bind("NO.a.txt").unwrap_err().contains("ports of node NO.a: text"));
}

#[test]
fn an_older_flow_s_edge_without_a_port_is_refused() {
    let stored = json!({"metadata": {}, "nodes": [{"id": "NOa", "metadata": {"type": "TextNode"}, "ports": {
            "text:PO1": {"id": "text:PO1", "config": {"id": "text:PO1", "key": "text", "type": "string"}, "value": "x"},
            "loop:PO2": {"config": {"parentId": "loop:PO3", "type": "string"}},
            "loop:PO3": {"config": {"parentId": "loop:PO2", "type": "string"}},
        }}],
        "edges": [{"id": "ED1", "sourceNodeId": "NOa", "sourcePortId": "gone:PO9", "targetNodeId": "NOa",
            "targetPortId": "text:PO1"}]});
    let error = Flow::load(&stored, &Registry::standard()).unwrap_err();
    assert!(matches!(error, LoadError::OldPort { .. }), "{error}");
}

/// A flow with something of everything, in which single parts are replaced at random.
fn rich_flow() -> JsonValue {
    json!({
        "id": "V2rich", "version": 2,
        "metadata": {"id": "V2rich", "name": "rich", "schemaVersion": "v2",
            "inputs": {"a": {"nodeId": "NOa", "portId": "text"}}, "outputs": {"b": {"nodeId": "NOo", "portId": "object.l[0]"}}},
        "nodes": [
            {"id": "NOa", "schemaVersion": "v2", "status": "initialized",
                "metadata": {"type": "TextNode", "category": "basic-values", "version": 1, "parentNodeId": "NOg", "flowPorts": {}},
                "systemPorts": {"execute": {"value": true}, "success": {"value": true}},
                "ports": [{"config": {"id": "text", "key": "text", "type": "string", "order": 1, "ui": {}}, "value": "v"}],
                "connections": {"text": [{"nodeId": "NOo", "portId": "object"}]}},
            {"id": "NOo", "schemaVersion": "v2", "metadata": {"type": "ObjectNode"},
                "ports": [{"config": {"id": "object", "key": "object", "type": "object", "direction": "passthrough",
                    "schema": {"properties": {"l": {"type": "array", "itemConfig": {"type": "any"}}}}}, "value": {"l": [1]}}]},
            {"id": "NOold", "metadata": {"type": "ArrayLengthNode"}, "ports": {
                "array:PO1": {"config": {"id": "array:PO1", "key": "array", "type": "array"}, "value": []}}},
            {"id": "NOg", "schemaVersion": "v2", "metadata": {"type": "GroupNode", "category": "group"}},
            {"id": "NOl", "schemaVersion": "v2", "metadata": {"type": "EventListenerNodeV2"}, "ports": [
                {"config": {"id": "eventName", "key": "eventName", "type": "string"}, "value": "e"}]},
        ],
        "edges": [
            {"id": "ED1", "sourceNodeId": "NOa", "sourcePortId": "text", "targetNodeId": "NOo", "targetPortId": "object.l[0]"},
            {"id": "ED2", "sourceNodeId": "NOo", "sourcePortId": "object.l", "targetNodeId": "NOold", "targetPortId": "array:PO1"},
        ],
    })
}

fn places(json: &JsonValue, at: &str, found: &mut Vec<String>) {
    found.push(at.to_owned());
    match json {
        JsonValue::Object(fields) => {
            fields.iter().for_each(|(key, inner)| places(inner, &format!("{at}/{key}"), found))
        }
        JsonValue::Array(items) => {
            items.iter().enumerate().for_each(|(index, inner)| places(inner, &format!("{at}/{index}"), found));
        }
        _ => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn nothing_stored_makes_loading_panic(changes in prop::collection::vec((any::<prop::sample::Index>(), 0..12_usize), 1..4)) {
        let others = [
            json!(null), json!(true), json!(-1), json!(1e308), json!(""), json!("NOa"), json!("object"), json!([]),
            json!({}), json!([[1]]), json!({"type": "object"}), json!({"type": "any", "underlyingType": {"type": "stream"}}),
        ];
        let mut stored = rich_flow();
        for (place, other) in changes {
            let mut found = Vec::new();
            places(&stored, "", &mut found);
            let place = &found[place.index(found.len())];
            if let Some(part) = stored.pointer_mut(place) {
                *part = others[other].clone();
            }
        }
        if let Ok(loaded) = Flow::load(&stored, &Registry::standard()) {
            let mut inputs = serde_json::Map::new();
            inputs.insert("a".into(), json!("given"));
            let _ = loaded.flow.bind_inputs(&inputs);
        }
    }
}

#[test]
fn the_rich_flow_is_whole() {
    let loaded = load(&rich_flow());
    assert!(loaded.problems.is_empty(), "{:?}", loaded.problems);
    assert_eq!((loaded.flow.node_count(), loaded.flow.edge_count()), (5, 2));
    assert!(matches!(
        Value::from(&json!({"b": 1, "10": 2, "9": 3})).to_json().to_string().as_str(),
        r#"{"9":3,"10":2,"b":1}"#
    ));
}
