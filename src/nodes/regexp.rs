//! `RegExpNode`: JavaScript's regular expressions on text.

use tokio_util::sync::CancellationToken;

use super::javascript::{Answer, RegexpError, Task, regexp};
use super::port::{FLAG, NUMBER, TEXT, input, output};
use super::utilities::utility;
use super::{Behaviour, NodeError, NodeRun, NodeType};
use crate::flow::Value;

/// The types of this file.
pub(super) const TYPES: &[NodeType] = &[utility(
    "RegExpNode",
    "Matches, replaces, tests or extracts by a JavaScript regular expression; gives up after ten seconds",
    const {
        &[
            input("sourceText", TEXT).required(),
            input("pattern", TEXT).required(),
            input("flags", FLAGS),
            input("mode", MODE),
            input("replacementText", TEXT),
            input("joinDelimiter", r#"{"type":"string","defaultValue":" "}"#),
            output("result", TEXT),
            output("matchCount", NUMBER),
            output("hasMatches", FLAG),
        ]
    },
    Behaviour::Async(|run| Box::pin(run_regexp(run))),
)];

const FLAGS: &str = r#"{"type":"object","schema":{"properties":{
    "global":{"type":"boolean","defaultValue":false},
    "caseInsensitive":{"type":"boolean","defaultValue":false},
    "multiline":{"type":"boolean","defaultValue":false},
    "dotAll":{"type":"boolean","defaultValue":false},
    "unicode":{"type":"boolean","defaultValue":false}}},
    "defaultValue":{"global":true,"caseInsensitive":false,"multiline":false,"dotAll":false,"unicode":false}}"#;

const MODE: &str = r#"{"type":"enum","defaultValue":"match","options":[
    {"id":"match","type":"string","defaultValue":"match"},
    {"id":"replace","type":"string","defaultValue":"replace"},
    {"id":"test","type":"string","defaultValue":"test"},
    {"id":"extract","type":"string","defaultValue":"extract"}]}"#;

/// Fields of `flags` and their letters.
const LETTERS: [(&str, char); 5] =
    [("global", 'g'), ("caseInsensitive", 'i'), ("multiline", 'm'), ("dotAll", 's'), ("unicode", 'u')];

/// Why a text is no regular expression with these flags; nothing when it is one.
pub(crate) fn pattern_fault(pattern: &str, flags: &Value) -> Option<String> {
    let set = |field: &str| flags.as_object().and_then(|flags| flags.get(field)).is_some_and(Value::is_truthy);
    let task = Task {
        text: String::new(),
        pattern: pattern.to_owned(),
        flags: LETTERS.iter().filter(|(field, _)| set(field)).map(|(_, letter)| letter).collect(),
        mode: "test".to_owned(),
        replacement: String::new(),
        delimiter: String::new(),
    };
    match regexp(&task, &CancellationToken::new()) {
        Err(error @ RegexpError::Pattern(_)) => Some(error.to_string()),
        _ => None,
    }
}

async fn run_regexp(run: &mut NodeRun) -> Result<(), NodeError> {
    let needed = |key: &str| match run.text(key) {
        text if text.is_empty() => Err(NodeError::new(format!("port `{key}` is empty"))),
        text => Ok(text),
    };
    let set =
        |field: &str| run.get("flags").as_object().and_then(|flags| flags.get(field)).is_some_and(Value::is_truthy);
    let task = Task {
        pattern: needed("pattern")?,
        text: needed("sourceText")?,
        flags: LETTERS.iter().filter(|(field, _)| set(field)).map(|(_, letter)| letter).collect(),
        mode: run.text("mode"),
        replacement: run.text("replacementText"),
        delimiter: run.text("joinDelimiter"),
    };
    // A thread of its own kind: an expression may think for seconds.
    let cancel = run.cancelled().clone();
    let worked = tokio::task::spawn_blocking(move || regexp(&task, &cancel)).await;
    let answer = worked.map_err(|error| NodeError::new(format!("the regular expression's thread ended: {error}")))?;
    let Answer { result, matches } = answer.map_err(|error| NodeError::new(error.to_string()))?;
    run.set("result", result);
    run.set("matchCount", f64::from(matches));
    run.set("hasMatches", matches > 0);
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value as Json, json};

    use crate::nodes::testing::Bench;

    async fn found(inputs: Json) -> Result<(Json, Json, Json), String> {
        let outcome = Bench::new("RegExpNode", &inputs).run().await;
        outcome.result.clone().map_err(|error| error.to_string())?;
        let ports = outcome.json();
        Ok((ports["result"].clone(), ports["matchCount"].clone(), ports["hasMatches"].clone()))
    }

    #[tokio::test]
    async fn modes_by_javascript_rules() {
        let one = json!({});
        let all = json!({"global": true});
        for (text, pattern, flags, mode, expected) in [
            ("a1b22", r"(\w)(\d)(x)?", &one, "match", ("a1,a,1,", 4)),
            ("a1b22", r"\d", &all, "match", ("1,2,2", 3)),
            ("abc", "z", &all, "match", ("", 0)),
            ("aab", "a", &one, "replace", ("<a>ab", 2)),
            ("aab", "a", &all, "replace", ("<a><a>b", 2)),
            ("a\nb", "^b$", &json!({"multiline": true}), "test", ("true", 1)),
            ("k=1;l=", r"(\w)=(\d)?", &one, "extract", ("k,1,l", 3)),
            // Empty matches come to an end.
            ("ab", "(x*)", &all, "extract", (",,", 3)),
            // A letter beyond 16 bits is two without `u`.
            ("😀", "^..$", &one, "test", ("true", 1)),
            ("😀", "^.$", &json!({"unicode": true}), "test", ("true", 1)),
            ("price 12", r"(?<=price )(?<n>\d+)", &one, "match", ("12,12", 2)),
            ("abab", r"(ab)\1", &one, "test", ("true", 1)),
        ] {
            let inputs = json!({"sourceText": text, "pattern": pattern, "flags": flags, "mode": mode,
                "replacementText": "<$&>", "joinDelimiter": ","});
            let (result, matches) = expected;
            let expected = (json!(result), json!(matches), json!(matches > 0));
            assert_eq!(found(inputs).await.unwrap(), expected, "{mode} {pattern}");
        }
    }

    #[tokio::test]
    async fn what_it_refuses() {
        for (text, pattern, mode, words) in [
            ("", "a", "match", "`sourceText` is empty"),
            ("a", "", "match", "`pattern` is empty"),
            ("a", "(", "match", "not a regular expression"),
            ("a", "a", "split", "mode `split`"),
        ] {
            let error = found(json!({"sourceText": text, "pattern": pattern, "mode": mode})).await.unwrap_err();
            assert!(error.contains(words), "{error}");
        }
    }

    #[tokio::test]
    async fn an_endless_pattern_ends_with_its_node() {
        let text = format!("{}b", "a".repeat(64));
        let bench = Bench::new("RegExpNode", &json!({"sourceText": text, "pattern": "^(a+)+$"}));
        let cancel = bench.cancel.clone();
        let running = tokio::spawn(bench.run());
        tokio::task::yield_now().await;
        cancel.cancel();
        let outcome = tokio::time::timeout(std::time::Duration::from_secs(60), running).await.unwrap().unwrap();
        assert!(outcome.result.unwrap_err().to_string().contains("stopped"));
    }
}
