//! Category `utilities`: the log, writing JSON and YAML, waiting for streams. The larger ones have files of their own.

use std::time::Duration;

use super::data::{STREAM_OF_ANY, check};
use super::port::{ANY, FLAG, TEXT, input, output};
use super::{Behaviour, NodeError, NodeRun, NodeType, PortSpec, yaml};
use crate::flow::text::{TooDeep, json_text};

/// The types of this file.
pub(super) const TYPES: &[NodeType] = &[
    utility(
        "DebugLogNode",
        "Writes a line to the run's log",
        const { &[input("message", TEXT)] },
        Behaviour::Pure(|run| {
            run.log(run.text("message"));
            Ok(())
        }),
    ),
    utility(
        "JSONSerializerNode",
        "A value as JSON text",
        const { &[input("data", ANY), input("pretty", FLAG), output("json", TEXT)] },
        Behaviour::Pure(|run| {
            let text = json_text(run.get("data"), run.flag("pretty")).map_err(too_deep)?;
            run.set("json", text);
            Ok(())
        }),
    ),
    utility(
        "YAMLSerializerNode",
        "A value as YAML text; `quotingStrings` has no effect",
        const {
            &[input("data", ANY), input("includeDirectives", FLAG), input("quotingStrings", FLAG), output("yaml", TEXT)]
        },
        Behaviour::Pure(|run| {
            let data = run.get("data");
            let text = if data.is_nullish() {
                "null".to_owned()
            } else {
                yaml::write(data, run.flag("includeDirectives")).map_err(too_deep)?
            };
            run.set("yaml", text);
            Ok(())
        }),
    ),
    utility(
        "WaitForStream",
        "Waits for a stream's first item, its end, or so many milliseconds",
        const {
            &[
                input("triggerStream", STREAM_OF_ANY),
                input("timeout", r#"{"type":"number","defaultValue":5000,"min":0}"#),
                output("triggered", FLAG),
            ]
        },
        Behaviour::Async(|run| Box::pin(wait_for_stream(run))),
    ),
];

/// A node type of this category.
pub(super) const fn utility(
    name: &'static str,
    about: &'static str,
    ports: &'static [PortSpec],
    behaviour: Behaviour,
) -> NodeType {
    NodeType { name, category: "utilities", about, ports, behaviour, disabled_auto_execution: false }
}

fn too_deep(error: TooDeep) -> NodeError {
    NodeError::new(format!("port `data`: {error}"))
}

async fn wait_for_stream(run: &mut NodeRun) -> Result<(), NodeError> {
    let stream = run.stream("triggerStream")?;
    let milliseconds = run.finite("timeout", 0.0).max(0.0);
    let triggered = tokio::select! {
        biased;
        item = stream.item(0) => item.is_some(),
        () = run.cancelled().cancelled() => return Err(NodeError::stopped("the stream on port `triggerStream`")),
        () = tokio::time::sleep(Duration::from_millis(milliseconds as u64)) => false,
    };
    run.set("triggered", triggered);
    check(&stream, "triggerStream")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::flow::Value;
    use crate::flow::stream::Channel;
    use crate::nodes::Effect;
    use crate::nodes::testing::{Bench, ports};

    #[tokio::test]
    async fn log_lines_are_effects() {
        for (message, line) in [(json!("to the log"), "to the log"), (json!(null), ""), (json!([1, 2]), "1,2")] {
            let outcome = Bench::new("DebugLogNode", &json!({"message": message})).run().await;
            assert!(matches!(outcome.effects.as_slice(), [Effect::Log(text)] if text == line), "{message}");
        }
    }

    #[test]
    fn values_as_text() {
        let data = json!({"name": "gear", "sizes": [1, 2.5]});
        for (node, inputs, port, text) in [
            ("JSONSerializerNode", json!({"data": data}), "json", "{\"name\":\"gear\",\"sizes\":[1,2.5]}"),
            ("JSONSerializerNode", json!({"data": [1], "pretty": true}), "json", "[\n  1\n]"),
            ("JSONSerializerNode", json!({"data": null}), "json", "null"),
            ("YAMLSerializerNode", json!({"data": data}), "yaml", "name: gear\nsizes:\n  - 1\n  - 2.5\n"),
            ("YAMLSerializerNode", json!({"data": "12", "quotingStrings": true}), "yaml", "\"12\"\n"),
            ("YAMLSerializerNode", json!({"data": {"a": 1}, "includeDirectives": true}), "yaml", "---\na: 1\n"),
            ("YAMLSerializerNode", json!({"data": "a\nb", "includeDirectives": true}), "yaml", "--- |-\na\nb\n"),
            ("YAMLSerializerNode", json!({"data": null, "includeDirectives": true}), "yaml", "null"),
        ] {
            assert_eq!(ports(node, &inputs)[port], json!(text), "{node} {inputs}");
        }
    }

    #[tokio::test]
    async fn waiting_for_a_stream_ends_with_item_close_or_time() {
        let item = Channel::with_items(vec![Value::Null], false);
        for (stream, timeout, triggered) in [
            (item, json!(0), true),
            (Channel::with_items(Vec::new(), true), json!(60_000), false),
            (Channel::default(), json!(20), false),
        ] {
            let bench = Bench::new("WaitForStream", &json!({"timeout": timeout, "triggered": !triggered}));
            let outcome = bench.port("triggerStream", Value::Stream(stream)).run().await;
            assert!(outcome.result.is_ok());
            assert_eq!(outcome.json()["triggered"], json!(triggered), "{timeout}");
        }
    }

    #[tokio::test]
    async fn waiting_for_a_stream_fails_with_it_or_when_stopped() {
        let broken = Channel::default();
        broken.close(Some("line lost".to_owned()));
        let bench = Bench::new("WaitForStream", &json!({})).port("triggerStream", Value::Stream(broken));
        assert!(bench.run().await.result.unwrap_err().to_string().contains("line lost"));
        let bench = Bench::new("WaitForStream", &json!({})).port("triggerStream", Value::Stream(Channel::default()));
        bench.cancel.cancel();
        assert!(bench.run().await.result.unwrap_err().to_string().contains("stopped"));
    }
}
