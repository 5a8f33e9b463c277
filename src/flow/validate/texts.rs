//! Texts in a language of their own, where they are stored and nothing replaces them at run time.

use super::view::View;
use crate::flow::Value;
use crate::nodes;

pub(super) fn check(view: &mut View) {
    for (index, node) in view.flow.nodes.iter().enumerate() {
        let (key, code): (&str, &'static str) = match &*node.type_name {
            "HandlebarsTemplateNode" => ("template", "bad-template"),
            "RegExpNode" => ("pattern", "bad-regexp"),
            _ => continue,
        };
        let Some(text) = constant(view, index, key) else { continue };
        let fault = match code {
            "bad-template" => nodes::template_fault(&text),
            _ => nodes::pattern_fault(&text, &flags(view, index)),
        };
        if let Some(why) = fault {
            let at = view.at_value(index, key);
            let name = &*view.flow.nodes[index].id;
            view.report(code, &at, format!("node {name:?}, port {key}: {why}"));
        }
    }
}

/// A port's stored text, unless it is empty or may be another one at run time.
fn constant(view: &View, node: usize, key: &str) -> Option<String> {
    let position = view.flow.nodes[node].port_index(key)?;
    let text = view.flow.nodes[node].ports[position].value.as_str()?;
    (!text.is_empty() && !view.is_fed(node, position)).then(|| text.to_owned())
}

/// Stored flags of a regular expression; an edge may bring others, of which only `unicode` makes a pattern bad.
fn flags(view: &View, node: usize) -> Value {
    let known = &view.flow.nodes[node];
    let position = known.port_index("flags").filter(|position| !view.is_fed(node, *position));
    position.map_or(Value::Undefined, |position| known.ports[position].value.clone())
}
