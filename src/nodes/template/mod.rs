//! HandlebarsTemplateNode: templates in the language of Handlebars 4 for JavaScript, whose results stored flows
//! expect to the letter: white space around tags, `../`, blocks over fields, values as JavaScript writes them.
//! Partials and decorators are refused.

mod helpers;
mod parse;
mod render;
mod tree;
mod whitespace;

use super::port::{TEXT, input, output};
use super::utilities::utility;
use super::{Behaviour, NodeError, NodeRun, NodeType};

/// The types of this folder.
pub(super) const TYPES: &[NodeType] = &[utility(
    "HandlebarsTemplateNode",
    "A text from a Handlebars template and variables, without escaping",
    const {
        &[
            input("template", TEXT),
            input(
                "variables",
                r#"{"type":"object","schema":{"properties":{}},"isSchemaMutable":true,"defaultValue":{}}"#,
            ),
            output("renderedText", TEXT),
        ]
    },
    Behaviour::Pure(handlebars),
)];

/// Why a text is no template; nothing when it is one.
pub(crate) fn template_fault(template: &str) -> Option<String> {
    parse::parse(template).err().map(|error| error.to_string())
}

fn handlebars(run: &mut NodeRun) -> Result<(), NodeError> {
    let template = run.text("template");
    if template.is_empty() {
        return Err(NodeError::new("port `template` is empty; give it a text such as Hello {{name}}"));
    }
    let program = parse::parse(&template).map_err(|error| NodeError::new(format!("port `template`, {error}")))?;
    let mut renderer = render::Renderer::new(run.get("variables").clone());
    let text = renderer.render(&program);
    for line in renderer.logged {
        run.log(line);
    }
    run.set("renderedText", text.map_err(|error| NodeError::new(format!("port `template`: {error}")))?);
    Ok(())
}

/// A template that is filled on the way to something else; without lines for the log.
pub(super) fn fill(template: &str, variables: &crate::flow::Value) -> Result<String, String> {
    let program = parse::parse(template).map_err(|error| error.to_string())?;
    render::Renderer::new(variables.clone()).render(&program).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value as Json, json};

    use crate::nodes::Effect;
    use crate::nodes::testing::{Bench, fails, ports};

    /// Templates with what Handlebars itself makes of them; null where it fails.
    const RENDERED: &str = include_str!("rendered.json");

    #[test]
    fn templates_give_what_the_original_gives() {
        let rendered: Json = serde_json::from_str(RENDERED).unwrap();
        let cases = rendered["cases"].as_array().unwrap();
        assert!(cases.len() > 200);
        for case in cases {
            let inputs = json!({"template": case[0], "variables": rendered["variables"]});
            match &case[1] {
                Json::Null => {
                    fails("HandlebarsTemplateNode", &inputs);
                }
                text => assert_eq!(ports("HandlebarsTemplateNode", &inputs)["renderedText"], *text, "{}", case[0]),
            }
        }
    }

    #[test]
    fn errors_say_where_and_what() {
        for (template, words) in [
            ("", "`template` is empty"),
            ("a\n{{#if x}} open", "line 2: {{#if}} is never closed"),
            ("{{#if x}}{{/each}}", "{{/each}} closes nothing; {{#if}} is open"),
            ("{{shout name}}", "no helper `shout`"),
            ("{{> footer}}", "partials"),
            ("{{#> page}}{{/page}}", "partials"),
            ("{{user.0}}", "write [0]"),
            ("{{lookup 1}}", "two arguments"),
            ("{{#each}}{{/each}}", "exactly one argument"),
        ] {
            let (text, ports) = fails("HandlebarsTemplateNode", &json!({"template": template, "renderedText": "old"}));
            assert!(text.contains(words), "{template}: {text}");
            assert_eq!(ports["renderedText"], json!("old"));
        }
    }

    #[test]
    fn nesting_length_and_work_are_bounded() {
        let items = json!(vec![0; 1000]);
        for (template, words) in [
            ("{{#if a}}".repeat(10_000), "nest deeper"),
            (format!("{{{{json {}", "(json ".repeat(10_000)), "nest deeper"),
            ("{{#each i}}{{#each @root.i}}{{#each @root.i}}{{/each}}{{/each}}{{/each}}".to_owned(), "loops"),
            (format!("{{{{#each i}}}}{{{{#each @root.i}}}}{}{{{{/each}}}}{{{{/each}}}}", "x".repeat(100)), "grows"),
        ] {
            let (text, _) = fails("HandlebarsTemplateNode", &json!({"template": template, "variables": {"i": items}}));
            assert!(text.contains(words), "{text}");
        }
    }

    #[tokio::test]
    async fn the_log_helper_writes_to_the_log() {
        let inputs = json!({"template": "{{log 'user' user 1.5}}{{nope 1}}", "variables": {"user": {"a": 1}}});
        let outcome = Bench::new("HandlebarsTemplateNode", &inputs).run().await;
        assert!(outcome.result.is_err());
        assert!(matches!(outcome.effects.as_slice(), [Effect::Log(text)] if text == "user {\"a\":1} 1.5"));
    }
}
