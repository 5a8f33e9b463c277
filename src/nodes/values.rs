//! Category `basic-values`: nodes whose passthrough ports carry a value.

use super::port::{ANY, FLAG, NUMBER, TEXT, pass};
use super::{Behaviour, NodeType, PortSpec};

/// The types of this category.
pub(super) const TYPES: &[NodeType] = &[
    value("TextNode", "A text", const { &[pass("text", TEXT)] }),
    value("MarkdownTextNode", "A text in Markdown", const { &[pass("text", TEXT)] }),
    value("HTMLPreviewNode", "A page in HTML", const { &[pass("html", TEXT)] }),
    value("NumberNode", "A number", const { &[pass("num", NUMBER)] }),
    value("BooleanNode", "A flag", const { &[pass("flag", FLAG)] }),
    value(
        "ObjectNode",
        "An object: put together from its fields, or taken apart into them",
        const { &[pass("object", r#"{"type":"object","schema":{"properties":{}},"isSchemaMutable":true}"#)] },
    ),
    value(
        "ArrayNode",
        "A list; `itemSchema` only shapes its items while the flow is designed",
        const {
            &[
                pass("itemSchema", ANY),
                pass(
                    "array",
                    r#"{"type":"array","defaultValue":[],"itemConfig":{"type":"any"},"isMutable":true,"isSchemaMutable":true}"#,
                ),
            ]
        },
    ),
];

const fn value(name: &'static str, about: &'static str, ports: &'static [PortSpec]) -> NodeType {
    NodeType {
        name,
        category: "basic-values",
        about,
        ports,
        behaviour: Behaviour::Passive,
        disabled_auto_execution: false,
    }
}
