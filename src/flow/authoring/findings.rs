//! Every finding of the form, as a person sees it.

use proptest::prelude::*;

use super::{Syntax, lower};
use crate::flow::Source;
use crate::nodes::Registry;

fn found(text: &str, syntax: Syntax) -> Vec<String> {
    let source = Source::new("f", text);
    let lowered = lower("f", text, syntax, &Registry::standard());
    lowered.err().unwrap_or_default().iter().map(|found| found.line(&source)).collect()
}

fn yaml(text: &str) -> Vec<String> {
    found(text, Syntax::Yaml)
}

/// A flow with one node, of which these are the further lines.
fn node(lines: &str) -> Vec<String> {
    yaml(&format!("id: x\nnodes:\n  a: {{type: TextNode}}\n  b:\n    type: MathNode\n{lines}"))
}

#[test]
fn syntax() {
    assert_eq!(yaml("id: [x"), ["f:1:7: this is no YAML: while parsing a flow sequence, expected ',' or ']' [syntax]"]);
    assert_eq!(
        found("id = \"x\"\nnodes = 5 6\nx = ", Syntax::Toml),
        [
            "f:2:9: this is no TOML: string values must be quoted, expected literal string [syntax]",
            "f:3:5: this is no TOML: string values must be quoted, expected literal string [syntax]",
        ]
    );
    assert_eq!(
        yaml("id: x\n---\nid: y"),
        ["f:2:1: the file holds several YAML documents; a file is one flow [several-documents]"]
    );
    assert_eq!(yaml("id: *y"), ["f:1:5: this is no YAML: while parsing node, found unknown anchor [syntax]"]);
    assert_eq!(yaml("id: x\nid: y"), ["f:2:1: `id` stands here twice; keep one of the two [duplicate-key]"]);
    assert_eq!(yaml("id: x\n[a]: y"), ["f:2:1: a key must be a text, not a list or a map [bad-key]"]);
    assert_eq!(
        yaml("id: x\nmetadata: {a: .nan, b: -.inf}"),
        ["f:2:15: .nan is no finite number [not-a-number]", "f:2:24: -.inf is no finite number [not-a-number]"]
    );
    assert_eq!(
        found("id = \"x\"\nmetadata = {a = nan, b = 9223372036854775808}", Syntax::Toml),
        [
            "f:2:17: nan is no finite number [not-a-number]",
            "f:2:26: 9223372036854775808 is too large a number [not-a-number]",
        ]
    );
    assert_eq!(yaml("5"), ["f:1:1: this must be a flow: a map with `id` and `nodes`, and is a number [wrong-kind]"]);
    let long = " ".repeat((8 << 20) + 1);
    assert_eq!(yaml(&long), ["f: the file is longer than 8 MiB [too-large]"]);
    let deep = format!("id: x\nmetadata: {}{}", "[".repeat(64), "]".repeat(64));
    assert_eq!(yaml(&deep), ["f:2:74: the file nests deeper than 64 levels [too-deep]"]);
}

#[test]
fn the_flow() {
    assert_eq!(
        yaml("nodes: {}\nnames: y"),
        [
            "f:1:1: the flow has no id; begin the file with `id: my-flow` [missing-id]",
            "f:2:1: a flow has no key `names`; did you mean `name`? [unknown-key]",
        ]
    );
    assert_eq!(
        yaml("id: x\nnodes: [{id: a}]"),
        [
            "f:2:8: this must be a map of nodes by name, and is a list; in a file of this form `nodes` is a map of names; a flow \
          in the stored form is a .json file [wrong-kind]"
        ]
    );
    assert_eq!(
        yaml("id: x\nversion: new\ntags: one\nname: [x]\nmetadata: 5"),
        [
            "f:2:10: `version` is the stored version that the file was made from, a number from 1 [wrong-kind]",
            "f:3:7: this must be a list of texts, and is a text [wrong-kind]",
            "f:4:7: this must be a text, and is a list [wrong-kind]",
            "f:5:11: this must be a map, and is a number [wrong-kind]",
        ]
    );
    assert_eq!(
        yaml(
            "id: x\ninputs:\n  a: {default: 1}\n  b: {port: c.d, type: string}\n  e: {type: any}\n  f: 5\n  g h: {type: string}\n  c: {type: string}\nnodes: {c: {type: TextNode}}"
        ),
        [
            "f:3:6: the input says neither `port` nor `type`; write `name: node.port`, or `name: {type: string, default: …}` [bad-input]",
            "f:4:24: an input has a `port`, or a `type` and a node of its own, not both [bad-input]",
            "f:5:6: there is no value node for the type any; let the input name a node's port: `{port: node.port}` [bad-input]",
            "f:6:6: this must be a port (`node.port`), or a map with `type` and `default`, and is a number [wrong-kind]",
            "f:7:3: `g h` is no name for the node of an input; use letters, digits, `_` and `-`, or let the input name a node's port: `{port: node.port}` [bad-name]",
            "f:9:9: `c` is the name of an input and of a node; an input with a type is a node itself: rename one of them, or let the input name the node's port [duplicate-name]",
        ]
    );
    assert_eq!(
        yaml("id: x\noutputs:\n  a: {}\n  b: [c]\n  d: {port: e.f, prt: 1}"),
        [
            "f:3:6: the output says no `port`; write `name: node.port` [bad-output]",
            "f:4:6: this must be a port (`node.port`), and is a list [wrong-kind]",
            "f:5:13: there is no node `e` [unknown-node]",
            "f:5:18: an output has no key `prt`; did you mean `port`? [unknown-key]",
        ]
    );
    assert_eq!(
        yaml("id: x\ninputs: {a: {port: b.text, default: 1}}\nnodes: {b: {type: TextNode, inputs: {text: y}}}"),
        ["f:2:37: the input `a` and the node both give text a value; keep one of the two [given-twice]"]
    );
}

#[test]
fn nodes() {
    assert_eq!(
        yaml(
            "id: x\nnodes:\n  a b: {type: TextNode}\n  c: {}\n  d: 5\n  e: {type: TextNode, id: c}\n  f: {typ: x, at: [1]}"
        ),
        [
            "f:3:3: `a b` is no name for a node; use letters, digits, `_` and `-`; an id of another form goes below, as `id: …` [bad-name]",
            "f:4:3: node c has no type; add `type: …`, one of the catalogue's types [missing-type]",
            "f:5:6: a node must be a map with `type`, and is a number; write `d: {type: TextNode}` [wrong-kind]",
            "f:6:27: two nodes have the id `c`; a node's name is its id, unless it says another one [duplicate-id]",
            "f:7:3: node f has no type; add `type: …`, one of the catalogue's types [missing-type]",
            "f:7:7: a node has no key `typ`; did you mean `type`? [unknown-key]",
            "f:7:19: `at` must be two numbers: `[40, 60]` [wrong-kind]",
        ]
    );
    assert_eq!(node("    in: c"), ["f:6:9: there is no node `c`; there is a, b [unknown-node]"]);
    assert_eq!(
        node("    inputs: {success: 1, run: true}\n    when: maybe not"),
        [
            "f:6:14: `success` is no port for values; whether a node runs is said by `when: …`, beside `inputs` [system-port]",
            "f:6:26: `run` is no port for values; whether a node runs is said by `when: …`, beside `inputs` [system-port]",
            "f:7:11: `maybe not` is no reference; one is written `node.port`; write true, false or `$node.port` [bad-reference]",
        ]
    );
    assert_eq!(
        node("    when: 5"),
        ["f:6:11: this must be true, false, or a port that says it: `$node.port`, and is a number [wrong-kind]"]
    );
    assert_eq!(
        node("    inputs: {a: 1}\n    ports:\n      a: {value: 2}"),
        ["f:8:18: the port a has a value in `inputs` and in `ports`; keep one of the two [given-twice]"]
    );
    let many = (0..1001).map(|port| format!("      p{port}: 1\n")).collect::<String>();
    assert_eq!(node(&format!("    inputs:\n{many}")), ["f:4:3: node b has more than 1000 inputs [too-large]"]);
}

#[test]
fn references() {
    assert_eq!(
        node("    inputs: {a: $5.00, b: $aa.text, operation: $a.text | $}"),
        [
            "f:6:18: there is no node `5`; there is a, b [unknown-node]",
            "f:6:28: there is no node `aa`; did you mean `a`? [unknown-node]",
            "f:6:58: `$` is no reference; one is written `node.port`; a text that begins with `$` is written with two: `$$a.text | $` [bad-reference]",
        ]
    );
    assert_eq!(
        node("    inputs: {a: {$form: a.text}, b: {$from: [a.text, 5]}}"),
        [
            "f:6:18: `$form` beside or in place of `$from` and `$value` means nothing; a map that is data and has keys with `$` goes below `$value`: `{$value: {…}}` [dollar-key]",
            "f:6:54: this must be a port (`node.port`), and is a number [wrong-kind]",
        ]
    );
    assert_eq!(
        node(
            "edges:\n  - a.text -> b\n  - a.text\n  - a.text -> b.a -> b.b\n  - {from: a.text}\n  - a.text -> b.a\n  - a.text -> b.a\n  - 5\n  - -> b.a"
        ),
        [
            "f:7:15: `b` alone doesn't say which port; there is b.a, b.b, b.operation [which-port]",
            "f:8:5: an edge is written `node.port -> other.port` [bad-edge]",
            "f:9:5: an edge is written `node.port -> other.port` [bad-edge]",
            "f:10:5: the edge has no `to`; write `{from: node.port, to: other.port}` [bad-edge]",
            "f:12:5: this edge is there already [duplicate-edge]",
            "f:13:5: this must be an edge: `node.port -> other.port`, and is a number [wrong-kind]",
            "f:14:5: a reference is missing: `node.port` [bad-edge]",
        ]
    );
}

#[test]
fn types() {
    let ports = "    ports:\n      a: strin\n      b: enum\n      operation: {type: object, items: string, feilds: {}}\n      result: {direction: out}\n      c: [x]\n      d: {type: enum, options: 5}\n      e: {fields: {f: {default: 1}}}\n      g: {type: enum, options: [5]}";
    assert_eq!(
        node(ports),
        [
            "f:7:10: `strin` is no type; did you mean `string`? [unknown-type]",
            "f:8:10: a type `enum` needs more than its name; write `{type: enum, options: [a, b]}` [bad-type]",
            "f:9:40: `items` belongs to the type array, and this is object [bad-type]",
            "f:9:48: a port has no key `feilds`; did you mean `fields`? [unknown-key]",
            "f:10:27: `out` is no direction; did you mean `output`? [bad-direction]",
            "f:11:10: this must be a type (`string`, `number[]`), or a map with `type` and more, and is a list [wrong-kind]",
            "f:12:32: this must be a list of options: `[low, high]`, and is a number [wrong-kind]",
            "f:13:23: the type is missing: `type: string` [missing-type]",
            "f:14:33: this must be an option's id, or its configuration with an `id`, and is a number [wrong-kind]",
        ]
    );
    assert_eq!(
        node(&format!("    ports: {{a: 'string{}'}}", "[]".repeat(17))),
        ["f:6:16: the type nests too deeply [bad-type]"]
    );
}

proptest! {
    /// Whatever stands in a file, reading it ends with a flow or with findings that have their place in it.
    #[test]
    fn broken_files_are_found_out(edits in prop::collection::vec((any::<prop::sample::Index>(), 0..3_usize, "[-a-z0-9$.|>:{}\\[\\], \\n\"'&*#éß\\t=]{0,6}"), 1..6)) {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/flows");
        for (file, syntax) in [("order-desk.yaml", Syntax::Yaml), ("worker-status.toml", Syntax::Toml)] {
            let mut text: Vec<char> = std::fs::read_to_string(folder.join(file)).unwrap().chars().collect();
            for (place, gone, new) in &edits {
                let at = place.index(text.len());
                let end = (at + gone).min(text.len());
                text.splice(at..end, new.chars());
            }
            let text: String = text.into_iter().collect();
            match lower("f", &text, syntax, &Registry::standard()) {
                Ok(lowered) => {
                    for (index, _) in lowered.data["nodes"].as_array().unwrap().iter().enumerate() {
                        let span = lowered.source.find(&format!("/nodes/{index}/type")).unwrap();
                        prop_assert!(text.get(span).is_some());
                    }
                }
                Err(found) => {
                    prop_assert!(!found.is_empty());
                    for found in found {
                        prop_assert!(found.span.is_none_or(|span| text.get(span).is_some()), "{}", found.message);
                    }
                }
            }
        }
    }
}
