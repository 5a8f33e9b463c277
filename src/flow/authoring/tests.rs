//! What files lower to.

use serde_json::{Value as Json, json};

use super::{Lowered, Syntax, lower};
use crate::flow::Flow;
use crate::nodes::Registry;

fn lowered(text: &str) -> Lowered {
    lower("test.yaml", text, Syntax::Yaml, &Registry::standard()).unwrap_or_else(|found| panic!("{found:#?}"))
}

fn node<'d>(data: &'d Json, id: &str) -> &'d Json {
    data["nodes"].as_array().unwrap().iter().find(|node| node["id"] == id).unwrap()
}

fn port<'d>(data: &'d Json, node_id: &str, key: &str) -> &'d Json {
    node(data, node_id)["ports"].as_array().unwrap().iter().find(|port| port["config"]["key"] == key).unwrap()
}

fn edges(data: &Json) -> Vec<&str> {
    data["edges"].as_array().unwrap().iter().map(|edge| edge["id"].as_str().unwrap()).collect()
}

const SHIPPING: &str = "\
id: shipping
name: Shipping
description: Decides by the order's total.
tags: [example]
owner: examples
inputs:
  total: {type: number, default: 42}
outputs:
  answer: answer
nodes:
  large:
    type: BranchNode
    inputs: {leftValue: $total, operator: greaterThanOrEquals, rightValue: 50}
  small:
    type: NotNode
    inputs: {input: $large.result}
  free:
    type: TextNode
    when: $large.result
    inputs: {text: free shipping}
  paid:
    type: TextNode
    when: $small.result
    inputs: {text: 4.90 for shipping}
  answer:
    type: HandlebarsTemplateNode
    inputs:
      template: 'An order of {{total}}: {{shipping}}.'
      variables:
        total: $total.num
        shipping: $free.text | $paid.text
";

#[test]
fn a_file_becomes_what_an_editor_would_store() {
    let lowered = lowered(SHIPPING);
    let data = &lowered.data;
    assert_eq!(
        edges(data),
        [
            "total.num->large.leftValue",
            "large.result->small.input",
            "large.result->free.__execute",
            "small.result->paid.__execute",
            "total.num->answer.variables.total",
            "free.text->answer.variables.shipping",
            "paid.text->answer.variables.shipping",
        ]
    );
    assert_eq!(
        port(data, "answer", "variables"),
        &json!({
            "config": {
                "id": "variables", "key": "variables", "nodeId": "answer", "type": "object", "direction": "input", "order": 2,
                "schema": {"properties": {
                    "total": {"type": "number", "key": "total", "defaultValue": 0},
                    "shipping": {"type": "string", "key": "shipping", "defaultValue": ""},
                }},
                "isSchemaMutable": true, "defaultValue": {},
            },
            "value": {"total": 0, "shipping": ""},
        })
    );
    assert_eq!(port(data, "total", "num")["value"], 42);
    assert_eq!(data["metadata"]["inputs"], json!({"total": {"nodeId": "total", "portId": "num"}}));
    assert_eq!(data["metadata"]["outputs"], json!({"answer": {"nodeId": "answer", "portId": "renderedText"}}));
    assert_eq!(
        node(data, "free")["connections"],
        json!({
            "__execute": [{"nodeId": "large", "portId": "result"}],
            "text": [{"nodeId": "answer", "portId": "variables.shipping"}],
        })
    );
    let loaded = Flow::load(data, &Registry::standard()).unwrap();
    assert_eq!(loaded.problems, []);
    assert_eq!((loaded.flow.node_count(), loaded.flow.edge_count()), (6, 7));
    assert_eq!(self::lowered(SHIPPING).data, lowered.data);
}

#[test]
fn each_part_has_its_place_in_the_file() {
    let lowered = lowered(SHIPPING);
    let at = |pointer: &str| &SHIPPING[lowered.source.find(pointer).unwrap()];
    assert_eq!((at("/id"), at("/nodes/1"), at("/nodes/1/type")), ("shipping", "large", "BranchNode"));
    assert_eq!((at("/nodes/1/ports/0"), at("/nodes/1/ports/2/value")), ("leftValue", "50"));
    assert_eq!((at("/nodes/3/systemPorts/execute"), at("/edges/2")), ("$large.result", "$large.result"));
    assert_eq!((at("/edges/2/sourceNodeId"), at("/edges/2/sourcePortId")), ("large", "result"));
    assert_eq!((at("/edges/6"), at("/edges/6/targetPortId")), ("$paid.text", "shipping"));
    assert_eq!(at("/metadata/outputs/answer/portId"), "answer");
    assert_eq!(at("/nodes/5/ports/1/value/total"), "$total.num");
}

#[test]
fn the_flows_in_the_documentation_are_flows() {
    let mut checked = 0;
    for file in ["README.md", "docs/authoring.md"] {
        let text = std::fs::read_to_string(format!("{}/{file}", env!("CARGO_MANIFEST_DIR"))).unwrap();
        for (fence, syntax) in [("```yaml\n", Syntax::Yaml), ("```toml\n", Syntax::Toml)] {
            let blocks = text.split(fence).skip(1).filter_map(|rest| rest.split("```").next());
            for block in blocks.filter(|block| block.starts_with("id")) {
                let lowered = lower(file, block, syntax, &Registry::standard());
                let data = lowered.unwrap_or_else(|found| panic!("{file}: {found:#?}")).data;
                assert_eq!(Flow::load(&data, &Registry::standard()).unwrap().problems, []);
                checked += 1;
            }
        }
    }
    assert_eq!(checked, 3);
}

#[test]
fn types_follow_from_values_and_edges_unless_they_are_said() {
    let data = lowered(
        "\
id: x
nodes:
  who: {type: TextNode}
  parts:
    type: ObjectNode
    inputs: {object: {name: $who, size: 4, on: true, deep: {list: [1, 2], mixed: [1, a]}, nothing: null}}
  open:
    type: JsonYamlDeserializerNode
    inputs: {inputString: $parts.object.name}
  route: {type: SwitchNode, inputs: {input: $open.deserializedObject.kind}}
  said:
    type: ObjectNode
    when: $route.caseObject.low
    ports: {object: {fields: {a: 'number[]', b: {type: enum, options: [x, y], default: y}, c: {type: number, default: null}}}}
    inputs: {object: {a: [1], beyond: 5}}
  other: {type: OfAnotherWorker, inputs: {flag: true, from: $who}, ports: {key: {type: secret, secret: openai}}}
edges:
  - other.result -> parts.object.late
  - who.text -> said.object.beyond
",
    )
    .data;
    let types = |node: &str, key: &str| port(&data, node, key)["config"].clone();
    let fields = &types("parts", "object")["schema"]["properties"];
    let names = ["name", "size", "on", "deep", "nothing", "late"].map(|name| fields[name]["type"].clone());
    assert_eq!(names, ["string", "number", "boolean", "object", "any", "any"].map(Json::from));
    assert_eq!(fields["deep"]["schema"]["properties"]["list"]["itemConfig"], json!({"type": "number"}));
    assert_eq!(fields["deep"]["schema"]["properties"]["mixed"]["itemConfig"], json!({"type": "any"}));
    assert_eq!(
        types("open", "deserializedObject")["underlyingType"]["schema"]["properties"],
        json!({"kind": {"type": "string", "key": "kind", "defaultValue": ""}})
    );
    let low = json!({"low": {"type": "boolean", "key": "low", "defaultValue": false}});
    assert_eq!(types("route", "caseObject")["schema"]["properties"], low);
    assert_eq!(
        types("said", "object")["schema"]["properties"],
        json!({
            "a": {"type": "array", "itemConfig": {"type": "number"}, "key": "a", "defaultValue": []},
            "b": {
                "type": "enum", "key": "b", "defaultValue": "y",
                "options": [
                    {"id": "x", "type": "string", "defaultValue": "x"},
                    {"id": "y", "type": "string", "defaultValue": "y"},
                ],
            },
            "c": {"type": "number", "key": "c"},
        })
    );
    let other = ["flag", "from", "key", "result"].map(|key| {
        let config = types("other", key);
        (config["type"].clone(), config["direction"].clone())
    });
    let kinds = [("boolean", "input"), ("string", "input"), ("secret", "passthrough"), ("any", "output")];
    assert_eq!(other, kinds.map(|(kind, direction)| (Json::from(kind), Json::from(direction))));
}
