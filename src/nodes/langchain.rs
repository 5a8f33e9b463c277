//! `LangchainTemplateNode`: a text with `{name}` placeholders, by the rules of LangChain's f-string templates.

use super::port::{TEXT, input, output};
use super::utilities::utility;
use super::{Behaviour, NodeError, NodeRun, NodeType};
use crate::flow::text::json_text;
use crate::flow::{Object, Value};

/// The longest text that is made, in bytes.
const MAX_OUTPUT: usize = 64 * 1024 * 1024;

/// The types of this file.
pub(super) const TYPES: &[NodeType] = &[utility(
    "LangchainTemplateNode",
    "A text from a template with `{name}` placeholders; `{{` and `}}` are braces",
    const {
        &[
            input(
                "variables",
                r#"{"type":"object","schema":{"properties":{}},"isSchemaMutable":true,"defaultValue":{}}"#,
            ),
            input("template", r#"{"type":"string","defaultValue":"Tell me a joke about {topic}"}"#),
            output("renderedText", TEXT),
        ]
    },
    Behaviour::Pure(|run| {
        let text = render(run)?;
        run.set("renderedText", text);
        Ok(())
    }),
)];

fn render(run: &NodeRun) -> Result<String, NodeError> {
    let template = run.text("template");
    if template.is_empty() {
        return Err(NodeError::new("port `template` is empty; give it a text such as Hello {name}"));
    }
    let nothing = Object::new();
    let variables = run.get("variables").as_object().unwrap_or(&nothing);
    let mut text = String::new();
    let mut rest = template.as_str();
    while let Some(brace) = rest.find(['{', '}']) {
        text.push_str(&rest[..brace]);
        rest = &rest[brace..];
        if let Some(after) = rest.strip_prefix("{{") {
            text.push('{');
            rest = after;
        } else if let Some(after) = rest.strip_prefix("}}") {
            text.push('}');
            rest = after;
        } else if let Some(after) = rest.strip_prefix('{') {
            let Some((name, after)) = after.split_once('}') else {
                return Err(NodeError::new("port `template` opens a { that is never closed; write {{ for a brace"));
            };
            text.push_str(&value_text(variables, name)?);
            rest = after;
        } else {
            return Err(NodeError::new("port `template` has a } that closes nothing; write }} for a brace"));
        }
        if text.len() > MAX_OUTPUT {
            return Err(NodeError::new(format!("port `template`: the text grows beyond {MAX_OUTPUT} bytes")));
        }
    }
    text.push_str(rest);
    Ok(text)
}

/// Texts as they are, all else as JSON.
fn value_text(variables: &Object, name: &str) -> Result<String, NodeError> {
    match variables.get(name) {
        None => Err(NodeError::new(format!("port `variables` has no field `{name}`, which `template` asks for"))),
        Some(Value::String(text)) => Ok(text.to_string()),
        Some(Value::Undefined) => Ok("undefined".to_owned()),
        Some(value) => json_text(value, false)
            .map_err(|error| NodeError::new(format!("port `variables`, field `{name}`: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::nodes::testing::{fails, ports};

    #[test]
    fn placeholders_are_filled_as_the_original_does() {
        // Texts by @langchain/core's f-string templates.
        let variables = json!({"name": "bolt", "n": 1.50, "ok": true, "none": null, "list": [1, "x"], "o": {"a": 1},
            "a b": "spaced", "": "empty", "{open": "odd", "x:y": "colon", "brace": "{name}"});
        for (template, text) in [
            ("{name} and {n}", "bolt and 1.5"),
            ("{ok}/{none}/{list}/{o}", "true/null/[1,\"x\"]/{\"a\":1}"),
            ("{{name}} {{{name}}}", "{name} {bolt}"),
            ("no names", "no names"),
            ("{a b}|{}|{x:y}", "spaced|empty|colon"),
            ("{brace}", "{name}"),
            ("}}{{", "}{"),
            ("{name}}}", "bolt}"),
            ("a\n{name}\n", "a\nbolt\n"),
        ] {
            let inputs = json!({"template": template, "variables": variables});
            assert_eq!(ports("LangchainTemplateNode", &inputs)["renderedText"], json!(text), "{template}");
        }
        let topic = json!({"variables": {"topic": "gears"}});
        assert_eq!(ports("LangchainTemplateNode", &topic)["renderedText"], json!("Tell me a joke about gears"));
    }

    #[test]
    fn what_it_refuses() {
        for (template, words) in [
            ("", "`template` is empty"),
            ("{name", "never closed"),
            ("name}", "closes nothing"),
            ("{{name}", "closes nothing"),
            ("{ name }", "no field ` name `"),
            ("{missing}", "no field `missing`"),
            ("{toString}", "no field `toString`"),
        ] {
            let inputs = json!({"template": template, "variables": {"name": 1}, "renderedText": "old"});
            let (text, ports) = fails("LangchainTemplateNode", &inputs);
            assert!(text.contains(words), "{template}: {text}");
            assert_eq!(ports["renderedText"], json!("old"));
        }
        fails("LangchainTemplateNode", &json!({"template": "{a}", "variables": null}));
    }
}
